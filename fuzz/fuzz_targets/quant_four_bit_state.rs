//! Files that claim to be of bitsandbytes: weights that can be unpacked and come back from what is written for them, or a typed error.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use llm_quant::files::{Dtype, FileError, QuantizationConfig, Tensor, TensorFile, TensorSource};
use llm_quant::files::{TensorInfo, four_bit_state, int8_state};
use llm_quant::four_bit;

/// Tensors in memory, of which the lengths are right and all else is anything.
struct Memory(Vec<(String, TensorInfo, Vec<u8>)>);

impl Memory {
    fn new(tensors: Vec<Tensor>) -> Self {
        let place = |tensor: Tensor| {
            let info = TensorInfo {
                dtype: tensor.dtype,
                shape: tensor.shape,
                data_offsets: (0, tensor.bytes.len()),
            };
            (tensor.name, info, tensor.bytes)
        };
        Self(tensors.into_iter().map(place).collect())
    }
}

impl TensorSource for Memory {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|tensor| tensor.0.clone()).collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        let mut tensors = self.0.iter();
        tensors
            .find(|tensor| tensor.0 == name)
            .map(|tensor| &tensor.1)
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, FileError> {
        let mut tensors = self.0.iter();
        let found = tensors.find(|tensor| tensor.0 == name);
        found
            .map(|tensor| tensor.2.clone())
            .ok_or_else(|| FileError::MissingTensor {
                name: name.to_owned(),
            })
    }
}

fn check(source: &mut impl TensorSource) {
    for name in four_bit_state::names(source) {
        let Ok(weights) = four_bit_state::read(source, &name) else {
            continue;
        };
        let back = four_bit::dequantize::<f32>(&weights.weights);
        assert!(back.is_ok_and(|back| back.shape() == weights.weights.shape()));
        if let Ok(tensors) = four_bit_state::tensors(&name, &weights) {
            let again = four_bit_state::read(&mut Memory::new(tensors), &name);
            // As text: scales may be NaN.
            assert_eq!(
                format!("{again:?}"),
                format!("{:?}", Ok::<_, FileError>(weights))
            );
        }
    }
    for name in int8_state::names(source) {
        let _ = int8_state::read(source, &name);
    }
}

fuzz_target!(|input: (Vec<u8>, Vec<u8>, Vec<u8>, [u8; 8])| {
    let (file, json, data, [flags, lengths @ ..]) = input;
    if let Ok(mut file) = TensorFile::new(Cursor::new(&file[..])) {
        check(&mut file);
    }
    let _ = QuantizationConfig::read(&String::from_utf8_lossy(&json));
    // The parts of a state: its JSON is anything, the lengths of the others are near to what they should be.
    let code = if flags & 1 == 0 { "nf4" } else { "fp4" };
    let values = if flags & 1 == 0 {
        llm_quant::nf4::code()
    } else {
        llm_quant::fp4::code()
    };
    let bytes = |len: usize| -> Vec<u8> {
        data.iter()
            .copied()
            .cycle()
            .take(if data.is_empty() { 0 } else { len })
            .collect()
    };
    let tensor = |part: &str, dtype, shape: Vec<usize>, bytes| Tensor {
        name: format!("w{part}"),
        dtype,
        shape,
        bytes,
    };
    let [packed, absmax, nested, ..] = lengths.map(usize::from);
    let map: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut tensors = vec![
        tensor("", Dtype::U8, vec![packed, 1], bytes(packed)),
        tensor(".quant_map", Dtype::F32, vec![16], map),
        tensor(
            &format!(".quant_state.bitsandbytes__{code}"),
            Dtype::U8,
            vec![json.len()],
            json,
        ),
    ];
    if flags & 2 == 0 {
        tensors.push(tensor(
            ".absmax",
            Dtype::F32,
            vec![absmax],
            bytes(4 * absmax),
        ));
    } else {
        let map = llm_quant::dynamic_map::signed8();
        let map: Vec<u8> = map.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensors.push(tensor(".absmax", Dtype::U8, vec![absmax], bytes(absmax)));
        tensors.push(tensor(
            ".nested_absmax",
            Dtype::F32,
            vec![nested],
            bytes(4 * nested),
        ));
        tensors.push(tensor(".nested_quant_map", Dtype::F32, vec![256], map));
    }
    // What has not the bytes of its shape could not come out of a file.
    let size = |dtype: Dtype| dtype.bitsize() / 8;
    if { tensors.iter() }
        .all(|t| t.shape.iter().product::<usize>() * size(t.dtype) == t.bytes.len())
    {
        check(&mut Memory::new(tensors));
    }
});
