//! Each faster kernel of the forward pass equals the reference; those in f16 on inputs that f16 holds, and they round others.

mod hidden;

use std::io::Write as _;

use llm_attention::gpu::llm_gpu::half::f16;
use llm_attention::gpu::llm_gpu::testing::{Profile, gpu, gpu_with, noop};
use llm_attention::gpu::llm_gpu::{Gpu, GpuError, GpuOptions, Mask as Masked, Needs};
use llm_attention::gpu::score_mods::{self, GpuScoreMods};
use llm_attention::gpu::{Variant, flash, varlen};
use llm_attention::{AttentionConfig, AttentionError, CausalAlignment, Mask, reference};
use llm_numerics::testing::{Tolerance, compare};
use ndarray::{Array, Array4, ArrayD, Dimension, s};
use proptest::prelude::*;

use super::{F32, few, ones, sizes, upload, wide, wide_lse};
use crate::cases::{Case, Sizes, cases, masks};
use crate::score_mods::choices;
use crate::varlen::packed_up_to;

/// With weights rounded to f16: each errs by 2^-11 of itself, and by 2^-25 where that is subnormal; a weighted mean of values of at
/// most 5, dropped or not, by 2^-11 of 5. Dropout multiplies that by up to 2.
const HALF_WEIGHTS: Tolerance = Tolerance::new(5e-3, 0.0);

/// A kernel under test, and how close it comes to the reference.
#[derive(Clone, Copy)]
struct Tested {
    variant: Variant,
    tolerance: Tolerance,
}

const SUBGROUPS: Tested = Tested {
    variant: Variant::Subgroups,
    tolerance: F32,
};
const F16: Tested = Tested {
    variant: Variant::F16,
    tolerance: F32,
};
const MATRICES: Tested = Tested {
    variant: Variant::F16Matrices,
    tolerance: HALF_WEIGHTS,
};

impl Tested {
    /// The device, if it can run the kernel.
    fn gpu(self) -> Option<Gpu> {
        let needs = Needs::CORE.with_subgroups();
        // Bytes as the header of the shader has them.
        let gpu = gpu_with(&match self.variant {
            Variant::F16 => needs.with_f16(),
            Variant::F16Matrices => {
                let needs = needs.with_f16().with_cooperative_matrix();
                needs.with_workgroup_bytes(27_664)
            }
            _ => needs,
        })?;
        let (smallest, largest) = gpu.capabilities().subgroups?;
        if smallest < 8 || largest > 64 {
            let name = std::thread::current().name().unwrap_or("?").to_owned();
            let line = format!("GPU-TEST-SKIPPED: {name}: subgroups of {smallest} to {largest}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        }
        Some(gpu)
    }

    fn close(
        self,
        [out, lse]: [ArrayD<f64>; 2],
        [want, want_lse]: [ArrayD<f64>; 2],
    ) -> Result<(), TestCaseError> {
        let fail = |what: &str, mismatch| TestCaseError::fail(format!("{what}: {mismatch}"));
        compare(&out, &want, self.tolerance).map_err(|m| fail("output", m))?;
        compare(&lse, &want_lse, F32).map_err(|m| fail("log-sum-exp", m))?;
        Ok(())
    }

    fn check(self, gpu: &Gpu, case: &Case) -> Result<(), TestCaseError> {
        let Case {
            q, k, v, config, ..
        } = case;
        let (want, want_lse) = reference::attention::forward(q, k, v, config).unwrap();
        let [q, k, v] = [q, k, v].map(|x| upload(gpu, x));
        let mut r = gpu.recorder();
        let mods = GpuScoreMods::new();
        // Unlike `flash::forward_with` this has the same kernel for a single query.
        let (out, lse) =
            score_mods::forward_with(&mut r, &q, &k, &v, &mods, config, self.variant).unwrap();
        r.submit().unwrap();
        let want = [want.into_dyn(), want_lse.into_dyn()];
        self.close([wide(&out), wide_lse(&lse)], want)
    }

    fn plain(self) {
        let Some(gpu) = self.gpu() else { return };
        // More features than are in memory at a time, more columns than a workgroup has.
        for (head_dim, value_dim) in [(160, 4), (4, 160), (128, 128)] {
            let sizes = Sizes {
                batch: 1,
                n_heads: 1,
                n_kv_heads: 1,
                seq: 33,
                kv_seq: 70,
                head_dim,
                value_dim,
            };
            let case = case(sizes, AttentionConfig::new(Mask::Full), 21);
            self.check(&gpu, &case).unwrap();
        }
        proptest!(few(48), |(case in cases())| self.check(&gpu, &vectors(case))?);
        proptest!(few(6), |(
            sizes in sizes(),
            mask in masks(),
            softcap in prop::option::weighted(0.3, 0.5_f64..50.0),
            key in any::<u64>(),
        )| {
            let mut config = AttentionConfig::new(mask);
            config.softcap = softcap;
            self.check(&gpu, &case(sizes, config, key))?;
        });
    }

    /// Every kind of mask across the edges of tiles, in both alignments.
    fn each_mask(self) {
        let Some(gpu) = self.gpu() else { return };
        for alignment in [CausalAlignment::TopLeft, CausalAlignment::BottomRight] {
            let window = |left, right| Mask::Window {
                left,
                right,
                alignment,
            };
            let (chunk, prefix) = (31, 34);
            let masks = [
                Mask::Full,
                Mask::Causal(alignment),
                window(Some(3), Some(0)),
                window(Some(40), Some(2)),
                window(None, Some(33)),
                window(Some(0), None),
                Mask::ChunkedCausal { chunk, alignment },
                Mask::PrefixLm { prefix, alignment },
            ];
            for (seq, kv_seq) in [(65, 65), (33, 130), (97, 33)] {
                for mask in masks {
                    let sizes = Sizes {
                        batch: 1,
                        n_heads: 2,
                        n_kv_heads: 1,
                        seq,
                        kv_seq,
                        head_dim: 8,
                        value_dim: 4,
                    };
                    let case = case(sizes, AttentionConfig::new(mask), 7);
                    if let Err(error) = self.check(&gpu, &case) {
                        panic!("{mask:?}, {seq} queries, {kv_seq} keys: {error}");
                    }
                }
            }
        }
    }

    /// ALiBi, biases, boolean masks and dropout.
    fn modified(self) {
        let Some(gpu) = self.gpu() else { return };
        let check = |case: &Case, choice: &crate::score_mods::Choice| {
            let mut choice = *choice;
            if let Some(dropout) = &mut choice.dropout {
                dropout.rate = dropout.rate.min(0.5);
            }
            let mut arrays = choice.arrays(case);
            arrays.slopes.mapv_inplace(|x| f64::from(x as f32));
            arrays.bias.mapv_inplace(|x| f64::from(x as f32));
            let (slopes, bias) = (upload(&gpu, &arrays.slopes), upload(&gpu, &arrays.bias));
            let mask = gpu.upload(&arrays.mask.mapv(u32::from)).unwrap();
            let mods = choice.mods(&arrays);
            let mut on_device = GpuScoreMods::new();
            on_device.alibi = mods.alibi.map(|(_, origin)| (&slopes, origin));
            on_device.bias = mods.bias.map(|_| &bias);
            on_device.mask = mods.mask.map(|(_, polarity)| (&mask, polarity));
            on_device.dropout = mods.dropout;
            let Case {
                q, k, v, config, ..
            } = case;
            let (want, want_lse) = reference::score_mods::forward(q, k, v, &mods, config).unwrap();
            let [q, k, v] = [q, k, v].map(|x| upload(&gpu, x));
            let mut r = gpu.recorder();
            let (out, lse) =
                score_mods::forward_with(&mut r, &q, &k, &v, &on_device, config, self.variant)
                    .unwrap();
            r.submit().unwrap();
            let want = [want.into_dyn(), want_lse.into_dyn()];
            self.close([wide(&out), wide_lse(&lse)], want)
        };
        proptest!(few(48), |(case in cases(), choice in choices())| check(&vectors(case), &choice)?);
        proptest!(few(8), |(
            mut sizes in sizes(), mask in masks(), choice in choices(), key in any::<u64>(),
        )| {
            // Features were varied elsewhere.
            (sizes.head_dim, sizes.value_dim) = (sizes.head_dim.min(9), sizes.value_dim.min(9));
            check(&case(sizes, AttentionConfig::new(mask), key), &choice)?;
        });
    }

    fn packed(self) {
        let Some(gpu) = self.gpu() else { return };
        proptest!(few(24), |(packed in packed_up_to(70))| {
            let [q, k, v] = [&packed.q, &packed.k, &packed.v].map(|x| {
                let shape = [x.dim().0, x.dim().1, in_fours(x.dim().2)];
                resized(x, ndarray::Dim(shape))
            });
            let (starts, kv_starts) = (&packed.cu_seqlens, &packed.cu_kv_seqlens);
            let config = &packed.config;
            let (want, want_lse) =
                reference::varlen::forward(&q, &k, &v, starts, kv_starts, config).unwrap();
            let [q, k, v] = [&q, &k, &v].map(|x| upload(&gpu, x));
            let (mut r, variant) = (gpu.recorder(), self.variant);
            let (out, lse) =
                varlen::forward_with(&mut r, &q, &k, &v, starts, kv_starts, config, variant)
                    .unwrap();
            r.submit().unwrap();
            let want = [want.into_dyn(), want_lse.into_dyn()];
            self.close([wide(&out), wide_lse(&lse)], want)?;
        });
    }

    /// Keys that a mask hides in whole tiles are not read; scores far apart do not overflow; the same call gives the same bits.
    fn extremes(self) {
        let Some(gpu) = self.gpu() else { return };
        let alignment = CausalAlignment::BottomRight;
        let (left, right) = (Some(31), Some(0));
        let mask = Mask::Window {
            left,
            right,
            alignment,
        };
        let sizes = Sizes {
            batch: 1,
            n_heads: 1,
            n_kv_heads: 1,
            seq: 32,
            kv_seq: 128,
            head_dim: 4,
            value_dim: 4,
        };
        let mut hidden = case(sizes, AttentionConfig::new(mask), 3);
        let run = |case: &Case| {
            let [q, k, v] = [&case.q, &case.k, &case.v].map(|x| upload(&gpu, x));
            let mut r = gpu.recorder();
            let (out, lse) =
                flash::forward_with(&mut r, &q, &k, &v, &case.config, self.variant).unwrap();
            r.submit().unwrap();
            [out, lse].map(|x| x.download_blocking().unwrap())
        };
        let want = run(&hidden);
        // The first query sees the keys from 65 on.
        hidden.k.slice_mut(s![.., .., ..65, ..]).fill(f64::INFINITY);
        hidden.v.slice_mut(s![.., .., ..65, ..]).fill(f64::INFINITY);
        assert_eq!(run(&hidden), want);

        let q = Array4::from_elem((1, 1, 2, 4), 0.5);
        let k = Array4::from_shape_fn(
            (1, 1, 70, 4),
            |(.., j, _)| if j == 69 { 1.5e4 } else { -1.5e4 },
        );
        let v = Array4::from_shape_fn((1, 1, 70, 4), |(.., j, _)| j as f64);
        for (scale, want) in [(1.0, 69.0), (1e3, 69.0), (-1.0, 34.0)] {
            let config = AttentionConfig::new(Mask::Full).with_scale(scale);
            let far = Case {
                q: q.clone(),
                k: k.clone(),
                v: v.clone(),
                dout: q.clone(),
                config,
            };
            let [out, lse] = run(&far);
            // Of 69 equal keys the mean is taken; their weights are 1, which is exact.
            assert!((out[[0, 0, 1, 3]] - want).abs() < 1e-4, "scale {scale}");
            assert!(lse[[0, 0, 1]].is_finite());
        }
    }
}

fn in_fours(n: usize) -> usize {
    n.next_multiple_of(4).max(4)
}

/// The same with numbers that f16 holds, and other lengths: numbers come anew where there were none.
fn resized<D: Dimension>(x: &Array<f64, D>, shape: D) -> Array<f64, D> {
    let mut numbers = x.iter().copied().collect::<Vec<_>>();
    if numbers.is_empty() {
        numbers.push(0.75);
    }
    let mut i = 0;
    Array::from_shape_simple_fn(shape, || {
        i += 1;
        // Not the same number again after each row.
        let sign = if (i / numbers.len()).is_multiple_of(2) {
            1.0
        } else {
            -0.5
        };
        f64::from(f16::from_f64(sign * numbers[i % numbers.len()]))
    })
}

/// The case with features in fours.
fn vectors(case: Case) -> Case {
    let widened = |x: &Array4<f64>| {
        let (batch, heads, seq, features) = x.dim();
        resized(x, ndarray::Dim([batch, heads, seq, in_fours(features)]))
    };
    Case {
        q: widened(&case.q),
        k: widened(&case.k),
        v: widened(&case.v),
        dout: widened(&case.dout),
        config: case.config,
    }
}

fn case(mut sizes: Sizes, config: AttentionConfig, key: u64) -> Case {
    sizes.head_dim = in_fours(sizes.head_dim);
    sizes.value_dim = in_fours(sizes.value_dim);
    vectors(Case::new(sizes, config, key))
}

#[test]
fn subgroups_equal_the_reference() {
    SUBGROUPS.plain();
}

#[test]
fn subgroups_are_right_under_each_mask() {
    SUBGROUPS.each_mask();
}

#[test]
fn subgroups_equal_the_reference_on_modified_scores() {
    SUBGROUPS.modified();
}

#[test]
fn subgroups_equal_the_reference_on_packed_sequences() {
    SUBGROUPS.packed();
}

#[test]
fn subgroups_stand_extremes() {
    SUBGROUPS.extremes();
}

#[test]
fn f16_equals_the_reference() {
    F16.plain();
}

#[test]
fn f16_is_right_under_each_mask() {
    F16.each_mask();
}

#[test]
fn f16_equals_the_reference_on_modified_scores() {
    F16.modified();
}

#[test]
fn f16_equals_the_reference_on_packed_sequences() {
    F16.packed();
}

#[test]
fn f16_stands_extremes() {
    F16.extremes();
}

#[test]
fn matrices_equal_the_reference() {
    MATRICES.plain();
}

#[test]
fn matrices_are_right_under_each_mask() {
    MATRICES.each_mask();
}

#[test]
fn matrices_equal_the_reference_on_modified_scores() {
    MATRICES.modified();
}

#[test]
fn matrices_equal_the_reference_on_packed_sequences() {
    MATRICES.packed();
}

#[test]
fn matrices_stand_extremes() {
    MATRICES.extremes();
}

/// 1 + 2^-12 is nearer to 1 than to the next number of f16, and nothing there is above 65504. In f32 both stay, and a decode step is in f32
/// whatever was asked for.
#[test]
fn factors_are_rounded_where_that_was_asked_for_and_nowhere_else() {
    let odd = 1.0 + 2_f32.powi(-12);
    let config = AttentionConfig::new(Mask::Full);
    for (tested, want, largest) in [
        (SUBGROUPS, odd, 1e5),
        (F16, 1.0, 65504.0),
        (MATRICES, 1.0, 65504.0),
    ] {
        let Some(gpu) = tested.gpu() else { continue };
        for seq in [1, 2] {
            let q = gpu.upload(&ones([1, 1, seq, 4])).unwrap();
            // A single key has the weight 1.
            let v = ndarray::array![[[[odd, -odd, 1e5, 0.5_f32]]]];
            let v = gpu.upload(&v).unwrap();
            let mut r = gpu.recorder();
            let k = gpu.upload(&ones([1, 1, 1, 4])).unwrap();
            let (out, _) =
                flash::forward_with(&mut r, &q, &k, &v, &config, tested.variant).unwrap();
            r.submit().unwrap();
            let out = out.download_blocking().unwrap();
            let want = if seq == 1 {
                [odd, -odd, 1e5]
            } else {
                [want, -want, largest]
            };
            let got = [0, 1, 2].map(|d| out[[0, 0, 0, d]]);
            assert_eq!(got, want, "{:?}, {seq} queries", tested.variant);
        }
    }
}

/// The faster kernel in f32 is taken where it can be, the base kernel elsewhere: by the bits, of which some differ.
#[test]
fn the_faster_kernel_is_taken_by_itself() {
    let Some(gpu) = SUBGROUPS.gpu() else { return };
    let run = |case: &Case, variant| {
        let [q, k, v] = [&case.q, &case.k, &case.v].map(|x| upload(&gpu, x));
        let mut r = gpu.recorder();
        let (out, _) = flash::forward_with(&mut r, &q, &k, &v, &case.config, variant).unwrap();
        r.submit().unwrap();
        out.download_blocking().unwrap()
    };
    for seq in [1, 40] {
        let mut sizes = Sizes {
            batch: 1,
            n_heads: 4,
            n_kv_heads: 2,
            seq,
            kv_seq: 300,
            head_dim: 36,
            value_dim: 20,
        };
        let config = AttentionConfig::new(Mask::Full);
        let case = Case::new(sizes, config, 9);
        let [auto, base, faster] =
            [Variant::Auto, Variant::Base, Variant::Subgroups].map(|variant| run(&case, variant));
        assert_eq!(auto, faster, "{seq} queries");
        assert_ne!(base, faster, "{seq} queries: the same kernel");
        sizes.value_dim = 21;
        let case = Case::new(sizes, config, 9);
        assert_eq!(run(&case, Variant::Auto), run(&case, Variant::Base));
    }
}

/// What a variant needs is not replaced by something else.
#[test]
fn a_variant_that_cannot_run_is_refused() {
    let Some(gpu) = gpu() else { return };
    let config = AttentionConfig::new(Mask::Full);
    let slow = [Variant::Subgroups, Variant::F16, Variant::F16Matrices];
    for variant in slow {
        for (head_dim, value_dim) in [(6, 4), (4, 6), (0, 4), (4, 0)] {
            let q = gpu.zeros::<f32>(&[1, 1, 3, head_dim]).unwrap();
            let v = gpu.zeros::<f32>(&[1, 1, 3, value_dim]).unwrap();
            let mut r = gpu.recorder();
            let error = flash::forward_with(&mut r, &q, &q, &v, &config, variant).unwrap_err();
            let want = AttentionError::VectorFeatures {
                head_dim,
                value_dim,
            };
            assert_eq!(error, want, "{variant:?}");
        }
    }
    let refused = |mask: Masked, variant| {
        let options = GpuOptions {
            mask,
            ..GpuOptions::default()
        };
        let lesser = Gpu::new_blocking(&options).unwrap();
        let x = lesser.upload(&ones([1, 1, 3, 4])).unwrap();
        let mut r = lesser.recorder();
        flash::forward_with(&mut r, &x, &x, &x, &config, Variant::Auto).unwrap();
        flash::forward_with(&mut r, &x, &x, &x, &config, variant).unwrap_err()
    };
    let lacks = |feature, what| AttentionError::Gpu(GpuError::UnsupportedFeature { feature, what });
    let without_subgroups = Masked {
        subgroups: true,
        ..Masked::default()
    };
    let feature = "subgroups of 8 to 64 lanes";
    for (variant, what) in
        slow.into_iter()
            .zip(["Variant::Subgroups", "Variant::F16", "Variant::F16Matrices"])
    {
        assert_eq!(refused(without_subgroups, variant), lacks(feature, what));
    }
    if gpu
        .capabilities()
        .subgroups
        .is_none_or(|(smallest, _)| smallest < 8)
    {
        return; // the reason is the same with everything else
    }
    // The memory of the smallest device is enough.
    let options = GpuOptions {
        mask: Masked {
            limits: true,
            ..Masked::default()
        },
        ..GpuOptions::default()
    };
    let lesser = Gpu::new_blocking(&options).unwrap();
    let x = lesser.upload(&ones([1, 1, 3, 4])).unwrap();
    let mut r = lesser.recorder();
    for variant in [Variant::Subgroups, Variant::Auto] {
        flash::forward_with(&mut r, &x, &x, &x, &config, variant).unwrap();
    }
    let without_f16 = Masked {
        f16: true,
        ..Masked::default()
    };
    let want = lacks("f16", "flash_forward_2_f16");
    assert_eq!(refused(without_f16, Variant::F16), want);
    // Nobody asked for them.
    let feature = "cooperative matrices of f16 with sums in f32, 8 or 16 on a side";
    let want = lacks(feature, "Variant::F16Matrices");
    assert_eq!(refused(Masked::default(), Variant::F16Matrices), want);
}

/// Without a driver: each variant is recorded as wgpu wants it, whatever is empty, on a device that has everything.
#[test]
fn every_variant_records_on_a_large_card() {
    let gpu = noop(Profile::LargeNvidia).unwrap();
    let variants = [
        Variant::Auto,
        Variant::Base,
        Variant::Subgroups,
        Variant::F16,
        Variant::F16Matrices,
    ];
    for variant in variants {
        for (batch, seq, kv_seq) in [
            (1, 1, 300),
            (2, 40, 70),
            (1, 3, 0),
            (1, 1, 0),
            (0, 2, 2),
            (1, 0, 2),
        ] {
            let q = gpu.zeros::<f32>(&[batch, 4, seq, 128]).unwrap();
            let k = gpu.zeros::<f32>(&[batch, 2, kv_seq, 128]).unwrap();
            let v = gpu.zeros::<f32>(&[batch, 2, kv_seq, 160]).unwrap();
            let config = AttentionConfig::new(Mask::Full);
            let mut r = gpu.recorder();
            flash::forward_with(&mut r, &q, &k, &v, &config, variant).unwrap();
            r.submit().unwrap();
        }
    }
    gpu.check().unwrap();
}
