//! Laws of rotations of arrays in half precision.

use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use llm_posenc::reference;
use llm_posenc::rope::{self, RopePairing, RopeTable, StorageRounding};
use ndarray::array;
use proptest::prelude::*;

use super::{Case, cases};

fn stored_is_rounded<S: Storage + PartialEq>(
    case: &Case,
    round: impl Fn(f64) -> f64 + Copy,
) -> Result<(), TestCaseError> {
    let pairing = case.config.pairing;
    let table = case.table().rounded::<S>();
    let x = case.x.mapv(|x| S::from_f32(x as f32));

    // Once: the f32 result, rounded.
    let wide = x.mapv(S::to_f32);
    let rounding = StorageRounding::Once;
    let got = rope::apply_stored(&x, &table, pairing, rounding).unwrap();
    let want = rope::apply(&wide, &table, pairing)
        .unwrap()
        .mapv(S::from_f32);
    prop_assert_eq!(&got, &want);
    let got = rope::backward_stored(&x, &table, pairing, rounding).unwrap();
    let want = rope::backward(&wide, &table, pairing)
        .unwrap()
        .mapv(S::from_f32);
    prop_assert_eq!(&got, &want);
    let mut inplace = x.clone();
    rope::backward_stored_inplace(&mut inplace, &table, pairing, rounding).unwrap();
    prop_assert_eq!(&inplace, &want);

    // Each operation: the reference with a rounding after each, bit for bit.
    let rounding = StorageRounding::EachOperation;
    let wide = wide.mapv(f64::from);
    let (cos, sin) = (table.cos().mapv(f64::from), table.sin().mapv(f64::from));
    let reference = |is_backward| {
        reference::rope::apply_rounded(&wide, &cos, &sin, pairing, is_backward, round).unwrap()
    };
    let got = rope::apply_stored(&x, &table, pairing, rounding).unwrap();
    prop_assert_eq!(got.mapv(|x| f64::from(x.to_f32())), reference(false));
    let mut inplace = x.clone();
    rope::apply_stored_inplace(&mut inplace, &table, pairing, rounding).unwrap();
    prop_assert_eq!(&inplace, &got);
    let got = rope::backward_stored(&x, &table, pairing, rounding).unwrap();
    prop_assert_eq!(got.mapv(|x| f64::from(x.to_f32())), reference(true));
    Ok(())
}

/// Two features of one plane, turned both ways: how far off each result is, and the two documented bounds.
fn is_within_the_bounds<S: Storage>(
    [x1, x2]: [f64; 2],
    angle: f64,
    (u, smallest): (f64, f64),
) -> Result<(), TestCaseError> {
    let table = RopeTable::from_angles(&array![[angle]], 1.0).unwrap();
    let x = array![[[[S::from_f32(x1 as f32), S::from_f32(x2 as f32)]]]];
    let [x1, x2] = [0, 1].map(|i| f64::from(x[[0, 0, 0, i]].to_f32()));
    let sum = x1.abs() + x2.abs();
    let pairing = RopePairing::HalfSplit;
    for rounding in [StorageRounding::Once, StorageRounding::EachOperation] {
        let forward = rope::apply_stored(&x, &table, pairing, rounding).unwrap();
        let backward = rope::backward_stored(&x, &table, pairing, rounding).unwrap();
        for (got, angle) in [(forward, angle), (backward, -angle)] {
            let (sin, cos) = angle.sin_cos();
            for (i, want) in [x1 * cos - x2 * sin, x1 * sin + x2 * cos]
                .into_iter()
                .enumerate()
            {
                let bound = match rounding {
                    StorageRounding::Once => u * want.abs() + sum * 2_f64.powi(-22),
                    _ => 2.0 * u * sum,
                };
                let error = (f64::from(got[[0, 0, 0, i]].to_f32()) - want).abs();
                prop_assert!(
                    error <= bound + 2.0 * smallest,
                    "{rounding:?}: {error:e} of {want:e}"
                );
            }
        }
    }
    Ok(())
}

/// The half of the distance of 1 to the next number, and the smallest number.
const BFLOAT16: (f64, f64) = (1.0 / 256.0, 9.183_549_615_799_121e-41); // 2^-8, 2^-133
const FLOAT16: (f64, f64) = (1.0 / 2048.0, 5.960_464_477_539_063e-8); // 2^-11, 2^-24

proptest! {
    /// Results are as far off as the documentation says, also where the products cancel.
    #[test]
    fn stored_results_are_within_the_documented_bounds(
        x1 in -1.0_f64..1.0,
        x2 in -1.0_f64..1.0,
        exponent in -26_i32..15,
        angle in -10.0_f64..10.0,
        cancels in any::<bool>(),
    ) {
        let scale = 2_f64.powi(exponent);
        // The x2 that leaves nothing of the first result, cut where it would be large.
        let x2 = if cancels { (x1 / angle.tan()).clamp(-1.0, 1.0) } else { x2 };
        let x = [x1 * scale, x2 * scale];
        is_within_the_bounds::<bf16>(x, angle, BFLOAT16)?;
        is_within_the_bounds::<f16>(x, angle, FLOAT16)?;
    }

    /// Rounding happens where `StorageRounding` says and nowhere else.
    #[test]
    fn stored_arrays_are_rounded_where_said(case in cases()) {
        stored_is_rounded::<bf16>(&case, |x| bf16::from_f64(x).to_f64())?;
        stored_is_rounded::<f16>(&case, |x| f16::from_f64(x).to_f64())?;
    }

    /// f32 storage rounds nothing: both forms are the plain one.
    #[test]
    fn f32_storage_is_plain(case in cases()) {
        let x = case.x.mapv(|x| x as f32);
        let want = rope::apply(&x, &case.table(), case.config.pairing).unwrap();
        for rounding in [StorageRounding::Once, StorageRounding::EachOperation] {
            let got = rope::apply_stored(&x, &case.table(), case.config.pairing, rounding).unwrap();
            prop_assert_eq!(&got, &want);
        }
    }
}
