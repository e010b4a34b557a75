//! candle's product with weights in its own format of four bits, `Q4_0`.

use anyhow::Result;
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module as _, Tensor};
use ndarray::Array2;

use super::{N, OTHER_FORMAT, numbers};
use crate::case::{Peer, agree};
use crate::measure::Calls;

/// A product with one of `sets` copies of the weights in each call.
pub(super) fn product(
    weights: &Array2<f32>,
    x: &Array2<f32>,
    ours: &[f64],
    sets: usize,
) -> Result<Peer> {
    let tensor = |x: &Array2<f32>| -> Result<Tensor> {
        Ok(Tensor::from_slice(
            numbers(x)?,
            (x.nrows(), N),
            &Device::Cpu,
        )?)
    };
    let weights = tensor(weights)?;
    let layers = (0..sets).map(|_| {
        let packed = QTensor::quantize(&weights, GgmlDType::Q4_0)?;
        QMatMul::from_qtensor(packed)
    });
    let layers: Vec<QMatMul> = layers.collect::<candle_core::Result<_>>()?;
    let x = tensor(x)?;
    let theirs = layers[0].forward(&x)?.flatten_all()?.to_vec1::<f32>()?;
    let theirs = theirs.iter().map(|&y| f64::from(y));
    agree("candle", theirs, ours.iter().copied(), OTHER_FORMAT)?;
    Ok(Peer {
        library: "candle".to_owned(),
        version: crate::peers::CANDLE.to_owned(),
        contender: Calls::boxed(move |call| {
            std::hint::black_box(layers[call % layers.len()].forward(&x)?);
            Ok(())
        }),
    })
}
