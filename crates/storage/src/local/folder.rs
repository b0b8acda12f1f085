//! Folders below the root, opened part by part without following links.

use std::collections::HashSet;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// How many folders are remembered as durable; past that they are synced once more than needed.
const DURABLE_FOLDERS_MAX: usize = 65_536;

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The folder `parts` lead to from `root`.
pub(super) fn open(root: BorrowedFd<'_>, parts: &[&str]) -> io::Result<OwnedFd> {
    let mut folder = rustix::fs::openat(root, ".", FLAGS, Mode::empty())?;
    for part in parts {
        folder = rustix::fs::openat(&folder, *part, FLAGS, Mode::empty())?;
    }
    Ok(folder)
}

/// Folders whose own names are known to be durable.
#[derive(Debug, Default)]
pub(super) struct DurableFolders(Mutex<HashSet<String>>);

impl DurableFolders {
    /// Like [`open`], with missing folders created (mode 0700). A folder may have been made by another process that
    /// has not synced it yet, so a folder this process sees for the first time is made durable too.
    pub(super) fn make(&self, root: BorrowedFd<'_>, parts: &[&str]) -> io::Result<OwnedFd> {
        let mut folder = rustix::fs::openat(root, ".", FLAGS, Mode::empty())?;
        let mut path = String::new();
        for part in parts {
            path.push('/');
            path.push_str(part);
            let made = match rustix::fs::mkdirat(&folder, *part, Mode::RWXU) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(error) => return Err(error.into()),
            };
            if made || !self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&path) {
                rustix::fs::fsync(&folder)?;
                let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if known.len() < DURABLE_FOLDERS_MAX {
                    known.insert(path.clone());
                }
            }
            folder = rustix::fs::openat(&folder, *part, FLAGS, Mode::empty())?;
        }
        Ok(folder)
    }
}
