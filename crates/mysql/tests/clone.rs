//! The clone client against a real server that is written to.

mod recipient;

use std::time::Duration;

use ballast_base::{Cancel, Secret};
use ballast_mysql::{CloneOptions, CloneStream, Connection, ServerAddress};
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
    eprintln!(
        "{} bytes, {} KiB of pages checked, {report:?}",
        received.bytes, received.pages_checked
    );
    assert!(report.ddl_rounds > 0 && report.transactions > 100, "{report:?}");

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
