//! From a stop to a backup and the stretches of the log that lead from it to there; and where that is not possible, what is.
//!
//! What decides is the timeline; which exact transaction is the last one is found by walking (`replay/plan.rs`).

mod lives;
mod rows;
#[cfg(test)]
mod tests;

use ballast_mysql::{ExecutedSet, Gtid, LogFlavour};
use ballast_repository::{Repository, SegmentPlace, StreamId, StreamListing};
use serde::Deserialize;

use crate::catalog::{BackupSummary, list};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::replay::{ReplayPlan, Seam, StreamPart, resolve};
use crate::restore_plan::RestoreRequest;
use crate::stop::{PositionStop, Stop};
use crate::timeline::lineage::lives;
use crate::timeline::read::{Read, read, starts};
use crate::timeline::{CLOCK_SKEW, Run, Start, Timeline, Way, micros, reach, timestamp, ways, with_what_backups_tell};
use crate::vault::Vault;

/// Backups that are tried, where the log contradicts what one says of its moment.
const WAYS_MAX: usize = 4;

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
/// `usable` leaves out backups that the target cannot begin with; where the log leads on from rows among them, that is said.
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
    let asked_for = backups
        .iter()
        .filter(|backup| request.backup.as_ref().is_none_or(|id| *id == backup.id));
    let (usable, left_out): (Vec<_>, Vec<_>) = asked_for.cloned().partition(|backup| usable(backup));
    let places = places(context, vault, &request.source, (&usable, backups)).await?;
    if !asked {
        warn_of_unreached(context, &request.source, &places);
    }
    let stop = request.stop.clone().unwrap_or(Stop::Latest);
    let meant = lives::meant(context, &places, &stop, &request.skip, request.backup.is_some()).await?;
    let mut found = choose(context, &places, &stop, &request.skip).await?;
    if let Some(lives) = &meant {
        let is_meant = |place: &Place<'_>, stream| lives.iter().any(|life| life.has(&places, place, stream));
        found.retain(|(place, way)| is_meant(place, way.stream));
    }
    let Some((best_place, best)) = found.first() else {
        if !asked {
            rows::warn(context, backups, &left_out, places);
            return Ok(None);
        }
        if let Some((place, start)) = alone(&places, &stop).filter(|_| request.skip.is_empty()) {
            return Ok(Some(Chosen {
                backup: listed(&usable, start)?,
                from: place.repository.clone(),
                replay: None,
            }));
        }
        let error = not_possible(&request.source, &stop, &places);
        return Err(rows::refused(context, &left_out, places, &stop, &request.skip)
            .await?
            .unwrap_or(error));
    };
    let newest = places
        .iter()
        .flat_map(|place| &place.starts)
        .map(|start| start.at)
        .max();
    if !asked && newest.is_some_and(|newest| newest > best.span.to) {
        context.warn(
            "the log does not lead on from the newest backup: it is restored alone".to_owned(),
            None,
        );
        return Ok(None);
    }
    if !asked {
        rows::warn_of_newer(context, &left_out, best.span.to);
    }
    if let Stop::Position(PositionStop::File { file, offset }) = &stop {
        best_place
            .warn_of_other_file(context, (file, *offset), best.stream)
            .await?;
    }
    if stop == Stop::Latest && !best_place.is_last_life(best) {
        let message = format!(
            "what is left out is of a log that the server has begun anew since: the restore ends with that log, at {}",
            timestamp(best.span.to)
        );
        context.warn(message, None);
    }
    let mut refused = None;
    for (place, way) in found.into_iter().take(WAYS_MAX) {
        let start = place.starts.get(way.start).ok_or_else(not_listed)?;
        let backup = listed(&usable, start)?;
        let seam = place.seam(&backup);
        match replay_plan(context, place, (start, seam), &way, &stop, &request.skip).await {
            Ok(replay) => {
                return Ok(Some(Chosen {
                    backup,
                    from: place.repository.clone(),
                    replay: Some(replay),
                }));
            }
            // Clocks differ: a backup may hold what by the log was committed behind its moment. An earlier one does not.
            Err(error) if error.kind() == ErrorKind::NotRestorable => drop(refused.get_or_insert(error)),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| not_possible(&request.source, &stop, &places)))
}

/// What each repository leads to from `backups`; `all` there are tell what they know of the log.
async fn places<'a>(
    context: &Context,
    vault: &'a Vault,
    source: &str,
    (backups, all): (&[BackupSummary], &[BackupSummary]),
) -> Result<Vec<Place<'a>>> {
    let mut places = Vec::new();
    for repository in vault.repositories() {
        let mut read = read(context, repository, source).await?;
        read.streams = with_what_backups_tell(&starts(all, repository.name(), read.flavour), &read.streams);
        let starts = starts(backups, repository.name(), read.flavour);
        let ways = ways(&starts, &read.streams, CLOCK_SKEW);
        places.push(Place {
            repository,
            read,
            starts,
            ways,
        });
    }
    Ok(places)
}

/// What a restore begins with that is to end before a transaction of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GoBack {
    /// The transaction's name says it.
    ByName,
    /// The name was given twice: this backup says which is meant.
    From(String),
    /// No backup leads there.
    Never,
}

pub(crate) async fn go_back(
    context: &Context,
    vault: &Vault,
    source: &str,
    (stream, gtid): (StreamId, &Gtid),
) -> Result<GoBack> {
    let backups = list(context, vault, Some(source)).await?;
    let places = places(context, vault, source, (&backups, &backups)).await?;
    lives::go_back(context, &places, gtid, stream).await
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

/// The ways that lead to the stop, that with the least to replay first.
async fn choose<'a>(
    context: &Context,
    places: &'a [Place<'a>],
    stop: &Stop,
    skip: &[Gtid],
) -> Result<Vec<(&'a Place<'a>, Way)>> {
    let mut found = Vec::new();
    for place in places {
        let file = match stop {
            Stop::Position(PositionStop::File { file, offset }) => {
                let all = 0..place.read.listings.len();
                place.find_file(context, (file, *offset), all).await?
            }
            _ => None,
        };
        for way in &place.ways {
            let start = place.starts.get(way.start);
            let most = start.and_then(|start| start.executed.as_ref()).map(|(_, most)| most);
            // What the backup holds cannot be left out any more.
            let leaves_out = most.is_some_and(|most| !skip.iter().any(|gtid| most.contains_gtid(gtid)));
            let fits = match stop {
                Stop::Latest => true,
                Stop::At(at) => way.span.from <= micros(*at) && micros(*at) <= way.span.to,
                _ => place.leads_to(way, stop, file.as_ref()),
            };
            if fits && leaves_out {
                let until = if *stop == Stop::Latest { way.span.to } else { 0 };
                found.push(((until, start.map(|start| start.at)), place, *way));
            }
        }
    }
    // Of equal ones the first: the order of repositories is that of the configuration.
    found.sort_by_key(|(rank, _, _)| std::cmp::Reverse(*rank));
    Ok(found.into_iter().map(|(_, place, way)| (place, way)).collect())
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
    /// Where the log of the backup's own server must fit to it. Of a MariaDB it is not known which server wrote a log.
    fn seam(&self, backup: &BackupSummary) -> Option<Seam> {
        let position = backup.position.as_ref().filter(|position| position.exact)?;
        let server = backup.server_uuid.as_deref()?;
        let own =
            |listing: &&StreamListing| listing.facts.get("server_uuid").and_then(|uuid| uuid.as_str()) == Some(server);
        (self.read.flavour == Some(LogFlavour::Mysql)).then_some(Seam {
            file: position.file.clone()?,
            offset: position.offset?,
            streams: self
                .read
                .listings
                .iter()
                .filter(own)
                .map(|listing| listing.id)
                .collect(),
        })
    }

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
    async fn find_file(
        &self,
        context: &Context,
        (file, offset): (&str, u64),
        streams: std::ops::Range<usize>,
    ) -> Result<Option<FilePlace>> {
        for number in streams.rev() {
            let Some(listing) = self.read.listings.get(number) else {
                continue;
            };
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

    /// Names of files come again when a log is begun anew, and on another server.
    async fn warn_of_other_file(&self, context: &Context, at: (&str, u64), meant: usize) -> Result<()> {
        let of_another = |number: &usize| {
            let stream = self.read.streams.get(*number);
            stream.is_some_and(|stream| stream.new_lineage || stream.other_server)
        };
        let first = (0..=meant).rev().find(of_another).unwrap_or(0);
        let Some(other) = self.find_file(context, at, 0..first).await? else {
            return Ok(());
        };
        let since = |number: usize| self.read.streams.get(number).map_or(0, |stream| stream.started_at);
        let message = format!(
            "position {}:{} is taken for that of the log which is captured from {} on; the one captured from {} on has it, too",
            at.0,
            at.1,
            timestamp(since(meant)),
            timestamp(since(other.stream)),
        );
        let hint = "for the older one, name the transaction: see them with: ballast log find SOURCE".to_owned();
        context.warn(message, Some(hint));
        Ok(())
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

    /// The part of a run from where on `held` lacks anything, or from a little before: so much less is read.
    async fn part(
        &self,
        context: &Context,
        (stream, run): (usize, &Run),
        held: &ExecutedSet,
        stop: &Stop,
    ) -> Result<StreamPart> {
        let listing = self.read.listings.get(stream).ok_or_else(not_listed)?;
        let inside = |place: &&SegmentPlace| place.end > run.from && place.end <= run.to;
        let places: Vec<&SegmentPlace> = listing.segments.iter().filter(inside).collect();
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
        }
        // What the backup holds and was committed behind the moment must be met, so that it is refused.
        if let Stop::At(at) = stop {
            let too_late = |number: usize| places.get(number).is_some_and(|place| place.first_at > micros(*at));
            while first > 0 && too_late(first) {
                first -= 1;
            }
        }
        // A transaction that began before a segment and ends in it is not in `before`: then it is begun with the first that begins in an
        // earlier segment.
        for number in (0..=first).rev() {
            let Some(place) = places.get(number) else { continue };
            let facts = self.facts(context, listing, place).await?;
            let Some(from) = facts.first_transaction.filter(|from| *from >= run.from) else {
                continue;
            };
            if number == first && !facts.starts_between {
                continue;
            }
            if let Some(stretch) = facts.files.iter().rev().find(|stretch| stretch.at <= from) {
                return Ok(part_of(listing, stretch, from, run));
            }
        }
        let place = places.first().ok_or_else(not_listed)?;
        let facts = self.facts(context, listing, place).await?;
        let file = facts
            .files
            .iter()
            .find(|stretch| stretch.offset == 0 && stretch.at == run.from);
        Ok(part_of(listing, file.ok_or_else(not_listed)?, run.from, run))
    }
}

fn part_of(listing: &StreamListing, stretch: &Stretch, from: u64, run: &Run) -> StreamPart {
    StreamPart {
        stream: listing.id,
        file: stretch.name.clone(),
        file_at: stretch.at.saturating_sub(stretch.offset),
        from_offset: from,
        to_offset: run.to,
        torn: Vec::new(),
    }
}

async fn replay_plan(
    context: &Context,
    place: &Place<'_>,
    (start, seam): (&Start, Option<Seam>),
    way: &Way,
    stop: &Stop,
    skip: &[Gtid],
) -> Result<ReplayPlan> {
    let run = place.run(way).ok_or_else(not_listed)?;
    let (least, _) = start.executed.as_ref().ok_or_else(not_listed)?;
    let mut plan = ReplayPlan {
        seam,
        ..place.plan(way.stream, least.clone())?
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
            let part = place.part(context, (stream, earlier), &reached, stop).await?;
            if !run.through.contains(&earlier.through) {
                // A server that failed may have committed at its end what the next one never got: that is not of the later history.
                plan.expected = run.through.clone();
            }
            reached.union(&earlier.through)?;
            plan.parts.push(part);
        }
    }
    plan.parts
        .push(place.part(context, (way.stream, run), &reached, stop).await?);
    plan.skip = skip.to_vec();
    resolve(context, place.repository, plan, stop).await
}

impl Place<'_> {
    /// A plan in which nothing is decided.
    fn plan(&self, stream: usize, from: ExecutedSet) -> Result<ReplayPlan> {
        let facts = self.read.listings.get(stream).map(|listing| &listing.facts);
        let version = facts.and_then(|facts| facts.get("server_version")?.as_str());
        Ok(ReplayPlan {
            flavour: self.read.flavour.ok_or_else(not_listed)?,
            server_version: version.unwrap_or_default().to_owned(),
            expected: ExecutedSet::empty(from.flavour()),
            from,
            parts: Vec::new(),
            skip: Vec::new(),
            transactions: 0,
            bytes: 0,
            last_kept: None,
            first_left_out: None,
            seam: None,
        })
    }

    /// Whether the server goes on with the numbers of the way's log.
    fn is_last_life(&self, way: &Way) -> bool {
        let lives = lives(&self.read.streams);
        lives.last().is_none_or(|last| last.contains(&way.stream))
    }

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
            .next_back();
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

/// Says what is possible instead.
fn of_places(source: &str, places: &[Place<'_>]) -> Timeline {
    let reach = |place: &Place<'_>| reach(&place.starts, &place.read.streams, CLOCK_SKEW);
    Timeline::of(source, &places.iter().map(reach).collect::<Vec<_>>())
}

/// Says what was captured behind the latest moment there is.
fn warn_of_unreached(context: &Context, source: &str, places: &[Place<'_>]) {
    let timeline = of_places(source, places);
    let Some(gap) = timeline.gaps.last().filter(|gap| timeline.latest == Some(gap.from)) else {
        return;
    };
    context.warn(
        format!(
            "what was captured from {} to {} is not in this restore: {}",
            gap.from, gap.to, gap.cause
        ),
        Some(format!("see the moments there are with: ballast timeline {source}")),
    );
}

/// Of a position, what was executed before the log that leads to it: the server never was without that.
fn lacks_what_came_before(stop: &Stop, places: &[Place<'_>]) -> Option<ExecutedSet> {
    let Stop::Position(PositionStop::Set(set)) = stop else {
        return None;
    };
    let runs = places
        .iter()
        .flat_map(|place| place.ways.iter().filter_map(|way| place.run(way)));
    let mut lacking = runs
        .filter(|run| run.through.contains(set) && !set.contains(&run.before))
        .map(|run| {
            let mut before = run.before.clone();
            before.minus(set);
            before
        });
    lacking.next()
}

fn not_possible(source: &str, stop: &Stop, places: &[Place<'_>]) -> ProtectError {
    let timeline = of_places(source, places);
    let see = format!("see the moments there are with: ballast timeline {source}");
    let error = |message: String| ProtectError::new(ErrorKind::NotRestorable, message);
    let (Some(earliest), Some(latest)) = (timeline.earliest, timeline.latest) else {
        return error(format!("source \"{source}\" has no good backup to begin with")).hint(see);
    };
    let Stop::At(at) = stop else {
        let why = match stop {
            Stop::Latest => "no log was captured that a backup leads to".to_owned(),
            other => match lacks_what_came_before(stop, places) {
                Some(lacking) => format!("{other} is no point in the log: {lacking} came before it, and is not in it"),
                None => format!("{other} is in no captured log that a backup leads to"),
            },
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
        let captured = timeline.gaps.iter().find(|gap| gap.from < *at && *at <= gap.to);
        let why = captured.map_or_else(String::new, |gap| format!(": {}", gap.cause));
        return error(format!("{at} is behind the latest moment that can be restored{why}")).hint(format!(
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
