//! The figures of the chapter on decoding, read back and compared with the textbook forms of the methods, or with arithmetic.

use llm_sampling::reference;
use llm_sampling::top_k::Ties;
use llm_sampling::top_p::SumFrom;
use roxmltree::{Document, Node};

use crate::read::{Axis, all, number, points, shown, svg};

fn group<'a>(document: &'a Document<'_>, attribute: &str, value: &str) -> Node<'a, 'a> {
    let mut found = document
        .descendants()
        .filter(|node| node.attribute(attribute) == Some(value));
    let first = found.next().unwrap();
    assert!(found.next().is_none(), "{attribute}={value} is there twice");
    first
}

fn elements<'a>(node: Node<'a, 'a>) -> Vec<Node<'a, 'a>> {
    node.children().filter(Node::is_element).collect()
}

fn count(logits: &[f64]) -> usize {
    logits.iter().filter(|x| x.is_finite()).count()
}

#[test]
fn bars_are_the_tempered_softmax_and_lines_what_filters_keep() {
    let row = [3.0, 2.2, 1.8, 1.5, 1.0, 0.6, 0.2, -0.2, -0.8, -1.5];
    let text = svg("temperature-filters");
    let document = Document::parse(&text).unwrap();
    let (_, up) = Axis::pair(&document, 0);
    let lines: Vec<Node<'_, '_>> = all(&document, "line")
        .into_iter()
        .filter(|line| line.attribute("data-kept").is_some())
        .collect();
    assert_eq!(lines.len(), 9);
    for (panel, t) in [0.5, 1.0, 2.0].into_iter().enumerate() {
        let logits = reference::temperature::apply(&row, t);
        let p = reference::speculative::softmax(&logits);
        let bars = elements(group(&document, "data-temperature", &t.to_string()));
        assert_eq!(bars.len(), row.len());
        for (bar, p) in bars.iter().zip(&p) {
            let top = up.value(number(*bar, "y"));
            assert!((top - p).abs() <= up.hundredth(), "{t}: {top} for {p}");
            let foot = up.value(number(*bar, "y") + number(*bar, "height"));
            assert!(foot.abs() <= 2.0 * up.hundredth());
        }
        let kept = [
            reference::top_k::apply(&logits, 4, Ties::Kept, 1),
            reference::top_p::apply(&logits, 0.8, SumFrom::Smallest, 1),
            reference::min_p::apply(&logits, 0.1, 1),
        ]
        .map(|logits| count(&logits));
        for (line, kept) in lines[3 * panel..].iter().zip(kept) {
            assert_eq!(number(*line, "data-kept") as usize, kept);
            // From the left edge of the first bar to about the right edge of the last one that stays.
            let last = bars[kept - 1];
            let right = number(last, "x") + number(last, "width");
            assert!((number(*line, "x1") - number(bars[0], "x")).abs() < 2.0);
            assert!((number(*line, "x2") - right).abs() < 2.0);
        }
    }
}

#[test]
fn dots_are_the_numbers_of_kept_tokens() {
    let text = svg("kept-tokens");
    let document = Document::parse(&text).unwrap();
    let names: Vec<&str> = all(&document, "text")
        .into_iter()
        .filter(|text| text.attribute("text-anchor") == Some("end"))
        .filter(|text| text.attribute("font-size").is_none())
        .map(|text| text.text().unwrap())
        .collect();
    let dots: Vec<Node<'_, '_>> = all(&document, "circle")
        .into_iter()
        .filter(|dot| dot.attribute("data-kept").is_some())
        .collect();
    assert_eq!((names.len(), dots.len()), (11, 22));
    // The axis is that of the logarithms of its numbers.
    let ticks = all(&document, "g")
        .into_iter()
        .find(|group| group.attribute("text-anchor") == Some("middle"));
    let marks: Vec<(f64, f64)> = elements(ticks.unwrap())
        .into_iter()
        .map(|tick| (number(tick, "x"), shown(tick.text().unwrap()).log10()))
        .collect();
    assert_eq!(marks.len(), 4);
    let (first, last) = (marks[0], marks[3]);
    let decade = (last.0 - first.0) / (last.1 - first.1);

    for (s, flat) in [(2.0, false), (0.7, true)] {
        let row: Vec<f64> = (1..=1000).map(|r| -s * f64::from(r).ln()).collect();
        let p = reference::speculative::softmax(&row);
        let surprise = |p: &&f64| -p.log2() <= 6.0;
        let kept: Vec<usize> = names
            .iter()
            .map(|name| match *name {
                "top-k 40" => 40,
                "top-p 0.9" => count(&reference::top_p::apply(&row, 0.9, SumFrom::Largest, 1)),
                "min-p 0.05" => count(&reference::min_p::apply(&row, 0.05, 1)),
                "top-a 0.2" => p.iter().filter(|q| **q >= 0.2 * p[0] * p[0]).count(),
                "typical 0.9" => count(&reference::typical::apply(&row, 0.9, 1)),
                "top-h 0.4" => count(&reference::top_h::apply(&row, 0.4)),
                "ε-cutoff 0.001" => p.iter().filter(|q| **q >= 0.001).count(),
                "η-cutoff 0.001" => {
                    let entropy: f64 = p.iter().map(|q| -q * q.ln()).sum();
                    let bound = 0.001_f64.min(0.001_f64.sqrt() * (-entropy).exp());
                    p.iter().filter(|q| **q >= bound).count()
                }
                "top-nσ 2" => {
                    let mean = row.iter().sum::<f64>() / 1000.0;
                    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1000.0;
                    row.iter().filter(|x| **x >= -2.0 * variance.sqrt()).count()
                }
                "tail-free 0.95" => count(&reference::tail_free::apply(&row, 0.95, 1)),
                "mirostat, τ = 3" => p.iter().filter(surprise).count(),
                other => panic!("{other}"),
            })
            .collect();
        // The ring of the flat row is drawn first.
        let drawn = dots.iter().skip(usize::from(!flat)).step_by(2);
        for ((name, dot), kept) in names.iter().zip(drawn).zip(kept) {
            assert_eq!(number(*dot, "data-kept") as usize, kept, "{name}, s = {s}");
            let at = first.0 + decade * ((kept as f64).log10() - first.1);
            assert!((number(*dot, "cx") - at).abs() <= 0.02, "{name}");
            assert_eq!(dot.attribute("fill") == Some("none"), flat);
        }
    }
}

/// One in a thousand right samples has more: the chi-square distribution with 5 degrees of freedom (NIST/SEMATECH e-Handbook of Statistical
/// Methods, section 1.3.6.7.4).
const CRITICAL_5: f64 = 20.515;

#[test]
fn draws_of_each_method_follow_the_probabilities() {
    let p = [0.35, 0.25, 0.18, 0.12, 0.07, 0.03];
    let text = svg("draw-histogram");
    let document = Document::parse(&text).unwrap();
    let (_, up) = Axis::pair(&document, 0);
    for (line, p) in elements(group(&document, "data-exact", "true"))
        .iter()
        .zip(p)
    {
        assert!((up.value(number(*line, "y1")) - p).abs() <= up.hundredth());
    }
    for method in ["0", "1", "2"] {
        let bars = elements(group(&document, "data-method", method));
        assert_eq!(bars.len(), 6);
        let (mut total, mut chi_square) = (0.0, 0.0);
        for (bar, p) in bars.iter().zip(p) {
            let share = up.value(number(*bar, "y"));
            total += share;
            chi_square += 10_000.0 * (share - p).powi(2) / p;
            assert!((share - p).abs() < 0.012, "the words about the figure");
        }
        assert!((total - 1.0).abs() < 6.0 * up.hundredth());
        assert!(chi_square < CRITICAL_5, "{method}: {chi_square}");
        // Draws, and no copy of the line.
        assert!(chi_square > 0.1, "{method}: {chi_square}");
    }
}

#[test]
fn the_tree_is_what_two_beams_do_by_hand() {
    let text = svg("beam-tree");
    let document = Document::parse(&text).unwrap();
    let boxes: Vec<Node<'_, '_>> = all(&document, "rect")
        .into_iter()
        .filter(|node| node.attribute("data-fate").is_some())
        .collect();
    let fates: Vec<&str> = boxes
        .iter()
        .filter_map(|b| b.attribute("data-fate"))
        .collect();
    let words: Vec<&str> = all(&document, "text")
        .iter()
        .filter_map(Node::text)
        .collect();
    // By hand, from the table: ln 0.7 = -0.357, ln 0.28 = -1.273, ln 0.02 = -3.912;
    // -0.357 + ln 0.75 = -0.644, -1.273 + ln 0.5 = -1.966, -1.273 + ln 0.49 = -1.986, -0.357 + ln 0.15 = -2.254; and so on.
    let steps: [&[(&str, &str, &str)]; 4] = [
        &[
            ("cat  0.70", "−0.36", "beam"),
            ("mat  0.28", "−1.27", "beam"),
            (".  0.02", "−3.91", "dropped"),
        ],
        &[
            ("sat  0.75", "−0.64", "beam"),
            (".  0.50", "−1.97", "hypothesis"),
            ("and  0.49", "−1.99", "beam"),
            ("slept  0.15", "−2.25", "dropped"),
        ],
        &[
            ("on  0.90", "−0.75", "beam"),
            ("the  0.45", "−2.78", "beam"),
            ("slept  0.39", "−2.93", "dropped"),
            ("and  0.05", "−3.64", "dropped"),
        ],
        &[
            ("the  0.97", "−0.78", "hypothesis"),
            ("cat  0.70", "−3.14", "dropped"),
            ("mat  0.28", "−4.06", "dropped"),
            ("mat  0.01", "−5.35", "dropped"),
        ],
    ];
    let mut want_words = vec!["the", "start"];
    let mut want_fates = vec!["beam"];
    let titles = ["step 1", "step 2", "step 3", "step 4"];
    for (step, title) in steps.iter().zip(titles) {
        for (word, sum, fate) in *step {
            want_words.extend([*word, *sum]);
            want_fates.push(*fate);
        }
        want_words.push(title);
    }
    assert_eq!(words, want_words);
    assert_eq!(fates, want_fates);
    // A line for each box but the first, from a box of the column before.
    let lines = all(&document, "line");
    assert_eq!(lines.len(), boxes.len() - 1);
    for (line, node) in lines.iter().zip(&boxes[1..]) {
        assert_eq!(number(*line, "x2"), number(*node, "x"));
        let starts = |b: &&Node<'_, '_>| {
            number(**b, "x") + number(**b, "width") == number(*line, "x1")
                && number(**b, "y") + number(**b, "height") / 2.0 == number(*line, "y1")
        };
        let parent = boxes.iter().find(starts).unwrap();
        assert_eq!(parent.attribute("data-fate"), Some("beam"));
    }
}

#[test]
fn curves_are_sums_of_powers_and_dots_lie_on_them() {
    let text = svg("speculative-length");
    let document = Document::parse(&text).unwrap();
    let (across, up) = Axis::pair(&document, 0);
    // 1 + alpha + .. + alpha^n: so many tokens, the first always.
    let sum = |alpha: f64, n: i32| -> f64 { (0..=n).map(|k| alpha.powi(k)).sum() };
    for n in [8, 4, 2, 1] {
        let curve = points(group(&document, "data-drafted", &n.to_string()));
        assert_eq!(curve.len(), 101);
        for (i, point) in curve.into_iter().enumerate() {
            let alpha = i as f64 / 100.0;
            assert!((across.value(point.0) - alpha).abs() <= across.hundredth());
            let value = up.value(point.1);
            assert!((value - sum(alpha, n)).abs() <= 2.0 * up.hundredth(), "{n}");
        }
        let dots = elements(group(&document, "data-passes", &n.to_string()));
        assert_eq!(dots.len(), 5);
        for (dot, alpha) in dots.into_iter().zip([0.1, 0.3, 0.5, 0.7, 0.9]) {
            assert!((across.value(number(dot, "cx")) - alpha).abs() <= across.hundredth());
            // The variance of min(failures, n), from E of its square: sum of (2k + 1) alpha^(k + 1) for k < n.
            let square: f64 = (0..n)
                .map(|k| f64::from(2 * k + 1) * alpha.powi(k + 1))
                .sum();
            let variance = square - (sum(alpha, n) - 1.0).powi(2);
            let error = (up.value(number(dot, "cy")) - sum(alpha, n)).abs();
            let bound = 4.0 * (variance / 2000.0).sqrt() + 2.0 * up.hundredth();
            assert!(error <= bound, "{n}, {alpha}: {error} of {bound}");
        }
    }
}
