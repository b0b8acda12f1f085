use std::sync::Arc;

use ballast_base::Cancel;
use ballast_repository::{RepositoryError, copy_manifest};
use ballast_storage::{FaultyStorage, MemoryStorage, ObjectName, Storage};
use bytes::Bytes;

use crate::kit::{self, check, create, id, objects, restore, sample};

#[tokio::test]
async fn a_copy_goes_on_where_it_was_and_restores_alone() {
    let from_store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let to_faulty = Arc::new(FaultyStorage::new(Arc::new(MemoryStorage::new())));
    let to_store: Arc<dyn Storage> = Arc::<FaultyStorage>::clone(&to_faulty);
    let repositories = create(&[("from", from_store), ("to", to_store)]).await;
    let [from, to] = &repositories[..] else {
        unreachable!("two were made")
    };
    kit::back_up(&repositories[..1], 1, &sample(1)).await.unwrap();
    kit::back_up(&repositories[..1], 2, &sample(2)).await.unwrap();
    let cancel = Cancel::new();
    let copy = |number, dry_run| {
        let cancel = cancel.clone();
        async move { copy_manifest(from, to, &id(number), dry_run, &|_| {}, &cancel).await }
    };
    let planned = copy(1, true).await.unwrap();
    assert_eq!(to.backups(&cancel).await.unwrap(), []);
    kit::fail_put_after(&to_faulty, 1);
    copy(1, false).await.unwrap_err();
    to_faulty.set_down(false);
    assert!(!check(to).await.is_damaged());
    let done = copy(1, false).await.unwrap();
    assert!(
        done.objects_present >= 1 && done.objects_copied < planned.objects_copied,
        "{done:?} of {planned:?}"
    );
    copy(2, false).await.unwrap();
    for number in [1, 2] {
        assert_eq!(restore(to, number).await.unwrap(), sample(u64::from(number)));
    }
    assert!(check(to).await.findings.is_empty());
}

#[tokio::test]
async fn damage_does_not_spread_by_copying() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repositories = create(&[("from", Arc::clone(&store)), ("to", Arc::new(MemoryStorage::new()))]).await;
    kit::back_up(&repositories[..1], 1, &sample(1)).await.unwrap();
    let pack = objects(&*store)
        .await
        .into_iter()
        .find(|object| object.starts_with("packs/"))
        .unwrap();
    let pack = ObjectName::new(&pack).unwrap();
    let mut bytes = store.get(&pack).await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.delete(&pack).await.unwrap();
    store.put_new(&pack, Bytes::from(bytes)).await.unwrap();
    let cancel = Cancel::new();
    let error = copy_manifest(&repositories[0], &repositories[1], &id(1), false, &|_| {}, &cancel)
        .await
        .unwrap_err();
    assert!(
        matches!(error, RepositoryError::Damaged { .. }) && error.to_string().contains(pack.as_str()),
        "{error}"
    );
    assert_eq!(repositories[1].backups(&cancel).await.unwrap(), []);
}
