//! Lengths and strings of a snapshot. A string stands as it is, as a small number, or compressed (LZF).
//!
//! A string may be as long as the server allows. Nothing here makes room for what a length promises: bytes are given on in
//! portions as they come, and a compressed one is opened with the few kilobytes behind it to which it can refer.
#![deny(clippy::indexing_slicing)]

use std::io::Read;

use super::input::Input;
use crate::RedisError;

/// What LZF can refer back to.
const LZF_REACH: usize = 8 * 1024;
/// Opened bytes are given on in about this size.
const LZF_PORTION: usize = 32 * 1024;
/// The server's own limit on a packed container, and ours on a name.
pub(crate) const WHOLE_BYTES_MAX: u64 = 1 << 30;
/// How much room is made for a string before its bytes have come.
const ROOM_BYTES_MAX: u64 = 64 * 1024;

/// A length, or how a string is encoded.
enum Length {
    Plain(u64),
    Encoded(u8),
}

/// How a string stands in the snapshot.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    Plain { length: u64 },
    Number(i64),
    Compressed { packed: u64, length: u64 },
}

impl Form {
    /// Of the string, not of what stands for it.
    pub(crate) fn length(self) -> u64 {
        match self {
            Self::Plain { length } | Self::Compressed { length, .. } => length,
            Self::Number(number) => Digits::new(number).as_bytes().len() as u64,
        }
    }
}

/// A number as the text it is the same as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digits {
    text: [u8; 20],
    start: u8,
}

impl Digits {
    pub(crate) fn new(number: i64) -> Self {
        let mut text = [0; 20];
        let mut start = 20_u8;
        let mut rest = number.unsigned_abs();
        let mut places = text.iter_mut().rev();
        while let Some(place) = places.next() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            start -= 1;
            if rest == 0 {
                if number < 0
                    && let Some(sign) = places.next()
                {
                    *sign = b'-';
                    start -= 1;
                }
                break;
            }
        }
        Self { text, start }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.text.get(usize::from(self.start)..).unwrap_or_default()
    }
}

impl<R: Read> Input<R> {
    fn any_length(&mut self, reading: &'static str) -> Result<Length, RedisError> {
        let first = self.byte(reading)?;
        let low = u64::from(first & 0x3F);
        Ok(match first >> 6 {
            0 => Length::Plain(low),
            1 => Length::Plain(low << 8 | u64::from(self.byte(reading)?)),
            2 if first == 0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.array(reading)?))),
            2 if first == 0x81 => Length::Plain(u64::from_be_bytes(self.array(reading)?)),
            3 => Length::Encoded(first & 0x3F),
            _ => return Err(self.damaged(format!("{reading}: no length begins with {first:#04x}"))),
        })
    }

    pub(crate) fn length(&mut self, reading: &'static str) -> Result<u64, RedisError> {
        match self.any_length(reading)? {
            Length::Plain(length) => Ok(length),
            Length::Encoded(_) => Err(self.damaged(format!("{reading}: a string's encoding instead of a length"))),
        }
    }

    /// How the next string stands. [`Input::string`] reads it.
    pub(crate) fn form(&mut self, reading: &'static str) -> Result<Form, RedisError> {
        Ok(match self.any_length(reading)? {
            Length::Plain(length) => Form::Plain { length },
            Length::Encoded(0) => Form::Number(i64::from(i8::from_le_bytes(self.array(reading)?))),
            Length::Encoded(1) => Form::Number(i64::from(i16::from_le_bytes(self.array(reading)?))),
            Length::Encoded(2) => Form::Number(i64::from(i32::from_le_bytes(self.array(reading)?))),
            Length::Encoded(3) => Form::Compressed {
                packed: self.length(reading)?,
                length: self.length(reading)?,
            },
            Length::Encoded(other) => {
                return Err(self.damaged(format!("{reading}: a string's encoding {other} is unknown")));
            }
        })
    }

    /// Gives the string on in portions.
    pub(crate) fn string(
        &mut self,
        form: Form,
        reading: &'static str,
        mut portion: impl FnMut(&[u8]),
    ) -> Result<(), RedisError> {
        match form {
            Form::Plain { length } => self.take(length, reading, portion),
            Form::Number(number) => {
                portion(Digits::new(number).as_bytes());
                Ok(())
            }
            Form::Compressed { packed, length } => self.decompress(packed, length, reading, portion),
        }
    }

    /// The string as a whole, into `whole`, whose content goes.
    pub(crate) fn whole(&mut self, whole: &mut Vec<u8>, reading: &'static str) -> Result<(), RedisError> {
        whole.clear();
        let form = self.form(reading)?;
        if form.length() > WHOLE_BYTES_MAX {
            return Err(self.damaged(format!("{reading} of {} bytes; no server allows that", form.length())));
        }
        whole.reserve(usize::try_from(form.length().min(ROOM_BYTES_MAX)).unwrap_or_default());
        self.string(form, reading, |portion| whole.extend_from_slice(portion))
    }

    /// LZF: a byte below 32 is the number of plain bytes less one; any other holds the length (3 bits, 7 means that one more
    /// byte follows) and the distance (5 bits and a byte) of what is repeated.
    fn decompress(
        &mut self,
        packed: u64,
        length: u64,
        reading: &'static str,
        mut portion: impl FnMut(&[u8]),
    ) -> Result<(), RedisError> {
        let end = self.offset().saturating_add(packed);
        let mut given = 0;
        let mut opened: Vec<u8> = Vec::new();
        while self.offset() < end {
            let control = usize::from(self.byte(reading)?);
            if control < 32 {
                self.take(control as u64 + 1, reading, |plain| opened.extend_from_slice(plain))?;
            } else {
                let mut count = control >> 5;
                if count == 7 {
                    count += usize::from(self.byte(reading)?);
                }
                let distance = ((control & 0x1F) << 8) + usize::from(self.byte(reading)?) + 1;
                let Some(from) = opened.len().checked_sub(distance) else {
                    return Err(self.damaged(format!("{reading}: compressed bytes refer to before their begin")));
                };
                repeat(&mut opened, from, count + 2);
            }
            if given + opened.len() as u64 > length {
                break;
            }
            if opened.len() >= LZF_REACH + LZF_PORTION {
                let done = opened.len() - LZF_REACH;
                portion(opened.get(..done).unwrap_or_default());
                opened.drain(..done);
                given += done as u64;
            }
        }
        if self.offset() != end || given + opened.len() as u64 != length {
            return Err(self.damaged(format!(
                "{reading}: compressed bytes do not open to the {length} they should"
            )));
        }
        portion(&opened);
        Ok(())
    }
}

/// Appends `count` bytes that begin at `from`; they may run into what is being appended.
fn repeat(opened: &mut Vec<u8>, from: usize, count: usize) {
    if from + count <= opened.len() {
        opened.extend_from_within(from..from + count);
        return;
    }
    for at in from..from + count {
        if let Some(&byte) = opened.get(at) {
            opened.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u8>, RedisError> {
        let mut whole = Vec::new();
        Input::new(bytes).whole(&mut whole, "a string")?;
        Ok(whole)
    }

    /// A plain compressor of the same format, for long strings.
    fn compressed(text: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let found = (1..=at.min(LZF_REACH)).find(|distance| {
                at + 9 <= text.len() && text[at - distance..].iter().zip(&text[at..at + 9]).all(|(a, b)| a == b)
            });
            match found {
                Some(distance) => {
                    let length = (at..text.len().min(at + 264))
                        .take_while(|place| text[place - distance] == text[*place])
                        .count();
                    let distance = distance - 1;
                    packed.extend([
                        u8::try_from(7 << 5 | distance >> 8).unwrap(),
                        u8::try_from(length - 9).unwrap(),
                        u8::try_from(distance & 0xFF).unwrap(),
                    ]);
                    at += length;
                }
                None => {
                    packed.extend([0, text[at]]);
                    at += 1;
                }
            }
        }
        let mut string = vec![0xC3, 0x80];
        string.extend(u32::try_from(packed.len()).unwrap().to_be_bytes());
        string.push(0x80);
        string.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        string.extend(packed);
        string
    }

    #[test]
    fn strings_in_all_their_forms() {
        assert_eq!(read(b"\x03abc").unwrap(), b"abc");
        assert_eq!(read(b"\x40\x02ab").unwrap(), b"ab");
        assert_eq!(read(b"\x80\0\0\0\x01a").unwrap(), b"a");
        assert_eq!(read(b"\x81\0\0\0\0\0\0\0\x01a").unwrap(), b"a");
        assert_eq!(read(b"\xC0\x80").unwrap(), b"-128");
        assert_eq!(read(b"\xC1\x39\x30").unwrap(), b"12345");
        assert_eq!(
            read(&[&[0xC2], 70_000_i32.to_le_bytes().as_slice()].concat()).unwrap(),
            b"70000"
        );
        // "a", then 9 bytes from one back: ten letters.
        assert_eq!(read(b"\xC3\x05\x0A\x00a\xE0\x00\x00").unwrap(), b"aaaaaaaaaa");
        for number in [0, 7, -7, i64::MAX, i64::MIN, 1_000_000] {
            assert_eq!(Digits::new(number).as_bytes(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn what_is_no_string_is_damage() {
        for (bytes, named) in [
            (b"\xC4".as_slice(), "encoding 4 is unknown"),
            (b"\x82", "no length begins with"),
            (b"\x05abc", "2 bytes too early"),
            (b"\x81\0\0\x01\0\0\0\0\0", "no server allows"),
            (b"\xC3\x03\x09\xE0\x00\x00", "before their begin"),
            (b"\xC3\x05\x09\x00a\xE0\x00\x00", "do not open"),
            (b"\xC3\x05\x0B\x00a\xE0\x00\x00", "do not open"),
            (b"\xC3\xC0\x00", "encoding instead of a length"),
        ] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains(named), "{bytes:x?}: {error}");
        }
    }

    #[test]
    fn a_long_compressed_string_opens_in_portions() {
        let text: Vec<u8> = (0..300_000_u32).map(|n| b"abcdefg"[(n / 5000 % 7) as usize]).collect();
        let string = compressed(&text);
        assert!(string.len() < text.len() / 50);
        assert_eq!(read(&string).unwrap(), text);
        let mut largest = 0;
        let mut input = Input::new(string.as_slice());
        let form = input.form("it").unwrap();
        input
            .string(form, "it", |portion| largest = largest.max(portion.len()))
            .unwrap();
        assert!(largest < LZF_REACH + LZF_PORTION + 300, "{largest}");
    }

    proptest! {
        #[test]
        fn random_bytes_are_a_string_or_damage(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&bytes).is_ok();
            let _ = read(&[&[0xC3, 20, 30], bytes.as_slice()].concat()).is_ok();
        }

        #[test]
        fn what_was_compressed_opens_to_the_same(text in "[ab]{0,400}") {
            prop_assert_eq!(read(&compressed(text.as_bytes())).unwrap(), text.as_bytes());
        }
    }
}
