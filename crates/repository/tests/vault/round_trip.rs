use std::sync::Arc;

use ballast_base::{Cancel, Secret};
use ballast_repository::{BackupReader, BackupWriter, FileContent, Lock, Repository, RepositoryError, create_all};
use ballast_storage::{MemoryStorage, Storage};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use proptest::prelude::*;

use crate::kit::{self, Files, PIECE, check, create, id, restore, sample};

#[tokio::test]
async fn what_was_written_is_read_back_and_checks_clean() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repository = create(&[("one", store)]).await.remove(0);
    let files = sample(1);
    let done = kit::back_up(std::slice::from_ref(&repository), 1, &files)
        .await
        .unwrap();
    assert_eq!((done.repositories, done.lost.len()), (vec!["one".to_owned()], 0));
    assert_eq!(restore(&repository, 1).await.unwrap(), files);
    let report = check(&repository).await;
    assert_eq!((report.findings, report.backups), (vec![], vec![id(1)]));
    let facts = repository.facts(&id(1), &Cancel::new()).await.unwrap();
    assert_eq!(facts.facts["number"], 1);
}

/// Files whose chunks lie in turns in the packs, and one that is long enough for several lists of extents.
#[tokio::test]
async fn a_file_is_streamed_from_any_of_its_bytes_on() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repository = create(&[("one", store)]).await.remove(0);
    let files = [kit::noise(5, 90 * PIECE + 33), kit::noise(6, 40 * PIECE), b"x".to_vec()];
    let mut writer = BackupWriter::begin(vec![repository.clone()], 2, &Cancel::new())
        .await
        .unwrap();
    let mut contents = files.each_ref().map(|_| FileContent::default());
    for number in 0..91 {
        for (bytes, content) in files.iter().zip(&mut contents) {
            if let Some(piece) = bytes.chunks(PIECE).nth(number) {
                let stored = writer.store(Bytes::copy_from_slice(piece)).await.unwrap();
                content.put((number * PIECE) as u64, u32::try_from(piece.len()).unwrap(), stored, 0);
            }
        }
    }
    let written = contents.into_iter().zip(&files).zip(["a", "b", "c"]);
    let written = written.map(|((content, bytes), name)| (name.into(), bytes.len() as u64, content));
    let facts = |_: &_| serde_json::json!({});
    writer
        .finish(id(1), written.collect(), serde_json::json!({}), facts)
        .await
        .unwrap();
    let manifest = repository.manifest(&id(1), &Cancel::new()).await.unwrap();
    let reader = BackupReader::new(&repository, &manifest);
    for (file, bytes) in files.iter().enumerate() {
        let ends = [
            0,
            1,
            PIECE - 1,
            PIECE,
            3 * PIECE + 7,
            64 * PIECE,
            bytes.len() - 1,
            bytes.len(),
            usize::MAX,
        ];
        for start in ends {
            let stream = reader.stream(file, start as u64, &Cancel::new());
            let pieces: Vec<Bytes> = stream.try_collect().await.unwrap();
            let tail = bytes.get(start..).unwrap_or_default();
            assert!(pieces.concat() == tail, "file {file} from {start}");
        }
    }
}

#[tokio::test]
async fn a_second_backup_of_the_same_files_stores_no_chunk_and_a_small_change_little() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repositories = create(&[("one", store)]).await;
    let mut files = sample(2);
    let first = kit::back_up(&repositories, 1, &files).await.unwrap();
    let second = kit::back_up(&repositories, 2, &files).await.unwrap();
    assert_eq!((second.written.bytes_new, second.written.bytes_stored), (0, 0));
    files.get_mut("long").unwrap()[20 * PIECE] ^= 1;
    let third = kit::back_up(&repositories, 3, &files).await.unwrap();
    assert_eq!(third.written.bytes_new, PIECE as u64);
    // The changed piece, and the list of that one file.
    assert!(
        third.written.bytes_stored < first.written.bytes_stored / 30,
        "{third:?}"
    );
    assert_eq!(restore(&repositories[0], 3).await.unwrap(), files);
    assert_ne!(restore(&repositories[0], 1).await.unwrap(), files);
}

#[tokio::test]
async fn a_passphrase_opens_and_another_one_is_a_wrong_key() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let passphrase = |text: &str| Lock::Passphrase(Secret::new(text.to_owned()));
    let cancel = Cancel::new();
    let missing = Repository::open("one", Arc::clone(&store), &passphrase("tide"), &cancel)
        .await
        .unwrap_err();
    assert!(matches!(missing, RepositoryError::NoRepository { .. }), "{missing}");
    create_all(
        vec![("one".to_owned(), Arc::clone(&store))],
        &passphrase("tide"),
        &cancel,
    )
    .await
    .unwrap();
    Repository::open("one", Arc::clone(&store), &passphrase("tide"), &cancel)
        .await
        .unwrap();
    for wrong in [passphrase("ebb"), Lock::KeyFile(Secret::new("tide".to_owned()))] {
        let error = Repository::open("one", Arc::clone(&store), &wrong, &cancel)
            .await
            .unwrap_err();
        assert!(matches!(error, RepositoryError::WrongKey { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_place_that_holds_something_else_is_refused_before_anything_is_written() {
    let (foreign, empty): (Arc<dyn Storage>, Arc<dyn Storage>) =
        (Arc::new(MemoryStorage::new()), Arc::new(MemoryStorage::new()));
    foreign
        .put_new(
            &ballast_storage::ObjectName::new("holiday.jpg").unwrap(),
            Bytes::from_static(b"x"),
        )
        .await
        .unwrap();
    let places = vec![
        ("empty".to_owned(), Arc::clone(&empty)),
        ("foreign".to_owned(), foreign),
    ];
    let error = create_all(places, &kit::lock(), &Cancel::new()).await.unwrap_err();
    assert!(error.to_string().contains("holiday.jpg"), "{error}");
    assert_eq!(kit::objects(&*empty).await, Vec::<String>::new());
    let other: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    create(&[("a", Arc::clone(&empty))]).await;
    create(&[("b", Arc::clone(&other))]).await;
    let both = vec![("a".to_owned(), empty), ("b".to_owned(), other)];
    let error = create_all(both, &kit::lock(), &Cancel::new()).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Different { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Pieces over pieces, as pages that change during the copy: the last one counts, byte by byte.
    #[test]
    fn later_pieces_cover_earlier_ones(puts in prop::collection::vec((0usize..300_000, 1usize..90_000, 0u64..6), 1..30), size in 1usize..400_000) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
            let repositories = create(&[("one", store)]).await;
            let mut writer = BackupWriter::begin(repositories.clone(), 2, &Cancel::new()).await.unwrap();
            let (mut content, mut model) = (FileContent::default(), vec![0; 400_000]);
            for (offset, length, seed) in puts {
                let bytes = if seed == 0 { vec![0; length] } else { kit::noise(seed, length) };
                let skip = length / 3;
                let number = writer.store(Bytes::copy_from_slice(&bytes)).await.unwrap();
                content.put(offset as u64, u32::try_from(length - skip).unwrap(), number, u32::try_from(skip).unwrap());
                model[offset..offset + length - skip].copy_from_slice(&bytes[skip..]);
            }
            model.truncate(size);
            let files = vec![(b"f".to_vec(), size as u64, content)];
            writer.finish(id(1), files, serde_json::Value::Null, |_| serde_json::Value::Null).await.unwrap();
            assert_eq!(restore(&repositories[0], 1).await.unwrap(), Files::from([("f".to_owned(), model)]));
            // Read as a stream it is the same.
            let manifest = repositories[0].manifest(&id(1), &Cancel::new()).await.unwrap();
            let whole = restore(&repositories[0], 1).await.unwrap().remove("f").unwrap();
            for start in [0, size / 3, size] {
                let stream = BackupReader::new(&repositories[0], &manifest).stream(0, start as u64, &Cancel::new());
                let parts: Vec<Bytes> = stream.try_collect().await.unwrap();
                assert!(parts.concat() == whole[start..], "from {start}");
            }
            assert!(!check(&repositories[0]).await.is_damaged());
        });
    }
}
