//! Cases of `llm-sampling`: a step of one sequence over a large vocabulary, from logits to a token.
//!
//! Each call gets another row. Random numbers are part of the step, for us and for peers; theirs are their own, so what is compared with
//! peers is what they draw from.

#[cfg(feature = "peers")]
mod candle;
mod rows;

use anyhow::{Context as _, Result};
use llm_sampling::min_p::MinP;
use llm_sampling::presence_frequency::PresenceFrequency;
use llm_sampling::reference;
use llm_sampling::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
use llm_sampling::search::beam::{BeamConfig, BeamSearch};
use llm_sampling::temperature::Temperature;
use llm_sampling::top_k::{Ties, TopK};
use llm_sampling::top_p::{SumFrom, TopP};
use llm_sampling::{Candidates, Chain, Context, RowRandom, SamplingError, greedy, gumbel_max};
use ndarray::{Array2, s};
use serde_json::json;

use crate::case::{Bars, Case, Peer, Plan, Setup, Work, agree};
use crate::measure::Calls;
use crate::peers::Input;
use rows::{TOKENS, VOCAB};

const TEMPERATURE: f64 = 0.7;
const TOP_K: usize = 50;
const TOP_P: f64 = 0.9;
const MIN_P: f64 = 0.05;
const REPETITION: f64 = 1.3;
const PRESENCE: f64 = 0.5;
const FREQUENCY: f64 = 0.25;
const BEAMS: usize = 4;

/// Every case of the crate.
pub(crate) fn plans() -> Vec<Plan> {
    let times = |limit: f64| Bars {
        of_limit: Some(1.0 / limit),
        peers: &[("candle", 4.0), ("transformers", 50.0)],
    };
    let chains = [
        (Penalties::None, Filter::TopKTopP, times(5.0)),
        (Penalties::None, Filter::TopP, times(12.0)),
        (Penalties::Repetition, Filter::TopKTopP, times(6.0)),
        (Penalties::All, Filter::TopKTopP, times(6.0)),
        (Penalties::None, Filter::MinP, Bars::default()),
        (Penalties::None, Filter::None, Bars::default()),
    ];
    let chains = chains.map(|(penalties, filter, bars)| Step { penalties, filter }.plan(bars));
    let plan = |name: &str, build: fn(&Setup) -> Result<Case>| Plan {
        name: format!("{name}, vocabulary {VOCAB}"),
        bars: Bars::default(),
        build: Box::new(build),
    };
    let others = [
        plan("greedy", greedy),
        plan("Gumbel-max", gumbel_max),
        plan(&format!("beam step, {BEAMS} beams"), beam),
    ];
    chains.into_iter().chain(others).collect()
}

/// What tokens that occurred lose.
#[derive(Clone, Copy, PartialEq)]
enum Penalties {
    None,
    Repetition,
    /// Presence and frequency too.
    All,
}

/// Which tokens remain.
#[derive(Clone, Copy, PartialEq)]
enum Filter {
    None,
    /// After a temperature.
    TopKTopP,
    TopP,
    MinP,
}

/// Penalties, a filter, and a draw.
#[derive(Clone, Copy)]
struct Step {
    penalties: Penalties,
    filter: Filter,
}

impl Step {
    fn plan(self, bars: Bars) -> Plan {
        let penalties = match self.penalties {
            Penalties::None => String::new(),
            Penalties::Repetition => format!("repetition penalty over {TOKENS} tokens, "),
            Penalties::All => {
                format!("repetition, presence and frequency penalties over {TOKENS} tokens, ")
            }
        };
        let filter = match self.filter {
            Filter::None => "softmax".to_owned(),
            Filter::TopKTopP => format!("temperature {TEMPERATURE}, top-k {TOP_K}, top-p {TOP_P}"),
            Filter::TopP => format!("top-p {TOP_P}"),
            Filter::MinP => format!("min-p {MIN_P}"),
        };
        Plan {
            name: format!("{penalties}{filter}, draw, vocabulary {VOCAB}"),
            bars,
            build: Box::new(move |setup| self.build(setup)),
        }
    }

    fn chain(self) -> Result<Chain<f32>> {
        let mut chain = Chain::new();
        if self.penalties != Penalties::None {
            chain = chain.with(RepetitionPenalty::new(REPETITION, PenaltyWindow::All)?);
        }
        if self.penalties == Penalties::All {
            let window = PenaltyWindow::All;
            chain = chain.with(PresenceFrequency::new(PRESENCE, FREQUENCY, window)?);
        }
        Ok(match self.filter {
            Filter::None => chain,
            Filter::TopKTopP => chain
                .with(Temperature::new(TEMPERATURE)?)
                .with(TopK::new(TOP_K, Ties::Kept, 1)?)
                .with(TopP::new(TOP_P, SumFrom::Smallest, 1)?),
            Filter::TopP => chain.with(TopP::new(TOP_P, SumFrom::Smallest, 1)?),
            Filter::MinP => chain.with(MinP::new(MIN_P, 1)?),
        })
    }

    /// The logits that a token is drawn from, by the textbook.
    fn reference(self, row: &[f32], tokens: &[u32]) -> Vec<f64> {
        let mut x: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        if self.penalties != Penalties::None {
            x = reference::repetition_penalty::apply(&x, tokens, REPETITION);
        }
        if self.penalties == Penalties::All {
            x = reference::presence_frequency::apply(&x, tokens, PRESENCE, FREQUENCY);
        }
        match self.filter {
            Filter::None => x,
            Filter::TopKTopP => {
                x = reference::temperature::apply(&x, TEMPERATURE);
                x = reference::top_k::apply(&x, TOP_K, Ties::Kept, 1);
                reference::top_p::apply(&x, TOP_P, SumFrom::Smallest, 1)
            }
            Filter::TopP => reference::top_p::apply(&x, TOP_P, SumFrom::Smallest, 1),
            Filter::MinP => reference::min_p::apply(&x, MIN_P, 1),
        }
    }

    fn build(self, setup: &Setup) -> Result<Case> {
        let logits = rows::logits(setup)?;
        let first = logits.row(0);
        let first = first.as_slice().context(FLAT)?;
        let tokens = rows::tokens(first);
        let want = self.reference(first, &tokens);
        self.compare(&logits, &tokens, &want)?;
        #[cfg_attr(
            not(feature = "peers"),
            allow(unused_mut, reason = "candle comes with the feature")
        )]
        let mut peers = self.python(setup, &logits, &tokens, &want)?;
        #[cfg(feature = "peers")]
        if setup.python.is_some() {
            peers.splice(0..0, candle::peer(self, &logits, &tokens)?);
        }
        let mut chain = self.chain()?;
        let mut draws = Vec::with_capacity(1);
        Ok(Case {
            work: Work::Maximum { values: VOCAB },
            ours: Calls::boxed(move |call| {
                let row = call % logits.nrows();
                let context = context(&tokens, call);
                chain.sample_into(&logits.slice(s![row..=row, ..]), &[context], &mut draws)?;
                std::hint::black_box(&draws);
                Ok(())
            }),
            peers,
        })
    }

    /// What our chain leaves of the first row, and what it draws from it.
    fn compare(self, logits: &Array2<f32>, tokens: &[u32], want: &[f64]) -> Result<()> {
        let mut chain = self.chain()?;
        let first = logits.slice(s![0..1, ..]);
        let row = first.to_slice().context(FLAT)?;
        let kept = dense(chain.run(row, &context(tokens, 0))?);
        // A quotient below 64, rounded to f32.
        rows::same("what our chain leaves", &kept, want, 4e-6)?;
        let cumulative = reference::categorical::cumulative(want);
        let (mut got, mut expected) = (Vec::new(), Vec::new());
        for step in 0..64 {
            let context = context(tokens, step);
            let u = context.random.uniform(0);
            let draw = chain.sample(&first, &[context])?;
            got.extend(draw.iter().map(|draw| f64::from(draw.token)));
            expected.push(cumulative.partition_point(|&sum| sum <= u) as f64);
        }
        agree("our draws", got, expected, 0.0)
    }

    /// transformers' warpers, softmax and `torch.multinomial`. There is none for presence and frequency.
    fn python(
        self,
        setup: &Setup,
        logits: &Array2<f32>,
        tokens: &[u32],
        want: &[f64],
    ) -> Result<Vec<Peer>> {
        if self.penalties == Penalties::All {
            return Ok(Vec::new());
        }
        let repetition = (self.penalties == Penalties::Repetition).then_some(REPETITION);
        let is_chain = self.filter == Filter::TopKTopP;
        let params = json!({
            "repetition_penalty": repetition,
            "temperature": is_chain.then_some(TEMPERATURE),
            "top_k": is_chain.then_some(TOP_K),
            "top_p": (is_chain || self.filter == Filter::TopP).then_some(TOP_P),
            "min_p": (self.filter == Filter::MinP).then_some(MIN_P),
        });
        let opened = python(setup, "draw", &params, logits, tokens)?;
        let mut peers = Vec::new();
        for (peer, out) in opened {
            let kept: Vec<f64> = out.iter().map(|&x| f64::from(x)).collect();
            rows::same(&format!("what {} leaves", peer.library), &kept, want, 4e-6)?;
            peers.push(peer);
        }
        Ok(peers)
    }
}

const FLAT: &str = "arrays made here are contiguous";

/// Half of the tokens are the prompt; each call has random numbers of its own.
fn context(tokens: &[u32], call: usize) -> Context<'_> {
    let (prompt, generated) = tokens.split_at(TOKENS / 2);
    Context::new(prompt, generated).with_random(RowRandom::new(2026, 0, call as u64))
}

/// The logits of all tokens, `-inf` for those that were left out.
fn dense(candidates: &mut Candidates<f32>) -> Vec<f64> {
    candidates.make_dense();
    candidates.logits().iter().map(|&x| f64::from(x)).collect()
}

/// The peers of a case in Python with their first outputs: logits, or a token.
fn python(
    setup: &Setup,
    case: &str,
    params: &serde_json::Value,
    logits: &Array2<f32>,
    tokens: &[u32],
) -> Result<Vec<(Peer, Vec<f32>)>> {
    let Some(python) = &setup.python else {
        return Ok(Vec::new());
    };
    let tokens: Vec<f32> = tokens.iter().map(|&token| token as f32).collect();
    // The peer takes another row each time by itself.
    let input = |name, shape: &[usize], data| Input {
        name,
        shape: shape.to_vec(),
        data,
        rotates: false,
    };
    let inputs = [
        input("logits", logits.shape(), logits.as_slice().context(FLAT)?),
        input("tokens", &[1, tokens.len()], &tokens),
    ];
    let opened = python.open(["sampling", case], params, &inputs, 1)?;
    opened
        .into_iter()
        .map(|mut opened| {
            let out = opened.outputs.remove("out");
            Ok((opened.peer, out.context("a peer must have an output")?))
        })
        .collect()
}

/// The largest logit of a row.
fn greedy(setup: &Setup) -> Result<Case> {
    let logits = rows::logits(setup)?;
    let first: Vec<f64> = logits.row(0).iter().map(|&x| f64::from(x)).collect();
    let want = reference::greedy::argmax(&first) as f64;
    agree(
        "our token",
        [f64::from(greedy::argmax(&logits.row(0))?)],
        [want],
        0.0,
    )?;
    let mut peers = Vec::new();
    #[cfg(feature = "peers")]
    if setup.python.is_some() {
        peers.push(candle::greedy(&logits, want)?);
    }
    for (peer, token) in python(setup, "greedy", &json!({}), &logits, &[0])? {
        agree(
            &peer.library,
            token.iter().map(|&x| f64::from(x)),
            [want],
            0.0,
        )?;
        peers.push(peer);
    }
    Ok(Case {
        work: Work::Maximum { values: VOCAB },
        ours: Calls::boxed(move |call| {
            let row = logits.row(call % logits.nrows());
            std::hint::black_box(greedy::argmax(&row)?);
            Ok(())
        }),
        peers,
    })
}

/// A draw as an argmax: a random number for each token that may win.
fn gumbel_max(setup: &Setup) -> Result<Case> {
    let logits = rows::logits(setup)?;
    let first: Vec<f64> = logits.row(0).iter().map(|&x| f64::from(x)).collect();
    for step in 0..4 {
        let random = RowRandom::new(2026, 0, step);
        let uniforms = (0..VOCAB as u32).map(|token| gumbel_max::uniform(random, token));
        let want = reference::gumbel_max::argmax(&first, &uniforms.collect::<Vec<_>>()) as f64;
        let got = gumbel_max::draw(&logits.row(0), random)?.token;
        agree("our token", [f64::from(got)], [want], 0.0)?;
    }
    let mut candidates = Candidates::new();
    Ok(Case {
        work: Work::Maximum { values: VOCAB },
        ours: Calls::boxed(move |call| {
            let row = logits.row(call % logits.nrows());
            candidates.fill(row.to_slice().context(FLAT)?)?;
            let random = RowRandom::new(2026, 0, call as u64);
            std::hint::black_box(gumbel_max::choose(&mut candidates, random)?);
            Ok(())
        }),
        peers: Vec::new(),
    })
}

/// A step of beam search in the middle of a sequence. The search before the step is copied each time, which is a few hundred bytes.
fn beam(setup: &Setup) -> Result<Case> {
    let logits = rows::logits(setup)?;
    let unchanged = |_: &mut Candidates<f32>, _: &Context<'_>| Ok::<(), SamplingError>(());
    let mut search = BeamSearch::new(&[[0]], &BeamConfig::textbook(BEAMS, 1 << 20))?;
    search.step(&logits.slice(s![0..BEAMS, ..]), &unchanged)?;

    // The same two steps with a whole sort: sum, parent, token.
    let mut beams: Vec<(f64, usize, u32)> = vec![(0.0, 0, 0)];
    for step in 0..2 {
        let mut all = Vec::new();
        for (parent, &(sum, ..)) in beams.iter().enumerate() {
            let row: Vec<f64> = logits.row(parent).iter().map(|&x| f64::from(x)).collect();
            let log_p = reference::categorical::log_softmax(&row).into_iter();
            all.extend(
                log_p
                    .zip(0..)
                    .map(|(log_p, token)| (sum + log_p, parent, token)),
            );
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        beams = all[..BEAMS].to_vec();
        let mut search = search.clone();
        if step == 1 {
            search.step(&logits.slice(s![0..BEAMS, ..]), &unchanged)?;
            let parents = search.parents().into_iter().map(|parent| parent as f64);
            agree(
                "our parents",
                parents,
                beams.iter().map(|beam| beam.1 as f64),
                0.0,
            )?;
        }
        let tokens = search.tokens().into_iter().map(f64::from);
        agree(
            "our tokens",
            tokens,
            beams.iter().map(|beam| f64::from(beam.2)),
            0.0,
        )?;
    }

    let sets = logits.nrows() / BEAMS;
    Ok(Case {
        work: Work::Maximum {
            values: BEAMS * VOCAB,
        },
        ours: Calls::boxed(move |call| {
            let start = call % sets * BEAMS;
            let mut search = search.clone();
            search.step(&logits.slice(s![start..start + BEAMS, ..]), &unchanged)?;
            std::hint::black_box(&search);
            Ok(())
        }),
        peers: Vec::new(),
    })
}
