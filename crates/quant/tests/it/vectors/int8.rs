//! Rows in eight bits, and their products.

use llm_numerics::half::f16;
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_quant::int8_matmul::{self, Int8MatmulConfig};
use llm_quant::reference;
use llm_quant::vector_wise::{self, InputConfig, VectorWise};
use ndarray::{Array2, Ix1, Ix2, arr1};

/// Rows and columns of outliers, by either form.
fn quantize(
    x: &Array2<f32>,
    threshold: f32,
    tier: Tier,
) -> Result<(VectorWise, Vec<usize>), VectorError> {
    if tier == Tier::Cpu {
        let split = vector_wise::quantize_inputs(x, &InputConfig::new(threshold))
            .map_err(VectorError::op)?;
        return Ok((split.rows, split.outliers));
    }
    let x_list: Vec<f32> = x.iter().copied().collect();
    let (codes, scales, outliers) = reference::vector_wise::quantize(&x_list, x.ncols(), threshold);
    let codes = Array2::from_shape_vec(x.dim(), codes).map_err(VectorError::op)?;
    let rows = VectorWise::from_parts(codes, scales).map_err(VectorError::op)?;
    Ok((rows, outliers))
}

fn dequantize(rows: &VectorWise, tier: Tier) -> Result<Array2<f32>, VectorError> {
    if tier == Tier::Cpu {
        return vector_wise::dequantize(rows).map_err(VectorError::op);
    }
    // The contract rounds three times: here each step is written out.
    let scales = rows.scales();
    let value = |(i, j)| {
        let product = f32::from(rows.codes()[[i, j]]) * scales[i];
        product * (1.0_f64 / 127.0) as f32
    };
    Ok(Array2::from_shape_fn(rows.codes().dim(), value))
}

pub(super) fn rows(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let threshold = case.param_f64("threshold")? as f32;
    let x = case.input_f32::<Ix2>("x")?;
    let (rows, outliers) = quantize(&x, threshold, tier)?;
    case.expect_int("q", rows.codes())?;
    case.expect("row_stats", &arr1(rows.scales()))?;
    let columns: Vec<i64> = outliers.iter().map(|&column| column as i64).collect();
    case.expect_int_if_present("outlier_cols", &arr1(&columns))?;
    case.expect("dequantised", &dequantize(&rows, tier)?)
}

pub(super) fn product(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let factor = case.param_f64("factor")? as f32;
    let (a, w) = (case.input_f32::<Ix2>("a")?, case.input_f32::<Ix2>("w")?);
    let (qa, _) = quantize(&a, 0.0, tier)?;
    let (qw, _) = quantize(&w, 0.0, tier)?;
    case.expect_int("qa", qa.codes())?;
    case.expect_int("qw", qw.codes())?;
    case.expect("row_stats_a", &arr1(qa.scales()))?;
    case.expect("row_stats_w", &arr1(qw.scales()))?;
    let acc = qa
        .codes()
        .mapv(i32::from)
        .dot(&qw.codes().t().mapv(i32::from));
    case.expect_int("acc", &acc)?;
    let y = if tier == Tier::Cpu {
        let config = Int8MatmulConfig::new(0.0, factor);
        int8_matmul::forward(&a, &qw, &config).map_err(VectorError::op)?
    } else {
        let scale = |i: usize, j: usize| qa.scales()[i] * qw.scales()[j];
        Array2::from_shape_fn(acc.dim(), |(i, j)| {
            acc[[i, j]] as f32 * scale(i, j) * factor
        })
    };
    case.expect("y", &y.mapv(|y| f16::from_f32(y).to_f32()))
}

/// A layer: weights and inputs are rounded to `f16` before they are quantized.
pub(super) fn layer(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let (threshold, factor) = (
        case.param_f64("threshold")? as f32,
        case.param_f64("factor")? as f32,
    );
    let half = |x: f32| f16::from_f32(x).to_f32();
    let w = case.input_f32::<Ix2>("weight")?.mapv(half);
    let x = case.input_f32::<Ix2>("x")?;
    if x.iter().any(|&x| half(x) != x) {
        return Err(VectorError::op("inputs that are no f16 are not supported"));
    }
    let (bias, dout) = (
        case.input_f32::<Ix1>("bias")?,
        case.input_f32::<Ix2>("dout")?,
    );
    let (weights, _) = quantize(&w, 0.0, tier)?;
    case.expect_int("state.weight", weights.codes())?;
    case.expect("state.SCB", &arr1(weights.scales()))?;
    if case.has_output("state.weight_format")
        && case
            .output_i64("state.weight_format")?
            .iter()
            .any(|&x| x != 0)
    {
        return Err(VectorError::op("the format of weights must be 0 (rows)"));
    }
    case.expect_if_present("state.bias", &bias)?;
    let (y, dx) = if tier == Tier::Cpu {
        let config = Int8MatmulConfig::new(threshold, factor);
        (
            int8_matmul::forward(&x, &weights, &config).map_err(VectorError::op)?,
            int8_matmul::backward(&dout, &weights).map_err(VectorError::op)?,
        )
    } else {
        by_reference(&x, &dout, &weights, threshold, factor)?
    };
    case.expect("y", &(y + &bias))?;
    case.expect("dx", &dx)
}

fn by_reference(
    x: &Array2<f32>,
    dout: &Array2<f32>,
    weights: &VectorWise,
    threshold: f32,
    factor: f32,
) -> Result<(Array2<f32>, Array2<f32>), VectorError> {
    let n = x.ncols();
    let codes: Vec<i8> = weights.codes().iter().copied().collect();
    let parts = (&codes[..], weights.scales());
    let list = |x: &Array2<f32>| -> Vec<f32> { x.iter().copied().collect() };
    let whole = reference::vector_wise::forward(&list(x), parts, n, threshold);
    // The reference has the exact factor. What outliers add has none: it is taken out, and added again.
    let (_, _, outliers) = reference::vector_wise::quantize(&list(x), n, threshold);
    let w = reference::vector_wise::dequantize(&codes, weights.scales(), n);
    let only: Vec<f64> = { x.indexed_iter() }
        .map(|((_, j), &x)| if outliers.contains(&j) { x.into() } else { 0.0 })
        .collect();
    let added = reference::matmul::forward(&only, &w, n, weights.scales().len());
    let ratio = f64::from(factor) * 127.0 * 127.0;
    let y = whole
        .iter()
        .zip(&added)
        .map(|(y, added)| ((y - added) * ratio + added) as f32);
    let y = Array2::from_shape_vec(dout.dim(), y.collect()).map_err(VectorError::op)?;
    let wide: Vec<f64> = dout.iter().map(|&x| x.into()).collect();
    let dx = reference::matmul::backward(&wide, &w, n, weights.scales().len());
    let dx = dx.iter().map(|&x| x as f32).collect();
    let dx = Array2::from_shape_vec(x.dim(), dx).map_err(VectorError::op)?;
    Ok((y, dx))
}
