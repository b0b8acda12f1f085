//! Segments: sealed stretches of a stream, each linked to the one before.
#![deny(clippy::indexing_slicing)]

use ballast_base::{Cancel, run_blocking};
use ballast_storage::StorageError;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::bytes::Malformed;
use crate::cipher::Keys;
use crate::error::{RepositoryError, Result};
use crate::format::Unreadable;
use crate::names::{self, SegmentPlace, StreamId};
use crate::repository::Repository;
use crate::sealed::{self, Magic};

/// Bytes of the log that one segment holds at most.
pub const SEGMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Links in one segment at most: so many small ones can become one.
pub const SEGMENT_LINKS_MAX: usize = 4096;
pub(crate) const MAGIC: Magic = b"BLSTSEGM";

/// Where a stream stands: made of every byte before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link([u8; 16]);

impl Link {
    /// Before the first byte.
    pub const FIRST: Self = Self([0; 16]);

    pub fn parse(text: &str) -> Option<Self> {
        names::hex(text).map(Self)
    }

    fn next(self, keys: &Keys, start: u64, end: u64, raw: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(keys.log_link_key());
        for part in [&self.0[..], &start.to_le_bytes(), &end.to_le_bytes(), raw] {
            hasher.update(part);
        }
        let mut link = [0; 16];
        hasher.finalize_xof().fill(&mut link);
        Self(link)
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl serde::Serialize for Link {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Link {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a link is 32 lower-case hexadecimal digits"))
    }
}

/// What a segment says of itself, readable without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFacts {
    pub place: SegmentPlace,
    /// What the floor above noted.
    pub facts: Value,
    /// The link of the segment before.
    pub previous: Link,
    pub link: Link,
    /// Where the chain has a link: the ends of what was sealed one by one. The last is the segment's own end.
    ends: Vec<u64>,
}

/// A segment as it lies in storage: made once, stored in every repository.
#[derive(Debug, Clone)]
pub struct SealedSegment {
    pub place: SegmentPlace,
    pub link: Link,
    pub bytes: Bytes,
}

impl SegmentFacts {
    fn decode(place: SegmentPlace, value: Value) -> std::result::Result<Self, Malformed> {
        let no = |what| Malformed::new(format!("its facts have no {what} that is one"));
        let link = |what| {
            let text = value.get(what).and_then(Value::as_str);
            text.and_then(Link::parse).ok_or_else(|| no(what))
        };
        let (previous, own) = (link("previous")?, link("link")?);
        let ends = value.get("ends").and_then(Value::as_array).ok_or_else(|| no("ends"))?;
        let ends = ends
            .iter()
            .map(Value::as_u64)
            .collect::<Option<Vec<_>>>()
            .filter(|ends| ends.len() <= SEGMENT_LINKS_MAX && ends.last() == Some(&place.end))
            .filter(|ends| ends.first().is_some_and(|first| *first > place.start))
            .filter(|ends| ends.is_sorted_by(|a, b| a < b))
            .ok_or_else(|| no("ends"))?;
        let facts = match value {
            Value::Object(mut object) => object.remove("facts").unwrap_or_default(),
            _ => Value::Null,
        };
        Ok(Self {
            place,
            facts,
            previous,
            link: own,
            ends,
        })
    }

    /// Each place in `raw` where the chain has a link, with that link.
    fn chain<'a>(&'a self, keys: &'a Keys, raw: &'a [u8]) -> impl Iterator<Item = (u64, Link)> + 'a {
        let (mut start, mut link, mut rest) = (self.place.start, self.previous, raw);
        self.ends.iter().map_while(move |end| {
            let (piece, behind) = rest.split_at_checked(usize::try_from(end - start).ok()?)?;
            link = link.next(keys, start, *end, piece);
            (start, rest) = (*end, behind);
            Some((*end, link))
        })
    }
}

/// A segment that was read and opened, with the links of its chain.
#[derive(Debug)]
pub(crate) struct OpenedSegment {
    pub(crate) facts: SegmentFacts,
    pub(crate) raw: Bytes,
    pub(crate) links: Vec<(u64, Link)>,
}

fn seal(
    keys: &Keys,
    id: StreamId,
    place: SegmentPlace,
    facts: Value,
    previous: Link,
    ends: Vec<u64>,
    raw: &[u8],
) -> SealedSegment {
    let mut all = SegmentFacts {
        place,
        facts,
        previous,
        link: previous,
        ends,
    };
    let link = all.chain(keys, raw).last().map_or(previous, |(_, link)| link);
    all.link = link;
    let value = json!({"previous": all.previous, "link": all.link, "ends": all.ends, "facts": all.facts});
    SealedSegment {
        place,
        link,
        bytes: sealed::seal(keys, MAGIC, &names::segment(id, &place), &value, Some(raw)).into(),
    }
}

pub(crate) fn open(
    keys: &Keys,
    id: StreamId,
    place: SegmentPlace,
    bytes: &[u8],
) -> std::result::Result<OpenedSegment, Unreadable> {
    let (value, raw) = sealed::open(keys, MAGIC, &names::segment(id, &place), bytes, SEGMENT_BYTES_MAX)?;
    let facts = SegmentFacts::decode(place, value)?;
    if raw.len() as u64 != place.bytes() {
        return Err(Malformed::new("it holds another count of bytes than its name says").into());
    }
    let links: Vec<_> = facts.chain(keys, &raw).collect();
    if links.last() != Some(&(place.end, facts.link)) {
        return Err(Malformed::new("its link is not that of its bytes").into());
    }
    Ok(OpenedSegment {
        facts,
        raw: raw.into(),
        links,
    })
}

impl Repository {
    /// Seals `raw`, the bytes `place` names. Computes: call it away from the runtime's threads.
    ///
    /// # Panics
    /// If `raw` is not as long as `place` says, or longer than [`SEGMENT_BYTES_MAX`].
    pub fn seal_segment(
        &self,
        id: StreamId,
        place: SegmentPlace,
        facts: Value,
        previous: Link,
        raw: &[u8],
    ) -> SealedSegment {
        assert!(raw.len() as u64 == place.bytes() && (1..=SEGMENT_BYTES_MAX).contains(&raw.len()));
        seal(self.keys(), id, place, facts, previous, vec![place.end], raw)
    }

    /// One segment of the bytes of several that follow each other, as [`Repository::segment`] gave them; `facts` are those of all of
    /// them. Store it, and only then remove the small ones. Computes: call it away from the runtime's threads.
    pub fn merge_segments(&self, id: StreamId, facts: Value, parts: &[(SegmentFacts, Bytes)]) -> Result<SealedSegment> {
        let [(first, _), .., (last, _)] = parts else {
            return Err(RepositoryError::NotMergeable("fewer than two segments"));
        };
        let follow = parts.windows(2).all(|pair| match pair {
            [(a, _), (b, _)] => a.place.end == b.place.start && a.link == b.previous,
            _ => false,
        });
        if !follow {
            return Err(RepositoryError::NotMergeable("segments that do not follow each other"));
        }
        let too_large = |what, max: usize| RepositoryError::TooLarge { what, max: max as u64 };
        if last.place.end - first.place.start > SEGMENT_BYTES_MAX as u64 {
            return Err(too_large("a merged segment", SEGMENT_BYTES_MAX));
        }
        let ends: Vec<u64> = parts.iter().flat_map(|(facts, _)| facts.ends.iter().copied()).collect();
        if ends.len() > SEGMENT_LINKS_MAX {
            return Err(too_large("the chain of a merged segment", SEGMENT_LINKS_MAX));
        }
        let mut timed = parts
            .iter()
            .map(|(facts, _)| facts.place)
            .filter(|place| place.first_at != 0);
        let first_timed = timed.next();
        let place = SegmentPlace {
            start: first.place.start,
            end: last.place.end,
            first_at: first_timed.map_or(0, |place| place.first_at),
            last_at: timed.last().or(first_timed).map_or(0, |place| place.last_at),
        };
        let raw = parts.iter().map(|(_, raw)| &raw[..]).collect::<Vec<_>>().concat();
        let merged = seal(self.keys(), id, place, facts, first.previous, ends, &raw);
        // The bytes given must be those the segments had.
        if merged.link != last.link {
            return Err(RepositoryError::NotMergeable(
                "bytes that are not those of the segments",
            ));
        }
        Ok(merged)
    }

    /// Stores a segment. One that is there with the same bytes of the log counts as stored, whoever sealed it; one that is damaged is
    /// replaced.
    pub async fn put_segment(&self, id: StreamId, segment: &SealedSegment, cancel: &Cancel) -> Result<()> {
        let name = names::segment(id, &segment.place);
        match cancel
            .race(self.storage().put_new(&name, segment.bytes.clone()))
            .await?
        {
            Ok(()) => return Ok(()),
            Err(StorageError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        match self.opened_segment(id, &segment.place, cancel).await {
            Ok(held) if held.facts.link == segment.link => Ok(()),
            Ok(_) => Err(self.damaged(&name, "it is there already and holds other bytes of the log")),
            Err(RepositoryError::Damaged { .. } | RepositoryError::Storage(StorageError::Corrupt { .. })) => {
                self.put_proven(&name, segment.bytes.clone(), cancel).await?;
                self.unmark_segment(id, &segment.place, cancel).await
            }
            Err(error) => Err(error),
        }
    }

    /// What a segment says of itself; its bytes are not read.
    pub async fn segment_facts(&self, id: StreamId, place: &SegmentPlace, cancel: &Cancel) -> Result<SegmentFacts> {
        let name = names::segment(id, place);
        let (value, _) = self
            .sealed_facts(MAGIC, &name, cancel)
            .await
            .map_err(|error| self.gone(error))?;
        SegmentFacts::decode(*place, value).map_err(|cause| self.damaged(&name, cause))
    }

    /// A segment and its bytes of the log.
    pub async fn segment(&self, id: StreamId, place: &SegmentPlace, cancel: &Cancel) -> Result<(SegmentFacts, Bytes)> {
        let opened = self.opened_segment(id, place, cancel).await?;
        Ok((opened.facts, opened.raw))
    }

    pub(crate) async fn opened_segment(
        &self,
        id: StreamId,
        place: &SegmentPlace,
        cancel: &Cancel,
    ) -> Result<OpenedSegment> {
        let name = names::segment(id, place);
        let bytes = self.get(&name, cancel).await?;
        self.open_segment_bytes(id, *place, bytes).await
    }

    pub(crate) async fn open_segment_bytes(
        &self,
        id: StreamId,
        place: SegmentPlace,
        bytes: Bytes,
    ) -> Result<OpenedSegment> {
        let keys = std::sync::Arc::clone(self.keys());
        let opened = run_blocking("open segment", move || open(&keys, id, place, &bytes)).await?;
        opened.map_err(|cause| cause.at(&self.location(), names::segment(id, &place)))
    }

    /// An object that a listing or another one named and that is not there any more.
    pub(crate) fn gone(&self, error: RepositoryError) -> RepositoryError {
        match error {
            RepositoryError::Storage(error) => RepositoryError::must_exist(&self.location(), error),
            other => other,
        }
    }
}
