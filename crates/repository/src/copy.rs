//! Brings a repository up to another by copying objects as they are: packs first, then the manifest that names them.
//!
//! What is copied was proven whole at its source. So an object that is there already with other bytes, or a pack that is marked as
//! damaged, is replaced by what it was.

mod logs;

use std::collections::HashMap;

use ballast_base::{Cancel, TaskSet, run_blocking};
use bytes::Bytes;

use crate::error::{RepositoryError, Result};
use crate::manifest::Manifest;
use crate::names::{self, BackupId, PackId};
use crate::pack::PackKey;
use crate::repository::Repository;

pub use logs::copy_stream;

/// Packs on their way at once.
const PACKS_AT_ONCE: usize = 4;

/// What one copied backup or stream took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyCounts {
    pub objects_copied: u64,
    pub bytes_copied: u64,
    /// Packs, or objects of a stream, that were there already.
    pub objects_present: u64,
    /// Of the copied ones, those that were there and damaged.
    pub objects_replaced: u64,
}

/// Copies one backup. What `to` holds already is not sent again, so an interrupted copy goes on where it was.
/// `dry_run` counts and writes nothing. `progress` is told of bytes copied.
pub async fn copy_manifest(
    from: &Repository,
    to: &Repository,
    id: &BackupId,
    dry_run: bool,
    progress: &(dyn Fn(u64) + Send + Sync),
    cancel: &Cancel,
) -> Result<CopyCounts> {
    same_repository(from, to)?;
    let name = names::manifest(id);
    let sealed = from.get(&name, cancel).await?;
    let manifest = Manifest::open(from.keys(), id, &sealed).map_err(|cause| cause.at(&from.location(), &name))?;
    let held: HashMap<PackId, u64> = to.packs(cancel).await?;
    let marked = to.marked(cancel).await?;
    let (present, lacking): (Vec<_>, Vec<_>) = manifest
        .packs
        .iter()
        .partition(|(pack, size)| held.get(pack) == Some(&u64::from(*size)) && !marked.contains(pack));
    let mut counts = CopyCounts {
        objects_present: present.len() as u64,
        ..CopyCounts::default()
    };
    if dry_run {
        counts.objects_copied = lacking.len() as u64 + 1;
        counts.objects_replaced = lacking.iter().filter(|(pack, _)| held.contains_key(pack)).count() as u64;
        counts.bytes_copied = lacking.iter().map(|(_, size)| u64::from(*size)).sum::<u64>() + sealed.len() as u64;
        return Ok(counts);
    }
    let mut running = TaskSet::new("copy pack");
    let mut lacking = lacking.into_iter();
    loop {
        while running.len() < PACKS_AT_ONCE
            && let Some((pack, _)) = lacking.next()
        {
            let (from, to, cancel) = (from.clone(), to.clone(), cancel.clone());
            running.spawn(async move { bring_pack(&from, &to, pack, &cancel).await });
        }
        let Some(copied) = running.join_next().await else { break };
        let (bytes, replaced) = copied??;
        counts.objects_copied += 1;
        counts.objects_replaced += u64::from(replaced);
        counts.bytes_copied += bytes;
        progress(bytes);
    }
    let size = sealed.len() as u64;
    let replaced = to.put_proven(&name, sealed, cancel).await?;
    progress(size);
    Ok(CopyCounts {
        objects_copied: counts.objects_copied + 1,
        bytes_copied: counts.bytes_copied + size,
        objects_replaced: counts.objects_replaced + u64::from(replaced),
        ..counts
    })
}

fn same_repository(from: &Repository, to: &Repository) -> Result<()> {
    if from.id() == to.id() {
        return Ok(());
    }
    Err(RepositoryError::Different {
        location: to.location(),
        found: to.id().to_string(),
        expected: from.id().to_string(),
    })
}

/// Copies one pack, after proving that every byte of it is authentic: damage must not spread. Gives its size.
pub(crate) async fn copy_pack(from: &Repository, to: &Repository, pack: PackId, cancel: &Cancel) -> Result<u64> {
    bring_pack(from, to, pack, cancel).await.map(|(size, _)| size)
}

/// The same; tells too whether a damaged one was replaced.
async fn bring_pack(from: &Repository, to: &Repository, pack: PackId, cancel: &Cancel) -> Result<(u64, bool)> {
    let name = names::pack(pack);
    let bytes = from.get(&name, cancel).await?;
    if let Err(cause) = check_authentic(from, pack, bytes.clone()).await? {
        // Known from now on. That the pack is damaged is the error to tell, whatever becomes of the mark.
        if let Err(error) = from.mark(pack, cancel).await {
            tracing::warn!(%error, "a damaged pack could not be marked");
        }
        return Err(cause.at(&from.location(), &name));
    }
    let size = bytes.len() as u64;
    let replaced = to.put_proven(&name, bytes, cancel).await?;
    to.unmark(pack, cancel).await?;
    Ok((size, replaced))
}

async fn check_authentic(
    repository: &Repository,
    pack: PackId,
    bytes: Bytes,
) -> Result<std::result::Result<(), crate::format::Unreadable>> {
    let keys = std::sync::Arc::clone(repository.keys());
    let check = move || {
        PackKey::new(&keys, pack)
            .check_whole(&mut bytes.to_vec(), None)
            .map(drop)
    };
    Ok(run_blocking("check pack", check).await?)
}
