//! Whole chains on the GPU choose the tokens of the CPU.

use llm_sampling::chain::{ChainConfig, Setting};
use llm_sampling::gpu::chain::{self, Choice, Step};
use llm_sampling::gpu::{GpuLogits, GpuSamplingError, sampler};
use llm_sampling::top_k::Ties;
use llm_sampling::top_p::SumFrom;
use llm_sampling::{Context, Dialect, RowRandom, SamplingConfig, SamplingError};
use llm_sampling::{gumbel_max, sampler as on_the_cpu};
use ndarray::{Array2, array};

use super::{LARGE_VOCAB, MASKED, gpu, in_row, model_logits};

fn randoms(batch: usize, step: u64) -> Vec<RowRandom> {
    (0..batch as u64)
        .map(|row| RowRandom::new(17, row, step))
        .collect()
}

fn uniforms(batch: usize, step: u64) -> Vec<f64> {
    randoms(batch, step)
        .iter()
        .map(|random| random.uniform(0))
        .collect()
}

fn sample(
    logits: &Array2<f32>,
    config: &SamplingConfig,
    uniforms: &[f64],
) -> Result<Vec<u32>, GpuSamplingError> {
    let gpu = gpu().expect("looked for before");
    let mut recorder = gpu.recorder();
    let rows = GpuLogits::new(&mut recorder, &gpu.upload(logits)?)?;
    let draws = sampler::sample(&mut recorder, &rows, config, uniforms)?;
    recorder.submit()?;
    draws.download_blocking()
}

/// Fixed rows, none of which is borderline: in integers, devices cannot differ on them.
#[test]
fn the_usual_chains_choose_the_tokens_of_the_cpu() {
    let Some(_) = gpu() else { return };
    for (dialect, t, k, p) in [
        (Dialect::HuggingFace, 0.7, Some(50), Some(0.9)),
        (Dialect::HuggingFace, 1.3, None, Some(0.95)),
        (Dialect::Vllm, 0.9, Some(1000), None),
        (Dialect::OpenAi, 2.0, None, Some(0.5)),
        (Dialect::LlamaCpp, 0.8, Some(40), Some(0.95)),
        (Dialect::LlamaCpp, 5.0, None, None),
    ] {
        let config = SamplingConfig::sample(dialect, t, k, p).unwrap();
        for (vocab, batch) in [(257, 40), (9000, 8)] {
            let logits = model_logits(batch, vocab, vocab as u64);
            let u = uniforms(batch, 3);
            let want = on_the_cpu::sample(&logits, &config, &u).unwrap();
            let want: Vec<u32> = want.iter().map(|draw| draw.token).collect();
            assert_eq!(sample(&logits, &config, &u), Ok(want), "{config:?}");
        }
    }
}

#[test]
fn a_large_vocabulary_gives_the_tokens_of_the_cpu() {
    let Some(_) = gpu() else { return };
    let logits = model_logits(2, LARGE_VOCAB, 91);
    let u = uniforms(2, 8);
    for config in [
        SamplingConfig::greedy(),
        SamplingConfig::sample(Dialect::HuggingFace, 0.7, Some(50), Some(0.9)).unwrap(),
        SamplingConfig::sample(Dialect::LlamaCpp, 0.7, None, Some(0.99)).unwrap(),
    ] {
        let want = on_the_cpu::sample(&logits, &config, &u).unwrap();
        let want: Vec<u32> = want.iter().map(|draw| draw.token).collect();
        assert_eq!(sample(&logits, &config, &u), Ok(want), "{config:?}");
    }
}

/// The order is the caller's: llama.cpp's, with min-p, as a chain of the CPU.
#[test]
fn the_chain_of_llama_cpp_chooses_its_tokens() {
    let Some(gpu) = gpu() else { return };
    let batch = 30;
    let logits = model_logits(batch, 3000, 23);
    let contexts: Vec<Context<'_>> = randoms(batch, 5)
        .into_iter()
        .map(|random| Context::new(&[], &[]).with_random(random))
        .collect();
    let mut on_cpu = ChainConfig::defaults(Dialect::LlamaCpp)
        .build::<f32>()
        .unwrap();
    let want = on_cpu.sample(&logits, &contexts).unwrap();
    let want: Vec<u32> = want.iter().map(|draw| draw.token).collect();
    let steps = [
        Step::top_k(40, Ties::Exact),
        Step::top_p(0.95, SumFrom::Largest),
        Step::min_p(0.05),
        Step::Temperature(0.8),
    ];
    let u = uniforms(batch, 5);
    let mut recorder = gpu.recorder();
    let rows = GpuLogits::new(&mut recorder, &gpu.upload(&logits).unwrap()).unwrap();
    let draws = chain::sample(&mut recorder, &rows, &steps, Choice::Categorical(&u)).unwrap();
    recorder.submit().unwrap();
    assert_eq!(draws.download_blocking(), Ok(want));
    // What is left is what the chain of the CPU leaves, bit for bit.
    let mut left = logits.clone();
    on_cpu.apply_inplace(&mut left, &contexts).unwrap();
    let got = rows.tensor().download_blocking().unwrap();
    assert!(
        got.iter()
            .zip(&left)
            .all(|(a, b)| a.to_bits() == b.to_bits())
    );
}

#[test]
fn gumbel_max_follows_a_chain() {
    let Some(gpu) = gpu() else { return };
    let logits = model_logits(20, 3000, 29);
    let random = randoms(20, 1 << 40);
    let mut left = logits.clone();
    let contexts = vec![Context::new(&[], &[]); 20];
    let on_cpu = ChainConfig::new(Dialect::HuggingFace)
        .with(Setting::Temperature(0.9))
        .with(Setting::TopK(30))
        .with(Setting::MinP(0.02))
        .build::<f32>()
        .unwrap();
    on_cpu.apply_inplace(&mut left, &contexts).unwrap();
    let rows = left.rows().into_iter().zip(&random);
    let want: Vec<u32> = rows
        .map(|(row, random)| gumbel_max::draw(&row, *random).unwrap().token)
        .collect();
    let steps = [
        Step::Temperature(0.9),
        Step::top_k(30, Ties::Kept),
        Step::min_p(0.02),
    ];
    let mut recorder = gpu.recorder();
    let rows = GpuLogits::new(&mut recorder, &gpu.upload(&logits).unwrap()).unwrap();
    let draws = chain::sample(&mut recorder, &rows, &steps, Choice::GumbelMax(&random)).unwrap();
    recorder.submit().unwrap();
    assert_eq!(draws.download_blocking(), Ok(want));
}

/// Of two largest logits, a top-p from the smallest keeps the higher id; greedy decoding takes what is left.
#[test]
fn greedy_takes_what_filters_leave() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let x = gpu.upload(&array![[2.0_f32, 2.0, 0.0]]).unwrap();
    let rows = GpuLogits::new(&mut recorder, &x).unwrap();
    let steps = [Step::top_p(0.3, SumFrom::Smallest)];
    let draws = chain::sample(&mut recorder, &rows, &steps, Choice::Greedy).unwrap();
    recorder.submit().unwrap();
    assert_eq!(draws.download_blocking(), Ok(vec![1]));
}

#[test]
fn rows_are_refused_as_on_the_cpu() {
    let Some(_) = gpu() else { return };
    let inf = f32::INFINITY;
    let config = |dialect| SamplingConfig::sample(dialect, 0.5, Some(2), Some(0.9)).unwrap();
    for logits in [
        array![[1.0_f32, f32::NAN, 0.0]],
        array![[1.0_f32, inf, inf]],
        array![[MASKED; 3]],
        array![[3e38_f32, 0.0, 0.0]],
        array![[inf, f32::NAN, 0.0]],
        array![[-3e38_f32, 0.0, 0.0]],
    ] {
        for dialect in [Dialect::HuggingFace, Dialect::LlamaCpp] {
            let first =
                on_the_cpu::sample(&logits, &config(dialect), &[0.5]).map(|draws| draws[0].token);
            let want = first.map(|token| vec![7, token]).map_err(|e| in_row(e, 1));
            // A row before it is fine.
            let mut both = Array2::from_elem((2, 10), MASKED);
            both[[0, 7]] = 0.0;
            both.slice_mut(ndarray::s![1, ..3]).assign(&logits.row(0));
            let got = sample(&both, &config(dialect), &[0.5, 0.5]);
            assert_eq!(
                got,
                want.map_err(GpuSamplingError::from),
                "{logits} {dialect:?}"
            );
        }
    }
}

#[test]
fn wrong_settings_record_nothing() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let x = gpu.upload(&array![[1.0_f32, 2.0]]).unwrap();
    let rows = GpuLogits::new(&mut recorder, &x).unwrap();
    let half = Step::Temperature(0.5);
    let (ties, sum_from) = (Ties::Kept, SumFrom::Largest);
    let mut refused =
        |steps: &[Step], choice| chain::sample(&mut recorder, &rows, steps, choice).unwrap_err();
    let no_tokens = SamplingError::MinTokensToKeep(0);
    for (step, want) in [
        (Step::Temperature(0.0), SamplingError::Temperature(0.0)),
        (Step::top_k(0, ties), SamplingError::TopK(0)),
        (
            Step::TopK {
                k: 1,
                ties,
                min_tokens_to_keep: 0,
            },
            no_tokens,
        ),
        (Step::top_p(0.0, sum_from), SamplingError::TopP(0.0)),
        (Step::top_p(1.5, sum_from), SamplingError::TopP(1.5)),
        (
            Step::TopP {
                p: 0.5,
                sum_from,
                min_tokens_to_keep: 0,
            },
            no_tokens,
        ),
        (Step::min_p(-0.1), SamplingError::MinP(-0.1)),
        (
            Step::MinP {
                min_p: 0.1,
                min_tokens_to_keep: 0,
            },
            no_tokens,
        ),
    ] {
        assert_eq!(refused(&[half, step], Choice::Greedy), want.into());
    }
    let (expected, got) = (1, 2);
    let want = SamplingError::UniformsLen { expected, got };
    assert_eq!(
        refused(&[half], Choice::Categorical(&[0.5; 2])),
        want.into()
    );
    let want = SamplingError::Uniform(1.0);
    assert_eq!(refused(&[half], Choice::Categorical(&[1.0])), want.into());
    let name = "randoms";
    let want = GpuSamplingError::PerRow {
        name,
        expected,
        got,
    };
    assert_eq!(refused(&[half], Choice::GumbelMax(&randoms(2, 0))), want);
    recorder.submit().unwrap();
    assert_eq!(
        x.download_blocking().unwrap(),
        array![[1.0, 2.0]].into_dyn()
    );
}
