//! What of the recorded commands leads on from a backup to where a person wants to be: decided by facts of segments and the marks of
//! portions, and read again when it is written.
//!
//! A backup and a stream are one where the backup stands within the stream, in a history of it. Behind a backup the server chooses a
//! database anew, so nothing of the stream before it is needed. It ends at a border.

use std::collections::BTreeMap;

use ballast_redis::{CommandScanner, DataWriter, Position};
use ballast_repository::{Repository, SegmentPlace, StreamListing, StreamReader};
use jiff::Timestamp;

use crate::archive::{LogSegment, LogStream, RedisSegmentFacts, take_portion};
use crate::catalog::{BackupState, BackupSummary};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::timeline::{Span, micros, timestamp};
use crate::vault::Vault;

/// Where a restore of a Redis ends. Always at a border of its commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisStop {
    /// With the last command that had come by then.
    At(Timestamp),
    /// With the last command that ends there, or before.
    Position(Position),
}

impl RedisStop {
    /// `ID:OFFSET`.
    pub fn at_position(text: &str) -> Result<Self> {
        let parsed = text.parse::<Position>().map(Self::Position);
        parsed.map_err(|error| {
            ProtectError::usage(format!("\"{text}\" is no position of a Redis"))
                .because(error)
                .hint("write it as ID:OFFSET, with the replication id and offset that INFO replication and list show")
        })
    }
}

/// The commands behind a backup.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RedisReplay {
    pub stream: String,
    pub from: Position,
    pub to: Position,
    /// When the last of them had come.
    pub at: Option<Timestamp>,
    pub bytes: u64,
    #[serde(skip)]
    repository: Repository,
    #[serde(skip)]
    listing: StreamListing,
    /// The segment that holds the first of them: where it begins in the log, and in the server's stream.
    #[serde(skip)]
    start: (u64, u64),
}

/// One stream that can be read, and what its segments say.
pub(super) struct Stream<'a> {
    repository: &'a Repository,
    pub(super) listing: StreamListing,
    pub(super) started_at: Timestamp,
    segments: Vec<(SegmentPlace, RedisSegmentFacts)>,
    /// Each name, and the offset from which it counts.
    histories: Vec<(String, u64)>,
}

/// The backup to begin with and what follows it; `None` if nothing does and nothing was asked for.
pub(super) async fn plan_commands(
    context: &Context,
    vault: &Vault,
    source: &str,
    backups: &[BackupSummary],
    stop: Option<&RedisStop>,
) -> Result<Option<(BackupSummary, RedisReplay)>> {
    let mut streams = Vec::new();
    for repository in vault.repositories() {
        streams.extend(read(context, repository, source).await?);
    }
    // The newest first; of the same one, where most of it is.
    streams.sort_by_key(|stream| std::cmp::Reverse((stream.started_at, stream.listing.held_end())));
    // One whose keys were read one by one stands nowhere in the commands.
    let usable = |backup: &&BackupSummary| backup.state == BackupState::Good && backup.point_in_time != Some(false);
    let good = backups.iter().filter(usable);
    let mut reachable: BTreeMap<u64, u64> = BTreeMap::new();
    for backup in good {
        let Some(place) = backup
            .position
            .as_ref()
            .and_then(|position| Position::new(position.replication_id.as_deref()?, position.offset?))
        else {
            continue;
        };
        for stream in streams.iter().filter(|stream| stream.holds(&place)) {
            let Some(first) = stream.segment_behind(place.offset) else {
                continue;
            };
            let (since, _) = stream.walk(context, first, &|_, end| end < place.offset).await?;
            let since = since.next_at.unwrap_or(0);
            let until = stream.until();
            reachable.insert(since, until);
            let found = match stop {
                None => stream.segments.last().map(|(_, facts)| (facts.border, facts.until)),
                Some(RedisStop::At(at)) => stream.before(context, first, since, micros(*at)).await?,
                Some(RedisStop::Position(wanted)) if wanted.offset >= place.offset && stream.holds(wanted) => {
                    stream.up_to(context, first, wanted.offset).await?
                }
                Some(RedisStop::Position(_)) => None,
            };
            let Some((to, at)) = found.filter(|(to, _)| *to >= place.offset) else {
                continue;
            };
            if stop.is_none() && to == place.offset {
                return Ok(None);
            }
            let Some((start, facts)) = stream.segments.get(first) else {
                continue;
            };
            let replay = RedisReplay {
                stream: stream.listing.id.to_string(),
                bytes: to - place.offset,
                to: Position {
                    history: stream.history_at(to),
                    offset: to,
                },
                from: place.clone(),
                at: (at > 0).then(|| timestamp(at)),
                repository: stream.repository.clone(),
                listing: stream.listing.clone(),
                start: (start.start, facts.from),
            };
            return Ok(Some((backup.clone(), replay)));
        }
    }
    match stop {
        None => Ok(None),
        Some(stop) => Err(not_restorable(source, stop, &reachable)),
    }
}

fn not_restorable(source: &str, stop: &RedisStop, reachable: &BTreeMap<u64, u64>) -> ProtectError {
    let wanted = match stop {
        RedisStop::At(at) => at.to_string(),
        RedisStop::Position(position) => format!("position {position}"),
    };
    let spans: Vec<String> = reachable
        .iter()
        .map(|(from, to)| format!("{} to {}", timestamp(*from), timestamp(*to)))
        .collect();
    let message = format!("no backup and recorded commands of \"{source}\" lead to {wanted}");
    let hint = if spans.is_empty() {
        format!("nothing leads on from its backups; restore one with --backup ID, see: ballast list {source}")
    } else {
        format!("possible is {}; or a backup alone with --backup ID", spans.join(", "))
    };
    ProtectError::new(ErrorKind::NotRestorable, message).hint(hint)
}

pub(super) async fn read<'a>(context: &Context, repository: &'a Repository, source: &str) -> Result<Vec<Stream<'a>>> {
    let cancel = &context.cancel;
    let mut found = Vec::new();
    for id in repository.streams(cancel).await? {
        let mut listing = repository.stream(id, cancel).await?;
        let Ok(LogStream::Redis(facts)) = serde_json::from_value(listing.facts.clone()) else {
            continue;
        };
        if facts.source != source {
            continue;
        }
        let (mut segments, mut histories) = (Vec::new(), vec![(facts.history, facts.from)]);
        let mut end = 0;
        for place in &listing.segments {
            // Behind a hole nothing leads on.
            if place.start != end {
                break;
            }
            let told = repository.segment_facts(id, place, cancel).await?.facts;
            let Ok(LogSegment::Redis(told)) = serde_json::from_value(told) else {
                break;
            };
            for history in &told.histories {
                if histories.last().is_none_or(|(last, _)| *last != history.id) {
                    histories.push((history.id.clone(), history.from));
                }
            }
            segments.push((*place, told));
            end = place.end;
        }
        listing.segments.truncate(segments.len());
        found.push(Stream {
            repository,
            started_at: facts.started_at,
            listing,
            segments,
            histories,
        });
    }
    Ok(found)
}

/// How far a walk came.
#[derive(Debug, Default)]
struct Walked {
    /// The last border, and when it had come.
    border: Option<(u64, u64)>,
    /// Of the first portion that was not taken.
    next_at: Option<u64>,
}

impl Stream<'_> {
    /// When the last of it had come.
    pub(super) fn until(&self) -> u64 {
        self.segments.last().map_or(0, |(_, facts)| facts.until)
    }

    /// The moments that can be had with a backup that stands at this position of it.
    pub(super) async fn span_of(&self, context: &Context, position: &Position) -> Result<Option<Span>> {
        let Some(first) = self.segment_behind(position.offset) else {
            return Ok(None);
        };
        let (walked, _) = self.walk(context, first, &|_, end| end < position.offset).await?;
        let from = walked.next_at.filter(|from| *from <= self.until());
        Ok(from.map(|from| Span { from, to: self.until() }))
    }

    fn end(&self) -> u64 {
        self.segments.last().map_or(0, |(_, facts)| facts.to)
    }

    /// Whether a position is one of this stream: a name holds up to where the next one begins.
    pub(super) fn holds(&self, position: &Position) -> bool {
        let from = self.segments.first().map_or(u64::MAX, |(_, facts)| facts.from);
        let named = self.histories.iter().enumerate().any(|(number, (id, since))| {
            let until = self.histories.get(number + 1).map_or(u64::MAX, |(_, next)| *next);
            *id == position.history && (*since..=until).contains(&position.offset)
        });
        named && (from..=self.end()).contains(&position.offset)
    }

    fn history_at(&self, offset: u64) -> String {
        let named = self.histories.iter().rev().find(|(_, since)| *since <= offset);
        named.map(|(id, _)| id.clone()).unwrap_or_default()
    }

    /// The last segment from which what is behind this offset can be read, and that begins at a border.
    fn segment_behind(&self, offset: u64) -> Option<usize> {
        let is_one = |(_, facts): &(SegmentPlace, RedisSegmentFacts)| facts.starts_at_border && facts.from <= offset;
        self.segments.iter().rposition(is_one)
    }

    /// The last border that had come at `at`; `None` where that is before `since`, or not recorded yet.
    async fn before(&self, context: &Context, first: usize, since: u64, at: u64) -> Result<Option<(u64, u64)>> {
        if at < since || at > self.until() {
            return Ok(None);
        }
        // What had come whole by then need not be looked into.
        let whole = |(_, facts): &(SegmentPlace, RedisSegmentFacts)| facts.until <= at && facts.ends_at_border;
        let last = self.segments.iter().rposition(whole).filter(|last| *last >= first);
        let from = last.map_or(first, |last| last + 1);
        let before = last.and_then(|last| self.segments.get(last));
        let before = before.map(|(_, facts)| (facts.border, facts.until));
        if self.segments.get(from).is_none() {
            return Ok(before);
        }
        let (walked, _) = self.walk(context, from, &|portion_at, _| portion_at <= at).await?;
        Ok(walked.border.or(before))
    }

    /// The last border at this offset, or before it.
    async fn up_to(&self, context: &Context, first: usize, offset: u64) -> Result<Option<(u64, u64)>> {
        let from = self.segment_behind(offset).unwrap_or(first).max(first);
        let (walked, borders) = self.walk(context, from, &|_, end| end < offset).await?;
        let within = borders.iter().rev().find(|(border, _)| *border <= offset);
        // It may be the very begin of that segment.
        let begin = self.segments.get(from).map(|(_, facts)| facts.from);
        let before = from.checked_sub(1).and_then(|before| self.segments.get(before));
        let begin = begin.map(|begin| (begin, before.map_or(0, |(_, facts)| facts.until)));
        Ok(within.copied().or(walked.border).or(begin))
    }

    /// Reads portions from segment number `from` on, while `wanted` says so of the time and the end of each. Gives beside it the borders
    /// of the first portion that it did not say so of.
    async fn walk(
        &self,
        context: &Context,
        from: usize,
        wanted: &(dyn Fn(u64, u64) -> bool + Sync),
    ) -> Result<(Walked, Vec<(u64, u64)>)> {
        let mut walked = Walked::default();
        let Some((place, facts)) = self.segments.get(from) else {
            return Ok((walked, Vec::new()));
        };
        let mut scanner = CommandScanner::new(facts.from, facts.database.unwrap_or(0));
        let mut borders = Vec::new();
        let listing = self.listing.clone();
        let mut reader = StreamReader::new(self.repository.clone(), listing, place.start, context.cancel.clone());
        while let Some((_, bytes)) = reader.next().await? {
            let mut raw = &bytes[..];
            while let Some(portion) = take_portion(&mut raw)? {
                let at = portion.at;
                let end = scanner.offset() + portion.bytes.len() as u64;
                borders.clear();
                scanner.feed(portion.bytes, &mut |command| {
                    if command.is_border {
                        borders.push((command.to, at));
                    }
                })?;
                if !wanted(at, end) {
                    walked.next_at = Some(at);
                    return Ok((walked, borders));
                }
                walked.border = borders.last().copied().or(walked.border);
            }
        }
        Ok((walked, Vec::new()))
    }
}

impl RedisReplay {
    /// Writes them behind the snapshot; gives how many databases a server needs for them.
    pub(super) async fn write(&self, context: &Context, writer: &mut DataWriter) -> Result<u32> {
        writer.begin_commands(0)?;
        let (start, mut at) = self.start;
        let listing = self.listing.clone();
        let mut reader = StreamReader::new(self.repository.clone(), listing, start, context.cancel.clone());
        let mut scanner = CommandScanner::new(self.from.offset, 0);
        let mut databases = 0;
        while at < self.to.offset {
            let Some((_, bytes)) = reader.next().await? else {
                break;
            };
            let mut raw = &bytes[..];
            while let Some(portion) = take_portion(&mut raw)? {
                let end = at + portion.bytes.len() as u64;
                let (from, to) = (self.from.offset.clamp(at, end) - at, self.to.offset.clamp(at, end) - at);
                let within = usize::try_from(from).unwrap_or(usize::MAX)..usize::try_from(to).unwrap_or(usize::MAX);
                let wanted = portion.bytes.get(within).unwrap_or_default();
                writer.write(wanted)?;
                scanner.feed(wanted, &mut |command| {
                    databases = databases.max(command.database.saturating_add(1));
                })?;
                at = end;
            }
            context.progress("commands", scanner.offset() - self.from.offset, Some(self.bytes));
        }
        if scanner.offset() != self.to.offset || !scanner.is_at_border() {
            let message = format!(
                "the recorded commands end at {} and not at {}",
                scanner.offset(),
                self.to.offset
            );
            return Err(
                ProtectError::new(ErrorKind::Damaged, message).hint("check the stored bytes with: ballast verify")
            );
        }
        Ok(databases)
    }
}
