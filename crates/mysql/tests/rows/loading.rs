//! Loading where something goes wrong, and where several load at once.

use std::error::Error as _;
use std::time::Duration;

use ballast_base::Cancel;
use ballast_mysql::{Chunk, Connection, LOAD_SESSION, MysqlError, TableForm};
use ballast_testkit::servers::{Flavour, MysqlServer};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::{address, dump, form, loader, reader, source};

const TABLE: &str = "back.loading";

pub(crate) async fn stories(server: &MysqlServer) {
    server.sql(&format!(
        "CREATE TABLE {TABLE} (id INT PRIMARY KEY, a VARCHAR(20), b ENUM('x', 'y'));
         CREATE TABLE back.marks (id INT PRIMARY KEY)"
    ));
    let mut read = reader(server).await;
    let form = form(&mut read, "back", "loading").await;
    read.close().await;
    rows_that_are_there_already_fail_the_chunk(server, &form).await;
    a_source_that_fails_leaves_nothing(server, &form).await;
    a_server_that_refuses_is_answered_with_what_to_type(server, &form).await;
    a_call_that_was_cut_short_spoils_the_connection(server, &form).await;
    several_load_at_once(server, &form).await;
    inserts_keep_to_the_largest_packet(server, &form).await;
    a_value_that_the_server_cuts_off_is_an_error(server).await;
    settings_of_the_server_shorten_no_answer(server).await;
    server.sql(&format!("DROP TABLE {TABLE}, back.marks, back.long_values"));
}

fn count(server: &MysqlServer) -> String {
    server.value(&format!("SELECT COUNT(*) FROM {TABLE}"))
}

fn rows_of(rows: u64) -> Chunk<'static> {
    Chunk {
        rows,
        mark: None,
        transaction: true,
    }
}

async fn rows_that_are_there_already_fail_the_chunk(server: &MysqlServer, form: &TableForm) {
    let mut load = loader(server).await;
    let sql = form.load_sql(TABLE);
    let mark = Chunk {
        rows: 2,
        mark: Some("INSERT INTO back.marks VALUES (1)"),
        transaction: true,
    };
    let loaded = load
        .load_chunk(&sql, mark, &mut source(b"1\tone\t1\n2\ttwo\t0\n"))
        .await
        .unwrap();
    assert_eq!(loaded.rows, 2);
    assert_eq!(server.value("SELECT COUNT(*) FROM back.marks"), "1");
    let mark = Chunk {
        rows: 2,
        mark: Some("INSERT INTO back.marks VALUES (2)"),
        transaction: true,
    };
    let error = load
        .load_chunk(&sql, mark, &mut source(b"3\tthree\t1\n2\tagain\t2\n"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            MysqlError::Rows {
                expected: 2,
                loaded: 1,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("Duplicate entry '2'"), "{error}");
    assert!(error.hint().unwrap().contains("empty target"));
    let error = load
        .insert_chunk(form, TABLE, mark, &mut source(b"3\tthree\t1\n2\tagain\t2\n"))
        .await
        .unwrap_err();
    assert_eq!(error.server_code(), Some(1062), "{error}");
    // A mark that cannot be made undoes the rows.
    let mark = Chunk {
        rows: 1,
        mark: Some("INSERT INTO back.marks VALUES (1)"),
        transaction: true,
    };
    let error = load
        .load_chunk(&sql, mark, &mut source(b"4\tfour\t1\n"))
        .await
        .unwrap_err();
    assert_eq!(error.server_code(), Some(1062), "{error}");
    // So does one that is not where it was left.
    for inserts in [false, true] {
        let mark = Chunk {
            mark: Some("UPDATE back.marks SET id = 9 WHERE id = 8"),
            ..rows_of(1)
        };
        let mut rows = source(b"5\tfive\t1\n");
        let error = if inserts {
            load.insert_chunk(form, TABLE, mark, &mut rows).await.unwrap_err()
        } else {
            load.load_chunk(&sql, mark, &mut rows).await.unwrap_err()
        };
        assert!(matches!(error, MysqlError::Disturbed { .. }), "{error:?}");
    }
    // No rows are rows too, and the connection still works.
    load.load_chunk(&sql, rows_of(0), &mut source(b"")).await.unwrap();
    assert_eq!(
        (
            count(server).as_str(),
            server.value("SELECT COUNT(*) FROM back.marks").as_str()
        ),
        ("2", "1")
    );
    load.execute(&format!("DELETE FROM {TABLE}")).await.unwrap();
    load.close().await;
}

async fn a_source_that_fails_leaves_nothing(server: &MysqlServer, form: &TableForm) {
    let sql = form.load_sql(TABLE);
    let rows: String = (0..100_000).map(|id| format!("{id}\trow\t1\n")).collect();
    let failing = || {
        let broken = stream::iter([Err(MysqlError::Unsupported {
            what: "the disk of the repository is gone".to_owned(),
            hint: String::new(),
        })]);
        source(rows.as_bytes()).chain(broken)
    };
    for alone in [false, true] {
        let mut load = loader(server).await;
        let error = if alone {
            load.load_data(&sql, &mut failing()).await.unwrap_err()
        } else {
            load.load_chunk(&sql, rows_of(100_000), &mut failing())
                .await
                .unwrap_err()
        };
        assert!(
            error.source().unwrap().to_string().contains("disk of the repository"),
            "{error:?}"
        );
        // There is no other way to stop a LOAD than to end the connection.
        assert!(matches!(load.query("SELECT 1").await, Err(MysqlError::Gone { .. })));
        drop(load);
        gone_to_rest(server).await;
        assert_eq!(count(server), "0", "alone: {alone}");
    }
    let mut load = loader(server).await;
    let error = load
        .load_chunk(&sql, rows_of(2), &mut source(b"1\tone\t1\n2\ttw"))
        .await
        .unwrap_err();
    assert!(
        error.source().unwrap().to_string().contains("middle of a row"),
        "{error:?}"
    );
    let mut load = loader(server).await;
    let error = load
        .insert_chunk(form, TABLE, rows_of(100_000), &mut failing())
        .await
        .unwrap_err();
    assert!(matches!(error, MysqlError::Source { .. }), "{error:?}");
    for (text, words) in [
        (&b"1\tone\t1\n2\ttw"[..], "read the rows"),
        (b"1\tone\n", "as many values"),
    ] {
        let error = load
            .insert_chunk(form, TABLE, rows_of(2), &mut source(text))
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    gone_to_rest(server).await;
    assert_eq!(count(server), "0");
    load.close().await;
}

/// Waits until no connection loads any more: what was cut is undone then, or was not.
async fn gone_to_rest(server: &MysqlServer) {
    for _ in 0..100 {
        // A list of transactions is kept by the server and shown again to who asks anew within 100 ms.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if server.value("SELECT COUNT(*) FROM information_schema.INNODB_TRX") == "0"
            && server.value("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'LOAD DATA%'") == "0"
        {
            return;
        }
    }
    panic!("a cut LOAD does not end");
}

async fn a_server_that_refuses_is_answered_with_what_to_type(server: &MysqlServer, form: &TableForm) {
    let sql = form.load_sql(TABLE);
    let mut before = loader(server).await;
    server.sql("SET GLOBAL local_infile = OFF");
    let mut after = loader(server).await;
    let error = before
        .load_chunk(&sql, rows_of(1), &mut source(b"1\tone\t1\n"))
        .await
        .unwrap_err();
    assert!(
        error.forbids_load() && error.hint().unwrap().contains("local_infile"),
        "{error:?}"
    );
    let error = after
        .load_chunk(&sql, rows_of(1), &mut source(b"1\tone\t1\n"))
        .await
        .unwrap_err();
    assert!(
        error.forbids_load() && error.hint().unwrap().contains("local_infile"),
        "{error:?}"
    );
    let loaded = after
        .insert_chunk(form, TABLE, rows_of(1), &mut source(b"1\tone\t1\n"))
        .await
        .unwrap();
    assert_eq!(loaded.rows, 1);
    server.sql(&format!("SET GLOBAL local_infile = ON; DELETE FROM {TABLE}"));

    // Opened for anything else, a connection sends nothing whoever asks.
    let mut plain = reader(server).await;
    assert!(!plain.may_load());
    assert!(
        plain
            .load_data(&sql, &mut source(b"1\tone\t1\n"))
            .await
            .unwrap_err()
            .forbids_load()
    );
    assert!(plain.execute(&sql).await.is_err());
    assert_eq!(count(server), "0");

    server.sql("SET max_heap_table_size = 16384; CREATE TABLE back.small (id INT PRIMARY KEY, a VARCHAR(20), b ENUM('x')) ENGINE = MEMORY");
    let rows: String = (0..10_000).map(|id| format!("{id}\trow\t1\n")).collect();
    let sql = form.load_sql("back.small");
    let error = before
        .load_chunk(&sql, rows_of(10_000), &mut source(rows.as_bytes()))
        .await
        .unwrap_err();
    assert_eq!(error.server_code(), Some(1114), "{error}");
    assert!(error.hint().unwrap().contains("disk"), "{error}");
    before.execute("DROP TABLE back.small").await.unwrap();
    let error = before
        .load_chunk(&sql, rows_of(1), &mut source(b"1\tone\t1\n"))
        .await
        .unwrap_err();
    assert_eq!(error.server_code(), Some(1146), "{error}");
    for connection in [before, after, plain] {
        connection.close().await;
    }
}

async fn a_call_that_was_cut_short_spoils_the_connection(server: &MysqlServer, form: &TableForm) {
    let numbers =
        "SELECT a.ID, b.ID, REPEAT('x', 100) FROM information_schema.COLLATIONS a, information_schema.COLLATIONS b";
    let mut read = reader(server).await;
    let mut rows = read.stream(numbers).await.unwrap();
    assert!(!rows.next().await.unwrap().unwrap().is_empty());
    drop(rows);
    assert!(matches!(read.query("SELECT 1").await, Err(MysqlError::Gone { .. })));

    // The server would wait for it to be read, within a transaction.
    drop(read);

    // Read to its end it can be used again, also where the end is an error.
    let mut read = reader(server).await;
    let mut rows = read.stream(numbers).await.unwrap();
    let mut seen = 0;
    while let Some(batch) = rows.next().await.unwrap() {
        seen += batch.rows().count();
    }
    assert!(rows.next().await.unwrap().is_none());
    assert!(seen > 10_000, "{seen}");
    drop(rows);
    // The error comes after the first 800 rows.
    let failing = "WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 900)
        SELECT n, REPEAT('x', 1000), (SELECT 1 UNION ALL SELECT 2 FROM s AS t WHERE t.n = 1 AND s.n > 800) FROM s";
    let mut rows = read.stream(failing).await.unwrap();
    let mut seen = 0;
    let error = loop {
        match rows.next().await {
            Ok(batch) => seen += batch.unwrap().rows().count(),
            Err(error) => break error,
        }
    };
    assert_eq!((seen, error.server_code()), (800, Some(1242)), "{error}");
    drop(rows);
    assert_eq!(read.value("SELECT 7").await.unwrap().as_deref(), Some("7"));
    assert!(read.stream("DO 1").await.is_err());
    read.close().await;

    let cancel = Cancel::new();
    let mut load = Connection::open_for_load(&address(server), &cancel).await.unwrap();
    load.execute(LOAD_SESSION).await.unwrap();
    let sql = form.load_sql(TABLE);
    let mut endless = source(b"1\tone\t1\n").chain(stream::pending::<Result<Bytes, MysqlError>>());
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
    };
    let (error, ()) = tokio::join!(load.load_chunk(&sql, rows_of(1), &mut endless), stop);
    assert!(matches!(error, Err(MysqlError::Cancelled(_))), "{error:?}");
    drop(load);
    gone_to_rest(server).await;
    assert_eq!(count(server), "0");
}

async fn several_load_at_once(server: &MysqlServer, form: &TableForm) {
    const EACH: u64 = 20_000;
    let part = async |part: u64| {
        let mut load = loader(server).await;
        let text: String = (part * EACH..(part + 1) * EACH)
            .map(|id| format!("{id}\trow {id}\t{}\n", id % 3))
            .collect();
        let loaded = load
            .load_chunk(&form.load_sql(TABLE), rows_of(EACH), &mut source(text.as_bytes()))
            .await
            .unwrap();
        load.close().await;
        loaded.rows
    };
    let (a, b, c, d) = tokio::join!(part(0), part(1), part(2), part(3));
    assert_eq!(a + b + c + d, 4 * EACH);
    // What each range of the key gives makes the whole.
    let mut read = reader(server).await;
    let (_, whole) = dump(&mut read, form, TABLE).await;
    let mut merged = ballast_mysql::TableDigest::default();
    for condition in ["id < 30000", "id >= 30000"] {
        merged.merge(&form.fingerprint(&mut read, TABLE, Some(condition)).await.unwrap());
    }
    assert_eq!((merged, merged.rows), (whole, 4 * EACH));
    read.execute(&format!("UPDATE {TABLE} SET a = 'changed' WHERE id = 77"))
        .await
        .unwrap();
    assert_ne!(form.fingerprint(&mut read, TABLE, None).await.unwrap(), whole);
    read.execute(&format!("DELETE FROM {TABLE}")).await.unwrap();
    read.close().await;
}

/// A server sends a document that is longer than its `max_allowed_packet` as an empty text, with a warning. Other long values
/// come whole, and are fingerprinted as they are.
async fn a_value_that_the_server_cuts_off_is_an_error(server: &MysqlServer) {
    server.sql(
        "CREATE TABLE back.long_values (id INT PRIMARY KEY, j JSON, t LONGTEXT, b LONGBLOB);
         INSERT INTO back.long_values VALUES (1, CONCAT('[\"', REPEAT('a', 30000), '\"]'), REPEAT('t', 30000), REPEAT('b', 30000));
         SET GLOBAL max_allowed_packet = 16384",
    );
    let mut read = reader(server).await;
    let table = "back.long_values";
    let form = form(&mut read, "back", "long_values").await;
    let sql = format!("SELECT {} FROM {table}", form.select_list());
    let mut rows = read.stream(&sql).await.unwrap();
    while rows.next().await.unwrap().is_some() {}
    drop(rows);
    let sent = read.refuse_cut_values().await;
    let fingerprinted = form.fingerprint(&mut read, table, None).await;
    server.sql("SET GLOBAL max_allowed_packet = 67108864");
    let mut roomy = reader(server).await;
    let whole = form.fingerprint(&mut roomy, table, None).await.unwrap();
    if server.flavour() == Flavour::Mysql {
        for error in [sent.unwrap_err(), fingerprinted.unwrap_err()] {
            assert!(error.hint().unwrap().contains("max_allowed_packet"), "{error}");
        }
    } else {
        sent.unwrap();
        assert_eq!(fingerprinted.unwrap(), whole);
    }
}

/// What an administrator set for every session does not make an answer shorter, or end it.
async fn settings_of_the_server_shorten_no_answer(server: &MysqlServer) {
    let mysql = server.flavour() == Flavour::Mysql;
    let time = if mysql {
        "max_execution_time = 1"
    } else {
        "max_statement_time = 0.001"
    };
    server.sql(&format!(
        "SET GLOBAL sql_select_limit = 1, GLOBAL max_join_size = 1, GLOBAL autocommit = 0, GLOBAL sql_safe_updates = 1, GLOBAL {time}"
    ));
    let mut read = reader(server).await;
    let plenty = "SELECT a.COLUMN_NAME FROM information_schema.COLUMNS a, (SELECT 1 UNION SELECT 2) b";
    let answer = read.query(plenty).await;
    let written = read.execute("UPDATE back.marks SET id = 1 WHERE id + 0 = 2").await;
    let settings = "max_join_size = DEFAULT, GLOBAL autocommit = 1, GLOBAL sql_safe_updates = 0, GLOBAL";
    let time = if mysql {
        "max_execution_time"
    } else {
        "max_statement_time"
    };
    server.sql(&format!(
        "SET GLOBAL sql_select_limit = DEFAULT, GLOBAL {settings} {time} = 0"
    ));
    assert!(answer.unwrap().rows.len() > 1000);
    written.unwrap();
    read.close().await;
}

async fn inserts_keep_to_the_largest_packet(server: &MysqlServer, form: &TableForm) {
    server.sql("SET GLOBAL max_allowed_packet = 16384");
    let mut load = loader(server).await;
    let rows: String = (0..5_000).map(|id| format!("{id}\tit's \\\\ {id}\t1\n")).collect();
    let loaded = load
        .insert_chunk(form, TABLE, rows_of(5_000), &mut source(rows.as_bytes()))
        .await
        .unwrap();
    assert_eq!((loaded.rows, count(server).as_str()), (5_000, "5000"));
    let huge = format!("9999\t{}\t1\n", "x".repeat(20_000));
    let error = load
        .insert_chunk(form, TABLE, rows_of(1), &mut source(huge.as_bytes()))
        .await
        .unwrap_err();
    assert!(error.hint().unwrap().contains("max_allowed_packet"), "{error}");
    server.sql(&format!(
        "SET GLOBAL max_allowed_packet = 67108864; DELETE FROM {TABLE}"
    ));
    load.close().await;
}
