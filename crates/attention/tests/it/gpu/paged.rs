//! Pages on the GPU equal the reference on what they hold, gathered into arrays of each sequence.

use llm_attention::gpu::Variant;
use llm_attention::gpu::llm_gpu::Gpu;
use llm_attention::gpu::llm_gpu::half::{bf16, f16};
use llm_attention::gpu::paged::{self, GpuInt8Pages, GpuPagedKv};
use llm_attention::{AttentionConfig, AttentionError, CausalAlignment, Mask, reference};
use llm_numerics::philox::Philox4x32;
use ndarray::{Array1, Array2, Array4, Axis, s};
use proptest::prelude::*;

use super::{close, few, gpu, upload, variants, wide, wide_lse};
use crate::cases::masks;

#[derive(Clone, Debug)]
struct Paged {
    q: Array4<f64>,
    k: Array4<f64>,
    v: Array4<f64>,
    block_table: Array2<u32>,
    lengths: Array1<u32>,
    config: AttentionConfig,
}

fn draw(key: u64, stream: u64, shape: [usize; 4]) -> Array4<f64> {
    let random = Philox4x32::new(key);
    let mut i = 0;
    Array4::from_shape_simple_fn(shape, || {
        i += 1;
        // Exact in bfloat16, f16 and f32.
        f64::from(bf16::from_f64(random.normal_f64(stream, i)))
    })
}

fn cases() -> impl Strategy<Value = Paged> {
    let pages = (
        1_usize..6,
        1_usize..9,
        prop_oneof![1_usize..5, Just(16), Just(33)],
    );
    let heads = (1_usize..3, 1_usize..5);
    let features = prop_oneof![
        (0_usize..9, 0_usize..9),
        (1_usize..6, 1_usize..6).prop_map(|(head_dim, value_dim)| (4 * head_dim, 4 * value_dim)),
    ];
    let sizes = (0_usize..4, heads, 0_usize..4, features);
    (
        pages,
        sizes,
        masks(),
        prop::option::weighted(0.3, 1.0_f64..20.0),
        any::<u64>(),
    )
        .prop_map(
            |(
                (n_pages, max_pages, page_size),
                (batch, (n_kv, group), seq, (head_dim, value_dim)),
                mask,
                softcap,
                key,
            )| {
                let random = Philox4x32::new(key);
                let (mut i, longest) = (0, max_pages * page_size);
                let mut below = |n: usize| {
                    i += 1;
                    random.below(7, i, n as u32)
                };
                let lengths = Array1::from_shape_simple_fn(batch, || below(longest + 1));
                let block_table =
                    Array2::from_shape_simple_fn((batch, max_pages), || below(n_pages));
                let mut config = AttentionConfig::new(mask);
                config.softcap = softcap;
                Paged {
                    q: draw(key, 0, [batch, n_kv * group, seq, head_dim]),
                    k: draw(key, 1, [n_pages, n_kv, page_size, head_dim]),
                    v: draw(key, 2, [n_pages, n_kv, page_size, value_dim]),
                    block_table,
                    lengths,
                    config,
                }
            },
        )
}

/// The tokens of a sequence, one behind the other.
fn gather(pages: &Array4<f64>, table: ndarray::ArrayView1<'_, u32>, length: u32) -> Array4<f64> {
    let (_, heads, page_size, features) = pages.dim();
    Array4::from_shape_fn((1, heads, length as usize, features), |(_, h, t, d)| {
        pages[[table[t / page_size] as usize, h, t % page_size, d]]
    })
}

fn check(gpu: &Gpu, case: &Paged, storage: &str) -> Result<(), TestCaseError> {
    for variant in variants(gpu, case.k.dim().3, case.v.dim().3) {
        let explain = |error| TestCaseError::fail(format!("{variant:?}: {error}"));
        check_variant(gpu, case, storage, variant).map_err(explain)?;
    }
    Ok(())
}

fn check_variant(
    gpu: &Gpu,
    case: &Paged,
    storage: &str,
    variant: Variant,
) -> Result<(), TestCaseError> {
    let Paged {
        q, k, v, config, ..
    } = case;
    let device_q = upload(gpu, q);
    let table = gpu.upload(&case.block_table).unwrap();
    let lengths = gpu.upload(&case.lengths).unwrap();
    let mut r = gpu.recorder();
    let (out, lse) = match storage {
        "f32" => {
            let [k, v] = [k, v].map(|x| upload(gpu, x));
            let kv = GpuPagedKv::new(&k, &v, &table, &lengths);
            paged::forward_with(&mut r, &device_q, &kv, config, variant)
        }
        "f16" => {
            let [k, v] = [k, v].map(|x| gpu.upload(&x.mapv(f16::from_f64)).unwrap());
            let kv = GpuPagedKv::new(&k, &v, &table, &lengths);
            paged::forward_with(&mut r, &device_q, &kv, config, variant)
        }
        _ => {
            let [k, v] = [k, v].map(|x| gpu.upload(&x.mapv(bf16::from_f64)).unwrap());
            let kv = GpuPagedKv::new(&k, &v, &table, &lengths);
            paged::forward_with(&mut r, &device_q, &kv, config, variant)
        }
    }
    .unwrap();
    r.submit().unwrap();
    let (out, lse) = (wide(&out), wide_lse(&lse));
    for (b, &length) in case.lengths.iter().enumerate() {
        let q = q.slice(s![b..=b, .., .., ..]).to_owned();
        let [k, v] = [k, v].map(|x| gather(x, case.block_table.row(b), length));
        let (want, want_lse) = reference::attention::forward(&q, &k, &v, config).unwrap();
        close(&out.slice_axis(Axis(0), (b..=b).into()).to_owned(), &want)?;
        close(
            &lse.slice_axis(Axis(0), (b..=b).into()).to_owned(),
            &want_lse,
        )?;
    }
    Ok(())
}

#[test]
fn equals_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(64), |(case in cases())| check(&gpu, &case, "f32")?);
}

#[test]
fn narrow_pages_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(24), |(mut case in cases())| {
        // Smaller numbers than f16 has would be rounded.
        case.k.mapv_inplace(|x| f64::from(f16::from_f64(x)));
        case.v.mapv_inplace(|x| f64::from(f16::from_f64(x)));
        check(&gpu, &case, "f16")?;
        case.k.mapv_inplace(|x| f64::from(bf16::from_f64(x)));
        case.v.mapv_inplace(|x| f64::from(bf16::from_f64(x)));
        check(&gpu, &case, "bf16")?;
    });
}

/// Every 8-bit integer, each token and head with a scale of its own, features that do not fill words.
#[test]
fn pages_of_8_bit_integers_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(32), |(case in cases(), key in any::<u64>())| {
        let random = Philox4x32::new(key);
        let integers = |stream: u64, x: &Array4<f64>| {
            let mut i = 0;
            Array4::from_shape_simple_fn(x.dim(), || {
                i += 1;
                random.u32_at(stream, i) as i8
            })
        };
        let (k, v) = (integers(0, &case.k), integers(1, &case.v));
        let (n_pages, heads, page_size, _) = k.dim();
        let mut i = 0;
        let scales = Array4::from_shape_simple_fn((2, n_pages, heads, page_size), || {
            i += 1;
            0.001 + random.uniform_f32(2, i) / 64.0
        });
        let wide = |x: &Array4<i8>, side: usize| {
            let mut wide = x.mapv(f64::from);
            for ((page, head, place, _), x) in wide.indexed_iter_mut() {
                *x = f64::from(*x as f32 * scales[[side, page, head, place]]);
            }
            wide
        };
        let (want_k, want_v) = (wide(&k, 0), wide(&v, 1));

        let q = upload(&gpu, &case.q);
        let [k, v] = [&k, &v].map(|x| GpuInt8Pages::upload(&gpu, x).unwrap());
        let scales = gpu.upload(&scales).unwrap();
        let table = gpu.upload(&case.block_table).unwrap();
        let lengths = gpu.upload(&case.lengths).unwrap();
        let kv = GpuPagedKv::int8(&k, &v, &scales, &table, &lengths);
        let (want, want_lse) = reference::paged::forward(
            &case.q, &want_k, &want_v, &case.block_table, &case.lengths, &case.config,
        )
        .unwrap();
        for variant in variants(&gpu, want_k.dim().3, want_v.dim().3) {
            let mut r = gpu.recorder();
            let (out, lse) = paged::forward_with(&mut r, &q, &kv, &case.config, variant).unwrap();
            r.submit().unwrap();
            let explain = |error| TestCaseError::fail(format!("{variant:?}: {error}"));
            close(&super::wide(&out), &want).map_err(explain)?;
            close(&wide_lse(&lse), &want_lse).map_err(explain)?;
        }
    });
}

/// Long sequences are in several pieces.
#[test]
fn many_pieces_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    let mut case = Paged {
        q: draw(5, 0, [2, 3, 2, 20]),
        k: draw(5, 1, [7, 1, 16, 20]),
        v: draw(5, 2, [7, 1, 16, 8]),
        block_table: Array2::from_shape_fn((2, 40), |(b, page)| ((3 * page + b) % 7) as u32),
        lengths: Array1::from(vec![640, 300]),
        config: AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight)),
    };
    check(&gpu, &case, "f32").unwrap();
    case.lengths[1] = 0;
    check(&gpu, &case, "f32").unwrap();
}

/// The table and the lengths come from the device: what is wrong there reads nothing outside the pool.
#[test]
fn wrong_pages_hide_and_wrong_lengths_are_cut() {
    let Some(gpu) = gpu() else { return };
    let q = gpu.upload(&Array4::<f32>::ones((3, 1, 1, 4))).unwrap();
    let k = gpu.upload(&Array4::<f32>::zeros((2, 1, 2, 4))).unwrap();
    let v = ndarray::array![[[[1.0_f32], [2.0]]], [[[4.0], [8.0]]]];
    let v = gpu.upload(&v.broadcast((2, 1, 2, 4)).unwrap()).unwrap();
    let table = gpu
        .upload(&ndarray::array![[0_u32, 2], [u32::MAX, 2], [0, 1]])
        .unwrap();
    let lengths = gpu.upload(&ndarray::array![4_u32, 4, u32::MAX]).unwrap();
    let kv = GpuPagedKv::new(&k, &v, &table, &lengths);
    let config = AttentionConfig::new(Mask::Full);
    for variant in variants(&gpu, 4, 4) {
        let mut r = gpu.recorder();
        let (out, lse) = paged::forward_with(&mut r, &q, &kv, &config, variant).unwrap();
        r.submit().unwrap();
        let (out, lse) = (wide(&out), wide_lse(&lse));
        for (b, (want, n_keys)) in [(1.5, 2.0_f64), (0.0, 0.0), (3.75, 4.0)]
            .into_iter()
            .enumerate()
        {
            let at = format!("{variant:?}, sequence {b}");
            assert!((out[[b, 0, 0, 3]] - want).abs() < 1e-6, "{at}");
            let lse = lse[[b, 0, 0]];
            let is_right = lse == n_keys.ln() || (lse - n_keys.ln()).abs() < 1e-6;
            assert!(is_right, "{at}: {lse}");
        }
    }
}

#[test]
fn pages_must_fit_the_queries() {
    let Some(gpu) = gpu() else { return };
    let mut r = gpu.recorder();
    let zeros = |shape: &[usize]| gpu.zeros::<f32>(shape).unwrap();
    let words = |shape: &[usize]| gpu.zeros::<u32>(shape).unwrap();
    let q = zeros(&[2, 2, 1, 4]);
    let pages = zeros(&[3, 1, 2, 4]);
    let (table, lengths) = (words(&[2, 5]), words(&[2]));
    let config = AttentionConfig::new(Mask::Full);
    let mut refused = |k, v, table, lengths| {
        let kv = GpuPagedKv::new(k, v, table, lengths);
        paged::forward(&mut r, &q, &kv, &config).unwrap_err()
    };
    let empty = zeros(&[3, 1, 0, 4]);
    assert_eq!(
        refused(&empty, &empty, &table, &lengths),
        AttentionError::PageSize
    );
    let other = zeros(&[3, 1, 3, 4]);
    let (name, expected, got) = ("v", [3, 1, 2, 4], [3, 1, 3, 4]);
    let want = AttentionError::Shape {
        name,
        expected,
        got,
    };
    assert_eq!(refused(&pages, &other, &table, &lengths), want);
    let three = words(&[3, 5]);
    let (name, batch, got) = ("block_table", 2, 3);
    let want = AttentionError::Rows { name, batch, got };
    assert_eq!(refused(&pages, &pages, &three, &lengths), want);
    let three = words(&[3]);
    let (name, batch, got) = ("lengths", 2, 3);
    let want = AttentionError::Rows { name, batch, got };
    assert_eq!(refused(&pages, &pages, &table, &three), want);
    let bytes = GpuInt8Pages::upload(&gpu, &Array4::zeros((3, 1, 2, 4))).unwrap();
    let scales = zeros(&[1, 3, 1, 2]);
    let kv = GpuPagedKv::int8(&bytes, &bytes, &scales, &table, &lengths);
    let error = paged::forward(&mut gpu.recorder(), &q, &kv, &config).unwrap_err();
    let (name, expected, got) = ("scales", [2, 3, 1, 2], [1, 3, 1, 2]);
    assert_eq!(
        error,
        AttentionError::Shape {
            name,
            expected,
            got
        }
    );
    let long = words(&[2, (1 << 23) + 1]);
    let error = refused(&pages, &pages, &long, &lengths);
    // Pages of 2 tokens: one page too many for the longest sequence.
    let (name, max, got) = ("max_pages * page_size", 1 << 24, (1 << 24) + 2);
    assert_eq!(error, AttentionError::TooLong { name, max, got });
    let flat = words(&[2]);
    let (name, expected, got) = ("block_table", 2, vec![2]);
    let want = AttentionError::Rank {
        name,
        expected,
        got,
    };
    assert_eq!(refused(&pages, &pages, &flat, &lengths), want);
}

/// Words of another kernel are the pages that an upload makes of their bytes; the count has to be right.
#[test]
fn words_on_the_device_are_pages() {
    let Some(gpu) = gpu() else { return };
    let pages = Array4::from_shape_fn((3, 1, 2, 5), |(p, _, t, d)| {
        (40 * p + 20 * t + d) as i8 - 60
    });
    let mut bytes: Vec<u8> = pages.iter().map(|x| x.cast_unsigned()).collect();
    bytes.resize(32, 0);
    let words = bytes
        .chunks(4)
        .map(|x| u32::from_le_bytes([x[0], x[1], x[2], x[3]]));
    let words: Vec<u32> = words.collect();
    let words = gpu.upload_slice(&[2, 4], &words).unwrap();
    let scales = gpu
        .upload(&Array4::<f32>::from_elem((2, 3, 1, 2), 0.01))
        .unwrap();
    let q = gpu.upload(&Array4::<f32>::ones((1, 1, 1, 5))).unwrap();
    let table = gpu.upload(&ndarray::array![[2_u32, 0]]).unwrap();
    let lengths = gpu.upload(&ndarray::array![3_u32]).unwrap();
    let mut r = gpu.recorder();
    let outs = [
        GpuInt8Pages::from_words(&words, [3, 1, 2, 5]).unwrap(),
        GpuInt8Pages::upload(&gpu, &pages).unwrap(),
    ]
    .map(|pages| {
        let kv = GpuPagedKv::int8(&pages, &pages, &scales, &table, &lengths);
        paged::forward(&mut r, &q, &kv, &AttentionConfig::new(Mask::Full))
            .unwrap()
            .0
    });
    r.submit().unwrap();
    let [got, want] = outs.map(|out| out.download_blocking().unwrap());
    assert_eq!(got, want);
    assert!(want.iter().all(|x| x.abs() > 0.1));
    let error = GpuInt8Pages::from_words(&words, [3, 1, 2, 6]).unwrap_err();
    let (expected, got) = (9, 8);
    assert_eq!(error, AttentionError::PageWords { expected, got });
    let error = GpuInt8Pages::from_words(&words, [usize::MAX, 2, 1, 1]).unwrap_err();
    assert!(matches!(error, AttentionError::TooLarge { .. }), "{error}");
}
