//! Streams in a snapshot: packs of entries, then what the stream and its consumer groups remember.
//!
//! The digest covers entries, ids and groups with what is pending. It leaves out when a consumer was last seen, and how many
//! entries a group has read: replicas and older releases do not agree with their primary on those.
#![deny(clippy::indexing_slicing)]

use std::io::Read;

use super::input::Input;
use super::packed::{self, Fault};
use super::values::ValueReader;
use crate::RedisError;

/// An entry that was deleted inside its pack.
const DELETED: i64 = 1;
/// An entry with the fields of the pack's first.
const SAME_FIELDS: i64 = 2;

/// A stream's entries; how many there are.
pub(crate) fn read<R: Read>(input: &mut Input<R>, code: u8, values: &mut ValueReader) -> Result<u64, RedisError> {
    let mut entries = 0;
    for _ in 0..input.length("the number of a stream's packs")? {
        let mut name = std::mem::take(&mut values.name);
        let mut whole = std::mem::take(&mut values.whole);
        input.whole(&mut name, "the id of a stream's pack")?;
        input.whole(&mut whole, "a stream's pack")?;
        let read = match name.as_slice().split_first_chunk::<8>() {
            Some((high, low)) if low.len() == 8 => {
                let low = low.first_chunk::<8>().copied().unwrap_or_default();
                pack(&whole, u64::from_be_bytes(*high), u64::from_be_bytes(low), values)
            }
            _ => Err("the id of a stream's pack is not 16 bytes long".to_owned()),
        };
        (values.name, values.whole) = (name, whole);
        entries += read.map_err(|fault| input.damaged(fault))?;
    }
    let length = input.length("a stream's length")?;
    if length != entries {
        return Err(input.damaged(format!("a stream says {length} entries and has {entries}")));
    }
    let ids = |input: &mut Input<R>| -> Result<(u64, u64), RedisError> {
        Ok((input.length("a stream's id")?, input.length("a stream's id")?))
    };
    let last = ids(input)?;
    let (mut deleted, mut added) = ((0, 0), length);
    if code >= 19 {
        // The first entry's id follows from the entries.
        ids(input)?;
        deleted = ids(input)?;
        added = input.length("a stream's count")?;
    }
    for number in [length, last.0, last.1, deleted.0, deleted.1, added] {
        values.ordered.number(number);
    }
    let groups = input.length("the number of groups")?;
    values.ordered.number(groups);
    for _ in 0..groups {
        group(input, code, values)?;
    }
    Ok(entries)
}

fn group<R: Read>(input: &mut Input<R>, code: u8, values: &mut ValueReader) -> Result<(), RedisError> {
    input.whole(&mut values.name, "a group's name")?;
    values.ordered.text(&values.name);
    for _ in 0..2 {
        let id = input.length("a group's last id")?;
        values.ordered.number(id);
    }
    if code >= 19 {
        input.length("a group's count")?;
    }
    let pending = input.length("the number of pending entries")?;
    values.ordered.number(pending);
    for _ in 0..pending {
        let id: [u8; 16] = input.array("a pending entry")?;
        let delivered: [u8; 8] = input.array("a pending entry's time")?;
        let times = input.length("a pending entry's deliveries")?;
        values.ordered.portion(&id);
        values.ordered.portion(&delivered);
        values.ordered.number(times);
    }
    let consumers = input.length("the number of consumers")?;
    values.ordered.number(consumers);
    for _ in 0..consumers {
        input.whole(&mut values.name, "a consumer's name")?;
        values.ordered.text(&values.name);
        let seen = if code >= 21 { 16 } else { 8 };
        input.take(seen, "when a consumer was seen", |_| {})?;
        let pending = input.length("the number of a consumer's pending entries")?;
        values.ordered.number(pending);
        for _ in 0..pending {
            let id: [u8; 16] = input.array("a consumer's pending entry")?;
            values.ordered.portion(&id);
        }
    }
    Ok(())
}

/// What of a pack comes next.
enum Next {
    /// Numbers in its head: entries, deleted ones, fields, then the field names and a zero.
    Count,
    DeletedCount,
    FieldCount,
    FieldName(i64),
    HeadEnd,
    Flags,
    Milliseconds,
    Sequence,
    OwnFieldCount,
    /// Texts of an entry that are still to come.
    Text(i64),
    /// How many elements the entry has.
    EntryEnd,
}

/// Entries of one pack, whose ids are counted from `(high, low)`; how many are not deleted.
fn pack(bytes: &[u8], high: u64, low: u64, values: &mut ValueReader) -> Result<u64, Fault> {
    let mut head: Vec<Vec<u8>> = Vec::new();
    let mut next = Next::Count;
    let (mut said, mut said_deleted, mut fields) = (0, 0, 0);
    let (mut flags, mut moment, mut texts, mut own_fields) = (0, 0, 0, 0);
    let (mut entries, mut deleted) = (0_u64, 0_u64);
    packed::list_pack(bytes, |item| {
        let number = || {
            let number = item.integer();
            number.ok_or_else(|| "a text stands where a stream's pack has a number".to_owned())
        };
        let count = || {
            let count = number()?;
            let is_one = (0..=i64::from(u32::MAX)).contains(&count);
            is_one
                .then_some(count)
                .ok_or_else(|| format!("a count of {count} in a stream's pack"))
        };
        next = match next {
            Next::Count => {
                said = count()?;
                Next::DeletedCount
            }
            Next::DeletedCount => {
                said_deleted = count()?;
                Next::FieldCount
            }
            Next::FieldCount => {
                fields = count()?;
                if fields == 0 {
                    Next::HeadEnd
                } else {
                    Next::FieldName(fields)
                }
            }
            Next::FieldName(missing) => {
                head.push(item.as_bytes().to_vec());
                if missing == 1 {
                    Next::HeadEnd
                } else {
                    Next::FieldName(missing - 1)
                }
            }
            Next::HeadEnd if number()? == 0 => Next::Flags,
            Next::HeadEnd => return Err("the head of a stream's pack does not end".to_owned()),
            Next::Flags => {
                flags = count()?;
                Next::Milliseconds
            }
            Next::Milliseconds => {
                moment = number()?;
                Next::Sequence
            }
            Next::Sequence => {
                if flags & DELETED == 0 {
                    values.ordered.number(high.wrapping_add_signed(moment));
                    values.ordered.number(low.wrapping_add_signed(number()?));
                }
                own_fields = fields;
                texts = fields;
                if flags & SAME_FIELDS == 0 {
                    Next::OwnFieldCount
                } else {
                    begin_fields(values, flags, fields);
                    if texts == 0 { Next::EntryEnd } else { Next::Text(texts) }
                }
            }
            Next::OwnFieldCount => {
                own_fields = count()?;
                texts = own_fields * 2;
                begin_fields(values, flags, own_fields);
                if texts == 0 { Next::EntryEnd } else { Next::Text(texts) }
            }
            Next::Text(missing) => {
                if flags & DELETED == 0 {
                    if flags & SAME_FIELDS != 0 {
                        let name = usize::try_from(texts - missing).ok().and_then(|at| head.get(at));
                        values.ordered.text(name.map_or(&[], Vec::as_slice));
                    }
                    values.ordered.text(item.as_bytes());
                }
                if missing == 1 {
                    Next::EntryEnd
                } else {
                    Next::Text(missing - 1)
                }
            }
            Next::EntryEnd => {
                let elements = 3 + if flags & SAME_FIELDS == 0 {
                    1 + own_fields * 2
                } else {
                    own_fields
                };
                if number()? != elements {
                    return Err("an entry of a stream says another number of elements than it has".to_owned());
                }
                if flags & DELETED == 0 {
                    entries += 1;
                } else {
                    deleted += 1;
                }
                Next::Flags
            }
        };
        Ok(())
    })?;
    if !matches!(next, Next::Flags) {
        return Err("a stream's pack ends within an entry".to_owned());
    }
    if u64::try_from(said) != Ok(entries) || u64::try_from(said_deleted) != Ok(deleted) {
        return Err(format!("a stream's pack says {said} entries and has {entries}"));
    }
    Ok(entries)
}

fn begin_fields(values: &mut ValueReader, flags: i64, fields: i64) {
    if flags & DELETED == 0 {
        values.ordered.signed(fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Flavour;

    #[test]
    fn a_pack_that_is_cut_or_changed_is_a_fault() {
        // One entry 5-1 with field "f" of value "v": head 1 0 1 f 0, entry 2 0 0 v 4.
        let elements: [&[u8]; 10] = [
            b"\x01", b"\x00", b"\x01", b"\x81f", b"\x00", b"\x02", b"\x00", b"\x00", b"\x81v", b"\x04",
        ];
        let pack_of = |elements: &[&[u8]]| {
            let mut bytes = vec![0; 6];
            for element in elements {
                bytes.extend(*element);
                bytes.push(u8::try_from(element.len()).unwrap());
            }
            bytes.push(0xFF);
            bytes[0] = u8::try_from(bytes.len()).unwrap();
            bytes[4] = u8::try_from(elements.len()).unwrap();
            bytes
        };
        let mut values = ValueReader::new(Flavour::Redis, i64::MIN);
        assert_eq!(pack(&pack_of(&elements), 5, 1, &mut values), Ok(1));
        for missing in 0..elements.len() {
            let mut fewer = elements.to_vec();
            fewer.remove(missing);
            assert!(pack(&pack_of(&fewer), 5, 1, &mut values).is_err(), "{missing}");
        }
    }
}
