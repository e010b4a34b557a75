//! ALiBi with any number of heads, slopes, distances, masks and key positions: finite slopes, a bias of the right shape,
//! or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::alibi::{self, AlibiOrigin, AlibiRounding, MAX_HEADS};
use ndarray::{Array1, Array2};

type Input = (
    usize,
    f64,
    [u8; 3],
    [usize; 4],
    Vec<f32>,
    Vec<bool>,
    Vec<usize>,
);

fuzz_target!(|input: Input| {
    let (n_heads, max_bias, [kind, seq, kv_seq], lengths, slopes, mask, positions) = input;
    let [query, key, length, kv_length] = lengths;
    match alibi::slopes(n_heads, max_bias) {
        Ok(slopes) => {
            assert!((1..=MAX_HEADS).contains(&n_heads) && max_bias >= 0.0);
            assert!(slopes.len() == n_heads && slopes.iter().all(|x| (0.0..=1.0).contains(x)));
        }
        Err(_) => assert!(
            !((1..=MAX_HEADS).contains(&n_heads) && max_bias.is_finite() && max_bias >= 0.0)
        ),
    }
    let origin = [
        AlibiOrigin::KeyIndex,
        AlibiOrigin::LastKeyZero,
        AlibiOrigin::AbsoluteDistance,
        AlibiOrigin::SignedDistance,
        AlibiOrigin::PastDistance,
    ][usize::from(kind % 5)];
    let _ = alibi::distance(query, key, length, kv_length, origin);

    let (seq, kv_seq) = (usize::from(seq % 32), usize::from(kv_seq % 32));
    let slopes: Array1<f32> = slopes.into_iter().take(64).collect();
    if let Ok(bias) = alibi::bias(&slopes, seq, kv_seq, origin) {
        assert_eq!(bias.dim(), (slopes.len(), seq, kv_seq));
        let gradient = alibi::backward(&bias, origin);
        assert!(gradient.is_ok_and(|gradient| gradient.len() == slopes.len()));
    }

    let batch = usize::from(kind / 5 % 4);
    let columns = mask.len() / batch.max(1);
    let mask = Array2::from_shape_fn((batch, columns), |(b, j)| mask[b * columns + j]);
    let counted = alibi::key_positions(&mask);
    assert!(counted.is_ok_and(|counted| counted.dim() == mask.dim()
        && counted.iter().all(|&position| position <= columns)));

    let columns = (positions.len() / batch.max(1)).min(64);
    let positions = Array2::from_shape_fn((batch, columns), |(b, j)| positions[b * columns + j]);
    let rounding = [AlibiRounding::Product, AlibiRounding::Bfloat16][usize::from(kind >> 7)];
    if let Ok(bias) = alibi::bias_at(&slopes, &positions, rounding) {
        assert_eq!(bias.dim(), (batch, slopes.len(), 1, columns));
        assert!(bias.iter().all(|x| *x >= 0.0)); // finite slopes, so no NaN
        let gradient = alibi::backward_at(&bias, &positions);
        assert!(gradient.is_ok_and(|gradient| gradient.len() == slopes.len()));
    }
});
