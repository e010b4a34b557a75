//! Laws of positions with several axes.

use llm_posenc::reference;
use llm_posenc::rope::axes::{self, MropeVariant, VisionAxes};
use llm_posenc::rope::chatglm::{self, ChatGlmTable};
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
use ndarray::{Array1, Array2, Array3, Array4, s};
use proptest::prelude::*;

use super::{array4, close, configs};

fn variants() -> impl Strategy<Value = MropeVariant> {
    prop_oneof![Just(MropeVariant::Chunked), Just(MropeVariant::Interleaved)]
}

/// Three sections, some of them empty, and positions `[3, batch, seq]`.
fn mropes() -> impl Strategy<Value = ([usize; 3], Array3<usize>)> {
    let sections = (0_usize..6, 0_usize..6, 0_usize..6)
        .prop_filter("a plane", |(t, h, w)| t + h + w > 0)
        .prop_map(|(t, h, w)| [t, h, w]);
    let positions = (0_usize..3, 0_usize..5).prop_flat_map(|(batch, seq)| {
        prop::collection::vec(0_usize..100_000, 3 * batch * seq)
            .prop_map(move |data| Array3::from_shape_vec((3, batch, seq), data).unwrap())
    });
    (sections, positions)
}

/// Cosines and sines rounded to f32, angles up to 1e5 in f64.
fn is_table_of(table: &RopeTable, angles: &Array2<f64>) -> bool {
    let near = |got: ndarray::ArrayView2<'_, f32>, want: Array2<f64>| {
        got.dim() == want.dim() && (got.mapv(f64::from) - want).iter().all(|x| x.abs() < 1e-7)
    };
    near(table.cos(), angles.mapv(f64::cos)) && near(table.sin(), angles.mapv(f64::sin))
}

proptest! {
    /// The table of M-RoPE holds the angles that are written out in the reference.
    #[test]
    fn mrope_equals_the_reference((sections, positions) in mropes(), variant in variants(), base in 1.001_f64..1e7) {
        let n: usize = sections.iter().sum();
        let config = RopeConfig::new(2 * n, RopePairing::HalfSplit).with_base(base);
        let inv_freq = rope::inv_freq(&config).unwrap();
        let got = axes::mrope_table(&inv_freq, &positions, &sections, variant, 1.0).unwrap();
        let want = reference::rope::axes::mrope_angles(&inv_freq, &positions, &sections, variant);
        prop_assert!(is_table_of(&got, &want));
    }

    /// Text has one position on all axes: then M-RoPE is RoPE, bit for bit, factor included.
    #[test]
    fn mrope_of_text_is_rope((sections, positions) in mropes(), variant in variants(), factor in 0.5_f64..2.0) {
        let n: usize = sections.iter().sum();
        let inv_freq = rope::inv_freq(&RopeConfig::new(2 * n, RopePairing::HalfSplit)).unwrap();
        let text = positions.slice(s![0, .., ..]).to_owned();
        let positions = text.broadcast((3, text.nrows(), text.ncols())).unwrap().to_owned();
        let got = axes::mrope_table(&inv_freq, &positions, &sections, variant, factor).unwrap();
        prop_assert_eq!(got, RopeTable::for_batch(&inv_freq, &text, factor).unwrap());
    }

    /// Chunks give each axis as many planes as its section says, and so do interleaved axes up to a third of the planes.
    #[test]
    fn sections_are_numbers_of_planes((sections, _) in mropes()) {
        let n: usize = sections.iter().sum();
        let count = |planes: &[usize], axis| planes.iter().filter(|&&a| a == axis).count();
        let planes = axes::mrope_planes(n, &sections, MropeVariant::Chunked).unwrap();
        prop_assert_eq!([0, 1, 2].map(|axis| count(&planes, axis)), sections);
        prop_assert!(planes.is_sorted());
        let planes = axes::mrope_planes(n, &sections, MropeVariant::Interleaved).unwrap();
        prop_assert_eq!(count(&planes, 1), sections[1].min((n + 1) / 3));
        prop_assert_eq!(count(&planes, 2), sections[2].min(n / 3));
        prop_assert!(planes.iter().enumerate().all(|(plane, &axis)| axis == 0 || axis == plane % 3));
    }

    /// The table of an image holds the angles of the reference, for any patches.
    #[test]
    fn vision_equals_the_reference(
        (quarter, base) in (1_usize..9, 1.001_f64..1e6),
        patches in prop::collection::vec((0_usize..2000, 0_usize..2000), 0..7),
        is_pixtral in any::<bool>(),
    ) {
        let config = RopeConfig::new(4 * quarter, RopePairing::HalfSplit).with_base(base);
        let positions = Array2::from_shape_fn((patches.len(), 2), |(t, axis)| match axis {
            0 => patches[t].0,
            _ => patches[t].1,
        });
        let which = if is_pixtral { VisionAxes::EvenRowOddColumn } else { VisionAxes::SameFrequencies };
        let got = axes::vision_table(&config, &positions, which).unwrap();
        prop_assert!(is_table_of(&got, &reference::rope::axes::vision_angles(&config, &positions, which)));
        // Scores depend on the distance in rows and in columns: a shifted image has the same.
        let shifted = axes::vision_table(&config, &(&positions + 3), which).unwrap();
        let x = Array4::<f64>::ones((1, 1, patches.len(), 4 * quarter));
        let [here, there] = [got, shifted].map(|table| rope::apply(&x, &table, config.pairing).unwrap());
        for (i, j) in ndarray::indices((patches.len(), patches.len())) {
            let score = |x: &Array4<f64>| (&x.slice(s![0, 0, i, ..]) * &x.slice(s![0, 0, j, ..])).sum();
            prop_assert!((score(&here) - score(&there)).abs() < 1e-4);
        }
    }

    /// Patches are numbered row by row.
    #[test]
    fn grids_count_row_by_row(height in 0_usize..6, width in 0_usize..6) {
        let grid = axes::grid(height, width).unwrap();
        prop_assert_eq!(grid.dim(), (height * width, 2));
        for (t, (row, column)) in ndarray::indices((height, width)).into_iter().enumerate() {
            prop_assert_eq!((grid[[t, 0]], grid[[t, 1]]), (row, column));
        }
    }

    /// ChatGLM-6B equals its matrix; its gradient is the transpose; in place is the same bits.
    #[test]
    fn chatglm_equals_the_reference(
        (x, positions, blocks) in (0_usize..3, 0_usize..3, 0_usize..5, 1_usize..6).prop_flat_map(
            |(batch, heads, seq, quarter)| {
                let ids = move || prop::collection::vec(0_usize..2048, batch * seq)
                    .prop_map(move |data| Array2::from_shape_vec((batch, seq), data).unwrap());
                (array4((batch, heads, seq, 4 * quarter)), ids(), ids())
            }),
    ) {
        let table = ChatGlmTable::new(x.dim().3, &positions, &blocks).unwrap();
        let y = chatglm::apply_v1(&x, &table).unwrap();
        close(&y, &reference::rope::apply_chatglm_v1(&x, &positions, &blocks))?;
        let dout = x.mapv(|x| (7.0 * x).sin());
        let dx = chatglm::backward_v1(&dout, &table).unwrap();
        prop_assert!(((&dout * &y).sum() - (&dx * &x).sum()).abs() < 1e-10);
        let mut inplace = x.clone();
        chatglm::apply_v1_inplace(&mut inplace, &table).unwrap();
        prop_assert_eq!(&inplace, &y);
        chatglm::backward_v1_inplace(&mut inplace, &table).unwrap();
        close(&inplace, &x)?;
    }

    /// In a prompt ChatGLM-6B is half-split RoPE on the first half of the head; behind it the first half stands still.
    #[test]
    fn chatglm_positions_stop_at_the_mask(context in 1_usize..9, seq in 0_usize..15, mask in 0_usize..9) {
        let mask = mask % context;
        let (positions, blocks) = chatglm::positions_v1(context, mask, seq).unwrap();
        prop_assert_eq!((positions.dim(), blocks.dim()), ((1, seq), (1, seq)));
        for t in 0..seq {
            let want = if t < context { (t, 0) } else { (mask, t - context + 1) };
            prop_assert_eq!((positions[[0, t]], blocks[[0, t]]), want);
        }
        let table = ChatGlmTable::new(8, &positions, &blocks).unwrap();
        let x = Array4::from_shape_fn((2, 1, seq, 8), |(b, _, t, i)| (b + 2 * t + i) as f64);
        let y = chatglm::apply_v1(&x, &table).unwrap();
        let prompt = seq.min(context);
        let ids: Array1<usize> = (0..prompt).collect();
        let config = RopeConfig::new(4, RopePairing::HalfSplit);
        let want = rope::apply_at(&x.slice(s![.., .., ..prompt, ..]), &ids, &config).unwrap();
        prop_assert_eq!(y.slice(s![.., .., ..prompt, ..]), want);
    }

    /// A single section is of time, and that is RoPE.
    #[test]
    fn one_section_is_rope(config in configs(), position in 0_usize..1000) {
        let inv_freq = rope::inv_freq(&config).unwrap();
        let positions = Array3::from_shape_fn((3, 1, 1), |(axis, _, _)| position + axis);
        let got = axes::mrope_table(&inv_freq, &positions, &[inv_freq.len()], MropeVariant::Chunked, 1.0).unwrap();
        prop_assert_eq!(got, RopeTable::from_config(&config, &Array1::from_elem(1, position)).unwrap());
    }
}
