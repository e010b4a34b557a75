//! How many dispatches each method records: what the documentation of `gpu` states.

use llm_sampling::RowRandom;
use llm_sampling::gpu::beam;
use llm_sampling::gpu::chain::{self, Choice, Step};
use llm_sampling::gpu::llm_gpu::Recorder;
use llm_sampling::gpu::mask::{self, BitMeaning};
use llm_sampling::gpu::{GpuLogits, GpuSamplingError};
use llm_sampling::gpu::{
    categorical, draws, exponential_race, greedy, gumbel_max, history, log_normalization, min_p,
    presence_frequency, repetition_penalty, temperature, top_k, top_p,
};
use llm_sampling::top_k::Ties;
use llm_sampling::top_p::SumFrom;
use ndarray::Array2;

use super::gpu;

/// As a recorder tells who debugs it.
fn recorded(recorder: &Recorder) -> usize {
    let text = format!("{recorder:?}");
    let (_, rest) = text.split_once("dispatches: ").unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// The dispatches of one method on two rows.
fn of(
    vocab: usize,
    record: impl FnOnce(&mut Recorder, &GpuLogits) -> Result<(), GpuSamplingError>,
) -> usize {
    let gpu = gpu().unwrap();
    let x = gpu.upload(&Array2::<f32>::zeros((2, vocab))).unwrap();
    let mut recorder = gpu.recorder();
    let logits = GpuLogits::new(&mut recorder, &x).unwrap();
    assert_eq!(recorded(&recorder), 1);
    record(&mut recorder, &logits).unwrap();
    recorded(&recorder) - 1
}

#[test]
fn methods_of_one_look_at_the_rows() {
    let Some(gpu) = gpu() else { return };
    let random = [RowRandom::new(1, 2, 3); 2];
    let counts = gpu.zeros::<u32>(&[2, 40]).unwrap();
    let bits = gpu.zeros::<u32>(&[1, 2]).unwrap();
    let allows = BitMeaning::OneAllows;
    assert_eq!(of(40, |r, x| mask::apply_inplace(r, x, &bits, allows)), 1);
    let tokens = gpu.zeros::<u32>(&[2, 5]).unwrap();
    let count = |r: &mut Recorder| history::count(r, &tokens, &[0..5, 0..1], 40).map(drop);
    assert_eq!(of(40, |r, _| count(r)), 2);
    assert_eq!(of(40, |r, x| temperature::apply_inplace(r, x, 0.5)), 3);
    let got = of(40, |r, x| {
        repetition_penalty::apply_inplace(r, x, &counts, 1.5)
    });
    assert_eq!(got, 3);
    let got = of(40, |r, x| {
        presence_frequency::apply_inplace(r, x, &counts, 1.0, 1.0)
    });
    assert_eq!(got, 3);
    assert_eq!(of(40, log_normalization::apply_inplace), 5);
    assert_eq!(of(40, |r, x| greedy::argmax(r, x).map(drop)), 3);
    let got = of(40, |r, x| categorical::draw(r, x, &[0.5; 2]).map(drop));
    assert_eq!(got, 4);
    let got = of(40, |r, x| gumbel_max::draw(r, x, &random).map(drop));
    assert_eq!(got, 4);
    let got = of(40, |r, x| exponential_race::draw(r, x, &random).map(drop));
    assert_eq!(got, 4);
    let got = of(40, |r, x| {
        let drawn = greedy::argmax(r, x)?;
        draws::log_probabilities(r, x, &drawn).map(drop)
    });
    assert_eq!(got, 3 + 5);
}

#[test]
fn searches_for_a_cut() {
    let Some(_) = gpu() else { return };
    for (vocab, digits) in [(256, 1), (257, 2), (65_536, 2), (65_537, 3)] {
        let k = |ties, least| of(vocab, |r, x| top_k::apply_inplace(r, x, 3, ties, least));
        assert_eq!(k(Ties::Kept, 1), 12);
        assert_eq!(k(Ties::Exact, 1), 13 + 2 * digits);
        assert_eq!(k(Ties::Exact, vocab), 2); // nothing to do but to look
        for from in [SumFrom::Smallest, SumFrom::Largest] {
            let p = |p, least| of(vocab, |r, x| top_p::apply_inplace(r, x, p, from, least));
            assert_eq!(p(0.5, 1), 15 + 2 * digits);
            assert_eq!(p(0.5, 2), 25 + 2 * digits);
            assert_eq!(p(1.0, 2), 2);
        }
    }
    let p = |p, least| of(257, |r, x| min_p::apply_inplace(r, x, p, least));
    assert_eq!([p(0.1, 1), p(0.1, 2), p(0.0, 2)], [4, 13, 2]);
    for (n_beams, vocab, digits) in [(1, 256, 1), (2, 200, 2), (2, 32_768, 2), (2, 32_769, 3)] {
        let got = of(vocab, |r, x| {
            beam::candidates(r, x, &[0.0; 2], n_beams, 2 * n_beams).map(drop)
        });
        assert_eq!(got, 21 + 2 * digits);
    }
}

#[test]
fn chains_look_once() {
    let Some(_) = gpu() else { return };
    let of_steps =
        |steps: &[Step], choice| of(257, |r, x| chain::sample(r, x, steps, choice).map(drop));
    let draw = Choice::Categorical(&[0.5; 2]);
    let steps = [
        Step::Temperature(0.7),
        Step::top_k(40, Ties::Exact),
        Step::top_p(0.9, SumFrom::Largest),
        Step::min_p(0.05),
    ];
    // 3; a look 2; filters that need no look of their own; the draw.
    let filters = (13 + 2 * 2 - 2) + (15 + 2 * 2 - 2) + (4 - 2);
    assert_eq!(of_steps(&steps, draw), 3 + 2 + filters + (4 - 2));
    assert_eq!(of_steps(&steps[1..], draw), 2 + filters + (4 - 2));
    // Greedy looks again.
    let greedy = of_steps(&steps[1..], Choice::Greedy);
    assert_eq!(greedy, 2 + filters + 3);
    assert_eq!(of_steps(&[], Choice::Greedy), 3);
}
