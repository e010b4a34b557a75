//! A product with a low-rank update of packed weights, beside the plain one.

use std::hint::black_box;

use anyhow::Result;
use llm_quant::matmul::low_rank::LowRank;
use llm_quant::{matmul, reference};
use ndarray::Array2;

use super::{Layer, N, ORDER_OF_SUMS, numbers, wide};
use crate::case::{Case, Peer, Setup, Work, agree};
use crate::measure::Calls;

/// That of most adapters.
const RANK: usize = 16;
const SCALING: f32 = 2.0; // alpha of 32

/// Beside it our plain product of the same rows: what the update costs.
pub(super) fn product(setup: &Setup, seq: usize) -> Result<Case> {
    let layer = Layer::new(setup)?;
    let x = Array2::from_shape_vec([seq, N], setup.random(1, seq * N))?;
    // Small, as trained ones are, so that the update is of the size of the weights.
    let a = Array2::from_shape_vec([RANK, N], setup.random(2, RANK * N))? * 0.1;
    let b = Array2::from_shape_vec([N, RANK], setup.random(3, RANK * N))? * 0.1;
    let ours = {
        let update = LowRank::new(&a, &b, SCALING)?;
        matmul::low_rank::forward(&x, &layer.sets[0], &update)?
    };
    let few = seq.min(2) * N;
    let want = {
        let (a, b) = (&wide(numbers(&a)?), &wide(numbers(&b)?));
        let scaling = f64::from(SCALING);
        let update = reference::matmul::LowRank { a, b, scaling };
        let merged = update.merged(&layer.exact()?, N, N);
        reference::matmul::forward(&wide(&numbers(&x)?[..few]), &merged, N, N)
    };
    let found = wide(&numbers(&ours)?[..few]);
    agree("our product", found, want, ORDER_OF_SUMS)?;

    let work = if seq < 16 {
        let factors = size_of_val(numbers(&a)?) + size_of_val(numbers(&b)?);
        Work::Read {
            bytes: layer.sets[0].packed().len() + factors,
        }
    } else {
        Work::Product {
            operations: 2 * seq * (N * N + 2 * RANK * N),
        }
    };
    let (plain_x, plain_sets) = (x.clone(), layer.sets.clone());
    let plain = Calls::boxed(move |call| {
        let weights = &plain_sets[call % plain_sets.len()];
        black_box(matmul::forward(&plain_x, weights)?);
        Ok(())
    });
    let sets = layer.sets;
    // As the weights, they come from main memory each time.
    let factors = vec![(a, b); sets.len()];
    Ok(Case {
        work,
        ours: Calls::boxed(move |call| {
            let (a, b) = &factors[call % sets.len()];
            let update = LowRank::new(a, b, SCALING)?;
            let weights = &sets[call % sets.len()];
            black_box(matmul::low_rank::forward(&x, weights, &update)?);
            Ok(())
        }),
        peers: vec![Peer {
            library: "ours without update".to_owned(),
            version: String::new(),
            contender: plain,
        }],
    })
}
