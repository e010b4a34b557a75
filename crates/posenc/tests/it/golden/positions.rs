//! Known answers: the article's collision, and the number formats by hand.

use llm_numerics::half::{bf16, f16};
use llm_posenc::positions::{collisions, first_collision, positions_in};
use ndarray::{Array1, array};

// The article: 255, 256, 256, 258, 260. It adds 1, 2, 3, 4 to 255 in bfloat16, which rounds each sum once, as a cast does.
#[test]
fn the_collision_of_the_article() {
    let want = array![255.0, 256.0, 256.0, 258.0, 260.0];
    let kept = positions_in::<bf16>(&array![255, 256, 257, 258, 259]).unwrap();
    assert_eq!(kept, want);
    let start = bf16::from_f32(255.0);
    let sums = Array1::from_iter((0..5_u8).map(|k| (start + bf16::from(k)).to_f32()));
    assert_eq!(sums, want);
}

// The article plots the last 100 of 4096 positions. From 2048 on, bfloat16 has steps of 16: 3996 and 3997 become 4000,
// 4095 becomes 4096, and 4000, 4016, .., 4096 are seven numbers.
#[test]
fn the_plot_of_the_article_has_seven_levels() {
    let positions = Array1::from_iter(3996..4096);
    let kept = positions_in::<bf16>(&positions).unwrap();
    assert_eq!(kept[0], 4000.0);
    let levels: std::collections::BTreeSet<u32> = kept.iter().map(|&x| x as u32).collect();
    assert_eq!(
        levels.into_iter().collect::<Vec<_>>(),
        [4000, 4016, 4032, 4048, 4064, 4080, 4096]
    );
}

// 8 digits: 2^8 = 256; 11 digits: 2^11 = 2048; 24 digits: 2^24.
#[test]
fn the_first_collisions() {
    assert_eq!(first_collision::<bf16>(), Some(256));
    assert_eq!(first_collision::<f16>(), Some(2048));
    assert_eq!(first_collision::<f32>(), Some(16_777_216));
    let kept = positions_in::<f16>(&array![2047, 2048, 2049, 2050, 2051]).unwrap();
    assert_eq!(kept, array![2047.0, 2048.0, 2048.0, 2050.0, 2052.0]);
}

// f16: the largest number is 65504; halfway to 65536 is 65520, a tie that goes to infinity. All later ones are one.
#[test]
fn half_precision_ends_at_infinity() {
    let kept = positions_in::<f16>(&array![65_503, 65_519, 65_520, 1_000_000]).unwrap();
    assert_eq!(
        kept,
        array![65_504.0, 65_504.0, f32::INFINITY, f32::INFINITY]
    );
    let last = collisions::<f16>(65_000..1 << 40).last().unwrap();
    assert_eq!(
        (last.first, last.last, last.value),
        (65_520, (1 << 40) - 1, f32::INFINITY)
    );
}

// Through f32, as torch 2.15.0: 2^32 + 2^24 + 1 is above the middle of two bf16 numbers, but f32 rounds it to the
// middle, and the tie goes down to 2^32 (`torch.tensor(2**32 + 2**24 + 1).to(torch.bfloat16)` is 4294967296).
#[test]
fn casts_round_twice_as_in_torch() {
    let kept = positions_in::<bf16>(&array![(1 << 32) + (1 << 24) + 1]).unwrap();
    assert_eq!(kept, array![4_294_967_296.0]);
}
