//! A poem is written with and without a cache: the same characters, with far fewer keys and values computed.
//!
//! ```text
//! input: 写一首诗:              output: 轻   keys and values computed: 5 without a cache, 5 with one
//! input: 写一首诗:轻            output: 舟   keys and values computed: 6 without a cache, 1 with one
//! input: 写一首诗:轻舟          output: 已   keys and values computed: 7 without a cache, 1 with one
//! input: 写一首诗:轻舟已        output: 过   keys and values computed: 8 without a cache, 1 with one
//! input: 写一首诗:轻舟已过      output: 万   keys and values computed: 9 without a cache, 1 with one
//! input: 写一首诗:轻舟已过万    output: 重   keys and values computed: 10 without a cache, 1 with one
//! input: 写一首诗:轻舟已过万重  output: 山   keys and values computed: 11 without a cache, 1 with one
//! all: 轻舟已过万重山, 56 without a cache, 11 with one
//! ```
//!
//! The model is one head of attention: a query finds its own character among the keys, and the value of a character says
//! which one follows. The first step is the prefill of the prompt, the others are decode steps.

use llm_kvcache::{ContiguousCache, KvCacheError};
use llm_numerics::softmax::softmax_inplace;
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis};

const PROMPT: &str = "写一首诗:";
const POEM: &str = "轻舟已过万重山";

fn main() -> Result<(), KvCacheError> {
    print!("{}", report()?);
    Ok(())
}

/// Each step with both ways, which must agree.
pub(crate) fn report() -> Result<String, KvCacheError> {
    let characters: Vec<char> = PROMPT.chars().chain(POEM.chars()).collect();
    let n = characters.len();
    let prompt = PROMPT.chars().count();
    let mut cache = ContiguousCache::<f32>::new(1, 1, n, n, n)?;
    let mut tokens: Vec<usize> = (0..prompt).collect();
    let (mut text, mut all) = (String::new(), [0, 0]);
    while tokens.len() < n {
        // ANCHOR: ways
        // Without a cache: keys and values of everything.
        let (k, v) = project(&tokens, n);
        let without = attend(&tokens, k.index_axis(Axis(0), 0), v.index_axis(Axis(0), 0));

        // With one: only of what is new.
        let new = &tokens[cache.len(0)?..];
        let (k, v) = project(new, n);
        cache.append(0, &k, &v)?;
        let (k, v) = (cache.keys(0)?, cache.values(0)?);
        let with = attend(&tokens, k.index_axis(Axis(0), 0), v.index_axis(Axis(0), 0));
        assert_eq!(with, without, "a cache changes nothing");
        // ANCHOR_END: ways

        let next = likeliest(&with);
        let input: String = tokens.iter().map(|&token| characters[token]).collect();
        // These characters are two columns wide.
        let padding = " ".repeat(2 * (n - tokens.len()));
        text += &format!(
            "input: {input}{padding}output: {}   keys and values computed: {} without a cache, {} with one\n",
            characters[next],
            tokens.len(),
            new.len(),
        );
        all = [all[0] + tokens.len(), all[1] + new.len()];
        tokens.push(next);
    }
    let output: String = tokens[prompt..]
        .iter()
        .map(|&token| characters[token])
        .collect();
    text += &format!(
        "all: {output}, {} without a cache, {} with one\n",
        all[0], all[1]
    );
    Ok(text)
}

/// Keys and values of tokens, `[1, tokens, n]`: the character itself, and the one that follows it.
fn project(tokens: &[usize], n: usize) -> (Array3<f32>, Array3<f32>) {
    let one_hot = |place: usize, d: usize| if place == d { 1.0 } else { 0.0 };
    let shape = [1, tokens.len(), n];
    (
        Array3::from_shape_fn(shape, |(_, t, d)| one_hot(tokens[t], d)),
        Array3::from_shape_fn(shape, |(_, t, d)| one_hot(tokens[t] + 1, d)),
    )
}

/// What the last token sees, `[n]`.
fn attend(tokens: &[usize], k: ArrayView2<'_, f32>, v: ArrayView2<'_, f32>) -> Array1<f32> {
    let n = k.ncols();
    let last = tokens.last().copied().unwrap_or_default();
    let query: Array2<f32> =
        Array2::from_shape_fn([n, 1], |(d, _)| if d == last { 9.0 } else { 0.0 });
    let mut weights = k.dot(&query).index_axis_move(Axis(1), 0); // [kv_seq]
    softmax_inplace(&mut weights);
    weights.dot(&v)
}

fn likeliest(logits: &Array1<f32>) -> usize {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(token, _)| token)
}
