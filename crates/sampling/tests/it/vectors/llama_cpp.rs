//! The vector files from llama.cpp.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_sampling::adaptive_p::AdaptiveP;
use llm_sampling::dry::Dry;
use llm_sampling::dynamic_temperature::DynamicTemperature;
use llm_sampling::logit_bias::LogitBias;
use llm_sampling::min_p::MinP;
use llm_sampling::mirostat::{Mirostat, MirostatVersion};
use llm_sampling::presence_frequency::PresenceFrequency;
use llm_sampling::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
use llm_sampling::top_k::Ties;
use llm_sampling::top_n_sigma::TopNSigma;
use llm_sampling::top_p::SumFrom;
use llm_sampling::xtc::Xtc;
use llm_sampling::{
    Candidates, Context, Dialect, Processor, SamplingConfig, SamplingError, categorical, processor,
    reference, sampler, temperature, top_k, top_p,
};
use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2, Ix1, Ix2};

pub(crate) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let step = match case.op() {
        "sampling.processor.penalties" => return steps(case, tier, &penalties(case)?),
        "sampling.processor.logit_bias" => Step::LogitBias(biases(case)?),
        "sampling.processor.dynamic_temperature" => Step::DynamicTemperature(
            case.param_f64("temperature")?,
            case.param_f64("range")?,
            case.param_f64("exponent")?,
        ),
        "sampling.processor.top_n_sigma" => Step::TopNSigma(case.param_f64("n")?),
        "sampling.processor.xtc" => Step::Xtc(
            match case.param_f64("probability")? {
                p if p == 0.0 || p == 1.0 => p,
                _ => return Err(case.unknown_param("probability", "0 or 1")),
            },
            case.param_f64("threshold")?,
            case.param_usize("min_tokens_to_keep")?,
        ),
        "sampling.processor.dry" => Step::Dry {
            multiplier: case.param_f64("multiplier")?,
            base: case.param_f64("base")?,
            allowed_length: case.param_usize("allowed_length")?,
            last_n: case.param_usize("last_n")?,
            breakers: breakers(case)?,
        },
        "sampling.chain.llama_cpp" => return chain(case, tier),
        "sampling.select.mirostat" => return mirostat(case, tier),
        "sampling.select.adaptive_p" => return adaptive_p(case, tier),
        _ => return Err(case.unknown_op()),
    };
    steps(case, tier, &[step])
}

/// A sampler of llama.cpp with its settings.
enum Step {
    Repetition(f64, usize),
    Presence {
        presence: f64,
        frequency: f64,
        last_n: usize,
    },
    LogitBias(Vec<(u32, f64)>),
    Dry {
        multiplier: f64,
        base: f64,
        allowed_length: usize,
        last_n: usize,
        breakers: Vec<Vec<u32>>,
    },
    TopNSigma(f64),
    TopK(usize),
    TopP(f64),
    MinP(f64),
    Xtc(f64, f64, usize),
    Temperature(f64),
    DynamicTemperature(f64, f64, f64),
}

fn last(tokens: &[u32], n: usize) -> &[u32] {
    &tokens[tokens.len().saturating_sub(n)..]
}

impl Step {
    fn fast(
        &self,
        logits: &mut ArrayRef2<f32>,
        contexts: &[Context<'_>],
    ) -> Result<(), SamplingError> {
        let window = PenaltyWindow::Last;
        let step: Box<dyn Processor<f32>> = match *self {
            Self::Repetition(penalty, n) => Box::new(RepetitionPenalty::new(penalty, window(n))?),
            Self::Presence {
                presence,
                frequency,
                last_n,
            } => Box::new(PresenceFrequency::new(presence, frequency, window(last_n))?),
            Self::LogitBias(ref biases) => Box::new(LogitBias::new(biases)?),
            Self::Dry {
                multiplier,
                base,
                allowed_length,
                last_n,
                ref breakers,
            } => Box::new(Dry::new(
                multiplier,
                base,
                allowed_length,
                window(last_n),
                breakers,
            )?),
            Self::TopNSigma(n) => Box::new(TopNSigma::new(n)?),
            Self::TopK(k) => return top_k::apply_inplace(logits, k, Ties::Exact, 1),
            Self::TopP(p) => return top_p::apply_sum_inplace(logits, p, SumFrom::Largest, 1),
            Self::MinP(p) => Box::new(MinP::new(p, 1)?),
            Self::Xtc(p, threshold, least) => Box::new(Xtc::new(p, threshold, least)?),
            Self::Temperature(t) => return temperature::apply_inplace(logits, t),
            Self::DynamicTemperature(t, range, exponent) => {
                Box::new(DynamicTemperature::new(t, range, exponent)?)
            }
        };
        processor::apply_inplace(logits, contexts, &*step)
    }

    fn textbook(&self, row: &[f64], tokens: &[u32]) -> Vec<f64> {
        match *self {
            Self::Repetition(penalty, n) => {
                let seen = last(tokens, n);
                let change = |(i, x): (usize, &f64)| match (seen.contains(&(i as u32)), *x <= 0.0) {
                    (false, _) => *x,
                    (true, true) => x * penalty,
                    (true, false) => x / penalty,
                };
                row.iter().enumerate().map(change).collect()
            }
            Self::Presence {
                presence,
                frequency,
                last_n,
            } => {
                reference::presence_frequency::apply(row, last(tokens, last_n), presence, frequency)
            }
            Self::LogitBias(ref biases) => reference::logit_bias::apply(row, biases),
            Self::Dry {
                multiplier,
                base,
                allowed_length,
                last_n,
                ref breakers,
            } => reference::dry::apply(
                row,
                last(tokens, last_n),
                multiplier,
                base,
                allowed_length,
                breakers,
            ),
            Self::TopNSigma(n) => reference::top_n_sigma::apply(row, n),
            Self::TopK(k) => reference::top_k::apply(row, k, Ties::Exact, 1),
            Self::TopP(p) => reference::top_p::apply(row, p, SumFrom::Largest, 1),
            Self::MinP(p) => reference::min_p::apply(row, p, 1),
            Self::Xtc(p, threshold, least) => {
                if p == 1.0 {
                    reference::xtc::apply(row, threshold, least)
                } else {
                    row.to_vec()
                }
            }
            Self::Temperature(t) => reference::temperature::apply(row, t),
            Self::DynamicTemperature(t, range, exponent) => {
                reference::dynamic_temperature::apply(row, t, range, exponent)
            }
        }
    }
}

fn steps(case: &Case, tier: Tier, steps: &[Step]) -> Result<(), VectorError> {
    let tokens = case.input_usize::<Ix2>("input_ids")?.mapv(|id| id as u32);
    if tier == Tier::Reference {
        let mut logits = case.input_f64::<Ix2>("logits")?;
        for (mut row, tokens) in logits.rows_mut().into_iter().zip(tokens.rows()) {
            let tokens = tokens.to_vec();
            let out = steps
                .iter()
                .fold(row.to_vec(), |x, step| step.textbook(&x, &tokens));
            row.assign(&Array1::from(out));
        }
        return case.expect("logits", &logits);
    }
    let rows: Vec<Vec<u32>> = tokens.rows().into_iter().map(|row| row.to_vec()).collect();
    // Where prompts end makes no difference to a window of the last tokens.
    let contexts: Vec<Context<'_>> = rows
        .iter()
        .map(|row| Context::new(&row[..row.len() / 2], &row[row.len() / 2..]))
        .collect();
    let mut logits = case.input_f32::<Ix2>("logits")?;
    for step in steps {
        step.fast(&mut logits, &contexts).map_err(VectorError::op)?;
    }
    case.expect("logits", &logits)
}

fn penalties(case: &Case) -> Result<[Step; 2], VectorError> {
    let last_n = case.param_usize("last_n")?;
    Ok([
        Step::Repetition(case.param_f64("repetition_penalty")?, last_n),
        Step::Presence {
            presence: case.param_f64("presence_penalty")?,
            frequency: case.param_f64("frequency_penalty")?,
            last_n,
        },
    ])
}

/// Pairs of id and bias; "-inf" is text.
fn biases(case: &Case) -> Result<Vec<(u32, f64)>, VectorError> {
    let value = case.param_value("logit_bias")?.as_array();
    value
        .and_then(|pairs| {
            let mut biases = Vec::new();
            for pair in pairs {
                let token = u32::try_from(pair.get(0)?.as_u64()?).ok()?;
                let bias = pair.get(1)?;
                let bias = match bias.as_str() {
                    Some("-inf") => f64::NEG_INFINITY,
                    _ => bias.as_f64()?,
                };
                biases.push((token, bias));
            }
            Some(biases)
        })
        .ok_or_else(|| case.unknown_param("logit_bias", "pairs of an id and a number or \"-inf\""))
}

fn breakers(case: &Case) -> Result<Vec<Vec<u32>>, VectorError> {
    let value = case.param_value("breakers")?.as_array();
    value
        .and_then(|lists| {
            let mut breakers = Vec::new();
            for list in lists {
                let mut ids = Vec::new();
                for id in list.as_array()? {
                    ids.push(u32::try_from(id.as_u64()?).ok()?);
                }
                breakers.push(ids);
            }
            Some(breakers)
        })
        .ok_or_else(|| case.unknown_param("breakers", "lists of ids"))
}

fn chain(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let mut all = Vec::new();
    let mut names = vec!["penalties"];
    if case.has_param("last_n") {
        all.extend(penalties(case)?);
    }
    let sigma = case.param_opt_f64("top_n_sigma")?;
    let (k, p) = (case.param_opt_usize("top_k")?, case.param_opt_f64("top_p")?);
    let (min_p, t) = (
        case.param_opt_f64("min_p")?,
        case.param_opt_f64("temperature")?,
    );
    let named = [
        ("top_n_sigma", sigma.map(Step::TopNSigma)),
        ("top_k", k.map(Step::TopK)),
        ("top_p", p.map(Step::TopP)),
        ("min_p", min_p.map(Step::MinP)),
        ("temperature", t.map(Step::Temperature)),
    ];
    for (name, step) in named {
        if let Some(step) = step {
            names.push(name);
            all.push(step);
        }
    }
    let order = case.param_value("order")?.as_array();
    let same = order.is_some_and(|order| {
        let names = names.iter().copied().map(Some);
        order.iter().map(|name| name.as_str()).eq(names)
    });
    if !same {
        return Err(case.unknown_param("order", &format!("{names:?}")));
    }
    // What the chain of this crate can say, it must say too.
    if tier == Tier::Cpu && !case.has_param("last_n") && sigma.is_none() && min_p.is_none() {
        let config = SamplingConfig::sample(Dialect::LlamaCpp, t.unwrap_or(1.0), k, p);
        let mut logits = case.input_f32::<Ix2>("logits")?;
        sampler::apply_inplace(&mut logits, &config.map_err(VectorError::op)?)
            .map_err(VectorError::op)?;
        case.expect("logits", &logits)?;
    }
    steps(case, tier, &all)
}

/// Follows the tokens that llama.cpp chose.
fn mirostat(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let (tau, eta) = (case.param_f64("tau")?, case.param_f64("eta")?);
    let version = match case.param_usize("version")? {
        1 => MirostatVersion::V1 {
            n_estimate: case.param_usize("n_estimate")?,
        },
        2 => MirostatVersion::V2,
        _ => return Err(case.unknown_param("version", "1 or 2")),
    };
    let config = Mirostat::new(version, tau, eta).map_err(VectorError::op)?;
    let tokens = case.input_usize::<Ix1>("tokens")?;
    let mut mu = 2.0 * tau;
    let mut states = Vec::new();
    if tier == Tier::Reference {
        let mut rows = Vec::new();
        for (row, &token) in case
            .input_f64::<Ix2>("logits")?
            .rows()
            .into_iter()
            .zip(&tokens)
        {
            let out = match version {
                MirostatVersion::V1 { n_estimate } => {
                    reference::mirostat::mask_v1(&row.to_vec(), n_estimate, mu)
                }
                _ => reference::mirostat::mask_v2(&row.to_vec(), mu),
            };
            let p = reference::categorical::log_softmax(&out)[token].exp();
            mu = reference::mirostat::next_mu(mu, tau, eta, p);
            states.push(mu);
            rows.push(out);
        }
        case.expect("mu", &Array1::from(states))?;
        return case.expect("logits", &stack(&rows));
    }
    let mut rows = Vec::new();
    for (row, &token) in case
        .input_f32::<Ix2>("logits")?
        .rows()
        .into_iter()
        .zip(&tokens)
    {
        let (out, u) = choose(&row, token, |candidates| config.mask(candidates, mu))?;
        let (draw, next) = with_row(&row, |c| config.choose(c, mu, u))?;
        assert_eq!(draw.token as usize, token);
        mu = next;
        states.push(mu);
        rows.push(out);
    }
    case.expect("mu", &Array1::from(states))?;
    case.expect("logits", &stack(&rows))
}

fn adaptive_p(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let (target, decay) = (case.param_f64("target")?, case.param_f64("decay")?);
    let config = AdaptiveP::new(target, decay).map_err(VectorError::op)?;
    let tokens = case.input_usize::<Ix1>("tokens")?;
    let mut state = config.initial_state();
    let mut states = Vec::new();
    if tier == Tier::Reference {
        let mut chosen = Vec::new();
        let mut rows = Vec::new();
        for (row, &token) in case
            .input_f64::<Ix2>("logits")?
            .rows()
            .into_iter()
            .zip(&tokens)
        {
            let row = row.to_vec();
            rows.push(reference::adaptive_p::transform(
                &row, target, decay, &chosen,
            ));
            let p = reference::categorical::log_softmax(&row)[token].exp();
            chosen.push(p);
            state = config.next_state(&state, p);
            states.push(state);
        }
        case.expect("logits", &stack(&rows))?;
    } else {
        let mut rows = Vec::new();
        for (row, &token) in case
            .input_f32::<Ix2>("logits")?
            .rows()
            .into_iter()
            .zip(&tokens)
        {
            let (out, u) = choose(&row, token, |candidates| {
                config.transform(candidates, &state)
            })?;
            let (draw, next) = with_row(&row, |c| config.choose(c, &state, u))?;
            assert_eq!(draw.token as usize, token);
            state = next;
            states.push(state);
            rows.push(out);
        }
        case.expect("logits", &stack(&rows))?;
    }
    let sums: Array1<f64> = states.iter().map(|s| s.weighted_sum).collect();
    let weights: Array1<f64> = states.iter().map(|s| s.total_weight).collect();
    case.expect("weighted_sum", &sums)?;
    case.expect("total_weight", &weights)
}

fn with_row<R>(
    row: &ArrayRef1<f32>,
    work: impl FnOnce(&mut Candidates<f32>) -> Result<R, SamplingError>,
) -> Result<R, VectorError> {
    let mut candidates = Candidates::new();
    candidates.fill(&row.to_vec()).map_err(VectorError::op)?;
    work(&mut candidates).map_err(VectorError::op)
}

/// What `change` makes of the row, and a number in the middle of the token's slice of the cumulative distribution.
fn choose(
    row: &ArrayRef1<f32>,
    token: usize,
    change: impl FnOnce(&mut Candidates<f32>) -> Result<(), SamplingError>,
) -> Result<(Vec<f32>, f64), VectorError> {
    let out = with_row(row, |candidates| {
        change(candidates)?;
        candidates.make_dense();
        Ok(candidates.logits().to_vec())
    })?;
    let wide: Vec<f64> = out.iter().map(|x| f64::from(*x)).collect();
    let cumulative = reference::categorical::cumulative(&wide);
    let before = if token == 0 {
        0.0
    } else {
        cumulative[token - 1]
    };
    let u = (before + cumulative[token]) / 2.0;
    let drawn = categorical::draw(&Array1::from(out.clone()), u).map_err(VectorError::op)?;
    assert_eq!(
        drawn.token as usize, token,
        "a token that llama.cpp chose is masked here"
    );
    Ok((out, u))
}

fn stack<T: Copy>(rows: &[Vec<T>]) -> Array2<T> {
    Array2::from_shape_fn([rows.len(), rows[0].len()], |(i, j)| rows[i][j])
}
