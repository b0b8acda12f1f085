//! Writes one backup to several repositories at once, in the one order that keeps the promise: packs, then the manifest.
//!
//! Pieces go through a bounded queue to workers, which hash, look up, compress and seal into a pack of their own; finished
//! packs go through a bounded queue to the repositories, each pack made once and written to all. A piece is hashed first, so that what
//! is stored already is never compressed. A repository that fails is left out from then on; the others go on.

mod layout;
mod places;
mod workers;

use std::sync::{Arc, Mutex, PoisonError};

use ballast_base::{Cancel, TaskError, TaskSet, run_blocking};
use bytes::Bytes;
use tokio::sync::mpsc;

use self::layout::lay_out;
use self::places::{Place, bring_up, none_left, sizes, store_packs};
use self::workers::pack_chunks;
use crate::chunk::CHUNK_BYTES_MAX;
use crate::error::{RepositoryError, Result};
use crate::extent::{Cover, ExtentMap};
use crate::index::{ChunkTable, load};
use crate::manifest::Manifest;
use crate::names::{self, BackupId};
use crate::repository::Repository;

/// Pieces handed to a worker at once: waking one for each would cost more than hashing it.
const BATCH_PIECES: usize = 16;
/// A batch is handed on at this size too: pieces of rows may be large.
const BATCH_BYTES: usize = 1024 * 1024;
/// Batches that wait for a worker.
const BATCHES_QUEUED_MAX: usize = 8;
/// Finished packs that wait for the repositories, beside those on their way.
const PACKS_QUEUED_MAX: usize = 2;
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

/// Pieces with their numbers.
type Batch = Vec<(u32, Bytes)>;

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
    input: mpsc::Sender<Batch>,
    /// Pieces that wait for company.
    batch: Batch,
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
        let (input, pieces) = mpsc::channel(BATCHES_QUEUED_MAX);
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
            batch: Batch::new(),
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
        self.cancel.check()?;
        let number = self.pieces;
        self.pieces = number.checked_add(1).ok_or(RepositoryError::TooLarge {
            what: "a backup's count of pieces",
            max: u64::from(u32::MAX),
        })?;
        self.batch.push((number, raw));
        let bytes: usize = self.batch.iter().map(|(_, raw)| raw.len()).sum();
        if self.batch.len() >= BATCH_PIECES || bytes >= BATCH_BYTES {
            self.hand_on().await?;
        }
        Ok(ChunkNumber(number))
    }

    async fn hand_on(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        if self.cancel.race(self.input.send(batch)).await?.is_err() {
            return Err(self.why_it_ended().await);
        }
        Ok(())
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
        self.hand_on().await?;
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is guarded is whole between any two statements; a worker's panic is told by its task.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
