//! Files that lie: a typed error for each rule, and never a panic or a large allocation.

use std::io::Cursor;

use llm_quant::QuantError;
use llm_quant::double;
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::files::four_bit_state::{self, FourBitTensor};
use llm_quant::files::{Dtype, FileError, Tensor, TensorFile, TensorSource, WeightType};
use llm_quant::four_bit::{self, BLOCKS, FourBitCode, FourBitConfig};
use ndarray::Array2;
use proptest::prelude::*;

use super::{by_hand, open, serialize, tensor};

/// The tensors of 5 by 60 weights, with nested scales or without.
fn tensors(is_nested: bool) -> Vec<Tensor> {
    let x = Array2::from_shape_fn([5, 60], |(i, j)| (i * 60 + j) as f32 - 150.0);
    let mut weights = four_bit::quantize(&x, &FourBitConfig::new(FourBitCode::Nf4, 64)).unwrap();
    if is_nested {
        weights = double::compress(weights, EightBitSearch::Nearest).unwrap();
    }
    four_bit_state::tensors("w", &FourBitTensor::new(weights, WeightType::F32)).unwrap()
}

const STATE: &str = "w.quant_state.bitsandbytes__nf4";

fn get<'a>(tensors: &'a mut [Tensor], name: &str) -> &'a mut Tensor {
    tensors
        .iter_mut()
        .find(|tensor| tensor.name == name)
        .unwrap()
}

fn read(tensors: &[Tensor]) -> FileError {
    four_bit_state::read(&mut open(tensors), "w").unwrap_err()
}

/// The error of a state in which `from` is replaced by `to`.
fn with_state(is_nested: bool, from: &str, to: &str) -> FileError {
    let mut tensors = tensors(is_nested);
    let state = get(&mut tensors, STATE);
    let json = String::from_utf8(state.bytes.clone()).unwrap();
    assert!(json.contains(from), "{json}");
    state.bytes = json.replace(from, to).into_bytes();
    state.shape = vec![state.bytes.len()];
    read(&tensors)
}

fn field(field: &'static str, expected: &str, got: &str) -> FileError {
    FileError::StateField {
        name: STATE.to_owned(),
        field,
        expected: expected.to_owned(),
        got: got.to_owned(),
    }
}

fn quant(source: QuantError) -> FileError {
    let name = "w".to_owned();
    FileError::Quant { name, source }
}

#[test]
fn a_header_must_be_whole() {
    for n_bytes in 0..8 {
        let file = TensorFile::new(Cursor::new(vec![0; n_bytes]));
        let got = n_bytes as u64;
        assert_eq!(file.unwrap_err(), FileError::Short { expected: 8, got });
    }
    let bytes = serialize(&tensors(false));
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let file = TensorFile::new(Cursor::new(bytes[..100].to_vec()));
    let (expected, got) = (8 + len, 100);
    assert_eq!(file.unwrap_err(), FileError::Short { expected, got });
    // Longer than the format allows, and than any memory.
    for got in [100_000_001, u64::MAX] {
        let mut bytes = bytes.clone();
        bytes[..8].copy_from_slice(&got.to_le_bytes());
        let limit = 100_000_000;
        let file = TensorFile::new(Cursor::new(bytes));
        assert_eq!(file.unwrap_err(), FileError::HeaderLen { limit, got });
    }
}

#[test]
fn a_header_must_be_json_of_tensors() {
    for header in [
        "",
        "[]",
        "{",
        r#"{"x":1}"#,
        r#"{"x":{"dtype":"U9","shape":[],"data_offsets":[0,1]}}"#,
        r#"{"x":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#,
        r#"{"x":{"dtype":"U8","shape":[1e3],"data_offsets":[0,1]}}"#,
        r#"{"x":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
        r#"{"x":["U8",[1],[0,1]]}"#,
        r#"{"__metadata__":{"a":1}}"#,
        r#"{"__metadata__":{},"__metadata__":{}}"#,
    ] {
        let error = by_hand(header, &[0]).unwrap_err();
        assert!(
            matches!(error, FileError::HeaderJson { .. }),
            "{header}: {error}"
        );
    }
    let deep = "[".repeat(100_000);
    let error = by_hand(&deep, &[]).unwrap_err();
    assert!(matches!(error, FileError::HeaderJson { .. }), "{error}");
}

#[test]
fn a_name_stands_once() {
    let x = r#""x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let key = "x".to_owned();
    let error = by_hand(&format!("{{{x},{x}}}"), &[0]).unwrap_err();
    assert_eq!(error, FileError::DuplicateKey { key: key.clone() });
    // Also where both have a place of their own.
    let y = x.replace("[0,1]", "[1,2]");
    let error = by_hand(&format!("{{{x},{y}}}"), &[0, 0]).unwrap_err();
    assert_eq!(error, FileError::DuplicateKey { key });
    let error = by_hand(r#"{"__metadata__":{"a":"","a":""}}"#, &[]).unwrap_err();
    let key = "a".to_owned();
    assert_eq!(error, FileError::DuplicateKey { key });
}

#[test]
fn tensors_fill_the_file_without_holes_and_overlaps() {
    let region = |name: &str, expected, start, end| FileError::Region {
        name: name.to_owned(),
        expected,
        start,
        end,
    };
    let two = |a: &str, b: &str| {
        let one = |offsets| format!(r#"{{"dtype":"U8","shape":[2],"data_offsets":{offsets}}}"#);
        format!(r#"{{"a":{},"b":{}}}"#, one(a), one(b))
    };
    for (a, b, error) in [
        ("[0,2]", "[1,3]", region("b", 2, 1, 3)),
        ("[0,2]", "[3,5]", region("b", 2, 3, 5)),
        ("[1,3]", "[3,5]", region("a", 0, 1, 3)),
        ("[0,2]", "[2,0]", region("b", 2, 2, 0)),
    ] {
        assert_eq!(by_hand(&two(a, b), &[0; 4]).unwrap_err(), error);
    }
    for n_bytes in [3, 5] {
        let error = by_hand(&two("[0,2]", "[2,4]"), &vec![0; n_bytes]).unwrap_err();
        let (expected, got) = (4, n_bytes as u64);
        assert_eq!(error, FileError::DataLen { expected, got });
    }
    assert!(by_hand(&two("[0,2]", "[2,4]"), &[0; 4]).is_ok());
}

#[test]
fn a_tensor_has_the_bytes_of_its_shape() {
    for (dtype, shape, text, len) in [
        (Dtype::F32, vec![2], "F32", 7),
        (Dtype::F32, vec![1 << 40, 1 << 40], "F32", 8),
        (Dtype::U8, vec![usize::MAX, 2], "U8", 8),
        (Dtype::F64, vec![1 << 61], "F64", 0),
        (Dtype::F4, vec![3], "F4", 1),
    ] {
        let header =
            format!(r#"{{"x":{{"dtype":"{text}","shape":{shape:?},"data_offsets":[0,{len}]}}}}"#);
        let error = by_hand(&header, &vec![0; len]).unwrap_err();
        let (name, got) = ("x".to_owned(), len);
        assert_eq!(
            error,
            FileError::RegionLen {
                name,
                dtype,
                shape,
                got
            }
        );
    }
}

#[test]
fn each_tensor_of_a_state_must_be_there() {
    for is_nested in [false, true] {
        for i in 0..tensors(is_nested).len() {
            let mut tensors = tensors(is_nested);
            let name = tensors.remove(i).name;
            assert_eq!(read(&tensors), FileError::MissingTensor { name });
        }
    }
    let error = open(&tensors(false)).read("y").unwrap_err();
    let name = "y".to_owned();
    assert_eq!(error, FileError::MissingTensor { name });
}

#[test]
fn tensors_that_the_state_does_not_know_are_refused() {
    for extra in [
        "w.nested_absmax",
        "w.nested_quant_map",
        "w.quant_state.bitsandbytes__fp4",
    ] {
        let mut tensors = tensors(false);
        tensors.push(tensor(extra, Dtype::U8, &[0], &[]));
        let name = extra.to_owned();
        assert_eq!(read(&tensors), FileError::UnexpectedTensor { name });
    }
}

#[test]
fn tensors_of_a_state_have_the_types_of_bitsandbytes() {
    for (name, to, expected) in [
        ("w", Dtype::I16, "U8, I8, F16, BF16, F32 or F64"),
        ("w.absmax", Dtype::I8, "U8"),
        ("w.quant_map", Dtype::I32, "F32"),
        ("w.nested_absmax", Dtype::U32, "F32"),
        ("w.nested_quant_map", Dtype::U32, "F32"),
        (STATE, Dtype::I8, "U8"),
    ] {
        let mut tensors = tensors(true);
        let changed = get(&mut tensors, name);
        changed.dtype = to;
        if name == "w" {
            changed.shape = vec![75, 1];
        }
        let (name, got) = (name.to_owned(), to);
        assert_eq!(
            read(&tensors),
            FileError::TensorType {
                name,
                expected,
                got
            }
        );
    }
}

#[test]
fn tensors_of_a_state_have_the_lengths_that_follow_from_it() {
    // 300 weights are 5 blocks, which are one nested block.
    for (name, expected, shape, size) in [
        ("w.absmax", 5, vec![6], 1),
        ("w.absmax", 5, vec![5, 1], 1),
        ("w.quant_map", 16, vec![15], 4),
        ("w.nested_absmax", 1, vec![2], 4),
        ("w.nested_absmax", 1, vec![], 4),
        ("w.nested_quant_map", 256, vec![255], 4),
    ] {
        let mut tensors = tensors(true);
        let changed = get(&mut tensors, name);
        changed
            .bytes
            .resize(shape.iter().product::<usize>() * size, 0);
        changed.shape.clone_from(&shape);
        let error = FileError::TensorShape {
            name: name.to_owned(),
            expected: vec![expected],
            got: shape,
        };
        assert_eq!(read(&tensors), error);
    }
    for n_bytes in [149, 151, 0] {
        let mut tensors = tensors(true);
        *get(&mut tensors, "w") = tensor("w", Dtype::U8, &[n_bytes, 1], &vec![0; n_bytes]);
        let error = QuantError::PackedLen {
            shape: vec![5, 60],
            expected: 150,
            got: n_bytes,
        };
        assert_eq!(read(&tensors), quant(error));
    }
}

#[test]
fn maps_must_be_those_of_the_code() {
    let mut tensors = tensors(true);
    get(&mut tensors, "w.quant_map").bytes[12..16].copy_from_slice(&0.25_f32.to_le_bytes());
    let error = read(&tensors);
    let FileError::CodeValue {
        name,
        index,
        expected,
        got,
    } = error
    else {
        unreachable!("{error}")
    };
    assert_eq!((&name[..], index, got), ("w.quant_map", 3, 0.25));
    assert_eq!(expected, FourBitCode::Nf4.values()[3]);
    get(&mut tensors, "w.quant_map").bytes[12..16].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(matches!(
        read(&tensors),
        FileError::CodeValue { index: 3, .. }
    ));
}

#[test]
fn a_state_must_be_the_json_of_bitsandbytes() {
    for (from, to) in [
        ("{", "["),
        ("}", ""),
        ("\"blocksize\": 64, ", ""),
        ("\"blocksize\": 64", "\"blocksize\": 64, \"blocksize\": 64"),
        ("\"blocksize\": 64", "\"blocksize\": -64"),
        ("\"blocksize\": 64", "\"blocksize\": 64.0"),
        ("\"blocksize\": 64", "\"blocksize\": \"64\""),
        ("\"blocksize\": 64", "\"blocksize\": 64, \"code\": 1"),
        ("[5, 60]", "[5, -60]"),
        ("[5, 60]", "[[5], 60]"),
        ("[5, 60]", "[5, 1e400]"),
        ("[5, 60]", "[18446744073709551616]"),
        ("float32", "\u{fffd}\n"),
    ] {
        let error = with_state(false, from, to);
        assert!(
            matches!(&error, FileError::StateJson { name, .. } if name == STATE),
            "{to}: {error}"
        );
    }
    // A list of the same values in the same order is no object.
    let mut changed = tensors(false);
    let state = get(&mut changed, STATE);
    state.bytes = br#"["nf4", 64, "float32", [5, 60], null, null, null]"#.to_vec();
    state.shape = vec![state.bytes.len()];
    assert!(matches!(read(&changed), FileError::StateJson { .. }));
    // NaN and infinity are no JSON, though Python reads them.
    for to in ["NaN", "Infinity", "-Infinity", "1e999"] {
        let mut changed = tensors(true);
        let state = get(&mut changed, STATE);
        let json = String::from_utf8(state.bytes.clone()).unwrap();
        let (before, _) = json.split_once("\"nested_offset\": ").unwrap();
        state.bytes = format!("{before}\"nested_offset\": {to}}}").into_bytes();
        state.shape = vec![state.bytes.len()];
        assert!(
            matches!(read(&changed), FileError::StateJson { .. }),
            "{to}"
        );
    }
    let mut changed = tensors(false);
    let state = get(&mut changed, STATE);
    state.bytes.resize(20_000, b' ');
    state.shape = vec![20_000];
    assert!(matches!(read(&changed), FileError::StateJson { .. }));
    state_of_two_axes(&mut changed);
    assert!(matches!(read(&changed), FileError::StateJson { .. }));
}

fn state_of_two_axes(tensors: &mut [Tensor]) {
    let state = get(tensors, STATE);
    state.bytes.truncate(100);
    state.shape = vec![10, 10];
}

#[test]
fn entries_of_a_state_must_be_possible() {
    let types = "float32, float16 or bfloat16";
    assert_eq!(
        with_state(false, "\"nf4\"", "\"fp4\""),
        field("quant_type", "nf4", "fp4")
    );
    assert_eq!(
        with_state(false, "\"nf4\"", "\"int4\""),
        field("quant_type", "nf4", "int4")
    );
    assert_eq!(
        with_state(false, "float32", "float64"),
        field("dtype", types, "float64")
    );
    assert_eq!(
        with_state(false, "[5, 60]", "null"),
        field("shape", "a list of sizes", "none")
    );
    for (from, to, got) in [
        (
            "\"nested_blocksize\": 256",
            "\"nested_blocksize\": 128",
            "128",
        ),
        ("\"nested_blocksize\": 256, ", "", "none"),
        (
            "\"nested_blocksize\": 256",
            "\"nested_blocksize\": null",
            "none",
        ),
    ] {
        assert_eq!(
            with_state(true, from, to),
            field("nested_blocksize", "256", got)
        );
    }
    for (from, to, got) in [
        (
            "\"nested_dtype\": \"float32\"",
            "\"nested_dtype\": \"float16\"",
            "float16",
        ),
        ("\"nested_dtype\": \"float32\", ", "", "none"),
    ] {
        assert_eq!(
            with_state(true, from, to),
            field("nested_dtype", "float32", got)
        );
    }
    let mut without = tensors(true);
    for (to, got) in [
        ("", "none"),
        (", \"nested_offset\": 1e300", &1e300_f64.to_string()),
    ] {
        let state = get(&mut without, STATE);
        let json = String::from_utf8(state.bytes.clone()).unwrap();
        let (before, _) = json
            .split_once(", \"nested_offset\"")
            .unwrap_or((json.trim_end_matches('}'), ""));
        state.bytes = format!("{before}{to}}}").into_bytes();
        state.shape = vec![state.bytes.len()];
        assert_eq!(
            read(&without),
            field("nested_offset", "a number within f32", got)
        );
    }
}

#[test]
fn sizes_that_cannot_be_are_refused_before_anything_is_read() {
    let block = |got| {
        quant(QuantError::Block {
            offered: &BLOCKS,
            got,
        })
    };
    for got in [0, 16, 63, 8192, usize::MAX] {
        let to = format!("\"blocksize\": {got}");
        assert_eq!(with_state(false, "\"blocksize\": 64", &to), block(got));
    }
    for shape in [vec![1 << 40, 1 << 40], vec![0, usize::MAX, usize::MAX]] {
        let error = with_state(false, "[5, 60]", &format!("{shape:?}"));
        assert_eq!(error, quant(QuantError::Size { shape }));
    }
    // A claim that is huge and fits: there are not so many bytes.
    let shape = vec![1 << 40];
    let (expected, got) = (1 << 39, 150);
    let error = with_state(false, "[5, 60]", "[1099511627776]");
    assert_eq!(
        error,
        quant(QuantError::PackedLen {
            shape,
            expected,
            got
        })
    );
}

#[test]
fn an_offset_that_json_cannot_say_is_not_written() {
    let nested = double::NestedScales::from_parts(vec![0], vec![1.0], f32::NAN).unwrap();
    let scales = four_bit::Scales::Nested(nested);
    let weights = four_bit::FourBit::from_parts(FourBitCode::Nf4, 64, &[1], vec![0], scales);
    let weights = FourBitTensor::new(weights.unwrap(), WeightType::F32);
    let error = four_bit_state::tensors("w", &weights).unwrap_err();
    assert_eq!(error, field("nested_offset", "a finite number", "NaN"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let path = std::path::Path::new("/no/such/file");
    let error = TensorFile::open(path).unwrap_err();
    assert!(
        matches!(&error, FileError::Io { path: named, kind: std::io::ErrorKind::NotFound, .. } if named == path),
        "{error}"
    );
}

proptest! {
    /// Any damage gives weights or an error; what comes back fits its shape.
    #[test]
    fn damaged_files_do_not_panic(
        is_nested in any::<bool>(), cut in 0..5000_usize, changes in prop::collection::vec((0..5000_usize, any::<u8>()), 0..4),
    ) {
        let mut bytes = serialize(&tensors(is_nested));
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if cut < 1000 {
            bytes.truncate(cut);
        }
        if let Ok(mut file) = TensorFile::new(Cursor::new(bytes)) {
            for name in four_bit_state::names(&file) {
                if let Ok(weights) = four_bit_state::read(&mut file, &name) {
                    let len = weights.weights.len();
                    prop_assert_eq!(four_bit::dequantize::<f32>(&weights.weights).unwrap().len(), len);
                }
            }
        }
    }

    /// The same for states that are damaged as text: here damage is likely to be JSON still.
    #[test]
    fn damaged_states_do_not_panic(is_nested in any::<bool>(), from in 0..300_usize, digits in "[0-9]{1,20}") {
        let mut tensors = tensors(is_nested);
        let state = get(&mut tensors, STATE);
        let from = from % state.bytes.len();
        let is_digit = |x: &u8| x.is_ascii_digit();
        if let Some(start) = state.bytes[from..].iter().position(is_digit) {
            let start = from + start;
            let end = state.bytes[start..].iter().position(|x| !is_digit(x)).map_or(start, |n| start + n);
            state.bytes.splice(start..end, digits.bytes());
            state.shape = vec![state.bytes.len()];
        }
        let _ = four_bit_state::read(&mut open(&tensors), "w");
    }
}
