//! Manifests: one backup each, and the only index there is.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;

use crate::bytes::{Cursor, Malformed};
use crate::chunk::{ChunkId, Location};
use crate::cipher::Keys;
use crate::extent::{self, Extent};
use crate::format::Unreadable;
use crate::names::{self, BackupId, PackId};
use crate::pack::plausible_stored;
use crate::sealed::{self, Magic};

pub(crate) const MAGIC: Magic = b"BLSTMANI";
/// A body is held in memory whole.
const BODY_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// A list of extents holds at most this many.
pub(crate) const LIST_EXTENTS_MAX: usize = 4096;
/// A file with no more extents than this keeps them in the manifest itself.
pub(crate) const INLINE_EXTENTS_MAX: usize = 64;
const LAYOUT_INLINE: u8 = 0;
const LAYOUT_LISTS: u8 = 1;

/// What is needed to list a backup: its id, what the floor above noted, and how large the manifest is.
#[derive(Debug, Clone)]
pub struct ManifestFacts {
    pub id: BackupId,
    pub facts: serde_json::Value,
    pub manifest_bytes: u64,
}

/// A whole manifest.
#[derive(Debug)]
pub struct Manifest {
    pub id: BackupId,
    pub facts: serde_json::Value,
    pub annex: serde_json::Value,
    pub files: Vec<FileEntry>,
    pub(crate) packs: Vec<(PackId, u32)>,
}

/// One file of a backup.
#[derive(Debug)]
pub struct FileEntry {
    pub name: Vec<u8>,
    pub size: u64,
    pub(crate) layout: Layout,
}

#[derive(Debug)]
pub(crate) enum Layout {
    Inline(Vec<Extent>),
    Lists(Vec<ListPlace>),
}

/// Where a list of extents lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListPlace {
    pub(crate) id: ChunkId,
    pub(crate) location: Location,
}

impl Manifest {
    /// The sealed object.
    pub(crate) fn seal(&self, keys: &Keys) -> Vec<u8> {
        let name = names::manifest(&self.id);
        sealed::seal(keys, MAGIC, &name, &self.facts, Some(&self.encode_body()))
    }

    fn encode_body(&self) -> Vec<u8> {
        let count = |n: usize| {
            u32::try_from(n)
                .expect("bounded by the memory that held them")
                .to_le_bytes()
        };
        let mut out = Vec::new();
        let annex = serde_json::to_vec(&self.annex).expect("JSON values always print");
        out.extend_from_slice(&count(annex.len()));
        out.extend_from_slice(&annex);
        out.extend_from_slice(&count(self.packs.len()));
        let mut indexes = HashMap::with_capacity(self.packs.len());
        for (index, (id, size)) in (0u32..).zip(&self.packs) {
            indexes.insert(*id, index);
            out.extend_from_slice(&id.0);
            out.extend_from_slice(&size.to_le_bytes());
        }
        let mut index = |pack: PackId| *indexes.get(&pack).expect("every pack of an extent is in the table");
        out.extend_from_slice(&count(self.files.len()));
        for file in &self.files {
            out.extend_from_slice(
                &u16::try_from(file.name.len())
                    .expect("checked when it was written")
                    .to_le_bytes(),
            );
            out.extend_from_slice(&file.name);
            out.extend_from_slice(&file.size.to_le_bytes());
            match &file.layout {
                Layout::Inline(extents) => {
                    out.push(LAYOUT_INLINE);
                    extent::encode(extents, &mut index, &mut out);
                }
                Layout::Lists(lists) => {
                    out.push(LAYOUT_LISTS);
                    out.extend_from_slice(&count(lists.len()));
                    for list in lists {
                        out.extend_from_slice(&list.id.0);
                        for number in [index(list.location.pack), list.location.offset, list.location.stored] {
                            out.extend_from_slice(&number.to_le_bytes());
                        }
                    }
                }
            }
        }
        out
    }

    pub(crate) fn open(keys: &Keys, id: &BackupId, bytes: &[u8]) -> Result<Self, Unreadable> {
        let (facts, body) = sealed::open(keys, MAGIC, &names::manifest(id), bytes, BODY_BYTES_MAX)?;
        Ok(decode_body(id, facts, &body)?)
    }
}

fn decode_body(id: &BackupId, facts: serde_json::Value, body: &[u8]) -> Result<Manifest, Malformed> {
    let mut cursor = Cursor::new(body);
    let annex = cursor.count(1)?;
    let annex = serde_json::from_slice(cursor.take(annex)?)
        .map_err(|error| Malformed::new(format!("its annex is no JSON: {error}")))?;
    let mut packs = Vec::new();
    for _ in 0..cursor.count(20)? {
        packs.push((PackId(cursor.array()?), cursor.u32()?));
    }
    let ids: Vec<PackId> = packs.iter().map(|(id, _)| *id).collect();
    let mut files = Vec::new();
    for _ in 0..cursor.count(2 + 8 + 1 + 4)? {
        let length = cursor.u16()?;
        let name = cursor.take(usize::from(length))?.to_vec();
        let size = cursor.u64()?;
        let layout = match cursor.u8()? {
            LAYOUT_INLINE => Layout::Inline(extent::decode(&mut cursor, &ids)?),
            LAYOUT_LISTS => Layout::Lists(decode_lists(&mut cursor, &ids)?),
            other => {
                return Err(Malformed::new(format!(
                    "a file has layout {other}, which this version does not know"
                )));
            }
        };
        files.push(FileEntry { name, size, layout });
    }
    cursor.end()?;
    Ok(Manifest {
        id: id.clone(),
        facts,
        annex,
        files,
        packs,
    })
}

fn decode_lists(cursor: &mut Cursor<'_>, packs: &[PackId]) -> Result<Vec<ListPlace>, Malformed> {
    let mut lists = Vec::new();
    for _ in 0..cursor.count(16 + 12)? {
        let (id, index, offset, stored) = (ChunkId(cursor.array()?), cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let pack = *packs
            .get(index as usize)
            .ok_or_else(|| Malformed::new("a list lies in a pack that it does not name"))?;
        if !plausible_stored(stored) {
            return Err(Malformed::new("a list has an impossible length in its pack"));
        }
        lists.push(ListPlace {
            id,
            location: Location { pack, offset, stored },
        });
    }
    Ok(lists)
}

/// The raw chunk of a list; equal extents give equal bytes, so that the list of an unchanged file is stored once.
pub(crate) fn encode_list(extents: &[Extent]) -> Vec<u8> {
    let mut packs: Vec<PackId> = Vec::new();
    let mut indexes = HashMap::new();
    for piece in extents.iter().filter_map(|extent| extent.chunk) {
        indexes.entry(piece.location.pack).or_insert_with(|| {
            packs.push(piece.location.pack);
            u32::try_from(packs.len() - 1).expect("a list has at most 4096 extents")
        });
    }
    let mut out = Vec::new();
    out.extend_from_slice(
        &u32::try_from(packs.len())
            .expect("a list has at most 4096 extents")
            .to_le_bytes(),
    );
    packs.iter().for_each(|pack| out.extend_from_slice(&pack.0));
    extent::encode(
        extents,
        &mut |pack| *indexes.get(&pack).expect("entered above"),
        &mut out,
    );
    out
}

pub(crate) fn decode_list(raw: &[u8]) -> Result<Vec<Extent>, Malformed> {
    let mut cursor = Cursor::new(raw);
    let mut packs = Vec::new();
    for _ in 0..cursor.count(16)? {
        packs.push(PackId(cursor.array()?));
    }
    let extents = extent::decode(&mut cursor, &packs)?;
    cursor.end()?;
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::MasterKey;
    use crate::names::RepositoryId;

    fn sample() -> (Keys, Manifest) {
        let keys = Keys::derive(&MasterKey::random(), RepositoryId::random());
        let pack = PackId::random();
        let location = Location {
            pack,
            offset: 48,
            stored: 1000,
        };
        let piece = extent::Piece {
            id: ChunkId([7; 16]),
            location,
            skip: 0,
        };
        let extents = vec![
            Extent {
                offset: 0,
                length: 65_536,
                chunk: Some(piece),
            },
            Extent {
                offset: 65_536,
                length: 16_384,
                chunk: None,
            },
        ];
        let files = vec![
            FileEntry {
                name: b"./balance/orders_0.ibd".to_vec(),
                size: 81_920,
                layout: Layout::Inline(extents),
            },
            FileEntry {
                name: b"ibdata1".to_vec(),
                size: 9,
                layout: Layout::Lists(vec![ListPlace {
                    id: ChunkId([8; 16]),
                    location,
                }]),
            },
        ];
        let manifest = Manifest {
            id: BackupId::new("2026-11-23T05:33:00Z".parse().unwrap()),
            facts: serde_json::json!({"source": "orders"}),
            annex: serde_json::json!({"tables": ["balance.orders_0"]}),
            files,
            packs: vec![(pack, 4711)],
        };
        (keys, manifest)
    }

    #[test]
    fn a_manifest_reads_back_and_any_flipped_bit_or_cut_is_noticed() {
        let (keys, manifest) = sample();
        let sealed = manifest.seal(&keys);
        let opened = Manifest::open(&keys, &manifest.id, &sealed).unwrap();
        assert_eq!(format!("{opened:?}"), format!("{manifest:?}"));
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 0x10;
            assert!(Manifest::open(&keys, &manifest.id, &bad).is_err(), "byte {at}");
            assert!(
                Manifest::open(&keys, &manifest.id, &sealed[..at]).is_err(),
                "length {at}"
            );
        }
        let other = BackupId::new("2026-11-24T05:33:00Z".parse().unwrap());
        assert!(Manifest::open(&keys, &other, &sealed).is_err(), "under another name");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoders(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let (keys, manifest) = sample();
            drop(decode_list(&bytes));
            drop(decode_body(&manifest.id, serde_json::Value::Null, &bytes));
            let mut object = MAGIC.to_vec();
            object.extend_from_slice(&1u16.to_le_bytes());
            object.extend_from_slice(&bytes);
            drop(Manifest::open(&keys, &manifest.id, &object));
        }
    }
}
