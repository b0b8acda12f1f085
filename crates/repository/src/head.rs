//! What opens a repository: its stamp and its key slots, brought back from another copy of the same repository.
//!
//! All copies of one repository have the same stamp and may have the same slots. Before anything is written to a place without a
//! readable stamp, something in it must open with the keys of the source: a place of somebody else's stays as it is.

use std::sync::Arc;

use ballast_base::Cancel;
use ballast_storage::Storage;

use crate::error::{RepositoryError, Result};
use crate::format::encode_stamp;
use crate::keys::check_slot;
use crate::names;
use crate::repository::{Repository, read_stamp, slots, without_stamp};

/// So many manifests, so many packs and so many streams are tried before a place counts as somebody else's.
const TRIES_MAX: usize = 8;

/// Copies to `to` what of the stamp and the key slots is missing or damaged there. Gives the names of what was brought.
pub async fn copy_head(from: &Repository, to: Arc<dyn Storage>, cancel: &Cancel) -> Result<Vec<String>> {
    let target = from.at(to);
    let stamped = match read_stamp(target.storage(), cancel).await {
        Ok(Some(id)) if id != from.id() => {
            return Err(RepositoryError::Different {
                location: target.location(),
                found: id.to_string(),
                expected: from.id().to_string(),
            });
        }
        Ok(found) => found.is_some(),
        Err(RepositoryError::Headless { .. }) => false,
        Err(error) => return Err(error),
    };
    if !stamped {
        prove_same(&target, cancel).await?;
    }
    let mut brought = Vec::new();
    for (name, slot) in slots(from.storage(), cancel).await? {
        let needed = match target.get(&name, cancel).await {
            Ok(held) => check_slot(&held).is_err(),
            Err(RepositoryError::Missing { .. }) => true,
            Err(error) => return Err(error),
        };
        if needed && check_slot(&slot).is_ok() {
            target.put_proven(&name, slot, cancel).await?;
            brought.push(name.to_string());
        }
    }
    // The stamp last, as `init` does: a repository that has one can be opened.
    if !stamped {
        let (name, stamp) = (names::stamp(), encode_stamp(from.id()));
        target.put_proven(&name, stamp.into(), cancel).await?;
        brought.push(name.to_string());
    }
    Ok(brought)
}

/// That a manifest, a pack or a stream of `target` opens with its keys, which are those of the source.
async fn prove_same(target: &Repository, cancel: &Cancel) -> Result<()> {
    let (backups, packs) = (target.backups(cancel).await?, target.packs(cancel).await?);
    for id in backups.iter().rev().take(TRIES_MAX) {
        if target.manifest(id, cancel).await.is_ok() {
            return Ok(());
        }
        cancel.check()?;
    }
    for pack in packs.keys().take(TRIES_MAX) {
        if target.check_pack(*pack, cancel).await.is_ok() {
            return Ok(());
        }
        cancel.check()?;
    }
    let streams = target.streams(cancel).await?;
    for id in streams.iter().take(TRIES_MAX) {
        if target.stream_facts(*id, cancel).await.is_ok() {
            return Ok(());
        }
        cancel.check()?;
    }
    let names = backups.iter().map(names::manifest);
    let names = names.chain(packs.keys().map(|pack| names::pack(*pack)));
    match names.chain(streams.into_iter().map(names::stream)).next() {
        Some(object) => Err(RepositoryError::Foreign {
            location: target.location(),
            object: object.to_string(),
        }),
        None => Err(without_stamp(target.storage(), cancel).await?),
    }
}
