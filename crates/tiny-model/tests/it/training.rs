//! The training loop: resumable, independent of threads, honest about what it trains on.

use std::fs;

use llm_tiny_model::data::Dataset;
use llm_tiny_model::recipe::{Recipe, StageKind};
use llm_tiny_model::tokenizer::ControlTokens;
use llm_tiny_model::train::{Example, Trainer};
use llm_tiny_model::{TinyModelError, Tokenizer};

/// A run of six steps, three in each stage, with a small model.
fn short() -> Recipe {
    let mut recipe = Recipe::standard().with_steps(6);
    recipe.config.d_model = 16;
    recipe.config.n_layers = 1;
    recipe.config.head_dim = 4;
    recipe.config.rotary_dim = 2;
    recipe.config.d_ff = 16;
    for stage in &mut recipe.stages {
        stage.n_steps = 3;
        stage.n_examples = 6;
    }
    recipe
}

fn train(trainer: &mut Trainer, n_steps: usize) -> Vec<f64> {
    (0..n_steps)
        .map(|_| {
            trainer
                .step()
                .unwrap()
                .expect("the recipe has steps left")
                .loss
        })
        .collect()
}

#[test]
fn a_resumed_run_goes_on_with_the_same_bits() {
    let mut whole = Trainer::new(short()).unwrap();
    let losses = train(&mut whole, 6);
    assert_eq!(whole.step().unwrap(), None);

    let folder = tempfile::tempdir().unwrap();
    for cut in [1, 3, 4] {
        let path = folder.path().join("state.safetensors");
        let mut first = Trainer::new(short()).unwrap();
        train(&mut first, cut);
        first.save(&path).unwrap();
        let mut second = Trainer::resume(&path, short()).unwrap();
        assert_eq!(second.n_done(), cut as u64);
        assert_eq!(train(&mut second, 6 - cut), losses[cut..]);
        assert!(second.model() == whole.model(), "cut at {cut}");
    }
}

#[test]
fn threads_do_not_change_a_step() {
    let run = |n_threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build()
            .unwrap()
            .install(|| {
                let mut trainer = Trainer::new(short()).unwrap();
                train(&mut trainer, 4);
                trainer
            })
    };
    let one = run(1);
    for n_threads in [2, 5] {
        assert!(one.model() == run(n_threads).model(), "{n_threads} threads");
    }
}

#[test]
fn a_few_steps_lower_the_loss() {
    let mut recipe = short();
    recipe.stages[0].n_steps = 40;
    recipe.stages[0].n_warmup_steps = 4;
    recipe.stages[0].base_lr = 1e-2;
    let mut trainer = Trainer::new(recipe).unwrap();
    let losses = train(&mut trainer, 40);
    // A model that knows nothing has ln(vocab).
    let nothing = (Tokenizer::embedded().vocab() as f64).ln();
    assert!((losses[0] - nothing).abs() < 0.2, "{}", losses[0]);
    assert!(losses[39] < 0.6 * losses[0], "{} {}", losses[0], losses[39]);
}

#[test]
fn a_saved_run_is_refused_if_it_is_damaged_or_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    assert!(matches!(
        Trainer::resume(&path, short()),
        Err(TinyModelError::Io { .. })
    ));
    let mut trainer = Trainer::new(short()).unwrap();
    train(&mut trainer, 1);
    trainer.save(&path).unwrap();

    let mut other = short();
    other.seed += 1;
    let refused = |recipe| match Trainer::resume(&path, recipe) {
        Err(TinyModelError::State(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refused(other).contains("another recipe"));
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    refused(short());
    fs::write(&path, b"").unwrap();
    refused(short());
}

#[test]
fn steps_are_shared_out_to_the_stages_in_proportion() {
    let standard = Recipe::standard();
    assert_eq!(standard.clone().with_steps(standard.n_steps()), standard);
    for n_steps in [2, 3, 10, 1000] {
        let recipe = Recipe::standard().with_steps(n_steps);
        assert_eq!(recipe.n_steps(), n_steps);
        assert!(recipe.stages.iter().all(|stage| stage.n_steps > 0));
        assert_eq!(recipe.stage_of(0).unwrap().0.kind, StageKind::Pretraining);
        assert_eq!(
            recipe.stage_of(n_steps - 1).unwrap().0.kind,
            StageKind::FineTuning
        );
        assert!(recipe.stage_of(n_steps).is_none());
        for stage in &recipe.stages {
            let rates = (0..stage.n_steps).map(|step| stage.learning_rate(step));
            assert!(
                rates
                    .clone()
                    .all(|rate| rate > 0.0 && rate <= stage.base_lr)
            );
        }
    }
}

/// Loss on the answer and on the token that ends it, on nothing of the question.
#[test]
fn fine_tuning_learns_the_answer_and_where_it_ends() {
    let tokenizer = Tokenizer::embedded();
    let dataset = Dataset::new(3);
    for i in 0..50 {
        let example = Example::new(&dataset, StageKind::FineTuning, i).unwrap();
        let learned: Vec<u32> = example
            .labels
            .iter()
            .filter(|&&label| label >= 0)
            .map(|&label| label as u32)
            .collect();
        let want: String = dataset
            .sft_example(i)
            .iter()
            .zip(
                dataset
                    .sft_example(i)
                    .iter()
                    .skip(1)
                    .map(Some)
                    .chain([None]),
            )
            .filter(|(message, _)| message.role == llm_chat_format::Role::Assistant)
            .map(|(message, next)| {
                let end = next.map_or("</s>", |next| {
                    llm_chat_format::chatglm3::role_token(next.role)
                });
                format!("\n{}{end}", message.content)
            })
            .collect();
        assert_eq!(
            tokenizer.decode(&learned, ControlTokens::Name).unwrap(),
            want
        );
    }
}

#[test]
fn pre_training_learns_every_character_and_the_end() {
    let tokenizer = Tokenizer::embedded();
    let dataset = Dataset::new(3);
    for i in 0..50 {
        let example = Example::new(&dataset, StageKind::Pretraining, i).unwrap();
        assert_eq!(example.labels[0], -100); // `sop` after `[gMASK]`
        let learned: Vec<u32> = example.labels[1..]
            .iter()
            .map(|&label| label as u32)
            .collect();
        let want = format!("{}</s>", dataset.pretrain_text(i));
        assert_eq!(
            tokenizer.decode(&learned, ControlTokens::Name).unwrap(),
            want
        );
    }
}
