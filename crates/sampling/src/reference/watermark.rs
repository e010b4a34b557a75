//! The watermark with colors as a table, and Philox from its definition.

use crate::watermark::Seeding;

/// Which tokens of the vocabulary are green after `before`; none after fewer than `context` tokens.
#[must_use]
pub fn green(
    vocab: usize,
    before: &[u32],
    ratio: f64,
    key: u64,
    seeding: Seeding,
    context: usize,
) -> Vec<bool> {
    if before.len() < context {
        return vec![false; vocab];
    }
    let window = &before[before.len() - context..];
    (0..vocab as u32)
        .map(|token| {
            let seeds: Vec<u64> = match seeding {
                Seeding::LeftHash => window.iter().map(|&t| hash(key, [t, 0, 0, 0])).collect(),
                Seeding::SelfHash => [window, &[token]]
                    .concat()
                    .iter()
                    .map(|&t| hash(key, [t, token, 1, 0]))
                    .collect(),
            };
            let seed = seeds.into_iter().min().unwrap_or(0);
            let coin = hash(key, [seed as u32, (seed >> 32) as u32, token, 2]) % (1 << 32);
            (coin as f64) / 2_f64.powi(32) < ratio
        })
        .collect()
}

/// The first 64 bits of a block of Philox 4x32-10.
fn hash(key: u64, mut c: [u32; 4]) -> u64 {
    let (mut k0, mut k1) = (key as u32, (key >> 32) as u32);
    for _ in 0..10 {
        let (a, b) = (u64::from(c[0]) * 0xD251_1F53, u64::from(c[2]) * 0xCD9E_8D57);
        c = [
            (b >> 32) as u32 ^ c[1] ^ k0,
            b as u32,
            (a >> 32) as u32 ^ c[3] ^ k1,
            a as u32,
        ];
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    u64::from(c[1]) << 32 | u64::from(c[0])
}
