//! Where the spool's bytes lie: a file that never grows past its bound.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use redb::StorageBackend;
use redb::backends::FileBackend;

/// Opens the storage anew; called at the start and after each failure.
pub(super) type OpenStorage = Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send>;

/// Storage that refuses to grow past `bytes_max`.
///
/// The spool counts what it stores and stops before that; this is the guarantee behind the count. It takes no
/// locks: the data directory's lock file already keeps a second agent away.
#[derive(Debug)]
pub(super) struct Bounded {
    storage: Box<dyn StorageBackend>,
    bytes_max: u64,
}

impl Bounded {
    pub(super) fn new(storage: Box<dyn StorageBackend>, bytes_max: u64) -> Self {
        Self { storage, bytes_max }
    }
}

impl StorageBackend for Bounded {
    fn len(&self) -> io::Result<u64> {
        self.storage.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.storage.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.bytes_max && len > self.storage.len()? {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.storage.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.storage.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.storage.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.storage.close()
    }
}

/// The file at `path`, made readable by its owner alone if it does not exist.
pub(super) fn open_file(path: &Path) -> io::Result<Box<dyn StorageBackend>> {
    let storage = FileBackend::new(private_file(path)?).map_err(io::Error::other)?;
    Ok(Box::new(storage))
}

/// Opens or makes a file that others cannot read.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
