//! The bytes of a snapshot, through one small window: where they stand, what their checksum is, and where they end too early.
#![deny(clippy::indexing_slicing)]

use std::io::{ErrorKind, Read};

use crc_fast::{CrcAlgorithm, Digest};

use super::parts::{Part, PartSink};
use crate::RedisError;

/// How much is looked at together.
const WINDOW_BYTES: usize = 64 * 1024;

pub(crate) struct Input<R> {
    source: R,
    window: Box<[u8]>,
    /// The next byte, and the end of what was read.
    at: usize,
    end: usize,
    /// Up to here the window's bytes are in the checksum.
    summed: usize,
    sum: Digest,
    /// Where in the snapshot the window begins.
    before: u64,
    pub(crate) sink: Option<PartSink>,
    /// From here on the window's bytes go to the sink as they are taken.
    copied: Option<usize>,
}

impl<R: Read> Input<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            window: vec![0; WINDOW_BYTES].into_boxed_slice(),
            at: 0,
            end: 0,
            summed: 0,
            sum: Digest::new(CrcAlgorithm::Crc64Redis),
            before: 0,
            sink: None,
            copied: None,
        }
    }

    /// Gives a part to whoever asked for the parts.
    pub(crate) fn give(&mut self, part: Part<'_>) -> Result<(), RedisError> {
        self.sink.as_mut().map_or(Ok(()), |sink| sink(part))
    }

    /// What is taken from here on is given on as it is.
    pub(crate) fn begin_copy(&mut self) {
        self.copied = Some(self.at);
    }

    pub(crate) fn end_copy(&mut self) -> Result<(), RedisError> {
        self.copy_on()?;
        self.copied = None;
        Ok(())
    }

    fn copy_on(&mut self) -> Result<(), RedisError> {
        let (Some(from), Some(sink)) = (self.copied, &mut self.sink) else {
            return Ok(());
        };
        let taken = self.window.get(from..self.at).unwrap_or_default();
        self.copied = Some(self.at);
        if taken.is_empty() {
            Ok(())
        } else {
            sink(Part::Bytes(taken))
        }
    }

    /// How many bytes were taken.
    pub(crate) fn offset(&self) -> u64 {
        self.before + self.at as u64
    }

    pub(crate) fn damaged(&self, what: impl Into<String>) -> RedisError {
        RedisError::Damaged {
            offset: self.offset(),
            what: what.into(),
        }
    }

    /// What was read and not taken.
    fn ahead(&self) -> &[u8] {
        self.window.get(self.at..self.end).unwrap_or_default()
    }

    fn add_to_sum(&mut self) {
        self.sum
            .update(self.window.get(self.summed..self.at).unwrap_or_default());
        self.summed = self.at;
    }

    /// Reads on when all was taken; `false` at the end.
    fn refill(&mut self) -> Result<bool, RedisError> {
        if self.at < self.end {
            return Ok(true);
        }
        self.add_to_sum();
        self.copy_on()?;
        self.copied = self.copied.map(|_| 0);
        self.before += self.end as u64;
        (self.at, self.end, self.summed) = (0, 0, 0);
        loop {
            match self.source.read(&mut self.window) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    self.end = read.min(self.window.len());
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(RedisError::Source { source }),
            }
        }
    }

    pub(crate) fn is_at_end(&mut self) -> Result<bool, RedisError> {
        Ok(!self.refill()?)
    }

    /// Takes `length` bytes, in portions.
    pub(crate) fn take(
        &mut self,
        length: u64,
        reading: &'static str,
        mut portion: impl FnMut(&[u8]),
    ) -> Result<(), RedisError> {
        let mut missing = length;
        while missing > 0 {
            if !self.refill()? {
                return Err(self.damaged(format!("it ends within {reading}, {missing} bytes too early")));
            }
            let ahead = self.ahead();
            let now = ahead.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
            portion(ahead.get(..now).unwrap_or_default());
            self.at += now;
            missing -= now as u64;
        }
        Ok(())
    }

    pub(crate) fn byte(&mut self, reading: &'static str) -> Result<u8, RedisError> {
        if let Some(&byte) = self.ahead().first() {
            self.at += 1;
            return Ok(byte);
        }
        self.array::<1>(reading).map(|[byte]| byte)
    }

    pub(crate) fn array<const N: usize>(&mut self, reading: &'static str) -> Result<[u8; N], RedisError> {
        if let Some(bytes) = self.ahead().first_chunk::<N>() {
            let bytes = *bytes;
            self.at += N;
            return Ok(bytes);
        }
        let (mut bytes, mut filled) = ([0; N], 0);
        self.take(N as u64, reading, |portion| {
            for (to, from) in bytes.iter_mut().skip(filled).zip(portion) {
                *to = *from;
            }
            filled += portion.len();
        })?;
        Ok(bytes)
    }

    /// Takes all that is left: the checksum over all but the last eight bytes, and these.
    pub(crate) fn drain(&mut self) -> Result<(u64, u64), RedisError> {
        let mut tail: Vec<u8> = Vec::new();
        self.add_to_sum();
        while self.refill()? {
            tail.extend_from_slice(self.ahead());
            self.at = self.end;
            // What goes through the tail is summed there.
            self.summed = self.at;
            let known = tail.len().saturating_sub(8);
            self.sum.update(tail.get(..known).unwrap_or_default());
            tail.drain(..known);
        }
        let stored = tail.first_chunk().map(|tail| u64::from_le_bytes(*tail));
        let stored = stored.ok_or_else(|| self.damaged("it ends before its checksum"))?;
        Ok((self.sum.finalize(), stored))
    }

    /// The checksum over all that was taken.
    pub(crate) fn checksum(&mut self) -> u64 {
        self.add_to_sum();
        self.sum.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let now = self.0.len().min(self.1).min(to.len());
            to[..now].copy_from_slice(&self.0[..now]);
            self.0 = &self.0[now..];
            Ok(now)
        }
    }

    #[test]
    fn portions_of_any_size_give_the_same_bytes_and_checksum() {
        for size in [1, 2, 3, 7, 9, 100] {
            let mut input = Input::new(Drops(b"123456789x", size));
            assert_eq!(input.byte("a").unwrap(), b'1');
            assert_eq!(&input.array::<4>("b").unwrap(), b"2345");
            let mut rest = Vec::new();
            input.take(4, "c", |portion| rest.extend_from_slice(portion)).unwrap();
            assert_eq!(rest, b"6789");
            assert_eq!(input.checksum(), 0xe9c6_d914_c4b8_d9ca);
            assert!(!input.is_at_end().unwrap());
            let error = input.array::<3>("the tail").unwrap_err().to_string();
            assert_eq!(
                error,
                "snapshot damaged at byte 10: it ends within the tail, 2 bytes too early"
            );
            assert!(input.is_at_end().unwrap());
        }
    }
}
