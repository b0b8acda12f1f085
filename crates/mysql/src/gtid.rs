//! GTID sets: which transactions, by the server that made them and their number there, also with tags (MySQL 8.3).
//!
//! There is one canonical text per set (sources and tags sorted, intervals joined, lower case, no spaces), so equal
//! sets have equal texts.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::MysqlError;

/// A transaction number is below this, as in the server.
const NUMBER_MAX: u64 = i64::MAX as u64;
const TAG_BYTES_MAX: usize = 32;

/// Who numbered a transaction: a server's UUID and a tag, mostly empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    uuid: [u8; 16],
    tag: String,
}

/// Numbers from the first to before the second.
type Interval = (u64, u64);

/// A set of transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidSet {
    /// Per source, sorted and apart from each other; no source is without intervals.
    sources: BTreeMap<Source, Vec<Interval>>,
}

impl GtidSet {
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// How many transactions.
    pub fn count(&self) -> u64 {
        self.sources
            .values()
            .flatten()
            .map(|(from, to)| to - from)
            .fold(0, u64::saturating_add)
    }

    /// Adds the transactions `from` to before `to` of a source.
    pub(crate) fn add(&mut self, uuid: [u8; 16], tag: &str, from: u64, to: u64) -> Result<(), MysqlError> {
        if from == 0 || from >= to || to > NUMBER_MAX {
            return Err(MysqlError::protocol(format!(
                "{from} to {to} are no transaction numbers"
            )));
        }
        let tag = if tag.is_empty() {
            String::new()
        } else {
            parse_tag(tag).ok_or_else(|| MysqlError::protocol(format!("\"{tag}\" is no tag of a GTID")))?
        };
        let intervals = self.sources.entry(Source { uuid, tag }).or_default();
        match intervals.last_mut() {
            // The usual case: the next number.
            Some(last) if last.1 == from => last.1 = to,
            Some(last) if last.1 > from => {
                intervals.push((from, to));
                join(intervals);
            }
            _ => intervals.push((from, to)),
        }
        Ok(())
    }

    pub(crate) fn contains_number(&self, uuid: [u8; 16], tag: &str, number: u64) -> bool {
        let source = Source {
            uuid,
            tag: tag.to_owned(),
        };
        let Some(intervals) = self.sources.get(&source) else {
            return false;
        };
        let after = intervals.partition_point(|interval| interval.0 <= number);
        after
            .checked_sub(1)
            .and_then(|at| intervals.get(at))
            .is_some_and(|interval| number < interval.1)
    }

    /// Adds what `other` has.
    /// The highest number of each source and tag.
    pub(crate) fn last_of_each(&self) -> impl Iterator<Item = ([u8; 16], &str, u64)> {
        let all = self.sources.iter();
        all.filter_map(|(source, intervals)| Some((source.uuid, source.tag.as_str(), intervals.last()?.1 - 1)))
    }

    pub fn union(&mut self, other: &Self) {
        for (source, added) in &other.sources {
            let intervals = self.sources.entry(source.clone()).or_default();
            intervals.extend_from_slice(added);
            join(intervals);
        }
    }

    /// Takes out what `other` has.
    pub fn minus(&mut self, other: &Self) {
        for (source, removed) in &other.sources {
            if let Some(intervals) = self.sources.get_mut(source) {
                *intervals = subtract(intervals, removed);
            }
        }
        self.sources.retain(|_, intervals| !intervals.is_empty());
    }

    /// Whether all of `other` is in this one.
    pub fn contains(&self, other: &Self) -> bool {
        let mut missing = other.clone();
        missing.minus(self);
        missing.is_empty()
    }
}

/// Sorts and joins what touches.
fn join(intervals: &mut Vec<Interval>) {
    intervals.sort_unstable();
    intervals.dedup_by(|next, kept| {
        let touches = next.0 <= kept.1;
        if touches {
            kept.1 = kept.1.max(next.1);
        }
        touches
    });
}

fn subtract(from: &[Interval], removed: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::with_capacity(from.len());
    for &(mut start, end) in from {
        for &(cut_start, cut_end) in removed {
            if cut_end <= start || end <= cut_start {
                continue;
            }
            if start < cut_start {
                left.push((start, cut_start));
            }
            start = start.max(cut_end);
        }
        if start < end {
            left.push((start, end));
        }
    }
    left
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before: Option<&[u8; 16]> = None;
        for (source, intervals) in &self.sources {
            if before != Some(&source.uuid) {
                if before.is_some() {
                    f.write_str(",")?;
                }
                write_uuid(f, &source.uuid)?;
            }
            before = Some(&source.uuid);
            if !source.tag.is_empty() {
                write!(f, ":{}", source.tag)?;
            }
            for (from, to) in intervals {
                if from + 1 == *to {
                    write!(f, ":{from}")?;
                } else {
                    write!(f, ":{from}-{}", to - 1)?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = MysqlError;

    fn from_str(text: &str) -> Result<Self, MysqlError> {
        let wrong = |part: &str| MysqlError::protocol(format!("\"{part}\" is no GTID set"));
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut items = part.split(':').map(str::trim);
            let uuid = items.next().and_then(parse_uuid).ok_or_else(|| wrong(part))?;
            let mut source = Source {
                uuid,
                tag: String::new(),
            };
            let mut numbers = 0;
            for item in items {
                if let Some(interval) = parse_interval(item) {
                    let (from, to) = interval.ok_or_else(|| wrong(part))?;
                    set.sources.entry(source.clone()).or_default().push((from, to));
                    numbers += 1;
                } else {
                    source.tag = parse_tag(item).ok_or_else(|| wrong(part))?;
                    numbers = 0;
                }
            }
            if numbers == 0 {
                return Err(wrong(part));
            }
        }
        set.sources.values_mut().for_each(join);
        Ok(set)
    }
}

impl TryFrom<String> for GtidSet {
    type Error = MysqlError;

    fn try_from(text: String) -> Result<Self, MysqlError> {
        text.parse()
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> Self {
        set.to_string()
    }
}

pub(crate) fn write_uuid(f: &mut fmt::Formatter<'_>, uuid: &[u8; 16]) -> fmt::Result {
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

pub(crate) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = text.split('-').collect();
    if !groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) {
        return None;
    }
    let mut digits = groups
        .concat()
        .into_bytes()
        .into_iter()
        .map(|byte| char::from(byte).to_digit(16));
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        *byte = u8::try_from(digits.next()?? * 16 + digits.next()??).ok()?;
    }
    Some(uuid)
}

/// `None` when it does not begin like a number; `Some(None)` when it does and is no interval.
fn parse_interval(item: &str) -> Option<Option<Interval>> {
    item.starts_with(|first: char| first.is_ascii_digit()).then(|| {
        let (from, to) = item.split_once('-').unwrap_or((item, item));
        let (from, to): (u64, u64) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        (1 <= from && from <= to && to < NUMBER_MAX).then_some((from, to + 1))
    })
}

pub(crate) fn parse_tag(item: &str) -> Option<String> {
    let starts_well = item.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let plain = item.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (starts_well && plain && item.len() <= TAG_BYTES_MAX).then(|| item.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn every_spelling_has_one_canonical_text() {
        for (text, canonical) in [
            ("", String::new()),
            (" , ", String::new()),
            (&format!("{}:3-5:1", A.to_uppercase()), format!("{A}:1:3-5")),
            (&format!("{B}:1,\n{A}:2:1"), format!("{A}:1-2,{B}:1")),
            (
                &format!("{A}:1-3:Tag:7:5-6:other:1:2,{A}:4"),
                format!("{A}:1-4:other:1-2:tag:5-7"),
            ),
            (&format!("{A}:tag:1"), format!("{A}:tag:1")),
        ] {
            assert_eq!(set(text).to_string(), canonical, "{text}");
            assert_eq!(set(&canonical), set(text));
        }
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in [
            "x",
            A,
            &format!("{A}:"),
            &format!("{A}:0"),
            &format!("{A}:5-3"),
            &format!("{A}:tag"),
            &format!("{A}:1:tag"),
        ] {
            assert!(text.parse::<GtidSet>().is_err(), "{text}");
        }
        for text in [
            format!("{A}:1-9223372036854775807"),
            format!("{A}:-1"),
            format!("{A}:1-2-3"),
            format!("{A}:ta-g:1"),
        ] {
            assert!(text.parse::<GtidSet>().is_err(), "{text}");
        }
    }

    type Model = BTreeSet<(u8, u8, u64)>;

    fn of_model(model: &Model) -> GtidSet {
        let texts: Vec<String> = model
            .iter()
            .map(|(uuid, tag, number)| {
                let tag = ["", ":t", ":u"][usize::from(*tag)];
                format!("{}{tag}:{number}", [A, B][usize::from(*uuid)])
            })
            .collect();
        set(&texts.join(","))
    }

    fn models() -> impl Strategy<Value = Model> {
        proptest::collection::btree_set((0u8..2, 0u8..3, 1u64..30), 0..60)
    }

    proptest! {
        #[test]
        fn union_minus_contains_and_equality_are_those_of_plain_sets(left in models(), right in models()) {
            let (a, b) = (of_model(&left), of_model(&right));
            let mut union = a.clone();
            union.union(&b);
            prop_assert_eq!(&union, &of_model(&(&left | &right)));
            let mut minus = a.clone();
            minus.minus(&b);
            prop_assert_eq!(&minus, &of_model(&(&left - &right)));
            prop_assert_eq!(a.contains(&b), left.is_superset(&right));
            prop_assert_eq!(a == b, left == right);
            prop_assert_eq!(a.count(), left.len() as u64);
            let mut added = GtidSet::default();
            for (uuid, tag, number) in &left {
                let uuid = parse_uuid([A, B][usize::from(*uuid)]).unwrap();
                let tag = ["", "t", "u"][usize::from(*tag)];
                added.add(uuid, tag, *number, *number + 1).unwrap();
                prop_assert!(a.contains_number(uuid, tag, *number));
                prop_assert!(!added.contains_number(uuid, tag, *number + 1));
            }
            prop_assert_eq!(&added, &a);
            prop_assert_eq!(set(&union.to_string()), union);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9a-f:,\\- t]{0,80}|\\PC{0,30}") {
            let _ = text.parse::<GtidSet>().is_ok();
        }
    }
}
