//! Numbers that are rounded twice, to f64 and then to f32, where another order of rounding, or a bit that is lost, gives another f32.
//!
//! Random numbers do not find these: the exact result must lie within `2^-53` of the middle between two f32, and near the middle between two
//! f64. They are searched for with whole numbers of 128 bits; what is right says the arithmetic of the language.

use llm_numerics::philox::Philox4x32;
use llm_sampling::gpu::{history, presence_frequency, repetition_penalty, temperature};
use ndarray::Array2;

use super::{apply, gpu};

/// A number between two f32 that are even and odd, as a mantissa of 53 bits.
fn middle(random: u64) -> u64 {
    let f32_mantissa = 1 << 23 | (random & 0x3f_ffff) << 1; // even
    f32_mantissa << 29 | 1 << 28
}

/// Rows of one logit and the number that it meets.
fn all_equal(
    name: &str,
    pairs: &[(f32, f64)],
    cpu: impl Fn(f32, f64) -> f32,
    device: impl Fn(f32, f64) -> f32,
) {
    let mut odd = 0;
    for &(x, y) in pairs {
        let want = cpu(x, y);
        assert_eq!(
            device(x, y).to_bits(),
            want.to_bits(),
            "{name}: {x:e} {y:e} {want:e}"
        );
        odd += want.to_bits() & 1;
    }
    // Some are rounded up from the middle, some are not.
    assert!(
        odd > 0 && (odd as usize) < pairs.len(),
        "{name}: {odd} of {}",
        pairs.len()
    );
}

/// A penalty on one token, by presence.
fn minus(x: f32, y: f64) -> f32 {
    let gpu = gpu().expect("looked for before");
    let logits = Array2::from_elem((1, 1), x);
    let (got, refused) = apply(&gpu, &logits, |r, rows| {
        let tokens = gpu.zeros::<u32>(&[1, 1])?;
        let counts = history::count(r, &tokens, &[0..1; 1], 1)?;
        presence_frequency::apply_inplace(r, rows, &counts, y, 0.0)
    });
    assert_eq!(refused, Ok(()));
    got[[0, 0]]
}

#[test]
fn differences_are_rounded_twice() {
    let Some(_) = gpu() else { return };
    let two = |n: i32| 2_f64.powi(n);
    let mut pairs = Vec::new();
    for x in [1.0_f32, 1.0 + 2.0 * f32::EPSILON, 1.5, 3.0] {
        let scale = if x < 2.0 { 1.0 } else { 2.0 };
        for rest in [0.0, two(-70), -two(-70), two(-76)] {
            // x - y = the middle above x, half a unit of f64, and a little.
            pairs.push((x, -(two(-24) + two(-53) + rest) * scale));
            pairs.push((x, -(two(-24) + two(-52) + two(-53) + rest) * scale));
            pairs.push((x, -(two(-24) + rest) * scale));
        }
    }
    all_equal("minus", &pairs, |x, y| (f64::from(x) - y) as f32, minus);
    // Of different signs: a bit that is lost below makes the difference smaller.
    let pairs: Vec<(f32, f64)> = (0..24)
        .map(|i| {
            (
                1.0 + f32::EPSILON * (3.0 + i as f32),
                two(-24) - two(-53) * f64::from(i % 5 - 2) - two(-71),
            )
        })
        .collect();
    all_equal(
        "minus, down",
        &pairs,
        |x, y| (f64::from(x) - y) as f32,
        minus,
    );
}

#[test]
fn quotients_are_rounded_twice() {
    let Some(gpu) = gpu() else { return };
    let random = Philox4x32::new(1);
    let word = |i: u64| u64::from(random.u32_at(0, i)) << 32 | u64::from(random.u32_at(1, i));
    let mut pairs = Vec::new();
    for i in 0..200_000 {
        if pairs.len() == 24 {
            break;
        }
        // A divisor for which the quotient is near a middle and half a unit of f64: q = 2^k x / t.
        let x = 1 << 23 | word(2 * i) & 0x7f_ffff;
        let target = u128::from(middle(word(2 * i + 1))) * 2 + 1; // 54 bits
        let numerator = u128::from(x) << 83;
        let t = numerator / target; // 53 or 54 bits
        if t >> 53 != 0 || t >> 52 == 0 {
            continue;
        }
        let (q, rest) = ((u128::from(x) << 93) / t, (u128::from(x) << 93) % t);
        // The ten bits behind the half: below 1/8 of a unit only the last bit, which stands for all that is lost, tells it from the half.
        if q >> 10 == target && (q & 1023) < 128 && (q & 1023 != 0 || rest != 0) {
            pairs.push((x as f32, t as f64 / (1_u64 << 52) as f64));
        }
    }
    assert_eq!(pairs.len(), 24);
    let device = |x: f32, y: f64| {
        let logits = Array2::from_elem((1, 1), x);
        let (got, refused) = apply(&gpu, &logits, |r, rows| {
            temperature::apply_inplace(r, rows, y)
        });
        assert_eq!(refused, Ok(()));
        got[[0, 0]]
    };
    for (x, y) in pairs {
        assert_eq!(
            device(x, y).to_bits(),
            ((f64::from(x) / y) as f32).to_bits(),
            "{x:e} {y:e}"
        );
    }
}

#[test]
fn products_are_rounded_twice() {
    let Some(gpu) = gpu() else { return };
    let random = Philox4x32::new(2);
    let word = |i: u64| u64::from(random.u32_at(0, i)) << 32 | u64::from(random.u32_at(1, i));
    let mut pairs = Vec::new();
    for i in 0..400_000 {
        if pairs.len() == 24 {
            break;
        }
        // A factor for which the product, of 77 bits, is a middle, half a unit of f64, and less than 2^-11 of one.
        let x = 1 << 23 | word(2 * i) & 0x7f_ffff | 1;
        let half = (u128::from(middle(word(2 * i + 1))) * 2 + 1) << 23;
        let rest = (u128::from(x) - half % u128::from(x)) % u128::from(x);
        let factor = (half + rest) / u128::from(x);
        if rest < 1 << 13 && factor >> 52 == 1 {
            pairs.push((-(x as f32), factor as f64 / (1_u64 << 52) as f64));
        }
    }
    assert_eq!(pairs.len(), 24);
    for (x, y) in pairs {
        let logits = Array2::from_elem((1, 1), x);
        let (got, _) = apply(&gpu, &logits, |r, rows| {
            let tokens = gpu.zeros::<u32>(&[1, 1])?;
            let counts = history::count(r, &tokens, &[0..1; 1], 1)?;
            repetition_penalty::apply_inplace(r, rows, &counts, y)
        });
        let want = (f64::from(x) * y) as f32;
        assert_eq!(got[[0, 0]].to_bits(), want.to_bits(), "{x:e} {y:e}");
    }
}

/// A sum of f64 that overflows on the way stays infinite there, even if the next number would bring it back.
#[test]
fn penalties_that_overflow_mask() {
    let Some(gpu) = gpu() else { return };
    let logits = Array2::from_elem((1, 1), 2.0_f32);
    for (presence, frequency) in [
        (-1.7e308, 1e308),
        (1.7e308, -1e308),
        (1.7e308, 1e307),
        (-1.7e308, 1e307),
    ] {
        let (got, _) = apply(&gpu, &logits, |r, rows| {
            let tokens = gpu.zeros::<u32>(&[1, 3])?;
            let counts = history::count(r, &tokens, &[0..3; 1], 1)?;
            presence_frequency::apply_inplace(r, rows, &counts, presence, frequency)
        });
        // Three times the frequency overflows for the first two.
        let penalty: f64 = 3.0 * frequency + presence;
        let want = match penalty {
            f64::INFINITY => f32::NEG_INFINITY,
            f64::NEG_INFINITY => f32::INFINITY,
            _ if penalty > 0.0 => f32::MIN,
            _ => f32::MAX,
        };
        assert_eq!(got[[0, 0]], want, "{presence:e} {frequency:e}");
    }
}
