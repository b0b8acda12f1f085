//! Damage to what lies of a log: named, never read as if it were whole, mended by a copy.

use std::sync::Arc;

use ballast_base::Cancel;
use ballast_repository::{FindingKind, Link, Repository, RepositoryError, SealedSegment, StreamId, copy_stream};
use ballast_storage::{MemoryStorage, ObjectName, Storage};
use bytes::Bytes;
use serde_json::json;

use crate::kit::{check, create, noise, objects, read_stream, write_stream};

struct Pair {
    stores: [Arc<dyn Storage>; 2],
    repositories: Vec<Repository>,
    id: StreamId,
    sealed: Vec<SealedSegment>,
    bytes: Vec<u8>,
}

/// Two copies of a stream of four segments.
async fn pair() -> Pair {
    let stores: [Arc<dyn Storage>; 2] = [Arc::new(MemoryStorage::new()), Arc::new(MemoryStorage::new())];
    let repositories = create(&[("one", Arc::clone(&stores[0])), ("two", Arc::clone(&stores[1]))]).await;
    let parts: Vec<_> = (1..5).map(|seed| noise(seed, 300)).collect();
    let (id, sealed) = write_stream(&repositories, &parts).await;
    for repository in &repositories {
        repository
            .mark_seen(id, 1200, 9_000_000, &json!({}), &Cancel::new())
            .await
            .unwrap();
    }
    Pair {
        stores,
        repositories,
        id,
        sealed,
        bytes: parts.concat(),
    }
}

fn is_segment(object: &str) -> bool {
    object.rsplit('/').next().unwrap().starts_with('0')
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

async fn replace(store: &dyn Storage, object: &str, bytes: Vec<u8>) {
    store.delete(&name(object)).await.unwrap();
    store.put_new(&name(object), Bytes::from(bytes)).await.unwrap();
}

impl Pair {
    async fn logs(&self) -> Vec<String> {
        let all = objects(&*self.stores[1]).await;
        all.into_iter().filter(|object| object.starts_with("logs/")).collect()
    }

    /// The check names `object` in the second copy, what is read of it is right or an error, and a copy mends it.
    async fn is_named_and_mended(&self, object: &str, kind: FindingKind, what: &str) {
        let [one, two] = &self.repositories[..] else {
            panic!("two")
        };
        let report = check(two).await;
        assert!(
            report
                .findings
                .iter()
                .any(|f| f.object == object && f.kind == kind && f.stream == Some(self.id)),
            "{what}: {:?}",
            report.findings
        );
        match read_stream(two, self.id, 0).await {
            // Of the last segment nobody but the mark of what was seen knows.
            Ok(read) if kind == FindingKind::Missing => assert!(self.bytes.starts_with(&read), "{what}"),
            Ok(read) => assert!(read == self.bytes, "{what}"),
            Err(RepositoryError::Damaged { .. } | RepositoryError::Missing { .. } | RepositoryError::TooNew { .. }) => {
            }
            Err(error) => panic!("{what}: {error}"),
        }
        if object.contains("seen") {
            two.storage().delete(&name(object)).await.unwrap();
        }
        copy_stream(one, two, self.id, false, &|_| {}, &Cancel::new())
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let report = check(two).await;
        assert!(report.findings.is_empty(), "{what}: {:?}", report.findings);
        assert!(read_stream(two, self.id, 0).await.unwrap() == self.bytes, "{what}");
        assert!(
            !objects(two.storage())
                .await
                .iter()
                .any(|object| object.starts_with("damaged/")),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_flipped_bit_or_a_cut_in_any_object_of_a_log_is_named_and_copied_again() {
    let pair = pair().await;
    for object in pair.logs().await {
        let good = pair.stores[1].get(&name(&object)).await.unwrap().to_vec();
        let step = (good.len() / 9).max(1);
        for at in (0..good.len()).step_by(step).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            replace(&*pair.stores[1], &object, bad).await;
            pair.is_named_and_mended(&object, FindingKind::Damaged, &format!("{object} byte {at}"))
                .await;
        }
        for length in [0, 50, good.len() / 2, good.len() - 1] {
            replace(&*pair.stores[1], &object, good[..length].to_vec()).await;
            pair.is_named_and_mended(&object, FindingKind::Damaged, &format!("{object} cut to {length}"))
                .await;
        }
    }
}

#[tokio::test]
async fn a_missing_object_of_a_log_is_named_and_copied_again() {
    let pair = pair().await;
    for object in pair.logs().await.into_iter().filter(|object| !object.contains("seen")) {
        pair.stores[1].delete(&name(&object)).await.unwrap();
        let told = if is_segment(&object) {
            format!("{}-*", object.split('-').next().unwrap())
        } else {
            object.clone()
        };
        pair.is_named_and_mended(&told, FindingKind::Missing, &object).await;
    }
}

#[tokio::test]
async fn a_segment_in_the_place_of_another_is_damage() {
    let pair = pair().await;
    let segments: Vec<_> = pair
        .logs()
        .await
        .into_iter()
        .filter(|object| is_segment(object))
        .collect();
    for (a, b) in [(0, 1), (1, 3), (2, 0)] {
        let other = pair.stores[1].get(&name(&segments[a])).await.unwrap().to_vec();
        replace(&*pair.stores[1], &segments[b], other).await;
        pair.is_named_and_mended(&segments[b], FindingKind::Damaged, &format!("{a} in the place of {b}"))
            .await;
    }
}

/// What only who holds the keys could make: whole segments that do not follow each other.
#[tokio::test]
async fn a_segment_that_does_not_follow_the_one_before_is_refused_and_named() {
    let pair = pair().await;
    let [_, two] = &pair.repositories[..] else {
        panic!("two")
    };
    for (number, previous) in [(0, pair.sealed[1].link), (2, Link::FIRST), (3, pair.sealed[1].link)] {
        let place = pair.sealed[number].place;
        let raw = &pair.bytes[usize::try_from(place.start).unwrap()..usize::try_from(place.end).unwrap()];
        let forged = two.seal_segment(pair.id, place, json!({}), previous, raw);
        let object = format!("logs/{}/{place}", pair.id);
        replace(&*pair.stores[1], &object, forged.bytes.to_vec()).await;
        let error = read_stream(two, pair.id, 0).await.unwrap_err();
        assert!(error.to_string().contains("does not follow"), "{error}");
        let report = check(two).await;
        assert!(
            report
                .findings
                .iter()
                .any(|f| f.object == object && f.kind == FindingKind::Damaged),
            "{:?}",
            report.findings
        );
        replace(&*pair.stores[1], &object, pair.sealed[number].bytes.to_vec()).await;
    }
    assert!(!check(two).await.is_damaged());
}

#[tokio::test]
async fn damage_at_the_source_of_a_copy_does_not_spread_and_keeps_nothing_else_back() {
    let pair = pair().await;
    let [one, two] = &pair.repositories[..] else {
        panic!("two")
    };
    let object = |number: usize| format!("logs/{}/{}", pair.id, pair.sealed[number].place);
    for number in [1, 2] {
        pair.stores[1].delete(&name(&object(number))).await.unwrap();
    }
    let mut bad = pair.sealed[1].bytes.to_vec();
    bad[150] ^= 1;
    replace(&*pair.stores[0], &object(1), bad).await;
    let error = copy_stream(one, two, pair.id, false, &|_| {}, &Cancel::new())
        .await
        .unwrap_err();
    assert!(matches!(error, RepositoryError::Damaged { .. }), "{error}");
    let there = objects(&*pair.stores[1]).await;
    assert!(!there.contains(&object(1)) && there.contains(&object(2)));
}
