//! A bank whose money moves between two tables: every transaction leaves the sum as it is, and one row in a log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ballast_base::{Cancel, Secret, Task};
use ballast_mysql::{Connection, ConsistentRead, Facts, LogPosition, MysqlError, ReadOptions, ServerAddress};
use ballast_testkit::servers::MysqlServer;

pub(crate) const ACCOUNTS: u64 = 50;
const SUM: u64 = ACCOUNTS * 1000 * 2;

/// Numbers of transactions that do not belong to the bank.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    numbered: u64,
    logged: u64,
}

pub(crate) fn create(server: &MysqlServer) {
    server.sql(
        "CREATE DATABASE bank;
        CREATE TABLE bank.left_side (id INT PRIMARY KEY, amount BIGINT NOT NULL) ENGINE = InnoDB;
        CREATE TABLE bank.right_side (id INT PRIMARY KEY, amount BIGINT NOT NULL) ENGINE = InnoDB;
        CREATE TABLE bank.log (id BIGINT AUTO_INCREMENT PRIMARY KEY) ENGINE = InnoDB;",
    );
    let rows: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, 1000)")).collect();
    let rows = rows.join(",");
    server.sql(&format!(
        "INSERT INTO bank.left_side VALUES {rows}; INSERT INTO bank.right_side VALUES {rows};"
    ));
}

pub(crate) fn before(server: &MysqlServer, is_mariadb: bool) -> Before {
    let numbered = if is_mariadb {
        number(&server.value("SELECT @@GLOBAL.gtid_binlog_pos"))
    } else {
        server
            .gtid_executed()
            .parse::<ballast_mysql::GtidSet>()
            .unwrap()
            .count()
    };
    let rows: u64 = server.value("SELECT COUNT(*) FROM bank.log").parse().unwrap();
    Before {
        numbered: numbered - rows,
        logged: commits_in_log(server, None) - rows,
    }
}

/// The transaction's number of a MariaDB position of one domain, such as 17 of `0-1-17`.
fn number(position: &str) -> u64 {
    position.rsplit('-').next().unwrap().parse().unwrap()
}

/// Commits of InnoDB in the newest file of the binary log, up to an offset.
fn commits_in_log(server: &MysqlServer, until: Option<(&str, u64)>) -> u64 {
    let newest = server.sql("SHOW BINARY LOGS").pop().unwrap()[0].clone().unwrap();
    let (file, offset) = until.unwrap_or((&newest, u64::MAX));
    assert_eq!(file, newest, "the test's server writes one file");
    let events = server.sql(&format!("SHOW BINLOG EVENTS IN '{file}'"));
    let ends = events
        .iter()
        .map(|event| event[4].as_deref().unwrap().parse::<u64>().unwrap());
    assert!(
        offset == u64::MAX || ends.clone().any(|end| end == offset),
        "{offset} is the end of no event"
    );
    let commits = events
        .iter()
        .filter(|event| event[2].as_deref() == Some("Xid"))
        .filter(|event| event[4].as_deref().unwrap().parse::<u64>().unwrap() <= offset);
    commits.count() as u64
}

pub(crate) fn address(server: &MysqlServer, user: &str) -> ServerAddress {
    let address: ServerAddress = format!("{}?tls=off", server.url(user)).parse().unwrap();
    address.with_password(Secret::new("tide".to_owned()))
}

pub(crate) async fn open(server: &MysqlServer, user: &str) -> Connection {
    Connection::open(&address(server, user), &Cancel::new()).await.unwrap()
}

pub(crate) async fn facts(server: &MysqlServer, user: &str) -> Facts {
    Facts::read(&mut open(server, user).await).await.unwrap()
}

pub(crate) async fn begin(
    server: &MysqlServer,
    user: &str,
    options: ReadOptions,
) -> Result<ConsistentRead, MysqlError> {
    let facts = facts(server, user).await;
    ConsistentRead::begin(&address(server, user), &facts, options, &Cancel::new()).await
}

/// Moves money until it is dropped.
#[derive(Debug)]
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<Task<u64>>,
}

impl Writers {
    pub(crate) async fn start(server: &MysqlServer, count: u64, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for writer in 0..count {
            let connection = open(server, "writer").await;
            tasks.push(ballast_base::spawn(
                "writer",
                write(connection, writer, Arc::clone(&stop), pause),
            ));
        }
        Self { stop, tasks }
    }

    /// How many transactions they made.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut made = 0;
        for task in self.tasks {
            made += task.join().await.unwrap();
        }
        made
    }
}

async fn write(mut connection: Connection, writer: u64, stop: Arc<AtomicBool>, pause: Duration) -> u64 {
    let mut made = 0;
    while !stop.load(Ordering::Relaxed) {
        // In the same order everywhere, so there are no deadlocks.
        let (from, to) = ((made * 7 + writer) % ACCOUNTS, (made * 3 + writer) % ACCOUNTS);
        let amount = made % 9 + 1;
        for sql in [
            "START TRANSACTION".to_owned(),
            format!("UPDATE bank.left_side SET amount = amount - {amount} WHERE id = {from}"),
            format!("UPDATE bank.right_side SET amount = amount + {amount} WHERE id = {to}"),
            "INSERT INTO bank.log VALUES ()".to_owned(),
            "COMMIT".to_owned(),
        ] {
            connection.execute(&sql).await.unwrap();
        }
        made += 1;
        tokio::time::sleep(pause).await;
    }
    made
}

/// Every connection sees the same moment, twice, and the position is that moment's. Returns how many transactions there were.
pub(crate) async fn check(
    read: &mut ConsistentRead,
    server: &MysqlServer,
    before: Before,
    position: &LogPosition,
) -> u64 {
    let mut seen = Vec::new();
    for round in 0..2 {
        for connection in &mut read.connections {
            let sql = "SELECT (SELECT SUM(amount) FROM bank.left_side) + (SELECT SUM(amount) FROM bank.right_side),
                (SELECT COUNT(*) FROM bank.log), (SELECT COALESCE(MAX(id), 0) FROM bank.log)";
            let rows = connection.query(sql).await.unwrap();
            let row = &rows.rows[0];
            assert_eq!(row.number(0), Some(SUM), "money was made or lost");
            seen.push((row.number(1).unwrap(), row.number(2).unwrap()));
        }
        if round == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "connections saw different moments: {seen:?}");
    let made = seen[0].0;
    let numbered = match (&position.gtid_set, &position.gtid_position) {
        (Some(set), None) => set.count(),
        (None, Some(text)) => number(text),
        other => panic!("{other:?}"),
    };
    assert_eq!(numbered - before.numbered, made, "GTIDs and rows");
    if let (Some(file), Some(offset)) = (&position.file, position.offset) {
        assert_eq!(
            commits_in_log(server, Some((file, offset))) - before.logged,
            made,
            "commits before the offset and rows"
        );
    }
    made
}
