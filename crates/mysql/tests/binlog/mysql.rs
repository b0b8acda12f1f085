use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast_base::Cancel;
use ballast_mysql::{LogFlavour, LogFollower, LogRefusal, LogWalker, MysqlError, Walked, read_log_head};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use crate::capture::{Capture, address, borders, end, options, place, read_by_mysqlbinlog, rest};

pub(crate) fn start(args: &[&str]) -> Arc<MysqlServer> {
    let options = args.iter().fold(
        MysqlOptions {
            durable: true,
            ..MysqlOptions::default()
        },
        |options, arg| options.arg(*arg),
    );
    Arc::new(MysqlServer::start(options.arg("--max-allowed-packet=128M")))
}

/// One of everything that writes a log.
fn work(server: &MysqlServer) {
    server.sql(
        "CREATE DATABASE s; USE s;
         CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGBLOB);
         INSERT INTO t (v) VALUES ('one'), ('two');
         BEGIN; INSERT INTO t (v) VALUES ('kept'); SAVEPOINT a; INSERT INTO t (v) VALUES ('not'); ROLLBACK TO a;
         UPDATE t SET v = CONCAT(v, '!'); COMMIT;
         BEGIN; DELETE FROM t; ROLLBACK;
         SET gtid_next = 'AUTOMATIC:nightly_job'; INSERT INTO t (v) VALUES ('tagged'); SET gtid_next = 'AUTOMATIC';
         SET SESSION binlog_transaction_compression = ON;
         INSERT INTO t (v) SELECT REPEAT('x', 1000) FROM t a, t b, t c;
         SET SESSION binlog_transaction_compression = OFF;
         FLUSH LOGS;
         CREATE TABLE u AS SELECT id, LEFT(v, 100) AS v FROM t;
         XA START 'x'; INSERT INTO t (v) VALUES ('xa'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x';
         SET SESSION binlog_format = STATEMENT; SET @v = 'of a variable'; INSERT INTO t (v) VALUES (@v); SET SESSION binlog_format = ROW;
         ALTER TABLE u ADD COLUMN w INT; TRUNCATE u; DROP TABLE u;
         CREATE USER 'nobody'@'%' IDENTIFIED BY 'tide'; DROP USER 'nobody'@'%';",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_files_are_the_servers_own_byte_by_byte() {
    let server = start(&["--max-binlog-size=40M"]);
    let first = end(&server).file;
    let mut capture = Capture::start(&server, &first).await;
    capture.during(&server, work).await;
    // An event over several packets, and transactions of more than 16 MiB, compressed and not.
    capture
        .during(&server, |server| {
            server.sql(
                "USE s; INSERT INTO t (v) VALUES (REPEAT('y', 20 * 1024 * 1024));
                 BEGIN; INSERT INTO t (v) VALUES (REPEAT('z', 9 * 1024 * 1024)), (REPEAT('w', 9 * 1024 * 1024));
                 INSERT INTO t (v) VALUES (REPEAT('v', 9 * 1024 * 1024)); COMMIT;
                 SET SESSION binlog_transaction_compression = ON;
                 INSERT INTO t (v) VALUES (RANDOM_BYTES(1024)), (REPEAT('y', 20 * 1024 * 1024));",
            );
        })
        .await;
    assert_eq!(capture.parts_max, 2);
    // Events that fill packets to the last byte.
    capture.catch_up(&server).await;
    capture
        .during(&server, |server| {
            server.sql("INSERT INTO s.t (v) VALUES (REPEAT('a', 1000000))")
        })
        .await;
    capture.catch_up(&server).await;
    let around = capture
        .events
        .iter()
        .max_by_key(|size| (**size > 1_000_000 && **size < 1_001_000, **size));
    let around = around.unwrap() - 1_000_000;
    for packets in [1, 2] {
        let length = packets * 0xFF_FFFF - 1 - around;
        let sql = format!("INSERT INTO s.t (v) VALUES (REPEAT('b', {length}))");
        capture.during(&server, move |server| server.sql(&sql)).await;
        capture.catch_up(&server).await;
        assert!(
            capture.events.contains(&(packets * 0xFF_FFFF - 1)),
            "the event fills its packets"
        );
    }
    // Files without checksums, and with them again.
    capture
        .during(&server, |server| {
            server.sql(
                "SET GLOBAL binlog_checksum = NONE; INSERT INTO s.t (v) VALUES ('without'), (REPEAT('c', 100000));
                 SET GLOBAL binlog_checksum = CRC32; INSERT INTO s.t (v) VALUES ('with')",
            );
        })
        .await;
    capture.catch_up(&server).await;
    assert!(capture.files.len() >= 6, "{:?}", capture.files.keys());
    capture.compare(&server).await;
    assert_eq!(capture.executed(&server).to_string(), server.gtid_executed());
    assert!(server.gtid_executed().contains(":nightly_job:1"));
    for bytes in capture.files.values() {
        assert!(read_by_mysqlbinlog(&server, bytes).contains("SET @@SESSION.GTID_NEXT"));
    }

    // What reads a head sees the sets of the files, and disturbs nobody.
    for (name, bytes) in &capture.files {
        let head = read_log_head(&address(&server), LogFlavour::Mysql, name, &Cancel::new())
            .await
            .unwrap();
        let walked = LogWalker::new(LogFlavour::Mysql, 0).push(bytes).unwrap();
        let previous = walked.iter().find_map(|walked| match walked {
            Walked::Previous { set, .. } => Some(set.clone()),
            _ => None,
        });
        assert_eq!(Some(head.set), previous);
        assert!(
            bytes[4..].starts_with(&[&head.format[..], &head.previous].concat()),
            "{name}"
        );
        assert_eq!(head.version, server.version());
    }
    server.sql("INSERT INTO s.t (v) VALUES ('still followed')");
    capture.catch_up(&server).await;

    // A clean stop: the last event of the file comes after it.
    let last = capture.follower.place().file.clone();
    let stopping = Arc::clone(&server);
    let stop = ballast_base::spawn("stop", async move {
        ballast_base::run_blocking("stop", move || stopping.stop())
            .await
            .unwrap();
    });
    capture.until_the_end().await;
    stop.join().await.unwrap();
    assert!(!capture.walked.contains(&Walked::Stop));
    server.restart();
    capture.reconnect(&server).await;
    capture.catch_up(&server).await;
    assert!(capture.walked.contains(&Walked::Stop));
    assert_ne!(capture.follower.place().file, last);
    // A kill: the file ends as it is.
    server.sql("INSERT INTO s.t (v) VALUES ('before the kill')");
    capture.catch_up(&server).await;
    server.kill();
    while capture.step().await.is_ok() {}
    server.restart();
    capture.reconnect(&server).await;
    server.sql("FLUSH LOGS");
    capture.catch_up(&server).await;
    capture.compare(&server).await;
    assert_eq!(capture.executed(&server).to_string(), server.gtid_executed());
}

#[tokio::test(flavor = "multi_thread")]
async fn following_goes_on_at_any_event_and_says_why_it_cannot() {
    let server = start(&[]);
    let first = end(&server).file;
    work(&server);
    let mut capture = Capture::start(&server, &first).await;
    capture.catch_up(&server).await;
    let (file, bytes) = capture.files.first_key_value().unwrap();
    let all = borders(bytes);
    assert_eq!(*all.last().unwrap(), bytes.len());
    assert!(all.len() > 20, "{}", all.len());
    // From there, and from the file's start as for offsets that the command cannot name.
    let far = |server: &MysqlServer| ballast_mysql::FollowOptions {
        plain_offset_max: 4,
        ..options(server)
    };
    for border in all.iter().step_by(5) {
        let from = place(file, *border as u64);
        for options in [options(&server), far(&server)] {
            let rest = rest(&server, &options, &from).await.unwrap();
            assert!(rest == bytes[*border..], "from {border}");
        }
    }
    let cause = |error: MysqlError| match error {
        MysqlError::LogRefused { cause, message, .. } => (cause, message),
        other => panic!("{other}"),
    };
    for (file, offset, expected) in [
        (file.as_str(), all[3] as u64 + 1, LogRefusal::NoBorder),
        (file.as_str(), bytes.len() as u64 + 1, LogRefusal::BeyondEnd),
        ("binlog.999999", 4, LogRefusal::FileGone),
        ("other.000001", 4, LogRefusal::FileGone),
    ] {
        let (found, message) = cause(
            rest(&server, &options(&server), &place(file, offset))
                .await
                .unwrap_err(),
        );
        assert_eq!(found, expected, "{file}:{offset}: {message}");
    }
    let error = read_log_head(&address(&server), LogFlavour::Mysql, "binlog.999999", &Cancel::new()).await;
    assert_eq!(cause(error.unwrap_err()).0, LogRefusal::FileGone);

    // A second one with our identity replaces us.
    let from = end(&server);
    let mut older = LogFollower::connect(&address(&server), &options(&server), &from, &Cancel::new())
        .await
        .unwrap();
    let newer = LogFollower::connect(&address(&server), &options(&server), &from, &Cancel::new())
        .await
        .unwrap();
    let replaced = loop {
        if let Err(error) = older.next().await {
            break error;
        }
    };
    assert_eq!(cause(replaced).0, LogRefusal::Replaced);
    drop(newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_the_acknowledgement_and_for_no_longer() {
    let server = start(&["--plugin-load-add=semisync_source.so"]);
    server.sql(
        "CREATE DATABASE s; CREATE TABLE s.t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGBLOB);
         SET GLOBAL rpl_semi_sync_source_enabled = 1; SET GLOBAL rpl_semi_sync_source_timeout = 20000;",
    );
    let status = |server: &MysqlServer, name: &str| {
        let row = server
            .sql(&format!("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_{name}'"))
            .remove(0);
        row[1].clone().unwrap()
    };
    let mut capture = Capture::start(&server, &end(&server).file).await;
    assert!(capture.follower.is_semi_sync());
    capture.catch_up(&server).await;
    assert_eq!(status(&server, "clients"), "1");
    let before: u64 = status(&server, "yes_tx").parse().unwrap();
    let asked = capture.asked;
    capture
        .during(&server, |server| {
            for _ in 0..20 {
                server.sql("INSERT INTO s.t (v) VALUES ('tide')");
            }
            server.sql("INSERT INTO s.t (v) VALUES (REPEAT('y', 20 * 1024 * 1024)); FLUSH LOGS; INSERT INTO s.t (v) VALUES ('next file')");
        })
        .await;
    let yes: u64 = status(&server, "yes_tx").parse().unwrap();
    assert_eq!((yes - before, capture.asked - asked), (22, 22));
    assert_eq!(
        (status(&server, "no_tx").as_str(), status(&server, "status").as_str()),
        ("0", "ON")
    );

    // Nothing is acknowledged that did not come.
    let here = capture.follower.place().clone();
    for (file, offset) in [(here.file.as_str(), here.offset + 1), ("binlog.000099", 4)] {
        assert!(capture.follower.acknowledge(file, offset).await.is_err());
    }
    // The one who waits is let go by the acknowledgement, not before it, and also by another connection at our place.
    for reconnects in [false, true] {
        capture.acknowledges = false;
        let (asked, began) = (capture.asked, Instant::now());
        let waiting = Arc::clone(&server);
        let commit = ballast_base::spawn("commit", async move {
            ballast_base::run_blocking("sql", move || {
                waiting.sql("INSERT INTO s.t (v) VALUES ('waits')");
                Instant::now()
            })
            .await
            .unwrap()
        });
        while capture.asked == asked {
            capture.step().await.unwrap();
        }
        let held = tokio::time::timeout(Duration::from_secs(2), async {
            loop {
                capture.step().await.unwrap();
            }
        });
        assert!(held.await.is_err() && !commit.is_finished());
        assert_eq!(
            server.value("SELECT COUNT(*) FROM s.t WHERE v = 'waits'"),
            if reconnects { "1" } else { "0" }
        );
        capture.acknowledges = true;
        if reconnects {
            capture.reconnect(&server).await;
        }
        let place = capture.follower.place().clone();
        let acknowledged = Instant::now();
        capture.follower.acknowledge(&place.file, place.offset).await.unwrap();
        let done = commit.join().await.unwrap();
        assert!(done - began >= Duration::from_secs(2));
        assert!(
            done - acknowledged < Duration::from_secs(3),
            "{:?}",
            done - acknowledged
        );
    }
    assert_eq!(
        (status(&server, "no_tx").as_str(), status(&server, "status").as_str()),
        ("0", "ON")
    );
    capture.catch_up(&server).await;
    capture.compare(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_brings_heartbeats_and_a_cancel_ends_the_wait() {
    let server = start(&[]);
    let cancel = Cancel::new();
    let here = end(&server);
    let mut follower = LogFollower::connect(&address(&server), &options(&server), &here, &cancel)
        .await
        .unwrap();
    for _ in 0..3 {
        let expected = ballast_mysql::Followed::Heartbeat {
            file: here.file.clone(),
            offset: here.offset,
        };
        assert_eq!(follower.next().await.unwrap(), expected);
    }
    cancel.cancel();
    assert!(matches!(follower.next().await, Err(MysqlError::Cancelled(_))));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server whose installation loads a keyring component"]
async fn encrypted_files_come_in_the_clear_and_are_as_long_as_told() {
    let server = start(&["--binlog-encryption=ON"]);
    let first = end(&server).file;
    let mut capture = Capture::start(&server, &first).await;
    capture.during(&server, work).await;
    capture.catch_up(&server).await;
    let mut connection = ballast_mysql::Connection::open(&address(&server), &Cancel::new())
        .await
        .unwrap();
    let listed = ballast_mysql::list_log_files(&mut connection).await.unwrap();
    for file in &listed {
        assert!(file.encrypted);
        let ours = &capture.files[&file.name];
        assert_eq!(file.size, ours.len() as u64, "{}", file.name);
        assert!(read_by_mysqlbinlog(&server, ours).contains("SET @@SESSION.GTID_NEXT"));
        let head = read_log_head(&address(&server), LogFlavour::Mysql, &file.name, &Cancel::new())
            .await
            .unwrap();
        assert!(ours[4..].starts_with(&[&head.format[..], &head.previous].concat()));
    }
    assert_eq!(capture.files.len(), listed.len());
    assert_eq!(capture.executed(&server).to_string(), server.gtid_executed());
    let all = borders(&capture.files[&first]);
    for border in all.iter().step_by(7) {
        let rest = rest(&server, &options(&server), &place(&first, *border as u64))
            .await
            .unwrap();
        assert!(rest == capture.files[&first][*border..], "from {border}");
    }
}
