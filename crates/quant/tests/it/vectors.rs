//! Runs the files of `tests/data` and of `LLM_VECTORS`; what it does not know fails.

use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use llm_numerics::testing::vectors::{Case, Tier, VectorError, VectorRun, run_crate};
use llm_quant::double::{self, NestedScales};
use llm_quant::dynamic_map::{DynamicMapConfig, MapSign};
use llm_quant::eight_bit::{self, EightBit, EightBitConfig, EightBitSearch};
use llm_quant::four_bit::{self, FourBit, FourBitCode, FourBitConfig, Scales};
use llm_quant::{dynamic_map, reference};
use ndarray::{Array1, Array2, ArrayD, Ix1, arr1};

mod int8;
mod integer;
mod lora;
#[cfg(feature = "files")]
mod state_dict;

#[test]
fn vectors() {
    let files = VectorRun::new("quant", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))
        .with_tiers(&[Tier::Reference, Tier::Cpu]);
    // Without the feature nobody here knows states.
    let files = if cfg!(feature = "files") {
        files
    } else {
        files.with_elsewhere(&["quant.linear4bit.state_dict"])
    };
    run_crate(&files, |case, tier| match (case.op(), tier) {
        (_, Tier::Gpu) => Err(case.unsupported("no kernel")),
        ("quant.code", Tier::Reference) => Err(case.unsupported("a list of roundings")),
        ("quant.blockwise8_cpu_table", Tier::Reference) => Err(case.unsupported("an accident")),
        ("quant.code", _) => code(case),
        ("quant.quantize_4bit" | "quant.quantize_4bit_nested", _) => {
            match case.param_str("dtype")? {
                "float32" => four::<f32>(case, tier, case.input_f32_dyn("x")?),
                "float16" => four::<f16>(case, tier, case.input_f16_dyn("x")?),
                "bfloat16" => four::<bf16>(case, tier, case.input_bf16_dyn("x")?),
                _ => Err(case.unknown_param("dtype", "float32, float16 or bfloat16")),
            }
        }
        ("quant.blockwise8", _) => eight(case, tier),
        ("quant.int8_vectorwise", _) => int8::rows(case, tier),
        ("quant.int8_matmul", _) => int8::product(case, tier),
        ("quant.integer", _) => integer::run(case, tier),
        ("quant.int8_linear", _) => int8::layer(case, tier),
        ("quant.linear4bit.lora", _) => lora::run(case, tier),
        #[cfg(feature = "files")]
        ("quant.linear4bit.state_dict", _) => state_dict::run(case, tier),
        ("quant.blockwise8_cpu_table", _) => eight_by_table(case),
        _ => Err(case.unknown_op()),
    });
}

fn code(case: &Case) -> Result<(), VectorError> {
    let bits = |name| Ok::<_, VectorError>(case.param_usize(name)? as u32);
    let sign = match case.param_bool("signed")? {
        true => MapSign::Signed,
        false => MapSign::Unsigned,
    };
    let config = DynamicMapConfig::new(sign)
        .with_max_exponent_bits(bits("max_exponent_bits")?)
        .with_total_bits(bits("total_bits")?);
    let code = dynamic_map::code(&config).map_err(VectorError::op)?;
    case.expect("code", &Array1::from(code))
}

fn config(case: &Case) -> Result<FourBitConfig, VectorError> {
    let code = match case.param_str("quant_type")? {
        "nf4" => FourBitCode::Nf4,
        "fp4" => FourBitCode::Fp4,
        _ => return Err(case.unknown_param("quant_type", "nf4 or fp4")),
    };
    Ok(FourBitConfig::new(code, case.param_usize("blocksize")?))
}

fn four<S: Storage>(case: &Case, tier: Tier, x: ArrayD<S>) -> Result<(), VectorError> {
    let config = config(case)?;
    let is_nested = case.op() == "quant.quantize_4bit_nested";
    if case.param_usize_list("shape")? != x.shape() {
        return Err(case.unknown_param("shape", "the shape of x"));
    }
    if is_nested && case.param_usize("nested_blocksize")? != double::NESTED_BLOCK {
        return Err(case.unknown_param("nested_blocksize", "256"));
    }
    if !is_nested && case.param_bool("compress_statistics")? {
        return Err(case.unknown_param("compress_statistics", "false"));
    }
    let weights = match tier {
        Tier::Reference => by_reference(&x, &config, is_nested)?,
        _ => {
            let plain = four_bit::quantize(&x, &config).map_err(VectorError::op)?;
            if is_nested {
                double::compress(plain, EightBitSearch::Nearest).map_err(VectorError::op)?
            } else {
                plain
            }
        }
    };
    let column = |bytes: &[u8]| Array2::from_shape_fn([bytes.len(), 1], |(i, _)| bytes[i]);
    case.expect_int("packed", &column(weights.packed()))?;
    match weights.scales() {
        Scales::Plain(scales) => {
            case.expect("absmax", &arr1(scales))?;
            case.expect("code", &arr1(&config.code.values()))?;
        }
        Scales::Nested(nested) => {
            case.expect_int("absmax_u8", &arr1(nested.codes()))?;
            case.expect("nested_absmax", &arr1(nested.absmax()))?;
            case.expect("offset", &arr1(&[nested.offset()]))?;
            case.expect("nested_code", &arr1(&dynamic_map::signed8()))?;
            let scales = double::dequantize(nested).map_err(VectorError::op)?;
            case.expect("absmax_unnested", &arr1(&scales))?;
        }
        _ => return Err(VectorError::op("scales of an unknown form")),
    }
    if case.has_output("serialised_json") {
        #[cfg(feature = "files")]
        state_dict::check_json(case, &weights)?;
        #[cfg(not(feature = "files"))]
        case.output_i64("serialised_json")?; // compared where files are known
    }
    let back = match tier {
        Tier::Reference => {
            let codes = reference::blocks::unpack(weights.packed(), x.len());
            let scales = match weights.scales() {
                Scales::Nested(nested) => reference::double::dequantize(
                    nested.codes(),
                    nested.absmax(),
                    nested.offset(),
                    &dynamic_map::signed8(),
                ),
                Scales::Plain(scales) => scales.clone(),
                _ => return Err(VectorError::op("scales of an unknown form")),
            };
            let values = config.code.values();
            let numbers = reference::blocks::dequantize(&codes, &scales, &values, config.block);
            // The contract rounds to f32, then to the storage type.
            let numbers = numbers.iter().map(|&x| S::from_f32(x as f32)).collect();
            ArrayD::from_shape_vec(x.shape(), numbers).map_err(VectorError::op)?
        }
        _ => four_bit::dequantize::<S>(&weights).map_err(VectorError::op)?,
    };
    case.expect("dequantised", &back.mapv(Storage::to_f32))
}

fn by_reference<S: Storage>(
    x: &ArrayD<S>,
    config: &FourBitConfig,
    is_nested: bool,
) -> Result<FourBit, VectorError> {
    let wide: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
    let values = config.code.values();
    let (codes, scales) = reference::blocks::quantize(&wide, &values, config.block);
    let padding = match config.code {
        FourBitCode::Nf4 => 7,
        _ => 0,
    };
    let scales = if is_nested {
        // The library's own sum decides the last bit of the offset; the rest is the textbook's.
        let offset = double::quantize(&scales, EightBitSearch::Nearest)
            .map_err(VectorError::op)?
            .offset();
        let map = dynamic_map::signed8();
        let (codes, absmax) = reference::double::quantize_with_offset(&scales, offset, &map);
        Scales::Nested(NestedScales::from_parts(codes, absmax, offset).map_err(VectorError::op)?)
    } else {
        Scales::Plain(scales)
    };
    let packed = reference::blocks::pack(&codes, padding);
    FourBit::from_parts(config.code, config.block, x.shape(), packed, scales)
        .map_err(VectorError::op)
}

fn eight(case: &Case, tier: Tier) -> Result<(), VectorError> {
    case.note("rule");
    if case.param_str("code")? != "dynamic_signed" {
        return Err(case.unknown_param("code", "dynamic_signed"));
    }
    let block = case.param_usize("blocksize")?;
    let x = case.input_f32::<Ix1>("x")?;
    let quantized = match tier {
        Tier::Reference => {
            let map = dynamic_map::signed8();
            let (codes, scales) = reference::blocks::quantize(&x.to_vec(), &map, block);
            EightBit::from_parts(block, x.shape(), codes, scales)
        }
        _ => eight_bit::quantize(&x, &EightBitConfig::new(EightBitSearch::Nearest, block)),
    }
    .map_err(VectorError::op)?;
    case.expect_int("q", &arr1(quantized.codes()))?;
    case.expect("absmax", &arr1(quantized.scales()))?;
    let back = match tier {
        Tier::Reference => {
            let map = dynamic_map::signed8();
            let (codes, scales) = (quantized.codes(), quantized.scales());
            let numbers = reference::blocks::dequantize(codes, scales, &map, block);
            numbers
                .iter()
                .map(|&x| x as f32)
                .collect::<Array1<f32>>()
                .into_dyn()
        }
        _ => eight_bit::dequantize::<f32>(&quantized).map_err(VectorError::op)?,
    };
    case.expect("dequantised", &back)
}

fn eight_by_table(case: &Case) -> Result<(), VectorError> {
    let block = case.param_usize("blocksize")?;
    let x = case.input_f32::<Ix1>("x")?;
    for (search, name) in [
        (EightBitSearch::BitsandbytesCpu, "q_cpu"),
        (EightBitSearch::Nearest, "q_exact"),
    ] {
        let quantized = eight_bit::quantize(&x, &EightBitConfig::new(search, block))
            .map_err(VectorError::op)?;
        case.expect_int(name, &arr1(quantized.codes()))?;
        if search == EightBitSearch::BitsandbytesCpu {
            case.expect("absmax", &arr1(quantized.scales()))?;
        }
    }
    Ok(())
}
