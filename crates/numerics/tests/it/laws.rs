//! Laws and known answers of the number traits, softmax, the product and Philox.

use llm_numerics::half::{bf16, f16};
use llm_numerics::philox::Philox4x32;
use llm_numerics::{
    Float, NumericsError, Storage, gemm, memory, reference, simd, softmax, threads,
};
use ndarray::{Array1, Array2, ArrayView2, array, s};
use proptest::prelude::*;

// Random123 1.14, tests/kat_vectors, lines "philox4x32 10".
#[test]
fn philox_gives_the_known_answers_of_random123() {
    let zero = Philox4x32::new(0);
    assert_eq!(
        zero.block([0; 4]),
        [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
    );
    let ones = Philox4x32::new(u64::MAX);
    assert_eq!(
        ones.block([u32::MAX; 4]),
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
    );
    let pi = Philox4x32::new(0x299f_31d0_a409_3822);
    assert_eq!(
        pi.block([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

#[test]
fn philox_streams_do_not_overlap_and_words_follow_the_blocks() {
    let random = Philox4x32::new(7);
    let block = random.block([1, 0, 9, 0]);
    for (i, word) in block.into_iter().enumerate() {
        assert_eq!(random.u32_at(9, 4 + i as u64), word);
    }
    assert_ne!(random.u32_at(9, 4), random.u32_at(10, 4));
    assert_ne!(random.u32_at(1 << 32, 0), random.u32_at(0, 0));
}

#[test]
fn philox_uniform_and_normal_have_the_right_moments() {
    let random = Philox4x32::new(3);
    let n = 100_000_u64;
    let uniform: Vec<f64> = (0..n).map(|i| random.uniform_f64(1, i)).collect();
    let normal: Vec<f64> = (0..n).map(|i| random.normal_f64(2, i)).collect();
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    // Five standard errors: 0.289, 0.298, 1, 1.414 over sqrt(n).
    assert!((mean(&uniform) - 0.5).abs() < 0.0046);
    assert!((square(&uniform) - 1.0 / 3.0).abs() < 0.0047);
    assert!(mean(&normal).abs() < 0.016);
    assert!((square(&normal) - 1.0).abs() < 0.023);
    assert!(uniform.iter().all(|u| (0.0..1.0).contains(u)));
    assert!((0..n).all(|i| (0.0..1.0).contains(&random.uniform_f32(1, i))));
    assert!((0..n).all(|i| random.below(1, i, 7) < 7));
    assert_eq!(random.below(1, 0, 0), 0);
}

#[test]
fn fast_exp_is_within_two_units_in_the_last_place() {
    // Every 97th float between -87 and 88.72, both signs.
    let mut worst = 0.0_f64;
    let bits = (0..0x42b1_7200_u32).step_by(97);
    for x in bits.flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)]) {
        if !(-87.0..=88.72).contains(&x) {
            continue;
        }
        let exact = f64::from(x).exp();
        let ulp = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
        worst = worst.max((f64::from(x.fast_exp()) - exact).abs() / ulp);
    }
    assert!(worst <= 2.0, "{worst} ulp");
}

#[test]
fn fast_exp_has_no_hole_where_it_overflows() {
    let edge = 88.722_83_f32;
    assert!(edge.fast_exp().is_finite());
    let mut x = edge;
    for _ in 0..16 {
        x = x.next_down();
    }
    for _ in 0..32 {
        assert_eq!(x.fast_exp().is_infinite(), x > edge, "{x}");
        assert!(!x.fast_exp().is_nan(), "{x}");
        assert!((-x).sigmoid() >= 0.0 && (-x).sigmoid() < 1e-37, "{x}");
        x = x.next_up();
    }
}

/// Every 97th float from the smallest to beyond where `f32` rounds to 1, both signs.
#[test]
fn fast_tanh_is_within_1_4_units_in_the_last_place() {
    let mut worst = 0.0_f64;
    for bits in (0..=12.0_f32.to_bits()).step_by(97) {
        let x = f32::from_bits(bits);
        let exact = f64::from(x).tanh();
        // The unit on the side of zero, which at 1 is the smaller one.
        let near = exact as f32;
        let ulp = match near {
            0.0 => f64::from(f32::from_bits(1)),
            _ => f64::from(near) - f64::from(near.next_down()),
        };
        let got = x.fast_tanh();
        worst = worst.max((f64::from(got) - exact).abs() / ulp);
        assert_eq!((-x).fast_tanh().to_bits(), (-got).to_bits(), "{x}"); // odd
    }
    assert!(worst <= 1.4, "{worst} ulp");
}

/// No step at the border between the two formulas that a rounding does not explain.
#[test]
fn fast_tanh_does_not_jump_where_its_formula_changes() {
    let mut x = 0.625_f32;
    for _ in 0..64 {
        x = x.next_down();
    }
    for _ in 0..128 {
        let next = x.next_up();
        let step = (next.fast_tanh() - x.fast_tanh()).abs();
        assert!(step <= 3.0 * f32::EPSILON / 2.0, "{x}"); // units of [0.5, 1)
        x = next;
    }
}

#[test]
fn fast_tanh_handles_the_ends() {
    for x in [
        0.0,
        -0.0,
        f32::from_bits(1),
        -f32::MIN_POSITIVE,
        1e-30,
        -1e-5,
    ] {
        assert_eq!(x.fast_tanh().to_bits(), x.to_bits(), "{x}");
    }
    for x in [10.0, 44.0, 45.0, 1e30, f32::MAX, f32::INFINITY] {
        assert_eq!(x.fast_tanh(), 1.0, "{x}");
        assert_eq!((-x).fast_tanh(), -1.0, "{x}");
    }
    assert!(f32::NAN.fast_tanh().is_nan());
    assert!(f64::NAN.fast_tanh().is_nan());
    assert_eq!(0.25_f64.fast_tanh(), 0.25_f64.tanh());
}

/// All of the 65536 numbers that there are, in slices that do and do not fill registers.
#[test]
fn half_precision_is_widened_exactly() {
    let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    for length in [1, 7, 8, 9, 1 << 16] {
        for narrow in all.chunks(length) {
            let mut wide = vec![f32::NAN; narrow.len()];
            simd::widen_f16(narrow, &mut wide);
            for (narrow, wide) in narrow.iter().zip(wide) {
                let bits = narrow.to_bits();
                let (exponent, fraction) = (bits >> 10 & 31, f64::from(bits & 1023));
                let size = match exponent {
                    0 => fraction * 2_f64.powi(-24),
                    31 if fraction == 0.0 => f64::INFINITY,
                    31 => f64::NAN,
                    _ => (1024.0 + fraction) * 2_f64.powi(i32::from(exponent) - 25),
                };
                let want = if bits >> 15 == 1 { -size } else { size };
                let same =
                    f64::from(wide) == want && wide.is_sign_negative() == want.is_sign_negative();
                assert!(same || (wide.is_nan() && want.is_nan()), "{bits:x}: {wide}");
            }
        }
    }
    // The leading elements that both slices have.
    let mut wide = [9.0; 2];
    simd::widen_f16(&[f16::ONE; 3], &mut wide);
    assert_eq!(wide, [1.0; 2]);
    let mut wide = [9.0; 3];
    simd::widen_f16(&[f16::ONE; 2], &mut wide);
    assert_eq!(wide, [1.0, 1.0, 9.0]);
}

/// A vocabulary of nearly equal logits: the sum must not lose its small terms.
#[test]
fn softmax_of_a_long_row_keeps_its_precision() {
    let random = Philox4x32::new(9);
    let x: Vec<f32> = (0..150_000).map(|i| random.uniform_f32(0, i)).collect();
    let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let want = reference::softmax::softmax(&wide);
    let mut got = x.clone();
    let lse = softmax::softmax_slice(&mut got);
    for (got, want) in got.iter().zip(&want) {
        assert!(close(f64::from(*got), *want, 6e-7), "{got} {want}");
    }
    let want = reference::softmax::log_sum_exp(&wide);
    assert!((f64::from(lse) - want).abs() < 1e-6);
    assert!((f64::from(softmax::log_sum_exp(&x)) - want).abs() < 1e-6);
}

#[test]
fn fast_exp_handles_the_ends() {
    assert_eq!(0.0_f32.fast_exp(), 1.0);
    assert_eq!(f32::NEG_INFINITY.fast_exp(), 0.0);
    assert_eq!((-88.0_f32).fast_exp(), 0.0);
    assert_eq!(f32::INFINITY.fast_exp(), f32::INFINITY);
    assert_eq!(89.0_f32.fast_exp(), f32::INFINITY);
    assert!(f32::NAN.fast_exp().is_nan());
    assert!(f64::NAN.fast_exp().is_nan());
    assert_eq!(f32::NEG_INFINITY.sigmoid(), 0.0);
    assert_eq!(f32::INFINITY.sigmoid(), 1.0);
    assert_eq!(0.0_f32.sigmoid(), 0.5);
}

#[test]
fn storage_types_round_to_nearest_even() {
    // The article: 255 + 0..4 in bfloat16.
    let positions = [255.0, 256.0, 257.0, 258.0, 259.0].map(|x| bf16::from_f32(x).to_f32());
    assert_eq!(positions, [255.0, 256.0, 256.0, 258.0, 260.0]);
    assert_eq!(<f16 as Storage>::from_f32(2049.0).to_f32(), 2048.0);
    assert_eq!(<f32 as Storage>::from_f32(2049.0), 2049.0);
    assert_eq!(Storage::to_f32(bf16::from_f32(0.5)), 0.5);
}

#[test]
fn a_product_refuses_shapes_that_do_not_fit() {
    let a = Array2::<f32>::zeros((2, 3));
    let b = Array2::<f32>::zeros((4, 5));
    assert_eq!(
        gemm::matmul(&a, &b),
        Err(NumericsError::InnerAxis {
            a: [2, 3],
            b: [4, 5]
        })
    );
    let mut out = Array2::zeros((2, 4));
    assert_eq!(
        gemm::general_matmul(1.0, &a, &Array2::zeros((3, 5)), 0.0, &mut out),
        Err(NumericsError::OutShape {
            expected: [2, 5],
            got: [2, 4]
        })
    );
}

#[test]
fn a_product_that_no_memory_can_hold_is_an_error() {
    for [m, n] in [[1 << 32, 1 << 32], [1 << 30, 1 << 24], [usize::MAX >> 1, 3]] {
        let a = ArrayView2::<f32>::from_shape((m, 0), &[]).unwrap();
        let b = ArrayView2::<f32>::from_shape((0, n), &[]).unwrap();
        let error = gemm::matmul(&a, &b).unwrap_err();
        assert_eq!(error, NumericsError::TooLarge { shape: [m, n] });
    }
}

#[test]
fn a_product_with_beta_zero_does_not_read_the_output() {
    let mut out = array![[f64::NAN]];
    gemm::general_matmul(1.0, &array![[2.0]], &array![[3.0]], 0.0, &mut out).unwrap();
    assert_eq!(out, array![[6.0]]);
    let (a, b) = (Array2::zeros((1, 0)), Array2::zeros((0, 1)));
    let mut out = array![[f64::NAN]];
    gemm::general_matmul(1.0, &a, &b, 0.0, &mut out).unwrap();
    assert_eq!(out, array![[0.0]]);
    let mut out = array![[4.0]];
    gemm::general_matmul(1.0, &a, &b, 0.5, &mut out).unwrap();
    assert_eq!(out, array![[2.0]]);
}

/// The cut into tasks is by shape, so the pool's size cannot show in the bits.
#[test]
#[cfg(feature = "fast")]
fn a_product_has_the_same_bits_for_any_number_of_threads() {
    for shape in [(700, 130, 257), (3, 2000, 5000), (1000, 1, 40_000)] {
        let (m, k, n) = shape;
        let random = Philox4x32::new(5);
        let draw = |stream| move |(i, j)| random.normal_f64(stream, (i * 50_000 + j) as u64) as f32;
        let a = Array2::from_shape_fn((m, k), draw(0));
        let b = Array2::from_shape_fn((k, n), draw(1));
        let product = |n_threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(n_threads)
                .build()
                .unwrap()
                .install(|| gemm::matmul(&a, &b).unwrap())
        };
        let one = product(1);
        // The cut puts every part in its place.
        let wide = reference::gemm::matmul(&a.mapv(f64::from), &b.mapv(f64::from)).unwrap();
        let far = |(x, y): (&f32, &f64)| (f64::from(*x) - y).abs() > 1e-3;
        assert!(!one.iter().zip(&wide).any(far), "{shape:?}");
        for n_threads in [2, 3, 8] {
            assert!(one == product(n_threads), "{shape:?}, {n_threads} threads");
        }
    }
}

#[test]
fn threads_keep_the_order() {
    assert_eq!(
        threads::map((0..100).collect(), |i: usize| i * i),
        (0..100).map(|i| i * i).collect::<Vec<_>>()
    );
    let sum = std::sync::atomic::AtomicUsize::new(0);
    threads::for_each((0..10).collect(), |i: usize| {
        sum.fetch_add(i, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(sum.into_inner(), 45);
}

#[test]
fn a_masked_row_gives_zeros_and_a_poisoned_row_gives_nan() {
    let low = f64::NEG_INFINITY;
    let mut x = array![
        [low, low],
        [f64::NAN, low],
        [1.0, f64::NAN],
        [f64::INFINITY, 0.0]
    ];
    softmax::softmax_inplace(&mut x);
    assert_eq!(x.row(0), array![0.0, 0.0]);
    for i in 1..4 {
        assert!(x.row(i).iter().any(|x| x.is_nan()), "row {i}");
    }
    assert_eq!(softmax::log_sum_exp(&[low, low]), low);
    assert_eq!(softmax::log_sum_exp(&[f64::INFINITY, low]), f64::INFINITY);
    assert!(softmax::log_sum_exp(&[f64::NAN, low]).is_nan());
    assert!(softmax::log_sum_exp(&[f64::NAN, f64::INFINITY]).is_nan());
    assert!(softmax::log_sum_exp(&[f64::NAN, 1.0]).is_nan());
    let mut masked = array![low, low];
    softmax::log_softmax_inplace(&mut masked);
    assert_eq!(masked, array![low, low]);
    softmax::softmax_inplace(&mut Array2::<f32>::zeros((0, 3)));
    softmax::softmax_inplace(&mut Array2::<f32>::zeros((3, 0)));
    softmax::softmax_inplace(&mut ndarray::arr0(1.0_f32));
}

fn close(got: f64, want: f64, rel: f64) -> bool {
    got == want || (got - want).abs() <= rel * want.abs().max(1e-30)
}

/// Rows over the whole range of floats, with masked elements.
fn row() -> impl Strategy<Value = Vec<f32>> {
    let element = prop_oneof![
        8 => -30.0_f32..30.0,
        1 => -1e30_f32..1e30,
        1 => Just(f32::NEG_INFINITY),
    ];
    prop::collection::vec(element, 0..300)
}

proptest! {
    #[test]
    fn softmax_equals_the_textbook(x in row()) {
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let want = reference::softmax::softmax(&wide);
        let mut got64 = Array1::from(wide.clone());
        softmax::softmax_inplace(&mut got64);
        let mut got32 = x.clone();
        let lse32 = softmax::softmax_slice(&mut got32);
        for ((&got64, &got32), &want) in got64.iter().zip(&got32).zip(&want) {
            prop_assert!(close(got64, want, 1e-12), "{got64} {want}");
            prop_assert!(close(f64::from(got32), want, 1e-5) || want < 1e-36, "{got32} {want}");
        }
        let want = reference::softmax::log_sum_exp(&wide);
        prop_assert!(close(softmax::log_sum_exp(&wide), want, 1e-12));
        // f32: half a unit in the last place of the maximum, and of the logarithm's terms.
        let lse = f64::from(softmax::log_sum_exp(&x));
        prop_assert!(lse == want || (lse - want).abs() <= 1e-6 + 2e-7 * want.abs(), "{lse} {want}");
        prop_assert!(lse32 == want as f32 || (f64::from(lse32) - want).abs() <= 1e-6 + 2e-7 * want.abs());
    }

    #[test]
    fn softmax_is_a_distribution_and_ignores_shifts(x in row(), shift in -20.0_f64..20.0) {
        prop_assume!(x.iter().any(|x| *x > f32::NEG_INFINITY));
        let x = Array1::from_iter(x.iter().map(|&x| f64::from(x.clamp(f32::NEG_INFINITY, 1e3))));
        let mut p = x.clone();
        softmax::softmax_inplace(&mut p);
        prop_assert!((p.sum() - 1.0).abs() < 1e-12);
        let mut q = x.mapv(|x| x + shift);
        softmax::softmax_inplace(&mut q);
        for (p, q) in p.iter().zip(&q) {
            prop_assert!((p - q).abs() < 1e-9);
        }
    }

    #[test]
    fn rows_that_are_not_contiguous_give_the_same(x in prop::collection::vec(-5.0_f32..5.0, 12)) {
        let x = Array2::from_shape_vec((3, 4), x).unwrap();
        let mut direct = x.t().to_owned();
        softmax::softmax_inplace(&mut direct);
        let mut strided = x.clone();
        softmax::softmax_inplace(&mut strided.view_mut().reversed_axes());
        prop_assert_eq!(direct, strided.t());
    }

    #[test]
    fn the_product_equals_three_loops(
        m in 0_usize..20, k in 0_usize..20, n in 0_usize..20,
        alpha in -2.0_f64..2.0, beta in prop_oneof![Just(0.0), Just(1.0), -2.0_f64..2.0],
        layout in 0_usize..8, seed in any::<u64>(),
    ) {
        let random = Philox4x32::new(seed);
        let draw = |stream| move |(i, j)| random.normal_f64(stream, (i * 64 + j) as u64);
        // Either order of axes for each of the three arrays, and rows skipped.
        let make = |stream, rows: usize, columns: usize, turned: bool| {
            if turned {
                Array2::from_shape_fn((columns, rows), draw(stream)).reversed_axes()
            } else {
                Array2::from_shape_fn((rows, columns), draw(stream))
            }
        };
        let a = make(0, 2 * m, k, layout & 1 != 0);
        let a = a.slice(s![..;2, ..]);
        let b = make(1, k, n, layout & 2 != 0);
        let mut out = make(2, m, n, layout & 4 != 0);
        let product = reference::gemm::matmul(&a, &b).unwrap();
        let want = &product * alpha + &out * beta;
        gemm::general_matmul(alpha, &a, &b, beta, &mut out).unwrap();
        for (got, want) in out.iter().zip(&want) {
            prop_assert!((got - want).abs() < 1e-12);
        }
        let got = gemm::matmul(&a.mapv(|x| x as f32), &b.mapv(|x| x as f32)).unwrap();
        for (got, want) in got.iter().zip(&product) {
            prop_assert!((f64::from(*got) - want).abs() < 1e-4);
        }
    }

    #[test]
    fn sums_in_lanes_equal_plain_sums(x in prop::collection::vec(-1.0_f64..1.0, 0..100)) {
        let y: Vec<f64> = x.iter().rev().copied().collect();
        let dot: f64 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
        simd::vectorize(|| {
            assert!((simd::sum(&x) - x.iter().sum::<f64>()).abs() < 1e-12);
            assert!((simd::dot(&x, &y) - dot).abs() < 1e-12);
            assert_eq!(simd::max(&x), x.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        });
    }
}

proptest! {
    #[test]
    fn bits_of_large_numbers(
        mut block in prop::collection::vec(-3.0_f32..3.0, 64),
        bound in -3.0_f32..3.0,
        special in 0_usize..64,
    ) {
        block[special] = f32::NAN;
        block[(special + 1) % 64] = bound;
        block[(special + 2) % 64] = f32::NEG_INFINITY;
        block[(special + 3) % 64] = f32::INFINITY;
        let narrow: &[f32; 64] = block[..].try_into().unwrap();
        let wide = narrow.map(f64::from);
        let bits = simd::vectorize(|| simd::at_least(narrow, bound));
        prop_assert_eq!(bits, simd::at_least(narrow, bound)); // outside of vector code too
        prop_assert_eq!(bits, simd::at_least(&wide, f64::from(bound)));
        for (i, x) in block.iter().enumerate() {
            prop_assert_eq!(bits >> i & 1 == 1, x.is_nan() || *x >= bound, "{} {}", i, x);
        }
    }

    /// Several rows at once: the same bits as one by one, and the sums that they should be.
    #[test]
    fn products_of_a_few_rows(
        rows in prop::collection::vec(prop::collection::vec(-1.0_f64..1.0, 37), 6),
        n in 0_usize..=37,
    ) {
        few_rows(&rows, n, 1e-12)?;
        let rows: Vec<Vec<f32>> = rows.iter().map(|row| row.iter().map(|&x| x as f32).collect()).collect();
        few_rows(&rows, n, 37.0 * 37.0 * f64::from(f32::EPSILON))?;
    }
}

/// Three rows and three others, of which some are longer than `n`.
fn few_rows<F: Float>(rows: &[Vec<F>], n: usize, tolerance: f64) -> Result<(), TestCaseError> {
    let row = |i: usize| &rows[i][..n];
    let (a, b) = ([row(0), row(1), row(2)], [row(3), row(4), &rows[5][..]]);
    let start = F::from_f64(0.5);
    let (products, fused, sums) = simd::vectorize(|| {
        let mut sums = [[start; 37]; 3];
        simd::prefetch(row(0));
        let products = simd::dots(a, b);
        simd::add_weighted_fused(sums.as_flattened_mut(), products, b);
        (products, simd::dots_fused(a, b), sums)
    });
    for i in 0..3 {
        let weighted = |f: usize| {
            let of = |j: usize| products[i][j].as_f64() * b[j][f].as_f64();
            (0..3).map(of).sum::<f64>()
        };
        for j in 0..3 {
            let pairs = a[i].iter().zip(b[j]);
            let want: f64 = pairs.map(|(x, y)| x.as_f64() * y.as_f64()).sum();
            prop_assert!((products[i][j].as_f64() - want).abs() < tolerance);
            prop_assert!((fused[i][j].as_f64() - want).abs() < tolerance);
            prop_assert_eq!(simd::dots([a[i]], [b[j]]), [[products[i][j]]]);
            prop_assert_eq!(simd::dots_fused([a[i]], [b[j]]), [[fused[i][j]]]);
        }
        for (f, sum) in sums[i][..n].iter().enumerate() {
            prop_assert!((sum.as_f64() - 0.5 - weighted(f)).abs() < tolerance);
        }
        prop_assert!(sums[i][n..].iter().all(|x| *x == start));
        let mut alone = [start; 37];
        for (product, b) in products[i].iter().zip(b) {
            simd::add_weighted_fused(&mut alone[..n], [[*product]], [b]);
        }
        prop_assert_eq!(alone, sums[i]);
    }
    Ok(())
}

/// Two products that cancel but for what rounding takes away.
#[cfg(all(feature = "fast", target_arch = "x86_64"))]
#[test]
fn products_are_fused_where_the_processor_can() {
    if !(std::is_x86_feature_detected!("fma") && std::is_x86_feature_detected!("avx2")) {
        return;
    }
    // x x = 1 + 2 e + e e, of which the last is lost where the product is rounded.
    let (x, rounded) = (1.0 + f32::EPSILON, 1.0 + 2.0 * f32::EPSILON);
    let small = f32::EPSILON * f32::EPSILON;
    let (mut a, mut b) = ([0.0; 16], [0.0; 16]);
    (a[0], b[0], a[8], b[8]) = (-rounded, 1.0, x, x); // two products of one running sum
    for n in [9, 16] {
        assert_eq!(simd::dots_fused([&a[..n]], [&b[..n]]), [[small]]);
        let mut sums = vec![-rounded; n];
        simd::add_weighted_fused(&mut sums, [[x]], [&vec![x; n][..]]);
        assert_eq!(sums, vec![small; n]);
    }
}

/// Neither rows nor sums: nothing happens.
#[test]
fn products_of_no_rows() {
    let mut sums = [1.0_f32, 2.0];
    simd::add_weighted_fused::<f32, 1, 0>(&mut sums, [[]], []);
    simd::add_weighted_fused::<f32, 0, 1>(&mut sums, [], [&[5.0, 6.0]]);
    simd::add_weighted_fused(&mut [], [[1.0]], [&[5.0_f32]]);
    assert_eq!(sums, [1.0, 2.0]);
    let none: [[f32; 0]; 1] = simd::dots([&[1.0]], []);
    assert!(none[0].is_empty());
    assert_eq!(simd::dots::<f32, 1, 1>([&[]], [&[3.0]]), [[0.0]]);
    let none: [[f32; 0]; 1] = simd::dots_fused([&[1.0]], []);
    assert!(none[0].is_empty());
    assert_eq!(simd::dots_fused::<f32, 1, 1>([&[]], [&[3.0]]), [[0.0]]);
}

#[test]
fn no_list_is_longer_than_memory() {
    assert!(memory::has_room::<f64>(0));
    assert!(memory::has_room::<f64>(1 << 10));
    // More bytes than addresses; and without a size, more elements than bytes.
    assert!(!memory::has_room::<f64>(1 << 61));
    assert!(!memory::has_room::<()>(1 << 63));
}

#[test]
fn small_numbers_are_rounded_to_the_nearest_integer() {
    for (x, n) in [
        (0.0_f32, 0),
        (0.5, 0),
        (1.5, 2),
        (2.5, 2),
        (1022.6, 1023),
        (4_194_303.0, 4_194_303),
    ] {
        assert_eq!(f64::from(x).round_small(), n, "{x}");
        assert_eq!(x.round_small(), n, "{x}");
    }
}
