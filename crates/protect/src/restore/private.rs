//! The files of a backup laid out for a while, with a private server on them: for what is read from a backup and not kept.
//!
//! All of it lies in one folder of mode 0700 in the scratch folder. Its owner holds a lock in it, which dies with the owner: what
//! a killed one left, its server included, is known by the lock that nobody holds, and the next one takes it away.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use ballast_base::random_hex;
use ballast_mysql::ThrowawayServer;

use super::download;
use super::place::{LOCK, Place, failed, lock};
use crate::context::{Context, Steps};
use crate::error::{ErrorKind, ProtectError, Result};
use crate::load::Stay;
use crate::mysql::leftover::end_servers;
use crate::mysql::proof::{self, Recovered};
use crate::mysql::record::PhysicalRecord;
use crate::replay::{Replayed, take_on};
use crate::restore_plan::{RestorePlan, UNFINISHED};

const PREFIX: &str = "ballast-restore-";
/// Hex digits behind it.
const NAME_DIGITS: usize = 12;
/// The restore's target, in that folder.
const TARGET: &str = "data";

/// Where the next private copy goes; makes nothing.
pub(crate) fn new_target(scratch: &Path) -> PathBuf {
    scratch
        .join(format!("{PREFIX}{}", random_hex(NAME_DIGITS / 2)))
        .join(TARGET)
}

/// A server on the files of a backup. Dropped, both go; [`PrivateCopy::discard`] waits for it.
#[derive(Debug)]
pub(crate) struct PrivateCopy {
    // Dropped in this order: the server goes before its files.
    pub(crate) server: ThrowawayServer,
    pub(crate) tables: BTreeSet<(String, String)>,
    pub(crate) replayed: Option<Replayed>,
    _place: Place,
    folder: Folder,
}

impl PrivateCopy {
    /// Lays the files out, lets the server recover them, and sees that it is where the backup says.
    pub(crate) async fn open(context: &Context, plan: &RestorePlan, steps: &mut Steps) -> Result<Self> {
        let folder = Folder::create(context, &plan.target).await?;
        let place = Place::prepare(context, plan).await?;
        let record = steps.run("download", download(context, plan, &place)).await?;
        let recover = proof::recover(context, plan, &record, &place.unfinished, &place.outside, Stay::ReadNow);
        let recovered = steps.run("recover", Box::pin(recover)).await?;
        check(plan, &record, &recovered)?;
        let (mut server, mut tables, mut replayed) = (recovered.server, recovered.tables, None);
        if let Some(replay) = &plan.replay {
            let again = proof::options(&place.unfinished, proof::settings(&record, &place.outside));
            let taking = Box::pin(take_on(context, plan, replay, server, again));
            let (taken_on, what) = steps.run("replay", taking).await?;
            (server, replayed) = (taken_on, Some(what));
            tables = proof::tables_of(context, &server).await?;
        }
        Ok(Self {
            server,
            tables,
            replayed,
            _place: place,
            folder,
        })
    }

    pub(crate) async fn discard(self, context: &Context) {
        if let Err(error) = self.server.discard().await {
            tracing::debug!(%error, "the private server could not be ended");
        }
        let path = self.folder.path.clone();
        drop(self.folder);
        if path.exists() {
            context.warn(
                format!("the private folder \"{}\" could not be removed", path.display()),
                Some("remove it by hand; it holds rows of the backup".to_owned()),
            );
        }
    }
}

/// What is not what was backed up gives no rows.
fn check(plan: &RestorePlan, record: &PhysicalRecord, recovered: &Recovered) -> Result<()> {
    let mut problems: Vec<String> = record
        .tables
        .difference(&recovered.tables)
        .map(|(schema, table)| format!("table {schema}.{table} is missing"))
        .collect();
    if !recovered.position_equal {
        let expected = plan.backup.position.as_ref().map(ToString::to_string);
        problems.insert(
            0,
            format!(
                "position {} was expected and {} was reached",
                expected.unwrap_or_default(),
                recovered.position
            ),
        );
    }
    if problems.is_empty() {
        return Ok(());
    }
    let message = format!("the files are not what was backed up: {}", problems.join("; "));
    Err(ProtectError::new(ErrorKind::Damaged, message)
        .hint("choose another backup with --backup ID, and check the stored bytes with: ballast verify"))
}

/// Dropped, it is removed.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// The folder around `target`, after what dead ones left beside it is gone.
    async fn create(context: &Context, target: &Path) -> Result<Self> {
        let path = target.parent().unwrap_or(target).to_owned();
        if let Some(scratch) = path.parent() {
            sweep(context, scratch).await?;
        }
        for last in [false, true] {
            // A name that is there already is an error: the folder must be ours alone.
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(failed("create folder", &path))?;
            match lock(&path) {
                Ok(lock) => return Ok(Self { path, _lock: lock }),
                // A sweeper came between the two calls and took it for one that was left empty.
                Err(_) if !last && !path.exists() => {}
                Err(error) => return Err(error),
            }
        }
        Err(ProtectError::failed(format!("create folder \"{}\"", path.display())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // `discard` looks whether it is gone; what an error leaves, the next one sweeps away.
        drop(clear(&self.path));
    }
}

/// The lock's file goes last: what is left without it is an empty folder.
fn clear(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_dir_all(folder)
}

/// Takes away what dead owners of this user left: their servers first. What cannot be taken away stays, and is told.
async fn sweep(context: &Context, scratch: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(scratch) else {
        return Ok(());
    };
    for entry in entries.flatten().filter(is_ours) {
        let path = entry.path();
        if !path.join(LOCK).exists() {
            // Empty, it was left by one that was killed while it made it or took it away; else it is not ours to judge.
            drop(std::fs::remove_dir(&path));
            continue;
        }
        // With a lock somebody works in it.
        let Ok(_lock) = lock(&path) else { continue };
        end_servers(context, &path.join(TARGET).join(UNFINISHED)).await?;
        if let Err(error) = clear(&path) {
            let message = format!(
                "\"{}\", which an interrupted restore left, could not be removed: {error}",
                path.display()
            );
            context.warn(message, Some("remove it by hand; it holds rows of a backup".to_owned()));
        }
    }
    Ok(())
}

fn is_ours(entry: &std::fs::DirEntry) -> bool {
    let name = entry.file_name();
    let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    let named = digits
        .is_some_and(|digits| digits.len() == NAME_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let facts = entry.path().symlink_metadata();
    named && facts.is_ok_and(|facts| facts.is_dir() && facts.uid() == rustix::process::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ballast_base::{Cancel, SystemClock};

    use super::*;
    use crate::observer::{Event, Observer, Progress};

    #[derive(Debug)]
    struct Nobody;

    impl Observer for Nobody {
        fn progress(&self, _: &Progress) {}
        fn event(&self, _: &Event) {}
    }

    #[tokio::test]
    async fn what_the_dead_left_goes_and_what_the_living_use_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let context = Context {
            clock: Arc::new(SystemClock::new()),
            cancel: Cancel::new(),
            observer: Arc::new(Nobody),
        };
        let alive = Folder::create(&context, &new_target(scratch.path())).await.unwrap();
        let at = |name: &str| scratch.path().join(name);
        for name in [
            "ballast-restore-0123456789ab",
            "ballast-restore-bbbbbbbbbbbb",
            "ballast-restore-notours",
        ] {
            std::fs::create_dir_all(at(name).join(TARGET)).unwrap();
        }
        for name in ["ballast-restore-0123456789ab", "ballast-restore-notours"] {
            File::create(at(name).join(LOCK)).unwrap();
        }
        std::fs::create_dir(at("ballast-restore-cccccccccccc")).unwrap();
        let next = Folder::create(&context, &new_target(scratch.path())).await.unwrap();
        assert!(!at("ballast-restore-0123456789ab").exists() && !at("ballast-restore-cccccccccccc").exists());
        assert!(at("ballast-restore-bbbbbbbbbbbb").exists() && at("ballast-restore-notours").exists());
        assert!(alive.path.exists() && next.path.exists());
        let path = next.path.clone();
        drop(next);
        assert!(!path.exists());
    }
}
