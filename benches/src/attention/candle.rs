//! candle's attention for the CPU. It has no backward.

use anyhow::Result;
use candle_core::{Device, Tensor};
use candle_nn::attention::{AttnMask, flash_attn, flash_attn_varlen_cpu};
use ndarray::{ArrayView, Dimension};

use super::dense::{Sees, tolerance};
use crate::case::{Peer, agree};
use crate::measure::Calls;

/// Queries, keys and values.
type Inputs = [Tensor; 3];

/// What is timed.
type Run = Box<dyn Fn(&Inputs) -> candle_core::Result<Tensor>>;

/// The elements in the order of the view.
pub(super) fn tensor<D: Dimension>(x: &ArrayView<'_, f32, D>) -> Result<Tensor> {
    let values: Vec<f32> = x.iter().copied().collect();
    Ok(Tensor::from_vec(values, x.shape(), &Device::Cpu)?)
}

/// `[batch, seq, heads, head_dim]` to `[batch, heads, seq, head_dim]`; the query stands at the last key.
pub(super) fn dense(sees: Sees, before: usize, scale: f32, softcap: Option<f32>) -> Run {
    let mask = match sees {
        Sees::All => AttnMask::None,
        Sees::Causal => AttnMask::causal_with_offset(before),
        // A window is in its form for packed sequences only; that returns `[seq, heads, head_dim]`.
        Sees::LastKeys(n) => {
            return Box::new(move |[q, k, v]| {
                let seq = q.dim(1)?;
                let [q, k, v] = [q.squeeze(0)?, k.squeeze(0)?, v.squeeze(0)?];
                let lengths = Tensor::new(&[seq as u32], &Device::Cpu)?;
                let window = Some(n.saturating_sub(1));
                let out = varlen(&q, &k, &v, &lengths, seq, scale, window)?;
                out.transpose(0, 1) // a view
            });
        }
    };
    Box::new(move |[q, k, v]| flash_attn::<f32>(q, k, v, scale, mask.clone(), None, softcap))
}

/// `[total, heads, head_dim]` of sequences one behind the other, causal in each.
pub(super) fn packed(lengths: &[usize], scale: f32) -> Result<Run> {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let lengths: Vec<u32> = lengths.iter().map(|&n| n as u32).collect();
    let lengths = Tensor::new(&lengths[..], &Device::Cpu)?;
    Ok(Box::new(move |[q, k, v]| {
        varlen(q, k, v, &lengths, longest, scale, None)
    }))
}

fn varlen(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    lengths: &Tensor,
    longest: usize,
    scale: f32,
    left: Option<usize>,
) -> candle_core::Result<Tensor> {
    let right = left.map(|_| 0);
    let (slopes, causal) = (None, true);
    flash_attn_varlen_cpu(
        q, k, v, slopes, lengths, lengths, longest, longest, scale, causal, left, right,
    )
}

/// Compares the result with ours, and makes a peer that takes the next set in each call.
pub(super) fn peer(sets: Vec<Inputs>, run: Run, ours: &[f32]) -> Result<Peer> {
    let theirs = run(&sets[0])?.flatten_all()?.to_vec1::<f32>()?;
    let theirs = theirs.iter().map(|&x| f64::from(x));
    let ours = ours.iter().map(|&x| f64::from(x));
    agree("candle", theirs, ours, 2.0 * tolerance("out"))?;
    Ok(Peer {
        library: "candle".to_owned(),
        version: crate::peers::CANDLE.to_owned(),
        contender: Calls::boxed(move |call| {
            std::hint::black_box(run(&sets[call % sets.len()])?);
            Ok(())
        }),
    })
}
