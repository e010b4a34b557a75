//! Laws of rotations of arrays in half precision.

use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use llm_posenc::reference;
use llm_posenc::rope::{self, StorageRounding};
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

proptest! {
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
