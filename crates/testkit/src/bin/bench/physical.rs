//! The physical backup and its restore, against what everybody has: `mysqldump | gzip`, `gunzip | mysql`, and a plain
//! clone, which is as fast as a copy can be.
//!
//! One donor, one disk, everything after everything else; before each measurement the servers have written all they had
//! to write. Nothing is reported unless the restored and the loaded server hold what the donor holds.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ballast_testkit::dataset::{Donor, checksums};
use ballast_testkit::servers::MysqlServer;
use serde_json::Value;
use tempfile::TempDir;

use crate::files::{folder_bytes, pages_changed};
use crate::measure::{Pipeline, Taken, cpu_seconds, float};
use crate::report::{Report, Row, Target, load, machine};

const USER: &str = "backup";
const GRANTS: [&str; 5] = ["BACKUP_ADMIN", "RELOAD", "PROCESS", "REPLICATION CLIENT", "SELECT"];
const PASSWORD: &str = "only-of-the-bench";
const PASSPHRASE: &str = "only of the bench, and of one run of it";
/// The server answers once this has an answer.
const QUESTION: &str = "SELECT COUNT(*) FROM balance.orders_0";

const BACKUP_TIMES: f64 = 8.0;
const RESTORE_TIMES: f64 = 15.0;
const PEAK_MIB: f64 = 256.0;
const CHANGED_PERCENT: f64 = 10.0;
const IDLE_PERCENT: f64 = 0.5;

pub(crate) fn run(program: &Path, bytes: u64) -> Report {
    let machine = machine();
    say("loading Balance");
    let donor = Donor::load(bytes);
    let site = Site::new(program, donor);
    let server = &site.donor.server;
    let mut notes = vec![
        format!(
            "Balance: {} shards of {} rows, {:.2} GiB of table files; MySQL {}",
            site.donor.shards,
            site.donor.rows,
            float(site.donor.bytes()) / f64::from(1 << 30),
            server.version()
        ),
        "one machine, local sockets; files were in the page cache for all; commits are not flushed one by one"
            .to_owned(),
    ];

    let (backup, steps) = site.backup("ballast backup");
    notes.push(format!("backup: {steps}"));
    let dump = site.dump();
    let clone = site.clone_plain();
    let (restore, steps) = site.restore();
    notes.push(format!("restore: {steps}"));
    let load_row = site.load();
    let (idle, _) = site.backup("ballast backup, nothing changed");
    site.donor.touch_one_percent();
    let (changed, _) = site.backup("ballast backup, 1 % of the pages changed");
    let (pages, all) = pages_changed(&site.folder("clone"), server.datadir());
    notes.push(format!(
        "changed: {pages} of {all} pages of the table files ({:.2} %)",
        percent(pages, all)
    ));
    notes.push(format!("load of the machine at the end: {}", load()));

    let targets = vec![
        Target::at_least(
            "backup, times faster than mysqldump | gzip, at least",
            BACKUP_TIMES,
            dump.seconds / backup.seconds,
        ),
        Target::at_least(
            "restore, times faster than gunzip | mysql, at least",
            RESTORE_TIMES,
            load_row.seconds / restore.seconds,
        ),
        Target::below("backup, peak memory in MiB, below", PEAK_MIB, backup.peak_mib()),
        Target::below("restore, peak memory in MiB, below", PEAK_MIB, restore.peak_mib()),
        Target::below(
            "1 % changed, stored in % of the first, below",
            CHANGED_PERCENT,
            percent(changed.bytes, backup.bytes),
        ),
        Target::below(
            "nothing changed, stored in % of the first, below",
            IDLE_PERCENT,
            percent(idle.bytes, backup.bytes),
        ),
    ];
    Report {
        bench: "physical",
        machine,
        notes,
        rows: vec![backup, dump, clone, restore, load_row, idle, changed],
        targets,
    }
}

/// The donor, a repository, and a folder for what is written.
struct Site {
    program: PathBuf,
    donor: Donor,
    folder: TempDir,
}

impl Site {
    fn new(program: &Path, donor: Donor) -> Self {
        let folder = tempfile::Builder::new().prefix("bl-bench-").tempdir().unwrap();
        donor.server.create_user(USER, PASSWORD, &GRANTS);
        let site = Self {
            program: program.canonicalize().unwrap(),
            donor,
            folder,
        };
        let config = format!(
            "[key]\npassphrase = {{ env = \"PASSPHRASE\" }}\n\n[[source]]\nname = \"orders\"\nkind = \"mysql\"\n\
             url = \"{}?socket={}\"\npassword = {{ env = \"PASSWORD\" }}\n\n[[repository]]\nname = \"local\"\nurl = \"file://{}\"\n",
            site.donor.server.url(USER),
            site.donor.server.socket().display(),
            site.folder("repository").display()
        );
        fs::write(site.folder("ballast.toml"), config).unwrap();
        Pipeline::new([site.ballast(&["init"])]).run();
        site
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ballast(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("LC_ALL", "C.UTF-8")
            .env("PASSWORD", PASSWORD)
            .env("PASSPHRASE", PASSPHRASE)
            .env("BALLAST_MYSQLD", self.donor.server.program())
            .current_dir(self.folder.path());
        command
    }

    /// Takes a backup of the donor at rest; gives its steps too.
    fn backup(&self, name: &'static str) -> (Row, String) {
        let server = &self.donor.server;
        self.donor.rest();
        say(name);
        let (taken, server_cpu) =
            with_server_cpu(server, Pipeline::new([self.ballast(&["backup", "orders", "--json"])]));
        let result = result(&taken);
        let bytes = result["backup"]["bytes_stored"]
            .as_u64()
            .unwrap_or_else(|| panic!("no bytes in {result}"));
        (Row::new(name, &taken, server_cpu, bytes), steps(&result))
    }

    fn dump(&self) -> Row {
        let server = &self.donor.server;
        self.donor.rest();
        let name = "mysqldump | gzip";
        say(name);
        let mut dump = client(server, "mysqldump");
        dump.args([
            "--single-transaction",
            "--routines",
            "--triggers",
            "--databases",
            "balance",
        ]);
        let file = File::create(self.folder("dump.sql.gz")).unwrap();
        let pipeline = Pipeline::new([dump, Command::new("gzip")]).to(file);
        let (taken, server_cpu) = with_server_cpu(server, pipeline);
        let bytes = fs::metadata(self.folder("dump.sql.gz")).unwrap().len();
        Row::new(name, &taken, server_cpu, bytes)
    }

    /// The server's own copy of itself, neither compressed nor encrypted.
    fn clone_plain(&self) -> Row {
        let server = &self.donor.server;
        self.donor.rest();
        let name = "plain clone to disk";
        say(name);
        let folder = self.folder("clone");
        let mut mysql = client(server, "mysql");
        mysql.arg(format!("--execute=CLONE LOCAL DATA DIRECTORY = '{}'", folder.display()));
        let (taken, server_cpu) = with_server_cpu(server, Pipeline::new([mysql]));
        Row::new(name, &taken, server_cpu, folder_bytes(&folder))
    }

    /// From the command to an ordinary server that answers.
    fn restore(&self) -> (Row, String) {
        self.donor.rest();
        let name = "ballast restore, to an answering server";
        say(name);
        let folder = self.folder("restored");
        let target = format!("datadir:{}", folder.display());
        let mut taken = Pipeline::new([self.ballast(&["restore", "orders", "--to", &target, "--json"])]).run();
        let begin = Instant::now();
        let server = MysqlServer::start_on(&folder, Donor::options());
        server.value(QUESTION);
        let start = begin.elapsed().as_secs_f64();
        taken.seconds += start;
        let server_cpu = cpu_seconds(server.pid().unwrap());
        let row = Row::new(name, &taken, server_cpu, folder_bytes(&folder));
        self.compare(&server);
        drop(server);
        fs::remove_dir_all(&folder).unwrap();
        (
            row,
            format!("{}, an ordinary server answers {start:.2} s", steps(&result(&taken))),
        )
    }

    /// Into a server that already runs: its start is not counted.
    fn load(&self) -> Row {
        let server = MysqlServer::start(Donor::options());
        self.donor.rest();
        let name = "gunzip | mysql";
        say(name);
        let mut gunzip = Command::new("gzip");
        gunzip.args(["--decompress", "--stdout"]);
        let pipeline =
            Pipeline::new([gunzip, client(&server, "mysql")]).from(File::open(self.folder("dump.sql.gz")).unwrap());
        let (taken, server_cpu) = with_server_cpu(&server, pipeline);
        server.value(QUESTION);
        let row = Row::new(name, &taken, server_cpu, folder_bytes(server.datadir()));
        self.compare(&server);
        row
    }

    /// What is fast and wrong is not reported.
    fn compare(&self, other: &MysqlServer) {
        say("comparing the content with the donor's");
        let (ours, theirs) = (
            checksums(&self.donor.server, &["balance"]),
            checksums(other, &["balance"]),
        );
        assert!(ours == theirs, "the content differs from the donor's");
    }
}

/// A client program of the server, connected as `root` to its socket.
fn client(server: &MysqlServer, name: &str) -> Command {
    let mut command = Command::new(server.client_program(name));
    command.args(["--no-defaults", "--user=root", "--default-character-set=utf8mb4"]);
    command.arg(format!("--socket={}", server.socket().display()));
    command
}

fn with_server_cpu(server: &MysqlServer, pipeline: Pipeline) -> (Taken, f64) {
    let pid = server.pid().expect("the server runs");
    let before = cpu_seconds(pid);
    let taken = pipeline.run();
    (taken, cpu_seconds(pid) - before)
}

/// The last line a verb prints with `--json`.
fn result(taken: &Taken) -> Value {
    let last = taken.stdout.lines().last().expect("a result");
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
}

fn steps(result: &Value) -> String {
    let steps = result["steps"].as_array().into_iter().flatten();
    let steps: Vec<String> = steps
        .map(|step| {
            let name = step["name"].as_str().unwrap_or_default();
            format!("{name} {:.2} s", step["seconds"].as_f64().unwrap_or_default())
        })
        .collect();
    steps.join(", ")
}

fn percent(part: u64, whole: u64) -> f64 {
    float(part) * 100.0 / float(whole)
}

fn say(what: &str) {
    eprintln!("{what} …");
}
