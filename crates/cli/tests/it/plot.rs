//! `plot`: a figure as SVG or PNG, to a file or to standard output, and nothing half written.

use std::fs;
use std::process::Stdio;

use crate::program::{command, json, run, succeed};

const NAMES: [&str; 16] = [
    "sinusoidal-heatmap",
    "sinusoidal-dot",
    "rope-decay",
    "alibi",
    "bf16-positions",
    "attention-io",
    "decode-intensity",
    "cache-stores",
    "temperature-filters",
    "kept-tokens",
    "draw-histogram",
    "beam-tree",
    "speculative-length",
    "nf4-density",
    "quantized-memory",
    "block-errors",
];

/// Width and height as the header of a PNG has them.
fn png_size(png: &[u8]) -> (u32, u32) {
    assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

/// It must fail with exit code 2, print nothing, and say all of this.
fn refused(args: &[&str], says: &[&str]) {
    let ran = run(args);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
    for words in says {
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn the_list_has_every_figure_with_its_title() {
    let text = succeed(&["plot", "--list"]);
    assert_eq!(text.lines().count(), NAMES.len());
    for (line, name) in text.lines().zip(NAMES) {
        let (first, title) = line.split_once("  ").unwrap();
        assert_eq!(first.trim(), name);
        assert!(title.trim().len() > 10, "{line}");
    }
    let object = json(&["plot", "--list"]);
    let listed: Vec<&str> = object["figures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|figure| figure["name"].as_str().unwrap())
        .collect();
    assert_eq!(listed, NAMES);
    for figure in object["figures"].as_array().unwrap() {
        assert!(figure["alt"].as_str().unwrap().len() > 100, "{figure}");
    }
}

#[test]
fn an_svg_goes_into_a_pipe() {
    for name in NAMES {
        let svg = succeed(&["plot", name]);
        assert!(
            svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
            "{name}"
        );
        assert!(svg.contains(&format!("id=\"{name}-title\"")), "{name}");
    }
}

#[test]
fn json_holds_the_svg_or_says_where_it_is() {
    let svg = succeed(&["plot", "rope-decay"]);
    let object = json(&["plot", "rope-decay"]);
    assert_eq!(object["svg"], svg);
    assert_eq!(object["name"], "rope-decay");
    assert_eq!(object["format"], "svg");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let object = json(&["plot", "alibi", "--out", path.to_str().unwrap()]);
    assert_eq!(object["path"], path.to_str().unwrap());
    assert_eq!(object["format"], "png");
    assert_eq!(object["bytes"], fs::read(&path).unwrap().len());
}

#[test]
fn a_file_is_written_whole_and_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/figure.svg");
    let out = path.to_str().unwrap();
    assert_eq!(succeed(&["plot", "alibi", "--out", out]), "");
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        succeed(&["plot", "alibi"])
    );
    // Again, in its place.
    assert_eq!(
        succeed(&["plot", "rope-decay", "--out", out, "--quiet"]),
        ""
    );
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        succeed(&["plot", "rope-decay"])
    );
    let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(files, 1);
}

#[test]
fn the_ending_says_the_form_and_the_flag_overrules_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (png, capital, svg) = (file("a.png"), file("b.PNG"), file("c.png"));
    succeed(&["plot", "bf16-positions", "--out", &png]);
    succeed(&["plot", "bf16-positions", "--out", &capital]);
    assert_eq!(fs::read(&png).unwrap(), fs::read(&capital).unwrap());
    assert_eq!(png_size(&fs::read(&png).unwrap()), (1460, 880));
    succeed(&["plot", "bf16-positions", "--out", &svg, "--format", "svg"]);
    assert!(fs::read(&svg).unwrap().starts_with(b"<svg "));
}

#[test]
fn a_png_has_the_width_that_was_asked_for_and_light_or_dark_paper() {
    let png = |more: &[&str]| {
        let args = [&["plot", "rope-decay", "--format", "png"], more].concat();
        let output = command(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{more:?}");
        assert_eq!(output.stderr, b"", "{more:?}");
        output.stdout
    };
    let light = png(&["--width", "360"]);
    assert_eq!(png_size(&light), (360, 200));
    let dark = png(&["--width", "360", "--dark"]);
    assert_eq!(png_size(&dark), (360, 200));
    assert_ne!(light, dark);
    assert_eq!(png(&["--width", "360"]), light);
}

#[test]
fn unknown_figures_are_refused_with_the_list() {
    refused(&["plot", "rope"], &[&["rope"][..], &NAMES].concat());
    refused(&["plot"], &["NAME"]);
    refused(&["plot", "--list", "alibi"], &["--list"]);
    refused(
        &["plot", "alibi", "--format", "gif"],
        &["gif", "svg", "png"],
    );
}

#[test]
fn what_only_a_png_has_is_refused_for_svg() {
    for flag in [&["--dark"][..], &["--width", "500"]] {
        refused(
            &[&["plot", "alibi"], flag].concat(),
            &["--width and --dark are for PNG", "hint: "],
        );
    }
}

#[test]
fn widths_that_are_none_are_refused() {
    for width in ["0", "63", "8193"] {
        let got = format!("got {width}");
        refused(
            &["plot", "alibi", "--format", "png", "--width", width],
            &["--width must be in 64..=8192 pixels", &got, "hint: "],
        );
    }
    refused(
        &["plot", "alibi", "--format", "png", "--width", "-5"],
        &["-5", "--width"],
    );
}

#[test]
fn a_png_is_refused_where_it_cannot_be() {
    refused(
        &["plot", "alibi", "--format", "png", "--json"],
        &["a PNG does not fit into JSON", "--out FILE"],
    );
}

#[test]
fn a_file_that_cannot_be_written_is_a_failure_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let ran = run(&["plot", "alibi", "--out", out]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("it is a folder"), "{}", ran.stderr);
    fs::write(folder.path().join("file"), "x").unwrap();
    let below = folder.path().join("file/below.svg");
    let ran = run(&["plot", "alibi", "--out", below.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.starts_with("error: cannot write "),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.matches("below.svg").count(), 1, "{}", ran.stderr);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn links_and_devices_stay_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (
        folder.path().join("file.svg"),
        folder.path().join("link.svg"),
    );
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    succeed(&["plot", "alibi", "--out", link.to_str().unwrap()]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        succeed(&["plot", "alibi"])
    );

    // A pipe has a name there.
    let output = command(&["plot", "alibi", "--out", "/dev/stdout"])
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, fs::read(&file).unwrap());
}

#[test]
fn a_closed_pipe_ends_it_silently() {
    for args in [
        &["plot", "sinusoidal-heatmap"][..],
        &["plot", "--list"],
        &["plot", "alibi", "--format", "png"],
    ] {
        let mut child = command(args).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(output.stderr, b"", "{args:?}");
    }
}
