//! Streams: what lies of one under `logs/`, and reading it in order.

use std::collections::VecDeque;

use ballast_base::{Cancel, Task, spawn};
use ballast_storage::{ObjectName, StorageError};
use bytes::Bytes;
use serde_json::Value;

use crate::error::{RepositoryError, Result};
use crate::names::{self, Named, SeenUntil, SegmentPlace, StreamId};
use crate::repository::Repository;
use crate::sealed::{self, Magic};
use crate::segment::{Link, OpenedSegment};

pub(crate) const STREAM_MAGIC: Magic = b"BLSTSTRM";
pub(crate) const SEEN_MAGIC: Magic = b"BLSTSEEN";
/// Segments fetched and opened ahead of the one that is read: 48 MiB of log at most.
const SEGMENTS_AHEAD: usize = 3;
/// Listings of one read: each further one because a segment was merged away meanwhile.
const LOOKS_MAX: usize = 8;

/// What lies of one stream, as one look saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamListing {
    pub id: StreamId,
    /// What the floor above noted when the stream began.
    pub facts: Value,
    /// Those to read, in order. Each begins where the one before ends; after it where something is missing; before it where two
    /// merges did not go together.
    pub segments: Vec<SegmentPlace>,
    /// Those whose bytes are all in others: what a merge has left.
    pub superseded: Vec<SegmentPlace>,
    /// Up to this moment, in microseconds since 1970, nothing was committed that is not in the segments.
    pub seen_until: Option<u64>,
}

/// The same with the mark that counts, and its facts.
pub(crate) struct MarkedListing {
    pub(crate) listing: StreamListing,
    pub(crate) seen: Option<(SeenUntil, Value)>,
}

impl StreamListing {
    /// The end of what is there without a hole, from the stream's first byte.
    pub fn held_end(&self) -> u64 {
        held_end(&self.segments)
    }
}

pub(crate) fn held_end(segments: &[SegmentPlace]) -> u64 {
    segments.iter().fold(
        0,
        |end, place| if place.start <= end { end.max(place.end) } else { end },
    )
}

/// The segments to read, and those that are not needed beside them: at each offset the longest that begins there; where none begins,
/// the one that covers the offset and reaches farthest. Whatever is covered at all is covered by what is chosen.
pub(crate) fn choose(mut all: Vec<SegmentPlace>) -> (Vec<SegmentPlace>, Vec<SegmentPlace>) {
    all.sort_by_key(|place| (place.start, std::cmp::Reverse(place.end), *place));
    // Of the first so many, the one that reaches farthest.
    let farthest: Vec<SegmentPlace> = all
        .iter()
        .scan(None, |best: &mut Option<SegmentPlace>, place| {
            let farther = best.filter(|best| best.end >= place.end).unwrap_or(*place);
            *best = Some(farther);
            *best
        })
        .collect();
    let (mut chosen, mut at) = (Vec::new(), 0);
    loop {
        let before = all.partition_point(|place| place.start < at);
        let next = all.get(before).copied();
        let reaching = farthest[..before].last().filter(|place| place.end > at);
        let taken = match (next, reaching) {
            (Some(next), _) if next.start == at => next,
            (_, Some(reaching)) => *reaching,
            (Some(next), None) => next,
            (None, None) => break,
        };
        at = taken.end;
        chosen.push(taken);
    }
    let mut superseded: Vec<_> = all.into_iter().filter(|place| !chosen.contains(place)).collect();
    superseded.sort();
    (chosen, superseded)
}

impl Repository {
    /// Writes the facts of a stream; comes before its first segment. The same facts there already are fine.
    pub async fn create_stream(&self, id: StreamId, facts: &Value, cancel: &Cancel) -> Result<()> {
        self.put_facts(STREAM_MAGIC, &names::stream(id), facts, cancel).await
    }

    /// The streams of which anything lies here.
    pub async fn streams(&self, cancel: &Cancel) -> Result<Vec<StreamId>> {
        let mut found = Vec::new();
        let mut after: Option<ObjectName> = None;
        // Only one object of each stream is asked for: no other name of ours in a stream's folder comes after that of its facts.
        while let Some(object) = self.first_after(names::LOGS, after.as_ref(), cancel).await? {
            after = Some(match names::parse(&object) {
                Named::Stream(id) | Named::Segment(id, _) | Named::Seen(id, _) => {
                    found.push(id);
                    names::stream(id)
                }
                _ => object,
            });
        }
        found.dedup();
        Ok(found)
    }

    async fn first_after(
        &self,
        prefix: &str,
        after: Option<&ObjectName>,
        cancel: &Cancel,
    ) -> Result<Option<ObjectName>> {
        let page = cancel.race(self.storage().list(prefix, after, 1)).await??;
        Ok(page.into_iter().next().map(|object| object.name))
    }

    /// Looks at one stream: a listing, its facts and its newest mark.
    pub async fn stream(&self, id: StreamId, cancel: &Cancel) -> Result<StreamListing> {
        Ok(self.stream_with_marks(id, cancel).await?.listing)
    }

    pub(crate) async fn stream_with_marks(&self, id: StreamId, cancel: &Cancel) -> Result<MarkedListing> {
        let (mut places, mut marks) = (Vec::new(), Vec::new());
        self.each_object(&names::of_stream(id), cancel, |object| {
            match names::parse(&object.name) {
                Named::Segment(_, place) => places.push(place),
                Named::Seen(_, seen) => marks.push(seen),
                _ => {}
            }
        })
        .await?;
        let facts = self.stream_facts(id, cancel).await?;
        let (segments, superseded) = choose(places);
        let held = held_end(&segments);
        // A mark speaks of bytes that may not be here, and a name alone proves nothing.
        marks.retain(|seen| seen.end <= held);
        marks.sort_by_key(|seen| std::cmp::Reverse((seen.until, seen.end)));
        let mut newest = None;
        for seen in marks {
            let name = names::seen(id, &seen);
            match self.facts_of(SEEN_MAGIC, &name, cancel).await {
                Ok(facts) => {
                    newest = Some((seen, facts));
                    break;
                }
                // The recorder has replaced it since, or it is damaged: an older one says less, and that is all.
                Err(
                    error @ (RepositoryError::Missing { .. }
                    | RepositoryError::Damaged { .. }
                    | RepositoryError::Storage(StorageError::Corrupt { .. })),
                ) => tracing::debug!(%error, "a mark of what was seen is passed over"),
                Err(error) => return Err(error),
            }
        }
        Ok(MarkedListing {
            listing: StreamListing {
                id,
                facts,
                segments,
                superseded,
                seen_until: newest.as_ref().map(|(seen, _)| seen.until),
            },
            seen: newest,
        })
    }

    /// What the floor above noted when the stream began.
    pub async fn stream_facts(&self, id: StreamId, cancel: &Cancel) -> Result<Value> {
        self.facts_of(STREAM_MAGIC, &names::stream(id), cancel).await
    }

    /// Notes that up to the moment `until` (microseconds since 1970) the server's log ended at the log offset `end`, and removes what
    /// older marks said. Call it only when everything up to `end` is stored here.
    pub async fn mark_seen(&self, id: StreamId, end: u64, until: u64, facts: &Value, cancel: &Cancel) -> Result<()> {
        let seen = SeenUntil { end, until };
        self.put_facts(SEEN_MAGIC, &names::seen(id, &seen), facts, cancel)
            .await?;
        let mut older = Vec::new();
        self.each_object(&names::seen_marks(id), cancel, |object| {
            match names::parse(&object.name) {
                Named::Seen(_, held) if held.until < until && held.end <= end => older.push(object.name),
                _ => {}
            }
        })
        .await?;
        for name in older {
            cancel.race(self.storage().delete(&name)).await??;
        }
        Ok(())
    }

    /// Removes segments whose bytes are all in others, after reading those others: a merge is done only when what it made is whole.
    pub async fn remove_segments(&self, id: StreamId, places: &[SegmentPlace], cancel: &Cancel) -> Result<()> {
        let listing = self.stream(id, cancel).await?;
        for place in places {
            if listing.segments.contains(place) {
                return Err(RepositoryError::Needed {
                    location: self.location(),
                    object: names::segment(id, place).to_string(),
                });
            }
        }
        let gone = |place: &SegmentPlace| !listing.superseded.contains(place);
        let wanted: Vec<_> = places.iter().filter(|place| !gone(place)).collect();
        let covering = listing.segments.iter().filter(|kept| {
            wanted
                .iter()
                .any(|place| kept.start < place.end && place.start < kept.end)
        });
        for kept in covering {
            let held = self.opened_segment(id, kept, cancel).await?;
            for place in wanted
                .iter()
                .filter(|place| kept.start < place.end && place.end <= kept.end)
            {
                let own = match self.segment_facts(id, place, cancel).await {
                    Ok(facts) => facts.link,
                    // What is damaged is not worth keeping beside a whole one.
                    Err(RepositoryError::Damaged { .. } | RepositoryError::Storage(StorageError::Corrupt { .. })) => {
                        continue;
                    }
                    Err(RepositoryError::Missing { .. }) => continue,
                    Err(error) => return Err(error),
                };
                if !held.links.contains(&(place.end, own)) {
                    return Err(self.damaged(
                        names::segment(id, kept),
                        format!("it does not hold the bytes of segment {place}"),
                    ));
                }
            }
        }
        for place in wanted {
            cancel.race(self.storage().delete(&names::segment(id, place))).await??;
            self.unmark_segment(id, place, cancel).await?;
        }
        Ok(())
    }

    async fn facts_of(&self, magic: Magic, name: &ObjectName, cancel: &Cancel) -> Result<Value> {
        let bytes = self.get(name, cancel).await?;
        self.open_facts(magic, name, &bytes)
    }

    pub(crate) fn open_facts(&self, magic: Magic, name: &ObjectName, bytes: &[u8]) -> Result<Value> {
        sealed::open(self.keys(), magic, name, bytes, 0)
            .map(|(facts, _)| facts)
            .map_err(|cause| cause.at(&self.location(), name))
    }

    async fn put_facts(&self, magic: Magic, name: &ObjectName, facts: &Value, cancel: &Cancel) -> Result<()> {
        let object = sealed::seal(self.keys(), magic, name, facts, None);
        match cancel.race(self.storage().put_new(name, object.into())).await? {
            Ok(()) => Ok(()),
            Err(StorageError::AlreadyExists { .. }) if self.facts_of(magic, name, cancel).await? == *facts => Ok(()),
            Err(StorageError::AlreadyExists { .. }) => {
                Err(self.damaged(name, "it is there already and says something else"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Reads a stream in order, each segment proven to follow the one before; the next ones are fetched meanwhile.
#[derive(Debug)]
pub struct StreamReader {
    repository: Repository,
    id: StreamId,
    cancel: Cancel,
    ahead: VecDeque<(SegmentPlace, Task<Result<OpenedSegment>>)>,
    rest: std::vec::IntoIter<SegmentPlace>,
    /// All there are, the superseded ones too, but those that were found damaged.
    usable: Vec<SegmentPlace>,
    at: u64,
    /// The end of what was listed at the beginning.
    until: u64,
    looks: usize,
    /// Links of the segment read last, by the offset they stand at.
    links: Vec<(u64, Link)>,
    /// Something was read: what comes next must follow it.
    begun: bool,
}

impl StreamReader {
    /// Begins at the log offset `from`.
    pub fn new(repository: Repository, listing: StreamListing, from: u64, cancel: Cancel) -> Self {
        let until = listing.segments.last().map_or(0, |place| place.end);
        Self {
            repository,
            id: listing.id,
            cancel,
            ahead: VecDeque::new(),
            usable: [listing.segments.as_slice(), &listing.superseded].concat(),
            rest: listing.segments.into_iter(),
            at: from,
            until,
            looks: 1,
            links: vec![(0, Link::FIRST)],
            begun: false,
        }
    }

    /// The next bytes and the log offset of the first of them. `None` behind the last segment; a hole before it is an error.
    pub async fn next(&mut self) -> Result<Option<(u64, Bytes)>> {
        loop {
            self.fetch_ahead();
            let Some((place, task)) = self.ahead.pop_front() else {
                return if self.at < self.until {
                    Err(self.hole())
                } else {
                    Ok(None)
                };
            };
            if place.start > self.at {
                return Err(self.hole());
            }
            match task.join().await? {
                // A merge put another in its place.
                Err(RepositoryError::Missing { .. }) if self.looks < LOOKS_MAX => {
                    self.looks += 1;
                    self.ahead.clear();
                    let listing = self.repository.stream(self.id, &self.cancel).await?;
                    self.usable = [listing.segments.as_slice(), &listing.superseded].concat();
                    self.rest = listing.segments.into_iter();
                }
                Err(
                    error @ (RepositoryError::Damaged { .. } | RepositoryError::Storage(StorageError::Corrupt { .. })),
                ) => self.do_without(place, error)?,
                opened => return self.give(place, opened?).map(Some),
            }
        }
    }

    /// What a merged segment was made of may be there yet: it is read instead.
    fn do_without(&mut self, damaged: SegmentPlace, error: RepositoryError) -> Result<()> {
        self.usable.retain(|place| *place != damaged);
        let (chosen, _) = choose(self.usable.clone());
        let mut covered = self.at;
        for place in chosen.iter().filter(|place| place.end > self.at) {
            if place.start > covered || covered >= damaged.end {
                break;
            }
            covered = place.end;
        }
        if covered < damaged.end {
            return Err(error);
        }
        tracing::warn!(%error, "read in parts instead");
        self.ahead.clear();
        self.rest = chosen.into_iter();
        Ok(())
    }

    fn fetch_ahead(&mut self) {
        while self.ahead.len() < SEGMENTS_AHEAD
            && let Some(place) = self.rest.next()
        {
            if place.end <= self.at || place.start >= self.until {
                continue;
            }
            let (repository, id, cancel) = (self.repository.clone(), self.id, self.cancel.clone());
            let task = spawn("read segment", async move {
                repository.opened_segment(id, &place, &cancel).await
            });
            self.ahead.push_back((place, task));
        }
    }

    fn give(&mut self, place: SegmentPlace, opened: OpenedSegment) -> Result<(u64, Bytes)> {
        // Where a read begins in the middle of a stream there is nothing to compare the first link with. One that begins before
        // what was read last (after a merge) has a link of it in its own chain.
        let follows = if place.start == 0 || self.begun {
            self.links.contains(&(place.start, opened.facts.previous))
                || self.links.iter().any(|link| opened.links.contains(link))
        } else {
            true
        };
        if !follows {
            let name = names::segment(self.id, &place);
            return Err(self
                .repository
                .damaged(name, "it does not follow the segment before it"));
        }
        self.begun = true;
        self.links.extend(opened.links);
        self.links.retain(|(at, _)| *at >= place.start);
        let skip = usize::try_from(self.at - place.start).unwrap_or(usize::MAX);
        let at = std::mem::replace(&mut self.at, place.end);
        Ok((at, opened.raw.slice(skip.min(opened.raw.len())..)))
    }

    fn hole(&self) -> RepositoryError {
        RepositoryError::Missing {
            location: self.repository.location(),
            object: format!("{}*", names::segment_at(self.id, self.at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(start: u64, end: u64) -> SegmentPlace {
        SegmentPlace {
            start,
            end,
            first_at: 0,
            last_at: 0,
        }
    }

    proptest! {
        /// Any segments at all: what is chosen covers what all of them cover, in order, and nothing that is needed is superseded.
        #[test]
        fn what_is_chosen_covers_everything_and_the_rest_is_not_needed(
            all in prop::collection::vec((0u64..40, 1u64..12), 0..30),
        ) {
            let all: Vec<_> = all.into_iter().map(|(start, length)| place(start, start + length)).collect();
            let (chosen, superseded) = choose(all.clone());
            let covers = |places: &[SegmentPlace], at: u64| places.iter().any(|p| p.start <= at && at < p.end);
            for at in 0..60 {
                prop_assert_eq!(covers(&chosen, at), covers(&all, at));
            }
            for pair in chosen.windows(2) {
                prop_assert!(pair[0].end < pair[1].end);
            }
            for one in &all {
                prop_assert!(chosen.contains(one) != superseded.contains(one));
            }
        }

        /// A chain in which runs were merged, some small ones left: every chosen one begins where the one before ends.
        #[test]
        fn merges_leave_an_unbroken_chain(
            lengths in prop::collection::vec(1u64..9, 1..20),
            merges in prop::collection::vec((any::<prop::sample::Index>(), 2usize..6, any::<bool>()), 0..6),
        ) {
            let mut chain = Vec::new();
            for length in lengths {
                let start = chain.last().map_or(0, |last: &SegmentPlace| last.end);
                chain.push(place(start, start + length));
            }
            let end = chain.last().unwrap().end;
            let mut all = chain.clone();
            for (at, count, removed) in merges {
                let at = at.index(chain.len());
                let parts: Vec<_> = chain.iter().skip(at).take(count).copied().collect();
                if parts.len() < 2 {
                    continue;
                }
                let whole = place(parts[0].start, parts[parts.len() - 1].end);
                chain.splice(at..at + parts.len(), [whole]);
                all.push(whole);
                if removed {
                    all.retain(|held| !parts.contains(held));
                }
            }
            let (chosen, _) = choose(all);
            prop_assert_eq!(&chosen, &chain);
            prop_assert_eq!(held_end(&chosen), end);
        }
    }
}
