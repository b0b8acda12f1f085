//! What the repositories have of a source's log: its newest stream, and where that stands.

use ballast_mysql::ExecutedSet;
use ballast_repository::{Repository, SegmentPlace, StreamId};
use jiff::Timestamp;

use super::begin::{Held, Identity};
use super::kind::{LogSegment, LogStream};
use super::spool::Spool;
use crate::context::Context;
use crate::error::{ProtectError, Result};
use crate::settings::SpoolSettings;
use crate::vault::Vault;

/// The newest stream of a source, as the repository that has most of it has it.
#[derive(Debug)]
pub(crate) struct Latest {
    pub(crate) id: StreamId,
    pub(crate) facts: LogStream,
    /// The segment that is its end without a hole, and what it says of itself.
    pub(crate) last: Option<(SegmentPlace, LogSegment)>,
    pub(crate) seen_until: Option<u64>,
}

/// Where the recorded log of a source stands.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LogStatus {
    pub stream: String,
    pub file: String,
    pub offset: u64,
    /// Everything committed up to here is stored.
    pub until: Option<Timestamp>,
    /// On this machine, waiting for a repository or not closed yet.
    pub spool_bytes: u64,
}

/// Looks for it in all repositories at hand.
pub(crate) async fn latest(context: &Context, vault: &Vault, source: &str) -> Result<Option<Latest>> {
    let cancel = &context.cancel;
    let mut found: Option<(LogStream, StreamId, &Repository, u64)> = None;
    for repository in vault.repositories() {
        for id in repository.streams(cancel).await? {
            let facts = repository.stream_facts(id, cancel).await?;
            let Ok(facts) = serde_json::from_value::<LogStream>(facts) else {
                continue;
            };
            let known = found.as_ref().map(|(facts, id, ..)| (facts.started_at(), *id));
            if facts.source() != source || known > Some((facts.started_at(), id)) {
                continue;
            }
            let end = repository.stream(id, cancel).await?.held_end();
            if found
                .as_ref()
                .is_none_or(|(_, known, _, held)| *known != id || *held < end)
            {
                found = Some((facts, id, repository, end));
            }
        }
    }
    let Some((facts, id, repository, end)) = found else {
        return Ok(None);
    };
    let listing = repository.stream(id, cancel).await?;
    let last = match listing.segments.iter().find(|place| place.end == end) {
        Some(place) => {
            let told = repository.segment_facts(id, place, cancel).await?.facts;
            let not_understood = |error| ProtectError::failed("facts of a segment are not understood").because(error);
            Some((*place, serde_json::from_value(told).map_err(not_understood)?))
        }
        None => None,
    };
    Ok(Some(Latest {
        id,
        facts,
        last,
        seen_until: listing.seen_until,
    }))
}

impl Latest {
    /// File and offset of its end; of a Redis, history and offset.
    pub(super) fn place(&self) -> (String, u64) {
        match &self.last {
            Some((place, facts)) => {
                let told = facts.told(place);
                (told.file, told.offset)
            }
            None => self.facts.first_place(),
        }
    }

    /// As a recorder of a MySQL holds it that has no spool for it.
    pub(super) fn held(&self) -> Result<Held> {
        let (file, offset) = self.place();
        let facts = self.facts.mysql()?;
        let last = self.last.as_ref().map(|(_, facts)| facts.mysql()).transpose()?;
        let head = last.and_then(|facts| facts.files.last()).map(|file| file.head.clone());
        let executed = last.map_or(&facts.before, |facts| &facts.through);
        Ok(Held {
            server: Identity {
                uuid: facts.server_uuid.clone(),
                id: facts.server_id,
            },
            file,
            offset,
            head: head.unwrap_or_else(|| facts.head.clone()),
            executed: ExecutedSet::parse(facts.flavour, executed)?,
            ours: false,
            contradicted: false,
        })
    }
}

/// Where the log of `source` stands; nothing if none was ever recorded.
pub(crate) async fn log_status(
    context: &Context,
    vault: &Vault,
    source: &str,
    spool: &SpoolSettings,
) -> Result<Option<LogStatus>> {
    let Some(latest) = latest(context, vault, source).await? else {
        return Ok(None);
    };
    let (file, offset) = latest.place();
    let last_at = latest
        .last
        .as_ref()
        .map_or(0, |(place, facts)| place.last_at.max(facts.seen_until()));
    let until = last_at.max(latest.seen_until.unwrap_or(0));
    Ok(Some(LogStatus {
        stream: latest.id.to_string(),
        file,
        offset,
        until: super::follow::moment(until),
        spool_bytes: Spool::at(&spool.path, source).bytes(),
    }))
}
