//! Journals: what was synced is there after any crash, what was not is there whole or not at all.
#![allow(clippy::disallowed_methods, reason = "a test damages files by hand")]

use std::path::PathBuf;
use std::sync::Arc;

use ballast_repository::{JOURNAL_BYTES_MAX, Journal, Repository, RepositoryError};
use ballast_storage::{MemoryStorage, Storage};
use proptest::prelude::*;
use serde_json::json;

use crate::kit::{create, noise};

async fn vault() -> (tempfile::TempDir, PathBuf, Repository) {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repository = create(&[("one", store)]).await.remove(0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0000000000000000.journal");
    (folder, path, repository)
}

/// What is in it, the torn bytes behind.
fn read(repository: &Repository, path: &std::path::Path) -> Result<(Vec<Vec<u8>>, u64), RepositoryError> {
    let mut reader = Journal::open(repository, path)?;
    assert_eq!(reader.about(), &json!({"source": "orders"}));
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    assert_eq!(reader.next_record().unwrap(), None);
    Ok((records, reader.torn_bytes()))
}

fn records() -> Vec<Vec<u8>> {
    vec![
        b"one".to_vec(),
        noise(1, 200),
        Vec::from(b"BLJRBLST"),
        noise(2, 90),
        b"five".to_vec(),
    ]
}

#[tokio::test]
async fn a_journal_cut_at_any_byte_holds_every_whole_record_before_the_cut_and_goes_on() {
    let (_folder, path, repository) = vault().await;
    let mut journal = Journal::create(&repository, &path, &json!({"source": "orders"})).unwrap();
    let mut ends = vec![std::fs::metadata(&path).unwrap().len()];
    for record in records() {
        journal.append(&record).unwrap();
        ends.push(std::fs::metadata(&path).unwrap().len());
    }
    journal.sync().unwrap();
    assert_eq!(journal.len(), records().concat().len() as u64);
    drop(journal);
    let whole = std::fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        if (length as u64) < ends[0] {
            // A head is whole before the file has its name: this is damage.
            assert!(
                matches!(read(&repository, &path), Err(RepositoryError::Damaged { .. })),
                "{length}"
            );
            continue;
        }
        let count = ends.iter().filter(|end| **end <= length as u64).count() - 1;
        let (found, torn) = read(&repository, &path).unwrap();
        assert_eq!(found, records()[..count], "{length}");
        assert_eq!(torn, length as u64 - ends[count], "{length}");
        // Going on cuts the tear off; the next crash finds both.
        let (mut journal, held) = Journal::reopen(&repository, &path).unwrap();
        assert_eq!((held, journal.len()), (found.clone(), found.concat().len() as u64));
        journal.append(b"after the crash").unwrap();
        journal.sync().unwrap();
        let (again, torn) = read(&repository, &path).unwrap();
        assert_eq!(
            (again.last().unwrap().as_slice(), again.len(), torn),
            (&b"after the crash"[..], count + 1, 0)
        );
    }
}

/// The same offset is written twice after a crash: never under the same key.
#[tokio::test]
async fn what_is_written_again_at_the_same_place_shares_no_key_with_what_was_there() {
    let (_folder, path, repository) = vault().await;
    let mut journal = Journal::create(&repository, &path, &json!({"source": "orders"})).unwrap();
    let head = std::fs::metadata(&path).unwrap().len();
    journal.append(&[0; 64]).unwrap();
    drop(journal);
    let first = std::fs::read(&path).unwrap();
    std::fs::write(&path, &first[..usize::try_from(head).unwrap()]).unwrap();
    let (mut journal, held) = Journal::reopen(&repository, &path).unwrap();
    assert!(held.is_empty());
    journal.append(&[0; 64]).unwrap();
    let second = std::fs::read(&path).unwrap();
    let tail = |bytes: &[u8]| bytes[bytes.len() - 40..].to_vec();
    assert_ne!(tail(&first), tail(&second));
    assert!(second.len() > first.len(), "a head stands between");
}

#[tokio::test]
async fn a_flipped_bit_before_a_synced_record_is_an_error_and_never_an_end() {
    let (_folder, path, repository) = vault().await;
    let mut journal = Journal::create(&repository, &path, &json!({"source": "orders"})).unwrap();
    let mut ends = vec![usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap()];
    for record in records() {
        journal.append(&record).unwrap();
        journal.sync().unwrap();
        ends.push(usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap());
    }
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 0x20;
        std::fs::write(&path, &bad).unwrap();
        let outcome = read(&repository, &path);
        // Of the last record nothing later proves that it was synced.
        if at < ends[records().len() - 1] {
            assert!(matches!(outcome, Err(RepositoryError::Damaged { .. })), "byte {at}");
            assert!(Journal::reopen(&repository, &path).is_err(), "byte {at}");
        } else {
            assert_eq!(outcome.unwrap().0, records()[..records().len() - 1], "byte {at}");
        }
    }
}

/// A power cut may keep a later page and lose an earlier one, if neither was synced.
#[tokio::test]
async fn a_hole_among_records_that_were_never_synced_is_a_torn_tail() {
    let (_folder, path, repository) = vault().await;
    let mut journal = Journal::create(&repository, &path, &json!({"source": "orders"})).unwrap();
    journal.append(b"kept").unwrap();
    journal.sync().unwrap();
    let synced = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    for number in 0..4 {
        journal.append(&noise(number, 100)).unwrap();
    }
    drop(journal);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[synced..synced + 60].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let (found, torn) = read(&repository, &path).unwrap();
    assert_eq!((found, torn), (vec![b"kept".to_vec()], (bytes.len() - synced) as u64));
    let (mut journal, _) = Journal::reopen(&repository, &path).unwrap();
    journal.append(b"next").unwrap();
    assert_eq!(
        read(&repository, &path).unwrap().0,
        [b"kept".to_vec(), b"next".to_vec()]
    );
}

#[tokio::test]
async fn a_journal_is_private_sealed_and_never_made_over_another() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, path, repository) = vault().await;
    let about = json!({"source": "orders"});
    let mut journal = Journal::create(&repository, &path, &about).unwrap();
    journal.append(b"a secret of the customers").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no part is left");
    let error = Journal::create(&repository, &path, &about).unwrap_err();
    assert!(matches!(error, RepositoryError::Local(_)), "{error}");
    let bytes = std::fs::read(&path).unwrap();
    for plain in [&b"secret"[..], b"orders"] {
        assert!(!bytes.windows(plain.len()).any(|window| window == plain));
    }
    let (_other, _, stranger) = vault().await;
    assert!(matches!(
        Journal::open(&stranger, &path),
        Err(RepositoryError::Damaged { .. })
    ));
}

#[tokio::test]
async fn a_journal_has_a_limit_and_takes_long_appends() {
    let (_folder, path, repository) = vault().await;
    let mut journal = Journal::create(&repository, &path, &json!({"source": "orders"})).unwrap();
    let long = noise(9, 5 * 1024 * 1024 + 3);
    journal.append(&long).unwrap();
    assert_eq!(read(&repository, &path).unwrap().0.concat(), long);
    let mut journal = Journal::create(&repository, &path.with_extension("small"), &json!({})).unwrap();
    let error = loop {
        if let Err(error) = journal.append(&[b'x'; 4096]) {
            break error;
        }
        assert!(journal.len() <= JOURNAL_BYTES_MAX);
    };
    assert!(matches!(error, RepositoryError::TooLarge { .. }), "{error}");
    let (again, held) = Journal::reopen(&repository, &path.with_extension("small")).unwrap();
    assert_eq!(
        (again.len(), held.concat().len() as u64),
        (JOURNAL_BYTES_MAX, JOURNAL_BYTES_MAX)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Appends, syncs, crashes that leave any part of what was not synced: all that was synced is read, in order, and nothing that was
    /// not written.
    #[test]
    fn what_was_synced_survives_any_crash(
        steps in prop::collection::vec((0u8..4, 0usize..300, any::<u16>()), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_folder, path, repository) = runtime.block_on(vault());
        let mut journal = Journal::create(&repository, &path, &json!({"source": "orders"})).unwrap();
        let (mut written, mut synced, mut synced_bytes) = (Vec::new(), 0, std::fs::metadata(&path).unwrap().len());
        for (number, (step, size, chance)) in steps.into_iter().enumerate() {
            match step {
                0 | 1 => {
                    let bytes = noise(number as u64, size + 1);
                    journal.append(&bytes).unwrap();
                    written.extend(bytes);
                }
                2 => {
                    journal.sync().unwrap();
                    (synced, synced_bytes) = (written.len(), std::fs::metadata(&path).unwrap().len());
                }
                _ => {
                    let mut bytes = std::fs::read(&path).unwrap();
                    let loose = bytes.len() - usize::try_from(synced_bytes).unwrap();
                    let at = usize::try_from(synced_bytes).unwrap() + usize::from(chance) % (loose + 1);
                    if chance % 2 == 0 {
                        bytes.truncate(at);
                    } else {
                        let end = bytes.len().min(at + 50);
                        bytes[at..end].fill(0);
                    }
                    std::fs::write(&path, &bytes).unwrap();
                    let (again, held) = Journal::reopen(&repository, &path).unwrap();
                    let held = held.concat();
                    prop_assert!(held.len() >= synced && written.starts_with(&held));
                    journal = again;
                    written = held;
                    (synced, synced_bytes) = (written.len(), std::fs::metadata(&path).unwrap().len());
                }
            }
        }
        let mut reader = Journal::open(&repository, &path).unwrap();
        let mut held = Vec::new();
        while let Some(record) = reader.next_record().unwrap() {
            held.extend(record);
        }
        prop_assert_eq!(held, written);
    }
}
