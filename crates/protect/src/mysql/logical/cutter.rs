//! Where the text of rows is cut into chunks.
//!
//! A row decides by its own fingerprint whether it is the last of its chunk, so that a stretch of rows that did not change is cut in
//! the same places tomorrow, wherever reading began. The longer a row is the more often it is the last one: chunks have
//! the same size on average whatever the table.
#![deny(clippy::indexing_slicing)]

use bytes::Bytes;

/// No smaller, but at the end of a part.
const BYTES_MIN: usize = 32 * 1024;
/// How much follows on average until a row is the last.
const BYTES_MORE: u64 = 96 * 1024;
/// From here on any row is the last.
const BYTES_MAX: usize = 1024 * 1024;
/// What the repository takes at once; a longer row is cut where this is full.
const PIECE_BYTES_MAX: usize = ballast_repository::CHUNK_BYTES_MAX;

/// Gathers the text of rows.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    text: Vec<u8>,
}

impl Cutter {
    /// Where the next row is written, behind the others.
    pub(crate) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Takes note of a row of `length` bytes that was written; gives the chunk that it ends.
    pub(crate) fn row(&mut self, length: usize, fingerprint: u32) -> Option<Bytes> {
        (self.text.len() >= BYTES_MAX || self.text.len() >= BYTES_MIN && is_last(length, fingerprint))
            .then(|| self.take())
    }

    /// What is left at the end.
    pub(crate) fn rest(&mut self) -> Option<Bytes> {
        (!self.text.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> Bytes {
        let capacity = self.text.len().min(BYTES_MAX);
        Bytes::from(std::mem::replace(&mut self.text, Vec::with_capacity(capacity)))
    }
}

/// By chance, but by the same chance every day.
fn is_last(length: usize, fingerprint: u32) -> bool {
    // The fingerprint's bits are spread once more: a CRC of rows that count up has too regular ones.
    let spread = fingerprint.wrapping_mul(0x9E37_79B1);
    u64::from(spread) * BYTES_MORE < (length as u64) << 32
}

/// Cuts a chunk that one long row made too large for the repository.
pub(crate) fn pieces(chunk: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    chunk.chunks(PIECE_BYTES_MAX).map(|piece| chunk.slice_ref(piece))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(rows: &[Vec<u8>]) -> Vec<Bytes> {
        let (mut cutter, mut chunks) = (Cutter::default(), Vec::new());
        for row in rows {
            cutter.text().extend_from_slice(row);
            let fingerprint = row
                .iter()
                .fold(17u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
            chunks.extend(cutter.row(row.len(), fingerprint));
        }
        chunks.extend(cutter.rest());
        chunks
    }

    fn rows(from: u32, to: u32, length: usize) -> Vec<Vec<u8>> {
        (from..to)
            .map(|number| format!("{number:0>length$}\n").into_bytes())
            .collect()
    }

    #[test]
    fn chunks_have_their_size_whatever_the_rows_have() {
        for length in [10, 100, 1_000, 10_000] {
            let count = u32::try_from(32 * 1024 * 1024 / length).unwrap();
            let chunks = cut(&rows(0, count, length));
            let mean = chunks.iter().map(Bytes::len).sum::<usize>() / chunks.len();
            assert!((64 * 1024..256 * 1024).contains(&mean), "{length}: {mean}");
            assert!(chunks.iter().all(|chunk| chunk.len() <= BYTES_MAX + length + 1));
        }
    }

    #[test]
    fn what_did_not_change_is_cut_in_the_same_places() {
        let before = cut(&rows(0, 60_000, 200));
        let mut changed = rows(0, 60_000, 200);
        changed.insert(0, b"a new first row\n".to_vec());
        changed[30_000] = b"another row\n".to_vec();
        changed.remove(45_000);
        let known: std::collections::HashSet<_> = before.iter().collect();
        let after = cut(&changed);
        let new = after.iter().filter(|chunk| !known.contains(chunk)).count();
        assert!(new <= 8, "{new} of {}", after.len());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_moved(lengths in proptest::collection::vec(1usize..200_000, 0..40)) {
            let rows: Vec<_> = lengths.iter().enumerate().map(|(number, length)| vec![u8::try_from(number).unwrap(); *length]).collect();
            let chunks = cut(&rows);
            prop_assert_eq!(chunks.concat(), rows.concat());
            prop_assert!(chunks.iter().flat_map(pieces).all(|piece| piece.len() <= PIECE_BYTES_MAX && !piece.is_empty()));
        }
    }
}
