//! Permutations between pair layouts, of any sizes: a permutation, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::rope::RopePairing::{HalfSplit, Interleaved, ReadInterleavedWriteHalfSplit};
use llm_posenc::rope::permute::{self, RopePermutation};
use ndarray::Array2;

fuzz_target!(|input: (u16, usize, [u8; 4])| {
    let (head_dim, rotary_dim, [from, to, rows, columns]) = input;
    // What the caller names is what is allocated, so a sensible size.
    let head_dim = usize::from(head_dim);
    let pairings = [Interleaved, HalfSplit, ReadInterleavedWriteHalfSplit];
    let [from, to] = [from, to].map(|n| pairings[usize::from(n % 3)]);
    let Ok(permutation) = RopePermutation::new(head_dim, rotary_dim, from, to) else {
        assert!(rotary_dim == 0 || rotary_dim % 2 == 1 || rotary_dim > head_dim);
        return;
    };
    for order in [permutation.unrotated(), permutation.rotated()] {
        let mut seen = vec![false; head_dim];
        for &feature in order {
            assert!(!std::mem::replace(&mut seen[feature], true));
        }
        assert_eq!(order.len(), head_dim);
        assert!(
            order
                .iter()
                .enumerate()
                .skip(rotary_dim)
                .all(|(i, &feature)| i == feature)
        );
    }
    let shape = (usize::from(rows), usize::from(columns % 4));
    let weight = Array2::from_shape_fn(shape, |(i, j)| i + j);
    assert_eq!(
        permute::weight(&weight, &permutation).is_ok(),
        shape.0 % head_dim == 0
    );
});
