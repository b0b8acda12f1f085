//! A real Redis or Valkey server.

use std::fs;
use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::find;
use super::process::{ServerProcess, free_port, private_folder};

const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedisFlavour {
    #[default]
    Redis,
    Valkey,
}

/// What a server is started with. By default it saves nothing by itself.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    pub flavour: RedisFlavour,
    /// Arguments after the kit's own, so they win: `["--appendonly", "yes"]`.
    pub args: Vec<String>,
    pub password: Option<String>,
}

/// A running (or stopped) server.
pub struct RedisServer {
    process: ServerProcess,
    program: PathBuf,
    options: RedisOptions,
    folder: TempDir,
    data: PathBuf,
    port: u16,
}

impl std::fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisServer")
            .field("data", &self.data)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl RedisServer {
    /// A fresh, empty server.
    pub fn start(options: RedisOptions) -> Self {
        let folder = private_folder();
        let data = folder.path().join("data");
        fs::create_dir_all(&data).unwrap();
        Self::launch(options, folder, data)
    }

    /// A server on an existing directory, which is used in place and stays when the server goes.
    pub fn start_on(data: &Path, options: RedisOptions) -> Self {
        let data = data.canonicalize().unwrap();
        Self::launch(options, private_folder(), data)
    }

    fn launch(options: RedisOptions, folder: TempDir, data: PathBuf) -> Self {
        let (wanted, name) = match options.flavour {
            RedisFlavour::Redis => (find::REDIS, "redis-server"),
            RedisFlavour::Valkey => (find::VALKEY, "valkey-server"),
        };
        let process = ServerProcess::new(name, folder.path().join("server.log"));
        let server = Self {
            process,
            program: find::find(&wanted),
            options,
            folder,
            data,
            port: free_port(),
        };
        server.run();
        server
    }

    fn run(&self) {
        let mut command = Command::new(&self.program);
        command
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--daemonize",
                "no",
            ])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(&self.data)
            .arg("--unixsocket")
            .arg(self.socket())
            .current_dir(self.folder.path());
        if let Some(password) = &self.options.password {
            command.args(["--requirepass", password]);
        }
        command.args(&self.options.args);
        self.process
            .start(command, || self.try_command(&["PING"]).is_ok_and(|pong| pong == "PONG"));
    }

    /// Sends one command and returns its answer as text: a nested answer one element a line, nil as `(nil)`.
    /// Panics on an error answer.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// As [`RedisServer::command`], the error returned.
    pub fn try_command(&self, words: &[&str]) -> Result<String, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).map_err(|error| error.to_string())?;
        stream
            .set_read_timeout(Some(ANSWER_LIMIT))
            .map_err(|error| error.to_string())?;
        let mut reader = BufReader::new(&stream);
        if let Some(password) = &self.options.password {
            (&stream)
                .write_all(&encoded(&["AUTH", password]))
                .map_err(|error| error.to_string())?;
            answer(&mut reader)?;
        }
        (&stream)
            .write_all(&encoded(words))
            .map_err(|error| error.to_string())?;
        answer(&mut reader)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("r.sock")
    }

    /// Where the server keeps its files.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The server's version as `INFO` says it.
    pub fn version(&self) -> String {
        let wanted = match self.options.flavour {
            RedisFlavour::Redis => "redis_version:",
            RedisFlavour::Valkey => "valkey_version:",
        };
        let info = self.command(&["INFO", "server"]);
        info.lines()
            .find_map(|line| line.strip_prefix(wanted))
            .unwrap_or_else(|| panic!("no {wanted}"))
            .to_owned()
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// A clean shutdown.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts it again on the same port and directory; stops it first when it runs.
    pub fn restart(&self) {
        self.process.stop();
        self.run();
    }
}

fn encoded(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

fn answer(reader: &mut impl std::io::BufRead) -> Result<String, String> {
    let mut line = String::new();
    if reader.read_line(&mut line).map_err(|error| error.to_string())? == 0 {
        return Err("the server closed the connection".to_owned());
    }
    let line = line.trim_end();
    let (kind, rest) = line
        .split_at_checked(1)
        .ok_or_else(|| format!("not an answer: {line:?}"))?;
    let length = || rest.parse::<i64>().map_err(|error| format!("{line:?}: {error}"));
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        "-" => Err(rest.to_owned()),
        "$" => {
            let Ok(length) = usize::try_from(length()?) else {
                return Ok("(nil)".to_owned());
            };
            let mut bytes = vec![0; length + 2];
            reader.read_exact(&mut bytes).map_err(|error| error.to_string())?;
            Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
        }
        "*" => (0..length()?)
            .map(|_| answer(reader))
            .collect::<Result<Vec<_>, _>>()
            .map(|lines| lines.join("\n")),
        _ => Err(format!("not an answer: {line:?}")),
    }
}
