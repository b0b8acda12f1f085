use std::sync::Arc;

use ballast_base::Cancel;
use ballast_repository::{FindingKind, Repository, RepositoryError};
use ballast_storage::{MemoryStorage, ObjectName, Storage, StorageError};
use bytes::Bytes;

use crate::kit::{self, check, create, id, objects, restore, sample};

/// A vault with two backups, and the store under it.
async fn vault() -> (Arc<dyn Storage>, Repository) {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repository = create(&[("one", Arc::clone(&store))]).await.remove(0);
    for number in [1, 2] {
        kit::back_up(std::slice::from_ref(&repository), number, &sample(u64::from(number)))
            .await
            .unwrap();
    }
    (store, repository)
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

async fn replace(store: &dyn Storage, object: &str, bytes: Vec<u8>) {
    store.delete(&name(object)).await.unwrap();
    store.put_new(&name(object), Bytes::from(bytes)).await.unwrap();
}

/// The check names `object`, and the store is put right again.
async fn is_named(repository: &Repository, object: &str, kind: FindingKind, what: &str) {
    let report = check(repository).await;
    assert!(report.is_damaged(), "{what}");
    assert!(
        report.findings.iter().any(|f| f.object == object && f.kind == kind),
        "{what}: {:?}",
        report.findings
    );
}

#[tokio::test]
async fn one_flipped_bit_in_any_kind_of_object_is_named() {
    let (store, repository) = vault().await;
    for object in objects(&*store).await {
        let good = store.get(&name(&object)).await.unwrap().to_vec();
        let step = (good.len() / 7).max(1);
        for at in (0..good.len()).step_by(step).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            replace(&*store, &object, bad).await;
            is_named(
                &repository,
                &object,
                FindingKind::Damaged,
                &format!("{object} byte {at}"),
            )
            .await;
        }
        replace(&*store, &object, good).await;
    }
    assert!(!check(&repository).await.is_damaged());
}

#[tokio::test]
async fn a_truncated_and_a_removed_object_are_named() {
    let (store, repository) = vault().await;
    for object in objects(&*store).await {
        let good = store.get(&name(&object)).await.unwrap().to_vec();
        for length in [0, good.len() / 2, good.len() - 1] {
            replace(&*store, &object, good[..length].to_vec()).await;
            is_named(
                &repository,
                &object,
                FindingKind::Damaged,
                &format!("{object} cut to {length}"),
            )
            .await;
        }
        store.delete(&name(&object)).await.unwrap();
        // A manifest that is gone leaves no trace; that its packs are unused is what can be seen.
        let report = check(&repository).await;
        match object.split('/').next().unwrap() {
            "manifests" => assert!(
                report.findings.iter().any(|f| f.kind == FindingKind::Unused),
                "{object}"
            ),
            "keys" => is_named(&repository, "keys/", FindingKind::Missing, &object).await,
            _ => is_named(&repository, &object, FindingKind::Missing, &object).await,
        }
        replace(&*store, &object, good).await;
    }
}

#[tokio::test]
async fn two_swapped_objects_are_both_named_and_not_restored() {
    let (store, repository) = vault().await;
    let all = objects(&*store).await;
    for kind in ["packs/", "manifests/"] {
        let [a, b, ..] = &all.iter().filter(|object| object.starts_with(kind)).collect::<Vec<_>>()[..] else {
            panic!("two of {kind}")
        };
        let (first, second) = (store.get(&name(a)).await.unwrap(), store.get(&name(b)).await.unwrap());
        replace(&*store, a, second.to_vec()).await;
        replace(&*store, b, first.to_vec()).await;
        for object in [a, b] {
            is_named(&repository, object, FindingKind::Damaged, kind).await;
        }
        let outcomes = [restore(&repository, 1).await, restore(&repository, 2).await];
        assert!(
            outcomes.iter().any(|outcome| matches!(
                outcome,
                Err(RepositoryError::Damaged { .. } | RepositoryError::Storage(StorageError::Corrupt { .. }))
            )),
            "{kind}"
        );
        replace(&*store, a, first.to_vec()).await;
        replace(&*store, b, second.to_vec()).await;
    }
    assert_eq!(restore(&repository, 1).await.unwrap(), sample(1));
}

#[tokio::test]
async fn what_is_not_ours_is_named_and_harms_nothing() {
    let (store, repository) = vault().await;
    for object in ["notes.txt", "packs/zz/nonsense", "manifests/latest"] {
        store.put_new(&name(object), Bytes::from_static(b"?")).await.unwrap();
    }
    let report = check(&repository).await;
    assert_eq!(
        report
            .findings
            .iter()
            .filter(|f| f.kind == FindingKind::Unknown)
            .count(),
        3
    );
    assert!(!report.is_damaged());
    assert_eq!(repository.backups(&Cancel::new()).await.unwrap(), [id(1), id(2)]);
}

#[tokio::test]
async fn a_damaged_pack_names_the_backups_that_need_it_and_a_later_version_is_not_called_damage_on_opening() {
    let (store, repository) = vault().await;
    let pack = objects(&*store)
        .await
        .into_iter()
        .find(|object| object.starts_with("packs/"))
        .unwrap();
    store.delete(&name(&pack)).await.unwrap();
    let report = check(&repository).await;
    let finding = report.findings.iter().find(|f| f.object == pack).unwrap();
    assert!(!finding.backups.is_empty());
    let mut stamp = store.get(&name("ballast-repository")).await.unwrap().to_vec();
    stamp[8] = 2;
    replace(&*store, "ballast-repository", stamp).await;
    let error = Repository::open("one", store, &kit::lock(), &Cancel::new())
        .await
        .unwrap_err();
    assert!(matches!(error, RepositoryError::TooNew { found: 2, .. }), "{error}");
}
