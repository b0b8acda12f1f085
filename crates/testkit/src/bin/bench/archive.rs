//! Recording a log: how fast a log that is there already is taken, what a commit takes with and without Ballast as the semi-synchronous
//! replica, and how far behind the recorder is while the server has half and all of the work it can do.
//!
//! The server is durable (`sync_binlog=1`), spool and repository are on the same disk. The recorder's CPU and memory are its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ballast_testkit::servers::{MysqlOptions, MysqlServer};
use serde_json::Value;
use tempfile::TempDir;

use crate::files::folder_bytes;
use crate::measure::{Pipeline, cpu_seconds, float, peak_bytes};
use crate::report::{Report, Row, Target, load, machine};
use crate::site::{client, say};

const CLIENTS: usize = 8;
const ROUND: Duration = Duration::from_secs(8);
/// Of the log that is recorded at full speed.
const LOG_BYTES: u64 = 256 << 20;
const USER: &str = "backup";
const PASSWORD: &str = "only-of-the-bench";
const MIB: f64 = 1_048_576.0;

struct Bench {
    program: PathBuf,
    server: MysqlServer,
    folder: TempDir,
}

/// What clients saw.
#[derive(Default)]
struct Load {
    millis: Vec<f64>,
    seconds: f64,
}

impl Load {
    fn at(&self, part: f64) -> f64 {
        let mut sorted = self.millis.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let at = (float(sorted.len() as u64) * part) as usize;
        sorted
            .get(at.min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0.0)
    }

    fn mean(&self) -> f64 {
        self.millis.iter().sum::<f64>() / float(self.millis.len().max(1) as u64)
    }

    fn rate(&self) -> f64 {
        float(self.millis.len() as u64) / self.seconds
    }
}

pub(crate) fn run(program: &Path) -> Report {
    let machine = machine();
    let bench = Bench::new(program);
    let mut notes = vec![format!(
        "MySQL {}, durable; {CLIENTS} clients, one row of 300 bytes a transaction, rounds of {ROUND:?}",
        bench.server.version()
    )];
    let bulk = bench.bulk(&mut notes);
    // Alternating, so that what else the machine does is spread over both.
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut recorder_row = None;
    let mut lags = Vec::new();
    for clients in [1, CLIENTS] {
        bench.semi_sync(false);
        let alone = bench.load(clients, Duration::ZERO);
        notes.push(told("without Ballast", clients, &alone));
        let recorder = bench.record();
        bench.semi_sync(true);
        let both = bench.load(clients, Duration::ZERO);
        bench.semi_sync(false);
        let (row, said) = bench.end(recorder, "recorder at 100 % load, semi-synchronous");
        notes.push(told("Ballast as semi-sync replica", clients, &both));
        notes.push(lag_text(&format!("{clients} clients, 100 % load"), &said));
        lags.push(lag(&said));
        without.push(alone);
        with.push(both);
        recorder_row = Some(row);
    }
    let full = without.last().map_or(1.0, Load::rate);
    let pause = Duration::from_secs_f64(float(CLIENTS as u64) / full);
    let recorder = bench.record();
    bench.semi_sync(true);
    let half = bench.load(CLIENTS, pause);
    bench.semi_sync(false);
    let (half_row, said) = bench.end(recorder, "recorder at about 50 % load, semi-synchronous");
    notes.push(told(
        &format!("{:.0} % of that load", 100.0 * half.rate() / full),
        CLIENTS,
        &half,
    ));
    notes.push(lag_text("50 % load", &said));
    let half_lag = lag(&said);
    notes.push(format!("load of the machine at the end: {}", load()));

    let cost = |at: usize| with[at].mean() - without[at].mean();
    let targets = vec![
        Target::at_least("recorded, MiB/s, at least", 50.0, bulk.1),
        Target::below("semi-sync cost of a commit, 1 client, ms, below", 2.0, cost(0)),
        Target::below("semi-sync cost of a commit, 8 clients, ms, below", 2.0, cost(1)),
        Target::below("lag at 50 % load, at most, ms, below", 100.0, half_lag.1),
        Target::below(
            "lag at 100 % load, at most, ms, below",
            500.0,
            lags.last().map_or(0.0, |lag| lag.1),
        ),
        Target::below("recorder, peak memory in MiB, below", 256.0, bulk.0.peak_mib()),
    ];
    Report {
        bench: "archive",
        machine,
        notes,
        rows: [bulk.0].into_iter().chain(recorder_row).chain([half_row]).collect(),
        targets,
    }
}

fn told(what: &str, clients: usize, load: &Load) -> String {
    format!(
        "{what}, {clients} clients: {:.0} commits/s; a commit takes {:.2} ms on average, {:.2} in the middle, {:.2} for 99 of 100",
        load.rate(),
        load.mean(),
        load.at(0.5),
        load.at(0.99)
    )
}

/// In milliseconds: in the middle and at most, over the segments of a round, one a second; each from the last commit in it until that
/// was durable here. The first one holds what was committed before the recorder came.
fn lag(said: &[Value]) -> (f64, f64) {
    let lags = said.iter().filter(|line| line["type"] == "sealed").skip(1);
    let load = Load {
        millis: lags
            .filter_map(|line| Some(line["lag_seconds"].as_f64()? * 1000.0))
            .collect(),
        seconds: 1.0,
    };
    (load.at(0.5), load.at(1.0))
}

fn lag_text(what: &str, said: &[Value]) -> String {
    let (middle, most) = lag(said);
    format!("lag at {what}: {middle:.1} ms in the middle, {most:.1} at most")
}

impl Bench {
    fn new(program: &Path) -> Self {
        let options = MysqlOptions {
            durable: true,
            buffer_pool_mib: 512,
            redo_mib: 512,
            ..MysqlOptions::default()
        };
        let server = MysqlServer::start(
            options
                .arg("--plugin-load-add=semisync_source.so")
                .arg("--loose-rpl-semi-sync-source-timeout=20000"),
        );
        server.create_user(
            USER,
            PASSWORD,
            &["REPLICATION SLAVE", "REPLICATION CLIENT", "RELOAD", "PROCESS", "SELECT"],
        );
        server.sql(
            "CREATE DATABASE b; CREATE TABLE b.t (id BIGINT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(300), n LONGBLOB)",
        );
        let folder = tempfile::Builder::new().prefix("bl-bench-").tempdir().unwrap();
        let bench = Self {
            program: program.canonicalize().unwrap(),
            server,
            folder,
        };
        let config = format!(
            "[key]\npassphrase = {{ env = \"PASSPHRASE\" }}\n\n[spool]\npath = \"{}\"\n\n[[source]]\nname = \"orders\"\nkind = \"mysql\"\n\
             url = \"{}\"\npassword = {{ env = \"PASSWORD\" }}\nlog = {{ semi_sync = true }}\n\n[[repository]]\nname = \"local\"\n\
             url = \"file://{}\"\n",
            bench.path("spool").display(),
            bench.server.url(USER),
            bench.path("repository").display()
        );
        fs::write(bench.path("ballast.toml"), config).unwrap();
        Pipeline::new([bench.ballast(&["init"])]).run();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ballast(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("PASSWORD", PASSWORD)
            .env("PASSPHRASE", "only of the bench, and of one run of it")
            .current_dir(self.folder.path());
        command
    }

    fn semi_sync(&self, on: bool) {
        self.server
            .sql(&format!("SET GLOBAL rpl_semi_sync_source_enabled = {}", u8::from(on)));
    }

    /// A recorder that the server sends its log to.
    fn record(&self) -> Child {
        let said = fs::File::create(self.path("said")).unwrap();
        let mut command = self.ballast(&["archive", "orders", "--json", "--no-progress"]);
        let child = command.stdout(said).stderr(Stdio::null()).spawn().unwrap();
        let followed = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
        while self.server.value(followed) == "0" {
            thread::sleep(Duration::from_millis(20));
        }
        // Semi-synchronous from the first commit on; the server notices a new replica within a second.
        thread::sleep(Duration::from_millis(1200));
        child
    }

    fn end(&self, mut recorder: Child, name: &'static str) -> (Row, Vec<Value>) {
        let (cpu, peak) = (cpu_seconds(recorder.id()), peak_bytes(recorder.id()).unwrap_or(0));
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&recorder),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        assert!(recorder.wait().unwrap().success(), "the recorder failed");
        let said = fs::read_to_string(self.path("said")).unwrap();
        let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let row = Row {
            name,
            seconds: ROUND.as_secs_f64(),
            cpu_seconds: cpu,
            server_cpu_seconds: 0.0,
            peak_bytes: peak,
            bytes: folder_bytes(&self.path("repository")),
        };
        (row, said)
    }

    /// Records a log that is there already, as fast as it comes.
    fn bulk(&self, notes: &mut Vec<String>) -> (Row, f64) {
        say("recording what is there");
        let recorder = self.record();
        self.end(recorder, "begins the stream");
        let before = folder_bytes(&self.path("repository"));
        let rows = LOG_BYTES / (64 * 1024);
        for _ in 0..rows / 64 {
            self.server.sql("INSERT INTO b.t (n) SELECT REPEAT(HEX(RANDOM_BYTES(1024)), 32) FROM (VALUES ROW(1), ROW(2), ROW(3), ROW(4)) a, \
                 (VALUES ROW(1), ROW(2), ROW(3), ROW(4)) b, (VALUES ROW(1), ROW(2), ROW(3), ROW(4)) c");
        }
        let executed = self.server.gtid_executed();
        let status = self.server.sql("SHOW BINARY LOG STATUS");
        let (file, offset) = (status[0][0].clone().unwrap(), status[0][1].clone().unwrap());
        let offset: u64 = offset.parse().unwrap();
        let begin = Instant::now();
        let cpu = cpu_seconds(self.server.pid().unwrap());
        let said = fs::File::create(self.path("said")).unwrap();
        let mut command = self.ballast(&["archive", "orders", "--json", "--no-progress"]);
        let recorder = command.stdout(said).stderr(Stdio::null()).spawn().unwrap();
        let done = || {
            let said = fs::read_to_string(self.path("said")).unwrap();
            let sealed = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            sealed
                .filter(|line| line["type"] == "sealed")
                .any(|line| line["file"] == *file && line["offset"] == offset)
        };
        while !done() {
            thread::sleep(Duration::from_millis(20));
        }
        let seconds = begin.elapsed().as_secs_f64();
        let server_cpu = cpu_seconds(self.server.pid().unwrap()) - cpu;
        let (row, _) = self.end(recorder, "recording a log that is there, to its last byte");
        let bytes = row.bytes - before;
        let rate = float(LOG_BYTES) / MIB / seconds;
        notes.push(format!(
            "{:.0} MiB of log at {rate:.0} MiB/s, {executed}",
            float(LOG_BYTES) / MIB
        ));
        (
            Row {
                seconds,
                server_cpu_seconds: server_cpu,
                bytes,
                ..row
            },
            rate,
        )
    }

    fn load(&self, clients: usize, pause: Duration) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let begin = Instant::now();
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                let mut command = client(&self.server, "mysql");
                command.args(["--batch", "--skip-column-names", "--unbuffered"]);
                let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                let stop = Arc::clone(&stop);
                thread::spawn(move || {
                    let mut stdin = child.stdin.take().unwrap();
                    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
                    let mut millis = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let from = Instant::now();
                        stdin
                            .write_all(b"INSERT INTO b.t (a) VALUES (REPEAT('a', 300)); SELECT 1;\n")
                            .unwrap();
                        answers.next().unwrap().unwrap();
                        millis.push(from.elapsed().as_secs_f64() * 1000.0);
                        thread::sleep(pause);
                    }
                    drop(stdin);
                    child.wait().unwrap();
                    millis
                })
            })
            .collect();
        thread::sleep(ROUND);
        stop.store(true, Ordering::Relaxed);
        let millis = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        Load {
            millis,
            seconds: begin.elapsed().as_secs_f64(),
        }
    }
}
