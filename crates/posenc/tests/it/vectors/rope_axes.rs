//! Vector files of `posenc.mrope.*` and `posenc.vision2d.*`.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_numerics::testing::{Tolerance, compare};
use llm_posenc::reference;
use llm_posenc::rope::axes::{self, MropeVariant, VisionAxes};
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis, Ix2, Ix3, concatenate};

use super::rope::{Direction, Turns, rotate};

/// Runs one case on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    match case.op() {
        "posenc.mrope.apply" => mrope(case, tier),
        "posenc.vision2d.apply" => vision2d(case, tier),
        _ => Err(case.unknown_op()),
    }
}

/// The base and head size; half-split is the only layout of these ops.
fn config(case: &Case) -> Result<RopeConfig, VectorError> {
    if case.param_str("layout")? != "half_split" {
        return Err(case.unknown_param("layout", "\"half_split\""));
    }
    let config = RopeConfig::new(case.param_usize("head_dim")?, RopePairing::HalfSplit);
    Ok(config.with_base(case.param_f64("base")?))
}

/// The angles of this crate, as far as the library can tell: it rounds frequency and angle to f32.
fn check_angles(exact: ArrayView2<'_, f64>, f32_angles: &Array2<f64>) {
    // The power, two divisions and a product in f32: a few units in the last place.
    let difference = compare(f32_angles, &exact, Tolerance::new(0.0, 1e-6));
    assert!(difference.is_ok(), "{difference:?}");
}

fn mrope(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let config = config(case)?;
    let variant = match case.param_str("variant")? {
        "chunked" => MropeVariant::Chunked,
        "interleaved" => MropeVariant::Interleaved,
        _ => return Err(case.unknown_param("variant", "\"chunked\" or \"interleaved\"")),
    };
    if case.param_str("axes")? != "t,h,w" {
        return Err(case.unknown_param("axes", "\"t,h,w\""));
    }
    let sections = case.param_usize_list("mrope_section")?;
    let positions: Array3<usize> = case.input_usize::<Ix3>("positions")?;
    let (_, batch, seq) = positions.dim();

    // The library forms frequencies and angles in f32; the tiers differ in who deals out the axes.
    let inv_freq = rope::inv_freq(&config).map_err(VectorError::op)?;
    let narrow = inv_freq.mapv(|w| w as f32);
    let dealt = match tier {
        Tier::Reference => {
            // Axis a has the position a: the angles say which axis they are of.
            let marks = Array3::from_shape_fn((3, 1, 1), |(axis, _, _)| axis);
            let ones = Array1::ones(inv_freq.len());
            let dealt = reference::rope::axes::mrope_angles(&ones, &marks, &sections, variant);
            dealt.iter().map(|&axis| axis as usize).collect()
        }
        _ => axes::mrope_planes(inv_freq.len(), &sections, variant).map_err(VectorError::op)?,
    };
    let angles = Array2::from_shape_fn((batch * seq, inv_freq.len()), |(row, plane)| {
        let position = positions[[dealt[plane], row / seq, row % seq]];
        f64::from(position as f32 * narrow[plane])
    });
    match tier {
        Tier::Reference => {
            let exact =
                reference::rope::axes::mrope_angles(&inv_freq, &positions, &sections, variant);
            check_angles(exact.view(), &angles);
        }
        _ => {
            let table = axes::mrope_table(&inv_freq, &positions, &sections, variant, 1.0)
                .map_err(VectorError::op)?;
            check_table(&table, &angles);
        }
    }
    let turns = Turns::from_angles(&angles, 1.0);
    for (input, output, direction) in [
        ("q", "q", Direction::Forward),
        ("k", "k", Direction::Forward),
        ("dout_q", "dq", Direction::Backward),
        ("dout_k", "dk", Direction::Backward),
    ] {
        let y = rotate(case, tier, input, &turns, config.pairing, direction)?;
        case.expect(output, &y)?;
    }
    let twice = |x: Array2<f64>| {
        let n = x.ncols();
        Array3::from_shape_fn((batch, seq, 2 * n), |(b, t, i)| x[[b * seq + t, i % n]])
    };
    case.expect("cos", &twice(angles.mapv(f64::cos)))?;
    case.expect("sin", &twice(angles.mapv(f64::sin)))
}

/// Cosines and sines of a table against those of angles that are off by a millionth of themselves.
fn check_table(table: &RopeTable, angles: &Array2<f64>) {
    let largest = angles.iter().fold(0.0_f64, |max, angle| max.max(*angle));
    let tolerance = Tolerance::new(1e-6 * (1.0 + largest), 0.0);
    for (got, want) in [
        (table.cos(), angles.mapv(f64::cos)),
        (table.sin(), angles.mapv(f64::sin)),
    ] {
        let difference = compare(&got, &want, tolerance);
        assert!(difference.is_ok(), "{difference:?}");
    }
}

fn vision2d(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let config = config(case)?;
    let pixtral =
        "row uses frequencies 0, 2, 4, ..., column 1, 3, 5, ...; order [row, column, row, column]";
    let qwen =
        "row and column both use the frequencies of head_dim / 2; order [row, column, row, column]";
    let axes = match case.param_str("axes")? {
        text if text == pixtral => VisionAxes::EvenRowOddColumn,
        text if text == qwen => VisionAxes::SameFrequencies,
        _ => return Err(case.unknown_param("axes", &format!("{pixtral:?} or {qwen:?}"))),
    };
    let positions: Array2<usize> = case.input_usize::<Ix2>("position_ids")?;
    let size = (case.param_usize("height")?, case.param_usize("width")?);
    assert_eq!(positions.nrows(), size.0 * size.1);

    let half = config.rotary_dim / 4;
    let inv_freq = match tier {
        // The angle of the patch (1, 1) is the frequency.
        Tier::Reference => {
            let one = Array2::ones((1, 2));
            reference::rope::axes::vision_angles(&config, &one, axes)
                .row(0)
                .to_owned()
        }
        _ => axes::vision_inv_freq(&config, axes).map_err(VectorError::op)?,
    };
    let narrow = inv_freq.mapv(|w| w as f32);
    let angles = Array2::from_shape_fn((positions.nrows(), inv_freq.len()), |(t, plane)| {
        f64::from(positions[[t, usize::from(plane >= half)]] as f32 * narrow[plane])
    });
    match tier {
        Tier::Reference => {
            let exact = reference::rope::axes::vision_angles(&config, &positions, axes);
            check_angles(exact.view(), &angles);
        }
        _ => {
            let table = axes::vision_table(&config, &positions, axes).map_err(VectorError::op)?;
            check_table(&table, &angles);
        }
    }
    let turns = Turns::from_angles(&angles, 1.0);
    for name in ["q", "k"] {
        let y = rotate(case, tier, name, &turns, config.pairing, Direction::Forward)?;
        case.expect(name, &y)?;
    }
    case.expect("inv_freq", &inv_freq)?;
    let twice = |x: Array2<f64>| concatenate![Axis(1), x, x];
    case.expect("cos", &twice(angles.mapv(f64::cos)))?;
    case.expect("sin", &twice(angles.mapv(f64::sin)))
}
