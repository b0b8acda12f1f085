//! Small containers the server keeps in one stretch of bytes: list packs, and the zip lists, zip maps and integer sets of older
//! releases or of whole numbers. Each is read element by element, and its own counts and borders are checked.
#![deny(clippy::indexing_slicing)]

use super::text::Digits;

/// One element: bytes, or a number that stands for its digits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    Bytes(&'a [u8]),
    Number(i64, Digits),
}

impl Item<'_> {
    fn number(number: i64) -> Self {
        Self::Number(number, Digits::new(number))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_, digits) => digits.as_bytes(),
        }
    }

    /// Where the content must be a whole number.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Number(number, _) => Some(*number),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        }
    }

    /// Where the content must be a score.
    pub(crate) fn score(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "a score is a double on the server too")]
            Self::Number(number, _) => Some(*number as f64),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        }
    }
}

/// What is wrong with a container. The walker adds where it stands.
pub(crate) type Fault = String;

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        self.at = end.unwrap_or(self.at);
        taken.ok_or_else(|| "an element reaches behind its container".to_owned())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let taken = self.take(N)?;
        taken
            .first_chunk()
            .copied()
            .ok_or_else(|| "an element is cut short".to_owned())
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }
}

fn sized(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A number of `bits` bits, sign included.
fn signed(value: i64, bits: u32) -> i64 {
    if value >= 1 << (bits - 1) {
        value - (1 << bits)
    } else {
        value
    }
}

fn i24(bytes: [u8; 3]) -> i64 {
    let [a, b, c] = bytes;
    signed(i64::from(u32::from_le_bytes([a, b, c, 0])), 24)
}

/// Gives each element of a list pack to `each`; their number.
pub(crate) fn list_pack<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(Item<'a>) -> Result<(), Fault>,
) -> Result<u64, Fault> {
    let mut cursor = Cursor { bytes, at: 0 };
    if sized(u32::from_le_bytes(cursor.array()?)) != bytes.len() {
        return Err("a list pack says another length than it has".to_owned());
    }
    let said = u16::from_le_bytes(cursor.array()?);
    let mut count = 0_u64;
    loop {
        let start = cursor.at;
        let first = cursor.byte()?;
        let item = match first {
            0xFF => break,
            0x00..=0x7F => Item::number(i64::from(first)),
            0x80..=0xBF => Item::Bytes(cursor.take(usize::from(first & 0x3F))?),
            0xC0..=0xDF => {
                let low = i64::from(cursor.byte()?);
                Item::number(signed(i64::from(first & 0x1F) << 8 | low, 13))
            }
            0xE0..=0xEF => {
                let length = usize::from(first & 0x0F) << 8 | usize::from(cursor.byte()?);
                Item::Bytes(cursor.take(length)?)
            }
            0xF0 => {
                let length = sized(u32::from_le_bytes(cursor.array()?));
                Item::Bytes(cursor.take(length)?)
            }
            0xF1 => Item::number(i64::from(i16::from_le_bytes(cursor.array()?))),
            0xF2 => Item::number(i24(cursor.array()?)),
            0xF3 => Item::number(i64::from(i32::from_le_bytes(cursor.array()?))),
            0xF4 => Item::number(i64::from_le_bytes(cursor.array()?)),
            _ => return Err(format!("a list pack's element begins with {first:#04x}")),
        };
        // The length again, so that it can be read from the end.
        let length = cursor.at - start;
        if !is_followed_by(&mut cursor, length)? {
            return Err("a list pack's element has two lengths".to_owned());
        }
        count += 1;
        each(item)?;
    }
    if cursor.at != bytes.len() {
        return Err("a list pack ends before its end".to_owned());
    }
    if said != u16::MAX && u64::from(said) != count {
        return Err(format!("a list pack says {said} elements and has {count}"));
    }
    Ok(count)
}

/// Whether `length` follows: seven bits a byte, the highest first, all but the first byte marked.
fn is_followed_by(cursor: &mut Cursor<'_>, length: usize) -> Result<bool, Fault> {
    // The borders are the server's: the last length of each size takes a byte more than it must.
    let bytes = match length {
        ..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    let mut value = 0;
    for place in 0..bytes {
        let byte = cursor.byte()?;
        if (byte & 0x80 != 0) != (place > 0) {
            return Ok(false);
        }
        value = value << 7 | usize::from(byte & 0x7F);
    }
    Ok(value == length)
}

/// Gives each element of a zip list to `each`; their number.
pub(crate) fn zip_list<'a>(bytes: &'a [u8], mut each: impl FnMut(Item<'a>) -> Result<(), Fault>) -> Result<u64, Fault> {
    let mut cursor = Cursor { bytes, at: 0 };
    if sized(u32::from_le_bytes(cursor.array()?)) != bytes.len() {
        return Err("a zip list says another length than it has".to_owned());
    }
    let tail = sized(u32::from_le_bytes(cursor.array()?));
    let said = u16::from_le_bytes(cursor.array()?);
    let (mut count, mut before, mut last) = (0_u64, 0_usize, cursor.at);
    loop {
        let start = cursor.at;
        let previous = match cursor.byte()? {
            0xFF => break,
            0xFE => sized(u32::from_le_bytes(cursor.array()?)),
            short => usize::from(short),
        };
        if previous != before {
            return Err("a zip list's element does not know the one before it".to_owned());
        }
        let first = cursor.byte()?;
        let item = match first {
            0x00..=0x3F => Item::Bytes(cursor.take(usize::from(first))?),
            0x40..=0x7F => {
                let length = usize::from(first & 0x3F) << 8 | usize::from(cursor.byte()?);
                Item::Bytes(cursor.take(length)?)
            }
            0x80 => {
                let length = sized(u32::from_be_bytes(cursor.array()?));
                Item::Bytes(cursor.take(length)?)
            }
            0xC0 => Item::number(i64::from(i16::from_le_bytes(cursor.array()?))),
            0xD0 => Item::number(i64::from(i32::from_le_bytes(cursor.array()?))),
            0xE0 => Item::number(i64::from_le_bytes(cursor.array()?)),
            0xF0 => Item::number(i24(cursor.array()?)),
            0xFE => Item::number(i64::from(i8::from_le_bytes(cursor.array()?))),
            0xF1..=0xFD => Item::number(i64::from(first & 0x0F) - 1),
            _ => return Err(format!("a zip list's element begins with {first:#04x}")),
        };
        (before, last) = (cursor.at - start, start);
        count += 1;
        each(item)?;
    }
    if cursor.at != bytes.len() || tail != last {
        return Err("a zip list ends before its end".to_owned());
    }
    if said != u16::MAX && u64::from(said) != count {
        return Err(format!("a zip list says {said} elements and has {count}"));
    }
    Ok(count)
}

/// Gives field and value of a zip map in turn to `each`; their number.
pub(crate) fn zip_map<'a>(bytes: &'a [u8], mut each: impl FnMut(Item<'a>) -> Result<(), Fault>) -> Result<u64, Fault> {
    let mut cursor = Cursor { bytes, at: 0 };
    let said = cursor.byte()?;
    let mut count = 0_u64;
    loop {
        let length = match cursor.byte()? {
            0xFF => break,
            0xFE => sized(u32::from_le_bytes(cursor.array()?)),
            short => usize::from(short),
        };
        let is_value = count % 2 == 1;
        // A value may have room behind it.
        let free = if is_value { usize::from(cursor.byte()?) } else { 0 };
        each(Item::Bytes(cursor.take(length)?))?;
        cursor.take(free)?;
        count += 1;
    }
    if cursor.at != bytes.len() || count % 2 == 1 {
        return Err("a zip map ends before its end".to_owned());
    }
    if said < 0xFE && u64::from(said) * 2 != count {
        return Err(format!("a zip map says {said} pairs and has {}", count / 2));
    }
    Ok(count)
}

/// Gives each number of an integer set to `each`; how many.
pub(crate) fn integer_set(bytes: &[u8], mut each: impl FnMut(Item<'_>) -> Result<(), Fault>) -> Result<u64, Fault> {
    let mut cursor = Cursor { bytes, at: 0 };
    let width = u32::from_le_bytes(cursor.array()?);
    let count = u32::from_le_bytes(cursor.array()?);
    let mut before = None;
    for _ in 0..count {
        let number = match width {
            2 => i64::from(i16::from_le_bytes(cursor.array()?)),
            4 => i64::from(i32::from_le_bytes(cursor.array()?)),
            8 => i64::from_le_bytes(cursor.array()?),
            _ => return Err(format!("an integer set of numbers of {width} bytes")),
        };
        if before.is_some_and(|before| before >= number) {
            return Err("an integer set is not in order".to_owned());
        }
        before = Some(number);
        each(Item::number(number))?;
    }
    if cursor.at != bytes.len() {
        return Err("an integer set is longer than its numbers".to_owned());
    }
    Ok(u64::from(count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Reader = fn(&[u8], &mut Vec<Vec<u8>>) -> Result<u64, Fault>;

    fn pack(bytes: &[u8], to: &mut Vec<Vec<u8>>) -> Result<u64, Fault> {
        list_pack(bytes, |item| {
            to.push(item.as_bytes().to_vec());
            Ok(())
        })
    }

    fn zip(bytes: &[u8], to: &mut Vec<Vec<u8>>) -> Result<u64, Fault> {
        zip_list(bytes, |item| {
            to.push(item.as_bytes().to_vec());
            Ok(())
        })
    }

    fn map(bytes: &[u8], to: &mut Vec<Vec<u8>>) -> Result<u64, Fault> {
        zip_map(bytes, |item| {
            to.push(item.as_bytes().to_vec());
            Ok(())
        })
    }

    fn integers(bytes: &[u8], to: &mut Vec<Vec<u8>>) -> Result<u64, Fault> {
        integer_set(bytes, |item| {
            to.push(item.as_bytes().to_vec());
            Ok(())
        })
    }

    fn list_pack_of(items: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; 6];
        for item in items {
            let start = bytes.len();
            match item.len() {
                0..64 => bytes.push(0x80 | u8::try_from(item.len()).unwrap()),
                64..4096 => bytes.extend([
                    0xE0 | u8::try_from(item.len() >> 8).unwrap(),
                    u8::try_from(item.len() & 0xFF).unwrap(),
                ]),
                _ => {
                    bytes.push(0xF0);
                    bytes.extend(u32::try_from(item.len()).unwrap().to_le_bytes());
                }
            }
            bytes.extend(item);
            let length = bytes.len() - start;
            let groups = match length {
                0..=127 => 1,
                128..16383 => 2,
                16383..2_097_151 => 3,
                _ => 4,
            };
            for group in (0..groups).rev() {
                let mark = if group == groups - 1 { 0 } else { 0x80 };
                bytes.push(u8::try_from(length >> (7 * group) & 0x7F).unwrap() | mark);
            }
        }
        bytes.push(0xFF);
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        let count = u16::try_from(items.len()).unwrap().to_le_bytes();
        bytes[..4].copy_from_slice(&length);
        bytes[4..6].copy_from_slice(&count);
        bytes
    }

    #[test]
    fn integer_sets_of_each_width() {
        for (width, numbers) in [(2_u32, [-3_i64, 5]), (4, [-70_000, 70_000]), (8, [i64::MIN, i64::MAX])] {
            let mut bytes = width.to_le_bytes().to_vec();
            bytes.extend(2_u32.to_le_bytes());
            for number in numbers {
                bytes.extend(&number.to_le_bytes()[..width as usize]);
            }
            let mut found = Vec::new();
            assert_eq!(integers(&bytes, &mut found), Ok(2));
            assert_eq!(found, numbers.map(|number| number.to_string().into_bytes()));
        }
        assert!(integers(&[2, 0, 0, 0, 2, 0, 0, 0, 5, 0, 4, 0], &mut Vec::new()).is_err());
        assert!(integers(&[3, 0, 0, 0, 1, 0, 0, 0, 5, 0, 4], &mut Vec::new()).is_err());
    }

    #[test]
    fn a_zip_list_as_an_old_server_writes_it() {
        // "ab", 1, -1 (one byte), 1000
        let bytes = [
            25, 0, 0, 0, 19, 0, 0, 0, 4, 0, 0, 2, b'a', b'b', 4, 0xF2, 2, 0xFE, 0xFF, 3, 0xC0, 0xE8, 0x03, 0xFF,
        ];
        let mut bytes = bytes.to_vec();
        bytes[0] = u8::try_from(bytes.len()).unwrap();
        let mut found = Vec::new();
        assert_eq!(zip(&bytes, &mut found), Ok(4));
        assert_eq!(found, [b"ab".as_slice(), b"1", b"-1", b"1000"]);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x80;
            drop(zip(&changed, &mut Vec::new()));
            assert!(zip(&bytes[..at], &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn a_zip_map_as_a_very_old_server_writes_it() {
        let bytes = b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world..\xFF";
        let mut found = Vec::new();
        assert_eq!(map(bytes, &mut found), Ok(4));
        assert_eq!(found, [b"foo".as_slice(), b"bar", b"hello", b"world"]);
    }

    proptest! {
        #[test]
        fn a_list_pack_of_any_strings_reads_back(items in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20), long in 0_usize..20_000) {
            let mut items = items;
            items.push(vec![0xFF; long]);
            let mut found = Vec::new();
            prop_assert_eq!(pack(&list_pack_of(&items), &mut found), Ok(items.len() as u64));
            prop_assert_eq!(found, items);
        }

        #[test]
        fn random_bytes_are_a_container_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let readers: [Reader; 4] = [pack, zip, map, integers];
            for read in readers {
                drop(read(&bytes, &mut Vec::new()));
                // With the right length in front more of them get further.
                let mut framed = u32::try_from(bytes.len() + 6).unwrap().to_le_bytes().to_vec();
                framed.extend([0xFF, 0xFF]);
                framed.extend(&bytes);
                drop(read(&framed, &mut Vec::new()));
            }
        }
    }
}
