//! Tables of positions with several axes, and of ChatGLM, of any numbers: the right shape, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::rope::axes::{self, MropeVariant, VisionAxes};
use llm_posenc::rope::chatglm::{self, ChatGlmTable};
use llm_posenc::rope::{RopeConfig, RopePairing};
use ndarray::{Array1, Array2, Array3};

fuzz_target!(
    |input: ([u8; 4], u16, f64, Vec<f64>, Vec<usize>, Vec<usize>)| {
        let ([axis, batch, seq, flags], dim, number, inv_freq, positions, sections) = input;
        let shape = [axis % 5, batch % 5, seq % 9].map(usize::from);
        let at = |i: usize| {
            positions
                .get(i % positions.len().max(1))
                .copied()
                .unwrap_or(7)
        };

        let inv_freq = Array1::from(inv_freq);
        let grid = Array3::from_shape_fn(shape, |(a, b, t)| at(a + 5 * b + 25 * t));
        let variant = if flags & 1 == 0 {
            MropeVariant::Chunked
        } else {
            MropeVariant::Interleaved
        };
        if let Ok(table) = axes::mrope_table(&inv_freq, &grid, &sections, variant, number) {
            assert_eq!(table.rotary_dim(), 2 * inv_freq.len());
            assert!(table.rows() == 0 || table.rows() == shape[1] * shape[2]);
        }

        let pairs = Array2::from_shape_fn((shape[2], shape[1]), |(t, axis)| at(axis + 2 * t));
        let kind = if flags & 2 == 0 {
            VisionAxes::EvenRowOddColumn
        } else {
            VisionAxes::SameFrequencies
        };
        let config =
            RopeConfig::new(usize::from(dim % 1024), RopePairing::HalfSplit).with_base(number);
        if let Ok(table) = axes::vision_table(&config, &pairs, kind) {
            assert_eq!(
                (table.rows(), table.rotary_dim()),
                (shape[2], config.rotary_dim)
            );
        }

        let blocks = Array2::from_elem((shape[1], shape[2]), at(1));
        let _ = ChatGlmTable::new(usize::from(dim % 1024), &pairs, &blocks);
        let seq = usize::from(seq);
        if let Ok((positions, blocks)) = chatglm::positions_v1(at(0), at(1), seq) {
            assert!(positions.dim() == (1, seq) && blocks.dim() == (1, seq) && at(1) < at(0));
        }
    }
);
