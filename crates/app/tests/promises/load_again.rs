use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ballast_testkit::chaos_proxy::ChaosProxy;
use ballast_testkit::dataset::{Fingerprint, balance, checksums, ugly};
use ballast_testkit::program::Running;
use ballast_testkit::servers::{Flavour, MysqlOptions, MysqlServer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::damage::{flip, name};
use crate::logical::{MARIADB_GRANTS, MYSQL_GRANTS, create_loader, objects, password};
use crate::site::{Site, USER, files, rounds, server};

const SHARDS: u32 = 2;
/// Two transactions each.
const ROWS: u32 = 40_000;

/// A source of both kinds of tables, its backup by rows, and what it holds.
struct Story {
    source: MysqlServer,
    site: Site,
    backup: String,
    held: BTreeMap<String, Fingerprint>,
}

impl Story {
    fn new(flavour: Flavour) -> Self {
        let source = match flavour {
            Flavour::Mysql => {
                let source = server(MysqlOptions::default());
                source.sql(&format!("GRANT {MYSQL_GRANTS} ON *.* TO {USER}"));
                source
            }
            Flavour::Mariadb => {
                let source = MysqlServer::start(MysqlOptions::mariadb());
                source.sql(&format!(
                    "CREATE USER {USER} IDENTIFIED BY '{}'; GRANT {MARIADB_GRANTS} ON *.* TO {USER}",
                    password()
                ));
                source
            }
        };
        balance::load(&source, SHARDS, ROWS);
        // Rows that can be loaded twice without a word; and tables that know no transactions, one of which dies with its server.
        source.sql(
            "USE balance; CREATE TABLE no_key (a INT, b VARCHAR(100));
             INSERT INTO no_key SELECT id % 100, note FROM orders_1; INSERT INTO no_key SELECT a, b FROM no_key;
             CREATE TABLE old (id INT PRIMARY KEY, note VARCHAR(500), KEY (note(20))) ENGINE = MyISAM;
             INSERT INTO old SELECT id, note FROM orders_0;
             CREATE TABLE fleeting (id INT PRIMARY KEY, note VARCHAR(100)) ENGINE = MEMORY;
             INSERT INTO fleeting SELECT id, LEFT(note, 100) FROM orders_1 WHERE id < 1000;
             CREATE TABLE payments (id INT PRIMARY KEY, shop INT UNSIGNED NOT NULL,
                 CONSTRAINT of_shop FOREIGN KEY (shop) REFERENCES shops (id));
             INSERT INTO payments SELECT id, id FROM shops",
        );
        if flavour == Flavour::Mariadb {
            source.sql("CREATE SEQUENCE balance.numbers START WITH 77; DO NEXTVAL(balance.numbers)");
        } else {
            ugly::load(&source);
        }
        let site = Site::new(&source, "engine = \"logical\"").init();
        let backup = site.json(&["backup", "orders"], 0)["backup"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let held = checksums(&source, &bases(flavour));
        Self {
            source,
            site,
            backup,
            held,
        }
    }

    fn target(&mut self, args: &[&str]) -> MysqlServer {
        let options = MysqlOptions {
            flavour: self.source.flavour(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..MysqlOptions::default()
        };
        let target = MysqlServer::start(options);
        create_loader(&mut self.site, &target);
        target
    }

    fn spawn(&self, url: &str) -> Running {
        self.site.program.spawn(["restore", "orders", "--to", url, "--json"])
    }

    /// Everything is there once, and nothing is left of the work.
    fn is_whole(&self, target: &MysqlServer) {
        let bases = bases(target.flavour());
        assert_eq!(checksums(target, &bases), self.held);
        assert_eq!(objects(target, &bases), objects(&self.source, &bases));
        assert_eq!(remembered(target), None);
        if target.flavour() == Flavour::Mysql {
            let grants = |server: &MysqlServer| server.sql("SHOW GRANTS FOR 'odd user'@'10.%'");
            assert_eq!(grants(target), grants(&self.source));
        } else {
            let next = |server: &MysqlServer| server.value("SELECT NEXT_NOT_CACHED_VALUE FROM balance.numbers");
            assert_eq!(next(target), next(&self.source));
        }
    }
}

fn bases(flavour: Flavour) -> Vec<&'static str> {
    match flavour {
        Flavour::Mysql => ugly::DATABASES.into_iter().chain(["balance"]).collect(),
        Flavour::Mariadb => vec!["balance"],
    }
}

/// How many rows an unfinished load has loaded; `None` where there is none.
fn remembered(target: &MysqlServer) -> Option<u64> {
    let rows = target
        .try_sql("SELECT CAST(COALESCE(SUM(rows_there), 0) AS UNSIGNED) FROM ballast_load.part")
        .ok()?;
    rows[0][0].as_ref()?.parse().ok()
}

/// Until that many rows are there and remembered.
fn until_rows(target: &MysqlServer, rows: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while remembered(target).is_none_or(|there| there < rows) {
        assert!(Instant::now() < deadline, "no rows were loaded");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn proven(result: &Value) {
    assert_eq!(result["proof"]["tables_differing"], serde_json::json!([]), "{result}");
    assert_eq!(
        result["proof"]["tables_found"], result["proof"]["tables_expected"],
        "{result}"
    );
    assert_eq!(result["left_out"], serde_json::json!([]), "{result}");
}

/// `kill -9` of the program in the middle of the rows, and at random moments of all of it: the same command goes on, also when there is a
/// newer backup by then, loads no row twice, and says the same at the end.
#[test]
fn a_killed_load_goes_on() {
    let mut story = Story::new(Flavour::Mysql);
    let target = story.target(&[]);
    // What is there already belongs to somebody else, and is said to be left out by whichever run comes through.
    target.sql("CREATE USER 'odd user'@'10.%'; CREATE DATABASE ugly; CREATE FUNCTION ugly.greet (a INT) RETURNS INT DETERMINISTIC RETURN 7");
    let url = target.url("loader");
    let running = story.spawn(&url);
    let pid = running.pid();
    // In the middle of a table's rows.
    let middle = format!(
        "SELECT COUNT(*) FROM ballast_load.part WHERE rows_there > {} AND rows_there < {ROWS}",
        ROWS / 4
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < deadline, "no table was caught in the middle");
        until_rows(&target, 1);
        signal(pid, Signal::STOP);
        if target.value(&middle) != "0" {
            break;
        }
        signal(pid, Signal::CONT);
    }
    running.kill_after(Duration::ZERO);
    assert_ne!(target.value(&middle), "0");
    story.site.json(&["backup", "orders"], 0);
    let plan = story.site.json(&["restore", "orders", "--to", &url, "--dry-run"], 0);
    assert!(plan["goes_on"]["rows"].as_u64().unwrap() > 0, "{plan}");

    // Nothing else can be loaded before this one is through, and what to type is said.
    let other = [&["restore", "orders", "--to", &url][..], &["--only", "balance.shops"]].concat();
    let output = story.site.run(&other).expect(2);
    let command = format!("ballast restore orders --backup {} --to {url}", story.backup);
    assert!(output.stderr.contains(&command), "{}", output.stderr);
    assert!(
        output.stderr.contains("DROP DATABASE ballast_load"),
        "{}",
        output.stderr
    );

    let result = story.site.json(&["restore", "orders", "--to", &url], 3);
    assert_eq!(result["backup"], story.backup.as_str(), "{result}");
    let (kept, rows) = (&result["rows_kept"], &result["proof"]["rows"]);
    assert!(kept.as_u64().unwrap() > 0 && kept.as_u64() < rows.as_u64(), "{result}");
    assert_eq!(result["proof"]["tables_differing"], serde_json::json!([]), "{result}");
    let left_out = result["left_out"].to_string();
    assert!(
        left_out.contains("greet") && left_out.contains("odd user"),
        "{left_out}"
    );
    assert_eq!(result["left_out"].as_array().unwrap().len(), 2, "{left_out}");
    assert_eq!(checksums(&target, &bases(Flavour::Mysql)), story.held);
    assert!(
        !target.sql("SHOW GRANTS FOR 'odd user'@'10.%'")[0][0]
            .as_ref()
            .unwrap()
            .contains("ugly")
    );

    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        if flavour == Flavour::Mariadb {
            story = Story::new(flavour);
        }
        let target = story.target(&[]);
        killed_at_random(&story, &target);
    }
}

fn killed_at_random(story: &Story, target: &MysqlServer) {
    let url = target.url("loader");
    let whole = story.spawn(&url).wait().expect(0).took;
    story.is_whole(target);
    let mut kept = Vec::new();
    for round in 0..rounds(2) {
        clear(target);
        let mut ended = Vec::new();
        let mut through = false;
        // A load of three lives.
        for _ in 0..2 {
            let killed = story.spawn(&url).kill_at_random(whole);
            ended.push(killed.took);
            through |= remembered(target).is_none() && target.try_sql("SELECT 1 FROM balance.payments").is_ok();
            if through {
                break;
            }
        }
        // Killed behind its end, or not at all.
        if !through {
            let result = story.site.json(&["restore", "orders", "--to", &url], 0);
            proven(&result);
            kept.push(result["rows_kept"].as_u64().unwrap());
        }
        println!(
            "{:?} round {round}: killed after {ended:?} of {whole:?}; rows kept {kept:?}",
            target.flavour()
        );
        story.is_whole(target);
    }
}

/// As if nothing had ever been loaded.
fn clear(target: &MysqlServer) {
    for base in bases(target.flavour()).into_iter().chain(["ballast_load"]) {
        target.sql(&format!("DROP DATABASE IF EXISTS `{}`", base.replace('`', "``")));
    }
    if target.flavour() == Flavour::Mysql {
        target.sql("DROP USER IF EXISTS 'odd user'@'10.%'; DROP ROLE IF EXISTS reader; DROP USER IF EXISTS backup");
    } else {
        target.sql("DROP USER IF EXISTS backup");
    }
}

/// `kill -9` of the target, and a cut connection: the same command goes on when it is back.
#[test]
fn a_load_survives_the_death_of_its_server() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let mut story = Story::new(flavour);
        let target = story.target(&[]);
        let proxy = ChaosProxy::start(target.port());
        let through = target
            .url("loader")
            .replace(&format!(":{}", target.port()), &format!(":{}", proxy.port()));
        let mut kept = Vec::new();
        for round in 0..rounds(2) {
            clear(&target);
            let all = u64::from(SHARDS * ROWS);
            for (moment, cut) in [(1, true), (all / 2, false)] {
                let running = story.spawn(&through);
                until_rows(&target, moment);
                if cut {
                    proxy.cut();
                } else {
                    target.kill();
                }
                let output = running.wait().expect(1);
                assert!(
                    output.stderr.contains("it goes on where this stopped"),
                    "{}",
                    output.stderr
                );
                if !cut {
                    story.site.run(&["restore", "orders", "--to", &through]).expect(1);
                    target.restart();
                }
            }
            let result = story.site.json(&["restore", "orders", "--to", &through], 0);
            proven(&result);
            kept.push(result["rows_kept"].as_u64().unwrap());
            println!(
                "{flavour:?} round {round}: rows kept {kept:?} of {}",
                result["proof"]["rows"]
            );
            assert!(kept.iter().all(|rows| *rows >= all / 2), "{kept:?}");
            story.is_whole(&target);
        }
    }
}

/// Two loads into one server: the second is refused and told who is there, whatever it wants to load.
#[test]
fn one_load_into_a_server_at_a_time() {
    let mut story = Story::new(Flavour::Mysql);
    let target = story.target(&[]);
    let url = target.url("loader");
    let running = story.spawn(&url);
    until_rows(&target, 1);
    let pid = running.pid();
    signal(pid, Signal::STOP);
    for more in [
        &[][..],
        &["--only", "balance.shops", "--rename", "balance.shops=rescue.shops"],
    ] {
        let held = story
            .site
            .run(&[&["restore", "orders", "--to", &url], more].concat())
            .expect(11);
        let named = format!("by process {pid} on host \"");
        assert!(held.stderr.contains(&named), "{}", held.stderr);
    }
    signal(pid, Signal::CONT);
    running.wait().expect(0);
    story.is_whole(&target);
    without_a_memory(&story, &target);
}

/// An account that may not make a database to remember in loads all the same, is told, and cannot go on.
fn without_a_memory(story: &Story, target: &MysqlServer) {
    target.sql(&format!(
        "CREATE USER narrow IDENTIFIED BY '{}'; GRANT ALL ON rescue.* TO narrow",
        password()
    ));
    let (url, name) = (target.url("narrow"), "balance.orders_1=rescue.orders_1");
    let restore = [
        "restore",
        "orders",
        "--to",
        &url,
        "--only",
        "balance.orders_1",
        "--rename",
        name,
    ];
    let output = story.site.run(&restore).expect(0);
    assert!(output.stderr.contains("cannot go on later"), "{}", output.stderr);
    let rescued = checksums(target, &["rescue"]);
    assert_eq!(rescued["rescue.orders_1"], story.held["balance.orders_1"]);
    target.sql("DROP DATABASE rescue");
    let running = story.site.program.spawn(restore);
    let deadline = Instant::now() + Duration::from_secs(30);
    while target.try_sql("SELECT 1 FROM rescue.orders_1").is_err() {
        assert!(Instant::now() < deadline, "no table was made");
    }
    running.kill_after(Duration::ZERO);
    let output = story.site.run(&restore).expect(2);
    assert!(output.stderr.contains("--replace"), "{}", output.stderr);
    story.site.run(&[&restore[..], &["--replace"]].concat()).expect(0);
    assert_eq!(checksums(target, &["rescue"]), rescued);
}

/// Somebody else writes to a table while it is loaded: the proof finds it, again and again, until that table is made anew; the others stay.
#[test]
fn a_load_that_differs_makes_that_table_anew() {
    let mut story = Story::new(Flavour::Mysql);
    let target = story.target(&[]);
    let url = target.url("loader");
    let running = story.spawn(&url);
    let pid = running.pid();
    let deadline = Instant::now() + Duration::from_secs(60);
    // Some of its rows are there, and it was not proved yet.
    let table = loop {
        assert!(Instant::now() < deadline, "no table was caught in the middle");
        until_rows(&target, 1);
        signal(pid, Signal::STOP);
        let unproved =
            target.sql("SELECT place FROM ballast_load.table_state WHERE state = 1 AND place LIKE 'balance.orders%'");
        let mut unproved = unproved.into_iter().filter_map(|row| row[0].clone());
        if let Some(table) = unproved.find(|table| target.value(&format!("SELECT COUNT(*) FROM {table}")) != "0") {
            break table;
        }
        signal(pid, Signal::CONT);
    };
    target.sql(&format!("UPDATE {table} SET note = 'not ours' WHERE id = 77"));
    signal(pid, Signal::CONT);
    running.wait().expect(4);
    for _ in 0..2 {
        let output = story.site.run(&["restore", "orders", "--to", &url]).expect(4);
        assert!(output.stderr.contains(&table), "{}", output.stderr);
        assert!(output.stderr.contains("--replace"), "{}", output.stderr);
    }
    let result = story.site.json(&["restore", "orders", "--to", &url, "--replace"], 0);
    proven(&result);
    let (kept, rows) = (result["rows_kept"].as_u64(), result["proof"]["rows"].as_u64());
    assert_eq!(kept.unwrap() + u64::from(ROWS), rows.unwrap(), "{result}");
    story.is_whole(&target);
}

/// One byte rots: the load stops and names it; when `copy` has mended it, the same command goes on.
#[test]
fn a_damaged_chunk_stops_a_load_and_is_named() {
    let mut story = Story::new(Flavour::Mysql);
    story.site.change(
        "[[repository]]",
        &format!(
            "[[repository]]\nname = \"second\"\nurl = \"file://{}\"\n\n[[repository]]",
            story.site.program.dir().join("second").display()
        ),
    );
    story.site.run(&["init"]).expect(0);
    story.site.run(&["copy", "--from", "local", "--to", "second"]).expect(0);
    let target = story.target(&[]);
    let url = target.url("loader");
    let repository = story.site.repository();
    let pack = files(&repository.join("packs"))
        .into_iter()
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    flip(&pack, pack.metadata().unwrap().len() * 2 / 3);
    let command = ["restore", "orders", "--to", &url, "--from-repository", "local"];
    let output = story.site.run(&command).expect(4);
    assert!(output.stderr.contains(&name(&repository, &pack)), "{}", output.stderr);
    assert!(output.stderr.contains("table "), "{}", output.stderr);
    assert!(
        output.stderr.contains("it goes on where this stopped"),
        "{}",
        output.stderr
    );
    // It is not whole, and is remembered not to be.
    assert!(remembered(&target).is_some());
    story.site.run(&command).expect(4);

    story.site.run(&["verify"]).expect(4);
    story.site.run(&["copy", "--from", "second", "--to", "local"]).expect(0);
    let result = story.site.json(&command, 0);
    proven(&result);
    println!("rows kept {} of {}", result["rows_kept"], result["proof"]["rows"]);
    story.is_whole(&target);
}

/// No LOAD DATA LOCAL, and small packets: rows go by INSERT, from the beginning or from when it is forbidden; a killed one goes on.
#[test]
fn rows_load_where_local_files_are_forbidden() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let mut story = Story::new(flavour);
        let target = story.target(&["--local-infile=OFF", "--max-allowed-packet=1M", "--wait-timeout=1"]);
        let url = target.url("loader");
        let running = story.spawn(&url);
        until_rows(&target, 1);
        running.kill_after(Duration::ZERO);
        let result = story.site.json(&["restore", "orders", "--to", &url], 0);
        proven(&result);
        assert!(result["rows_kept"].as_u64().unwrap() > 0, "{result}");
        story.is_whole(&target);

        clear(&target);
        target.sql("SET GLOBAL local_infile = ON");
        let running = story.spawn(&url);
        until_rows(&target, 1);
        target.sql("SET GLOBAL local_infile = OFF");
        running.wait().expect(0);
        story.is_whole(&target);
    }
}
