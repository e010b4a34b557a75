//! The look-ups with registers of 32 bytes.

use core::arch::x86_64::{__m256, __m256i};

use pulp::cast;
use pulp::x86::V3;

use super::short::ShortChunk;
use super::whole::{CHUNK, DIGIT, HALF, WholeChunk};
use crate::simd::prefetch;

/// How many chunks ahead of the one in hand is asked for: 4 KiB, two rows of many layers.
const AHEAD: usize = 128;

/// See [`Sixteen::decode`](super::Sixteen::decode).
#[inline(always)]
pub(super) fn decode(
    v3: V3,
    bytes: &[[u8; 16]; 4],
    packed: &[u8; 16],
    scale: f32,
    out: &mut [f32; 32],
) {
    let (avx, avx2) = (v3.avx, v3.avx2);
    let both = avx2._mm256_broadcastsi128_si256(cast(*packed));
    // Each byte twice; the upper half of the register gets the four codes that follow those of the lower half.
    let twice: [u8; 32] = [
        0, 0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13, //
        2, 2, 3, 3, 6, 6, 7, 7, 10, 10, 11, 11, 14, 14, 15, 15,
    ];
    let twice = avx2._mm256_shuffle_epi8(both, cast(twice));
    let high = avx2._mm256_and_si256(
        avx2._mm256_srli_epi16::<4>(twice),
        avx._mm256_set1_epi16(0x000f),
    );
    let low = avx2._mm256_and_si256(twice, avx._mm256_set1_epi16(0x0f00));
    let numbers = look_up(v3, tables(v3, bytes), avx2._mm256_or_si256(high, low));
    let scale = avx._mm256_set1_ps(scale);
    let (eights, _) = out.as_chunks_mut::<8>();
    for (eight, numbers) in eights.iter_mut().zip(numbers) {
        *eight = cast(avx._mm256_mul_ps(numbers, scale));
    }
}

/// See [`Sixteen::dots`](super::Sixteen::dots); slices of the same length, but for `packed`, which may be longer.
#[inline(always)]
pub(super) fn dots<const R: usize>(
    v3: V3,
    bytes: &[[u8; 16]; 4],
    packed: &[[u8; CHUNK / 2]],
    scales: &[f32],
    x: [&[WholeChunk]; R],
    totals: &mut [[f32; 8]; R],
) {
    let (avx, avx2) = (v3.avx, v3.avx2);
    let [low_a, low_b, high_a, high_b] = tables(v3, bytes);
    let mask = avx._mm256_set1_epi8(15);
    let mut sums = [avx._mm256_setzero_ps(); R];
    for (chunk, (bytes, &scale)) in packed.iter().zip(scales).enumerate() {
        if let Some(later) = packed.get(chunk + AHEAD) {
            prefetch(later);
        }
        let packed: __m256i = cast(*bytes);
        let nibbles = [
            avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(packed), mask),
            avx2._mm256_and_si256(packed, mask),
        ];
        let mut main = [avx._mm256_setzero_si256(); R];
        let mut cross = [avx._mm256_set1_epi32(HALF); R];
        for (nibble, codes) in nibbles.into_iter().enumerate() {
            let (a, b) = (
                avx2._mm256_shuffle_epi8(low_a, codes),
                avx2._mm256_shuffle_epi8(low_b, codes),
            );
            let (c, d) = (
                avx2._mm256_shuffle_epi8(high_a, codes),
                avx2._mm256_shuffle_epi8(high_b, codes),
            );
            let pairs = [
                (
                    avx2._mm256_unpacklo_epi8(c, d),
                    avx2._mm256_unpacklo_epi8(a, b),
                ),
                (
                    avx2._mm256_unpackhi_epi8(c, d),
                    avx2._mm256_unpackhi_epi8(a, b),
                ),
            ];
            for (k, (high, low)) in pairs.into_iter().enumerate() {
                for i in 0..R {
                    let [x_high, x_low] = x[i][chunk].digits[2 * nibble + k];
                    let (x_high, x_low) = (cast(x_high), cast(x_low));
                    let products = avx2._mm256_madd_epi16(high, x_high);
                    main[i] = avx2._mm256_add_epi32(main[i], products);
                    let products = avx2._mm256_add_epi32(
                        avx2._mm256_madd_epi16(high, x_low),
                        avx2._mm256_madd_epi16(low, x_high),
                    );
                    cross[i] = avx2._mm256_add_epi32(cross[i], products);
                }
            }
        }
        let scale = avx._mm256_set1_ps(scale);
        for i in 0..R {
            let carried = avx2._mm256_srai_epi32::<{ DIGIT as i32 }>(cross[i]);
            let sum = avx._mm256_cvtepi32_ps(avx2._mm256_add_epi32(main[i], carried));
            let factor = avx._mm256_mul_ps(scale, cast(x[i][chunk].unit));
            sums[i] = avx._mm256_add_ps(sums[i], avx._mm256_mul_ps(sum, factor));
        }
    }
    for i in 0..R {
        totals[i] = cast(sums[i]);
    }
}

/// See [`Sixteen::short_dots`](super::Sixteen::short_dots); slices of the same length, but for `packed`, which may be longer.
#[inline(always)]
pub(super) fn short_dots<const R: usize>(
    v3: V3,
    [low, high]: &[[u8; 16]; 2],
    packed: &[[u8; CHUNK / 2]],
    scales: &[f32],
    x: [&[ShortChunk]; R],
    totals: &mut [[f32; 8]; R],
) {
    let tables = [
        v3.avx2._mm256_broadcastsi128_si256(cast(*low)),
        v3.avx2._mm256_broadcastsi128_si256(cast(*high)),
    ];
    let mut sums = [v3.avx._mm256_setzero_ps(); R];
    // In pairs: what a loop costs is a third of the work for one chunk.
    let (pairs, _) = packed.as_chunks::<2>();
    let (scale_pairs, last_scale) = scales.as_chunks::<2>();
    let mut x_pairs: [&[[ShortChunk; 2]]; R] = [&[]; R];
    for i in 0..R {
        (x_pairs[i], _) = x[i].as_chunks::<2>();
        x_pairs[i] = &x_pairs[i][..scale_pairs.len()];
    }
    for (pair, (bytes, scales)) in pairs.iter().zip(scale_pairs).enumerate() {
        if let Some(later) = pairs.get(pair + AHEAD / 2) {
            prefetch(later);
        }
        for half in 0..2 {
            let numbers = short_numbers(v3, tables, &bytes[half]);
            for i in 0..R {
                sums[i] = add_short(v3, sums[i], &numbers, scales[half], &x_pairs[i][pair][half]);
            }
        }
    }
    if let ([scale], Some(bytes)) = (last_scale, packed.get(scales.len() - 1)) {
        let numbers = short_numbers(v3, tables, bytes);
        for i in 0..R {
            if let Some(x) = x[i].last() {
                sums[i] = add_short(v3, sums[i], &numbers, *scale, x);
            }
        }
    }
    for i in 0..R {
        totals[i] = cast(sums[i]);
    }
}

/// The numbers of a chunk, in the order of [`ShortChunk`].
#[inline(always)]
fn short_numbers(v3: V3, [low, high]: [__m256i; 2], bytes: &[u8; CHUNK / 2]) -> [__m256i; 4] {
    let (avx, avx2) = (v3.avx, v3.avx2);
    let mask = avx._mm256_set1_epi8(15);
    let packed: __m256i = cast(*bytes);
    let upper = avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(packed), mask);
    let lower = avx2._mm256_and_si256(packed, mask);
    let (a, b) = (
        avx2._mm256_shuffle_epi8(low, upper),
        avx2._mm256_shuffle_epi8(high, upper),
    );
    let (c, d) = (
        avx2._mm256_shuffle_epi8(low, lower),
        avx2._mm256_shuffle_epi8(high, lower),
    );
    [
        avx2._mm256_unpacklo_epi8(a, b),
        avx2._mm256_unpackhi_epi8(a, b),
        avx2._mm256_unpacklo_epi8(c, d),
        avx2._mm256_unpackhi_epi8(c, d),
    ]
}

#[inline(always)]
fn add_short(v3: V3, sum: __m256, numbers: &[__m256i; 4], scale: f32, x: &ShortChunk) -> __m256 {
    let (avx, avx2) = (v3.avx, v3.avx2);
    let product = |k: usize| avx2._mm256_madd_epi16(numbers[k], cast(x.numbers[k]));
    let products = avx2._mm256_add_epi32(
        avx2._mm256_add_epi32(product(0), product(1)),
        avx2._mm256_add_epi32(product(2), product(3)),
    );
    let factor = avx._mm256_mul_ps(avx._mm256_set1_ps(scale), cast(x.unit));
    avx._mm256_add_ps(
        sum,
        avx._mm256_mul_ps(avx._mm256_cvtepi32_ps(products), factor),
    )
}

#[inline(always)]
fn tables(v3: V3, bytes: &[[u8; 16]; 4]) -> [__m256i; 4] {
    let [a, b, c, d] = *bytes;
    [
        v3.avx2._mm256_broadcastsi128_si256(cast(a)),
        v3.avx2._mm256_broadcastsi128_si256(cast(b)),
        v3.avx2._mm256_broadcastsi128_si256(cast(c)),
        v3.avx2._mm256_broadcastsi128_si256(cast(d)),
    ]
}

/// The numbers of 32 codes, one a byte: the first four of each half of the register, the next four, and so on.
#[inline(always)]
fn look_up(v3: V3, [a, b, c, d]: [__m256i; 4], codes: __m256i) -> [__m256; 4] {
    let (avx, avx2) = (v3.avx, v3.avx2);
    let (a, b) = (
        avx2._mm256_shuffle_epi8(a, codes),
        avx2._mm256_shuffle_epi8(b, codes),
    );
    let (c, d) = (
        avx2._mm256_shuffle_epi8(c, codes),
        avx2._mm256_shuffle_epi8(d, codes),
    );
    let lower = [
        avx2._mm256_unpacklo_epi8(a, b),
        avx2._mm256_unpackhi_epi8(a, b),
    ];
    let upper = [
        avx2._mm256_unpacklo_epi8(c, d),
        avx2._mm256_unpackhi_epi8(c, d),
    ];
    [
        avx._mm256_castsi256_ps(avx2._mm256_unpacklo_epi16(lower[0], upper[0])),
        avx._mm256_castsi256_ps(avx2._mm256_unpackhi_epi16(lower[0], upper[0])),
        avx._mm256_castsi256_ps(avx2._mm256_unpacklo_epi16(lower[1], upper[1])),
        avx._mm256_castsi256_ps(avx2._mm256_unpackhi_epi16(lower[1], upper[1])),
    ]
}
