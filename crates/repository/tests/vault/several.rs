use std::sync::Arc;

use ballast_base::{Cancel, Secret};
use ballast_repository::{Lock, Presence, RepositoryError, create_all};
use ballast_storage::{FaultyStorage, MemoryStorage, Storage};

use crate::kit::{self, check, create, objects, restore, sample};

#[tokio::test]
async fn one_repository_that_dies_in_the_middle_never_costs_the_other() {
    let good: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let bad = Arc::new(FaultyStorage::new(Arc::new(MemoryStorage::new())));
    let bad_store: Arc<dyn Storage> = Arc::<FaultyStorage>::clone(&bad);
    let repositories = create(&[("good", good), ("bad", bad_store)]).await;
    kit::back_up(&repositories, 1, &sample(1)).await.unwrap();

    bad.set_down(true);
    let only = kit::back_up(&repositories[..1], 2, &sample(2)).await.unwrap();
    assert_eq!(only.repositories, ["good"]);
    bad.set_down(false);
    // It missed backup 2; the packs it lacks are copied there before it gets a manifest that names them.
    let both = kit::back_up(&repositories, 3, &sample(2)).await.unwrap();
    assert_eq!((both.repositories.len(), both.written.bytes_new), (2, 0));
    assert_eq!(restore(&repositories[1], 3).await.unwrap(), sample(2));
    assert!(check(&repositories[1]).await.findings.is_empty());

    kit::fail_put_after(&bad, 1);
    let partial = kit::back_up(&repositories, 4, &sample(4)).await.unwrap();
    assert_eq!(partial.repositories, ["good"]);
    assert_eq!(partial.lost.len(), 1, "{:?}", partial.lost);
    assert_eq!(partial.lost[0].name, "bad");
    bad.set_down(false);
    assert_eq!(restore(&repositories[0], 4).await.unwrap(), sample(4));
    assert!(!check(&repositories[1]).await.is_damaged());
}

#[tokio::test]
async fn with_no_repository_left_the_backup_fails_and_says_why() {
    let bad = Arc::new(FaultyStorage::new(Arc::new(MemoryStorage::new())));
    let store: Arc<dyn Storage> = Arc::<FaultyStorage>::clone(&bad);
    let repositories = create(&[("bad", store)]).await;
    kit::fail_put_after(&bad, 0);
    let error = kit::back_up(&repositories, 1, &sample(1)).await.unwrap_err();
    assert!(error.to_string().contains("\"bad\""), "{error}");
}

#[tokio::test]
async fn of_several_that_create_one_repository_one_wins_and_the_others_find_its_own() {
    let [one, two]: [Arc<dyn Storage>; 2] = [Arc::new(MemoryStorage::new()), Arc::new(MemoryStorage::new())];
    let places = || {
        vec![
            ("one".to_owned(), Arc::clone(&one)),
            ("two".to_owned(), Arc::clone(&two)),
        ]
    };
    let cancel = Cancel::new();
    let (lock, other) = (kit::lock(), Lock::KeyFile(Secret::new("a5".repeat(32))));
    let (first, second, third, stranger) = tokio::join!(
        create_all(places(), &lock, &cancel),
        create_all(places(), &lock, &cancel),
        create_all(places(), &lock, &cancel),
        create_all(places(), &other, &cancel),
    );
    // Who is first is chance; those of the other key are then refused, all of them.
    let (made, refused): (Vec<_>, Vec<_>) = if stranger.is_ok() {
        (vec![stranger], vec![first, second, third])
    } else {
        (vec![first, second, third], vec![stranger])
    };
    for outcome in refused {
        assert!(matches!(outcome, Err(RepositoryError::WrongKey { .. })), "{outcome:?}");
    }
    let made: Vec<_> = made.into_iter().flat_map(Result::unwrap).collect();
    assert!(
        made.iter().all(|(repository, _)| repository.id() == made[0].0.id()),
        "{made:?}"
    );
    let winners = |name| {
        let created = |(repository, presence): &&(ballast_repository::Repository, Presence)| {
            repository.name() == name && *presence == Presence::Created
        };
        made.iter().filter(created).count()
    };
    assert_eq!((winners("one"), winners("two")), (1, 1), "{made:?}");
    for store in [&one, &two] {
        let there = objects(&**store).await;
        assert_eq!(there.len(), 2, "a stamp and one key slot: {there:?}");
    }
}
