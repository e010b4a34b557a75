//! Vector files of `posenc.rope.*`.

use llm_numerics::Float;
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_posenc::reference;
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
use ndarray::{Array1, Array2, Array4, ArrayView2, Axis, Ix1, Ix2, Ix4, Slice};

/// Runs one case on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    match case.op() {
        "posenc.rope.apply" => apply(case, tier),
        "posenc.rope.inv_freq" => inv_freq(case, tier),
        "posenc.rope.update_sequence" => super::rope_scaling::run(case, tier),
        _ => Err(case.unknown_op()),
    }
}

fn apply(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let layouts = "\"half_split\" or \"interleaved\" in this version";
    let pairing = match case.param_str("layout")? {
        "half_split" => RopePairing::HalfSplit,
        "interleaved" => RopePairing::Interleaved,
        _ => return Err(case.unknown_param("layout", layouts)),
    };
    for name in ["cache_rounding", "storage"] {
        if case.has_param(name) {
            return Err(case.unknown_param(name, "none: not in this version"));
        }
    }
    let head_dim = case.param_usize("head_dim")?;
    let rotary_dim = case.param_usize("rotary_dim")?;
    let factor = case.param_opt_f64("attention_factor")?.unwrap_or(1.0);
    case.param_opt_f64("base")?; // the frequencies are given
    let inv_freq: Array1<f32> = case.input_f32("inv_freq")?;
    assert_eq!(2 * inv_freq.len(), rotary_dim);
    assert_eq!(case.input_shape("q").map(|shape| shape[3]), Some(head_dim));

    // The library that made the file forms the angles in f32.
    let positions: Array2<usize> = case.input_usize::<Ix2>("positions")?;
    let angles: Vec<Array2<f64>> = positions
        .outer_iter()
        .map(|positions| {
            Array2::from_shape_fn((positions.len(), inv_freq.len()), |(t, i)| {
                f64::from(positions[t] as f32 * inv_freq[i])
            })
        })
        .collect();
    for (name, input, output) in [("q", "q", "q"), ("k", "k", "k")]
        .into_iter()
        .chain([("q", "dout_q", "dq"), ("k", "dout_k", "dk")])
    {
        let is_backward = input != name;
        if is_backward && !case.has_input(input) {
            continue;
        }
        match tier {
            Tier::Reference => {
                let op = match is_backward {
                    false => reference::rope::apply,
                    true => reference::rope::backward,
                };
                let x: Array4<f64> = case.input_f64::<Ix4>(input)?;
                let y = rows(&x, &angles, |x, angles| {
                    op(&x, &angles, pairing, factor).map_err(VectorError::op)
                })?;
                case.expect(output, &y)?;
            }
            Tier::Cpu => {
                let op = match is_backward {
                    false => rope::apply,
                    true => rope::backward,
                };
                let x: Array4<f32> = case.input_f32::<Ix4>(input)?;
                let y = rows(&x, &angles, |x, angles| {
                    let table = RopeTable::from_angles(&angles, factor).map_err(VectorError::op)?;
                    op(&x, &table, pairing).map_err(VectorError::op)
                })?;
                case.expect(output, &y)?;
            }
            Tier::Gpu => return Err(case.unsupported("no kernel yet")),
        }
    }
    Ok(())
}

/// Positions of its own for each row of the batch: one call each.
fn rows<F: Float>(
    x: &Array4<F>,
    angles: &[Array2<f64>],
    op: impl Fn(ndarray::ArrayView4<'_, F>, ArrayView2<'_, f64>) -> Result<Array4<F>, VectorError>,
) -> Result<Array4<F>, VectorError> {
    assert!(angles.len() == 1 || angles.len() == x.dim().0);
    let mut y = Array4::zeros(x.dim());
    for b in 0..x.dim().0 {
        let row = Slice::from(b..b + 1);
        let angles = &angles[b % angles.len()];
        y.slice_axis_mut(Axis(0), row)
            .assign(&op(x.slice_axis(Axis(0), row), angles.view())?);
    }
    Ok(y)
}

fn inv_freq(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let parameters = case.param_value("rope_parameters")?;
    let expected = "{rope_type: \"default\", rope_theta, partial_rotary_factor} in this version";
    let unknown = || case.unknown_param("rope_parameters", expected);
    let parameters = parameters.as_object().ok_or_else(unknown)?;
    let (mut base, mut partial) = (10_000.0, 1.0);
    for (name, value) in parameters {
        match name.as_str() {
            "rope_type" if value == "default" => {}
            "rope_theta" => base = value.as_f64().ok_or_else(unknown)?,
            "partial_rotary_factor" => partial = value.as_f64().ok_or_else(unknown)?,
            _ => return Err(unknown()),
        }
    }
    // The default frequencies depend on neither of these.
    case.param_usize("max_position_embeddings")?;
    case.param_opt_usize("seq_len")?;
    case.input_i64::<Ix1>("seq_len")?;
    let rotary_dim = (case.param_usize("head_dim")? as f64 * partial) as usize;
    // The pairing does not matter here.
    let config = RopeConfig::new(rotary_dim, RopePairing::HalfSplit).with_base(base);
    let got = match tier {
        Tier::Reference => reference::rope::inv_freq(&config),
        Tier::Cpu => rope::inv_freq(&config).map_err(VectorError::op)?,
        Tier::Gpu => return Err(case.unsupported("no kernel yet")),
    };
    case.expect("inv_freq", &got)?;
    case.expect("attention_factor_f64", &Array1::from_elem(1, 1.0))
}
