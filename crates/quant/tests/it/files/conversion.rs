//! What a conversion does beyond what transformers does: settings that are obeyed, names that are free, losses that are measured, single files.

use std::fs;

use llm_numerics::half::bf16;
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::files::quantize::{CheckpointConfig, Measure, Method, SkipModules};
use llm_quant::files::{
    self, Checkpoint, Dtype, FileError, PackedType, TensorSource, four_bit_state, int8_state,
};
use llm_quant::four_bit::{self, FourBitCode, FourBitConfig, NonFinite};
use llm_quant::{QuantError, vector_wise};

use super::checkpoint::{data, int8, nf4, run, single};
use super::tensor;

/// What `should_convert_module` of transformers 5.23.0 says to each entry and each name.
#[test]
fn entries_skip_what_they_skip_in_transformers() {
    let names = [
        "lm_head",
        "model.lm_head",
        "model.layers.1.mlp.gate_proj",
        "model.layers.11.mlp.gate_proj",
        "model.layers.1.mlp.gate",
        "model.layers.1.self_attn.q_proj",
        "vision.blocks.1.attn.qkv",
        "layers.1",
    ];
    for (entry, skipped) in [
        ("lm_head", "11000000"),
        ("head", "11000000"),
        ("model", "01111100"),
        ("model.layers.1", "00101100"),
        ("model.layers.1.", "00111100"),
        ("layers.1", "00000001"),
        ("layers", "00000001"),
        ("q_proj", "00000100"),
        ("mlp.gate", "00001000"),
        ("model.layers.1.mlp.gate", "00001000"),
        (r"model.layers.\d+.mlp", "00111000"),
        (r"model\.layers\.1", "00101100"),
        (".*mlp.*", "00111000"),
        ("vision.*", "00000010"),
        ("model.layers.1|vision", "00101110"),
        ("model.layers.[0-9]", "00101100"),
        ("model.layers.1.mlp.gate$", "00001000"),
        ("(?i:VISION)", "00000010"),
        (".*attn", "00000110"),
        ("model.layers.1.mlp.ga", "00000000"),
        (r"model.layers.1\b", "00101100"),
        (".*gate_?", "00001000"),
        ("model.*?", "01111100"),
        ("", "11111111"),
        ("^vision", "00000010"),
        ("vision$", "00000000"),
        ("m.del", "01111100"),
    ] {
        let skip = SkipModules::new(Some(&[entry.to_owned()])).unwrap();
        let found = names.map(|name| if skip.contains(name) { '1' } else { '0' });
        assert_eq!(found.iter().collect::<String>(), skipped, "{entry}");
    }
    for entry in ["a(", "[", "(?<=a)b", r"(a)\1"] {
        let error = SkipModules::new(Some(&[entry.to_owned()])).unwrap_err();
        assert!(
            matches!(&error, FileError::SkipPattern { entry: named, .. } if named == entry),
            "{error}"
        );
    }
}

/// The list is in `config.json`: whoever loads the checkpoint takes it for what was skipped.
#[test]
fn the_list_of_modules_is_obeyed_unless_told_otherwise() {
    let base = data().join("checkpoint_base");
    for (skip, n_quantized) in [
        (&["lm_head", r"model.layers.\d+.mlp"][..], 4),
        (&["self_attn"], 8),
        (&["model.*", "lm_head"], 0),
    ] {
        let to = tempfile::tempdir().unwrap();
        let skip: Vec<String> = skip.iter().map(|&entry| entry.to_owned()).collect();
        let config = nf4().with_skip_modules(skip.clone());
        let summary = run(&base, to.path(), &config).unwrap();
        assert_eq!(summary.n_quantized, n_quantized, "{skip:?}");
        let made = Checkpoint::open(to.path()).unwrap();
        assert_eq!(made.config().unwrap().skip_modules, Some(skip));
        assert_eq!(four_bit_state::names(&made).len(), n_quantized);
    }
    let to = tempfile::tempdir().unwrap();
    let error = run(&base, to.path(), &nf4().with_skip_modules(vec!["(".into()]));
    assert!(matches!(error, Err(FileError::SkipPattern { .. })));
}

#[test]
fn a_weight_too_large_for_halves_is_no_number_that_is_not_finite() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let weights = |x: [f32; 4]| {
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        single(
            from.path(),
            &[tensor("x.weight", Dtype::F32, &[2, 2], &bytes)],
        );
        run(from.path(), to.path(), &int8(6.0))
    };
    // Halfway between 65504 and the number that would come next.
    let name = || "x.weight".to_owned();
    let overflow = |index, value| FileError::HalfOverflow {
        name: name(),
        index,
        value,
    };
    assert_eq!(
        weights([0.0, 1.0, -65520.0, 1e9]),
        Err(overflow(2, -65520.0))
    );
    let (index, value) = (1, f32::INFINITY);
    let error = FileError::Quant {
        name: name(),
        source: QuantError::NonFinite { index, value },
    };
    assert_eq!(weights([0.0, f32::INFINITY, 1.0, 1.0]), Err(error));
    assert_eq!(weights([65519.0, 0.0, 0.0, 0.0]).unwrap().n_quantized, 1);
}

#[test]
fn poisoned_rows_are_written_where_the_policy_wants_them() {
    let from = tempfile::tempdir().unwrap();
    let x = [1.0, f32::NAN, 0.5, -1.0].map(f32::to_le_bytes).concat();
    single(from.path(), &[tensor("x.weight", Dtype::F32, &[2, 2], &x)]);
    let non_finite = NonFinite::PoisonBlock;
    let to = tempfile::tempdir().unwrap();
    let threshold = 6.0;
    let config = CheckpointConfig::new(Method::EightBit {
        threshold,
        non_finite,
    });
    run(from.path(), to.path(), &config).unwrap();
    let mut made = Checkpoint::open(to.path()).unwrap();
    let rows = int8_state::read(&mut made, "x.weight").unwrap();
    assert!(rows.scales()[0].is_nan() && rows.scales()[1] == 1.0);
    let four = |nested| Method::FourBit {
        config: FourBitConfig::new(FourBitCode::Nf4, 64).with_non_finite(non_finite),
        nested,
        stored_as: PackedType::U8,
    };
    let to = tempfile::tempdir().unwrap();
    let nested = CheckpointConfig::new(four(Some(EightBitSearch::Nearest)));
    assert_eq!(
        run(from.path(), to.path(), &nested),
        Err(FileError::NestedPoison)
    );
    run(from.path(), to.path(), &CheckpointConfig::new(four(None))).unwrap();
    let mut made = Checkpoint::open(to.path()).unwrap();
    let back = four_bit_state::read(&mut made, "x.weight").unwrap().weights;
    let back = four_bit::dequantize::<f32>(&back).unwrap();
    assert!(back.iter().all(|x| x.is_nan()));
}

/// Also where the other one is in another file: two tensors of one name would be found when the new checkpoint is opened.
#[test]
fn names_that_a_weight_needs_must_be_free_and_nothing_is_written_before() {
    let (from, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let to = parent.path().join("to");
    let x = tensor("x.weight", Dtype::F32, &[1, 1], &[0; 4]);
    for (config, taken) in [
        (nf4(), "x.weight.absmax"),
        (nf4(), "x.weight.nested_quant_map"),
        (int8(6.0), "x.weight_format"),
    ] {
        let other = tensor(taken, Dtype::F32, &[1], &[0; 4]);
        let name = taken.to_owned();
        let weight = x.name.clone();
        let error = FileError::NameTaken { name, weight };
        single(from.path(), &[x.clone(), other.clone()]);
        assert_eq!(run(from.path(), &to, &config), Err(error.clone()));
        for order in [
            ["a.safetensors", "b.safetensors"],
            ["b.safetensors", "a.safetensors"],
        ] {
            let shards = tempfile::tempdir().unwrap();
            for (file, tensor) in order.iter().zip([&x, &other]) {
                let path = shards.path().join(file);
                files::write_tensors(
                    &path,
                    &files::torch_metadata(),
                    std::slice::from_ref(tensor),
                )
                .unwrap();
            }
            let weight_map = serde_json::json!({ &x.name[..]: order[0], taken: order[1] });
            let index = serde_json::json!({ "weight_map": weight_map }).to_string();
            fs::write(shards.path().join("model.safetensors.index.json"), index).unwrap();
            fs::write(shards.path().join("config.json"), "{}").unwrap();
            assert_eq!(run(shards.path(), &to, &config), Err(error.clone()));
        }
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_is_lost_is_measured_over_all_weights() {
    let base = data().join("checkpoint_base");
    for config in [nf4(), int8(6.0)] {
        let to = tempfile::tempdir().unwrap();
        let summary = run(&base, to.path(), &config.with_measure(Measure::Errors)).unwrap();
        let (mut old, mut new) = (Checkpoint::open(&base), Checkpoint::open(to.path()));
        let (old, new) = (old.as_mut().unwrap(), new.as_mut().unwrap());
        let (mut noise, mut signal, mut n, mut bytes) = (0.0, 0.0, 0, 0);
        let four = four_bit_state::names(new);
        for name in [&four[..], &int8_state::names(new)].concat() {
            let back: Vec<f32> = if four.contains(&name) {
                let weights = four_bit_state::read(new, &name).unwrap().weights;
                four_bit::dequantize(&weights)
                    .unwrap()
                    .into_iter()
                    .collect()
            } else {
                let rows = int8_state::read(new, &name).unwrap();
                vector_wise::dequantize(&rows)
                    .unwrap()
                    .into_iter()
                    .collect()
            };
            let exact = old.read(&name).unwrap();
            let exact = exact.as_chunks().0.iter();
            let exact = exact.map(|&x| bf16::from_le_bytes(x).to_f32());
            assert_eq!(old.info(&name).unwrap().dtype, Dtype::BF16);
            for (x, y) in exact.zip(&back) {
                noise += f64::from(x - y).powi(2);
                signal += f64::from(x).powi(2);
                n += 1;
            }
            let module = name.trim_end_matches("weight");
            let parts = new
                .names()
                .into_iter()
                .filter(|part| part.starts_with(module));
            bytes += parts
                .map(|part| new.info(&part).unwrap().data_offsets)
                .map(|(start, end)| (end - start) as u64)
                .sum::<u64>();
        }
        let errors = summary.errors.unwrap();
        assert_eq!((errors.n as u64, summary.n_weights), (n, n));
        let decibels = 10.0 * f64::log10(signal / noise);
        // Differences of `f32` are rounded here, and not there.
        assert!((errors.signal_to_noise - decibels).abs() < 1e-4);
        assert_eq!(summary.weights_after, bytes);
        assert_eq!(summary.weights_before, 2 * n);
        let parameters = summary.before / 2;
        assert_eq!(summary.n_parameters, parameters);
    }
}

/// One file in, one file out; no configuration is read or written.
#[test]
fn a_single_file_is_a_checkpoint_too() {
    let base = data().join("checkpoint_base/model.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("deep/nf4.safetensors");
    let summary = run(&base, &to, &nf4()).unwrap();
    assert_eq!((summary.n_quantized, summary.n_copied), (7, 5));
    assert_eq!(fs::read_dir(to.parent().unwrap()).unwrap().count(), 1);
    let whole = tempfile::tempdir().unwrap();
    run(&data().join("checkpoint_base"), whole.path(), &nf4()).unwrap();
    let theirs = fs::read(whole.path().join("model.safetensors")).unwrap();
    assert!(fs::read(&to).unwrap() == theirs);
    // Never over another file, nor in the place of a folder.
    let path = to.clone();
    assert_eq!(run(&base, &to, &nf4()), Err(FileError::Occupied { path }));
    let path = to.parent().unwrap().to_owned();
    assert_eq!(
        run(&base, to.parent().unwrap(), &nf4()),
        Err(FileError::Occupied { path })
    );
    assert!(fs::read(&to).unwrap() == theirs);
    let from = folder.path().join("none.safetensors");
    let error = run(&from, &folder.path().join("new"), &nf4()).unwrap_err();
    assert!(
        matches!(&error, FileError::Io { path, .. } if *path == from),
        "{error}"
    );
}
