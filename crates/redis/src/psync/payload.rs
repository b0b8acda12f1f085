//! Where a snapshot ends within the bytes of a connection: after a number of bytes said before, or at a mark of 40 bytes said
//! before. Behind it the command stream may follow at once.
//!
//! The mark can lie across any number of reads. What could be its begin is held back, 39 bytes at most. A snapshot could hold the
//! mark's bytes itself; it is then cut short here, and whoever walks it finds that out.
#![deny(clippy::indexing_slicing)]

use bytes::{Bytes, BytesMut};

use crate::RedisError;

/// Of the mark that ends a snapshot whose length is not known before.
pub(crate) const MARK_BYTES: usize = 40;
const STEP_MAX: u8 = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Envelope {
    Length(u64),
    Mark([u8; MARK_BYTES]),
}

impl Envelope {
    /// `$EOF:` and the mark, or `$` and the length.
    pub(crate) fn parse(line: &str) -> Result<Self, RedisError> {
        if let Some(message) = line.strip_prefix('-') {
            let message = message.to_owned();
            return Err(RedisError::Server { message });
        }
        let rest = line.strip_prefix('$');
        let mark = rest.and_then(|rest| rest.strip_prefix("EOF:")?.as_bytes().try_into().ok());
        let length = rest.and_then(|rest| rest.parse().ok());
        mark.map(Self::Mark)
            .or(length.map(Self::Length))
            .ok_or_else(|| RedisError::protocol(format!("\"{line}\" instead of the begin of a snapshot")))
    }
}

/// Splits what comes into the snapshot and the rest.
#[derive(Debug)]
pub(crate) struct Payload {
    end: End,
    /// Bytes of the snapshot so far.
    pub(crate) given: u64,
}

#[derive(Debug)]
enum End {
    /// After so many more bytes.
    After(u64),
    At {
        mark: Box<Mark>,
        held: Bytes,
    },
    Passed,
}

/// What one portion turned out to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    /// Bytes of the snapshot, in order.
    pub(crate) snapshot: Vec<Bytes>,
    /// When the end has come: what followed it.
    pub(crate) rest: Option<Bytes>,
}

impl Payload {
    pub(crate) fn new(envelope: Envelope) -> Self {
        Self {
            end: match envelope {
                Envelope::Length(0) => End::Passed,
                Envelope::Length(length) => End::After(length),
                Envelope::Mark(mark) => End::At {
                    mark: Box::new(Mark::new(mark)),
                    held: Bytes::new(),
                },
            },
            given: 0,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.end, End::Passed)
    }

    pub(crate) fn split(&mut self, mut portion: Bytes) -> Split {
        let mut split = Split::default();
        match &mut self.end {
            End::Passed => split.rest = Some(portion),
            End::After(missing) => {
                let now = portion.len().min(usize::try_from(*missing).unwrap_or(usize::MAX));
                split.snapshot.push(portion.split_to(now));
                *missing -= now as u64;
                if *missing == 0 {
                    self.end = End::Passed;
                    split.rest = Some(portion);
                }
            }
            End::At { mark, held } => {
                // The mark may begin in what was held back and end in the first bytes of this portion.
                let border = portion.len().min(MARK_BYTES - 1);
                let mut seam = BytesMut::with_capacity(held.len() + border);
                seam.extend_from_slice(held);
                seam.extend_from_slice(portion.get(..border).unwrap_or_default());
                let seam = seam.freeze();
                if let Some(at) = mark.find(&seam) {
                    split.snapshot.push(seam.slice(..at));
                    let used = (at + MARK_BYTES).saturating_sub(held.len());
                    split.rest = Some(portion.slice(used..));
                    self.end = End::Passed;
                } else if let Some(at) = mark.find(&portion) {
                    split.snapshot.push(std::mem::take(held));
                    split.snapshot.push(portion.split_to(at));
                    split.rest = Some(portion.slice(MARK_BYTES..));
                    self.end = End::Passed;
                } else if held.len() + portion.len() < MARK_BYTES {
                    *held = [held.as_ref(), portion.as_ref()].concat().into();
                } else if portion.len() < MARK_BYTES {
                    let mut all = Bytes::from([held.as_ref(), portion.as_ref()].concat());
                    split.snapshot.push(all.split_to(all.len() - (MARK_BYTES - 1)));
                    *held = all;
                } else {
                    split.snapshot.push(std::mem::take(held));
                    split.snapshot.push(portion.split_to(portion.len() - (MARK_BYTES - 1)));
                    *held = portion;
                }
            }
        }
        split.snapshot.retain(|bytes| !bytes.is_empty());
        self.given += split.snapshot.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        split
    }
}

/// The mark, and how far a search may step on by the byte that stands at its end.
#[derive(Debug)]
struct Mark {
    bytes: [u8; MARK_BYTES],
    steps: [u8; 256],
}

impl Mark {
    fn new(bytes: [u8; MARK_BYTES]) -> Self {
        let mut steps = [STEP_MAX; 256];
        // The last byte says how to go on from a window that ends in it and is not the mark.
        for (step, byte) in (1..STEP_MAX).rev().zip(bytes) {
            if let Some(entry) = steps.get_mut(usize::from(byte)) {
                *entry = step;
            }
        }
        Self { bytes, steps }
    }

    fn find(&self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(window) = text.get(at..at + MARK_BYTES) {
            if window == self.bytes {
                return Some(at);
            }
            let last = window.last().copied().unwrap_or_default();
            at += usize::from(self.steps.get(usize::from(last)).copied().unwrap_or(1)).max(1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARK: &[u8; MARK_BYTES] = b"6e65c56fe449c8e6ba10bbdf56749b6f7f660e8a";

    /// Cuts `bytes` into portions of these sizes, in turn.
    fn run(envelope: Envelope, bytes: &[u8], sizes: &[usize]) -> (Vec<u8>, Vec<u8>, bool) {
        let mut payload = Payload::new(envelope);
        let (mut snapshot, mut rest) = (Vec::new(), Vec::new());
        let (mut bytes, mut turn) = (Bytes::copy_from_slice(bytes), 0);
        while !bytes.is_empty() {
            let size = sizes[turn % sizes.len()].clamp(1, bytes.len());
            turn += 1;
            let split = payload.split(bytes.split_to(size));
            snapshot.extend(split.snapshot.concat());
            rest.extend(split.rest.unwrap_or_default());
        }
        assert_eq!(payload.given, snapshot.len() as u64);
        (snapshot, rest, payload.has_ended())
    }

    #[test]
    fn the_begin_of_a_snapshot_is_read_and_anything_else_named() {
        assert_eq!(Envelope::parse("$37068").unwrap(), Envelope::Length(37_068));
        let line = format!("$EOF:{}", String::from_utf8_lossy(MARK));
        assert_eq!(Envelope::parse(&line).unwrap(), Envelope::Mark(*MARK));
        for odd in ["", "$", "$-1", "$EOF:", "$EOF:abc", "+OK", "37068"] {
            assert!(
                matches!(Envelope::parse(odd), Err(RedisError::Protocol { .. })),
                "{odd}"
            );
        }
        assert!(matches!(Envelope::parse("-ERR no"), Err(RedisError::Server { .. })));
    }

    proptest! {
        #[test]
        fn a_mark_is_found_across_any_reads(
            mut snapshot in proptest::collection::vec(any::<u8>(), 0..300),
            rest in proptest::collection::vec(any::<u8>(), 0..100),
            // As much of a snapshot as can be looks like the mark.
            like in 0..MARK_BYTES,
            sizes in proptest::collection::vec(1_usize..100, 1..6),
        ) {
            snapshot.extend(&MARK[..like]);
            let bytes = [&snapshot, MARK.as_slice(), &rest].concat();
            let expected = bytes.windows(MARK_BYTES).position(|window| window == MARK).unwrap();
            let (found, after, ended) = run(Envelope::Mark(*MARK), &bytes, &sizes);
            prop_assert!(ended);
            prop_assert_eq!(found.as_slice(), &bytes[..expected]);
            prop_assert_eq!(after.as_slice(), &bytes[expected + MARK_BYTES..]);
        }

        #[test]
        fn a_length_is_kept_across_any_reads(bytes in proptest::collection::vec(any::<u8>(), 1..300), length in 0_usize..300, sizes in proptest::collection::vec(1_usize..100, 1..6)) {
            let length = length.min(bytes.len());
            let (found, after, ended) = run(Envelope::Length(length as u64), &bytes, &sizes);
            prop_assert!(ended);
            prop_assert_eq!(found.as_slice(), &bytes[..length]);
            prop_assert_eq!(after.as_slice(), &bytes[length..]);
        }

        #[test]
        fn without_its_end_a_snapshot_does_not_end(bytes in proptest::collection::vec(b'0'..b'g', 0..300), sizes in proptest::collection::vec(1_usize..100, 1..6)) {
            let (found, after, ended) = run(Envelope::Mark(*MARK), &bytes, &sizes);
            prop_assert!(!ended && after.is_empty());
            prop_assert!(bytes.starts_with(&found) && found.len() + MARK_BYTES > bytes.len());
        }
    }
}
