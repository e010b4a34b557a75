//! Products with packed weights and a low-rank update, as an adapter of the library computes them.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_quant::double;
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::four_bit;
use llm_quant::matmul::low_rank::{self, LowRank};
use llm_quant::reference;
use ndarray::{Array2, Ix2};

pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let config = super::config(case)?;
    let w = case.input_f32::<Ix2>("weight")?;
    let [x, dout] = [case.input_f32::<Ix2>("x")?, case.input_f32::<Ix2>("dout")?];
    let [a, b] = [
        case.input_f32::<Ix2>("lora_A")?,
        case.input_f32::<Ix2>("lora_B")?,
    ];
    let (d_out, d_in) = w.dim();
    let rank = case.param_usize("r")?;
    if a.dim() != (rank, d_in) || b.dim() != (d_out, rank) {
        return Err(case.unknown_param("r", "the rank of lora_A and lora_B"));
    }
    let alpha = case.param_f64("lora_alpha")?;
    let scaling = if case.param_bool("use_rslora")? {
        alpha / (rank as f64).sqrt()
    } else {
        alpha / rank as f64
    };
    if (scaling - case.param_f64("scaling")?).abs() > 1e-9 * scaling.abs() {
        return Err(case.unknown_param("scaling", "lora_alpha over the rank or its root"));
    }
    let mut weights = four_bit::quantize(&w, &config).map_err(VectorError::op)?;
    if case.param_bool("compress_statistics")? {
        // The library's CPU code makes these scales.
        weights =
            double::compress(weights, EightBitSearch::BitsandbytesCpu).map_err(VectorError::op)?;
    }
    let back = four_bit::dequantize::<f32>(&weights).map_err(VectorError::op)?;
    if back.mapv(f64::from) != case.output_f64("dequantised")? {
        return Err(VectorError::op("dequantised differs"));
    }
    let (y, [dx, da, db]) = if tier == Tier::Reference {
        let list = |x: &Array2<f32>| -> Vec<f64> { x.iter().map(|&x| x.into()).collect() };
        let w: Vec<f64> = back.iter().map(|&x| x.into()).collect();
        let (x_list, a, b) = (list(&x), &list(&a), &list(&b));
        let update = reference::matmul::LowRank { a, b, scaling };
        let merged = update.merged(&w, d_in, d_out);
        let y = reference::matmul::forward(&x_list, &merged, d_in, d_out);
        let gradients = update.backward(&list(&dout), &x_list, &w, d_in, d_out);
        let array = |columns, list: Vec<f64>| {
            let list: Vec<f32> = list.into_iter().map(|x| x as f32).collect();
            Array2::from_shape_vec([list.len() / columns, columns], list).map_err(VectorError::op)
        };
        let [dx, da, db] = gradients;
        let gradients = [array(d_in, dx)?, array(d_in, da)?, array(rank, db)?];
        (array(d_out, y)?, gradients)
    } else {
        let update = LowRank::new(&a, &b, scaling as f32).map_err(VectorError::op)?;
        let y = low_rank::forward(&x, &weights, &update).map_err(VectorError::op)?;
        let gradients =
            low_rank::backward(&dout, &x, &weights, &update).map_err(VectorError::op)?;
        (y, [gradients.x, gradients.a, gradients.b])
    };
    case.expect("y", &y)?;
    case.expect("dx", &dx)?;
    case.expect("dlora_A", &da)?;
    case.expect("dlora_B", &db)
}
