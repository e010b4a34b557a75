//! Vector files of `attention.differential.module`: `DiffLlama`'s attention from the blocks.

use llm_blocks::attention::{AttentionConfig, CausalAlignment, Mask};
use llm_blocks::ndarray::{Array1, ArrayRef4, Axis, Ix1, Ix2, Ix3, concatenate, s};
use llm_blocks::numerics::testing::vectors::{Case, VectorError};
use llm_blocks::posenc::rope::{self, RopeConfig, RopePairing, RopeScaling};

use super::blocks::{
    Blocks, Rotation, heads, linear, linear_backward, positions, sequences, side_by_side, tokens,
};

/// Runs one case.
pub(super) fn run<B: Blocks>(case: &Case) -> Result<(), VectorError> {
    let (n_heads, n_kv_heads) = (case.param_usize("heads")?, case.param_usize("kv_heads")?);
    let head_dim = case.param_usize("head_dim")?;
    if n_kv_heads % 2 != 0 {
        return Err(case.unknown_param("kv_heads", "an even number"));
    }
    if case.param_str("causal")? != "bottom_right" {
        return Err(case.unknown_param("causal", "\"bottom_right\""));
    }
    let (eps, init) = (case.param_f64("norm_eps")?, case.param_f64("lambda_init")?);
    let layer = case.param_usize("layer_idx")?;
    let start = llm_blocks::attention::differential::lambda::init(layer);
    assert!(
        (init - start).abs() < 1e-14,
        "lambda_init {init} and {start}"
    );
    let plain =
        RopeConfig::new(head_dim, RopePairing::HalfSplit).with_base(case.param_f64("rope_theta")?);
    let rotation = Rotation {
        frequencies: rope::frequencies(&plain, &RopeScaling::Default, None)
            .map_err(VectorError::op)?,
        positions: positions(case)?,
        pairing: RopePairing::HalfSplit,
    };
    let matrix = |name: &str| B::input::<Ix2>(case, &format!("w.{name}.weight"));
    let vector = |name: &str| B::input::<Ix1>(case, &format!("w.{name}"));
    let hidden = B::input::<Ix3>(case, "hidden")?;
    let dout = tokens(&B::input::<Ix3>(case, "dout")?);
    let (batch, x) = (hidden.dim().0, tokens(&hidden));

    let [wq, wk, wv, wo] = [
        matrix("q_proj")?,
        matrix("k_proj")?,
        matrix("v_proj")?,
        matrix("o_proj")?,
    ];
    let q = B::rotate(&heads(&linear::<B>(&x, &wq), batch, n_heads), &rotation);
    let k = B::rotate(&heads(&linear::<B>(&x, &wk), batch, n_kv_heads), &rotation);
    let v = heads(&linear::<B>(&x, &wv), batch, n_kv_heads);
    let (q1, q2) = q.view().split_at(Axis(1), n_heads / 2);
    let (k1, k2) = k.view().split_at(Axis(1), n_kv_heads / 2);
    let (v1, v2) = v.view().split_at(Axis(1), n_kv_heads / 2);
    let v = concatenate![Axis(3), v1, v2];
    let q: [&ArrayRef4<B::F>; 2] = [&q1, &q2];
    let k: [&ArrayRef4<B::F>; 2] = [&k1, &k2];

    let [lq1, lk1, lq2, lk2] = [
        vector("lambda_q1")?,
        vector("lambda_k1")?,
        vector("lambda_q2")?,
        vector("lambda_k2")?,
    ];
    let lambda = B::lambda([&lq1, &lq2], [&lk1, &lk2], init).map_err(VectorError::op)?;
    let lambda = Array1::from_elem(n_heads / 2, lambda);

    let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
    let got = B::differential((q, k, &v, &lambda), &config, |attended| {
        let normed = B::head_norm(attended, init, eps).map_err(VectorError::op)?;
        let normed = side_by_side(&normed);
        let out = linear::<B>(&normed, &wo);
        case.expect("out", &sequences(&out, batch))?;
        let (dnormed, dwo) = linear_backward::<B>(&dout, &normed, &wo);
        case.expect("dw.o_proj.weight", &dwo)?;
        let dnormed = heads(&dnormed, batch, n_heads / 2);
        B::head_norm_backward(&dnormed, attended, init, eps).map_err(VectorError::op)
    })?;

    let dlambda = got.dlambda.sum(); // one for all heads
    let vectors = B::lambda_backward(dlambda, [&lq1, &lq2], [&lk1, &lk2]);
    let vectors = vectors.map_err(VectorError::op)?;
    case.expect("dw.lambda_q1", &vectors.dq[0])?;
    case.expect("dw.lambda_q2", &vectors.dq[1])?;
    case.expect("dw.lambda_k1", &vectors.dk[0])?;
    case.expect("dw.lambda_k2", &vectors.dk[1])?;

    let [dq1, dq2] = &got.dq;
    let [dk1, dk2] = &got.dk;
    let dq = B::rotate_back(&concatenate![Axis(1), dq1.view(), dq2.view()], &rotation);
    let dk = B::rotate_back(&concatenate![Axis(1), dk1.view(), dk2.view()], &rotation);
    let (dv1, dv2) = (
        got.dv.slice(s![.., .., .., ..head_dim]),
        got.dv.slice(s![.., .., .., head_dim..]),
    );
    let dv = concatenate![Axis(1), dv1, dv2];
    let (mut dx, dwq) = linear_backward::<B>(&side_by_side(&dq), &x, &wq);
    let (dx_k, dwk) = linear_backward::<B>(&side_by_side(&dk), &x, &wk);
    let (dx_v, dwv) = linear_backward::<B>(&side_by_side(&dv), &x, &wv);
    dx += &dx_k;
    dx += &dx_v;
    case.expect("dw.q_proj.weight", &dwq)?;
    case.expect("dw.k_proj.weight", &dwk)?;
    case.expect("dw.v_proj.weight", &dwv)?;
    case.expect("dhidden", &sequences(&dx, batch))
}
