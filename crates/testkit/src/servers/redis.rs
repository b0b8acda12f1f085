//! A real Redis or Valkey server.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

use super::find;
use super::process::{ServerProcess, free_port, private_folder};
use super::redis_client::RedisClient;
use crate::certificates::Certificates;

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
    /// A second port that speaks TLS, with an authority made for this server.
    pub tls: bool,
}

impl RedisOptions {
    pub fn valkey() -> Self {
        Self {
            flavour: RedisFlavour::Valkey,
            ..Self::default()
        }
    }

    /// One more option and its value.
    #[must_use]
    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.args.extend([name.to_owned(), value.to_owned()]);
        self
    }
}

/// A running (or stopped) server.
pub struct RedisServer {
    process: ServerProcess,
    program: PathBuf,
    options: RedisOptions,
    folder: TempDir,
    data: PathBuf,
    port: u16,
    tls: Option<(u16, Certificates)>,
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
        let tls = options.tls.then(|| (free_port(), Certificates::create(folder.path())));
        let server = Self {
            tls,
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
        if let Some((port, files)) = &self.tls {
            command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
            command.arg("--tls-cert-file").arg(&files.certificate);
            command.arg("--tls-key-file").arg(&files.key);
            command.arg("--tls-ca-cert-file").arg(&files.ca);
        }
        if self.options.args.iter().any(|arg| arg == "--cluster-enabled") {
            // Its own choice would lie among the ports that the kernel gives to outgoing connections.
            command.args(["--cluster-port", &free_port().to_string()]);
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
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.try_client()?.try_send(&words)
    }

    /// A connection that stays.
    pub fn client(&self) -> RedisClient {
        self.try_client().unwrap_or_else(|error| panic!("connect: {error}"))
    }

    fn try_client(&self) -> Result<RedisClient, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).map_err(|error| error.to_string())?;
        let mut client = RedisClient::new(stream).map_err(|error| error.to_string())?;
        if let Some(password) = &self.options.password {
            client.try_send(&[b"AUTH", password.as_bytes()])?;
        }
        Ok(client)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port that speaks TLS, and the authority of its certificate.
    pub fn tls(&self) -> (u16, &Path) {
        let (port, files) = self.tls.as_ref().expect("the server was started with tls");
        (*port, &files.ca)
    }

    pub fn flavour(&self) -> RedisFlavour {
        self.options.flavour
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Whether the server knows this command.
    pub fn knows(&self, command: &str) -> bool {
        self.command(&["COMMAND", "INFO", command]).lines().count() > 1
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
