use std::sync::Arc;

use ballast_base::Cancel;
use ballast_repository::{CheckScope, FindingKind, Repository, copy_manifest};
use ballast_storage::{Call, Fault, FaultyStorage, MemoryStorage, ObjectName, Storage};
use bytes::Bytes;

use crate::kit::{back_up, check, create, id, objects, restore, sample};

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

async fn replace(store: &dyn Storage, object: &str, bytes: Vec<u8>) {
    store.delete(&name(object)).await.unwrap();
    store.put_new(&name(object), Bytes::from(bytes)).await.unwrap();
}

/// The object of this kind with the most bytes, and its content.
async fn largest(store: &dyn Storage, prefix: &str) -> (String, Vec<u8>) {
    let listed = store.list(prefix, None, 1000).await.unwrap();
    let largest = listed.into_iter().max_by_key(|object| object.bytes).unwrap();
    let bytes = store.get(&largest.name).await.unwrap().to_vec();
    (largest.name.to_string(), bytes)
}

fn flipped(good: &[u8]) -> Vec<u8> {
    let mut bad = good.to_vec();
    bad[good.len() / 2] ^= 1;
    bad
}

async fn marks(store: &dyn Storage) -> usize {
    let all = objects(store).await;
    all.iter().filter(|object| object.starts_with("damaged/")).count()
}

/// Two repositories with one backup in both.
async fn two() -> ([Arc<dyn Storage>; 2], Vec<Repository>) {
    let stores: [Arc<dyn Storage>; 2] = [Arc::new(MemoryStorage::new()), Arc::new(MemoryStorage::new())];
    let repositories = create(&[("one", Arc::clone(&stores[0])), ("two", Arc::clone(&stores[1]))]).await;
    back_up(&repositories, 1, &sample(1)).await.unwrap();
    (stores, repositories)
}

#[tokio::test]
async fn what_lies_in_a_damaged_pack_is_stored_again_until_the_pack_is_whole() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repositories = create(&[("one", Arc::clone(&store))]).await;
    let repository = &repositories[0];
    back_up(&repositories, 1, &sample(1)).await.unwrap();
    let (pack, good) = largest(&*store, "packs/").await;
    replace(&*store, &pack, flipped(&good)).await;
    assert!(check(repository).await.is_damaged());
    assert_eq!(marks(&*store).await, 1);

    let second = back_up(&repositories, 2, &sample(1)).await.unwrap();
    assert!(second.written.bytes_new > 0, "{second:?}");
    assert_eq!(restore(repository, 2).await.unwrap(), sample(1));
    let report = check(repository).await;
    let finding = report.findings.iter().find(|finding| finding.object == pack).unwrap();
    assert_eq!(
        (finding.kind, &finding.backups[..]),
        (FindingKind::Damaged, &[id(1)][..])
    );
    assert!(finding.message.contains("marked"), "{}", finding.message);
    let third = back_up(&repositories, 3, &sample(1)).await.unwrap();
    assert_eq!(third.written.bytes_new, 0, "what was stored again is used again");

    replace(&*store, &pack, good).await;
    assert!(!check(repository).await.is_damaged());
    assert_eq!(marks(&*store).await, 0);
    assert_eq!(restore(repository, 1).await.unwrap(), sample(1));
}

#[tokio::test]
async fn what_lies_in_a_pack_that_is_cut_off_or_gone_is_stored_again_unasked() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repositories = create(&[("one", Arc::clone(&store))]).await;
    for (number, gone) in [(1, false), (3, true)] {
        let files = sample(u64::from(number));
        back_up(&repositories, number, &files).await.unwrap();
        let (pack, good) = largest(&*store, "packs/").await;
        replace(&*store, &pack, good[..good.len() / 2].to_vec()).await;
        if gone {
            store.delete(&name(&pack)).await.unwrap();
        }
        let next = back_up(&repositories, number + 1, &files).await.unwrap();
        assert!(next.written.bytes_new > 0, "{next:?}");
        assert_eq!(restore(&repositories[0], number + 1).await.unwrap(), files);
    }
}

#[tokio::test]
async fn a_backup_brings_back_what_another_repository_has_whole() {
    let (stores, repositories) = two().await;
    let (pack, good) = largest(&*stores[0], "packs/").await;
    // Cut off: seen by its size. Flipped: seen by a check.
    replace(&*stores[0], &pack, good[..good.len() - 1].to_vec()).await;
    let second = back_up(&repositories, 2, &sample(1)).await.unwrap();
    assert_eq!((second.written.bytes_new, second.lost.len()), (0, 0), "{second:?}");
    assert_eq!(restore(&repositories[0], 2).await.unwrap(), sample(1));

    replace(&*stores[0], &pack, flipped(&good)).await;
    assert!(check(&repositories[0]).await.is_damaged());
    let third = back_up(&repositories, 3, &sample(1)).await.unwrap();
    assert_eq!((third.written.bytes_new, third.lost.len()), (0, 0), "{third:?}");
    assert_eq!(marks(&*stores[0]).await, 0);
    for repository in &repositories {
        assert_eq!(check(repository).await.findings, []);
    }
}

#[tokio::test]
async fn a_copy_replaces_what_is_damaged_and_nothing_else() {
    let (stores, repositories) = two().await;
    let [from, to] = &repositories[..] else {
        unreachable!("two were made")
    };
    let cancel = Cancel::new();
    let copy = |dry_run| {
        let cancel = cancel.clone();
        async move { copy_manifest(from, to, &id(1), dry_run, &|_| {}, &cancel).await }
    };
    let (pack, good) = largest(&*stores[1], "packs/").await;
    replace(&*stores[1], &pack, flipped(&good)).await;
    assert!(check(to).await.is_damaged());
    let planned = copy(true).await.unwrap();
    assert_eq!((planned.objects_copied, planned.objects_replaced), (2, 1));
    assert!(
        stores[1].get(&name(&pack)).await.unwrap() == flipped(&good),
        "a dry run changes nothing"
    );
    assert_eq!(copy(false).await.unwrap(), planned);
    assert_eq!((check(to).await.findings, marks(&*stores[1]).await), (vec![], 0));

    let (manifest, good) = largest(&*stores[1], "manifests/").await;
    replace(&*stores[1], &manifest, flipped(&good)).await;
    assert_eq!(copy(false).await.unwrap().objects_replaced, 1);
    assert_eq!(restore(to, 1).await.unwrap(), sample(1));

    // A forged mark: the pack is looked at, and stays.
    let mark = format!("damaged/{}", pack.rsplit('/').next().unwrap());
    stores[1]
        .put_new(&name(&mark), Bytes::from_static(b"forged"))
        .await
        .unwrap();
    let copied = copy(false).await.unwrap();
    assert_eq!((copied.objects_replaced, marks(&*stores[1]).await), (0, 0));
}

#[tokio::test]
async fn a_copy_from_a_damaged_pack_replaces_nothing_and_marks_it() {
    let (stores, repositories) = two().await;
    let (pack, good) = largest(&*stores[0], "packs/").await;
    for store in &stores {
        replace(&**store, &pack, flipped(&good)).await;
    }
    assert!(check(&repositories[1]).await.is_damaged());
    let copied = copy_manifest(
        &repositories[0],
        &repositories[1],
        &id(1),
        false,
        &|_| {},
        &Cancel::new(),
    )
    .await;
    assert!(copied.is_err(), "{copied:?}");
    assert!(
        stores[1].get(&name(&pack)).await.unwrap() == flipped(&good),
        "it is still there"
    );
    assert_eq!(marks(&*stores[0]).await, 1);
}

#[tokio::test]
async fn damage_is_told_also_where_nothing_can_be_written() {
    let inner: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let faulty = Arc::new(FaultyStorage::new(Arc::clone(&inner)));
    let repositories = create(&[("one", Arc::<FaultyStorage>::clone(&faulty) as Arc<dyn Storage>)]).await;
    back_up(&repositories, 1, &sample(1)).await.unwrap();
    let (pack, good) = largest(&*inner, "packs/").await;
    replace(&*inner, &pack, flipped(&good)).await;
    faulty.fail_nth(Call::Put, faulty.calls(Call::Put) + 1, Fault::Fail);
    let report = repositories[0]
        .check(
            CheckScope::Chosen {
                backups: &[id(1)],
                streams: &[],
            },
            Arc::new(|_, _| {}),
            &Cancel::new(),
        )
        .await
        .unwrap();
    let finding = report.findings.iter().find(|finding| finding.object == pack).unwrap();
    assert!(finding.message.contains("could not be marked"), "{}", finding.message);
}
