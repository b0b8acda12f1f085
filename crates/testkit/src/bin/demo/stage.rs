//! The servers, the bucket and the configuration the demo plays with. All of it goes when the values are dropped.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ballast_testkit::dataset::{Fingerprint, checksums};
use ballast_testkit::program::Program;
use ballast_testkit::s3::{S3Options, S3Server};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};
use serde_json::Value;

/// The seed's number of shards.
pub(crate) const SHARDS: u32 = 120;
/// What the account that backs up needs.
pub(crate) const GRANTS: &str = "BACKUP_ADMIN, RELOAD, PROCESS, REPLICATION CLIENT, REPLICATION SLAVE, SELECT";
const PASSWORD: &str = "of a throwaway server";
const PASSPHRASE: &str = "of a throwaway repository";
const RUN_MAX: Duration = Duration::from_secs(180);
/// A recorder is connected within this time.
const FOLLOWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// The witness has this many seconds to reach a position.
const WITNESS_WAIT_MAX: u32 = 60;

/// Settings that `doctor` has nothing to say about.
pub(crate) fn production() -> MysqlOptions {
    let options = MysqlOptions {
        durable: true,
        ..MysqlOptions::default()
    };
    options
        .arg("--max-binlog-size=100M")
        .arg("--plugin-load-add=semisync_source.so")
        .arg("--loose-rpl-semi-sync-source-enabled=ON")
        // Far longer than anything here takes: a commit that the recorder did not confirm is not answered.
        .arg("--loose-rpl-semi-sync-source-timeout=60000")
        .arg("--loose-rpl-semi-sync-source-wait-no-replica=OFF")
}

/// A bucket that speaks S3 over TLS.
pub(crate) fn bucket() -> S3Server {
    S3Server::start(S3Options { tls: true, dir: None })
}

pub(crate) fn create_backup_user(source: &MysqlServer) {
    source.sql(&format!(
        "CREATE USER backup IDENTIFIED BY '{PASSWORD}'; GRANT {GRANTS} ON *.* TO backup"
    ));
}

/// The program in a folder of its own, and the text of the `ballast.toml` it finds there.
pub(crate) fn configure(program: &Path, source: &MysqlServer, bucket: &S3Server) -> (Program, String) {
    let mut program = Program::new(program);
    program
        .limit(RUN_MAX)
        .env("MYSQL_PASSWORD", PASSWORD)
        .env("PASSPHRASE", PASSPHRASE)
        .env("ACCESS_KEY", S3Server::ACCESS_KEY)
        .env("SECRET_KEY", S3Server::SECRET_KEY)
        .env("BALLAST_MYSQLD", source.program());
    let config = format!(
        r#"[key]
passphrase = {{ env = "PASSPHRASE" }}

[[source]]
name      = "orders"
kind      = "mysql"
url       = "{}"
password  = {{ env = "MYSQL_PASSWORD" }}
databases = ["balance"]
expect    = ["balance.orders_{{0..{}}}", "balance.shops", "balance.admin"]
log       = {{ follow = true, semi_sync = true, seal_after = "1s" }}

[spool]
path = "{}"

[[repository]]
name = "local"
url  = "file://{}"

[[repository]]
name       = "cloud"
url        = "s3://{}/prod"
endpoint   = "{}"
region     = "{}"
access_key = {{ env = "ACCESS_KEY" }}
secret_key = {{ env = "SECRET_KEY" }}
ca_file    = "{}"
"#,
        source.url("backup"),
        SHARDS - 1,
        program.dir().join("spool").display(),
        program.dir().join("repository").display(),
        S3Server::BUCKET,
        bucket.endpoint(),
        S3Server::REGION,
        bucket.ca().display(),
    );
    program.write("ballast.toml", &config);
    (program, config)
}

/// A configuration whose only repository is this folder.
pub(crate) fn configure_copy(program: &Program, name: &str, folder: &Path) {
    let config = format!(
        "[key]\npassphrase = {{ env = \"PASSPHRASE\" }}\n\n[[repository]]\nname = \"copy\"\nurl = \"file://{}\"\n",
        folder.display()
    );
    program.write(name, config);
}

/// Waits until the source waits for a recorder at each commit.
pub(crate) fn await_follower(source: &MysqlServer) {
    let begun = Instant::now();
    while source.value("SELECT variable_value FROM performance_schema.global_status WHERE variable_name = 'Rpl_semi_sync_source_clients'") != "1" {
        assert!(begun.elapsed() < FOLLOWER_WAIT_MAX, "nobody follows the log");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The transaction that dropped a table, as `log find` tells it.
pub(crate) fn accident(program: &Program) -> String {
    let output = program
        .run(["log", "find", "orders", "--suspicious", "--json"])
        .expect(0);
    let found: Value = serde_json::from_str(&output.stdout).expect("log find --json prints JSON");
    let transactions = found["transactions"].as_array().expect("a list of transactions");
    let drops = |transaction: &&Value| {
        let marks = transaction["suspicious"].as_array();
        marks.is_some_and(|marks| marks.iter().any(|mark| mark["kind"] == "drop-table"))
    };
    let accident = transactions
        .iter()
        .find(drops)
        .unwrap_or_else(|| panic!("no accident: {found}"));
    accident["gtid"].as_str().expect("a GTID").to_owned()
}

/// What a backup says of itself, asked by its id.
pub(crate) struct Recorded {
    pub(crate) position: String,
    pub(crate) bytes_new: u64,
}

/// Panics unless the backup is good, at an exact position, and in both repositories.
pub(crate) fn recorded(program: &Program, id: &str) -> Recorded {
    let output = program.run(["list", "--json"]).expect(0);
    let list: Value = serde_json::from_str(&output.stdout).expect("list --json prints JSON");
    let backup = list["backups"]
        .as_array()
        .and_then(|backups| backups.iter().find(|backup| backup["id"] == id));
    let backup = backup.unwrap_or_else(|| panic!("{id} is not listed: {list}"));
    assert_eq!(backup["state"], "good", "{backup}");
    assert_eq!(backup["position"]["exact"], true, "{backup}");
    assert_eq!(
        backup["repositories"],
        serde_json::json!(["local", "cloud"]),
        "{backup}"
    );
    let position = backup["position"]["gtid_executed"].as_str();
    Recorded {
        position: position.expect("a recorded position").to_owned(),
        bytes_new: backup["bytes_new"].as_u64().expect("a number of bytes"),
    }
}

/// An ordinary replica of the source that shares nothing with Ballast. It receives all the source writes and applies nothing until
/// it is told how far: so it can say what every table held at the position of a backup that was taken while writers ran.
pub(crate) struct Witness {
    server: MysqlServer,
}

impl Witness {
    /// Copies the source's files while it is shut down for a moment, and follows it from there.
    pub(crate) fn start(source: &MysqlServer, folder: &Path) -> Self {
        source.create_user("witness", "witness", &["REPLICATION SLAVE"]);
        source.stop();
        let datadir = folder.join("witness");
        copy(source.datadir(), &datadir);
        // With the same identity it would not follow.
        std::fs::remove_file(datadir.join("auto.cnf")).unwrap();
        source.restart();
        // One applier: several would not stop at an exact position.
        let server = MysqlServer::start_on(&datadir, MysqlOptions::default().arg("--replica-parallel-workers=1"));
        server.sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='witness', \
             SOURCE_PASSWORD='witness', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA IO_THREAD",
            source.port()
        ));
        Self { server }
    }

    /// The tables at exactly this position.
    pub(crate) fn tables_at(&self, position: &str) -> BTreeMap<String, Fingerprint> {
        self.server.sql(&format!(
            "START REPLICA SQL_THREAD UNTIL SQL_AFTER_GTIDS = '{position}'"
        ));
        let waited = self.server.value(&format!(
            "SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', {WITNESS_WAIT_MAX})"
        ));
        assert_eq!(waited, "0", "the witness does not reach {position}");
        self.server.sql("STOP REPLICA SQL_THREAD");
        assert_eq!(self.server.gtid_executed(), position, "the witness went too far");
        checksums(&self.server, &["balance"])
    }
}

/// Copies a folder with all its modes.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cannot copy {}", from.display());
}

/// Flips one bit in the middle of the largest file of a folder; gives the file.
pub(crate) fn flip_one_byte(folder: &Path) -> PathBuf {
    let mut files = Vec::new();
    list_files(folder, &mut files);
    let (length, path) = files.into_iter().max().expect("a repository holds files");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, length / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 1], length / 2).unwrap();
    path
}

fn list_files(folder: &Path, found: &mut Vec<(u64, PathBuf)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            list_files(&entry.path(), found);
        } else {
            found.push((entry.metadata().unwrap().len(), entry.path()));
        }
    }
}
