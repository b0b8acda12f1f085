//! Brings one repository up to another: every backup that it lacks, and of those it has what is missing or known to be damaged,
//! oldest first; then the captured logs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use ballast_repository::{BackupId, copy_manifest, copy_stream};

use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::vault::Vault;

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CopyOutcome {
    pub from: String,
    pub to: String,
    pub dry_run: bool,
    pub backups_copied: Vec<String>,
    /// Captured logs of which anything was copied.
    pub streams_copied: Vec<String>,
    pub objects_copied: u64,
    pub bytes_copied: u64,
    /// Packs that were there already, counted once for each backup that names them, and objects of logs.
    pub objects_present: u64,
    /// Of the copied ones, those that were there and damaged.
    pub objects_replaced: u64,
}

/// Copies what `to` lacks. A second call goes on where an interrupted one stopped.
pub async fn copy(context: &Context, vault: &Vault, from: &str, to: &str, dry_run: bool) -> Result<CopyOutcome> {
    if from == to {
        return Err(ProtectError::usage(format!("--from and --to both name \"{from}\"")));
    }
    let (source, target) = (vault.named(from)?, vault.named(to)?);
    let held: BTreeSet<BackupId> = target.backups(&context.cancel).await?.into_iter().collect();
    let all = source.backups(&context.cancel).await?;
    let mut outcome = CopyOutcome {
        from: from.to_owned(),
        to: to.to_owned(),
        dry_run,
        backups_copied: Vec::new(),
        streams_copied: Vec::new(),
        objects_copied: 0,
        bytes_copied: 0,
        objects_present: 0,
        objects_replaced: 0,
    };
    let done = AtomicU64::new(0);
    let mut damaged = None;
    for id in all {
        let was_there = held.contains(&id);
        let progress = |bytes| {
            let sum = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            context.progress("copy", sum, None);
        };
        let copied = copy_manifest(source, target, &id, dry_run, &progress, &context.cancel).await;
        let counts = match copied.map_err(ProtectError::from) {
            Ok(counts) => counts,
            // Damage in one backup must not keep the others where they are.
            Err(error) if error.kind() == ErrorKind::Damaged => {
                context.warn(format!("backup {id} is not copied: {error}"), None);
                damaged.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        // Of a backup that is there, only what went missing or bad is copied: its manifest alone is nothing new.
        if !was_there || counts.objects_copied > 1 || counts.objects_replaced > 0 {
            outcome.backups_copied.push(id.to_string());
            outcome.objects_copied += counts.objects_copied;
            outcome.bytes_copied += counts.bytes_copied;
        }
        outcome.objects_present += counts.objects_present;
        outcome.objects_replaced += counts.objects_replaced;
    }
    for id in source.streams(&context.cancel).await? {
        let progress = |bytes| {
            let sum = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            context.progress("copy", sum, None);
        };
        let copied = copy_stream(source, target, id, dry_run, &progress, &context.cancel).await;
        match copied.map_err(ProtectError::from) {
            Ok(counts) => {
                if counts.objects_copied > 0 {
                    outcome.streams_copied.push(id.to_string());
                }
                outcome.objects_copied += counts.objects_copied;
                outcome.bytes_copied += counts.bytes_copied;
                outcome.objects_present += counts.objects_present;
                outcome.objects_replaced += counts.objects_replaced;
            }
            Err(error) if error.kind() == ErrorKind::Damaged => {
                context.warn(format!("log {id} is not copied whole: {error}"), None);
                damaged.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match damaged {
        None => Ok(outcome),
        Some(error) => Err(error.and("all that is not damaged was copied")),
    }
}
