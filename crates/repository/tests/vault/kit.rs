//! A small vault to test with, and a model of the files it should give back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ballast_base::{Cancel, Secret};
use ballast_repository::{
    BackupId, BackupReader, BackupWriter, CheckReport, CheckScope, FileContent, Link, Lock, Manifest, Presence,
    Repository, RepositoryError, SealedSegment, SegmentPlace, StreamId, StreamReader, WrittenBackup, create_all,
};
use ballast_storage::{Call, Fault, FaultyStorage, Storage};
use bytes::Bytes;

pub(crate) const PIECE: usize = 64 * 1024;

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn lock() -> Lock {
    // A key file opens at once; that passphrases work has its own test.
    Lock::KeyFile(Secret::new("5a".repeat(32)))
}

pub(crate) async fn create(stores: &[(&str, Arc<dyn Storage>)]) -> Vec<Repository> {
    let places = stores
        .iter()
        .map(|(name, store)| ((*name).to_owned(), Arc::clone(store)))
        .collect();
    let created = create_all(places, &lock(), &Cancel::new()).await.unwrap();
    assert!(created.iter().all(|(_, presence)| *presence == Presence::Created));
    created.into_iter().map(|(repository, _)| repository).collect()
}

/// Numbers that look random and are the same in each run.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// Files of several kinds: empty, tiny, zeroes, repeated, large enough for lists of extents.
pub(crate) fn sample(seed: u64) -> Files {
    let mut mixed = noise(seed, 100 * 1024);
    mixed.extend(vec![0; 3 * PIECE]);
    mixed.extend(noise(seed, 40 * 1024));
    Files::from([
        ("empty".to_owned(), Vec::new()),
        ("tiny".to_owned(), b"x".to_vec()),
        ("zeroes".to_owned(), vec![0; 5 * PIECE + 7]),
        ("text".to_owned(), b"the same again ".repeat(30_000)),
        ("mixed".to_owned(), mixed),
        ("long".to_owned(), noise(seed ^ 99, 70 * PIECE)),
    ])
}

pub(crate) fn id(number: u32) -> BackupId {
    BackupId::parse(&format!("20261123T053300Z-{number:08x}")).unwrap()
}

pub(crate) async fn write_pieces(
    writer: &mut BackupWriter,
    files: &Files,
) -> Result<Vec<(Vec<u8>, u64, FileContent)>, RepositoryError> {
    let mut written = Vec::new();
    for (name, bytes) in files {
        let mut content = FileContent::default();
        for (number, piece) in bytes.chunks(PIECE).enumerate() {
            let stored = writer.store(Bytes::copy_from_slice(piece)).await?;
            content.put((number * PIECE) as u64, u32::try_from(piece.len()).unwrap(), stored, 0);
        }
        written.push((name.clone().into_bytes(), bytes.len() as u64, content));
    }
    Ok(written)
}

pub(crate) async fn back_up(
    repositories: &[Repository],
    number: u32,
    files: &Files,
) -> Result<WrittenBackup, RepositoryError> {
    let mut writer = BackupWriter::begin(repositories.to_vec(), 2, &Cancel::new()).await?;
    let written = write_pieces(&mut writer, files).await?;
    writer
        .finish(
            id(number),
            written,
            serde_json::json!({"kept": true}),
            |_| serde_json::json!({"number": number}),
        )
        .await
}

pub(crate) async fn restore(repository: &Repository, number: u32) -> Result<Files, RepositoryError> {
    let manifest = repository.manifest(&id(number), &Cancel::new()).await?;
    read_all(repository, &manifest).await
}

async fn read_all(repository: &Repository, manifest: &Manifest) -> Result<Files, RepositoryError> {
    let sizes = manifest
        .files
        .iter()
        .map(|file| vec![0; usize::try_from(file.size).unwrap()])
        .collect::<Vec<_>>();
    let files = Arc::new(Mutex::new(sizes));
    let (sink, numbers) = (Arc::clone(&files), (0..manifest.files.len()).collect::<Vec<_>>());
    let write = move |file: usize, offset: u64, bytes: &[u8]| {
        let at = usize::try_from(offset).unwrap();
        sink.lock().unwrap()[file][at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    };
    BackupReader::new(repository, manifest)
        .read(&numbers, Arc::new(write), Arc::new(|_| {}), &Cancel::new())
        .await?;
    let contents = std::mem::take(&mut *files.lock().unwrap());
    Ok(manifest
        .files
        .iter()
        .map(|file| String::from_utf8(file.name.clone()).unwrap())
        .zip(contents)
        .collect())
}

pub(crate) async fn check(repository: &Repository) -> CheckReport {
    repository
        .check(CheckScope::Everything, Arc::new(|_, _| {}), &Cancel::new())
        .await
        .unwrap()
}

/// A stream of the bytes of `pieces`, one segment each, stored in all `repositories`; and what was sealed.
pub(crate) async fn write_stream(repositories: &[Repository], pieces: &[Vec<u8>]) -> (StreamId, Vec<SealedSegment>) {
    let (id, cancel) = (StreamId::new_random(), Cancel::new());
    let (mut start, mut link, mut sealed) = (0, Link::FIRST, Vec::new());
    for (number, piece) in pieces.iter().enumerate() {
        let end = start + piece.len() as u64;
        let at = 1_000_000 + 10 * number as u64;
        let place = SegmentPlace {
            start,
            end,
            first_at: at,
            last_at: at + 5,
        };
        let segment = repositories[0].seal_segment(id, place, serde_json::json!({"number": number}), link, piece);
        (start, link) = (end, segment.link);
        sealed.push(segment);
    }
    for repository in repositories {
        repository
            .create_stream(id, &serde_json::json!({"source": "orders"}), &cancel)
            .await
            .unwrap();
        for segment in &sealed {
            repository.put_segment(id, segment, &cancel).await.unwrap();
        }
    }
    (id, sealed)
}

/// The bytes of a stream from an offset on.
pub(crate) async fn read_stream(repository: &Repository, id: StreamId, from: u64) -> Result<Vec<u8>, RepositoryError> {
    let cancel = Cancel::new();
    let listing = repository.stream(id, &cancel).await?;
    let mut reader = StreamReader::new(repository.clone(), listing, from, cancel);
    let (mut bytes, mut at) = (Vec::new(), from);
    while let Some((offset, piece)) = reader.next().await? {
        assert_eq!(offset, at, "no byte is left out and none comes twice");
        at += piece.len() as u64;
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// After `good` more objects, the next one cannot be written.
pub(crate) fn fail_put_after(store: &FaultyStorage, good: u64) {
    store.fail_nth(Call::Put, store.calls(Call::Put) + good + 1, Fault::Fail);
}

/// Every object of a store.
pub(crate) async fn objects(store: &dyn Storage) -> Vec<String> {
    store
        .list("", None, 100_000)
        .await
        .unwrap()
        .into_iter()
        .map(|object| object.name.to_string())
        .collect()
}
