//! Extents: which stretch of a file is which stretch of which chunk.
//!
//! While a backup is written, later pieces may cover earlier ones (a page that changed during the copy). [`ExtentMap`] resolves
//! that as it comes, so that what is stored is sorted and free of overlaps, and restoring needs no order.

use std::collections::BTreeMap;

use crate::bytes::{Cursor, Malformed};
use crate::chunk::{ChunkId, Location};
use crate::names::PackId;
use crate::pack::plausible_stored;

/// One stretch of a file, ready to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u32,
    /// `None`: zeroes.
    pub(crate) chunk: Option<Piece>,
}

/// A stretch of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) id: ChunkId,
    pub(crate) location: Location,
    /// Where in the raw chunk the stretch begins.
    pub(crate) skip: u32,
}

/// The sealed form's bytes per extent.
const EXTENT_BYTES: usize = 8 + 4 + 4 + 16 + 4 + 4 + 4;
const ZEROES: u32 = u32::MAX;

/// Appends extents as columns: equal columns compress well, and equal extents give equal bytes.
pub(crate) fn encode(extents: &[Extent], pack_index: &mut dyn FnMut(PackId) -> u32, out: &mut Vec<u8>) {
    out.extend_from_slice(
        &u32::try_from(extents.len())
            .expect("callers cut lists far below 4 G")
            .to_le_bytes(),
    );
    for extent in extents {
        out.extend_from_slice(&extent.offset.to_le_bytes());
    }
    for extent in extents {
        out.extend_from_slice(&extent.length.to_le_bytes());
    }
    for extent in extents {
        out.extend_from_slice(&extent.chunk.map_or(0, |piece| piece.skip).to_le_bytes());
    }
    for extent in extents {
        out.extend_from_slice(&extent.chunk.map_or([0; 16], |piece| piece.id.0));
    }
    for extent in extents {
        let index = extent.chunk.map_or(ZEROES, |piece| pack_index(piece.location.pack));
        out.extend_from_slice(&index.to_le_bytes());
    }
    for extent in extents {
        out.extend_from_slice(&extent.chunk.map_or(0, |piece| piece.location.offset).to_le_bytes());
    }
    for extent in extents {
        out.extend_from_slice(&extent.chunk.map_or(0, |piece| piece.location.stored).to_le_bytes());
    }
}

pub(crate) fn decode(cursor: &mut Cursor<'_>, packs: &[PackId]) -> Result<Vec<Extent>, Malformed> {
    let count = cursor.count(EXTENT_BYTES)?;
    let mut column = |width: usize| cursor.take(count * width).map(Cursor::new);
    let (mut offsets, mut lengths, mut skips) = (column(8)?, column(4)?, column(4)?);
    let (mut ids, mut indexes, mut places, mut stored) = (column(16)?, column(4)?, column(4)?, column(4)?);
    let mut extents = Vec::with_capacity(count);
    let mut end = 0;
    for _ in 0..count {
        let (offset, length, skip) = (offsets.u64()?, lengths.u32()?, skips.u32()?);
        let (id, index) = (ChunkId(ids.array()?), indexes.u32()?);
        let (place, stored) = (places.u32()?, stored.u32()?);
        if offset < end || length == 0 {
            return Err(Malformed::new("its extents are not in order"));
        }
        end = offset
            .checked_add(u64::from(length))
            .ok_or_else(|| Malformed::new("an extent ends beyond all files"))?;
        let chunk = if index == ZEROES {
            None
        } else {
            let pack = *packs
                .get(index as usize)
                .ok_or_else(|| Malformed::new("an extent lies in a pack it does not name"))?;
            if !plausible_stored(stored) {
                return Err(Malformed::new("an extent has an impossible length in its pack"));
            }
            Some(Piece {
                id,
                location: Location {
                    pack,
                    offset: place,
                    stored,
                },
                skip,
            })
        };
        extents.push(Extent { offset, length, chunk });
    }
    Ok(extents)
}

/// What a stretch of a file is made of while the backup is written: `number` of a chunk in the writer's table, or zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cover {
    pub(crate) length: u32,
    pub(crate) number: Option<u32>,
    pub(crate) skip: u32,
}

/// The stretches of one file, by offset, without overlaps.
#[derive(Debug, Default)]
pub(crate) struct ExtentMap(BTreeMap<u64, Cover>);

impl ExtentMap {
    /// Puts a stretch over whatever was there.
    pub(crate) fn put(&mut self, offset: u64, cover: Cover) {
        if cover.length == 0 {
            return;
        }
        self.clear(offset, offset + u64::from(cover.length));
        self.0.insert(offset, cover);
    }

    /// Forgets everything from `size` on.
    pub(crate) fn cut(&mut self, size: u64) {
        self.clear(size, u64::MAX);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Cover)> + '_ {
        self.0.iter().map(|(offset, cover)| (*offset, *cover))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Removes `from..to`, keeping what sticks out on either side.
    fn clear(&mut self, from: u64, to: u64) {
        if let Some((&start, &cover)) = self.0.range(..from).next_back() {
            let end = start + u64::from(cover.length);
            if end > from {
                self.0.insert(
                    start,
                    Cover {
                        length: narrow(from - start),
                        ..cover
                    },
                );
                if end > to {
                    self.0.insert(to, tail(start, cover, to));
                }
            }
        }
        while let Some((&start, &cover)) = self.0.range(from..to).next() {
            self.0.remove(&start);
            if start + u64::from(cover.length) > to {
                self.0.insert(to, tail(start, cover, to));
            }
        }
    }
}

fn tail(start: u64, cover: Cover, from: u64) -> Cover {
    let gone = narrow(from - start);
    Cover {
        length: cover.length - gone,
        skip: cover.skip + gone,
        ..cover
    }
}

fn narrow(length: u64) -> u32 {
    u32::try_from(length).expect("shorter than the stretch it is a part of")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plainest model there is: one entry per byte.
        #[test]
        fn a_later_stretch_covers_earlier_ones(
            puts in prop::collection::vec((0u64..200, 1u32..60, any::<bool>()), 1..40),
            cut in prop::option::of(0u64..260),
        ) {
            let (mut map, mut model) = (ExtentMap::default(), vec![None; 300]);
            for (number, (offset, length, zero)) in puts.into_iter().enumerate() {
                let number = (!zero).then_some(u32::try_from(number).unwrap());
                map.put(offset, Cover { length, number, skip: 0 });
                for at in 0..u64::from(length) {
                    model[usize::try_from(offset + at).unwrap()] = Some((number, at));
                }
            }
            if let Some(cut) = cut {
                map.cut(cut);
                model.iter_mut().skip(usize::try_from(cut).unwrap()).for_each(|byte| *byte = None);
            }
            let mut got = vec![None; 300];
            let mut end = 0;
            for (offset, cover) in map.iter() {
                prop_assert!(offset >= end && cover.length > 0);
                end = offset + u64::from(cover.length);
                for at in 0..u64::from(cover.length) {
                    got[usize::try_from(offset + at).unwrap()] = Some((cover.number, u64::from(cover.skip) + at));
                }
            }
            prop_assert_eq!(got, model);
        }

        #[test]
        fn extents_read_back_as_they_were_written(raw in prop::collection::vec((0u64..1000, 1u32..4096, 0u8..4, 0u32..9, 21u32..9999), 0..50)) {
            let packs = [PackId([1; 16]), PackId([2; 16]), PackId([3; 16])];
            let mut end = 0;
            let extents: Vec<Extent> = raw.into_iter().map(|(gap, length, pack, skip, stored)| {
                let offset = end + gap;
                end = offset + u64::from(length);
                let chunk = packs.get(usize::from(pack)).map(|&pack| Piece {
                    id: ChunkId([pack.0[0]; 16]), location: Location { pack, offset: 48 + skip, stored }, skip,
                });
                Extent { offset, length, chunk }
            }).collect();
            let mut out = Vec::new();
            encode(&extents, &mut |pack| u32::from(pack.0[0]) - 1, &mut out);
            prop_assert_eq!(decode(&mut Cursor::new(&out), &packs).unwrap(), extents);
        }

        #[test]
        fn no_bytes_panic_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            drop(decode(&mut Cursor::new(&bytes), &[PackId([0; 16])]));
        }
    }
}
