//! MySQL.

use std::fmt::Write as _;

use ballast_mysql::{Served, event_checksum, event_states, put_events_back};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};
use bytes::{Bytes, BytesMut};

use crate::log_files::LogFile;
use crate::private::{Do, END, Private, SERVER_ID, give, names, source_sums, tables};

/// Everything that comes in a log: kinds of transactions, of DDL, of accounts, in several files.
fn source() -> MysqlServer {
    let source = MysqlServer::start(MysqlOptions::default().arg("--max-allowed-packet=256M"));
    let mut sql = String::from(
        "CREATE DATABASE s; USE s;
         CREATE TABLE t1 (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(100), b JSON, KEY (a));
         CREATE TABLE t2 (id INT PRIMARY KEY, big LONGBLOB);
         CREATE TABLE gone (id INT PRIMARY KEY);
         CREATE USER app@'%' IDENTIFIED BY 'tide pool'; GRANT SELECT, INSERT ON s.* TO app@'%';
         CREATE DEFINER = app@'%' EVENT nightly ON SCHEDULE EVERY 1 DAY DO UPDATE s.t1 SET a = 'event';
         CREATE EVENT resting ON SCHEDULE EVERY 1 DAY DISABLE DO UPDATE s.t1 SET a = 'event';
         CREATE TRIGGER t1_new BEFORE INSERT ON t1 FOR EACH ROW SET NEW.b = JSON_OBJECT('n', NEW.a);
         CREATE PROCEDURE p () INSERT INTO t1 (a) VALUES ('procedure');\n",
    );
    for round in 0..40 {
        writeln!(
            sql,
            "SET binlog_transaction_compression = {};
             START TRANSACTION; INSERT INTO t1 (a) VALUES ('r{round}'), (REPEAT('x', 90));
             SAVEPOINT one; UPDATE t1 SET a = CONCAT(a, '!') WHERE id % 7 = {round} % 7;
             ROLLBACK TO one; DELETE FROM t1 WHERE id % 31 = {round} % 31; COMMIT;
             CALL p();",
            round % 2
        )
        .unwrap();
    }
    sql.push_str(
        "SET binlog_transaction_compression = 0;
         INSERT INTO t2 VALUES (1, REPEAT(RANDOM_BYTES(1000), 20000)), (2, 'small');
         SET binlog_transaction_compression = 1;
         INSERT INTO t2 VALUES (3, REPEAT(RANDOM_BYTES(1000), 20000));
         SET binlog_transaction_compression = 0;
         FLUSH BINARY LOGS;
         SET gtid_next = 'AUTOMATIC:backup_tag'; INSERT INTO t1 (a) VALUES ('tagged'); INSERT INTO t1 (a) VALUES ('tagged too');
         SET gtid_next = 'AUTOMATIC';
         XA START 'x'; INSERT INTO t1 (a) VALUES ('two phases'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x';
         CREATE TABLE t3 AS SELECT id, a FROM t1; ALTER TABLE t3 ADD COLUMN more INT DEFAULT 4, ADD PRIMARY KEY (id);
         TRUNCATE TABLE gone; DROP TABLE gone; RENAME TABLE t3 TO t4;
         ALTER EVENT resting COMMENT 'still';
         FLUSH BINARY LOGS;
         INSERT INTO t1 (a) VALUES ('last');",
    );
    source.sql(&sql);
    source
}

/// The event a transaction begins with.
pub(crate) fn head_alone(transaction: &Bytes) -> Bytes {
    let size = usize::try_from(u32::from_le_bytes(transaction[9..13].try_into().unwrap())).unwrap();
    transaction.slice(..size)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_server_takes_in_a_whole_log_and_is_what_the_source_is() {
    let source = source();
    let files = LogFile::of(source.datadir());
    assert_eq!(files.len(), 3);
    let mut private = Private::start(MysqlOptions::default(), SERVER_ID, 4).await;
    let before = names(&private.directory);
    let (state, _) = private.replay(&source.version(), &files, |_| Do::Send).await.unwrap();
    assert_eq!(state.applied_error, None);
    assert!(
        state.received_error.as_deref().unwrap_or_default().contains(END),
        "{state:?}"
    );
    assert_eq!(private.executed().await, source.gtid_executed());
    let all = tables(&source);
    assert_eq!(private.sums(&all).await, source_sums(&source, &all));
    assert_eq!(
        private
            .value("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 's'")
            .await,
        "3"
    );
    // As it says it itself: what it was told stays with the account.
    let grants = private.value("SHOW GRANTS FOR app@'%'").await;
    assert!(grants.contains("USAGE"), "{grants}");

    // Both events were switched off, as on any replica, and get back what the source has.
    let states = event_states(&mut private.control).await.unwrap();
    assert!(
        states
            .values()
            .all(|state| state.contains("DISABLED") && state != "DISABLED"),
        "{states:?}"
    );
    let of = |name: &str| ("s".to_owned(), name.to_owned());
    let wanted = [(of("nightly"), true), (of("resting"), false)].into();
    put_events_back(&mut private.control, &wanted).await.unwrap();
    let events = "SELECT GROUP_CONCAT(EVENT_NAME, ' ', DEFINER, ' ', STATUS, ' ', SQL_MODE, ' ', TIME_ZONE, ' ', EVENT_COMMENT ORDER BY EVENT_NAME)
                  FROM information_schema.EVENTS";
    assert_eq!(private.value(events).await, source.value(events));

    let directory = private.directory.clone();
    private.applier.forget(&mut private.control).await.unwrap();
    for table in ["slave_master_info", "slave_relay_log_info", "slave_worker_info"] {
        assert_eq!(
            private.value(&format!("SELECT COUNT(*) FROM mysql.{table}")).await,
            "0",
            "{table}"
        );
    }
    private.control.close().await;
    private.server.stop().await.unwrap();
    let mut after = names(&directory);
    after.retain(|name| !before.contains(name));
    // Its schema, and nothing of the replay.
    assert_eq!(after.into_iter().collect::<Vec<_>>(), ["s"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_stops_at_a_transaction_before_it_or_at_a_microsecond() {
    let source = MysqlServer::start(MysqlOptions::default());
    source.sql("CREATE DATABASE s; CREATE TABLE s.t (id INT PRIMARY KEY)");
    for id in 3..=30 {
        source.sql(&format!("INSERT INTO s.t VALUES ({id})"));
        if id == 16 {
            source.sql("FLUSH BINARY LOGS");
        }
    }
    let uuid = source.value("SELECT @@server_uuid");
    let files = LogFile::of(source.datadir());
    let at = files[1]
        .transactions
        .iter()
        .find(|each| each.number == 20)
        .unwrap()
        .committed_at;
    let after = |number: u64| {
        move |each: &crate::log_files::Transaction| if each.number <= number { Do::Send } else { Do::Stop }
    };
    let until =
        |at: u64| move |each: &crate::log_files::Transaction| if each.committed_at <= at { Do::Send } else { Do::Stop };
    let mut private = Private::start(MysqlOptions::default(), SERVER_ID, 2).await;
    // One goes on where the one before it stopped: the replica says what it has.
    private.replay(&source.version(), &files, after(10)).await.unwrap();
    assert_eq!(private.executed().await, format!("{uuid}:1-10"));
    assert_eq!(private.value("SELECT MAX(id) FROM s.t").await, "10");
    for (until, expected) in [(until(at - 1), 19), (until(at), 20)] {
        private.applier.forget(&mut private.control).await.unwrap();
        let (mut log, asked) = private.serve(&source.version(), "").await;
        assert_eq!(asked.executed, private.executed().await);
        assert_eq!(asked.server_id, SERVER_ID);
        // The supplier takes its time: heartbeats, and nothing is lost.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        give(&mut log, &files, until).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        log.end(END).await.unwrap();
        let state = private.settled().await;
        assert!(state.received_error.unwrap().contains(END));
        assert_eq!(private.executed().await, format!("{uuid}:1-{expected}"));
        assert_eq!(private.value("SELECT MAX(id) FROM s.t").await, expected.to_string());
    }
    private.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_transaction_is_left_out_and_counts_as_executed() {
    let source = MysqlServer::start(MysqlOptions::default());
    source.sql("CREATE DATABASE s; CREATE TABLE s.t (id INT PRIMARY KEY); INSERT INTO s.t VALUES (3), (4); DROP TABLE s.t; CREATE TABLE s.u (id INT)");
    source.sql("INSERT INTO s.u VALUES (6)");
    let files = LogFile::of(source.datadir());
    let mut private = Private::start(MysqlOptions::default(), SERVER_ID, 2).await;
    let skip = |each: &crate::log_files::Transaction| if each.number == 4 { Do::Skip } else { Do::Send };
    let (state, _) = private.replay(&source.version(), &files, skip).await.unwrap();
    assert_eq!(state.applied_error, None);
    assert_eq!(private.executed().await, source.gtid_executed());
    assert_eq!(private.value("SELECT COUNT(*) FROM s.t").await, "2");
    assert_eq!(private.value("SELECT COUNT(*) FROM s.u").await, "1");
    private.stop().await;
}

/// Under the replica's own id nothing would be applied, and nobody would be told.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_the_replicas_own_server_id_is_refused_aloud() {
    let source = MysqlServer::start(MysqlOptions::default());
    source.sql("CREATE DATABASE s; CREATE TABLE s.t (id INT PRIMARY KEY)");
    let files = LogFile::of(source.datadir());
    let mut private = Private::start(MysqlOptions::default(), u32::from(source.port()), 2).await;
    let (mut log, _) = private.serve(&source.version(), "").await;
    let given = give(&mut log, &files, |_| Do::Send).await;
    let error = match given {
        Err(error) => error,
        Ok(_) => log.end(END).await.unwrap_err(),
    };
    assert!(error.to_string().contains("server id"), "{error}");
    let state = private.settled().await;
    assert!(state.received_error.unwrap().contains("drop them in silence"));
    assert_eq!(private.executed().await, "");
    private.stop().await;
}

/// What the applier cannot do is told with its transaction, and what it had applied stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_applied_is_named() {
    let source = MysqlServer::start(MysqlOptions::default());
    source.sql("CREATE DATABASE s; CREATE TABLE s.t (id INT PRIMARY KEY); INSERT INTO s.t VALUES (1)");
    let uuid = source.value("SELECT @@server_uuid");
    let files = LogFile::of(source.datadir());
    let mut private = Private::start(MysqlOptions::default(), SERVER_ID, 2).await;
    private.control.execute("CREATE DATABASE s").await.unwrap();
    let (state, _) = private.replay(&source.version(), &files, |_| Do::Send).await.unwrap();
    let error = state.applied_error.unwrap();
    assert!(
        error.contains(&format!("{uuid}:1")) && error.contains("database exists"),
        "{error}"
    );
    private.stop().await;
}

/// The other side may be anybody on this machine.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_the_account_is_not_let_in() {
    use ballast_base::{Cancel, Secret};
    use ballast_mysql::{Connection, MysqlError, ServerAddress};
    let mut private = Private::start(MysqlOptions::default(), SERVER_ID, 1).await;
    let options = ballast_mysql::ServeOptions {
        flavour: ballast_mysql::Flavour::Mysql,
        version: "9.7.4".to_owned(),
        server_id: 77,
        server_uuid: "5a5a5a5a-2222-3333-4444-555555555555".to_owned(),
        heartbeat: std::time::Duration::from_secs(1),
    };
    let cancel = Cancel::new();
    let mut log = ballast_mysql::LogServer::start(options, &cancel).await.unwrap();
    for user in ["nobody", log.user()] {
        let address: ServerAddress = format!("mysql://{user}@127.0.0.1:{}?tls=off", log.port())
            .parse()
            .unwrap();
        let error = Connection::open(&address.with_password(Secret::new("tide".to_owned())), &cancel)
            .await
            .unwrap_err();
        assert!(matches!(error, MysqlError::Login { code: 1045, .. }), "{error:?}");
    }
    // The one that may is still served, and cancelling ends it at once.
    private.applier.start(&mut private.control, &log, "").await.unwrap();
    log.replica().await.unwrap();
    cancel.cancel();
    let error = loop {
        match log.send(Served::Events(Bytes::new())).await {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, MysqlError::Cancelled(_)), "{error:?}");
    private.stop().await;
}

#[test]
fn sums_are_those_of_the_servers() {
    let source = MysqlServer::start(MysqlOptions::default());
    let files = LogFile::of(source.datadir());
    let mut event = BytesMut::from(
        &files[0].bytes[..usize::try_from(u32::from_le_bytes(files[0].bytes[9..13].try_into().unwrap())).unwrap()],
    );
    let sum = event.split_off(event.len() - 4);
    // The file is open: the sum is taken without that mark.
    event[17] &= !1;
    assert_eq!(event_checksum(&event).to_le_bytes(), sum[..]);
}
