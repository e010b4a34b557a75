//! ALiBi with any number of heads, slopes and distances: finite slopes, a bias of the right shape, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::alibi::{self, AlibiOrigin, MAX_HEADS};
use ndarray::Array1;

fuzz_target!(|input: (usize, f64, [u8; 3], [usize; 4], Vec<f32>)| {
    let (n_heads, max_bias, [kind, seq, kv_seq], [query, key, length, kv_length], slopes) = input;
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
});
