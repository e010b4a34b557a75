//! Files are whole or not there, and lie as the library of the format lays them out.

use std::fs;

use llm_quant::files::{
    self, Dtype, FileError, Tensor, TensorFile, TensorSource, TensorWriter, write_whole,
};
use proptest::prelude::*;

use super::{serialize, tensor};

const TYPES: [Dtype; 6] = [
    Dtype::U8,
    Dtype::F64,
    Dtype::BF16,
    Dtype::I8,
    Dtype::F32,
    Dtype::F16,
];

fn tensors() -> impl Strategy<Value = Vec<Tensor>> {
    let one = (0..6_usize, 0..5_usize, any::<u8>());
    prop::collection::btree_map("[a-c\"\\\\]{0,4}", one, 0..8).prop_map(|tensors| {
        let one = |(name, (dtype, len, byte)): (String, (usize, usize, u8))| {
            let n_bytes = len * TYPES[dtype].bitsize() / 8;
            tensor(&name, TYPES[dtype], &[len, 1], &vec![byte; n_bytes])
        };
        tensors.into_iter().map(one).collect()
    })
}

proptest! {
    #[test]
    fn files_have_the_bytes_of_the_library_of_the_format(tensors in tensors()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        files::write_tensors(&path, &Default::default(), &tensors).unwrap();
        prop_assert_eq!(fs::read(&path).unwrap(), serialize(&tensors));
    }

    /// Lists whose length comes late lie last; all is read as it was written, by the library of the format too.
    #[test]
    fn lists_of_unknown_length_come_last(tensors in tensors(), late in prop::collection::vec(0..200_usize, 0..5)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let announced = tensors.iter().map(|t| (t.name.clone(), t.dtype, t.shape.clone()));
        let late: Vec<Tensor> = { late.iter().enumerate() }
            .map(|(i, &len)| tensor(&format!("late{i}"), Dtype::U8, &[len], &vec![i as u8; len]))
            .collect();
        let names = late.iter().map(|tensor| tensor.name.clone());
        let mut writer = TensorWriter::create(&path, &files::torch_metadata(), announced, names).unwrap();
        for tensor in late.iter().rev().chain(&tensors) {
            writer.write(&tensor.name, &tensor.bytes).unwrap();
        }
        writer.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut ours = TensorFile::open(&path).unwrap();
        prop_assert_eq!(ours.metadata(), &files::torch_metadata());
        prop_assert_eq!(ours.names().len(), tensors.len() + late.len());
        for tensor in tensors.iter().chain(&late) {
            prop_assert_eq!(theirs.tensor(&tensor.name).unwrap().data(), &tensor.bytes[..]);
            prop_assert_eq!(&ours.read(&tensor.name).unwrap(), &tensor.bytes);
        }
        // Each number lies where its type may lie.
        for (_, view) in theirs.tensors() {
            let offset = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
            prop_assert!(view.data().is_empty() || offset.is_multiple_of(view.dtype().bitsize() / 8));
        }
    }
}

#[test]
fn a_file_that_is_not_finished_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/x.safetensors");
    write_whole(&path, b"old").unwrap();
    let one = || [("x".to_owned(), Dtype::F32, vec![2])];
    let none = Default::default();
    let mut writer = TensorWriter::create(&path, &none, one(), []).unwrap();
    writer.write("x", &[0; 8]).unwrap();
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    let mut writer = TensorWriter::create(&path, &none, one(), []).unwrap();
    writer.write("x", &[0; 8]).unwrap();
    writer.finish().unwrap();
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(TensorFile::open(&path).unwrap().read("x").unwrap(), [0; 8]);
}

#[test]
fn each_tensor_is_written_once_and_as_announced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let none = Default::default();
    let one = || ("x".to_owned(), Dtype::F32, vec![2]);
    let x = || "x".to_owned();
    let mut writer = TensorWriter::create(&path, &none, [one()], []).unwrap();
    let name = "y".to_owned();
    assert_eq!(
        writer.write("y", &[]),
        Err(FileError::NotAnnounced { name })
    );
    let (name, expected, got) = (x(), 8, 7);
    let error = FileError::WrittenLen {
        name,
        expected,
        got,
    };
    assert_eq!(writer.write("x", &[0; 7]), Err(error));
    writer.write("x", &[0; 8]).unwrap();
    for n_bytes in [8, 7] {
        let error = FileError::WrittenTwice { name: x() };
        assert_eq!(writer.write("x", &vec![0; n_bytes]), Err(error));
    }
    for late in [None, Some("late".to_owned())] {
        let mut writer = TensorWriter::create(&path, &none, [one()], late.clone()).unwrap();
        if let Some(name) = late {
            writer.write("x", &[0; 8]).unwrap();
            writer.write(&name, &[]).unwrap();
            let error = FileError::WrittenTwice { name };
            assert_eq!(writer.write("late", &[]), Err(error));
        } else {
            let error = FileError::NotWritten { name: x() };
            assert_eq!(writer.finish(), Err(error));
        }
    }
    let key = "x".to_owned();
    let twice = TensorWriter::create(&path, &none, [one(), one()], []).unwrap_err();
    assert_eq!(twice, FileError::DuplicateKey { key: key.clone() });
    let twice = TensorWriter::create(&path, &none, [one()], [key.clone()]).unwrap_err();
    assert_eq!(twice, FileError::DuplicateKey { key });
    let shape = vec![usize::MAX, 2];
    let huge = TensorWriter::create(
        &path,
        &none,
        [("x".to_owned(), Dtype::F32, shape.clone())],
        [],
    );
    let (name, dtype) = (x(), Dtype::F32);
    let error = FileError::AnnouncedSize { name, dtype, shape };
    assert_eq!(huge.unwrap_err(), error);
    assert!(!path.exists());
}

/// Tensors are found by their names at once, however many there are: to look through all of them each time would take minutes.
#[test]
fn two_hundred_thousand_tensors_take_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let names: Vec<String> = (0..200_000)
        .map(|i| format!("model.layers.{i:06}"))
        .collect();
    let announced = names.iter().map(|name| (name.clone(), Dtype::U8, vec![1]));
    let mut writer = TensorWriter::create(&path, &Default::default(), announced, []).unwrap();
    let start = std::time::Instant::now();
    for name in names.iter().rev() {
        writer.write(name, &[7]).unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    assert!(seconds < 20.0, "{seconds} s");
    writer.finish().unwrap();
    assert_eq!(TensorFile::open(&path).unwrap().names(), names);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "x").unwrap();
    // A file cannot take the place of a folder.
    let error = write_whole(&path, b"new").unwrap_err();
    assert!(
        matches!(&error, FileError::Io { path: named, .. } if *named == path),
        "{error}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn two_writers_of_one_file_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let one = || [("x".to_owned(), Dtype::U8, vec![8])];
    let none = Default::default();
    let mut first = TensorWriter::create(&path, &none, one(), []).unwrap();
    let mut second = TensorWriter::create(&path, &none, one(), []).unwrap();
    first.write("x", &[1; 8]).unwrap();
    second.write("x", &[2; 8]).unwrap();
    first.finish().unwrap();
    assert_eq!(TensorFile::open(&path).unwrap().read("x").unwrap(), [1; 8]);
    second.finish().unwrap();
    assert_eq!(TensorFile::open(&path).unwrap().read("x").unwrap(), [2; 8]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Not those of a temporary file, which is for its owner alone.
#[cfg(unix)]
#[test]
fn permissions_are_those_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let [plain, whole] = ["plain", "whole"].map(|name| folder.path().join(name));
    fs::write(&plain, "x").unwrap();
    write_whole(&whole, b"x").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(whole), mode(plain));
}

/// What has the name of a temporary file is neither followed nor replaced.
#[cfg(unix)]
#[test]
fn links_of_others_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    fs::write(&other, "other").unwrap();
    let link = folder.path().join("x.tmp");
    std::os::unix::fs::symlink(&other, &link).unwrap();
    write_whole(&folder.path().join("x"), b"new").unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"other");
    assert_eq!(fs::read_link(&link).unwrap(), other);
    assert_eq!(fs::read(folder.path().join("x")).unwrap(), b"new");
}

/// Files end at a thousand bytes in the shell that this test starts itself in.
#[cfg(target_os = "linux")]
#[test]
fn a_write_that_failed_is_not_finished() {
    const FOLDER: &str = "LLM_QUANT_FULL_DISK";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let path = std::path::Path::new(&folder).join("x.safetensors");
        let tensors = ["x", "y"].map(|name| (name.to_owned(), Dtype::U8, vec![1 << 16]));
        let mut writer = TensorWriter::create(&path, &Default::default(), tensors, []).unwrap();
        let is_io = |error: &FileError| matches!(error, FileError::Io { .. });
        let error = writer.write("x", &[1; 1 << 16]).unwrap_err();
        assert!(is_io(&error), "{error}");
        // All later calls say so too, and nothing appears.
        assert_eq!(writer.write("x", &[1; 1 << 16]), Err(error.clone()));
        assert_eq!(writer.write("y", &[]), Err(error.clone()));
        assert_eq!(writer.finish(), Err(error));
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    let test = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"])
        .arg(this)
        .args([
            "--exact",
            "files::writing::a_write_that_failed_is_not_finished",
        ])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&test.stdout);
    assert!(test.status.success() && text.contains("1 passed"), "{text}");
}
