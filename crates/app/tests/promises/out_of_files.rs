use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ballast_testkit::dataset::{Fingerprint, WriterOptions, Writers, balance, checksums, ugly};
use ballast_testkit::servers::{Flavour, MysqlOptions, MysqlServer};

use crate::logical::{MYSQL_GRANTS, objects, target};
use crate::site::{Site, USER, rounds, server, start_restored};

/// What a restore out of files has for a while.
fn private_folders(site: &Site) -> Vec<PathBuf> {
    let scratch = site.program.dir().join("scratch");
    let entries = std::fs::read_dir(scratch).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Servers whose data directory lies in the scratch folder.
fn private_servers(site: &Site) -> Vec<String> {
    let scratch = format!("--datadir={}", site.program.dir().join("scratch").display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if command
            .split(|byte| *byte == 0)
            .any(|part| part.starts_with(scratch.as_bytes()))
        {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// One shard of 120 out of a backup of files, under another name, into a server that holds other data; then everything into an empty
/// one. Killed runs leave nothing that the next one does not take away.
#[test]
fn one_table_out_of_a_physical_backup() {
    let source = server(MysqlOptions::default());
    ugly::load(&source);
    balance::load(&source, 120, 100);
    source.sql(
        "CREATE TABLE balance.seen (id BIGINT UNSIGNED);
         CREATE TRIGGER balance.see AFTER UPDATE ON balance.orders_7 FOR EACH ROW INSERT INTO balance.seen VALUES (NEW.id);
         CREATE TABLE balance.measured (id INT PRIMARY KEY, f FLOAT, d DOUBLE);
         INSERT INTO balance.measured VALUES (1, 0.1, 1 / 3e0), (2, -1e-30, 1e300), (3, 16777217, NULL);
         CREATE USER onlooker IDENTIFIED BY 'r'; GRANT SELECT ON balance.* TO onlooker",
    );
    let bases: Vec<&str> = ugly::DATABASES.into_iter().chain(["balance"]).collect();
    let (backed_up, objects_backed_up) = (checksums(&source, &bases), objects(&source, &bases));
    let mut site = Site::new(&source, "").init();
    let result = site.json(&["backup", "orders"], 0);
    assert_eq!(result["backup"]["engine"], "physical");
    source.sql("UPDATE balance.orders_7 SET status = status + 1; DROP TABLE balance.orders_8");

    let (other, url) = target(&mut site, Flavour::Mysql);
    balance::load(&other, 3, 40);
    let held = checksums(&other, &["balance"]);
    let scratch = site.program.dir().join("scratch");
    let scratch = scratch.to_str().unwrap();
    let one = [
        "restore",
        "orders",
        "--to",
        &url,
        "--only",
        "balance.orders_7",
        "--rename",
        "balance.orders_7=rescue.orders_7",
        "--scratch",
        scratch,
    ];
    let output = site.run(&one).expect(2);
    assert!(output.stderr.contains("--scratch"), "{}", output.stderr);
    std::fs::create_dir(scratch).unwrap();
    let plan = site.run(&[&one[..], &["--dry-run"]].concat()).expect(0).stdout;
    assert!(
        plan.contains("mysqld") && plan.contains(scratch) && plan.contains("needed"),
        "{plan}"
    );
    assert_eq!(private_folders(&site), Vec::<PathBuf>::new());

    let result = site.json(&one, 0);
    println!("one of 120 shards: {} s, {}", result["seconds"], result["steps"]);
    assert_eq!(result["proof"]["tables_expected"], 1);
    assert_eq!(checksums(&other, &["balance"]), held);
    let rescued = checksums(&other, &["rescue"]);
    assert_eq!(rescued.len(), 1);
    assert_eq!(rescued["rescue.orders_7"], backed_up["balance.orders_7"]);
    let trigger = "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = 'rescue'";
    assert_eq!(other.value(trigger), "see");
    assert_eq!(private_folders(&site), Vec::<PathBuf>::new());
    assert_eq!(private_servers(&site), Vec::<String>::new());

    let again = [&one[..], &["--replace"]].concat();
    let took = Duration::from_secs_f64(result["seconds"].as_f64().unwrap());
    for _ in 0..rounds(2) {
        let killed = site.program.spawn(&again).kill_at_random(took);
        println!(
            "ended by signal {:?} after {:?}: {:?}, servers {:?}",
            killed.signal,
            killed.took,
            private_folders(&site),
            private_servers(&site)
        );
        site.run(&again).expect(0);
        assert_eq!(private_folders(&site), Vec::<PathBuf>::new());
        assert_eq!(private_servers(&site), Vec::<String>::new());
        assert_eq!(checksums(&other, &["rescue"]), rescued);
        assert_eq!(checksums(&other, &["balance"]), held);
    }

    let interrupted = site.program.spawn(&again);
    std::thread::sleep(took / 2);
    interrupted.interrupt();
    let output = interrupted.wait();
    assert!(matches!(output.code, Some(0 | 130)), "{output:?}");
    assert_eq!(private_folders(&site), Vec::<PathBuf>::new());
    assert_eq!(private_servers(&site), Vec::<String>::new());

    // Into another flavour: numbers are compared by their value, by both servers.
    let (maria, url) = target(&mut site, Flavour::Mariadb);
    let some = [
        "--only",
        "balance.measured",
        "--only",
        "balance.orders_7",
        "--scratch",
        scratch,
    ];
    let result = site.json(&[&["restore", "orders", "--to", &url], &some[..]].concat(), 0);
    assert_eq!(result["proof"]["tables_expected"], 2);
    assert_eq!(result["tables_read_back"], 1);
    assert!(!result["changes"].as_array().unwrap().is_empty(), "{result}");
    let same = "SELECT GROUP_CONCAT(id, ':', IFNULL(d IN (1 / 3e0, 1e300), 'none') ORDER BY id) FROM balance.measured";
    assert_eq!(maria.value(same), "1:1,2:1,3:none");
    let sum = "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(CONCAT_WS('|', id, shop_id, status)))) FROM balance.orders_7";
    let undone = sum.replace("status)", "status - 1)");
    assert_eq!(maria.value(sum), source.value(&undone));
    assert_eq!(private_folders(&site), Vec::<PathBuf>::new());

    let (empty, url) = target(&mut site, Flavour::Mysql);
    let result = site.json(&["restore", "orders", "--to", &url, "--scratch", scratch], 0);
    println!("everything: {} s, {}", result["seconds"], result["steps"]);
    assert_eq!(checksums(&empty, &bases), backed_up);
    assert_eq!(objects(&empty, &bases), objects_backed_up);
    assert_eq!(
        empty
            .sql_as("onlooker", "r", "SELECT COUNT(*) FROM balance.orders_8")
            .unwrap()
            .len(),
        1
    );
    let accounts = format!("SELECT COUNT(*) FROM mysql.user WHERE User = '{USER}'");
    assert_eq!(empty.value(&accounts), "1");
    assert_eq!(private_folders(&site), Vec::<PathBuf>::new());
}

const OTHER_ENGINES: &str = "
CREATE DATABASE old;
CREATE TABLE old.items (id BIGINT AUTO_INCREMENT PRIMARY KEY, n INT NOT NULL DEFAULT 0, note VARCHAR(200), KEY (note), FULLTEXT (note)) ENGINE = MyISAM;
CREATE TABLE old.`of \u{e4}ll` (a INT, b BLOB, c GEOMETRY, d ENUM('', 'x'), e BIT(9)) ENGINE = MyISAM;
INSERT INTO old.`of \u{e4}ll` VALUES (1, X'00FF0A09', POINT(1, 2), 'x', b'101'), (NULL, NULL, NULL, NULL, NULL);
CREATE TABLE old.empty (a INT) ENGINE = MyISAM;
CREATE TABLE old.sheet (a INT NOT NULL, b VARCHAR(40) NOT NULL) ENGINE = CSV;
CREATE TABLE old.kept (a INT, b TEXT) ENGINE = ARCHIVE;
CREATE TABLE old.quick (a INT PRIMARY KEY, b VARCHAR(40)) ENGINE = MEMORY;
INSERT INTO old.quick VALUES (1, 'one'), (2, 'two');
CREATE TABLE old.nowhere (a INT) ENGINE = BLACKHOLE;
CREATE TRIGGER old.loud BEFORE INSERT ON old.items FOR EACH ROW SET NEW.note = CONCAT(NEW.note, '!');
CREATE TRIGGER old.louder BEFORE INSERT ON old.kept FOR EACH ROW SET NEW.b = UPPER(NEW.b);
INSERT INTO old.items (n, note) SELECT SEQ, REPEAT('row ', 20) FROM (WITH RECURSIVE s (SEQ) AS (SELECT 1 UNION ALL SELECT SEQ + 1 FROM s WHERE SEQ < 900) SELECT SEQ FROM s) AS t;
";

fn sums(server: &MysqlServer) -> BTreeMap<String, Fingerprint> {
    let mut sums = checksums(server, &["balance", "old"]);
    // CHECKSUM TABLE of an ARCHIVE table is at times 0 (the server's own, without any restore); its rows are summed instead.
    let sum = "SELECT SUM(CRC32(CONCAT_WS(',', a, b))) FROM old.kept";
    sums.get_mut("old.kept").unwrap().checksum = server.value(sum).parse().unwrap();
    sums
}

/// Writes to tables of three engines until it is told to stop; gives the rounds.
fn write_to_others(source: &MysqlServer, stop: &AtomicBool) -> u32 {
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        source.sql(&format!(
            "INSERT INTO old.items (n, note) VALUES ({round}, 'new'), ({round}, 'newer');
             UPDATE old.items SET n = n + 1 WHERE id % 97 = {round} % 97;
             INSERT INTO old.sheet VALUES ({round}, 'line');
             INSERT INTO old.kept VALUES ({round}, 'for ever');
             DELETE FROM old.items WHERE id = {round} * 3"
        ));
    }
    round
}

/// Writers to InnoDB and to three other engines. The restored copy follows the source from the position it recorded: with a row too many or
/// too few of any table, following fails or the end differs. With commits held, and without.
#[test]
fn other_engines_are_in_a_physical_backup() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 4, 500);
    source.create_user("follower", "follow", &["REPLICATION SLAVE"]);
    source.sql(OTHER_ENGINES);
    source.sql(&format!("GRANT SELECT, LOCK TABLES, TRIGGER ON *.* TO {USER}"));
    let mut site = Site::new(&source, "").init();
    let scratch = site.program.dir().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    for held in [true, false] {
        if !held {
            source.sql(&format!("REVOKE RELOAD ON *.* FROM {USER}"));
        }
        let stop = AtomicBool::new(false);
        let backup = std::thread::scope(|scope| {
            let writers = Writers::start(
                &source,
                2,
                &balance::tables(4),
                WriterOptions { ddl: false, rate: None },
            );
            let others = scope.spawn(|| write_to_others(&source, &stop));
            std::thread::sleep(Duration::from_millis(700));
            let backup = site.run(&["backup", "orders", "--json"]).expect(0);
            std::thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
            let report = writers.stop();
            let rounds = others.join().unwrap();
            assert!(report.transactions > 100 && rounds > 5, "{report:?}, {rounds}");
            backup
        });
        let said = backup.stderr.lines().find(|line| line.contains("of other engines"));
        println!("{}", said.unwrap_or_else(|| panic!("{}", backup.stderr)));

        let restored = site.restore(&[]);
        assert_eq!(restored["proof"]["position_equal"], true, "{restored}");
        assert_eq!(restored["proof"]["tables_found"], restored["proof"]["tables_expected"]);
        let copy = start_restored(&site.restored());
        let without_memory = |server: &MysqlServer| {
            let mut sums = sums(server);
            sums.remove("old.quick").unwrap();
            sums
        };
        let at_moment = without_memory(&copy);
        assert_eq!(at_moment["old.nowhere"].rows, 0);
        assert_eq!(copy.value("SELECT COUNT(*) FROM old.quick"), "0");
        assert_eq!(objects(&copy, &["old"]), objects(&source, &["old"]));
        copy.sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='follower', \
             SOURCE_PASSWORD='follow', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA",
            source.port()
        ));
        let end = source.gtid_executed();
        assert_ne!(copy.gtid_executed(), end);
        let waited = copy.value(&format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{end}', 120)"));
        let error = "SELECT CONCAT(LAST_ERROR_MESSAGE) FROM performance_schema.replication_applier_status_by_worker WHERE LAST_ERROR_NUMBER <> 0";
        assert_eq!(waited, "0", "the copy cannot follow the source: {:?}", copy.sql(error));
        assert_eq!(without_memory(&copy), without_memory(&source));
        assert_ne!(at_moment, without_memory(&source));

        // The same rows out of the files, into a running server; of tables in memory, too.
        let (other, url) = target(&mut site, Flavour::Mysql);
        let scratch = scratch.to_str().unwrap();
        let only = ["--only", "old.*", "--only", "balance.orders_1"];
        site.json(
            &[&["restore", "orders", "--to", &url, "--scratch", scratch][..], &only].concat(),
            0,
        );
        let mut loaded = sums(&other);
        let quick = loaded.remove("old.quick").unwrap();
        assert_eq!(quick, sums(&source)["old.quick"]);
        assert_eq!(loaded.len(), 7);
        for (name, sum) in loaded {
            assert_eq!(Some(&sum), at_moment.get(&name), "{name}");
        }
        assert_eq!(private_folders(&site), Vec::<PathBuf>::new());
    }
    site.verify_clean();
}

/// Rows become a data directory, made by the program of the server that will use it: every type and object, accounts and `root` too, and
/// it follows the source from where the rows were read.
#[test]
fn rows_become_a_data_directory() {
    let source = server(MysqlOptions::default());
    source.sql(&format!("GRANT {MYSQL_GRANTS} ON *.* TO {USER}"));
    source.sql("CREATE USER onlooker IDENTIFIED BY 'r'; GRANT SELECT ON balance.* TO onlooker");
    ugly::load(&source);
    balance::load(&source, 8, 300);
    let bases: Vec<&str> = ugly::DATABASES.into_iter().chain(["balance"]).collect();
    let (backed_up, objects_backed_up) = (checksums(&source, &bases), objects(&source, &bases));
    let site = Site::new(&source, "engine = \"logical\"").init();
    site.run(&["backup", "orders"]).expect(0);
    let restored = site.restore(&[]);
    println!("{} s, {}", restored["seconds"], restored["steps"]);
    assert_eq!(restored["proof"]["position_equal"], true, "{restored}");
    assert_eq!(restored["proof"]["tables_differing"], serde_json::json!([]));
    let copy = start_restored(&site.restored());
    assert_eq!(checksums(&copy, &bases), backed_up);
    assert_eq!(objects(&copy, &bases), objects_backed_up);
    assert_eq!(copy.gtid_executed(), source.gtid_executed());
    let redo =
        "SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Innodb_redo_log_enabled'";
    assert_eq!(copy.value(redo), "ON");
    let count = "SELECT COUNT(*) FROM balance.orders_3";
    assert_eq!(copy.sql_as("onlooker", "r", count).unwrap(), source.sql(count));
    let accounts = "SELECT CONCAT(User, '@', Host), plugin, authentication_string FROM mysql.user ORDER BY 1";
    assert_eq!(copy.sql(accounts), source.sql(accounts));
}
