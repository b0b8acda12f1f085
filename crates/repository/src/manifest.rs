//! Manifests: one backup each, and the only index there is.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;

use ballast_base::fill_random;

use crate::bytes::{Cursor, Malformed};
use crate::chunk::{ChunkId, Location};
use crate::cipher::{Keys, TAG_BYTES, compress, decompress, nonce};
use crate::extent::{self, Extent};
use crate::format::{Unreadable, read_head, write_head};
use crate::names::{self, BackupId, PackId};
use crate::pack::plausible_stored;

const MAGIC: &[u8; 8] = b"BLSTMANI";
pub(crate) const HEADER_BYTES: usize = 8 + 2 + 2 + 4 + 8 + 32 + 32;
/// Facts are small by nature; what is long belongs into the annex.
pub(crate) const FACTS_BYTES_MAX: usize = 4 * 1024 * 1024;
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
        let mut salt = [0; 32];
        fill_random(&mut salt);
        let key = keys.object_key(&name, &salt);
        let mut facts = compress(&serde_json::to_vec(&self.facts).expect("JSON values always print"));
        let mut body = compress(&self.encode_body());
        let sealed = |plain: &Vec<u8>| plain.len() + TAG_BYTES;
        let mut out = Vec::with_capacity(HEADER_BYTES + sealed(&facts) + sealed(&body));
        write_head(&mut out, MAGIC);
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&u32::try_from(sealed(&facts)).expect("facts are small").to_le_bytes());
        out.extend_from_slice(&(sealed(&body) as u64).to_le_bytes());
        out.extend_from_slice(&salt);
        out.extend_from_slice(&key.commitment);
        key.key.seal(nonce(1), &out, &mut facts, 0);
        key.key.seal(nonce(2), &out, &mut body, 0);
        out.extend_from_slice(&facts);
        out.extend_from_slice(&body);
        out
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
        let header = Header::read(bytes)?;
        if bytes.len() as u64 != HEADER_BYTES as u64 + u64::from(header.facts_bytes) + header.body_bytes {
            return Err(Malformed::new("it has another length than it says").into());
        }
        let (facts, packs_and_files) = bytes
            .get(HEADER_BYTES..)
            .and_then(|rest| rest.split_at_checked(header.facts_bytes as usize))
            .ok_or_else(|| Malformed::new("it is too short"))?;
        let facts = header.open_facts(keys, id, facts)?;
        let body = header.open(keys, id, 2, packs_and_files, BODY_BYTES_MAX)?;
        Ok(decode_body(id, facts, &body)?)
    }
}

/// The plain beginning of a manifest.
pub(crate) struct Header<'a> {
    bytes: &'a [u8],
    pub(crate) facts_bytes: u32,
    body_bytes: u64,
    salt: [u8; 32],
    commitment: [u8; 32],
}

impl<'a> Header<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut cursor = Cursor::new(bytes);
        read_head(&mut cursor, MAGIC)?;
        cursor.expect("zeroes in its header", &[0; 2])?;
        let (facts_bytes, body_bytes) = (cursor.u32()?, cursor.u64()?);
        let (salt, commitment) = (cursor.array()?, cursor.array()?);
        if facts_bytes as usize > FACTS_BYTES_MAX {
            return Err(Malformed::new("its facts are larger than the format allows").into());
        }
        Ok(Self {
            bytes: Cursor::new(bytes).take(HEADER_BYTES)?,
            facts_bytes,
            body_bytes,
            salt,
            commitment,
        })
    }

    pub(crate) fn open_facts(&self, keys: &Keys, id: &BackupId, sealed: &[u8]) -> Result<serde_json::Value, Malformed> {
        let plain = self.open(keys, id, 1, sealed, FACTS_BYTES_MAX)?;
        serde_json::from_slice(&plain).map_err(|error| Malformed::new(format!("its facts are no JSON: {error}")))
    }

    fn open(&self, keys: &Keys, id: &BackupId, part: u64, sealed: &[u8], max: usize) -> Result<Vec<u8>, Malformed> {
        let key = keys.object_key(&names::manifest(id), &self.salt);
        if key.commitment != self.commitment {
            return Err(Malformed::new(
                "it does not have the commitment to its key (it may be in another object's place)",
            ));
        }
        let mut sealed = sealed.to_vec();
        decompress(key.key.open(nonce(part), self.bytes, &mut sealed)?, max)
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
