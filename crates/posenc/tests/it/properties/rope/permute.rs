//! Laws of permutations between layouts.

use llm_posenc::reference::rope::permute as reference;
use llm_posenc::rope::permute::{self, RopePermutation};
use llm_posenc::rope::{self, RopePairing};
use ndarray::{Array1, Array2, Array4, s};
use proptest::prelude::*;

use super::{cases, pairings};

proptest! {
    /// rope_B(P x) = P rope_A(x), bit for bit, for every two pairings, and so for the gradient.
    #[test]
    fn rotation_and_permutation_commute(case in cases(), to in pairings()) {
        let (head_dim, from) = (case.x.dim().3, case.config.pairing);
        let there = RopePermutation::new(head_dim, case.config.rotary_dim, from, to).unwrap();
        let table = case.table();
        let got = rope::apply(&permute::unrotated(&case.x, &there).unwrap(), &table, to).unwrap();
        let want = permute::rotated(&case.apply(), &there).unwrap();
        prop_assert_eq!(got, want);
        let got = rope::backward(&permute::rotated(&case.x, &there).unwrap(), &table, to).unwrap();
        let want = rope::backward(&case.x, &table, from).unwrap();
        prop_assert_eq!(got, permute::unrotated(&want, &there).unwrap());
    }

    /// The fast path equals permutation matrices, for what a rotation reads and for what it writes.
    #[test]
    fn equals_the_reference(case in cases(), to in pairings(), heads in 1_usize..4) {
        let (head_dim, rotary_dim, from) = (case.x.dim().3, case.config.rotary_dim, case.config.pairing);
        let permutation = RopePermutation::new(head_dim, rotary_dim, from, to).unwrap();
        let unrotated = reference::unrotated(head_dim, rotary_dim, from, to);
        let got = permute::unrotated(&case.x, &permutation).unwrap();
        prop_assert_eq!(got, reference::features(&case.x, &unrotated));
        let rotated = reference::rotated(head_dim, rotary_dim, from, to);
        let got = permute::rotated(&case.x, &permutation).unwrap();
        prop_assert_eq!(got, reference::features(&case.x, &rotated));

        let weight = Array2::from_shape_fn((heads * head_dim, 2), |(i, j)| (2 * i + j) as f64);
        let want = reference::weight(&weight, &unrotated);
        prop_assert_eq!(&permute::weight(&weight, &permutation).unwrap(), &want);
        // Strides do not matter.
        let transposed = weight.t().as_standard_layout().into_owned();
        let fortran = transposed.t();
        prop_assert_eq!(&permute::weight(&fortran, &permutation).unwrap(), &want);
        let bias = permute::bias(&weight.column(1), &permutation).unwrap();
        prop_assert_eq!(bias, want.column(1));
    }

    /// There and back is the identity; to itself is too; by a third layout is direct.
    #[test]
    fn permutations_compose(case in cases(), to in pairings(), by in pairings()) {
        let (head_dim, rotary_dim, from) = (case.x.dim().3, case.config.rotary_dim, case.config.pairing);
        let between = |from, to| RopePermutation::new(head_dim, rotary_dim, from, to).unwrap();
        let (there, back) = (between(from, to), between(to, from));
        for permuted in [permute::unrotated, permute::rotated] {
            let x = permuted(&case.x, &there).unwrap();
            prop_assert_eq!(&permuted(&x, &back).unwrap(), &case.x);
            prop_assert_eq!(&permuted(&case.x, &between(from, from)).unwrap(), &case.x);
            let first = permuted(&case.x, &between(from, by)).unwrap();
            prop_assert_eq!(permuted(&first, &between(by, to)).unwrap(), x);
        }
    }

    /// Permuted weights and biases make permuted activations, head by head.
    #[test]
    fn permuted_weights_make_permuted_activations(
        (heads, planes, tail, d_model) in (1_usize..5, 1_usize..6, 0_usize..4, 1_usize..5),
        (from, to) in (pairings(), pairings()),
        seed in 0_u32..1000,
    ) {
        let head_dim = 2 * planes + tail;
        let permutation = RopePermutation::new(head_dim, 2 * planes, from, to).unwrap();
        let weight = Array2::from_shape_fn((heads * head_dim, d_model), |(i, j)| {
            f64::from(seed) + (i * 31 + j * 7) as f64
        });
        let bias = weight.column(0).to_owned();
        let token = Array2::from_shape_fn((d_model, 1), |(j, _)| 1.0 + j as f64);
        // [heads * head_dim, 1] as [1, heads, 1, head_dim]
        let project = |weight: &Array2<f64>, bias: &Array1<f64>| {
            let y = weight.dot(&token).column(0).to_owned() + bias;
            Array4::from_shape_vec((1, heads, 1, head_dim), y.to_vec()).unwrap()
        };
        let new_weight = permute::weight(&weight, &permutation).unwrap();
        let new_bias = permute::bias(&bias, &permutation).unwrap();
        let want = permute::unrotated(&project(&weight, &bias), &permutation).unwrap();
        prop_assert_eq!(project(&new_weight, &new_bias), want);
    }
}

/// A model of grouped queries runs with the other pairing after its projections are permuted: the scores stay.
#[test]
fn scores_of_grouped_queries_stay() {
    let (heads, kv_heads, head_dim, rotary_dim) = (4, 2, 10, 6);
    let number = |i: usize| ((i * 2_654_435_761) % 1000) as f64 / 500.0 - 1.0;
    let weights = [heads, kv_heads].map(|heads| {
        Array2::from_shape_fn((heads * head_dim, 3), |(i, j)| number(3 * i + j + heads))
    });
    let tokens = Array2::from_shape_fn((3, 5), |(j, t)| number(100 + 5 * j + t));
    let scores = |weights: &[Array2<f64>; 2], pairing| {
        let config = rope::RopeConfig::new(rotary_dim, pairing);
        let [q, k] = [0, 1].map(|which| {
            let y = weights[which].dot(&tokens); // [heads * head_dim, seq]
            let n_heads = y.nrows() / head_dim;
            let x = Array4::from_shape_fn((1, n_heads, 5, head_dim), |(_, h, t, i)| {
                y[[h * head_dim + i, t]]
            });
            rope::apply_at(&x, &Array1::from_iter(0..5), &config).unwrap()
        });
        Array4::from_shape_fn((1, heads, 5, 5), |(_, h, i, j)| {
            (&q.slice(s![0, h, i, ..]) * &k.slice(s![0, h / 2, j, ..])).sum()
        })
    };
    let want = scores(&weights, RopePairing::Interleaved);
    for to in [
        RopePairing::HalfSplit,
        RopePairing::ReadInterleavedWriteHalfSplit,
    ] {
        let there =
            RopePermutation::new(head_dim, rotary_dim, RopePairing::Interleaved, to).unwrap();
        let permuted = weights
            .each_ref()
            .map(|w| permute::weight(w, &there).unwrap());
        let got = scores(&permuted, to);
        assert!((&got - &want).iter().all(|x| x.abs() < 1e-12));
    }
    // Without the permutation they do not.
    let wrong = scores(&weights, RopePairing::HalfSplit);
    assert!((&wrong - &want).iter().any(|x| x.abs() > 0.1));
}
