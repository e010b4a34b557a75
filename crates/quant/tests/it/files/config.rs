//! What a configuration may say, and which weights are chosen without one.

use llm_quant::files::quantize::{SkipModules, is_linear};
use llm_quant::files::{self, Dtype, FileError, LoadIn, QuantizationConfig};

#[test]
fn configurations_that_cannot_be_are_refused() {
    let read = |section: &str| {
        QuantizationConfig::read(&format!("{{\"quantization_config\": {section}}}"))
    };
    let four = QuantizationConfig::new(LoadIn::FourBit);
    assert_eq!(
        read(r#"{"load_in_4bit": true, "load_in_8bit": null, "other": [1]}"#),
        Ok(Some(four))
    );
    assert_eq!(read("null"), Ok(None));
    for (section, name, got) in [
        ("[]", "quantization_config", "[]"),
        (r#"{"quant_method": "gptq"}"#, "quant_method", "\"gptq\""),
        (r#"{"quant_method": 1}"#, "quant_method", "1"),
        ("{}", "load_in_4bit", "null"),
        (
            r#"{"load_in_4bit": true, "load_in_8bit": true}"#,
            "load_in_4bit",
            "true",
        ),
        (r#"{"load_in_4bit": 1}"#, "load_in_4bit", "1"),
        (
            r#"{"load_in_8bit": true, "bnb_4bit_quant_type": "af4"}"#,
            "bnb_4bit_quant_type",
            "\"af4\"",
        ),
        (
            r#"{"load_in_8bit": true, "bnb_4bit_compute_dtype": "int8"}"#,
            "bnb_4bit_compute_dtype",
            "\"int8\"",
        ),
        (
            r#"{"load_in_8bit": true, "bnb_4bit_quant_storage": "bool"}"#,
            "bnb_4bit_quant_storage",
            "\"bool\"",
        ),
        (
            r#"{"load_in_8bit": true, "llm_int8_threshold": -1.0}"#,
            "llm_int8_threshold",
            "-1.0",
        ),
        (
            r#"{"load_in_8bit": true, "llm_int8_threshold": "6"}"#,
            "llm_int8_threshold",
            "\"6\"",
        ),
        (
            r#"{"load_in_8bit": true, "llm_int8_skip_modules": [1]}"#,
            "llm_int8_skip_modules",
            "[1]",
        ),
    ] {
        let error = read(section).unwrap_err();
        let FileError::ConfigField {
            field, got: found, ..
        } = error
        else {
            unreachable!("{section}: {error}")
        };
        assert_eq!((field, &found[..]), (name, got));
    }
    for text in [
        "",
        "[]",
        "{\"a\": 1, \"a\": 1}",
        "{\"a\": {\"b\": 1, \"b\": 2}}",
        "{\"a\": NaN}",
    ] {
        let error = QuantizationConfig::read(text).unwrap_err();
        assert!(
            matches!(error, FileError::ConfigJson { .. }),
            "{text}: {error}"
        );
    }
}

/// Routers, experts and tables of positions have matrices too, of which none is a linear layer in transformers.
#[test]
fn matrices_of_other_modules_are_not_chosen() {
    let info = files::TensorInfo {
        dtype: Dtype::BF16,
        shape: vec![4, 2],
        data_offsets: (0, 16),
    };
    let skip = |entries| SkipModules::new(entries).unwrap();
    for name in [
        "model.layers.0.block_sparse_moe.gate.weight",
        "model.layers.0.block_sparse_moe.experts.0.w1.weight",
        "model.layers.0.block_sparse_moe.experts.7.w2.weight",
        "model.layers.0.block_sparse_moe.experts.15.w3.weight",
        "model.layers.0.mlp.gate.weight",
        "model.layers.0.mlp.experts.127.gate_proj.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    ] {
        assert!(!is_linear(name, &info, &skip(None)), "{name}");
        assert!(!is_linear(name, &info, &skip(Some(&[]))), "{name}");
    }
    for name in [
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.shared_experts.up_proj.weight",
        "model.layers.0.block_sparse_moe.experts.down.weight",
        "encoder.block.0.layer.0.SelfAttention.q.weight",
    ] {
        assert!(is_linear(name, &info, &skip(None)), "{name}");
    }
}
