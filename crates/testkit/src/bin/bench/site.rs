//! What the benches of MySQL share: a donor with Balance on it, a repository, the program, and what everybody has.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use ballast_testkit::dataset::{Donor, Fingerprint, checksums};
use ballast_testkit::servers::MysqlServer;
use serde_json::Value;
use tempfile::TempDir;

use crate::files::folder_bytes;
use crate::measure::{Pipeline, Taken, cpu_seconds, float};
use crate::report::Row;

const USER: &str = "backup";
pub(crate) const PASSWORD: &str = "only-of-the-bench";
const PASSPHRASE: &str = "only of the bench, and of one run of it";
/// The server answers once this has an answer.
pub(crate) const QUESTION: &str = "SELECT COUNT(*) FROM balance.orders_0";

/// The fingerprint of each table.
pub(crate) type Content = BTreeMap<String, Fingerprint>;

/// The donor, a repository, and a folder for what is written.
pub(crate) struct Site {
    program: PathBuf,
    pub(crate) donor: Donor,
    folder: TempDir,
}

impl Site {
    pub(crate) fn new(program: &Path, donor: Donor, grants: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("bl-bench-").tempdir().unwrap();
        donor.server.create_user(USER, PASSWORD, grants);
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

    /// What was measured on, for people.
    pub(crate) fn about(&self) -> Vec<String> {
        vec![
            format!(
                "Balance: {} shards of {} rows, {:.2} GiB of table files; MySQL {}",
                self.donor.shards,
                self.donor.rows,
                float(self.donor.bytes()) / f64::from(1 << 30),
                self.donor.server.version()
            ),
            "one machine, local sockets; files were in the page cache for all; commits are not flushed one by one"
                .to_owned(),
        ]
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn ballast(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("LC_ALL", "C.UTF-8")
            .env("PASSWORD", PASSWORD)
            .env("PASSPHRASE", PASSPHRASE)
            .env("BALLAST_TARGET_PASSWORD", PASSWORD)
            .env("BALLAST_MYSQLD", self.donor.server.program())
            .current_dir(self.folder.path());
        command
    }

    /// Takes a backup of the donor at rest; gives its steps too.
    pub(crate) fn backup(&self, name: &'static str, engine: &str) -> (Row, String) {
        let server = &self.donor.server;
        self.donor.rest();
        say(name);
        let command = self.ballast(&["backup", "orders", "--engine", engine, "--json"]);
        let (taken, server_cpu) = with_server_cpu(server, Pipeline::new([command]));
        let result = result(&taken);
        let bytes = result["backup"]["bytes_stored"]
            .as_u64()
            .unwrap_or_else(|| panic!("no bytes in {result}"));
        (Row::new(name, &taken, server_cpu, bytes), steps(&result))
    }

    pub(crate) fn dump(&self) -> Row {
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

    /// The dump into a server that already runs: its start is not counted.
    pub(crate) fn load(&self) -> Row {
        self.load_by("gunzip | mysql", |server| {
            let mut gunzip = Command::new("gzip");
            gunzip.args(["--decompress", "--stdout"]);
            Pipeline::new([gunzip, client(server, "mysql")]).from(File::open(self.folder("dump.sql.gz")).unwrap())
        })
        .0
    }

    /// Something into a fresh server, which must hold afterwards what the donor holds.
    pub(crate) fn load_by(&self, name: &'static str, pipeline: impl FnOnce(&MysqlServer) -> Pipeline) -> (Row, Taken) {
        let server = MysqlServer::start(Donor::options());
        let pipeline = pipeline(&server);
        self.donor.rest();
        say(name);
        let (taken, server_cpu) = with_server_cpu(&server, pipeline);
        server.value(QUESTION);
        let row = Row::new(name, &taken, server_cpu, folder_bytes(server.datadir()));
        self.compare(&server);
        (row, taken)
    }

    /// What is fast and wrong is not reported.
    pub(crate) fn compare(&self, other: &MysqlServer) {
        self.compare_with(&self.content(), other);
    }

    /// What the donor holds. It can be asked once where it does not change any more.
    pub(crate) fn content(&self) -> Content {
        say("reading the donor's content");
        checksums(&self.donor.server, &["balance"])
    }

    pub(crate) fn compare_with(&self, content: &Content, other: &MysqlServer) {
        say("comparing the content with the donor's");
        assert!(
            checksums(other, &["balance"]) == *content,
            "the content differs from the donor's"
        );
    }
}

/// A client program of the server, connected as `root` to its socket.
pub(crate) fn client(server: &MysqlServer, name: &str) -> Command {
    let mut command = Command::new(server.client_program(name));
    command.args(["--no-defaults", "--user=root", "--default-character-set=utf8mb4"]);
    command.arg(format!("--socket={}", server.socket().display()));
    command
}

pub(crate) fn with_server_cpu(server: &MysqlServer, pipeline: Pipeline) -> (Taken, f64) {
    let pid = server.pid().expect("the server runs");
    let before = cpu_seconds(pid);
    let taken = pipeline.run();
    (taken, cpu_seconds(pid) - before)
}

/// The last line a verb prints with `--json`.
pub(crate) fn result(taken: &Taken) -> Value {
    let last = taken.stdout.lines().last().expect("a result");
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
}

pub(crate) fn steps(result: &Value) -> String {
    let steps = result["steps"].as_array().into_iter().flatten();
    let steps: Vec<String> = steps
        .map(|step| {
            let name = step["name"].as_str().unwrap_or_default();
            format!("{name} {:.2} s", step["seconds"].as_f64().unwrap_or_default())
        })
        .collect();
    steps.join(", ")
}

pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    float(part) * 100.0 / float(whole)
}

pub(crate) fn say(what: &str) {
    eprintln!("{what} …");
}
