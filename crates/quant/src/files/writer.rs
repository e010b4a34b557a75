//! Files that are whole or not there.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use tempfile::NamedTempFile;

use super::{FileError, Tensor, header};

/// Writes a file beside its place, and renames it when it is whole and on the disk.
///
/// The folder is made if needed. An interruption leaves the old file or the new one.
///
/// # Errors
///
/// [`FileError::Io`] if that fails; the old file is still there then.
///
/// # Example
///
/// ```
/// use llm_quant::files;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("new/config.json");
/// files::write_whole(&path, b"{}")?;
/// assert_eq!(std::fs::read(&path).unwrap(), b"{}");
/// # Ok::<(), files::FileError>(())
/// ```
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut temporary = Temporary::create(path)?;
    let written = temporary.file.write_all(bytes);
    written.map_err(|error| FileError::io(path, &error))?;
    temporary.finish()
}

/// Writes tensors as one safetensors file: as [`TensorWriter`] does, all of them from memory.
///
/// # Errors
///
/// Those of [`TensorWriter`].
///
/// # Example
///
/// ```
/// use llm_quant::files::{self, Dtype, Tensor, TensorFile, TensorSource};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("x.safetensors");
/// let x = Tensor { name: "x".into(), dtype: Dtype::U8, shape: vec![3], bytes: vec![1, 2, 3] };
/// files::write_tensors(&path, &files::torch_metadata(), &[x])?;
/// assert_eq!(TensorFile::open(&path)?.read("x")?, [1, 2, 3]);
/// # Ok::<(), files::FileError>(())
/// ```
pub fn write_tensors(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: &[Tensor],
) -> Result<(), FileError> {
    let announced = tensors.iter().map(|tensor| {
        let Tensor {
            name, dtype, shape, ..
        } = tensor;
        (name.clone(), *dtype, shape.clone())
    });
    let mut writer = TensorWriter::create(path, metadata, announced, [])?;
    for tensor in tensors {
        writer.write(&tensor.name, &tensor.bytes)?;
    }
    writer.finish()
}

/// What transformers writes into each file and asks for: that it is for torch.
///
/// # Example
///
/// ```
/// assert_eq!(llm_quant::files::torch_metadata()["format"], "pt");
/// ```
#[must_use]
pub fn torch_metadata() -> BTreeMap<String, String> {
    [("format".to_owned(), "pt".to_owned())].into()
}

/// Writes a safetensors file one tensor after the other, in any order.
///
/// Tensors lie in the order of the library: the widest type first, then by name. Lists whose length is known only once they are written come
/// last. The file appears under its name when it is whole and on the disk; whoever is dropped before leaves nothing.
///
/// # Example
///
/// ```
/// use llm_quant::files::{self, Dtype, TensorFile, TensorSource, TensorWriter};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("x.safetensors");
/// let announced = ["x", "y"].map(|name| (name.to_owned(), Dtype::U8, vec![2]));
/// let late = ["note".to_owned()];
/// let mut writer = TensorWriter::create(&path, &files::torch_metadata(), announced, late)?;
/// writer.write("note", b"any length")?;
/// writer.write("y", &[3, 4])?;
/// writer.write("x", &[1, 2])?;
/// assert!(!path.exists());
/// writer.finish()?;
/// assert_eq!(TensorFile::open(&path)?.read("y")?, [3, 4]);
/// # Ok::<(), files::FileError>(())
/// ```
#[derive(Debug)]
pub struct TensorWriter {
    temporary: Temporary,
    metadata: BTreeMap<String, String>,
    places: Vec<Place>,
    /// Which of them has a name.
    by_name: HashMap<String, usize>,
    /// Bytes before the data.
    start: u64,
    /// Where the next list begins whose length was not known.
    end: usize,
    /// What the system said when it did not write: the file is not whole, and never will be.
    failure: Option<FileError>,
}

#[derive(Debug)]
struct Place {
    name: String,
    info: TensorInfo,
    is_late: bool,
    is_written: bool,
}

impl TensorWriter {
    /// Makes a file for tensors of these names, types and shapes, and for lists of bytes of the names `late`.
    ///
    /// # Errors
    ///
    /// - [`FileError::Io`] if the file cannot be made.
    /// - [`FileError::DuplicateKey`] if a name stands twice.
    /// - [`FileError::AnnouncedSize`] if tensors have no size that a file can have, [`FileError::HeaderLen`] if there are too many of them.
    pub fn create(
        path: &Path,
        metadata: &BTreeMap<String, String>,
        tensors: impl IntoIterator<Item = (String, Dtype, Vec<usize>)>,
        late: impl IntoIterator<Item = String>,
    ) -> Result<Self, FileError> {
        let mut tensors: Vec<_> = tensors.into_iter().collect();
        tensors.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let (mut places, mut end) = (Vec::new(), 0_usize);
        for (name, dtype, shape) in tensors {
            let mut info = TensorInfo {
                dtype,
                shape,
                data_offsets: (end, end),
            };
            let sum = header::byte_len(&info).and_then(|len| end.checked_add(len));
            let Some(sum) = sum.filter(|&sum| i64::try_from(sum).is_ok()) else {
                let TensorInfo { dtype, shape, .. } = info;
                return Err(FileError::AnnouncedSize { name, dtype, shape });
            };
            info.data_offsets.1 = sum;
            end = sum;
            places.push(Place::new(name, info, false));
        }
        for name in late {
            // As wide as numbers get, so that there is room in the header for what comes.
            let info = TensorInfo {
                dtype: Dtype::U8,
                shape: vec![usize::MAX],
                data_offsets: (usize::MAX, usize::MAX),
            };
            places.push(Place::new(name, info, true));
        }
        let mut by_name = HashMap::with_capacity(places.len());
        for (i, place) in places.iter().enumerate() {
            if by_name.insert(place.name.clone(), i).is_some() {
                let key = place.name.clone();
                return Err(FileError::DuplicateKey { key });
            }
        }
        let header = header::write(metadata, &infos(&places), 0)?;
        Ok(Self {
            temporary: Temporary::create(path)?,
            metadata: metadata.clone(),
            places,
            by_name,
            start: header::LEN + header.len() as u64,
            end,
            failure: None,
        })
    }

    /// Writes the bytes of a tensor to its place.
    ///
    /// # Errors
    ///
    /// - [`FileError::NotAnnounced`] if there is to be none of that name.
    /// - [`FileError::WrittenTwice`] if it was written before, [`FileError::WrittenLen`] if it was announced with another length.
    /// - [`FileError::Io`] if that fails; all later calls return it too.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.check()?;
        let Some(&place) = self.by_name.get(name) else {
            return Err(FileError::NotAnnounced {
                name: name.to_owned(),
            });
        };
        let place = &mut self.places[place];
        if place.is_written {
            return Err(FileError::WrittenTwice {
                name: name.to_owned(),
            });
        }
        if place.is_late {
            place.info.shape = vec![bytes.len()];
            place.info.data_offsets = (self.end, self.end + bytes.len());
            self.end += bytes.len();
        }
        let (start, end) = place.info.data_offsets;
        if end - start != bytes.len() {
            return Err(FileError::WrittenLen {
                name: name.to_owned(),
                expected: end - start,
                got: bytes.len(),
            });
        }
        let at = SeekFrom::Start(self.start + start as u64);
        let file = &mut self.temporary.file;
        if let Err(error) = file.seek(at).and_then(|_| file.write_all(bytes)) {
            let error = FileError::io(&self.temporary.path, &error);
            self.failure = Some(error.clone());
            return Err(error);
        }
        place.is_written = true;
        Ok(())
    }

    fn check(&self) -> Result<(), FileError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Bytes of all tensors, without the header.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.end
    }

    /// Writes the header and gives the file its name.
    ///
    /// # Errors
    ///
    /// - [`FileError::NotWritten`] if a tensor was announced and not written.
    /// - [`FileError::Io`] if that fails, or if a tensor could not be written; an old file of that name is still there then.
    pub fn finish(mut self) -> Result<(), FileError> {
        self.write_header()?;
        self.temporary.finish()
    }

    fn write_header(&mut self) -> Result<(), FileError> {
        self.check()?;
        if let Some(place) = self.places.iter().find(|place| !place.is_written) {
            return Err(FileError::NotWritten {
                name: place.name.clone(),
            });
        }
        let room = (self.start - header::LEN) as usize;
        let header = header::write(&self.metadata, &infos(&self.places), room)?;
        let file = &mut self.temporary.file;
        file.rewind()
            .and_then(|()| file.write_all(&(header.len() as u64).to_le_bytes()))
            .and_then(|()| file.write_all(&header))
            .map_err(|error| FileError::io(&self.temporary.path, &error))
    }
}

impl Place {
    fn new(name: String, info: TensorInfo, is_late: bool) -> Self {
        Self {
            name,
            info,
            is_late,
            is_written: false,
        }
    }
}

fn infos(places: &[Place]) -> Vec<(&str, &TensorInfo)> {
    let mut infos: Vec<_> = { places.iter() }
        .map(|place| (&place.name[..], &place.info))
        .collect();
    infos.sort_by_key(|(_, info)| info.data_offsets.0);
    infos
}

/// A file beside its place, under a name that nobody else has. It is removed again unless it is finished.
#[derive(Debug)]
struct Temporary {
    file: NamedTempFile,
    path: PathBuf,
}

impl Temporary {
    fn create(path: &Path) -> Result<Self, FileError> {
        let io = |error| FileError::io(path, &error);
        let folder = folder(path);
        fs::create_dir_all(folder).map_err(io)?;
        let mut start = path.file_name().unwrap_or_default().to_owned();
        start.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&start).suffix(".tmp");
        // Not for its owner alone, as temporary files else are, but as any new file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(io)?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    fn finish(self) -> Result<(), FileError> {
        let Self { file, path } = self;
        let io = |error| FileError::io(&path, &error);
        file.as_file().sync_all().map_err(io)?;
        file.persist(&path).map_err(|refused| io(refused.error))?;
        sync(folder(&path));
        Ok(())
    }
}

/// The folder of a file; that of a bare name is the one that we are in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Best effort: a new name outlives a power cut only if its folder is on the disk too; not all systems can do that.
pub(crate) fn sync(folder: &Path) {
    let _: io::Result<()> = File::open(folder).and_then(|folder| folder.sync_all());
}
