//! `RopeTable` of any frequencies, positions, angles and factor: a table of the right shape, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::rope::RopeTable;
use ndarray::{Array1, Array2};

fuzz_target!(|input: (Vec<f64>, Vec<usize>, f64)| {
    let (floats, positions, factor) = input;
    let (floats, positions) = (Array1::from(floats), Array1::from(positions));
    let finite = factor.is_finite() && floats.iter().all(|x| x.is_finite());

    if let Ok(table) = RopeTable::new(&floats, &positions, factor) {
        assert!(finite && positions.iter().all(|&p| p as u64 <= 1 << 53));
        assert_eq!(table.cos().dim(), (positions.len(), floats.len()));
        assert_eq!(table.sin().dim(), (positions.len(), floats.len()));
        assert!(table.cos().iter().chain(&table.sin()).all(|x| !x.is_nan()));
    }

    // The same numbers as angles, in as many rows as there are positions.
    let rows = positions.len().max(1);
    let columns = floats.len() / rows;
    let angles = Array2::from_shape_fn((rows, columns), |(t, i)| floats[t * columns + i]);
    match RopeTable::from_angles(&angles, factor) {
        Ok(table) => assert_eq!((table.rows(), table.rotary_dim()), (rows, 2 * columns)),
        Err(_) => assert!(!finite),
    }
});
