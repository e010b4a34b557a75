//! Integers with a scale and a zero point.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_quant::integer::{self, IntegerBits, IntegerConfig, IntegerScheme, Integers};
use llm_quant::reference;
use ndarray::{ArrayD, arr1};

pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let bits = match case.param_usize("bits")? {
        4 => IntegerBits::Four,
        8 => IntegerBits::Eight,
        _ => return Err(case.unknown_param("bits", "4 or 8")),
    };
    let scheme = match case.param_str("scheme")? {
        "symmetric" => IntegerScheme::Symmetric,
        "affine" => IntegerScheme::Affine,
        _ => return Err(case.unknown_param("scheme", "symmetric or affine")),
    };
    let config = IntegerConfig::new(bits, scheme, case.param_usize("block")?);
    let x = case.input_f32_dyn("x")?;
    let is_affine = scheme == IntegerScheme::Affine;
    let (integers, back) = if tier == Tier::Cpu {
        let integers = integer::quantize(&x, &config).map_err(VectorError::op)?;
        let back = integer::dequantize::<f32>(&integers).map_err(VectorError::op)?;
        (integers, back)
    } else {
        let list: Vec<f32> = x.iter().copied().collect();
        let blocks = reference::integer::quantize(&list, &config);
        let codes: Vec<u8> = blocks.iter().flat_map(|block| block.0.clone()).collect();
        let packed = match bits {
            IntegerBits::Four => reference::blocks::pack(&codes, 0),
            _ => codes,
        };
        let scales = blocks.iter().map(|block| block.1).collect();
        let zeros = blocks
            .iter()
            .filter(|_| is_affine)
            .map(|block| block.2)
            .collect();
        let integers = Integers::from_parts(config, x.shape(), packed, scales, zeros);
        let back = reference::integer::dequantize(&blocks);
        let back = back.iter().map(|&x| x as f32).collect();
        let back = ArrayD::from_shape_vec(x.shape(), back).map_err(VectorError::op)?;
        (integers.map_err(VectorError::op)?, back)
    };
    let codes = match bits {
        IntegerBits::Four => reference::blocks::unpack(integers.packed(), x.len()),
        _ => integers.packed().to_vec(),
    };
    let codes = ArrayD::from_shape_vec(x.shape(), codes).map_err(VectorError::op)?;
    case.expect_int("codes", &codes)?;
    case.expect("scale", &arr1(integers.scales()))?;
    if is_affine {
        case.expect_int("zero_point", &arr1(integers.zero_points()))?;
    }
    case.expect("dequantised", &back)
}
