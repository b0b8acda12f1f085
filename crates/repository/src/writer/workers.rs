//! The workers: each hashes pieces, and compresses and seals the new ones into a pack of its own.

use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{NO_CHUNK, Shared, ZEROES, lock};
use crate::chunk::{ChunkId, ChunkPacker, Location};
use crate::error::{RepositoryError, Result};
use crate::index::Claim;
use crate::pack::{FinishedPack, PackBuilder};

/// A worker: pieces in, packs out, until the input ends.
pub(super) fn pack_chunks(
    shared: &Shared,
    pieces: &Mutex<mpsc::Receiver<(u32, Bytes)>>,
    packs: &mpsc::Sender<FinishedPack>,
) -> Result<()> {
    let keys = shared.repository.keys();
    let mut packer = ChunkPacker::new();
    let mut builder = PackBuilder::new(keys);
    let hand_on = |full: PackBuilder| {
        packs
            .blocking_send(full.finish())
            .map_err(|_| RepositoryError::NoneLeft { causes: String::new() })
    };
    loop {
        // One worker waits at the queue, the others at the lock: each gets the next piece as it comes.
        let received = lock(pieces).blocking_recv();
        let Some((number, raw)) = received else { break };
        let chunk = if is_zero(&raw) {
            ZEROES
        } else {
            let id = ChunkId::of(keys.chunk_id_key(), &raw);
            let claim = lock(&shared.table).claim(id);
            let size = raw.len() as u64;
            match claim {
                Claim::Known(chunk) => {
                    lock(&shared.counts).bytes_reused += size;
                    chunk
                }
                Claim::New(chunk) => {
                    let entry = builder.add(&mut packer, id, &raw);
                    let pack = builder.id();
                    lock(&shared.table).place(
                        chunk,
                        Location {
                            pack,
                            offset: entry.offset,
                            stored: entry.stored,
                        },
                    );
                    lock(&shared.counts).bytes_new += size;
                    if builder.is_full() {
                        hand_on(std::mem::replace(&mut builder, PackBuilder::new(keys)))?;
                    }
                    chunk
                }
            }
        };
        let mut chunks = lock(&shared.pieces);
        let slot = number as usize;
        if chunks.len() <= slot {
            chunks.resize(slot + 1, NO_CHUNK);
        }
        chunks[slot] = chunk;
    }
    if builder.is_empty() { Ok(()) } else { hand_on(builder) }
}

fn is_zero(raw: &[u8]) -> bool {
    // Compared with itself shifted by one, a stretch is all alike; the comparison is the machine's fastest loop.
    raw.first()
        .is_none_or(|first| *first == 0 && raw[1..] == raw[..raw.len() - 1])
}
