//! Every object name in one place, both ways: typed id to name, name to typed id. Nothing else spells a name.

use ballast_base::{fill_random, random_hex};
use ballast_storage::ObjectName;
use jiff::Timestamp;

use crate::segment::SEGMENT_BYTES_MAX;

const STAMP: &str = "ballast-repository";

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) [u8; 16]);

        impl $name {
            pub(crate) fn random() -> Self {
                let mut id = [0; 16];
                fill_random(&mut id);
                Self(id)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

random_id!(
    /// Which repository; the same in all copies of it.
    RepositoryId
);
random_id!(
    /// One pack.
    PackId
);
random_id!(
    /// One lock of the master key.
    SlotId
);

/// One backup: when it began, and eight random digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId(String);

impl BackupId {
    pub fn new(started_at: Timestamp) -> Self {
        Self(format!("{}-{}", started_at.strftime("%Y%m%dT%H%M%SZ"), random_hex(4)))
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (time, chance) = text.split_once('-')?;
        let form = |text: &str, form: &str| {
            text.len() == form.len()
                && text.bytes().zip(form.bytes()).all(|(c, f)| match f {
                    b'9' => c.is_ascii_digit(),
                    b'f' => matches!(c, b'0'..=b'9' | b'a'..=b'f'),
                    _ => c == f,
                })
        };
        (form(time, "99999999T999999Z") && form(chance, "ffffffff")).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for BackupId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

random_id!(
    /// One uninterrupted capture of one server's log.
    StreamId
);

impl StreamId {
    pub fn new_random() -> Self {
        Self::random()
    }

    pub fn parse(text: &str) -> Option<Self> {
        hex(text).map(Self)
    }
}

impl serde::Serialize for StreamId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for StreamId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a stream id is 32 lower-case hexadecimal digits"))
    }
}

/// Which bytes of a stream a segment holds, [start, end), and when the first and the last transaction that begin in it were committed,
/// in microseconds since 1970; 0 and 0 if none begins in it. A segment's name says this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentPlace {
    pub start: u64,
    pub end: u64,
    pub first_at: u64,
    pub last_at: u64,
}

impl SegmentPlace {
    /// Bytes of the log in it.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }

    fn parse(text: &str) -> Option<Self> {
        let [start, end, first_at, last_at] = numbers(text)?;
        let place = Self {
            start,
            end,
            first_at,
            last_at,
        };
        (start < end && place.bytes() <= SEGMENT_BYTES_MAX as u64).then_some(place)
    }
}

impl std::fmt::Display for SegmentPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            start,
            end,
            first_at,
            last_at,
        } = self;
        write!(f, "{start:016x}-{end:016x}-{first_at:016x}-{last_at:016x}")
    }
}

/// Up to the moment `until`, in microseconds since 1970, the server's log ended at the log offset `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SeenUntil {
    pub(crate) end: u64,
    pub(crate) until: u64,
}

/// What kind of object a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    Stamp,
    Key(SlotId),
    Pack(PackId),
    Manifest(BackupId),
    /// Says that the pack is damaged.
    Mark(PackId),
    /// The facts of a stream.
    Stream(StreamId),
    Segment(StreamId, SegmentPlace),
    Seen(StreamId, SeenUntil),
    /// Says that the segment is damaged.
    SegmentMark(StreamId, SegmentPlace),
    Unknown,
}

pub(crate) const KEYS: &str = "keys/";
pub(crate) const PACKS: &str = "packs/";
pub(crate) const MANIFESTS: &str = "manifests/";
pub(crate) const MARKS: &str = "damaged/";
pub(crate) const LOGS: &str = "logs/";
const SEEN: &str = "seen-";
const STREAM: &str = "stream";

pub(crate) fn stamp() -> ObjectName {
    valid(STAMP.to_owned())
}

pub(crate) fn key(id: SlotId) -> ObjectName {
    valid(format!("{KEYS}{id}"))
}

pub(crate) fn pack(id: PackId) -> ObjectName {
    let digits = id.to_string();
    valid(format!("{PACKS}{}/{digits}", digits.get(..2).unwrap_or_default()))
}

pub(crate) fn manifest(id: &BackupId) -> ObjectName {
    valid(format!("{MANIFESTS}{id}"))
}

pub(crate) fn mark(id: PackId) -> ObjectName {
    valid(format!("{MARKS}{id}"))
}

/// What everything of a stream begins with.
pub(crate) fn of_stream(id: StreamId) -> String {
    format!("{LOGS}{id}/")
}

pub(crate) fn stream(id: StreamId) -> ObjectName {
    valid(format!("{LOGS}{id}/{STREAM}"))
}

pub(crate) fn segment(id: StreamId, place: &SegmentPlace) -> ObjectName {
    valid(format!("{LOGS}{id}/{place}"))
}

/// What the names of segments that begin at `start` begin with.
pub(crate) fn segment_at(id: StreamId, start: u64) -> String {
    format!("{LOGS}{id}/{start:016x}-")
}

pub(crate) fn seen_marks(id: StreamId) -> String {
    format!("{LOGS}{id}/{SEEN}")
}

pub(crate) fn seen(id: StreamId, seen: &SeenUntil) -> ObjectName {
    valid(format!("{LOGS}{id}/{SEEN}{:016x}-{:016x}", seen.end, seen.until))
}

pub(crate) fn segment_mark(id: StreamId, place: &SegmentPlace) -> ObjectName {
    valid(format!("{MARKS}{id}/{place}"))
}

pub(crate) fn parse(name: &ObjectName) -> Named {
    let text = name.as_str();
    let known = if text == STAMP {
        Some(Named::Stamp)
    } else if let Some(id) = text.strip_prefix(KEYS) {
        hex(id).map(SlotId).map(Named::Key)
    } else if let Some(rest) = text.strip_prefix(PACKS) {
        rest.split_once('/')
            .filter(|(folder, id)| id.starts_with(folder) && folder.len() == 2)
            .and_then(|(_, id)| hex(id).map(PackId).map(Named::Pack))
    } else if let Some(id) = text.strip_prefix(MANIFESTS) {
        BackupId::parse(id).map(Named::Manifest)
    } else if let Some(rest) = text.strip_prefix(MARKS) {
        match rest.split_once('/') {
            None => hex(rest).map(PackId).map(Named::Mark),
            Some((id, place)) => StreamId::parse(id)
                .zip(SegmentPlace::parse(place))
                .map(|(id, place)| Named::SegmentMark(id, place)),
        }
    } else if let Some((id, rest)) = text.strip_prefix(LOGS).and_then(|rest| rest.split_once('/')) {
        StreamId::parse(id).and_then(|id| of_log(id, rest))
    } else {
        None
    };
    known.unwrap_or(Named::Unknown)
}

fn of_log(id: StreamId, rest: &str) -> Option<Named> {
    if rest == STREAM {
        return Some(Named::Stream(id));
    }
    match rest.strip_prefix(SEEN) {
        Some(rest) => numbers(rest).map(|[end, until]| Named::Seen(id, SeenUntil { end, until })),
        None => SegmentPlace::parse(rest).map(|place| Named::Segment(id, place)),
    }
}

/// Numbers of 16 small hexadecimal digits with a `-` between them.
fn numbers<const COUNT: usize>(text: &str) -> Option<[u64; COUNT]> {
    let mut parts = text.split('-');
    let mut numbers = [0; COUNT];
    for number in &mut numbers {
        let digits = parts.next().filter(|digits| is_hex(digits, 16))?;
        *number = u64::from_str_radix(digits, 16).ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f'))
}

/// The bytes of 32 small hexadecimal digits.
pub(crate) fn hex(text: &str) -> Option<[u8; 16]> {
    if !is_hex(text, 32) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

fn valid(name: String) -> ObjectName {
    ObjectName::new(&name).expect("names made here use only the letters that are allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_what_they_name() {
        let (slot, id) = (SlotId::random(), PackId::random());
        let backup = BackupId::new("2026-11-23T05:33:00Z".parse().unwrap());
        assert!(backup.as_str().starts_with("20261123T053300Z-"));
        assert_eq!(parse(&stamp()), Named::Stamp);
        assert_eq!(parse(&key(slot)), Named::Key(slot));
        assert_eq!(parse(&pack(id)), Named::Pack(id));
        assert_eq!(parse(&mark(id)), Named::Mark(id));
        assert_eq!(parse(&manifest(&backup)), Named::Manifest(backup));
        for text in [
            "keys/x",
            "damaged/x",
            "packs/00/ffffffffffffffffffffffffffffffff",
            "manifests/20261123-00000000",
            "other",
            "keys/+0000000000000000000000000000000",
        ] {
            if let Ok(name) = ObjectName::new(text) {
                assert_eq!(parse(&name), Named::Unknown, "{text}");
            }
        }
    }
}
