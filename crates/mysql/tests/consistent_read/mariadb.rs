//! The same on MariaDB: stages, the places of snapshots, and the gap.

use std::time::{Duration, Instant};

use ballast_base::Cancel;
use ballast_mysql::{Connection, Ddl, Guarantee, Moment, MysqlError, ReadOptions};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use crate::bank::{self, Writers, address, begin, check, open};
use crate::{EAGER, assert_waits, disturbed, impatient};

fn mariadb() -> MysqlServer {
    let server = MysqlServer::start(MysqlOptions::mariadb());
    let see = ["SELECT", "PROCESS", "BINLOG MONITOR"];
    server.create_user("locker", "tide", &[&see[..], &["RELOAD", "BINLOG ADMIN"]].concat());
    server.create_user("managed", "tide", &["SELECT", "PROCESS"]);
    server.create_user("poor", "tide", &["SELECT"]);
    server.create_user("writer", "tide", &["ALL"]);
    bank::create(&server);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_connections_see_one_moment_and_its_position_while_others_write() {
    let server = mariadb();
    let before = bank::before(&server, true);
    for (user, moment, hold_ddl, hold_global, pause) in [
        ("locker", Moment::Locked, true, false, EAGER),
        ("locker", Moment::Locked, false, false, EAGER),
        ("locker", Moment::Locked, true, true, EAGER),
        ("managed", Moment::Proved, true, false, Duration::from_millis(200)),
    ] {
        let writers = Writers::start(&server, 3, pause).await;
        let mut last = 0;
        for _ in 0..5 {
            let options = ReadOptions {
                hold_ddl,
                hold_global: hold_global.then_some(Duration::from_secs(60)),
                ..ReadOptions::default()
            };
            let mut read = begin(&server, user, options).await.unwrap();
            let ddl = if user == "locker" && hold_ddl && !hold_global {
                Ddl::HeldOff
            } else {
                Ddl::Compared
            };
            assert_eq!(read.guarantee, Guarantee { moment, ddl }, "{user}");
            assert_eq!(read.holds_global(), hold_global);
            read = read.release_global().await.unwrap();
            let position = read.position.clone().unwrap();
            let made = check(&mut read, &server, before, &position).await;
            assert!(made > last, "{user}: the writers stood still, {made}");
            last = made;
            read.finish(|_, _| true).await.unwrap();
        }
        assert!(writers.stop().await > 0);
    }
    server.sql("ALTER TABLE bank.log COMMENT = 'free'; INSERT INTO bank.log VALUES ()");

    // Hardly ever quiet, and not allowed to lock: it gives up, or it has found a moment, which is one then.
    let before = bank::before(&server, true);
    let writers = Writers::start(&server, 4, EAGER).await;
    let many = ReadOptions {
        connections: 32,
        ..ReadOptions::default()
    };
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
    writers.stop().await;
    let error = begin(&server, "poor", ReadOptions::default()).await.unwrap_err();
    assert!(matches!(error, MysqlError::Unsupported { .. }), "{error:?}");
    assert!(
        error
            .hint()
            .unwrap()
            .contains("GRANT RELOAD, PROCESS ON *.* TO 'poor'@'%'")
    );
}

/// DDL behind the lock waits for tables that are in use, and everybody else waits for that DDL: readers of ours, too, if
/// they kept their tables.
#[tokio::test(flavor = "multi_thread")]
async fn mariadb_readers_give_tables_back_so_that_waiting_ddl_does_not_hold_them_up() {
    let server = mariadb();
    server.sql("CREATE TABLE bank.swapped LIKE bank.left_side; INSERT INTO bank.swapped VALUES (1, 7)");
    let mut read = begin(&server, "locker", ReadOptions::default()).await.unwrap();
    assert_eq!(read.guarantee.ddl, Ddl::HeldOff);
    let mut other = open(&server, "writer").await;
    let mut renamer = None;
    for connection in &mut read.connections {
        connection.execute("SET SESSION lock_wait_timeout = 3").await.unwrap();
        connection.execute("SAVEPOINT piece").await.unwrap();
        let amount = connection.value("SELECT amount FROM bank.swapped").await.unwrap();
        assert_eq!(amount.as_deref(), Some("7"));
        if renamer.is_none() {
            let mut waiting = open(&server, "writer").await;
            renamer = Some(ballast_base::spawn("renamer", async move {
                let sql = "RENAME TABLE bank.swapped TO bank.gone, bank.right_side TO bank.swapped";
                waiting.execute(sql).await.map(drop)
            }));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        connection.execute("ROLLBACK TO SAVEPOINT piece").await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // The application goes on, and the table is still the same.
    other.execute("SET SESSION lock_wait_timeout = 3").await.unwrap();
    other.execute("UPDATE bank.swapped SET amount = 8").await.unwrap();
    let renamer = renamer.unwrap();
    assert!(!renamer.is_finished());
    read.finish(|_, _| true).await.unwrap();
    renamer.join().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_definitions_are_held_or_a_change_is_named() {
    let server = mariadb();
    server.sql(
        "CREATE DATABASE shop;
        CREATE TABLE shop.a (id INT PRIMARY KEY, tag INT); INSERT INTO shop.a VALUES (1, 1);
        CREATE TABLE shop.b (id INT PRIMARY KEY, tag INT); INSERT INTO shop.b VALUES (1, 2);
        CREATE TABLE shop.old (id INT) ENGINE = MyISAM;",
    );
    let read = begin(&server, "locker", ReadOptions::default()).await.unwrap();
    assert_eq!(read.guarantee.ddl, Ddl::HeldOff);
    for sql in [
        "RENAME TABLE shop.a TO shop.c",
        "ALTER TABLE shop.a DROP COLUMN tag",
        "TRUNCATE TABLE shop.a",
        "DROP TABLE shop.a",
        "CREATE VIEW shop.v AS SELECT 1",
        "CREATE DATABASE other",
        "INSERT INTO shop.old VALUES (1)",
    ] {
        assert_waits(&server, sql).await;
    }
    read.finish(|_, _| true).await.unwrap();

    let compared = || ReadOptions {
        hold_ddl: false,
        ..ReadOptions::default()
    };
    for user in ["locker", "managed"] {
        for (sql, words) in [
            (
                "RENAME TABLE shop.a TO shop.c, shop.b TO shop.a, shop.c TO shop.b",
                "table \"shop.a\" changed; table \"shop.b\" changed; the server ran RENAME TABLE",
            ),
            ("TRUNCATE TABLE shop.b", "table \"shop.b\" changed"),
            (
                "ALTER TABLE shop.a DROP COLUMN tag, ADD COLUMN tag INT",
                "the server ran ALTER TABLE",
            ),
        ] {
            let read = begin(&server, user, compared()).await.unwrap();
            assert_eq!(read.guarantee.ddl, Ddl::Compared);
            server.sql("INSERT INTO shop.old VALUES (1)");
            server.sql(sql);
            let found = disturbed(read.finish(|_, _| true).await);
            assert!(found.contains(words), "{sql}: {found}");
        }
        let read = begin(&server, user, compared()).await.unwrap();
        read.finish(|_, _| true).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_does_not_wait_for_queries_and_gives_up_on_another_backup() {
    let server = mariadb();
    server.sql("CREATE TABLE bank.old (id INT) ENGINE = MyISAM; CREATE TABLE bank.quick (id INT) ENGINE = MEMORY");
    let mut slow = open(&server, "writer").await;
    let sleeper = ballast_base::spawn("sleeper", async move {
        slow.query("SELECT SLEEP(60) FROM bank.left_side LIMIT 1")
            .await
            .map(drop)
    });
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let started = Instant::now();
    let read = begin(&server, "locker", impatient()).await.unwrap();
    assert_eq!(read.guarantee.moment, Moment::Locked);
    assert!(started.elapsed() < Duration::from_secs(5));
    read.finish(|_, _| true).await.unwrap();
    // The global read lock would wait for it.
    let held = || ReadOptions {
        hold_global: Some(Duration::from_secs(60)),
        ..impatient()
    };
    let words = disturbed(begin(&server, "locker", held()).await);
    assert!(words.contains("a statement runs for long"), "{words}");
    drop(sleeper);
    server
        .sql("SELECT CONCAT('KILL ', ID) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%'")
        .into_iter()
        .for_each(|row| drop(server.try_sql(row[0].as_deref().unwrap())));

    let mut other = Connection::open(&address(&server, "writer"), &Cancel::new())
        .await
        .unwrap();
    other.execute("BACKUP STAGE START").await.unwrap();
    let started = Instant::now();
    let words = disturbed(begin(&server, "locker", impatient()).await);
    assert!(words.contains("the backup stage was not had in 2 tries"), "{words}");
    assert!(started.elapsed() < Duration::from_secs(6));
    other.execute("BACKUP STAGE END").await.unwrap();

    let read = begin(&server, "locker", held()).await.unwrap();
    let names: Vec<&str> = read.non_transactional.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["old", "quick"]);
    assert_waits(&server, "INSERT INTO bank.old VALUES (1)").await;
    assert_waits(&server, "INSERT INTO bank.quick VALUES (1)").await;
    assert_waits(&server, "INSERT INTO bank.log VALUES ()").await;
    let read = read.release_global().await.unwrap();
    server.sql("INSERT INTO bank.old VALUES (1); INSERT INTO bank.log VALUES ()");
    read.finish(|_, _| true).await.unwrap();
}

/// Tables that change places all the time: the stages are had between two swaps, or given up within their limits and said.
#[tokio::test(flavor = "multi_thread")]
async fn mariadb_tables_that_are_swapped_all_the_time_do_not_hold_it_up_for_ever() {
    let server = mariadb();
    server.sql("CREATE TABLE bank.one (id INT PRIMARY KEY); CREATE TABLE bank.two LIKE bank.one");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut swappers = Vec::new();
    for pause in [Duration::ZERO, Duration::from_millis(20)] {
        let mut connection = open(&server, "writer").await;
        let stop = std::sync::Arc::clone(&stop);
        swappers.push(ballast_base::spawn("swapper", async move {
            let mut made = 0_u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let sql = "RENAME TABLE bank.one TO bank.aside, bank.two TO bank.one, bank.aside TO bank.two";
                // Two of them may meet halfway.
                made += u32::from(connection.execute(sql).await.is_ok());
                tokio::time::sleep(pause).await;
            }
            made
        }));
    }
    let options = || ReadOptions {
        lock_tries_max: 5,
        lock_try_every: Duration::from_millis(200),
        lock_wait_max: Duration::from_secs(2),
        ..ReadOptions::default()
    };
    let (mut had, mut given_up) = (0, 0);
    for _ in 0..3 {
        let started = Instant::now();
        match begin(&server, "locker", options()).await {
            Ok(read) => {
                had += 1;
                assert_eq!(read.guarantee.ddl, Ddl::HeldOff);
                read.finish(|_, _| true).await.unwrap();
            }
            Err(error) => {
                given_up += 1;
                let words = disturbed(Err::<(), _>(error));
                println!("{words}");
                assert!(words.contains("tries"), "{words}");
            }
        }
        println!("after {:?}", started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut made = 0;
    for swapper in swappers {
        made += swapper.join().await.unwrap();
    }
    println!("had {had}, given up {given_up}, {made} swaps");
    assert!(made > 0);
    // Nothing is held.
    server.sql("RENAME TABLE bank.one TO bank.three; INSERT INTO bank.log VALUES ()");
}
