//! Cases of `llm-quant`: a layer of 4096 × 4096 in NF4 with double quantization.
//!
//! bitsandbytes gets our bytes, which have its own form, so that its results differ from ours by the order of sums alone. candle and llama.cpp have
//! formats of their own: with theirs, `Q4_0`, a product is close to ours, no more; both round `x` to 8 bits.

#[cfg(feature = "peers")]
mod candle;
mod low_rank;

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use llm_numerics::Storage;
use llm_numerics::half::bf16;
use llm_quant::double::NestedScales;
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::four_bit::{self, FourBit, FourBitCode, FourBitConfig, Scales};
use llm_quant::matmul::{self, ActivationBits};
use llm_quant::{double, reference};
use ndarray::Array2;
use serde_json::json;

use crate::case::{Bars, Case, Peer, Plan, Setup, Work, agree};
use crate::measure::Calls;
use crate::peers::Input;

/// Rows and columns of the weights.
const N: usize = 4096;
const BLOCK: usize = 64;
/// Sums of 4096 products of numbers up to 1 stay below 100; each addition is off by 4e-6 at most, and most by much less.
const ORDER_OF_SUMS: f64 = 1e-3;
/// What rounding to 15 bits adds: each element of `x` and each value of the code is off by about a 100,000th, root of the mean square, so 4096
/// products by 1e-3. Six times that, and somewhat more.
const FIFTEEN_BITS: f64 = 1e-2;
/// A product with weights in one format of four bits and with the same weights in another: each weight differs by about 0.075, and 4096 such
/// differences, times numbers up to 1, add up to about 2.8. Six times that is enough to see that it is a product with these weights.
const OTHER_FORMAT: f64 = 17.0;

/// Every case of the crate.
pub(crate) fn plans() -> Vec<Plan> {
    let plan = |name: &str, bars, build: fn(&Setup) -> Result<Case>| Plan {
        name: format!("{name}, NF4 with double quantization, {N}×{N}"),
        bars,
        build: Box::new(build),
    };
    let bars = |of_limit, peers| Bars { of_limit, peers };
    vec![
        plan(
            "1 row",
            bars(
                Some(0.45),
                &[("bitsandbytes", 50.0), ("candle", 2.0), ("llama.cpp", 1.0)],
            ),
            |setup| product(setup, 1, ActivationBits::Bits27),
        ),
        plan(
            "1 row in 15 bits",
            bars(
                Some(0.45),
                &[("bitsandbytes", 50.0), ("candle", 2.0), ("llama.cpp", 1.0)],
            ),
            |setup| product(setup, 1, ActivationBits::Bits15),
        ),
        plan("4 rows", Bars::default(), |setup| {
            product(setup, 4, ActivationBits::Bits27)
        }),
        plan("4 rows in 15 bits", Bars::default(), |setup| {
            product(setup, 4, ActivationBits::Bits15)
        }),
        plan(
            "256 rows",
            bars(Some(0.55), &[("bitsandbytes", 2.0)]),
            |setup| product(setup, 256, ActivationBits::Bits27),
        ),
        plan("256 rows backward", Bars::default(), backward),
        // The update reads a sixteenth of the packed bytes more, or multiplies by a 128th more.
        plan(
            "1 row, update of rank 16",
            bars(None, &[("ours without update", 0.85)]),
            |setup| low_rank::product(setup, 1),
        ),
        plan(
            "256 rows, update of rank 16",
            bars(None, &[("ours without update", 0.9)]),
            |setup| low_rank::product(setup, 256),
        ),
        plan(
            "dequantize to f32",
            bars(Some(0.6), &[("bitsandbytes", 10.0)]),
            dequantize::<f32>,
        ),
        plan("dequantize to bf16", Bars::default(), dequantize::<bf16>),
        plan(
            "quantize from f32",
            bars(None, &[("bitsandbytes", 10.0)]),
            quantize,
        ),
    ]
}

/// Weights, and what they are packed into as often as the cache asks for.
struct Layer {
    weights: Array2<f32>,
    sets: Vec<FourBit>,
}

impl Layer {
    fn new(setup: &Setup) -> Result<Self> {
        let weights = Array2::from_shape_vec([N, N], setup.random(0, N * N))?;
        let packed = pack(&weights)?;
        let sets = setup.sets(packed.bytes());
        Ok(Self {
            weights,
            sets: vec![packed; sets],
        })
    }

    fn nested(&self) -> Result<&NestedScales> {
        match self.sets[0].scales() {
            Scales::Nested(nested) => Ok(nested),
            _ => anyhow::bail!("the scales are quantized"),
        }
    }

    /// What the bytes stand for, exactly.
    fn exact(&self) -> Result<Vec<f64>> {
        let packed = &self.sets[0];
        let codes = reference::blocks::unpack(packed.packed(), N * N);
        let scales = double::dequantize(self.nested()?)?;
        let values = packed.code().values();
        Ok(reference::blocks::dequantize(
            &codes, &scales, &values, BLOCK,
        ))
    }

    /// The bytes for peers.
    fn arrays(&self) -> Result<Vec<Array>> {
        let nested = self.nested()?;
        let bytes = |bytes: &[u8]| bytes.iter().map(|&byte| f32::from(byte)).collect();
        Ok(vec![
            Array::list("packed", bytes(self.sets[0].packed())),
            Array::list("scales", bytes(nested.codes())),
            Array::list("nested_scales", nested.absmax().to_vec()),
            Array::list("offset", vec![nested.offset()]),
        ])
    }
}

/// An array for the peers.
struct Array {
    name: &'static str,
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Array {
    fn list(name: &'static str, data: Vec<f32>) -> Self {
        let shape = vec![data.len()];
        Self { name, shape, data }
    }

    fn matrix(name: &'static str, x: &Array2<f32>) -> Result<Self> {
        Ok(Self {
            name,
            shape: x.shape().to_vec(),
            data: numbers(x)?.to_vec(),
        })
    }
}

/// With the search of bitsandbytes on the CPU, so that the work is the same.
fn pack(weights: &Array2<f32>) -> Result<FourBit> {
    let plain = four_bit::quantize(weights, &FourBitConfig::new(FourBitCode::Nf4, BLOCK))?;
    Ok(double::compress(plain, EightBitSearch::BitsandbytesCpu)?)
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn numbers(x: &Array2<f32>) -> Result<&[f32]> {
    x.as_slice().context("arrays made here are contiguous")
}

/// One row reads all of the weights and has little to compute; many rows multiply.
fn product(setup: &Setup, seq: usize, bits: ActivationBits) -> Result<Case> {
    let layer = Layer::new(setup)?;
    let x = Array2::from_shape_vec([seq, N], setup.random(1, seq * N))?;
    let ours = matmul::forward_rounded(&x, &layer.sets[0], bits)?;
    let ours = wide(numbers(&ours)?);
    let close = match bits {
        ActivationBits::Bits15 => ORDER_OF_SUMS + FIFTEEN_BITS,
        _ => ORDER_OF_SUMS,
    };
    // Two rows are enough to see that it is right, and few enough to wait for.
    let few = seq.min(2) * N;
    let x_wide = wide(&numbers(&x)?[..few]);
    let want = reference::matmul::forward(&x_wide, &layer.exact()?, N, N);
    agree("our product", ours[..few].iter().copied(), want, close)?;

    let mut peers = Vec::new();
    #[cfg(feature = "peers")]
    if setup.python.is_some() && seq == 1 {
        let sets = layer.sets.len();
        peers.push(candle::product(&layer.weights, &x, &ours, sets)?);
    }
    let params = json!({ "block": BLOCK, "q4_0": seq == 1, "threads": setup.threads });
    let mut inputs = layer.arrays()?;
    inputs.extend([Array::matrix("w", &layer.weights)?, Array::matrix("x", &x)?]);
    for (peer, out) in python(setup, "product", &params, &inputs, layer.sets.len())? {
        let is_same_format = peer.library == "bitsandbytes";
        let tolerance = if is_same_format {
            ORDER_OF_SUMS + close
        } else {
            OTHER_FORMAT
        };
        agree(&peer.library, wide(&out), ours.iter().copied(), tolerance)?;
        peers.push(peer);
    }
    let sets = layer.sets;
    let work = if seq < 16 {
        Work::Read {
            bytes: sets[0].packed().len(),
        }
    } else {
        Work::Product {
            operations: 2 * seq * N * N,
        }
    };
    Ok(Case {
        work,
        ours: Calls::boxed(move |call| {
            let weights = &sets[call % sets.len()];
            black_box(matmul::forward_rounded(&x, weights, bits)?);
            Ok(())
        }),
        peers,
    })
}

/// The gradient to the input.
fn backward(setup: &Setup) -> Result<Case> {
    let (layer, seq) = (Layer::new(setup)?, 256);
    let dout = Array2::from_shape_vec([seq, N], setup.random(1, seq * N))?;
    let ours = matmul::backward(&dout, &layer.sets[0])?;
    let few = 2 * N;
    let dout_wide = wide(&numbers(&dout)?[..few]);
    let want = reference::matmul::backward(&dout_wide, &layer.exact()?, N, N);
    agree(
        "our gradient",
        wide(&numbers(&ours)?[..few]),
        want,
        ORDER_OF_SUMS,
    )?;
    let sets = layer.sets;
    Ok(Case {
        work: Work::Product {
            operations: 2 * seq * N * N,
        },
        ours: Calls::boxed(move |call| {
            black_box(matmul::backward(&dout, &sets[call % sets.len()])?);
            Ok(())
        }),
        peers: Vec::new(),
    })
}

/// Into an array that is there; bitsandbytes makes a new one, its CPU code has no other way.
fn dequantize<S: Storage>(setup: &Setup) -> Result<Case> {
    let layer = Layer::new(setup)?;
    let mut out = Array2::from_elem([N, N], S::from_f32(0.0));
    four_bit::dequantize_into(&layer.sets[0], &mut out)?;
    let ours: Vec<f64> = out.iter().map(|x| f64::from(x.to_f32())).collect();
    let want = layer.exact()?.into_iter();
    let want = want.map(|x| f64::from(S::from_f32(x as f32).to_f32()));
    agree("our numbers", ours.iter().copied(), want, 0.0)?;
    let dtype = match size_of::<S>() {
        4 => "float32",
        _ => "bfloat16",
    };
    let params = json!({ "block": BLOCK, "dtype": dtype });
    let inputs = layer.arrays()?;
    let mut peers = Vec::new();
    for (peer, out) in python(setup, "dequantize", &params, &inputs, layer.sets.len())? {
        agree(&peer.library, wide(&out), ours.iter().copied(), 0.0)?;
        peers.push(peer);
    }
    let sets = layer.sets;
    Ok(Case {
        work: Work::Copy {
            bytes: sets[0].bytes() + N * N * size_of::<S>(),
        },
        ours: Calls::boxed(move |call| {
            four_bit::dequantize_into(&sets[call % sets.len()], &mut out)?;
            black_box(&mut out);
            Ok(())
        }),
        peers,
    })
}

/// Compared are the packed bytes. The scales depend on the order in which a library adds up their mean.
fn quantize(setup: &Setup) -> Result<Case> {
    let layer = Layer::new(setup)?;
    let ours: Vec<f64> = layer.sets[0]
        .packed()
        .iter()
        .map(|&byte| f64::from(byte))
        .collect();
    let values = layer.sets[0].code().values();
    let (codes, _) = reference::blocks::quantize(numbers(&layer.weights)?, &values, BLOCK);
    let want = reference::blocks::pack(&codes, 0)
        .into_iter()
        .map(f64::from);
    agree("our bytes", ours.iter().copied(), want, 0.0)?;
    let params = json!({ "block": BLOCK });
    let inputs = [Array::matrix("w", &layer.weights)?];
    let mut peers = Vec::new();
    for (peer, out) in python(setup, "quantize", &params, &inputs, 1)? {
        agree(&peer.library, wide(&out), ours.iter().copied(), 0.0)?;
        peers.push(peer);
    }
    let bytes = layer.sets[0].bytes() + N * N * size_of::<f32>();
    ensure!(
        bytes > setup.cache_bytes,
        "the weights must not fit into the cache"
    );
    let weights = layer.weights;
    Ok(Case {
        work: Work::Copy { bytes },
        ours: Calls::boxed(move |_| {
            black_box(pack(&weights)?);
            Ok(())
        }),
        peers,
    })
}

/// The peers of a case in Python with their first outputs. They copy what must not stay in the cache.
fn python(
    setup: &Setup,
    case: &str,
    params: &serde_json::Value,
    inputs: &[Array],
    sets: usize,
) -> Result<Vec<(Peer, Vec<f32>)>> {
    let Some(python) = &setup.python else {
        return Ok(Vec::new());
    };
    let inputs: Vec<_> = inputs
        .iter()
        .map(|array| Input {
            name: array.name,
            shape: array.shape.clone(),
            data: &array.data,
            rotates: false,
        })
        .collect();
    let opened = python.open(["quant", case], params, &inputs, sets)?;
    opened
        .into_iter()
        .map(|mut opened| {
            let out = opened.outputs.remove("out");
            Ok((opened.peer, out.context("a peer must have an output")?))
        })
        .collect()
}
