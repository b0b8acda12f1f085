//! Writes one backup to several repositories at once, in the one order that keeps the promise: packs, then the manifest.
//!
//! Pieces go through a bounded queue to workers, which hash, look up, compress and seal into a pack of their own; finished
//! packs go through a bounded queue to the repositories, each pack made once and written to all. A piece is hashed first, so that what
//! is stored already is never compressed. A repository that fails is left out from then on; the others go on.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use ballast_base::{Cancel, TaskError, TaskSet, run_blocking};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::chunk::{CHUNK_BYTES_MAX, ChunkId, ChunkPacker, Location};
use crate::copy::copy_pack;
use crate::error::{RepositoryError, Result};
use crate::extent::{Cover, Extent, ExtentMap, Piece};
use crate::index::{ChunkTable, Claim, load};
use crate::manifest::{FileEntry, INLINE_EXTENTS_MAX, LIST_EXTENTS_MAX, Layout, ListPlace, Manifest, encode_list};
use crate::names::{self, BackupId, PackId};
use crate::pack::{FinishedPack, PackBuilder};
use crate::repository::Repository;

/// Pieces that wait for a worker.
const PIECES_QUEUED_MAX: usize = 64;
/// Finished packs that wait for the repositories, beside those on their way.
const PACKS_QUEUED_MAX: usize = 1;
/// Packs on their way at once.
const PACKS_AT_ONCE: usize = 3;
const NO_CHUNK: u32 = u32::MAX;
const ZEROES: u32 = u32::MAX - 1;

/// The number of a stored piece, to say later which stretch of a file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkNumber(u32);

/// The stretches of one file while it is written; later ones cover earlier ones.
#[derive(Debug, Default)]
pub struct FileContent(ExtentMap);

impl FileContent {
    /// `length` bytes of piece `number`, from `skip` on, stand at `offset` of the file.
    pub fn put(&mut self, offset: u64, length: u32, number: ChunkNumber, skip: u32) {
        self.0.put(
            offset,
            Cover {
                length,
                number: Some(number.0),
                skip,
            },
        );
    }

    /// The same, where nothing stands yet: what was put before stays on top.
    pub fn put_under(&mut self, offset: u64, length: u32, number: ChunkNumber) {
        let above = std::mem::take(&mut self.0);
        self.put(offset, length, number, 0);
        for (offset, cover) in above.iter() {
            self.0.put(offset, cover);
        }
    }
}

/// A repository that failed while a backup was written, and why.
#[derive(Debug)]
pub struct LostWriter {
    pub name: String,
    pub error: RepositoryError,
}

/// What a backup took, known when all but its manifest is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Raw bytes of the pieces that were not stored before.
    pub bytes_new: u64,
    /// Raw bytes of the pieces that were, zeroes not counted.
    pub bytes_reused: u64,
    /// Bytes of the packs written for this backup, in one repository.
    pub bytes_stored: u64,
}

/// A finished backup.
#[derive(Debug)]
pub struct WrittenBackup {
    pub written: Written,
    pub manifest_bytes: u64,
    /// Names of the repositories that hold it.
    pub repositories: Vec<String>,
    pub lost: Vec<LostWriter>,
}

struct Shared {
    repository: Repository,
    table: Mutex<ChunkTable>,
    /// Chunk number per piece.
    pieces: Mutex<Vec<u32>>,
    counts: Mutex<Written>,
}

/// One backup being written.
#[derive(Debug)]
pub struct BackupWriter {
    shared: Arc<Shared>,
    input: mpsc::Sender<(u32, Bytes)>,
    workers: TaskSet<Result<()>>,
    stores: ballast_base::Task<Result<Vec<Place>>>,
    pieces: u32,
    cancel: Cancel,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("repository", &self.repository)
            .finish_non_exhaustive()
    }
}

/// One repository while it is written to.
#[derive(Debug)]
struct Place {
    repository: Repository,
    packs: HashMap<PackId, u64>,
    lost: Option<RepositoryError>,
}

impl BackupWriter {
    /// Reads what is stored already and starts `workers` threads. `repositories` are copies of one; at least one.
    pub async fn begin(repositories: Vec<Repository>, workers: usize, cancel: &Cancel) -> Result<Self> {
        let first = repositories.first().cloned();
        let repository = first.ok_or_else(|| RepositoryError::NoneLeft {
            causes: "none was given".to_owned(),
        })?;
        let stored = load(&repositories, cancel).await?;
        let places = repositories.into_iter().zip(stored.packs);
        let places = places
            .map(|(repository, packs)| Place {
                repository,
                packs,
                lost: None,
            })
            .collect();
        let shared = Arc::new(Shared {
            repository,
            table: Mutex::new(stored.table),
            pieces: Mutex::default(),
            counts: Mutex::default(),
        });
        let (input, pieces) = mpsc::channel(PIECES_QUEUED_MAX);
        let (packs_in, packs) = mpsc::channel(PACKS_QUEUED_MAX);
        let pieces = Arc::new(Mutex::new(pieces));
        let mut running = TaskSet::new("pack chunks");
        for _ in 0..workers.max(1) {
            let (shared, pieces, packs) = (Arc::clone(&shared), Arc::clone(&pieces), packs_in.clone());
            running.spawn(
                async move { run_blocking("pack chunks", move || pack_chunks(&shared, &pieces, &packs)).await? },
            );
        }
        let stores = {
            let (shared, cancel) = (Arc::clone(&shared), cancel.clone());
            ballast_base::spawn("store packs", async move {
                store_packs(&shared, places, packs, &cancel).await
            })
        };
        Ok(Self {
            shared,
            input,
            workers: running,
            stores,
            pieces: 0,
            cancel: cancel.clone(),
        })
    }

    /// Stores one piece (at most [`CHUNK_BYTES_MAX`]); waits while the queue is full.
    pub async fn store(&mut self, raw: Bytes) -> Result<ChunkNumber> {
        if raw.len() > CHUNK_BYTES_MAX {
            return Err(RepositoryError::TooLarge {
                what: "a chunk",
                max: CHUNK_BYTES_MAX as u64,
            });
        }
        let number = self.pieces;
        self.pieces = number.checked_add(1).ok_or(RepositoryError::TooLarge {
            what: "a backup's count of pieces",
            max: u64::from(u32::MAX),
        })?;
        if self.cancel.race(self.input.send((number, raw))).await?.is_err() {
            return Err(self.why_it_ended().await);
        }
        Ok(ChunkNumber(number))
    }

    /// Nobody takes pieces any more: the first error of those who should.
    async fn why_it_ended(&mut self) -> RepositoryError {
        while let Some(ended) = self.workers.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                // The queue of packs was closed: the reason is with the one who reads it.
                Ok(Err(RepositoryError::NoneLeft { .. })) => break,
                Ok(Err(error)) => return error,
                Err(error) => return error.into(),
            }
        }
        let stores = std::mem::replace(&mut self.stores, ballast_base::spawn("ended", async { Ok(Vec::new()) }));
        match stores.join().await {
            Ok(Ok(_)) => RepositoryError::Task(TaskError::Stopped { name: "store packs" }),
            Ok(Err(error)) => error,
            Err(error) => error.into(),
        }
    }

    /// Ends the backup: every chunk durable, then the lists, then the packs a repository lacks, then the manifest, last.
    /// `files` are name, size and content; `facts` are made when all but the manifest is counted.
    pub async fn finish(
        mut self,
        id: BackupId,
        files: Vec<(Vec<u8>, u64, FileContent)>,
        annex: serde_json::Value,
        facts: impl FnOnce(&Written) -> serde_json::Value + Send,
    ) -> Result<WrittenBackup> {
        // Without a sender the workers see the end of their input.
        drop(std::mem::replace(&mut self.input, mpsc::channel(1).0));
        while let Some(ended) = self.workers.join_next().await {
            match ended? {
                Ok(()) => {}
                Err(RepositoryError::NoneLeft { .. }) => return Err(self.why_it_ended().await),
                Err(error) => return Err(error),
            }
        }
        let mut places = self.stores.join().await??;
        let (files, named) = lay_out(&self.shared, files, &mut places, &self.cancel).await?;
        bring_up(&mut places, &named, &self.cancel).await?;
        let written = *lock(&self.shared.counts);
        let packs = sizes(&places, named)?;
        let manifest = Manifest {
            id,
            facts: facts(&written),
            annex,
            files,
            packs,
        };
        let sealed = Bytes::from(manifest.seal(self.shared.repository.keys()));
        let manifest_bytes = sealed.len() as u64;
        let name = names::manifest(&manifest.id);
        for place in places.iter_mut().filter(|place| place.lost.is_none()) {
            if let Err(error) = place.repository.put(&name, sealed.clone(), &self.cancel).await {
                place.lose(error)?;
            }
        }
        let (lost, held): (Vec<_>, Vec<_>) = places.into_iter().partition(|place| place.lost.is_some());
        let lost: Vec<_> = lost
            .into_iter()
            .filter_map(|place| {
                Some(LostWriter {
                    name: place.repository.name().to_owned(),
                    error: place.lost?,
                })
            })
            .collect();
        if held.is_empty() {
            return Err(none_left(lost.iter().map(|lost| (lost.name.as_str(), &lost.error))));
        }
        let repositories = held.iter().map(|place| place.repository.name().to_owned()).collect();
        Ok(WrittenBackup {
            written,
            manifest_bytes,
            repositories,
            lost,
        })
    }
}

impl Place {
    /// Leaves the repository out from now on; an interruption is no fault of it.
    fn lose(&mut self, error: RepositoryError) -> Result<()> {
        match error {
            RepositoryError::Cancelled(_) => Err(error),
            error => {
                tracing::warn!(%error, repository = self.repository.name(), "is left out from now on");
                self.lost = Some(error);
                Ok(())
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is guarded is whole between any two statements; a worker's panic is told by its task.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker: pieces in, packs out, until the input ends.
fn pack_chunks(
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

/// Takes finished packs until there are no more, and stores each in every repository that still answers.
async fn store_packs(
    shared: &Shared,
    mut places: Vec<Place>,
    mut packs: mpsc::Receiver<FinishedPack>,
    cancel: &Cancel,
) -> Result<Vec<Place>> {
    let mut running: TaskSet<(PackId, u64, Outcomes)> = TaskSet::new("store pack");
    let mut open = true;
    loop {
        tokio::select! {
            received = packs.recv(), if open && running.len() < PACKS_AT_ONCE => match received {
                None => open = false,
                Some(pack) => {
                    let live = places.iter().enumerate().filter(|(_, place)| place.lost.is_none());
                    let live: Vec<_> = live.map(|(number, place)| (number, place.repository.clone())).collect();
                    let cancel = cancel.clone();
                    running.spawn(async move { (pack.id, pack.bytes.len() as u64, store_pack(live, &pack, &cancel).await) });
                }
            },
            Some(stored) = running.join_next(), if !running.is_empty() => {
                let (id, size, outcomes) = stored?;
                lock(&shared.counts).bytes_stored += size;
                for (number, outcome) in outcomes {
                    let Some(place) = places.get_mut(number) else { continue };
                    match outcome {
                        Ok(()) => drop(place.packs.insert(id, size)),
                        Err(error) if place.lost.is_none() => place.lose(error)?,
                        Err(_) => {}
                    }
                }
                any_left(&places)?;
            },
            else => return Ok(places),
        }
    }
}

/// What became of one pack, per number of a repository.
type Outcomes = Vec<(usize, Result<()>)>;

async fn store_pack(live: Vec<(usize, Repository)>, pack: &FinishedPack, cancel: &Cancel) -> Outcomes {
    let name = names::pack(pack.id);
    let stores = live.into_iter().map(|(number, repository)| {
        let (name, bytes) = (name.clone(), pack.bytes.clone());
        async move { (number, repository.put(&name, bytes, cancel).await) }
    });
    futures_util::future::join_all(stores).await
}

fn any_left(places: &[Place]) -> Result<()> {
    if places.iter().any(|place| place.lost.is_none()) {
        return Ok(());
    }
    Err(none_left(places.iter().filter_map(|place| {
        Some((place.repository.name(), place.lost.as_ref()?))
    })))
}

fn none_left<'a>(lost: impl Iterator<Item = (&'a str, &'a RepositoryError)>) -> RepositoryError {
    let causes: Vec<_> = lost
        .map(|(name, error)| format!("\"{name}\": {}", chain(error)))
        .collect();
    RepositoryError::NoneLeft {
        causes: causes.join("; "),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// Turns pieces into extents, and stores the lists of the long files.
async fn lay_out(
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

/// Copies to each repository the packs that the manifest will name and it lacks: it was down when they were written.
async fn bring_up(places: &mut [Place], named: &HashSet<PackId>, cancel: &Cancel) -> Result<()> {
    let lost_before = |place: &Place| place.lost.is_some();
    for number in 0..places.len() {
        let Some(place) = places.get(number).filter(|place| !lost_before(place)) else {
            continue;
        };
        let lacking: Vec<PackId> = named
            .iter()
            .filter(|pack| !place.packs.contains_key(pack))
            .copied()
            .collect();
        for pack in lacking {
            let to = places[number].repository.clone();
            let holder = places
                .iter()
                .find(|other| !lost_before(other) && other.packs.contains_key(&pack));
            let copied = match holder {
                Some(holder) => copy_pack(&holder.repository, &to, pack, cancel).await,
                None => Err(RepositoryError::Missing {
                    location: to.location(),
                    object: names::pack(pack).to_string(),
                }),
            };
            match copied {
                Ok(size) => drop(places[number].packs.insert(pack, size)),
                Err(error) => {
                    places[number].lose(error)?;
                    break;
                }
            }
        }
    }
    any_left(places)
}

fn sizes(places: &[Place], named: HashSet<PackId>) -> Result<Vec<(PackId, u32)>> {
    let mut packs = Vec::with_capacity(named.len());
    for pack in named {
        let size = places
            .iter()
            .filter(|place| place.lost.is_none())
            .find_map(|place| place.packs.get(&pack));
        let size = size.and_then(|size| u32::try_from(*size).ok());
        packs.push((
            pack,
            size.ok_or(RepositoryError::TooLarge {
                what: "a pack",
                max: u64::from(u32::MAX),
            })?,
        ));
    }
    packs.sort_unstable();
    Ok(packs)
}
