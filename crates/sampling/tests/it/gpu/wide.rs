//! The integers of 64 bits that all else is made of, against those of the language. What they get wrong in a last bit, no token would show.

use llm_sampling::gpu::llm_gpu::{Access, Grid, Kernel, Needs, Snippet, snippet};
use proptest::prelude::*;

use super::{few, gpu};

/// Reads two numbers and a distance, writes eight results.
static WIDE_CHECK: Kernel = Kernel {
    name: "wide_check",
    source: "
        @group(0) @binding(1) var<storage, read> x: array<u32>;
        @group(0) @binding(2) var<storage, read_write> y: array<u32>;

        fn put(index: u32, value: vec2<u32>) {
            y[2u * index] = value.x;
            y[2u * index + 1u] = value.y;
        }

        @compute @workgroup_size(64)
        fn wide_check(@builtin(global_invocation_id) id: vec3<u32>) {
            let at = 5u * id.x;
            if (at + 4u >= arrayLength(&x)) {
                return;
            }
            let a = vec2<u32>(x[at], x[at + 1u]);
            let b = vec2<u32>(x[at + 2u], x[at + 3u]);
            let n = x[at + 4u];
            let to = 8u * id.x;
            put(to, wide_add(a, b));
            put(to + 1u, wide_sub(a, b));
            put(to + 2u, wide_high_product(a, b));
            put(to + 3u, wide_low_product(a, b));
            put(to + 4u, wide_left(a, n));
            put(to + 5u, wide_right(a, n));
            put(to + 6u, wide_right_jam(a, n));
            put(to + 7u, vec2<u32>(wide_quotient(a, b), u32(wide_less(a, b)) + 2u * wide_leading_zeros(a)));
        }",
    snippets: &[
        snippet::LINEAR,
        Snippet {
            name: "wide",
            source: include_str!("../../../src/gpu/wide.wgsl"),
        },
    ],
    bindings: &[Access::Read, Access::Write],
    params_size: 0,
    constants: &[],
    needs: Needs::CORE,
};

/// Any number, and those with few bits.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => any::<u64>(),
        2 => (any::<u64>(), 0..64_u32).prop_map(|(x, n)| x >> n),
        1 => (0..64_u32).prop_map(|n| 1 << n),
        1 => (0..64_u32).prop_map(|n| u64::MAX << n),
        1 => Just(0),
    ]
}

fn expected(a: u64, b: u64, n: u32) -> [u64; 8] {
    let product = u128::from(a) * u128::from(b);
    let right = a.checked_shr(n).unwrap_or(0);
    let lost = right.checked_shl(n).unwrap_or(0) != a;
    let quotient = a
        .checked_div(b)
        .map_or(u32::MAX, |q| u32::try_from(q).unwrap_or(u32::MAX));
    let flags = u64::from(a < b) + 2 * u64::from(a.leading_zeros());
    [
        a.wrapping_add(b),
        a.wrapping_sub(b),
        (product >> 64) as u64,
        product as u64,
        a.checked_shl(n).unwrap_or(0),
        right,
        right | u64::from(lost),
        flags << 32 | u64::from(quotient),
    ]
}

#[test]
fn equals_the_integers_of_the_language() {
    let Some(gpu) = gpu() else { return };
    let case = (number(), number(), 0..70_u32);
    proptest!(few(24), |(cases in prop::collection::vec(case, 1..300))| {
        let words: Vec<u32> = cases
            .iter()
            .flat_map(|&(a, b, n)| [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32, n])
            .collect();
        let x = gpu.upload_slice(&[words.len()], &words).unwrap();
        let y = gpu.zeros::<u32>(&[cases.len(), 8, 2]).unwrap();
        let mut recorder = gpu.recorder();
        let grid = Grid::linear(cases.len(), 64).unwrap();
        recorder.dispatch(&WIDE_CHECK, &[], &(), &[x.read(), y.write()], grid).unwrap();
        recorder.submit().unwrap();
        let y = y.download_blocking().unwrap();
        for (i, &(a, b, n)) in cases.iter().enumerate() {
            let got: [u64; 8] = core::array::from_fn(|k| u64::from(y[[i, k, 1]]) << 32 | u64::from(y[[i, k, 0]]));
            prop_assert_eq!(got, expected(a, b, n), "{:x} {:x} {}", a, b, n);
        }
    });
}
