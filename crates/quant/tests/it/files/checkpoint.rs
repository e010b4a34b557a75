//! Whole checkpoints: read, written again, and made from one that is not quantized.

use core::ops::ControlFlow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::files::quantize::{self, CheckpointConfig, Method, SkipModules, Summary, is_linear};
use llm_quant::files::{
    self, Checkpoint, Dtype, FileError, PackedType, Tensor, TensorFile, TensorSource, WeightType,
};
use llm_quant::files::{four_bit_state, int8_state};
use llm_quant::four_bit::{self, FourBit, FourBitCode, FourBitConfig, NonFinite};
use llm_quant::{QuantError, vector_wise};

use super::tensor;

pub(super) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// The committed checkpoints, and those of `LLM_VECTORS`.
fn folders() -> Vec<PathBuf> {
    let extra = std::env::var_os("LLM_VECTORS").map(|folder| Path::new(&folder).join("quant"));
    let mut folders = Vec::new();
    for folder in [Some(data()), extra].into_iter().flatten() {
        if let Ok(entries) = fs::read_dir(folder.join("checkpoint_dir")) {
            folders.extend(entries.map(|entry| entry.unwrap().path()));
        }
    }
    folders.sort();
    folders
}

/// Numbers as they come back, and as bytes of their type.
fn bytes_of(weights: &FourBit, dtype: WeightType) -> Vec<u8> {
    match dtype {
        WeightType::F16 => bytes::<f16, 2>(weights, f16::to_le_bytes),
        WeightType::Bf16 => bytes::<bf16, 2>(weights, bf16::to_le_bytes),
        _ => bytes::<f32, 4>(weights, f32::to_le_bytes),
    }
}

fn bytes<S: Storage, const N: usize>(weights: &FourBit, encode: fn(S) -> [u8; N]) -> Vec<u8> {
    let back = four_bit::dequantize::<S>(weights).unwrap();
    back.iter().flat_map(|&x| encode(x)).collect()
}

/// All tensors of a checkpoint by name: of quantized weights what we write for what we read.
fn rewritten(folder: &Path) -> BTreeMap<String, Tensor> {
    let mut checkpoint = Checkpoint::open(folder).unwrap();
    let expected = folder.join("expected.safetensors");
    let mut expected = { expected.exists() }.then(|| TensorFile::open(&expected).unwrap());
    let mut all = BTreeMap::new();
    for name in checkpoint.names() {
        let info = checkpoint.info(&name).unwrap();
        let (dtype, shape) = (info.dtype, info.shape.clone());
        let bytes = checkpoint.read(&name).unwrap();
        all.insert(name.clone(), tensor(&name, dtype, &shape, &bytes));
    }
    for name in int8_state::names(&checkpoint) {
        let weights = int8_state::read(&mut checkpoint, &name).unwrap();
        if let Some(expected) = &mut expected {
            let back = vector_wise::dequantize::<f32>(&weights).unwrap();
            let back: Vec<u8> = back.iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(back, expected.read(&name).unwrap(), "{folder:?} {name}");
        }
        for tensor in int8_state::tensors(&name, &weights).unwrap() {
            all.insert(tensor.name.clone(), tensor);
        }
    }
    for name in four_bit_state::names(&checkpoint) {
        let weights = four_bit_state::read(&mut checkpoint, &name).unwrap();
        if let Some(expected) = &mut expected {
            let back = bytes_of(&weights.weights, weights.dtype);
            assert_eq!(back, expected.read(&name).unwrap(), "{folder:?} {name}");
        }
        for tensor in four_bit_state::tensors(&name, &weights).unwrap() {
            all.insert(tensor.name.clone(), tensor);
        }
    }
    all
}

#[test]
// ANCHOR: files
fn what_transformers_saved_is_written_to_the_same_files() {
    let folders = folders();
    assert!(folders.len() >= 4, "the committed checkpoints are gone");
    for folder in folders {
        let all = rewritten(&folder);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let to = tempfile::tempdir().unwrap();
        for name in checkpoint.file_names() {
            let file = checkpoint.file(name).unwrap();
            let tensors: Vec<Tensor> = file.names().iter().map(|name| all[name].clone()).collect();
            let path = to.path().join(name);
            files::write_tensors(&path, file.metadata(), &tensors).unwrap();
            let same = fs::read(&path).unwrap() == fs::read(folder.join(name)).unwrap();
            assert!(same, "{folder:?} {name}");
        }
        let text = checkpoint.config_json();
        let config = checkpoint.config().unwrap();
        // Python writes 1e-06 where we write 1e-6.
        assert_eq!(
            config.write(text).unwrap().replace("e-", "e-0"),
            text,
            "{folder:?}"
        );
    }
}
// ANCHOR_END: files

pub(super) fn nf4() -> CheckpointConfig {
    CheckpointConfig::new(Method::FourBit {
        config: FourBitConfig::new(FourBitCode::Nf4, 64),
        nested: Some(EightBitSearch::BitsandbytesCpu),
        stored_as: PackedType::U8,
    })
    .with_compute_type(WeightType::Bf16)
}

fn fp4() -> CheckpointConfig {
    CheckpointConfig::new(Method::FourBit {
        config: FourBitConfig::new(FourBitCode::Fp4, 64),
        nested: None,
        stored_as: PackedType::Bf16,
    })
}

pub(super) fn int8(threshold: f32) -> CheckpointConfig {
    let non_finite = NonFinite::Refuse;
    CheckpointConfig::new(Method::EightBit {
        threshold,
        non_finite,
    })
}

pub(super) fn run(from: &Path, to: &Path, config: &CheckpointConfig) -> Result<Summary, FileError> {
    quantize::checkpoint(from, to, config, |_| ControlFlow::Continue(()))
}

/// Names in the folder of a target, without those that are not of a run for it.
fn beside(to: &Path) -> Vec<String> {
    let name = to.file_name().unwrap().to_str().unwrap();
    let entries = fs::read_dir(to.parent().unwrap()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|found| found.contains(name)).collect();
    names.sort();
    names
}

#[test]
fn quantizing_makes_what_transformers_makes() {
    let skipping = int8(6.0).with_skip_modules(vec!["lm_head".to_owned(), "down_proj".to_owned()]);
    for (case, config, n_quantized) in [
        ("nf4_nested_shards", nf4(), 7),
        ("fp4_as_bfloat16", fp4(), 7),
        ("int8", int8(4.0), 7),
        ("int8_shards", skipping, 6),
    ] {
        let to = tempfile::tempdir().unwrap();
        let summary = run(&data().join("checkpoint_base"), to.path(), &config).unwrap();
        let theirs = data().join("checkpoint_dir").join(case);
        assert_eq!(rewritten(to.path()), rewritten(&theirs), "{case}");
        let text = |folder: &Path| fs::read_to_string(folder.join("config.json")).unwrap();
        assert_eq!(
            text(to.path()).replace("e-", "e-0"),
            text(&theirs),
            "{case}"
        );
        assert_eq!(
            (summary.n_quantized, summary.n_copied),
            (n_quantized, 12 - n_quantized)
        );
        let path = to.path().join("model.safetensors");
        // Where all lengths are known beforehand, the whole file is the same.
        if case == "fp4_as_bfloat16" || case == "int8" {
            let same =
                fs::read(&path).unwrap() == fs::read(theirs.join("model.safetensors")).unwrap();
            assert!(same);
        }
        let bytes = fs::read(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let n_bytes: usize = tensors.iter().map(|(_, view)| view.data().len()).sum();
        assert_eq!(summary.after, n_bytes as u64);
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 2);
    }
}

#[test]
fn files_of_a_checkpoint_stay_files_and_progress_is_told() {
    let base = TensorFile::open(&data().join("checkpoint_base/model.safetensors")).unwrap();
    let from = tempfile::tempdir().unwrap();
    sharded_base(from.path());
    let to = tempfile::tempdir().unwrap();
    let (mut seen, mut last) = (Vec::new(), (0, 0));
    let summary = quantize::checkpoint(from.path(), to.path(), &nf4(), |progress| {
        assert!(progress.done > last.0);
        last = (progress.done, progress.total);
        seen.push((progress.name.to_owned(), progress.is_quantized));
        assert_eq!((progress.n_done, progress.n_tensors), (seen.len(), 12));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!((last.0, last.1), (summary.before, summary.before));
    seen.sort();
    let quantized = seen.iter().filter(|seen| seen.1).count();
    let names: Vec<String> = seen.into_iter().map(|seen| seen.0).collect();
    assert_eq!((names, quantized), (base.names(), 7));
    let theirs = data().join("checkpoint_dir/nf4_nested_shards");
    assert_eq!(rewritten(to.path()), rewritten(&theirs));
    let checkpoint = Checkpoint::open(to.path()).unwrap();
    assert!(checkpoint.is_sharded());
    let names: Vec<&str> = checkpoint.file_names().collect();
    assert_eq!(names, ["a.safetensors", "b.safetensors"]);
}

/// The base in two files.
fn sharded_base(folder: &Path) {
    let mut base = Checkpoint::open(&data().join("checkpoint_base")).unwrap();
    let mut files = [("a.safetensors", Vec::new()), ("b.safetensors", Vec::new())];
    let mut weight_map = BTreeMap::new();
    for (i, name) in base.names().into_iter().enumerate() {
        let info = base.info(&name).unwrap();
        let (dtype, shape) = (info.dtype, info.shape.clone());
        let bytes = base.read(&name).unwrap();
        files[i % 2].1.push(tensor(&name, dtype, &shape, &bytes));
        weight_map.insert(name, files[i % 2].0);
    }
    for (name, tensors) in files {
        files::write_tensors(&folder.join(name), &files::torch_metadata(), &tensors).unwrap();
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": weight_map});
    fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    fs::write(folder.join("config.json"), base.config_json()).unwrap();
}

#[test]
fn an_old_checkpoint_is_not_overwritten() {
    let base = data().join("checkpoint_base");
    let to = tempfile::tempdir().unwrap();
    let path = to.path().join("config.json");
    fs::write(&path, "{}").unwrap();
    assert_eq!(
        run(&base, to.path(), &nf4()),
        Err(FileError::Occupied { path })
    );
    let error = run(&base, &base, &nf4()).unwrap_err();
    assert!(
        matches!(&error, FileError::Occupied { path } if path.starts_with(&base)),
        "{error}"
    );
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
}

#[test]
fn quantized_checkpoints_are_not_quantized_again() {
    let to = tempfile::tempdir().unwrap();
    let from = data().join("checkpoint_dir/nf4_nested_shards");
    let name = "config.json".to_owned();
    assert_eq!(
        run(&from, to.path(), &nf4()),
        Err(FileError::AlreadyQuantized { name })
    );
    // Without the section its tensors show it.
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::write(copy.path().join("config.json"), "{}").unwrap();
    let name = "model.layers.0.mlp.down_proj.weight".to_owned();
    assert_eq!(
        run(copy.path(), to.path(), &nf4()),
        Err(FileError::AlreadyQuantized { name })
    );
    single(copy.path(), &[tensor("x.SCB", Dtype::F32, &[0], &[])]);
    let name = "x.weight".to_owned();
    assert_eq!(
        run(copy.path(), to.path(), &nf4()),
        Err(FileError::AlreadyQuantized { name })
    );
}

/// A checkpoint with these tensors and an empty configuration.
pub(super) fn single(folder: &Path, tensors: &[Tensor]) {
    let _ = fs::remove_file(folder.join("model.safetensors.index.json"));
    let path = folder.join("model.safetensors");
    files::write_tensors(&path, &files::torch_metadata(), tensors).unwrap();
    fs::write(folder.join("config.json"), "{}").unwrap();
}

#[test]
fn what_cannot_be_quantized_is_named_and_leaves_no_checkpoint() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let go = |_: quantize::Progress<'_>| ControlFlow::Continue(());
    let all = |from: &Path| quantize::checkpoint_by(from, to.path(), &nf4(), |_, _| true, go);
    for (name, dtype, shape) in [
        ("x.weight", Dtype::F32, vec![2]),
        ("x.weight", Dtype::I32, vec![2, 1]),
        ("x.bias", Dtype::F32, vec![2, 1]),
    ] {
        single(from.path(), &[tensor(name, dtype, &shape, &[0; 8])]);
        let name = name.to_owned();
        let error = FileError::NotWeight { name, dtype, shape };
        assert_eq!(all(from.path()), Err(error));
    }
    let x: Vec<u8> = [1.0, f32::INFINITY]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    single(from.path(), &[tensor("x.weight", Dtype::F32, &[2, 1], &x)]);
    let (index, value) = (1, f32::INFINITY);
    let error = FileError::Quant {
        name: "x.weight".to_owned(),
        source: QuantError::NonFinite { index, value },
    };
    assert_eq!(all(from.path()), Err(error));
    // Three weights are two bytes, which are no whole number of four bytes.
    let config = CheckpointConfig::new(Method::FourBit {
        config: FourBitConfig::new(FourBitCode::Nf4, 64),
        nested: None,
        stored_as: PackedType::F32,
    });
    single(
        from.path(),
        &[tensor("x.weight", Dtype::F32, &[3, 1], &[0; 12])],
    );
    let (n_bytes, storage) = (2, Dtype::F32);
    assert_eq!(
        run(from.path(), to.path(), &config),
        Err(FileError::Storage { n_bytes, storage })
    );
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    assert_eq!(beside(to.path()).len(), 1);
}

#[test]
fn nothing_and_zero_length_weights_are_checkpoints_too() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    single(from.path(), &[tensor("x.weight", Dtype::F16, &[0, 7], &[])]);
    let summary = run(from.path(), to.path(), &nf4()).unwrap();
    assert_eq!((summary.n_quantized, summary.before), (1, 0));
    let mut checkpoint = Checkpoint::open(to.path()).unwrap();
    let weights = four_bit_state::read(&mut checkpoint, "x.weight").unwrap();
    assert_eq!(weights.weights.shape(), [0, 7]);
    single(from.path(), &[]);
    let other = tempfile::tempdir().unwrap();
    assert_eq!(run(from.path(), other.path(), &nf4()).unwrap().n_copied, 0);
}

#[test]
fn a_folder_that_is_not_empty_is_left_as_it_is() {
    let base = data().join("checkpoint_base");
    let from = tempfile::tempdir().unwrap();
    sharded_base(from.path());
    for (from, name) in [
        (base.as_path(), "model.safetensors"),
        (&base, "model.safetensors.index.json"),
        (from.path(), "model.safetensors"),
        (from.path(), "model.safetensors.index.json"),
        (from.path(), "b.safetensors"),
        (&base, "tokenizer.json"),
    ] {
        let to = tempfile::tempdir().unwrap();
        let path = to.path().join(name);
        fs::write(&path, "half").unwrap();
        let error = run(from, to.path(), &nf4()).unwrap_err();
        let expected = FileError::Occupied { path: path.clone() };
        assert_eq!(error, expected, "{from:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "half");
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
    }
}

#[test]
fn one_file_goes_before_an_index_as_in_transformers() {
    let folder = tempfile::tempdir().unwrap();
    sharded_base(folder.path());
    assert!(Checkpoint::open(folder.path()).unwrap().is_sharded());
    let x = [tensor("x.weight", Dtype::F32, &[1, 1], &[0; 4])];
    let path = folder.path().join("model.safetensors");
    files::write_tensors(&path, &files::torch_metadata(), &x).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(!checkpoint.is_sharded());
    assert_eq!(checkpoint.names(), ["x.weight"]);
    // The index is not even looked at.
    fs::write(folder.path().join("model.safetensors.index.json"), "{").unwrap();
    assert!(Checkpoint::open(folder.path()).is_ok());
}

#[test]
fn rows_without_columns_get_no_scales() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let int8 = int8(0.0);
    for rows in [1, 1 << 16, 1 << 60] {
        single(
            from.path(),
            &[tensor("x.weight", Dtype::F32, &[rows, 0], &[])],
        );
        let name = "x.weight".to_owned();
        let error = FileError::NoColumns { name, rows };
        assert_eq!(run(from.path(), to.path(), &int8), Err(error));
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    }
    single(from.path(), &[tensor("x.weight", Dtype::F32, &[0, 7], &[])]);
    assert_eq!(run(from.path(), to.path(), &int8).unwrap().n_quantized, 1);
}

#[test]
fn an_index_names_files_of_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    sharded_base(folder.path());
    let path = folder.path().join("model.safetensors.index.json");
    let index = fs::read_to_string(&path).unwrap();
    let with = |from: &str, to: &str| {
        assert!(index.contains(from));
        fs::write(&path, index.replacen(from, to, 1)).unwrap();
        Checkpoint::open(folder.path()).unwrap_err()
    };
    for name in [
        "../a.safetensors",
        "/a.safetensors",
        "b\\\\a.safetensors",
        "a.bin",
        "C:a.safetensors",
    ] {
        let error = with("a.safetensors", name);
        let name = name.replace("\\\\", "\\");
        assert_eq!(error, FileError::ShardName { name });
    }
    let head = "lm_head.weight";
    let name = head.to_owned();
    let error = with("\"lm_head.weight\":\"a", "\"lm_head.weight\":\"b");
    let error = match error {
        FileError::InFile { source, .. } => *source,
        other => other,
    };
    assert_eq!(error, FileError::MissingTensor { name });
    for (from, to) in [
        ("weight_map", "weights"),
        ("\"a.safetensors\"", "1"),
        ("\"metadata\":{}", "\"weight_map\":{}"),
        ("{", "["),
        ("\"lm_head.weight\"", "\"model.norm.weight\""),
    ] {
        let error = with(from, to);
        assert!(
            matches!(error, FileError::IndexJson { .. }),
            "{to}: {error}"
        );
    }
    fs::write(&path, "{\"weight_map\":{}}").unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert!(matches!(error, FileError::IndexJson { .. }), "{error}");
    fs::write(&path, &index).unwrap();
    fs::copy(
        folder.path().join("a.safetensors"),
        folder.path().join("b.safetensors"),
    )
    .unwrap();
    // All tensors of `a` are in both; the first one is named, and both files.
    let name = head.to_owned();
    let files = ["a.safetensors", "b.safetensors"].map(str::to_owned);
    assert_eq!(
        Checkpoint::open(folder.path()).unwrap_err(),
        FileError::DuplicateTensor { name, files }
    );
    fs::write(folder.path().join("b.safetensors"), "short").unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err();
    let (expected, got) = (8, 5);
    let inside = FileError::Short { expected, got };
    assert!(
        matches!(&error, FileError::InFile { source, .. } if **source == inside),
        "{error}"
    );
}

/// What is no file may have no end.
#[cfg(unix)]
#[test]
fn a_configuration_must_be_a_file() {
    let folder = tempfile::tempdir().unwrap();
    sharded_base(folder.path());
    for name in ["model.safetensors.index.json", "config.json"] {
        let path = folder.path().join(name);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let error = Checkpoint::open(folder.path()).unwrap_err();
        assert_eq!(error, FileError::NotFile { path });
    }
}

#[test]
fn weights_are_chosen_by_their_names() {
    let checkpoint = Checkpoint::open(&data().join("checkpoint_base")).unwrap();
    let chosen = |skip: Option<&[&str]>| -> Vec<String> {
        let skip: Option<Vec<String>> =
            skip.map(|skip| skip.iter().map(|&x| x.to_owned()).collect());
        let skip = SkipModules::new(skip.as_deref()).unwrap();
        let names = checkpoint.names().into_iter();
        { names }
            .filter(|name| is_linear(name, checkpoint.info(name).unwrap(), &skip))
            .map(|name| {
                name.trim_end_matches(".weight")
                    .replace("model.layers.0.", "")
            })
            .collect()
    };
    let mlp = ["mlp.down_proj", "mlp.gate_proj", "mlp.up_proj"];
    let attention = [
        "self_attn.k_proj",
        "self_attn.o_proj",
        "self_attn.q_proj",
        "self_attn.v_proj",
    ];
    assert_eq!(chosen(None), [&mlp[..], &attention].concat());
    // With a list the head is in, as in transformers.
    assert_eq!(
        chosen(Some(&["model.layers.0.self_attn"])),
        [&["lm_head"], &mlp[..]].concat()
    );
    assert_eq!(chosen(Some(&["model.layers.0.self", "proj"])), ["lm_head"]);
    // A part of a name is no module.
    assert_eq!(chosen(Some(&["model.layers.0.self"])).len(), 8);
    assert_eq!(chosen(Some(&["model", "lm_head"])), [""; 0]);
}
