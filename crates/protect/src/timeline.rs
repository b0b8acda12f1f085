//! The moments one can go back to, and every gap between them with its cause.
//!
//! Pure: from backups and from what was captured of the log. What the server had executed at a moment is a set of transactions. A moment
//! can be restored if that set is known, a backup is in it, and every transaction of it that the backup lacks was captured. Sets decide, and
//! neither names of files nor clocks: so overlapping captures, another server and a log that was begun anew are one rule.

pub(crate) mod lineage;
pub(crate) mod read;
#[cfg(test)]
mod tests;

use ballast_mysql::ExecutedSet;
use ballast_repository::StreamId;
use jiff::Timestamp;

use self::lineage::{is_younger, lineages};
use crate::context::Context;
use crate::error::Result;
use crate::settings::SourceKind;
use crate::vault::Vault;

/// Microseconds since 1970.
pub(crate) type Micros = u64;

/// How far the clock of a server may be off this machine's, before what one says of a backup contradicts the other.
pub(crate) const CLOCK_SKEW: Micros = 60_000_000;

/// A backup as a place to start from.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) id: String,
    /// The moment whose data it holds.
    pub(crate) at: Micros,
    /// What it holds at least, and at most: the same where its position is exact. `None`: nothing goes on from it.
    pub(crate) executed: Option<(ExecutedSet, ExecutedSet)>,
    /// The file of the log and the offset in it that it stands at, if that is exact.
    pub(crate) stands_at: Option<(String, u64)>,
}

/// A stretch of one stream without a hole.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Log offsets: the first byte, which is a file's, and behind the last.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// What was executed before it, and what with its last whole transaction.
    pub(crate) before: ExecutedSet,
    pub(crate) through: ExecutedSet,
    /// When its first transaction was committed; `None` if none is in it.
    pub(crate) first_at: Option<Micros>,
    /// Until when it holds everything that was committed.
    pub(crate) known_until: Option<Micros>,
    /// Transactions without a name are in it: no set tells them apart.
    pub(crate) anonymous: bool,
    /// The file and the offset it ends at, between two transactions.
    pub(crate) ends_at: Option<(String, u64)>,
}

/// One capture.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) started_at: Micros,
    /// Numbers of transactions may mean other ones than in the streams before it.
    pub(crate) new_lineage: bool,
    /// Only of those that the server lost: what was executed before the stream is what it was.
    pub(crate) shortened: bool,
    /// It is of another server than the one before it: until then, that one's log tells when what was committed.
    pub(crate) other_server: bool,
    /// Why it is not part of the one before, in words, with what is in neither.
    pub(crate) cause: Option<String>,
    /// In order.
    pub(crate) runs: Vec<Run>,
    pub(crate) missing: Vec<Missing>,
    /// Of its facts or segments, something could not be read.
    pub(crate) damaged: Option<String>,
}

/// Bytes of a stream that are not there.
#[derive(Debug, Clone)]
pub(crate) struct Missing {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The last commit known before them, and the first behind.
    pub(crate) after: Option<Micros>,
    pub(crate) before: Option<Micros>,
}

/// A stretch of moments, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Micros,
    pub(crate) to: Micros,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hole {
    /// The last moment before it and the first behind it that can be restored.
    pub(crate) from: Micros,
    pub(crate) to: Micros,
    pub(crate) cause: String,
}

/// What one repository can give back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) points: Vec<Span>,
    pub(crate) gaps: Vec<Hole>,
    /// Behind the last point.
    pub(crate) unreached: Option<Hole>,
}

/// How the moments of a run are reached from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    /// Index of the backup and of the stream and run.
    pub(crate) start: usize,
    pub(crate) stream: usize,
    pub(crate) run: usize,
    pub(crate) span: Span,
}

/// Every way there is beside the backups alone. `skew` is how far the clocks of a server and of this machine may be apart.
pub(crate) fn ways(starts: &[Start], streams: &[Stream], skew: Micros) -> Vec<Way> {
    let streams = &with_what_backups_tell(starts, streams);
    let lineages = lineages(streams);
    let mut found = Vec::new();
    for (number, start) in starts.iter().enumerate() {
        for lineage in &lineages {
            let inside = lineage.runs(streams);
            let other = |(stream, _, run): &(usize, usize, &Run)| {
                streams.get(*stream).is_some_and(|stream| !stream.other_server) && is_younger(run, start, skew)
            };
            if !lineage.may_hold(start) || inside.iter().any(other) {
                continue;
            }
            for (position, (stream, run_number, run)) in inside.iter().enumerate() {
                let earlier: Vec<&Run> = inside.iter().take(position).map(|(_, _, run)| *run).collect();
                let all: Vec<&Run> = inside.iter().map(|(_, _, run)| *run).collect();
                let since = lineage.since_of(*stream, streams);
                let span = span(start, run, &earlier, &all).map(|span| Span {
                    from: span.from.max(since),
                    ..span
                });
                if let Some(span) = span.filter(|span| span.from <= span.to) {
                    found.push(Way {
                        start: number,
                        stream: *stream,
                        run: *run_number,
                        span,
                    });
                }
            }
        }
    }
    found
}

/// A backup that stands where a run ends, with just what was executed then, tells that nothing was committed in between.
pub(crate) fn with_what_backups_tell(starts: &[Start], streams: &[Stream]) -> Vec<Stream> {
    let mut streams = streams.to_vec();
    for run in streams.iter_mut().flat_map(|stream| &mut stream.runs) {
        let (Some(known), Some(ends_at)) = (run.known_until, &run.ends_at) else {
            continue;
        };
        let same = |start: &&Start| {
            let held = start.executed.as_ref();
            start.stands_at.as_ref() == Some(ends_at)
                && held.is_some_and(|(least, most)| *least == run.through && *most == run.through)
        };
        let last = starts.iter().filter(same).map(|start| start.at).max();
        run.known_until = Some(last.map_or(known, |last| last.max(known)));
    }
    streams
}

/// The moments of `run` that can be reached from `start`.
fn span(start: &Start, run: &Run, earlier: &[&Run], all: &[&Run]) -> Option<Span> {
    let (least, most) = start.executed.as_ref()?;
    let until = run.known_until?;
    if run.anonymous || !run.through.contains(most) {
        return None;
    }
    // Every moment of the run from the backup's on: what was executed then contains what the backup holds.
    if least.contains(&run.before) {
        return (start.at <= until).then_some(Span {
            from: start.at,
            to: until,
        });
    }
    if !run.before.contains(most) || !captured(&run.before, least, all) {
        return None;
    }
    // Before its first transaction the state is that of `before`; since when, only a run that has all of that tells.
    let known_before = earlier
        .iter()
        .filter(|other| other.through.contains(&run.before))
        .filter_map(|other| other.known_until)
        .min();
    let from = match (run.first_at, known_before) {
        (Some(first), Some(before)) => first.min(before),
        (Some(first), None) => first,
        (None, Some(before)) => before,
        (None, None) => return None,
    };
    let from = from.max(start.at);
    (from <= until).then_some(Span { from, to: until })
}

/// Whether everything in `wanted` that `held` lacks is in some run.
pub(crate) fn captured(wanted: &ExecutedSet, held: &ExecutedSet, runs: &[&Run]) -> bool {
    match wanted {
        ExecutedSet::Mysql(_) => {
            let mut missing = wanted.clone();
            missing.minus(held);
            for run in runs {
                let mut own = run.through.clone();
                own.minus(&run.before);
                missing.minus(&own);
            }
            missing.is_empty()
        }
        // A position stands for all below it: steps from one position to a further one, domain by domain.
        ExecutedSet::MariaDb(wanted) => wanted.domains().all(|domain| {
            let of = |set: &ExecutedSet| match set {
                ExecutedSet::MariaDb(position) => position.sequence(domain).unwrap_or(0),
                ExecutedSet::Mysql(_) => 0,
            };
            let goal = wanted.sequence(domain).unwrap_or(0);
            let mut at = of(held);
            while at < goal {
                let steps = runs
                    .iter()
                    .filter(|run| of(&run.before) <= at)
                    .map(|run| of(&run.through));
                match steps.max() {
                    Some(farther) if farther > at => at = farther,
                    _ => return false,
                }
            }
            true
        }),
    }
}

/// What one repository can give back. `streams` are in the order they began.
pub(crate) fn reach(starts: &[Start], streams: &[Stream], skew: Micros) -> Reach {
    let alone = starts.iter().map(|start| Span {
        from: start.at,
        to: start.at,
    });
    let points = join(
        alone
            .chain(ways(starts, streams, skew).into_iter().map(|way| way.span))
            .collect(),
    );
    let gaps = points
        .windows(2)
        .filter_map(|pair| match pair {
            [before, behind] => Some(Hole {
                from: before.to,
                to: behind.from,
                cause: cause(before.to, behind.from, streams),
            }),
            _ => None,
        })
        .collect();
    let unreached = unreached(&points, streams);
    Reach {
        points,
        gaps,
        unreached,
    }
}

/// What was captured behind the last moment there is: no backup leads on to it.
fn unreached(points: &[Span], streams: &[Stream]) -> Option<Hole> {
    let runs = streams.iter().flat_map(|stream| &stream.runs);
    let pieces = streams.iter().flat_map(|stream| &stream.missing);
    let known = runs
        .filter_map(|run| run.known_until)
        .chain(pieces.filter_map(|missing| missing.before))
        .max()?;
    let last = points.last().filter(|last| last.to < known)?;
    Some(Hole {
        from: last.to,
        to: known,
        cause: format!("{}; a new backup begins anew", cause(last.to, known, streams)),
    })
}

/// Sorted, and one where they touch: between two neighbouring microseconds there is no moment.
pub(crate) fn join(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.from, span.to));
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.from <= last.to.saturating_add(1) => last.to = last.to.max(span.to),
            _ => joined.push(span),
        }
    }
    joined
}

/// Why nothing between the two moments can be restored.
fn cause(from: Micros, to: Micros, streams: &[Stream]) -> String {
    let mut reasons = Vec::new();
    let mut any = false;
    for stream in streams {
        let begins = stream
            .runs
            .first()
            .and_then(|run| run.first_at)
            .unwrap_or(stream.started_at);
        let ends = stream.runs.iter().filter_map(|run| run.known_until).max();
        if begins.min(stream.started_at) > to || ends.is_some_and(|end| end < from) {
            continue;
        }
        any = true;
        if let Some(damaged) = &stream.damaged {
            reasons.push(format!("log {}: {damaged}", stream.id));
        }
        if stream.runs.iter().any(|run| run.anonymous) {
            reasons.push(format!("log {} has transactions without a GTID", stream.id));
        }
        let inside = |missing: &&Missing| {
            missing.after.is_none_or(|after| after <= to) && missing.before.is_none_or(|before| before >= from)
        };
        reasons.extend(stream.missing.iter().filter(inside).map(|missing| {
            format!(
                "bytes {} to {} of log {} are missing",
                missing.from, missing.to, stream.id
            )
        }));
        let began_inside = stream.started_at >= from || begins >= from;
        reasons.extend(stream.cause.clone().filter(|_| began_inside));
    }
    if !reasons.is_empty() {
        reasons.dedup();
        return reasons.join("; ");
    }
    if any {
        "the log was not captured without interruption, and no backup follows earlier".to_owned()
    } else {
        "no log was captured".to_owned()
    }
}

/// What `timeline` shows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Timeline {
    pub source: String,
    /// Every moment from `from` to `to`, both included, can be restored.
    pub points: Vec<Moments>,
    /// Between them; the last may lie behind them: captured, and no backup leads there.
    pub gaps: Vec<Gap>,
    pub earliest: Option<Timestamp>,
    pub latest: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Moments {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// No moment between the two can be restored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Gap {
    pub from: Timestamp,
    pub to: Timestamp,
    pub cause: String,
}

/// The timeline of a source, over every repository at hand.
pub async fn timeline(context: &Context, vault: &Vault, source: &str) -> Result<Timeline> {
    let backups = crate::catalog::list(context, vault, Some(source)).await?;
    let mut repositories = Vec::new();
    for repository in vault.repositories() {
        if backups.iter().any(|backup| backup.kind == Some(SourceKind::Redis)) {
            repositories.push(crate::redis::timeline::reach(context, repository, source, &backups).await?);
            continue;
        }
        let read = read::read(context, repository, source).await?;
        let starts = read::starts(&backups, repository.name(), read.flavour);
        repositories.push(reach(&starts, &read.streams, CLOCK_SKEW));
    }
    Ok(Timeline::of(source, &repositories))
}

impl Timeline {
    /// Each repository restores by itself: a moment that one of them reaches is no gap.
    pub(crate) fn of(source: &str, repositories: &[Reach]) -> Self {
        let points = join(repositories.iter().flat_map(|reach| reach.points.clone()).collect());
        let gaps = points.windows(2).filter_map(|pair| match pair {
            [before, behind] => Some((before.to, behind.from)),
            _ => None,
        });
        let why = |from: Micros, to: Micros| {
            let all = repositories.iter().flat_map(|reach| &reach.gaps);
            let over = all.filter(|gap| gap.from <= from && to <= gap.to);
            let mut causes: Vec<_> = over.map(|gap| gap.cause.clone()).collect();
            causes.dedup();
            if causes.is_empty() {
                return "no log was captured".to_owned();
            }
            causes.join("; ")
        };
        let last = points.last().map_or(0, |span| span.to);
        let behind = repositories.iter().filter_map(|reach| reach.unreached.as_ref());
        let behind = behind.filter(|hole| hole.to > last).max_by_key(|hole| hole.to);
        let gap = |from, to, cause| Gap {
            from: timestamp(from),
            to: timestamp(to),
            cause,
        };
        Self {
            source: source.to_owned(),
            gaps: gaps
                .map(|(from, to)| gap(from, to, why(from, to)))
                .chain(behind.map(|hole| gap(last, hole.to, hole.cause.clone())))
                .collect(),
            earliest: points.first().map(|span| timestamp(span.from)),
            latest: points.last().map(|span| timestamp(span.to)),
            points: points
                .into_iter()
                .map(|span| Moments {
                    from: timestamp(span.from),
                    to: timestamp(span.to),
                })
                .collect(),
        }
    }
}

pub(crate) fn micros(at: Timestamp) -> Micros {
    u64::try_from(at.as_microsecond()).unwrap_or(0)
}

pub(crate) fn timestamp(at: Micros) -> Timestamp {
    i64::try_from(at)
        .ok()
        .and_then(|at| Timestamp::from_microsecond(at).ok())
        .unwrap_or(Timestamp::MAX)
}
