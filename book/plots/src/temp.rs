//! TEMPORARY.
pub mod sinusoidal {
    use crate::PlotError;
    use ndarray::{Array1, Array2};
    pub enum SinusoidalLayout { Interleaved }
    pub enum SinusoidalExponent { TwoIOverDim }
    pub struct SinusoidalConfig(usize);
    impl SinusoidalConfig { pub fn new(d: usize, _: SinusoidalLayout, _: SinusoidalExponent) -> Self { Self(d) } }
    pub fn table(n: usize, c: &SinusoidalConfig) -> Result<Array2<f32>, PlotError> {
        Ok(Array2::from_shape_fn((n, c.0), |(p, i)| {
            let a = p as f64 / 10000f64.powf((i / 2 * 2) as f64 / c.0 as f64);
            (if i % 2 == 0 { a.sin() } else { a.cos() }) as f32
        }))
    }
    pub fn inner_products(t: &Array2<f32>) -> Result<Array2<f32>, PlotError> { Ok(t.dot(&t.t())) }
    pub fn decay(c: &SinusoidalConfig, x: &Array1<f64>) -> Result<Array1<f64>, PlotError> {
        Ok(x.mapv(|x| (0..c.0 / 2).map(|i| (x / 10000f64.powf((2 * i) as f64 / c.0 as f64)).cos()).sum()))
    }
}

pub mod alibi {
    use crate::PlotError;
    use ndarray::{Array1, Array2, Array3};
    #[derive(Clone, Copy)]
    pub enum AlibiOrigin { PastDistance }
    pub fn slopes(n: usize, _: f64) -> Result<Array1<f32>, PlotError> { Ok((1..=n).map(|i| 0.5f32.powi(i as i32)).collect()) }
    pub fn distances(a: usize, b: usize, _: AlibiOrigin) -> Result<Array2<i64>, PlotError> { Ok(Array2::from_shape_fn((a, b), |(i, j)| -(i.saturating_sub(j) as i64))) }
    pub fn bias<F: Into<f64>+Copy>(s: &Array1<F>, a: usize, b: usize, _: AlibiOrigin) -> Result<Array3<f64>, PlotError> { Ok(Array3::from_shape_fn((s.len(), a, b), |(h, i, j)| -(i.saturating_sub(j) as f64) * s[h].into())) }
}
