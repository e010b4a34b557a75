//! Laws of KERPLE, over the documented domain.

use llm_numerics::testing::{Tolerance, assert_close};
use llm_posenc::alibi::{self, AlibiOrigin};
use llm_posenc::kerple::{self, KerpleKernel};
use llm_posenc::reference;
use llm_posenc::testing::kerple_kernels;
use ndarray::{Array1, Array3, ShapeBuilder, s};
use proptest::prelude::*;

/// A kernel, its parameters, and a gradient with the same heads.
#[derive(Clone, Debug)]
struct Case {
    kernel: KerpleKernel,
    r1: Array1<f64>,
    r2: Array1<f64>,
    dbias: Array3<f64>,
}

impl Case {
    fn bias(&self) -> Array3<f64> {
        let (_, seq, kv_seq) = self.dbias.dim();
        self.bias_of(seq, kv_seq)
    }

    fn bias_of(&self, seq: usize, kv_seq: usize) -> Array3<f64> {
        kerple::bias(&self.r1, &self.r2, seq, kv_seq, self.kernel).unwrap()
    }

    fn backward(&self) -> (Array1<f64>, Array1<f64>) {
        kerple::backward(&self.dbias, &self.r1, &self.r2, self.kernel).unwrap()
    }
}

fn cases() -> impl Strategy<Value = Case> {
    (kerple_kernels(), 1_usize..4, 0_usize..7, 0_usize..9).prop_flat_map(
        |(kernel, heads, seq, kv_seq)| {
            let largest = if kernel == KerpleKernel::Power {
                2.0
            } else {
                20.0
            };
            let parameters = |largest| prop::collection::vec(1e-3..=largest, heads);
            let dbias = prop::collection::vec(-3.0_f64..3.0, heads * seq * kv_seq);
            (parameters(5.0), parameters(largest), dbias).prop_map(move |(r1, r2, dbias)| Case {
                kernel,
                r1: r1.into(),
                r2: r2.into(),
                dbias: Array3::from_shape_vec((heads, seq, kv_seq), dbias).unwrap(),
            })
        },
    )
}

proptest! {
    /// The fast form equals the formulas of the paper.
    #[test]
    fn equals_the_reference(case in cases()) {
        let (_, seq, kv_seq) = case.dbias.dim();
        let want = reference::kerple::bias(&case.r1, &case.r2, seq, kv_seq, case.kernel);
        // Logarithm, exponential and power of f64, each right to 1e-16 or so, of exponents up to 5.
        assert_close(&case.bias(), &want, Tolerance::new(1e-15, 1e-14));
    }

    /// The form for a loop over scores has the bits of the whole array.
    #[test]
    fn one_score_at_a_time_is_the_same(case in cases()) {
        let (_, seq, kv_seq) = case.dbias.dim();
        let (r1, r2) = (case.r1.mapv(|x| x as f32), case.r2.mapv(|x| x as f32));
        let bias = kerple::bias(&r1, &r2, seq, kv_seq, case.kernel).unwrap();
        for ((head, query, key), got) in bias.indexed_iter() {
            let (r1, r2) = (r1[head], r2[head]);
            let want = kerple::score_bias(r1, r2, query, key, seq, kv_seq, case.kernel);
            prop_assert_eq!(got.to_bits(), want.to_bits());
        }
    }

    /// 0 on the diagonal, lower with each token of distance, the same in both directions.
    #[test]
    fn the_penalty_grows_with_the_distance(case in cases(), seq in 1_usize..40) {
        let bias = case.bias_of(seq, seq);
        for bias in bias.outer_iter() {
            for i in 0..seq {
                prop_assert_eq!(bias[[i, i]], 0.0);
                for j in 1..=i {
                    prop_assert!(bias[[i, j - 1]] < bias[[i, j]]);
                    prop_assert_eq!(bias[[i, j]], bias[[j, i]]);
                }
            }
        }
    }

    /// Query and key moved together have the same bias: only the distance matters.
    #[test]
    fn only_the_distance_matters(case in cases(), shift in 1_usize..9) {
        let (_, seq, kv_seq) = case.dbias.dim();
        let (short, long) = (case.bias(), case.bias_of(seq + shift, kv_seq + shift));
        prop_assert_eq!(long.slice(s![.., shift.., shift..]), short.view());
        prop_assert_eq!(long.slice(s![.., ..seq, ..kv_seq]), short.view());
        // A later chunk of queries has the last rows.
        let whole = case.bias_of(kv_seq + seq, kv_seq);
        prop_assert_eq!(whole.slice(s![.., kv_seq.., ..]), short.view());
    }

    /// The logarithmic kernel flattens: each step costs less than the one before. The power does so
    /// below 1, and above 1 each step costs more.
    #[test]
    fn the_kernels_bend_as_they_should(case in cases()) {
        let bias = case.bias_of(1, 12); // distances 11 .. 0
        for (head, bias) in bias.outer_iter().enumerate() {
            let steps: Vec<f64> = (1..12).map(|j| bias[[0, j]] - bias[[0, j - 1]]).collect();
            let is_concave = case.kernel == KerpleKernel::Logarithmic || case.r2[head] < 1.0;
            for pair in steps.windows(2) {
                let growth = pair[1] - pair[0]; // towards the query
                // Differences of values of at most 5 · 121 in f64.
                let is_right = if is_concave { growth >= -1e-12 } else { growth <= 1e-12 };
                prop_assert!(is_right, "{growth}");
            }
        }
    }

    /// The power 1 is ALiBi.
    #[test]
    fn the_first_power_is_alibi(case in cases()) {
        let (_, seq, kv_seq) = case.dbias.dim();
        let ones = Array1::ones(case.r1.len());
        let got = kerple::bias(&case.r1, &ones, seq, kv_seq, KerpleKernel::Power).unwrap();
        let want = alibi::bias(&case.r1, seq, kv_seq, AlibiOrigin::AbsoluteDistance).unwrap();
        prop_assert_eq!(got, want);
    }

    /// r1 scales: the bias is r1 times its derivative, so ⟨dbias, bias⟩ = ⟨dr1, r1⟩.
    #[test]
    fn backward_is_the_adjoint_in_r1(case in cases()) {
        let (dr1, _) = case.backward();
        let difference = (&case.dbias * &case.bias()).sum() - (&dr1 * &case.r1).sum();
        // Sums of at most 168 terms of at most 3 · 5 · 64.
        prop_assert!(difference.abs() <= 1e-9, "{difference}");
    }

    /// Any strides give the same bits, and f32 is near.
    #[test]
    fn every_form_agrees(case in cases()) {
        let want = case.backward();
        let mut fortran = case.clone();
        fortran.dbias = Array3::zeros(case.dbias.dim().f());
        fortran.dbias.assign(&case.dbias);
        prop_assert_eq!(&fortran.backward(), &want);

        let narrow = |x: &Array1<f64>| x.mapv(|x| x as f32);
        let dbias = case.dbias.mapv(|x| x as f32);
        let got = kerple::backward(&dbias, &narrow(&case.r1), &narrow(&case.r2), case.kernel);
        let (dr1, dr2) = got.unwrap();
        // Inputs rounded to f32 (6e-8), in sums of at most 56 terms of at most 3 · 5 · 64 · ln 8.
        assert_close(&dr1, &want.0, Tolerance::new(5e-3, 0.0));
        assert_close(&dr2, &want.1, Tolerance::new(5e-2, 0.0));
    }
}

/// Large enough for threads: each head alone is not.
#[test]
fn tasks_do_not_change_the_result() {
    let r1 = Array1::from_shape_fn(7, |h| 0.25 + h as f32);
    let r2 = r1.mapv(|x| x / 5.0);
    for kernel in [KerpleKernel::Logarithmic, KerpleKernel::Power] {
        let bias = kerple::bias(&r1, &r2, 130, 257, kernel).unwrap();
        let (dr1, dr2) = kerple::backward(&bias, &r1, &r2, kernel).unwrap();
        for head in 0..7 {
            let (r1, r2) = (r1.slice(s![head..=head]), r2.slice(s![head..=head]));
            let alone = kerple::bias(&r1, &r2, 130, 257, kernel).unwrap();
            assert_eq!(bias.slice(s![head..=head, .., ..]), alone);
            let alone = kerple::backward(&alone, &r1, &r2, kernel).unwrap();
            assert_eq!((dr1[head], dr2[head]), (alone.0[0], alone.1[0]));
        }
    }
}
