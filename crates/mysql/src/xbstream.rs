//! The container `xtrabackup --stream=xbstream` and `mariadb-backup --stream=mbstream` write: files in chunks, one after the other
//! or interleaved.
//!
//! A chunk is `XBSTCK01`, a byte of flags, a byte that says its kind, the length of the path (4 bytes, little endian), the path; one with
//! payload then its length and its offset in the file (8 bytes each) and a CRC-32; a sparse one has the number of its holes
//! before the length, and 8 bytes for each hole before the payload, under the same CRC. A file ends with a chunk of a kind of its own. MariaDB's
//! tool also writes that a file was removed, has another name now (a second path), or goes on elsewhere (an offset): what definitions that change
//! during a copy lead to.
//!
//! [`XbStream`] looks at the bytes as they pass, in whatever portions, and gives all of them back in parts, none changed: where a chunk
//! begins, and where its payload stands in its file. What is not such a container, or ends too early, is an error.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeSet;

use bytes::{Buf as _, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

use crate::{Flavour, MysqlError};

const MAGIC: &[u8] = b"XBSTCK01";
/// Magic, flags, kind and the length of the path.
const HEAD_BYTES: usize = 14;
/// The tools' own limit on a path.
const PATH_BYTES_MAX: usize = 512;
/// Holes of one chunk: the tools write some hundred pages at once.
const HOLES_MAX: usize = 64 * 1024;
/// Files that were begun and are not ended.
const OPEN_FILES_MAX: usize = 4096;

/// A part of the stream, its bytes as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XbPart {
    /// All of a chunk before its payload.
    Head { raw: Bytes, chunk: XbChunk },
    /// Some of the payload, which stands at `offset` in the chunk's file.
    Payload { raw: Bytes, offset: u64 },
}

/// What a chunk says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XbChunk {
    /// The file's name in the data directory, with slashes.
    pub path: String,
    pub kind: XbKind,
    pub offset: u64,
    /// Of the payload.
    pub length: u64,
    /// The new name of a file that is renamed.
    pub to: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XbKind {
    Payload,
    Sparse,
    /// The file goes on elsewhere.
    Seek,
    /// The file, which came before, has another name now.
    Rename,
    /// The file, which came before, is none of the copy's.
    Remove,
    /// The file is complete.
    End,
}

/// Looks at a stream that passes.
#[derive(Debug)]
pub struct XbStream {
    /// The two families of tools mean different things by the same letter.
    is_mariadb: bool,
    position: u64,
    /// The head of a chunk that has not come as a whole.
    head: BytesMut,
    payload: Option<Payload>,
    open: BTreeSet<String>,
}

#[derive(Debug)]
struct Payload {
    path: String,
    offset: u64,
    left: u64,
    digest: Digest,
    expected: u32,
}

/// A head, once enough of it is there.
enum Head {
    /// So many bytes of it must be there to know more.
    Wants(usize),
    Whole {
        chunk: XbChunk,
        crc: u32,
        map_bytes: usize,
    },
}

impl XbStream {
    /// Of a tool for servers of this flavour.
    pub fn new(flavour: Flavour) -> Self {
        Self {
            is_mariadb: flavour == Flavour::MariaDb,
            position: 0,
            head: BytesMut::new(),
            payload: None,
            open: BTreeSet::new(),
        }
    }

    /// The first part of what `input` holds, which is taken from it. `None` when all of it was taken: a head may wait for its rest.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<XbPart>, MysqlError> {
        if self.payload.is_some() {
            return self.payload_of(input);
        }
        loop {
            match self.parse()? {
                Head::Wants(wanted) => {
                    let more = wanted.saturating_sub(self.head.len()).min(input.len());
                    self.head.extend_from_slice(&input.split_to(more));
                    if self.head.len() < wanted {
                        return Ok(None);
                    }
                }
                Head::Whole { chunk, crc, map_bytes } => return self.begin(chunk, crc, map_bytes).map(Some),
            }
        }
    }

    /// The stream has ended; an error unless it ended where it may.
    pub fn finish(&self) -> Result<(), MysqlError> {
        if let Some(payload) = &self.payload {
            return Err(self.wrong(&format!(
                "it ends {} bytes before the end of a chunk of \"{}\"",
                payload.left, payload.path
            )));
        }
        if !self.head.is_empty() {
            return Err(self.wrong("it ends in the head of a chunk"));
        }
        match self.open.first() {
            Some(path) => Err(self.wrong(&format!("it ends before the end of \"{path}\""))),
            None => Ok(()),
        }
    }

    fn payload_of(&mut self, input: &mut Bytes) -> Result<Option<XbPart>, MysqlError> {
        let Some(payload) = &mut self.payload else {
            return Ok(None);
        };
        if input.is_empty() && payload.left > 0 {
            return Ok(None);
        }
        let some = usize::try_from(payload.left).unwrap_or(usize::MAX).min(input.len());
        let raw = input.split_to(some);
        payload.digest.update(&raw);
        let offset = payload.offset;
        payload.offset += raw.len() as u64;
        payload.left -= raw.len() as u64;
        self.position += raw.len() as u64;
        if payload.left == 0 {
            let (sum, expected, path) = (payload.digest.finalize(), payload.expected, payload.path.clone());
            self.payload = None;
            if sum != u64::from(expected) {
                return Err(self.wrong(&format!("a chunk of \"{path}\" has another checksum than it says")));
            }
        }
        Ok(Some(XbPart::Payload { raw, offset }))
    }

    /// What the head says so far.
    fn parse(&self) -> Result<Head, MysqlError> {
        let mut head = self.head.as_ref();
        if !MAGIC.starts_with(head.get(..MAGIC.len()).unwrap_or(head)) {
            return Err(self.wrong("a chunk does not begin as one"));
        }
        if head.len() < HEAD_BYTES {
            return Ok(Head::Wants(HEAD_BYTES));
        }
        head.advance(MAGIC.len() + 1);
        let kind = match head.get_u8() {
            b'P' => XbKind::Payload,
            b'S' if self.is_mariadb => XbKind::Seek,
            b'S' => XbKind::Sparse,
            b'R' if self.is_mariadb => XbKind::Rename,
            b'D' if self.is_mariadb => XbKind::Remove,
            b'E' => XbKind::End,
            other => return Err(self.wrong(&format!("a chunk is of an unknown kind ({other:#04x})"))),
        };
        let path_bytes = head.get_u32_le() as usize;
        self.check_length(path_bytes)?;
        let fixed = match kind {
            XbKind::Payload => 20,
            XbKind::Sparse => 24,
            XbKind::Seek => 8,
            XbKind::Rename => 4,
            XbKind::Remove | XbKind::End => 0,
        };
        if head.len() < path_bytes + fixed {
            return Ok(Head::Wants(HEAD_BYTES + path_bytes + fixed));
        }
        let path = self.path(&mut head, path_bytes)?;
        let mut to = None;
        if kind == XbKind::Rename {
            let to_bytes = head.get_u32_le() as usize;
            self.check_length(to_bytes)?;
            if head.len() < to_bytes {
                return Ok(Head::Wants(HEAD_BYTES + path_bytes + fixed + to_bytes));
            }
            to = Some(self.path(&mut head, to_bytes)?);
        }
        let holes = if kind == XbKind::Sparse {
            head.get_u32_le() as usize
        } else {
            0
        };
        if holes > HOLES_MAX {
            return Err(self.wrong(&format!("a chunk of \"{path}\" has {holes} holes")));
        }
        let (length, offset, crc) = match kind {
            XbKind::Payload | XbKind::Sparse => (head.get_u64_le(), head.get_u64_le(), head.get_u32_le()),
            XbKind::Seek => (0, head.get_u64_le(), 0),
            XbKind::Rename | XbKind::Remove | XbKind::End => (0, 0, 0),
        };
        if offset.checked_add(length).is_none() {
            return Err(self.wrong(&format!("a chunk of \"{path}\" ends beyond all files")));
        }
        let map_bytes = holes * 8;
        if head.len() < map_bytes {
            return Ok(Head::Wants(HEAD_BYTES + path_bytes + fixed + map_bytes));
        }
        let chunk = XbChunk {
            path,
            kind,
            offset,
            length,
            to,
        };
        Ok(Head::Whole { chunk, crc, map_bytes })
    }

    fn check_length(&self, path_bytes: usize) -> Result<(), MysqlError> {
        if path_bytes == 0 || path_bytes > PATH_BYTES_MAX {
            return Err(self.wrong(&format!("a path is {path_bytes} bytes long")));
        }
        Ok(())
    }

    /// Takes a path off the head, which holds it as a whole.
    fn path(&self, head: &mut &[u8], path_bytes: usize) -> Result<String, MysqlError> {
        let path = String::from_utf8_lossy(&head.copy_to_bytes(path_bytes)).into_owned();
        if stays_inside(&path) {
            return Ok(path);
        }
        Err(self.wrong(&format!("\"{path}\" is no name of a file in a data directory")))
    }

    fn begin(&mut self, chunk: XbChunk, crc: u32, map_bytes: usize) -> Result<XbPart, MysqlError> {
        let raw = self.head.split().freeze();
        if !matches!(chunk.kind, XbKind::Payload | XbKind::Sparse) {
            // A file without content has nothing but its end.
            if chunk.kind == XbKind::End {
                self.open.remove(&chunk.path);
            }
        } else {
            let mut digest = Digest::new(CrcAlgorithm::Crc32IsoHdlc);
            digest.update(raw.get(raw.len() - map_bytes..).unwrap_or_default());
            self.open.insert(chunk.path.clone());
            if self.open.len() > OPEN_FILES_MAX {
                return Err(self.wrong(&format!("more than {OPEN_FILES_MAX} files are open at once")));
            }
            self.payload = Some(Payload {
                path: chunk.path.clone(),
                offset: chunk.offset,
                left: chunk.length,
                digest,
                expected: crc,
            });
        }
        self.position += raw.len() as u64;
        Ok(XbPart::Head { raw, chunk })
    }

    fn wrong(&self, what: &str) -> MysqlError {
        MysqlError::protocol(format!("the tool's stream, at byte {}: {what}", self.position))
    }
}

/// A name that leads nowhere but down.
fn stays_inside(path: &str) -> bool {
    !path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(kind: u8, path: &str) -> Vec<u8> {
        let mut bytes = [MAGIC, &[0, kind]].concat();
        bytes.extend(u32::try_from(path.len()).unwrap().to_le_bytes());
        bytes.extend(path.as_bytes());
        bytes
    }

    fn payload(path: &str, offset: u64, content: &[u8]) -> Vec<u8> {
        let mut bytes = head(b'P', path);
        bytes.extend((content.len() as u64).to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend(crc_fast::crc32_iso_hdlc(content).to_le_bytes());
        bytes.extend(content);
        bytes
    }

    fn sparse(path: &str, offset: u64, holes: &[(u32, u32)], content: &[u8]) -> Vec<u8> {
        let map: Vec<u8> = holes
            .iter()
            .flat_map(|(skip, length)| [skip.to_le_bytes(), length.to_le_bytes()].concat())
            .collect();
        let mut bytes = head(b'S', path);
        bytes.extend(u32::try_from(holes.len()).unwrap().to_le_bytes());
        bytes.extend((content.len() as u64).to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend(crc_fast::crc32_iso_hdlc(&[map.as_slice(), content].concat()).to_le_bytes());
        bytes.extend(map);
        bytes.extend(content);
        bytes
    }

    /// All parts of a stream that comes in portions of `step` bytes.
    fn parts_of(flavour: Flavour, bytes: &[u8], step: usize) -> Result<Vec<XbPart>, MysqlError> {
        let (mut stream, mut parts) = (XbStream::new(flavour), Vec::new());
        for portion in bytes.chunks(step.max(1)) {
            let mut input = Bytes::copy_from_slice(portion);
            while let Some(part) = stream.next(&mut input)? {
                parts.push(part);
            }
            assert!(input.is_empty());
        }
        stream.finish()?;
        Ok(parts)
    }

    fn parts(bytes: &[u8], step: usize) -> Result<Vec<XbPart>, MysqlError> {
        parts_of(Flavour::Mysql, bytes, step)
    }

    /// The kinds that only one family knows.
    #[test]
    fn files_are_renamed_and_removed_and_go_on_elsewhere() {
        let rename = |to: &str| {
            let length = u32::try_from(to.len()).unwrap().to_le_bytes();
            [head(b'R', "c/old.ibd"), length.to_vec(), to.as_bytes().to_vec()].concat()
        };
        let bytes = [
            payload("a", 0, b"hello"),
            head(b'S', "a"),
            10u64.to_le_bytes().to_vec(),
            payload("a", 10, b"x"),
            head(b'E', "a"),
            rename("c/new.ibd"),
            head(b'D', "b/t.frm"),
        ]
        .concat();
        for step in [1, 5, 1000] {
            let heads: Vec<_> = parts_of(Flavour::MariaDb, &bytes, step)
                .unwrap()
                .into_iter()
                .filter_map(|part| match part {
                    XbPart::Head { chunk, .. } => Some((chunk.kind, chunk.offset, chunk.to)),
                    XbPart::Payload { .. } => None,
                })
                .collect();
            let new = Some("c/new.ibd".to_owned());
            assert_eq!(
                heads,
                [
                    (XbKind::Payload, 0, None),
                    (XbKind::Seek, 10, None),
                    (XbKind::Payload, 10, None),
                    (XbKind::End, 0, None),
                    (XbKind::Rename, 0, new),
                    (XbKind::Remove, 0, None),
                ]
            );
        }
        assert!(parts_of(Flavour::MariaDb, &rename("../new.ibd"), 9).is_err());
        assert!(parts(&rename("c/new.ibd"), 9).is_err());
    }

    fn sample() -> Vec<u8> {
        [
            payload("balance/orders_0.ibd", 0, &[7; 300]),
            payload("ib_logfile0", 0, b"redo"),
            payload("balance/orders_0.ibd", 300, &[8; 40]),
            head(b'E', "balance/orders_0.ibd"),
            head(b'E', "balance/empty.MYD"),
            sparse("sparse.ibd", 16, &[(3, 5), (1, 0)], b"rest"),
            payload("ib_logfile0", 4, b""),
            head(b'E', "sparse.ibd"),
            head(b'E', "ib_logfile0"),
        ]
        .concat()
    }

    #[test]
    fn a_stream_comes_back_as_it_is_with_its_chunks_known() {
        for step in [1, 7, 64, 100_000] {
            let parts = parts(&sample(), step).unwrap();
            let mut raw = Vec::new();
            let (mut file, mut content) = (String::new(), Vec::new());
            for part in &parts {
                match part {
                    XbPart::Head { raw: bytes, chunk } => {
                        raw.extend_from_slice(bytes);
                        file.clone_from(&chunk.path);
                    }
                    XbPart::Payload { raw: bytes, offset } => {
                        raw.extend_from_slice(bytes);
                        if file.ends_with("0.ibd") {
                            assert_eq!(*offset, content.len() as u64, "step {step}");
                            content.extend_from_slice(bytes);
                        }
                    }
                }
            }
            assert_eq!(raw, sample(), "step {step}");
            assert_eq!(content, [vec![7; 300], vec![8; 40]].concat(), "step {step}");
        }
    }

    #[test]
    fn what_is_cut_changed_or_leads_out_is_refused() {
        for cut in 1..sample().len() {
            let part = sample().get(..cut).unwrap().to_vec();
            assert!(parts(&part, 50).is_err(), "cut at {cut}");
        }
        for (bytes, what) in [
            (b"Usage: mariadb-backup".to_vec(), "does not begin"),
            (head(b'X', "a"), "unknown kind"),
            (head(b'E', ""), "0 bytes long"),
            (head(b'E', &"a".repeat(600)), "600 bytes long"),
            (payload("../a", 0, b"x"), "no name of a file"),
            (payload("/etc/passwd", 0, b"x"), "no name of a file"),
            (payload("a/./b", 0, b"x"), "no name of a file"),
            (payload("a", u64::MAX, b"x"), "beyond all files"),
            (
                {
                    let mut bytes = payload("a", 0, b"x");
                    *bytes.last_mut().unwrap() = b'y';
                    bytes
                },
                "another checksum",
            ),
            (payload("a", 0, b"x"), "before the end of \"a\""),
        ] {
            let error = parts(&bytes, 3).unwrap_err().to_string();
            assert!(error.contains(what), "{what}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            noise in prop::collection::vec(any::<u8>(), 0..200),
            at in 0usize..400,
            step in 1usize..90,
        ) {
            drop(parts(&noise, step));
            // A sound stream in which some bytes are others.
            let mut bytes = sample();
            let at = at.min(bytes.len());
            for (byte, other) in bytes.iter_mut().skip(at).zip(&noise) {
                *byte = *other;
            }
            drop(parts(&bytes, step));
            drop(parts_of(Flavour::MariaDb, &bytes, step));
        }
    }
}
