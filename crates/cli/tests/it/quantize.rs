//! `quantize`: checkpoints in four or eight bits, whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use llm_blocks::quant::files::{self, Checkpoint, Dtype, LoadIn, Tensor};
use llm_blocks::quant::files::{four_bit_state, int8_state};
use llm_blocks::quant::four_bit::FourBitCode;
use tempfile::TempDir;

use crate::program::{command, json, run, succeed};

/// Four linear layers of 64 by 64, the head, and a norm.
const LINEAR: [&str; 5] = [
    "lm_head.weight",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.0.mlp.up_proj.weight",
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.0.self_attn.q_proj.weight",
];

fn tensor(name: &str, shape: &[usize], value: impl Fn(usize) -> f32) -> Tensor {
    let n = shape.iter().product();
    Tensor {
        name: name.to_owned(),
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        bytes: (0..n).flat_map(|i| value(i).to_le_bytes()).collect(),
    }
}

fn tensors() -> Vec<Tensor> {
    let mut tensors: Vec<Tensor> = { LINEAR.iter() }
        .map(|name| tensor(name, &[64, 64], |i| (i * 37 % 101) as f32 / 50.0 - 1.0))
        .collect();
    tensors.push(tensor("model.norm.weight", &[64], |_| 1.0));
    tensors
}

fn write(path: &Path, tensors: &[Tensor]) {
    files::write_tensors(path, &files::torch_metadata(), tensors).unwrap();
}

/// A folder with the checkpoint `in` and room for others.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("in");
    write(&from.join("model.safetensors"), &tensors());
    fs::write(from.join("config.json"), "{\"model_type\": \"llama\"}\n").unwrap();
    folder
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// It must fail with this exit code, print nothing, say all of this, and leave all as it was.
fn refused(folder: &TempDir, args: &[&str], code: i32, says: &[&str]) {
    let before = names(folder.path());
    let ran = run(&[&["quantize"], args].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{ran:?}");
    for words in says {
        assert!(ran.stderr.contains(words), "{words:?} is not in {ran:?}");
    }
    assert_eq!(names(folder.path()), before);
}

#[test]
fn four_bits_in_a_folder() {
    let folder = workplace();
    let (from, to) = (path(&folder, "in"), path(&folder, "deep/out"));
    let table = succeed(&["quantize", &from, &to]);
    let words: Vec<Vec<&str>> = { table.lines() }
        .map(|line| line.split_whitespace().collect())
        .collect();
    // 4096 weights are 2048 bytes; 64 scales are 64 codes, one scale of 4 bytes and a map of 1024; the map of codes has 64; then the state.
    let made = Checkpoint::open(Path::new(&to)).unwrap();
    let state = four_bit_state::names(&made);
    assert_eq!(state, LINEAR[1..]);
    assert_eq!(words[1][..3], ["quantized", "4", "65536"], "{table}");
    let after: usize = words[1][3].parse().unwrap();
    let known = 2048 + 64 + 4 + 1024 + 64;
    let states = after - 4 * known;
    assert!((4 * 100..4 * 300).contains(&states), "{table}");
    assert_eq!(words[2], ["kept", "2", "16640", "16640"], "{table}");
    assert_eq!(words[3][..3], ["all", "6", "82176"], "{table}");
    assert_eq!(words[3][3], (after + 16640).to_string());
    let decibels: f64 = words[6].last().unwrap().parse().unwrap();
    assert!((15.0..30.0).contains(&decibels), "{table}");
    let config = made.config().unwrap();
    assert_eq!(
        (config.load_in, config.code, config.is_nested),
        (LoadIn::FourBit, FourBitCode::Nf4, true)
    );
    assert_eq!(config.skip_modules, None);
    assert!(made.config_json().contains("\"model_type\": \"llama\""));
    assert_eq!(names(&folder.path().join("deep")), ["out"]);
}

#[test]
fn json_says_what_came_out() {
    let folder = workplace();
    let (from, to) = (path(&folder, "in"), path(&folder, "out"));
    let fp4 = [
        "quantize",
        &from,
        &to,
        "--format",
        "fp4",
        "--block-size",
        "128",
        "--no-double",
        "--compute-dtype",
        "bfloat16",
        "--storage",
        "float32",
        "--skip",
        "lm_head",
        "--skip",
        "mlp",
    ];
    let object = json(&fp4);
    // `mlp` alone is neither the end of a name nor its start.
    assert_eq!(object["tensors"]["quantized"], 4);
    for (name, value) in [
        ("format", "fp4"),
        ("compute_dtype", "bfloat16"),
        ("storage", "float32"),
        ("nonfinite", "error"),
        ("in", &from[..]),
        ("out", &to[..]),
    ] {
        assert_eq!(object[name], value, "{name}");
    }
    assert_eq!(object["block_size"], 128);
    assert_eq!(object["double"], false);
    assert_eq!(object["skip"], serde_json::json!(["lm_head", "mlp"]));
    assert_eq!(object["bytes"]["before"], 82176);
    assert_eq!(object["parameters"], 82176 / 4);
    assert_eq!(object["quantized_weights"], 4 * 4096);
    let bits = object["bits_per_quantized_weight"].as_f64().unwrap();
    let bytes = object["quantized_bytes"]["after"].as_f64().unwrap();
    assert_eq!(bits, 8.0 * bytes / (4.0 * 4096.0));
    assert!(object["errors"]["signal_to_noise_db"].as_f64().unwrap() > 10.0);
    let mut made = Checkpoint::open(Path::new(&to)).unwrap();
    let weights = four_bit_state::read(&mut made, LINEAR[1]).unwrap();
    assert_eq!(
        (weights.weights.code(), weights.weights.block()),
        (FourBitCode::Fp4, 128)
    );
    assert_eq!(made.config().unwrap().compute_type.name(), "bfloat16");
}

#[test]
fn eight_bits_and_a_pattern() {
    let folder = workplace();
    let (from, to) = (path(&folder, "in"), path(&folder, "out"));
    let skip = r"model.layers.\d+.mlp";
    let object = json(&[
        "quantize",
        &from,
        &to,
        "--format",
        "int8",
        "--threshold",
        "4",
        "--skip",
        skip,
    ]);
    assert_eq!(object["threshold"], 4.0);
    let made = Checkpoint::open(Path::new(&to)).unwrap();
    assert_eq!(int8_state::names(&made), [LINEAR[0], LINEAR[3], LINEAR[4]]);
    let config = made.config().unwrap();
    assert_eq!((config.load_in, config.threshold), (LoadIn::EightBit, 4.0));
    assert_eq!(config.skip_modules, Some(vec![skip.to_owned()]));
    // 64 codes and a scale for each of 64 rows, and the format.
    assert_eq!(object["quantized_bytes"]["after"], 3 * (4096 + 64 * 4 + 1));
}

#[test]
fn shards_and_single_files() {
    let folder = workplace();
    let (mut shards, mut weight_map) = ([Vec::new(), Vec::new()], BTreeMap::new());
    for (i, tensor) in tensors().into_iter().enumerate() {
        weight_map.insert(
            tensor.name.clone(),
            ["a.safetensors", "b.safetensors"][i % 2],
        );
        shards[i % 2].push(tensor);
    }
    let from = folder.path().join("shards");
    write(&from.join("a.safetensors"), &shards[0]);
    write(&from.join("b.safetensors"), &shards[1]);
    fs::write(from.join("config.json"), "{}").unwrap();
    let index = serde_json::json!({ "weight_map": weight_map }).to_string();
    fs::write(from.join("model.safetensors.index.json"), index).unwrap();
    let to = path(&folder, "out");
    succeed(&["quantize", from.to_str().unwrap(), &to, "--quiet"]);
    assert_eq!(
        names(Path::new(&to)),
        [
            "a.safetensors",
            "b.safetensors",
            "config.json",
            "model.safetensors.index.json"
        ]
    );
    let made = Checkpoint::open(Path::new(&to)).unwrap();
    assert_eq!(four_bit_state::names(&made), LINEAR[1..]);
    // One file becomes one file.
    let (from, to) = (
        path(&folder, "in/model.safetensors"),
        path(&folder, "x.safetensors"),
    );
    succeed(&["quantize", &from, &to]);
    let made = Checkpoint::open_file(Path::new(&to)).unwrap();
    assert_eq!(four_bit_state::names(&made), LINEAR[1..]);
    assert_eq!(
        names(folder.path()),
        ["in", "out", "shards", "x.safetensors"]
    );
}

#[test]
fn nothing_to_quantize_is_said() {
    let folder = workplace();
    let (from, to) = (path(&folder, "in"), path(&folder, "out"));
    let ran = run(&["quantize", &from, &to, "--skip", ".*"]);
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.stderr.starts_with("note: no weight was quantized"),
        "{ran:?}"
    );
    assert!(!ran.stdout.contains("dB"), "{ran:?}");
}

#[test]
fn threads_change_no_byte() {
    let folder = workplace();
    let bytes = |n: &str| {
        let (from, to) = (path(&folder, "in"), path(&folder, n));
        succeed(&["quantize", &from, &to, "--threads", n]);
        fs::read(Path::new(&to).join("model.safetensors")).unwrap()
    };
    assert!(bytes("1") == bytes("2"));
}

#[test]
fn settings_that_cannot_be() {
    let folder = workplace();
    let (from, to) = (path(&folder, "in"), path(&folder, "out"));
    let with = |args: &[&str], says: &[&str]| {
        refused(&folder, &[&[&from[..], &to], args].concat(), 2, says);
    };
    with(
        &["--block-size", "63"],
        &["--block-size", "got 63", "4096", "hint: "],
    );
    with(&["--block-size", "-64"], &["-64", "--block-size"]);
    with(&["--format", "q4_0"], &["q4_0", "nf4", "int8"]);
    with(
        &["--format", "int8", "--threshold", "-1"],
        &["--threshold", "got -1", "hint: "],
    );
    with(&["--threshold", "6"], &["--threshold is for --format int8"]);
    for option in [
        &["--block-size", "64"][..],
        &["--double"],
        &["--no-double"],
        &["--storage", "uint8"],
    ] {
        with(
            &[&["--format", "int8"], option].concat(),
            &[option[0], "is for --format nf4 and fp4", "hint: "],
        );
    }
    with(&["--skip", "mlp("], &["--skip: ", "\"mlp(\"", "hint: "]);
    with(
        &["--nonfinite", "poison"],
        &["plain scales", "hint: add --no-double"],
    );
    with(&["--nonfinite", "zero"], &["zero", "error", "poison"]);
    with(&["--compute-dtype", "int8"], &["int8", "bfloat16"]);
    with(&["third"], &["third"]);
    refused(&folder, &[&from], 2, &["OUT"]);
    refused(&folder, &[], 2, &["IN"]);
}

#[test]
fn what_is_no_checkpoint() {
    let folder = workplace();
    let to = path(&folder, "out");
    let what = "hint: IN is a folder with config.json";
    let none = path(&folder, "none");
    refused(
        &folder,
        &[&none, &to],
        1,
        &["cannot quantize", &none, "No such file", what],
    );
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let from = empty.to_str().unwrap().to_owned();
    refused(
        &folder,
        &[&from, &to],
        1,
        &["config.json", "No such file", what],
    );
    fs::write(empty.join("config.json"), "{}").unwrap();
    refused(
        &folder,
        &[&from, &to],
        1,
        &["model.safetensors", "No such file", what],
    );
    fs::write(empty.join("model.safetensors"), "not a checkpoint").unwrap();
    refused(
        &folder,
        &[&from, &to],
        1,
        &["model.safetensors", "header", what],
    );
    let whole = fs::read(folder.path().join("in/model.safetensors")).unwrap();
    fs::write(empty.join("model.safetensors"), &whole[..whole.len() - 1]).unwrap();
    refused(
        &folder,
        &[&from, &to],
        1,
        &["model.safetensors", "the tensors must fill the file"],
    );
    fs::write(empty.join("config.json"), "{").unwrap();
    refused(
        &folder,
        &[&from, &to],
        1,
        &["the configuration must be a JSON object"],
    );
    // What is quantized already.
    let from = path(&folder, "in");
    succeed(&["quantize", &from, &to]);
    let again = path(&folder, "again");
    refused(
        &folder,
        &[&to, &again],
        1,
        &["must not be quantized yet", "hint: "],
    );
}

#[test]
fn weights_that_cannot_be_quantized() {
    let folder = workplace();
    let (from, to) = (path(&folder, "in"), path(&folder, "out"));
    let bad = |value: f32| {
        let name = LINEAR[2];
        let x = tensor(name, &[64, 64], |i| if i == 77 { value } else { 1.0 });
        write(&folder.path().join("in/model.safetensors"), &[x]);
        name
    };
    let name = bad(f32::NAN);
    refused(
        &folder,
        &[&from, &to],
        1,
        &[name, "got NaN at 77", "hint: --skip", "poison"],
    );
    let args = [
        &from[..],
        &to,
        "--no-double",
        "--nonfinite",
        "poison",
        "--json",
    ];
    let ran = run(&[&["quantize"][..], &args].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let object: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(object["nonfinite"], "poison");
    assert!(object["errors"]["signal_to_noise_db"].is_null());
    let name = bad(1e6);
    let other = path(&folder, "other");
    let int8 = [&from[..], &other, "--format", "int8"];
    refused(
        &folder,
        &int8,
        1,
        &[name, "65504", "got 1000000 at 77", "hint: "],
    );
    write(
        &folder.path().join("in/model.safetensors"),
        &[tensor(LINEAR[2], &[3, 1], |_| 1.0)],
    );
    let args = [&from[..], &other, "--storage", "float32"];
    refused(
        &folder,
        &args,
        1,
        &["2 packed bytes", "hint: --storage uint8"],
    );
}

#[test]
fn what_is_there_stays() {
    let folder = workplace();
    let (from, to) = (path(&folder, "in"), path(&folder, "out"));
    refused(
        &folder,
        &[&from, &from],
        1,
        &["the target must not be there yet", "hint: take another OUT"],
    );
    fs::create_dir(&to).unwrap();
    fs::write(folder.path().join("out/notes"), "mine").unwrap();
    refused(
        &folder,
        &[&from, &to],
        1,
        &["notes", "hint: take another OUT"],
    );
    assert_eq!(names(Path::new(&to)), ["notes"]);
    fs::remove_file(folder.path().join("out/notes")).unwrap();
    succeed(&["quantize", &from, &to]);
    assert_eq!(names(Path::new(&to)), ["config.json", "model.safetensors"]);
}

#[test]
fn a_place_that_cannot_be_written() {
    let folder = workplace();
    let from = path(&folder, "in");
    let below = path(&folder, "in/config.json/out");
    refused(
        &folder,
        &[&from, &below],
        1,
        &["cannot quantize", "config.json"],
    );
}

/// Zeros that take a while: the file has holes, so that it is there at once.
fn large(folder: &TempDir) -> PathBuf {
    let from = folder.path().join("large");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("config.json"), "{}").unwrap();
    let (n, each) = (256_u64, 2 << 20);
    let entries: Vec<String> = (0..n)
        .map(|i| {
            let (start, end) = (i * each, (i + 1) * each);
            format!("\"{i:03}.weight\":{{\"dtype\":\"F32\",\"shape\":[512,1024],\"data_offsets\":[{start},{end}]}}")
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut file = fs::File::create(from.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + n * each).unwrap();
    from
}

/// A run that has begun to write.
fn started(folder: &TempDir, to: &str) -> Child {
    let from = large(folder);
    let mut child = command(&["quantize", from.to_str().unwrap(), to])
        .spawn()
        .unwrap();
    let stage = folder.path().join(".out.unfinished");
    let start = Instant::now();
    while !stage.exists() {
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
#[cfg(unix)]
fn an_interrupt_leaves_nothing() {
    let folder = workplace();
    let to = path(&folder, "out");
    let child = started(&folder, &to);
    let pid = child.id().to_string();
    let kill = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!((output.stdout, output.stderr), (vec![], vec![]));
    assert_eq!(names(folder.path()), ["in", "large"]);
}

#[test]
fn what_a_killed_run_left_is_cleared_away_by_the_next_one() {
    let folder = workplace();
    let (from, to) = (path(&folder, "in"), path(&folder, "out"));
    let mut child = started(&folder, &to);
    // Another one into the same place has to wait.
    refused(
        &folder,
        &[&from, &to],
        1,
        &[
            ".out.unfinished",
            "hint: wait until the other run has ended",
        ],
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(names(folder.path()), [".out.unfinished", "in", "large"]);
    succeed(&["quantize", &from, &to]);
    assert_eq!(names(folder.path()), ["in", "large", "out"]);
    assert_eq!(names(Path::new(&to)), ["config.json", "model.safetensors"]);
}

#[test]
fn a_closed_pipe_ends_it_silently() {
    let folder = workplace();
    let (from, to) = (path(&folder, "in"), path(&folder, "out"));
    let mut child = command(&["quantize", &from, &to]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
    assert_eq!(names(folder.path()), ["in", "out"]);
}
