//! Files of bitsandbytes: what it wrote, we read and write again; what lies is refused.

mod checkpoint;
mod config;
mod conversion;
mod hostile;
mod int8;
mod state;
mod stopped;
mod writing;

use std::io::Cursor;

use llm_quant::files::{Dtype, FileError, Tensor, TensorFile};
use safetensors::tensor::TensorView;

/// The bytes of a file with these tensors, written by the library of the format.
fn serialize(tensors: &[Tensor]) -> Vec<u8> {
    let views = tensors.iter().map(|tensor| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
        (tensor.name.as_str(), view.unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn open(tensors: &[Tensor]) -> TensorFile<Cursor<Vec<u8>>> {
    TensorFile::new(Cursor::new(serialize(tensors))).unwrap()
}

/// A file with a header that is written by hand.
fn by_hand(header: &str, data: &[u8]) -> Result<TensorFile<Cursor<Vec<u8>>>, FileError> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    TensorFile::new(Cursor::new(bytes))
}

fn tensor(name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Tensor {
    Tensor {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        bytes: bytes.to_vec(),
    }
}
