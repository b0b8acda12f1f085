//! The folder a private server, or a tool, has for itself: its socket, its log, its temporary files.
//!
//! Its owner holds a lock on a file in it, and the lock dies with the owner. One that was killed leaves the folder behind, and often
//! its server or tool; the next one that makes such a folder takes both away. It knows them by the lock that nobody holds; a folder
//! without that file is not ours to judge.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::{Cancel, Cancelled, Clock as _, SystemClock, random_hex};

/// Hex digits behind the prefix of a folder's name.
const NAME_DIGITS: usize = 12;
const SOCKET: &str = "s";
const LOG_NAME: &str = "log";
const OWNER: &str = "owner";
/// How much of the end of its log an error shows.
const LOG_TAIL_BYTES: u64 = 4096;
const LOG_TAIL_LINES: usize = 20;
/// The operating system's limit on the path of a socket is 108 bytes with its end.
const SOCKET_BYTES_MAX: usize = 107;
/// How often a folder is made anew because it was swept away before it was locked.
const TRIES_MAX: u32 = 4;
/// A killed server is gone within this time.
const END_WAIT_MAX: Duration = Duration::from_secs(10);
const END_LOOK_EVERY: Duration = Duration::from_millis(20);

/// The server's own folder. Dropped, it is removed.
#[derive(Debug)]
pub struct Scratch {
    pub path: PathBuf,
    /// Held while the owner lives.
    _lock: File,
}

/// Why there is no such folder.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    #[error("{step} \"{}\"", path.display())]
    File {
        step: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },

    /// A socket in it could not be made.
    #[error("folder \"{}\" is too long for a socket", parent.display())]
    TooLong { parent: PathBuf },
}

impl ScratchError {
    pub fn hint(&self) -> &'static str {
        "choose a shorter scratch folder, such as /tmp"
    }
}

impl Scratch {
    /// Makes one in `parent`, with a name that begins with `prefix`.
    pub fn create(parent: &Path, prefix: &str) -> Result<Self, ScratchError> {
        let file_error = |step, path: &Path, source| ScratchError::File {
            step,
            path: path.to_owned(),
            source,
        };
        for _ in 0..TRIES_MAX {
            let path = parent.join(format!("{prefix}{}", random_hex(NAME_DIGITS / 2)));
            // A name that is there already is an error: the folder must be ours alone.
            DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(|error| file_error("create folder", &path, error))?;
            let Some(lock) = lock_living(&path).map_err(|error| file_error("lock folder", &path, error))? else {
                // A sweeper came between the two calls and took it for one without an owner.
                continue;
            };
            let scratch = Self { path, _lock: lock };
            if scratch.socket().as_os_str().len() > SOCKET_BYTES_MAX {
                return Err(ScratchError::TooLong {
                    parent: parent.to_owned(),
                });
            }
            return Ok(scratch);
        }
        Err(file_error(
            "create folder",
            parent,
            std::io::Error::other("new folders keep being swept away"),
        ))
    }

    pub fn socket(&self) -> PathBuf {
        socket_in(&self.path)
    }

    pub fn create_log(&self) -> Result<File, ScratchError> {
        let path = self.path.join(LOG_NAME);
        let created = File::options().create_new(true).append(true).mode(0o600).open(&path);
        created.map_err(|source| ScratchError::File {
            step: "create file",
            path,
            source,
        })
    }

    /// The end of the log.
    pub fn log_tail(&self) -> String {
        let read = || {
            let mut file = File::open(self.path.join(LOG_NAME)).ok()?;
            let length = file.metadata().ok()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES))).ok()?;
            let mut bytes = Vec::new();
            file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_else(|| "(no log was written)".to_owned());
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(LOG_TAIL_LINES)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing of worth is in it, and there is nobody to tell.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

/// Makes and locks the file that says a folder is owned; `None` if a sweeper came between the two.
fn lock_living(folder: &Path) -> std::io::Result<Option<File>> {
    let path = folder.join(OWNER);
    let file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        // Where there are no locks a sweeper gets none either and removes nothing.
        Ok(()) | Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    Ok((file.metadata()?.nlink() > 0).then_some(file))
}

/// Where the socket is in such a folder.
pub fn socket_in(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

/// Takes away what dead owners of this user left in `parent`: their servers, which nobody else would end and which `servers_of` a
/// folder finds, and their folders. What cannot be taken away stays: it is in nobody's way.
pub async fn sweep(
    parent: &Path,
    prefix: &str,
    servers_of: impl Fn(&Path) -> Vec<Pid> + Send,
    cancel: &Cancel,
) -> Result<(), Cancelled> {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if !is_ours(&entry.file_name(), prefix) {
            continue;
        }
        let path = entry.path();
        let Some(lock) = lock_dead(&path) else { continue };
        let clock = SystemClock::new();
        let give_up_at = clock.elapsed() + END_WAIT_MAX;
        let mut running = servers_of(&path);
        for pid in &running {
            // One that ended meanwhile is what was wanted.
            _ = kill_process(*pid, Signal::KILL);
        }
        while !running.is_empty() && clock.elapsed() < give_up_at {
            cancel.race(clock.sleep(END_LOOK_EVERY)).await?;
            running = servers_of(&path);
        }
        if running.is_empty() {
            drop(std::fs::remove_dir_all(&path));
        }
        drop(lock);
    }
    Ok(())
}

fn is_ours(name: &OsStr, prefix: &str) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix(prefix));
    digits.is_some_and(|digits| digits.len() == NAME_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// The lock of a folder that a process of this user owned and owns no more; held until it is removed.
fn lock_dead(folder: &Path) -> Option<File> {
    folder.symlink_metadata().ok().filter(std::fs::Metadata::is_dir)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(folder.join(OWNER), flags, Mode::empty()).ok()?);
    let facts = file.metadata().ok()?;
    let ours = facts.is_file() && facts.uid() == geteuid().as_raw();
    (ours && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()).then_some(file)
}

/// Processes whose command line, its parts divided by zero bytes, is such a one.
pub fn processes_where(is_such: impl Fn(&[u8]) -> bool) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            // Empty for a process that has ended and is not waited for.
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            is_such(&command).then_some(pid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_dead_left_goes_and_what_the_living_use_stays() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Scratch::create(parent.path(), "ballast-").unwrap();
        alive.create_log().unwrap();
        let dead = parent.path().join("ballast-0123456789ab");
        std::fs::create_dir(&dead).unwrap();
        File::create(dead.join(LOG_NAME)).unwrap();
        File::create(dead.join(OWNER)).unwrap();
        let other = ["ballast-other", "ballast-0123456789abcd", "ballast-redis-0123456789ab"];
        let outside = parent.path().join("kept");
        for folder in other.map(|name| parent.path().join(name)).iter().chain([&outside]) {
            std::fs::create_dir(folder).unwrap();
            File::create(folder.join(OWNER)).unwrap();
        }
        let unowned = parent.path().join("ballast-aaaaaaaaaaaa");
        std::fs::create_dir(&unowned).unwrap();
        std::os::unix::fs::symlink(&outside, parent.path().join("ballast-f0987654321a")).unwrap();

        sweep(parent.path(), "ballast-", |_| Vec::new(), &Cancel::new())
            .await
            .unwrap();
        assert!(!dead.exists());
        assert!(alive.path.join(LOG_NAME).exists() && outside.join(OWNER).exists() && unowned.exists());
        assert!(other.iter().all(|name| parent.path().join(name).exists()));
        let path = alive.path.clone();
        drop(alive);
        assert!(!path.exists());
    }
}
