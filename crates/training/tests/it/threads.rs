//! The same bits for any number of threads.

use llm_training::TrainingError;
use llm_training::adamw::{self, AdamWConfig};
use llm_training::clip::{self, NonFinite, NormType};
use llm_training::cross_entropy::{self, CrossEntropyConfig};
use ndarray::{Array1, Array2};

fn wave(rows: usize, columns: usize, phase: f32) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(i, j)| {
        9.0 * ((i * columns + j) as f32 * 0.73 + phase).sin()
    })
}

/// One training step on logits of a size that is cut into tasks.
fn everything() -> Result<(f64, f64, Array2<f32>, Array2<f32>), TrainingError> {
    let mut param = wave(90, 2500, 0.0);
    let labels = Array1::from_shape_fn(90, |t| if t % 7 == 3 { -100 } else { t as i64 * 27 });
    let config = CrossEntropyConfig::torch().with_label_smoothing(0.1);
    let (loss, mut grad) = cross_entropy::loss_and_grad(&param, &labels, None, &config)?;
    let mut views = [grad.view_mut().into_dyn()];
    let norm = clip::clip_norm(&mut views, 1e-3, NormType::L2, NonFinite::Error)?;
    let (mut m, mut v) = (
        Array2::zeros(param.raw_dim()),
        Array2::zeros(param.raw_dim()),
    );
    let config = AdamWConfig::new();
    adamw::step(&mut param, &grad, &mut m, &mut v, 1, 0.1, &config)?;
    Ok((loss, norm, param, v))
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let with = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .build()
            .unwrap();
        pool.install(everything).unwrap()
    };
    let one = with(1);
    assert!(one.0.is_finite() && one.2.iter().all(|x| x.is_finite()));
    for n in [2, 3, 7] {
        assert_eq!(with(n), one, "{n} threads");
    }
}
