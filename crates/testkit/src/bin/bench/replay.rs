//! A log put on top of a backup, against what everybody has: `mysqlbinlog | mysql`, as it is written in a thousand runbooks, and with
//! the one option that makes it several times faster with the client of MySQL 9.7.
//!
//! One donor, one backup, one log. Every way starts from the same restored directory, on a server with the same settings: those the
//! private server of a restore has, on which nothing is durable before the end. What is measured is the log alone: for the rivals on a
//! server that already runs, for Ballast from the first byte sent to the last transaction applied, which it tells itself; the whole
//! restore is noted beside it. Nothing is reported unless every result holds what the donor holds.
//!
//! How many transactions a private server applies at once is not for a user to choose. Where the bench chooses it, the server program is
//! a script that says so to the donor's.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ballast_testkit::dataset::{Donor, balance};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};
use serde_json::Value;

use crate::measure::{Pipeline, float};
use crate::report::{Report, Row, Target, load, machine};
use crate::site::{Content, QUESTION, Site, client, result, say, with_server_cpu};

const GRANTS: [&str; 6] = [
    "BACKUP_ADMIN",
    "RELOAD",
    "PROCESS",
    "REPLICATION CLIENT",
    "REPLICATION SLAVE",
    "SELECT",
];
const TRANSACTIONS: u32 = 64_000;
const CLIENTS: u32 = 4;
/// The rest of what the private server is started with that has to do with speed.
const PRIVATE_SERVER: [&str; 7] = [
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=OFF",
    "--innodb-flush-method=nosync",
    "--innodb-use-native-aio=OFF",
    "--innodb-log-buffer-size=4M",
    "--innodb-log-writer-threads=OFF",
    "--performance-schema=OFF",
];
/// As the private server's: a quarter of the memory at hand, which is more than the data.
const BUFFER_POOL_MIB: u32 = 2048;
const RECORDED_WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// Where the recorder's words go.
const SAID: &str = "said";

const PLAIN_TIMES: f64 = 5.0;
const SKIP_COMMENTS_TIMES: f64 = 3.0;

pub(crate) fn run(program: &Path, bytes: u64) -> Report {
    let machine = machine();
    let transactions = std::env::var("BALLAST_BENCH_TRANSACTIONS")
        .ok()
        .map_or(TRANSACTIONS, |text| text.parse().expect("a number"));
    say("loading Balance");
    let donor = Donor::load_shards(bytes, balance::SHARDS);
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
        .ballast(&["archive", "orders", "--json", "--no-progress"])
        .stdout(fs::File::create(site.folder(SAID)).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    say("writing what is to be replayed");
    let begun = Instant::now();
    write(server, site.donor.shards, transactions);
    let wrote = begun.elapsed().as_secs_f64();
    await_recorded(&site, server);
    stop(&mut recorder);
    // From the file that the backup was taken in.
    let files = log_files(server).split_off(before.len() - 1);
    let log_bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    notes.push(format!(
        "{transactions} transactions by {CLIENTS} clients in {wrote:.1} s, {:.1} MB of log",
        float(log_bytes) / 1e6
    ));
    let bench = Bench {
        content: site.content(),
        site,
        backup,
        files,
    };
    bench.site.donor.rest();

    let mut rows = vec![
        bench.ballast("ballast, 1 worker", Some(1), &mut notes),
        bench.ballast("ballast, 2 workers", Some(2), &mut notes),
        bench.ballast("ballast, 4 workers", Some(4), &mut notes),
    ];
    let ours = bench.ballast("ballast, as it is", None, &mut notes);
    let quick = bench.rival("mysqlbinlog | mysql --skip-comments", &["--skip-comments"]);
    let plain = bench.rival("mysqlbinlog | mysql", &[]);
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
    rows.extend([ours, quick, plain]);
    Report {
        bench: "replay",
        machine,
        notes,
        rows,
        targets,
    }
}

/// What all ways have before them.
struct Bench {
    site: Site,
    /// The donor's, at the end of the log.
    content: Content,
    backup: String,
    files: Vec<PathBuf>,
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

/// Until the last byte is in the repository.
fn await_recorded(site: &Site, server: &MysqlServer) {
    let status = server.sql("SHOW BINARY LOG STATUS");
    let (file, offset) = (status[0][0].clone().unwrap(), status[0][1].clone().unwrap());
    let offset: u64 = offset.parse().unwrap();
    let is_there = || {
        let said = fs::read_to_string(site.folder(SAID)).unwrap();
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["type"] == "sealed")
            .any(|line| line["file"] == *file && line["offset"] == offset)
    };
    let begin = Instant::now();
    while !is_there() {
        assert!(begin.elapsed() < RECORDED_WAIT_MAX, "{file}:{offset} is not recorded");
        thread::sleep(POLL);
    }
}

/// In order: what is sealed and not stored yet is stored.
fn stop(recorder: &mut Child) {
    let interrupt = rustix::process::Signal::INT;
    rustix::process::kill_process(rustix::process::Pid::from_child(recorder), interrupt).unwrap();
    recorder.wait().unwrap();
}

impl Bench {
    /// Restores with the log to its end; the row is the replay alone, but its processor time is that of all.
    fn ballast(&self, name: &'static str, workers: Option<u32>, notes: &mut Vec<String>) -> Row {
        let site = &self.site;
        let folder = site.folder("restored");
        let target = format!("datadir:{}", folder.display());
        let mut restore = site.ballast(&["restore", "orders", "--to", &target, "--json"]);
        if let Some(workers) = workers {
            restore.env("BALLAST_MYSQLD", self.server_with(workers));
        }
        rustix::fs::sync();
        say(name);
        let mut taken = Pipeline::new([restore]).run();
        let told = result(&taken);
        notes.push(format!("{name}: the whole restore took {:.1} s", taken.seconds));
        taken.seconds = told["replayed"]["seconds"].as_f64().expect("a replay");
        let row = Row::new(name, &taken, 0.0, told["replayed"]["bytes"].as_u64().unwrap());
        let server = MysqlServer::start_on(&folder, Donor::options());
        site.compare_with(&self.content, &server);
        drop(server);
        fs::remove_dir_all(&folder).unwrap();
        row
    }

    /// The donor's server program, which applies that many transactions at once where it is a replica.
    fn server_with(&self, workers: u32) -> PathBuf {
        let script = self.site.folder(&format!("mysqld-{workers}"));
        let program = self.site.donor.server.program().display().to_string();
        let text = format!(
            "#!/bin/sh\ncase \" $* \" in *' --replica-parallel-workers='*) set -- \"$@\" --replica-parallel-workers={workers} ;; esac\n\
             exec '{program}' \"$@\"\n"
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        script
    }

    /// What everybody has, on the same directory and a server with the same settings.
    fn rival(&self, name: &'static str, more: &[&str]) -> Row {
        let site = &self.site;
        let folder = site.folder("restored");
        let target = format!("datadir:{}", folder.display());
        Pipeline::new([site.ballast(&["restore", "orders", "--backup", &self.backup, "--to", &target, "--json"])])
            .run();
        let mut options = MysqlOptions {
            binlog: false,
            buffer_pool_mib: BUFFER_POOL_MIB,
            ..Donor::options()
        };
        options.args.extend(PRIVATE_SERVER.map(str::to_owned));
        let server = MysqlServer::start_on(&folder, options);
        server.value(QUESTION);
        rustix::fs::sync();
        say(name);
        let mut read = Command::new(server.client_program("mysqlbinlog"));
        read.arg("--no-defaults").args(&self.files);
        let mut apply = client(&server, "mysql");
        apply.args(more);
        let (taken, server_cpu) = with_server_cpu(&server, Pipeline::new([read, apply]));
        let bytes = self.files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
        let row = Row::new(name, &taken, server_cpu, bytes);
        site.compare_with(&self.content, &server);
        drop(server);
        fs::remove_dir_all(&folder).unwrap();
        row
    }
}
