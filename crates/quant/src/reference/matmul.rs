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

/// A low-rank update: `a` of `[rank, d_in]`, `b` of `[d_out, rank]`, rows one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'a> {
    /// The first factor.
    pub a: &'a [f64],
    /// The second factor.
    pub b: &'a [f64],
    /// What their product is multiplied by.
    pub scaling: f64,
}

impl LowRank<'_> {
    /// `w_ji + scaling Σ_r b_jr a_ri`: the weights that the product with an update is the plain product with.
    #[must_use]
    pub fn merged(&self, w: &[f64], d_in: usize, d_out: usize) -> Vec<f64> {
        let rank = self.a.len() / d_in.max(1);
        let at = |j: usize, i: usize| {
            let sum: f64 = (0..rank)
                .map(|r| self.b[j * rank + r] * self.a[r * d_in + i])
                .sum();
            w[j * d_in + i] + self.scaling * sum
        };
        (0..d_out)
            .flat_map(|j| (0..d_in).map(move |i| (j, i)))
            .map(|(j, i)| at(j, i))
            .collect()
    }

    /// Gradients of `y = x mergedᵀ` to `x`, `a` and `b`.
    ///
    /// From the gradient to the merged weights, `g_ji = Σ_t dout_tj x_ti`: `da_ri = scaling Σ_j b_jr g_ji`, `db_jr = scaling Σ_i g_ji a_ri`.
    #[must_use]
    pub fn backward(
        &self,
        dout: &[f64],
        x: &[f64],
        w: &[f64],
        d_in: usize,
        d_out: usize,
    ) -> [Vec<f64>; 3] {
        let rank = self.a.len() / d_in.max(1);
        let seq = x.len() / d_in.max(1);
        let dx = backward(dout, &self.merged(w, d_in, d_out), d_in, d_out);
        let (mut da, mut db) = (vec![0.0; rank * d_in], vec![0.0; d_out * rank]);
        for j in 0..d_out {
            for i in 0..d_in {
                let g: f64 = (0..seq)
                    .map(|t| dout[t * d_out + j] * x[t * d_in + i])
                    .sum();
                for r in 0..rank {
                    da[r * d_in + i] += self.scaling * self.b[j * rank + r] * g;
                    db[j * rank + r] += self.scaling * g * self.a[r * d_in + i];
                }
            }
        }
        [dx, da, db]
    }
}
