//! How an object comes to its name.
//!
//! The bytes are written to a file without a name (`O_TMPFILE`), the file is synced, then linked to its name, which
//! fails if the name is taken, then the folder is synced. A crash before the link leaves nothing; a crash after it
//! leaves the whole object, whose bytes were durable before.
//!
//! Where the file system knows no nameless files, the file gets a random name in [`INCOMING`] and is moved without
//! replacing. A crash leaves such a file behind; the next writer removes it. It can tell because a live writer holds
//! a lock on its file and the lock dies with its holder.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ballast_base::random_hex;
use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::direct::write_whole;
use super::folder::{self, DurableFolders};
use super::{Root, failed};
use crate::{ObjectName, StorageError};

/// Where files wait for their names. No object name starts with a dot.
pub(super) const INCOMING: &str = ".incoming";

/// How often a write starts over because what stood in its way went away meanwhile.
const TRIES_MAX: u32 = 4;

/// What the writes of one process remember.
#[derive(Debug)]
pub(super) struct Writer {
    folders: DurableFolders,
    nameless_files: AtomicBool,
    swept: Once,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            folders: DurableFolders::default(),
            nameless_files: AtomicBool::new(true),
            swept: Once::new(),
        }
    }
}

impl Writer {
    /// Behaves as on a file system without nameless files.
    #[cfg(test)]
    pub(super) fn without_nameless_files(&self) {
        self.nameless_files.store(false, Ordering::Relaxed);
    }
}

enum Created {
    Yes,
    NameTaken,
    /// This file system cannot do it this way.
    NotThisWay,
}

impl Root {
    pub(super) fn put_new(&self, name: &ObjectName, body: &[u8]) -> Result<(), StorageError> {
        let action = || format!("write object \"{name}\"");
        StorageError::check_size(&self.location, name, body)?;
        self.writer.swept.call_once(|| self.sweep());
        let (folders, last) = name.split();
        let folder = self
            .writer
            .folders
            .make(self.folder.as_fd(), &folders)
            .map_err(|error| failed(&self.location, action(), error))?;
        for _ in 0..TRIES_MAX {
            match self.same_bytes(name, body)? {
                Some(true) => {}
                Some(false) => {
                    return Err(StorageError::AlreadyExists {
                        location: self.location.clone(),
                        name: name.clone(),
                    });
                }
                None => match self.create(folder.as_fd(), last, body) {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(error) => return Err(failed(&self.location, action(), error)),
                },
            }
            // Also when the object was there: the call that made it may have died before this.
            return rustix::fs::fsync(&folder).map_err(|error| failed(&self.location, action(), error.into()));
        }
        Err(failed(
            &self.location,
            action(),
            io::Error::other("others keep creating and removing it"),
        ))
    }

    /// Whether the object is there with these bytes; `None` if it is not there.
    fn same_bytes(&self, name: &ObjectName, body: &[u8]) -> Result<Option<bool>, StorageError> {
        let same = self.head(name).and_then(|facts| {
            // Nothing of another size is read.
            if facts.bytes == body.len() as u64 {
                self.get(name).map(|there| there == body)
            } else {
                Ok(false)
            }
        });
        match same {
            Ok(same) => Ok(Some(same)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `false` if the name is taken.
    fn create(&self, folder: BorrowedFd<'_>, last: &str, body: &[u8]) -> io::Result<bool> {
        if self.writer.nameless_files.load(Ordering::Relaxed) {
            match create_nameless(folder, last, body)? {
                Created::Yes => return Ok(true),
                Created::NameTaken => return Ok(false),
                Created::NotThisWay => self.writer.nameless_files.store(false, Ordering::Relaxed),
            }
        }
        let incoming = self.writer.folders.make(self.folder.as_fd(), &[INCOMING])?;
        for _ in 0..TRIES_MAX {
            match create_named(incoming.as_fd(), folder, last, body)? {
                Created::Yes => return Ok(true),
                Created::NameTaken => return Ok(false),
                Created::NotThisWay => {}
            }
        }
        Err(io::Error::other("waiting files keep being swept away"))
    }

    /// Removes what dead writers left. What cannot be removed stays: it is in nobody's way.
    fn sweep(&self) {
        let Ok(incoming) = folder::open(self.folder.as_fd(), &[INCOMING]) else {
            return;
        };
        let Ok(entries) = Dir::read_from(&incoming) else { return };
        for entry in entries.flatten() {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(file) = rustix::fs::openat(&incoming, entry.file_name(), flags, Mode::empty()) else {
                continue;
            };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                && let Err(error) = rustix::fs::unlinkat(&incoming, entry.file_name(), AtFlags::empty())
                && error != Errno::ISDIR
            {
                tracing::debug!(%error, location = self.location, "a left-over file stays");
            }
        }
    }
}

fn create_nameless(folder: BorrowedFd<'_>, last: &str, body: &[u8]) -> io::Result<Created> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(folder, ".", flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        // What file systems and kernels without nameless files say.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => return Ok(Created::NotThisWay),
        Err(error) => return Err(error.into()),
    };
    write_whole(&mut file, body)?;
    file.sync_all()?;
    // By way of /proc, because linking the bare handle needs a privilege.
    let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
    match rustix::fs::linkat(CWD, handle, folder, last, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => Ok(Created::Yes),
        Err(Errno::EXIST) => Ok(Created::NameTaken),
        // No /proc here, or a file system that cannot link.
        Err(Errno::NOENT | Errno::PERM | Errno::OPNOTSUPP) => Ok(Created::NotThisWay),
        Err(error) => Err(error.into()),
    }
}

fn create_named(incoming: BorrowedFd<'_>, folder: BorrowedFd<'_>, last: &str, body: &[u8]) -> io::Result<Created> {
    let part = random_hex(16);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(incoming, &part, flags, Mode::RUSR | Mode::WUSR)?);
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        // Where there are no locks a sweeper gets none either and removes nothing.
        Ok(()) | Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {}
        // A sweeper came between the two calls.
        Err(Errno::WOULDBLOCK) => return Ok(Created::NotThisWay),
        Err(error) => return Err(error.into()),
    }
    if rustix::fs::fstat(&file)?.st_nlink == 0 {
        return Ok(Created::NotThisWay);
    }
    let moved = write_whole(&mut file, body)
        .and_then(|()| file.sync_all())
        .and_then(|()| Ok(move_to_name(incoming, &part, folder, last)?));
    if !matches!(moved, Ok(Created::Yes)) {
        // The first outcome is the one to tell; a sweeper removes the part if this does not.
        _ = rustix::fs::unlinkat(incoming, &part, AtFlags::empty());
    }
    moved
}

fn move_to_name(
    incoming: BorrowedFd<'_>,
    part: &str,
    folder: BorrowedFd<'_>,
    last: &str,
) -> rustix::io::Result<Created> {
    let moved = match rustix::fs::renameat_with(incoming, part, folder, last, RenameFlags::NOREPLACE) {
        // A link does not replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(incoming, part, folder, last, AtFlags::empty())
                .and_then(|()| rustix::fs::unlinkat(incoming, part, AtFlags::empty()))
        }
        moved => moved,
    };
    match moved {
        Ok(()) => Ok(Created::Yes),
        Err(Errno::EXIST) => Ok(Created::NameTaken),
        Err(error) => Err(error),
    }
}
