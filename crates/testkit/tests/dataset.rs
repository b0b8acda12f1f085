//! The data sets load, writers change them, and fingerprints tell equal from different.

use std::thread;
use std::time::Duration;

use ballast_testkit::dataset::{WriterOptions, Writers, balance, checksums, ugly};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

#[test]
fn balance_is_the_same_on_two_servers_until_a_row_differs() {
    let mysql = [
        MysqlServer::start(MysqlOptions::default()),
        MysqlServer::start(MysqlOptions::default()),
    ];
    for server in &mysql {
        balance::load(server, 4, 500);
    }
    let before = checksums(&mysql[0], &["balance"]);
    assert_eq!(before.len(), 6);
    assert_eq!(before["balance.orders_3"].rows, 500);
    assert_eq!(before, checksums(&mysql[1], &["balance"]));
    mysql[1].sql("UPDATE balance.orders_2 SET amount = amount + 0.01 WHERE id = 77");
    let after = checksums(&mysql[1], &["balance"]);
    let differing: Vec<_> = before.keys().filter(|table| before[*table] != after[*table]).collect();
    assert_eq!(differing, ["balance.orders_2"]);
}

#[test]
fn mariadb_takes_balance_too() {
    let server = MysqlServer::start(MysqlOptions::mariadb());
    balance::load(&server, 2, 100);
    let sums = checksums(&server, &["balance"]);
    assert_eq!(sums["balance.orders_1"].rows, 100);
}

#[test]
fn writers_write_and_all_kinds_of_ddl_go_round() {
    let server = MysqlServer::start(MysqlOptions::default());
    balance::load(&server, 6, 1000);
    let before = checksums(&server, &["balance"]);
    let tables = balance::tables(6);
    let writers = Writers::start(&server, 2, &tables, WriterOptions { ddl: true, rate: None });
    while server.value("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'balance\\_ddl%'")
        != "3"
    {
        thread::sleep(Duration::from_millis(50));
    }
    let report = writers.stop();
    assert!(report.transactions > 20, "{report:?}");
    assert!(report.ddl_rounds >= 3, "{report:?}");
    let unexpected: Vec<_> = report
        .errors
        .iter()
        .filter(|error| !error.contains("Deadlock"))
        .collect();
    assert_eq!(unexpected, [""; 0]);
    let after = checksums(&server, &["balance"]);
    assert!(
        before.keys().eq(after.keys()),
        "every shard is there: {:?}",
        after.keys()
    );
    assert_ne!(before, after);
    assert_eq!(checksums(&server, &["balance"]), after, "nothing writes any more");
}

#[test]
fn writers_end_with_their_server() {
    let server = MysqlServer::start(MysqlOptions::default());
    balance::load(&server, 2, 10);
    let options = WriterOptions {
        ddl: false,
        rate: Some(100),
    };
    let writers = Writers::start(&server, 2, &balance::tables(2), options);
    thread::sleep(Duration::from_millis(300));
    server.kill();
    let report = writers.stop();
    assert!(report.transactions > 0, "{report:?}");
    assert!(!report.errors.is_empty(), "{report:?}");
}

#[test]
fn the_ugly_database_has_everything() {
    let server = MysqlServer::start(MysqlOptions::default());
    ugly::load(&server);
    let sums = checksums(&server, &ugly::DATABASES);
    for name in ugly::NAMES {
        assert_eq!(sums[&format!("{}.{name}", ugly::DATABASES[1])].rows, 1, "{name:?}");
    }
    assert!(sums.len() >= 43, "{}", sums.len());
    let rows = server.sql("SELECT HEX(b), d = REPEAT('雪', 20000) FROM ugly.texts WHERE id <= 2 ORDER BY id");
    assert!(
        rows[0][0].as_ref().unwrap().contains("F09FA7A8"),
        "the emoji arrived as four bytes: {:?}",
        rows[0][0]
    );
    assert_eq!(rows[1][1].as_deref(), Some("1"));
    let outside = server.outside_dir();
    assert!(outside.join("general outside.ibd").is_file());
    assert!(outside.join("ugly/elsewhere.ibd").is_file());
    let formats = server.sql(
        "SELECT ROW_FORMAT, CREATE_OPTIONS FROM information_schema.TABLES
         WHERE TABLE_SCHEMA = 'ugly' AND TABLE_NAME IN ('redundant', 'compressed', 'page_zlib') ORDER BY TABLE_NAME",
    );
    assert_eq!(formats[0][0].as_deref(), Some("Compressed"));
    assert!(formats[1][1].as_ref().unwrap().contains("zlib"));
    assert_eq!(formats[2][0].as_deref(), Some("Redundant"));
    server.restart();
    let again = checksums(&server, &ugly::DATABASES);
    let differing: Vec<_> = sums.keys().filter(|table| sums[*table] != again[*table]).collect();
    assert_eq!(differing, [""; 0], "fingerprints outlive a restart");
}
