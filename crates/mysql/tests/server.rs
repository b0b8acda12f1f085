//! Logins, statements and facts against real servers. The tests share two of them.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test waits by itself, and panics when something is not as it must be"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use ballast_base::{Cancel, Retryable as _, Secret};
use ballast_mysql::{
    Connection, Facts, Flavour, GtidSet, MysqlError, Requirement, ServerAddress, ServerBinary, ServerVersion,
    ThrowawayOptions, ThrowawayServer, TlsMode, clone_requirements, log_requirements, quote_name, quote_text,
    variables,
};
use ballast_testkit::chaos_proxy::ChaosProxy;
use ballast_testkit::servers::{MysqlOptions, MysqlServer, Tls};

/// The one server of a kind while any test uses it; the last one to let go stops it.
fn shared(place: &Mutex<Weak<MysqlServer>>, start: impl FnOnce() -> MysqlServer) -> Arc<MysqlServer> {
    let mut place = place.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    place.upgrade().unwrap_or_else(|| {
        let server = Arc::new(start());
        *place = Arc::downgrade(&server);
        server
    })
}

fn mysql() -> Arc<MysqlServer> {
    static SERVER: Mutex<Weak<MysqlServer>> = Mutex::new(Weak::new());
    shared(&SERVER, || {
        let server = MysqlServer::start(MysqlOptions {
            tls: Tls::Signed,
            ..MysqlOptions::default()
        });
        server.create_user("plain", "tide pool", &["SELECT"]);
        server.sql("CREATE USER 'empty'@'%' IDENTIFIED BY ''");
        server.sql("CREATE USER 'locked'@'%' IDENTIFIED BY 'tide' ACCOUNT LOCK");
        server
    })
}

fn mariadb() -> Arc<MysqlServer> {
    static SERVER: Mutex<Weak<MysqlServer>> = Mutex::new(Weak::new());
    shared(&SERVER, || {
        let server = MysqlServer::start(MysqlOptions::mariadb());
        server.sql("CREATE USER native@'%' IDENTIFIED BY 'tide'; GRANT ALL ON *.* TO native@'%'");
        server
    })
}

fn address(server: &MysqlServer, user: &str, password: &str, query: &str) -> ServerAddress {
    let address: ServerAddress = format!("{}?{query}", server.url(user)).parse().unwrap();
    address.with_password(Secret::new(password.to_owned()))
}

async fn open(address: &ServerAddress) -> Result<Connection, MysqlError> {
    Connection::open(address, &Cancel::new()).await
}

async fn who(address: &ServerAddress) -> String {
    let mut connection = open(address).await.unwrap();
    assert_eq!(connection.is_tls(), address.tls != TlsMode::Off);
    let who = connection.value("SELECT CURRENT_USER()").await.unwrap().unwrap();
    connection.close().await;
    who
}

#[tokio::test]
async fn caching_sha2_logs_in_in_full_over_rsa_tls_and_socket_and_fast_after_that() {
    let server = &*mysql();
    let socket = format!("socket={}", server.socket().display());
    for query in ["tls=off", "tls=required", &socket] {
        // The server forgets whom it knew, so the first login is a full one; the second is fast.
        server.sql("FLUSH PRIVILEGES");
        for _ in 0..2 {
            assert_eq!(
                who(&address(server, "plain", "tide pool", query)).await,
                "plain@%",
                "{query}"
            );
        }
        assert_eq!(who(&address(server, "empty", "", query)).await, "empty@%", "{query}");
    }
}

#[tokio::test]
async fn mariadb_logs_in_with_native_password_and_has_no_tls_of_its_own() {
    let server = mariadb();
    assert_eq!(who(&address(&server, "native", "tide", "tls=off")).await, "native@%");
    let error = open(&address(&server, "native", "ebb", "tls=off")).await.unwrap_err();
    assert!(matches!(error, MysqlError::Login { code: 1045, .. }), "{error:?}");
    let error = open(&address(&server, "native", "tide", "tls=required"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("the server does not offer TLS"), "{error}");
}

#[tokio::test]
async fn refused_logins_say_what_the_server_said_and_no_password() {
    let server = mysql();
    for (user, password, words) in [
        (
            "plain",
            "ebb",
            "Access denied for user 'plain'@'127.0.0.1' (using password: YES)",
        ),
        ("nobody", "ebb", "Access denied for user 'nobody'"),
        ("locked", "tide", "Account is locked"),
    ] {
        for query in ["tls=off", "tls=required"] {
            let error = open(&address(&server, user, password, query)).await.unwrap_err();
            assert!(matches!(error, MysqlError::Login { .. }), "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
            assert!(!error.may_retry() && error.hint().is_some());
            assert!(!format!("{error:?}").contains(password));
        }
    }
}

/// What users meet at the door, on one server of its own: it is told to let nobody in.
#[tokio::test]
async fn a_server_that_lets_nobody_in_is_answered_with_what_to_type() {
    let server = MysqlServer::start(MysqlOptions::default());
    server.create_user("plain", "tide", &["SELECT"]);
    server.sql("CREATE USER locked@'%' IDENTIFIED BY 'tide' ACCOUNT LOCK");
    server.sql("CREATE USER expired@'%' IDENTIFIED BY 'tide' PASSWORD EXPIRE");
    server.sql("CREATE USER single@'%' IDENTIFIED BY 'tide' WITH MAX_USER_CONNECTIONS 1");
    let refused = async |user: &str, code: u16, what: &str| {
        let error = open(&address(&server, user, "tide", "tls=off")).await.unwrap_err();
        assert_eq!(error.server_code(), Some(code), "{error}");
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains(what), "{code}: {hint}");
    };
    refused("locked", 3118, "ACCOUNT UNLOCK").await;
    refused("expired", 1862, "PASSWORD EXPIRE").await;
    let first = open(&address(&server, "single", "tide", "tls=off")).await.unwrap();
    refused("single", 1226, "MAX_USER_CONNECTIONS").await;
    first.close().await;
    server.sql("SET GLOBAL max_user_connections = 1");
    let first = open(&address(&server, "plain", "tide", "tls=off")).await.unwrap();
    refused("plain", 1203, "max_user_connections").await;
    first.close().await;
    server.sql("SET GLOBAL max_user_connections = 0; SET GLOBAL require_secure_transport = ON");
    refused("plain", 3159, "?tls=required").await;
    server.sql("SET GLOBAL require_secure_transport = OFF; SET GLOBAL offline_mode = ON");
    refused("plain", 3032, "offline_mode").await;
}

#[tokio::test]
async fn tls_checks_what_its_mode_promises() {
    let server = &*mysql();
    let right = format!("ca={}", server.ca().display());
    let other = MysqlServer::start(MysqlOptions {
        tls: Tls::Signed,
        ..MysqlOptions::default()
    });
    let wrong = format!("ca={}", other.ca().display());
    assert_eq!(
        who(&address(server, "plain", "tide pool", &format!("tls=verify&{right}"))).await,
        "plain@%"
    );
    assert_eq!(
        who(&address(server, "plain", "tide pool", &format!("tls=required&{right}"))).await,
        "plain@%"
    );
    for query in [
        format!("tls=verify&{wrong}"),
        format!("tls=required&{wrong}"),
        "tls=verify&ca=/nowhere.pem".to_owned(),
    ] {
        let error = open(&address(server, "plain", "tide pool", &query)).await.unwrap_err();
        assert!(matches!(error, MysqlError::Tls { .. }), "{query}: {error:?}");
    }
    // The certificate is for localhost and 127.0.0.1: by another name of the same server only `required` goes.
    let renamed = |mode| {
        let mut address = address(server, "plain", "tide pool", &format!("tls={mode}&{right}"));
        address.host = "127.0.0.2".to_owned();
        address
    };
    let proxy = Forward::start(server.port());
    let with_port = |mode| ServerAddress {
        port: proxy.port,
        ..renamed(mode)
    };
    let error = open(&with_port("verify")).await.unwrap_err();
    assert!(matches!(error, MysqlError::Tls { .. }), "{error:?}");
    assert_eq!(who(&with_port("required")).await, "plain@%");
}

/// Passes 127.0.0.2 on to the server, which listens on 127.0.0.1 only.
struct Forward {
    port: u16,
    _task: tokio::task::JoinHandle<()>,
}

impl Forward {
    fn start(target: u16) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await.ok() });
            }
        });
        Self { port, _task: task }
    }
}

#[tokio::test]
async fn statements_answer_with_rows_effects_or_the_servers_words() {
    for server in [mysql(), mariadb()] {
        server.sql(
            "CREATE DATABASE IF NOT EXISTS wire; DROP TABLE IF EXISTS wire.t; CREATE TABLE wire.t (a INT, b LONGBLOB)",
        );
        let mut connection = open(&ServerAddress::local(server.socket(), "root")).await.unwrap();
        let done = connection
            .execute("INSERT INTO wire.t VALUES (1, NULL), (2, ''), (3, x'00FF')")
            .await
            .unwrap();
        assert_eq!(done.affected_rows, 3);
        let rows = connection.query("SELECT a, b FROM wire.t ORDER BY a").await.unwrap();
        assert_eq!(rows.columns, ["a", "b"]);
        let cells: Vec<_> = rows.rows.iter().map(|row| (row.number(0), row.bytes(1))).collect();
        assert_eq!(
            cells,
            [
                (Some(1), None),
                (Some(2), Some(&b""[..])),
                (Some(3), Some(&b"\x00\xff"[..]))
            ]
        );
        let error = connection.query("SELECT * FROM wire.`no such`").await.unwrap_err();
        assert_eq!(error.server_code(), Some(1146), "{error:?}");
        // A value beyond one packet, and one beyond our limit.
        connection
            .execute("SET GLOBAL max_allowed_packet = 1073741824")
            .await
            .unwrap();
        let mut wide = open(&ServerAddress::local(server.socket(), "root")).await.unwrap();
        let text = wide.value("SELECT REPEAT('x', 17000000)").await.unwrap().unwrap();
        assert_eq!(text.len(), 17_000_000);
        let error = wide.value("SELECT REPEAT('x', 70000000)").await.unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
        assert!(matches!(wide.query("SELECT 1").await, Err(MysqlError::Gone { .. })));
        let awkward = "it's `a` \\ \"b\" \n 雪☃";
        assert_eq!(
            connection
                .value(&format!("SELECT {}", quote_text(awkward)))
                .await
                .unwrap()
                .as_deref(),
            Some(awkward)
        );
        let named = connection
            .query(&format!("SELECT 1 AS {}", quote_name("a`b")))
            .await
            .unwrap();
        assert_eq!(named.columns, ["a`b"]);
    }
}

#[tokio::test]
async fn waits_end_in_time_when_cancelled_and_when_the_line_is_cut() {
    let server = &*mysql();
    let mut connection = open(&ServerAddress::local(server.socket(), "root")).await.unwrap();
    connection.set_read_timeout(Duration::from_millis(200));
    let error = connection.query("SELECT SLEEP(5)").await.unwrap_err();
    assert!(
        matches!(error, MysqlError::Timeout { .. }) && error.may_retry(),
        "{error:?}"
    );
    assert!(matches!(
        connection.query("SELECT 1").await,
        Err(MysqlError::Gone { .. })
    ));

    let cancel = Cancel::new();
    let mut connection = Connection::open(&ServerAddress::local(server.socket(), "root"), &cancel)
        .await
        .unwrap();
    let (error, ()) = tokio::join!(connection.query("SELECT SLEEP(5)"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    });
    assert!(matches!(error, Err(MysqlError::Cancelled(_))));

    let proxy = ChaosProxy::start(server.port());
    let mut through = address(server, "plain", "tide pool", "tls=required");
    through.port = proxy.port();
    let mut connection = open(&through).await.unwrap();
    proxy.cut();
    let error = connection.query("SELECT 1").await.unwrap_err();
    assert!(
        matches!(error, MysqlError::Gone { .. }) && error.may_retry(),
        "{error:?}"
    );
    proxy.refuse(true);
    let error = open(&through).await.unwrap_err();
    assert!(error.may_retry(), "{error:?}");
    through.port = 1;
    assert!(matches!(open(&through).await, Err(MysqlError::Unreachable { .. })));
}

fn failing(list: &[Requirement]) -> Vec<&str> {
    list.iter().filter(|point| !point.ok).map(|point| point.name).collect()
}

#[tokio::test]
async fn versions_variables_and_requirements_of_a_server_that_is_ready() {
    let server = &*mysql();
    server.create_user(
        "ready",
        "tide",
        &["BACKUP_ADMIN", "PROCESS", "RELOAD", "REPLICATION CLIENT", "REFERENCES"],
    );
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY)");
    let mut connection = open(&address(server, "ready", "tide", "tls=off")).await.unwrap();
    let version = ServerVersion::read(&mut connection).await.unwrap();
    assert_eq!(
        (version.text.as_str(), version.flavour),
        (server.version().as_str(), Flavour::Mysql)
    );
    let found = variables(&mut connection, &["server_uuid", "no_such_variable"])
        .await
        .unwrap();
    assert_eq!(found.len(), 1);

    let facts = Facts::read(&mut connection).await.unwrap();
    assert_eq!(failing(&clone_requirements(&facts)), [""; 0]);
    assert!(
        facts
            .tables
            .iter()
            .any(|table| (table.schema.as_str(), table.name.as_str()) == ("shop", "orders"))
    );
    assert!(facts.data_bytes() > 10_000_000);
    assert_eq!(facts.account, "'ready'@'%'");
    // The account sees every table and can read none.
    let error = connection.query("SELECT * FROM shop.orders").await.unwrap_err();
    assert_eq!(error.server_code(), Some(1142), "{error}");
}

#[tokio::test]
async fn what_is_missing_is_named_with_the_statement_that_mends_it() {
    let options = MysqlOptions {
        clone_plugin: false,
        gtid: false,
        ..MysqlOptions::default()
    };
    let server = MysqlServer::start(options.arg("--gtid-mode=OFF").arg("--enforce-gtid-consistency=OFF"));
    server.create_user("bare", "tide", &[]);
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.`old style` (id INT) ENGINE=MyISAM");
    let read = async || {
        let mut connection = open(&address(&server, "bare", "tide", "tls=off")).await.unwrap();
        Facts::read(&mut connection).await.unwrap()
    };
    let facts = read().await;
    let list = clone_requirements(&facts);
    assert_eq!(
        failing(&list),
        [
            "clone plugin",
            "privilege BACKUP_ADMIN",
            "privilege PROCESS",
            "privilege RELOAD",
            "privilege REPLICATION CLIENT",
            "privilege on tables"
        ]
    );
    for point in list.iter().filter(|point| !point.ok) {
        // The remedy is what one types; the client ends a comment and a statement itself.
        server.sql(point.remedy.split(" --").next().unwrap());
    }
    let facts = read().await;
    let list = clone_requirements(&facts);
    // Rows of such a table are read beside the clone, which needs more.
    assert_eq!(
        failing(&list),
        ["privilege SELECT", "privilege LOCK TABLES", "privilege TRIGGER"]
    );
    for point in list.iter().filter(|point| !point.ok) {
        assert!(point.expected.contains("shop.old style (MyISAM)"), "{point:?}");
        server.sql(&point.remedy);
    }
    server.sql("CREATE TABLE shop.`of both` (id INT) ENGINE=MERGE UNION=(shop.`old style`)");
    let facts = read().await;
    let list = clone_requirements(&facts);
    assert_eq!(failing(&list), ["storage engines"]);
    let engines = list.iter().find(|point| point.name == "storage engines").unwrap();
    assert_eq!(engines.actual, "shop.of both (MRG_MYISAM)");
    server.sql(&engines.remedy);
    server.sql("ALTER INSTANCE DISABLE INNODB REDO_LOG");
    let facts = read().await;
    assert_eq!(failing(&clone_requirements(&facts)), ["redo log"]);

    let list = log_requirements(&facts);
    assert_eq!(
        failing(&list),
        [
            "gtid_mode",
            "sync_binlog",
            "innodb_flush_log_at_trx_commit",
            "max_binlog_size"
        ]
    );
    for point in list.iter().filter(|point| !point.ok) {
        server.sql(&point.remedy);
    }
    assert_eq!(failing(&log_requirements(&read().await)), [""; 0]);
}

#[tokio::test]
async fn mariadb_cannot_be_cloned_and_says_so_first() {
    let server = mariadb();
    let mut connection = open(&address(&server, "native", "tide", "tls=off")).await.unwrap();
    let facts = Facts::read(&mut connection).await.unwrap();
    assert_eq!(facts.version.flavour, Flavour::MariaDb);
    assert_eq!(failing(&clone_requirements(&facts)), ["server version"]);
    assert!(!failing(&log_requirements(&facts)).contains(&"gtid_mode"));
}

fn scratch_folders(scratch: &Path) -> usize {
    std::fs::read_dir(scratch).unwrap().count()
}

#[tokio::test]
async fn a_throwaway_server_changes_nothing_and_leaves_nothing_behind() {
    // The private server is not told of this, and must not run the event by itself.
    let server = MysqlServer::start(MysqlOptions::default().arg("--event-scheduler=OFF"));
    server
        .sql("CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY); INSERT INTO shop.orders VALUES (7)");
    server
        .sql("CREATE EVENT shop.busy ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.orders VALUES (UNIX_TIMESTAMP())");
    server.stop();
    let scratch = tempfile::Builder::new().prefix("bs-").tempdir_in("/tmp").unwrap();
    let cancel = Cancel::new();
    let binary = ServerBinary::probe(server.program(), &cancel).await.unwrap();
    let options = |data: &Path| ThrowawayOptions {
        scratch: scratch.path().to_owned(),
        start_wait: Duration::from_secs(60),
        ..ThrowawayOptions::new(data.to_owned())
    };

    let private = ThrowawayServer::start(&binary, options(server.datadir()), &cancel)
        .await
        .unwrap();
    let mut connection = open(private.address()).await.unwrap();
    let version = ServerVersion::read(&mut connection).await.unwrap();
    assert_eq!(version.numeric(), binary.version.numeric());
    let before = connection
        .value("SELECT @@GLOBAL.gtid_executed")
        .await
        .unwrap()
        .unwrap();
    assert!(before.parse::<GtidSet>().unwrap().count() >= 4, "{before}");
    let folder = std::fs::read_dir(scratch.path()).unwrap().next().unwrap().unwrap();
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(
        connection
            .value("SELECT COUNT(*) FROM shop.orders")
            .await
            .unwrap()
            .as_deref(),
        Some("1")
    );
    private.stop().await.unwrap();
    assert_eq!(scratch_folders(scratch.path()), 0);

    // Dropped: it is killed, and the directory recovers.
    let private = ThrowawayServer::start(&binary, options(server.datadir()), &cancel)
        .await
        .unwrap();
    let gone = private.address().clone();
    drop(private);
    assert_eq!(scratch_folders(scratch.path()), 0);
    assert!(matches!(open(&gone).await, Err(MysqlError::Unreachable { .. })));
    server.restart();
    assert_eq!(server.gtid_executed(), before.replace('\n', ""));

    // What is no data directory: the error shows what the server said.
    let empty = tempfile::tempdir().unwrap();
    let error = ThrowawayServer::start(&binary, options(empty.path()), &cancel)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, MysqlError::Process { log, .. } if log.contains("[ERROR]")),
        "{error}"
    );
    assert_eq!(scratch_folders(scratch.path()), 0);

    let maria = mariadb();
    let other = ServerBinary::probe(maria.program(), &cancel).await.unwrap();
    assert!(other.version.flavour == Flavour::MariaDb && !other.version.same_series(&binary.version));
    let error = ServerBinary::probe(Path::new("/bin/echo"), &cancel).await.unwrap_err();
    assert!(
        error.to_string().contains("does not answer like a MySQL server"),
        "{error}"
    );
}
