//! Top-p on the GPU keeps the tokens of the reference and of the CPU, but where a sum lies within the stated bound of `p`.

use llm_sampling::gpu::top_p;
use llm_sampling::reference;
use llm_sampling::top_p::{SumFrom, TopP};
use ndarray::{Array2, array};
use proptest::prelude::*;

use super::{
    LARGE_VOCAB, MASKED, any_logit, apply, contexts, few, gpu, logit, model_logits, on_the_cpu,
    rows_of,
};

fn sum_from() -> impl Strategy<Value = SumFrom> {
    prop_oneof![Just(SumFrom::Smallest), Just(SumFrom::Largest)]
}

fn probability() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => 0.001..1.0_f64,
        1 => Just(1.0),
        1 => Just(f64::MIN_POSITIVE),
        1 => Just(0.5),
        1 => Just(1.0 - f64::EPSILON / 2.0),
    ]
}

/// What the device states.
fn bound_of_the_device(vocab: usize) -> f64 {
    2_f64.powi(-27) + vocab as f64 * 2_f64.powi(-44)
}

/// What the CPU states.
const BOUND_OF_THE_CPU: f64 = 1e-6;

fn kept(row: impl IntoIterator<Item = f64>) -> Vec<bool> {
    row.into_iter().map(|x| x > f64::NEG_INFINITY).collect()
}

/// True if, in the order in which the reference sums, a sum lies so near to the bound that rounding may decide.
fn is_borderline(row: &[f64], p: f64, sum_from: SumFrom, near: f64) -> bool {
    let mut weights = reference::categorical::log_softmax(row);
    weights.iter_mut().for_each(|x| *x = x.exp());
    weights.sort_by(f64::total_cmp);
    if sum_from == SumFrom::Largest {
        weights.reverse();
    }
    let bound = if sum_from == SumFrom::Smallest {
        1.0 - p
    } else {
        p
    };
    let mut sum = 0.0;
    let mut any = bound <= near;
    for weight in weights {
        sum += weight;
        any |= (sum - bound).abs() <= near;
    }
    any
}

/// The set of the reference; or, only if a sum is near the bound, that of a bound moved by as much.
fn check(
    got: &[bool],
    row: &[f64],
    p: f64,
    sum_from: SumFrom,
    least: usize,
    near: f64,
) -> Result<bool, TestCaseError> {
    let least = least.min(row.len());
    let set = |p: f64| {
        kept(reference::top_p::apply(
            row,
            p.clamp(1e-300, 1.0),
            sum_from,
            least,
        ))
    };
    if got == set(p) {
        return Ok(false);
    }
    prop_assert!(
        is_borderline(row, p, sum_from, near),
        "not near the bound: {:?} {} {:?}",
        row,
        p,
        sum_from
    );
    // In a set moved by more than the error, all that may be kept is, or all that may be dropped is.
    let count = |set: &[bool]| set.iter().filter(|k| **k).count();
    let (most, fewest) = (set((p + 2.0 * near).min(1.0 - 1e-16)), set(p - 2.0 * near));
    let inside = got.iter().zip(&most).all(|(g, m)| *m || !*g)
        && got.iter().zip(&fewest).all(|(g, f)| *g || !*f);
    prop_assert!(inside, "{} {} {}", count(got), count(&fewest), count(&most));
    Ok(true)
}

fn check_rows(
    logits: &Array2<f32>,
    p: f64,
    sum_from: SumFrom,
    least: usize,
) -> Result<usize, TestCaseError> {
    let Some(gpu) = gpu() else { return Ok(0) };
    let (got, refused) = apply(&gpu, logits, |r, x| {
        top_p::apply_inplace(r, x, p, sum_from, least)
    });
    let on_cpu = TopP::new(p, sum_from, least).unwrap();
    let (cpu, want) = on_the_cpu(logits, &contexts(logits.nrows()), &on_cpu);
    prop_assert_eq!(&refused, &want);
    if refused.is_err() {
        return Ok(0);
    }
    let mut borderline = 0;
    for row in 0..logits.nrows() {
        let in_f64 =
            |x: &Array2<f32>| -> Vec<f64> { x.row(row).iter().map(|x| f64::from(*x)).collect() };
        let set = kept(in_f64(&got));
        let near = bound_of_the_device(logits.ncols());
        borderline += usize::from(check(&set, &in_f64(logits), p, sum_from, least, near)?);
        if set != kept(in_f64(&cpu)) {
            prop_assert!(is_borderline(
                &in_f64(logits),
                p,
                sum_from,
                near + BOUND_OF_THE_CPU
            ));
        }
        for (got, x) in got.row(row).iter().zip(logits.row(row)) {
            prop_assert!(*got == MASKED || got.to_bits() == x.to_bits());
        }
    }
    Ok(borderline)
}

#[test]
fn equals_the_reference_and_the_cpu() {
    proptest!(few(160), |(logits in rows_of(any_logit()), p in probability(), sum_from in sum_from(), least in prop_oneof![3 => Just(1_usize), 1 => 1..20_usize, 1 => Just(usize::MAX)])| {
        check_rows(&logits, p, sum_from, least)?;
    });
}

/// Shares that are no multiple of a weight: no row is borderline, so that the sets are the same.
#[test]
fn usual_rows_are_not_borderline() {
    proptest!(few(48), |(row in prop::collection::vec(-9.0..9.0_f32, 2..600), sum_from in sum_from())| {
        let logits = Array2::from_shape_vec((1, row.len()), row).unwrap();
        prop_assert_eq!(check_rows(&logits, 0.876_543_21, sum_from, 1)?, 0);
    });
}

/// Few different logits over three groups: the cut is inside of thousands of equals.
#[test]
fn many_equals_are_settled_as_in_the_reference() {
    let values = [0.0_f32, -0.0, 1.0, 0.25, -3.0];
    let strategy = (
        prop::collection::vec(0..values.len(), 20_000),
        0.01..0.99_f64,
        sum_from(),
    );
    proptest!(few(12), |((places, p, sum_from) in strategy)| {
        let row: Vec<f32> = places.iter().map(|&i| values[i]).collect();
        let logits = Array2::from_shape_vec((1, row.len()), row).unwrap();
        check_rows(&logits, p, sum_from, 1)?;
    });
}

#[test]
fn a_large_vocabulary_equals_the_reference() {
    let logits = model_logits(2, LARGE_VOCAB, 41);
    for (p, sum_from, least) in [
        (0.9, SumFrom::Smallest, 1),
        (0.95, SumFrom::Largest, 1),
        (0.5, SumFrom::Largest, 100_000),
        (0.5, SumFrom::Smallest, 100_000),
    ] {
        assert_eq!(check_rows(&logits, p, sum_from, least).unwrap(), 0);
    }
}

/// The edges of a share: one token has it all, or each an equal part.
#[test]
fn known_sets() {
    let Some(gpu) = gpu() else { return };
    let m = MASKED;
    for (row, p, sum_from, want) in [
        (
            array![[5.0_f32, 5.0, 5.0, 5.0]],
            0.5,
            SumFrom::Largest,
            array![[5.0, 5.0, m, m]],
        ),
        (
            array![[5.0_f32, 5.0, 5.0, 5.0]],
            0.5,
            SumFrom::Smallest,
            array![[m, m, 5.0, 5.0]],
        ),
        (
            array![[5.0_f32, 5.0, 5.0, 5.0]],
            0.51,
            SumFrom::Largest,
            array![[5.0, 5.0, 5.0, m]],
        ),
        (
            array![[9.0_f32, -90.0, m, -99.0]],
            0.999_999,
            SumFrom::Largest,
            array![[9.0, m, m, m]],
        ),
        (
            array![[9.0_f32, -90.0, m, -99.0]],
            1.0,
            SumFrom::Smallest,
            array![[9.0, -90.0, m, -99.0]],
        ),
        (
            array![[1.0_f32, 1.0, 0.0, 1.0]],
            f64::MIN_POSITIVE,
            SumFrom::Largest,
            array![[1.0, m, m, m]],
        ),
        (
            array![[1.0_f32, 1.0, 0.0, 1.0]],
            f64::MIN_POSITIVE,
            SumFrom::Smallest,
            array![[m, m, m, 1.0]],
        ),
    ] {
        let (got, refused) = apply(&gpu, &row, |r, x| {
            top_p::apply_inplace(r, x, p, sum_from, 1)
        });
        assert_eq!((got, refused), (want, Ok(())), "{row} {p} {sum_from:?}");
    }
}

#[test]
fn equal_tokens_beyond_a_share_go_by_id() {
    let Some(_) = gpu() else { return };
    proptest!(few(48), |(row in prop::collection::vec(logit(), 1..80), p in probability(), sum_from in sum_from())| {
        prop_assume!(row.iter().any(|x| *x > MASKED));
        let logits = Array2::from_shape_vec((1, row.len()), row).unwrap();
        check_rows(&logits, p, sum_from, 3)?;
    });
}
