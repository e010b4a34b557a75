//! The data of each figure, read back by the numbers at its axes, against values from elsewhere.

use roxmltree::{Document, Node};

use crate::read::{Axis, all, cells, number, points, shown, svg};

/// The sinusoidal encoding as the paper defines it: Vaswani et al., arXiv:1706.03762v7, section 3.5.
fn sinusoid(position: usize, feature: usize, dim: usize) -> f64 {
    let pair = (feature / 2 * 2) as f64;
    let angle = position as f64 / 10_000_f64.powf(pair / dim as f64);
    if feature.is_multiple_of(2) {
        angle.sin()
    } else {
        angle.cos()
    }
}

/// The inner product of two rows, term by term.
fn product(m: usize, n: usize, dim: usize) -> f64 {
    (0..dim)
        .map(|feature| sinusoid(m, feature, dim) * sinusoid(n, feature, dim))
        .sum()
}

#[test]
fn the_heatmap_is_the_table() {
    let text = svg("sinusoidal-heatmap");
    let document = Document::parse(&text).unwrap();
    let (width, steps) = cells(all(&document, "image")[0]);
    assert_eq!((width, steps.len()), (128, 80 * 128));
    for (index, &step) in steps.iter().enumerate() {
        let value = sinusoid(index / width, index % width, 128);
        let exact = (value + 1.0) / 2.0 * 255.0;
        // Half a step, and what f32 rounds.
        assert!(
            (f64::from(step) - exact).abs() <= 0.5 + 1e-4,
            "cell {index}: {value}"
        );
    }
    // Position 0 is 0, 1, 0, 1, ..; sin 1 = 0.8415 and cos 1 = 0.5403.
    assert_eq!(steps[..4], [128, 255, 128, 255]);
    assert_eq!(steps[128..130], [235, 196]);
}

/// Cells have one of 256 colors. If a value lay on the border of two, its last bit, which differs between
/// processors, would decide.
#[test]
fn no_last_bit_decides_a_color() {
    let border = |exact: f64| (exact.fract() - 0.5).abs();
    for position in 0..80 {
        for feature in 0..128 {
            let value = sinusoid(position, feature, 128);
            // Rounded correctly from f64 to f32: 2^-25 on each machine. An exact 0 is on the border, without a last bit.
            let is_zero = position == 0 && feature % 2 == 0;
            assert!(
                is_zero || border((value + 1.0) / 2.0 * 255.0) > 255.0 / 2.0 * 2_f64.powi(-25),
                "{position}, {feature}"
            );
        }
        // A sum of 128 products in f32, in any order: 128 * 2^-24 * 64 at most, in steps of 44 / 255.
        let error = 128.0 * 2_f64.powi(-24) * 64.0 * 255.0 / 44.0;
        let exact = (product(0, position, 128) - 20.0) / 44.0 * 255.0;
        assert!(
            exact > 0.0 && border(exact) > error,
            "distance {position}: {exact}"
        );
    }
}

#[test]
fn inner_products_are_those_of_the_table() {
    let text = svg("sinusoidal-dot");
    let document = Document::parse(&text).unwrap();
    let (width, steps) = cells(all(&document, "image")[0]);
    assert_eq!((width, steps.len()), (80, 80 * 80));
    for m in 0..80 {
        for n in 0..80 {
            let exact = (product(m, n, 128) - 20.0) / 44.0 * 255.0;
            let step = f64::from(steps[80 * m + n]);
            assert!((step - exact).abs() <= 0.51, "{m}, {n}: {step} for {exact}");
        }
        assert_eq!(steps[81 * m], 255);
    }
}

#[test]
fn curves_are_products_over_the_distance_of_the_positions() {
    let text = svg("sinusoidal-dot");
    let document = Document::parse(&text).unwrap();
    let (across, up) = Axis::pair(&document, 1);
    let curves = all(&document, "polyline");
    assert_eq!(curves.len(), 4);
    for (curve, dim) in curves.into_iter().zip([256, 128, 64, 32]) {
        assert_eq!(curve.attribute("data-dim"), Some(dim.to_string().as_str()));
        let points = points(curve);
        assert_eq!(points.len(), 79);
        for (point, k) in points.into_iter().zip(-39_i32..) {
            let (distance, value) = (across.value(point.0), up.value(point.1));
            assert!((distance - f64::from(2 * k)).abs() <= 2.0 * across.hundredth());
            let (m, n) = ((40 - k) as usize, (40 + k) as usize);
            let exact = product(m, n, dim);
            assert!(
                (value - exact).abs() <= 2.0 * up.hundredth(),
                "d = {dim}, k = {k}: {value} for {exact}"
            );
            if k == 0 {
                assert!((value - dim as f64 / 2.0).abs() <= up.hundredth());
            }
        }
    }
}

#[test]
fn the_decay_of_rope_is_the_articles() {
    let text = svg("rope-decay");
    let document = Document::parse(&text).unwrap();
    let (across, up) = Axis::pair(&document, 0);
    let points = points(all(&document, "polyline")[0]);
    assert_eq!(points.len(), 256);
    let mut values = Vec::new();
    for (distance, (x, y)) in points.into_iter().enumerate() {
        assert!((across.value(x) - distance as f64).abs() <= 2.0 * across.hundredth());
        // mean over j < d / 2 of | sum over i < j of exp(i' distance base^(-2 i / d)) |, each sum from the start.
        let mean = (0..64)
            .map(|j| {
                let angles =
                    (0..j).map(|i| distance as f64 * 10_000_f64.powf(-2.0 * f64::from(i) / 128.0));
                let (real, imaginary) = angles.fold((0.0, 0.0), |(real, imaginary), angle| {
                    (real + angle.cos(), imaginary + angle.sin())
                });
                (real * real + imaginary * imaginary).sqrt()
            })
            .sum::<f64>()
            / 64.0;
        let value = up.value(y);
        assert!(
            (value - mean).abs() <= 2.0 * up.hundredth(),
            "distance {distance}: {value} for {mean}"
        );
        values.push(value);
    }
    // (0 + 1 + .. + 63) / 64, and what the alt text says.
    assert!((values[0] - 31.5).abs() <= up.hundredth());
    assert!(values[1..].iter().all(|&value| value < values[0]));
    assert!(values[20] < 31.5 / 2.0);
    assert!(
        values[160..]
            .iter()
            .all(|value| (6.0..=10.3).contains(value))
    );
}

/// The texts inside a place.
fn texts_in(document: &Document<'_>, x: (f64, f64), y: (f64, f64)) -> Vec<String> {
    all(document, "text")
        .into_iter()
        .filter(|text| {
            let (at_x, at_y) = (number(*text, "x"), number(*text, "y"));
            (x.0..x.1).contains(&at_x) && (y.0..y.1).contains(&at_y)
        })
        .map(|text| text.text().unwrap().to_owned())
        .collect()
}

#[test]
fn the_distances_of_alibi_are_those_that_the_article_prints() {
    let text = svg("alibi");
    let document = Document::parse(&text).unwrap();
    let numbers: Vec<f64> = texts_in(&document, (52.0, 332.0), (40.0, 320.0))
        .iter()
        .map(|text| shown(text))
        .collect();
    #[rustfmt::skip]
    let article = [
         0.0,  0.0,  0.0,  0.0,  0.0,  0.0,  0.0,  0.0,  0.0, 0.0,
        -1.0,  0.0,  0.0,  0.0,  0.0,  0.0,  0.0,  0.0,  0.0, 0.0,
        -2.0, -1.0,  0.0,  0.0,  0.0,  0.0,  0.0,  0.0,  0.0, 0.0,
        -3.0, -2.0, -1.0,  0.0,  0.0,  0.0,  0.0,  0.0,  0.0, 0.0,
        -4.0, -3.0, -2.0, -1.0,  0.0,  0.0,  0.0,  0.0,  0.0, 0.0,
        -5.0, -4.0, -3.0, -2.0, -1.0,  0.0,  0.0,  0.0,  0.0, 0.0,
        -6.0, -5.0, -4.0, -3.0, -2.0, -1.0,  0.0,  0.0,  0.0, 0.0,
        -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0,  0.0,  0.0, 0.0,
        -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0,  0.0, 0.0,
        -9.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0,
    ];
    assert_eq!(numbers, article);
}

#[test]
fn each_head_of_alibi_has_half_the_bias_of_the_one_before() {
    let text = svg("alibi");
    let document = Document::parse(&text).unwrap();
    let slopes: Vec<String> = all(&document, "text")
        .into_iter()
        .filter_map(|text| Some(text.text()?.strip_prefix("m = ")?.to_owned()))
        .collect();
    assert_eq!(
        slopes,
        [
            "1/2", "1/4", "1/8", "1/16", "1/32", "1/64", "1/128", "1/256"
        ]
    );
    let lowest: Vec<f64> = all(&document, "text")
        .into_iter()
        .filter(|text| text.attribute("font-size") == Some("12"))
        .map(|text| shown(text.text().unwrap()))
        .collect();
    assert_eq!(lowest.len(), 8);
    for (head, lowest) in lowest.into_iter().enumerate() {
        let exact = -9.0 / 2_f64.powi(head as i32 + 1);
        assert!((lowest - exact).abs() <= 0.0005, "{lowest} for {exact}");
    }
}

/// The colored squares of the `n`-th matrix: column, row, color.
fn squares(document: &Document<'_>, n: usize) -> Vec<(usize, usize, String)> {
    let group = document
        .descendants()
        .filter(|node| node.attribute("shape-rendering").is_some())
        .nth(n)
        .unwrap();
    let squares: Vec<Node<'_, '_>> = group.children().filter(Node::is_element).collect();
    let (x, y) = (number(squares[0], "x"), number(squares[0], "y"));
    let size = number(squares[0], "width");
    squares
        .iter()
        .map(|square| {
            let place = |attribute: &str, from: f64| {
                ((number(*square, attribute) - from) / size).round() as usize
            };
            let color = square.attribute("fill").unwrap().to_owned();
            (place("x", x), place("y", y), color)
        })
        .collect()
}

#[test]
fn squares_of_alibi_have_one_color_for_one_bias() {
    let text = svg("alibi");
    let document = Document::parse(&text).unwrap();
    // Colors of the distances 0 to 9, then of the first head: both go through the whole map.
    for matrix in [0, 1] {
        let squares = squares(&document, matrix);
        assert_eq!(squares.len(), 55);
        let mut colors = vec![None; 10];
        for (key, query, color) in squares {
            let known = colors[query - key].get_or_insert(color.clone());
            assert_eq!(*known, color);
        }
        // The ends of viridis.
        assert_eq!(colors[0].as_deref(), Some("#fde725"));
        assert_eq!(colors[9].as_deref(), Some("#440154"));
    }
    // Half the slope: distance 8 has the color that distance 4 had in the head before.
    let color = |head: usize, distance: usize| {
        let mut squares = squares(&document, head);
        squares.retain(|(key, query, _)| query - key == distance);
        squares[0].2.clone()
    };
    for head in 2..=8 {
        for distance in 0..=4 {
            assert_eq!(color(head, 2 * distance), color(head - 1, distance));
        }
    }
}

#[test]
fn positions_in_bfloat16_are_rounded_to_even_multiples_of_16() {
    let text = svg("bf16-positions");
    let document = Document::parse(&text).unwrap();
    let (across, up) = Axis::pair(&document, 0);
    let dots = all(&document, "circle");
    assert_eq!(dots.len(), 100);
    for (dot, position) in dots.into_iter().zip(3996_u32..) {
        let (x, y) = (across.value(number(dot, "cx")), up.value(number(dot, "cy")));
        assert!((x - f64::from(position)).abs() <= 2.0 * across.hundredth());
        // Eight digits: between 2048 and 4096 neighbors are 16 apart; a tie goes to the even multiple.
        let kept = 16.0 * (f64::from(position) / 16.0).round_ties_even();
        assert!((y - kept).abs() <= 2.0 * up.hundredth(), "{position}: {y}");
    }
    let counts: Vec<u32> = all(&document, "text")
        .into_iter()
        .filter_map(|text| text.text()?.strip_prefix("× ")?.parse().ok())
        .collect();
    assert_eq!(counts, [13, 15, 17, 15, 17, 15, 8]);
}

#[test]
fn the_sums_in_the_inset_are_those_that_the_article_prints() {
    let text = svg("bf16-positions");
    let document = Document::parse(&text).unwrap();
    let texts: Vec<&str> = all(&document, "text")
        .into_iter()
        .filter_map(|text| text.text())
        .skip_while(|text| *text != "255 + n")
        .collect();
    let [_, _, _, columns @ ..] = &texts[..] else {
        panic!("no inset");
    };
    let kept: Vec<&str> = columns.iter().copied().skip(2).step_by(3).collect();
    assert_eq!(kept, ["255", "256", "256", "258", "260"]);
    let red = all(&document, "text")
        .into_iter()
        .filter(|text| text.attribute("font-weight") == Some("bold"))
        .map(|text| text.text().unwrap())
        .collect::<Vec<_>>();
    assert_eq!(red, ["256", "256"]);
}

/// The sums of the papers' loops, with tiles of 256 rows outside: 2^16 elements / (4 · 64).
#[test]
fn curves_of_attention_are_the_sums_of_its_loops() {
    let text = svg("attention-io");
    let document = Document::parse(&text).unwrap();
    let (across, up) = Axis::pair(&document, 0);
    let curves = all(&document, "polyline");
    let moved: [fn(f64) -> f64; 3] = [
        // Queries, keys, values and results once; scores and weights written and read.
        |n| 4.0 * 64.0 * n + 4.0 * n * n,
        // Keys and values once. For each tile of keys: queries, results and two statistics read, the last two
        // written; these once more to begin with.
        |n| 128.0 * n + n / 256.0 * n * (128.0 + 2.0) + (n / 256.0 + 1.0) * n * (64.0 + 2.0),
        // Queries, results and one statistic once. Keys and values for each tile of queries.
        |n| (64.0 + 64.0 + 1.0) * n + n / 256.0 * n * 128.0,
    ];
    assert_eq!(curves.len(), 3);
    for (curve, moved) in curves.into_iter().zip(moved) {
        let points = points(curve);
        assert_eq!(points.len(), 32);
        for (point, step) in points.into_iter().zip(1_u32..) {
            let n = 512.0 * f64::from(step);
            assert!((across.value(point.0) - n).abs() <= 2.0 * across.hundredth());
            let (value, exact) = (up.value(point.1), moved(n) / 1e6);
            assert!(
                (value - exact).abs() <= 2.0 * up.hundredth(),
                "{n} tokens: {value} for {exact}"
            );
        }
    }
    // What the alt text says.
    let last = moved.map(|moved| (moved(16384.0) / 1e6).round());
    assert_eq!(last, [1078.0, 209.0, 136.0]);
}
