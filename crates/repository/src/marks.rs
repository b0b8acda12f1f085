//! Marks of damaged packs and segments: damage ends where it was found.
//!
//! A mark says that a pack was read and was not what was written; no backup uses what is in it from then on, so those chunks are
//! stored again. That of a segment makes `copy` bring it again. Nothing is removed or refused because of a mark alone, so it carries no seal: who can forge one makes us
//! store again what is stored already, and no more. A pack that is gone needs no mark: what is not listed is not used.

use std::collections::HashSet;

use ballast_base::Cancel;
use ballast_storage::{ObjectName, StorageError};
use bytes::Bytes;

use crate::error::Result;
use crate::names::{self, Named, PackId, SegmentPlace, StreamId};
use crate::repository::Repository;

impl Repository {
    /// The packs that were found damaged here.
    pub(crate) async fn marked(&self, cancel: &Cancel) -> Result<HashSet<PackId>> {
        let mut found = HashSet::new();
        self.each_object(names::MARKS, cancel, |object| {
            if let Named::Mark(pack) = names::parse(&object.name) {
                found.insert(pack);
            }
        })
        .await?;
        Ok(found)
    }

    /// The segments of logs that were found damaged here.
    pub(crate) async fn marked_segments(&self, cancel: &Cancel) -> Result<HashSet<(StreamId, SegmentPlace)>> {
        let mut found = HashSet::new();
        self.each_object(names::MARKS, cancel, |object| {
            if let Named::SegmentMark(id, place) = names::parse(&object.name) {
                found.insert((id, place));
            }
        })
        .await?;
        Ok(found)
    }

    pub(crate) async fn mark(&self, pack: PackId, cancel: &Cancel) -> Result<()> {
        self.put_mark(&names::mark(pack), cancel).await
    }

    pub(crate) async fn mark_segment(&self, id: StreamId, place: &SegmentPlace, cancel: &Cancel) -> Result<()> {
        self.put_mark(&names::segment_mark(id, place), cancel).await
    }

    async fn put_mark(&self, name: &ObjectName, cancel: &Cancel) -> Result<()> {
        match cancel.race(self.storage().put_new(name, Bytes::new())).await? {
            // Whatever it holds, its name says it all.
            Ok(()) | Err(StorageError::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn unmark(&self, pack: PackId, cancel: &Cancel) -> Result<()> {
        self.remove_mark(&names::mark(pack), cancel).await
    }

    pub(crate) async fn unmark_segment(&self, id: StreamId, place: &SegmentPlace, cancel: &Cancel) -> Result<()> {
        self.remove_mark(&names::segment_mark(id, place), cancel).await
    }

    /// Looks before it removes: where nothing is marked, no right to remove is needed.
    async fn remove_mark(&self, name: &ObjectName, cancel: &Cancel) -> Result<()> {
        let found = cancel.race(self.storage().list(name.as_str(), None, 1)).await??;
        if found.iter().any(|object| object.name == *name) {
            cancel.race(self.storage().delete(name)).await??;
        }
        Ok(())
    }
}
