use ballast_base::Retryable as _;

use super::*;
use crate::{MemoryStorage, conformance};

fn faulty() -> FaultyStorage {
    FaultyStorage::new(Arc::new(MemoryStorage::new()))
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

#[tokio::test]
async fn without_faults_it_keeps_the_contract() {
    conformance::run(Arc::new(faulty()), Capabilities { atomic_create: true }).await;
}

#[tokio::test]
async fn a_lost_answer_is_mended_by_calling_again() {
    let storage = faulty();
    storage.fail_nth(Call::Put, 1, Fault::LoseAnswer);
    let error = storage
        .put_new(&name("a"), Bytes::from_static(b"tide"))
        .await
        .unwrap_err();
    assert!(error.may_retry(), "{error:?}");
    storage.put_new(&name("a"), Bytes::from_static(b"tide")).await.unwrap();
    assert_eq!(storage.calls(Call::Put), 2);
}

#[tokio::test]
async fn it_dies_comes_back_and_still_has_everything() {
    let storage = faulty();
    storage.put_new(&name("a"), Bytes::from_static(b"tide")).await.unwrap();
    storage.set_down(true);
    for error in [
        storage.get(&name("a")).await.map(drop).unwrap_err(),
        storage.list("", None, 1).await.map(drop).unwrap_err(),
        storage.delete(&name("a")).await.unwrap_err(),
        storage.put_new(&name("b"), Bytes::new()).await.unwrap_err(),
    ] {
        assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    }
    storage.set_down(false);
    assert_eq!(storage.get(&name("a")).await.unwrap(), "tide");
    assert!(matches!(
        storage.get(&name("b")).await,
        Err(StorageError::NotFound { .. })
    ));
}

#[tokio::test]
async fn room_runs_out_after_so_many_bytes() {
    let storage = faulty();
    storage.set_space_left(Some(6));
    storage.put_new(&name("a"), Bytes::from_static(b"four")).await.unwrap();
    let error = storage
        .put_new(&name("b"), Bytes::from_static(b"four"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, StorageError::NoSpace { .. }) && !error.may_retry(),
        "{error:?}"
    );
    storage.set_space_left(None);
    storage.put_new(&name("b"), Bytes::from_static(b"four")).await.unwrap();
}

#[tokio::test]
async fn what_comes_is_cut_or_damaged_and_what_is_stored_stays() {
    let storage = faulty();
    storage.put_new(&name("a"), Bytes::from_static(b"0123")).await.unwrap();
    storage.fail_nth(Call::Get, 1, Fault::Cut);
    storage.fail_nth(Call::Get, 2, Fault::Corrupt);
    storage.fail_nth(Call::Get, 3, Fault::Throttle);
    assert_eq!(storage.get(&name("a")).await.unwrap(), "01");
    assert_eq!(storage.get(&name("a")).await.unwrap(), "0133");
    assert!(matches!(
        storage.get(&name("a")).await,
        Err(StorageError::Throttled { .. })
    ));
    assert_eq!(storage.get(&name("a")).await.unwrap(), "0123");
}

#[tokio::test]
async fn one_seed_gives_one_series_of_faults() {
    async fn series(seed: u64) -> Vec<bool> {
        let storage = faulty();
        storage.fail_at_random(seed, 300, &[Fault::Fail, Fault::Throttle]);
        let mut failed = Vec::new();
        for _ in 0..200 {
            failed.push(storage.list("", None, 1).await.is_err());
        }
        failed
    }
    let first = series(7).await;
    assert_eq!(first, series(7).await);
    assert_ne!(first, series(8).await);
    let faults = first.iter().filter(|failed| **failed).count();
    assert!((30..90).contains(&faults), "{faults}");
}
