//! The figures of the chapter on quantization, against published values and counts by hand.

use roxmltree::{Document, Node};

use crate::read::{Axis, all, number, points, svg};

/// bitsandbytes 0.50.2: `get_4bit_type("nf4")`.
const NF4: [f64; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];
/// scipy 1.17.1: `norm.ppf(0.9677083)`.
const OUTERMOST: f64 = 1.848_130_959_757_373_4;

fn groups<'a>(document: &'a Document<'_>, attribute: &str) -> Vec<Node<'a, 'a>> {
    all(document, "g")
        .into_iter()
        .filter(|group| group.attribute(attribute).is_some())
        .collect()
}

fn children<'a>(group: Node<'a, 'a>, name: &str) -> Vec<Node<'a, 'a>> {
    group
        .children()
        .filter(|node| node.has_tag_name(name))
        .collect()
}

#[test]
fn nf4_stands_under_the_normal_density() {
    let text = svg("nf4-density");
    let document = Document::parse(&text).unwrap();
    let (across, up) = Axis::pair(&document, 0);
    let density = |x: f64| {
        let z = x * OUTERMOST;
        OUTERMOST * (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt()
    };
    let curve = points(all(&document, "polyline")[0]);
    assert_eq!(curve.len(), 201);
    for (x, y) in curve {
        let exact = density(across.value(x));
        assert!((up.value(y) - exact).abs() <= 2.0 * up.hundredth(), "{x}");
    }
    let parts = groups(&document, "data-part");
    let bounds: Vec<f64> = { children(parts[0], "line").into_iter() }
        .map(|line| across.value(number(line, "x1")))
        .collect();
    assert_eq!(bounds.len(), 15);
    for (bound, pair) in bounds.iter().zip(NF4.windows(2)) {
        let middle = (pair[0] + pair[1]) / 2.0;
        assert!((bound - middle).abs() <= across.hundredth());
    }
    let stems = children(parts[1], "line");
    assert_eq!(stems.len(), 16);
    for (stem, value) in stems.into_iter().zip(NF4) {
        assert!((across.value(number(stem, "x1")) - value).abs() <= across.hundredth());
        assert!((up.value(number(stem, "y1"))).abs() <= up.hundredth());
        assert!((up.value(number(stem, "y2")) - density(value)).abs() <= up.hundredth());
    }
}

#[test]
fn dots_of_codes_are_their_values() {
    let text = svg("nf4-density");
    let document = Document::parse(&text).unwrap();
    let (across, _) = Axis::pair(&document, 0);
    let rows: Vec<Vec<f64>> = { groups(&document, "data-code").into_iter() }
        .map(|row| {
            let circles = children(row, "circle").into_iter();
            let mut values: Vec<f64> = circles
                .map(|circle| across.value(number(circle, "cx")))
                .collect();
            values.sort_by(f64::total_cmp);
            values
        })
        .collect();
    // scipy 1.17.1: the values above 0 of AF4 for blocks of 64, with the cell of 0 that numbers fall to.
    let af4 = [
        0.080_330_41,
        0.162_586_18,
        0.249_001_08,
        0.342_563_86,
        0.447_874_91,
        0.573_207_3,
        0.736_969_71,
        1.0,
    ];
    let fp4 = [
        -12.0, -8.0, -6.0, -4.0, -3.0, -2.0, -0.0625, 0.0, 0.0, 0.0625, 2.0, 3.0, 4.0, 6.0, 8.0,
        12.0,
    ]
    .map(|x| x / 12.0);
    let integers: Vec<f64> = (-7..=7).map(|step| f64::from(step) / 7.0).collect();
    let near = |row: &[f64], want: &[f64]| {
        assert_eq!(row.len(), want.len());
        for (got, want) in row.iter().zip(want) {
            assert!((got - want).abs() <= across.hundredth(), "{got} {want}");
        }
    };
    assert_eq!(rows.len(), 5);
    near(&rows[0], &NF4);
    near(&rows[1][8..], &af4);
    near(&rows[3], &fp4);
    near(&rows[4], &integers);
    // A learnt code keeps the ends and 0. The least square error weighs far numbers more than quantiles do: its other values are further out.
    let learnt = &rows[2];
    near(&[learnt[0], learnt[7], learnt[15]], &[-1.0, 0.0, 1.0]);
    for i in (1..7).chain(8..15) {
        assert!(learnt[i].abs() > NF4[i].abs() && learnt[i].abs() < 1.12 * NF4[i].abs() + 0.01);
    }
}

#[test]
fn memory_is_a_count_by_hand() {
    let text = svg("quantized-memory");
    let document = Document::parse(&text).unwrap();
    // The bars have the only axis of numbers below, the curves the only one to the left.
    let (across, up) = Axis::pair(&document, 0);
    let curves = all(&document, "polyline");
    let nested = |block: f64| 8.0 / block + 32.0 / (256.0 * block);
    for (block, i) in (5..13).map(|power| 2_f64.powi(power)).zip(0..) {
        for (curve, bits) in [(curves[0], 32.0 / block), (curves[1], nested(block))] {
            let got = up.value(points(curve)[i].1);
            assert!((got - bits).abs() <= up.hundredth(), "{block}: {got}");
        }
    }
    // Billions of bytes: codes, then scales.
    let want = [
        (130.0, 0.0),
        (65.0, 65.0 / 4096.0 * 4.0),
        (32.5, 65.0 / 64.0 * 4.0),
        (32.5, 65.0 * nested(64.0) / 8.0),
    ];
    let rows = groups(&document, "data-row");
    assert_eq!(rows.len(), want.len());
    for (row, (codes, scales)) in rows.into_iter().zip(want) {
        let bars = children(row, "rect");
        let [code, scale] = bars[..] else {
            panic!("a bar for codes and one for scales");
        };
        let width = |bar| across.value(number(bar, "width") + number(code, "x"));
        assert!((width(code) - codes).abs() <= 2.0 * across.hundredth());
        assert!((width(scale) - scales).abs() <= 2.0 * across.hundredth());
        assert!((number(scale, "x") - number(code, "x") - number(code, "width")).abs() <= 0.02);
    }
    let card = { all(&document, "line").into_iter() }
        .find(|line| line.attribute("data-card").is_some())
        .unwrap();
    assert!((across.value(number(card, "x1")) - 48.0).abs() <= across.hundredth());
    // What the alt text says.
    for words in ["130.0", "65.1", "36.6", "33.5"] {
        let found = all(&document, "text")
            .into_iter()
            .any(|text| text.text() == Some(words));
        assert!(found, "{words}");
    }
}

/// Shares and means of the histograms. NF4 has fewer equal steps than integers where weights are, and more than FP4.
#[test]
fn blocks_of_nf4_lose_least() {
    let text = svg("block-errors");
    let document = Document::parse(&text).unwrap();
    let (across, up) = Axis::pair(&document, 0);
    let histograms = { all(&document, "polyline").into_iter() }.map(|curve| {
        let points = points(curve);
        assert_eq!(points.len(), 98);
        let bins: Vec<(f64, f64)> = points[1..97]
            .chunks(2)
            .map(|ends| {
                assert_eq!(ends[0].1, ends[1].1);
                let middle = across.value((ends[0].0 + ends[1].0) / 2.0);
                (middle, up.value(ends[0].1))
            })
            .collect();
        let all: f64 = bins.iter().map(|bin| bin.1).sum();
        // No block is outside of the picture.
        assert!((all - 1.0).abs() < 48.0 * up.hundredth(), "{all}");
        bins.iter().map(|(x, share)| x * share).sum::<f64>()
    });
    let means: Vec<f64> = histograms.collect();
    // numpy 2.4.6: the same three codes over 2^20 weights of default_rng(1).standard_normal, mean of the decibels of blocks of 64.
    for (mean, want) in means.iter().zip([20.791, 19.526, 18.355]) {
        assert!((mean - want).abs() < 0.1, "{mean} {want}");
    }
}
