//! The check of streams: every object opened, every segment proven to follow the one before, every hole named.

use std::collections::{BTreeMap, HashMap, HashSet};

use ballast_base::{Cancel, TaskSet};

use super::{CheckFinding, CheckReport, FindingKind, Meter};
use crate::error::{RepositoryError, Result};
use crate::names::{self, Named, SeenUntil, SegmentPlace, StreamId};
use crate::repository::Repository;
use crate::segment::Link;
use crate::stream::{SEEN_MAGIC, STREAM_MAGIC, choose, held_end};

/// Segments read and opened at once.
const SEGMENTS_AT_ONCE: usize = 3;

/// Looks at a stream that somebody writes to meanwhile.
const LOOKS_MAX: usize = 3;

/// What the store lists of one stream.
#[derive(Default, PartialEq)]
pub(super) struct FoundStream {
    pub(super) segments: BTreeMap<SegmentPlace, u64>,
    pub(super) seen: Vec<SeenUntil>,
}

impl FoundStream {
    pub(super) fn take(&mut self, object: &Named, bytes: u64) {
        match object {
            Named::Segment(_, place) => drop(self.segments.insert(*place, bytes)),
            Named::Seen(_, seen) => self.seen.push(*seen),
            _ => {}
        }
    }
}

/// The chain of a segment that opened: what it follows, and its links.
struct Chain {
    previous: Link,
    links: Vec<(u64, Link)>,
}

impl Repository {
    pub(super) async fn check_logs(
        &self,
        streams: &BTreeMap<StreamId, FoundStream>,
        marks: &HashSet<(StreamId, SegmentPlace)>,
        report: &mut CheckReport,
        meter: &mut Meter,
        cancel: &Cancel,
    ) -> Result<()> {
        for (id, found) in streams {
            report.streams.push(*id);
            let mut own = self.check_stream(*id, found, meter, cancel).await?;
            // A recorder may have gone on, or merged, between the listing and the reading. What is missing must be missing in a listing
            // that nobody changed meanwhile.
            let mut looks = 1;
            let mut listed = None;
            while own.findings.iter().any(|finding| finding.kind == FindingKind::Missing) && looks < LOOKS_MAX {
                let again = self.list_stream(*id, cancel).await?;
                if again == *listed.as_ref().unwrap_or(found) {
                    break;
                }
                own = self.check_stream(*id, &again, meter, cancel).await?;
                listed = Some(again);
                looks += 1;
            }
            let found = listed.as_ref().unwrap_or(found);
            self.settle_segment_marks(*id, found, marks, &mut own, cancel).await?;
            report.bytes += own.bytes;
            report.findings.append(&mut own.findings);
        }
        // Marks of what is gone.
        for (id, place) in marks {
            if streams.get(id).is_none_or(|found| !found.segments.contains_key(place)) {
                self.drop_segment_mark(*id, place, cancel).await?;
            }
        }
        Ok(())
    }

    async fn check_stream(
        &self,
        id: StreamId,
        found: &FoundStream,
        meter: &mut Meter,
        cancel: &Cancel,
    ) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        let name = names::stream(id);
        match self.get(&name, cancel).await {
            Ok(bytes) => {
                report.bytes += bytes.len() as u64;
                if let Err(error) = self.open_facts(STREAM_MAGIC, &name, &bytes) {
                    report.of_log(id, name.as_str(), error)?;
                }
            }
            Err(error) => report.of_log(id, name.as_str(), error)?,
        }
        let chains = self.read_segments(id, found, &mut report, meter, cancel).await?;
        self.check_chain(id, found, &chains, &mut report);
        self.check_seen(id, found, &mut report, cancel).await?;
        Ok(report)
    }

    async fn list_stream(&self, id: StreamId, cancel: &Cancel) -> Result<FoundStream> {
        let mut found = FoundStream::default();
        self.each_object(&names::of_stream(id), cancel, |object| {
            found.take(&names::parse(&object.name), object.bytes);
        })
        .await?;
        Ok(found)
    }

    /// Reads every segment whole, also those that are superseded.
    async fn read_segments(
        &self,
        id: StreamId,
        found: &FoundStream,
        report: &mut CheckReport,
        meter: &mut Meter,
        cancel: &Cancel,
    ) -> Result<HashMap<SegmentPlace, Chain>> {
        let (_, superseded) = choose(found.segments.keys().copied().collect());
        let mut chains = HashMap::new();
        let mut running = TaskSet::new("check segment");
        let mut todo = found.segments.iter();
        loop {
            while running.len() < SEGMENTS_AT_ONCE
                && let Some((place, size)) = todo.next()
            {
                let (repository, cancel, place, size) = (self.clone(), cancel.clone(), *place, *size);
                running.spawn(async move { (place, size, repository.opened_segment(id, &place, &cancel).await) });
            }
            let Some(checked) = running.join_next().await else {
                return Ok(chains);
            };
            let (place, size, outcome) = checked?;
            meter.add(size);
            let name = names::segment(id, &place);
            match outcome {
                Ok(opened) => {
                    report.bytes += size;
                    let chain = Chain {
                        previous: opened.facts.previous,
                        links: opened.links,
                    };
                    chains.insert(place, chain);
                    if superseded.contains(&place) {
                        let message = "it is superseded: another segment holds its bytes";
                        report.unused_segment(id, name.as_str(), message);
                    }
                }
                Err(RepositoryError::Damaged { .. }) if superseded.contains(&place) => {
                    let message = "it is damaged and superseded: another segment holds its bytes";
                    report.unused_segment(id, name.as_str(), message);
                }
                Err(error) => report.of_log(id, name.as_str(), error)?,
            }
        }
    }

    fn check_chain(
        &self,
        id: StreamId,
        found: &FoundStream,
        chains: &HashMap<SegmentPlace, Chain>,
        report: &mut CheckReport,
    ) {
        let (chosen, _) = choose(found.segments.keys().copied().collect());
        let mut at = 0;
        // `None` behind a segment that could not be read: that was told.
        let mut links = Some(&[(0, Link::FIRST)][..]);
        for place in chosen {
            if place.start > at {
                report.hole(
                    id,
                    at,
                    &format!("no segment holds bytes {at} to {} of this log", place.start),
                );
                links = None;
            }
            let chain = chains.get(&place);
            if let (Some(links), Some(chain)) = (links, chain)
                && !links.contains(&(place.start, chain.previous))
            {
                let name = names::segment(id, &place);
                let message = "it does not follow the segment before it";
                report.of_stream(id, name.as_str(), FindingKind::Damaged, message);
            }
            links = chain.map(|chain| &chain.links[..]);
            at = place.end;
        }
    }

    async fn check_seen(
        &self,
        id: StreamId,
        found: &FoundStream,
        report: &mut CheckReport,
        cancel: &Cancel,
    ) -> Result<()> {
        let held = held_end(&choose(found.segments.keys().copied().collect()).0);
        let mut farthest = held;
        for seen in &found.seen {
            let name = names::seen(id, seen);
            let opened = match self.get(&name, cancel).await {
                Ok(bytes) => {
                    report.bytes += bytes.len() as u64;
                    self.open_facts(SEEN_MAGIC, &name, &bytes)
                }
                // The recorder has written a newer one since.
                Err(RepositoryError::Missing { .. }) => continue,
                Err(error) => Err(error),
            };
            match opened {
                Ok(_) => farthest = farthest.max(seen.end),
                Err(error) => report.of_log(id, name.as_str(), error)?,
            }
        }
        let last = found.segments.keys().map(|place| place.end).max().unwrap_or(0);
        if farthest > last {
            let message = format!("no segment holds bytes {last} to {farthest} of this log, and they were stored");
            report.hole(id, last, &message);
        }
        Ok(())
    }

    /// Brings the marks to what was seen, as with packs.
    async fn settle_segment_marks(
        &self,
        id: StreamId,
        found: &FoundStream,
        marks: &HashSet<(StreamId, SegmentPlace)>,
        report: &mut CheckReport,
        cancel: &Cancel,
    ) -> Result<()> {
        for place in found.segments.keys() {
            let object = names::segment(id, place).to_string();
            let bad = |finding: &CheckFinding| finding.object == object && finding.kind == FindingKind::Damaged;
            if !report.findings.iter().any(bad) {
                if marks.contains(&(id, *place)) {
                    self.drop_segment_mark(id, place, cancel).await?;
                }
                continue;
            }
            let outcome = match self.mark_segment(id, place, cancel).await {
                Ok(()) => "it is marked, and copy brings it again".to_owned(),
                Err(RepositoryError::Cancelled(cancelled)) => return Err(cancelled.into()),
                Err(error) => format!("it could not be marked: {error}"),
            };
            for finding in report.findings.iter_mut().filter(|finding| bad(finding)) {
                finding.message = format!("{}; {outcome}", finding.message);
            }
        }
        Ok(())
    }

    async fn drop_segment_mark(&self, id: StreamId, place: &SegmentPlace, cancel: &Cancel) -> Result<()> {
        if let Err(error) = self.unmark_segment(id, place, cancel).await {
            cancel.check()?;
            tracing::warn!(%error, %place, "the mark of a segment that is whole or gone stays");
        }
        Ok(())
    }
}

impl CheckReport {
    fn of_stream(&mut self, id: StreamId, object: &str, kind: FindingKind, message: &str) {
        self.findings.push(CheckFinding {
            object: object.to_owned(),
            kind,
            message: message.to_owned(),
            backups: Vec::new(),
            stream: Some(id),
        });
    }

    fn unused_segment(&mut self, id: StreamId, object: &str, message: &str) {
        self.of_stream(id, object, FindingKind::Unused, message);
    }

    /// Something is missing from the log offset `at` on.
    fn hole(&mut self, id: StreamId, at: u64, message: &str) {
        let object = format!("{}*", names::segment_at(id, at));
        self.of_stream(id, &object, FindingKind::Missing, message);
    }

    fn of_log(&mut self, id: StreamId, object: &str, error: RepositoryError) -> Result<()> {
        let before = self.findings.len();
        self.error(object, error, Vec::new())?;
        for finding in self.findings.iter_mut().skip(before) {
            finding.stream = Some(id);
        }
        Ok(())
    }
}
