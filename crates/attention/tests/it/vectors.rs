//! The vector files, on the reference and on the CPU.

use llm_attention::{AttentionConfig, CausalAlignment, Mask, flash, reference};
use llm_numerics::testing::vectors::{Case, Tier, VectorError, VectorRun, run_crate};
use ndarray::Ix4;

#[test]
fn vectors_agree() {
    let files = VectorRun::new(
        "attention",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"),
    );
    run_crate(&files, |case, tier| match case.op() {
        "attention.sdpa" => sdpa(case, tier),
        _ => Err(case.unknown_op()),
    });
}

fn sdpa(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let mask = match case.param_opt_str("causal")? {
        None => Mask::Full,
        Some("top_left") => Mask::Causal(CausalAlignment::TopLeft),
        Some("bottom_right") => Mask::Causal(CausalAlignment::BottomRight),
        Some(_) => {
            let expected = "null, \"top_left\" or \"bottom_right\"";
            return Err(case.unknown_param("causal", expected));
        }
    };
    for name in ["window_left", "window_right"] {
        if case.param_opt_f64(name)?.is_some() {
            return Err(case.unknown_param(name, "null: no windows in this version"));
        }
    }
    let mut config = AttentionConfig::new(mask);
    if let Some(scale) = case.param_opt_f64("scale")? {
        config = config.with_scale(scale);
    }
    let (heads, kv_heads) = (case.param_usize("heads")?, case.param_usize("kv_heads")?);
    assert_eq!(case.input_shape("q").map(|shape| shape[1]), Some(heads));
    assert_eq!(case.input_shape("k").map(|shape| shape[1]), Some(kv_heads));
    let has_gradients = case.has_input("dout");
    match tier {
        Tier::Reference => {
            let q = case.input_f64::<Ix4>("q")?;
            let k = case.input_f64::<Ix4>("k")?;
            let v = case.input_f64::<Ix4>("v")?;
            let (out, lse) =
                reference::attention::forward(&q, &k, &v, &config).map_err(VectorError::op)?;
            case.expect("out", &out)?;
            case.expect_if_present("lse", &lse)?;
            if has_gradients {
                let dout = case.input_f64::<Ix4>("dout")?;
                let got = reference::attention::backward(&dout, &q, &k, &v, &config)
                    .map_err(VectorError::op)?;
                case.expect("dq", &got.dq)?;
                case.expect("dk", &got.dk)?;
                case.expect("dv", &got.dv)?;
            }
        }
        Tier::Cpu => {
            let q = case.input_f32::<Ix4>("q")?;
            let k = case.input_f32::<Ix4>("k")?;
            let v = case.input_f32::<Ix4>("v")?;
            // The default tiles, and tiles that cut these small cases too.
            for config in [config, config.with_tile(4, 8), config.with_tile(3, 2)] {
                let (out, lse) =
                    flash::forward_with_lse(&q, &k, &v, &config).map_err(VectorError::op)?;
                case.expect("out", &out)?;
                case.expect_if_present("lse", &lse)?;
                if has_gradients {
                    let dout = case.input_f32::<Ix4>("dout")?;
                    let got = flash::backward(&dout, &q, &k, &v, &out, &lse, &config)
                        .map_err(VectorError::op)?;
                    case.expect("dq", &got.dq)?;
                    case.expect("dk", &got.dk)?;
                    case.expect("dv", &got.dv)?;
                }
            }
        }
        Tier::Gpu => return Err(case.unsupported("no kernel yet")),
    }
    Ok(())
}
