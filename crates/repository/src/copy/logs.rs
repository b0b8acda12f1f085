//! Copies streams of logs: the facts, then in order what segments are missing or damaged, then the newest mark of what was seen.

use std::collections::HashMap;

use ballast_base::Cancel;
use futures_util::StreamExt as _;

use super::CopyCounts;
use crate::error::{RepositoryError, Result};
use crate::names::{self, Named, SegmentPlace, StreamId};
use crate::repository::Repository;
use crate::segment::SealedSegment;
use crate::stream::{STREAM_MAGIC, choose};

/// Segments fetched and proven ahead of the one that is stored.
const SEGMENTS_AHEAD: usize = 3;

/// Copies what `to` lacks of one stream, or holds damaged. Segments are proven whole first; one that is damaged at its source is marked and
/// is the error at the end, when the others are copied. `dry_run` counts and writes nothing.
pub async fn copy_stream(
    from: &Repository,
    to: &Repository,
    id: StreamId,
    dry_run: bool,
    progress: &(dyn Fn(u64) + Send + Sync),
    cancel: &Cancel,
) -> Result<CopyCounts> {
    super::same_repository(from, to)?;
    let mut counts = CopyCounts::default();
    let count = |counts: &mut CopyCounts, bytes: u64, replaced: bool| {
        counts.objects_copied += 1;
        counts.bytes_copied += bytes;
        counts.objects_replaced += u64::from(replaced);
        if !dry_run {
            progress(bytes);
        }
    };
    let listing = from.stream_with_marks(id, cancel).await?;
    let name = names::stream(id);
    let facts = from.get(&name, cancel).await?;
    let wanted = from.open_facts(STREAM_MAGIC, &name, &facts)?;
    let held = to.stream_facts(id, cancel).await;
    match held {
        Ok(held) if held == wanted => counts.objects_present += 1,
        Ok(_) => return Err(to.damaged(&name, "it says something else than its copy")),
        Err(error) if is_missing(&error) || is_damage(&error) => {
            count(&mut counts, facts.len() as u64, !is_missing(&error));
            if !dry_run {
                to.put_proven(&name, facts, cancel).await?;
            }
        }
        Err(error) => return Err(error),
    }
    let sizes = from.segment_sizes(id, cancel).await?;
    let there = to.segment_sizes(id, cancel).await?;
    let marked = to.marked_segments(cancel).await?;
    let usable: Vec<SegmentPlace> = there
        .keys()
        .copied()
        .filter(|place| !marked.contains(&(id, *place)))
        .collect();
    let mut lacking = Vec::new();
    for place in &listing.listing.segments {
        let present = match (usable.contains(place), sizes.get(place) == there.get(place)) {
            (true, true) => true,
            // Sealed by another one, or cut: only reading it tells.
            (true, false) => to.has_whole_segment(id, place, cancel).await?,
            // A merge may have been made on one side only.
            (false, _) => covers(&usable, place),
        };
        if present {
            counts.objects_present += 1;
        } else {
            lacking.push(*place);
        }
    }
    if dry_run {
        for place in lacking {
            count(
                &mut counts,
                sizes.get(&place).copied().unwrap_or(0),
                there.contains_key(&place),
            );
        }
        return Ok(counts);
    }
    let fetched = lacking.into_iter().map(|place| async move {
        let proven = async {
            let bytes = from.get(&names::segment(id, &place), cancel).await?;
            let opened = from.open_segment_bytes(id, place, bytes.clone()).await?;
            let link = opened.facts.link;
            Ok::<_, RepositoryError>(SealedSegment { place, link, bytes })
        };
        (place, proven.await)
    });
    let mut fetched = futures_util::stream::iter(fetched).buffered(SEGMENTS_AHEAD);
    let mut first_damage = None;
    while let Some((place, proven)) = fetched.next().await {
        let segment = match proven {
            Ok(segment) => segment,
            Err(error) if is_damage(&error) => {
                if let Err(error) = from.mark_segment(id, &place, cancel).await {
                    tracing::warn!(%error, "a damaged segment could not be marked");
                }
                first_damage.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        to.put_segment(id, &segment, cancel).await?;
        to.unmark_segment(id, &place, cancel).await?;
        count(&mut counts, segment.bytes.len() as u64, there.contains_key(&place));
    }
    if let Some(error) = first_damage {
        return Err(error);
    }
    if let Some((seen, facts)) = listing.seen
        && to
            .stream(id, cancel)
            .await?
            .seen_until
            .is_none_or(|until| until < seen.until)
    {
        to.mark_seen(id, seen.end, seen.until, &facts, cancel).await?;
    }
    Ok(counts)
}

impl Repository {
    /// Every segment of a stream that lies here and its object's size.
    async fn segment_sizes(&self, id: StreamId, cancel: &Cancel) -> Result<HashMap<SegmentPlace, u64>> {
        let mut found = HashMap::new();
        self.each_object(&names::of_stream(id), cancel, |object| {
            if let Named::Segment(_, place) = names::parse(&object.name) {
                found.insert(place, object.bytes);
            }
        })
        .await?;
        Ok(found)
    }

    async fn has_whole_segment(&self, id: StreamId, place: &SegmentPlace, cancel: &Cancel) -> Result<bool> {
        match self.opened_segment(id, place, cancel).await {
            Ok(_) => Ok(true),
            Err(error) if is_damage(&error) || is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn covers(held: &[SegmentPlace], wanted: &SegmentPlace) -> bool {
    let (chosen, _) = choose(held.to_vec());
    let mut at = wanted.start;
    for place in chosen {
        if place.start <= at && place.end > at {
            at = place.end;
        }
    }
    at >= wanted.end
}

fn is_missing(error: &RepositoryError) -> bool {
    matches!(error, RepositoryError::Missing { .. })
}

fn is_damage(error: &RepositoryError) -> bool {
    matches!(
        error,
        RepositoryError::Damaged { .. } | RepositoryError::Storage(ballast_storage::StorageError::Corrupt { .. })
    )
}
