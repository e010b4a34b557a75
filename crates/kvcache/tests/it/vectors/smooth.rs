//! Smoothed keys and queries, and attention that does not notice.

use llm_kvcache::reference::smooth as reference;
use llm_kvcache::smooth::{KeySmoothing, SmoothConfig};
use llm_numerics::half::bf16;
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis, Ix3, s};

/// Means, factors, keys and queries.
type Smoothed = (Array2<f64>, Array2<f64>, Array3<f64>, Array3<f64>);

pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let [k, v, q] = ["k", "v", "q"].map(|name| case.input_f32::<Ix3>(name));
    let (k, v, q) = (k?, v?, q?);
    let (seen, alpha) = (case.param_usize("seen")?, case.param_f64("alpha")?);
    let has_means = case.param_bool("means")?;
    let known = k.slice(s![.., ..seen, ..]).to_owned();
    let (means, factors, keys, queries) = match tier {
        Tier::Cpu => {
            let mut config = SmoothConfig::new(alpha as f32);
            if has_means {
                config = config.with_means();
            }
            let smoothing = KeySmoothing::of_keys(&known, &config).map_err(VectorError::op)?;
            let means = smoothing
                .means()
                .unwrap_or(Array2::zeros(smoothing.factors().dim()));
            let keys = smoothing.smooth_keys(&k).map_err(VectorError::op)?;
            let queries = smoothing.smooth_queries(&q).map_err(VectorError::op)?;
            let (means, factors) = (means.mapv(f64::from), smoothing.factors().mapv(f64::from));
            (
                means,
                factors,
                keys.mapv(f64::from),
                queries.mapv(f64::from),
            )
        }
        _ => textbook(&known, [&k, &q], alpha, has_means),
    };
    case.expect("means", &means)?;
    case.expect("factors", &factors)?;
    case.expect("keys", &keys)?;
    case.expect("queries", &queries)?;
    let queries_per_kv = q.dim().0 / k.dim().0;
    let mut out = Array3::zeros(q.dim());
    for (head, (q, mut out)) in queries.outer_iter().zip(out.outer_iter_mut()).enumerate() {
        let row = head / queries_per_kv;
        let (k, v) = (keys.index_axis(Axis(0), row), v.index_axis(Axis(0), row));
        let scores = q.dot(&k.t()) / (k.dim().1 as f64).sqrt();
        let weights = scores.mapv(f64::exp);
        let sums = weights.sum_axis(Axis(1)).insert_axis(Axis(1));
        out.assign(&(weights.dot(&v.mapv(f64::from)) / sums));
    }
    case.expect("attention", &out)
}

/// The reference, head by head; its means and factors rounded to 8 bits, as the file's are.
fn textbook(
    known: &Array3<f32>,
    [k, q]: [&Array3<f32>; 2],
    alpha: f64,
    has_means: bool,
) -> Smoothed {
    let wide = |x: ArrayView2<'_, f32>| -> Vec<Vec<f64>> {
        let row = |x: ArrayView1<'_, f32>| x.iter().map(|&x| x.into()).collect();
        x.outer_iter().map(row).collect()
    };
    let array = |rows: Vec<Vec<f64>>, n: usize| {
        Array2::from_shape_fn([rows.len(), n], |(row, d)| rows[row][d])
    };
    let round = |x: Vec<f64>| -> Vec<f64> {
        (x.into_iter())
            .map(|x| bf16::from_f64(x).to_f64())
            .collect()
    };
    let (heads, _, n) = k.dim();
    let queries_per_kv = q.dim().0 / heads;
    let mut all = (
        Array2::zeros([heads, n]),
        Array2::zeros([heads, n]),
        Array3::zeros(k.dim()),
        Array3::zeros(q.dim()),
    );
    for head in 0..heads {
        let seen = wide(known.index_axis(Axis(0), head));
        let means = if has_means {
            round(reference::means(&seen))
        } else {
            vec![0.0; n]
        };
        let factors = round(reference::factors(&seen, &means, alpha));
        let keys = reference::keys(&wide(k.index_axis(Axis(0), head)), &means, &factors);
        all.2.index_axis_mut(Axis(0), head).assign(&array(keys, n));
        for head in head * queries_per_kv..(head + 1) * queries_per_kv {
            let queries = reference::queries(&wide(q.index_axis(Axis(0), head)), &factors);
            all.3
                .index_axis_mut(Axis(0), head)
                .assign(&array(queries, n));
        }
        all.0.row_mut(head).assign(&Array1::from(means));
        all.1.row_mut(head).assign(&Array1::from(factors));
    }
    all
}
