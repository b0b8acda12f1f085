//! From the blocks of the donor's stream to pieces of the repository.
//!
//! Pieces of a file begin at multiples of [`PIECE_BYTES`], whatever the sizes of the blocks, so that an unchanged stretch is the
//! same piece the next day. Changed pages come alone and in any order: they are gathered, several to a piece.

use std::collections::HashMap;

use ballast_repository::{BackupWriter, ChunkNumber, FileContent};
use bytes::{Bytes, BytesMut};

use crate::error::Result;

/// Four pages of 16 KiB: see the decision record on the chunk size for the measurement.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;
/// Files whose last piece is not whole yet; more are stored as they are.
const OPEN_FILES_MAX: usize = 64;

/// Stores blocks and remembers what each file is made of.
#[derive(Debug)]
pub(crate) struct Pieces {
    writer: BackupWriter,
    piece_bytes: usize,
    contents: HashMap<u32, FileContent>,
    open: HashMap<u32, OpenPiece>,
    /// Changed pages: bytes, and where each stretch of them belongs.
    loose: BytesMut,
    loose_runs: Vec<(u32, u64, usize)>,
}

/// The beginning of a piece, waiting for the rest.
#[derive(Debug)]
struct OpenPiece {
    offset: u64,
    bytes: BytesMut,
}

impl Pieces {
    pub(crate) fn new(writer: BackupWriter, piece_bytes: usize) -> Self {
        Self {
            writer,
            piece_bytes,
            contents: HashMap::new(),
            open: HashMap::new(),
            loose: BytesMut::new(),
            loose_runs: Vec::new(),
        }
    }

    /// A block of a file that is copied from its beginning to its end.
    pub(crate) async fn put(&mut self, file: u32, mut offset: u64, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.room(offset);
            let part = bytes.split_to(room.min(bytes.len()));
            let length = part.len() as u64;
            if let Some(mut open) = self.open.remove(&file) {
                if open.offset + open.bytes.len() as u64 == offset {
                    open.bytes.extend_from_slice(&part);
                    self.settle(file, open).await?;
                    offset += length;
                    continue;
                }
                self.store(file, open.offset, open.bytes.freeze()).await?;
            }
            if part.len() == self.piece_bytes {
                self.store(file, offset, part).await?;
            } else {
                self.settle(
                    file,
                    OpenPiece {
                        offset,
                        bytes: BytesMut::from(part),
                    },
                )
                .await?;
            }
            offset += length;
        }
        Ok(())
    }

    /// A changed stretch, to stand over what was copied before.
    pub(crate) async fn put_over(&mut self, file: u32, mut offset: u64, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let part = bytes.split_to((self.piece_bytes - self.loose.len()).min(bytes.len()));
            self.loose.extend_from_slice(&part);
            self.loose_runs.push((file, offset, part.len()));
            offset += part.len() as u64;
            if self.loose.len() == self.piece_bytes {
                self.store_loose().await?;
            }
        }
        Ok(())
    }

    /// Stores what still waits: before changed pages come, and at the end.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        for (file, open) in std::mem::take(&mut self.open) {
            self.store(file, open.offset, open.bytes.freeze()).await?;
        }
        self.store_loose().await
    }

    /// Puts `bytes` at the beginning of a file, under whatever was copied.
    pub(crate) async fn put_first(&mut self, file: u32, bytes: Bytes) -> Result<()> {
        let mut offset = 0;
        for part in bytes.chunks(self.piece_bytes) {
            let number = self.writer.store(bytes.slice_ref(part)).await?;
            self.contents
                .entry(file)
                .or_default()
                .put_under(offset, length(part), number);
            offset += part.len() as u64;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> (BackupWriter, HashMap<u32, FileContent>) {
        (self.writer, self.contents)
    }

    /// Bytes from `offset` to the next border between pieces.
    fn room(&self, offset: u64) -> usize {
        let size = self.piece_bytes as u64;
        usize::try_from(size - offset % size).unwrap_or(self.piece_bytes)
    }

    /// Stores a piece that reached its border, or keeps it for more.
    async fn settle(&mut self, file: u32, open: OpenPiece) -> Result<()> {
        let end = open.offset + open.bytes.len() as u64;
        if end.is_multiple_of(self.piece_bytes as u64) || self.open.len() >= OPEN_FILES_MAX {
            return self.store(file, open.offset, open.bytes.freeze()).await;
        }
        self.open.insert(file, open);
        Ok(())
    }

    async fn store(&mut self, file: u32, offset: u64, bytes: Bytes) -> Result<()> {
        let size = length(&bytes);
        let number = self.writer.store(bytes).await?;
        self.contents.entry(file).or_default().put(offset, size, number, 0);
        Ok(())
    }

    async fn store_loose(&mut self) -> Result<()> {
        if self.loose.is_empty() {
            return Ok(());
        }
        let number: ChunkNumber = self.writer.store(self.loose.split().freeze()).await?;
        let mut skip = 0;
        for (file, offset, size) in std::mem::take(&mut self.loose_runs) {
            let size = u32::try_from(size).unwrap_or(u32::MAX);
            self.contents.entry(file).or_default().put(offset, size, number, skip);
            skip += size;
        }
        Ok(())
    }
}

fn length(piece: &[u8]) -> u32 {
    u32::try_from(piece.len()).expect("a piece is at most as large as a chunk")
}
