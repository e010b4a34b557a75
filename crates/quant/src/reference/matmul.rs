//! Products with weights that are written out.

/// `y_tj = Σ_i x_ti w_ji` for `x` of `[seq, d_in]` and `w` of `[d_out, d_in]`, rows one behind the other.
#[must_use]
// ANCHOR: forward
pub fn forward(x: &[f64], w: &[f64], d_in: usize, d_out: usize) -> Vec<f64> {
    let row = |x: &[f64], j: usize| (0..d_in).map(|i| x[i] * w[j * d_in + i]).sum();
    let rows = x.chunks(d_in);
    rows.flat_map(|x| (0..d_out).map(move |j| row(x, j)))
        .collect()
}
// ANCHOR_END: forward

/// `dx_ti = Σ_j dout_tj w_ji`.
#[must_use]
pub fn backward(dout: &[f64], w: &[f64], d_in: usize, d_out: usize) -> Vec<f64> {
    let column = |dout: &[f64], i: usize| (0..d_out).map(|j| dout[j] * w[j * d_in + i]).sum();
    let rows = dout.chunks(d_out);
    rows.flat_map(|dout| (0..d_in).map(move |i| column(dout, i)))
        .collect()
}
