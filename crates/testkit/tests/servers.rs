//! Every kind of server starts, answers, survives a kill, and is gone when its value is.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use ballast_testkit::servers::{MysqlOptions, MysqlServer, RedisFlavour, RedisOptions, RedisServer, Tls};

fn is_alive(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}

#[test]
fn mysql_has_what_the_tests_need() {
    let server = MysqlServer::start(MysqlOptions::default());
    let version = server.version();
    let (major, _) = version.split_once('.').unwrap();
    assert!(major.parse::<u32>().unwrap() >= 8, "{version}");
    assert!(!version.contains("MariaDB"), "{version}");
    let settings = server.sql(
        "SELECT @@gtid_mode, @@log_bin, @@sync_binlog, @@innodb_redo_log_capacity, @@secure_file_priv;
         SELECT PLUGIN_STATUS FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone'",
    );
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        settings[0],
        [text("ON"), text("1"), text("0"), text("33554432"), text("")]
    );
    assert_eq!(settings[1], [text("ACTIVE")]);
    assert_eq!(server.gtid_executed(), "", "nothing was committed yet");

    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY, b TEXT); INSERT INTO d.t VALUES (1, NULL), (2, 'NULL')");
    server.kill();
    assert!(!server.is_running());
    server.restart();
    assert_eq!(server.sql("SELECT b FROM d.t ORDER BY a"), [[None], [text("NULL")]]);
    assert!(server.gtid_executed().ends_with(":1-3"));
    assert!(
        server
            .try_sql("SELECT * FROM d.missing")
            .unwrap_err()
            .0
            .contains("1146")
    );

    server.create_user("reader", "secret", &["SELECT"]);
    assert_eq!(
        server.sql_as("reader", "secret", "SELECT COUNT(*) FROM d.t").unwrap(),
        [[text("2")]]
    );
    assert!(
        server
            .sql_as("reader", "wrong", "SELECT 1")
            .unwrap_err()
            .0
            .contains("1045")
    );
    assert!(
        server
            .sql_as("reader", "secret", "DELETE FROM d.t")
            .unwrap_err()
            .0
            .contains("1142")
    );

    let pid = server.pid().unwrap();
    assert!(is_alive(pid));
    drop(server);
    assert!(!is_alive(pid), "a dropped server is gone");
}

#[test]
fn a_stopped_servers_directory_starts_another() {
    let kept = tempfile::tempdir().unwrap();
    let datadir = kept.path().join("data");
    {
        let server = MysqlServer::start(MysqlOptions::default());
        server.sql("CREATE DATABASE kept");
        server.stop();
        let moved = Command::new("mv").arg(server.datadir()).arg(&datadir).status().unwrap();
        assert!(moved.success());
    }
    let server = MysqlServer::start_on(&datadir, MysqlOptions::default());
    assert_eq!(server.value("SHOW DATABASES LIKE 'kept'"), "kept");
    drop(server);
    assert!(datadir.join("ibdata1").is_file(), "the directory outlives its server");
}

#[test]
fn a_page_size_gets_a_directory_of_its_own_and_tls_can_be_signed_or_off() {
    let options = MysqlOptions {
        tls: Tls::Signed,
        ..MysqlOptions::default()
    };
    let server = MysqlServer::start(options.arg("--innodb-page-size=8k"));
    assert_eq!(server.value("SELECT @@innodb_page_size"), "8192");
    assert_eq!(server.value("SELECT @@ssl_ca"), server.ca().display().to_string());
    let without = MysqlServer::start(MysqlOptions {
        tls: Tls::Off,
        ..MysqlOptions::default()
    });
    assert_eq!(
        without.sql("SHOW STATUS LIKE 'Ssl_server_not_after'")[0][1],
        Some(String::new())
    );
}

#[test]
fn mariadb_starts() {
    let server = MysqlServer::start(MysqlOptions::mariadb());
    assert!(server.version().contains("MariaDB"), "{}", server.version());
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
    server.create_user("reader", "secret", &["SELECT"]);
    assert_eq!(
        server.sql_as("reader", "secret", "SELECT a FROM d.t").unwrap(),
        [[Some("1".to_owned())]]
    );
    assert_eq!(server.value("SELECT @@log_bin"), "1");
}

#[test]
fn redis_and_valkey_start() {
    for flavour in [RedisFlavour::Redis, RedisFlavour::Valkey] {
        let server = RedisServer::start(RedisOptions {
            flavour,
            password: Some("secret".to_owned()),
            ..RedisOptions::default()
        });
        let major: u32 = server.version().split('.').next().unwrap().parse().unwrap();
        assert!(major >= 6, "{flavour:?} {}", server.version());
        assert_eq!(server.command(&["SET", "a key", "a\nvalue"]), "OK");
        assert_eq!(server.command(&["GET", "a key"]), "a\nvalue");
        assert_eq!(server.command(&["GET", "none"]), "(nil)");
        assert!(
            server
                .try_command(&["NONSENSE"])
                .unwrap_err()
                .contains("unknown command")
        );
        let port = server.port();
        drop(server);
        assert!(
            TcpStream::connect(("127.0.0.1", port)).is_err(),
            "a dropped server is gone"
        );
    }
}
