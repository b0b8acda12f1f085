//! Runs the built program as a user would, with nothing of the developer's environment in reach: an empty environment
//! but for what is set, its own home and working directory, and a time limit.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const DEFAULT_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);

/// How a run ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Output {
    /// Panics with all the program said unless it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(
            self.code == Some(code),
            "expected exit code {code}, got {:?} (signal {:?})\n-- stdout\n{}\n-- stderr\n{}",
            self.code,
            self.signal,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// The program with its private surroundings: runs share the home and the working directory.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    folder: TempDir,
    variables: BTreeMap<OsString, OsString>,
    limit: Duration,
}

impl Program {
    /// `path` is the built program: `env!("CARGO_BIN_EXE_ballast")` in its own package's tests.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        assert!(path.is_file(), "there is no program {}; build it first", path.display());
        let folder = tempfile::Builder::new().prefix("bl-run-").tempdir().unwrap();
        for name in ["home", "work", "tmp"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self {
            path,
            folder,
            variables: BTreeMap::new(),
            limit: DEFAULT_LIMIT,
        }
    }

    /// Sets a variable for all runs from now on.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.variables
            .insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// How long a run may take before it is killed and the test fails.
    pub fn limit(&mut self, limit: Duration) -> &mut Self {
        self.limit = limit;
        self
    }

    /// The working directory of the runs, where `ballast.toml` is looked for.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Writes a file relative to the working directory and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.spawn(args).wait()
    }

    /// Starts it and returns at once.
    #[track_caller]
    pub fn spawn<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        let home = self.folder.path().join("home");
        let mut command = Command::new(&self.path);
        command
            .args(args)
            .env_clear()
            .env("HOME", &home)
            .env("PATH", "/usr/bin:/bin")
            .env("TMPDIR", self.folder.path().join("tmp"))
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("RUST_BACKTRACE", "1")
            .envs(&self.variables)
            .current_dir(self.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.path.display()));
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Running {
            child,
            stdout: Some(stdout),
            stderr: Some(stderr),
            began,
            limit: self.limit,
        }
    }
}

/// The program while it runs. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    began: Instant,
    limit: Duration,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGINT, as Ctrl-C sends it.
    pub fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).ok();
    }

    /// Waits for the end; past the limit it is killed and the test fails with what it had said.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let Some(status) = self.wait_until(self.began + self.limit) else {
            self.child.kill().unwrap();
            let status = self.child.wait().unwrap();
            let limit = self.limit;
            let output = self.output(status);
            panic!(
                "no end within {limit:?}\n-- stdout\n{}\n-- stderr\n{}",
                output.stdout, output.stderr
            );
        };
        self.output(status)
    }

    /// SIGKILL after that long, unless it has ended by then: [`Output::signal`] tells which.
    pub fn kill_after(mut self, delay: Duration) -> Output {
        let status = self.wait_until(Instant::now() + delay).unwrap_or_else(|| {
            self.child.kill().unwrap();
            self.child.wait().unwrap()
        });
        self.output(status)
    }

    /// SIGKILL at a random moment before `longest` is over.
    pub fn kill_at_random(self, longest: Duration) -> Output {
        self.kill_after(longest.mul_f64(ballast_base::random_unit()))
    }

    fn wait_until(&mut self, moment: Instant) -> Option<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() >= moment {
                return None;
            }
            thread::sleep(POLL);
        }
    }

    fn output(&mut self, status: ExitStatus) -> Output {
        let took = self.began.elapsed();
        let text = |part: Option<JoinHandle<Vec<u8>>>| {
            String::from_utf8_lossy(&part.expect("taken once").join().unwrap()).into_owned()
        };
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        Output {
            code: status.code(),
            signal: status.signal(),
            stdout,
            stderr,
            took,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).ok();
        bytes
    })
}

/// The program `name` of this workspace, which `cargo` built beside the running test: for tests of other packages
/// than the program's own. Panics when it was not built.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let found = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder: &Path| folder.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("there is no built {name} near {}; run cargo build", test.display()))
}
