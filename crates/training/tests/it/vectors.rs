//! The committed vector files, and those of `LLM_VECTORS`, on the reference and the fast path.

use llm_numerics::testing::vectors::{Case, Tier, VectorError, VectorRun, run_crate};
use llm_training::adamw::{self, AdamWConfig, Direction};
use llm_training::causal_lm::{self, CausalLmConfig};
use llm_training::clip::{self, NonFinite, NormType};
use llm_training::cross_entropy::{self, CrossEntropyConfig, Reduction};
use llm_training::reference;
use llm_training::schedule::Schedule;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix1, Ix2, Ix3, s};

#[test]
fn every_vector_file_passes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let files = VectorRun::new("training", folder).with_elsewhere(&["training.adamw_bnb"]);
    run_crate(&files, |case, tier| {
        if tier == Tier::Gpu {
            return Err(case.unsupported("no kernel"));
        }
        match case.op() {
            "training.adamw" => adamw(case, tier),
            "training.causal_lm_loss" => causal_lm_loss(case, tier),
            "training.clip_grad_norm" => clip_grad_norm(case, tier),
            "training.clip_grad_value" => clip_grad_value(case, tier),
            "training.cross_entropy" => cross_entropy(case, tier),
            "training.lr_schedule" => lr_schedule(case, tier),
            _ => Err(case.unknown_op()),
        }
    });
}

fn cross_entropy(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let labels = case.input_i64::<Ix1>("labels")?;
    let reduction = match case.param_str("reduction")? {
        "mean" => Some(Reduction::Mean),
        "sum" => Some(Reduction::Sum),
        "none" => None,
        _ => return Err(case.unknown_param("reduction", "mean, sum or none")),
    };
    let config = CrossEntropyConfig::new(reduction.unwrap_or(Reduction::Sum))
        .with_ignore_index(case.param_i64("ignore_index")?)
        .with_label_smoothing(case.param_f64("label_smoothing")?);
    let has_weights = case.param_bool("class_weights")?;

    if tier == Tier::Reference {
        let logits = case.input_f64::<Ix2>("logits")?;
        let dout = case.input_f64::<Ix1>("dout")?;
        let weights = has_weights
            .then(|| case.input_f64::<Ix1>("weight"))
            .transpose()?;
        let weights = weights.as_deref();
        let gradient = reference::cross_entropy::gradient(&logits, &labels, weights, &config);
        let losses = reference::cross_entropy::losses(&logits, &labels, weights, &config);
        let loss = reference::cross_entropy::loss(&logits, &labels, weights, &config);
        match reduction {
            Some(_) => case.expect("loss", &Array1::from_elem(1, loss.unwrap()))?,
            None => case.expect("loss", &losses.unwrap())?,
        }
        // The gradient of the sum, each row times its upstream gradient (one for all if reduced).
        return case.expect("dlogits", &(gradient.unwrap() * dout.insert_axis(Axis(1))));
    }
    let logits = case.input_f32::<Ix2>("logits")?;
    let dout = case.input_f32::<Ix1>("dout")?;
    let weights = has_weights
        .then(|| case.input_f32::<Ix1>("weight"))
        .transpose()?;
    let weights = weights.as_deref();
    if reduction.is_none() {
        let losses = cross_entropy::losses(&logits, &labels, weights, &config).unwrap();
        case.expect("loss", &losses)?;
        let dlogits = cross_entropy::backward(&dout, &logits, &labels, weights, &config);
        return case.expect("dlogits", &dlogits.unwrap());
    }
    let alone = cross_entropy::loss(&logits, &labels, weights, &config).unwrap();
    case.expect("loss", &Array1::from_elem(1, alone))?;
    let (loss, dlogits) = cross_entropy::loss_and_grad(&logits, &labels, weights, &config).unwrap();
    case.expect("loss", &Array1::from_elem(1, loss))?;
    let mut inplace = logits;
    cross_entropy::loss_and_grad_inplace(&mut inplace, &labels, weights, &config).unwrap();
    case.expect("dlogits", &(dlogits * dout[0]))?;
    case.expect("dlogits", &(inplace * dout[0]))
}

fn causal_lm_loss(case: &Case, tier: Tier) -> Result<(), VectorError> {
    case.note("shift");
    let labels = case.input_i64::<Ix2>("labels")?;
    let ignore_index = case.param_i64("ignore_index")?;
    let count = case.param_opt_usize("num_items_in_batch")?;

    if tier == Tier::Reference {
        let logits = case.input_f64::<Ix3>("logits")?;
        let (batch, seq, vocab) = logits.dim();
        let mut next = Array2::from_elem((batch, seq), ignore_index);
        next.slice_mut(s![.., ..seq - 1])
            .assign(&labels.slice(s![.., 1..]));
        let next = next.flatten();
        let flat = logits.to_shape((batch * seq, vocab)).unwrap();
        let config = CrossEntropyConfig::new(count.map_or(Reduction::Mean, Reduction::MeanOver))
            .with_ignore_index(ignore_index);
        let loss = reference::cross_entropy::loss(&flat, &next, None, &config).unwrap();
        case.expect("loss", &Array1::from_elem(1, loss))?;
        let gradient = reference::cross_entropy::gradient(&flat, &next, None, &config).unwrap();
        return case.expect("dlogits", &gradient.to_shape((batch, seq, vocab)).unwrap());
    }
    let logits = case.input_f32::<Ix3>("logits")?;
    let mut config = CausalLmConfig::hugging_face().with_ignore_index(ignore_index);
    config.num_items_in_batch = count;
    let loss = causal_lm::loss(&logits, &labels, &config).unwrap();
    case.expect("loss", &Array1::from_elem(1, loss))?;
    let (loss, dlogits) = causal_lm::loss_and_grad(&logits, &labels, &config).unwrap();
    case.expect("loss", &Array1::from_elem(1, loss))?;
    case.expect("dlogits", &dlogits)
}

fn adamw(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let betas = case.param_f64_list("betas")?;
    let [beta1, beta2] = betas[..] else {
        return Err(case.unknown_param("betas", "two numbers"));
    };
    let mut config = AdamWConfig::new()
        .with_betas(beta1, beta2)
        .with_eps(case.param_f64("eps")?)
        .with_weight_decay(case.param_f64("weight_decay")?);
    if case.param_opt_bool("maximize")? == Some(true) {
        config = config.with_direction(Direction::Maximize);
    }
    let amsgrad = case.param_opt_bool("amsgrad")? == Some(true);
    let lr = case.param_f64("lr")?;
    let steps = case.param_usize("steps")?;
    if case.input_shape("grads").map(|shape| shape[0]) != Some(steps) {
        return Err(case.unknown_param("steps", "the length of the first axis of grads"));
    }

    if tier == Tier::Reference {
        let param = case.input_f64_dyn("param")?;
        let grads = case.input_f64_dyn("grads")?;
        let mut params = grads.clone();
        let (mut m, mut v, mut max_v) = (param.clone(), param.clone(), param.clone());
        for (i, &start) in param.iter().enumerate() {
            let history: Vec<f64> = grads
                .outer_iter()
                .map(|grad| *grad.iter().nth(i).unwrap())
                .collect();
            for t in 0..steps {
                let state = reference::adamw::run(start, &history[..=t], lr, amsgrad, &config);
                let mut step = params.index_axis_mut(Axis(0), t);
                *step.iter_mut().nth(i).unwrap() = state.param;
                *m.iter_mut().nth(i).unwrap() = state.m;
                *v.iter_mut().nth(i).unwrap() = state.v;
                *max_v.iter_mut().nth(i).unwrap() = state.max_v;
            }
        }
        return expect_adamw(case, amsgrad, [&params, &m, &v, &max_v]);
    }
    let mut param = case.input_f32_dyn("param")?;
    let grads = case.input_f32_dyn("grads")?;
    let mut params = grads.clone();
    let mut m = ArrayD::<f32>::zeros(param.raw_dim());
    let (mut v, mut max_v) = (m.clone(), m.clone());
    for (t, grad) in grads.outer_iter().enumerate() {
        let step = t as u64 + 1;
        if amsgrad {
            let (m, v, max_v) = (&mut m, &mut v, &mut max_v);
            adamw::step_amsgrad(&mut param, &grad, m, v, max_v, step, lr, &config)
        } else {
            adamw::step(&mut param, &grad, &mut m, &mut v, step, lr, &config)
        }
        .unwrap();
        params.index_axis_mut(Axis(0), t).assign(&param);
    }
    expect_adamw(case, amsgrad, [&params, &m, &v, &max_v])
}

fn expect_adamw<F: llm_numerics::Float>(
    case: &Case,
    amsgrad: bool,
    [params, m, v, max_v]: [&ArrayD<F>; 4],
) -> Result<(), VectorError> {
    case.expect("params", params)?;
    case.expect("m", m)?;
    case.expect("v", v)?;
    if amsgrad {
        case.expect("max_v", max_v)?;
    }
    Ok(())
}

fn lr_schedule(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let base_lr = case.param_f64("base_lr")?;
    let steps = case.input_i64::<Ix1>("step")?;
    let warmup = || case.param_usize("num_warmup_steps").map(|n| n as u64);
    let training = || case.param_usize("num_training_steps").map(|n| n as u64);
    let schedule = match case.param_str("name")? {
        "constant" => Schedule::Constant,
        "constant_with_warmup" => Schedule::ConstantWithWarmup {
            n_warmup_steps: warmup()?,
        },
        "linear" => Schedule::Linear {
            n_warmup_steps: warmup()?,
            n_training_steps: training()?,
        },
        "cosine" => Schedule::Cosine {
            n_warmup_steps: warmup()?,
            n_training_steps: training()?,
            n_cycles: case.param_opt_f64("num_cycles")?.unwrap_or(0.5),
        },
        "cosine_with_min_lr" => {
            let rate = case.param_opt_f64("min_lr_rate")?;
            let ratio = case.param_opt_f64("min_lr_ratio")?;
            let lowest = case.param_opt_f64("min_lr")?.map(|lr| lr / base_lr);
            Schedule::CosineWithMinLr {
                n_warmup_steps: warmup()?,
                n_training_steps: training()?,
                n_cycles: case.param_opt_f64("num_cycles")?.unwrap_or(0.5),
                min_lr_rate: rate.or(ratio).or(lowest).unwrap_or(0.0),
            }
        }
        _ => return Err(case.unknown_param("name", "a schedule of this crate")),
    };
    let rates = steps.mapv(|step| match tier {
        Tier::Reference => base_lr * reference::schedule::factor(&schedule, step as f64),
        _ => schedule.learning_rate(base_lr, step as u64),
    });
    case.expect("lr_f64", &rates)
}

fn clip_grad_norm(case: &Case, tier: Tier) -> Result<(), VectorError> {
    case.note("factor");
    let max_norm = case.param_f64("max_norm")?;
    let norm_type = match case.param_f64("norm_type") {
        Ok(2.0) => NormType::L2,
        Ok(p) => NormType::P(p),
        Err(_) if case.param_str("norm_type")? == "inf" => NormType::Inf,
        Err(error) => return Err(error),
    };
    if tier == Tier::Reference {
        let flat = flat(case)?;
        let norm = reference::clip::norm(&flat, norm_type);
        case.expect("norm", &Array1::from_elem(1, norm))?;
        return expect_flat(
            case,
            &reference::clip::clip_norm(&flat, max_norm, norm_type),
        );
    }
    let mut grads = grads(case)?;
    let mut views: Vec<_> = grads.iter_mut().map(|(_, grad)| grad.view_mut()).collect();
    let norm = clip::clip_norm(&mut views, max_norm, norm_type, NonFinite::Propagate).unwrap();
    case.expect("norm", &Array1::from_elem(1, norm))?;
    grads
        .iter()
        .try_for_each(|(name, grad)| case.expect(name, grad))
}

fn clip_grad_value(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let limit = case.param_f64("clip_value")?;
    if tier == Tier::Reference {
        return expect_flat(case, &reference::clip::clip_value(&flat(case)?, limit));
    }
    let mut grads = grads(case)?;
    let mut views: Vec<_> = grads.iter_mut().map(|(_, grad)| grad.view_mut()).collect();
    clip::clip_value(&mut views, limit).unwrap();
    grads
        .iter()
        .try_for_each(|(name, grad)| case.expect(name, grad))
}

/// `grad0`, `grad1`, ..: as many as there are.
fn names(case: &Case) -> Vec<String> {
    let names = (0..).map(|i| format!("grad{i}"));
    names.take_while(|name| case.has_input(name)).collect()
}

fn grads(case: &Case) -> Result<Vec<(String, ArrayD<f32>)>, VectorError> {
    let names = names(case).into_iter();
    names
        .map(|name| case.input_f32_dyn(&name).map(|grad| (name, grad)))
        .collect()
}

fn flat(case: &Case) -> Result<Vec<f64>, VectorError> {
    let mut flat = Vec::new();
    for name in names(case) {
        flat.extend(case.input_f64_dyn(&name)?);
    }
    Ok(flat)
}

fn expect_flat(case: &Case, flat: &[f64]) -> Result<(), VectorError> {
    let mut rest = flat;
    for name in names(case) {
        let shape = case.input_shape(&name).unwrap_or(&[]).to_vec();
        let (grad, tail) = rest.split_at(shape.iter().product());
        rest = tail;
        case.expect(
            &name,
            &ArrayD::from_shape_vec(shape, grad.to_vec()).unwrap(),
        )?;
    }
    Ok(())
}
