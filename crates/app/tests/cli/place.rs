//! A folder of its own for each test, and the program run in it.

use ballast_testkit::program::{Output, Program, Running};
use serde_json::Value;

pub(crate) const BALLAST: &str = env!("CARGO_BIN_EXE_ballast");

const WITH_REPOSITORY: &str = r#"[[repository]]
name = "local"
url = "file://[DIR]/repository"

[key]
passphrase = { env = "PASSPHRASE" }

[[source]]
name = "orders"
kind = "mysql"
url = "mysql://backup@127.0.0.1:1"
"#;

pub(crate) struct Place {
    program: Program,
}

/// What a run left; the folder's own path reads `[DIR]`.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    /// A folder with `config` as its `ballast.toml`; `[DIR]` in it is the folder.
    pub(crate) fn new(config: &str) -> Self {
        let mut program = Program::new(BALLAST);
        program.env("COLUMNS", "100");
        let place = Self { program };
        place.write("ballast.toml", &config.replace("[DIR]", &place.folder()));
        place
    }

    /// One local repository; its passphrase is in a variable that is not set.
    pub(crate) fn without_passphrase() -> Self {
        Self::new(WITH_REPOSITORY)
    }

    /// One local repository and its passphrase.
    pub(crate) fn with_repository() -> Self {
        let mut place = Self::without_passphrase();
        place.set("PASSPHRASE", "correct horse");
        place
    }

    fn folder(&self) -> String {
        self.program.dir().to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        self.program.write(name, content);
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.program.dir().join(name)).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.program.dir().join(name)).unwrap()
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.program.env(name, value);
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        self.program.spawn(arguments)
    }

    /// Whether a file of that name is in the folder.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.program.dir().join(name).exists()
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.program.dir().join(name)
    }

    /// The names in a folder of the folder.
    pub(crate) fn entries(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.program.dir().join(name)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let Output {
            code, stdout, stderr, ..
        } = self.program.run(arguments);
        let text = |text: String| text.replace(&self.folder(), "[DIR]");
        Ran {
            code,
            stdout: text(stdout),
            stderr: text(stderr),
        }
    }
}

impl Ran {
    /// Everything there is to see, for snapshots.
    pub(crate) fn all(&self) -> String {
        let code = self.code.map_or_else(|| "signal".to_owned(), |code| code.to_string());
        format!(
            "exit code: {code}\n----- stdout -----\n{}----- stderr -----\n{}",
            self.stdout, self.stderr
        )
    }

    /// The lines of standard output, each one JSON object.
    pub(crate) fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        self.stdout.lines().map(parse).collect()
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.all());
        self
    }
}
