//! Laws of scaled frequencies, over the documented domain.

use llm_posenc::reference;
use llm_posenc::rope::{self, RopeConfig, RopeScaling, RopeTable, YarnConfig, YarnDialect};
use ndarray::{Array1, array};
use proptest::prelude::*;

use llm_posenc::testing::{
    lengths, rope_configs as configs, rope_scalings as scalings, yarn_configs as yarns,
};

/// A config that every rule takes, and a rule.
fn cases() -> impl Strategy<Value = (RopeConfig, RopeScaling)> {
    configs().prop_flat_map(|mut config| {
        config.rotary_dim += 2;
        (Just(config), scalings(config))
    })
}

/// f64 on both sides, powers of up to 1e7: some hundred roundings, or a ramp of 0.001 of a plane.
fn close(got: &Array1<f64>, want: &Array1<f64>) -> bool {
    got.len() == want.len()
        && got
            .iter()
            .zip(want)
            .all(|(got, want)| (got - want).abs() <= 1e-9 * want.abs())
}

proptest! {
    /// Both ways to write each rule agree, in frequencies and attention factor.
    #[test]
    fn scalings_equal_the_reference((config, scaling) in cases(), seq_len in prop::option::of(lengths())) {
        let got = rope::frequencies(&config, &scaling, seq_len).unwrap();
        let (inv_freq, factor) = reference::rope::scaling::frequencies(&config, &scaling, seq_len);
        prop_assert!(close(&got.inv_freq, &inv_freq), "{} {inv_freq}", got.inv_freq);
        prop_assert!((got.attention_factor - factor).abs() <= 1e-12 * factor.abs());
    }

    /// The history that a model keeps is the longest sequence since the last short one.
    #[test]
    fn sequences_equal_the_reference(
        (config, mut scaling) in cases(),
        lengths in prop::collection::vec(0_usize..60, 0..12),
        max in 1_usize..50,
    ) {
        if let RopeScaling::DynamicNtk { max_position_embeddings, .. } = &mut scaling {
            *max_position_embeddings = max;
        }
        if let RopeScaling::LongRope(config) = &mut scaling {
            config.original_max_position_embeddings = max + 1;
        }
        let got = rope::update_sequence(&config, &scaling, &lengths).unwrap();
        let want = reference::rope::scaling::update_sequence(&config, &scaling, &lengths);
        prop_assert_eq!(got.len(), lengths.len());
        for (got, (inv_freq, factor)) in got.iter().zip(&want) {
            prop_assert!(close(&got.inv_freq, inv_freq));
            prop_assert!((got.attention_factor - factor).abs() <= 1e-12 * factor);
        }
    }

    /// Without history, a pass has the frequencies of its own length.
    #[test]
    fn one_pass_is_its_own_length((config, scaling) in cases(), length in lengths()) {
        let pass = rope::update_sequence(&config, &scaling, &[length]).unwrap();
        prop_assert_eq!(&pass[0], &rope::frequencies(&config, &scaling, Some(length)).unwrap());
    }

    /// A factor of one changes nothing.
    #[test]
    fn factor_one_is_plain((config, scaling) in cases()) {
        let plain = rope::inv_freq(&config).unwrap();
        let scaling = match scaling {
            RopeScaling::DynamicNtk { .. } | RopeScaling::StaticNtk { .. } => RopeScaling::StaticNtk { alpha: 1.0 },
            RopeScaling::Yarn(mut yarn) => {
                yarn.factor = 1.0;
                RopeScaling::Yarn(yarn)
            }
            RopeScaling::LongRope(mut long_rope) => {
                long_rope.short_factor.fill(1.0);
                RopeScaling::LongRope(long_rope)
            }
            RopeScaling::Llama3 { low_freq_factor, high_freq_factor, original_max_position_embeddings, .. } =>
                RopeScaling::Llama3 { factor: 1.0, low_freq_factor, high_freq_factor, original_max_position_embeddings },
            RopeScaling::Proportional { .. } =>
                RopeScaling::Proportional { head_dim: config.rotary_dim, factor: 1.0 },
            _ => RopeScaling::Linear { factor: 1.0 },
        };
        let got = rope::frequencies(&config, &scaling, None).unwrap();
        prop_assert!(close(&got.inv_freq, &plain), "{} {plain}", got.inv_freq);
    }

    /// Linear scaling by a whole factor is the plain table at positions that many times nearer.
    #[test]
    fn linear_scaling_interpolates_positions(config in configs(), factor in 1_usize..9, position in 0_usize..10_000) {
        let scaling = RopeScaling::Linear { factor: factor as f64 };
        let scaled = rope::frequencies(&config, &scaling, None).unwrap();
        let far = scaled.table(&array![factor * position]).unwrap();
        let near = RopeTable::from_config(&config, &array![position]).unwrap();
        // Angles up to 1e4 in f64, cosines in f32.
        prop_assert!((&far.cos() - &near.cos()).iter().all(|x| x.abs() < 3e-7));
    }

    /// NTK-aware scaling keeps the highest frequency and divides the lowest by alpha; the dynamic rule is the static one
    /// with an alpha that grows from 1 at the length of the configuration.
    #[test]
    fn ntk_divides_the_lowest_frequency(
        (config, _) in cases(),
        factor in 0.5_f64..8.0,
        (max, length) in (1_usize..10_000, 1_usize..100_000),
    ) {
        let plain = rope::inv_freq(&config).unwrap();
        let n = plain.len();
        let dynamic = RopeScaling::DynamicNtk { factor, max_position_embeddings: max };
        let got = rope::frequencies(&config, &dynamic, Some(length)).unwrap().inv_freq;
        let alpha = (factor * length.max(max) as f64 / max as f64 - (factor - 1.0)).max(1.0);
        prop_assert_eq!(got[0], 1.0);
        prop_assert!((got[n - 1] * alpha / plain[n - 1] - 1.0).abs() < 1e-9);
        if length <= max {
            prop_assert_eq!(&got, &plain);
        }
        let fixed = rope::frequencies(&config, &RopeScaling::StaticNtk { alpha }, None).unwrap();
        prop_assert!(close(&fixed.inv_freq, &got));
    }

    /// YaRN and Llama 3 lie between the plain frequencies and those divided by the factor, and never cross.
    #[test]
    fn blends_stay_between((config, _) in cases(), mut yarn in yarns(), factor in 1.0_f64..64.0) {
        let plain = rope::inv_freq(&config).unwrap();
        let llama3 = RopeScaling::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: yarn.original_max_position_embeddings,
        };
        yarn.factor = factor;
        for scaling in [llama3, RopeScaling::Yarn(yarn)] {
            let got = rope::frequencies(&config, &scaling, None).unwrap().inv_freq;
            for (i, (got, plain)) in got.iter().zip(&plain).enumerate() {
                let slack = 1e-12 * plain;
                prop_assert!(*got <= plain + slack && *got >= plain / factor - slack, "plane {i}");
            }
        }
    }

    /// Where the ramp of YaRN lies among the planes, the two dialects have the same frequencies; the attention factor of
    /// llama.cpp goes on below factor 1, and without `ext_factor` nothing is kept.
    #[test]
    fn yarn_dialects_agree_on_a_normal_ramp((config, _) in cases(), factor in 0.5_f64..64.0, original in lengths()) {
        let hugging_face = YarnConfig::hugging_face(factor, original);
        let llama_cpp = YarnConfig::llama_cpp(factor, original);
        let both = [hugging_face, llama_cpp]
            .map(|yarn| rope::frequencies(&config, &RopeScaling::Yarn(yarn), None).unwrap());
        let turns = |plane: f64| {
            original as f64 * config.base.powf(-2.0 * plane / config.rotary_dim as f64) / std::f64::consts::TAU
        };
        let is_normal = turns(0.0) > 1.0 && turns(config.rotary_dim as f64 - 2.0) < 32.0;
        if is_normal {
            prop_assert!(close(&both[0].inv_freq, &both[1].inv_freq));
        }
        prop_assert_eq!(both[0].attention_factor == 1.0, factor <= 1.0);
        prop_assert!((both[1].attention_factor - 1.0 - 0.1 * factor.ln()).abs() < 1e-12);
        let off = llama_cpp.with_dialect(YarnDialect::LlamaCpp { ext_factor: 0.0, attn_factor: 0.75 });
        let off = rope::frequencies(&config, &RopeScaling::Yarn(off), None).unwrap();
        let linear = rope::frequencies(&config, &RopeScaling::Linear { factor }, None).unwrap();
        prop_assert!(close(&off.inv_freq, &linear.inv_freq));
        prop_assert_eq!(off.attention_factor, 0.75);
    }

    /// The ratio of ChatGLM multiplies the base.
    #[test]
    fn rope_ratio_multiplies_the_base(config in configs(), ratio in 1.0_f64..1e4) {
        let scaled = rope::inv_freq(&config.with_rope_ratio(ratio)).unwrap();
        let want = rope::inv_freq(&config.with_base(config.base * ratio)).unwrap();
        prop_assert_eq!(scaled, want);
    }

    /// Whatever numbers come, the answer is finite frequencies or an error.
    #[test]
    fn any_numbers_give_finite_frequencies_or_an_error(
        (config, scaling) in cases(),
        (a, b, c) in (any::<f64>(), any::<f64>(), any::<f64>()),
        which in 0_usize..6,
        (length, seq_len) in (any::<usize>(), prop::option::of(any::<usize>())),
    ) {
        let scaling = match which {
            0 => RopeScaling::Linear { factor: a },
            1 => RopeScaling::DynamicNtk { factor: a, max_position_embeddings: length },
            2 => RopeScaling::StaticNtk { alpha: a },
            3 => RopeScaling::Llama3 {
                factor: a,
                low_freq_factor: b,
                high_freq_factor: c,
                original_max_position_embeddings: length,
            },
            4 => RopeScaling::Yarn(YarnConfig::hugging_face(a, length).with_betas(b, c)),
            _ => match scaling {
                RopeScaling::Yarn(yarn) => RopeScaling::Yarn(yarn.with_betas(b, c)),
                other => other,
            },
        };
        let config = if which == 5 { config.with_base(a) } else { config };
        if let Ok(got) = rope::frequencies(&config, &scaling, seq_len) {
            prop_assert!(got.inv_freq.iter().all(|x| x.is_finite()));
            prop_assert!(got.attention_factor.is_finite());
        }
    }
}
