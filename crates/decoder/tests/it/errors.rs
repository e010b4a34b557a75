//! One test for each error variant.

use std::fs;

use llm_decoder::checkpoint::{self, WeightType};
use llm_decoder::{Decoder, DecoderConfig, DecoderError, Family, Params, Session, TokenBatch};
use ndarray::Array2;
use safetensors::tensor::{Dtype, TensorView};

use super::small;

fn bytes() -> (DecoderConfig, Vec<u8>) {
    let model = small(1);
    let bytes = checkpoint::to_bytes(&model, WeightType::F32).unwrap();
    (model.config().clone(), bytes)
}

/// The weight file with one tensor replaced, left out (`None`) or added.
fn edited(name: &str, tensor: Option<(Dtype, Vec<usize>, Vec<u8>)>) -> (DecoderConfig, Vec<u8>) {
    let (config, bytes) = bytes();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut views: Vec<(String, TensorView<'_>)> = file
        .iter()
        .map(|(name, view)| (name.to_owned(), view))
        .filter(|(other, _)| other != name)
        .collect();
    if let Some((dtype, shape, data)) = &tensor {
        let view = TensorView::new(*dtype, shape.clone(), data).unwrap();
        views.push((name.to_owned(), view));
    }
    let edited = safetensors::serialize(views, None).unwrap();
    (config, edited)
}

fn load(config: DecoderConfig, bytes: &[u8]) -> DecoderError {
    checkpoint::from_bytes::<f32>(config, &[bytes]).unwrap_err()
}

#[test]
fn sizes_that_do_not_fit_are_named() {
    let good = small(1).config().clone();
    let bad = |field, change: &dyn Fn(&mut DecoderConfig)| {
        let mut config = good.clone();
        change(&mut config);
        match config.check() {
            Err(DecoderError::Config { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{field}: {other:?}"),
        }
        assert!(Decoder::new(config, small(1).params().clone()).is_err());
    };
    bad("vocab", &|c| c.vocab = 0);
    bad("d_model", &|c| c.d_model = 0);
    bad("d_model", &|c| c.d_model = usize::MAX);
    bad("n_layers", &|c| c.n_layers = 0);
    bad("n_layers", &|c| c.n_layers = 5000);
    bad("n_heads", &|c| c.n_heads = 0);
    bad("n_kv_heads", &|c| c.n_kv_heads = 3);
    bad("n_kv_heads", &|c| c.n_kv_heads = 0);
    bad("head_dim", &|c| c.head_dim = 0);
    bad("d_ff", &|c| c.d_ff = 0);
    bad("context", &|c| c.context = 0);
    bad("rotary_dim", &|c| c.rotary_dim = 3);
    bad("rotary_dim", &|c| c.rotary_dim = 0);
    bad("rotary_dim", &|c| c.rotary_dim = 64);
    bad("output_bias", &|c| c.output_bias = true);
    bad("output_bias", &|c| {
        c.family = Family::Llama;
        c.qkv_bias = true;
    });
    bad("mlp_bias", &|c| c.mlp_bias = true);
    bad("rope_base", &|c| c.rope_base = 1.0);
    bad("rope_base", &|c| c.rope_base = f64::NAN);
    bad("norm_eps", &|c| c.norm_eps = -1.0);
    bad("norm_eps", &|c| c.norm_eps = f64::INFINITY);
}

#[test]
fn a_configuration_file_is_refused_with_the_key() {
    let text = small(1).config().to_json();
    assert_eq!(DecoderConfig::from_json(&text).unwrap(), *small(1).config());
    let change = |key: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[key] = value;
        DecoderConfig::from_json(&json.to_string()).unwrap_err()
    };
    let json_error = |error: DecoderError, word: &str| match error {
        DecoderError::ConfigJson(message) => assert!(message.contains(word), "{message}"),
        other => panic!("{other:?}"),
    };
    json_error(DecoderConfig::from_json("{").unwrap_err(), "EOF");
    json_error(DecoderConfig::from_json("[]").unwrap_err(), "object");
    json_error(change("hidden_size", "x".into()), "hidden_size");
    json_error(
        change("hidden_size", serde_json::Value::Null),
        "hidden_size",
    );
    json_error(change("hidden_size", (-3).into()), "hidden_size");
    json_error(change("attention_bias", 1.into()), "attention_bias");
    json_error(change("rope_parameters", 1.into()), "rope_parameters");
    let bad_factor = serde_json::json!({"partial_rotary_factor": 1.5});
    json_error(
        change("rope_parameters", bad_factor),
        "partial_rotary_factor",
    );
    for (key, value) in [("model_type", "gpt2".into()), ("hidden_act", "gelu".into())] {
        match change(key, value) {
            DecoderError::Unsupported { key: named, .. } => assert_eq!(named, key),
            other => panic!("{other:?}"),
        }
    }
    let yarn = serde_json::json!({"type": "yarn", "factor": 2.0});
    assert!(matches!(
        change("rope_scaling", yarn),
        DecoderError::Unsupported {
            key: "rope_type",
            ..
        }
    ));
}

#[test]
fn a_weight_file_is_refused_with_the_tensor() {
    let name = "model.norm.weight";
    let (config, bytes) = bytes();
    assert!(matches!(
        load(config.clone(), b"not a file"),
        DecoderError::WeightFile(_)
    ));
    assert!(matches!(
        load(config.clone(), &[]),
        DecoderError::WeightFile(_)
    ));
    let half = &bytes[..bytes.len() / 2];
    assert!(matches!(load(config, half), DecoderError::WeightFile(_)));

    let (config, bytes) = edited(name, None);
    assert!(matches!(load(config, &bytes), DecoderError::MissingTensor(n) if n == name));

    let (config, bytes) = edited("extra", Some((Dtype::F32, vec![1], vec![0; 4])));
    assert!(matches!(load(config, &bytes), DecoderError::UnexpectedTensor(n) if n == "extra"));

    let (config, bytes) = edited(name, Some((Dtype::F32, vec![15], vec![0; 60])));
    assert!(matches!(
        load(config, &bytes),
        DecoderError::TensorShape { name: n, expected, got }
            if n == name && expected == [16] && got == [15]
    ));

    let (config, bytes) = edited(name, Some((Dtype::I32, vec![16], vec![0; 64])));
    assert!(matches!(
        load(config, &bytes),
        DecoderError::TensorType { name: n, got } if n == name && got == "I32"
    ));

    let mut values = vec![0; 64];
    values[12..16].copy_from_slice(&f32::NAN.to_le_bytes());
    let (config, bytes) = edited(name, Some((Dtype::F32, vec![16], values)));
    assert!(matches!(
        load(config, &bytes),
        DecoderError::NonFinite { name: n, index: 3, value } if n == name && value.is_nan()
    ));
}

/// A configuration that lies about its sizes must not make us ask for the memory.
#[test]
fn huge_sizes_cost_nothing() {
    let (mut config, bytes) = bytes();
    config.d_ff = 1 << 20;
    config.vocab = 1 << 20;
    config.n_layers = 4096;
    let error = load(config, &bytes);
    assert!(matches!(error, DecoderError::TensorShape { .. }), "{error}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = checkpoint::load::<f32>(folder.path()).unwrap_err();
    assert!(matches!(&error, DecoderError::Io { path, .. } if path.ends_with("config.json")));

    checkpoint::save(&small(1), folder.path(), WeightType::F32).unwrap();
    assert_eq!(checkpoint::load::<f32>(folder.path()).unwrap(), small(1));

    // A folder in the place of the file.
    let blocked = folder.path().join("blocked");
    fs::create_dir_all(blocked.join("model.safetensors/x")).unwrap();
    let error = checkpoint::save(&small(1), &blocked, WeightType::F32).unwrap_err();
    assert!(matches!(error, DecoderError::Io { .. }));
}

/// A write that fails leaves the old file, and nothing half written beside it.
#[test]
fn a_write_that_fails_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let names = || {
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let file = |name: &str| folder.path().join(name);
    fs::write(file("a.tmp"), "somebody's").unwrap();
    fs::write(file("a.svg.tmp"), "somebody's").unwrap();
    checkpoint::write_whole(&file("a.svg"), b"new").unwrap();
    checkpoint::write_whole(&file("a.png"), b"other").unwrap();
    // Files that are not ours have names of temporary ones.
    for name in ["a.tmp", "a.svg.tmp"] {
        assert_eq!(fs::read_to_string(file(name)).unwrap(), "somebody's");
    }
    assert_eq!(names(), ["a.png", "a.svg", "a.svg.tmp", "a.tmp"]);
    // A folder in its place cannot be replaced by a file.
    fs::create_dir(file("b")).unwrap();
    let error = checkpoint::write_whole(&file("b"), b"new").unwrap_err();
    assert!(matches!(error, DecoderError::Io { .. }), "{error}");
    assert_eq!(names(), ["a.png", "a.svg", "a.svg.tmp", "a.tmp", "b"]);
}

#[test]
fn shards_are_read_and_may_not_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (config, bytes) = bytes();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut map = serde_json::Map::new();
    for part in 0..2 {
        let name = format!("model-{part}.safetensors");
        let views: Vec<_> = file
            .iter()
            .enumerate()
            .filter(|(i, _)| i % 2 == part)
            .map(|(_, entry)| entry)
            .collect();
        map.extend(
            views
                .iter()
                .map(|(tensor, _)| ((*tensor).to_owned(), name.clone().into())),
        );
        let shard = safetensors::serialize(views, None).unwrap();
        fs::write(folder.path().join(name), shard).unwrap();
    }
    fs::write(folder.path().join("config.json"), config.to_json()).unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, serde_json::json!({"weight_map": map}).to_string()).unwrap();
    assert_eq!(checkpoint::load::<f32>(folder.path()).unwrap(), small(1));

    for hostile in [
        "../secret.safetensors",
        "/etc/passwd",
        "x/y.safetensors",
        "a.bin",
        "",
    ] {
        fs::write(
            &index,
            serde_json::json!({"weight_map": {"a": hostile}}).to_string(),
        )
        .unwrap();
        let error = checkpoint::load::<f32>(folder.path()).unwrap_err();
        assert!(
            matches!(error, DecoderError::WeightFile(_)),
            "{hostile}: {error}"
        );
    }
    fs::write(&index, "[]").unwrap();
    let error = checkpoint::load::<f32>(folder.path()).unwrap_err();
    assert!(matches!(error, DecoderError::WeightFile(_)));
}

/// What a weight file cannot say is refused when it is written, not when it is read.
#[test]
fn weights_that_overflow_their_type_are_refused() {
    let mut model = small(1);
    model.params_mut().embedding[[2, 3]] = -70_000.0;
    let error = checkpoint::to_bytes(&model, WeightType::F16).unwrap_err();
    assert!(matches!(
        &error,
        DecoderError::NonFinite { name, index: 35, value }
            if name == "model.embed_tokens.weight" && *value == f32::NEG_INFINITY
    ));
    checkpoint::to_bytes(&model, WeightType::Bf16).unwrap();
    model.params_mut().embedding[[2, 3]] = f32::NAN;
    let error = checkpoint::to_bytes(&model, WeightType::F32).unwrap_err();
    assert!(matches!(error, DecoderError::NonFinite { .. }));
}

#[test]
fn tokens_outside_the_vocabulary_are_refused() {
    let model = small(1);
    let error = model
        .forward(&TokenBatch::new(&[&[1, 2], &[23]]).unwrap())
        .unwrap_err();
    assert!(matches!(
        error,
        DecoderError::TokenId {
            position: 2,
            id: 23,
            vocab: 23
        }
    ));
    let mut session = Session::new(&model, 8).unwrap();
    let error = session.extend(&[1, u32::MAX]).unwrap_err();
    assert!(matches!(error, DecoderError::TokenId { position: 1, .. }));
    assert!(session.is_empty());
}

#[test]
fn empty_input_is_refused() {
    assert!(matches!(
        TokenBatch::new(&[]),
        Err(DecoderError::EmptyInput)
    ));
    assert!(matches!(
        TokenBatch::new(&[&[1], &[]]),
        Err(DecoderError::EmptyInput)
    ));
    let model = small(1);
    let mut session = Session::new(&model, 8).unwrap();
    assert!(matches!(session.extend(&[]), Err(DecoderError::EmptyInput)));
}

#[test]
fn a_full_context_is_refused_and_nothing_is_lost() {
    let model = small(1);
    let long = vec![1; 49];
    let error = model
        .forward(&TokenBatch::new(&[&long]).unwrap())
        .unwrap_err();
    assert!(matches!(
        error,
        DecoderError::ContextFull {
            capacity: 48,
            held: 0,
            new: 49
        }
    ));
    assert!(matches!(
        Session::new(&model, 49),
        Err(DecoderError::ContextFull { capacity: 48, .. })
    ));

    let mut session = Session::new(&model, 5).unwrap();
    session.extend(&[1, 2, 3]).unwrap();
    let error = session.extend(&[4, 5, 6]).unwrap_err();
    assert!(matches!(
        error,
        DecoderError::ContextFull {
            capacity: 5,
            held: 3,
            new: 3
        }
    ));
    assert_eq!(session.len(), 3);
    let after = session.extend(&[4, 5]).unwrap();
    let mut other = Session::new(&model, 5).unwrap();
    let want = other.extend(&[1, 2, 3, 4, 5]).unwrap();
    assert!(after.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-4));

    assert!(matches!(session.crop(6), Err(DecoderError::Cache(_))));
    assert_eq!(session.len(), 5);
}

#[test]
fn gradients_of_another_shape_are_refused() {
    let model = small(1);
    let batch = TokenBatch::new(&[&[1, 2]]).unwrap();
    let (_, activations) = model.forward_saved(&batch).unwrap();
    let mut grads = Params::zeros(model.config());
    let error = model
        .backward(&activations, &Array2::zeros((3, 23)), &mut grads)
        .unwrap_err();
    assert!(matches!(
        error,
        DecoderError::Shape {
            what: "dlogits",
            ..
        }
    ));
    grads.layers.pop();
    let error = model
        .backward(&activations, &Array2::zeros((2, 23)), &mut grads)
        .unwrap_err();
    assert!(matches!(error, DecoderError::Shape { .. }), "{error}");

    // Another head and another norm: refused before anything is added.
    let mut other = model.config().clone();
    other.tied_head = true;
    let mut narrow = model.config().clone();
    narrow.d_model = 15;
    for config in [other, narrow] {
        let mut grads = Params::zeros(&config);
        let error = model
            .backward(&activations, &Array2::ones((2, 23)), &mut grads)
            .unwrap_err();
        assert!(
            matches!(
                error,
                DecoderError::Shape { .. } | DecoderError::TensorShape { .. }
            ),
            "{error}"
        );
        assert!(grads == Params::zeros(&config));
    }
}

#[test]
fn weights_of_another_configuration_are_refused() {
    let model = small(1);
    let mut config = model.config().clone();
    config.d_ff += 1;
    let error = Decoder::new(config, model.params().clone()).unwrap_err();
    assert!(matches!(error, DecoderError::TensorShape { .. }));
    let mut config = model.config().clone();
    config.tied_head = true;
    let error = Decoder::new(config, model.params().clone()).unwrap_err();
    assert!(matches!(error, DecoderError::Shape { .. }));
}
