//! The table of the chunks that are already durable, so that no chunk is stored twice.
//!
//! It is read anew at the start of each backup from what lies in the repositories: the newest manifests, and the directories of packs
//! that no manifest names (an interrupted backup left them). A pack counts only if some repository at hand lists it with
//! the size it had when it was written, and did not mark it as damaged. Costs about 70 bytes of memory per chunk.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use ballast_base::{Cancel, TaskSet};
use futures_util::StreamExt as _;

use crate::chunk::{ChunkId, Location};
use crate::error::Result;
use crate::extent::Extent;
use crate::manifest::{ListPlace, Manifest};
use crate::names::{self, PackId};
use crate::pack::{PackKey, TRAILER_BYTES};
use crate::reader::{Layouts, read_layouts};
use crate::repository::Repository;

/// Of each source, the chunks of this many newest backups are reused: older ones hold little that these lack.
const BACKUPS_REUSED: usize = 3;
/// Manifests read at once.
const MANIFESTS_AT_ONCE: usize = 4;
/// Directories read at once.
const DIRECTORIES_AT_ONCE: usize = 8;
const PENDING: u32 = u32::MAX;

/// Chunk ids are keyed hashes: their own bits are as good as any hash of them.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks_exact(8) {
            self.0 ^= u64::from_le_bytes(part.try_into().expect("chunks of 8 are 8 long"));
        }
    }
}

/// Chunks by id and by number.
#[derive(Default)]
pub(crate) struct ChunkTable {
    numbers: HashMap<ChunkId, u32, BuildHasherDefault<IdHasher>>,
    places: Vec<(ChunkId, Place)>,
    packs: Vec<PackId>,
    pack_numbers: HashMap<PackId, u32>,
}

#[derive(Clone, Copy)]
struct Place {
    pack: u32,
    offset: u32,
    stored: u32,
}

/// Whether a chunk must still be stored by who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    Known(u32),
    New(u32),
}

impl ChunkTable {
    /// Finds a chunk, or enters it as being stored by the caller.
    pub(crate) fn claim(&mut self, id: ChunkId) -> Claim {
        let next = u32::try_from(self.places.len()).expect("4 G chunks do not fit in memory before this");
        match self.numbers.entry(id) {
            std::collections::hash_map::Entry::Occupied(known) => Claim::Known(*known.get()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(next);
                self.places.push((
                    id,
                    Place {
                        pack: PENDING,
                        offset: 0,
                        stored: 0,
                    },
                ));
                Claim::New(next)
            }
        }
    }

    /// Says where a chunk lies that was entered before.
    pub(crate) fn place(&mut self, number: u32, location: Location) {
        let pack = self.pack_number(location.pack);
        if let Some((_, place)) = self.places.get_mut(number as usize) {
            *place = Place {
                pack,
                offset: location.offset,
                stored: location.stored,
            };
        }
    }

    /// Where chunk `number` lies; `None` while it is being stored.
    pub(crate) fn located(&self, number: u32) -> Option<(ChunkId, Location)> {
        let (id, place) = self.places.get(number as usize)?;
        let pack = *self.packs.get(place.pack as usize)?;
        Some((
            *id,
            Location {
                pack,
                offset: place.offset,
                stored: place.stored,
            },
        ))
    }

    fn enter(&mut self, id: ChunkId, location: Location) {
        if let Claim::New(number) = self.claim(id) {
            self.place(number, location);
        }
    }

    fn pack_number(&mut self, pack: PackId) -> u32 {
        *self.pack_numbers.entry(pack).or_insert_with(|| {
            self.packs.push(pack);
            u32::try_from(self.packs.len() - 1).expect("fewer packs than chunks")
        })
    }
}

/// What lies in the repositories at hand.
pub(crate) struct Stored {
    pub(crate) table: ChunkTable,
    /// Per repository, in the caller's order: its packs and their sizes; without those that are known to be damaged.
    pub(crate) packs: Vec<HashMap<PackId, u64>>,
}

/// Reads the table from all `repositories`.
pub(crate) async fn load(repositories: &[Repository], cancel: &Cancel) -> Result<Stored> {
    let mut packs = Vec::new();
    for repository in repositories {
        let mut held = repository.packs(cancel).await?;
        let marked = repository.marked(cancel).await?;
        held.retain(|pack, _| !marked.contains(pack));
        packs.push(held);
    }
    let holder = |pack: &PackId, size: u64| {
        packs
            .iter()
            .position(|held: &HashMap<_, _>| held.get(pack) == Some(&size))
    };
    let mut table = ChunkTable::default();
    let (mut seen, mut named, mut layouts) = (HashSet::new(), HashMap::new(), Layouts::default());
    let mut read_of: HashMap<String, usize> = HashMap::new();
    for repository in repositories {
        let mut ids = repository.backups(cancel).await?;
        ids.retain(|id| seen.insert(id.clone()));
        let manifests = ids.iter().rev().map(|id| repository.manifest(id, cancel));
        let mut manifests = futures_util::stream::iter(manifests).buffered(MANIFESTS_AT_ONCE);
        while let Some(manifest) = manifests.next().await {
            cancel.check()?;
            // A manifest that cannot be read is for `verify` to tell; its chunks are just not reused.
            let Ok(manifest) = manifest else { continue };
            named.extend(manifest.packs.iter().map(|(pack, size)| (*pack, u64::from(*size))));
            let read = read_of.entry(source(&manifest)).or_default();
            *read += 1;
            if *read > BACKUPS_REUSED {
                continue;
            }
            let sound: HashSet<PackId> = manifest
                .packs
                .iter()
                .filter(|(pack, size)| holder(pack, u64::from(*size)).is_some())
                .map(|(pack, _)| *pack)
                .collect();
            let mut enter = |list: Option<&ListPlace>, extents: &[Extent]| {
                if let Some(list) = list.filter(|list| sound.contains(&list.location.pack)) {
                    table.enter(list.id, list.location);
                }
                for piece in extents.iter().filter_map(|extent| extent.chunk) {
                    if sound.contains(&piece.location.pack) {
                        table.enter(piece.id, piece.location);
                    }
                }
            };
            if let Err(error) = read_layouts(repository, &manifest.files, &mut layouts, cancel, &mut enter).await {
                cancel.check()?;
                tracing::warn!(%error, backup = %manifest.id, "its chunks are not reused");
            }
        }
    }
    for held in &mut packs {
        held.retain(|pack, size| named.get(pack).is_none_or(|written| written == size));
    }
    for (entry, location) in orphans(repositories, &packs, &named, cancel).await? {
        table.enter(entry, location);
    }
    Ok(Stored { table, packs })
}

/// What the floor above calls the source; here it only tells which backups resemble each other.
fn source(manifest: &Manifest) -> String {
    manifest
        .facts
        .get("source")
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// The chunks in packs that no manifest names.
async fn orphans(
    repositories: &[Repository],
    packs: &[HashMap<PackId, u64>],
    named: &HashMap<PackId, u64>,
    cancel: &Cancel,
) -> Result<Vec<(ChunkId, Location)>> {
    let mut left: BTreeSet<PackId> = BTreeSet::new();
    let mut work = Vec::new();
    for (repository, held) in repositories.iter().zip(packs) {
        for (pack, size) in held {
            // Where sizes differ, one is cut off, and nothing tells which.
            let alike = packs
                .iter()
                .filter_map(|held| held.get(pack))
                .all(|other| other == size);
            if alike && !named.contains_key(pack) && left.insert(*pack) {
                work.push((repository.clone(), *pack, *size));
            }
        }
    }
    let mut chunks = Vec::new();
    let mut running = TaskSet::new("read pack directory");
    let mut work = work.into_iter();
    loop {
        while running.len() < DIRECTORIES_AT_ONCE
            && let Some((repository, pack, size)) = work.next()
        {
            let cancel = cancel.clone();
            running.spawn(async move { directory(&repository, pack, size, &cancel).await });
        }
        match running.join_next().await {
            None => return Ok(chunks),
            Some(read) => match read? {
                Ok(found) => chunks.extend(found),
                Err(error) => {
                    cancel.check()?;
                    tracing::warn!(%error, "a pack that no backup names is not reused");
                }
            },
        }
    }
}

async fn directory(
    repository: &Repository,
    pack: PackId,
    size: u64,
    cancel: &Cancel,
) -> Result<Vec<(ChunkId, Location)>> {
    let damaged = |cause: crate::bytes::Malformed| repository.damaged(names::pack(pack), cause);
    let end = size.saturating_sub(TRAILER_BYTES as u64);
    let trailer = repository.get_pack_range(pack, end..size, cancel).await?;
    let offset = PackKey::directory_offset(&trailer, size).map_err(damaged)?;
    let mut sealed = repository.get_pack_range(pack, offset..end, cancel).await?.to_vec();
    let entries = PackKey::new(repository.keys(), pack)
        .open_directory(offset, &mut sealed)
        .map_err(damaged)?;
    Ok(entries
        .into_iter()
        .map(|entry| {
            (
                entry.id,
                Location {
                    pack,
                    offset: entry.offset,
                    stored: entry.stored,
                },
            )
        })
        .collect())
}
