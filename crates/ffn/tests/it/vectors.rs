//! The committed vector files, and those of `LLM_VECTORS`, on the reference and the fast path.

use llm_ffn::glu::GluPacking;
use llm_ffn::reference;
use llm_ffn::swiglu::{self, SwigluWeights};
use llm_ffn::{rms_norm, silu};
use llm_numerics::testing::vectors::{Case, Tier, VectorError, VectorRun, run_crate};
use ndarray::{Array1, Array2, ArrayD, ArrayRef2, Axis, Ix1, Ix2};

use crate::differences::gradient;

#[test]
fn every_vector_file_passes() {
    let files = VectorRun::new("ffn", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
    run_crate(&files, |case, tier| match case.op() {
        "ffn.activation" => activation(case, tier),
        "ffn.glu" => glu(case, tier),
        "ffn.mlp" => mlp(case, tier),
        "ffn.norm.llama" => norm_llama(case, tier),
        _ => Err(case.unknown_op()),
    });
}

fn activation(case: &Case, tier: Tier) -> Result<(), VectorError> {
    only(case, "name", "silu")?;
    match tier {
        Tier::Reference => {
            let x = case.input_f64_dyn("x")?;
            let dout = case.input_f64_dyn("dout")?;
            case.expect("y", &x.mapv(reference::silu::silu))?;
            case.expect("dx", &(dout * x.mapv(reference::silu::silu_derivative)))
        }
        Tier::Cpu => {
            let x = case.input_f32_dyn("x")?;
            case.expect("y", &silu::apply(&x))?;
            let dx = silu::backward(&case.input_f32_dyn("dout")?, &x).unwrap();
            case.expect("dx", &dx)
        }
        Tier::Gpu => Err(case.unsupported("no kernel")),
    }
}

fn glu(case: &Case, tier: Tier) -> Result<(), VectorError> {
    only(case, "activation", "silu")?;
    let packing = match case.param_str("packing")? {
        "gate_up" => GluPacking::GateUp,
        "up_gate" => GluPacking::UpGate,
        "interleaved" => GluPacking::Interleaved,
        _ => return Err(case.unknown_param("packing", "gate_up, up_gate or interleaved")),
    };
    match tier {
        Tier::Reference => {
            let (x, shape) = matrix(case.input_f64_dyn("x")?);
            let (dout, out_shape) = matrix(case.input_f64_dyn("dout")?);
            let y = reference::swiglu::apply(&x, packing).unwrap();
            let dx = gradient(&x, |x| {
                (reference::swiglu::apply(x, packing).unwrap() * &dout).sum()
            });
            case.expect("y", &reshape(y, &out_shape))?;
            case.expect("dx", &reshape(dx, &shape))
        }
        Tier::Cpu => {
            let (x, shape) = matrix(case.input_f32_dyn("x")?);
            let (dout, out_shape) = matrix(case.input_f32_dyn("dout")?);
            let y = swiglu::apply(&x, packing).unwrap();
            let dx = swiglu::backward(&dout, &x, packing).unwrap();
            case.expect("y", &reshape(y, &out_shape))?;
            case.expect("dx", &reshape(dx, &shape))
        }
        Tier::Gpu => Err(case.unsupported("no kernel")),
    }
}

fn mlp(case: &Case, tier: Tier) -> Result<(), VectorError> {
    only(case, "activation", "silu")?;
    only(case, "form", "gated")?;
    let packed = match case.param_str("packing")? {
        "gate_up" => true,
        "separate" => false,
        _ => return Err(case.unknown_param("packing", "gate_up or separate")),
    };
    match tier {
        Tier::Reference => mlp_reference(case, packed),
        Tier::Cpu => mlp_cpu(case, packed),
        Tier::Gpu => Err(case.unsupported("no kernel")),
    }
}

const GATE_UP: &str = "w.gate_up_proj.weight";
const GATE: &str = "w.gate_proj.weight";
const UP: &str = "w.up_proj.weight";
const DOWN: &str = "w.down_proj.weight";
const BIASES: [&str; 3] = ["w.gate_proj.bias", "w.up_proj.bias", "w.down_proj.bias"];

fn mlp_reference(case: &Case, packed: bool) -> Result<(), VectorError> {
    let (x, shape) = matrix(case.input_f64_dyn("x")?);
    let (dout, _) = matrix(case.input_f64_dyn("dout")?);
    let down = case.input_f64::<Ix2>(DOWN)?;
    let (gate, up) = if packed {
        let both = case.input_f64::<Ix2>(GATE_UP)?;
        let (gate, up) = both.view().split_at(Axis(0), both.nrows() / 2);
        (gate.to_owned(), up.to_owned())
    } else {
        (case.input_f64::<Ix2>(GATE)?, case.input_f64::<Ix2>(UP)?)
    };
    let mut biases: [Option<Array1<f64>>; 3] = [None, None, None];
    for (bias, name) in biases.iter_mut().zip(BIASES) {
        if case.has_input(name) {
            *bias = Some(case.input_f64::<Ix1>(name)?);
        }
    }
    type Biases = [Option<Array1<f64>>; 3];
    type Matrix = ArrayRef2<f64>;
    let forward = |x: &Matrix, gate: &Matrix, up: &Matrix, down: &Matrix, b: &Biases| {
        let biases = b.each_ref().map(|b| b.as_ref().map(|b| &**b));
        reference::swiglu::forward(x, gate, up, down, biases).unwrap()
    };
    let loss = |y: Array2<f64>| (y * &dout).sum();

    let y = forward(&x, &gate, &up, &down, &biases);
    case.expect("y", &reshape(y, &shape))?;
    let dx = gradient(&x, |x| loss(forward(x, &gate, &up, &down, &biases)));
    case.expect("dx", &reshape(dx, &shape))?;
    let ddown = gradient(&down, |down| loss(forward(&x, &gate, &up, down, &biases)));
    case.expect(&format!("d{DOWN}"), &ddown)?;
    let dgate = gradient(&gate, |gate| loss(forward(&x, gate, &up, &down, &biases)));
    let dup = gradient(&up, |up| loss(forward(&x, &gate, up, &down, &biases)));
    if packed {
        let both = ndarray::concatenate![Axis(0), dgate, dup];
        case.expect(&format!("d{GATE_UP}"), &both)?;
    } else {
        case.expect(&format!("d{GATE}"), &dgate)?;
        case.expect(&format!("d{UP}"), &dup)?;
    }
    for (i, name) in BIASES.into_iter().enumerate() {
        let Some(bias) = &biases[i] else { continue };
        let dbias = gradient(bias, |bias| {
            let mut biases = biases.clone();
            biases[i] = Some(bias.clone());
            loss(forward(&x, &gate, &up, &down, &biases))
        });
        case.expect(&format!("d{name}"), &dbias)?;
    }
    Ok(())
}

fn mlp_cpu(case: &Case, packed: bool) -> Result<(), VectorError> {
    let (x, shape) = matrix(case.input_f32_dyn("x")?);
    let (dout, _) = matrix(case.input_f32_dyn("dout")?);
    let down = case.input_f32::<Ix2>(DOWN)?;
    let matrices = if packed {
        vec![case.input_f32::<Ix2>(GATE_UP)?]
    } else {
        vec![case.input_f32::<Ix2>(GATE)?, case.input_f32::<Ix2>(UP)?]
    };
    let mut biases: [Option<Array1<f32>>; 3] = [None, None, None];
    for (bias, name) in biases.iter_mut().zip(BIASES) {
        if case.has_input(name) {
            *bias = Some(case.input_f32::<Ix1>(name)?);
        }
    }
    let mut weights = match &matrices[..] {
        [both] => SwigluWeights::new(both.view(), down.view(), GluPacking::GateUp),
        [gate, up] => SwigluWeights::separate(gate.view(), up.view(), down.view()),
        _ => unreachable!(),
    }
    .unwrap();
    if let Some(bias) = &biases[0] {
        weights = weights.with_gate_bias(bias.view()).unwrap();
    }
    if let Some(bias) = &biases[1] {
        weights = weights.with_up_bias(bias.view()).unwrap();
    }
    if let Some(bias) = &biases[2] {
        weights = weights.with_down_bias(bias.view()).unwrap();
    }

    let (y, saved) = swiglu::forward_saved(&x, &weights).unwrap();
    case.expect("y", &reshape(y, &shape))?;
    let gradients = swiglu::block_backward(&dout, &x, &weights, &saved).unwrap();
    case.expect("dx", &reshape(gradients.dx.clone(), &shape))?;
    case.expect(&format!("d{DOWN}"), &gradients.ddown)?;
    if packed {
        case.expect(&format!("d{GATE_UP}"), &gradients.dgate_up)?;
    } else {
        let (dgate, dup) = gradients.split().unwrap();
        case.expect(&format!("d{GATE}"), &dgate)?;
        case.expect(&format!("d{UP}"), &dup)?;
    }
    if let Some(dbias) = &gradients.dgate_up_bias {
        let (dgate, dup) = dbias.view().split_at(Axis(0), dbias.len() / 2);
        case.expect_if_present(&format!("d{}", BIASES[0]), &dgate)?;
        case.expect_if_present(&format!("d{}", BIASES[1]), &dup)?;
    }
    if let Some(dbias) = &gradients.ddown_bias {
        case.expect(&format!("d{}", BIASES[2]), dbias)?;
    }
    Ok(())
}

fn norm_llama(case: &Case, tier: Tier) -> Result<(), VectorError> {
    only(case, "storage", "float32")?;
    case.note("order");
    let eps = case.param_f64("eps")?;
    let has_gradient = case.has_input("dout");
    match tier {
        Tier::Reference => {
            let (x, shape) = matrix(case.input_f64_dyn("x")?);
            let weight = case.input_f64::<Ix1>("weight")?;
            let y = reference::rms_norm::forward(&x, &weight, eps).unwrap();
            case.expect("y", &reshape(y, &shape))?;
            if has_gradient {
                let (dout, _) = matrix(case.input_f64_dyn("dout")?);
                let (dx, dweight) = reference::rms_norm::backward(&dout, &x, &weight, eps).unwrap();
                case.expect("dx", &reshape(dx, &shape))?;
                case.expect("dweight", &dweight)?;
            }
            Ok(())
        }
        Tier::Cpu => {
            let (x, shape) = matrix(case.input_f32_dyn("x")?);
            let weight = case.input_f32::<Ix1>("weight")?;
            let (y, rstd) = rms_norm::forward_with_rstd(&x, &weight, eps).unwrap();
            case.expect("y", &reshape(y, &shape))?;
            if has_gradient {
                let (dout, _) = matrix(case.input_f32_dyn("dout")?);
                let (dx, dweight) = rms_norm::backward(&dout, &x, &weight, &rstd).unwrap();
                case.expect("dx", &reshape(dx, &shape))?;
                case.expect("dweight", &dweight)?;
            }
            Ok(())
        }
        Tier::Gpu => Err(case.unsupported("no kernel")),
    }
}

/// Reads a parameter of which this crate knows one value.
fn only(case: &Case, param: &str, value: &str) -> Result<(), VectorError> {
    if case.param_str(param)? == value {
        return Ok(());
    }
    Err(case.unknown_param(param, value))
}

/// All axes but the last as one, and the shape before.
fn matrix<F>(x: ArrayD<F>) -> (Array2<F>, Vec<usize>) {
    let shape = x.shape().to_vec();
    let columns = *shape.last().unwrap();
    let rows = shape[..shape.len() - 1].iter().product();
    let x = x.into_shape_with_order((rows, columns)).unwrap();
    (x, shape)
}

fn reshape<F>(x: Array2<F>, shape: &[usize]) -> ArrayD<F> {
    x.into_shape_with_order(shape).unwrap()
}
