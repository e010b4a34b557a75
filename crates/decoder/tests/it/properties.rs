//! Laws of the model: the cache changes nothing, sequences do not see each other.

use llm_decoder::{Decoder, DecoderConfig, Family, Session, TokenBatch, checkpoint};
use llm_numerics::philox::Philox4x32;
use ndarray::{Array1, s};
use proptest::prelude::*;

use super::small;

/// Configurations of both families over the documented domain, small.
fn configs() -> impl Strategy<Value = DecoderConfig> {
    (
        prop_oneof![Just(Family::Glm), Just(Family::Llama)],
        1_usize..4,  // layers
        1_usize..3,  // kv heads
        1_usize..4,  // queries per kv head
        2_usize..10, // head_dim
        1_usize..20, // d_model
        1_usize..24, // d_ff
        any::<[bool; 3]>(),
        1_usize..5,
    )
        .prop_map(
            |(family, n_layers, n_kv, group, head_dim, d_model, d_ff, flags, half)| {
                let mut config = DecoderConfig::glm(19, d_model, n_layers, n_kv * group)
                    .with_kv_heads(n_kv)
                    .with_d_ff(d_ff)
                    .with_context(40);
                config.family = family;
                config.head_dim = head_dim;
                config.rotary_dim = (2 * half).min(head_dim / 2 * 2);
                let [bias, mlp_bias, tied_head] = flags;
                config.qkv_bias = bias;
                config.output_bias = bias && family == Family::Llama;
                config.mlp_bias = mlp_bias && family == Family::Llama;
                config.tied_head = tied_head;
                config
            },
        )
}

fn argmax(logits: &Array1<f32>) -> u32 {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as u32
}

/// Greedy tokens with a cache, the prompt fed in chunks.
fn with_cache(model: &Decoder<f32>, prompt: &[u32], cuts: &[usize], n: usize) -> Vec<u32> {
    let mut session = Session::new(model, prompt.len() + n).unwrap();
    let mut logits = Array1::zeros(0);
    let mut rest = prompt;
    for &cut in cuts {
        let (chunk, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        if !chunk.is_empty() {
            logits = session.extend(chunk).unwrap();
        }
    }
    if !rest.is_empty() {
        logits = session.extend(rest).unwrap();
    }
    (0..n)
        .map(|_| {
            let token = argmax(&logits);
            logits = session.extend(&[token]).unwrap();
            token
        })
        .collect()
}

/// Greedy tokens, everything computed anew for each of them. Also the smallest lead of a winner.
fn without_cache(model: &Decoder<f32>, prompt: &[u32], n: usize) -> (Vec<u32>, f32) {
    let mut ids = prompt.to_vec();
    let mut lead = f32::INFINITY;
    for _ in 0..n {
        let logits = model.forward(&TokenBatch::new(&[&ids]).unwrap()).unwrap();
        let last = logits.slice(s![-1, ..]).to_owned();
        let token = argmax(&last);
        let others = last.iter().enumerate().filter(|(i, _)| *i as u32 != token);
        let second = others.map(|(_, x)| *x).fold(f32::NEG_INFINITY, f32::max);
        lead = lead.min(last[token as usize] - second);
        ids.push(token);
    }
    (ids.split_off(prompt.len()), lead)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn generation_with_the_cache_equals_generation_without(
        config in configs(),
        seed in any::<u64>(),
        prompt in prop::collection::vec(0_u32..19, 1..20),
        cuts in prop::collection::vec(1_usize..8, 0..5),
    ) {
        let model = Decoder::random(config, 0.5, &Philox4x32::new(seed)).unwrap();
        let n = 12;
        let (plain, lead) = without_cache(&model, &prompt, n);
        // Two tokens within rounding of each other may change places.
        prop_assume!(lead > 1e-4);
        prop_assert_eq!(with_cache(&model, &prompt, &cuts, n), plain);
    }

    #[test]
    fn logits_with_the_cache_equal_those_without(
        config in configs(),
        seed in any::<u64>(),
        ids in prop::collection::vec(0_u32..19, 1..30),
        cuts in prop::collection::vec(1_usize..8, 0..6),
    ) {
        let model = Decoder::<f64>::random(config, 0.5, &Philox4x32::new(seed)).unwrap();
        let whole = model.forward(&TokenBatch::new(&[&ids]).unwrap()).unwrap();
        let mut session = Session::new(&model, ids.len()).unwrap();
        let mut start = 0;
        for cut in cuts.into_iter().chain([ids.len()]) {
            let end = (start + cut).min(ids.len());
            if start == end { continue; }
            let logits = session.extend_all(&ids[start..end]).unwrap();
            for (got, want) in logits.iter().zip(whole.slice(s![start..end, ..])) {
                prop_assert!((got - want).abs() < 1e-10, "{got} {want}");
            }
            start = end;
        }
    }

    #[test]
    fn sequences_of_a_batch_do_not_see_each_other(
        a in prop::collection::vec(0_u32..23, 1..20),
        b in prop::collection::vec(0_u32..23, 1..20),
        seed in any::<u64>(),
    ) {
        let model = small(seed);
        let together = model.forward(&TokenBatch::new(&[&a, &b]).unwrap()).unwrap();
        let alone = model.forward(&TokenBatch::new(&[&b]).unwrap()).unwrap();
        for (got, want) in together.slice(s![a.len().., ..]).iter().zip(&alone) {
            prop_assert!((got - want).abs() < 1e-4);
        }
    }

    #[test]
    fn a_token_does_not_see_what_comes_after(
        ids in prop::collection::vec(0_u32..23, 2..30),
        cut in 0.0_f64..1.0,
        seed in any::<u64>(),
    ) {
        let model = small(seed);
        let cut = 1 + (cut * (ids.len() - 1) as f64) as usize;
        let mut changed = ids.clone();
        changed[cut..].iter_mut().for_each(|id| *id = (*id + 1) % 23);
        let before = model.forward(&TokenBatch::new(&[&ids]).unwrap()).unwrap();
        let after = model.forward(&TokenBatch::new(&[&changed]).unwrap()).unwrap();
        for (got, want) in after.slice(s![..cut, ..]).iter().zip(before.slice(s![..cut, ..])) {
            prop_assert!((got - want).abs() < 1e-5);
        }
    }

    #[test]
    fn a_session_can_be_cropped_and_goes_on_the_same(
        ids in prop::collection::vec(0_u32..23, 2..30),
        keep in 0.0_f64..1.0,
        seed in any::<u64>(),
    ) {
        let model = small(seed);
        let keep = 1 + (keep * (ids.len() - 1) as f64) as usize;
        let mut session = Session::new(&model, 40).unwrap();
        session.extend(&ids).unwrap();
        session.crop(keep).unwrap();
        let again = session.extend(&[7]).unwrap();
        let mut fresh = Session::new(&model, 40).unwrap();
        let mut kept = ids[..keep].to_vec();
        kept.push(7);
        let want = fresh.extend(&kept).unwrap();
        for (got, want) in again.iter().zip(&want) {
            prop_assert!((got - want).abs() < 1e-4);
        }
    }

    #[test]
    fn a_checkpoint_reads_back_the_same(config in configs(), seed in any::<u64>()) {
        let model = Decoder::<f32>::random(config, 0.5, &Philox4x32::new(seed)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        checkpoint::save(&model, folder.path(), checkpoint::WeightType::F32).unwrap();
        let back = checkpoint::load(folder.path()).unwrap();
        prop_assert_eq!(model, back);
    }

    #[test]
    fn damaged_weight_files_are_errors(
        flips in prop::collection::vec((0.0_f64..1.0, any::<u8>()), 1..8),
        cut in 0.0_f64..2.0,
    ) {
        let model = small(1);
        let mut bytes = checkpoint::to_bytes(&model, checkpoint::WeightType::F16).unwrap();
        let len = bytes.len();
        for (at, value) in flips {
            bytes[(at * (len.min(2000) - 1) as f64) as usize] = value;
        }
        bytes.truncate((cut * len as f64) as usize);
        // Any result but a panic; a change of a weight's bits may well go unseen.
        let _ = checkpoint::from_bytes::<f32>(model.config().clone(), &[&bytes]);
    }
}

/// The same bits for any number of threads, forward and backward.
#[test]
fn threads_do_not_change_the_bits() {
    let config = DecoderConfig::glm(300, 128, 2, 4).with_kv_heads(2);
    let model = Decoder::<f32>::random(config, 0.1, &Philox4x32::new(2)).unwrap();
    let long: Vec<u32> = (0..400).map(|i| (i * 7) % 300).collect();
    let batch = TokenBatch::new(&[&long, &long[..37], &long[5..9]]).unwrap();
    let run = |n_threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build()
            .unwrap()
            .install(|| {
                let (logits, activations) = model.forward_saved(&batch).unwrap();
                let mut grads = llm_decoder::Params::zeros(model.config());
                model.backward(&activations, &logits, &mut grads).unwrap();
                (logits, grads)
            })
    };
    let one = run(1);
    for n_threads in [2, 3, 7] {
        assert!(one == run(n_threads), "{n_threads} threads");
    }
}

/// Every share of a head survives the way through `config.json`.
#[test]
fn every_rotary_dim_reads_back_the_same() {
    for head_dim in 2..=256 {
        for rotary_dim in (2..=head_dim).step_by(2) {
            let mut config = small(1).config().clone();
            config.head_dim = head_dim;
            config.rotary_dim = rotary_dim;
            let back = DecoderConfig::from_json(&config.to_json()).unwrap();
            assert_eq!(back, config);
        }
    }
}
