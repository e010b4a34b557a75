//! The Gumbel noise of single uniform numbers, against f64: what a token shows of it is one comparison.

use llm_sampling::gpu::llm_gpu::{Access, Grid, Kernel, Needs, Snippet, snippet};
use proptest::prelude::*;

use super::{few, gpu};

/// Reads the upper 53 of 64 random bits, writes noise.
static NOISE_CHECK: Kernel = Kernel {
    name: "noise_check",
    source: "
        @group(0) @binding(1) var<storage, read> x: array<u32>;
        @group(0) @binding(2) var<storage, read_write> y: array<u32>;

        @compute @workgroup_size(64)
        fn noise_check(@builtin(global_invocation_id) id: vec3<u32>) {
            let at = 2u * id.x;
            if (at + 1u >= arrayLength(&x)) {
                return;
            }
            let noise = gumbel_noise(vec2<u32>(x[at], x[at + 1u]));
            y[at] = noise.x;
            y[at + 1u] = noise.y;
        }",
    snippets: &[
        snippet::LINEAR,
        Snippet {
            name: "wide",
            source: include_str!("../../../src/gpu/wide.wgsl"),
        },
        Snippet {
            name: "real",
            source: include_str!("../../../src/gpu/real.wgsl"),
        },
        Snippet {
            name: "keys",
            source: include_str!("../../../src/gpu/keys.wgsl"),
        },
        Snippet {
            name: "weight",
            source: include_str!("../../../src/gpu/weight.wgsl"),
        },
        Snippet {
            name: "gumbel",
            source: include_str!("../../../src/gpu/gumbel.wgsl"),
        },
    ],
    bindings: &[Access::Read, Access::Write],
    params_size: 0,
    constants: &[],
    needs: Needs::CORE,
};

/// What `gumbel.wgsl` states; f64 is right to `2^-47` here.
const BOUND: f64 = 1.0 / (1 << 27) as f64;

const ALL: u64 = 1 << 53;

/// `-ln(-ln u)` for `u = k 2^-53`, from `1 - u` where that is the shorter number.
fn expected(k: u64) -> f64 {
    let unit = 2_f64.powi(-53);
    if k == 0 {
        return -(54.0 * core::f64::consts::LN_2).ln();
    }
    let minus_ln = if k < ALL / 2 {
        -(k as f64 * unit).ln()
    } else {
        -(-((ALL - k) as f64) * unit).ln_1p()
    };
    -minus_ln.ln()
}

fn check(ks: &[u64]) -> Result<(), TestCaseError> {
    let Some(gpu) = gpu() else { return Ok(()) };
    // The lower eleven bits are not of the number.
    let bits = ks.iter().map(|k| k << 11 | (k & 0x7ff));
    let words: Vec<u32> = bits.flat_map(|x| [x as u32, (x >> 32) as u32]).collect();
    let x = gpu.upload_slice(&[words.len()], &words).unwrap();
    let y = gpu.zeros::<u32>(&[ks.len(), 2]).unwrap();
    let mut recorder = gpu.recorder();
    let grid = Grid::linear(ks.len(), 64).unwrap();
    recorder
        .dispatch(&NOISE_CHECK, &[], &(), &[x.read(), y.write()], grid)
        .unwrap();
    recorder.submit().unwrap();
    let y = y.download_blocking().unwrap();
    for (i, &k) in ks.iter().enumerate() {
        let units = u64::from(y[[i, 1]]) << 32 | u64::from(y[[i, 0]]);
        let got = (units as i64 - (64 << 32)) as f64 * 2_f64.powi(-32);
        let want = expected(k);
        prop_assert!((got - want).abs() <= BOUND, "{:x}: {} {}", k, got, want);
    }
    Ok(())
}

/// The ends of the unit interval, its middle, and where shifts reach the length of a word.
#[test]
fn noise_of_edges_is_that_of_f64() {
    let mut ks = vec![0, 1, 2, (1 << 52) - 1, 1 << 52, (1 << 52) + 1];
    for n in 0..52 {
        ks.extend([1 << n, (1 << n) + 1]);
        ks.extend([-1_i64, 0, 1].map(|d| ALL - (1_i64 << n).saturating_add(d).max(1) as u64));
    }
    check(&ks).unwrap();
    // By hand: -ln(1 - v) = v for v = 2^-53, and u = 1/e for no noise.
    assert!((expected(ALL - 1) - 53.0 * core::f64::consts::LN_2).abs() < 1e-14);
    assert!(expected((ALL as f64 / core::f64::consts::E) as u64).abs() < 1e-14);
}

#[test]
fn noise_is_that_of_f64() {
    // Any number; one near 0; one near 1.
    let k = prop_oneof![
        2 => 0..ALL,
        1 => (0..ALL, 0..53_u32).prop_map(|(k, n)| k >> n),
        1 => (0..ALL, 0..53_u32).prop_map(|(k, n)| ALL - 1 - (k >> n)),
    ];
    proptest!(few(24), |(ks in prop::collection::vec(k, 1..600))| {
        check(&ks)?;
    });
}
