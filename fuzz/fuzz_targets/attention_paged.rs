//! Attention to pages with any sizes, strides, tables, lengths, masks and numbers: a result of the right shape, or the same
//! error for all types of pages. Never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_attention::paged::{self, PagedKv};
use llm_attention::{AttentionConfig, CausalAlignment, Mask};
use llm_numerics::half::bf16;
use ndarray::{Array1, Array2, Array3, Array4, Axis};

type Input = ([u8; 8], u8, [usize; 2], [f64; 2], Vec<u32>, Vec<f32>);

fuzz_target!(|input: Input| {
    let (sizes, flags, [left, size], [scale, softcap], numbers, values) = input;
    let number = |i: usize| numbers.get(i % numbers.len().max(1)).copied().unwrap_or(0);
    let value = |i: usize| values.get(i % values.len().max(1)).copied().unwrap_or(1.0);
    let array = |shape: [usize; 4]| {
        let mut i = 0..;
        Array4::from_shape_simple_fn(shape, || value(i.next().unwrap_or(0)))
    };

    let [
        batch,
        n_kv_heads,
        queries_per_kv,
        seq,
        n_pages,
        page_size,
        head_dim,
        max_pages,
    ] = sizes.map(|n| usize::from(n % 7));
    let n_heads = n_kv_heads * queries_per_kv + usize::from(flags & 1);
    let q = array([batch, n_heads, seq, head_dim]);
    let mut k = array([n_pages, n_kv_heads, page_size, head_dim]);
    let mut v = array([n_pages, n_kv_heads, page_size, 5]);
    if flags & 2 != 0 {
        k.invert_axis(Axis(3));
        v.invert_axis(Axis(2));
    }
    let block_table = Array2::from_shape_fn((batch, max_pages), |(b, i)| number(b * 7 + i));
    let lengths = Array1::from_shape_fn(batch, |b| number(b + 50));

    let alignment = CausalAlignment::BottomRight;
    let mask = match flags >> 2 & 3 {
        0 => Mask::Full,
        1 => Mask::Causal(alignment),
        2 => Mask::Window {
            left: Some(left),
            right: Some(size),
            alignment,
        },
        _ => Mask::ChunkedCausal {
            chunk: size,
            alignment,
        },
    };
    let mut config = AttentionConfig::new(mask).with_tile(1 + left % 9, 1 + size % 9);
    config.scale = (flags & 16 != 0).then_some(scale);
    config.softcap = (flags & 32 != 0).then_some(softcap);

    let kv = PagedKv::new(&k, &v, &block_table, &lengths);
    let wide = paged::forward_with_lse(&q, &kv, &config);
    if let Ok((out, lse)) = &wide {
        assert_eq!(out.dim(), (batch, n_heads, seq, 5));
        assert_eq!(lse.dim(), (batch, n_heads, seq));
        assert!(
            lengths
                .iter()
                .all(|&length| length as usize <= max_pages * page_size)
        );
    }

    // The other types are refused for the same reasons. Compared as text: a NaN in an error is not equal to itself.
    let wide = wide.err().map(|error| error.to_string());
    let (narrow_k, narrow_v) = (k.mapv(bf16::from_f32), v.mapv(bf16::from_f32));
    let narrow = PagedKv::new(&narrow_k, &narrow_v, &block_table, &lengths);
    let narrow = paged::forward(&q, &narrow, &config);
    assert_eq!(narrow.err().map(|error| error.to_string()), wide);
    let scales = Array3::ones((n_pages, n_kv_heads, page_size));
    let (k, v) = (k.mapv(|x| x as i8), v.mapv(|x| x as i8));
    let kv = PagedKv::int8(&k, &v, &scales, &scales, &block_table, &lengths);
    let integers = paged::forward(&q, &kv, &config);
    assert_eq!(integers.err().map(|error| error.to_string()), wide);

    // Packed, with any list.
    let packed = Array3::from_elem((batch * seq, n_heads, head_dim), value(3));
    let list: Vec<usize> = (0..=batch)
        .map(|b| b * seq + (number(b + 90) % 9 / 8) as usize)
        .collect();
    if let Ok((out, _)) = paged::forward_varlen(&packed, &kv, &list, &config) {
        assert_eq!(out.dim(), (batch * seq, n_heads, 5));
    }
});
