//! Sinks on the GPU equal the reference, forward and backward.

use llm_attention::gpu::{flash, sinks};
use llm_attention::{AttentionConfig, Mask, reference, sinks as on_the_cpu};
use llm_numerics::philox::Philox4x32;
use ndarray::{Array1, Array4};
use proptest::prelude::*;

use super::{close, close_gradients, few, gpu, in_f32, upload, wide, wide_lse};
use crate::cases::cases;

#[test]
fn equals_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(64), |(case in cases(), key in any::<u64>())| {
        let case = in_f32(case);
        let random = Philox4x32::new(key);
        let mut i = 0;
        let want_sinks = Array1::from_shape_simple_fn(case.q.dim().1, || {
            i += 1;
            f64::from(3.0 * random.normal_f64(9, i) as f32)
        });
        let [q, k, v, dout] = [&case.q, &case.k, &case.v, &case.dout].map(|x| upload(&gpu, x));
        let device_sinks = upload(&gpu, &want_sinks);
        let (mut r, config) = (gpu.recorder(), &case.config);
        let (out, lse) = flash::forward(&mut r, &q, &k, &v, config).unwrap();
        let (out, lse) = sinks::apply(&mut r, &out, &lse, &device_sinks).unwrap();
        let grads = flash::backward(&mut r, &dout, &q, &k, &v, &out, &lse, config).unwrap();
        let dsinks = sinks::backward(&mut r, &dout, &out, &lse, &device_sinks).unwrap();
        r.submit().unwrap();
        let (q, k, v) = (&case.q, &case.k, &case.v);
        let (want, want_lse) = reference::sinks::forward(q, k, v, &want_sinks, config).unwrap();
        close(&wide(&out), &want)?;
        close(&wide_lse(&lse), &want_lse)?;
        let (want, want_dsinks) = reference::sinks::backward(&case.dout, q, k, v, &want_sinks, config).unwrap();
        close_gradients(&grads, &want)?;
        close(&wide(&dsinks), &want_dsinks)?;
    });
}

/// No sink, one that takes all, one that takes nothing, and rows that see no key.
#[test]
fn extreme_sinks_equal_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let lowest = f32::NEG_INFINITY;
    let config = AttentionConfig::new(Mask::Full).with_scale(1.0);
    for kv_seq in [0, 2] {
        let x = Array4::<f32>::ones((1, 4, 2, 1));
        let k = Array4::<f32>::ones((1, 4, kv_seq, 1));
        let (out, lse) = llm_attention::flash::forward_with_lse(&x, &k, &k, &config).unwrap();
        let want_sinks = Array1::from(vec![lowest, 1e30, -1e30, 0.5]);
        let (want, want_lse) = on_the_cpu::apply(&out, &lse, &want_sinks).unwrap();
        let want_dsinks = on_the_cpu::backward(&x, &want, &want_lse, &want_sinks).unwrap();
        let [x, k] = [&x, &k].map(|x| gpu.upload(x).unwrap());
        let device_sinks = gpu.upload(&want_sinks).unwrap();
        let mut r = gpu.recorder();
        let (out, lse) = flash::forward(&mut r, &x, &k, &k, &config).unwrap();
        let (out, lse) = sinks::apply(&mut r, &out, &lse, &device_sinks).unwrap();
        let dsinks = sinks::backward(&mut r, &x, &out, &lse, &device_sinks).unwrap();
        r.submit().unwrap();
        let in_f64 = |x: &ndarray::ArrayD<f32>| x.mapv(f64::from);
        close(&wide(&out), &in_f64(&want.into_dyn())).unwrap();
        close(&wide_lse(&lse), &in_f64(&want_lse.into_dyn())).unwrap();
        close(&wide(&dsinks), &in_f64(&want_dsinks.into_dyn())).unwrap();
    }
}
