//! `RopeTable` of any frequencies, positions, angles, cosines and factor: a table of the right shape, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::rope::RopeTable;
use ndarray::{Array1, Array2, s};

fuzz_target!(|input: (Vec<f64>, Vec<usize>, f64)| {
    let (floats, positions, factor) = input;
    let (floats, positions) = (Array1::from(floats), Array1::from(positions));
    let finite = (factor as f32).is_finite() && floats.iter().all(|x| x.is_finite());

    if let Ok(table) = RopeTable::new(&floats, &positions, factor) {
        assert!(finite && positions.iter().all(|&p| p as u64 <= 1 << 53));
        assert_eq!(table.cos().dim(), (positions.len(), floats.len()));
        assert_eq!(table.sin().dim(), (positions.len(), floats.len()));
        assert!(table.cos().iter().chain(&table.sin()).all(|x| !x.is_nan()));
    }

    // The positions as those of two sequences: row by row the table of all of them.
    let (batch, seq) = (2, positions.len() / 2);
    let halves = Array2::from_shape_fn((batch, seq), |(b, t)| positions[b * seq + t]);
    let flat: Array1<usize> = halves.iter().copied().collect();
    let table = RopeTable::for_batch(&floats, &halves, factor);
    let outcome = RopeTable::new(&floats, &flat, factor);
    match (table, outcome) {
        (Ok(table), Ok(want)) => assert_eq!(table, want),
        (Err(_), Err(_)) => {}
        (table, want) => panic!("{table:?} {want:?}"),
    }

    // The same numbers as angles, in as many rows as there are positions.
    let rows = positions.len().max(1);
    let columns = floats.len() / rows;
    let angles = Array2::from_shape_fn((rows, columns), |(t, i)| floats[t * columns + i]);
    match RopeTable::from_angles(&angles, factor) {
        Ok(table) => assert_eq!((table.rows(), table.rotary_dim()), (rows, 2 * columns)),
        Err(_) => assert!(!finite),
    }

    // And as cosines and sines, the sines backwards.
    let cos = angles.mapv(|x| x as f32);
    let sin = cos.slice(s![..;-1, ..;-1]);
    match RopeTable::from_cos_sin(&cos, &sin) {
        Ok(table) => {
            assert!(cos.iter().all(|x| x.is_finite()));
            assert_eq!((table.cos(), table.sin()), (cos.view(), sin));
            assert_eq!(table.rounded::<f32>(), table);
        }
        Err(_) => assert!(cos.iter().any(|x| !x.is_finite())),
    }
    if columns > 0 {
        let narrow = cos.slice(s![.., 1..]);
        assert!(RopeTable::from_cos_sin(&cos, &narrow).is_err());
    }
});
