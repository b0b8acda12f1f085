//! What transactions did, told from the logs of real servers.

use std::sync::Arc;

use ballast_mysql::{StatementKind, TableRows, TransactionWalker, WalkedTransaction};
use ballast_testkit::servers::MysqlServer;

use crate::capture::{Capture, end, flavour};

async fn transactions(server: &Arc<MysqlServer>, cut: usize) -> Vec<WalkedTransaction> {
    let first = server.sql("SHOW BINARY LOGS")[0][0].clone().unwrap();
    let mut capture = Capture::start(server, &first).await;
    capture.catch_up(server).await;
    let mut walker = TransactionWalker::new(flavour(server), 0);
    let mut done = Vec::new();
    for file in capture.files.values() {
        for piece in file.chunks(cut) {
            done.extend(walker.push(piece).unwrap());
        }
    }
    done
}

fn rows(transaction: &WalkedTransaction) -> Vec<(String, u64, u64, u64)> {
    assert!(!transaction.incomplete && transaction.unnamed == 0);
    let line = |table: &TableRows| {
        assert!(table.counted, "{table:?}");
        let name = format!("{}.{}", table.schema, table.table);
        (name, table.inserted, table.updated, table.deleted)
    };
    transaction.tables.iter().map(line).collect()
}

const COMMON: &str = "id INT PRIMARY KEY AUTO_INCREMENT, a TINYINT, b SMALLINT, c MEDIUMINT, d BIGINT, e FLOAT, f DOUBLE,
    g DECIMAL(20, 7), h BIT(11), i YEAR, j DATE, k TIME(3), l DATETIME, m TIMESTAMP(6) NULL, n CHAR(3), o CHAR(200) CHARACTER SET utf8mb4,
    p VARCHAR(50), q VARCHAR(3000), r BINARY(16), s VARBINARY(300), t TINYTEXT, u TEXT, v MEDIUMBLOB, w LONGTEXT, x ENUM('a', 'b'),
    y SET('a', 'b', 'c'), z JSON, ä GEOMETRY, ö DATETIME(4), ü TIME";
const VALUES: &str = "1, 2, 3, 4, 1.5, 2.5, 12345.678, b'10101', 2026, '2026-11-25', '10:00:00.123', NOW(), NOW(6), 'abc',
    REPEAT('é', 150), 'short', REPEAT('q', 2000), UNHEX('00FF'), REPEAT('s', 260), 'tiny', 'text', REPEAT('v', 70000), 'long', 'b',
    'a,c', '{\"k\": [1, 2, \"three\"], \"long\": \"ddddddddddddddddddddddddddddddddddddddddddddd\"}', ST_GeomFromText('POINT(1 2)'), NOW(4), '11:11:11'";

fn work(server: &MysqlServer, more: &str) {
    server.sql(&format!(
        "CREATE DATABASE s; CREATE TABLE s.t ({COMMON}{more}); CREATE TABLE s.other (id INT PRIMARY KEY)"
    ));
    let columns: Vec<String> = ('a'..='z').chain(['ä', 'ö', 'ü']).map(String::from).collect();
    let insert = format!("INSERT INTO s.t ({}) VALUES ({VALUES})", columns.join(", "));
    server.sql(&format!(
        "{insert}, ({VALUES}), ({})",
        vec!["NULL"; columns.len()].join(", ")
    ));
}

/// The same work in every way a server has to write it; each is one transaction, named by its number of rows.
fn in_every_way(server: &MysqlServer, settings: &[&str]) {
    for setting in settings {
        server.sql(&format!(
            "{setting};
             BEGIN; UPDATE s.t SET a = IF(a IS NULL, 5, NULL), w = CONCAT('x', COALESCE(w, '')), z = JSON_SET(z, '$.k', 5); DELETE FROM s.t WHERE id = 2;
             INSERT INTO s.t (a, x) VALUES (1, 'a'), (2, 'b'); INSERT INTO s.other VALUES (1); DELETE FROM s.other; COMMIT;
             BEGIN; DELETE FROM s.t WHERE id > 3; INSERT INTO s.t (id, p) VALUES (2, REPEAT('p', 40)); COMMIT"
        ));
    }
}

fn check(done: &[WalkedTransaction], ways: usize) {
    let kinds: Vec<StatementKind> = done
        .iter()
        .flat_map(|transaction| transaction.statements.iter().map(|statement| statement.kind))
        .collect();
    assert!(kinds.starts_with(&[
        StatementKind::CreateDatabase,
        StatementKind::CreateTable,
        StatementKind::CreateTable
    ]));
    let changes: Vec<_> = done.iter().map(rows).filter(|rows| !rows.is_empty()).collect();
    assert_eq!(changes[0], [("s.t".to_owned(), 3, 0, 0)]);
    assert_eq!(changes.len(), 1 + 2 * ways);
    for way in changes[1..].chunks(2) {
        assert_eq!(way[0], [("s.t".to_owned(), 2, 3, 1), ("s.other".to_owned(), 1, 0, 1)]);
        assert_eq!(way[1], [("s.t".to_owned(), 1, 0, 2)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_tells_what_every_transaction_did() {
    let server = crate::mysql::start(&["--binlog-row-metadata=FULL"]);
    work(&server, ", vec VECTOR(3) DEFAULT NULL");
    let ways = [
        "SET SESSION binlog_row_image = FULL",
        "SET SESSION binlog_row_image = MINIMAL",
        "SET SESSION binlog_row_image = NOBLOB",
        "SET SESSION binlog_row_value_options = PARTIAL_JSON",
        "SET SESSION binlog_transaction_compression = ON",
        "SET SESSION binlog_transaction_compression = ON; SET SESSION binlog_row_value_options = PARTIAL_JSON",
        "SET SESSION binlog_rows_query_log_events = ON",
    ];
    in_every_way(&server, &ways);
    server.sql(
        "USE s; RENAME TABLE other TO another; ALTER TABLE another ADD COLUMN x INT; TRUNCATE another; DROP TABLE another, t;
         SET SESSION binlog_format = STATEMENT; CREATE TABLE z (id INT); INSERT INTO z VALUES (1); DROP DATABASE s",
    );
    let done = transactions(&server, 1 << 20).await;
    for cut in [7, 1000] {
        assert!(transactions(&server, cut).await == done, "{cut}");
    }
    let last = done.iter().position(|transaction| {
        transaction
            .statements
            .first()
            .is_some_and(|statement| statement.kind == StatementKind::RenameTable)
    });
    let (rows, definitions) = done.split_at(last.unwrap());
    check(rows, ways.len());
    let told: Vec<(StatementKind, Vec<String>, Option<String>)> = definitions
        .iter()
        .flat_map(|transaction| &transaction.statements)
        .map(|statement| {
            let names = statement.names.iter().map(|name| name.name.clone()).collect();
            (statement.kind, names, statement.schema.clone())
        })
        .collect();
    use StatementKind::{AlterTable, CreateTable, DropDatabase, DropTable, Insert, RenameTable, TruncateTable};
    let in_s = Some("s".to_owned());
    let expected: Vec<_> = [
        (RenameTable, vec!["other", "another"]),
        (AlterTable, vec!["another"]),
        (TruncateTable, vec!["another"]),
        (DropTable, vec!["another", "t"]),
        (CreateTable, vec!["z"]),
        (Insert, vec!["z"]),
        (DropDatabase, vec!["s"]),
    ]
    .into_iter()
    .map(|(kind, names)| (kind, names.into_iter().map(str::to_owned).collect(), in_s.clone()))
    .collect();
    assert_eq!(told, expected);
    assert_eq!(
        done.last().unwrap().end,
        done.last().unwrap().offset + done.last().unwrap().head.length.unwrap()
    );
    drop(end(&server));
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_tells_what_every_transaction_did() {
    let server = crate::mariadb::start();
    work(
        &server,
        ", i6 INET6 DEFAULT NULL, uu UUID DEFAULT NULL, cb BLOB COMPRESSED DEFAULT REPEAT('c', 500), cv VARCHAR(500) COMPRESSED DEFAULT REPEAT('d', 400)",
    );
    let ways = [
        "SET SESSION binlog_row_image = FULL",
        "SET SESSION binlog_row_image = MINIMAL",
        "SET SESSION binlog_row_image = NOBLOB",
        "SET GLOBAL log_bin_compress = 1",
        "SET GLOBAL log_bin_compress_min_len = 10",
    ];
    in_every_way(&server, &ways);
    server.sql(&format!("/* {} */ DROP TABLE s.t", "x".repeat(300)));
    let done = transactions(&server, 1 << 20).await;
    assert!(transactions(&server, 7).await == done);
    let (last, rows) = done.split_last().unwrap();
    check(rows, ways.len());
    assert_eq!(last.statements[0].kind, StatementKind::DropTable);
}
