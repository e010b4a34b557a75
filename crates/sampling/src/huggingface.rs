//! Which mode the flags of Hugging Face's `generate` ask for.

use crate::SamplingError;

/// The flags that choose a mode. Those that are not set are `None` or false, as in `GenerationConfig` of transformers 5.23.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ModeFlags {
    /// `num_beams`.
    pub num_beams: Option<usize>,
    /// `num_beam_groups`.
    pub num_beam_groups: Option<usize>,
    /// `do_sample`.
    pub do_sample: bool,
    /// `penalty_alpha`.
    pub penalty_alpha: Option<f64>,
    /// `top_k`.
    pub top_k: Option<usize>,
    /// True if there are `constraints`.
    pub constraints: bool,
    /// True if there are `force_words_ids`.
    pub force_words_ids: bool,
    /// True if there is an `assistant_model`.
    pub assistant_model: bool,
    /// `assistant_early_exit`.
    pub assistant_early_exit: Option<usize>,
    /// `prompt_lookup_num_tokens`.
    pub prompt_lookup_num_tokens: Option<usize>,
    /// `use_mtp`.
    pub use_mtp: bool,
    /// True if there are `dola_layers`.
    pub dola_layers: bool,
}

/// What `generate` does: seven modes, and two that extend the first and the third of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// The likeliest token: [`greedy`](crate::greedy).
    Greedy,
    /// [`search::contrastive`](crate::search::contrastive).
    Contrastive,
    /// A draw: [`Chain`](crate::Chain).
    Multinomial,
    /// [`search::beam`](crate::search::beam).
    Beam,
    /// [`search::beam_sample`](crate::search::beam_sample).
    BeamSample,
    /// [`search::diverse`](crate::search::diverse).
    DiverseBeam,
    /// [`search::constrained`](crate::search::constrained).
    ConstrainedBeam,
    /// Drafts, verified: [`search::speculative`](crate::search::speculative), [`search::prompt_lookup`](crate::search::prompt_lookup).
    Assisted {
        /// A draw, or the likeliest token.
        do_sample: bool,
    },
    /// [`search::dola`](crate::search::dola).
    Dola {
        /// A draw, or the likeliest token.
        do_sample: bool,
    },
}

/// The mode that the flags ask for.
///
/// ```text
/// constraints or force_words_ids    ConstrainedBeam
/// num_beams > 1:
///     num_beam_groups > 1           DiverseBeam
///     do_sample                     BeamSample
///     else                          Beam
/// else:
///     do_sample                     Multinomial, or Assisted, or Dola
///     penalty_alpha > 0, top_k > 1  Contrastive
///     else                          Greedy, or Assisted, or Dola
/// ```
///
/// `generate` leaves out flags that do not go with the mode, some with a warning. Here they are errors, so that no flag is passed over in
/// silence. `top_k` alone is none of them: it is set to 50 where nobody asked for it. A penalty of 0, one beam and one group count as not set.
///
/// # Errors
///
/// - [`SamplingError::Beams`] if `num_beams` is 0.
/// - [`SamplingError::Alpha`] if `penalty_alpha` is not in `[0, 1]`.
/// - [`SamplingError::BeamGroups`] if `num_beam_groups` does not divide `num_beams`.
/// - [`SamplingError::FlagNeeds`] if a flag has no meaning without another: constraints and groups without beams, `penalty_alpha` without a
///   `top_k` above 1.
/// - [`SamplingError::FlagConflict`] if two flags ask for different modes.
///
/// # Example
///
/// ```
/// use llm_sampling::SamplingError;
/// use llm_sampling::huggingface::{Mode, ModeFlags, mode};
///
/// let mut flags = ModeFlags::default();
/// assert_eq!(mode(&flags)?, Mode::Greedy);
/// (flags.penalty_alpha, flags.top_k) = (Some(0.6), Some(4));
/// assert_eq!(mode(&flags)?, Mode::Contrastive);
/// flags.num_beams = Some(4);
/// assert_eq!(
///     mode(&flags).unwrap_err().to_string(),
///     "penalty_alpha must not come with num_beams: they ask for different modes"
/// );
/// # Ok::<(), SamplingError>(())
/// ```
///
/// Source: `GenerationConfig.get_generation_mode` of transformers 5.23, and for contradictions the checks of `generate` in 4.49.
pub fn mode(flags: &ModeFlags) -> Result<Mode, SamplingError> {
    let n_beams = flags.num_beams.unwrap_or(1);
    if n_beams == 0 {
        return Err(SamplingError::Beams(0));
    }
    let beams = (n_beams > 1).then_some("num_beams");
    let n_groups = flags.num_beam_groups.unwrap_or(1);
    let groups = (n_groups != 1).then_some("num_beam_groups");
    let do_sample = flags.do_sample.then_some("do_sample");
    let alpha = flags.penalty_alpha.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&alpha) {
        return Err(SamplingError::Alpha(alpha));
    }
    let alpha = (alpha > 0.0).then_some("penalty_alpha");
    let constraint = first(&[
        (flags.constraints, "constraints"),
        (flags.force_words_ids, "force_words_ids"),
    ]);
    let draft = first(&[
        (flags.assistant_model, "assistant_model"),
        (flags.assistant_early_exit.is_some(), "assistant_early_exit"),
        (
            flags.prompt_lookup_num_tokens.is_some(),
            "prompt_lookup_num_tokens",
        ),
        (flags.use_mtp, "use_mtp"),
    ]);
    let dola = flags.dola_layers.then_some("dola_layers");

    needs(constraint, beams, "num_beams")?;
    needs(groups, beams, "num_beams")?;
    if groups.is_some() && !n_beams.is_multiple_of(n_groups) {
        return Err(SamplingError::BeamGroups { n_groups, n_beams });
    }
    let top_k = flags.top_k.is_some_and(|k| k > 1).then_some("top_k");
    needs(alpha, top_k, "top_k")?;
    for (a, b) in [
        (constraint, groups),
        (constraint, do_sample),
        (groups, do_sample),
        (alpha, do_sample),
        (alpha, beams),
        (draft, alpha),
        (draft, beams),
        (dola, alpha),
        (dola, beams),
        (draft, dola),
    ] {
        if let (Some(flag), Some(other)) = (a, b) {
            return Err(SamplingError::FlagConflict { flag, other });
        }
    }
    let do_sample = flags.do_sample;
    Ok(if constraint.is_some() {
        Mode::ConstrainedBeam
    } else if groups.is_some() {
        Mode::DiverseBeam
    } else if beams.is_some() {
        if do_sample {
            Mode::BeamSample
        } else {
            Mode::Beam
        }
    } else if draft.is_some() {
        Mode::Assisted { do_sample }
    } else if dola.is_some() {
        Mode::Dola { do_sample }
    } else if do_sample {
        Mode::Multinomial
    } else if alpha.is_some() {
        Mode::Contrastive
    } else {
        Mode::Greedy
    })
}

/// The name of the first flag that is set.
fn first(flags: &[(bool, &'static str)]) -> Option<&'static str> {
    flags
        .iter()
        .find_map(|&(is_set, name)| is_set.then_some(name))
}

fn needs(
    flag: Option<&'static str>,
    other: Option<&'static str>,
    name: &'static str,
) -> Result<(), SamplingError> {
    match (flag, other) {
        (Some(flag), None) => Err(SamplingError::FlagNeeds { flag, other: name }),
        _ => Ok(()),
    }
}
