//! A real MySQL or MariaDB server.
//!
//! Initialising a data directory costs seconds, so an initialised one is kept per server program in the cache folder
//! and copied. It has two accounts: `root@localhost` and `root@127.0.0.1`, both without a password.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::find;
use super::process::{ServerProcess, copy_folder, free_port, greets, is_root, private_folder};
use super::sql::{Client, Row, SqlError};
use crate::certificates::Certificates;

/// Raised when what a fresh data directory holds changes.
const TEMPLATE_VERSION: u32 = 1;
const ACCOUNTS: &str =
    "CREATE USER IF NOT EXISTS root@'127.0.0.1';\nGRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n";

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flavour {
    #[default]
    Mysql,
    Mariadb,
}

/// How the server speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// What the server does by itself: MySQL makes a certificate that names no host, MariaDB has none.
    #[default]
    Auto,
    Off,
    /// A certificate for `localhost` and `127.0.0.1`, signed by the authority at [`MysqlServer::ca`].
    Signed,
}

/// What a server is started with. The defaults are a small MySQL with binary log, GTIDs and the clone plugin.
#[derive(Debug, Clone)]
pub struct MysqlOptions {
    pub flavour: Flavour,
    /// Arguments after the kit's own, so they win.
    pub args: Vec<String>,
    pub tls: Tls,
    pub binlog: bool,
    pub gtid: bool,
    /// `sync_binlog=1` and a flush at each commit, as production has it; without it tests are quicker.
    pub durable: bool,
    /// The clone plugin loaded (MySQL only).
    pub clone_plugin: bool,
    pub buffer_pool_mib: u32,
    pub redo_mib: u32,
}

impl Default for MysqlOptions {
    fn default() -> Self {
        Self {
            flavour: Flavour::Mysql,
            args: Vec::new(),
            tls: Tls::Auto,
            binlog: true,
            gtid: true,
            durable: false,
            clone_plugin: true,
            buffer_pool_mib: 64,
            redo_mib: 32,
        }
    }
}

impl MysqlOptions {
    /// The defaults, of MariaDB.
    pub fn mariadb() -> Self {
        Self {
            flavour: Flavour::Mariadb,
            ..Self::default()
        }
    }

    /// One more server argument, such as `--innodb-page-size=8k`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }
}

/// A running (or stopped) server. All methods take `&self`, so threads may share it.
pub struct MysqlServer {
    process: ServerProcess,
    program: PathBuf,
    options: MysqlOptions,
    client: Client,
    certificates: Option<Certificates>,
    folder: TempDir,
    datadir: PathBuf,
    port: u16,
}

impl std::fmt::Debug for MysqlServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlServer")
            .field("datadir", &self.datadir)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl MysqlServer {
    /// A fresh, empty server.
    pub fn start(options: MysqlOptions) -> Self {
        let (program, _) = programs(options.flavour);
        let folder = private_folder();
        let datadir = folder.path().join("data");
        // Options that shape the data directory cannot be given to one that exists.
        if options.args.iter().any(|arg| shapes_datadir(arg)) {
            initialise(options.flavour, &program, &datadir, &options.args);
        } else {
            copy_folder(&template(options.flavour, &program), &datadir);
        }
        Self::launch(options, folder, datadir)
    }

    /// A server on an existing data directory, which is used in place and stays when the server goes.
    /// Proves a restore: it panics, with the server's log, when the server does not come up.
    pub fn start_on(datadir: &Path, options: MysqlOptions) -> Self {
        assert!(datadir.is_dir(), "there is no data directory {}", datadir.display());
        let datadir = datadir.canonicalize().unwrap();
        Self::launch(options, private_folder(), datadir)
    }

    fn launch(options: MysqlOptions, folder: TempDir, datadir: PathBuf) -> Self {
        let (program, client_program) = programs(options.flavour);
        let path = folder.path();
        fs::create_dir_all(path.join("tmp")).unwrap();
        fs::create_dir_all(path.join("outside")).unwrap();
        let client = Client {
            program: client_program,
            socket: path.join("m.sock"),
            user: "root".to_owned(),
            password: String::new(),
        };
        let certificates = (options.tls == Tls::Signed).then(|| Certificates::create(path));
        let name = if options.flavour == Flavour::Mysql {
            "mysqld"
        } else {
            "mariadbd"
        };
        let process = ServerProcess::new(name, path.join("error.log"));
        let server = Self {
            process,
            program,
            options,
            client,
            certificates,
            folder,
            datadir,
            port: free_port(),
        };
        server.run();
        server
    }

    fn run(&self) {
        let mut command = Command::new(&self.program);
        command.args(self.arguments()).current_dir(self.folder.path());
        self.process.start(command, || greets(self.port));
    }

    fn arguments(&self) -> Vec<String> {
        let folder = self.folder.path().display();
        let options = &self.options;
        let mut args = base_arguments(&self.datadir);
        args.extend([
            format!("--port={}", self.port),
            "--bind-address=127.0.0.1".to_owned(),
            "--skip-name-resolve".to_owned(),
            format!("--socket={}", self.socket().display()),
            format!("--pid-file={folder}/pid"),
            format!("--tmpdir={folder}/tmp"),
            "--secure-file-priv=".to_owned(),
            "--local-infile=1".to_owned(),
            format!("--server-id={}", self.port),
            format!("--innodb-buffer-pool-size={}M", options.buffer_pool_mib),
        ]);
        let durable = u8::from(options.durable);
        args.push(format!(
            "--innodb-flush-log-at-trx-commit={}",
            if options.durable { 1 } else { 2 }
        ));
        match options.flavour {
            Flavour::Mysql => {
                args.push("--mysqlx=OFF".to_owned());
                args.push(format!("--innodb-redo-log-capacity={}M", options.redo_mib));
                args.push(format!("--innodb-directories={folder}/outside"));
                if options.clone_plugin {
                    args.push("--plugin-load-add=mysql_clone.so".to_owned());
                }
                if options.gtid {
                    args.extend(["--gtid-mode=ON".to_owned(), "--enforce-gtid-consistency=ON".to_owned()]);
                }
            }
            Flavour::Mariadb => args.push(format!("--innodb-log-file-size={}M", options.redo_mib)),
        }
        if options.binlog {
            args.extend(["--log-bin=binlog".to_owned(), "--binlog-format=ROW".to_owned()]);
            args.push(format!("--sync-binlog={durable}"));
        } else {
            args.push("--skip-log-bin".to_owned());
        }
        match (options.tls, &self.certificates) {
            (Tls::Off, _) if options.flavour == Flavour::Mysql => args.push("--tls-version=".to_owned()),
            (Tls::Off, _) => args.push("--skip-ssl".to_owned()),
            (_, Some(made)) => args.extend([
                format!("--ssl-ca={}", made.ca.display()),
                format!("--ssl-cert={}", made.certificate.display()),
                format!("--ssl-key={}", made.key.display()),
            ]),
            (_, None) => {}
        }
        args.extend(options.args.iter().cloned());
        args
    }

    /// Runs SQL as root and returns the rows of all statements; panics with the server's message on an error.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> Vec<Row> {
        self.try_sql(sql)
            .unwrap_or_else(|error| panic!("{error}\nin: {sql:.500}"))
    }

    /// As [`MysqlServer::sql`], the error returned.
    pub fn try_sql(&self, sql: &str) -> Result<Vec<Row>, SqlError> {
        self.client.run(sql)
    }

    /// Runs SQL as another user, over the unix socket (whose host is `localhost`).
    pub fn sql_as(&self, user: &str, password: &str, sql: &str) -> Result<Vec<Row>, SqlError> {
        Client {
            user: user.to_owned(),
            password: password.to_owned(),
            ..self.client.clone()
        }
        .run(sql)
    }

    /// The first column of the first row; panics when there is none or it is NULL.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        let first = self.sql(sql).into_iter().next().and_then(|row| row.into_iter().next());
        first.flatten().unwrap_or_else(|| panic!("no value: {sql}"))
    }

    /// Makes `user@'%'` with the password and these privileges, such as `["SELECT", "BACKUP_ADMIN"]`, on everything.
    #[track_caller]
    pub fn create_user(&self, user: &str, password: &str, grants: &[&str]) {
        let mut sql = format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}';\n");
        if !grants.is_empty() {
            sql.push_str(&format!("GRANT {} ON *.* TO '{user}'@'%';\n", grants.join(", ")));
        }
        self.sql(&sql);
    }

    /// `mysql://user@127.0.0.1:port`.
    pub fn url(&self, user: &str) -> String {
        format!("mysql://{user}@127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn socket(&self) -> PathBuf {
        self.client.socket.clone()
    }

    pub fn datadir(&self) -> &Path {
        &self.datadir
    }

    /// A folder outside the data directory that the server may keep tablespaces in.
    pub fn outside_dir(&self) -> PathBuf {
        self.folder.path().join("outside")
    }

    pub fn flavour(&self) -> Flavour {
        self.options.flavour
    }

    /// The server program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A client program of the same series, such as `mysqldump` (`mariadb-dump` for MariaDB).
    pub fn client_program(&self, name: &str) -> PathBuf {
        find::client_beside(&self.program, name)
    }

    /// MariaDB's backup tool: the `BALLAST_MARIADB_BACKUP` variable, then as a client program.
    pub fn backup_tool(&self) -> PathBuf {
        let named = std::env::var_os("BALLAST_MARIADB_BACKUP").filter(|value| !value.is_empty());
        named.map_or_else(|| self.client_program("mariadb-backup"), PathBuf::from)
    }

    /// The server's version as it says it, such as `9.7.4-2`.
    pub fn version(&self) -> String {
        self.value("SELECT VERSION()")
    }

    /// The authority to trust: the kit's own for [`Tls::Signed`], else the one MySQL made in its data directory.
    pub fn ca(&self) -> PathBuf {
        self.certificates
            .as_ref()
            .map_or_else(|| self.datadir.join("ca.pem"), |made| made.ca.clone())
    }

    /// `@@global.gtid_executed`, without line breaks.
    pub fn gtid_executed(&self) -> String {
        self.value("SELECT @@GLOBAL.gtid_executed").replace('\n', "")
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// The last lines of the error log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// A clean shutdown.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts it again, on the same port and data directory; stops it first when it runs.
    pub fn restart(&self) {
        self.process.stop();
        self.run();
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

fn programs(flavour: Flavour) -> (PathBuf, PathBuf) {
    let (wanted, client) = match flavour {
        Flavour::Mysql => (find::MYSQL, "mysql"),
        Flavour::Mariadb => (find::MARIADB, "mariadb"),
    };
    let program = find::find(&wanted);
    let client = find::client_beside(&program, client);
    (program, client)
}

fn base_arguments(datadir: &Path) -> Vec<String> {
    let mut args = vec!["--no-defaults".to_owned(), format!("--datadir={}", datadir.display())];
    if is_root() {
        args.push("--user=root".to_owned());
    }
    args
}

fn shapes_datadir(arg: &str) -> bool {
    let arg = arg.trim_start_matches('-').replace('_', "-");
    [
        "innodb-page-size",
        "innodb-data-file-path",
        "lower-case-table-names",
        "innodb-undo-directory",
    ]
    .iter()
    .any(|name| arg.starts_with(name))
}

/// The initialised data directory kept for this program; made when it is not there yet.
fn template(flavour: Flavour, program: &Path) -> PathBuf {
    let program = program.canonicalize().unwrap();
    let metadata = fs::metadata(&program).unwrap();
    let version = find::version_of(&program);
    let version: String = version
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' })
        .collect();
    let folder = find::cache_dir().join("templates");
    let name = format!(
        "{TEMPLATE_VERSION}-{}-{:.120}",
        metadata.mtime(),
        version.trim_matches('_')
    );
    let done = folder.join(name);
    if done.is_dir() {
        return done;
    }
    fs::create_dir_all(&folder).unwrap();
    let building = tempfile::Builder::new()
        .prefix(".building-")
        .tempdir_in(&folder)
        .unwrap();
    let datadir = building.path().join("data");
    initialise(flavour, &program, &datadir, &[]);
    // Another process may have been quicker; then its result serves as well.
    if fs::rename(&datadir, &done).is_err() {
        assert!(
            done.is_dir(),
            "cannot keep an initialised data directory at {}",
            done.display()
        );
    }
    done
}

fn initialise(flavour: Flavour, program: &Path, datadir: &Path, args: &[String]) {
    let folder = private_folder();
    let mut command = Command::new(program);
    command.args(base_arguments(datadir)).current_dir(folder.path());
    match flavour {
        Flavour::Mysql => {
            let accounts = folder.path().join("accounts.sql");
            fs::write(&accounts, ACCOUNTS).unwrap();
            command.args(["--initialize-insecure", "--mysqlx=OFF", "--innodb-redo-log-capacity=8M"]);
            command.arg(format!("--init-file={}", accounts.display()));
        }
        Flavour::Mariadb => {
            fs::create_dir_all(datadir).unwrap();
            let script = folder.path().join("bootstrap.sql");
            fs::write(&script, mariadb_bootstrap(program)).unwrap();
            command.args(["--bootstrap", "--innodb-log-file-size=8M", "--skip-log-bin"]);
            command.stdin(fs::File::open(&script).unwrap());
        }
    }
    if flavour == Flavour::Mysql {
        command.stdin(Stdio::null());
    }
    let output = command.args(args).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cannot initialise a data directory with {}:\n{log}",
        program.display()
    );
    // The server makes a new identity when it has none.
    fs::remove_file(datadir.join("auto.cnf")).ok();
}

/// What MariaDB's own installation script feeds to the server, and the kit's account.
fn mariadb_bootstrap(program: &Path) -> Vec<u8> {
    let output = Command::new(program)
        .args(["--no-defaults", "--verbose", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8_lossy(&output.stdout);
    let share = help
        .lines()
        .find_map(|line| line.strip_prefix("lc-messages-dir"))
        .expect("lc-messages-dir")
        .trim();
    let mut script = b"CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n".to_vec();
    for part in [
        "mysql_system_tables.sql",
        "mysql_performance_tables.sql",
        "mysql_system_tables_data.sql",
    ] {
        let path = Path::new(share).join(part);
        let sql = fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        // Accounts under this machine's own name are left out, as the installation script can do too.
        for line in String::from_utf8_lossy(&sql)
            .lines()
            .filter(|line| !line.contains("@current_hostname"))
        {
            script.extend([line.as_bytes(), b"\n"].concat());
        }
    }
    script.extend(b"FLUSH PRIVILEGES;\n");
    script.extend(ACCOUNTS.as_bytes());
    script
}
