//! A safetensors file written by hand, so that the reader is not tested against its own library's writer.

use std::collections::BTreeMap;

use llm_numerics::testing::vectors::Case;
use serde_json::{Value, json};

/// Writes a safetensors file by hand: length of the header, header, bytes.
#[derive(Clone)]
pub(super) struct File {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, &'static str, Vec<usize>, Vec<u8>)>,
}

impl File {
    pub(super) fn new(op: &str, params: Value) -> Self {
        let metadata = [
            ("op", op),
            ("params", &params.to_string()),
            ("source", "by hand"),
            ("rtol", "0.0"),
            ("atol", "1e-6"),
        ];
        Self {
            metadata: metadata
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            tensors: Vec::new(),
        }
    }

    pub(super) fn meta(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(super) fn without(mut self, key: &str) -> Self {
        self.metadata.remove(key);
        self
    }

    pub(super) fn raw(
        mut self,
        name: &str,
        dtype: &'static str,
        shape: &[usize],
        bytes: Vec<u8>,
    ) -> Self {
        self.tensors
            .push((name.to_owned(), dtype, shape.to_vec(), bytes));
        self
    }

    pub(super) fn f32(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        self.raw(
            name,
            "F32",
            shape,
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        )
    }

    pub(super) fn i64(self, name: &str, shape: &[usize], values: &[i64]) -> Self {
        self.raw(
            name,
            "I64",
            shape,
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        )
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut header = serde_json::Map::new();
        header.insert("__metadata__".to_owned(), json!(self.metadata));
        let mut data = Vec::new();
        for (name, dtype, shape, bytes) in &self.tensors {
            let start = data.len();
            data.extend_from_slice(bytes);
            header.insert(
                name.clone(),
                json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] }),
            );
        }
        let header = Value::Object(header).to_string();
        [
            &(header.len() as u64).to_le_bytes(),
            header.as_bytes(),
            &data,
        ]
        .concat()
    }

    pub(super) fn case(&self) -> Case {
        Case::from_bytes("case", &self.bytes()).unwrap()
    }
}
