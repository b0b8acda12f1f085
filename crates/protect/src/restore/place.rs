//! The target of a restore while it is not finished, and how it becomes finished.
//!
//! The data directory is built in a folder inside the target, and tablespaces that lay outside the donor's data directory in a
//! folder beside the target: a server does not take a general tablespace from inside a data directory. Both are locked while this
//! restore runs, and carry a mark until it is done, so that what an interrupted one left is known and taken away.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ballast_base::{run_blocking, sync_dir};
use rustix::fs::{FlockOperation, flock};

use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::mysql::leftover::{end_servers, user_of};
use crate::restore_plan::{RestorePlan, UNFINISHED};

/// Moved last: without it no server starts on the directory.
const LAST: &str = "ibdata1";
/// Held by the restore that runs; in the folder outside it is the mark of what is not finished.
pub(crate) const LOCK: &str = "ballast-restore.lock";

#[derive(Debug)]
pub(super) struct Place {
    target: PathBuf,
    pub(super) unfinished: PathBuf,
    /// For tablespaces that lay outside the donor's data directory; made when the first one comes.
    pub(super) outside: PathBuf,
    /// The target itself was made by this restore.
    made: bool,
    replaces: Vec<String>,
    /// Released when it is closed.
    _lock: File,
}

impl Place {
    pub(super) async fn prepare(context: &Context, plan: &RestorePlan) -> Result<Self> {
        let target = plan.target.clone();
        refuse_running(&target)?;
        let unfinished = target.join(UNFINISHED);
        let made = !target.exists();
        if made {
            private_dir(&target, true)?;
        } else if unfinished.exists() {
            // What an interrupted restore left, unless it still runs.
            drop(lock(&unfinished)?);
            end_servers(context, &unfinished).await?;
            std::fs::remove_dir_all(&unfinished).map_err(failed("remove", &unfinished))?;
        }
        private_dir(&unfinished, false)?;
        let lock = lock(&unfinished)?;
        let outside = outside(&target);
        if outside.join(LOCK).exists() {
            std::fs::remove_dir_all(&outside).map_err(failed("remove", &outside))?;
        }
        Ok(Self {
            target,
            unfinished,
            outside,
            made,
            replaces: plan.replaces.clone(),
            _lock: lock,
        })
    }

    /// Makes the folder for tablespaces from outside, which must not be there.
    pub(super) fn open_outside(&self) -> Result<()> {
        if self.outside.exists() {
            let message = format!(
                "the folder for tablespaces outside the data directory, \"{}\", is there already",
                self.outside.display()
            );
            return Err(ProtectError::usage(message).hint("move it away, or restore to another target"));
        }
        private_dir(&self.outside, true)?;
        let mark = self.outside.join(LOCK);
        File::create(&mark).map(drop).map_err(failed("create", &mark))
    }

    /// Removes what is not finished. What cannot be removed is told: it must not pass for a restored directory.
    pub(super) fn clear(&self, context: &Context) {
        let mut gone = std::fs::remove_dir_all(&self.unfinished);
        if self.made && gone.is_ok() {
            gone = std::fs::remove_dir(&self.target);
        }
        if self.outside.join(LOCK).exists() {
            gone = gone.and(std::fs::remove_dir_all(&self.outside));
        }
        if let Err(error) = gone {
            let what = format!(
                "the unfinished folder \"{}\" could not be removed: {error}",
                self.unfinished.display()
            );
            context.warn(
                what,
                Some("it is not a restored directory; remove it by hand".to_owned()),
            );
        }
    }

    /// Makes every byte durable, then moves the directory to its place.
    pub(super) async fn finish(&self, context: &Context) -> Result<()> {
        let (target, unfinished, replaces) = (self.target.clone(), self.unfinished.clone(), self.replaces.clone());
        let outside = self.outside.clone();
        context.cancel.check()?;
        run_blocking("finish restore", move || {
            let durable = |error| ProtectError::failed("make the restored directory durable").because(error);
            sync_tree(&unfinished)?;
            let mark = outside.join(LOCK);
            if mark.exists() {
                std::fs::remove_file(&mark).map_err(failed("remove", &mark))?;
                sync_tree(&outside)?;
            }
            for name in &replaces {
                let old = target.join(name);
                let removed = if old.is_dir() && !old.is_symlink() {
                    std::fs::remove_dir_all(&old)
                } else {
                    std::fs::remove_file(&old)
                };
                removed.map_err(failed("remove", &old))?;
            }
            let lock = unfinished.join(LOCK);
            std::fs::remove_file(&lock).map_err(failed("remove", &lock))?;
            let mut names = Vec::new();
            for entry in std::fs::read_dir(&unfinished).map_err(failed("read", &unfinished))? {
                names.push(entry.map_err(failed("read", &unfinished))?.file_name());
            }
            names.sort_by_key(|name| name == LAST);
            for name in names {
                move_in_place(&unfinished.join(&name), &target.join(&name))?;
            }
            std::fs::remove_dir(&unfinished).map_err(failed("remove", &unfinished))?;
            sync_dir(&target).map_err(durable)
        })
        .await?
    }
}

/// Beside the target, with its name.
fn outside(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push("-outside");
    target.with_file_name(name)
}

/// A folder on which another restore works is not touched.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed("open", &path))?;
    // Not fcntl: that lock would go as soon as any handle on the file is closed.
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(ProtectError::new(
            ErrorKind::Held,
            format!("another restore works on \"{}\"", folder.display()),
        )
        .hint("wait for it, or restore to another target")),
    }
}

/// A directory that a running server has open is never replaced.
fn refuse_running(target: &Path) -> Result<()> {
    // What an interrupted restore left is not the target's own, and is dealt with by itself.
    let own = target.join(UNFINISHED);
    match user_of(target) {
        Some(pid) if !own.exists() => {
            let message = format!("process {pid} has files of target \"{}\" open", target.display());
            Err(ProtectError::new(ErrorKind::Held, message)
                .hint("stop that server first, or restore to another folder"))
        }
        _ => Ok(()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the folder is synced by the caller, once for all names"
)]
pub(crate) fn move_in_place(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(failed("move", from))
}

pub(crate) fn private_dir(path: &Path, recursive: bool) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(recursive)
        .mode(0o750)
        .create(path)
        .map_err(failed("create folder", path))
}

/// Syncs every file and folder under `root`, the folders last.
pub(super) fn sync_tree(root: &Path) -> Result<()> {
    for entry in std::fs::read_dir(root).map_err(failed("read", root))? {
        let entry = entry.map_err(failed("read", root))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(failed("look at", &path))?;
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            std::fs::File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(failed("sync", &path))?;
        }
    }
    sync_dir(root).map_err(|error| ProtectError::failed("make the restored directory durable").because(error))
}

pub(crate) fn failed<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> ProtectError + 'a {
    move |error| ProtectError::failed(format!("{step} \"{}\"", path.display())).because(error)
}
