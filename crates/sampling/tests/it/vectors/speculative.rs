//! Speculative decoding and prompt lookup.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_sampling::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
use llm_sampling::search::prompt_lookup::{self, LengthLimit, PromptLookupConfig};
use llm_sampling::search::speculative::{self, DraftSchedule, RowMode};
use llm_sampling::{Context, greedy, reference};
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis, Ix2, Ix3};

use super::{Table, ids};

pub(super) fn residual(case: &Case, tier: Tier) -> Result<(), VectorError> {
    case.note("rule");
    let rows: Vec<(Vec<f64>, f64, Vec<f64>)> = if tier == Tier::Reference {
        let p = case.input_f64::<Ix2>("target_probs")?;
        let q = case.input_f64::<Ix2>("draft_probs")?;
        let rows = p.rows().into_iter().zip(q.rows());
        rows.map(|(p, q)| {
            let (p, q) = (p.to_vec(), q.to_vec());
            let accept = reference::speculative::accept_probabilities(&p, &q);
            let rate = accept.iter().zip(&q).map(|(a, q)| a * q).sum();
            (accept, rate, reference::speculative::residual(&p, &q))
        })
        .collect()
    } else {
        let p = case.input_f32::<Ix2>("target_probs")?;
        let q = case.input_f32::<Ix2>("draft_probs")?;
        let mut rows = Vec::new();
        for (p, q) in p.rows().into_iter().zip(q.rows()) {
            let accept = speculative::accept_probabilities(&p, &q).map_err(VectorError::op)?;
            let rate = speculative::accept_rate(&p, &q).map_err(VectorError::op)?;
            let residual = speculative::residual(&p, &q).map_err(VectorError::op)?;
            rows.push((
                accept.mapv(f64::from).to_vec(),
                rate,
                residual.mapv(f64::from).to_vec(),
            ));
        }
        rows
    };
    let vocab = rows.first().map_or(0, |row| row.0.len());
    let n = rows.len();
    case.expect(
        "accept_prob",
        &Array2::from_shape_fn([n, vocab], |(i, j)| rows[i].0[j]),
    )?;
    case.expect("accept_rate", &Array1::from_shape_fn(n, |i| rows[i].1))?;
    case.expect(
        "residual",
        &Array2::from_shape_fn([n, vocab], |(i, j)| rows[i].2[j]),
    )
}

pub(super) fn verify(case: &Case, tier: Tier) -> Result<(), VectorError> {
    case.note("padding");
    let tokens = case.input_usize::<Ix2>("draft_tokens")?;
    let accept = case.input_f64::<Ix2>("accept")?;
    let choose = case.input_f64::<Ix2>("choose")?;
    let (batch, draft) = tokens.dim();
    let rows: Vec<Vec<usize>> = if tier == Tier::Reference {
        let target = case.input_f64::<Ix3>("target_logits")?;
        let proposal = case.input_f64::<Ix3>("draft_logits")?;
        let softmax = |rows: ArrayView2<'_, f64>| -> Vec<Vec<f64>> {
            let rows = rows.rows().into_iter().map(|row| row.to_vec());
            rows.map(|row| reference::speculative::softmax(&row))
                .collect()
        };
        let row = |i: usize| {
            reference::speculative::verify(
                &softmax(target.index_axis(Axis(0), i)),
                &softmax(proposal.index_axis(Axis(0), i)),
                &tokens.row(i).to_vec(),
                &accept.row(i).to_vec(),
                &choose.row(i).to_vec(),
            )
        };
        (0..batch).map(row).collect()
    } else {
        let target = case.input_f32::<Ix3>("target_logits")?;
        let proposal = case.input_f32::<Ix3>("draft_logits")?;
        let numbers: Vec<_> = (0..batch)
            .map(|i| (accept.row(i).to_vec(), choose.row(i).to_vec()))
            .collect();
        let modes: Vec<_> = numbers
            .iter()
            .map(|(accept, choose)| RowMode::Uniforms { accept, choose })
            .collect();
        let tokens = tokens.mapv(|token| token as u32);
        let verified = speculative::verify(
            &target,
            Some(&proposal),
            &tokens,
            &vec![draft; batch],
            &modes,
        )
        .map_err(VectorError::op)?;
        let wide = |row: &speculative::Verified| row.tokens.iter().map(|t| *t as usize).collect();
        verified.iter().map(wide).collect()
    };
    case.expect_int(
        "accepted",
        &Array1::from_shape_fn(batch, |i| rows[i].len() - 1),
    )?;
    let token = |i: usize, j: usize| rows[i].get(j).map_or(-1, |token| *token as i64);
    case.expect_int(
        "tokens",
        &Array2::from_shape_fn([batch, draft + 1], |(i, j)| token(i, j)),
    )
}

pub(super) fn prompt_lookup(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let rows = case.input_usize::<Ix2>("input_ids")?.mapv(|id| id as u32);
    let ngram = case.param_usize("max_matching_ngram_size")?;
    let tokens = case.param_usize("num_output_tokens")?;
    let max_length = case.param_usize("max_length")?;
    let stop_ids = ids(case, "eos_token_id")?.unwrap_or_default();
    let mut extended = Vec::new();
    for row in rows.rows() {
        let mut row = row.to_vec();
        let found = if tier == Tier::Reference {
            // One token left: nothing. Beyond `max_length`: nothing is copied from there.
            let seq = row.len();
            if max_length == seq + 1 {
                Vec::new()
            } else if max_length < seq {
                cut_textbook(&row, ngram, tokens, &stop_ids, max_length)
            } else {
                reference::prompt_lookup::candidates(&row, ngram, tokens, false, &stop_ids)
            }
        } else {
            let config = PromptLookupConfig::new(ngram, tokens)
                .map_err(VectorError::op)?
                .with_stop_ids(stop_ids.clone())
                .with_limit(LengthLimit::HuggingFace(max_length));
            prompt_lookup::candidates(&row, &config)
                .map_err(VectorError::op)?
                .to_vec()
        };
        row.extend(found);
        extended.push(row);
    }
    let len = extended.first().map_or(0, Vec::len);
    if extended.iter().any(|row| row.len() != len) {
        return Err(case.unsupported("rows whose drafts differ in length"));
    }
    case.expect_int(
        "candidate_ids",
        &Array2::from_shape_fn([extended.len(), len], |(i, j)| extended[i][j]),
    )
}

/// Where the sequence is longer than `max_length`: the first n-gram with a place before that.
fn cut_textbook(row: &[u32], ngram: usize, n: usize, stop_ids: &[u32], max: usize) -> Vec<u32> {
    for size in (1..=ngram.min(row.len() - 1)).rev() {
        let end = &row[row.len() - size..];
        for start in size..max {
            if row[start - size..start] == *end {
                let draft = &row[start..max.min(start + n)];
                let stop = draft.iter().position(|id| stop_ids.contains(id));
                return draft[..stop.unwrap_or(draft.len())].to_vec();
            }
        }
    }
    Vec::new()
}

pub(super) fn assisted_greedy(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let table = Table(case.input_f32_dyn("table")?);
    let assistant = Table(case.input_f32_dyn("assistant_table")?);
    if case.param_usize("order")? + 1 != table.0.ndim() || table.0.ndim() != assistant.0.ndim() {
        return Err(case.unknown_param("order", "one less than the axes of the tables"));
    }
    if case.param_str("schedule")? != "constant" {
        return Err(case.unknown_param("schedule", "\"constant\""));
    }
    let schedule = DraftSchedule::constant(case.param_usize("num_assistant_tokens")?)
        .map_err(VectorError::op)?;
    let max_new_tokens = case.param_usize("max_new_tokens")?;
    let stop_ids = ids(case, "eos_token_id")?.unwrap_or_default();
    let pad = case.param_opt_usize("pad_token_id")?.unwrap_or(0) as u32;
    let penalty = case.param_opt_f64("repetition_penalty")?.unwrap_or(1.0);
    let prompts = case.input_usize::<Ix2>("input_ids")?.mapv(|id| id as u32);

    let mut rows = Vec::new();
    for row in prompts.rows() {
        let row = row.to_vec();
        rows.push(if tier == Tier::Reference {
            plain_greedy(&table, row, max_new_tokens, &stop_ids, penalty)
        } else {
            let settings = (max_new_tokens, stop_ids.as_slice(), penalty);
            assisted(&table, &assistant, row, schedule, settings).map_err(VectorError::op)?
        });
    }
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    for row in &mut rows {
        row.resize(longest, pad);
    }
    case.expect_int(
        "sequences",
        &Array2::from_shape_fn([rows.len(), longest], |(row, i)| rows[row][i]),
    )
}

/// Greedy decoding without a draft.
fn plain_greedy(
    table: &Table,
    mut sequence: Vec<u32>,
    max_new_tokens: usize,
    stop_ids: &[u32],
    penalty: f64,
) -> Vec<u32> {
    for _ in 0..max_new_tokens {
        let mut logits: Vec<f64> = table.logits(&sequence).into_iter().map(f64::from).collect();
        for (token, x) in logits.iter_mut().enumerate() {
            if sequence.contains(&(token as u32)) {
                *x *= if *x > 0.0 { 1.0 / penalty } else { penalty };
            }
        }
        let token = reference::greedy::argmax(&logits) as u32;
        sequence.push(token);
        if stop_ids.contains(&token) {
            break;
        }
    }
    sequence
}

/// The loop of a caller with two models.
fn assisted(
    table: &Table,
    assistant: &Table,
    mut sequence: Vec<u32>,
    mut schedule: DraftSchedule,
    (max_new_tokens, stop_ids, penalty): (usize, &[u32], f64),
) -> Result<Vec<u32>, llm_sampling::SamplingError> {
    let penalty = RepetitionPenalty::new(penalty, PenaltyWindow::All)?;
    let prompt = sequence.len();
    while sequence.len() < prompt + max_new_tokens {
        let room = prompt + max_new_tokens - sequence.len();
        let mut draft = Vec::new();
        for _ in 0..schedule.len(room) {
            let so_far = [sequence.as_slice(), &draft].concat();
            draft.push(greedy::argmax(&Array1::from(assistant.logits(&so_far)))?);
        }
        let n = draft.len();
        let positions: Vec<Vec<f32>> = (0..=n)
            .map(|i| table.logits(&[sequence.as_slice(), &draft[..i]].concat()))
            .collect();
        let vocab = positions[0].len();
        let mut target = Array3::from_shape_fn([1, n + 1, vocab], |(_, i, j)| positions[i][j]);
        let tokens = Array2::from_shape_fn([1, n], |(_, i)| draft[i]);
        let context = Context::new(&sequence[..prompt], &sequence[prompt..]);
        speculative::apply_inplace(&mut target, &[context], &tokens, &[n], &penalty)?;
        let mut verified =
            speculative::verify(&target, None, &tokens, &[n], &[RowMode::Greedy])?.remove(0);
        schedule.update(verified.accepted, verified.drafted);
        verified.limit(room);
        let stop = verified.end_at(stop_ids);
        sequence.extend(verified.tokens);
        if stop.is_some() {
            break;
        }
    }
    Ok(sequence)
}
