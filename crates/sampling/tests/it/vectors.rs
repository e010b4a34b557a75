//! The vector files: see `tests/data/README.md`.

mod chain;
mod contrast;
mod greedy;
mod processors;
mod search;
mod speculative;
mod steps;

mod llama_cpp;

#[cfg(feature = "gpu")]
mod device;

use llm_numerics::testing::vectors::{Case, Tier, VectorError, VectorRun, run_crate};
use ndarray::{ArrayD, Axis};

#[test]
fn vectors() {
    let files = VectorRun::new(
        "sampling",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"),
    )
    .with_tiers(&[Tier::Reference, Tier::Cpu]);
    #[cfg(feature = "gpu")]
    let files = files.with_tiers(&device::tiers());
    run_crate(&files, |case, tier| match case.op() {
        #[cfg(feature = "gpu")]
        _ if tier == Tier::Gpu => device::run(case),
        "sampling.chain.huggingface" => chain::run(case, tier),
        "sampling.processor.prefix_allowed" => processors::prefix_allowed(case, tier),
        "sampling.processor.cfg" | "sampling.processor.cfg_batched" => {
            processors::guidance(case, tier)
        }
        "sampling.processor.penalties"
        | "sampling.processor.logit_bias"
        | "sampling.processor.dynamic_temperature"
        | "sampling.processor.top_n_sigma"
        | "sampling.processor.xtc"
        | "sampling.processor.dry" => llama_cpp::run(case, tier),
        "sampling.processor.synthid_tournament" => processors::tournament(case, tier),
        op if op.starts_with("sampling.processor.") => processors::run(case, tier),
        "sampling.search.greedy" => greedy::run(case, tier),
        "sampling.search.assisted_greedy" => speculative::assisted_greedy(case, tier),
        "sampling.speculative.verify" => speculative::verify(case, tier),
        "sampling.speculative.residual" => speculative::residual(case, tier),
        "sampling.prompt_lookup.candidates" => speculative::prompt_lookup(case, tier),
        "sampling.contrastive.rank" => contrast::contrastive_rank(case, tier),
        "sampling.search.contrastive" => contrast::contrastive(case, tier),
        "sampling.dola.contrast" => contrast::dola_contrast(case, tier),
        "sampling.search.beam" | "sampling.search.beam_processors" => search::beam(case, tier),
        "sampling.search.beam_sample" => search::beam_sample(case, tier),
        "sampling.search.group_beam" => search::group_beam(case, tier),
        "sampling.search.constrained_beam" => search::constrained_beam(case, tier),
        "sampling.search.transition_scores" => search::transition_scores(case, tier),
        _ => llama_cpp::run(case, tier),
    });
}

/// A list of ids, a single one, or none.
fn ids(case: &Case, name: &str) -> Result<Option<Vec<u32>>, VectorError> {
    if !case.has_param(name) || case.param_value(name)?.is_null() {
        return Ok(None);
    }
    let list = if case.param_value(name)?.is_array() {
        case.param_usize_list(name)?
    } else {
        vec![case.param_usize(name)?]
    };
    Ok(Some(list.into_iter().map(|id| id as u32).collect()))
}

/// A model that knows the last token (order 1) or the last two (order 2).
struct Table(ArrayD<f32>);

impl Table {
    fn logits(&self, sequence: &[u32]) -> Vec<f32> {
        let last = sequence[sequence.len() - 1] as usize;
        let row = self.0.view();
        let row = if self.0.ndim() == 3 {
            let before = if sequence.len() > 1 {
                sequence[sequence.len() - 2]
            } else {
                0
            };
            row.index_axis_move(Axis(0), before as usize)
        } else {
            row
        };
        row.index_axis_move(Axis(0), last).iter().copied().collect()
    }
}
