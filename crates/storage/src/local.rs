//! Objects as files in one folder of this machine.
//!
//! An object appears under its name whole and durable or not at all, whatever dies at whatever moment (see `write`).
//! Names are resolved from an open handle of the root, part by part, and no link is ever followed below it, so nobody
//! can lead a write out of the folder. The root must belong to the user who runs this and be closed to all others.
//! The root's own path may go through links: what counts is the folder it leads to, and that one is checked.

mod direct;
mod folder;
mod walk;
mod write;

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use ballast_base::{create_private_dir, run_blocking, sync_dir};
use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::{Capabilities, OBJECT_BYTES_MAX, ObjectFacts, ObjectName, Space, Storage, StorageError};

/// A folder of this machine.
#[derive(Debug)]
pub struct LocalStorage {
    root: Arc<Root>,
}

/// What the blocking steps share.
#[derive(Debug)]
struct Root {
    folder: OwnedFd,
    location: String,
    writer: write::Writer,
}

impl LocalStorage {
    /// Opens a folder that is there.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let location = location_of(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Err(StorageError::NoRoot { location }),
            Err(Errno::NOTDIR) => {
                let hint = "name a folder".to_owned();
                return Err(StorageError::Misconfigured {
                    location,
                    problem: "it is no folder".to_owned(),
                    hint,
                });
            }
            Err(error) => return Err(failed(&location, "open the folder".to_owned(), error.into())),
        };
        let stat = rustix::fs::fstat(&folder)
            .map_err(|error| failed(&location, "look at the folder".to_owned(), error.into()))?;
        check_private(path, &location, &stat, rustix::process::geteuid().as_raw())?;
        Ok(Self {
            root: Arc::new(Root {
                folder,
                location,
                writer: write::Writer::default(),
            }),
        })
    }

    /// Opens a folder; creates it and its missing parents first, closed to others, if it is not there.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        let missing: Vec<PathBuf> = path
            .ancestors()
            .take_while(|folder| !folder.exists())
            .map(Path::to_owned)
            .collect();
        create_private_dir(path)
            .and_then(|()| missing.iter().filter_map(|made| made.parent()).try_for_each(sync_dir))
            .map_err(|error| failed(&location_of(path), "create the folder".to_owned(), error.source))?;
        Self::open(path)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: String,
        work: impl FnOnce(&Root) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let root = Arc::clone(&self.root);
        let done = run_blocking("local storage", move || work(&root)).await;
        done.unwrap_or_else(|error| Err(StorageError::from_task(&self.root.location, action, error)))
    }
}

fn location_of(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Refuses a folder that others can look into or whose owner is someone else.
fn check_private(path: &Path, location: &str, stat: &Stat, user: u32) -> Result<(), StorageError> {
    let wrong = |problem, hint| {
        Err(StorageError::Misconfigured {
            location: location.to_owned(),
            problem,
            hint,
        })
    };
    let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    if owner != user {
        let problem = format!("the folder belongs to user {owner}, and this program runs as user {user}");
        return wrong(
            problem,
            format!("run it as user {owner}, or type: chown -R {user} '{}'", path.display()),
        );
    }
    if mode & 0o077 != 0 {
        let problem = format!("others can use the folder (mode {mode:04o})");
        return wrong(problem, format!("type: chmod 700 '{}'", path.display()));
    }
    Ok(())
}

/// What a failed system call means to the caller. `NOENT` is handled before, where it has a meaning.
fn failed(location: &str, action: String, error: std::io::Error) -> StorageError {
    let location = location.to_owned();
    let errno = Errno::from_io_error(&error);
    let source = error.into();
    match errno {
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => StorageError::Denied {
            location,
            action,
            source,
        },
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => StorageError::NoSpace {
            location,
            action,
            source,
        },
        Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO) => {
            let source = format!("something else stands where a plain file or folder must be: {source}").into();
            StorageError::Corrupt {
                location,
                action,
                source,
            }
        }
        _ => StorageError::Unavailable {
            location,
            action,
            source,
        },
    }
}

impl Root {
    /// `NotFound` where the system says so, else what `failed` makes of it.
    fn failed_on(&self, name: &ObjectName, action: impl FnOnce() -> String, error: std::io::Error) -> StorageError {
        if error.kind() == std::io::ErrorKind::NotFound {
            return StorageError::NotFound {
                location: self.location.clone(),
                name: name.clone(),
            };
        }
        failed(&self.location, action(), error)
    }

    /// An object's file and its size.
    fn open_object(&self, name: &ObjectName) -> Result<(File, u64), StorageError> {
        let action = || format!("open object \"{name}\"");
        // Not blocking: a pipe in the place of an object must not hang us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let (folders, last) = name.split();
        let opened = folder::open(self.folder.as_fd(), &folders)
            .and_then(|folder| Ok(File::from(rustix::fs::openat(&folder, last, flags, Mode::empty())?)))
            .and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        let (file, metadata) = opened.map_err(|error| self.failed_on(name, action, error))?;
        if !metadata.is_file() {
            return Err(StorageError::corrupt(&self.location, action(), "it is no plain file"));
        }
        Ok((file, metadata.len()))
    }

    fn get(&self, name: &ObjectName) -> Result<Bytes, StorageError> {
        let action = || format!("read object \"{name}\"");
        let (file, bytes) = self.open_object(name)?;
        let length = usize::try_from(bytes)
            .ok()
            .filter(|_| bytes <= OBJECT_BYTES_MAX)
            .ok_or_else(|| {
                StorageError::corrupt(
                    &self.location,
                    action(),
                    format!("{bytes} bytes are more than an object can have"),
                )
            })?;
        let mut body = Vec::with_capacity(length);
        file.take(bytes + 1)
            .read_to_end(&mut body)
            .map_err(|error| failed(&self.location, action(), error))?;
        if body.len() != length {
            let cause = format!("it changed from {bytes} to {} bytes while it was read", body.len());
            return Err(StorageError::corrupt(&self.location, action(), cause));
        }
        Ok(body.into())
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StorageError> {
        let action = || format!("read bytes {}..{} of object \"{name}\"", range.start, range.end);
        let (file, bytes) = self.open_object(name)?;
        let length = range
            .end
            .checked_sub(range.start)
            .filter(|length| *length <= OBJECT_BYTES_MAX);
        let length = length
            .and_then(|length| usize::try_from(length).ok())
            .filter(|_| range.end <= bytes);
        let Some(length) = length else {
            return Err(StorageError::corrupt(
                &self.location,
                action(),
                format!("it has {bytes} bytes"),
            ));
        };
        let mut body = vec![0; length];
        file.read_exact_at(&mut body, range.start)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    StorageError::corrupt(&self.location, action(), "it shrank while it was read")
                }
                _ => failed(&self.location, action(), error),
            })?;
        Ok(body.into())
    }

    fn head(&self, name: &ObjectName) -> Result<ObjectFacts, StorageError> {
        let action = || format!("look at object \"{name}\"");
        let (folders, last) = name.split();
        let stat = folder::open(self.folder.as_fd(), &folders)
            .and_then(|folder| Ok(rustix::fs::statat(&folder, last, AtFlags::SYMLINK_NOFOLLOW)?))
            .map_err(|error| self.failed_on(name, action, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(StorageError::corrupt(&self.location, action(), "it is no plain file"));
        }
        Ok(facts(name.clone(), &stat))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        let (folders, last) = name.split();
        let removed = folder::open(self.folder.as_fd(), &folders).and_then(|folder| {
            rustix::fs::unlinkat(&folder, last, AtFlags::empty())?;
            Ok(rustix::fs::fsync(&folder)?)
        });
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed(&self.location, format!("remove object \"{name}\""), error))
            }
            _ => Ok(()),
        }
    }

    fn space(&self) -> Result<Option<Space>, StorageError> {
        let volume = rustix::fs::fstatvfs(&self.folder)
            .map_err(|error| failed(&self.location, "ask for free space".to_owned(), error.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        Ok(Some(Space {
            total_bytes: bytes(volume.f_blocks),
            free_bytes: bytes(volume.f_bavail),
        }))
    }
}

fn facts(name: ObjectName, stat: &Stat) -> ObjectFacts {
    // A file system may hold any time; one beyond the calendar is no reason to hide the object.
    let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let modified_at = Timestamp::new(stat.st_mtime, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    ObjectFacts {
        name,
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        modified_at,
    }
}

#[async_trait]
impl Storage for LocalStorage {
    fn location(&self) -> String {
        self.root.location.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_create: true }
    }

    async fn put_new(&self, name: &ObjectName, body: Bytes) -> Result<(), StorageError> {
        let action = format!("write object \"{name}\"");
        let name = name.clone();
        self.blocking(action, move |root| root.put_new(&name, &body)).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StorageError> {
        let action = format!("read object \"{name}\"");
        let name = name.clone();
        self.blocking(action, move |root| root.get(&name)).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StorageError> {
        let action = format!("read object \"{name}\"");
        let name = name.clone();
        self.blocking(action, move |root| root.get_range(&name, range)).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectFacts, StorageError> {
        let action = format!("look at object \"{name}\"");
        let name = name.clone();
        self.blocking(action, move |root| root.head(&name)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<Vec<ObjectFacts>, StorageError> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.blocking("list objects".to_owned(), move |root| root.list(&prefix, after, limit))
            .await
    }

    async fn strangers(&self, limit: usize) -> Result<Vec<String>, StorageError> {
        self.blocking("look for strangers".to_owned(), move |root| root.strangers(limit))
            .await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        let action = format!("remove object \"{name}\"");
        let name = name.clone();
        self.blocking(action, move |root| root.delete(&name)).await
    }

    async fn space(&self) -> Result<Option<Space>, StorageError> {
        self.blocking("ask for free space".to_owned(), Root::space).await
    }
}

#[cfg(test)]
mod tests;
