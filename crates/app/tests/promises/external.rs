use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ballast_testkit::dataset::{WriterOptions, Writers, balance, checksums};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};
use serde_json::json;

use crate::site::{PASSWORD, Site, USER};

/// What the README tells to grant for the tool.
const TOOL_GRANTS: &str = "RELOAD, PROCESS, BINLOG MONITOR, REFERENCES";
/// By this argument a running tool is known; no other test runs one.
const TOOL_ARGUMENT: &str = "--stream=mbstream";
const WAIT_MAX: Duration = Duration::from_secs(60);

fn mariadb(options: MysqlOptions) -> MysqlServer {
    let source = MysqlServer::start(options);
    let password = PASSWORD.replace('\\', "\\\\").replace('\'', "''");
    source.sql(&format!(
        "CREATE USER {USER} IDENTIFIED BY '{password}'; GRANT {TOOL_GRANTS} ON *.* TO {USER}"
    ));
    source
}

/// A configuration in which the tool is named.
fn site(source: &MysqlServer, tool: &Path, more: &str) -> Site {
    let more = format!("engine = \"external\"\ntool = \"{}\"\n{more}", tool.display());
    let mut site = Site::new(source, &more);
    site.program.env("BALLAST_MARIADBD", source.program());
    site
}

/// Two writers run while the tool copies. The restored copy must be at the recorded position; then it follows the source from there,
/// and at the source's end every table must have the source's checksum: had the copy one transaction too many or too few,
/// following it would fail or differ.
#[test]
fn the_external_engine_backs_up_a_mariadb_under_writes_and_restores_it() {
    let source = mariadb(MysqlOptions::mariadb());
    balance::load(&source, 24, 400);
    source.sql(
        "CREATE DATABASE `\u{e4}-b c`; CREATE TABLE `\u{e4}-b c`.`x/\u{e9}\u{8868}#P#1` (id INT PRIMARY KEY) SELECT 7 AS id;
         CREATE TABLE balance.aria (id INT) ENGINE = Aria SELECT 1 AS id; CREATE TABLE balance.old (id INT) ENGINE = MyISAM SELECT 2 AS id;
         CREATE TABLE balance.parts (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 3 SELECT 3 AS id;
         CREATE SEQUENCE balance.numbers; CREATE TABLE balance.history (id INT) WITH SYSTEM VERSIONING;
         CREATE USER follower IDENTIFIED BY 'follow'; GRANT REPLICATION SLAVE ON *.* TO follower",
    );
    let expect = "expect = [\"balance.orders_{0..23}\", \"balance.shops\", \"balance.parts\", \"\u{e4}-b c.*\"]";
    let site = site(&source, &source.backup_tool(), expect).init();
    let doctor = site.run(&["doctor", "orders"]);
    assert!(doctor.stdout.contains("backup tool"), "{}", doctor.stdout);

    let tables = balance::tables(24);
    let writers = Writers::start(&source, 2, &tables, WriterOptions { ddl: false, rate: None });
    std::thread::sleep(Duration::from_secs(1));
    let backup = site.json(&["backup", "orders"], 0);
    let report = writers.stop();
    assert!(report.transactions > 100, "{report:?}");
    let summary = &backup["backup"];
    assert_eq!(
        (&summary["engine"], &summary["state"]),
        (&json!("external"), &json!("good")),
        "{backup}"
    );
    assert_eq!(summary["position"]["exact"], true, "{backup}");
    // Those of the balance, five more, and the one with the name.
    assert_eq!(summary["tables"], 24 + 2 + 4 + 1, "{backup}");
    assert_eq!(site.json(&["list"], 0)["backups"][0]["engine"], "external");

    let target = format!("datadir:{}", site.restored().display());
    let plan = site.run(&["restore", "orders", "--to", &target, "--dry-run"]).expect(0);
    assert!(plan.stdout.contains("prepared by"), "{}", plan.stdout);
    let restored = site.restore(&[]);
    assert_eq!(restored["proof"]["position_equal"], true, "{restored}");
    assert_eq!(restored["proof"]["tables_differing"], json!([]));
    assert_eq!(restored["proof"]["tables_found"], summary["tables"], "{restored}");
    assert!(
        restored["start_command"].as_str().unwrap().starts_with("mariadbd "),
        "{restored}"
    );
    let left = std::fs::read_dir(site.restored()).unwrap();
    let left: Vec<_> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!left.iter().any(|name| name.contains("backup")), "{left:?}");

    let copy = MysqlServer::start_on(&site.restored(), MysqlOptions::mariadb());
    let recorded = summary["position"]["gtid_executed"].as_str().unwrap();
    let end = source.value("SELECT @@GLOBAL.gtid_binlog_pos");
    assert_ne!(recorded, end, "the writers went on after the snapshot");
    copy.sql(&format!(
        "SET GLOBAL gtid_slave_pos = '{recorded}'; CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, \
         MASTER_USER = 'follower', MASTER_PASSWORD = 'follow', MASTER_USE_GTID = slave_pos; START SLAVE",
        source.port()
    ));
    let waited = copy.value(&format!("SELECT MASTER_GTID_WAIT('{end}', 120)"));
    assert_eq!(
        waited,
        "0",
        "the copy cannot follow the source: {:?}",
        copy.sql("SHOW SLAVE STATUS")
    );
    let bases = ["balance", "\u{e4}-b c"];
    assert_eq!(checksums(&copy, &bases), checksums(&source, &bases));

    // What this engine does not do is refused, with what to type.
    let output = site.run(&["restore", "orders", "--to", &source.url("root")]).expect(2);
    assert!(output.stderr.contains("datadir:PATH"), "{}", output.stderr);
    site.run(&["restore", "orders", "--to", &target, "--only", "balance.shops"])
        .expect(2);
    site.verify_clean();
}

/// Nothing changed: next to nothing is stored. One shard of 24 changed: about as much.
#[test]
fn a_second_backup_by_the_tool_stores_what_changed() {
    let source = mariadb(MysqlOptions::mariadb());
    balance::load(&source, 24, 4_000);
    settle(&source);
    let site = site(&source, &source.backup_tool(), "").init();
    let stored = || {
        site.json(&["backup", "orders"], 0)["backup"]["bytes_stored"]
            .as_u64()
            .unwrap()
    };
    let (first, idle) = (stored(), stored());
    source.sql("UPDATE balance.orders_7 SET status = status + 1");
    settle(&source);
    let changed = stored();
    println!("first {first} bytes, nothing changed {idle}, one shard of 24 changed {changed}");
    assert!(idle * 50 < first || idle < 400_000, "{idle} of {first}");
    assert!(changed * 5 < first && changed > idle, "{changed} of {first}");
    site.verify_clean();
}

/// A server with other page sizes and no binary log.
#[test]
fn a_tool_copies_a_server_of_another_shape() {
    let options = MysqlOptions {
        binlog: false,
        ..MysqlOptions::mariadb()
    };
    let options = options
        .arg("--innodb-page-size=8k")
        .arg("--lower-case-table-names=1")
        .arg("--innodb-data-file-path=ibdata1:12M;ibdata2:8M:autoextend");
    let source = mariadb(options.clone());
    balance::load(&source, 2, 300);
    source.sql("CREATE TABLE balance.passing (id INT) ENGINE = MEMORY");
    let site = site(&source, &source.backup_tool(), "").init();
    // Rows that are in memory only are not in it, and it says so.
    let backup = site.json(&["backup", "orders"], 3);
    assert_eq!(backup["missing"], json!(["rows of balance.passing (engine MEMORY)"]));
    source.sql("DROP TABLE balance.passing");
    site.json(&["backup", "orders"], 0);
    let restored = site.restore(&[]);
    assert_eq!(restored["proof"]["position_equal"], json!(null), "{restored}");
    let command = restored["start_command"].as_str().unwrap();
    assert!(
        command.contains("--innodb-page-size=8192") && command.contains("ibdata2"),
        "{command}"
    );
    let copy = MysqlServer::start_on(&site.restored(), options);
    assert_eq!(checksums(&copy, &["balance"]), checksums(&source, &["balance"]));
}

/// A tool that is not there, lacks a right, is killed, or does half of its work: exit 1 (2 if it is not there), its last words, and no backup.
#[test]
fn a_failing_external_tool_is_a_failed_backup() {
    let source = mariadb(MysqlOptions::mariadb());
    balance::load(&source, 12, 4_000);
    let real = source.backup_tool();
    let mut site = site(&source, &real, "").init();
    let folder = site.program.dir().join("tools");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(real.with_file_name("mbstream"), folder.join("mbstream")).unwrap();
    let tool = |name: &str, rest: &str| script(&folder, name, &real, rest);
    let whole = tool("whole", "exec \"$real\" \"$@\"");
    let mut at = real.clone();
    let mut failing = |path: &Path, code: i32, words: &str| {
        let (from, to) = (at.display().to_string(), path.display().to_string());
        site.change(&format!("tool = \"{from}\""), &format!("tool = \"{to}\""));
        at = path.to_owned();
        let output = site.run(&["backup", "orders"]).expect(code);
        assert!(output.stderr.contains(words), "{words}: {}", output.stderr);
        assert!(!output.stderr.contains(PASSWORD));
        assert_eq!(site.json(&["list"], 0)["backups"], json!([]));
        site.verify_clean();
    };
    failing(&folder.join("absent"), 2, "there is no backup tool");
    failing(
        &source.client_program("mariadb"),
        1,
        "does not answer like mariadb-backup",
    );
    failing(
        &tool("early", "\"$real\" \"$@\" | head -c 2000000; echo completed OK! >&2"),
        1,
        "before the end of",
    );
    failing(&tool("status", "\"$real\" \"$@\"; exit 3"), 1, "exit status: 3");
    failing(
        &tool("silent", "\"$real\" \"$@\" 2>/dev/null"),
        1,
        "without \"completed OK!\"",
    );
    failing(
        &tool("talking", "echo hello; exec \"$real\" \"$@\""),
        1,
        "does not begin as one",
    );
    // The tool's own failure, in its own words.
    failing(
        &tool("option", "exec \"$real\" \"$@\" --no-such-option"),
        1,
        "no-such-option",
    );
    source.sql(&format!("REVOKE BINLOG MONITOR ON *.* FROM {USER}"));
    failing(&whole, 1, "GRANT BINLOG MONITOR");
    source.sql(&format!("GRANT BINLOG MONITOR ON *.* TO {USER}"));
    source.sql("CREATE DATABASE outside");
    let elsewhere = source.outside_dir();
    source.sql(&format!(
        "CREATE TABLE outside.t (id INT) ENGINE = InnoDB DATA DIRECTORY = '{}'",
        elsewhere.display()
    ));
    failing(&whole, 1, "outside/t");
    source.sql("DROP DATABASE outside");

    // Somebody holds a table locked, so that the tool waits and can be found.
    let locked = TableLock::take(&source);
    let running = site.program.spawn(["backup", "orders"]);
    let (pid, arguments, environment) = wait_for_tool(source.datadir());
    for place in [&arguments, &environment] {
        assert!(!place.contains("S3CR3T"), "{place}");
    }
    end(pid);
    let output = running.wait().expect(1);
    assert!(output.stderr.contains("signal: 9"), "{}", output.stderr);

    let running = site.program.spawn(["backup", "orders"]);
    let (pid, ..) = wait_for_tool(source.datadir());
    running.interrupt();
    running.wait().expect(130);
    assert!(!is_alive(pid), "the tool outlived an interrupt");

    // Killed while the tool waits: the next run ends it.
    let running = site.program.spawn(["backup", "orders"]);
    let (first, ..) = wait_for_tool(source.datadir());
    assert_eq!(running.kill_after(Duration::ZERO).signal, Some(9));
    let running = site.program.spawn(["backup", "orders"]);
    wait_until("the next run ends what the killed one left", || !is_alive(first));
    let (second, ..) = wait_for_tool(source.datadir());
    assert_eq!(running.kill_after(Duration::ZERO).signal, Some(9));
    assert_eq!(site.json(&["list"], 0)["backups"], json!([]));
    // Or it ends by itself as soon as it writes.
    drop(locked);
    wait_until("the tool ends when nobody reads", || !is_alive(second));

    site.run(&["backup", "orders"]).expect(0);
    site.restore(&[]);
    site.verify_clean();
}

/// Waits until the server has written what it had to: until then its files change though no data does.
fn settle(server: &MysqlServer) {
    server.sql("SET GLOBAL innodb_max_dirty_pages_pct = 0");
    let dirty = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'Innodb_buffer_pool_pages_dirty'";
    wait_until("all pages are written", || server.value(dirty) == "0");
    std::thread::sleep(Duration::from_secs(2));
}

/// A program that stands for the tool: it answers for it, and does `rest` when a backup is asked for.
fn script(folder: &Path, name: &str, real: &Path, rest: &str) -> PathBuf {
    let path = folder.join(name);
    let real = real.display();
    let text = format!(
        "#!/bin/sh\nreal='{real}'\n[ \"$1\" = --version ] && exec \"$real\" --version\n[ \"$2\" = --prepare ] && exec \"$real\" \"$@\"\n{rest}\n"
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A client that holds a table locked until it is dropped.
struct TableLock(Child);

impl TableLock {
    fn take(server: &MysqlServer) -> Self {
        let mut child = Command::new(server.client_program("mariadb"))
            .args([
                "--no-defaults",
                "--user=root",
                "--batch",
                "--skip-column-names",
                "--unbuffered",
            ])
            .arg(format!("--socket={}", server.socket().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.as_mut().unwrap();
        stdin
            .write_all(b"LOCK TABLES balance.shops WRITE;\nSELECT 'locked';\n")
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line.trim(), "locked");
        Self(child)
    }
}

impl Drop for TableLock {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The tool that copies this directory: its process, arguments and environment.
fn wait_for_tool(datadir: &Path) -> (u32, String, String) {
    let mut found = None;
    wait_until("a tool runs", || {
        found = tool_of(datadir);
        found.is_some()
    });
    found.unwrap()
}

fn tool_of(datadir: &Path) -> Option<(u32, String, String)> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let read = |name: &str| {
            let bytes = std::fs::read(entry.path().join(name)).ok()?;
            Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
        };
        let arguments = read("cmdline")?;
        // Other runs of this test have tools of their own; the tool works in the directory it copies.
        let here = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == datadir);
        (here && arguments.contains(TOOL_ARGUMENT)).then(|| (pid, arguments, read("environ").unwrap_or_default()))
    })
}

fn end(pid: u32) {
    assert!(
        Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

/// Running, or not yet waited for by whoever inherited it: one that has ended has no arguments any more.
fn is_alive(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|arguments| !arguments.is_empty())
}
