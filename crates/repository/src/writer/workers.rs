//! The workers: each hashes pieces, and compresses and seals the new ones into a pack of its own.

use std::sync::Mutex;

use tokio::sync::mpsc;

use super::{Batch, NO_CHUNK, Shared, ZEROES, lock};
use crate::chunk::{ChunkId, ChunkPacker, Location};
use crate::error::{RepositoryError, Result};
use crate::index::Claim;
use crate::pack::{FinishedPack, PackBuilder};

/// A worker: pieces in, packs out, until the input ends.
pub(super) fn pack_chunks(
    shared: &Shared,
    pieces: &Mutex<mpsc::Receiver<Batch>>,
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
        // One worker waits at the queue, the others at the lock: each gets the next batch as it comes.
        let received = lock(pieces).blocking_recv();
        let Some(batch) = received else { break };
        for (number, raw) in batch {
            let chunk = pack_chunk(shared, &mut packer, &mut builder, &raw);
            let mut chunks = lock(&shared.pieces);
            let slot = number as usize;
            if chunks.len() <= slot {
                chunks.resize(slot + 1, NO_CHUNK);
            }
            chunks[slot] = chunk;
            drop(chunks);
            if builder.is_full() {
                hand_on(std::mem::replace(&mut builder, PackBuilder::new(keys)))?;
            }
        }
    }
    if builder.is_empty() { Ok(()) } else { hand_on(builder) }
}

/// The number of the chunk that `raw` is, which goes into the pack if it is new.
fn pack_chunk(shared: &Shared, packer: &mut ChunkPacker, builder: &mut PackBuilder, raw: &[u8]) -> u32 {
    if is_zero(raw) {
        return ZEROES;
    }
    let size = raw.len() as u64;
    let id = ChunkId::of(shared.repository.keys().chunk_id_key(), raw);
    let claim = lock(&shared.table).claim(id);
    match claim {
        Claim::Known(chunk) => {
            lock(&shared.counts).bytes_reused += size;
            chunk
        }
        Claim::New(chunk) => {
            let entry = builder.add(packer, id, raw);
            let location = Location {
                pack: builder.id(),
                offset: entry.offset,
                stored: entry.stored,
            };
            lock(&shared.table).place(chunk, location);
            lock(&shared.counts).bytes_new += size;
            chunk
        }
    }
}

fn is_zero(raw: &[u8]) -> bool {
    // Compared with itself shifted by one, a stretch is all alike; the comparison is the machine's fastest loop.
    raw.first()
        .is_none_or(|first| *first == 0 && raw[1..] == raw[..raw.len() - 1])
}
