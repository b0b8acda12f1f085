use std::sync::Arc;

use ballast_base::Cancel;
use ballast_mysql::{ExecutedSet, LogFlavour, LogFollower, LogRefusal, MysqlError, Walked, read_log_head};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use crate::capture::{Capture, address, borders, end, options, place, read_by_mysqlbinlog, rest};

pub(crate) fn start() -> Arc<MysqlServer> {
    let options = MysqlOptions {
        durable: true,
        ..MysqlOptions::mariadb()
    };
    Arc::new(MysqlServer::start(
        options
            .arg("--max-allowed-packet=128M")
            .arg("--binlog-annotate-row-events=1"),
    ))
}

fn work(server: &MysqlServer) {
    server.sql(
        "CREATE DATABASE s; USE s;
         CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGBLOB);
         INSERT INTO t (v) VALUES ('one'), ('two');
         BEGIN; INSERT INTO t (v) VALUES ('kept'); SAVEPOINT a; INSERT INTO t (v) VALUES ('not'); ROLLBACK TO a;
         UPDATE t SET v = CONCAT(v, '!'); COMMIT;
         SET SESSION gtid_domain_id = 5; INSERT INTO t (v) VALUES ('another domain'); SET SESSION gtid_domain_id = 0;
         SET GLOBAL log_bin_compress = 1; INSERT INTO t (v) SELECT REPEAT('x', 1000) FROM t a, t b, t c; SET GLOBAL log_bin_compress = 0;
         FLUSH LOGS;
         CREATE TABLE u AS SELECT id, LEFT(v, 100) AS v FROM t;
         XA START 'x'; INSERT INTO t (v) VALUES ('xa'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x';
         XA START 'y'; INSERT INTO t (v) VALUES ('xa'); XA END 'y'; XA PREPARE 'y'; XA ROLLBACK 'y';
         SET SESSION binlog_format = STATEMENT; SET @v = 'of a variable'; INSERT INTO t (v) VALUES (@v); SET SESSION binlog_format = ROW;
         CREATE TABLE m (id INT) ENGINE=MyISAM; INSERT INTO m VALUES (1), (2);
         BEGIN; INSERT INTO m VALUES (3); INSERT INTO t (v) VALUES ('both'); ROLLBACK;
         ALTER TABLE u ADD COLUMN w INT; TRUNCATE u; DROP TABLE u;",
    );
}

/// The last of each domain, as the server says.
fn position(server: &MysqlServer) -> ExecutedSet {
    ExecutedSet::parse(LogFlavour::MariaDb, &server.value("SELECT @@gtid_binlog_pos")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_files_are_the_servers_own_byte_by_byte() {
    let server = start();
    server.sql("SET GLOBAL rpl_semi_sync_master_timeout = 20000; SET GLOBAL rpl_semi_sync_master_enabled = 1");
    let first = end(&server).file;
    let mut capture = Capture::start(&server, &first).await;
    assert!(capture.follower.is_semi_sync());
    capture.during(&server, work).await;
    capture
        .during(&server, |server| {
            server.sql("INSERT INTO s.t (v) VALUES (REPEAT('y', 20 * 1024 * 1024))");
        })
        .await;
    assert_eq!(capture.parts_max, 2);
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
    capture.compare(&server).await;
    assert_eq!(capture.executed(&server), position(&server));
    let status = |name: &str| {
        let row = server
            .sql(&format!("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_{name}'"))
            .remove(0);
        row[1].clone().unwrap()
    };
    assert_eq!(
        (
            status("clients").as_str(),
            status("no_tx").as_str(),
            status("status").as_str()
        ),
        ("1", "0", "ON")
    );
    assert!(status("yes_tx").parse::<u64>().unwrap() > 10);
    let (starts, ends) = capture
        .walked
        .iter()
        .fold((0, 0), |(starts, ends), walked| match walked {
            Walked::TransactionStart { .. } => (starts + 1, ends),
            Walked::TransactionEnd { .. } => (starts, ends + 1),
            _ => (starts, ends),
        });
    assert!(starts == ends && starts > 15);
    for bytes in capture.files.values() {
        assert!(read_by_mysqlbinlog(&server, bytes).contains("GTID 0-"));
    }
    for (name, bytes) in &capture.files {
        let head = read_log_head(&address(&server), LogFlavour::MariaDb, name, &Cancel::new())
            .await
            .unwrap();
        assert!(
            bytes[4..].starts_with(&[&head.format[..], &head.previous].concat()),
            "{name}"
        );
        assert!(!head.previous.is_empty());
    }

    capture.heartbeats = 0;
    while capture.heartbeats < 2 {
        capture.step().await.unwrap();
    }
    let stopping = Arc::clone(&server);
    let stop = ballast_base::spawn("stop", async move {
        ballast_base::run_blocking("stop", move || stopping.stop())
            .await
            .unwrap();
    });
    while capture
        .step()
        .await
        .is_ok_and(|followed| followed != ballast_mysql::Followed::Ended)
    {}
    stop.join().await.unwrap();
    server.restart();
    capture.reconnect(&server).await;
    capture.catch_up(&server).await;
    assert!(capture.walked.contains(&Walked::Stop));
    server.sql("INSERT INTO s.t (v) VALUES ('before the kill')");
    capture.catch_up(&server).await;
    server.kill();
    while capture.step().await.is_ok() {}
    server.restart();
    capture.reconnect(&server).await;
    server.sql("FLUSH LOGS");
    capture.catch_up(&server).await;
    capture.compare(&server).await;
    assert_eq!(capture.executed(&server), position(&server));
}

#[tokio::test(flavor = "multi_thread")]
async fn following_goes_on_at_any_event_and_says_why_it_cannot() {
    let server = start();
    let first = end(&server).file;
    work(&server);
    let mut capture = Capture::start(&server, &first).await;
    capture.catch_up(&server).await;
    let (file, bytes) = capture.files.first_key_value().unwrap();
    let all = borders(bytes);
    assert_eq!(*all.last().unwrap(), bytes.len());
    assert!(all.len() > 20, "{}", all.len());
    let far = ballast_mysql::FollowOptions {
        plain_offset_max: 4,
        ..options(&server)
    };
    for border in all.iter().step_by(3) {
        let from = place(file, *border as u64);
        for options in [&options(&server), &far] {
            let rest = rest(&server, options, &from).await.unwrap();
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
    ] {
        let (found, message) = cause(
            rest(&server, &options(&server), &place(file, offset))
                .await
                .unwrap_err(),
        );
        assert_eq!(found, expected, "{file}:{offset}: {message}");
    }
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
