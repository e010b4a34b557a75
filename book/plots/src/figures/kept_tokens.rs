//! How many tokens each filter keeps of a peaked row and of a flat one.

use llm_sampling::epsilon_cutoff::EpsilonCutoff;
use llm_sampling::eta_cutoff::EtaCutoff;
use llm_sampling::min_p::MinP;
use llm_sampling::mirostat::{Mirostat, MirostatVersion};
use llm_sampling::tail_free::TailFree;
use llm_sampling::top_a::TopA;
use llm_sampling::top_h::TopH;
use llm_sampling::top_k::{Ties, TopK};
use llm_sampling::top_n_sigma::TopNSigma;
use llm_sampling::top_p::{SumFrom, TopP};
use llm_sampling::typical::Typical;
use llm_sampling::{Candidates, Context, Processor, SamplingError};

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::SERIES;
use crate::error::PlotError;
use crate::figure::{Figure, FigureEntry};

const VOCAB: usize = 1000;
/// Probabilities fall with the rank to the power of minus this, as Zipf found of words.
const EXPONENTS: [(&str, f64); 2] = [("peaked", 2.0), ("flat", 0.7)];
const TICKS: [usize; 4] = [1, 10, 100, 1000];

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "kept-tokens",
    title: "How many tokens filters keep of a peaked and of a flat row",
    alt: "For each of eleven filters two dots on a scale from 1 to 1000 tokens: how many stay of a row whose likeliest token has a probability of 0.61, \
          and of one where it has 0.04. Top-k keeps 40 of both, top-nσ 7 of both. Top-p 0.9 keeps 6 of the peaked row and 732 of the flat one, \
          min-p 0.05 keeps 4 and 72, and mirostat's first bound of 6 bits 6 and 4. Filters that agree on a peaked row differ widely on a flat one.",
    draw: kept_tokens,
};

/// The numbers of tokens that eleven filters keep of two rows of 1000 tokens.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn kept_tokens() -> Result<Figure, PlotError> {
    let filters = filters()?;
    let row = 28.0;
    let place = Place {
        x: 128.0,
        y: 40.0,
        width: 500.0,
        height: row * filters.len() as f64,
    };
    // Three decades, with room for numbers at both ends.
    let across = Scale::new((-0.15, 3.35), (place.x, place.right()));
    let x = |tokens: usize| across.at((tokens as f64).log10());

    let mut canvas = Canvas::default();
    axes::outline(&mut canvas, place);
    canvas.group(
        "stroke=\"currentColor\" stroke-opacity=\"0.15\"",
        |canvas| {
            for tick in TICKS {
                canvas.line((x(tick), place.y), (x(tick), place.bottom()), "");
            }
        },
    );
    canvas.group("text-anchor=\"middle\"", |canvas| {
        for tick in TICKS {
            let at = (x(tick), place.bottom() + 20.0);
            canvas.text(at, Anchor::Start, &tick.to_string(), "");
        }
    });
    let at = (place.middle().0, place.bottom() + 41.0);
    canvas.text(at, Anchor::Middle, "tokens kept of 1000", "");
    for (index, (name, _)) in EXPONENTS.into_iter().enumerate() {
        let (x, y) = (place.x + 10.0 + 110.0 * index as f64, place.y - 18.0);
        dot(&mut canvas, (x, y), index, "");
        canvas.text((x + 12.0, y + axes::HALF_TEXT), Anchor::Start, name, "");
    }
    for (index, (name, filter)) in filters.into_iter().enumerate() {
        let y = place.y + row * (index as f64 + 0.5);
        let at = (place.x - 10.0, y + axes::HALF_TEXT);
        canvas.text(at, Anchor::End, name, "");
        let [peaked, flat] = [kept(0, &filter)?, kept(1, &filter)?];
        canvas.line(
            (x(peaked), y),
            (x(flat), y),
            "stroke=\"currentColor\" stroke-opacity=\"0.5\" stroke-width=\"2\"",
        );
        dot(&mut canvas, (x(flat), y), 1, &data(flat));
        dot(&mut canvas, (x(peaked), y), 0, &data(peaked));
        // Each number on its dot's free side.
        let side = |a: usize, b: usize| if a < b { -1.0 } else { 1.0 };
        for (tokens, other) in [(peaked, flat), (flat, peaked)] {
            let side = if peaked == flat {
                1.0
            } else {
                side(tokens, other)
            };
            let at = (x(tokens) + 11.0 * side, y + axes::HALF_TEXT);
            let anchor = if side < 0.0 {
                Anchor::End
            } else {
                Anchor::Start
            };
            canvas.text(at, anchor, &tokens.to_string(), "font-size=\"12\"");
            if peaked == flat {
                break;
            }
        }
    }
    Ok(Figure::new(&ENTRY, 690, 402, canvas))
}

fn data(tokens: usize) -> String {
    format!("data-kept=\"{tokens}\"")
}

/// A filled dot for the peaked row, a ring for the flat one.
fn dot(canvas: &mut Canvas, at: (f64, f64), row: usize, attributes: &str) {
    let color = SERIES[row];
    let fill = if row == 0 { color } else { "none" };
    let style = format!("fill=\"{fill}\" stroke=\"{color}\" stroke-width=\"3\" {attributes}");
    canvas.circle(at, 5.0, style.trim_end());
}

type Filter = Box<dyn Fn(&mut Candidates<f64>) -> Result<(), SamplingError>>;

fn filters() -> Result<[(&'static str, Filter); 11], PlotError> {
    fn of(processor: impl Processor<f64> + 'static) -> Filter {
        Box::new(move |candidates| processor.apply(candidates, &Context::new(&[], &[])))
    }
    let mirostat = Mirostat::new(MirostatVersion::V2, 3.0, 0.1)?;
    Ok([
        ("top-k 40", of(TopK::new(40, Ties::Kept, 1)?)),
        ("top-p 0.9", of(TopP::new(0.9, SumFrom::Smallest, 1)?)),
        ("min-p 0.05", of(MinP::new(0.05, 1)?)),
        ("top-a 0.2", of(TopA::new(0.2, 1)?)),
        ("typical 0.9", of(Typical::new(0.9, 1)?)),
        ("top-h 0.4", of(TopH::new(0.4)?)),
        ("ε-cutoff 0.001", of(EpsilonCutoff::new(0.001, 1)?)),
        ("η-cutoff 0.001", of(EtaCutoff::new(0.001, 1)?)),
        ("top-nσ 2", of(TopNSigma::new(2.0)?)),
        ("tail-free 0.95", of(TailFree::new(0.95, 1)?)),
        (
            "mirostat, τ = 3",
            Box::new(move |candidates| mirostat.mask(candidates, mirostat.initial_mu())),
        ),
    ])
}

/// How many tokens of a row stay.
fn kept(row: usize, filter: &Filter) -> Result<usize, PlotError> {
    let logits: Vec<f64> = (1..=VOCAB)
        .map(|rank| -EXPONENTS[row].1 * (rank as f64).ln())
        .collect();
    let mut candidates = Candidates::new();
    candidates.fill(&logits)?;
    filter(&mut candidates)?;
    let stays = |x: &&f64| **x > f64::NEG_INFINITY;
    Ok(candidates.logits().iter().filter(stays).count())
}
