//! From a manifest to bytes. Every chunk is authenticated, and must have the content its id names, before a byte of it is
//! given on; the first wrong one ends the reading with the name of its pack.
//!
//! Extents are read in windows and grouped by pack, so that a pack is fetched in few large ranges however scattered
//! its chunks are over the files. Memory: a window of extents, and a few ranges.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use ballast_base::{Cancel, TaskSet, run_blocking};
use ballast_storage::StorageError;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;

use crate::chunk::{ChunkId, ChunkUnpacker, Location};
use crate::error::{RepositoryError, Result};
use crate::extent::Extent;
use crate::manifest::{FileEntry, Layout, ListPlace, Manifest, decode_list};
use crate::names::{self, PackId};
use crate::pack::PackKey;
use crate::repository::Repository;

/// Extents planned at once (3 MiB of memory, 2 GiB of data in chunks of 64 KiB).
const WINDOW_EXTENTS: usize = 32 * 1024;
/// Chunks of a pack are fetched together across gaps of up to this, and up to this much at once.
const GAP_BYTES_MAX: u32 = 64 * 1024;
const RANGE_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Lists of extents read at once.
const LISTS_AT_ONCE: usize = 8;
/// Of a stream: several are read at once, and what is opened may be many times as large.
const STREAM_RANGE_BYTES_MAX: u32 = 512 * 1024;
/// Ranges of a stream read ahead: many where the chunks of several files lie in turns in a pack, so that each is a range of its
/// own, and no more than are opened to so many bytes.
const RANGES_AHEAD: usize = 24;
const AHEAD_KIB_MAX: u32 = 6 * 1024;
/// Ranges in memory at once.
const RANGES_AT_ONCE: usize = 6;

/// Takes `bytes` for file number `.0` at offset `.1`. Called from several threads at once; stretches never overlap, and what is
/// never given is zero.
pub type WriteAt = dyn Fn(usize, u64, &[u8]) -> std::io::Result<()> + Send + Sync;

/// Reads the files of one backup.
#[derive(Debug)]
pub struct BackupReader<'a> {
    repository: &'a Repository,
    manifest: &'a Manifest,
}

struct Job {
    file: usize,
    extent: Extent,
    id: ChunkId,
    location: Location,
    skip: u32,
}

/// Neighbouring chunks of one pack, fetched at once.
struct Range {
    pack: PackId,
    start: u32,
    end: u32,
    jobs: Vec<Job>,
}

impl Range {
    /// How much it gives.
    fn opened_kib(&self) -> u32 {
        let bytes: u64 = self.jobs.iter().map(|job| u64::from(job.extent.length)).sum();
        u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
    }
}

impl<'a> BackupReader<'a> {
    pub fn new(repository: &'a Repository, manifest: &'a Manifest) -> Self {
        Self { repository, manifest }
    }

    /// Gives every stretch of the files numbered `files` to `write`. `progress` is told of bytes done, also of zeroes passed over.
    pub async fn read(
        &self,
        files: &[usize],
        write: Arc<WriteAt>,
        progress: Arc<dyn Fn(u64) + Send + Sync>,
        cancel: &Cancel,
    ) -> Result<()> {
        let mut window = Vec::new();
        for &number in files {
            let Some(file) = self.manifest.files.get(number) else {
                continue;
            };
            let lists = match &file.layout {
                Layout::Inline(extents) => {
                    window.extend(extents.iter().map(|extent| (number, *extent)));
                    &[][..]
                }
                Layout::Lists(lists) => lists,
            };
            for list in lists {
                let extents = read_list(self.repository, list, cancel).await?;
                window.extend(extents.into_iter().map(|extent| (number, extent)));
                if window.len() >= WINDOW_EXTENTS {
                    self.read_window(std::mem::take(&mut window), &write, &progress, cancel)
                        .await?;
                }
            }
            if window.len() >= WINDOW_EXTENTS {
                self.read_window(std::mem::take(&mut window), &write, &progress, cancel)
                    .await?;
            }
        }
        self.read_window(window, &write, &progress, cancel).await
    }

    /// The bytes of one file from `start` to its last, in pieces of any size, a few ranges read ahead. Zeroes, which are
    /// not stored, are given like the rest.
    pub fn stream(
        &self,
        file: usize,
        start: u64,
        cancel: &Cancel,
    ) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        let size = self.manifest.files.get(file).map_or(0, |file| file.size);
        let lists = match self.manifest.files.get(file).map(|file| &file.layout) {
            None => Vec::new(),
            Some(Layout::Inline(extents)) => vec![Listed::Here(extents.clone())],
            Some(Layout::Lists(lists)) => lists.iter().cloned().map(Listed::Stored).collect(),
        };
        let (repository, cancel) = (self.repository.clone(), cancel.clone());
        let (lister, stopper) = (repository.clone(), cancel.clone());
        let ranges = futures_util::stream::iter(lists)
            .then(move |list| {
                let (repository, cancel) = (lister.clone(), stopper.clone());
                async move {
                    let extents = match list {
                        Listed::Here(extents) => extents,
                        Listed::Stored(list) => read_list(&repository, &list, &cancel).await?,
                    };
                    Ok::<_, RepositoryError>(Some(extents))
                }
            })
            .chain(futures_util::stream::iter([Ok(None)]))
            .scan(start, move |end, extents| {
                let parts = extents.map(|extents| match extents {
                    Some(extents) => in_order(file, behind(extents, start), end),
                    None => zeroes(size.saturating_sub(*end)).collect(),
                });
                let parts =
                    parts.map(|parts| futures_util::stream::iter(parts.into_iter().map(Ok::<_, RepositoryError>)));
                futures_util::future::ready(Some(parts))
            })
            .try_flatten();
        let room = Arc::new(Semaphore::new(AHEAD_KIB_MAX as usize));
        ranges
            // In order, one after the other: what comes later never waits for room that is held by what comes earlier.
            .and_then(move |part: Part| {
                let (room, kib) = (Arc::clone(&room), part.opened_kib().min(AHEAD_KIB_MAX));
                async move { Ok((part, room.acquire_many_owned(kib).await.ok())) }
            })
            .map_ok(move |(part, held)| {
                let (repository, cancel) = (repository.clone(), cancel.clone());
                async move {
                    let bytes = match part {
                        Part::Stored(range) => read_whole(&repository, range, &cancel).await?,
                        Part::Zeroes(length) => Bytes::from(vec![0; length as usize]),
                    };
                    Ok((bytes, held))
                }
            })
            .try_buffered(RANGES_AHEAD)
            .map_ok(|(bytes, _held)| bytes)
    }

    async fn read_window(
        &self,
        window: Vec<(usize, Extent)>,
        write: &Arc<WriteAt>,
        progress: &Arc<dyn Fn(u64) + Send + Sync>,
        cancel: &Cancel,
    ) -> Result<()> {
        let mut running = TaskSet::new("read range");
        let mut ranges = plan(window, &**progress).into_iter();
        loop {
            while running.len() < RANGES_AT_ONCE
                && let Some(range) = ranges.next()
            {
                let (repository, write, progress) = (self.repository.clone(), Arc::clone(write), Arc::clone(progress));
                let cancel = cancel.clone();
                running.spawn(async move { read_range(&repository, range, write, progress, &cancel).await });
            }
            match running.join_next().await {
                None => return Ok(()),
                Some(read) => read??,
            }
        }
    }
}

/// Where the extents of a part of a file are.
enum Listed {
    Here(Vec<Extent>),
    Stored(ListPlace),
}

/// What of the extents lies at `start` and behind.
fn behind(extents: Vec<Extent>, start: u64) -> Vec<Extent> {
    let cut = extents.into_iter().filter_map(|mut extent| {
        let passed = u32::try_from(start.saturating_sub(extent.offset)).unwrap_or(u32::MAX);
        extent.length = extent.length.checked_sub(passed).filter(|length| *length > 0)?;
        extent.offset += u64::from(passed);
        if let Some(piece) = &mut extent.chunk {
            piece.skip = piece.skip.saturating_add(passed);
        }
        Some(extent)
    });
    cut.collect()
}

/// What stands next in a file.
enum Part {
    Stored(Range),
    /// So many of them.
    Zeroes(u32),
}

impl Part {
    fn opened_kib(&self) -> u32 {
        match self {
            Self::Stored(range) => range.opened_kib(),
            Self::Zeroes(length) => length.div_ceil(1024),
        }
    }
}

/// Zeroes, not more at once than is read at once.
fn zeroes(count: u64) -> impl Iterator<Item = Part> {
    let most = u64::from(STREAM_RANGE_BYTES_MAX);
    (0..count.div_ceil(most)).map(move |part| {
        let left = (count - part * most).min(most);
        Part::Zeroes(u32::try_from(left).unwrap_or(STREAM_RANGE_BYTES_MAX))
    })
}

/// Cuts extents into ranges without changing their order: as long as they follow each other in one pack. `end` is where the last one
/// ended; what lies between is zeroes.
fn in_order(file: usize, extents: Vec<Extent>, end: &mut u64) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for extent in extents {
        parts.extend(zeroes(extent.offset.saturating_sub(*end)));
        *end = extent.offset + u64::from(extent.length);
        let Some(piece) = extent.chunk else {
            parts.extend(zeroes(u64::from(extent.length)));
            continue;
        };
        let (from, to) = (
            piece.location.offset,
            piece.location.offset.saturating_add(piece.location.stored),
        );
        let job = Job {
            file,
            extent,
            id: piece.id,
            location: piece.location,
            skip: piece.skip,
        };
        match parts.last_mut() {
            Some(Part::Stored(range))
                if range.pack == piece.location.pack
                    && from >= range.end
                    && from - range.end <= GAP_BYTES_MAX
                    && to - range.start <= STREAM_RANGE_BYTES_MAX =>
            {
                range.end = to;
                range.jobs.push(job);
            }
            _ => parts.push(Part::Stored(Range {
                pack: piece.location.pack,
                start: from,
                end: to,
                jobs: vec![job],
            })),
        }
    }
    parts
}

async fn read_whole(repository: &Repository, range: Range, cancel: &Cancel) -> Result<Bytes> {
    let gathered = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&gathered);
    open_range(repository, range, cancel, move |_, part| {
        sink.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(part);
        Ok(())
    })
    .await?;
    let bytes = std::mem::take(&mut *gathered.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(bytes.into())
}

/// Cuts a window into ranges, pack by pack.
fn plan(window: Vec<(usize, Extent)>, progress: &(dyn Fn(u64) + Send + Sync)) -> Vec<Range> {
    let mut packs: BTreeMap<PackId, Vec<Job>> = BTreeMap::new();
    for (file, extent) in window {
        match extent.chunk {
            None => progress(u64::from(extent.length)),
            Some(piece) => packs.entry(piece.location.pack).or_default().push(Job {
                file,
                extent,
                id: piece.id,
                location: piece.location,
                skip: piece.skip,
            }),
        }
    }
    let mut ranges: Vec<Range> = Vec::new();
    for (pack, mut jobs) in packs {
        jobs.sort_by_key(|job| job.location.offset);
        let mut open: Option<Range> = None;
        for job in jobs {
            let (from, to) = (
                job.location.offset,
                job.location.offset.saturating_add(job.location.stored),
            );
            match &mut open {
                Some(range)
                    if from <= range.end.saturating_add(GAP_BYTES_MAX)
                        && to.saturating_sub(range.start) <= RANGE_BYTES_MAX =>
                {
                    range.end = range.end.max(to);
                    range.jobs.push(job);
                }
                _ => ranges.extend(open.replace(Range {
                    pack,
                    start: from,
                    end: to,
                    jobs: vec![job],
                })),
            }
        }
        ranges.extend(open);
    }
    ranges
}

async fn read_range(
    repository: &Repository,
    range: Range,
    write: Arc<WriteAt>,
    progress: Arc<dyn Fn(u64) + Send + Sync>,
    cancel: &Cancel,
) -> Result<()> {
    open_range(repository, range, cancel, move |place, part| {
        write(place.file, place.extent.offset, part).map_err(RepositoryError::Sink)?;
        progress(part.len() as u64);
        Ok(())
    })
    .await
}

/// Fetches a range and gives the stretch of each of its jobs, in their order.
async fn open_range(
    repository: &Repository,
    range: Range,
    cancel: &Cancel,
    mut give: impl FnMut(&Job, &[u8]) -> Result<()> + Send + 'static,
) -> Result<()> {
    let bytes = repository
        .get_pack_range(range.pack, u64::from(range.start)..u64::from(range.end), cancel)
        .await?;
    let repository = repository.clone();
    run_blocking("open chunks", move || {
        let key = PackKey::new(repository.keys(), range.pack);
        let mut unpacker = ChunkUnpacker::new();
        let mut buffer = Vec::new();
        let mut jobs = range.jobs.iter().peekable();
        while let Some(job) = jobs.next() {
            let damaged = |cause: &dyn std::fmt::Display| {
                let cause = format!("chunk at offset {}: {cause}", job.location.offset);
                repository.damaged(names::pack(range.pack), cause)
            };
            let from = (job.location.offset - range.start) as usize;
            let sealed = bytes
                .get(from..from + job.location.stored as usize)
                .ok_or_else(|| damaged(&"it is cut off"))?;
            buffer.clear();
            buffer.extend_from_slice(sealed);
            let plain = key
                .open(job.id, job.location.offset, &mut buffer)
                .map_err(|cause| damaged(&cause))?;
            let raw = unpacker.raw(plain).map_err(|cause| damaged(&cause))?;
            if ChunkId::of(repository.keys().chunk_id_key(), raw) != job.id {
                return Err(damaged(&"it holds other content than its id names"));
            }
            // A chunk that stands in several places is opened once.
            let mut place = job;
            loop {
                let from = place.skip as usize;
                let part = raw.get(from..from + place.extent.length as usize);
                let part = part.ok_or_else(|| damaged(&"it is shorter than its extent"))?;
                give(place, part)?;
                match jobs.next_if(|next| next.location == job.location && next.id == job.id) {
                    Some(next) => place = next,
                    None => break,
                }
            }
        }
        Ok(())
    })
    .await?
}

/// The raw bytes of one chunk that is read alone.
async fn read_chunk(repository: &Repository, id: ChunkId, location: Location, cancel: &Cancel) -> Result<Vec<u8>> {
    let damaged = |cause: &dyn std::fmt::Display| {
        repository.damaged(
            names::pack(location.pack),
            format!("chunk at offset {}: {cause}", location.offset),
        )
    };
    let range = u64::from(location.offset)..u64::from(location.offset) + u64::from(location.stored);
    let mut sealed = repository.get_pack_range(location.pack, range, cancel).await?.to_vec();
    let key = PackKey::new(repository.keys(), location.pack);
    let plain = key
        .open(id, location.offset, &mut sealed)
        .map_err(|cause| damaged(&cause))?;
    let mut unpacker = ChunkUnpacker::new();
    let raw = unpacker.raw(plain).map_err(|cause| damaged(&cause))?;
    if ChunkId::of(repository.keys().chunk_id_key(), raw) != id {
        return Err(damaged(&"it holds other content than its id names"));
    }
    Ok(raw.to_vec())
}

pub(crate) async fn read_list(repository: &Repository, list: &ListPlace, cancel: &Cancel) -> Result<Vec<Extent>> {
    let raw = read_chunk(repository, list.id, list.location, cancel).await?;
    decode_list(&raw).map_err(|cause| repository.damaged(names::pack(list.location.pack), cause))
}

/// The lists that were read already: the same list stands in many manifests.
#[derive(Default)]
pub(crate) struct Layouts(HashSet<ChunkId>);

/// Gives the extents of `files` to `each`, with the list they came from; a list seen before, or damaged, is passed over.
pub(crate) async fn read_layouts(
    repository: &Repository,
    files: &[FileEntry],
    seen: &mut Layouts,
    cancel: &Cancel,
    each: &mut (dyn FnMut(Option<&ListPlace>, &[Extent]) + Send),
) -> Result<()> {
    let mut unseen = Vec::new();
    for file in files {
        match &file.layout {
            Layout::Inline(extents) => each(None, extents),
            Layout::Lists(lists) => unseen.extend(lists.iter().filter(|list| seen.0.insert(list.id))),
        }
    }
    let lists = unseen
        .into_iter()
        .map(|list| async move { (list, read_list(repository, list, cancel).await) });
    let mut lists = futures_util::stream::iter(lists).buffered(LISTS_AT_ONCE);
    while let Some((list, extents)) = lists.next().await {
        match extents {
            Ok(extents) => each(Some(list), &extents),
            Err(
                error @ (RepositoryError::Damaged { .. }
                | RepositoryError::Missing { .. }
                | RepositoryError::Storage(StorageError::Corrupt { .. })),
            ) => tracing::warn!(%error, "a list of extents is passed over"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
