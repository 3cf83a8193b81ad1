//! The data directory: who owns it, and how files in it are replaced.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "lock";

/// Exclusive ownership of a data directory, held until dropped (or until the process dies, however it dies).
#[derive(Debug)]
pub struct DataDirLock {
    /// The advisory lock lives as long as this file is open.
    _file: File,
    path: PathBuf,
}

/// Why a data directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process owns it.
    #[error("data directory `{}` is already used by process {}", dir.display(), pid.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string()))]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The owner, if it has written its id already.
        pid: Option<u32>,
    },
    /// It could not be created or its lock file not be opened.
    #[error("data directory `{}` cannot be used", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

impl DataDirLock {
    /// Creates `dir` with mode 0700 if it is absent and takes it for this process.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let io_error = |source| LockError::Io { dir: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(LOCK_FILE))
            .map_err(io_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // An unreadable id only makes the message poorer.
                let _ = file.read_to_string(&mut owner);
                return Err(LockError::Held { dir: dir.to_owned(), pid: owner.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(io_error(source)),
        }
        let write_pid = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{}", std::process::id())
        };
        write_pid(&mut file).map_err(io_error)?;
        Ok(Self { _file: file, path: dir.to_owned() })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Replaces the file at `path` by `content` so that a reader, or a process killed at any instant, sees either the old
/// file or the new one whole. `mode`: permission bits of the new file (0o600 for secrets).
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = dir.join(temporary);
    let result = (|| {
        // A left-over of a killed process with the same id would keep its old mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_data_directory_has_one_owner() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        let lock = DataDirLock::acquire(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        let error = DataDirLock::acquire(&dir).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("data directory `{}` is already used by process {}", dir.display(), std::process::id())
        );
        drop(lock);
        DataDirLock::acquire(&dir).unwrap();
    }

    #[test]
    fn a_replaced_file_has_the_new_content_and_mode() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("kubeconfig");
        write_atomically(&path, b"first", 0o644).unwrap();
        write_atomically(&path, b"second", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("taken")).unwrap();
        assert!(write_atomically(&root.path().join("taken"), b"x", 0o600).is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
