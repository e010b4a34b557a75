//! Contrastive search and DoLa.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_sampling::reference;
use llm_sampling::search::contrastive::{ContrastiveConfig, ContrastiveSearch};
use llm_sampling::search::dola::{self, DolaConfig};
use ndarray::{Array1, Array2, Array3, ArrayRef1, ArrayView1, Axis, Ix2, Ix3, s};

use super::{Table, ids};

pub(super) fn contrastive_rank(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let alpha = case.param_f64("penalty_alpha")?;
    let mask = case.input_bool::<Ix2>("mask")?;
    let probs = case.input_f64::<Ix2>("probs")?;
    let (batch, k) = probs.dim();
    let mut index = Array1::zeros(batch);
    if tier == Tier::Reference {
        let context = case.input_f64::<Ix3>("context")?;
        let hidden = case.input_f64::<Ix3>("hidden")?;
        for row in 0..batch {
            let unmasked = (0..context.dim().1).filter(|&j| mask[[row, j]]);
            let context: Vec<_> = unmasked
                .map(|j| context.slice(s![row, j, ..]).to_vec())
                .collect();
            let hidden: Vec<_> = (0..k)
                .map(|i| hidden.slice(s![row, i, ..]).to_vec())
                .collect();
            let p = probs.row(row).to_vec();
            let scores = reference::contrastive::scores(&p, &hidden, &context, alpha);
            index[row] = reference::greedy::argmax(&scores) as i64;
        }
    } else {
        let config = ContrastiveConfig::new(k, alpha).map_err(VectorError::op)?;
        let context = case.input_f32::<Ix3>("context")?;
        let mut search =
            ContrastiveSearch::new(config, &context, Some(&mask)).map_err(VectorError::op)?;
        // Logits whose softmax is proportional to the probabilities; these sum to 1 and are in order.
        let logits = probs.mapv(|p| p.ln() as f32);
        let proposal = search.propose(&logits).map_err(VectorError::op)?;
        let choices = search
            .choose(&proposal, &case.input_f32::<Ix3>("hidden")?)
            .map_err(VectorError::op)?;
        for (row, choice) in choices.iter().enumerate() {
            index[row] = choice.token as i64;
        }
    }
    case.expect_int("index", &index)
}

pub(super) fn contrastive(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let table = Table(case.input_f32_dyn("table")?);
    let hidden = Table(case.input_f32_dyn("hidden_table")?);
    if case.param_usize("order")? != 2 || table.0.ndim() != 3 || hidden.0.ndim() != 3 {
        return Err(case.unknown_param("order", "2"));
    }
    let mask = case.input_bool::<Ix2>("mask")?;
    let prompts = case.input_usize::<Ix2>("input_ids")?.mapv(|id| id as u32);
    let settings = Settings {
        top_k: case.param_usize("top_k")?,
        alpha: case.param_f64("penalty_alpha")?,
        max_new_tokens: case.param_usize("max_new_tokens")?,
        stop_ids: ids(case, "eos_token_id")?.unwrap_or_default(),
        pad: case.param_usize("pad_token_id")? as u32,
    };
    let rows: Vec<Vec<u32>> = prompts.rows().into_iter().map(|row| row.to_vec()).collect();
    let sequences = if tier == Tier::Reference {
        let mut done: Vec<Vec<u32>> = rows
            .into_iter()
            .zip(mask.rows())
            .map(|(row, mask)| textbook(&table, &hidden, row, mask, &settings))
            .collect();
        let longest = done.iter().map(Vec::len).max().unwrap_or(0);
        done.iter_mut()
            .for_each(|row| row.resize(longest, settings.pad));
        done
    } else {
        stepped(&table, &hidden, rows, &mask, &settings).map_err(VectorError::op)?
    };
    let len = sequences.first().map_or(0, Vec::len);
    case.expect_int(
        "sequences",
        &Array2::from_shape_fn([sequences.len(), len], |(row, i)| sequences[row][i]),
    )
}

struct Settings {
    top_k: usize,
    alpha: f64,
    max_new_tokens: usize,
    stop_ids: Vec<u32>,
    pad: u32,
}

/// One row by the formula, all hidden states anew at each step.
fn textbook(
    table: &Table,
    hidden: &Table,
    mut sequence: Vec<u32>,
    mask: ArrayView1<'_, bool>,
    settings: &Settings,
) -> Vec<u32> {
    let wide = |x: Vec<f32>| -> Vec<f64> { x.into_iter().map(f64::from).collect() };
    let masked = mask.iter().filter(|counts| !**counts).count();
    for _ in 0..settings.max_new_tokens {
        let p = reference::speculative::softmax(&wide(table.logits(&sequence)));
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&i, &j| p[j].total_cmp(&p[i]));
        order.truncate(settings.top_k);
        let context: Vec<_> = (masked..sequence.len())
            .map(|end| wide(hidden.logits(&sequence[..=end])))
            .collect();
        let candidates: Vec<_> = order
            .iter()
            .map(|&v| wide(hidden.logits(&[sequence.as_slice(), &[v as u32]].concat())))
            .collect();
        let probabilities: Vec<f64> = order.iter().map(|&v| p[v]).collect();
        let scores =
            reference::contrastive::scores(&probabilities, &candidates, &context, settings.alpha);
        let token = order[reference::greedy::argmax(&scores)] as u32;
        sequence.push(token);
        if settings.stop_ids.contains(&token) {
            break;
        }
    }
    sequence
}

/// The loop of a caller: a batch whose caches are the sequences themselves.
fn stepped(
    table: &Table,
    hidden: &Table,
    mut caches: Vec<Vec<u32>>,
    mask: &Array2<bool>,
    settings: &Settings,
) -> Result<Vec<Vec<u32>>, llm_sampling::SamplingError> {
    let (batch, k) = (caches.len(), settings.top_k);
    let stack = |rows: Vec<Vec<f32>>| {
        let width = rows.first().map_or(0, Vec::len);
        Array2::from_shape_fn([rows.len(), width], |(i, j)| rows[i][j])
    };
    let seq = mask.ncols();
    let states = (0..batch * seq).map(|i| hidden.logits(&caches[i / seq][..=i % seq]));
    let states = stack(states.collect());
    let d_model = states.ncols();
    let context =
        Array3::from_shape_fn([batch, seq, d_model], |(i, j, l)| states[[i * seq + j, l]]);
    let config = ContrastiveConfig::new(k, settings.alpha)?;
    let mut search = ContrastiveSearch::new(config, &context, Some(mask))?;
    let mut out = caches.clone();
    let mut ended = vec![false; batch];
    for _ in 0..settings.max_new_tokens {
        if ended.iter().all(|ended| *ended) {
            break;
        }
        let logits = stack(caches.iter().map(|cache| table.logits(cache)).collect());
        let proposal = search.propose(&logits)?;
        // The model runs all candidates, on copies of the caches.
        let copies: Vec<Vec<u32>> = (0..batch * k)
            .map(|i| [caches[i / k].as_slice(), &[proposal.tokens[[i / k, i % k]]]].concat())
            .collect();
        let states = stack(copies.iter().map(|copy| hidden.logits(copy)).collect());
        let states = Array3::from_shape_fn([batch, k, d_model], |(i, j, l)| states[[i * k + j, l]]);
        for (row, choice) in search.choose(&proposal, &states)?.into_iter().enumerate() {
            caches[row] = copies[choice.cache_row].clone();
            out[row].push(if ended[row] {
                settings.pad
            } else {
                choice.token
            });
            ended[row] |= settings.stop_ids.contains(&choice.token);
        }
    }
    Ok(out)
}

pub(super) fn dola_contrast(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let config = DolaConfig::hugging_face().with_relative_top(case.param_f64("relative_top")?);
    if case.param_str("divergence")? != "reversed" {
        return Err(case.unknown_param("divergence", "\"reversed\""));
    }
    if case.param_str("layer")? != "one for the batch" {
        return Err(case.unknown_param("layer", "\"one for the batch\""));
    }
    if tier != Tier::Reference {
        let last = case.input_f32::<Ix2>("final_logits")?;
        let premature = case.input_f32::<Ix3>("premature_logits")?;
        let contrast = dola::contrast(&last, &premature, &config).map_err(VectorError::op)?;
        return case.expect("logits", &contrast.logits);
    }
    let last = case.input_f64::<Ix2>("final_logits")?;
    let premature = case.input_f64::<Ix3>("premature_logits")?;
    let softmax = |row: &ArrayRef1<f64>| reference::speculative::softmax(&row.to_vec());
    let mut sums = Vec::new();
    for layer in premature.outer_iter() {
        let rows = last.rows().into_iter().zip(layer.rows());
        let sum: f64 = rows
            .map(|(p, q)| reference::dola::divergence(&softmax(&p), &softmax(&q), true))
            .sum();
        sums.push(sum);
    }
    let layer = premature.index_axis_move(Axis(0), reference::greedy::argmax(&sums));
    let mut logits = Array2::zeros(last.dim());
    for (mut out, (p, q)) in logits
        .rows_mut()
        .into_iter()
        .zip(last.rows().into_iter().zip(layer.rows()))
    {
        let row = reference::dola::contrast(&p.to_vec(), &q.to_vec(), config.relative_top);
        out.assign(&Array1::from(row));
    }
    case.expect("logits", &logits)
}
