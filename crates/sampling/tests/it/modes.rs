//! Which flags ask for which mode.

use llm_sampling::SamplingError;
use llm_sampling::huggingface::{Mode, ModeFlags, mode};

type Set = fn(&mut ModeFlags);

fn of(set: Set) -> Result<Mode, SamplingError> {
    let mut flags = ModeFlags::default();
    set(&mut flags);
    mode(&flags)
}

/// The answers of `get_generation_mode` of transformers 5.23, run once for each row.
#[test]
fn flags_ask_for_the_mode_that_transformers_names() {
    let greedy = Mode::Assisted { do_sample: false };
    let draws = Mode::Assisted { do_sample: true };
    let table: [(Set, Mode); 19] = [
        (|_| {}, Mode::Greedy),
        (|f| f.num_beams = Some(1), Mode::Greedy),
        (|f| f.top_k = Some(50), Mode::Greedy),
        (|f| f.do_sample = true, Mode::Multinomial),
        (
            |f| (f.do_sample, f.top_k) = (true, Some(4)),
            Mode::Multinomial,
        ),
        (contrastive, Mode::Contrastive),
        (
            |f| (f.penalty_alpha, f.top_k) = (Some(0.0), Some(4)),
            Mode::Greedy,
        ),
        (|f| f.num_beams = Some(4), Mode::Beam),
        (
            |f| (f.num_beams, f.num_beam_groups) = (Some(4), Some(1)),
            Mode::Beam,
        ),
        (
            |f| (f.num_beams, f.do_sample) = (Some(4), true),
            Mode::BeamSample,
        ),
        (
            |f| (f.num_beams, f.num_beam_groups) = (Some(4), Some(2)),
            Mode::DiverseBeam,
        ),
        (
            |f| (f.num_beams, f.force_words_ids) = (Some(4), true),
            Mode::ConstrainedBeam,
        ),
        (
            |f| (f.num_beams, f.constraints) = (Some(4), true),
            Mode::ConstrainedBeam,
        ),
        (|f| f.assistant_model = true, greedy),
        (|f| (f.assistant_model, f.do_sample) = (true, true), draws),
        (|f| f.prompt_lookup_num_tokens = Some(3), greedy),
        (|f| f.assistant_early_exit = Some(2), greedy),
        (|f| f.use_mtp = true, greedy),
        (|f| f.dola_layers = true, Mode::Dola { do_sample: false }),
    ];
    for (row, (set, expected)) in table.into_iter().enumerate() {
        assert_eq!(of(set), Ok(expected), "row {row}");
    }
    let sampled: Set = |f| (f.dola_layers, f.do_sample) = (true, true);
    assert_eq!(of(sampled), Ok(Mode::Dola { do_sample: true }));
}

fn contrastive(flags: &mut ModeFlags) {
    (flags.penalty_alpha, flags.top_k) = (Some(0.6), Some(4));
}

#[test]
fn flags_of_two_modes_are_refused() {
    let table: [(Set, &str, &str); 13] = [
        (
            |f| (f.num_beams, f.constraints, f.num_beam_groups) = (Some(4), true, Some(2)),
            "constraints",
            "num_beam_groups",
        ),
        (
            |f| (f.num_beams, f.force_words_ids, f.do_sample) = (Some(4), true, true),
            "force_words_ids",
            "do_sample",
        ),
        (
            |f| (f.num_beams, f.num_beam_groups, f.do_sample) = (Some(4), Some(2), true),
            "num_beam_groups",
            "do_sample",
        ),
        (
            |f| {
                contrastive(f);
                f.do_sample = true;
            },
            "penalty_alpha",
            "do_sample",
        ),
        (
            |f| {
                contrastive(f);
                f.num_beams = Some(4);
            },
            "penalty_alpha",
            "num_beams",
        ),
        (
            |f| {
                contrastive(f);
                f.assistant_model = true;
            },
            "assistant_model",
            "penalty_alpha",
        ),
        (
            |f| (f.assistant_model, f.num_beams) = (true, Some(4)),
            "assistant_model",
            "num_beams",
        ),
        (
            |f| (f.prompt_lookup_num_tokens, f.num_beams) = (Some(3), Some(4)),
            "prompt_lookup_num_tokens",
            "num_beams",
        ),
        (
            |f| (f.assistant_early_exit, f.num_beams) = (Some(3), Some(4)),
            "assistant_early_exit",
            "num_beams",
        ),
        (
            |f| (f.use_mtp, f.num_beams) = (true, Some(4)),
            "use_mtp",
            "num_beams",
        ),
        (
            |f| {
                contrastive(f);
                f.dola_layers = true;
            },
            "dola_layers",
            "penalty_alpha",
        ),
        (
            |f| (f.dola_layers, f.num_beams) = (true, Some(4)),
            "dola_layers",
            "num_beams",
        ),
        (
            |f| (f.dola_layers, f.assistant_model) = (true, true),
            "assistant_model",
            "dola_layers",
        ),
    ];
    for (set, flag, other) in table {
        let error = SamplingError::FlagConflict { flag, other };
        assert_eq!(of(set), Err(error), "{error}");
    }
}

#[test]
fn flags_that_need_another_are_refused_without_it() {
    let table: [(Set, &str, &str); 5] = [
        (|f| f.constraints = true, "constraints", "num_beams"),
        (|f| f.force_words_ids = true, "force_words_ids", "num_beams"),
        (
            |f| f.num_beam_groups = Some(2),
            "num_beam_groups",
            "num_beams",
        ),
        (|f| f.penalty_alpha = Some(0.6), "penalty_alpha", "top_k"),
        (
            |f| (f.penalty_alpha, f.top_k) = (Some(0.6), Some(1)),
            "penalty_alpha",
            "top_k",
        ),
    ];
    for (set, flag, other) in table {
        let error = SamplingError::FlagNeeds { flag, other };
        assert_eq!(of(set), Err(error), "{error}");
    }
}

#[test]
fn flags_without_a_meaning_are_refused() {
    assert_eq!(of(|f| f.num_beams = Some(0)), Err(SamplingError::Beams(0)));
    assert_eq!(
        of(|f| f.penalty_alpha = Some(1.5)),
        Err(SamplingError::Alpha(1.5))
    );
    for n_groups in [0, 3] {
        let mut flags = ModeFlags::default();
        (flags.num_beams, flags.num_beam_groups) = (Some(4), Some(n_groups));
        let error = SamplingError::BeamGroups {
            n_groups,
            n_beams: 4,
        };
        assert_eq!(mode(&flags), Err(error));
    }
}
