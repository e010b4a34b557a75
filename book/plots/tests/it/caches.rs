//! The figures of the chapter on the key-value cache, against counts by hand and the textbook forms of the stores.

use llm_kvcache::reference::window::SeenTokens;
use roxmltree::{Document, Node};

use crate::read::{Axis, all, number, points, svg};

/// Operations for each byte of a decode step in 16 bits: 32 layers, 32 query heads of 128 features.
fn intensity(weights: f64, kv_heads: f64, batch: f64, past: f64) -> f64 {
    let pairs = 4.0 * 32.0 * 32.0 * 128.0 * (past + 1.0); // scores, and sums of values
    let cached = 2.0 * 32.0 * kv_heads * 128.0 * 2.0; // bytes of a token
    let flops = batch * (2.0 * weights + pairs);
    flops / (2.0 * weights + batch * cached * (past + 1.0 + 1.0)) // all are read, one is written
}

/// Parameters of the checkpoints, less the embedding and the norms, which are no products.
const LLAMA_2_7B: f64 = 6_738_415_616.0 - 32_000.0 * 4096.0 - 65.0 * 4096.0;
const LLAMA_3_8B: f64 = 8_030_261_248.0 - 128_256.0 * 4096.0 - 65.0 * 4096.0;

#[test]
fn curves_of_decoding_are_counts_by_hand() {
    let text = svg("decode-intensity");
    let document = Document::parse(&text).unwrap();
    let (across, up) = Axis::pair(&document, 0);
    let curves = all(&document, "polyline");
    let models = [
        (LLAMA_2_7B, 32.0, 128.0, 111.0),
        (LLAMA_3_8B, 8.0, 2048.0, 49.0),
        (LLAMA_2_7B, 32.0, 512.0, 42.0),
        (LLAMA_2_7B, 32.0, 2048.0, 13.0),
    ];
    assert_eq!(curves.len(), models.len());
    for (curve, (weights, kv_heads, past, last)) in curves.into_iter().zip(models) {
        let points = points(curve);
        assert_eq!(points.len(), 256);
        for (point, batch) in points.into_iter().zip(1_u32..) {
            assert!((across.value(point.0) - f64::from(batch)).abs() <= 2.0 * across.hundredth());
            let exact = intensity(weights, kv_heads, f64::from(batch), past);
            let value = up.value(point.1);
            assert!(
                (value - exact).abs() <= 2.0 * up.hundredth(),
                "{past}, {batch}: {value} for {exact}"
            );
        }
        // What the alt text says.
        assert_eq!(intensity(weights, kv_heads, 256.0, past).round(), last);
    }
    let machine: Vec<Node<'_, '_>> = all(&document, "line")
        .into_iter()
        .filter(|line| line.attribute("data-machine").is_some())
        .collect();
    // 312 TFLOP/s and 2.039 TB/s.
    assert!((up.value(number(machine[0], "y1")) - 153.02).abs() < 0.1);
}

#[test]
fn cells_are_what_the_textbook_holds() {
    let text = svg("cache-stores");
    let document = Document::parse(&text).unwrap();
    let held = |n_sinks: usize, window: usize| -> Vec<usize> {
        let mut tokens = SeenTokens::new(n_sinks, window, 0);
        (0..24).for_each(|t| tokens.push(t));
        tokens.held().into_iter().map(|(_, t)| t).collect()
    };
    let rows: Vec<Node<'_, '_>> = all(&document, "g")
        .into_iter()
        .filter(|group| group.attribute("data-store").is_some())
        .collect();
    let want = [
        (held(0, 24), vec![]),
        (held(0, 8), vec![]),
        (held(4, 8), vec![]),
        // Values are quantized when 8 newer ones have come.
        ((16..24).collect(), (0..16).collect()),
    ];
    assert_eq!(rows.len(), want.len());
    for (row, (whole, quantized)) in rows.into_iter().zip(want) {
        let cells: Vec<Node<'_, '_>> = row.children().filter(Node::is_element).collect();
        assert_eq!(cells.len(), 24);
        let marked = |mark: &str| -> Vec<usize> {
            (0..24)
                .filter(|&t| cells[t].attribute("data-held") == Some(mark))
                .collect()
        };
        assert_eq!((marked("Whole"), marked("Quantized")), (whole, quantized));
        assert!(
            cells
                .windows(2)
                .all(|pair| number(pair[1], "x") - number(pair[0], "x") == 20.0)
        );
    }
}
