//! Cuts a snapshot into pieces that are the same again the next time.
//!
//! A snapshot has its keys in the order of the server's tables, which changes little between two snapshots. Where a piece ends is
//! decided by the 64 bytes before, so that a key that grew or came in between changes the pieces around it and no other.
#![deny(clippy::indexing_slicing)]

use bytes::{Bytes, BytesMut};

/// No smaller, but at the end.
const BYTES_MIN: usize = 32 * 1024;
/// From here on it ends anywhere.
const BYTES_MAX: usize = 512 * 1024;
/// Bits that are zero by chance once in 96 KiB or so: the topmost, which depend on the last 64 bytes.
const MASK: u64 = 0xFFFF_8000_0000_0000;
/// Bytes that a fingerprint depends on.
const WINDOW: usize = 64;
/// A number by chance for each byte, always the same: it decides what repositories share.
const GEAR: [u64; 256] = gear();

const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state = 0x0042_616C_6C61_7374_u64;
    let mut at = 0;
    while at < 256 {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        #[expect(clippy::indexing_slicing, reason = "checked when it is compiled")]
        {
            table[at] = mixed ^ (mixed >> 31);
        }
        at += 1;
    }
    table
}

#[derive(Debug, Default)]
pub(super) struct Cutter {
    open: BytesMut,
    fingerprint: u64,
}

impl Cutter {
    pub(super) fn take(&mut self, mut bytes: &[u8], pieces: &mut Vec<Bytes>) {
        while let Some(length) = self.border(bytes) {
            let (end, rest) = bytes.split_at(length);
            self.open.extend_from_slice(end);
            pieces.push(self.open.split().freeze());
            self.fingerprint = 0;
            bytes = rest;
        }
        self.open.extend_from_slice(bytes);
    }

    /// What is left at the end.
    pub(super) fn finish(&mut self) -> Option<Bytes> {
        (!self.open.is_empty()).then(|| self.open.split().freeze())
    }

    /// How many of these bytes end the open piece.
    fn border(&mut self, bytes: &[u8]) -> Option<usize> {
        let before = self.open.len();
        // What comes earlier has left the window when a piece may first end.
        let skipped = (BYTES_MIN - WINDOW).saturating_sub(before).min(bytes.len());
        for (at, byte) in bytes.iter().enumerate().skip(skipped) {
            let number = GEAR.get(usize::from(*byte)).copied().unwrap_or_default();
            self.fingerprint = (self.fingerprint << 1).wrapping_add(number);
            let length = before + at + 1;
            if length >= BYTES_MAX || length >= BYTES_MIN && self.fingerprint & MASK == 0 {
                return Some(at + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[2]
        };
        (0..bytes).map(|_| next()).collect()
    }

    fn cut(bytes: &[u8], portion: usize) -> Vec<Bytes> {
        let (mut cutter, mut pieces) = (Cutter::default(), Vec::new());
        bytes.chunks(portion).for_each(|some| cutter.take(some, &mut pieces));
        pieces.extend(cutter.finish());
        pieces
    }

    #[test]
    fn pieces_do_not_depend_on_how_the_bytes_come_and_keep_their_size() {
        let bytes = noise(5_000_000);
        let pieces = cut(&bytes, bytes.len());
        assert_eq!(pieces.concat(), bytes);
        for portion in [1000, 65_536, 33_333] {
            assert_eq!(cut(&bytes, portion), pieces);
        }
        assert!(
            pieces
                .iter()
                .rev()
                .skip(1)
                .all(|piece| (BYTES_MIN..=BYTES_MAX).contains(&piece.len()))
        );
        assert!((25..100).contains(&pieces.len()), "{}", pieces.len());
    }

    #[test]
    fn bytes_that_come_in_between_change_the_pieces_around_them_only() {
        let bytes = noise(5_000_000);
        let mut changed = bytes.clone();
        changed.splice(2_000_000..2_000_100, noise(777));
        let known: HashSet<Bytes> = cut(&bytes, 65_536).into_iter().collect();
        let new = cut(&changed, 65_536)
            .into_iter()
            .filter(|piece| !known.contains(piece))
            .count();
        assert!((1..=3).contains(&new), "{new}");
    }
}
