//! How fast a log is followed and walked. Run by hand, in release.

use std::time::{Duration, Instant};

use ballast_mysql::{LogFlavour, LogWalker, TransactionWalker};

use crate::capture::{Capture, end};

#[expect(clippy::print_stdout, reason = "a measurement is read by a person")]
fn told(what: &str, bytes: u64, events: usize, took: Duration) {
    let mib = bytes as f64 / (1024.0 * 1024.0);
    println!(
        "{what}: {mib:.0} MiB, {events} events in {:.2} s: {:.0} MiB/s, {:.0} events/s",
        took.as_secs_f64(),
        mib / took.as_secs_f64(),
        events as f64 / took.as_secs_f64()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, and proves nothing"]
async fn speed() {
    let server = crate::mysql::start(&[
        "--max-binlog-size=1G",
        "--sync-binlog=0",
        "--innodb-flush-log-at-trx-commit=0",
    ]);
    server.sql(
        "CREATE DATABASE s; USE s; CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(2000), w INT);
         DELIMITER //
         CREATE PROCEDURE small() BEGIN DECLARE i INT DEFAULT 0; WHILE i < 60000 DO INSERT INTO t (v, w) VALUES (REPEAT('x', 100), i); SET i = i + 1; END WHILE; END//",
    );
    server.sql("CALL s.small()");
    let small = end(&server);
    for _ in 0..6 {
        server.sql("INSERT INTO s.t (v, w) SELECT REPEAT('y', 1000), 1 FROM s.t LIMIT 40000");
    }
    let all = end(&server);
    for (what, place) in [("small transactions", small.clone()), ("all", all)] {
        let began = Instant::now();
        let mut follower = ballast_mysql::LogFollower::connect(
            &crate::capture::address(&server),
            &crate::capture::options(&server),
            &crate::capture::place(&place.file, 4),
            &ballast_base::Cancel::new(),
        )
        .await
        .unwrap();
        let mut events = 0;
        while follower.place().offset < place.offset {
            follower.next().await.unwrap();
            events += 1;
        }
        told(&format!("follower, {what}"), place.offset, events, began.elapsed());
    }
    let mut capture = Capture::start(&server, &small.file).await;
    capture.catch_up(&server).await;
    let whole = &capture.files[&small.file];
    for (what, bytes) in [
        ("small transactions", &whole[..usize::try_from(small.offset).unwrap()]),
        ("all", whole),
    ] {
        let events = crate::capture::borders(bytes).len() - 1;
        let began = Instant::now();
        let mut walker = LogWalker::new(LogFlavour::Mysql, 0);
        for piece in bytes.chunks(256 * 1024) {
            walker.push(piece).unwrap();
        }
        told(&format!("walker, {what}"), bytes.len() as u64, events, began.elapsed());
        let began = Instant::now();
        let mut walker = TransactionWalker::new(LogFlavour::Mysql, 0);
        for piece in bytes.chunks(256 * 1024) {
            walker.push(piece).unwrap();
        }
        told(
            &format!("transaction walker, {what}"),
            bytes.len() as u64,
            events,
            began.elapsed(),
        );
    }
}
