//! Packs: many sealed chunks in one object, with a directory at the end.
#![deny(clippy::indexing_slicing)]

use crate::bytes::{Cursor, Malformed};
use crate::chunk::{CHUNK_BYTES_MAX, ChunkId, ChunkPacker, ChunkUnpacker};
use crate::cipher::{Keys, ObjectKey, TAG_BYTES, nonce};
use crate::format::{Unreadable, read_head, write_head};
use crate::names::{self, PackId};

/// A pack is closed when it holds this much.
pub(crate) const PACK_BYTES_TARGET: usize = 16 * 1024 * 1024;
/// No pack is larger: target, one largest chunk, and the directory of a pack of the smallest chunks.
pub(crate) const PACK_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A pack is closed at this many chunks at the latest, so that its directory stays small.
const PACK_CHUNKS_MAX: usize = 65_536;
const MAGIC: &[u8; 8] = b"BLSTPACK";
const TAIL_MAGIC: &[u8; 12] = b"BLSTPACKTAIL";
pub(crate) const HEADER_BYTES: usize = 8 + 2 + 2 + 4 + 32;
pub(crate) const TRAILER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 16 + 4 + 4 + 4;
const DIRECTORY: &[u8] = b"directory";

/// One line of a pack's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackEntry {
    pub(crate) id: ChunkId,
    pub(crate) offset: u32,
    pub(crate) stored: u32,
    pub(crate) raw: u32,
}

/// A pack in the making.
pub(crate) struct PackBuilder {
    id: PackId,
    key: ObjectKey,
    bytes: Vec<u8>,
    entries: Vec<PackEntry>,
}

/// A closed pack, ready to be stored.
#[derive(Debug)]
pub(crate) struct FinishedPack {
    pub(crate) id: PackId,
    pub(crate) bytes: bytes::Bytes,
}

impl PackBuilder {
    pub(crate) fn new(keys: &Keys) -> Self {
        let id = PackId::random();
        let key = keys.object_key(&names::pack(id), &id.0);
        // Taken at once: growing by doubling would hold two copies just when the pack is fullest.
        let mut bytes = Vec::with_capacity(PACK_BYTES_TARGET + PACK_BYTES_TARGET / 8);
        write_head(&mut bytes, MAGIC);
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(&key.commitment);
        Self {
            id,
            key,
            bytes,
            entries: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> PackId {
        self.id
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= PACK_BYTES_TARGET || self.entries.len() >= PACK_CHUNKS_MAX
    }

    /// Compresses and seals one chunk into the pack.
    pub(crate) fn add(&mut self, packer: &mut ChunkPacker, id: ChunkId, raw: &[u8]) -> PackEntry {
        let offset = self.bytes.len();
        packer.append(raw, &mut self.bytes);
        self.key.key.seal(nonce(offset as u64), &id.0, &mut self.bytes, offset);
        let fits = |count: usize| u32::try_from(count).expect("a pack is at most 32 MiB");
        let entry = PackEntry {
            id,
            offset: fits(offset),
            stored: fits(self.bytes.len() - offset),
            raw: fits(raw.len()),
        };
        self.entries.push(entry);
        entry
    }

    pub(crate) fn finish(mut self) -> FinishedPack {
        let offset = self.bytes.len();
        let fits = |count: usize| u32::try_from(count).expect("a pack is at most 32 MiB");
        self.bytes.extend_from_slice(&fits(self.entries.len()).to_le_bytes());
        for entry in &self.entries {
            self.bytes.extend_from_slice(&entry.id.0);
            for number in [entry.offset, entry.stored, entry.raw] {
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        self.key
            .key
            .seal(nonce(offset as u64), DIRECTORY, &mut self.bytes, offset);
        let directory = fits(self.bytes.len() - offset);
        self.bytes.extend_from_slice(&directory.to_le_bytes());
        self.bytes.extend_from_slice(TAIL_MAGIC);
        assert!(
            self.bytes.len() <= PACK_BYTES_MAX,
            "a pack of {} bytes must not be written",
            self.bytes.len()
        );
        FinishedPack {
            id: self.id,
            bytes: self.bytes.into(),
        }
    }
}

/// Opens the chunks of one pack.
pub(crate) struct PackKey(ObjectKey);

impl PackKey {
    pub(crate) fn new(keys: &Keys, id: PackId) -> Self {
        Self(keys.object_key(&names::pack(id), &id.0))
    }

    /// Decrypts one chunk in place; `sealed` is exactly its stored bytes, `offset` its place in the pack.
    pub(crate) fn open<'a>(&self, id: ChunkId, offset: u32, sealed: &'a mut [u8]) -> Result<&'a [u8], Malformed> {
        self.0
            .key
            .open(nonce(u64::from(offset)), &id.0, sealed)
            .map(|plain| &*plain)
    }

    fn check_header(&self, header: &[u8]) -> Result<(), Unreadable> {
        let mut cursor = Cursor::new(header);
        read_head(&mut cursor, MAGIC)?;
        cursor.expect("zeroes in its header", &[0; 6])?;
        cursor.expect(
            "commitment to its key (it may be in another object's place)",
            &self.0.commitment,
        )?;
        Ok(())
    }

    /// Where the directory of a pack of `size` bytes begins, told by its last [`TRAILER_BYTES`].
    pub(crate) fn directory_offset(trailer: &[u8], size: u64) -> Result<u64, Malformed> {
        let mut cursor = Cursor::new(trailer);
        let length = u64::from(cursor.u32()?);
        cursor.expect("mark at its end (it may be cut off)", TAIL_MAGIC)?;
        cursor.end()?;
        let offset = size.checked_sub(TRAILER_BYTES as u64 + length);
        offset
            .filter(|offset| *offset >= HEADER_BYTES as u64)
            .ok_or_else(|| Malformed::new("its directory does not fit in it"))
    }

    /// Opens a directory; `sealed` is what lies between `offset` and the trailer.
    pub(crate) fn open_directory(&self, offset: u64, sealed: &mut [u8]) -> Result<Vec<PackEntry>, Malformed> {
        let plain = self.0.key.open(nonce(offset), DIRECTORY, sealed)?;
        let mut cursor = Cursor::new(plain);
        let count = cursor.count(ENTRY_BYTES)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let id = ChunkId(cursor.array()?);
            entries.push(PackEntry {
                id,
                offset: cursor.u32()?,
                stored: cursor.u32()?,
                raw: cursor.u32()?,
            });
        }
        cursor.end()?;
        Ok(entries)
    }

    /// Reads a whole pack: header, trailer, directory, and that the chunks lie without a hole in between.
    /// With `contents`, every chunk is decompressed too and must have the content its id names.
    pub(crate) fn check_whole(&self, bytes: &mut [u8], contents: Option<&Keys>) -> Result<Vec<PackEntry>, Unreadable> {
        let size = bytes.len() as u64;
        self.check_header(
            bytes
                .get(..HEADER_BYTES)
                .ok_or_else(|| Malformed::new("it is too short"))?,
        )?;
        let trailer = bytes
            .len()
            .checked_sub(TRAILER_BYTES)
            .ok_or_else(|| Malformed::new("it is too short"))?;
        let (content, tail) = bytes.split_at_mut(trailer);
        let directory = Self::directory_offset(tail, size)?;
        let (chunks, sealed) = content
            .split_at_mut_checked(usize::try_from(directory).unwrap_or(usize::MAX))
            .ok_or_else(|| Malformed::new("its directory does not fit in it"))?;
        let entries = self.open_directory(directory, sealed)?;
        let mut unpacker = ChunkUnpacker::new();
        let mut next = HEADER_BYTES;
        for (number, entry) in entries.iter().enumerate() {
            let stored = entry.stored as usize;
            let place = (entry.offset as usize == next).then_some(next..next.saturating_add(stored));
            let sealed = place
                .and_then(|place| chunks.get_mut(place))
                .ok_or_else(|| Malformed::new(format!("chunk {number} lies elsewhere than its directory says")))?;
            let plain = self
                .open(entry.id, entry.offset, sealed)
                .map_err(|error| Malformed::new(format!("chunk {number} at offset {}: {error}", entry.offset)))?;
            if let Some(keys) = contents {
                let raw = unpacker.raw(plain)?;
                if ChunkId::of(keys.chunk_id_key(), raw) != entry.id || raw.len() != entry.raw as usize {
                    return Err(Malformed::new(format!("chunk {number} holds other content than its id names")).into());
                }
            }
            next += stored;
        }
        if next != chunks.len() {
            return Err(Malformed::new("it holds bytes that its directory does not name").into());
        }
        Ok(entries)
    }
}

/// A stored chunk is never smaller than its seal and head, nor larger than the largest chunk with both.
pub(crate) fn plausible_stored(stored: u32) -> bool {
    let least = TAG_BYTES + crate::chunk::CHUNK_HEAD_BYTES;
    (least..=CHUNK_BYTES_MAX + least).contains(&(stored as usize))
}
