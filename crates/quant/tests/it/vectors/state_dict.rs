//! States of layers as bitsandbytes saves them, and the products with them.

use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_quant::double;
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::files::four_bit_state::{self, FourBitTensor};
use llm_quant::files::{Dtype, PackedType, Tensor, WeightType};
use llm_quant::four_bit::{self, FourBit};
use llm_quant::{matmul, reference};
use ndarray::{Array2, Array3, ArrayD, Ix1, Ix2, Ix3, arr1};

pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    match case.param_str("dtype")? {
        "float32" => layer::<f32>(case, tier, WeightType::F32),
        "float16" => layer::<f16>(case, tier, WeightType::F16),
        "bfloat16" => layer::<bf16>(case, tier, WeightType::Bf16),
        _ => Err(case.unknown_param("dtype", "float32, float16 or bfloat16")),
    }
}

fn layer<S: Storage>(case: &Case, tier: Tier, dtype: WeightType) -> Result<(), VectorError> {
    let config = super::config(case)?;
    let shape = [
        case.param_usize("out_features")?,
        case.param_usize("in_features")?,
    ];
    let w = case.input_f32::<Ix2>("weight")?;
    if w.dim() != (shape[0], shape[1]) {
        return Err(case.unknown_param("out_features", "the shape of the weight"));
    }
    let stored_as = PackedType::from_name(case.param_str("quant_storage")?)
        .ok_or_else(|| case.unknown_param("quant_storage", "a type of bitsandbytes"))?;
    let x = w.mapv(S::from_f32).into_dyn();
    let plain = match tier {
        Tier::Reference => super::by_reference(&x, &config, false)?,
        _ => four_bit::quantize(&x, &config).map_err(VectorError::op)?,
    };
    let weights = if case.param_bool("compress_statistics")? {
        // A file of either device: the compiled code of the CPU has another search than all others.
        let [nearest, by_table] = [EightBitSearch::Nearest, EightBitSearch::BitsandbytesCpu]
            .map(|search| double::compress(plain.clone(), search).map_err(VectorError::op));
        let nearest = nearest?;
        let tensor = FourBitTensor::new(nearest.clone(), dtype).with_stored_as(stored_as);
        if check_state(case, &tensor).is_ok() {
            nearest
        } else {
            by_table?
        }
    } else {
        plain
    };
    let tensor = FourBitTensor::new(weights, dtype).with_stored_as(stored_as);
    check_state(case, &tensor)?;
    products::<S>(case, tier, &tensor.weights)
}

/// The JSON of a state, as it would be in a file.
pub(super) fn check_json(case: &Case, weights: &FourBit) -> Result<(), VectorError> {
    let name = case.param_str("dtype")?;
    let dtype = WeightType::from_name(name)
        .ok_or_else(|| case.unknown_param("dtype", "float32, float16 or bfloat16"))?;
    let tensor = FourBitTensor::new(weights.clone(), dtype);
    let tensors = four_bit_state::tensors("w", &tensor).map_err(VectorError::op)?;
    let state = { tensors.iter() }.find(|tensor| tensor.name.contains("quant_state"));
    let json = state.ok_or_else(|| VectorError::op("there is no state"))?;
    case.expect_int("serialised_json", &arr1(&json.bytes))
}

/// Each tensor of the state has equal bits, whatever the tolerance of the file.
fn check_state(case: &Case, tensor: &FourBitTensor) -> Result<(), VectorError> {
    let tensors = four_bit_state::tensors("weight", tensor).map_err(VectorError::op)?;
    let n_state = { case.output_names() }
        .filter(|name| name.starts_with("state.weight"))
        .count();
    if n_state != tensors.len() {
        return Err(VectorError::op("the state has other tensors"));
    }
    for tensor in tensors {
        let name = format!("state.{}", tensor.name);
        let (want, want_shape) = numbers(case, &name, tensor.dtype)?;
        let got = decode(&tensor);
        // Packed bytes that are declared as floating point may be NaN.
        let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        let is_equal = got.len() == want.len() && got.iter().zip(&want).all(same);
        if !is_equal || tensor.shape != want_shape {
            return Err(VectorError::op(format!("{name} differs")));
        }
    }
    if case.has_output("state.bias") {
        let bias = case.input_f32::<Ix1>("bias")?;
        case.expect("state.bias", &bias)?;
    }
    Ok(())
}

fn numbers(case: &Case, name: &str, dtype: Dtype) -> Result<(Vec<f64>, Vec<usize>), VectorError> {
    let array = match dtype {
        Dtype::U8 | Dtype::I8 => case.output_i64(name)?.mapv(|x| x as f64),
        _ => case.output_f64(name)?,
    };
    Ok((array.iter().copied().collect(), array.shape().to_vec()))
}

fn decode(tensor: &Tensor) -> Vec<f64> {
    let bytes = &tensor.bytes[..];
    let chunks = |size| bytes.chunks_exact(size);
    match tensor.dtype {
        Dtype::U8 => bytes.iter().map(|&x| f64::from(x)).collect(),
        Dtype::I8 => bytes.iter().map(|&x| f64::from(x.cast_signed())).collect(),
        Dtype::F16 => chunks(2)
            .map(|x| f16::from_le_bytes([x[0], x[1]]).to_f64())
            .collect(),
        Dtype::BF16 => chunks(2)
            .map(|x| bf16::from_le_bytes([x[0], x[1]]).to_f64())
            .collect(),
        Dtype::F32 => chunks(4)
            .map(|x| f32::from_le_bytes(x.try_into().unwrap()).into())
            .collect(),
        _ => chunks(8)
            .map(|x| f64::from_le_bytes(x.try_into().unwrap()))
            .collect(),
    }
}

/// What comes back, and the products with it.
fn products<S: Storage>(case: &Case, tier: Tier, weights: &FourBit) -> Result<(), VectorError> {
    let back: ArrayD<S> = four_bit::dequantize(weights).map_err(VectorError::op)?;
    let back = back.mapv(Storage::to_f32);
    let want = case.output_f64("dequantised")?;
    let wide = back.mapv(f64::from);
    if wide != want {
        return Err(VectorError::op("dequantised differs"));
    }
    let (x, dout) = (case.input_f32::<Ix3>("x")?, case.input_f32::<Ix3>("dout")?);
    let (batch, seq, d_in) = x.dim();
    let d_out = dout.dim().2;
    let flat = |x: Array3<f32>| -> Array2<f32> {
        let columns = x.dim().2;
        x.into_shape_with_order([batch * seq, columns]).unwrap()
    };
    let (x, dout) = (flat(x), flat(dout));
    // The library rounds weights to their type before it multiplies; our fast form does not, so it is taken where nothing is rounded.
    let is_fast = tier == Tier::Cpu && size_of::<S>() == 4;
    let (mut y, dx) = if is_fast {
        (
            matmul::forward(&x, weights).map_err(VectorError::op)?,
            matmul::backward(&dout, weights).map_err(VectorError::op)?,
        )
    } else {
        let list = |x: &Array2<f32>| -> Vec<f64> { x.iter().map(|&x| x.into()).collect() };
        let w: Vec<f64> = wide.iter().copied().collect();
        let y = reference::matmul::forward(&list(&x), &w, d_in, d_out);
        let dx = reference::matmul::backward(&list(&dout), &w, d_in, d_out);
        let array = |columns, list: Vec<f64>| {
            let list = list.into_iter().map(|x| x as f32).collect();
            Array2::from_shape_vec([batch * seq, columns], list).unwrap()
        };
        (array(d_out, y), array(d_in, dx))
    };
    if case.has_input("bias") {
        y += &case.input_f32::<Ix1>("bias")?;
    }
    let deep = |x: Array2<f32>, columns| x.into_shape_with_order([batch, seq, columns]).unwrap();
    let y = deep(y, d_out);
    case.expect("y", &y)?;
    case.expect("dx", &deep(dx, d_in))?;
    // The library computes in a type of its own choice: no more than that of a half type is asked for.
    let library = case.output_f64("y_library")?;
    let largest = library.iter().fold(0.0, |max: f64, y| max.max(y.abs()));
    let is_near = |(y, library): (&f32, &f64)| (f64::from(*y) - library).abs() <= largest / 64.0;
    if y.iter().zip(&library).all(is_near) {
        Ok(())
    } else {
        Err(VectorError::op("y_library is far from y"))
    }
}
