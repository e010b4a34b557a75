//! The chain that `generate` of transformers would run, in its order.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};

use super::ids;
use super::processors::{biases, lists, sources};
use super::steps::{self, Step, compare};

pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let prompt = case.param_opt_usize("prompt_length")?;
    let mut steps = before_sampling(case, prompt)?;
    let sampling = filters(case)?; // read in any case, so that no parameter is left over
    if case.param_opt_bool("do_sample")?.unwrap_or(false) {
        steps.extend(sampling);
    }
    if case.param_opt_bool("renormalize_logits")?.unwrap_or(false) {
        steps.push(steps::log_softmax());
    }
    if case.has_param("order") {
        let names: Vec<_> = steps.iter().map(|step| step.name).collect();
        let order = case.param_value("order")?.as_array();
        let same = order.is_some_and(|order| {
            order
                .iter()
                .map(|name| name.as_str())
                .eq(names.iter().copied().map(Some))
        });
        if !same {
            return Err(case.unknown_param("order", &format!("{names:?}")));
        }
    }
    compare(case, tier, &steps, prompt)
}

/// The processors that run for greedy decoding, too.
fn before_sampling(case: &Case, prompt: Option<usize>) -> Result<Vec<Step>, VectorError> {
    let eos = ids(case, "eos_token_id")?;
    let mut made = Vec::new();
    if case.has_param("sequence_bias") {
        made.push(steps::sequence_bias(biases(case)?));
    }
    let not_one = |penalty: &f64| *penalty != 1.0;
    if let Some(penalty) = case
        .param_opt_f64("encoder_repetition_penalty")?
        .filter(not_one)
    {
        made.push(steps::encoder_repetition_penalty(penalty, sources(case)?));
    }
    if let Some(penalty) = case.param_opt_f64("repetition_penalty")?.filter(not_one) {
        made.push(steps::repetition_penalty(penalty, vec![0]));
    }
    let above_zero = |n: &usize| *n > 0;
    if let Some(n) = case
        .param_opt_usize("no_repeat_ngram_size")?
        .filter(above_zero)
    {
        made.push(steps::no_repeat_ngram(n));
    }
    if let Some(n) = case
        .param_opt_usize("encoder_no_repeat_ngram_size")?
        .filter(above_zero)
    {
        made.push(steps::encoder_no_repeat_ngram(n, sources(case)?));
    }
    if case.has_param("bad_words_ids") {
        let words = lists(case, "bad_words_ids")?;
        made.push(steps::bad_words(words, eos.clone().unwrap_or_default()));
    }
    // Without an end there is no too early.
    let at_least = case.param_opt_usize("min_length")?.filter(above_zero);
    if let (Some(n), Some(eos)) = (at_least, &eos) {
        made.push(Ok(steps::min_length(n, eos.clone())));
    }
    let at_least = case.param_opt_usize("min_new_tokens")?.filter(above_zero);
    if let (Some(n), Some(eos)) = (at_least, &eos) {
        made.push(Ok(steps::min_new_tokens(n, eos.clone())));
    }
    let forced_bos = case.param_opt_usize("forced_bos_token_id")?;
    if let Some(token) = forced_bos {
        made.push(Ok(steps::forced_bos(token as u32)));
    }
    let max_length = case.param_opt_usize("max_length")?;
    if let Some(stop_ids) = ids(case, "forced_eos_token_id")? {
        made.push(Ok(steps::forced_eos(
            max_length.unwrap_or(20), // the default of the library
            stop_ids,
        )));
    }
    if case
        .param_opt_bool("remove_invalid_values")?
        .unwrap_or(false)
    {
        made.push(Ok(steps::remove_invalid()));
    }
    if case.has_param("exponential_decay_length_penalty") {
        let [start, factor] = case.param_f64_list("exponential_decay_length_penalty")?[..] else {
            return Err(case.unknown_param("exponential_decay_length_penalty", "two numbers"));
        };
        let eos = eos.unwrap_or_default();
        made.push(steps::exponential_decay_length(start as usize, factor, eos));
    }
    if let Some(tokens) = ids(case, "suppress_tokens")? {
        made.push(Ok(steps::suppress(tokens)));
    }
    if let Some(tokens) = ids(case, "begin_suppress_tokens")? {
        let prompt = prompt.ok_or_else(|| case.unknown_param("prompt_length", "a number"))?;
        // The forced token comes first.
        let later = usize::from(prompt <= 1 && forced_bos.is_some());
        made.push(Ok(steps::begin_suppress(tokens, prompt + later)));
    }
    made.into_iter()
        .map(|step| step.map_err(VectorError::op))
        .collect()
}

/// The processors that only run where a token is drawn.
fn filters(case: &Case) -> Result<Vec<Step>, VectorError> {
    let least = match case.param_opt_usize("num_beams")? {
        None | Some(1) => 1,
        Some(_) => ids(case, "eos_token_id")?.map_or(1, |eos| eos.len()) + 1,
    };
    let mut made = Vec::new();
    let number = |name| case.param_opt_f64(name);
    if let Some(t) = number("temperature")?.filter(|t| *t != 1.0) {
        made.push(steps::temperature(t));
    }
    if let Some(h) = number("top_h")? {
        made.push(steps::top_h(h));
    }
    if let Some(k) = case.param_opt_usize("top_k")?.filter(|k| *k != 0) {
        made.push(steps::top_k(k, least));
    }
    if let Some(p) = number("top_p")?.filter(|p| *p < 1.0) {
        made.push(steps::top_p(p, least));
    }
    if let Some(p) = number("min_p")? {
        made.push(steps::min_p(p, least));
    }
    if let Some(p) = number("typical_p")?.filter(|p| *p < 1.0) {
        made.push(steps::typical(p, least));
    }
    let is_bound = |e: &f64| *e > 0.0 && *e < 1.0;
    if let Some(e) = number("epsilon_cutoff")?.filter(is_bound) {
        made.push(steps::epsilon(e, least));
    }
    if let Some(e) = number("eta_cutoff")?.filter(is_bound) {
        made.push(steps::eta(e, least));
    }
    made.into_iter()
        .map(|step| step.map_err(VectorError::op))
        .collect()
}
