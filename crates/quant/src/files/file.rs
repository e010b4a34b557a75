//! One safetensors file, of which only what is asked for is read.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorInfo;

use super::header::{self, Header};
use super::source::info;
use super::{FileError, TensorSource};
use crate::four_bit::blocks::zeros;

/// A safetensors file whose header was read and checked; tensors are read when they are asked for.
///
/// # Example
///
/// ```
/// use llm_quant::files::{FileError, TensorFile, TensorSource};
/// use std::io::Cursor;
///
/// // A length, a header, and two bytes.
/// let header = br#"{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
/// let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
/// bytes.extend(header);
/// bytes.extend([7, 9]);
/// let mut file = TensorFile::new(Cursor::new(bytes))?;
/// assert_eq!(file.read("x")?, [7, 9]);
/// # Ok::<(), FileError>(())
/// ```
#[derive(Debug)]
pub struct TensorFile<R> {
    reader: R,
    path: PathBuf,
    header: Header,
    data_start: u64,
}

impl TensorFile<File> {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// - [`FileError::NotFile`] if it is a folder, a pipe or a device.
    /// - Those of [`new`](Self::new).
    ///
    /// # Example
    ///
    /// ```
    /// use llm_quant::files::{TensorFile, TensorSource};
    /// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/checkpoint_base/model.safetensors");
    /// # let file = std::path::Path::new(file);
    ///
    /// let file = TensorFile::open(file)?;
    /// assert_eq!(file.info("lm_head.weight").map(|info| info.shape.len()), Some(2));
    /// # Ok::<(), llm_quant::files::FileError>(())
    /// ```
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let file = open_file(path)?;
        Self::with_path(file, path.to_owned())
    }
}

impl<R: Read + Seek> TensorFile<R> {
    /// Reads the header of anything that can be read.
    ///
    /// # Errors
    ///
    /// - [`FileError::Io`] if it cannot be read.
    /// - [`FileError::Short`], [`FileError::HeaderLen`], [`FileError::HeaderJson`] or [`FileError::DuplicateKey`] if the header is none.
    /// - [`FileError::Region`], [`FileError::RegionLen`] or [`FileError::DataLen`] if the tensors do not fill the file.
    pub fn new(reader: R) -> Result<Self, FileError> {
        Self::with_path(reader, PathBuf::from("(memory)"))
    }

    fn with_path(mut reader: R, path: PathBuf) -> Result<Self, FileError> {
        let io = |error| FileError::io(&path, &error);
        let n_file = reader.seek(SeekFrom::End(0)).map_err(io)?;
        let short = |expected| FileError::Short {
            expected,
            got: n_file,
        };
        if n_file < header::LEN {
            return Err(short(header::LEN));
        }
        reader.rewind().map_err(io)?;
        let mut len = [0; header::LEN as usize];
        reader.read_exact(&mut len).map_err(io)?;
        let len = u64::from_le_bytes(len);
        if len > header::LIMIT {
            return Err(FileError::HeaderLen {
                limit: header::LIMIT,
                got: len,
            });
        }
        let data_start = header::LEN + len;
        if n_file < data_start {
            return Err(short(data_start));
        }
        let mut json = zeros::<u8>(len as usize).map_err(FileError::quant("the header"))?;
        reader.read_exact(&mut json).map_err(io)?;
        let header = header::parse(&json, n_file - data_start)?;
        Ok(Self {
            reader,
            path,
            header,
            data_start,
        })
    }

    /// What the file says about itself.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }
}

impl<R: Read + Seek> TensorSource for TensorFile<R> {
    fn names(&self) -> Vec<String> {
        self.header.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensors.get(name)
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, FileError> {
        let (start, end) = info(self, name)?.data_offsets;
        let mut bytes = zeros::<u8>(end - start).map_err(FileError::quant(name))?;
        let place = SeekFrom::Start(self.data_start + start as u64);
        self.reader
            .seek(place)
            .and_then(|_| self.reader.read_exact(&mut bytes))
            .map_err(|error| FileError::io(&self.path, &error))?;
        Ok(bytes)
    }
}

/// Opens what is a file; what is none may have no end.
pub(crate) fn open_file(path: &Path) -> Result<File, FileError> {
    let io = |error| FileError::io(path, &error);
    let check = |found: Metadata| match found.is_file() {
        true => Ok(()),
        false => Err(FileError::NotFile {
            path: path.to_owned(),
        }),
    };
    // Before it is opened, too: to open a pipe may take for ever.
    check(fs::metadata(path).map_err(io)?)?;
    let file = File::open(path).map_err(io)?;
    check(file.metadata().map_err(io)?)?;
    Ok(file)
}
