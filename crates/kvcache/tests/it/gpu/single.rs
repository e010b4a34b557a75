//! The arithmetic that quantizing is made of, against that of the language. What it gets wrong in a last bit, no scale would show.

use llm_kvcache::gpu::llm_gpu::{Access, Grid, Kernel, Needs, Snippet, snippet};
use proptest::prelude::*;

use super::{few, gpu};

/// Reads two numbers and a small integer, writes nine results.
static SINGLE_CHECK: Kernel = Kernel {
    name: "single_check",
    source: "
        @group(0) @binding(1) var<storage, read> x: array<u32>;
        @group(0) @binding(2) var<storage, read_write> y: array<u32>;

        @compute @workgroup_size(64)
        fn single_check(@builtin(global_invocation_id) id: vec3<u32>) {
            let at = 3u * id.x;
            if (at + 2u >= arrayLength(&x)) {
                return;
            }
            let a = x[at] & 0x7fffffffu;
            let b = x[at + 1u] & 0x7fffffffu;
            let n = x[at + 2u];
            let to = 9u * id.x;
            y[to] = single_sum(a, b);
            y[to + 1u] = single_distance(a, b);
            y[to + 2u] = single_multiple(a, n);
            y[to + 3u] = single_square(a);
            y[to + 4u] = single_quotient(a, max(b, 1u));
            y[to + 5u] = single_integer(a, 127u);
            y[to + 6u] = int4_sum(x[at], x[at + 1u]);
            // Estimates as the worst devices have them: some units in the last place of f32 off.
            let numerator = (a & 0x7fffffu) | 0x800000u;
            let denominator = (b & 0x7fffffu) | 0x800000u;
            let estimate = u32(f32(numerator) / f32(denominator) * 67108864.0);
            let ratio = single_ratio(numerator, denominator, estimate);
            var differ = 0u;
            for (var i = 0u; i <= 60u; i++) {
                differ |= ratio ^ single_ratio(numerator, denominator, estimate + i - 30u);
            }
            y[to + 7u] = select(ratio, 0u, differ != 0u);
            y[to + 8u] = single_product(a, b);
        }",
    snippets: &[
        snippet::F16,
        snippet::SINGLE,
        Snippet {
            name: "widened",
            source: include_str!("../../../src/gpu/widened.wgsl"),
        },
        Snippet {
            name: "int4",
            source: include_str!("../../../src/gpu/int4.wgsl"),
        },
    ],
    bindings: &[Access::Read, Access::Write],
    params_size: 0,
    constants: &[],
    needs: Needs::CORE,
};

/// A finite number of any size and sign; few bits, so that there are ties; and what is about the smallest and the largest.
fn number() -> impl Strategy<Value = u32> {
    let sign = any::<bool>().prop_map(|sign| u32::from(sign) << 31);
    let magnitude = prop_oneof![
        4 => 0..0x7f80_0000_u32,
        4 => 0x3f00_0000..0x4380_0000_u32,
        2 => (0x3c00_0000..0x4380_0000_u32, 8..24_u32).prop_map(|(x, n)| x >> n << n),
        1 => 0..0x0180_0000_u32,
        1 => 0x7e80_0000..0x7f80_0000_u32,
        1 => 0x1980_0000..0x1a80_0000_u32, // squares about the smallest number
        1 => Just(0),
    ];
    (magnitude, sign).prop_map(|(x, sign)| x | sign)
}

/// Two numbers, often near to each other or some powers apart.
fn pair() -> impl Strategy<Value = (u32, u32)> {
    prop_oneof![
        2 => (number(), number()),
        2 => (number(), 0..70_u32, any::<u32>()).prop_map(|(a, powers, b)| {
            let power = (a >> 23 & 0xff).saturating_sub(powers).min(254);
            (a, power << 23 | b & 0x807f_ffff)
        }),
        1 => (number(), 0..5_u32).prop_map(|(a, n)| (a, (a & 0x7fff_ffff).saturating_sub(n))),
    ]
}

fn expected(a: u32, b: u32, n: u32) -> [u32; 9] {
    let (x, y) = (f32::from_bits(a).abs(), f32::from_bits(b).abs());
    let divisor = if y == 0.0 { f32::from_bits(1) } else { y };
    let sum = f32::from_bits(a) + f32::from_bits(b);
    let mantissa = |bits: u32| u64::from(bits & 0x7f_ffff | 0x80_0000);
    let (numerator, denominator) = (mantissa(a) << 26, mantissa(b));
    let rest = u64::from(!numerator.is_multiple_of(denominator));
    [
        (x + y).to_bits(),
        (x - y).abs().to_bits(),
        (x * n as f32).to_bits(),
        (x * x).to_bits(),
        (x / divisor).to_bits(),
        x.round_ties_even().min(127.0) as u32,
        sum.to_bits(),
        (numerator / denominator * 2 + rest) as u32,
        (x * y).to_bits(),
    ]
}

#[test]
fn f32_in_integers_is_f32() {
    let Some(gpu) = gpu() else { return };
    let cases = prop::collection::vec((pair(), 0..256_u32), 2000);
    proptest!(few(20), |(cases in cases)| {
        let words: Vec<u32> = cases.iter().flat_map(|&((a, b), n)| [a, b, n]).collect();
        let x = gpu.upload_slice(&[words.len()], &words).unwrap();
        let mut recorder = gpu.recorder();
        let y = recorder.output::<u32>(&[cases.len(), 9]).unwrap();
        let grid = Grid::linear(cases.len(), 64).unwrap();
        let bindings = [x.read(), y.write()];
        recorder.dispatch(&SINGLE_CHECK, &[], &(), &bindings, grid).unwrap();
        recorder.submit().unwrap();
        let got = y.download_blocking().unwrap();
        for (got, &((a, b), n)) in got.outer_iter().zip(&cases) {
            let mut want = expected(a, b, n);
            // A sum of two numbers of opposite signs is a zero without one; so is 0 of the sum of magnitudes in the unsigned ones.
            if want[6] == 0x8000_0000 && (a ^ b) >> 31 == 1 {
                want[6] = 0;
            }
            let got: Vec<u32> = got.iter().copied().collect();
            prop_assert_eq!(&got, &want, "{:08x} {:08x} {}", a, b, n);
        }
    });
}
