//! A place to back up: a server, a configuration, and the program to run on them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ballast_testkit::program::{Output, Program};
use ballast_testkit::s3::S3Server;
use ballast_testkit::servers::{MysqlOptions, MysqlServer};
use serde_json::Value;

pub(crate) const USER: &str = "backup";
/// Long and odd, so that a leak is found and quoting is tried.
pub(crate) const PASSWORD: &str = "p\u{e4}ss 'w\"ord\\-S3CR3T-OF-THE-SERVER";
pub(crate) const PASSPHRASE: &str = "S3CR3T-OF-THE-REPOSITORY high tide";
/// What the README tells to grant.
pub(crate) const GRANTS: &str = "BACKUP_ADMIN, RELOAD, PROCESS, REPLICATION CLIENT, REFERENCES";

/// How many rounds a loop makes: a few, or all of them in a soak.
pub(crate) fn rounds(few: u32) -> u32 {
    std::env::var("BALLAST_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(few)
}

pub(crate) struct Site {
    pub(crate) program: Program,
    config: String,
}

/// A server that can be cloned, with the user of the README.
pub(crate) fn server(options: MysqlOptions) -> MysqlServer {
    let server = MysqlServer::start(MysqlOptions {
        clone_plugin: true,
        ..options
    });
    let password = PASSWORD.replace('\\', "\\\\").replace('\'', "''");
    server.sql(&format!(
        "CREATE USER {USER} IDENTIFIED BY '{password}'; GRANT {GRANTS} ON *.* TO {USER}"
    ));
    server
}

impl Site {
    /// One source, `orders`, and one local repository, `local`, not yet made. `more` goes into the source.
    pub(crate) fn new(source: &MysqlServer, more: &str) -> Self {
        Self::through(source, &source.url(USER), more)
    }

    /// The same, but the source is reached by `source_url`.
    pub(crate) fn through(source: &MysqlServer, source_url: &str, more: &str) -> Self {
        let mut program = Program::new(env!("CARGO_BIN_EXE_ballast"));
        program.limit(Duration::from_secs(240));
        let config = format!(
            "[key]\npassphrase = {{ env = \"PASSPHRASE\" }}\n\n[[source]]\nname = \"orders\"\nkind = \"mysql\"\n\
             url = \"{source_url}\"\npassword = {{ env = \"PASSWORD\" }}\n{more}\n\n[[repository]]\nname = \"local\"\nurl = \"file://{}\"\n",
            program.dir().join("repository").display()
        );
        program
            .env("PASSWORD", PASSWORD)
            .env("PASSPHRASE", PASSPHRASE)
            .env("BALLAST_MYSQLD", source.program());
        let site = Self { program, config };
        site.save();
        site
    }

    /// A second repository, `cloud`, in a bucket.
    pub(crate) fn with_cloud(mut self, s3: &S3Server) -> Self {
        self.config.push_str(&format!(
            "\n[[repository]]\nname = \"cloud\"\nurl = \"s3://{}/prod\"\nendpoint = \"{}\"\nregion = \"{}\"\n\
             access_key = {{ env = \"ACCESS_KEY\" }}\nsecret_key = {{ env = \"SECRET_KEY\" }}\nca_file = \"{}\"\n",
            S3Server::BUCKET,
            s3.endpoint(),
            S3Server::REGION,
            s3.ca().display()
        ));
        self.program
            .env("ACCESS_KEY", S3Server::ACCESS_KEY)
            .env("SECRET_KEY", S3Server::SECRET_KEY);
        self.save();
        self
    }

    pub(crate) fn init(self) -> Self {
        self.run(&["init"]).expect(0);
        self
    }

    /// The configuration with `from` replaced by `to`.
    pub(crate) fn change(&mut self, from: &str, to: &str) {
        assert!(self.config.contains(from), "{from} in\n{}", self.config);
        self.config = self.config.replace(from, to);
        self.save();
    }

    fn save(&self) {
        self.program.write("ballast.toml", &self.config);
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.program.run(args)
    }

    /// Runs a verb with `--json` and gives its last line, which is the result.
    pub(crate) fn json(&self, args: &[&str], code: i32) -> Value {
        let output = self.run(&[args, &["--json"]].concat()).expect(code);
        let last = output
            .stdout
            .lines()
            .last()
            .unwrap_or_else(|| panic!("nothing on stdout: {}", output.stderr));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.program.dir().join("repository")
    }

    pub(crate) fn restored(&self) -> PathBuf {
        self.program.dir().join("restored")
    }

    /// Restores to a new folder and gives the result.
    pub(crate) fn restore(&self, more: &[&str]) -> Value {
        if self.restored().exists() {
            std::fs::remove_dir_all(self.restored()).unwrap();
        }
        let target = format!("datadir:{}", self.restored().display());
        self.json(&[&["restore", "orders", "--to", &target], more].concat(), 0)
    }

    /// Restores, which must fail, and leave nothing that could pass for a data directory.
    pub(crate) fn refuse_restore(&self, more: &[&str], code: i32) -> Output {
        let target = format!("datadir:{}", self.restored().display());
        let output = self
            .run(&[&["restore", "orders", "--to", &target], more].concat())
            .expect(code);
        assert!(
            !self.restored().exists(),
            "something was left at the target: {}",
            output.stderr
        );
        output
    }

    pub(crate) fn verify_clean(&self) {
        let report = self.json(&["verify"], 0);
        for repository in report["repositories"].as_array().unwrap() {
            for finding in repository["findings"].as_array().unwrap() {
                assert_eq!(finding["severity"], "ok", "{finding}");
            }
        }
    }
}

/// Starts an ordinary server on a restored directory.
pub(crate) fn start_restored(directory: &Path) -> MysqlServer {
    MysqlServer::start_on(directory, MysqlOptions::default())
}

/// Gives every row of every shard new content.
pub(crate) fn churn(server: &MysqlServer, shards: u32) {
    for shard in 0..shards {
        server.sql(&format!(
            "UPDATE balance.orders_{shard} SET note = HEX(RANDOM_BYTES(200))"
        ));
    }
}

/// Files under a folder, with paths relative to it.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
