//! One snapshot on its way into the repository. It is walked while it passes, and is nothing unless it was whole: what a walk
//! cannot follow to its end is never given a name.

use std::collections::BTreeSet;

use ballast_redis::{Facts, RdbFeed, RedisError, ServerAddress, Snapshot, SyncOptions, WalkOptions};
use ballast_repository::{BackupWriter, FileContent};
use bytes::Bytes;
use jiff::Timestamp;

use super::cutter::Cutter;
use super::record::RedisRecord;
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::mysql::taken::Taken;
use crate::position::Position;
use crate::settings::Engine;

/// The name of the snapshot in the backup.
const FILE_NAME: &[u8] = b"dump.rdb";

/// Asks for it. No data has come yet.
pub(super) async fn start(
    context: &Context,
    address: &ServerAddress,
    facts: &Facts,
) -> std::result::Result<(Timestamp, Snapshot), RedisError> {
    let options = SyncOptions {
        server_version: Some(facts.version.text.clone()),
        ..SyncOptions::default()
    };
    // Before the server forks: what it holds is no older than this.
    let snapshot_at = context.clock.now();
    Ok((snapshot_at, Snapshot::start(address, &options, &context.cancel).await?))
}

pub(super) async fn take(
    context: &Context,
    (snapshot_at, mut snapshot): (Timestamp, Snapshot),
    facts: &Facts,
    writer: BackupWriter,
) -> Result<(Taken, RedisRecord)> {
    let feed = RdbFeed::start(WalkOptions::default());
    let mut storing = Storing::new(writer);
    let (mut cutter, mut pieces) = (Cutter::default(), Vec::new());
    let mut is_walked = true;
    while let Some(portion) = snapshot.next().await? {
        cutter.take(&portion, &mut pieces);
        is_walked = feed.push(portion).await;
        if !is_walked {
            break;
        }
        for piece in pieces.drain(..) {
            storing.store(piece).await?;
        }
        context.progress("snapshot", storing.bytes, None);
    }
    let walked = feed.finish().await.map_err(|error| not_whole(error.into()))?;
    if let Some(piece) = cutter.finish() {
        storing.store(piece).await?;
    }
    let position = snapshot.position().clone();
    let said = walked.position.as_ref();
    if !is_walked || walked.bytes != storing.bytes || said.is_some_and(|said| *said != position) {
        let said = said.map_or_else(|| "none".to_owned(), ToString::to_string);
        let message = format!(
            "{} bytes came at {position}; the snapshot itself has {} and says {said}",
            storing.bytes, walked.bytes
        );
        return Err(not_whole(ProtectError::failed(message)));
    }
    let record = RedisRecord {
        snapshot: walked,
        server: facts.version.clone(),
        append_only: facts.info.is_on("aof_enabled"),
    };
    let taken = Taken {
        writer: storing.writer,
        engine: Engine::Snapshot,
        files: vec![(file_name(), storing.bytes, storing.content)],
        annex: record.to_json()?,
        tables: BTreeSet::new(),
        missing: Vec::new(),
        position: Position::of_redis(&position),
        snapshot_at,
        bytes_source: storing.bytes,
    };
    Ok((taken, record))
}

pub(super) fn file_name() -> Vec<u8> {
    FILE_NAME.to_vec()
}

/// The source's fault or the network's: nothing that is stored is damaged.
pub(super) fn not_whole(error: ProtectError) -> ProtectError {
    let error = if error.kind() == ErrorKind::Damaged {
        error.of_kind(ErrorKind::Failed)
    } else {
        error
    };
    error.about("the server's snapshot is not whole")
}

/// Pieces on their way into the repository.
pub(super) struct Storing {
    pub(super) writer: BackupWriter,
    pub(super) content: FileContent,
    pub(super) bytes: u64,
}

impl Storing {
    pub(super) fn new(writer: BackupWriter) -> Self {
        Self {
            writer,
            content: FileContent::default(),
            bytes: 0,
        }
    }

    pub(super) async fn store(&mut self, piece: Bytes) -> Result<()> {
        let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        let number = self.writer.store(piece).await?;
        self.content.put(self.bytes, length, number, 0);
        self.bytes += u64::from(length);
        Ok(())
    }
}
