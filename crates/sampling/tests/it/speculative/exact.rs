//! Does speculative sampling keep the target's distribution? Counted exactly in a small case, and by many draws.

use std::collections::BTreeMap;

use llm_sampling::search::speculative::{DRAFT_DRAW, RowMode, verify};
use llm_sampling::{RowRandom, categorical};
use ndarray::{Array1, Array2, Array3};

const VOCAB: usize = 3;

/// Probabilities of the next token, by the tokens so far: of the target and of the draft.
fn target(so_far: &[u32]) -> [f64; VOCAB] {
    match so_far {
        [] => [0.5, 0.3, 0.2],
        [0, ..] if so_far.len() == 1 => [0.1, 0.8, 0.1],
        [1, ..] if so_far.len() == 1 => [0.25, 0.25, 0.5],
        [_] => [0.6, 0.0, 0.4],
        [.., 0] => [0.3, 0.3, 0.4],
        [.., 1] => [0.9, 0.05, 0.05],
        _ => [0.2, 0.2, 0.6],
    }
}

fn draft(so_far: &[u32]) -> [f64; VOCAB] {
    match so_far {
        [] => [0.2, 0.2, 0.6],
        [0, ..] if so_far.len() == 1 => [0.3, 0.4, 0.3],
        [1, ..] if so_far.len() == 1 => [0.25, 0.25, 0.5],
        [_] => [0.3, 0.5, 0.2],
        _ => [0.1, 0.6, 0.3],
    }
}

fn rows(positions: impl Iterator<Item = [f64; VOCAB]>) -> Array3<f64> {
    let rows: Vec<_> = positions.collect();
    Array3::from_shape_fn([1, rows.len(), VOCAB], |(_, i, j)| rows[i][j].ln())
}

/// The new tokens after a draft, for given numbers.
fn outcome(before: &[u32], drafted: &[u32], mode: RowMode<'_>) -> Vec<u32> {
    let after = |i: usize| [before, &drafted[..i]].concat();
    let n = drafted.len();
    let p = rows((0..=n).map(|i| target(&after(i))));
    let q = rows((0..n).map(|i| draft(&after(i))));
    let tokens = Array2::from_shape_fn([1, n], |(_, i)| drafted[i]);
    verify(&p, Some(&q), &tokens, &[n], &[mode])
        .unwrap()
        .remove(0)
        .tokens
}

/// The intervals of `[0, 1)` on which a function is constant, found by halving, as value and length.
fn pieces<T: PartialEq>(f: impl Fn(f64) -> T) -> Vec<(T, f64)> {
    const GRID: usize = 64;
    let mut edges = vec![0.0];
    for i in 0..GRID {
        let (mut low, mut high) = (i as f64 / GRID as f64, (i + 1) as f64 / GRID as f64);
        if i + 1 == GRID {
            high = 1.0 - f64::EPSILON / 2.0;
        }
        if f(low) == f(high) {
            continue;
        }
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if f(middle) == f(low) {
                low = middle;
            } else {
                high = middle;
            }
        }
        edges.push(high);
    }
    edges.push(1.0);
    edges
        .windows(2)
        .map(|pair| (f(f64::midpoint(pair[0], pair[1])), pair[1] - pair[0]))
        .collect()
}

/// The exact distribution of the new tokens after a draft of two, over all drafts and all numbers.
fn distribution() -> BTreeMap<Vec<u32>, f64> {
    let mut found = BTreeMap::new();
    for (x, y) in (0..9).map(|i| (i / 3, i % 3)) {
        let drafted = [x, y];
        let weight = draft(&[])[x as usize] * draft(&[x])[y as usize];
        let run = |accept: [f64; 2], choose: [f64; 3]| {
            outcome(
                &[],
                &drafted,
                RowMode::Uniforms {
                    accept: &accept,
                    choose: &choose,
                },
            )
        };
        for (first, mass) in pieces(|u| run([u, 0.0], [0.0; 3]).len() > 1) {
            let weight = weight * mass;
            if !first {
                for (tokens, mass) in pieces(|u| run([1.0 - 1e-12, 0.0], [u, 0.0, 0.0])) {
                    *found.entry(tokens).or_default() += weight * mass;
                }
                continue;
            }
            for (second, mass) in pieces(|u| run([0.0, u], [0.0; 3]).len() > 2) {
                let weight = weight * mass;
                let (accept, draw) = if second { (0.0, 2) } else { (1.0 - 1e-12, 1) };
                let choose = |u| {
                    if draw == 1 {
                        [0.0, u, 0.0]
                    } else {
                        [0.0, 0.0, u]
                    }
                };
                for (tokens, mass) in pieces(|u| run([0.0, accept], choose(u))) {
                    *found.entry(tokens).or_default() += weight * mass;
                }
            }
        }
    }
    found
}

// ANCHOR: law
/// For each prefix: given that a token follows it, that token is the target's.
#[test]
fn every_token_follows_the_target_exactly() {
    let found = distribution();
    let mass = |starts: &[u32], longer: usize| -> f64 {
        let fits = |tokens: &&Vec<u32>| tokens.len() >= longer && tokens.starts_with(starts);
        found.keys().filter(fits).map(|tokens| found[tokens]).sum()
    };
    assert!((mass(&[], 1) - 1.0).abs() < 1e-12);
    for a in 0..3_u32 {
        let first = mass(&[a], 1);
        assert!(
            (first - target(&[])[a as usize]).abs() < 1e-12,
            "{a}: {first}"
        );
        for b in 0..3_u32 {
            let second = mass(&[a, b], 2);
            let expected = mass(&[a], 2) * target(&[a])[b as usize];
            assert!(
                (second - expected).abs() < 1e-12,
                "{a} {b}: {second} {expected}"
            );
            for c in 0..3_u32 {
                let third = mass(&[a, b, c], 3);
                let expected = mass(&[a, b], 3) * target(&[a, b])[c as usize];
                assert!(
                    (third - expected).abs() < 1e-12,
                    "{a} {b} {c}: {third} {expected}"
                );
            }
        }
    }
    // The draft's first token is accepted with sum min(p, q) = 0.2 + 0.2 + 0.2.
    assert!((mass(&[], 2) - 0.6).abs() < 1e-12);
    // Some of everything came.
    assert_eq!(found.keys().filter(|tokens| tokens.len() == 3).count(), 24);
}
// ANCHOR_END: law

const DRAWS: u64 = 100_000;

/// The upper 0.001 point of the chi-square distribution with 23 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.4): 27 sequences of
/// three tokens, of which three (2, 1, ..) are impossible.
const CRITICAL_23: f64 = 49.728;

/// Pearson's statistic of sequences of three tokens, drafted with one of the numbers of each step.
fn statistic(seed: u64, draft_draw: u16) -> f64 {
    let mut counts = BTreeMap::new();
    for stream in 0..DRAWS {
        let mut tokens: Vec<u32> = Vec::new();
        while tokens.len() < 3 {
            let random = |step: usize| RowRandom::new(seed, stream, step as u64);
            let n = (stream % 3) as usize;
            let mut drafted = Vec::new();
            for _ in 0..n.min(2 - tokens.len().min(2)) {
                let so_far = [tokens.as_slice(), &drafted].concat();
                let logits = Array1::from(draft(&so_far).map(f64::ln).to_vec());
                let u = random(so_far.len()).uniform(draft_draw);
                drafted.push(categorical::draw(&logits, u).unwrap().token);
            }
            let mode = RowMode::Sample(random(tokens.len()));
            let new = outcome(&tokens, &drafted, mode);
            tokens.extend(new);
        }
        tokens.truncate(3);
        *counts.entry(tokens).or_insert(0_u64) += 1;
    }
    let mut total = 0.0;
    for (a, b, c) in (0..27_u32).map(|i| (i / 9, i / 3 % 3, i % 3)) {
        let p = target(&[])[a as usize] * target(&[a])[b as usize] * target(&[a, b])[c as usize];
        let count = counts.get(&vec![a, b, c]).copied().unwrap_or(0);
        if p == 0.0 {
            assert_eq!(count, 0);
            continue;
        }
        let expected = p * DRAWS as f64;
        total += (count as f64 - expected).powi(2) / expected;
    }
    total
}

#[test]
fn sequences_follow_the_target() {
    for seed in 0..2 {
        let found = statistic(seed, DRAFT_DRAW);
        assert!(found < CRITICAL_23, "seed {seed}: {found}");
    }
}

/// Why there is a number for drafting: the one that chooses after a rejection must not be known to the draft.
#[test]
fn drafting_with_the_number_that_chooses_is_noticed() {
    let found = statistic(0, 0);
    assert!(found > 10.0 * CRITICAL_23, "{found}");
}

/// A draft that has the likeliest token last: the first number that rejects, and the replacement's edge.
#[test]
fn edges_of_the_rule_are_where_they_should_be() {
    // p(2) / q(2) = 0.2 / 0.6; the excess is 0.3 for token 0 and 0.1 for token 1.
    let accepted = pieces(|u| {
        let (accept, choose) = ([u], [0.0; 2]);
        outcome(
            &[],
            &[2],
            RowMode::Uniforms {
                accept: &accept,
                choose: &choose,
            },
        )
        .len()
    });
    assert_eq!(accepted.len(), 2);
    assert!((accepted[0].1 - 1.0 / 3.0).abs() < 1e-15);
    let replaced = pieces(|u| {
        let (accept, choose) = ([0.9], [u, 0.0]);
        outcome(
            &[],
            &[2],
            RowMode::Uniforms {
                accept: &accept,
                choose: &choose,
            },
        )
    });
    let tokens: Vec<_> = replaced.iter().map(|(tokens, _)| tokens.clone()).collect();
    assert_eq!(tokens, [vec![0], vec![1]]);
    assert!((replaced[0].1 - 0.75).abs() < 1e-15);
}
