//! Files that lie: an error, never a panic.

use llm_numerics::testing::vectors::{Case, VectorError};
use proptest::prelude::*;
use serde_json::json;

use super::file::File;

fn good() -> File {
    File::new("a.b", json!({ "p": 1 }))
        .f32("in.x", &[2], &[1.0, 2.0])
        .f32("out.y", &[2], &[1.0, 2.0])
}

fn refused(file: &File) -> VectorError {
    Case::from_bytes("case", &file.bytes()).unwrap_err()
}

/// A file with this header and so many bytes of data.
fn header(text: &str, data: usize) -> Vec<u8> {
    [
        &(text.len() as u64).to_le_bytes(),
        text.as_bytes(),
        &vec![0; data],
    ]
    .concat()
}

#[test]
fn metadata_that_is_missing_or_wrong() {
    for key in ["op", "rtol", "atol"] {
        assert!(
            matches!(refused(&good().without(key)), VectorError::Metadata { key: named, .. } if named == key)
        );
    }
    for tolerance in ["", "x", "NaN", "inf", "-1e-6", "1e999"] {
        assert!(
            matches!(
                refused(&good().meta("rtol", tolerance)),
                VectorError::Metadata { key: "rtol", .. }
            ),
            "{tolerance}"
        );
        assert!(
            matches!(
                refused(&good().meta("atol", tolerance)),
                VectorError::Metadata { key: "atol", .. }
            ),
            "{tolerance}"
        );
    }
    for params in [
        "",
        "[]",
        "1",
        "{",
        "{\"a\": NaN}",
        "null",
        &"[".repeat(100_000),
    ] {
        assert!(matches!(
            refused(&good().meta("params", params)),
            VectorError::Metadata { key: "params", .. }
        ));
    }
    assert!(matches!(
        refused(&good().meta("op", "")),
        VectorError::Metadata { key: "op", .. }
    ));
}

#[test]
fn tensors_need_a_known_prefix() {
    assert_eq!(
        refused(&good().f32("x", &[1], &[0.0])),
        VectorError::TensorName("x".to_owned())
    );
    assert_eq!(
        refused(&good().f32("input.x", &[1], &[0.0])),
        VectorError::TensorName("input.x".to_owned())
    );
}

#[test]
fn shapes_and_offsets_that_lie() {
    let entry = |shape: &str, offsets: &str| {
        format!(
            r#"{{"__metadata__":{{"op":"a.b","rtol":"0","atol":"0"}},"in.x":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#
        )
    };
    assert!(Case::from_bytes("case", &header(&entry("[2]", "[0,8]"), 8)).is_ok());
    for (shape, offsets) in [
        ("[2]", "[0,4]"),
        ("[3]", "[0,8]"),
        ("[2]", "[8,16]"),
        ("[2]", "[8,0]"),
        ("[2]", "[0,16]"),
        ("[18446744073709551615]", "[0,8]"),
        ("[4294967296,4294967296,4294967296]", "[0,8]"),
        ("[4611686018427387905]", "[0,4]"), // 2^62 + 1 elements: 4 bytes after overflow
        ("[-2]", "[0,8]"),
        ("[2.0]", "[0,8]"),
    ] {
        let result = Case::from_bytes("case", &header(&entry(shape, offsets), 8));
        assert!(
            matches!(result, Err(VectorError::Format(_))),
            "{shape} {offsets}: {result:?}"
        );
    }
}

#[test]
fn zero_elements_with_huge_axes_do_not_panic() {
    let file = File::new("a.b", json!({}))
        .f32("in.x", &[0, usize::MAX, usize::MAX], &[])
        .f32("in.y", &[usize::MAX, 0], &[]);
    if let Ok(case) = Case::from_bytes("case", &file.bytes()) {
        assert!(matches!(
            case.input_f32_dyn("x"),
            Err(VectorError::Value { .. })
        ));
        assert!(matches!(
            case.input_f64_dyn("y"),
            Err(VectorError::Value { .. })
        ));
    }
}

#[test]
fn the_length_of_the_header_may_lie() {
    for length in [0, 1, 2, 1 << 20, 1 << 40, u64::MAX] {
        let mut bytes = good().bytes();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        assert!(
            matches!(
                Case::from_bytes("case", &bytes),
                Err(VectorError::Format(_))
            ),
            "{length}"
        );
    }
    assert!(matches!(
        Case::from_bytes("case", &[]),
        Err(VectorError::Format(_))
    ));
}

#[test]
fn every_cut_and_every_extension_is_refused() {
    let bytes = good().bytes();
    for length in 0..bytes.len() {
        assert!(
            matches!(
                Case::from_bytes("case", &bytes[..length]),
                Err(VectorError::Format(_))
            ),
            "{length}"
        );
    }
    assert!(matches!(
        Case::from_bytes("case", &[bytes.as_slice(), &[0]].concat()),
        Err(VectorError::Format(_))
    ));
}

#[test]
fn unreadable_paths() {
    let folder = tempfile::tempdir().unwrap();
    for path in [
        folder.path().to_owned(),
        folder.path().join("absent.safetensors"),
    ] {
        assert!(matches!(Case::read(path), Err(VectorError::Unreadable(_))));
    }
}

proptest! {
    /// Any damage to one byte is an error or a case whose accessors return.
    #[test]
    fn one_changed_byte_never_panics(at in 0..1000_usize, value in any::<u8>()) {
        let mut bytes = good().bytes();
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(case) = Case::from_bytes("case", &bytes) {
            let _ = (case.input_f32_dyn("x"), case.input_i64_dyn("x"), case.input_bool_dyn("x"), case.param_f64("p"));
            let _ = case.expect("y", &ndarray::array![1.0, 2.0]);
            let _ = case.leftovers();
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Case::from_bytes("case", &bytes).is_err());
    }
}
