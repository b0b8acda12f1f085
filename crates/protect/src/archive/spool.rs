//! The spool: what of a source's log is not in every repository yet.
//!
//! ```text
//! <spool>/<source>/lock                                   held by the recorder that works here
//! <spool>/<source>/<stream id>/stream.json                what the stream is, and up to where every repository has it
//! <spool>/<source>/<stream id>/<start, 16 hex>.journal    the bytes from that log offset on; the last one is open
//! ```
//!
//! Journals follow one another without a hole: each ends where the next begins, and says in its head what the stream is there
//! ([`LogTail`](super::kind::LogTail)). A journal is removed when every repository holds its bytes, and the last one of a stream that is gone on with never, be
//! it empty. So whatever moment a recorder is killed at, the journals tell all that it held and where it stands.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ballast_base::{create_private_dir, sync_dir, write_durable};
use ballast_repository::{Link, StreamId};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::kind::LogStream;
use crate::error::{ErrorKind, ProtectError, Result, chain};

const STATE_FILE: &str = "stream.json";
const STATE_FORMAT: u32 = 1;
const JOURNAL: &str = "journal";
/// A journal that takes another one's place when it is whole.
pub(super) const UNFINISHED: &str = "unfinished";
/// A state is a few hundred bytes, and as much again as the executed sets in the facts take.
const STATE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The folder of one source.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    /// Nobody else works here while this is held.
    _lock: Option<File>,
}

/// The folder of one stream in it.
#[derive(Debug, Clone)]
pub(crate) struct StreamFolder {
    pub(crate) path: PathBuf,
}

/// `stream.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    format: u32,
    pub(crate) stream: StreamId,
    pub(crate) facts: LogStream,
    /// Up to here every repository has it.
    pub(crate) end: u64,
    /// The link of the segment that ends there.
    pub(crate) link: Link,
}

impl State {
    /// Of a stream that begins.
    pub(crate) fn new(stream: StreamId, facts: LogStream) -> Self {
        Self {
            format: STATE_FORMAT,
            stream,
            facts,
            end: 0,
            link: Link::FIRST,
        }
    }

    pub(crate) fn with_end(&self, end: u64, link: Link) -> Self {
        Self {
            end,
            link,
            ..self.clone()
        }
    }
}

/// One stream as it was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) folder: StreamFolder,
    pub(crate) state: State,
    /// By their start, in order.
    pub(crate) journals: Vec<(u64, PathBuf)>,
}

impl Spool {
    /// Opens the part of `source`, and makes it if it is not there.
    pub(crate) fn open(root: &Path, source: &str) -> Result<Self> {
        let folder = root.join(source);
        create_private_dir(&folder).map_err(|error| at("open the spool", &folder, error))?;
        let path = folder.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| at("open the spool", &path, error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let message = format!("the spool \"{}\" is used by another recorder", folder.display());
                return Err(ProtectError::new(ErrorKind::Held, message)
                    .hint("one archive of a source runs at a time: end that one first"));
            }
            Err(error) => return Err(at("lock the spool", &path, std::io::Error::from(error))),
        }
        for path in [&folder, root] {
            sync_dir(path).map_err(|error| at("open the spool", path, error))?;
        }
        Ok(Self {
            folder,
            _lock: Some(lock),
        })
    }

    /// The same for who only looks; nothing is made.
    pub(crate) fn at(root: &Path, source: &str) -> Self {
        Self {
            folder: root.join(source),
            _lock: None,
        }
    }

    /// Makes the folder of a new stream: from the moment its state is there it is a stream of this spool.
    pub(crate) fn begin(&self, state: &State) -> Result<StreamFolder> {
        let folder = StreamFolder {
            path: self.folder.join(state.stream.to_string()),
        };
        create_private_dir(&folder.path).map_err(|error| at("make the folder of a stream", &folder.path, error))?;
        folder.save(state)?;
        sync_dir(&self.folder).map_err(|error| at("make the folder of a stream", &self.folder, error))?;
        Ok(folder)
    }

    /// Everything that is there, the oldest stream first. A folder without a state is of a stream that never began and is removed.
    pub(crate) fn scan(&self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for path in entries(&self.folder)? {
            if !path.is_dir() {
                continue;
            }
            let folder = StreamFolder { path };
            let Some(state) = folder.load()? else {
                folder.remove_if_empty()?;
                continue;
            };
            folder.clean()?;
            let mut journals = Vec::new();
            for path in entries(&folder.path)? {
                if path.extension().is_some_and(|extension| extension == JOURNAL) {
                    journals.push((start_of(&path)?, path));
                }
            }
            journals.sort();
            found.push(Found {
                folder,
                state,
                journals,
            });
        }
        found.sort_by_key(|found| found.state.facts.started_at());
        Ok(found)
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        let mut bytes = 0;
        // What cannot be read now is not counted; the next look finds it.
        for folder in entries(&self.folder).unwrap_or_default() {
            for file in entries(&folder).unwrap_or_default() {
                bytes += file.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        bytes
    }
}

impl StreamFolder {
    pub(crate) fn journal(&self, start: u64) -> PathBuf {
        self.path.join(format!("{start:016x}.{JOURNAL}"))
    }

    pub(crate) fn save(&self, state: &State) -> Result<()> {
        let text = serde_json::to_vec(state).map_err(|error| at("write the state of a stream", &self.path, error))?;
        let path = self.path.join(STATE_FILE);
        write_durable(&path, &text).map_err(|error| at("write the state of a stream", &path, error))
    }

    fn load(&self) -> Result<Option<State>> {
        let path = self.path.join(STATE_FILE);
        let step = "read the state of a stream";
        let length = match path.metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(step, &path, error)),
        };
        if length > STATE_BYTES_MAX {
            return Err(unknown(&path, "it is too large"));
        }
        let text = std::fs::read(&path).map_err(|error| at(step, &path, error))?;
        let state: State = serde_json::from_slice(&text).map_err(|error| unknown(&path, &error.to_string()))?;
        if state.format != STATE_FORMAT {
            return Err(unknown(&path, "it is of another version of ballast"));
        }
        Ok(Some(state))
    }

    /// A stream that was not gone on with and is in every repository.
    pub(crate) fn remove(&self) -> Result<()> {
        let path = self.path.join(STATE_FILE);
        std::fs::remove_file(&path).map_err(|error| at("remove the state of a stream", &path, error))?;
        self.remove_if_empty()
    }

    /// Removes what a write that was cut off has left.
    fn clean(&self) -> Result<()> {
        for part in entries(&self.path)? {
            if part
                .extension()
                .is_some_and(|extension| extension == "part" || extension == UNFINISHED)
            {
                std::fs::remove_file(&part).map_err(|error| at("remove file", &part, error))?;
            }
        }
        Ok(())
    }

    fn remove_if_empty(&self) -> Result<()> {
        self.clean()?;
        // Anything else keeps the folder, and is for a person to look at.
        match std::fs::remove_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed.map_err(|error| at("remove folder", &self.path, error)),
        }
    }
}

fn start_of(path: &Path) -> Result<u64> {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let hex = name.len() == 16 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let start = u64::from_str_radix(name, 16).ok().filter(|_| hex);
    start.ok_or_else(|| unknown(path, "its name is no log offset"))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let step = "read folder";
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(step, folder, error)),
    };
    let paths: std::io::Result<Vec<PathBuf>> = listed.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(|error| at(step, folder, error))?;
    paths.sort();
    Ok(paths)
}

/// A failure of the machine's own disk.
pub(crate) fn at(step: &str, path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> ProtectError {
    let message = format!("{step}: {}: {}", path.display(), chain(&error));
    ProtectError::failed(message).because(error)
}

/// What helps a spool that cannot be written.
pub(super) fn remedy(error: &(dyn std::error::Error + 'static)) -> &'static str {
    use std::io::ErrorKind as K;
    let causes = std::iter::successors(Some(error), |error| error.source());
    let kind = causes
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .map(std::io::Error::kind)
        .last();
    match kind {
        Some(K::NotFound | K::NotADirectory) => {
            "the folder of the spool is gone: end this and start it again, and it goes on with what is still on the server"
        }
        Some(K::PermissionDenied | K::ReadOnlyFilesystem) => {
            "let this user write to the folder of the spool; the log is read no further until then"
        }
        Some(K::StorageFull | K::QuotaExceeded) => {
            "make room on the disk of the spool; the log is read no further until then"
        }
        _ => "look after the disk of the spool; the log is read no further until then",
    }
}

fn unknown(path: &Path, why: &str) -> ProtectError {
    ProtectError::failed(format!("\"{}\" in the spool is not understood: {why}", path.display())).hint(
        "move its folder away: what the repositories have stays, and a new stream begins with what is still on the server",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_depends_on_what_is_wrong() {
        for (code, words) in [
            (2, "is gone"),
            (28, "make room"),
            (13, "let this user write"),
            (5, "look after"),
        ] {
            let error = at("write", Path::new("/spool"), std::io::Error::from_raw_os_error(code));
            assert!(remedy(&error).contains(words), "{code}: {}", remedy(&error));
        }
    }
}
