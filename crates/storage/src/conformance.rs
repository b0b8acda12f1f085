//! The contract of [`Storage`] as a suite. Every kind and every decorator runs it on an empty store.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is a test suite; a broken contract must stop it"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use ballast_base::{TaskSet, fill_random};
use bytes::Bytes;

use crate::{Capabilities, ObjectName, Storage, StorageError, self_test};

/// Larger than any buffer on the way.
const LARGE_BYTES: usize = 20 * 1024 * 1024;

/// Runs everything; races only if the store under test is known to tell writers apart. The store must be empty and is
/// empty afterwards.
pub async fn run(storage: Arc<dyn Storage>, known: Capabilities) {
    assert_eq!(
        listed(&*storage, "", None, 1).await,
        [""; 0],
        "the suite needs an empty store"
    );
    absent(&*storage).await;
    written_once(&*storage).await;
    ranges(&*storage).await;
    sizes(&*storage).await;
    odd_names(&*storage).await;
    pages(&*storage).await;
    let learnt = self_test(&*storage).await.unwrap();
    if known.atomic_create {
        assert_eq!(learnt, known);
        Box::pin(writers_meet(&storage)).await;
    }
    let strangers = storage.strangers(100).await.unwrap();
    assert!(
        strangers.iter().all(|name| name.ends_with('/')),
        "only folders that objects left empty: {strangers:?}"
    );
    if let Some(space) = storage.space().await.unwrap() {
        assert!(
            space.free_bytes <= space.total_bytes && space.total_bytes > 0,
            "{space:?}"
        );
    }
    clear(&*storage).await;
}

/// Removes every object.
pub async fn clear(storage: &dyn Storage) {
    loop {
        let page = storage.list("", None, 500).await.unwrap();
        for facts in &page {
            storage.delete(&facts.name).await.unwrap();
        }
        if page.len() < 500 {
            break;
        }
    }
    assert_eq!(listed(storage, "", None, 1).await, [""; 0]);
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn random(bytes: usize) -> Bytes {
    let mut body = vec![0; bytes];
    fill_random(&mut body);
    body.into()
}

async fn listed(storage: &dyn Storage, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let after = after.map(name);
    let page = storage.list(prefix, after.as_ref(), limit).await.unwrap();
    page.into_iter().map(|facts| facts.name.as_str().to_owned()).collect()
}

fn assert_not_found<T: std::fmt::Debug>(outcome: Result<T, StorageError>) {
    assert!(matches!(outcome, Err(StorageError::NotFound { .. })), "{outcome:?}");
}

fn assert_corrupt<T: std::fmt::Debug>(outcome: Result<T, StorageError>) {
    assert!(matches!(outcome, Err(StorageError::Corrupt { .. })), "{outcome:?}");
}

fn assert_exists(outcome: Result<(), StorageError>) {
    assert!(
        matches!(outcome, Err(StorageError::AlreadyExists { .. })),
        "{outcome:?}"
    );
}

async fn absent(storage: &dyn Storage) {
    for absent in ["absent", "absent/too"] {
        let absent = name(absent);
        assert_not_found(storage.get(&absent).await);
        assert_not_found(storage.get_range(&absent, 0..1).await);
        assert_not_found(storage.get_range(&absent, 0..0).await);
        assert_not_found(storage.head(&absent).await);
        storage.delete(&absent).await.unwrap();
    }
    assert_eq!(listed(storage, "absent/", None, 5).await, [""; 0]);
}

async fn written_once(storage: &dyn Storage) {
    let (object, first, second) = (name("once/object"), random(1000), random(1000));
    storage.put_new(&object, first.clone()).await.unwrap();
    assert_exists(storage.put_new(&object, second.clone()).await);
    assert_exists(storage.put_new(&object, random(999)).await);
    assert_exists(storage.put_new(&object, Bytes::new()).await);
    assert_eq!(
        storage.get(&object).await.unwrap(),
        first,
        "a refused write must change nothing"
    );
    storage
        .put_new(&object, first)
        .await
        .expect("the same bytes again are what a lost answer looks like");
    storage.delete(&object).await.unwrap();
    assert_not_found(storage.get(&object).await);
    storage.delete(&object).await.unwrap();
    storage.put_new(&object, second.clone()).await.unwrap();
    assert_eq!(storage.get(&object).await.unwrap(), second);
    storage.delete(&object).await.unwrap();
}

async fn ranges(storage: &dyn Storage) {
    let (object, body) = (name("ranges"), random(100_000));
    storage.put_new(&object, body.clone()).await.unwrap();
    for (start, end) in [
        (0, 1),
        (0, 100_000),
        (99_999, 100_000),
        (500, 70_000),
        (0, 0),
        (7, 7),
        (100_000, 100_000),
    ] {
        let got = storage.get_range(&object, start as u64..end as u64).await.unwrap();
        assert_eq!(got, body.slice(start..end), "{start}..{end}");
    }
    for (start, end) in [
        (0, 100_001),
        (99_999, 100_001),
        (100_000, 100_001),
        (200_000, 200_001),
        (100_001, 100_001),
    ] {
        assert_corrupt(storage.get_range(&object, start..end).await);
    }
    assert_corrupt(storage.get_range(&object, std::ops::Range { start: 9, end: 3 }).await);
    assert_corrupt(storage.get_range(&object, 0..u64::MAX).await);
    storage.delete(&object).await.unwrap();
}

async fn sizes(storage: &dyn Storage) {
    for bytes in [0, 1, LARGE_BYTES] {
        let (object, body) = (name(&format!("sizes/{bytes}")), random(bytes));
        storage.put_new(&object, body.clone()).await.unwrap();
        assert!(
            storage.get(&object).await.unwrap() == body,
            "{bytes} bytes came back other than they went"
        );
        let facts = storage.head(&object).await.unwrap();
        assert_eq!((&facts.name, facts.bytes), (&object, bytes as u64));
        assert_eq!(
            storage.list("sizes/", None, 10).await.unwrap(),
            [facts],
            "list and head must agree"
        );
        let tail = (bytes as u64).saturating_sub(10)..bytes as u64;
        assert_eq!(
            storage.get_range(&object, tail).await.unwrap(),
            body.slice(bytes.saturating_sub(10)..)
        );
        storage.put_new(&object, body).await.unwrap();
        storage.delete(&object).await.unwrap();
    }
}

async fn odd_names(storage: &dyn Storage) {
    let long = ["x".repeat(200), "y".repeat(200), "z".repeat(110)].join("/");
    let names = [
        "a..b",
        "CON",
        "a",
        "-rf",
        "_",
        "deep/er/and/de-per/than/most.pack",
        "UPPER",
        "upper",
        &long,
    ];
    for (salt, odd) in names.iter().enumerate() {
        storage
            .put_new(&name(odd), Bytes::from(format!("{salt} {odd}")))
            .await
            .unwrap();
    }
    let mut sorted = names.map(str::to_owned);
    sorted.sort();
    assert_eq!(listed(storage, "", None, 100).await, sorted);
    for (salt, odd) in names.iter().enumerate() {
        assert_eq!(storage.get(&name(odd)).await.unwrap(), format!("{salt} {odd}"));
        storage.delete(&name(odd)).await.unwrap();
    }
}

/// Names where the order of folders and the order of bytes differ, pages of every size, prefixes that end in the
/// middle of a part.
async fn pages(storage: &dyn Storage) {
    let mut names: BTreeSet<String> = [
        "a/b", "a-b", "a.b", "a0", "a/x-c/d", "a/b.c", "a/b-", "a/c", "b/1", "b/10", "b/2",
    ]
    .map(str::to_owned)
    .into();
    names.extend((0..40).map(|number| format!("many/{:02x}/{number}", number % 7)));
    for text in &names {
        storage.put_new(&name(text), Bytes::from(text.clone())).await.unwrap();
    }
    let sorted: Vec<String> = names.into_iter().collect();
    for limit in [1, 2, 7, sorted.len(), 1000] {
        let mut found: Vec<String> = Vec::new();
        loop {
            let page = listed(storage, "", found.last().map(String::as_str), limit).await;
            assert!(page.len() <= limit);
            let more = page.len() == limit;
            found.extend(page);
            if !more {
                break;
            }
        }
        assert_eq!(found, sorted, "in pages of {limit}");
    }
    assert_eq!(listed(storage, "", None, 0).await, [""; 0]);
    for prefix in ["a", "a/", "a-b", "b/1", "many/0", "many/03/", "nothing", "many/03/3x"] {
        let wanted: Vec<&String> = sorted.iter().filter(|text| text.starts_with(prefix)).collect();
        assert_eq!(
            listed(storage, prefix, None, 1000).await.iter().collect::<Vec<_>>(),
            wanted,
            "under {prefix}"
        );
        let wanted: Vec<&String> = wanted.into_iter().filter(|text| text.as_str() > "many/03/17").collect();
        let found = listed(storage, prefix, Some("many/03/17"), 1000).await;
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            wanted,
            "under {prefix} after many/03/17"
        );
    }
    // A place to go on from need not be an object.
    assert_eq!(listed(storage, "", Some("many/03/9999"), 1).await.len(), 1);
    clear(storage).await;
}

/// Many writers of one name with different bytes: one wins, and what it wrote is what is there.
async fn writers_meet(storage: &Arc<dyn Storage>) {
    const WRITERS: usize = 6;
    for round in 0..10 {
        let object = name(&format!("meet/{round}"));
        let mut writers = TaskSet::new("writer");
        for _ in 0..WRITERS {
            let (storage, object, body) = (Arc::clone(storage), object.clone(), random(20_000));
            writers.spawn(async move { (storage.put_new(&object, body.clone()).await, body) });
        }
        let mut winners = Vec::new();
        while let Some(done) = writers.join_next().await {
            let (outcome, body) = done.unwrap();
            match outcome {
                Ok(()) => winners.push(body),
                refused => assert_exists(refused),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(storage.get(&object).await.unwrap(), winners[0]);
        storage.delete(&object).await.unwrap();
    }
}
