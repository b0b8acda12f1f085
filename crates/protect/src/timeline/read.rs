//! What the timeline is made from, read cheaply: listings, facts of streams, and of segments only the first and the last of each run
//! without a hole.

use ballast_mysql::{ExecutedSet, LogFlavour, MariaDbPosition};
use ballast_repository::{Repository, RepositoryError, SegmentPlace, StreamId, StreamListing};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Micros, Missing, Run, Start, Stream, micros};
use crate::archive::is_of_redis;
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
    files: Vec<Stretch>,
    transactions: u64,
    starts_between: bool,
    ends_between: Option<bool>,
}

#[derive(Deserialize)]
struct Stretch {
    name: String,
    offset: u64,
    at: u64,
}

impl SegmentFacts {
    /// Whether it ends between two transactions. Where it does not say so itself, as many must have ended in it as began.
    fn ends_between(&self, flavour: LogFlavour) -> bool {
        let ended = || match (set(flavour, &self.before)?, set(flavour, &self.through)?) {
            (ExecutedSet::Mysql(before), ExecutedSet::Mysql(mut through)) => {
                through.minus(&before);
                Some(through.count())
            }
            (ExecutedSet::MariaDb(before), ExecutedSet::MariaDb(through)) => through
                .domains()
                .map(|domain| {
                    let of = |position: &MariaDbPosition| position.sequence(domain).unwrap_or(0);
                    of(&through).checked_sub(of(&before))
                })
                .sum(),
            _ => None,
        };
        let begun = self.transactions + u64::from(!self.starts_between);
        self.ends_between.unwrap_or_else(|| ended() == Some(begun))
    }
}

fn set(flavour: LogFlavour, text: &str) -> Option<ExecutedSet> {
    ExecutedSet::parse(flavour, text).ok()
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
        if is_of_redis(&listing.facts) {
            continue;
        }
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
        shortened: facts.after.as_ref().is_some_and(|after| after.cause == "shortened"),
        other_server: facts.after.as_ref().is_some_and(|after| after.cause == "failover"),
        cause: facts.after.as_ref().map(words),
        runs: Vec::new(),
        missing: missing(&listing.segments),
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

fn missing(places: &[SegmentPlace]) -> Vec<Missing> {
    let (mut found, mut at, mut after) = (Vec::new(), 0, None);
    for (number, place) in places.iter().enumerate() {
        if place.start > at {
            let behind = places
                .get(number..)
                .unwrap_or_default()
                .iter()
                .map(|place| place.first_at);
            found.push(Missing {
                from: at,
                to: place.start,
                after,
                before: behind.into_iter().find(|first| *first != 0),
            });
        }
        at = at.max(place.end);
        after = Some(place.last_at).filter(|last| *last != 0).or(after);
    }
    found
}

fn words(after: &After) -> String {
    let what = match after.cause.as_str() {
        "reset" => "the server began its log anew",
        "shortened" => "the server lost the end of its log",
        "purged" => "the server removed files of its log before they were captured",
        "failover" => "another server took over",
        "backlog" => "the server had forgotten what followed",
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

/// A run begins with a file: what is before the first of them has no beginning that a server would understand, and no transaction lies over
/// the border of two files.
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
        if let Some(at) = facts
            .files
            .iter()
            .find(|stretch| stretch.offset == 0)
            .map(|stretch| stretch.at)
        {
            first = Some((number, at, facts));
            break;
        }
    }
    let (Some((number, from, first)), Some(last_place)) = (first, places.last()) else {
        return Ok(None);
    };
    let places = places.get(number..).unwrap_or_default();
    let last = facts_of(last_place).await?;
    let set = |text: &str| {
        let wrong = || Unread::Damaged(format!("\"{text}\" is no set of transactions"));
        set(flavour, text).ok_or_else(wrong)
    };
    let first_place = places.first().copied().unwrap_or(*last_place);
    let behind = places.iter().skip(1).map(|place| place.first_at).find(|at| *at != 0);
    let (before, first_at) = if from == first_place.start {
        (
            set(&first.before)?,
            Some(first_place.first_at).filter(|at| *at != 0).or(behind),
        )
    } else if first.ends_between(flavour) {
        // What ends in the segment that the file begins in may have begun before it; what ends later has not.
        (set(&first.through)?, behind)
    } else {
        (
            set(&first.through)?,
            Some(first_place.last_at).filter(|at| *at != 0).or(behind),
        )
    };
    let through = set(&last.through)?;
    let whole = last.ends_between(flavour);
    let begun = match (places.len(), from == first_place.start) {
        (1, false) => 0,
        (1, true) | (_, false) => last.transactions,
        (_, true) => first.transactions + last.transactions,
    };
    let last_at = places.iter().rev().map(|place| place.last_at).find(|at| *at != 0);
    // One that is not whole leaves the moments before it.
    let committed = last_at.map(|at| if whole { at } else { at.saturating_sub(1) });
    Ok(Some(Run {
        from,
        to: last_place.end,
        first_at,
        known_until: committed.max(seen.filter(|_| whole || last_at.is_none())),
        // Those that ended have left no trace in the sets.
        anonymous: before == through && begun > u64::from(!whole),
        ends_at: last.files.last().filter(|_| whole).map(|stretch| {
            let offset = stretch.offset.saturating_add(last_place.end.saturating_sub(stretch.at));
            (stretch.name.clone(), offset)
        }),
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
            stands_at: backup
                .position
                .as_ref()
                .filter(|position| position.exact)
                .and_then(|position| {
                    let offset = position.offset?;
                    Some((position.file.clone()?, offset))
                }),
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
