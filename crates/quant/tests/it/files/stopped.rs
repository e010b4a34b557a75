//! Conversions that are stopped: by their caller, by a full disk, by the death of the process. Nothing is left that is in the way.

use core::ops::ControlFlow;
use std::fs;
use std::path::{Path, PathBuf};

use llm_quant::files::quantize::{self, CheckpointConfig, Method};
use llm_quant::files::{Checkpoint, FileError, PackedType, int8_state};
use llm_quant::four_bit::{FourBitCode, FourBitConfig, NonFinite};

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoint_base")
}

fn int8() -> CheckpointConfig {
    CheckpointConfig::new(Method::EightBit {
        threshold: 6.0,
        non_finite: NonFinite::Refuse,
    })
}

fn nf4() -> CheckpointConfig {
    CheckpointConfig::new(Method::FourBit {
        config: FourBitConfig::new(FourBitCode::Nf4, 64),
        nested: None,
        stored_as: PackedType::U8,
    })
}

fn run(to: &Path) -> Result<quantize::Summary, FileError> {
    quantize::checkpoint(&base(), to, &int8(), |_| ControlFlow::Continue(()))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn assert_whole(to: &Path) {
    assert_eq!(names(to), ["config.json", "model.safetensors"]);
    let made = Checkpoint::open(to).unwrap();
    assert_eq!(int8_state::names(&made).len(), 7);
}

#[test]
fn a_caller_that_stops_it_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    for n in [1, 5, 12] {
        let mut last = (0, 0);
        let stopped = quantize::checkpoint(&base(), &to, &int8(), |progress| {
            last = (progress.done, progress.total);
            assert_eq!(names(folder.path()), [".to.unfinished"]);
            match progress.n_done < n {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        let (done, total) = last;
        assert_eq!(stopped, Err(FileError::Stopped { done, total }));
        assert!(names(folder.path()).is_empty());
    }
    run(&to).unwrap();
    assert_whole(&to);
    assert_eq!(names(folder.path()), ["to"]);
}

/// An empty folder that is there stays until it is replaced, and is not needed.
#[test]
fn an_empty_folder_is_a_place_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("a/to");
    fs::create_dir_all(&to).unwrap();
    let stopped = quantize::checkpoint(&base(), &to, &int8(), |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(FileError::Stopped { .. })));
    assert_eq!(names(&folder.path().join("a")), ["to"]);
    assert!(names(&to).is_empty());
    // By another name.
    run(&to.join("../to")).unwrap();
    assert_whole(&to);
    assert_eq!(names(&folder.path().join("a")), ["to"]);
}

#[test]
fn the_second_of_two_runs_is_told_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    let path = folder.path().join(".to.unfinished");
    let mut n = 0;
    quantize::checkpoint(&base(), &to, &int8(), |_| {
        let busy = FileError::Busy { path: path.clone() };
        let other = quantize::checkpoint(&base(), &to, &nf4(), |_| ControlFlow::Continue(()));
        assert_eq!(other, Err(busy));
        n += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(n, 12);
    assert_whole(&to);
    assert_eq!(names(folder.path()), ["to"]);
}

/// What appears meanwhile is not overwritten.
#[test]
fn a_target_that_appears_meanwhile_stays() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    let found = quantize::checkpoint(&base(), &to, &int8(), |_| {
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join("a"), "somebody's").unwrap();
        ControlFlow::Continue(())
    });
    let path = to.join("a");
    assert_eq!(found, Err(FileError::Occupied { path }));
    assert_eq!(names(&to), ["a"]);
    assert_eq!(names(folder.path()), ["to"]);
    let file = folder.path().join("x.safetensors");
    let from = base().join("model.safetensors");
    let found = quantize::checkpoint(&from, &file, &int8(), |_| {
        fs::write(&file, "somebody's").unwrap();
        ControlFlow::Continue(())
    });
    let path = file.clone();
    assert_eq!(found, Err(FileError::Occupied { path }));
    assert_eq!(fs::read(&file).unwrap(), b"somebody's");
    assert_eq!(names(folder.path()), ["to", "x.safetensors"]);
}

#[test]
fn a_folder_of_that_name_that_is_not_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    let path = folder.path().join(".to.unfinished");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("letter"), "somebody's").unwrap();
    let occupied = || FileError::Occupied { path: path.clone() };
    assert_eq!(run(&to), Err(occupied()));
    assert_eq!(names(&path), ["letter"]);
    fs::remove_dir_all(&path).unwrap();
    fs::write(&path, "somebody's").unwrap();
    assert_eq!(run(&to), Err(occupied()));
    assert_eq!(fs::read(&path).unwrap(), b"somebody's");
    #[cfg(unix)]
    {
        fs::remove_file(&path).unwrap();
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("llm-quant.lock"), "").unwrap();
        fs::write(other.join("letter"), "somebody's").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert_eq!(run(&to), Err(occupied()));
        assert_eq!(names(&other), ["letter", "llm-quant.lock"]);
    }
}

/// This test in a process of its own, with a limit on the length of files if there is one.
#[cfg(target_os = "linux")]
fn again(test: &str, variable: &str, to: &Path, blocks: Option<u32>) -> std::process::Output {
    let limit = blocks.map_or(String::new(), |n| format!("trap '' XFSZ; ulimit -f {n}; "));
    std::process::Command::new("sh")
        .args(["-c", &format!("{limit}exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("files::stopped::{test}")])
        .env(variable, to)
        .output()
        .unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_was_killed_is_cleared_up_after() {
    const TO: &str = "LLM_QUANT_KILLED";
    if let Some(to) = std::env::var_os(TO) {
        let _ = quantize::checkpoint(&base(), Path::new(&to), &nf4(), |progress| {
            if progress.n_done == 5 {
                std::process::abort();
            }
            ControlFlow::Continue(())
        });
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    for _ in 0..2 {
        let killed = again(
            "a_process_that_was_killed_is_cleared_up_after",
            TO,
            &to,
            None,
        );
        assert!(!killed.status.success());
        // What it had written lies beside the target, which is not there.
        assert_eq!(names(folder.path()), [".to.unfinished"]);
        let left = names(&folder.path().join(".to.unfinished"));
        assert_eq!(left.len(), 2, "{left:?}");
    }
    run(&to).unwrap();
    assert_whole(&to);
    assert_eq!(names(folder.path()), ["to"]);
}

/// Files end at a thousand bytes in the shell that this test starts itself in.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing() {
    const TO: &str = "LLM_QUANT_FULL";
    if let Some(to) = std::env::var_os(TO) {
        let error = run(Path::new(&to)).unwrap_err();
        assert!(matches!(error, FileError::Io { .. }), "{error}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    let full = again("a_full_disk_leaves_nothing", TO, &to, Some(1));
    let text = String::from_utf8_lossy(&full.stdout);
    assert!(full.status.success() && text.contains("1 passed"), "{text}");
    assert!(names(folder.path()).is_empty());
}
