//! A cursor over bytes from outside. Taking more than there is gives an error that names what was wanted.
#![deny(clippy::indexing_slicing)]

use crate::MysqlError;

#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// What is being read, for messages.
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) fn wrong(&self, detail: impl std::fmt::Display) -> MysqlError {
        MysqlError::protocol(format!("{}: {detail}", self.what))
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], MysqlError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.wrong(format_args!("{count} bytes expected, {} left", self.rest.len())));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MysqlError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, MysqlError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16_le(&mut self) -> Result<u16, MysqlError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32_le(&mut self) -> Result<u32, MysqlError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A little-endian number of `width` bytes, eight at most.
    pub(crate) fn uint_le(&mut self, width: usize) -> Result<u64, MysqlError> {
        debug_assert!(width <= 8, "it fits a u64");
        Ok(self
            .take(width)?
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    pub(crate) fn u64_le(&mut self) -> Result<u64, MysqlError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn uuid(&mut self) -> Result<[u8; 16], MysqlError> {
        self.array()
    }

    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn u16_be(&mut self) -> Result<u16, MysqlError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32_be(&mut self) -> Result<u32, MysqlError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64_be(&mut self) -> Result<u64, MysqlError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Bytes up to a NUL, which is taken too.
    pub(crate) fn until_nul(&mut self) -> Result<&'a [u8], MysqlError> {
        let Some(end) = self.rest.iter().position(|byte| *byte == 0) else {
            return Err(self.wrong("text without an end"));
        };
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// A length-encoded integer.
    pub(crate) fn lenenc(&mut self) -> Result<u64, MysqlError> {
        let width = match self.u8()? {
            0xFC => 2,
            0xFD => 3,
            0xFE => 8,
            small @ 0..=0xFA => return Ok(u64::from(small)),
            other => return Err(self.wrong(format_args!("0x{other:02x} is no length"))),
        };
        self.uint_le(width)
    }

    /// Bytes with a length-encoded length before them.
    pub(crate) fn lenenc_bytes(&mut self) -> Result<&'a [u8], MysqlError> {
        let length = self.lenenc()?;
        let length = usize::try_from(length).map_err(|_| self.wrong(format_args!("length {length}")))?;
        self.take(length)
    }

    /// Bytes with a 32-bit little-endian length before them.
    pub(crate) fn u32_bytes(&mut self) -> Result<&'a [u8], MysqlError> {
        let length = self.u32_le()?;
        let length = usize::try_from(length).map_err(|_| self.wrong(format_args!("length {length}")))?;
        self.take(length)
    }
}

/// Text from the server, for people: what is not UTF-8 is shown as such.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_and_texts_read_as_the_manual_writes_them() {
        let mut reader = Reader::new(
            "test",
            b"\x05\x00\x01\xfc\x00\x01\xfd\x00\x00\x01\xfe\x01\x00\x00\x00\x00\x00\x00\x00ab\0\x02cd",
        );
        assert_eq!(reader.u8().unwrap(), 5);
        assert_eq!(reader.u16_be().unwrap(), 1);
        assert_eq!(reader.lenenc().unwrap(), 256);
        assert_eq!(reader.lenenc().unwrap(), 65536);
        assert_eq!(reader.lenenc().unwrap(), 1);
        assert_eq!(reader.until_nul().unwrap(), b"ab");
        assert_eq!(reader.lenenc_bytes().unwrap(), b"cd");
        assert!(reader.is_empty());
        let error = reader.u32_le().unwrap_err().to_string();
        assert_eq!(error, "not understood: test: 4 bytes expected, 0 left");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, calls in proptest::collection::vec(0u8..9, 0..40)) {
            let mut reader = Reader::new("random", &bytes);
            for call in calls {
                drop(match call {
                    0 => reader.u8().map(drop),
                    1 => reader.u16_le().map(drop),
                    2 => reader.u32_le().map(drop),
                    3 => reader.u64_be().map(drop),
                    4 => reader.until_nul().map(drop),
                    5 => reader.lenenc().map(drop),
                    6 => reader.lenenc_bytes().map(drop),
                    7 => reader.u32_bytes().map(drop),
                    _ => reader.take(3).map(drop),
                });
            }
        }
    }
}
