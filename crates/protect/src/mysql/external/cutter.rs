//! Cuts a tool's stream into pieces that are the same again the next day.
//!
//! The heads of chunks hold checksums, lengths and names, so they are pieces of their own; what stands behind them is cut where its place
//! in the file is a multiple of the size of a piece, wherever that is in the stream. A small file is one piece with its heads.

use ballast_mysql::{XbKind, XbPart};
use bytes::{Bytes, BytesMut};

#[derive(Debug)]
pub(super) struct Cutter {
    piece_bytes: usize,
    /// A piece that is not whole yet.
    open: BytesMut,
    /// Of the payload that passes.
    left: u64,
    /// The payload that passes stays in one piece with what is before and behind it.
    small: bool,
}

impl Cutter {
    pub(super) fn new(piece_bytes: usize) -> Self {
        Self {
            piece_bytes: piece_bytes.max(1),
            open: BytesMut::new(),
            left: 0,
            small: false,
        }
    }

    pub(super) fn take(&mut self, part: XbPart, pieces: &mut Vec<Bytes>) {
        match part {
            XbPart::Head { raw, chunk } => {
                self.left = chunk.length;
                let whole = (self.open.len() + raw.len()) as u64 + chunk.length;
                self.small = whole <= self.piece_bytes as u64;
                if !self.small {
                    self.close(pieces);
                }
                self.open.extend_from_slice(&raw);
                if !self.small || !matches!(chunk.kind, XbKind::Payload | XbKind::Sparse) {
                    self.close(pieces);
                }
            }
            XbPart::Payload { raw, offset } => {
                self.left = self.left.saturating_sub(raw.len() as u64);
                if self.small {
                    self.open.extend_from_slice(&raw);
                    return;
                }
                self.payload(raw, offset, pieces);
                if self.left == 0 {
                    self.close(pieces);
                }
            }
        }
    }

    pub(super) fn finish(&mut self, pieces: &mut Vec<Bytes>) {
        self.close(pieces);
    }

    fn payload(&mut self, mut raw: Bytes, mut offset: u64, pieces: &mut Vec<Bytes>) {
        let size = self.piece_bytes as u64;
        while !raw.is_empty() {
            let room = usize::try_from(size - offset % size).unwrap_or(self.piece_bytes);
            let some = raw.split_to(room.min(raw.len()));
            offset += some.len() as u64;
            let ends = offset.is_multiple_of(size);
            if ends && self.open.is_empty() {
                pieces.push(some);
                continue;
            }
            self.open.extend_from_slice(&some);
            if ends {
                self.close(pieces);
            }
        }
    }

    fn close(&mut self, pieces: &mut Vec<Bytes>) {
        while !self.open.is_empty() {
            let some = self.open.len().min(self.piece_bytes);
            pieces.push(self.open.split_to(some).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use ballast_mysql::XbChunk;
    use proptest::prelude::*;

    use super::*;

    const PIECE: usize = 64;

    fn chunk(path: &str, offset: u64, content: &[u8], step: usize) -> Vec<XbPart> {
        let head = XbPart::Head {
            raw: Bytes::from(format!("head of {path} at {offset} with {}", content.len())),
            chunk: XbChunk {
                path: path.to_owned(),
                kind: XbKind::Payload,
                offset,
                length: content.len() as u64,
                to: None,
            },
        };
        let mut parts = vec![head];
        let mut at = offset;
        for some in content.chunks(step) {
            parts.push(XbPart::Payload {
                raw: Bytes::copy_from_slice(some),
                offset: at,
            });
            at += some.len() as u64;
        }
        parts
    }

    fn end(path: &str) -> XbPart {
        XbPart::Head {
            raw: Bytes::from(format!("end of {path}")),
            chunk: XbChunk {
                path: path.to_owned(),
                kind: XbKind::End,
                offset: 0,
                length: 0,
                to: None,
            },
        }
    }

    fn cut(parts: &[XbPart]) -> Vec<Bytes> {
        let (mut cutter, mut pieces) = (Cutter::new(PIECE), Vec::new());
        for part in parts {
            cutter.take(part.clone(), &mut pieces);
        }
        cutter.finish(&mut pieces);
        pieces
    }

    fn raw(parts: &[XbPart]) -> Vec<u8> {
        let bytes = parts.iter().flat_map(|part| match part {
            XbPart::Head { raw, .. } | XbPart::Payload { raw, .. } => raw.to_vec(),
        });
        bytes.collect()
    }

    #[test]
    fn unchanged_content_gives_equal_pieces_whatever_moved_around_it() {
        let content: Vec<u8> = (0..PIECE * 20).map(|at| u8::try_from(at / PIECE).unwrap()).collect();
        let small = |path: &str| [chunk(path, 0, b"frm", 2), vec![end(path)]].concat();
        let before = [
            small("a.frm"),
            chunk("a.ibd", 0, &content, 50),
            vec![end("a.ibd")],
            small("b.frm"),
        ]
        .concat();
        let mut changed = content.clone();
        changed[PIECE * 7 + 3] = 200;
        let (first, second) = changed.split_at(PIECE * 9 + 11);
        let after = [
            small("new.frm"),
            chunk("a.ibd", 0, first, 17),
            chunk("log", 0, &[9; 100], 100),
            chunk("a.ibd", first.len() as u64, second, 33),
            vec![end("a.ibd"), end("log")],
            small("b.frm"),
            small("a.frm"),
        ]
        .concat();
        let known: HashSet<_> = cut(&before).into_iter().collect();
        let new: Vec<_> = cut(&after).into_iter().filter(|piece| !known.contains(piece)).collect();
        // One changed page, the piece that two chunks share, two heads of the file, and what is new.
        let of_the_file = new
            .iter()
            .filter(|piece| piece.starts_with(b"head of a.ibd") || piece.len() == PIECE);
        assert!(of_the_file.count() <= 4, "{new:?}");
        assert!(new.len() <= 11, "{} {new:?}", new.len());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_moved(
            files in prop::collection::vec((0u64..500, prop::collection::vec(any::<u8>(), 0..400), 1usize..90, any::<bool>()), 0..12),
        ) {
            let mut parts = Vec::new();
            for (number, (offset, content, step, ends)) in files.into_iter().enumerate() {
                let path = format!("file-{number}");
                parts.extend(chunk(&path, offset, &content, step));
                if ends {
                    parts.push(end(&path));
                }
            }
            let pieces = cut(&parts);
            prop_assert_eq!(pieces.concat(), raw(&parts));
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE));
        }
    }
}
