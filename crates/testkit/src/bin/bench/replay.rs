//! A log put on top of a backup, against what everybody has: `mysqlbinlog | mysql`, as it is written in a thousand runbooks, and with
//! the one option that makes it several times faster with the client of MySQL 9.7.
//!
//! One donor, one backup, one log. Every way starts from the same restored directory, on a server with the same settings: those the
//! private server of a restore has, on which nothing is durable before the end. What is measured is the log alone: for the rivals on a
//! server that already runs, for Ballast from the first byte sent to the last transaction applied, which it tells itself; the whole
//! restore is noted beside it. Nothing is reported unless every result holds what the donor holds.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ballast_testkit::dataset::Donor;
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use crate::measure::{Pipeline, float};
use crate::report::{Report, Row, Target, load, machine};
use crate::site::{QUESTION, Site, client, result, say, with_server_cpu};

const GRANTS: [&str; 6] = [
    "BACKUP_ADMIN",
    "RELOAD",
    "PROCESS",
    "REPLICATION CLIENT",
    "REPLICATION SLAVE",
    "SELECT",
];
const TRANSACTIONS: u32 = 60_000;
const CLIENTS: u32 = 4;
/// As the private server's: a quarter of the memory at hand, which is more than the data.
const BUFFER_POOL_MIB: u32 = 2048;
const RECORDED_WAIT: Duration = Duration::from_secs(10);

const PLAIN_TIMES: f64 = 5.0;
const SKIP_COMMENTS_TIMES: f64 = 3.0;

pub(crate) fn run(program: &Path, bytes: u64) -> Report {
    let machine = machine();
    let transactions = std::env::var("BALLAST_BENCH_TRANSACTIONS")
        .ok()
        .map_or(TRANSACTIONS, |text| text.parse().expect("a number"));
    say("loading Balance");
    let donor = Donor::load(bytes);
    let site = Site::new(program, donor, &GRANTS);
    let server = &site.donor.server;
    let mut notes = site.about();

    // The recorder keeps on the bench's disk what is not in the repository yet.
    let config = fs::read_to_string(site.folder("ballast.toml")).unwrap();
    let spool = format!("[spool]\npath = \"{}\"\n\n{config}", site.folder("spool").display());
    fs::write(site.folder("ballast.toml"), spool).unwrap();

    server.sql("FLUSH BINARY LOGS");
    site.donor.rest();
    let taken = Pipeline::new([site.ballast(&["backup", "orders", "--engine", "physical", "--json"])]).run();
    let backup = result(&taken)["backup"]["id"].as_str().expect("a backup").to_owned();
    let before = log_files(server);
    let mut recorder = site
        .ballast(&["archive", "orders"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    say("writing what is to be replayed");
    let begun = Instant::now();
    write(server, site.donor.shards, transactions);
    let wrote = begun.elapsed().as_secs_f64();
    server.sql("FLUSH BINARY LOGS");
    // From the file that the backup was taken in.
    let files = log_files(server).split_off(before.len() - 1);
    let log_bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    notes.push(format!(
        "{transactions} transactions by {CLIENTS} clients in {wrote:.1} s, {:.1} MB of log",
        float(log_bytes) / 1e6
    ));
    stop_recorder(&mut recorder);

    let ours = ballast(&site, &mut notes);
    let plain = rival(&site, "mysqlbinlog | mysql", &backup, &files, &[]);
    let quick = rival(
        &site,
        "mysqlbinlog | mysql --skip-comments",
        &backup,
        &files,
        &["--skip-comments"],
    );
    notes.push(format!("load of the machine at the end: {}", load()));
    let targets = vec![
        Target::at_least(
            "replay, times faster than mysqlbinlog | mysql, at least",
            PLAIN_TIMES,
            plain.seconds / ours.seconds,
        ),
        Target::at_least(
            "replay, times faster than with --skip-comments, at least",
            SKIP_COMMENTS_TIMES,
            quick.seconds / ours.seconds,
        ),
    ];
    Report {
        bench: "replay",
        machine,
        notes,
        rows: vec![ours, plain, quick],
        targets,
    }
}

/// In the order of the log.
fn log_files(server: &MysqlServer) -> Vec<PathBuf> {
    let rows = server.sql("SHOW BINARY LOGS");
    rows.into_iter()
        .map(|row| server.datadir().join(row[0].as_deref().unwrap()))
        .collect()
}

/// Each transaction: a row comes and one changes on one of the shards, and one shop's balance.
fn write(server: &MysqlServer, shards: u32, transactions: u32) {
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            scope.spawn(move || {
                let mut command = client(server, "mysql");
                let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
                let mut stdin = child.stdin.take().unwrap();
                for round in 0..transactions / CLIENTS {
                    let shard = (round * 7 + number * 31) % shards;
                    let order = format!("B{number}{round:022}");
                    writeln!(
                        stdin,
                        "BEGIN; INSERT INTO balance.orders_{shard}
                            (order_no, shop_id, user_id, amount, token, items, address, note, created_at)
                            VALUES ('{order}', 1 + {round} % 200, {round}, {round} % 1000, UNHEX(SHA2('{order}', 512)), '[]',
                                'written', REPEAT('n', {round} % 200), NOW(6));
                         UPDATE balance.orders_{shard} SET status = status + 1 WHERE id = 1 + {round} % 500;
                         UPDATE balance.shops SET balance = balance + 1 WHERE id = 1 + ({round} * 13 + {number}) % 200; COMMIT;"
                    )
                    .unwrap();
                }
                drop(stdin);
                assert!(child.wait().unwrap().success(), "a client failed");
            });
        }
    });
}

/// Ends it when it has had time to take everything; that it did is seen when the contents are compared.
fn stop_recorder(recorder: &mut Child) {
    thread::sleep(RECORDED_WAIT);
    let mut interrupt = Command::new("kill");
    interrupt.args(["-INT", &recorder.id().to_string()]).status().unwrap();
    recorder.wait().unwrap();
}

/// Restores with the log to its end; the row is the replay alone.
fn ballast(site: &Site, notes: &mut Vec<String>) -> Row {
    let name = "ballast";
    site.donor.rest();
    say(name);
    let folder = site.folder("restored");
    let target = format!("datadir:{}", folder.display());
    let mut taken = Pipeline::new([site.ballast(&["restore", "orders", "--to", &target, "--json"])]).run();
    let told = result(&taken);
    notes.push(format!("{name}: the whole restore took {:.1} s", taken.seconds));
    taken.seconds = told["replayed"]["seconds"].as_f64().expect("a replay");
    let row = Row::new(name, &taken, 0.0, told["replayed"]["bytes"].as_u64().unwrap());
    let server = MysqlServer::start_on(&folder, Donor::options());
    site.compare(&server);
    drop(server);
    fs::remove_dir_all(&folder).unwrap();
    row
}

/// What everybody has, on the same directory and a server with the same settings.
fn rival(site: &Site, name: &'static str, backup: &str, files: &[PathBuf], more: &[&str]) -> Row {
    let folder = site.folder("restored");
    let target = format!("datadir:{}", folder.display());
    Pipeline::new([site.ballast(&["restore", "orders", "--backup", backup, "--to", &target, "--json"])]).run();
    let options = MysqlOptions {
        binlog: false,
        buffer_pool_mib: BUFFER_POOL_MIB,
        ..Donor::options()
    };
    let server = MysqlServer::start_on(
        &folder,
        options
            .arg("--innodb-flush-log-at-trx-commit=0")
            .arg("--innodb-doublewrite=OFF")
            .arg("--innodb-flush-method=nosync")
            .arg("--performance-schema=OFF"),
    );
    server.value(QUESTION);
    site.donor.rest();
    say(name);
    let mut read = Command::new(server.client_program("mysqlbinlog"));
    read.arg("--no-defaults").args(files);
    let mut apply = client(&server, "mysql");
    apply.args(more);
    let (taken, server_cpu) = with_server_cpu(&server, Pipeline::new([read, apply]));
    let bytes = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    let row = Row::new(name, &taken, server_cpu, bytes);
    site.compare(&server);
    drop(server);
    fs::remove_dir_all(&folder).unwrap();
    row
}
