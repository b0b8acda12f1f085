use std::sync::Arc;

use ballast_base::{Cancel, Secret};
use ballast_repository::{Lock, Repository, RepositoryError, copy_head, create_all};
use ballast_storage::{MemoryStorage, ObjectName, Storage};
use bytes::Bytes;

use crate::kit::{self, back_up, check, create, objects, restore, sample};

const STAMP: &str = "ballast-repository";

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

/// Two repositories with one backup in both.
async fn two() -> ([Arc<dyn Storage>; 2], Vec<Repository>) {
    let stores: [Arc<dyn Storage>; 2] = [Arc::new(MemoryStorage::new()), Arc::new(MemoryStorage::new())];
    let repositories = create(&[("one", Arc::clone(&stores[0])), ("two", Arc::clone(&stores[1]))]).await;
    back_up(&repositories, 1, &sample(1)).await.unwrap();
    (stores, repositories)
}

async fn open(store: &Arc<dyn Storage>) -> Result<Repository, RepositoryError> {
    Repository::open("one", Arc::clone(store), &kit::lock(), &Cancel::new()).await
}

async fn head(store: &dyn Storage) -> Vec<String> {
    let all = objects(store).await;
    all.into_iter()
        .filter(|object| object == STAMP || object.starts_with("keys/"))
        .collect()
}

fn is_headless(error: &RepositoryError, object: &str) {
    assert!(
        matches!(error, RepositoryError::Headless { object: named, .. } if named == object),
        "{object}: {error}"
    );
}

#[tokio::test]
async fn what_opens_a_repository_is_named_when_it_is_lost_and_brought_back() {
    let (stores, repositories) = two().await;
    let [store, _] = &stores;
    let before = objects(&**store).await;
    let slot = before
        .iter()
        .find(|object| object.starts_with("keys/"))
        .unwrap()
        .clone();
    let bad = Some(Bytes::from_static(b"neither a stamp nor a slot"));
    let harms = [
        (vec![(STAMP, None)], STAMP),
        (vec![(STAMP, bad.clone())], STAMP),
        (vec![(&*slot, None)], "keys/"),
        (vec![(&*slot, bad.clone())], &*slot),
        (vec![(&*slot, None), (STAMP, None)], STAMP),
        (vec![(&*slot, bad.clone()), (STAMP, bad)], STAMP),
    ];
    for (harm, told) in harms {
        for (object, bytes) in &harm {
            store.delete(&name(object)).await.unwrap();
            if let Some(bytes) = bytes {
                store.put_new(&name(object), bytes.clone()).await.unwrap();
            }
        }
        is_headless(&open(store).await.unwrap_err(), told);
        let place = vec![("one".to_owned(), Arc::clone(store))];
        let again = create_all(place, &kit::lock(), &Cancel::new()).await;
        is_headless(&again.unwrap_err(), told);
        let brought = copy_head(&repositories[1], Arc::clone(store), &Cancel::new())
            .await
            .unwrap();
        assert_eq!(brought.len(), harm.len(), "{brought:?}");
        assert_eq!(objects(&**store).await, before);
        let opened = open(store).await.unwrap();
        assert_eq!(check(&opened).await.findings, []);
        assert_eq!(restore(&opened, 1).await.unwrap(), sample(1));
    }
    // Nothing is wrong: nothing is brought.
    let brought = copy_head(&repositories[1], Arc::clone(store), &Cancel::new())
        .await
        .unwrap();
    assert_eq!(brought, Vec::<String>::new());
}

#[tokio::test]
async fn another_key_is_still_a_wrong_key_and_an_interrupted_init_no_repository() {
    let (stores, _) = two().await;
    let other = Lock::KeyFile(Secret::new("6b".repeat(32)));
    let error = Repository::open("one", Arc::clone(&stores[0]), &other, &Cancel::new())
        .await
        .unwrap_err();
    assert!(matches!(error, RepositoryError::WrongKey { .. }), "{error}");
    let begun: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    create(&[("begun", Arc::clone(&begun))]).await;
    begun.delete(&name(STAMP)).await.unwrap();
    let error = open(&begun).await.unwrap_err();
    assert!(matches!(error, RepositoryError::NoRepository { .. }), "{error}");
}

#[tokio::test]
async fn the_place_of_somebody_else_is_left_as_it_is() {
    let (_, repositories) = two().await;
    let (others, _) = two().await;
    let other = &others[0];
    let cancel = Cancel::new();
    let error = copy_head(&repositories[0], Arc::clone(other), &cancel)
        .await
        .unwrap_err();
    assert!(matches!(error, RepositoryError::Different { .. }), "{error}");
    other.delete(&name(STAMP)).await.unwrap();
    let before = objects(&**other).await;
    let error = copy_head(&repositories[0], Arc::clone(other), &cancel)
        .await
        .unwrap_err();
    assert!(matches!(error, RepositoryError::Foreign { .. }), "{error}");
    assert_eq!(objects(&**other).await, before);
    let empty: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let error = copy_head(&repositories[0], Arc::clone(&empty), &cancel)
        .await
        .unwrap_err();
    assert!(matches!(error, RepositoryError::NoRepository { .. }), "{error}");
    assert_eq!(head(&*empty).await, Vec::<String>::new());
}
