//! Rows of every type out of real servers and back into them. One test per kind of server, so that each starts once.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test waits by itself, and panics when something is not as it must be"
)]

mod loading;
mod tables;

use ballast_base::Cancel;
use ballast_mysql::{
    Chunk, ColumnSchema, Connection, Generated, LOAD_SESSION, MysqlError, READ_SESSION, ServerAddress, TableDigest,
    TableForm, TextRows, quote_name, quote_table, quote_text,
};
use ballast_testkit::dataset::ugly;
use ballast_testkit::servers::{Flavour, MysqlOptions, MysqlServer};
use bytes::Bytes;

/// Where tables are loaded into.
const BACK: &str = "back";
/// Rows come in pieces of this size, so that most are cut somewhere in a row.
const PIECE: usize = 100_003;

/// What of a table cannot be the same afterwards.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Except {
    Nothing,
    /// `CHECKSUM TABLE` sees what rows do not show, see [`ballast_testkit::dataset::checksums`].
    Checksum,
}

pub(crate) fn address(server: &MysqlServer) -> ServerAddress {
    format!("{}?tls=off", server.url("root")).parse().unwrap()
}

pub(crate) async fn reader(server: &MysqlServer) -> Connection {
    let mut connection = Connection::open(&address(server), &Cancel::new()).await.unwrap();
    connection.execute(READ_SESSION).await.unwrap();
    connection
}

pub(crate) async fn loader(server: &MysqlServer) -> Connection {
    let mut connection = Connection::open_for_load(&address(server), &Cancel::new())
        .await
        .unwrap();
    connection.execute(LOAD_SESSION).await.unwrap();
    connection
}

/// The form of a table, from the server's own description.
pub(crate) async fn form(connection: &mut Connection, base: &str, table: &str) -> TableForm {
    let sql = format!(
        "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_OCTET_LENGTH, GENERATION_EXPRESSION, IS_NULLABLE
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
        quote_text(base),
        quote_text(table)
    );
    let rows = connection.query(&sql).await.unwrap();
    let columns: Vec<ColumnSchema> = rows
        .into_iter()
        .map(|row| ColumnSchema {
            name: row.text(0).unwrap().into_owned(),
            data_type: row.text(1).unwrap().into_owned(),
            column_type: row.text(2).unwrap().into_owned(),
            nullable: row.text(5).unwrap() == "YES",
            charset: None,
            collation: None,
            octet_length: row.number(3),
            generated: row.bytes(4).filter(|text| !text.is_empty()).map(|_| Generated::Stored),
            invisible: false,
        })
        .collect();
    TableForm::new(&columns)
}

/// All rows of a table as text, in the order they came, and their fingerprint.
pub(crate) async fn dump(connection: &mut Connection, form: &TableForm, table: &str) -> (Vec<u8>, TableDigest) {
    let sql = format!("SELECT {} FROM {table}", form.select_list());
    let (mut text, mut digest, mut encoder) = (Vec::new(), TableDigest::default(), TextRows::new(form));
    let mut stream = connection.stream(&sql).await.unwrap();
    while let Some(batch) = stream.next().await.unwrap() {
        for row in batch.rows() {
            digest.add(encoder.encode(row, &mut text).unwrap());
        }
    }
    (text, digest)
}

pub(crate) fn source(text: &[u8]) -> impl futures_util::Stream<Item = Result<Bytes, MysqlError>> + Unpin {
    let pieces: Vec<_> = text
        .chunks(PIECE)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    futures_util::stream::iter(pieces)
}

fn sorted(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

/// Where two dumps differ first, for people.
fn difference(before: &[u8], after: &[u8]) -> Option<String> {
    let (before, after) = (sorted(before), sorted(after));
    if before.len() != after.len() {
        return Some(format!("{} rows, then {}", before.len(), after.len()));
    }
    let (before, after) = before.iter().zip(&after).find(|(before, after)| before != after)?;
    let at = before.iter().zip(*after).position(|(a, b)| a != b).unwrap_or_default();
    let shown = |line: &[u8]| {
        line[at.saturating_sub(40)..line.len().min(at + 60)]
            .escape_ascii()
            .to_string()
    };
    Some(format!("at {at}: {} became {}", shown(before), shown(after)))
}

/// Takes one table out, loads it into a copy of itself both ways, and says what is not the same.
async fn complaints(server: &MysqlServer, base: &str, table: &str, except: Except) -> Vec<String> {
    let mut found = Vec::new();
    let mut complain = |what: &str, detail: String| found.push(format!("{base}.{table}: {what}: {detail}"));
    let (mut read, mut load) = (reader(server).await, loader(server).await);
    let form = form(&mut read, base, table).await;
    let (here, there) = (quote_table(base, table), quote_table(BACK, table));
    let (text, digest) = dump(&mut read, &form, &here).await;
    let asked = form.fingerprint(&mut read, &here, None).await.unwrap();
    if asked != digest {
        complain(
            "fingerprint from the wire and from SQL",
            format!("{digest:?} {asked:?}"),
        );
    }
    let stored = serde_round_trip(&form);
    assert_eq!(stored, form);
    read.execute(&format!("DROP TABLE IF EXISTS {there}")).await.unwrap();
    read.execute(&format!("CREATE TABLE {there} LIKE {here}"))
        .await
        .unwrap();
    let chunk = Chunk {
        rows: digest.rows,
        mark: None,
        transaction: true,
    };
    for way in ["load", "insert"] {
        let loaded = if way == "load" {
            load.load_chunk(&form.load_sql(&there), chunk, &mut source(&text)).await
        } else {
            load.insert_chunk(&form, &there, chunk, &mut source(&text)).await
        };
        let warnings = match loaded {
            Ok(loaded) => loaded.first_warnings.join("; "),
            Err(error) => {
                complain(way, error.to_string());
                continue;
            }
        };
        let (again, now) = dump(&mut read, &form, &there).await;
        if let Some(difference) = difference(&text, &again) {
            complain(way, format!("{difference} ({warnings})"));
        } else if now != digest {
            complain(way, "same text, other fingerprint".to_owned());
        }
        if form.fingerprint(&mut load, &there, None).await.unwrap() != digest {
            complain(way, "another fingerprint".to_owned());
        }
        let sums = read.query(&format!("CHECKSUM TABLE {here}, {there}")).await.unwrap();
        let sums: Vec<_> = sums.rows.iter().map(|row| row.number(1)).collect();
        if except != Except::Checksum && sums[0] != sums[1] {
            complain(way, format!("CHECKSUM TABLE {sums:?}"));
        }
        load.execute(&format!("DELETE FROM {there}")).await.unwrap();
    }
    read.close().await;
    load.close().await;
    found
}

fn serde_round_trip(form: &TableForm) -> TableForm {
    serde_json::from_str(&serde_json::to_string(form).unwrap()).unwrap()
}

async fn check_tables(server: &MysqlServer, bases: &[&str]) {
    let mut found = Vec::new();
    let mut tables = 0;
    for base in bases {
        let names = server.sql(&format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {}
             AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')",
            quote_text(base)
        ));
        for row in names {
            let name = row[0].clone().unwrap();
            // Its index over a JSON array, and history that is not carried.
            let except = if name == "generated" || name == "versioned" {
                Except::Checksum
            } else {
                Except::Nothing
            };
            found.extend(complaints(server, base, &name, except).await);
            tables += 1;
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(tables >= 60, "{tables} tables");
}

fn start(flavour: Flavour) -> MysqlServer {
    let server = MysqlServer::start(
        MysqlOptions {
            flavour,
            ..MysqlOptions::default()
        }
        .arg("--max-allowed-packet=64M"),
    );
    server.sql(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", quote_name(BACK)));
    server
}

#[tokio::test]
async fn rows_of_every_type_leave_mysql_and_come_back_as_they_were() {
    let server = start(Flavour::Mysql);
    loading::stories(&server).await;
    ugly::load(&server);
    tables::create(&server);
    let mut bases = vec![tables::BASE];
    bases.extend(ugly::DATABASES);
    check_tables(&server, &bases).await;
}

#[tokio::test]
async fn rows_of_every_type_leave_mariadb_and_come_back_as_they_were() {
    let server = start(Flavour::Mariadb);
    loading::stories(&server).await;
    tables::create(&server);
    check_tables(&server, &[tables::BASE]).await;
}
