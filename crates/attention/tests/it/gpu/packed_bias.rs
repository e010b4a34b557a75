//! The gradient of a bias of packed sequences on the GPU: that of the CPU, and bit by bit that of each sequence alone.

use llm_attention::gpu::llm_gpu::{Gpu, GpuTensor};
use llm_attention::gpu::score_mods::{self, GpuScoreMods};
use llm_attention::gpu::{Variant, varlen};
use llm_attention::varlen::score_mods as on_cpu;
use llm_attention::{AlibiOrigin, AttentionConfig, CausalAlignment, Dropout, Mask, MaskPolarity};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::compare;
use ndarray::{Array2, Array3, Array4, ArrayD, Axis, Slice};

use super::score_mods::SUMS;
use super::{gpu, upload};
use crate::score_mods::{Arrays, Choice};
use crate::varlen::Packed;

/// Heads, key-value heads, features of keys and of values.
const HEADS: [usize; 4] = [4, 2, 3, 2];

/// Which axes have the length 1: each choice of heads, queries and keys. There is one row of a batch.
fn all_ones() -> impl Iterator<Item = [bool; 4]> {
    (0..8).map(|bits: u32| [true, bits & 1 != 0, bits & 2 != 0, bits & 4 != 0])
}

/// How many queries and how many keys each sequence has.
type Lengths = [(usize, usize)];

/// Lengths around those of tiles, and none.
const LISTS: [&Lengths; 4] = [
    &[(33, 35), (0, 7), (5, 0), (2, 33)],
    &[(0, 0), (1, 66), (32, 2), (3, 31), (0, 3)],
    &[(0, 3), (1, 64)],
    &[(34, 33)],
];

fn case(lengths: &Lengths, heads: [usize; 4], config: AttentionConfig, key: u64) -> Packed {
    let starts = |lengths: Vec<usize>| {
        let mut list = vec![0];
        for n in lengths {
            list.push(list[list.len() - 1] + n);
        }
        list
    };
    let (queries, keys): (Vec<_>, Vec<_>) = lengths.iter().copied().unzip();
    let (cu_seqlens, cu_kv_seqlens) = (starts(queries), starts(keys));
    let (total, kv_total) = (cu_seqlens[lengths.len()], cu_kv_seqlens[lengths.len()]);
    let random = Philox4x32::new(key);
    let draw = |stream: u64, shape: [usize; 3]| {
        let mut i = 0;
        Array3::from_shape_simple_fn(shape, || {
            i += 1;
            f64::from(random.normal_f64(stream, i) as f32)
        })
    };
    let [n_heads, n_kv_heads, head_dim, value_dim] = heads;
    Packed {
        q: draw(0, [total, n_heads, head_dim]),
        k: draw(1, [kv_total, n_kv_heads, head_dim]),
        v: draw(2, [kv_total, n_kv_heads, value_dim]),
        dout: draw(3, [total, n_heads, value_dim]),
        cu_seqlens,
        cu_kv_seqlens,
        config,
    }
}

/// A bias alone, and with everything that changes a score or a weight.
fn settings(ones: [bool; 4]) -> [(AttentionConfig, Choice); 2] {
    let alone = Choice {
        alibi: None,
        bias: Some((ones, false)),
        mask: None,
        dropout: None,
    };
    let all = Choice {
        alibi: Some(AlibiOrigin::AbsoluteDistance),
        bias: Some((ones, true)),
        mask: Some(([true, false, true, false], MaskPolarity::TrueAttends)),
        dropout: Some(Dropout {
            rate: 0.3,
            key: 5,
            offset: u64::from(u32::MAX) - 20,
        }),
    };
    let mask = Mask::Window {
        left: Some(40),
        right: Some(1),
        alignment: CausalAlignment::BottomRight,
    };
    [
        (AttentionConfig::new(Mask::Full), alone),
        (AttentionConfig::new(mask).with_softcap(2.0), all),
    ]
}

/// The arrays of a choice, as f32 has them.
fn arrays_of(case: &Packed, choice: &Choice) -> Arrays {
    let shape = [1, case.q.dim().1, case.q.dim().0, case.k.dim().0];
    let mut arrays = choice.arrays_of(shape);
    arrays.slopes.mapv_inplace(|x| f64::from(x as f32));
    arrays.bias.mapv_inplace(|x| f64::from(x as f32));
    arrays
}

/// The arrays on the device.
struct OnDevice {
    slopes: GpuTensor<f32>,
    bias: GpuTensor<f32>,
    mask: GpuTensor<u32>,
}

impl OnDevice {
    fn new(gpu: &Gpu, arrays: &Arrays) -> Self {
        Self {
            slopes: upload(gpu, &arrays.slopes),
            bias: upload(gpu, &arrays.bias),
            mask: gpu.upload(&arrays.mask.mapv(u32::from)).unwrap(),
        }
    }

    /// With as many streams of dropout before.
    fn mods(&self, choice: &Choice, streams: usize) -> GpuScoreMods<'_> {
        let mut mods = GpuScoreMods::new().with_bias(&self.bias);
        if let Some(origin) = choice.alibi {
            mods = mods.with_alibi(&self.slopes, origin);
        }
        if let Some((_, polarity)) = choice.mask {
            mods = mods.with_mask(&self.mask, polarity);
        }
        mods.dropout = choice.dropout.map(|dropout| Dropout {
            offset: dropout.offset.wrapping_add(streams as u64),
            ..dropout
        });
        mods
    }
}

/// With an output and a log-sum-exp from elsewhere, or those that the device has itself.
fn dbias(
    gpu: &Gpu,
    case: &Packed,
    arrays: &Arrays,
    choice: &Choice,
    saved: Option<(&Array3<f64>, &Array2<f64>)>,
) -> ArrayD<f32> {
    let [q, k, v, dout] = [&case.q, &case.k, &case.v, &case.dout].map(|x| upload(gpu, x));
    let (starts, kv_starts, config) = (&case.cu_seqlens, &case.cu_kv_seqlens, &case.config);
    let on_device = OnDevice::new(gpu, arrays);
    let mods = on_device.mods(choice, 0);
    let (mut r, variant) = (gpu.recorder(), Variant::Base);
    let run = varlen::score_mods::forward_with;
    let (out, lse) = match saved {
        Some((out, lse)) => (upload(gpu, out), upload(gpu, lse)),
        None => run(
            &mut r, &q, &k, &v, starts, kv_starts, &mods, config, variant,
        )
        .unwrap(),
    };
    let run = varlen::score_mods::backward;
    let grads = run(
        &mut r, &dout, &q, &k, &v, &out, &lse, starts, kv_starts, &mods, config,
    );
    r.submit().unwrap();
    grads.unwrap().dbias.unwrap().download_blocking().unwrap()
}

/// The gradients of all keys of a query sum to 0, so a bias that counts for all keys would have none. Not so if a sink took
/// weight and gave no value, as here.
fn check(gpu: &Gpu, case: &Packed, choice: &Choice) {
    let arrays = arrays_of(case, choice);
    let Packed {
        q,
        k,
        v,
        dout,
        config,
        ..
    } = case;
    let (starts, kv_starts) = (&case.cu_seqlens, &case.cu_kv_seqlens);
    let mods = choice.mods(&arrays);
    let run = on_cpu::forward;
    let (out, lse) = run(q, k, v, starts, kv_starts, &mods, config).unwrap();
    let out = out.mapv(|x| f64::from((x * (-0.5_f64).exp()) as f32));
    let lse = lse.mapv(|x| f64::from((x + 0.5) as f32));
    let run = on_cpu::backward;
    let want = run(dout, q, k, v, &out, &lse, starts, kv_starts, &mods, config);
    let want = want.unwrap().dbias.unwrap();
    let got = dbias(gpu, case, &arrays, choice, Some((&out, &lse)));
    if let Err(error) = compare(&got.mapv(f64::from), &want, SUMS) {
        panic!("{starts:?}, {kv_starts:?}, {choice:?}: {error}");
    }
}

#[test]
fn each_choice_of_axes_equals_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for lengths in LISTS {
        for ones in all_ones() {
            for (config, choice) in settings(ones) {
                check(&gpu, &case(lengths, HEADS, config, 3), &choice);
            }
        }
    }
}

/// No queries, no keys, no sequences, no heads, no features.
#[test]
fn sizes_of_zero_equal_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let some: &Lengths = &[(3, 34), (2, 1)];
    let cases: [(&Lengths, [usize; 4]); 8] = [
        (&[], HEADS),
        (&[(0, 0)], HEADS),
        (&[(0, 5), (0, 0)], HEADS),
        (&[(5, 0), (1, 0)], HEADS),
        (some, [0, 2, 3, 2]),
        (some, [4, 2, 0, 2]),
        (some, [4, 2, 3, 0]),
        (some, [4, 2, 0, 0]),
    ];
    for (lengths, heads) in cases {
        for ones in all_ones() {
            for (config, choice) in settings(ones) {
                check(&gpu, &case(lengths, heads, config, 4), &choice);
            }
        }
    }
}

/// `[1, heads, seq, features]` of the tokens of a sequence.
fn part(x: &Array3<f64>, tokens: &[usize]) -> Array4<f64> {
    let x = x.slice_axis(Axis(0), Slice::from(tokens[0]..tokens[1]));
    let x = x.permuted_axes([1, 0, 2]).insert_axis(Axis(0));
    x.as_standard_layout().into_owned()
}

/// What a bias or a mask has for a sequence.
fn block<T: Clone>(x: &Array4<T>, queries: &[usize], keys: &[usize]) -> Array4<T> {
    let mut x = x.view();
    for (axis, tokens) in [(Axis(2), queries), (Axis(3), keys)] {
        if x.len_of(axis) != 1 {
            x.slice_axis_inplace(axis, Slice::from(tokens[0]..tokens[1]));
        }
    }
    x.as_standard_layout().into_owned()
}

/// The bits of the kernel without packing, with everything that changes a score; what no sequence has is zero.
#[test]
fn each_sequence_has_the_bits_that_it_has_alone() {
    let Some(gpu) = gpu() else { return };
    for lengths in LISTS {
        for ones in all_ones() {
            let n_scored = lengths.iter().filter(|(q, k)| *q > 0 && *k > 0).count();
            if ones[2] && ones[3] && n_scored > 1 {
                continue; // sums over several sequences: added in another order
            }
            let [_, (config, choice)] = settings(ones);
            let case = case(lengths, HEADS, config, 5);
            let arrays = arrays_of(&case, &choice);
            let got = dbias(&gpu, &case, &arrays, &choice, None);
            let mut want = Array4::<f32>::zeros(arrays.bias.dim());
            let starts = case
                .cu_seqlens
                .windows(2)
                .zip(case.cu_kv_seqlens.windows(2));
            for (queries, keys) in starts {
                if queries[0] == queries[1] || keys[0] == keys[1] {
                    continue;
                }
                let arrays = Arrays {
                    slopes: arrays.slopes.clone(),
                    bias: block(&arrays.bias, queries, keys),
                    mask: block(&arrays.mask, queries, keys),
                };
                let on_device = OnDevice::new(&gpu, &arrays);
                let mods = on_device.mods(&choice, HEADS[0] * queries[0]);
                let [q, dout] = [&case.q, &case.dout].map(|x| upload(&gpu, &part(x, queries)));
                let [k, v] = [&case.k, &case.v].map(|x| upload(&gpu, &part(x, keys)));
                let mut r = gpu.recorder();
                let run = score_mods::forward_with;
                let (out, lse) = run(&mut r, &q, &k, &v, &mods, &config, Variant::Base).unwrap();
                let run = score_mods::backward;
                let grads = run(&mut r, &dout, &q, &k, &v, &out, &lse, &mods, &config);
                r.submit().unwrap();
                let alone = grads.unwrap().dbias.unwrap().download_blocking().unwrap();
                let mut want = want.view_mut();
                for (axis, tokens) in [(Axis(2), queries), (Axis(3), keys)] {
                    if want.len_of(axis) != 1 {
                        want.slice_axis_inplace(axis, Slice::from(tokens[0]..tokens[1]));
                    }
                }
                want.into_dyn().assign(&alone);
            }
            assert_eq!(got, want.into_dyn(), "{lengths:?} {choice:?}");
        }
    }
}

/// Keys that a mask hides may be infinite, and their values so large that products overflow: in tiles that are skipped, and beside
/// keys that are seen.
#[test]
fn what_a_mask_hides_does_not_matter() {
    let Some(gpu) = gpu() else { return };
    // Tiles of the second sequence begin at its own first key.
    let hidden = 7 + 20..7 + 64;
    let choice = |ones| Choice {
        alibi: None,
        bias: Some((ones, false)),
        mask: Some(([true, true, true, false], MaskPolarity::TrueHides)),
        dropout: None,
    };
    for ones in all_ones() {
        let choice = choice(ones);
        let config = AttentionConfig::new(Mask::Full);
        let run = |key: f64, value: f64| {
            let mut case = case(&[(5, 7), (33, 70)], [2, 1, 3, 2], config, 6);
            let mut arrays = arrays_of(&case, &choice);
            for (key, hides) in arrays.mask.iter_mut().enumerate() {
                *hides = hidden.contains(&key);
            }
            for (x, hidden_value) in [(&mut case.k, key), (&mut case.v, value)] {
                x.slice_axis_mut(Axis(0), Slice::from(hidden.clone()))
                    .fill(hidden_value);
            }
            dbias(&gpu, &case, &arrays, &choice, None)
        };
        let want = run(1.0, 1.0);
        assert!(want.iter().all(|x| x.is_finite()));
        assert!(want.iter().any(|x| x.abs() > 1e-3) || ones[3]);
        assert_eq!(run(f64::INFINITY, f64::from(f32::MAX)), want, "{ones:?}");
    }
}
