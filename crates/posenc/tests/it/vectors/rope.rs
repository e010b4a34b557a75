//! Vector files of `posenc.rope.*`.

use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_posenc::reference;
use llm_posenc::rope::permute::{self, RopePermutation};
use llm_posenc::rope::{self, RopePairing, RopeTable, StorageRounding};
use ndarray::{Array1, Array2, Array3, Array4, Axis, Ix1, Ix2, Ix3, Ix4, s};

/// Runs one case on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    match case.op() {
        "posenc.rope.apply" => apply(case, tier),
        "posenc.rope.inv_freq" | "posenc.rope.update_sequence" => {
            super::rope_scaling::run(case, tier)
        }
        "posenc.rope.permute" => permute(case, tier),
        _ => Err(case.unknown_op()),
    }
}

/// Which way to turn.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Direction {
    Forward,
    Backward,
}

/// Cosines and sines in f64, factor included: `[seq, rotary_dim / 2]` or `[batch * seq, rotary_dim / 2]`.
pub(super) struct Turns {
    cos: Array2<f64>,
    sin: Array2<f64>,
}

impl Turns {
    pub(super) fn from_angles(angles: &Array2<f64>, factor: f64) -> Self {
        Self {
            cos: angles.mapv(|angle| factor * angle.cos()),
            sin: angles.mapv(|angle| factor * angle.sin()),
        }
    }

    fn rounded(&self, storage: HalfType) -> Self {
        Self {
            cos: self.cos.mapv(|x| storage.round(x)),
            sin: self.sin.mapv(|x| storage.round(x)),
        }
    }
}

/// The storage types that a file may name.
#[derive(Clone, Copy)]
enum HalfType {
    Bf16,
    F16,
}

impl HalfType {
    fn param(case: &Case, name: &str) -> Result<Option<Self>, VectorError> {
        match case.param_opt_str(name)? {
            None => Ok(None),
            Some("bfloat16") => Ok(Some(Self::Bf16)),
            Some("float16") => Ok(Some(Self::F16)),
            _ => Err(case.unknown_param(name, "\"bfloat16\", \"float16\" or none")),
        }
    }

    /// To nearest, ties to even, once.
    fn round(self, x: f64) -> f64 {
        match self {
            Self::Bf16 => bf16::from_f64(x).to_f64(),
            Self::F16 => f16::from_f64(x).to_f64(),
        }
    }

    fn round_table(self, table: &RopeTable) -> RopeTable {
        match self {
            Self::Bf16 => table.rounded::<bf16>(),
            Self::F16 => table.rounded::<f16>(),
        }
    }
}

/// The rotation of one array of numbers on one tier: all that a kernel needs.
pub(super) fn rotate(
    case: &Case,
    tier: Tier,
    input: &str,
    turns: &Turns,
    pairing: RopePairing,
    direction: Direction,
) -> Result<Array4<f64>, VectorError> {
    match tier {
        Tier::Reference => {
            let op = match direction {
                Direction::Forward => reference::rope::apply_cos_sin,
                Direction::Backward => reference::rope::backward_cos_sin,
            };
            let x: Array4<f64> = case.input_f64::<Ix4>(input)?;
            op(&x, &turns.cos, &turns.sin, pairing).map_err(VectorError::op)
        }
        Tier::Cpu => {
            let op = match direction {
                Direction::Forward => rope::apply,
                Direction::Backward => rope::backward,
            };
            let x: Array4<f32> = case.input_f32::<Ix4>(input)?;
            let y = op(&x, &table(turns)?, pairing).map_err(VectorError::op)?;
            Ok(y.mapv(f64::from))
        }
        #[cfg(feature = "gpu")]
        Tier::Gpu => {
            use llm_posenc::gpu::rope::{self as gpu_rope, GpuRopeTable};
            let x: Array4<f32> = case.input_f32::<Ix4>(input)?;
            let table = table(turns)?;
            let y = super::device::run(|gpu, recorder| {
                let table = GpuRopeTable::upload(gpu, &table)?;
                let x = gpu.upload(&x)?;
                match direction {
                    Direction::Forward => gpu_rope::apply(recorder, &x, &table, pairing),
                    Direction::Backward => gpu_rope::backward(recorder, &x, &table, pairing),
                }
            })?;
            let y = y.into_dimensionality::<Ix4>().map_err(VectorError::op)?;
            Ok(y.mapv(f64::from))
        }
        #[cfg(not(feature = "gpu"))]
        Tier::Gpu => Err(case.unsupported("built without the feature `gpu`")),
    }
}

/// [`rotate`] where every tensor and every operation is in a half type.
fn rotate_stored(
    case: &Case,
    tier: Tier,
    input: &str,
    turns: &Turns,
    pairing: RopePairing,
    direction: Direction,
    storage: HalfType,
) -> Result<Array4<f64>, VectorError> {
    let is_backward = direction == Direction::Backward;
    match tier {
        Tier::Reference => {
            let x: Array4<f64> = case.input_f64::<Ix4>(input)?;
            let turns = turns.rounded(storage);
            let round = |x| storage.round(x);
            reference::rope::apply_rounded(&x, &turns.cos, &turns.sin, pairing, is_backward, round)
                .map_err(VectorError::op)
        }
        Tier::Cpu => {
            let x: Array4<f32> = case.input_f32::<Ix4>(input)?;
            let table = storage.round_table(&table(turns)?);
            match storage {
                HalfType::Bf16 => turn_stored::<bf16>(&x, &table, pairing, direction),
                HalfType::F16 => turn_stored::<f16>(&x, &table, pairing, direction),
            }
        }
        Tier::Gpu => Err(case.unsupported("no kernel for half precision in each step")),
    }
}

fn turn_stored<S: Storage>(
    x: &Array4<f32>,
    table: &RopeTable,
    pairing: RopePairing,
    direction: Direction,
) -> Result<Array4<f64>, VectorError> {
    let op = match direction {
        Direction::Forward => rope::apply_stored,
        Direction::Backward => rope::backward_stored,
    };
    let x = x.mapv(S::from_f32);
    let y = op(&x, table, pairing, StorageRounding::EachOperation).map_err(VectorError::op)?;
    Ok(y.mapv(|x| f64::from(x.to_f32())))
}

fn table(turns: &Turns) -> Result<RopeTable, VectorError> {
    let narrow = |x: &Array2<f64>| x.mapv(|x| x as f32);
    RopeTable::from_cos_sin(&narrow(&turns.cos), &narrow(&turns.sin)).map_err(VectorError::op)
}

fn apply(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let layouts = "\"half_split\", \"interleaved\" or \"read_interleaved_write_half_split\"";
    let pairing = match case.param_str("layout")? {
        "half_split" => RopePairing::HalfSplit,
        "interleaved" => RopePairing::Interleaved,
        "read_interleaved_write_half_split" => RopePairing::ReadInterleavedWriteHalfSplit,
        _ => return Err(case.unknown_param("layout", layouts)),
    };
    let head_dim = case.param_usize("head_dim")?;
    let rotary_dim = case.param_usize("rotary_dim")?;
    let factor = case.param_opt_f64("attention_factor")?.unwrap_or(1.0);
    case.param_opt_f64("base")?; // the frequencies are given
    let cache = HalfType::param(case, "cache_rounding")?;
    let storage = HalfType::param(case, "storage")?;
    let inv_freq: Array1<f32> = case.input_f32("inv_freq")?;
    assert_eq!(2 * inv_freq.len(), rotary_dim);
    assert_eq!(case.input_shape("q").map(|shape| shape[3]), Some(head_dim));

    let positions: Array2<usize> = case.input_usize::<Ix2>("positions")?;
    let mut turns = if case.has_input("cos") {
        Turns {
            cos: given(&case.input_f64::<Ix3>("cos")?, inv_freq.len()),
            sin: given(&case.input_f64::<Ix3>("sin")?, inv_freq.len()),
        }
    } else {
        // The library that made the file forms the angles in f32.
        let positions: Vec<usize> = positions.into_iter().collect();
        let angles = Array2::from_shape_fn((positions.len(), inv_freq.len()), |(t, i)| {
            f64::from(positions[t] as f32 * inv_freq[i])
        });
        Turns::from_angles(&angles, factor)
    };
    if let Some(cache) = cache {
        turns = turns.rounded(cache);
    }
    for (input, output, direction) in [
        ("q", "q", Direction::Forward),
        ("k", "k", Direction::Forward),
        ("dout_q", "dq", Direction::Backward),
        ("dout_k", "dk", Direction::Backward),
    ] {
        if direction == Direction::Backward && !case.has_input(input) {
            continue;
        }
        let y = match storage {
            None => rotate(case, tier, input, &turns, pairing, direction)?,
            Some(storage) => rotate_stored(case, tier, input, &turns, pairing, direction, storage)?,
        };
        case.expect(output, &y)?;
    }
    Ok(())
}

/// The columns of each plane, whichever way the file repeats them: `[rows, n_planes]`.
fn given(x: &Array3<f64>, n_planes: usize) -> Array2<f64> {
    let (batch, seq, width) = x.dim();
    let halves = x.slice(s![.., .., ..n_planes]);
    let columns = if width == n_planes || halves == x.slice(s![.., .., width - n_planes..]) {
        halves
    } else {
        x.slice(s![.., .., ..;2])
    };
    assert_eq!(columns.len_of(Axis(2)), n_planes);
    Array2::from_shape_fn((batch * seq, n_planes), |(row, plane)| {
        columns[[row / seq, row % seq, plane]]
    })
}

fn permute(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let layout = |name| match case.param_str(name)? {
        "half_split" => Ok(RopePairing::HalfSplit),
        "interleaved" => Ok(RopePairing::Interleaved),
        _ => Err(case.unknown_param(name, "\"half_split\" or \"interleaved\"")),
    };
    let (from, to) = (layout("from")?, layout("to")?);
    let (head_dim, rotary_dim) = (
        case.param_usize("head_dim")?,
        case.param_usize("rotary_dim")?,
    );
    let weight: Array2<f64> = case.input_f64::<Ix2>("weight")?;
    let bias: Array1<f64> = case.input_f64::<Ix1>("bias")?;
    match tier {
        Tier::Reference => {
            let matrix = reference::rope::permute::unrotated(head_dim, rotary_dim, from, to);
            let got = reference::rope::permute::weight(&weight, &matrix);
            case.expect("weight", &got)?;
            let column = bias.insert_axis(Axis(1));
            let got = reference::rope::permute::weight(&column, &matrix);
            case.expect("bias", &got.remove_axis(Axis(1)))
        }
        Tier::Cpu => {
            let permutation = RopePermutation::new(head_dim, rotary_dim, from, to);
            let permutation = permutation.map_err(VectorError::op)?;
            let got = permute::weight(&weight, &permutation).map_err(VectorError::op)?;
            case.expect("weight", &got)?;
            let got = permute::bias(&bias, &permutation).map_err(VectorError::op)?;
            case.expect("bias", &got)
        }
        Tier::Gpu => Err(case.unsupported("weights are permuted when they are loaded")),
    }
}
