//! MariaDB.

use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use crate::log_files::{LogFile, Transaction};
use crate::private::{Do, END, Private, SERVER_ID, give, names, source_sums, tables};

fn source() -> MysqlServer {
    let source = MysqlServer::start(MysqlOptions::mariadb().arg("--binlog-annotate-row-events=ON"));
    source.sql(
        "CREATE DATABASE s; USE s;
         CREATE TABLE t1 (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(100), KEY (a));
         CREATE TABLE t2 (id INT PRIMARY KEY, big LONGBLOB);
         CREATE USER app@'%' IDENTIFIED BY 'tide pool'; GRANT SELECT ON s.* TO app@'%';
         INSERT INTO t2 VALUES (1, REPEAT('0123456789', 300000));
         START TRANSACTION; INSERT INTO t1 (a) VALUES ('x'); SAVEPOINT one; INSERT INTO t1 (a) VALUES ('y'); ROLLBACK TO one; COMMIT;
         FLUSH BINARY LOGS;
         SET gtid_domain_id = 5; INSERT INTO t1 (a) VALUES ('other domain'); SET gtid_domain_id = 0;
         CREATE TABLE t3 ENGINE = InnoDB SELECT id, a FROM t1; ALTER TABLE t3 ADD COLUMN more INT DEFAULT 4;
         FLUSH BINARY LOGS; DELETE FROM t1 WHERE a = 'x'; INSERT INTO t1 (a) VALUES ('last');",
    );
    source
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_mariadb_takes_in_a_whole_log_and_every_transaction_is_counted() {
    let source = source();
    let files = LogFile::of(source.datadir());
    let transactions: u64 = files.iter().map(|file| file.transactions.len() as u64).sum();
    for workers in [4] {
        let mut private = Private::start(MysqlOptions::mariadb(), SERVER_ID, workers).await;
        let before = names(&private.directory);
        let (state, sent) = private.replay(&source.version(), &files, |_| Do::Send).await.unwrap();
        assert_eq!(state.applied_error, None);
        assert!(
            state.received_error.as_deref().unwrap_or_default().contains(END),
            "{state:?}"
        );
        assert_eq!((sent, state.groups), (transactions, Some(transactions)));
        assert_eq!(
            private.executed().await,
            source.value("SELECT @@GLOBAL.gtid_binlog_pos")
        );
        let all = tables(&source);
        assert_eq!(private.sums(&all).await, source_sums(&source, &all));
        private.applier.forget(&mut private.control).await.unwrap();
        private.control.close().await;
        private.server.stop().await.unwrap();
        let mut after = names(&private.directory);
        after.retain(|name| !before.contains(name));
        assert_eq!(after.into_iter().collect::<Vec<_>>(), ["s"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_a_mariadb_stops_and_goes_on_by_its_position() {
    let source = source();
    let files = LogFile::of(source.datadir());
    let mut private = Private::start(MysqlOptions::mariadb(), SERVER_ID, 2).await;
    let until = |number: u64| move |each: &Transaction| if each.number <= number { Do::Send } else { Do::Stop };
    let (_, sent) = private.replay(&source.version(), &files[..1], until(5)).await.unwrap();
    assert_eq!(sent, 5);
    let position = private.executed().await;
    assert!(position.ends_with("-5"), "{position}");
    let skip = |each: &Transaction| {
        if each.number <= 5 && each.range.start < 2000 {
            Do::Skip
        } else {
            Do::Send
        }
    };
    private.applier.forget(&mut private.control).await.unwrap();
    let (mut log, asked) = private.serve(&source.version(), &position).await;
    assert_eq!(asked.executed, position);
    // What it has already is left out by whoever gives the log; here that is the first file's first five.
    let rest = [&files[0]];
    assert_eq!(rest.len(), 1);
    let sent =
        give(&mut log, &files[..1], skip).await.unwrap() + give(&mut log, &files[1..], |_| Do::Send).await.unwrap();
    log.end(END).await.unwrap();
    let state = private.settled().await;
    // It counts on from the first replay.
    assert_eq!((state.applied_error, state.groups), (None, Some(5 + sent)));
    let all = tables(&source);
    assert_eq!(private.sums(&all).await, source_sums(&source, &all));
    private.stop().await;
}

/// A MariaDB moves its position on over what it drops: the position proves nothing, so it must not come to that.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_the_replicas_own_server_id_is_refused_aloud() {
    let source = source();
    let files = LogFile::of(source.datadir());
    let mut private = Private::start(MysqlOptions::mariadb(), u32::from(source.port()), 2).await;
    let (mut log, _) = private.serve(&source.version(), "").await;
    let error = match give(&mut log, &files, |_| Do::Send).await {
        Err(error) => error,
        Ok(_) => log.end(END).await.unwrap_err(),
    };
    assert!(error.to_string().contains("server id"), "{error}");
    let state = private.settled().await;
    assert!(state.received_error.unwrap().contains("drop them in silence"));
    assert_eq!(private.executed().await, "");
    private.stop().await;
}
