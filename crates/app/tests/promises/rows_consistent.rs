use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ballast_testkit::dataset::balance;
use ballast_testkit::program::Running;
use ballast_testkit::servers::{Flavour, MysqlOptions, MysqlServer};
use serde_json::Value;

use crate::logical::{MARIADB_GRANTS, MYSQL_GRANTS, password, target};
use crate::site::{Site, USER};

const SHARDS: u32 = 120;
const ROWS: u32 = 60;
/// Slow enough that much is committed while rows are read.
const SLOW: &str = "engine = \"logical\"\nlimit = { rate = \"1MiB/s\" }\n\
    databases = [\"balance\"]\nexpect = [\"balance.orders_{0..119}\", \"balance.shops\", \"balance.admin\"]";
/// The readers' connections and the two for the locks.
const CONNECTIONS: u32 = 6;

fn source(flavour: Flavour, grants: &str) -> MysqlServer {
    let server = MysqlServer::start(MysqlOptions {
        flavour,
        ..MysqlOptions::default()
    });
    server.sql(&format!(
        "CREATE USER {USER} IDENTIFIED BY '{}'; GRANT {grants} ON *.* TO {USER}",
        password()
    ));
    server
}

fn grants(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Mysql => MYSQL_GRANTS,
        Flavour::Mariadb => MARIADB_GRANTS,
    }
}

/// Of all amounts in all shards.
fn sum(server: &MysqlServer) -> String {
    let amounts: Vec<_> = (0..SHARDS)
        .map(|shard| format!("SELECT SUM(amount) AS part FROM balance.orders_{shard}"))
        .collect();
    server.value(&format!(
        "SELECT SUM(part) FROM ({}) AS parts",
        amounts.join(" UNION ALL ")
    ))
}

/// Transactions that each move money from one shard to another.
fn transfers(from: u64, count: u64) -> String {
    let transfer = |number: u64| {
        let (first, second) = (number * 7 % u64::from(SHARDS), (number * 11 + 5) % u64::from(SHARDS));
        // In the same order everywhere, so that nobody waits for each other.
        let (low, high) = (first.min(second), first.max(second));
        let (row, amount) = (1 + number % u64::from(ROWS), number % 90 + 1);
        format!(
            "START TRANSACTION;
             UPDATE balance.orders_{low} SET amount = amount - {amount} WHERE id = {row};
             UPDATE balance.orders_{high} SET amount = amount + {amount} WHERE id = {row};
             COMMIT;\n"
        )
    };
    (from..from + count).map(transfer).collect()
}

/// Moves money until told to stop; counts what it moved.
fn write(server: &MysqlServer, stop: &AtomicBool, made: &AtomicU64) {
    const BATCH: u64 = 50;
    while !stop.load(Ordering::Relaxed) {
        let from = made.fetch_add(BATCH, Ordering::Relaxed);
        server.sql(&transfers(from, BATCH));
    }
}

fn wait_until_it_reads(server: &MysqlServer, backup: &mut Running) {
    let sql = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{USER}'");
    let begin = Instant::now();
    while server.value(&sql).parse::<u32>().unwrap() < CONNECTIONS {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not begin to read");
        assert!(backup.is_running(), "it ended before it read");
        thread::sleep(Duration::from_millis(20));
    }
    // Opening the snapshots takes some milliseconds once all are connected.
    thread::sleep(Duration::from_millis(1000));
}

/// A statement that is run while rows are read: how long it took.
fn timed(server: &MysqlServer, sql: &str) -> Duration {
    let begin = Instant::now();
    server.sql(sql);
    begin.elapsed()
}

fn of_one_moment(flavour: Flavour) {
    let source = source(flavour, grants(flavour));
    balance::load(&source, SHARDS, ROWS);
    let before = sum(&source);
    let mut site = Site::new(&source, SLOW).init();
    let (target, url) = target(&mut site, flavour);
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let backup = thread::scope(|scope| {
        let writers: Vec<_> = (0..2).map(|_| scope.spawn(|| write(&source, &stop, &made))).collect();
        let mut backup = site.program.spawn(["backup", "orders", "--json"]);
        wait_until_it_reads(&source, &mut backup);
        let at_first = made.load(Ordering::Relaxed);
        // Definitions stay: this waits for the end.
        let ddl = scope.spawn(|| timed(&source, "ALTER TABLE balance.orders_119 ADD COLUMN extra INT NULL"));
        let output = backup.wait().expect(0);
        let during = made.load(Ordering::Relaxed) - at_first;
        let waited = ddl.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        println!("{flavour:?}: {during} transfers while it read, DDL waited for {waited:?}");
        assert!(during > 100, "the writers stood still");
        assert!(
            waited > Duration::from_secs(1),
            "the definition changed while rows were read"
        );
        last(&output.stdout)
    });
    assert_eq!(sum(&source), before, "the test itself loses money");
    assert_eq!(backup["backup"]["state"], "good", "{backup}");
    let position = &backup["backup"]["position"];
    assert_eq!(position["exact"], true, "{position}");
    assert!(!position["gtid_executed"].as_str().unwrap().is_empty(), "{position}");
    assert!(
        position["file"].is_string() && position["offset"].is_u64(),
        "{position}"
    );

    let restored = site.json(&["restore", "orders", "--to", &url], 0);
    assert_eq!(&restored["reached"]["position"], position);
    assert_eq!(
        sum(&target),
        before,
        "money was made or lost: the shards are of different moments"
    );
    assert_eq!(
        target.sql("SHOW COLUMNS FROM balance.orders_119 LIKE 'extra'"),
        Vec::<Vec<Option<String>>>::new()
    );
}

fn last(stdout: &str) -> Value {
    serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
}

/// Every transaction moves money from one shard to another, so the sum is constant at every moment, and at no mixture of two. Tried
/// on both kinds of server; DDL that comes meanwhile waits.
#[test]
fn all_shards_are_of_one_moment() {
    of_one_moment(Flavour::Mysql);
    of_one_moment(Flavour::Mariadb);
}

/// Where the account cannot hold DDL off, tables that changed places while rows were read end the backup, and are named.
#[test]
fn definitions_that_change_meanwhile_are_named() {
    let swap = "RENAME TABLE balance.orders_0 TO balance.aside, balance.orders_1 TO balance.orders_0, balance.aside TO balance.orders_1";
    for (flavour, taken_away) in [(Flavour::Mysql, "BACKUP_ADMIN, "), (Flavour::Mariadb, "RELOAD, ")] {
        let source = source(flavour, &grants(flavour).replace(taken_away, ""));
        balance::load(&source, SHARDS, ROWS);
        let site = Site::new(&source, SLOW).init();
        let mut backup = site.program.spawn(["backup", "orders"]);
        wait_until_it_reads(&source, &mut backup);
        source.sql(swap);
        assert!(backup.is_running(), "{flavour:?}: it was too quick for this test");
        let output = backup.wait().expect(1);
        assert!(
            output.stderr.contains("balance.orders_0"),
            "{flavour:?}: {}",
            output.stderr
        );
        assert_eq!(site.json(&["list"], 0)["backups"], serde_json::json!([]));
        // The next try, undisturbed, is a good one.
        assert_eq!(site.json(&["backup", "orders"], 0)["backup"]["state"], "good");
    }
}

/// A shard that was dropped before is named, and the backup does not count as good.
#[test]
fn a_dropped_shard_makes_rows_incomplete() {
    let source = source(Flavour::Mysql, MYSQL_GRANTS);
    balance::load(&source, 12, 20);
    let more = "engine = \"logical\"\nexpect = [\"balance.orders_{0..11}\", \"balance.shops\"]";
    let site = Site::new(&source, more).init();
    assert_eq!(site.json(&["backup", "orders"], 0)["backup"]["state"], "good");
    source.sql("DROP TABLE balance.orders_7");
    let output = site.run(&["backup", "orders"]).expect(3);
    assert!(output.stderr.contains("balance.orders_7"), "{}", output.stderr);
    let result = site.json(&["backup", "orders"], 3);
    assert_eq!(result["missing"], serde_json::json!(["balance.orders_7"]));
    let list = site.json(&["list"], 0);
    let states: Vec<_> = list["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|backup| &backup["state"])
        .collect();
    assert_eq!(
        states.iter().filter(|state| **state == "incomplete").count(),
        2,
        "{list}"
    );
}

/// Of rows that did not change next to nothing is stored again; of a hundredth of them, at the tail, less than a twentieth.
#[test]
fn a_second_dump_stores_what_changed() {
    const SHARDS: u32 = 6;
    const ROWS: u32 = 16_000;
    let source = source(Flavour::Mysql, MYSQL_GRANTS);
    balance::load(&source, SHARDS, ROWS);
    let site = Site::new(&source, "engine = \"logical\"").init();
    let stored = || {
        let result = site.json(&["backup", "orders"], 0);
        result["backup"]["bytes_stored"].as_u64().unwrap()
    };
    let first = stored();
    let idle = stored();
    for shard in 0..SHARDS {
        let tail = ROWS / 100;
        source.sql(&format!(
            "UPDATE balance.orders_{shard} SET note = HEX(RANDOM_BYTES(40)) ORDER BY id DESC LIMIT {tail}"
        ));
    }
    let tail = stored();
    println!("first {first} bytes, nothing changed {idle}, 1 % of the rows at the tail {tail}");
    assert!(idle * 100 < first, "{idle} of {first}");
    assert!(tail * 20 < first, "{tail} of {first}");
    assert!(tail > idle);
    site.verify_clean();
}

/// The server is let rest while others have much to do on it, and not read faster than allowed.
#[test]
fn reading_keeps_to_its_limits() {
    let source = source(Flavour::Mysql, MYSQL_GRANTS);
    balance::load(&source, 12, 1_000);
    let mut site = Site::new(&source, "engine = \"logical\"\nlimit = { rate = \"1MiB/s\" }").init();
    let result = site.json(&["backup", "orders"], 0);
    let (bytes, seconds) = (
        result["backup"]["bytes_source"].as_u64().unwrap(),
        rows_seconds(&result),
    );
    println!("{bytes} bytes in {seconds} s at 1 MiB/s");
    // Of the first second the bytes are credit.
    let least = Duration::from_secs(bytes / (1 << 20) - 1).as_secs_f64();
    assert!(seconds >= least && seconds < 3.0 * least + 10.0, "{seconds}");

    site.change("limit = { rate = \"1MiB/s\" }", "limit = { threads_running = 3 }");
    thread::scope(|scope| {
        let busy: Vec<_> = (0..5).map(|_| scope.spawn(|| source.sql("SELECT SLEEP(8)"))).collect();
        thread::sleep(Duration::from_millis(500));
        let output = site.run(&["backup", "orders"]).expect(0);
        assert!(output.stderr.contains("reading pauses: "), "{}", output.stderr);
        assert!(output.took > Duration::from_secs(4), "{:?}", output.took);
        busy.into_iter().for_each(|query| drop(query.join().unwrap()));
    });
    let output = site.run(&["backup", "orders"]).expect(0);
    assert!(!output.stderr.contains("reading pauses"), "{}", output.stderr);

    // The other engine keeps to the rate, too.
    site.change(
        "engine = \"logical\"\nlimit = { threads_running = 3 }",
        "engine = \"physical\"\nlimit = { rate = \"20MiB/s\" }",
    );
    source.sql(&format!("GRANT {} ON *.* TO {USER}", crate::site::GRANTS));
    let result = site.json(&["backup", "orders"], 0);
    let bytes = result["backup"]["bytes_source"].as_u64().unwrap();
    let step = result["steps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|step| step["name"] == "copy")
        .unwrap();
    let seconds = step["seconds"].as_f64().unwrap();
    println!("{bytes} bytes in {seconds} s at 20 MiB/s");
    assert!(
        seconds >= Duration::from_secs(bytes / (20 << 20) - 1).as_secs_f64(),
        "{seconds}"
    );
}

fn rows_seconds(result: &Value) -> f64 {
    let step = result["steps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|step| step["name"] == "rows");
    step.unwrap()["seconds"].as_f64().unwrap()
}
