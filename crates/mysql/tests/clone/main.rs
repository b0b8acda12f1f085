//! The clone client against a real server that is written to.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test waits by itself, and panics when something is not as it must be"
)]

mod recipient;

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ballast_base::{Cancel, Retryable as _, Secret};
use ballast_mysql::{
    CloneOptions, CloneStream, Connection, Facts, MysqlError, ServerAddress, ServerBinary, ThrowawayOptions,
    ThrowawayServer, clone_requirements,
};
use ballast_testkit::chaos_proxy::ChaosProxy;
use ballast_testkit::dataset::{self, WriterOptions, Writers, balance, ugly};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

const SHARDS: u32 = 24;

fn address(server: &MysqlServer) -> ServerAddress {
    server
        .url("cloner")
        .parse::<ServerAddress>()
        .unwrap()
        .with_password(Secret::new("tide".to_owned()))
}

fn donor() -> MysqlServer {
    let server = MysqlServer::start(MysqlOptions::default());
    server.create_user("cloner", "tide", &["BACKUP_ADMIN"]);
    server
}

async fn clone_live_and_compare(connections: usize, tls: &str) {
    let server = donor();
    ugly::load(&server);
    balance::load(&server, SHARDS, 2000);
    let writers = Writers::start(
        &server,
        2,
        &balance::tables(SHARDS),
        WriterOptions { ddl: true, rate: None },
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let address: ServerAddress = format!("{}?tls={tls}", server.url("cloner")).parse().unwrap();
    let address = address.with_password(Secret::new("tide".to_owned()));
    let options = CloneOptions {
        data_connections: connections,
        ..CloneOptions::default()
    };
    let mut stream = CloneStream::start(&address, options, &Cancel::new()).await.unwrap();
    let received = recipient::receive(&mut stream).await.unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = writers.stop();
    assert!(report.ddl_rounds > 0 && report.transactions > 100, "{report:?}");

    assert!(received.kib_checked > 300_000, "{}", received.kib_checked);

    let folder = tempfile::tempdir().unwrap();
    let settings = received.write(folder.path());
    let private = recipient::boot(folder.path(), server.program(), settings)
        .await
        .unwrap();
    let mut connection = Connection::open(private.address(), &Cancel::new()).await.unwrap();
    let status = recipient::recovery_status(folder.path());
    let executed = connection
        .value("SELECT @@GLOBAL.gtid_executed")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(executed.parse::<ballast_mysql::GtidSet>().unwrap(), status.gtids);
    connection.close().await;
    private.stop().await.unwrap();

    // An ordinary server starts on it, and takes from the donor exactly what came after the position.
    let outside = format!("--innodb-directories={}", folder.path().join("outside").display());
    let copy = MysqlServer::start_on(&folder.path().join("data"), MysqlOptions::default().arg(outside));
    assert_eq!(
        copy.gtid_executed().parse::<ballast_mysql::GtidSet>().unwrap(),
        status.gtids
    );
    check_all_tables(&copy);
    server.create_user("replica", "tide", &["REPLICATION SLAVE"]);
    copy.sql(&format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='replica',
         SOURCE_PASSWORD='tide', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1;
         START REPLICA;",
        server.port()
    ));
    let wanted = server.gtid_executed();
    let reached = copy.value(&format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{wanted}', 120)"));
    if reached != "0" {
        panic!("{:?}\n{}", copy.sql("SHOW REPLICA STATUS"), copy.log_tail());
    }
    let schemas: Vec<String> = server
        .sql("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN ('mysql','sys','information_schema','performance_schema')")
        .into_iter()
        .map(|row| row[0].clone().unwrap())
        .collect();
    let schemas: Vec<&str> = schemas.iter().map(String::as_str).collect();
    assert_eq!(
        dataset::checksums(&server, &schemas),
        dataset::checksums(&copy, &schemas)
    );
}

fn check_all_tables(server: &MysqlServer) {
    let names = server.sql(
        "SELECT CONCAT('`', REPLACE(TABLE_SCHEMA, '`', '``'), '`.`', REPLACE(TABLE_NAME, '`', '``'), '`')
         FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE = 'InnoDB'",
    );
    assert!(names.len() > 50, "{names:?}");
    for name in names {
        let answer = server.sql(&format!("CHECK TABLE {}", name[0].clone().unwrap()));
        assert_eq!(answer.last().unwrap()[3].as_deref(), Some("OK"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_server_with_ddl_is_copied_over_one_connection() {
    clone_live_and_compare(1, "off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_server_with_ddl_is_copied_over_three_connections_and_tls() {
    clone_live_and_compare(3, "required").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_pages_compressed_rows_and_new_undo_tablespaces_hold_and_boot() {
    let server = MysqlServer::start(MysqlOptions::default().arg("--innodb-page-size=4k"));
    server.create_user("cloner", "tide", &["BACKUP_ADMIN"]);
    server.sql(
        "CREATE DATABASE small; CREATE UNDO TABLESPACE more ADD DATAFILE 'more.ibu';
         CREATE TABLE small.plain (id INT PRIMARY KEY, v TEXT);
         CREATE TABLE small.packed (id INT PRIMARY KEY, v TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=2;
         SET SESSION cte_max_recursion_depth = 20000;
         INSERT INTO small.plain WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 20000) SELECT i, SHA2(i, 512) FROM n;
         INSERT INTO small.packed SELECT * FROM small.plain;",
    );
    let mut stream = CloneStream::start(&address(&server), CloneOptions::default(), &Cancel::new())
        .await
        .unwrap();
    let received = recipient::receive(&mut stream).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut settings = received.write(folder.path());
    settings.insert("innodb_page_size".to_owned(), "4096".to_owned());
    let private = recipient::boot(folder.path(), server.program(), settings)
        .await
        .unwrap();
    let mut connection = Connection::open(private.address(), &Cancel::new()).await.unwrap();
    for table in ["plain", "packed"] {
        let check = connection.query(&format!("CHECK TABLE small.{table}")).await.unwrap();
        assert_eq!(check.rows[0].text(3).unwrap(), "OK");
        let count = connection
            .value(&format!("SELECT COUNT(*) FROM small.{table}"))
            .await
            .unwrap();
        assert_eq!(count.as_deref(), Some("20000"));
    }
    private.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_damaged_on_the_donors_disk_are_named() {
    let server = donor();
    server.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY, v TEXT);
         CREATE TABLE shop.packed (id INT PRIMARY KEY, v TEXT) ROW_FORMAT=COMPRESSED;
         CREATE TABLE shop.punched (id INT PRIMARY KEY, v TEXT) COMPRESSION='zlib';
         CREATE TABLE shop.quick (id INT PRIMARY KEY, v TEXT) COMPRESSION='lz4';
         SET SESSION cte_max_recursion_depth = 20000;
         INSERT INTO shop.orders WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 20000) SELECT i, REPEAT(SHA2(i, 512), 2) FROM n;
         INSERT INTO shop.packed SELECT * FROM shop.orders;
         INSERT INTO shop.punched SELECT * FROM shop.orders;
         INSERT INTO shop.quick SELECT * FROM shop.orders;",
    );
    server.stop();
    // A page in the middle, and a byte of it that is content, for each way pages are stored.
    for (table, page_bytes) in [
        ("orders", 16384),
        ("packed", 8192),
        ("punched", 16384),
        ("quick", 16384),
    ] {
        let path = server.datadir().join(format!("shop/{table}.ibd"));
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let at = 40 * page_bytes + 1000;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }
    server.restart();
    let mut stream = CloneStream::start(&address(&server), CloneOptions::default(), &Cancel::new())
        .await
        .unwrap();
    let found = recipient::bad_pages(&mut stream).await;
    let expected = ["orders", "packed", "punched", "quick"].map(|table| (format!("./shop/{table}.ibd"), 40));
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_ended_early_in_any_way_leaves_the_donor_free_for_the_next() {
    let server = donor();
    balance::load(&server, 8, 3000);
    let start = async |cancel: &Cancel| {
        CloneStream::start(
            &address(&server),
            CloneOptions {
                data_connections: 2,
                ..CloneOptions::default()
            },
            cancel,
        )
        .await
    };
    let some = async |stream: &mut CloneStream| {
        for _ in 0..60 {
            stream.next().await?;
        }
        Ok::<(), MysqlError>(())
    };
    let sessions = || server.value("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'cloner'");

    let mut stream = start(&Cancel::new()).await.unwrap();
    some(&mut stream).await.unwrap();
    let error = start(&Cancel::new()).await.unwrap_err();
    assert!(error.server_code() == Some(3634) && error.may_retry(), "{error:?}");
    stream.abort().await;
    let mut waited = 0;
    while sessions() != "0" {
        waited += 1;
        assert!(
            waited < 50,
            "the donor still serves an aborted clone: {:?}",
            server.sql("SHOW PROCESSLIST")
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // Cancelled: the call says so, and the donor was told.
    let cancel = Cancel::new();
    let mut stream = start(&cancel).await.unwrap();
    some(&mut stream).await.unwrap();
    cancel.cancel();
    let error = loop {
        match stream.next().await {
            Ok(event) => assert!(event.is_some()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, MysqlError::Cancelled(_)), "{error:?}");

    // Dropped without a word: the donor waits for it to come back, and still takes another.
    let mut stream = start(&Cancel::new()).await.unwrap();
    some(&mut stream).await.unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut stream = start(&Cancel::new()).await.unwrap();
    recipient::receive(&mut stream).await.unwrap();
    assert!(stream.next().await.unwrap().is_none());
}

/// The donor notices a cut line at its next write, and refuses another clone until then.
async fn start_when_free(address: &ServerAddress, options: CloneOptions) -> Result<CloneStream, MysqlError> {
    for _ in 0..300 {
        match CloneStream::start(address, options, &Cancel::new()).await {
            Err(error) if error.server_code() == Some(3634) => tokio::time::sleep(Duration::from_millis(100)).await,
            other => return other,
        }
    }
    panic!("the donor is not free after 30 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_cut_at_any_byte_and_a_killed_donor_are_passing_errors_never_an_end() {
    let server = donor();
    balance::load(&server, 8, 3000);
    let proxy = ChaosProxy::start(server.port());
    let mut through = address(&server);
    through.port = proxy.port();
    let seed = ballast_base::random_unit();
    let mut cuts = 0;
    for round in 0..24u32 {
        // Early bytes are many short messages, so half of the cuts fall there.
        let reach = if round % 2 == 0 { 20_000.0 } else { 60_000_000.0 };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place for a cut"
        )]
        let bytes = ((seed + f64::from(round) * 0.618_033_988_75).fract() * reach) as u64 + 1;
        proxy.refuse(false);
        proxy.cut_after(bytes);
        let outcome = async {
            let options = CloneOptions {
                data_connections: 1 + round as usize % 3,
                ..CloneOptions::default()
            };
            let mut stream = start_when_free(&through, options).await?;
            recipient::receive(&mut stream).await
        };
        match tokio::time::timeout(Duration::from_secs(60), outcome)
            .await
            .expect("a cut line ends the wait")
        {
            Ok(received) => assert!(received.layout.files.len() > 8),
            Err(error) => {
                cuts += 1;
                assert!(
                    error.may_retry(),
                    "seed {seed}, round {round}, after {bytes} bytes: {error:?}"
                );
            }
        }
    }
    assert!(cuts > 12, "{cuts} cuts");

    let mut stream = start_when_free(&address(&server), CloneOptions::default())
        .await
        .unwrap();
    for _ in 0..40 {
        stream.next().await.unwrap();
    }
    server.kill();
    let error = loop {
        match stream.next().await {
            Ok(event) => assert!(event.is_some()),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, MysqlError::Gone { .. }) && error.may_retry(),
        "{error:?}"
    );
    server.restart();
    let mut stream = CloneStream::start(&address(&server), CloneOptions::default(), &Cancel::new())
        .await
        .unwrap();
    recipient::receive(&mut stream).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_that_refuses_is_quoted() {
    let server = MysqlServer::start(MysqlOptions {
        clone_plugin: false,
        ..MysqlOptions::default()
    });
    server.create_user("cloner", "tide", &[]);
    let start = async || {
        CloneStream::start(&address(&server), CloneOptions::default(), &Cancel::new())
            .await
            .map(drop)
    };
    let without_plugin = start().await.unwrap_err();
    assert!(without_plugin.server_code().is_some(), "{without_plugin:?}");
    server.sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'");
    let without_privilege = start().await.unwrap_err();
    assert!(
        without_privilege.to_string().contains("BACKUP_ADMIN"),
        "{without_privilege}"
    );
    server.sql("GRANT BACKUP_ADMIN ON *.* TO cloner@'%'");
    start().await.unwrap();
    let options = CloneOptions {
        data_connections: 9,
        ..CloneOptions::default()
    };
    let error = CloneStream::start(&address(&server), options, &Cancel::new())
        .await
        .unwrap_err();
    assert!(matches!(error, MysqlError::Unsupported { .. }));
}

/// A server with a keyring needs a manifest beside its program, so it runs from a folder of its own.
fn program_with_keyring(server: &MysqlServer, folder: &Path) -> PathBuf {
    let plugins = PathBuf::from(server.value("SELECT @@plugin_dir"));
    let program = folder.join("mysqld");
    let found = std::fs::read(server.program()).unwrap();
    if found.starts_with(b"#!") {
        // A wrapper says which program it is.
        let script = String::from_utf8(found).unwrap();
        let (before, after) = script.split_once("--argv0 ").unwrap();
        let (_, after) = after.split_once(' ').unwrap();
        std::fs::write(&program, format!("{before}--argv0 {} {after}", program.display())).unwrap();
    } else {
        std::fs::write(&program, found).unwrap();
    }
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["component_keyring_file.so", "mysql_clone.so"] {
        std::fs::copy(plugins.join(name), folder.join(name)).unwrap();
    }
    std::fs::write(
        folder.join("mysqld.my"),
        r#"{"components":"file://component_keyring_file"}"#,
    )
    .unwrap();
    let keyring = format!(r#"{{"path":"{}/keyring","read_only":false}}"#, folder.display());
    std::fs::write(folder.join("component_keyring_file.cnf"), keyring).unwrap();
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_tablespace_is_refused_by_name() {
    let server = donor();
    let folder = tempfile::tempdir().unwrap();
    let program = program_with_keyring(&server, folder.path());
    server.stop();
    let cancel = Cancel::new();
    let binary = ServerBinary::probe(&program, &cancel).await.unwrap();
    // Over the network too, for TLS.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let settings = [
        ("plugin_dir", folder.path().to_str().unwrap()),
        ("plugin_load_add", "mysql_clone.so"),
        ("skip_grant_tables", "OFF"),
        ("skip_networking", "OFF"),
        ("bind_address", "127.0.0.1"),
        ("port", &port.to_string()),
    ];
    let options = ThrowawayOptions {
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..ThrowawayOptions::new(server.datadir().to_owned())
    };
    let private = ThrowawayServer::start(&binary, options, &cancel).await.unwrap();
    let mut connection = Connection::open(private.address(), &cancel).await.unwrap();
    connection.execute("CREATE DATABASE shop").await.unwrap();
    connection
        .execute("CREATE TABLE shop.secret (id INT PRIMARY KEY) ENCRYPTION='Y'")
        .await
        .unwrap();
    let facts = Facts::read(&mut connection).await.unwrap();
    let point = clone_requirements(&facts)
        .into_iter()
        .find(|point| point.name == "encrypted tablespaces")
        .unwrap();
    assert_eq!((point.ok, point.actual.as_str()), (false, "shop/secret"));

    let over_tls: ServerAddress = format!("mysql://root@127.0.0.1:{port}?tls=required").parse().unwrap();
    for (address, named) in [
        (&over_tls, "tablespace \"./shop/secret.ibd\""),
        (private.address(), "a tablespace"),
    ] {
        let mut stream = CloneStream::start(address, CloneOptions::default(), &cancel)
            .await
            .unwrap();
        let error = loop {
            match stream.next().await {
                Ok(event) => assert!(event.is_some()),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, MysqlError::Unsupported { .. }) && !error.may_retry(),
            "{error:?}"
        );
        assert!(error.to_string().contains(named) && error.hint().is_some(), "{error}");
    }

    // What doctor says to type is what helps.
    connection.execute(point.remedy.trim_end_matches(';')).await.unwrap();
    let mut stream = CloneStream::start(private.address(), CloneOptions::default(), &cancel)
        .await
        .unwrap();
    recipient::receive(&mut stream).await.unwrap();
    private.stop().await.unwrap();
}
