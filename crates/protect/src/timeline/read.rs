//! What the timeline is made from, read cheaply: listings, facts of streams, and of segments only the first and the last of each run
//! without a hole.

use ballast_mysql::{ExecutedSet, LogFlavour};
use ballast_repository::{Repository, RepositoryError, SegmentPlace, StreamId, StreamListing};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Micros, Run, Start, Stream, micros};
use crate::catalog::{BackupState, BackupSummary};
use crate::context::Context;
use crate::error::Result;

/// Of a stream's facts, what is needed here.
#[derive(Deserialize)]
struct StreamFacts {
    source: String,
    flavour: LogFlavour,
    started_at: Timestamp,
    after: Option<After>,
}

#[derive(Deserialize)]
struct After {
    cause: String,
    #[serde(default)]
    missing: String,
}

/// Of a segment's.
#[derive(Deserialize)]
struct SegmentFacts {
    before: String,
    through: String,
    transactions: u64,
    starts_between: bool,
    #[serde(default)]
    ends_between: bool,
}

/// Of one source in one repository: the streams in the order they began, and their listings beside them.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) flavour: Option<LogFlavour>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) listings: Vec<StreamListing>,
}

/// Reads the streams of `source`. One that cannot be read is warned of, and what it held counts as not there.
pub(crate) async fn read(context: &Context, repository: &Repository, source: &str) -> Result<Read> {
    let mut found = Vec::new();
    for id in repository.streams(&context.cancel).await? {
        let listing = match repository.stream(id, &context.cancel).await {
            Ok(listing) => listing,
            Err(error) => {
                warn(context, error)?;
                continue;
            }
        };
        let facts: StreamFacts = match StreamFacts::deserialize(&listing.facts) {
            Ok(facts) => facts,
            Err(error) => {
                context.warn(format!("log {id} has facts that are not understood: {error}"), None);
                continue;
            }
        };
        if facts.source == source {
            let stream = stream(context, repository, &listing, &facts).await?;
            found.push((stream, facts.flavour, listing));
        }
    }
    found.sort_by_key(|(stream, _, _)| (stream.started_at, stream.id));
    let mut read = Read::default();
    for (stream, flavour, listing) in found {
        read.flavour = Some(flavour);
        read.streams.push(stream);
        read.listings.push(listing);
    }
    Ok(read)
}

/// Damage is no reason to keep back the rest; a store that does not answer is.
fn warn(context: &Context, error: RepositoryError) -> Result<String> {
    use ballast_repository::RepositoryError as R;
    match error {
        R::Damaged { .. } | R::Missing { .. } | R::TooNew { .. } => {
            let text = error.to_string();
            let hint = "see all that is damaged with: ballast verify".to_owned();
            context.warn(text.clone(), Some(hint));
            Ok(text)
        }
        other => Err(other.into()),
    }
}

async fn stream(
    context: &Context,
    repository: &Repository,
    listing: &StreamListing,
    facts: &StreamFacts,
) -> Result<Stream> {
    let mut stream = Stream {
        id: listing.id,
        started_at: micros(facts.started_at),
        // On MariaDB another server may go on with the numbers of transactions that only the first one had.
        new_lineage: facts.after.as_ref().is_some_and(|after| match after.cause.as_str() {
            "reset" | "shortened" => true,
            "failover" => facts.flavour == LogFlavour::MariaDb,
            _ => false,
        }),
        other_server: facts.after.as_ref().is_some_and(|after| after.cause == "failover"),
        cause: facts.after.as_ref().map(words),
        runs: Vec::new(),
        damaged: None,
    };
    let pieces: Vec<&[SegmentPlace]> = listing.segments.chunk_by(|a, b| b.start <= a.end).collect();
    let count = pieces.len();
    for (number, piece) in pieces.into_iter().enumerate() {
        let seen = listing.seen_until.filter(|_| number + 1 == count);
        match run(context, repository, listing.id, facts.flavour, piece, seen).await {
            Ok(Some(run)) => stream.runs.push(run),
            Ok(None) => {}
            Err(Unread::Damaged(cause)) => stream.damaged = Some(cause),
            Err(Unread::Failed(error)) => return Err(error),
        }
    }
    Ok(stream)
}

fn words(after: &After) -> String {
    let what = match after.cause.as_str() {
        "reset" => "the server began its log anew",
        "shortened" => "the server lost the end of its log",
        "purged" => "the server removed files of its log before they were captured",
        "failover" => "another server took over",
        "spool-lost" => "the spool of the capture before was lost",
        other => other,
    };
    if after.missing.is_empty() {
        what.to_owned()
    } else {
        format!("{what}; not captured: {}", after.missing)
    }
}

enum Unread {
    Damaged(String),
    Failed(crate::ProtectError),
}

impl From<crate::ProtectError> for Unread {
    fn from(error: crate::ProtectError) -> Self {
        Self::Failed(error)
    }
}

/// A run begins with the first segment that begins between two transactions: of one that begins within one, nobody knows what is in it.
async fn run(
    context: &Context,
    repository: &Repository,
    id: StreamId,
    flavour: LogFlavour,
    places: &[SegmentPlace],
    seen: Option<Micros>,
) -> std::result::Result<Option<Run>, Unread> {
    let facts_of = async |place: &SegmentPlace| -> std::result::Result<SegmentFacts, Unread> {
        match repository.segment_facts(id, place, &context.cancel).await {
            Ok(facts) => SegmentFacts::deserialize(&facts.facts)
                .map_err(|error| Unread::Damaged(format!("facts that are not understood: {error}"))),
            Err(error) => Err(Unread::Damaged(warn(context, error)?)),
        }
    };
    let mut first = None;
    for (number, place) in places.iter().enumerate() {
        let facts = facts_of(place).await?;
        if facts.starts_between {
            first = Some((number, facts));
            break;
        }
    }
    let (Some((number, first)), Some(last_place)) = (first, places.last()) else {
        return Ok(None);
    };
    let places = places.get(number..).unwrap_or_default();
    let last = facts_of(last_place).await?;
    let set = |text: &str| {
        ExecutedSet::parse(flavour, text)
            .map_err(|error| Unread::Damaged(format!("a set of transactions that is none: {error}")))
    };
    let (before, through) = (set(&first.before)?, set(&last.through)?);
    let last_at = places.iter().rev().map(|place| place.last_at).find(|at| *at != 0);
    // One that is not whole leaves the moments before it.
    let committed = last_at.map(|at| if last.ends_between { at } else { at.saturating_sub(1) });
    Ok(Some(Run {
        stream: id,
        from: places.first().map_or(0, |place| place.start),
        to: last_place.end,
        first_at: places.iter().map(|place| place.first_at).find(|at| *at != 0),
        known_until: committed.max(seen.filter(|_| last.ends_between || last_at.is_none())),
        anonymous: before == through && first.transactions + last.transactions > 0 && last.ends_between,
        before,
        through,
    }))
}

/// The good backups of `backups` that lie in `repository`.
pub(crate) fn starts(backups: &[BackupSummary], repository: &str, flavour: Option<LogFlavour>) -> Vec<Start> {
    let here = backups.iter().filter(|backup| {
        backup.state == BackupState::Good && backup.repositories.iter().any(|name| name == repository)
    });
    here.filter_map(|backup| {
        Some(Start {
            id: backup.id.clone(),
            at: micros(backup.snapshot_at?),
            executed: flavour.and_then(|flavour| executed(backup, flavour)),
        })
    })
    .collect()
}

/// What a backup holds at least and at most; `None` if its position is none of this flavour.
fn executed(backup: &BackupSummary, flavour: LogFlavour) -> Option<(ExecutedSet, ExecutedSet)> {
    let position = backup.position.as_ref()?;
    let most = ExecutedSet::parse(flavour, &position.gtid_executed).ok()?;
    let least = match &position.at_least {
        Some(text) if !position.exact => ExecutedSet::parse(flavour, text).ok()?,
        _ => most.clone(),
    };
    Some((least, most))
}
