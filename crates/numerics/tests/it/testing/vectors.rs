//! `Case`: reading, conversions, parameters, expectations.

use half::{bf16, f16};
use llm_numerics::half;
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_numerics::testing::{Mismatch, Tolerance};
use ndarray::{Array2, Ix0, Ix1, Ix2, Ix3, arr0, array};
use serde_json::{Value, json};

use super::file::File;

fn with_params(params: Value) -> Case {
    File::new("crate.op", params).case()
}

#[test]
fn metadata_is_read() {
    let case = File::new("posenc.rope.apply", json!({}))
        .meta("rtol", "1e-5")
        .case();
    assert_eq!(
        (case.op(), case.name(), case.source()),
        ("posenc.rope.apply", "case", "by hand")
    );
    assert_eq!(case.tolerance(), Tolerance::new(1e-6, 1e-5));
    assert_eq!(case.leftovers(), []);
    let bare = File::new("a.b", json!({}))
        .without("params")
        .without("source")
        .case();
    assert_eq!(bare.source(), "");
}

#[test]
fn the_gpu_may_use_ten_times_the_tolerance_but_exact_stays_exact() {
    assert_eq!(
        Tier::Gpu.tolerance(Tolerance::new(0.5, 0.25)),
        Tolerance::new(5.0, 2.5)
    );
    assert_eq!(
        Tier::Gpu.tolerance(Tolerance::new(1e-9, 0.0)),
        Tolerance::new(1e-6, 1e-5)
    );
    assert_eq!(Tier::Gpu.tolerance(Tolerance::exact()), Tolerance::exact());
    for tier in [Tier::Reference, Tier::Cpu] {
        assert_eq!(
            tier.tolerance(Tolerance::new(1e-9, 0.0)),
            Tolerance::new(1e-9, 0.0)
        );
    }
}

#[test]
fn floats_convert_exactly_from_every_storage_type() {
    let values = [1.5_f32, -0.0, f32::INFINITY, -2.0_f32.powi(-14)];
    let half: Vec<u8> = values
        .iter()
        .flat_map(|&v| f16::from_f32(v).to_le_bytes())
        .collect();
    let brain: Vec<u8> = values
        .iter()
        .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
        .collect();
    let double: Vec<u8> = values
        .iter()
        .flat_map(|&v| f64::from(v).to_le_bytes())
        .collect();
    let case = File::new("a.b", json!({}))
        .raw("in.f16", "F16", &[2, 2], half)
        .raw("in.bf16", "BF16", &[2, 2], brain)
        .f32("in.f32", &[2, 2], &values)
        .raw("in.f64", "F64", &[2, 2], double)
        .case();
    let want = Array2::from_shape_vec((2, 2), values.to_vec()).unwrap();
    let bits = |array: &Array2<f32>| array.mapv(f32::to_bits);
    for name in ["f16", "bf16", "f32", "f64"] {
        assert_eq!(
            bits(&case.input_f32::<Ix2>(name).unwrap()),
            bits(&want),
            "{name}"
        );
        assert_eq!(
            case.input_f64::<Ix2>(name).unwrap(),
            want.mapv(f64::from),
            "{name}"
        );
        assert_eq!(
            case.input_f32_dyn(name).unwrap(),
            want.clone().into_dyn(),
            "{name}"
        );
        assert!(matches!(
            case.input_i64_dyn(name),
            Err(VectorError::ElementType { .. })
        ));
        assert!(matches!(
            case.input_bool_dyn(name),
            Err(VectorError::ElementType { .. })
        ));
    }
    assert_eq!(
        case.input_f16::<Ix2>("f16").unwrap()[[0, 0]],
        f16::from_f32(1.5)
    );
    assert_eq!(
        case.input_bf16::<Ix2>("bf16").unwrap()[[0, 0]],
        bf16::from_f32(1.5)
    );
    assert!(matches!(
        case.input_f16::<Ix2>("bf16"),
        Err(VectorError::ElementType { .. })
    ));
    assert!(matches!(
        case.input_bf16_dyn("f32"),
        Err(VectorError::ElementType { .. })
    ));
}

#[test]
fn integers_convert_exactly_from_every_type() {
    let case = File::new("a.b", json!({}))
        .i64("in.i64", &[2], &[i64::MIN, i64::MAX])
        .raw(
            "in.i32",
            "I32",
            &[2],
            [(-7_i32).to_le_bytes(), 9_i32.to_le_bytes()].concat(),
        )
        .raw("in.i16", "I16", &[1], (-300_i16).to_le_bytes().to_vec())
        .raw("in.u16", "U16", &[1], 65535_u16.to_le_bytes().to_vec())
        .raw("in.u32", "U32", &[1], u32::MAX.to_le_bytes().to_vec())
        .raw("in.u64", "U64", &[1], u64::MAX.to_le_bytes().to_vec())
        .raw("in.i8", "I8", &[2], vec![0x80, 0x7f])
        .raw("in.u8", "U8", &[2], vec![0, 255])
        .raw("in.bool", "BOOL", &[2], vec![0, 1])
        .raw("in.not_bool", "BOOL", &[2], vec![0, 2])
        .case();
    let i64s = |name: &str| case.input_i64::<Ix1>(name).map(|array| array.to_vec());
    assert_eq!(i64s("i64").unwrap(), [i64::MIN, i64::MAX]);
    assert_eq!(i64s("i32").unwrap(), [-7, 9]);
    assert_eq!(i64s("i16").unwrap(), [-300]);
    assert_eq!(i64s("u16").unwrap(), [65535]);
    assert_eq!(i64s("u32").unwrap(), [4_294_967_295]);
    assert_eq!(i64s("i8").unwrap(), [-128, 127]);
    assert_eq!(i64s("u8").unwrap(), [0, 255]);
    assert_eq!(i64s("bool").unwrap(), [0, 1]);
    assert!(matches!(i64s("u64"), Err(VectorError::Value { .. })));
    assert_eq!(case.input_bool::<Ix1>("bool").unwrap(), array![false, true]);
    assert!(
        matches!(case.input_bool::<Ix1>("not_bool"), Err(VectorError::Value { ref got, .. }) if got == "2")
    );
    assert!(matches!(i64s("not_bool"), Err(VectorError::Value { .. })));
    assert_eq!(case.input_u8::<Ix1>("u8").unwrap(), array![0, 255]);
    assert_eq!(case.input_i8::<Ix1>("i8").unwrap(), array![-128, 127]);
    assert_eq!(
        case.input_usize::<Ix1>("u32").unwrap(),
        array![4_294_967_295]
    );
    assert!(
        matches!(case.input_usize::<Ix1>("i32"), Err(VectorError::Value { ref got, .. }) if got == "-7")
    );
    assert!(matches!(
        case.input_u8::<Ix1>("i8"),
        Err(VectorError::ElementType { .. })
    ));
    assert!(matches!(
        case.input_f32::<Ix1>("i64"),
        Err(VectorError::ElementType { .. })
    ));
}

#[test]
fn inputs_have_the_rank_that_was_asked_for() {
    let case = File::new("a.b", json!({}))
        .f32("in.x", &[2, 0, 3], &[])
        .f32("in.s", &[], &[2.0])
        .i64("in.n", &[1], &[7])
        .case();
    assert_eq!(case.input_f32::<Ix3>("x").unwrap().shape(), [2, 0, 3]);
    assert_eq!(
        case.input_f32::<Ix2>("x").unwrap_err(),
        VectorError::Rank {
            name: "in.x".to_owned(),
            expected: 2,
            got: vec![2, 0, 3]
        }
    );
    assert_eq!(case.input_f32::<Ix0>("s").unwrap(), arr0(2.0));
    assert_eq!(
        (
            case.input_scalar_f64("s").unwrap(),
            case.input_scalar_i64("n").unwrap()
        ),
        (2.0, 7)
    );
    assert!(matches!(
        case.input_scalar_f64("x"),
        Err(VectorError::Value { .. })
    ));
    assert_eq!(
        case.input_f32::<Ix1>("y").unwrap_err(),
        VectorError::MissingInput("y".to_owned())
    );
    assert!(case.has_input("x") && !case.has_input("y"));
    assert_eq!(case.input_shape("x"), Some([2, 0, 3].as_slice()));
    assert_eq!(case.input_names().collect::<Vec<_>>(), ["n", "s", "x"]);
}

#[test]
fn parameters_are_typed() {
    let case = with_params(
        json!({ "f": 1e4, "n": 3, "neg": -100, "yes": true, "s": "half", "none": null, "list": [1, 2], "bad": [1, "x"] }),
    );
    assert_eq!(case.param_f64("f").unwrap(), 1e4);
    assert_eq!(case.param_f64("n").unwrap(), 3.0);
    assert_eq!(case.param_usize("n").unwrap(), 3);
    assert_eq!(case.param_i64("neg").unwrap(), -100);
    assert!(case.param_bool("yes").unwrap());
    assert_eq!(case.param_str("s").unwrap(), "half");
    assert_eq!(case.param_opt_f64("none").unwrap(), None);
    assert_eq!(case.param_opt_f64("absent").unwrap(), None);
    assert_eq!(case.param_opt_usize("n").unwrap(), Some(3));
    assert_eq!(case.param_usize_list("list").unwrap(), [1, 2]);
    assert_eq!(case.param_f64_list("list").unwrap(), [1.0, 2.0]);
    assert_eq!(case.param_value("none").unwrap(), &Value::Null);

    assert_eq!(
        case.param_f64("absent").unwrap_err(),
        VectorError::MissingParam("absent".to_owned())
    );
    let wrong = |result: Result<String, VectorError>| {
        assert!(
            matches!(result, Err(VectorError::Param { .. })),
            "{result:?}"
        )
    };
    wrong(case.param_f64("s").map(|v| v.to_string()));
    wrong(case.param_f64("none").map(|v| v.to_string()));
    wrong(case.param_usize("neg").map(|v| v.to_string()));
    wrong(case.param_usize("f").map(|v| v.to_string()));
    wrong(case.param_usize("yes").map(|v| v.to_string()));
    wrong(case.param_bool("n").map(|v| v.to_string()));
    wrong(case.param_str("n").map(str::to_owned));
    wrong(case.param_opt_str("n").map(|v| format!("{v:?}")));
    wrong(case.param_opt_bool("s").map(|v| format!("{v:?}")));
    wrong(case.param_usize_list("bad").map(|v| format!("{v:?}")));
    wrong(case.param_f64_list("n").map(|v| format!("{v:?}")));
    assert!(
        case.unknown_param("s", "\"split\"")
            .to_string()
            .contains("must be \"split\", got \"half\"")
    );
}

#[test]
fn a_note_excuses_text_only() {
    let case = with_params(json!({ "formula": "y = x", "order": 2 }));
    case.note("formula");
    case.note("order");
    case.note("absent");
    assert_eq!(
        case.leftovers(),
        [VectorError::UnusedParams(vec!["order = 2".to_owned()])]
    );
}

#[test]
fn leftovers_name_what_was_not_used_until_reset() {
    let mut case = File::new("a.b", json!({ "p": 1, "q": null }))
        .f32("in.x", &[1], &[1.0])
        .f32("in.y", &[1], &[1.0])
        .f32("out.z", &[1], &[1.0])
        .f32("out.w", &[1], &[1.0])
        .case();
    let all = [
        VectorError::UnusedParams(vec!["p = 1".to_owned(), "q = null".to_owned()]),
        VectorError::UnreadInputs(vec!["in.x".to_owned(), "in.y".to_owned()]),
        VectorError::UncomparedOutputs(vec!["out.w".to_owned(), "out.z".to_owned()]),
    ];
    assert_eq!(case.leftovers(), all);
    // Asking whether something is there is not reading it.
    assert!(
        case.has_input("x")
            && case.has_param("p")
            && case.has_output("z")
            && case.input_dtype("x").is_some()
    );
    assert_eq!(case.leftovers(), all);
    case.param_f64("p").unwrap();
    case.param_opt_f64("q").unwrap();
    case.input_f32::<Ix1>("x").unwrap();
    case.expect("z", &array![1.0]).unwrap();
    assert_eq!(
        case.leftovers(),
        [
            VectorError::UnreadInputs(vec!["in.y".to_owned()]),
            VectorError::UncomparedOutputs(vec!["out.w".to_owned()])
        ]
    );
    case.reset(Tier::Reference);
    assert_eq!(case.leftovers(), all);
}

fn mismatch(result: Result<(), VectorError>) -> Mismatch {
    match result {
        Err(VectorError::Mismatch { mismatch, .. }) => *mismatch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn expect_compares_at_the_tolerance_of_the_file() {
    let case = File::new("a.b", json!({}))
        .f32("out.y", &[2], &[1.0, f32::NEG_INFINITY])
        .case();
    case.expect("y", &array![1.000_000_5, f64::NEG_INFINITY])
        .unwrap();
    case.expect("y", &array![1.0_f32, f32::NEG_INFINITY])
        .unwrap();
    for wrong in [
        [1.00001, f64::NEG_INFINITY],
        [1.0, f64::MIN],
        [1.0, f64::INFINITY],
        [f64::NAN, f64::NEG_INFINITY],
    ] {
        assert!(matches!(
            mismatch(case.expect("y", &array![wrong[0], wrong[1]])),
            Mismatch::Values { mismatches: 1, .. }
        ));
    }
    assert!(matches!(
        mismatch(case.expect("y", &array![[1.0, f64::NEG_INFINITY]])),
        Mismatch::Shape { .. }
    ));
    assert_eq!(
        case.expect("z", &array![1.0]).unwrap_err(),
        VectorError::MissingOutput("z".to_owned())
    );
    case.expect_if_present("z", &array![1.0]).unwrap();
    assert!(case.expect_if_present("y", &array![2.0, 0.0]).is_err());
}

#[test]
fn integers_and_booleans_must_be_equal() {
    let case = File::new("a.b", json!({}))
        .meta("atol", "1.0")
        .i64("out.ids", &[2], &[1 << 53, -1])
        .raw("out.mask", "BOOL", &[2], vec![1, 0])
        .f32("out.y", &[2], &[1.0, 2.0])
        .case();
    case.expect_int("ids", &array![1_i64 << 53, -1]).unwrap();
    case.expect_int_if_present("absent", &array![1]).unwrap();
    case.expect_bool("mask", &array![true, false]).unwrap();
    case.expect_int("mask", &array![1_u8, 0]).unwrap();
    assert!(matches!(
        mismatch(case.expect_int("ids", &array![1_i64 << 53, 0])),
        Mismatch::Values { mismatches: 1, .. }
    ));
    // As f64 the two are the same number.
    assert!(matches!(
        mismatch(case.expect_int("ids", &array![(1_i64 << 53) + 1, -1])),
        Mismatch::Values { mismatches: 1, .. }
    ));
    assert!(matches!(
        mismatch(case.expect_int("ids", &array![1_u64 << 53, u64::MAX])),
        Mismatch::Values { .. }
    ));
    assert!(matches!(
        mismatch(case.expect_int("ids", &array![1_i64 << 53])),
        Mismatch::Shape { .. }
    ));
    assert!(matches!(
        mismatch(case.expect_bool("mask", &array![true, true])),
        Mismatch::Values { mismatches: 1, .. }
    ));
    assert!(matches!(
        case.expect_int("y", &array![1, 2]),
        Err(VectorError::ElementType { .. })
    ));
    assert!(matches!(
        case.expect_bool("ids", &array![true, false]),
        Err(VectorError::ElementType { .. })
    ));
}

#[test]
fn scalars_may_have_any_rank() {
    let case = File::new("a.b", json!({}))
        .f32("out.loss", &[], &[0.5])
        .f32("out.lr", &[1], &[0.5])
        .f32("out.two", &[2], &[0.5, 0.5])
        .case();
    case.expect_scalar("loss", 0.5).unwrap();
    case.expect_scalar("lr", 0.5).unwrap();
    assert!(case.expect_scalar("lr", f64::NAN).is_err());
    assert!(matches!(
        case.expect_scalar("two", 0.5),
        Err(VectorError::Value { .. })
    ));
    assert_eq!(case.output_f64("two").unwrap(), array![0.5, 0.5].into_dyn());
    assert!(matches!(
        case.output_i64("two"),
        Err(VectorError::ElementType { .. })
    ));
}
