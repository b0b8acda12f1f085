//! Backups and the recorded log together: any transaction can be gone back to.

use std::time::Duration;

use ballast_testkit::dataset::{WriterOptions, Writers, balance, checksums};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use crate::recorded::{end, record, site, source, wait_until_recorded};
use crate::site::{PASSWORD, USER, rounds, start_restored};

const SHARDS: u32 = 120;

/// A plain replica that is taken on and on, each time to exactly one transaction.
struct Reference {
    server: MysqlServer,
    uuid: String,
}

impl Reference {
    fn new(source: &MysqlServer) -> Self {
        source.create_user("follower", "follow", &["REPLICATION SLAVE"]);
        let server = MysqlServer::start(MysqlOptions::default());
        server.sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, SOURCE_USER = 'follower', \
             SOURCE_PASSWORD = 'follow', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
            source.port()
        ));
        let uuid = source.value("SELECT @@server_uuid");
        Self { server, uuid }
    }

    fn go_to(&self, number: u64) {
        let set = format!("{}:1-{number}", self.uuid);
        self.server.sql(&format!(
            "START REPLICA UNTIL SQL_AFTER_GTIDS = '{set}'; SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', 120); STOP REPLICA"
        ));
        assert_eq!(self.server.gtid_executed(), set);
    }
}

fn last_number(source: &MysqlServer) -> u64 {
    let executed = source.gtid_executed();
    let digits = executed.rsplit(['-', ':']).next().unwrap();
    digits.parse().unwrap()
}

fn databases(server: &MysqlServer) -> Vec<String> {
    let sql = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA
               WHERE SCHEMA_NAME NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema') ORDER BY 1";
    server.sql(sql).into_iter().map(|row| row[0].clone().unwrap()).collect()
}

#[track_caller]
fn same_content(restored: &MysqlServer, reference: &MysqlServer) {
    let names = databases(reference);
    assert_eq!(databases(restored), names);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(checksums(restored, &names), checksums(reference, &names));
}

/// Two writers, all kinds of DDL, savepoints, large transactions, compressed ones and plain ones, over 120 shards.
#[test]
fn any_transaction_can_be_gone_back_to() {
    let source = source(
        MysqlOptions::default()
            .arg("--max-binlog-size=2097152")
            .arg("--max-allowed-packet=64M"),
    );
    balance::load(&source, SHARDS, 40);
    let reference = Reference::new(&source);
    let site = site(&source, &source.url(USER), "seal_after = \"500ms\"").init();
    let running = record(&site, &source);
    let backup = site.json(&["backup", "orders"], 0);
    assert_eq!(backup["backup"]["state"], "good", "{backup}");
    let first = last_number(&source);
    let options = WriterOptions { ddl: true, rate: None };
    let writers = Writers::start(&source, 2, &balance::tables(SHARDS), options);
    for round in 0..6 {
        source.sql(&format!(
            "SET SESSION binlog_transaction_compression = {};
             START TRANSACTION; UPDATE balance.orders_7 SET note = REPEAT('{round}', 400); SAVEPOINT one; DELETE FROM balance.orders_8;
             ROLLBACK TO one; UPDATE balance.admin SET note = 'round {round}'; COMMIT;
             CREATE TABLE IF NOT EXISTS balance.large (id INT PRIMARY KEY, big LONGBLOB);
             REPLACE INTO balance.large VALUES ({round} % 2, REPEAT(RANDOM_BYTES(1000), 6000))",
            round % 2
        ));
        std::thread::sleep(Duration::from_millis(300));
    }
    writers.stop();
    let last = last_number(&source);
    wait_until_recorded(&site.repository(), &source);
    end(running, 0);
    println!("{} transactions between the backup and the end", last - first);

    let mut numbers: Vec<u64> = (0..rounds(3)).map(|_| first + 1 + random(last - first)).collect();
    numbers.sort_unstable();
    numbers.push(last);
    let moments = numbers.len();
    for (round, number) in numbers.into_iter().enumerate() {
        let gtid = format!("{}:{number}", reference.uuid);
        // By name, or by the microsecond it was committed at; what would be done can be asked for before.
        let at;
        let stop = if round % 2 == 0 {
            ["--position", gtid.as_str()]
        } else {
            let target = format!("datadir:{}", site.program.dir().join("planned").display());
            let plan = site.json(
                &["restore", "orders", "--to", &target, "--position", &gtid, "--dry-run"],
                0,
            );
            at = plan["replay"]["last_kept"]["committed_at"].as_str().unwrap().to_owned();
            ["--at", at.as_str()]
        };
        let restored = site.restore(&stop);
        let set = format!("{}:1-{number}", reference.uuid);
        assert_eq!(
            restored["reached"]["position"]["gtid_executed"],
            set.as_str(),
            "{stop:?}: {restored}"
        );
        assert_eq!(restored["proof"]["position_equal"], true, "{restored}");
        let server = start_restored(&site.restored());
        assert_eq!(server.gtid_executed(), set);
        reference.go_to(number);
        same_content(&server, &reference.server);
    }
    println!("{moments} moments were restored and compared");
    site.verify_clean();
}

/// Below `end`, at random; each run other ones.
fn random(end: u64) -> u64 {
    u64::from_str_radix(&ballast_base::random_hex(6), 16).unwrap() % end
}

/// `orders_7` is dropped by accident. All comes back as it was before it; or without it, with what came after; or that table alone.
#[test]
fn an_accident_is_undone() {
    let source = source(MysqlOptions::default());
    balance::load(&source, 12, 100);
    let reference = Reference::new(&source);
    let site = site(&source, &source.url(USER), "seal_after = \"300ms\"").init();
    let running = record(&site, &source);
    site.json(&["backup", "orders"], 0);
    source.sql("UPDATE balance.orders_7 SET note = 'after the backup'; CREATE USER app@'%' IDENTIFIED BY 'hush'");
    let good = last_number(&source);
    source.sql("DROP TABLE balance.orders_7");
    source.sql("UPDATE balance.orders_3 SET note = 'after the accident'; INSERT INTO balance.admin (login, password_hash, role) VALUES ('late', 'x', 'root')");
    wait_until_recorded(&site.repository(), &source);
    end(running, 0);
    let accident = format!("{}:{}", reference.uuid, good + 1);
    reference.go_to(good);

    let restored = site.restore(&["--before", &accident]);
    assert_eq!(
        restored["reached"]["position"]["gtid_executed"],
        format!("{}:1-{good}", reference.uuid).as_str()
    );
    let server = start_restored(&site.restored());
    same_content(&server, &reference.server);
    drop(server);

    let restored = site.restore(&["--skip", &accident]);
    assert_eq!(
        restored["reached"]["position"]["gtid_executed"],
        source.gtid_executed().as_str()
    );
    assert_eq!(restored["replayed"]["skipped"], 1, "{restored}");
    let server = start_restored(&site.restored());
    let (mut all, before) = (
        checksums(&server, &["balance"]),
        checksums(&reference.server, &["balance"]),
    );
    assert_eq!(all.remove("balance.orders_7"), before.get("balance.orders_7").copied());
    assert_eq!(
        all,
        checksums(&source, &["balance"]),
        "what came after the accident is there"
    );
    drop(server);

    // Into the very server, beside what it has now.
    source.create_user("loader", PASSWORD_OF_LOADER, &["ALL"]);
    let to = source.url("loader");
    let mut program = site.program;
    program.env("BALLAST_TARGET_PASSWORD", PASSWORD_OF_LOADER);
    let output = program.run([
        "restore",
        "orders",
        "--to",
        &to,
        "--only",
        "balance.orders_7",
        "--rename",
        "balance.orders_7=balance.orders_7_before",
        "--before",
        &accident,
    ]);
    output.expect(0);
    // Behind the accident there is no such table: nothing is made of that.
    let asked = ["restore", "orders", "--to", &to, "--only", "balance.orders_7"];
    let renamed = ["--rename", "balance.orders_7=balance.orders_7_behind"];
    let output = program.run(asked.iter().chain(&renamed)).expect(5);
    for words in [
        "table balance.orders_7 is in the backup and does not exist at that moment",
        "ballast log find orders --table balance.orders_7",
    ] {
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }
    assert!(!checksums(&source, &["balance"]).contains_key("balance.orders_7_behind"));
    let back = checksums(&source, &["balance"])["balance.orders_7_before"];
    assert_eq!(back.rows, before["balance.orders_7"].rows);
    assert_eq!(
        source.value("SELECT COUNT(DISTINCT note) FROM balance.orders_7_before"),
        "1"
    );
    assert_ne!(PASSWORD, PASSWORD_OF_LOADER);
}

/// Tables that were made since the backup are chosen as the others are, and held to the same rules.
#[test]
fn a_table_that_the_log_made_can_be_loaded() {
    let source = source(MysqlOptions::default());
    balance::load(&source, 2, 20);
    let site = site(&source, &source.url(USER), "seal_after = \"300ms\"").init();
    let running = record(&site, &source);
    site.json(&["backup", "orders"], 0);
    source.sql(
        "CREATE TABLE balance.late (id INT PRIMARY KEY); INSERT INTO balance.late VALUES (1), (2), (3);
         CREATE DATABASE fresh; CREATE TABLE fresh.t (id INT PRIMARY KEY); INSERT INTO fresh.t VALUES (7)",
    );
    wait_until_recorded(&site.repository(), &source);
    end(running, 0);
    let target = MysqlServer::start(MysqlOptions::default());
    target.create_user("loader", PASSWORD_OF_LOADER, &["ALL"]);
    target.sql(
        "CREATE DATABASE balance; CREATE TABLE balance.late (id INT PRIMARY KEY); INSERT INTO balance.late VALUES (99)",
    );
    let to = target.url("loader");
    let mut program = site.program;
    program.env("BALLAST_TARGET_PASSWORD", PASSWORD_OF_LOADER);
    let restore = |more: &[&str], code: i32| {
        let asked = ["restore", "orders", "--to", &to];
        program.run(asked.iter().chain(more)).expect(code)
    };

    // What is there under the name of one is not touched, also if a pattern means it.
    for pattern in ["balance.late", "balance.l*", "balance.*"] {
        let refused = restore(&["--only", pattern], 2);
        assert!(
            refused.stderr.contains("balance.late") && refused.stderr.contains("--replace"),
            "{}",
            refused.stderr
        );
        assert_eq!(target.value("SELECT id FROM balance.late"), "99", "{pattern}");
    }
    assert!(target.sql("SHOW TABLES IN balance LIKE 'orders%'").is_empty());
    let plan = restore(&["--only", "balance.late", "--dry-run"], 0);
    assert!(
        plan.stdout.contains("balance.late: not in the backup"),
        "{}",
        plan.stdout
    );
    restore(&["--only", "balance.late", "--rename", "balance.late=rescue.late"], 0);
    assert_eq!(target.value("SELECT COUNT(*) FROM rescue.late"), "3");
    // With its database, which the target does not know either.
    restore(&["--only", "fresh.*"], 0);
    assert_eq!(target.value("SELECT id FROM fresh.t"), "7");
    restore(&["--only", "balance.late", "--replace"], 0);
    assert_eq!(target.value("SELECT COUNT(*) FROM balance.late"), "3");
    let never = restore(&["--only", "balance.never"], 5);
    assert!(
        never.stderr.contains("balance.never is not in the backup"),
        "{}",
        never.stderr
    );
}

/// Statements that may come out otherwise are counted, and what a replay must not change stays: the mode in which a procedure was made.
#[test]
fn what_a_replay_does_otherwise_is_said() {
    let source = source(MysqlOptions::default());
    let site = site(&source, &source.url(USER), "seal_after = \"300ms\"").init();
    let running = record(&site, &source);
    site.json(&["backup", "orders"], 0);
    source.sql(
        "CREATE DATABASE kept; CREATE TABLE kept.u (id VARCHAR(64));
         CREATE PROCEDURE kept.p() SELECT 1",
    );
    let before = last_number(&source);
    source.sql("SET SESSION binlog_format = STATEMENT; INSERT INTO kept.u VALUES ('plain'); INSERT INTO kept.u VALUES (UUID()); INSERT INTO kept.u VALUES (NOW(6))");
    wait_until_recorded(&site.repository(), &source);
    end(running, 0);
    let target = format!("datadir:{}", site.restored().display());
    let output = site.run(&["restore", "orders", "--to", &target]).expect(0);
    let second = format!("{}:{}", source.value("SELECT @@server_uuid"), before + 2);
    for words in ["1 transactions were logged as statements", second.as_str()] {
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }
    let server = start_restored(&site.restored());
    assert_eq!(server.value("SELECT COUNT(*) FROM kept.u"), "3");
    let mode = "SELECT SQL_MODE FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'kept'";
    assert_eq!(server.value(mode), source.value(mode));
}

const PASSWORD_OF_LOADER: &str = "only of the loader";

/// A running server gets the rows of a backup and nothing of the log: it says so, and refuses what only the log leads to.
#[test]
fn rows_say_where_the_log_leads_on() {
    let source = source(MysqlOptions::default());
    balance::load(&source, 2, 20);
    let site = site(&source, &source.url(USER), "seal_after = \"300ms\"").init();
    source.sql(&format!("GRANT ALL ON *.* TO {USER}"));
    let running = record(&site, &source);
    site.json(&["backup", "orders", "--engine", "logical"], 0);
    source.sql("UPDATE balance.orders_1 SET note = 'after the backup'");
    wait_until_recorded(&site.repository(), &source);
    end(running, 0);
    let last = format!("{}:{}", source.value("SELECT @@server_uuid"), last_number(&source));

    let target = MysqlServer::start(MysqlOptions::default());
    target.create_user("loader", PASSWORD_OF_LOADER, &["ALL"]);
    let to = target.url("loader");
    let mut program = site.program;
    program.env("BALLAST_TARGET_PASSWORD", PASSWORD_OF_LOADER);
    let asked = ["restore", "orders", "--to", &to, "--only", "balance.orders_1"];
    let output = program.run(asked.iter().chain(&["--position", &last])).expect(5);
    assert!(output.stderr.contains("not taken on by the log"), "{}", output.stderr);
    assert!(target.sql("SHOW DATABASES LIKE 'balance'").is_empty());
    let output = program.run(asked).expect(0);
    for words in ["the recorded log leads on to", "--to datadir:PATH"] {
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }
    let changed = "SELECT COUNT(*) FROM balance.orders_1 WHERE note = 'after the backup'";
    assert_eq!(target.value(changed), "0");
}
