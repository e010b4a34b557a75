//! Measures how close the rotation comes to the copy bandwidth of the machine.
//!
//! Queries `[1, 32, 2048, 128]` and keys `[1, 8, 2048, 128]` are rotated in place, in turn over sets of arrays that
//! together exceed the last-level cache. The limit is the same number of bytes, read and written, at the rate at which
//! all threads copy arrays of that size in the same run.

use std::time::Instant;

use llm_numerics::threads;
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
use ndarray::{Array1, Array4};

const SEQ: usize = 2048;
const HEAD_DIM: usize = 128;
const SETS: usize = 4; // 4 times 40 MiB
const ROUNDS: usize = 60;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut sets: Vec<[Array4<f32>; 2]> = (0..SETS)
        .map(|set| [32, 8].map(|heads| noise(set, heads)))
        .collect();
    let n = 40 * SEQ * HEAD_DIM;
    let mut copies: Vec<[Vec<f32>; 2]> = (0..SETS).map(|_| [vec![1.0; n], vec![0.0; n]]).collect();
    let positions: Array1<usize> = (0..SEQ).collect();
    let pairings = [
        RopePairing::Interleaved,
        RopePairing::HalfSplit,
        RopePairing::ReadInterleavedWriteHalfSplit,
    ];
    let tables = pairings.map(|pairing| {
        let config = RopeConfig::new(HEAD_DIM, pairing);
        RopeTable::from_config(&config, &positions)
    });

    // In turn, so that whatever else the machine does meets all of them; the fastest of each counts.
    let mut fastest = [f64::INFINITY; 4];
    for round in 0..ROUNDS {
        for case in 0..4 {
            let start = Instant::now();
            if case == 0 {
                copy(&mut copies[round % SETS]);
            } else {
                for x in &mut sets[(round + case) % SETS] {
                    let table = tables[case - 1].as_ref().map_err(Clone::clone)?;
                    rope::apply_inplace(x, table, pairings[case - 1])?;
                }
            }
            fastest[case] = fastest[case].min(start.elapsed().as_secs_f64());
        }
    }

    let bytes = 2.0 * (n * size_of::<f32>()) as f64; // read and written once each
    let names = pairings.map(|pairing| format!("{pairing:?}"));
    for (name, time) in ["copy"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .zip(fastest)
    {
        let (ms, rate) = (1e3 * time, bytes / time / 1e9);
        let part = 100.0 * fastest[0] / time;
        println!("{name:30} {ms:7.3} ms {rate:6.1} GB/s {part:4.0} % of copy");
    }
    Ok(())
}

/// Copies on all threads.
fn copy([from, to]: &mut [Vec<f32>; 2]) {
    let tasks = from.chunks(1 << 17).zip(to.chunks_mut(1 << 17)).collect();
    threads::for_each(tasks, |(from, to): (&[f32], &mut [f32])| {
        to.copy_from_slice(from)
    });
}

/// Numbers between -1 and 1 that repeat late.
fn noise(seed: usize, heads: usize) -> Array4<f32> {
    let mut state = seed as u32 + 1;
    Array4::from_shape_simple_fn((1, heads, SEQ, HEAD_DIM), || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}
