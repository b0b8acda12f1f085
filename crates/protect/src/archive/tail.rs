//! What a stream is at one of its log offsets: all it takes to go on from there, with the server or with a journal.

use ballast_mysql::{Gtid, WalkerState};
use serde::{Deserialize, Serialize};

/// Said in the head of every journal, of the place where it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tail {
    /// The log offset this is about.
    pub(crate) offset: u64,
    pub(crate) file: String,
    /// The same place in the file.
    pub(crate) file_offset: u64,
    /// See [`super::facts::Stretch::head`].
    pub(crate) head: String,
    /// What has been executed with the last complete transaction.
    pub(crate) executed: String,
    /// When the last transaction that began was committed, in microseconds since 1970; 0 if none did.
    pub(crate) last_at: u64,
    /// What there is of the last event of the file, in pieces as they came. It may be all of it. It is asked for again, and must be
    /// the same, before anything is written behind it.
    pub(crate) last_event: Vec<Piece>,
    /// How many bytes of it are yet to come.
    pub(crate) event_left: u64,
    /// Of the transaction that has begun and not ended.
    pub(crate) transaction: Option<Gtid>,
    pub(crate) walker: WalkerState,
}

/// A hash of some bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) bytes: u64,
    pub(crate) digest: String,
}

impl Tail {
    /// Where the server is asked to begin, so that the last event comes once more.
    pub(crate) fn ask_from(&self) -> u64 {
        self.file_offset.saturating_sub(self.held_of_event())
    }

    fn held_of_event(&self) -> u64 {
        self.last_event.iter().map(|piece| piece.bytes).sum()
    }

    /// What compares the bytes that come again with those that are held.
    pub(crate) fn rehearsal(&self) -> Rehearsal {
        Rehearsal {
            pieces: self.last_event.clone().into_iter().collect(),
            hasher: blake3::Hasher::new(),
            seen: 0,
        }
    }
}

/// Compares what the server sends again with what is held.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    pieces: std::collections::VecDeque<Piece>,
    hasher: blake3::Hasher,
    /// Bytes of the first piece that were seen.
    seen: u64,
}

/// The server's bytes are not the ones we hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contradiction;

impl Rehearsal {
    pub(crate) fn is_over(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Takes what comes; gives what of it is new.
    pub(crate) fn compare<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], Contradiction> {
        while let Some(piece) = self.pieces.front() {
            let left = usize::try_from(piece.bytes - self.seen).unwrap_or(usize::MAX);
            let (again, rest) = bytes.split_at(left.min(bytes.len()));
            self.hasher.update(again);
            self.seen += again.len() as u64;
            bytes = rest;
            if self.seen < piece.bytes {
                break;
            }
            if self.hasher.finalize().to_hex().as_str() != piece.digest {
                return Err(Contradiction);
            }
            self.hasher.reset();
            self.seen = 0;
            self.pieces.pop_front();
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(bytes: &[u8], cuts: &[usize]) -> std::collections::VecDeque<Piece> {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        ends.extend([0, bytes.len()]);
        ends.sort_unstable();
        ends.dedup();
        let piece = |pair: &[usize]| Piece {
            bytes: (pair[1] - pair[0]) as u64,
            digest: blake3::hash(&bytes[pair[0]..pair[1]]).to_hex().to_string(),
        };
        ends.windows(2).map(piece).collect()
    }

    fn rehearse(mut rehearsal: Rehearsal, sent: &[u8], step: usize) -> Result<Vec<u8>, Contradiction> {
        let mut new = Vec::new();
        for part in sent.chunks(step) {
            new.extend_from_slice(rehearsal.compare(part)?);
        }
        Ok(new)
    }

    proptest! {
        #[test]
        fn what_is_held_is_passed_over_once_and_any_other_byte_is_found(
            held in proptest::collection::vec(any::<u8>(), 0..300),
            more in proptest::collection::vec(any::<u8>(), 0..100),
            cuts in proptest::collection::vec(any::<usize>(), 0..4),
            step in 1usize..90,
            wrong in any::<usize>(),
        ) {
            let rehearsal = || Rehearsal { pieces: pieces(&held, &cuts), hasher: blake3::Hasher::new(), seen: 0 };
            let mut sent = [held.clone(), more.clone()].concat();
            prop_assert_eq!(rehearse(rehearsal(), &sent, step), Ok(more));
            if !held.is_empty() {
                sent[wrong % held.len()] ^= 1;
                prop_assert_eq!(rehearse(rehearsal(), &sent, step), Err(Contradiction));
            }
        }
    }
}
