//! A folder beside the target in which everything is made, and which becomes the target when all of it is there.
//!
//! It has a name that follows from the target's, and a file that is locked for as long as its maker lives: the system takes the lock from
//! whoever was killed. So the next run knows what is left of a run that was stopped, and clears it away.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::FileError;
use super::checkpoint::SINGLE;
use super::writer::{folder, sync};

/// The file that is locked. A folder without it is not ours.
const LOCK: &str = "llm-quant.lock";

/// What the target is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The folder with all that was made.
    Folder,
    /// The one file of it, which is called [`SINGLE`] there.
    File,
}

/// Where files are made. All of them are removed again unless they are published.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: PathBuf,
    target: PathBuf,
    kind: Kind,
    /// Locked until the end.
    lock: Option<File>,
}

impl Stage {
    /// Makes the folder beside `target`, which must not be there yet, or be an empty folder if it is to be one.
    pub(crate) fn open(target: &Path, kind: Kind) -> Result<Self, FileError> {
        check_vacant(target, kind)?;
        // So that `..` has a name too.
        let target = match fs::canonicalize(target) {
            Ok(real) => real,
            Err(_) => target.to_owned(),
        };
        let Some(name) = target.file_name() else {
            let error = io::Error::from(io::ErrorKind::InvalidFilename);
            return Err(FileError::io(&target, &error));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".unfinished");
        let parent = folder(&target);
        fs::create_dir_all(parent).map_err(|error| FileError::io(parent, &error))?;
        let folder = parent.join(hidden);
        let lock = claim(&folder)?;
        let stage = Self {
            folder,
            target,
            kind,
            lock: Some(lock),
        };
        // Another run may have ended since.
        check_vacant(&stage.target, kind)?;
        stage.clear()?;
        Ok(stage)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Removes all files but the lock.
    fn clear(&self) -> Result<(), FileError> {
        let io = |error| FileError::io(&self.folder, &error);
        for entry in fs::read_dir(&self.folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            if entry.file_name() != LOCK {
                let path = entry.path();
                fs::remove_file(&path).map_err(|error| FileError::io(&path, &error))?;
            }
        }
        Ok(())
    }

    /// Gives what was made the name of the target.
    pub(crate) fn publish(self) -> Result<(), FileError> {
        match self.kind {
            Kind::Folder => self.publish_folder(),
            Kind::File => self.publish_file(),
        }
    }

    fn publish_folder(mut self) -> Result<(), FileError> {
        sync(&self.folder);
        if cfg!(windows) {
            self.lock = None; // there, a folder with an open file has to keep its name
        }
        let mut renamed = fs::rename(&self.folder, &self.target);
        if renamed.is_err() && fs::remove_dir(&self.target).is_ok() {
            // Not all systems replace an empty folder.
            renamed = fs::rename(&self.folder, &self.target);
        }
        renamed.map_err(|error| self.occupied_or(&error))?;
        // Best effort: the checkpoint is whole with that file too.
        let _: io::Result<()> = fs::remove_file(self.target.join(LOCK));
        sync(folder(&self.target));
        Ok(())
    }

    fn publish_file(self) -> Result<(), FileError> {
        let made = self.folder.join(SINGLE);
        // A second name never replaces a file, a new name does.
        let linked = match fs::hard_link(&made, &self.target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                check_vacant(&self.target, self.kind)?;
                fs::rename(&made, &self.target)
            }
            other => other,
        };
        linked.map_err(|error| self.occupied_or(&error))?;
        sync(folder(&self.target));
        Ok(())
    }

    fn occupied_or(&self, error: &io::Error) -> FileError {
        match check_vacant(&self.target, self.kind) {
            Err(occupied) => occupied,
            Ok(()) => FileError::io(&self.target, error),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Best effort: what stays is cleared away by the next run. After a folder was published there is none of that name.
        if self.clear().is_ok() {
            let _: io::Result<()> = fs::remove_file(self.folder.join(LOCK));
            let _: io::Result<()> = fs::remove_dir(&self.folder);
        }
    }
}

/// That there is nothing, or an empty folder where there is to be one.
fn check_vacant(target: &Path, kind: Kind) -> Result<(), FileError> {
    let occupied = |path: PathBuf| Err(FileError::Occupied { path });
    match fs::metadata(target) {
        Ok(found) if found.is_dir() && kind == Kind::Folder => {
            let io = |error| FileError::io(target, &error);
            match fs::read_dir(target).map_err(io)?.next() {
                Some(entry) => occupied(entry.map_err(io)?.path()),
                None => Ok(()),
            }
        }
        Ok(_) => occupied(target.to_owned()),
        // A link that leads nowhere is something, too.
        Err(_) if target.symlink_metadata().is_ok() => occupied(target.to_owned()),
        Err(_) => Ok(()),
    }
}

/// Makes the folder, or takes over what a run left that was stopped, and locks it.
fn claim(folder: &Path) -> Result<File, FileError> {
    let io = |error: &io::Error| FileError::io(folder, error);
    let busy = || FileError::Busy {
        path: folder.to_owned(),
    };
    let path = folder.join(LOCK);
    loop {
        let made = fs::create_dir(folder);
        match &made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io(error)),
            Err(_) => check_ours(folder)?,
            Ok(()) => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = match options.open(&path) {
            // Its maker removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(|error| FileError::io(&path, &error))?,
        };
        match file.try_lock() {
            Ok(()) if is_still(&file, &path) => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy()),
            // Some systems have no locks: there only the caller knows whether another run lives.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return made.map(|()| file).map_err(|_| busy());
            }
            Err(TryLockError::Error(error)) => return Err(FileError::io(&path, &error)),
        }
    }
}

/// That a folder of this name was made by us.
fn check_ours(folder: &Path) -> Result<(), FileError> {
    let occupied = || FileError::Occupied {
        path: folder.to_owned(),
    };
    let is_folder = folder.symlink_metadata().is_ok_and(|found| found.is_dir());
    if !is_folder {
        return Err(occupied());
    }
    let has_lock = folder.join(LOCK).symlink_metadata();
    let is_file = has_lock.as_ref().is_ok_and(|found| found.is_file());
    // Without a lock it may just have been made, or be about to go.
    let is_empty = || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    match is_file || (has_lock.is_err() && is_empty()) || !folder.exists() {
        true => Ok(()),
        false => Err(occupied()),
    }
}

/// Whether a file that was locked is still the one of that name.
#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(ours), Ok(found)) => same(ours, found),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_still(_: &File, path: &Path) -> bool {
    path.exists()
}
