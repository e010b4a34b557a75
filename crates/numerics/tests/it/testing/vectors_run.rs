//! `run_crate`: which files run, and that nothing passes unseen.

use std::fs;
use std::path::Path;

use llm_numerics::testing::vectors::{
    Case, Tier, VectorError, VectorReport, VectorRun, collect, run_crate,
};
use ndarray::Ix1;
use serde_json::json;
use tempfile::TempDir;

use super::file::File;

/// `y = factor * x`.
fn double() -> File {
    File::new("toy.double", json!({ "factor": 2 }))
        .f32("in.x", &[2], &[1.0, 2.0])
        .f32("out.y", &[2], &[2.0, 4.0])
}

fn run(case: &mut Case, tier: Tier) -> Result<(), VectorError> {
    match case.op() {
        "toy.double" => {
            let factor = case.param_f64("factor")?;
            match tier {
                Tier::Reference => case.expect("y", &(case.input_f64::<Ix1>("x")? * factor)),
                Tier::Cpu => case.expect("y", &(case.input_f32::<Ix1>("x")? * factor as f32)),
                Tier::Gpu => Err(case.unsupported("no kernel yet")),
            }
        }
        "toy.panics" => panic!("as asked"),
        "toy.refuses" => Err(VectorError::op("no")),
        _ => Err(case.unknown_op()),
    }
}

fn write(root: &Path, op: &str, name: &str, bytes: &[u8]) {
    fs::create_dir_all(root.join(op)).unwrap();
    fs::write(root.join(op).join(name), bytes).unwrap();
}

/// A committed folder with these files.
fn folder(files: &[(&str, &str, &File)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (op, name, file) in files {
        write(root.path(), op, name, &file.bytes());
    }
    root
}

fn config(root: &TempDir) -> VectorRun {
    VectorRun::new("toy", root.path()).with_extra(None)
}

/// The failures of a folder that holds `file` beside a good one.
fn failures(op: &str, file: &File) -> Vec<VectorError> {
    let root = folder(&[
        ("double", "good.safetensors", &double()),
        (op, "bad.safetensors", file),
    ]);
    let report = collect(&config(&root), run);
    assert!(
        report
            .failures
            .iter()
            .all(|failure| failure.path.ends_with(format!("{op}/bad.safetensors"))),
        "{report}"
    );
    report
        .failures
        .into_iter()
        .map(|failure| failure.error)
        .collect()
}

fn counts(report: &VectorReport) -> Vec<(&str, Tier, usize, usize, usize)> {
    report
        .lines
        .iter()
        .map(|line| {
            (
                line.op.as_str(),
                line.tier,
                line.ran,
                line.failed,
                line.skipped,
            )
        })
        .collect()
}

#[test]
fn good_files_pass_on_every_tier_and_are_counted() {
    let root = folder(&[
        ("double", "a.safetensors", &double()),
        ("double", "b.safetensors", &double().meta("atol", "0")),
    ]);
    run_crate(&config(&root), run);
    let report = collect(
        &config(&root).with_tiers(&[Tier::Reference, Tier::Cpu, Tier::Gpu]),
        run,
    );
    assert_eq!(report.failures, []);
    assert_eq!(
        counts(&report),
        [
            ("toy.double", Tier::Reference, 2, 0, 0),
            ("toy.double", Tier::Cpu, 2, 0, 0),
            ("toy.double", Tier::Gpu, 0, 0, 2)
        ]
    );
    let table = report.to_string();
    assert!(
        table.contains("toy.double  reference") && table.contains("skipped on gpu: no kernel yet"),
        "{table}"
    );
}

#[test]
fn the_worst_error_is_kept_beside_its_tolerance() {
    let near = double().f32("out.unused", &[0], &[]);
    let root = folder(&[
        ("double", "a.safetensors", &double()),
        ("double", "b.safetensors", &near),
    ]);
    let report = collect(&config(&root), |case, _| {
        case.param_f64("factor")?;
        let x = case.input_f64::<Ix1>("x")?;
        case.expect_if_present("unused", &ndarray::Array1::<f64>::zeros(0))?;
        let shift = if case.name() == "b" { 5e-7 } else { 0.0 };
        case.expect("y", &(x * 2.0 + shift))
    });
    assert_eq!(report.failures, []);
    let worst = report.lines[0].worst.as_ref().unwrap();
    assert!((worst.worst_ratio - 0.5).abs() < 1e-6);
    assert!(report.to_string().contains("5.00e-7"), "{report}");
}

#[test]
#[should_panic(expected = "2 failures in the vector files of toy")]
fn run_crate_panics_with_all_failures() {
    let wrong = double().meta("params", "{\"factor\": 3}");
    run_crate(
        &config(&folder(&[("double", "a.safetensors", &wrong)])),
        run,
    );
}

#[test]
fn each_overlooked_thing_fails_on_each_tier() {
    let twice = |error: VectorError| vec![error.clone(), error];
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<String>>()
    };
    assert_eq!(
        failures(
            "double",
            &double().meta("params", "{\"factor\": 2, \"mode\": \"x\"}")
        ),
        twice(VectorError::UnusedParams(names(&["mode = \"x\""])))
    );
    assert_eq!(
        failures("double", &double().f32("in.bias", &[1], &[0.0])),
        twice(VectorError::UnreadInputs(names(&["in.bias"])))
    );
    assert_eq!(
        failures("double", &double().f32("out.dx", &[1], &[0.0])),
        twice(VectorError::UncomparedOutputs(names(&["out.dx"])))
    );
    assert_eq!(
        failures("triple", &double().meta("op", "toy.triple")),
        twice(VectorError::UnknownOp("toy.triple".to_owned()))
    );
    assert_eq!(
        failures("double", &double().meta("params", "{}")),
        twice(VectorError::MissingParam("factor".to_owned()))
    );
    assert_eq!(
        failures("refuses", &double().meta("op", "toy.refuses")),
        twice(VectorError::Op("no".to_owned()))
    );
    assert_eq!(
        failures("panics", &double().meta("op", "toy.panics")),
        twice(VectorError::Panicked("as asked".to_owned()))
    );
    let no_output = File::new("toy.double", json!({ "factor": 2 })).f32("in.x", &[1], &[1.0]);
    assert_eq!(
        failures("double", &no_output),
        twice(VectorError::MissingOutput("y".to_owned()))
    );
    let no_input = File::new("toy.double", json!({ "factor": 2 })).f32("out.y", &[1], &[1.0]);
    assert_eq!(
        failures("double", &no_input),
        twice(VectorError::MissingInput("x".to_owned()))
    );
    let wrong_value = File::new("toy.double", json!({ "factor": 2 }))
        .f32("in.x", &[1], &[1.0])
        .f32("out.y", &[1], &[2.01]);
    assert!(matches!(
        failures("double", &wrong_value)[..],
        [VectorError::Mismatch { .. }, VectorError::Mismatch { .. }]
    ));
}

#[test]
fn files_of_another_crate_or_op_are_misplaced() {
    let place = |expected: &str, got: &str| {
        vec![VectorError::Place {
            expected: expected.to_owned(),
            got: got.to_owned(),
        }]
    };
    assert_eq!(
        failures("triple", &double()),
        place("toy.triple", "toy.double")
    );
    assert_eq!(
        failures("double", &double().meta("op", "other.double")),
        place("toy.double", "other.double")
    );
    assert_eq!(
        failures("double", &double().meta("op", "toy")),
        place("toy.double", "toy")
    );
}

#[test]
fn broken_files_fail_and_the_rest_still_runs() {
    let root = folder(&[("double", "good.safetensors", &double())]);
    write(
        root.path(),
        "double",
        "cut.safetensors",
        &double().bytes()[..50],
    );
    write(root.path(), "double", "empty.safetensors", &[]);
    fs::create_dir_all(root.path().join("double/folder.safetensors")).unwrap();
    write(
        root.path(),
        "anonymous",
        "x.safetensors",
        &double().without("op").bytes(),
    );
    let report = collect(&config(&root), run);
    assert_eq!(counts(&report)[0], ("toy.double", Tier::Reference, 1, 0, 0));
    assert!(
        matches!(
            report
                .failures
                .iter()
                .map(|failure| &failure.error)
                .collect::<Vec<_>>()[..],
            [
                VectorError::Metadata { key: "op", .. },
                VectorError::Format(_),
                VectorError::Format(_),
                VectorError::Unreadable(_)
            ]
        ),
        "{report}"
    );
}

#[test]
fn a_folder_without_files_fails() {
    let empty = tempfile::tempdir().unwrap();
    let errors = |config: &VectorRun| {
        collect(config, run)
            .failures
            .into_iter()
            .map(|failure| failure.error)
            .collect::<Vec<_>>()
    };
    assert_eq!(errors(&config(&empty)), [VectorError::NoFiles]);
    let absent = VectorRun::new("toy", empty.path().join("absent")).with_extra(None);
    assert!(matches!(
        errors(&absent)[..],
        [VectorError::Unreadable(_), VectorError::NoFiles]
    ));
    // A file that only lies around, or that belongs elsewhere, is none.
    fs::write(empty.path().join("loose.safetensors"), double().bytes()).unwrap();
    write(empty.path(), "double", "notes.md", b"text");
    assert_eq!(errors(&config(&empty)), [VectorError::NoFiles]);
    write(empty.path(), "double", "a.safetensors", &double().bytes());
    assert_eq!(
        errors(&config(&empty).with_elsewhere(&["toy.double"])),
        [VectorError::NoFiles]
    );
    assert_eq!(errors(&config(&empty)), []);
}

#[test]
fn checkpoints_are_not_ops() {
    let root = folder(&[("double", "good.safetensors", &double())]);
    for name in ["config.json", "adapter_config.json"] {
        write(root.path(), name, name, b"{}");
        write(root.path(), name, "model.safetensors", b"no vector file");
    }
    write(
        &root.path().join("dir"),
        "case",
        "expected.safetensors",
        b"no vector file",
    );
    let report = collect(&config(&root), run);
    assert_eq!(report.failures, []);
    assert_eq!(
        report
            .notes
            .iter()
            .filter(|note| note.contains("checkpoint"))
            .count(),
        2
    );
}

#[test]
fn the_extra_folder_runs_too() {
    let root = folder(&[("double", "a.safetensors", &double())]);
    let extra = tempfile::tempdir().unwrap();
    let config = config(&root).with_extra(Some(extra.path().to_owned()));
    let quiet = collect(&config, run);
    assert_eq!((quiet.failures.len(), quiet.notes.len()), (0, 1), "{quiet}");

    let wrong = double().meta("params", "{\"factor\": 3}");
    write(
        &extra.path().join("toy"),
        "double",
        "b.safetensors",
        &double().bytes(),
    );
    write(
        &extra.path().join("toy"),
        "double",
        "c.safetensors",
        &wrong.bytes(),
    );
    write(
        &extra.path().join("other"),
        "double",
        "d.safetensors",
        &wrong.bytes(),
    );
    let report = collect(&config, run);
    assert_eq!(counts(&report)[0], ("toy.double", Tier::Reference, 3, 1, 0));
    assert!(
        report
            .failures
            .iter()
            .all(|failure| failure.path.ends_with("toy/double/c.safetensors"))
    );

    let absent = config.with_extra(Some(extra.path().join("absent")));
    assert!(
        matches!(collect(&absent, run).failures[..], [ref failure] if matches!(failure.error, VectorError::Unreadable(_)))
    );
}

#[test]
fn ops_can_belong_to_another_crate() {
    let other = double().meta("op", "toy.block.two");
    let root = folder(&[
        ("double", "a.safetensors", &double()),
        ("block.two", "b.safetensors", &other),
    ]);
    assert_eq!(collect(&config(&root), run).failures.len(), 2);
    let report = collect(&config(&root).with_elsewhere(&["toy.block.*"]), run);
    assert_eq!(
        (report.failures.len(), report.elsewhere, report.lines.len()),
        (0, 1, 2)
    );
    assert!(report.to_string().contains("1 files belong"));
    let only = collect(&config(&root).with_only(&["toy.block.two"]), run);
    assert_eq!((only.failures.len(), only.elsewhere), (2, 1)); // unknown op, twice
}

#[test]
fn a_file_that_no_tier_runs_fails() {
    let root = folder(&[("double", "a.safetensors", &double())]);
    let skip = |case: &mut Case, _: Tier| Err(case.unsupported("optional"));
    let report = collect(&config(&root), skip);
    assert!(matches!(report.failures[..], [ref failure] if failure.error == VectorError::NoTier));
    assert_eq!(
        counts(&report),
        [
            ("toy.double", Tier::Reference, 0, 0, 1),
            ("toy.double", Tier::Cpu, 0, 0, 1)
        ]
    );
    // Without an adapter a run on the GPU alone is a loud skip.
    let report = collect(&config(&root).with_tiers(&[Tier::Gpu]), skip);
    assert_eq!(
        (
            report.failures.len(),
            report.lines[0].skipped,
            report.notes.len()
        ),
        (0, 1, 1)
    );
    assert_eq!(
        collect(&config(&root).with_tiers(&[]), run).failures.len(),
        1
    );
}

#[test]
fn each_tier_must_read_and_compare_for_itself() {
    let root = folder(&[("double", "a.safetensors", &double())]);
    let lazy = |case: &mut Case, tier: Tier| {
        if tier == Tier::Reference {
            run(case, tier)
        } else {
            Ok(())
        }
    };
    let report = collect(&config(&root), lazy);
    assert_eq!(
        counts(&report),
        [
            ("toy.double", Tier::Reference, 1, 0, 0),
            ("toy.double", Tier::Cpu, 1, 1, 0)
        ]
    );
    assert_eq!(report.failures.len(), 3); // parameter, input, output
}
