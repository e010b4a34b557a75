//! Weights in eight bits: read, written, and refused.

use llm_quant::files::{Dtype, FileError, Tensor, int8_state};
use llm_quant::four_bit::NonFinite;
use llm_quant::vector_wise::{self, VectorWise};
use ndarray::Array2;
use proptest::prelude::*;

use super::{open, tensor};

fn weights() -> VectorWise {
    let x = Array2::from_shape_fn([3, 5], |(i, j)| (i * 5 + j) as f32 - 7.0);
    vector_wise::quantize(&x, NonFinite::Refuse).unwrap()
}

fn tensors() -> Vec<Tensor> {
    int8_state::tensors("a.weight", &weights()).unwrap()
}

fn refused(tensors: &[Tensor]) -> FileError {
    int8_state::read(&mut open(tensors), "a.weight").unwrap_err()
}

proptest! {
    #[test]
    fn what_is_written_is_read(rows in 0..5_usize, columns in 0..9_usize, seed in any::<u64>(), module in "([a-z]{1,4}\\.){0,2}") {
        let x = Array2::from_shape_fn([rows, columns], |(i, j)| (seed >> ((i * 9 + j) % 60)) as u8 as f32 - 100.0);
        let weights = vector_wise::quantize(&x, NonFinite::Refuse).unwrap();
        let name = format!("{module}weight");
        let tensors = int8_state::tensors(&name, &weights).unwrap();
        let mut file = open(&tensors);
        prop_assert_eq!(int8_state::names(&file), [&name[..]]);
        prop_assert_eq!(int8_state::read(&mut file, &name).unwrap(), weights);
    }
}

#[test]
fn files_without_a_format_are_rows() {
    let mut tensors = tensors();
    assert_eq!(tensors.pop().unwrap().name, "a.weight_format");
    assert_eq!(
        int8_state::read(&mut open(&tensors), "a.weight").unwrap(),
        weights()
    );
    // A format with an axis, as some tools write single numbers.
    tensors.push(tensor("a.weight_format", Dtype::U8, &[1], &[0]));
    assert_eq!(
        int8_state::read(&mut open(&tensors), "a.weight").unwrap(),
        weights()
    );
}

#[test]
fn codes_and_scales_must_be_there_and_fit() {
    for i in 0..2 {
        let mut tensors = tensors();
        let name = tensors.remove(i).name;
        assert_eq!(refused(&tensors), FileError::MissingTensor { name });
    }
    let mut changed = tensors();
    changed[0].dtype = Dtype::U8;
    let (name, expected, got) = ("a.weight".to_owned(), "I8", Dtype::U8);
    assert_eq!(
        refused(&changed),
        FileError::TensorType {
            name,
            expected,
            got
        }
    );
    let mut changed = tensors();
    changed[0].bytes[7] = 0x80;
    let error = FileError::Quant {
        name: "a.weight".to_owned(),
        source: llm_quant::QuantError::RowCode {
            index: 7,
            got: -128,
        },
    };
    assert_eq!(refused(&changed), error);
    let mut changed = tensors();
    changed[0].shape = vec![15];
    let (name, shape) = ("a.weight".to_owned(), vec![15]);
    assert_eq!(refused(&changed), FileError::CodesRank { name, shape });
    let mut changed = tensors();
    changed[1] = tensor("a.SCB", Dtype::F32, &[4], &[0; 16]);
    let error = FileError::TensorShape {
        name: "a.SCB".to_owned(),
        expected: vec![3],
        got: vec![4],
    };
    assert_eq!(refused(&changed), error);
    changed[1] = tensor("a.SCB", Dtype::F16, &[3], &[0; 6]);
    let (name, expected, got) = ("a.SCB".to_owned(), "F32", Dtype::F16);
    assert_eq!(
        refused(&changed),
        FileError::TensorType {
            name,
            expected,
            got
        }
    );
    let name = "a.bias".to_owned();
    let error = FileError::WeightName { name };
    assert_eq!(int8_state::tensors("a.bias", &weights()), Err(error));
}

#[test]
fn other_formats_than_rows_are_refused() {
    let name = || "a.weight_format".to_owned();
    let with = |dtype, shape: &[usize], bytes: &[u8]| {
        let mut tensors = tensors();
        tensors[2] = tensor("a.weight_format", dtype, shape, bytes);
        refused(&tensors)
    };
    let error = FileError::StateField {
        name: name(),
        field: "weight_format",
        expected: "0 (rows)".to_owned(),
        got: "[2]".to_owned(),
    };
    assert_eq!(with(Dtype::U8, &[], &[2]), error);
    let (expected, got) = ("U8", Dtype::I8);
    let error = FileError::TensorType {
        name: name(),
        expected,
        got,
    };
    assert_eq!(with(Dtype::I8, &[], &[0]), error);
    for (shape, n_bytes) in [(vec![2], 2), (vec![1, 1], 1), (vec![0], 0)] {
        let (expected, got) = (vec![], shape.clone());
        let error = FileError::TensorShape {
            name: name(),
            expected,
            got,
        };
        assert_eq!(with(Dtype::U8, &shape, &vec![0; n_bytes]), error);
    }
}
