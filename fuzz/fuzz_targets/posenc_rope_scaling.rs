//! Every scaling of RoPE with any numbers: finite frequencies of the promised length, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::rope::{
    LongRopeConfig, RopeConfig, RopePairing, RopeScaling, YarnAttention, YarnConfig, YarnDialect,
    frequencies, update_sequence,
};
use ndarray::arr1;

fuzz_target!(|input: ([u8; 2], u16, [f64; 4], [usize; 3], Vec<f64>)| {
    let ([kind, flags], rotary_dim, [base, a, b, c], [length, head_dim, seq_len], list) = input;
    let seq_len = (flags & 16 == 0).then_some(seq_len);
    let config =
        RopeConfig::new(usize::from(rotary_dim % 512), RopePairing::HalfSplit).with_base(base);
    let scaling = match kind % 8 {
        0 => RopeScaling::Default,
        1 => RopeScaling::Linear { factor: a },
        2 => RopeScaling::DynamicNtk {
            factor: a,
            max_position_embeddings: length,
        },
        3 => RopeScaling::StaticNtk { alpha: a },
        4 => RopeScaling::LongRope(LongRopeConfig::new(list.clone(), list, length, a)),
        5 => RopeScaling::Llama3 {
            factor: a,
            low_freq_factor: b,
            high_freq_factor: c,
            original_max_position_embeddings: length,
        },
        // What the caller names is what is allocated, so a sensible size.
        6 => RopeScaling::Proportional {
            head_dim: head_dim % 4096,
            factor: a,
        },
        _ if flags & 1 == 0 => RopeScaling::Yarn(YarnConfig::llama_cpp(a, length).with_betas(b, c)),
        _ => {
            let attention = match flags % 8 {
                1 => YarnAttention::Recommended,
                3 => YarnAttention::Given(base),
                _ => YarnAttention::Mscale {
                    mscale: b,
                    mscale_all_dim: c,
                },
            };
            let dialect = YarnDialect::HuggingFace {
                truncate: flags & 8 != 0,
                attention,
            };
            let yarn = YarnConfig::hugging_face(a, length).with_betas(b, c);
            RopeScaling::Yarn(yarn.with_dialect(dialect))
        }
    };
    if let Ok(found) = frequencies(&config, &scaling, seq_len) {
        let n_planes = match scaling {
            RopeScaling::Proportional { head_dim, .. } => head_dim / 2,
            _ => config.rotary_dim / 2,
        };
        assert_eq!(found.inv_freq.len(), n_planes);
        assert!(found.inv_freq.iter().all(|x| x.is_finite()) && found.attention_factor.is_finite());
        let _ = found.table(&arr1(&[0, length]));
    }
    if let Ok(passes) = update_sequence(&config, &scaling, &[length, seq_len.unwrap_or(0), 1]) {
        assert_eq!(passes.len(), 3);
    }
});
