//! Streams: written, listed, read from anywhere, merged, copied.

use std::sync::Arc;

use ballast_base::Cancel;
use ballast_repository::{FindingKind, Link, RepositoryError, SEGMENT_BYTES_MAX, StreamId, copy_head, copy_stream};
use ballast_storage::{Call, Fault, FaultyStorage, MemoryStorage, Storage};
use serde_json::json;

use crate::kit::{self, check, create, fail_put_after, noise, objects, read_stream, write_stream};

fn pieces(count: u64) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| noise(n + 1, 100 + 37 * usize::try_from(n).unwrap()))
        .collect()
}

async fn one() -> (Arc<dyn Storage>, ballast_repository::Repository) {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repository = create(&[("one", Arc::clone(&store))]).await.remove(0);
    (store, repository)
}

#[tokio::test]
async fn a_stream_reads_back_from_any_offset() {
    let (_, repository) = one().await;
    let parts = pieces(9);
    let all = parts.concat();
    let (id, sealed) = write_stream(std::slice::from_ref(&repository), &parts).await;
    assert_eq!(repository.streams(&Cancel::new()).await.unwrap(), [id]);
    let listing = repository.stream(id, &Cancel::new()).await.unwrap();
    assert_eq!(listing.segments, sealed.iter().map(|s| s.place).collect::<Vec<_>>());
    assert_eq!(listing.facts, json!({"source": "orders"}));
    assert_eq!(listing.held_end(), all.len() as u64);
    for from in 0..=all.len() {
        assert_eq!(
            read_stream(&repository, id, from as u64).await.unwrap(),
            all[from..],
            "from {from}"
        );
    }
    let facts = repository
        .segment_facts(id, &listing.segments[3], &Cancel::new())
        .await
        .unwrap();
    assert_eq!(
        (facts.facts, facts.previous, facts.link),
        (json!({"number": 3}), sealed[2].link, sealed[3].link)
    );
    assert!(!check(&repository).await.is_damaged());
}

#[tokio::test]
async fn a_segment_of_the_largest_size_reads_back() {
    let (_, repository) = one().await;
    let parts = [noise(5, SEGMENT_BYTES_MAX), vec![0; SEGMENT_BYTES_MAX], noise(6, 1)];
    let (id, _) = write_stream(std::slice::from_ref(&repository), &parts).await;
    let read = read_stream(&repository, id, 3).await.unwrap();
    assert!(read == parts.concat()[3..]);
}

#[tokio::test]
async fn writing_the_same_again_is_fine_and_something_else_is_refused() {
    let (_, repository) = one().await;
    let parts = pieces(3);
    let (id, sealed) = write_stream(std::slice::from_ref(&repository), &parts).await;
    let cancel = Cancel::new();
    // Sealed again after a crash: another salt, the same bytes of the log.
    let again = repository.seal_segment(
        id,
        sealed[1].place,
        json!({"sealed": "later"}),
        sealed[0].link,
        &parts[1],
    );
    assert_ne!(again.bytes, sealed[1].bytes);
    repository.put_segment(id, &again, &cancel).await.unwrap();
    repository
        .create_stream(id, &json!({"source": "orders"}), &cancel)
        .await
        .unwrap();
    let mut other = parts[1].clone();
    other[0] ^= 1;
    let other = repository.seal_segment(id, sealed[1].place, json!({}), sealed[0].link, &other);
    repository.put_segment(id, &other, &cancel).await.unwrap_err();
    repository
        .create_stream(id, &json!({"source": "else"}), &cancel)
        .await
        .unwrap_err();
    assert_eq!(read_stream(&repository, id, 0).await.unwrap(), parts.concat());
}

#[tokio::test]
async fn a_merge_changes_nothing_that_is_read_and_removes_only_what_is_held_elsewhere() {
    let (store, repository) = one().await;
    let cancel = Cancel::new();
    let parts = pieces(6);
    let (id, sealed) = write_stream(std::slice::from_ref(&repository), &parts).await;
    let places: Vec<_> = sealed.iter().map(|s| s.place).collect();
    let refused = repository
        .remove_segments(id, &places[1..3], &cancel)
        .await
        .unwrap_err();
    assert!(matches!(refused, RepositoryError::Needed { .. }), "{refused}");

    let mut read = Vec::new();
    for place in &places[1..5] {
        read.push(repository.segment(id, place, &cancel).await.unwrap());
    }
    let mut forged = read.clone();
    forged[1].1 = noise(77, forged[1].1.len()).into();
    repository.merge_segments(id, json!({}), &forged).unwrap_err();
    repository.merge_segments(id, json!({}), &read[..1]).unwrap_err();
    repository
        .merge_segments(id, json!({}), &[read[0].clone(), read[2].clone()])
        .unwrap_err();
    let merged = repository.merge_segments(id, json!({"merged": 4}), &read).unwrap();
    assert_eq!(merged.link, sealed[4].link);
    assert_eq!(
        (merged.place.first_at, merged.place.last_at),
        (places[1].first_at, places[4].last_at)
    );

    repository.put_segment(id, &merged, &cancel).await.unwrap();
    let listing = repository.stream(id, &cancel).await.unwrap();
    assert_eq!(listing.segments, [places[0], merged.place, places[5]]);
    assert_eq!(listing.superseded, places[1..5]);
    assert_eq!(read_stream(&repository, id, 250).await.unwrap(), parts.concat()[250..]);
    let report = check(&repository).await;
    assert!(!report.is_damaged(), "{:?}", report.findings);
    assert_eq!(
        report.findings.iter().filter(|f| f.kind == FindingKind::Unused).count(),
        4
    );

    // A reader that looked before the merge goes on after it.
    let old = repository.stream(id, &cancel).await.unwrap();
    let old = ballast_repository::StreamListing {
        segments: places.clone(),
        ..old
    };
    let mut reader = ballast_repository::StreamReader::new(repository.clone(), old, 0, cancel.clone());
    let mut bytes = reader.next().await.unwrap().unwrap().1.to_vec();
    repository.remove_segments(id, &places[1..5], &cancel).await.unwrap();
    while let Some((_, piece)) = reader.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    assert_eq!(bytes, parts.concat());
    assert!(check(&repository).await.findings.is_empty());
    assert_eq!(
        objects(&*store)
            .await
            .iter()
            .filter(|name| name.starts_with("logs/"))
            .count(),
        4
    );

    // Merged twice: the chain of chains.
    let mut read = Vec::new();
    for place in [places[0], merged.place, places[5]] {
        read.push(repository.segment(id, &place, &cancel).await.unwrap());
    }
    let whole = repository.merge_segments(id, json!({}), &read).unwrap();
    repository.put_segment(id, &whole, &cancel).await.unwrap();
    repository
        .remove_segments(id, &[places[0], merged.place, places[5]], &cancel)
        .await
        .unwrap();
    assert_eq!(read_stream(&repository, id, 5).await.unwrap(), parts.concat()[5..]);
}

#[tokio::test]
async fn nothing_is_removed_while_what_replaces_it_is_damaged() {
    let (store, repository) = one().await;
    let cancel = Cancel::new();
    let parts = pieces(2);
    let (id, sealed) = write_stream(std::slice::from_ref(&repository), &parts).await;
    let places: Vec<_> = sealed.iter().map(|s| s.place).collect();
    let read = [
        repository.segment(id, &places[0], &cancel).await.unwrap(),
        repository.segment(id, &places[1], &cancel).await.unwrap(),
    ];
    let merged = repository.merge_segments(id, json!({}), &read).unwrap();
    let name = ballast_storage::ObjectName::new(&format!("logs/{id}/{}", merged.place)).unwrap();
    let mut bad = merged.bytes.to_vec();
    *bad.last_mut().unwrap() ^= 1;
    store.put_new(&name, bad.into()).await.unwrap();
    repository.remove_segments(id, &places, &cancel).await.unwrap_err();
    // What it was made of is read instead, as long as it is there.
    for from in [0, 1, places[1].start, places[1].start + 7] {
        let expected = &parts.concat()[usize::try_from(from).unwrap()..];
        assert_eq!(
            read_stream(&repository, id, from).await.unwrap(),
            expected,
            "from {from}"
        );
    }
    let first = ballast_storage::ObjectName::new(&format!("logs/{id}/{}", places[0])).unwrap();
    let held = store.get(&first).await.unwrap();
    store.delete(&first).await.unwrap();
    let lacking = read_stream(&repository, id, 0).await.unwrap_err();
    assert!(matches!(lacking, RepositoryError::Damaged { .. }), "{lacking}");
    store.put_new(&first, held).await.unwrap();
    // Storing it again replaces the damaged one.
    repository.put_segment(id, &merged, &cancel).await.unwrap();
    repository.remove_segments(id, &places, &cancel).await.unwrap();
    assert_eq!(read_stream(&repository, id, 0).await.unwrap(), parts.concat());
}

#[tokio::test]
async fn what_was_seen_counts_only_with_all_that_is_before_it() {
    let (store, repository) = one().await;
    let cancel = Cancel::new();
    let parts = pieces(2);
    let (id, sealed) = write_stream(std::slice::from_ref(&repository), &parts).await;
    let end = sealed[1].place.end;
    let seen = async || repository.stream(id, &cancel).await.unwrap().seen_until;
    assert_eq!(seen().await, None);
    repository
        .mark_seen(id, end, 2_000_000, &json!({}), &cancel)
        .await
        .unwrap();
    repository
        .mark_seen(id, end, 3_000_000, &json!({}), &cancel)
        .await
        .unwrap();
    assert_eq!(seen().await, Some(3_000_000));
    assert_eq!(
        objects(&*store)
            .await
            .iter()
            .filter(|name| name.contains("seen"))
            .count(),
        1
    );
    // A name that nobody sealed proves nothing.
    let forged = ballast_storage::ObjectName::new(&format!("logs/{id}/seen-{end:016x}-{:016x}", 9_000_000)).unwrap();
    store.put_new(&forged, bytes::Bytes::from_static(b"?")).await.unwrap();
    assert_eq!(seen().await, Some(3_000_000));
    assert!(check(&repository).await.is_damaged());
    store.delete(&forged).await.unwrap();
    // The newest segment is taken away: the mark does not count any more, and the check tells.
    let last = ballast_storage::ObjectName::new(&format!("logs/{id}/{}", sealed[1].place)).unwrap();
    store.delete(&last).await.unwrap();
    assert_eq!(seen().await, None);
    let report = check(&repository).await;
    let missing = report.findings.iter().find(|f| f.kind == FindingKind::Missing).unwrap();
    assert_eq!((missing.stream, report.is_damaged()), (Some(id), true));
}

#[tokio::test]
async fn many_streams_are_found_beside_what_is_not_ours() {
    let (store, repository) = one().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(write_stream(std::slice::from_ref(&repository), &pieces(3)).await.0);
        let bare = StreamId::new_random();
        repository
            .create_stream(bare, &json!({}), &Cancel::new())
            .await
            .unwrap();
        ids.push(bare);
    }
    ids.sort();
    for name in [
        "logs/notes",
        "logs/zz/stream",
        &format!("logs/{}/x", ids[4]),
        &format!("logs/{}/zz", ids[0]),
    ] {
        let name = ballast_storage::ObjectName::new(name).unwrap();
        store.put_new(&name, bytes::Bytes::from_static(b"?")).await.unwrap();
    }
    assert_eq!(repository.streams(&Cancel::new()).await.unwrap(), ids);
    let report = check(&repository).await;
    assert_eq!(
        report
            .findings
            .iter()
            .filter(|f| f.kind == FindingKind::Unknown)
            .count(),
        4
    );
    assert_eq!((report.is_damaged(), report.streams.len()), (false, 10));
}

/// Two copies of one repository; the second one on a store that can fail.
async fn two() -> (
    Arc<dyn Storage>,
    Arc<FaultyStorage>,
    Vec<ballast_repository::Repository>,
) {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let faulty = Arc::new(FaultyStorage::new(Arc::new(MemoryStorage::new())));
    let repositories = create(&[
        ("one", Arc::clone(&store)),
        ("two", Arc::clone(&faulty) as Arc<dyn Storage>),
    ])
    .await;
    (store, faulty, repositories)
}

#[tokio::test]
async fn an_interrupted_copy_of_a_stream_goes_on_and_brings_all() {
    let (_, faulty, repositories) = two().await;
    let [from, to] = &repositories[..] else { panic!("two") };
    let cancel = Cancel::new();
    let parts = pieces(5);
    let (id, sealed) = write_stream(std::slice::from_ref(from), &parts).await;
    let end = sealed[4].place.end;
    from.mark_seen(id, end, 5_000_000, &json!({"by": "test"}), &cancel)
        .await
        .unwrap();
    let counted = copy_stream(from, to, id, true, &|_| {}, &cancel).await.unwrap();
    assert_eq!(counted.objects_copied, 6);
    assert!(
        to.streams(&cancel).await.unwrap().is_empty(),
        "a dry run writes nothing"
    );
    for good in 0..7 {
        fail_put_after(&faulty, good);
        let failed = copy_stream(from, to, id, false, &|_| {}, &cancel).await;
        let report = check(to).await;
        assert!(!report.is_damaged(), "after {good}: {:?}", report.findings);
        if failed.is_ok() {
            break;
        }
    }
    let done = copy_stream(from, to, id, false, &|_| {}, &cancel).await.unwrap();
    assert_eq!((done.objects_copied, done.objects_present), (0, 6));
    assert_eq!(read_stream(to, id, 0).await.unwrap(), parts.concat());
    assert_eq!(to.stream(id, &cancel).await.unwrap().seen_until, Some(5_000_000));
}

#[tokio::test]
async fn a_copy_needs_nothing_that_a_merge_holds_on_the_other_side() {
    let (_, _, repositories) = two().await;
    let cancel = Cancel::new();
    let parts = pieces(4);
    let (id, sealed) = write_stream(&repositories, &parts).await;
    let [one, two] = &repositories[..] else { panic!("two") };
    let mut read = Vec::new();
    for segment in &sealed {
        read.push(one.segment(id, &segment.place, &cancel).await.unwrap());
    }
    let places: Vec<_> = sealed.iter().map(|s| s.place).collect();
    // Merged differently on both sides.
    for (repository, range) in [(one, 0..2), (two, 1..4)] {
        let merged = repository.merge_segments(id, json!({}), &read[range.clone()]).unwrap();
        repository.put_segment(id, &merged, &cancel).await.unwrap();
        repository.remove_segments(id, &places[range], &cancel).await.unwrap();
    }
    for (from, to) in [(one, two), (two, one)] {
        let counts = copy_stream(from, to, id, false, &|_| {}, &cancel).await.unwrap();
        assert_eq!(counts.objects_copied, 0);
        assert_eq!(read_stream(to, id, 150).await.unwrap(), parts.concat()[150..]);
    }
    // Even if both merges come to lie in one place, every byte is read once.
    let merged = one.merge_segments(id, json!({}), &read[1..4]).unwrap();
    one.put_segment(id, &merged, &cancel).await.unwrap();
    for from in [0, 150, 300] {
        assert_eq!(
            read_stream(one, id, from).await.unwrap(),
            parts.concat()[usize::try_from(from).unwrap()..]
        );
    }
    assert!(!check(one).await.is_damaged());
}

#[tokio::test]
async fn a_place_that_lost_its_stamp_and_holds_a_log_is_no_empty_place() {
    let (_, faulty, repositories) = two().await;
    write_stream(&repositories, &pieces(2)).await;
    let stamp = ballast_storage::ObjectName::new("ballast-repository").unwrap();
    faulty.delete(&stamp).await.unwrap();
    let store = Arc::clone(&faulty) as Arc<dyn Storage>;
    let error = ballast_repository::Repository::open("two", Arc::clone(&store), &kit::lock(), &Cancel::new())
        .await
        .unwrap_err();
    assert!(matches!(error, RepositoryError::Headless { .. }), "{error}");
    let brought = copy_head(&repositories[0], store, &Cancel::new()).await.unwrap();
    assert_eq!(brought, ["ballast-repository"]);
    assert!(!check(&repositories[1]).await.is_damaged());
}

#[tokio::test]
async fn a_store_that_fails_once_at_any_call_leaves_a_stream_that_can_be_gone_on_with() {
    for call in [
        Call::Put,
        Call::List,
        Call::Get,
        Call::Head,
        Call::GetRange,
        Call::Delete,
    ] {
        for nth in 1..4 {
            let faulty = Arc::new(FaultyStorage::new(Arc::new(MemoryStorage::new())));
            let repository = create(&[("one", Arc::clone(&faulty) as Arc<dyn Storage>)])
                .await
                .remove(0);
            let (cancel, id, part) = (Cancel::new(), StreamId::new_random(), noise(3, 500));
            let place = ballast_repository::SegmentPlace {
                start: 0,
                end: 500,
                first_at: 1,
                last_at: 2,
            };
            let sealed = repository.seal_segment(id, place, json!({}), Link::FIRST, &part);
            let write = async || {
                repository.create_stream(id, &json!({}), &cancel).await?;
                repository.put_segment(id, &sealed, &cancel).await?;
                repository.mark_seen(id, 500, 9, &json!({}), &cancel).await?;
                repository.mark_seen(id, 500, 10, &json!({}), &cancel).await?;
                repository.segment_facts(id, &place, &cancel).await?;
                read_stream(&repository, id, 0).await
            };
            faulty.fail_nth(call, faulty.calls(call) + nth, Fault::Fail);
            let mut failures = 0;
            for _ in 0..4 {
                failures += u32::from(write().await.is_err());
                assert!(!check(&repository).await.is_damaged(), "{call:?} {nth}");
            }
            assert_eq!(failures, 1, "{call:?} {nth}");
            assert_eq!(write().await.unwrap(), part, "{call:?} {nth}");
            assert!(check(&repository).await.findings.is_empty(), "{call:?} {nth}");
        }
    }
}
