//! From pieces to extents, once every piece has its place; the lists of the long files are chunks themselves.

use std::collections::HashSet;

use ballast_base::{Cancel, TaskError};

use super::places::{Place, any_left, store_pack};
use super::{FileContent, NO_CHUNK, Shared, ZEROES, lock};
use crate::chunk::{ChunkId, ChunkPacker, Location};
use crate::error::{RepositoryError, Result};
use crate::extent::{Extent, ExtentMap, Piece};
use crate::index::{ChunkTable, Claim};
use crate::manifest::{FileEntry, INLINE_EXTENTS_MAX, LIST_EXTENTS_MAX, Layout, ListPlace, encode_list};
use crate::names::PackId;
use crate::pack::PackBuilder;

/// Turns pieces into extents, and stores the lists of the long files.
pub(super) async fn lay_out(
    shared: &Shared,
    files: Vec<(Vec<u8>, u64, FileContent)>,
    places: &mut [Place],
    cancel: &Cancel,
) -> Result<(Vec<FileEntry>, HashSet<PackId>)> {
    let pieces = std::mem::take(&mut *lock(&shared.pieces));
    let keys = shared.repository.keys();
    let (mut packer, mut builder) = (ChunkPacker::new(), PackBuilder::new(keys));
    let (mut entries, mut named) = (Vec::with_capacity(files.len()), HashSet::new());
    for (name, size, mut content) in files {
        if name.len() > usize::from(u16::MAX) {
            return Err(RepositoryError::TooLarge {
                what: "a file's name",
                max: u64::from(u16::MAX),
            });
        }
        content.0.cut(size);
        let extents = resolve(&content.0, &pieces, &lock(&shared.table))?;
        drop(content);
        named.extend(extents.iter().filter_map(|extent| Some(extent.chunk?.location.pack)));
        if extents.len() <= INLINE_EXTENTS_MAX {
            entries.push(FileEntry {
                name,
                size,
                layout: Layout::Inline(extents),
            });
            continue;
        }
        let mut lists = Vec::new();
        for part in extents.chunks(LIST_EXTENTS_MAX) {
            let raw = encode_list(part);
            let id = ChunkId::of(keys.chunk_id_key(), &raw);
            let claim = lock(&shared.table).claim(id);
            let number = match claim {
                Claim::Known(number) => number,
                Claim::New(number) => {
                    let entry = builder.add(&mut packer, id, &raw);
                    let location = Location {
                        pack: builder.id(),
                        offset: entry.offset,
                        stored: entry.stored,
                    };
                    lock(&shared.table).place(number, location);
                    number
                }
            };
            let (id, location) = located(&lock(&shared.table), number)?;
            named.insert(location.pack);
            lists.push(ListPlace { id, location });
            if builder.is_full() {
                let full = std::mem::replace(&mut builder, PackBuilder::new(keys));
                store_lists(shared, full, places, cancel).await?;
            }
        }
        entries.push(FileEntry {
            name,
            size,
            layout: Layout::Lists(lists),
        });
    }
    if !builder.is_empty() {
        store_lists(shared, builder, places, cancel).await?;
    }
    Ok((entries, named))
}

async fn store_lists(shared: &Shared, builder: PackBuilder, places: &mut [Place], cancel: &Cancel) -> Result<()> {
    let pack = builder.finish();
    let size = pack.bytes.len() as u64;
    lock(&shared.counts).bytes_stored += size;
    let live = places.iter().enumerate().filter(|(_, place)| place.lost.is_none());
    let live = live.map(|(number, place)| (number, place.repository.clone())).collect();
    for (number, outcome) in store_pack(live, &pack, cancel).await {
        match (outcome, places.get_mut(number)) {
            (Ok(()), Some(place)) => drop(place.packs.insert(pack.id, size)),
            (Err(error), Some(place)) => place.lose(error)?,
            (_, None) => {}
        }
    }
    any_left(places)
}

fn resolve(content: &ExtentMap, pieces: &[u32], table: &ChunkTable) -> Result<Vec<Extent>> {
    let mut extents = Vec::with_capacity(content.len());
    for (offset, cover) in content.iter() {
        let piece = cover
            .number
            .and_then(|number| pieces.get(number as usize))
            .copied()
            .unwrap_or(NO_CHUNK);
        let chunk = match piece {
            ZEROES => None,
            number => {
                let (id, location) = located(table, number)?;
                Some(Piece {
                    id,
                    location,
                    skip: cover.skip,
                })
            }
        };
        extents.push(Extent {
            offset,
            length: cover.length,
            chunk,
        });
    }
    Ok(extents)
}

fn located(table: &ChunkTable, number: u32) -> Result<(ChunkId, Location)> {
    // Every worker has ended without an error, so every piece has its chunk and every chunk its place.
    table
        .located(number)
        .ok_or(RepositoryError::Task(TaskError::Stopped { name: "pack chunks" }))
}
