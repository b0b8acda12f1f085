//! Consistent reads of real servers, while others write, change definitions, or are in the way.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test waits by itself, and panics when something is not as it must be"
)]

mod bank;
mod mariadb;

use std::time::{Duration, Instant};

use ballast_base::{Cancel, Retryable as _};
use ballast_mysql::{ConsistentRead, Ddl, Guarantee, Moment, MysqlError, ReadOptions};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use bank::{Writers, address, begin, check, facts, open};

const LOCK_WAIT_TIMEOUT: Option<u16> = Some(1205);
const EAGER: Duration = Duration::ZERO;

fn mysql() -> MysqlServer {
    let server = MysqlServer::start(MysqlOptions {
        clone_plugin: false,
        ..MysqlOptions::default()
    });
    let see = ["SELECT", "PROCESS", "REPLICATION CLIENT"];
    server.create_user("full", "tide", &[&see[..], &["RELOAD", "BACKUP_ADMIN"]].concat());
    server.create_user("locker", "tide", &[&see[..], &["RELOAD"]].concat());
    server.create_user("managed", "tide", &see);
    server.create_user("poor", "tide", &["SELECT"]);
    server.create_user("writer", "tide", &["ALL"]);
    bank::create(&server);
    server
}

/// Tries that fail soon.
fn impatient() -> ReadOptions {
    ReadOptions {
        lock_wait_max: Duration::from_secs(1),
        long_statement: Duration::from_secs(1),
        lock_tries_max: 2,
        lock_try_every: Duration::from_millis(200),
        ..ReadOptions::default()
    }
}

fn disturbed(result: Result<impl std::fmt::Debug, MysqlError>) -> String {
    let error = result.unwrap_err();
    assert!(
        matches!(error, MysqlError::Disturbed { .. }) && error.may_retry() && error.hint().is_some(),
        "{error:?}"
    );
    error.to_string()
}

/// Fails, as a statement that waits for a lock does.
async fn assert_waits(server: &MysqlServer, sql: &str) {
    let mut connection = open(server, "writer").await;
    connection.execute("SET lock_wait_timeout = 1").await.unwrap();
    let error = connection.execute(sql).await.unwrap_err();
    assert_eq!(error.server_code(), LOCK_WAIT_TIMEOUT, "{sql}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_connections_see_one_moment_and_its_position_while_others_write() {
    let server = mysql();
    let before = bank::before(&server, false);
    for (user, ddl, connections, pause) in [
        ("full", Ddl::HeldOff, 4, EAGER),
        ("locker", Ddl::Compared, 8, EAGER),
        // Without a lock it needs a quiet moment, of which there are some between slow writers.
        ("managed", Ddl::Compared, 4, Duration::from_millis(300)),
    ] {
        let moment = if user == "managed" {
            Moment::Proved
        } else {
            Moment::Locked
        };
        let writers = Writers::start(&server, 3, pause).await;
        let mut last = 0;
        for _ in 0..5 {
            let options = ReadOptions {
                connections,
                ..ReadOptions::default()
            };
            let mut read = begin(&server, user, options).await.unwrap();
            assert_eq!(read.guarantee, Guarantee { moment, ddl }, "{user}");
            assert_eq!(read.connections.len(), connections);
            let position = read.position.clone().unwrap();
            assert!(position.file.is_some() && position.gtid_position.is_none());
            let made = check(&mut read, &server, before, &position).await;
            assert!(made > last, "{user}: the writers stood still, {made}");
            last = made;
            read.finish(|_, _| true).await.unwrap();
        }
        assert!(writers.stop().await > 0);
    }
    // Nobody was left waiting, and nothing is held.
    server.sql("ALTER TABLE bank.log COMMENT = 'free'; INSERT INTO bank.log VALUES ()");
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_without_the_global_lock_it_is_proved_or_refused() {
    let server = mysql();
    // Quiet.
    let read = begin(&server, "managed", ReadOptions::default()).await.unwrap();
    assert_eq!(read.guarantee.moment, Moment::Proved);
    read.finish(|_, _| true).await.unwrap();

    // Hardly ever quiet: it gives up, or it has found a moment, which is one then.
    let before = bank::before(&server, false);
    let writers = Writers::start(&server, 4, EAGER).await;
    let many = ReadOptions {
        connections: 32,
        ..ReadOptions::default()
    };
    let started = Instant::now();
    match begin(&server, "managed", many).await {
        Ok(mut read) => {
            let position = read.position.clone().unwrap();
            check(&mut read, &server, before, &position).await;
        }
        Err(error) => {
            let words = disturbed(Err::<(), _>(error));
            assert!(words.contains("no quiet moment"), "{words}");
        }
    }
    assert!(started.elapsed() < Duration::from_secs(60));
    writers.stop().await;

    // One commit is on its way: its GTID is owned, and neither the executed set nor the log has moved.
    let mut owner = open(&server, "writer").await;
    let uuid = server.value("SELECT @@server_uuid");
    let next = format!("SET gtid_next = '{uuid}:999999'");
    owner.execute(&next).await.unwrap();
    let words = disturbed(begin(&server, "managed", ReadOptions::default()).await);
    assert!(words.contains("transactions are being committed"), "{words}");
    owner.execute("START TRANSACTION").await.unwrap();
    owner.execute("COMMIT").await.unwrap();
    drop(owner);
    drop(begin(&server, "managed", ReadOptions::default()).await.unwrap());

    // Nothing to prove it by: the privilege that is missing is named.
    let refused = async |user: &str, options: ReadOptions, hint: &str| {
        let error = begin(&server, user, options).await.unwrap_err();
        assert!(
            matches!(error, MysqlError::Unsupported { .. }) && !error.may_retry(),
            "{error:?}"
        );
        assert!(error.hint().unwrap().contains(hint), "{error:?}");
    };
    refused(
        "poor",
        ReadOptions::default(),
        "GRANT BACKUP_ADMIN, PROCESS ON *.* TO 'poor'@'%'",
    )
    .await;
    let held = ReadOptions {
        hold_global: Some(Duration::from_secs(9)),
        ..ReadOptions::default()
    };
    refused("managed", held, "GRANT RELOAD ON *.* TO 'managed'@'%'").await;
    server.sql("SET GLOBAL gtid_mode = ON_PERMISSIVE");
    refused("managed", ReadOptions::default(), "GRANT RELOAD").await;
    let read = begin(&server, "full", ReadOptions::default()).await.unwrap();
    let position = read.position.clone().unwrap();
    assert!(position.gtid_set.is_none() && position.offset.is_some(), "{position:?}");
    read.finish(|_, _| true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_definitions_are_held_or_a_change_is_named() {
    let server = mysql();
    server.sql(
        "CREATE DATABASE shop;
        CREATE TABLE shop.a (id INT PRIMARY KEY, tag INT); INSERT INTO shop.a VALUES (1, 1);
        CREATE TABLE shop.b (id INT PRIMARY KEY, tag INT); INSERT INTO shop.b VALUES (1, 2);
        CREATE TABLE shop.`we ird#` (id INT PRIMARY KEY); CREATE TABLE shop.`\u{e4}` (id INT PRIMARY KEY);",
    );
    let read = begin(&server, "full", ReadOptions::default()).await.unwrap();
    for sql in [
        "RENAME TABLE shop.a TO shop.c",
        "ALTER TABLE shop.a DROP COLUMN tag",
        "TRUNCATE TABLE shop.a",
        "DROP TABLE shop.a",
        "CREATE TABLE shop.d (id INT)",
        "CREATE VIEW shop.v AS SELECT 1",
        "CREATE USER nobody",
        "CREATE DATABASE other",
    ] {
        assert_waits(&server, sql).await;
    }
    read.finish(|_, _| true).await.unwrap();

    for user in ["locker", "managed"] {
        server.sql("ALTER TABLE shop.`we ird#` PARTITION BY HASH (id) PARTITIONS 2");
        for (sql, words) in [
            // The one that would otherwise show wrong rows.
            (
                "RENAME TABLE shop.a TO shop.c, shop.b TO shop.a, shop.c TO shop.b",
                "table \"shop.a\" changed; table \"shop.b\" changed; the server ran RENAME TABLE",
            ),
            (
                "ALTER TABLE shop.a DROP COLUMN tag, ADD COLUMN tag INT, ALGORITHM = INSTANT",
                "table \"shop.a\" changed",
            ),
            ("TRUNCATE TABLE shop.b", "table \"shop.b\" changed"),
            (
                "ALTER TABLE shop.`we ird#` REMOVE PARTITIONING",
                "table \"shop.we ird#\" changed",
            ),
            (
                "TRUNCATE TABLE shop.`\u{e4}`",
                "table \"shop/@0k\" (as its file is named) changed",
            ),
            (
                "RENAME TABLE shop.a TO shop.c; RENAME TABLE shop.c TO shop.a",
                "the server ran RENAME TABLE",
            ),
            ("CREATE TABLE shop.fresh (id INT)", "table \"shop.fresh\" changed"),
            ("DROP TABLE shop.fresh", "table \"shop.fresh\" changed"),
            (
                "CREATE VIEW shop.v AS SELECT 1; DROP VIEW shop.v",
                "the server ran CREATE VIEW, DROP VIEW",
            ),
        ] {
            let read = begin(&server, user, ReadOptions::default()).await.unwrap();
            assert_eq!(read.guarantee.ddl, Ddl::Compared);
            server.sql(sql);
            let found = disturbed(read.finish(|_, _| true).await);
            assert!(found.contains(words), "{sql}: {found}");
        }
        // What is not read may come and go.
        server.sql("CREATE TABLE shop.work (id INT)");
        let read = begin(&server, user, ReadOptions::default()).await.unwrap();
        server.sql("DROP TABLE shop.work");
        read.finish(|_, table| table != "work").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_a_long_statement_is_not_waited_for_and_nobody_waits_behind_the_lock() {
    let server = mysql();
    let mut slow = open(&server, "writer").await;
    let sleeper = ballast_base::spawn("sleeper", async move {
        let sql = "SELECT SLEEP(60) FROM bank.left_side LIMIT 1";
        slow.query(sql).await.map(drop)
    });
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let started = Instant::now();
    let words = disturbed(begin(&server, "full", impatient()).await);
    assert!(
        words.contains("in 2 tries: a statement runs for long (connection ") && words.contains("of writer"),
        "{words}"
    );
    assert!(!words.contains("SLEEP"), "{words}");
    assert!(started.elapsed() < Duration::from_secs(5));

    // Not seen beforehand, it is given up by the limit; that is less than the sum of the server's own three waits.
    let patient = ReadOptions {
        long_statement: Duration::from_secs(600),
        ..impatient()
    };
    let started = Instant::now();
    let words = disturbed(begin(&server, "full", patient).await);
    assert!(words.contains("it was not granted within 1 s"), "{words}");
    assert!(started.elapsed() < Duration::from_secs(5));
    let started = Instant::now();
    server.sql("INSERT INTO bank.log VALUES (); ALTER TABLE bank.log COMMENT = 'free'");
    assert!(started.elapsed() < Duration::from_secs(3));

    // Cancelled while it waits: it returns at once, and soon nothing is held.
    let (address, facts, cancel) = (address(&server, "full"), facts(&server, "full").await, Cancel::new());
    let options = ReadOptions {
        long_statement: Duration::from_secs(600),
        lock_wait_max: Duration::from_secs(5),
        ..ReadOptions::default()
    };
    let stop = cancel.clone();
    let stopper = ballast_base::spawn("stopper", async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.cancel();
    });
    let started = Instant::now();
    let error = ConsistentRead::begin(&address, &facts, options, &cancel)
        .await
        .unwrap_err();
    assert!(matches!(error, MysqlError::Cancelled(_)), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(3));
    stopper.join().await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    server.sql("SET lock_wait_timeout = 1; INSERT INTO bank.log VALUES ()");
    drop(sleeper);
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_the_global_lock_is_held_for_tables_without_transactions_and_a_lost_lock_is_noticed() {
    let server = mysql();
    server.sql("CREATE TABLE bank.old (id INT) ENGINE = MyISAM; CREATE TABLE bank.quick (id INT) ENGINE = MEMORY");
    let held = |limit| ReadOptions {
        hold_global: Some(Duration::from_secs(limit)),
        ..ReadOptions::default()
    };
    let read = begin(&server, "full", held(60)).await.unwrap();
    let names: Vec<String> = read
        .non_transactional
        .iter()
        .map(|table| format!("{}.{} {}", table.schema, table.name, table.engine))
        .collect();
    assert_eq!(names, ["bank.old MyISAM", "bank.quick MEMORY"]);
    assert!(read.holds_global());
    assert_waits(&server, "INSERT INTO bank.old VALUES (1)").await;
    assert_waits(&server, "INSERT INTO bank.quick VALUES (1)").await;
    assert_waits(&server, "INSERT INTO bank.log VALUES ()").await;
    let read = read.release_global().await.unwrap();
    assert!(!read.holds_global());
    server.sql("INSERT INTO bank.old VALUES (1); INSERT INTO bank.log VALUES ()");
    assert_waits(&server, "DROP TABLE bank.old").await;
    read.finish(|_, _| true).await.unwrap();

    // Forgotten, it is let go.
    let read = begin(&server, "full", held(2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    server.sql("SET lock_wait_timeout = 1; INSERT INTO bank.old VALUES (1)");
    let words = disturbed(read.release_global().await);
    assert!(words.contains("let go after 2 s"), "{words}");

    // Ended by others.
    let read = begin(&server, "full", ReadOptions::default()).await.unwrap();
    let readers: Vec<String> = read
        .connections
        .iter()
        .map(|connection| connection.id().to_string())
        .collect();
    let sql = format!(
        "SELECT ID FROM performance_schema.processlist WHERE USER = 'full' AND ID NOT IN ({})",
        readers.join(",")
    );
    server.sql(&format!("KILL {}", server.value(&sql)));
    server.sql("ALTER TABLE bank.left_side RENAME bank.moved");
    let words = disturbed(read.finish(|_, _| true).await);
    assert!(words.contains("the connection that held the lock was lost"), "{words}");
}
