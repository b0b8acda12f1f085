//! Snapshots of a Redis and their restores, against what everybody has: `redis-cli --rdb | gzip`, and `BGSAVE`, a copy and gzip; and the
//! server loading its own file.
//!
//! One server, one disk, everything after everything else. Nothing is reported unless what was restored has the source's digest.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ballast_testkit::servers::{RedisOptions, RedisServer};
use tempfile::TempDir;

use crate::files::folder_bytes;
use crate::measure::{Pipeline, Taken, cpu_seconds, float};
use crate::report::{Report, Row, Target, load, machine};
use crate::site::{percent, result, say, steps};

const PASSPHRASE: &str = "only of the bench, and of one run of it";
const PEAK_MIB: f64 = 128.0;
const IDLE_PERCENT: f64 = 0.5;
/// Of a value; half of it compresses.
const VALUE_BYTES: usize = 1000;
const SAVE_WAIT: Duration = Duration::from_secs(120);

struct Site {
    program: PathBuf,
    source: RedisServer,
    folder: TempDir,
}

pub(crate) fn run(program: &Path, bytes: u64) -> Report {
    let machine = machine();
    say("loading the source");
    let folder = tempfile::Builder::new().prefix("bl-bench-").tempdir().unwrap();
    let source = RedisServer::start(options());
    let keys = fill(&source, bytes);
    let site = Site {
        program: program.canonicalize().unwrap(),
        source,
        folder,
    };
    site.configure();
    let used = site.info("used_memory:");
    let mut notes = vec![
        format!(
            "{keys} keys of five types, {:.0} MiB of the server's memory; Redis {}",
            float(used) / f64::from(1 << 20),
            site.source.version()
        ),
        "one machine, TCP on it; the server begins a snapshot at once (repl-diskless-sync-delay 0)".to_owned(),
    ];

    let (backup, told) = site.backup("ballast backup");
    notes.push(format!("backup: {told}"));
    let client = site.client_rdb();
    let saved = site.bgsave();
    let (idle, _) = site.backup("ballast backup, nothing changed");
    let own = site.own_load();
    let (folder_row, told) = site.restore_folder();
    notes.push(format!("restore to dir: {told}"));
    let (running_row, told) = site.restore_running();
    notes.push(format!("restore to redis: {told}"));
    notes.push(format!("load of the machine at the end: {}", load()));

    let targets = vec![
        Target::at_least(
            "backup, times faster than redis-cli --rdb | gzip, at least",
            1.0,
            client.seconds / backup.seconds,
        ),
        Target::at_least(
            "backup, times faster than BGSAVE, copy and gzip, at least",
            1.0,
            saved.seconds / backup.seconds,
        ),
        Target::at_least(
            "restore to dir, times faster than the server's own load, at least",
            1.0,
            own.seconds / folder_row.seconds,
        ),
        Target::at_least(
            "restore to redis, times faster than the server's own load, at least",
            1.0,
            own.seconds / running_row.seconds,
        ),
        Target::below("backup, peak memory in MiB, below", PEAK_MIB, backup.peak_mib()),
        Target::below(
            "restore to dir, peak memory in MiB, below",
            PEAK_MIB,
            folder_row.peak_mib(),
        ),
        Target::below(
            "restore to redis, peak memory in MiB, below",
            PEAK_MIB,
            running_row.peak_mib(),
        ),
        Target::below(
            "nothing changed, stored in % of the first, below",
            IDLE_PERCENT,
            percent(idle.bytes, backup.bytes),
        ),
    ];
    Report {
        bench: "redis",
        machine,
        notes,
        rows: vec![backup, client, saved, idle, own, folder_row, running_row],
        targets,
    }
}

fn options() -> RedisOptions {
    RedisOptions::default()
        .arg("--repl-diskless-sync-delay", "0")
        .arg("--enable-debug-command", "local")
}

/// Strings, hashes, lists, sets and sorted sets until the server holds so much. Every second byte of a value is noise.
fn fill(server: &RedisServer, bytes: u64) -> u64 {
    let mut client = server.client();
    let mut state = 88_172_645_463_325_252_u64;
    let mut value = |bytes: usize| -> Vec<u8> {
        (0..bytes)
            .map(|at| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if at % 2 == 0 { b'a' } else { state.to_le_bytes()[3] }
            })
            .collect()
    };
    let mut number = 0_u64;
    let mut held = 0_u64;
    while held < bytes {
        let mut commands = Vec::new();
        for _ in 0..500 {
            number += 1;
            let key = |kind: &str| format!("{kind}:{number}").into_bytes();
            let element = |at: usize| format!("element {at} of {number}").into_bytes();
            let command = match number % 10 {
                0 => {
                    let fields = (0..20).flat_map(|at| [format!("field {at}").into_bytes(), element(at)]);
                    [b"HSET".to_vec(), key("cart")].into_iter().chain(fields).collect()
                }
                1 => [b"RPUSH".to_vec(), key("queue")]
                    .into_iter()
                    .chain((0..30).map(element))
                    .collect(),
                2 => [b"SADD".to_vec(), key("tags")]
                    .into_iter()
                    .chain((0..20).map(element))
                    .collect(),
                3 => {
                    let members = (0..20).flat_map(|at| [at.to_string().into_bytes(), element(at)]);
                    [b"ZADD".to_vec(), key("rank")].into_iter().chain(members).collect()
                }
                4 => vec![
                    b"SET".to_vec(),
                    key("session"),
                    value(VALUE_BYTES),
                    b"EX".to_vec(),
                    b"864000".to_vec(),
                ],
                _ => vec![b"SET".to_vec(), key("page"), value(VALUE_BYTES)],
            };
            commands.push(command);
        }
        for answer in client.pipeline(&commands) {
            answer.unwrap();
        }
        if number.is_multiple_of(10_000) {
            held = number_in(&server.command(&["INFO", "memory"]), "used_memory:");
        }
    }
    number
}

fn number_in(info: &str, name: &str) -> u64 {
    let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

impl Site {
    fn configure(&self) {
        let config = format!(
            "[key]\npassphrase = {{ env = \"PASSPHRASE\" }}\n\n[[source]]\nname = \"cache\"\nkind = \"redis\"\nurl = \"{}\"\n\n\
             [[repository]]\nname = \"local\"\nurl = \"file://{}\"\n",
            self.source.url(),
            self.path("repository").display()
        );
        fs::write(self.path("ballast.toml"), config).unwrap();
        Pipeline::new([self.ballast(&["init"])]).run();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn info(&self, name: &str) -> u64 {
        number_in(&self.source.command(&["INFO"]), name)
    }

    fn ballast(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("LC_ALL", "C.UTF-8")
            .env("PASSPHRASE", PASSPHRASE)
            .env("BALLAST_REDIS_SERVER", self.source.program())
            .current_dir(self.folder.path());
        command
    }

    /// Work with the source, or another server.
    fn timed(server: &RedisServer, pipeline: Pipeline) -> (Taken, f64) {
        let pid = server.pid().expect("the server runs");
        let before = cpu_seconds(pid);
        let taken = pipeline.run();
        (taken, cpu_seconds(pid) - before)
    }

    fn backup(&self, name: &'static str) -> (Row, String) {
        rest();
        say(name);
        let (taken, cpu) = Self::timed(
            &self.source,
            Pipeline::new([self.ballast(&["backup", "cache", "--json"])]),
        );
        let result = result(&taken);
        let bytes = result["backup"]["bytes_stored"].as_u64().unwrap();
        (Row::new(name, &taken, cpu, bytes), steps(&result))
    }

    fn client_rdb(&self) -> Row {
        rest();
        let name = "redis-cli --rdb | gzip";
        say(name);
        let mut client = Command::new(self.source.program().with_file_name("redis-cli"));
        client.args(["-p", &self.source.port().to_string(), "--rdb", "-"]);
        let path = self.path("dump.rdb.gz");
        let pipeline = Pipeline::new([client, Command::new("gzip")]).to(File::create(&path).unwrap());
        let (taken, cpu) = Self::timed(&self.source, pipeline);
        Row::new(name, &taken, cpu, fs::metadata(path).unwrap().len())
    }

    /// The file stays in the server's folder; what it takes there is not counted.
    fn bgsave(&self) -> Row {
        rest();
        let name = "BGSAVE, copy, gzip";
        say(name);
        let pid = self.source.pid().unwrap();
        let (before, begin) = (cpu_seconds(pid), Instant::now());
        let saves = self.info("rdb_saves:");
        self.source.command(&["BGSAVE"]);
        while self.info("rdb_saves:") == saves {
            assert!(begin.elapsed() < SAVE_WAIT, "BGSAVE did not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let waited = begin.elapsed().as_secs_f64();
        let mut copy = Command::new("cat");
        copy.arg(self.source.data_dir().join("dump.rdb"));
        let path = self.path("saved.rdb.gz");
        let mut taken = Pipeline::new([copy, Command::new("gzip")])
            .to(File::create(&path).unwrap())
            .run();
        taken.seconds += waited;
        Row::new(
            name,
            &taken,
            cpu_seconds(pid) - before,
            fs::metadata(path).unwrap().len(),
        )
    }

    /// What a restore by hand ends with: a server starts on the file that `BGSAVE` made.
    fn own_load(&self) -> Row {
        rest();
        let name = "gunzip, and the server loads the file";
        say(name);
        let folder = self.path("own");
        fs::create_dir(&folder).unwrap();
        let mut gunzip = Command::new("gzip");
        gunzip.args(["--decompress", "--stdout"]);
        let mut taken = Pipeline::new([gunzip])
            .from(File::open(self.path("saved.rdb.gz")).unwrap())
            .to(File::create(folder.join("dump.rdb")).unwrap())
            .run();
        let cpu = self.answers(&folder, &mut taken);
        let row = Row::new(name, &taken, cpu, folder_bytes(&folder));
        fs::remove_dir_all(folder).unwrap();
        row
    }

    /// Starts a server on a folder until it answers, and compares.
    fn answers(&self, folder: &Path, taken: &mut Taken) -> f64 {
        let begin = Instant::now();
        let server = RedisServer::start_on(folder, options());
        while server.command(&["INFO", "persistence"]).contains("loading:1\r") {
            std::thread::sleep(Duration::from_millis(10));
        }
        server.command(&["DBSIZE"]);
        taken.seconds += begin.elapsed().as_secs_f64();
        let cpu = cpu_seconds(server.pid().unwrap());
        self.compare(&server);
        cpu
    }

    fn compare(&self, server: &RedisServer) {
        say("comparing the content with the source's");
        let digest = |server: &RedisServer| server.command(&["DEBUG", "DIGEST"]);
        assert!(
            digest(server) == digest(&self.source),
            "the content differs from the source's"
        );
    }

    fn restore_folder(&self) -> (Row, String) {
        rest();
        let name = "ballast restore, to an answering server";
        say(name);
        let folder = self.path("restored");
        let to = format!("dir:{}", folder.display());
        let mut taken = Pipeline::new([self.ballast(&["restore", "cache", "--to", &to, "--json"])]).run();
        let told = steps(&result(&taken));
        let cpu = self.answers(&folder, &mut taken);
        let row = Row::new(name, &taken, cpu, folder_bytes(&folder));
        fs::remove_dir_all(folder).unwrap();
        (row, told)
    }

    fn restore_running(&self) -> (Row, String) {
        let server = RedisServer::start(options());
        rest();
        let name = "ballast restore, into a running server";
        say(name);
        let pipeline = Pipeline::new([self.ballast(&["restore", "cache", "--to", &server.url(), "--json"])]);
        let (taken, cpu) = Self::timed(&server, pipeline);
        self.compare(&server);
        (Row::new(name, &taken, cpu, 0), steps(&result(&taken)))
    }
}

/// What was written before is written.
fn rest() {
    rustix::fs::sync();
}
