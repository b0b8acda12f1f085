//! A server that began its log anew and gave its numbers a second time.

use super::*;

fn insert(server: &MysqlServer, ids: std::ops::RangeInclusive<u32>) {
    for id in ids {
        server.sql(&format!("INSERT INTO s.t VALUES ({id})"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_was_given_twice_is_taken_for_neither() {
    let server = MysqlServer::start(MysqlOptions::default());
    server.sql("CREATE DATABASE s; CREATE TABLE s.t (id INT PRIMARY KEY)");
    insert(&server, 3..=12);
    let old = Log::of(&server);
    server.sql("RESET BINARY LOGS AND GTIDS");
    insert(&server, 21..=30);
    let new = Log::of(&server);
    assert_eq!((old.transactions.len(), new.transactions.len()), (12, 10));
    let uuid = server.value("SELECT @@server_uuid");
    let set = |last: u64| ExecutedSet::try_from(format!("{uuid}:1-{last}")).unwrap();
    let gtid = |number: u64| format!("{uuid}:{number}").parse::<Gtid>().unwrap();

    let site = Site::new().await;
    let (first, _) = old
        .capture(site.repository(), (0, old.bytes.len() as u64), old.at(1), None)
        .await;
    let before = site.back_up(old.at(2) + TICK, &set(2)).await;
    // Nobody recorded: it was begun anew, and backed up.
    let behind = site.back_up(new.at(4) + TICK, &set(4)).await;
    let (second, _) = new
        .capture(site.repository(), (0, new.bytes.len() as u64), new.at(9), Some("reset"))
        .await;

    let stops = [
        (Stop::Before(gtid(7)), 6),
        (Stop::Position(PositionStop::Through(gtid(7))), 7),
        (Stop::Position(PositionStop::Set(set(7))), 7),
    ];
    for (stop, last) in stops {
        let error = site.plan(Some(stop.clone()), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{stop}: {error}");
        let hint = error.hint_text().unwrap();
        for (log, backup) in [(&old, &before), (&new, &behind)] {
            assert!(
                error.to_string().contains(&format!("committed at {}", log.at(7))),
                "{error}"
            );
            let choice = format!("--backup {backup} for the one committed at {}", log.at(7));
            assert!(hint.contains(&choice), "{hint}");
            let chosen = site.plan(Some(stop.clone()), Some(backup)).await.unwrap().unwrap();
            let replay = chosen.replay.unwrap();
            assert_eq!((&chosen.backup.id, &replay.expected), (backup, &set(last)), "{stop}");
            let kept = replay.last_kept.unwrap().committed_at;
            assert_eq!(kept, log.at(usize::try_from(last).unwrap()), "{stop}");
        }
    }
    // What only one of them has.
    let chosen = site.plan(Some(Stop::Before(gtid(11))), None).await.unwrap().unwrap();
    assert_eq!((&chosen.backup.id, chosen.replay.unwrap().expected), (&before, set(10)));
    // What is in the newer backup already may be meant all the same.
    let error = site.plan(Some(Stop::Before(gtid(3))), None).await.unwrap_err();
    let words = format!("no backup leads to the one committed at {}", new.at(3));
    assert!(error.hint_text().unwrap().contains(&words), "{error:?}");

    // Left out: the same, unless the moment says which.
    let skipping = async |stop: Option<Stop>, backup: Option<&str>, number: u64| {
        let mut request = Site::request(stop, backup);
        request.skip = vec![gtid(number)];
        let backups = list(&site.context, &site.vault, Some("orders")).await.unwrap();
        plan_log(&site.context, &site.vault, &request, &backups, &|_| true).await
    };
    let error = skipping(None, None, 7).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    for (stop, backup, begins, expected) in [
        (None, Some(&before), &before, 12),
        (None, Some(&behind), &behind, 10),
        (Some(Stop::At(old.at(9))), None, &before, 9),
        (Some(Stop::At(new.at(9))), None, &behind, 9),
        (None, None, &before, 12),
    ] {
        let number = if stop.is_none() && backup.is_none() { 11 } else { 7 };
        let chosen = skipping(stop, backup.map(String::as_str), number)
            .await
            .unwrap()
            .unwrap();
        let replay = chosen.replay.unwrap();
        assert_eq!((&chosen.backup.id, replay.expected), (begins, set(expected)));
        assert_eq!(replay.skip, [gtid(number)]);
    }
    let said = std::mem::take(&mut *site.heard.0.lock().unwrap());
    assert!(
        said.iter().any(|(message, _)| message.contains("ends with that log")),
        "{said:?}"
    );

    // What `log find` proposes leads to what it listed.
    let back = async |stream: StreamId, number: u64| {
        go_back(&site.context, &site.vault, "orders", (stream, &gtid(number)))
            .await
            .unwrap()
    };
    assert_eq!(back(first, 7).await, GoBack::From(before.clone()));
    assert_eq!(back(second, 7).await, GoBack::From(behind.clone()));
    assert_eq!(back(first, 11).await, GoBack::ByName);
    assert_eq!(back(second, 3).await, GoBack::Never);

    // A file of the same name at the same place: the newer is meant, and that is said.
    let end = new.transactions[6].end - new.files[0].1;
    let file = PositionStop::File {
        file: new.files[0].0.clone(),
        offset: end,
    };
    let chosen = site.plan(Some(Stop::Position(file)), None).await.unwrap().unwrap();
    assert_eq!((&chosen.backup.id, chosen.replay.unwrap().expected), (&behind, set(7)));
    let said = std::mem::take(&mut *site.heard.0.lock().unwrap());
    assert!(
        said.iter()
            .any(|(message, _)| message.contains("is taken for that of the log")),
        "{said:?}"
    );
}
