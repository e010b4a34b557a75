//! Analytic gradients against finite differences of the reference (rope).

use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use llm_posenc::reference;
use llm_posenc::rope::chatglm::{self, ChatGlmTable};
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
use ndarray::{Array2, Array4, array};

const PAIRINGS: [RopePairing; 3] = [
    RopePairing::Interleaved,
    RopePairing::HalfSplit,
    RopePairing::ReadInterleavedWriteHalfSplit,
];

/// Numbers between -1 and 1 without a pattern that a permutation would keep.
fn noise(shape: (usize, usize, usize, usize), seed: usize) -> Array4<f64> {
    let mut state = seed;
    Array4::from_shape_simple_fn(shape, || {
        state = (state * 1_103_515_245 + 12_345) % (1 << 31);
        state as f64 / f64::from(1 << 30) - 1.0
    })
}

/// Partial rotation, a factor, positions of each row of the batch; the same cosines and sines on both sides.
#[test]
fn backward_is_the_derivative_of_the_reference() {
    for pairing in PAIRINGS {
        let config = RopeConfig::new(6, pairing).with_base(50.0);
        let inv_freq = rope::inv_freq(&config).unwrap();
        let positions = array![[0, 3, 17], [5, 5, 1000]];
        let table = RopeTable::for_batch(&inv_freq, &positions, 1.3).unwrap();
        let (x, dout) = (noise((2, 2, 3, 7), 1), noise((2, 2, 3, 7), 2));
        let dx = rope::backward(&dout, &table, pairing).unwrap();
        let (cos, sin) = (table.cos().mapv(f64::from), table.sin().mapv(f64::from));
        let loss = |x: &Array4<f64>| {
            (reference::rope::apply_cos_sin(x, &cos, &sin, pairing).unwrap() * &dout).sum()
        };
        assert_gradient(loss, &x, &dx, &GradientCheck::new());
        // So is the gradient of the reference.
        let dx = reference::rope::backward_cos_sin(&dout, &cos, &sin, pairing).unwrap();
        assert_gradient(loss, &x, &dx, &GradientCheck::new());
        let angles = reference::rope::angles(&positions.flatten(), &inv_freq);
        let loss = |x: &Array4<f64>| {
            (reference::rope::apply(x, &angles, pairing, 1.3).unwrap() * &dout).sum()
        };
        let dx = reference::rope::backward(&dout, &angles, pairing, 1.3).unwrap();
        assert_gradient(loss, &x, &dx, &GradientCheck::new());
    }
}

/// Positions below 4 and few features: the table's f32 cosines are off by 3e-8, under the tolerance of the check.
#[test]
fn chatglm_backward_is_the_derivative_of_the_reference() {
    let (positions, blocks): (Array2<usize>, Array2<usize>) =
        (array![[0, 2, 1]], array![[1, 0, 3]]);
    let table = ChatGlmTable::new(8, &positions, &blocks).unwrap();
    let (x, dout) = (noise((1, 2, 3, 8), 3), noise((1, 2, 3, 8), 4));
    let dx = chatglm::backward_v1(&dout, &table).unwrap();
    let loss =
        |x: &Array4<f64>| (reference::rope::apply_chatglm_v1(x, &positions, &blocks) * &dout).sum();
    assert_gradient(loss, &x, &dx, &GradientCheck::new());
}
