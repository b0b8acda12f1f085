//! From a stop to a backup and the stretches of the log that lead from it to there; and where that is not possible, what is.
//!
//! What decides is the timeline; which exact transaction is the last one is found by walking (`replay/plan.rs`).

use std::collections::HashMap;

use ballast_mysql::{ExecutedSet, Gtid, LogFlavour};
use ballast_repository::{Repository, SegmentPlace, StreamListing};
use serde::Deserialize;

use crate::catalog::BackupSummary;
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::replay::{ReplayPlan, StreamPart, resolve};
use crate::restore_plan::RestoreRequest;
use crate::stop::{PositionStop, Stop};
use crate::timeline::read::{Read, read, starts};
use crate::timeline::{CLOCK_SKEW, Micros, Run, Start, Timeline, Way, micros, reach, ways};
use crate::vault::Vault;

/// What a restore begins with, and what of the log follows.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) backup: BackupSummary,
    pub(crate) from: Repository,
    /// `None`: the backup itself is what was asked for.
    pub(crate) replay: Option<ReplayPlan>,
}

/// One repository and what can be reached from it.
struct Place<'a> {
    repository: &'a Repository,
    read: Read,
    starts: Vec<Start>,
    ways: Vec<Way>,
}

/// Of a segment's facts, what is needed here.
#[derive(Debug, Clone, Deserialize)]
struct SegmentFacts {
    files: Vec<Stretch>,
    before: String,
    starts_between: bool,
    first_transaction: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Stretch {
    name: String,
    offset: u64,
    at: u64,
}

/// Decides; `None` if no stop was asked for and the newest backup is the latest that can be had, so that it alone is restored.
/// `usable` leaves out backups that the target cannot begin with.
pub(crate) async fn plan_log(
    context: &Context,
    vault: &Vault,
    request: &RestoreRequest,
    backups: &[BackupSummary],
    usable: &(dyn Fn(&BackupSummary) -> bool + Sync),
) -> Result<Option<Chosen>> {
    let asked = request.stop.is_some() || !request.skip.is_empty();
    if !asked && request.backup.is_some() {
        return Ok(None);
    }
    let usable: Vec<BackupSummary> = backups
        .iter()
        .filter(|backup| usable(backup) && request.backup.as_ref().is_none_or(|id| *id == backup.id))
        .cloned()
        .collect();
    let mut places = Vec::new();
    for repository in vault.repositories() {
        let read = read(context, repository, &request.source).await?;
        let starts = starts(&usable, repository.name(), read.flavour);
        let ways = ways(&starts, &read.streams, CLOCK_SKEW);
        places.push(Place {
            repository,
            read,
            starts,
            ways,
        });
    }
    let stop = request.stop.clone().unwrap_or(Stop::Latest);
    let Some((place, way)) = choose(context, &places, &stop).await? else {
        if !asked {
            return Ok(None);
        }
        if let Some((place, start)) = alone(&places, &stop).filter(|_| request.skip.is_empty()) {
            return Ok(Some(Chosen {
                backup: listed(&usable, start)?,
                from: place.repository.clone(),
                replay: None,
            }));
        }
        return Err(not_possible(&request.source, &stop, &places));
    };
    let newest = places
        .iter()
        .flat_map(|place| &place.starts)
        .map(|start| start.at)
        .max();
    if !asked && newest.is_some_and(|newest| newest > way.span.to) {
        context.warn(
            "the log ends before the newest backup: the backup alone is restored".to_owned(),
            None,
        );
        return Ok(None);
    }
    let start = place.starts.get(way.start).ok_or_else(not_listed)?;
    let replay = replay_plan(context, place, start, &way, &stop, &request.skip).await?;
    Ok(Some(Chosen {
        backup: listed(&usable, start)?,
        from: place.repository.clone(),
        replay: Some(replay),
    }))
}

fn not_listed() -> ProtectError {
    ProtectError::failed("what was chosen is not listed")
}

fn listed(backups: &[BackupSummary], start: &Start) -> Result<BackupSummary> {
    let found = backups.iter().find(|backup| backup.id == start.id);
    found.cloned().ok_or_else(not_listed)
}

/// A backup that is itself what was asked for.
fn alone<'a>(places: &'a [Place<'a>], stop: &Stop) -> Option<(&'a Place<'a>, &'a Start)> {
    let starts = places
        .iter()
        .flat_map(|place| place.starts.iter().map(move |start| (place, start)));
    let is_it = |start: &Start| match stop {
        Stop::At(at) => start.at == micros(*at),
        Stop::Position(PositionStop::Set(set)) => start
            .executed
            .as_ref()
            .is_some_and(|(least, most)| least == set && most == set),
        _ => false,
    };
    starts
        .filter(|(_, start)| is_it(start))
        .max_by_key(|(_, start)| start.at)
}

/// The way that leads to the stop with the least to replay.
async fn choose<'a>(context: &Context, places: &'a [Place<'a>], stop: &Stop) -> Result<Option<(&'a Place<'a>, Way)>> {
    let mut best: Option<(&Place<'_>, Way)> = None;
    for place in places {
        let file = match stop {
            Stop::Position(PositionStop::File { file, offset }) => place.find_file(context, file, *offset).await?,
            _ => None,
        };
        for way in &place.ways {
            let fits = match stop {
                Stop::Latest => true,
                Stop::At(at) => way.span.from <= micros(*at) && micros(*at) <= way.span.to,
                _ => place.leads_to(way, stop, file.as_ref()),
            };
            let rank = |place: &Place<'_>, way: &Way| {
                let at = place.starts.get(way.start).map(|start| start.at);
                match stop {
                    Stop::Latest => (way.span.to, at),
                    _ => (0, at),
                }
            };
            if fits
                && best
                    .as_ref()
                    .is_none_or(|(held, best)| rank(held, best) < rank(place, way))
            {
                best = Some((place, *way));
            }
        }
    }
    Ok(best)
}

/// Where a position by file lies.
struct FilePlace {
    stream: usize,
    /// The log offset of the position.
    at: u64,
    /// What was executed before the segment that holds it.
    before: ExecutedSet,
}

impl Place<'_> {
    fn run(&self, way: &Way) -> Option<&Run> {
        self.read.streams.get(way.stream)?.runs.get(way.run)
    }

    /// Whether the stop lies in the way's run, and the backup before it.
    fn leads_to(&self, way: &Way, stop: &Stop, file: Option<&FilePlace>) -> bool {
        let (Some(run), Some(start)) = (self.run(way), self.starts.get(way.start)) else {
            return false;
        };
        let Some((_, most)) = &start.executed else {
            return false;
        };
        let holds = |gtid: &Gtid| run.through.contains_gtid(gtid) && !run.before.contains_gtid(gtid);
        match stop {
            Stop::Latest | Stop::At(_) => true,
            Stop::Before(gtid) | Stop::Position(PositionStop::Through(gtid)) => {
                holds(gtid) && !most.contains_gtid(gtid)
            }
            Stop::Position(PositionStop::Set(set)) => {
                set.contains(most) && set.contains(&run.before) && run.through.contains(set)
            }
            Stop::Position(PositionStop::File { .. }) => file.is_some_and(|file| {
                file.stream == way.stream && run.from <= file.at && file.at <= run.to && file.before.contains(most)
            }),
        }
    }

    /// The newest capture with this position in it.
    async fn find_file(&self, context: &Context, file: &str, offset: u64) -> Result<Option<FilePlace>> {
        for (number, listing) in self.read.listings.iter().enumerate().rev() {
            let mut begins = None;
            for place in &listing.segments {
                let facts = self.facts(context, listing, place).await?;
                let here = facts.files.iter().find(|stretch| stretch.name == file);
                if let Some(stretch) = here {
                    begins.get_or_insert(stretch.at.saturating_sub(stretch.offset));
                }
                let Some(at) = begins.map(|begin| begin.saturating_add(offset)) else {
                    continue;
                };
                if at <= place.end {
                    let flavour = self.read.flavour.unwrap_or(LogFlavour::Mysql);
                    return Ok(Some(FilePlace {
                        stream: number,
                        at,
                        before: ExecutedSet::parse(flavour, &facts.before)?,
                    }));
                }
                if here.is_none() {
                    // The file ended before it came to this offset.
                    break;
                }
            }
        }
        Ok(None)
    }

    async fn facts(&self, context: &Context, listing: &StreamListing, place: &SegmentPlace) -> Result<SegmentFacts> {
        let facts = self
            .repository
            .segment_facts(listing.id, place, &context.cancel)
            .await?;
        SegmentFacts::deserialize(&facts.facts).map_err(|error| {
            let message = format!(
                "segment {place} of log {} has facts that are not understood: {error}",
                listing.id
            );
            ProtectError::new(ErrorKind::Damaged, message)
        })
    }

    /// The part of a run from the last segment on that begins with nothing but what `held` has; so much less is read.
    async fn part(&self, context: &Context, stream: usize, run: &Run, held: &ExecutedSet) -> Result<StreamPart> {
        let listing = self.read.listings.get(stream).ok_or_else(not_listed)?;
        let inside = |place: &&SegmentPlace| place.start >= run.from && place.end <= run.to;
        let places: Vec<&SegmentPlace> = listing.segments.iter().filter(inside).collect();
        let mut known: HashMap<u64, SegmentFacts> = HashMap::new();
        // What was executed only grows: halve.
        let (mut first, mut end) = (0, places.len());
        while first + 1 < end {
            let middle = usize::midpoint(first, end);
            let Some(place) = places.get(middle) else { break };
            let facts = self.facts(context, listing, place).await?;
            if held.contains(&ExecutedSet::parse(held.flavour(), &facts.before)?) {
                first = middle;
            } else {
                end = middle;
            }
            known.insert(place.start, facts);
        }
        for place in places.get(..=first).unwrap_or_default().iter().rev() {
            let facts = match known.remove(&place.start) {
                Some(facts) => facts,
                None => self.facts(context, listing, place).await?,
            };
            if !facts.starts_between {
                continue;
            }
            let from = facts.first_transaction.unwrap_or(place.start);
            let stretch = facts.files.iter().rev().find(|stretch| stretch.at <= from);
            let Some(stretch) = stretch else { continue };
            return Ok(StreamPart {
                stream: listing.id,
                file: stretch.name.clone(),
                file_at: stretch.at.saturating_sub(stretch.offset),
                from_offset: from,
                to_offset: run.to,
                torn: Vec::new(),
            });
        }
        let message = format!("log {} has no place to begin with", listing.id);
        Err(ProtectError::new(ErrorKind::NotRestorable, message))
    }
}

async fn replay_plan(
    context: &Context,
    place: &Place<'_>,
    start: &Start,
    way: &Way,
    stop: &Stop,
    skip: &[Gtid],
) -> Result<ReplayPlan> {
    let run = place.run(way).ok_or_else(not_listed)?;
    let (least, _) = start.executed.as_ref().ok_or_else(not_listed)?;
    let server_version = |stream: usize| {
        let facts = place.read.listings.get(stream).map(|listing| &listing.facts);
        let version = facts.and_then(|facts| facts.get("server_version")?.as_str());
        version.unwrap_or_default().to_owned()
    };
    let mut plan = ReplayPlan {
        flavour: place.read.flavour.ok_or_else(not_listed)?,
        server_version: server_version(way.stream),
        from: least.clone(),
        parts: Vec::new(),
        skip: Vec::new(),
        expected: least.clone(),
        transactions: 0,
        bytes: 0,
        last_kept: None,
        first_left_out: None,
    };
    let mut reached = least.clone();
    if !least.contains(&run.before) {
        for (stream, earlier) in place.before(way) {
            if reached.contains(&run.before) {
                break;
            }
            if !brings(earlier, &reached, &run.before) {
                continue;
            }
            let mut part = place.part(context, stream, earlier, &reached).await?;
            if !run.through.contains(&earlier.through) {
                part.to_offset = shared_end(context, place, &plan, &part, earlier, run).await?;
            }
            reached.union(&earlier.through)?;
            plan.parts.push(part);
        }
    }
    plan.parts.push(place.part(context, way.stream, run, &reached).await?);
    plan.skip = skip.to_vec();
    resolve(context, place.repository, plan, stop).await
}

impl Place<'_> {
    /// The runs that may bring what a run does not begin with, in order.
    fn before(&self, way: &Way) -> impl Iterator<Item = (usize, &Run)> {
        let first = self
            .read
            .streams
            .iter()
            .enumerate()
            .take(way.stream + 1)
            .filter(|(_, stream)| stream.new_lineage)
            .map(|(number, _)| number)
            .last();
        let (first, last, run) = (first.unwrap_or(0), way.stream, way.run);
        let streams = self.read.streams.iter().enumerate().skip(first).take(last + 1 - first);
        streams.flat_map(move |(number, stream)| {
            let runs = stream.runs.iter().enumerate();
            runs.filter(move |(position, _)| number < last || *position < run)
                .map(move |(_, of)| (number, of))
        })
    }
}

/// Whether a run has anything of `wanted` that `held` lacks.
fn brings(run: &Run, held: &ExecutedSet, wanted: &ExecutedSet) -> bool {
    match (&run.before, &run.through, held, wanted) {
        (
            ExecutedSet::MariaDb(before),
            ExecutedSet::MariaDb(through),
            ExecutedSet::MariaDb(held),
            ExecutedSet::MariaDb(wanted),
        ) => wanted.domains().any(|domain| {
            let at = held.sequence(domain);
            before.sequence(domain) <= at && through.sequence(domain) > at && wanted.sequence(domain) > at
        }),
        (before, through, held, wanted) => {
            let mut missing = wanted.clone();
            missing.minus(held);
            let mut own = through.clone();
            own.minus(before);
            let mut left = missing.clone();
            left.minus(&own);
            left != missing
        }
    }
}

/// A server that failed may have committed at its end what the next one never got: that is not of the later history.
async fn shared_end(
    context: &Context,
    place: &Place<'_>,
    plan: &ReplayPlan,
    part: &StreamPart,
    earlier: &Run,
    later: &Run,
) -> Result<u64> {
    let mut lost = earlier.through.clone();
    lost.minus(&later.through);
    let mut shared = earlier.through.clone();
    shared.minus(&lost);
    let alone = ReplayPlan {
        from: earlier.before.clone(),
        parts: vec![part.clone()],
        ..plan.clone()
    };
    let resolved = resolve(
        context,
        place.repository,
        alone,
        &Stop::Position(PositionStop::Set(shared)),
    )
    .await?;
    Ok(resolved.parts.last().map_or(part.from_offset, |part| part.to_offset))
}

/// Says what is possible instead.
fn not_possible(source: &str, stop: &Stop, places: &[Place<'_>]) -> ProtectError {
    let reaches: Vec<_> = places
        .iter()
        .map(|place| reach(&place.starts, &place.read.streams, CLOCK_SKEW))
        .collect();
    let timeline = Timeline::of(source, &reaches);
    let see = format!("see the moments there are with: ballast timeline {source}");
    let error = |message: String| ProtectError::new(ErrorKind::NotRestorable, message);
    let (Some(earliest), Some(latest)) = (timeline.earliest, timeline.latest) else {
        return error(format!("source \"{source}\" has no good backup to begin with")).hint(see);
    };
    let Stop::At(at) = stop else {
        let why = match stop {
            Stop::Latest => "no log was captured that a backup leads to".to_owned(),
            other => format!("{other} is in no captured log that a backup leads to"),
        };
        return error(why).hint(format!(
            "what can be restored lies between {earliest} and {latest}; {see}"
        ));
    };
    if *at < earliest {
        return error(format!("{at} is before the earliest moment that can be restored"))
            .hint(format!("the earliest is --at {earliest}; {see}"));
    }
    if *at > latest {
        return error(format!("{at} is behind the latest moment that can be restored")).hint(format!(
            "the latest is --at {latest}, which is also what is restored without --at; {see}"
        ));
    }
    if let Some(gap) = timeline.gaps.iter().find(|gap| gap.from < *at && *at < gap.to) {
        let message = format!("{at} lies in a gap, from {} to {}: {}", gap.from, gap.to, gap.cause);
        return error(message).hint(format!(
            "the nearest moments are --at {} and --at {}; {see}",
            gap.from, gap.to
        ));
    }
    error(format!("{at} cannot be restored")).hint(see)
}
