//! The vector files of searches over table models.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_sampling::reference::search::{self as reference, Pick};
use llm_sampling::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
use llm_sampling::search::beam::{BeamConfig, BeamSearch, Bookkeeping, EarlyStopping, LengthRule};
use llm_sampling::search::beam_sample::BeamSample;
use llm_sampling::search::constrained::{ConstrainedBeamSearch, Constraint, ConstraintRule};
use llm_sampling::search::diverse::DiverseBeamSearch;
use llm_sampling::search::{Hypothesis, transition};
use llm_sampling::{
    Candidates, Context, Processor, SamplingError, reference as textbook, temperature, top_k,
};
use ndarray::{Array1, Array2, Array3, Ix2, Ix3};

use super::{Table, ids};
use crate::search::run;

/// A table model with its prompts and the settings of a search.
struct Task {
    table: Table,
    prompts: Vec<Vec<u32>>,
    config: BeamConfig,
    fill: i64,
    /// The library writes this in place of the stop id that came.
    ends_with: Option<i64>,
}

impl Task {
    fn read(case: &Case) -> Result<Self, VectorError> {
        let table = Table(case.input_f32_dyn("table")?);
        if case.param_usize("order")? + 1 != table.0.ndim() {
            return Err(case.unknown_param("order", "one less than the axes of the table"));
        }
        let prompts = case.input_usize::<Ix2>("input_ids")?.mapv(|id| id as u32);
        let stop_ids = ids(case, "eos_token_id")?.unwrap_or_default();
        let pad = case.param_opt_usize("pad_token_id")?.unwrap_or(0) as u32;
        let penalty = case.param_f64("length_penalty")?;
        let whole = "prompt and generated tokens, without a stop token";
        let length = match rule(case, "length_rule")?.as_deref() {
            None | Some("generated tokens only") => LengthRule::Generated { penalty },
            Some(text) if text == whole => LengthRule::Whole { penalty },
            Some(_) => {
                return Err(case.unknown_param("length_rule", "\"generated tokens only\""));
            }
        };
        let bookkeeping = match rule(case, "bookkeeping")?.as_deref() {
            None => Bookkeeping::Vectorized,
            Some("scorer") => Bookkeeping::Scorer,
            Some(_) => return Err(case.unknown_param("bookkeeping", "\"scorer\"")),
        };
        let early = case.param_value("early_stopping")?;
        let early_stopping = match (early.as_bool(), early.as_str()) {
            (Some(true), _) => EarlyStopping::WhenFull,
            (Some(false), _) => EarlyStopping::Heuristic,
            (_, Some("never")) => EarlyStopping::Never,
            _ => return Err(case.unknown_param("early_stopping", "false, true or \"never\"")),
        };
        let ends_with = match rule(case, "ends_with")?.as_deref() {
            None => None,
            Some("the first of eos_token_id, whichever came") => stop_ids.first().copied(),
            Some(_) => return Err(case.unknown_param("ends_with", "\"the first of ..\"")),
        };
        // What transformers fills with: -1 without stop ids; the first of them if the padding id is 0.
        let fill = match stop_ids.first() {
            None => -1,
            Some(first) if pad == 0 => i64::from(*first),
            Some(_) => i64::from(pad),
        };
        let config = BeamConfig::transformers(
            case.param_usize("num_beams")?,
            case.param_usize("max_new_tokens")?,
        )
        .with_n_return(case.param_usize("num_return_sequences")?)
        .with_length(length)
        .with_early_stopping(early_stopping)
        .with_bookkeeping(bookkeeping)
        .with_stop_ids(stop_ids)
        .with_pad_id(pad);
        Ok(Self {
            table,
            prompts: prompts.rows().into_iter().map(|r| r.to_vec()).collect(),
            config,
            fill,
            ends_with: ends_with.map(i64::from),
        })
    }

    fn logits(&self, sequence: &[u32]) -> Array1<f32> {
        self.table.logits(sequence).into()
    }

    /// Log-probabilities after the processors, by the textbook.
    fn log_probs<'a>(
        &'a self,
        prompt: &'a [u32],
        steps: &'a [Step],
    ) -> impl FnMut(&[u32]) -> Vec<f64> + 'a {
        move |generated| {
            let sequence = [prompt, generated].concat();
            let logits: Vec<f64> = self
                .table
                .logits(&sequence)
                .into_iter()
                .map(f64::from)
                .collect();
            let mut x = textbook::categorical::log_softmax(&logits);
            for step in steps {
                x = step.apply(&x, prompt, generated);
            }
            x
        }
    }

    fn expect(&self, case: &Case, found: &[Vec<Hypothesis>]) -> Result<(), VectorError> {
        let scored = found.iter().map(|row| {
            let each = row.iter().map(|h| reference::Scored {
                tokens: h.tokens.clone(),
                score: h.score,
            });
            each.collect()
        });
        self.expect_scored(case, &scored.collect::<Vec<Vec<_>>>())?;
        if !case.has_output("beam_indices") {
            return Ok(());
        }
        let rows: Vec<&Hypothesis> = found.iter().flatten().collect();
        let longest = rows.iter().map(|h| h.tokens.len()).max().unwrap_or(0);
        let indices = Array2::from_shape_fn((rows.len(), longest), |(i, j)| {
            rows[i].beam_indices.get(j).map_or(-1, |b| *b as i64)
        });
        case.expect_int("beam_indices", &indices)
    }

    fn expect_scored(
        &self,
        case: &Case,
        found: &[Vec<reference::Scored>],
    ) -> Result<(), VectorError> {
        let n_return = self.config.n_return;
        let mut rows = Vec::new();
        for (prompt, hypotheses) in self.prompts.iter().zip(found) {
            assert_eq!(hypotheses.len(), n_return, "hypotheses of {prompt:?}");
            rows.extend(hypotheses.iter().map(|h| (prompt, h)));
        }
        let longest = rows.iter().map(|(_, h)| h.tokens.len()).max().unwrap_or(0);
        let len = self.prompts[0].len();
        let sequences = Array2::from_shape_fn((rows.len(), len + longest), |(i, j)| {
            let (prompt, h) = rows[i];
            let token = prompt.get(j).or_else(|| h.tokens.get(j.wrapping_sub(len)));
            let stop = |t: &u32| j >= len && self.config.stop_ids.contains(t);
            match (token, self.ends_with) {
                (Some(token), Some(end)) if stop(token) => end,
                (Some(token), _) => i64::from(*token),
                (None, _) => self.fill,
            }
        });
        case.expect_int("sequences", &sequences)?;
        let scores: Array1<f64> = rows.iter().map(|(_, h)| h.score).collect();
        case.expect("sequences_scores", &scores)
    }
}

/// A parameter in words.
fn rule(case: &Case, name: &str) -> Result<Option<String>, VectorError> {
    if !case.has_param(name) {
        return Ok(None);
    }
    case.param_str(name).map(|text| Some(text.to_string()))
}

/// What changes log-probabilities, in the textbook's form: on a whole row.
pub(super) enum Step {
    RepetitionPenalty(f64),
    NoRepeat(usize),
    BadWords(Vec<Vec<u32>>),
    MinNewTokens(usize, Vec<u32>),
    ForcedEnd(usize, u32),
    Decay(usize, f64, Vec<u32>),
    Temperature(f64),
    TopK(usize, usize),
    Normalize,
}

impl Step {
    /// In the library's order.
    pub(super) fn read(
        case: &Case,
        stop_ids: &[u32],
        max_new_tokens: usize,
        samples: bool,
    ) -> Result<Vec<Self>, VectorError> {
        let mut steps = Vec::new();
        if let Some(penalty) = case.param_opt_f64("repetition_penalty")? {
            steps.push(Self::RepetitionPenalty(penalty));
        }
        if let Some(n) = case.param_opt_usize("no_repeat_ngram_size")? {
            steps.push(Self::NoRepeat(n));
        }
        if case.has_param("bad_words_ids") {
            let list = case.param_value("bad_words_ids")?.as_array();
            let words = list.into_iter().flatten().map(|word| {
                let ids = word.as_array().into_iter().flatten();
                ids.filter_map(|id| id.as_u64())
                    .map(|id| id as u32)
                    .collect::<Vec<_>>()
            });
            // A word that is a stop id is not banned.
            let kept = words.filter(|w| w.len() != 1 || !stop_ids.contains(&w[0]));
            steps.push(Self::BadWords(kept.collect()));
        }
        if let Some(n) = case.param_opt_usize("min_new_tokens")? {
            steps.push(Self::MinNewTokens(n, stop_ids.to_vec()));
        }
        if let Some(token) = case.param_opt_usize("forced_eos_token_id")? {
            steps.push(Self::ForcedEnd(max_new_tokens - 1, token as u32));
        }
        if case.has_param("exponential_decay_length_penalty") {
            let pair = case.param_value("exponential_decay_length_penalty")?;
            let (Some(start), Some(factor)) = (pair[0].as_u64(), pair[1].as_f64()) else {
                return Err(case.unknown_param("exponential_decay_length_penalty", "start, factor"));
            };
            steps.push(Self::Decay(start as usize, factor, stop_ids.to_vec()));
        }
        if samples {
            if let Some(t) = case.param_opt_f64("temperature")? {
                steps.push(Self::Temperature(t));
            }
            if let Some(k) = case.param_opt_usize("top_k")? {
                let least = (stop_ids.len() + 1).max(2);
                steps.push(Self::TopK(k, least));
            }
        }
        if case.param_opt_bool("renormalize_logits")?.unwrap_or(false) {
            steps.push(Self::Normalize);
        }
        Ok(steps)
    }

    pub(super) fn apply(&self, x: &[f64], prompt: &[u32], generated: &[u32]) -> Vec<f64> {
        let sequence = [prompt, generated].concat();
        let mut x = x.to_vec();
        let mut ban = |token: u32| x[token as usize] = f64::NEG_INFINITY;
        match self {
            Self::RepetitionPenalty(penalty) => {
                for (i, x) in x.iter_mut().enumerate() {
                    if sequence.contains(&(i as u32)) {
                        *x = if *x > 0.0 { *x / penalty } else { *x * penalty };
                    }
                }
            }
            Self::NoRepeat(n) => {
                let suffix = &sequence[sequence.len().saturating_sub(n - 1)..];
                for window in sequence.windows(*n) {
                    if suffix.len() == n - 1 && window.starts_with(suffix) {
                        ban(window[n - 1]);
                    }
                }
            }
            Self::BadWords(words) => {
                for word in words {
                    if sequence.ends_with(&word[..word.len() - 1]) {
                        ban(word[word.len() - 1]);
                    }
                }
            }
            Self::MinNewTokens(n, stop_ids) => {
                if generated.len() < *n {
                    stop_ids.iter().for_each(|id| ban(*id));
                }
            }
            Self::ForcedEnd(at, token) => {
                if generated.len() == *at {
                    x.fill(f64::NEG_INFINITY);
                    x[*token as usize] = 0.0;
                }
            }
            Self::Decay(start, factor, stop_ids) => {
                let n = generated.len().saturating_sub(*start);
                return textbook::exponential_decay_length::apply(&x, stop_ids, *factor, n);
            }
            Self::Temperature(t) => return textbook::temperature::apply(&x, *t),
            Self::TopK(k, least) => {
                return textbook::top_k::apply(&x, *k, top_k::Ties::Kept, *least);
            }
            Self::Normalize => return textbook::categorical::log_softmax(&x),
        }
        x
    }
}

/// The steps as one processor: our own where there is one, else the textbook's.
fn processor(
    steps: &[Step],
) -> impl Fn(&mut Candidates<f32>, &Context<'_>) -> Result<(), SamplingError> {
    move |candidates, context| {
        for step in steps {
            if let Step::RepetitionPenalty(penalty) = step {
                RepetitionPenalty::new(*penalty, PenaltyWindow::All)?.apply(candidates, context)?;
                continue;
            }
            candidates.make_dense();
            let mut row =
                Array2::from_shape_fn((1, candidates.vocab()), |(_, i)| candidates.logits()[i]);
            match step {
                Step::Temperature(t) => temperature::apply_inplace(&mut row, *t)?,
                Step::TopK(k, least) => {
                    top_k::apply_inplace(&mut row, *k, top_k::Ties::Kept, *least)?;
                }
                _ => {
                    let x: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
                    let x = step.apply(&x, context.prompt, context.generated);
                    row.iter_mut().zip(x).for_each(|(a, b)| *a = b as f32);
                }
            }
            candidates
                .logits_mut()
                .copy_from_slice(row.as_slice().unwrap());
        }
        Ok(())
    }
}

pub(super) fn beam(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let task = Task::read(case)?;
    let steps = Step::read(
        case,
        &task.config.stop_ids,
        task.config.max_new_tokens,
        false,
    )?;
    if tier == Tier::Reference {
        return textbook_beams(case, &task, &steps, 1, 0.0, |_, _| Pick::Best);
    }
    let search = BeamSearch::new(&task.prompts, &task.config).map_err(VectorError::op)?;
    let found = run(search, |s| task.logits(s), &processor(&steps)).map_err(VectorError::op)?;
    task.expect(case, &found)
}

fn textbook_beams<'a>(
    case: &Case,
    task: &'a Task,
    steps: &[Step],
    n_groups: usize,
    penalty: f64,
    pick: impl Fn(usize, &'a [u32]) -> Pick<'a>,
) -> Result<(), VectorError> {
    let mut found = Vec::new();
    for (i, prompt) in task.prompts.iter().enumerate() {
        let mut model = task.log_probs(prompt, steps);
        let (n, config) = (prompt.len(), &task.config);
        found.push(reference::beams(
            &mut model,
            n,
            config,
            n_groups,
            penalty,
            pick(i, prompt),
        ));
    }
    if case.has_output("beam_indices") {
        // The textbook does not keep them.
        case.output_i64("beam_indices")?;
    }
    task.expect_scored(case, &found)
}

pub(super) fn beam_sample(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let task = Task::read(case)?;
    if case.param_str("draws")? != "successive inverse CDF" {
        return Err(case.unknown_param("draws", "\"successive inverse CDF\""));
    }
    let steps = Step::read(
        case,
        &task.config.stop_ids,
        task.config.max_new_tokens,
        true,
    )?;
    let uniforms = case.input_f64::<Ix3>("uniforms")?; // [steps, prompts, draws]
    if tier == Tier::Reference {
        let lists: Vec<Vec<Vec<f64>>> = (0..task.prompts.len())
            .map(|i| {
                uniforms
                    .outer_iter()
                    .map(|step| step.row(i).to_vec())
                    .collect()
            })
            .collect();
        return textbook_beams(case, &task, &steps, 1, 0.0, |i, _| {
            Pick::Drawn(Vec::leak(lists[i].clone()))
        });
    }
    let streams: Vec<u64> = (0..task.prompts.len() as u64).collect();
    let mut search =
        BeamSample::new(&task.prompts, &task.config, 0, &streams).map_err(VectorError::op)?;
    for step in uniforms.outer_iter() {
        if search.is_done() {
            break;
        }
        let logits = crate::search::logits_of(&search, |s| task.logits(s));
        search
            .step_with(&logits, &processor(&steps), &step)
            .map_err(VectorError::op)?;
    }
    assert!(search.is_done(), "as many numbers as steps");
    task.expect(case, &search.finish())
}

pub(super) fn group_beam(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let task = Task::read(case)?;
    let n_groups = case.param_usize("num_beam_groups")?;
    let penalty = case.param_f64("diversity_penalty")?;
    if tier == Tier::Reference {
        return textbook_beams(case, &task, &[], n_groups, penalty, |_, _| Pick::Best);
    }
    let search = DiverseBeamSearch::new(&task.prompts, &task.config, n_groups, penalty)
        .map_err(VectorError::op)?;
    let found = run(search, |s| task.logits(s), &processor(&[])).map_err(VectorError::op)?;
    task.expect(case, &found)
}

pub(super) fn constrained_beam(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let task = Task::read(case)?;
    if case.param_str("rule")? != "transformers" {
        return Err(case.unknown_param("rule", "\"transformers\""));
    }
    let rule = ConstraintRule::Transformers;
    let list = case.param_value("constraints")?.as_array().cloned();
    let constraints: Vec<Constraint> = list
        .unwrap_or_default()
        .iter()
        .map(|phrases| {
            let phrases = phrases.as_array().into_iter().flatten().map(|phrase| {
                let ids = phrase.as_array().into_iter().flatten();
                ids.filter_map(|id| id.as_u64())
                    .map(|id| id as u32)
                    .collect()
            });
            Constraint::any_of(phrases.collect())
        })
        .collect();
    if tier == Tier::Reference {
        let constraints: &[Constraint] = Vec::leak(constraints);
        return textbook_beams(case, &task, &[], 1, 0.0, |_, prompt| {
            Pick::Constrained(constraints, rule, prompt)
        });
    }
    let search = ConstrainedBeamSearch::new(&task.prompts, &task.config, &constraints, rule)
        .map_err(VectorError::op)?;
    let found = run(search, |s| task.logits(s), &processor(&[])).map_err(VectorError::op)?;
    task.expect(case, &found)
}

pub(super) fn transition_scores(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let table = Table(case.input_f32_dyn("table")?);
    if case.param_usize("order")? + 1 != table.0.ndim() {
        return Err(case.unknown_param("order", "one less than the axes of the table"));
    }
    if !case.param_bool("normalize")? {
        return Err(case.unknown_param("normalize", "true"));
    }
    let prompt = case.input_usize::<Ix2>("input_ids")?.ncols();
    let sequences = case.input_usize::<Ix2>("sequences")?.mapv(|id| id as u32);
    let (batch, len) = sequences.dim();
    let new = case.param_usize("max_new_tokens")?.min(len - prompt);
    let vocab = table.0.shape()[table.0.ndim() - 1];
    let mut logits = Array3::zeros((batch, new, vocab));
    for i in 0..batch {
        for step in 0..new {
            let sequence = sequences.row(i).to_vec();
            let x = Array1::from(table.logits(&sequence[..prompt + step]));
            logits.slice_mut(ndarray::s![i, step, ..]).assign(&x);
        }
    }
    let tokens = Array2::from_shape_fn((batch, new), |(i, step)| sequences[[i, prompt + step]]);
    if tier == Tier::Reference {
        let y = Array2::from_shape_fn((batch, new), |(i, step)| {
            let x: Vec<f64> = (0..vocab)
                .map(|v| f64::from(logits[[i, step, v]]))
                .collect();
            textbook::categorical::log_softmax(&x)[tokens[[i, step]] as usize]
        });
        return case.expect("logprobs", &y);
    }
    let y = transition::log_probabilities(&logits, &tokens).map_err(VectorError::op)?;
    case.expect("logprobs", &y)
}
