//! Small segments become large ones, in each repository by itself: a segment a second would be 86,400 objects a day.
//!
//! The merged one is stored first; the small ones go some minutes later, so that a restore that has listed them can read on.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ballast_base::{Cancel, run_blocking};
use ballast_repository::{Repository, RepositoryError, SegmentPlace, StreamId, StreamListing};

use super::kind::LogSegment;
use super::seal::merge_next;
use crate::context::Context;
use crate::error::Result;

/// Superseded segments stay this long.
const SUPERSEDED_KEPT: Duration = Duration::from_secs(300);
/// The latest segments are looked at, not all there ever were.
const LOOKED_AT_MAX: usize = 512;

/// The segments of one stream in one repository.
#[derive(Debug)]
pub(super) struct Merger {
    stream: StreamId,
    places: Vec<SegmentPlace>,
    superseded: VecDeque<(Duration, Vec<SegmentPlace>)>,
    /// Starts of segments that take no more: their chain of links is as long as it may be.
    full: BTreeSet<u64>,
}

impl Merger {
    pub(super) fn new(stream: StreamId) -> Self {
        Self {
            stream,
            places: Vec::new(),
            superseded: VecDeque::new(),
            full: BTreeSet::new(),
        }
    }

    /// Of what is there; `now` is when it was looked at.
    pub(super) fn of(listing: &StreamListing, now: Duration) -> Self {
        let mut merger = Self::new(listing.id);
        let latest = listing.segments.len().saturating_sub(LOOKED_AT_MAX);
        merger.places = listing.segments.get(latest..).unwrap_or_default().to_vec();
        if !listing.superseded.is_empty() {
            merger.superseded.push_back((now, listing.superseded.clone()));
        }
        merger
    }

    pub(super) fn add(&mut self, place: SegmentPlace) {
        if self.places.last().is_none_or(|last| last.end <= place.start) {
            self.places.push(place);
        }
        if self.places.len() > LOOKED_AT_MAX {
            self.places.remove(0);
        }
    }

    /// Merges what is due, and removes what was merged a while ago. A failure costs nothing but time: the small ones are still there.
    pub(super) async fn work(&mut self, repository: &Repository, context: &Context, stop: &Cancel) {
        if let Err(error) = self.try_work(repository, context, stop).await {
            tracing::info!(%error, repository = repository.name(), "segments are not merged now");
        }
    }

    async fn try_work(&mut self, repository: &Repository, context: &Context, stop: &Cancel) -> Result<()> {
        if let Some(range) = self.due() {
            let parts = self.places.get(range.clone()).unwrap_or_default().to_vec();
            match merge(repository, self.stream, &parts, stop).await {
                Ok(merged) => {
                    self.places.splice(range, [merged]);
                    self.superseded.push_back((context.clock.elapsed(), parts));
                }
                Err(error) => {
                    if is_for_good(&error) {
                        self.full.extend(parts.first().map(|place| place.start));
                    }
                    return Err(error.into());
                }
            }
        }
        let now = context.clock.elapsed();
        while let Some((since, _)) = self.superseded.front()
            && now.saturating_sub(*since) >= SUPERSEDED_KEPT
        {
            if let Some((_, places)) = self.superseded.pop_front() {
                repository.remove_segments(self.stream, &places, stop).await?;
            }
        }
        Ok(())
    }

    fn due(&self) -> Option<std::ops::Range<usize>> {
        let after_full = self.places.iter().rposition(|place| self.full.contains(&place.start));
        let from = after_full.map_or(0, |at| at + 1);
        let range = merge_next(self.places.get(from..)?)?;
        Some(range.start + from..range.end + from)
    }
}

/// Damaged, or too long a chain: what the run begins with is left as it is.
fn is_for_good(error: &RepositoryError) -> bool {
    use RepositoryError as R;
    matches!(
        error,
        R::TooLarge { .. } | R::NotMergeable(_) | R::Damaged { .. } | R::Missing { .. }
    )
}

async fn merge(
    repository: &Repository,
    stream: StreamId,
    parts: &[SegmentPlace],
    stop: &Cancel,
) -> std::result::Result<SegmentPlace, RepositoryError> {
    let mut read = Vec::new();
    for place in parts {
        read.push(repository.segment(stream, place, stop).await?);
    }
    let facts: Option<Vec<LogSegment>> = read
        .iter()
        .map(|(facts, _)| serde_json::from_value(facts.facts.clone()).ok())
        .collect();
    let facts = facts.and_then(|facts| LogSegment::merged(&facts));
    let facts = facts.and_then(|facts| serde_json::to_value(facts).ok());
    let facts = facts.ok_or(RepositoryError::NotMergeable("segments whose facts are not understood"))?;
    let sealer = repository.clone();
    let merged = run_blocking("merge segments", move || sealer.merge_segments(stream, facts, &read)).await??;
    repository.put_segment(stream, &merged, stop).await?;
    Ok(merged.place)
}
