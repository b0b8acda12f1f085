//! A private server on a fresh data directory, and a log given to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ballast_base::Cancel;
use ballast_mysql::{
    Applier, ApplierState, Connection, Flavour, LogServer, MysqlError, ReplayOptions, ReplicaState, ServeOptions,
    Served, ServerBinary, ThrowawayOptions, ThrowawayServer, quote_table,
};
use ballast_testkit::servers::{MysqlOptions, MysqlServer};

use crate::log_files::{LogFile, Transaction};

pub(crate) const END: &str = "the replay is done";
pub(crate) const SERVER_ID: u32 = 3_000_000_001;
/// Looks, a tenth of a second apart, that find the applier where it was.
const UNCHANGED: u32 = 10;
const WAIT: Duration = Duration::from_secs(120);

/// What to do with one transaction of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Do {
    Send,
    Skip,
    Stop,
}

pub(crate) struct Private {
    /// Whose data directory it is.
    _made_by: MysqlServer,
    pub(crate) directory: PathBuf,
    pub(crate) server: ThrowawayServer,
    pub(crate) control: Connection,
    pub(crate) applier: Applier,
    flavour: Flavour,
}

impl Private {
    /// On a fresh data directory, as a source began with.
    pub(crate) async fn start(options: MysqlOptions, server_id: u32, workers: u32) -> Self {
        let made_by = MysqlServer::start(options);
        made_by.stop();
        let directory = made_by.datadir().to_owned();
        let cancel = Cancel::new();
        let binary = ServerBinary::probe(made_by.program(), &cancel).await.unwrap();
        let options = ThrowawayOptions {
            replay: Some(ReplayOptions {
                server_id,
                workers,
                buffer_pool_bytes: 128 << 20,
            }),
            ..ThrowawayOptions::new(directory.clone())
        };
        let server = ThrowawayServer::start(&binary, options, &cancel).await.unwrap();
        let mut control = Connection::open(server.address(), &cancel).await.unwrap();
        control.execute("FLUSH PRIVILEGES").await.unwrap();
        Self {
            applier: Applier::of(&binary.version).unwrap(),
            flavour: binary.version.flavour,
            _made_by: made_by,
            directory,
            server,
            control,
        }
    }

    pub(crate) async fn serve(&mut self, source_version: &str, position: &str) -> (LogServer, ReplicaState) {
        let options = ServeOptions {
            flavour: self.flavour,
            version: source_version.to_owned(),
            server_id: 77,
            server_uuid: "5a5a5a5a-2222-3333-4444-555555555555".to_owned(),
            heartbeat: Duration::from_millis(200),
        };
        let mut log = LogServer::start(options, &Cancel::new()).await.unwrap();
        self.applier.start(&mut self.control, &log, position).await.unwrap();
        let asked = tokio::time::timeout(Duration::from_secs(20), log.replica()).await;
        let Ok(Ok(state)) = asked else {
            let state = self.applier.state(&mut self.control).await.unwrap();
            panic!("{asked:?}\n{state:?}\n{}", self.server.log_tail());
        };
        (log, state)
    }

    /// Gives it the log, and waits until it has applied it; gives where it stands, and how many transactions were sent.
    pub(crate) async fn replay(
        &mut self,
        version: &str,
        files: &[LogFile],
        decide: impl Fn(&Transaction) -> Do,
    ) -> Result<(ApplierState, u64), MysqlError> {
        let (mut log, _) = self.serve(version, "").await;
        let sent = give(&mut log, files, decide).await?;
        log.end(END).await?;
        Ok((self.settled().await, sent))
    }

    /// Waits until nothing more is applied.
    pub(crate) async fn settled(&mut self) -> ApplierState {
        let give_up = tokio::time::Instant::now() + WAIT;
        // On a busy machine the applier has been told of more and does not run yet.
        let (mut last, mut unchanged) = ((String::new(), 0), 0);
        loop {
            let state = self.applier.state(&mut self.control).await.unwrap();
            if state.applied_error.is_some() {
                return state;
            }
            let stands = (self.executed().await, state.offset);
            let still = !state.receiving && last == stands && self.idle().await;
            unchanged = if still { unchanged + 1 } else { 0 };
            if unchanged == UNCHANGED {
                return state;
            }
            last = stands;
            assert!(
                tokio::time::Instant::now() < give_up,
                "{state:?}\n{}",
                self.server.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn idle(&mut self) -> bool {
        let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST
                   WHERE STATE LIKE '%has read all relay log%'";
        self.control.value(sql).await.unwrap().as_deref() != Some("0")
    }

    pub(crate) async fn executed(&mut self) -> String {
        let variable = match self.flavour {
            Flavour::MariaDb => "gtid_slave_pos",
            Flavour::Mysql | Flavour::Percona => "gtid_executed",
        };
        let sql = format!("SELECT @@GLOBAL.{variable}");
        self.control
            .value(&sql)
            .await
            .unwrap()
            .unwrap_or_default()
            .replace('\n', "")
    }

    pub(crate) async fn value(&mut self, sql: &str) -> String {
        self.control.value(sql).await.unwrap().unwrap_or_default()
    }

    /// The checksum of each of these tables.
    pub(crate) async fn sums(&mut self, tables: &[(String, String)]) -> BTreeMap<String, String> {
        let list: Vec<String> = tables.iter().map(|(base, name)| quote_table(base, name)).collect();
        let sql = format!("CHECKSUM TABLE {} EXTENDED", list.join(", "));
        let rows = self.control.query(&sql).await.unwrap();
        rows.into_iter()
            .map(|row| {
                (
                    row.text(0).unwrap().into_owned(),
                    row.text(1).unwrap_or_default().into_owned(),
                )
            })
            .collect()
    }

    /// Makes it forget the log, and ends it in order.
    pub(crate) async fn stop(mut self) {
        self.applier.forget(&mut self.control).await.unwrap();
        self.control.close().await;
        self.server.stop().await.unwrap();
    }
}

/// Sends the files, each transaction as it is decided.
pub(crate) async fn give(
    log: &mut LogServer,
    files: &[LogFile],
    decide: impl Fn(&Transaction) -> Do,
) -> Result<u64, MysqlError> {
    let mut sent = 0;
    'files: for file in files {
        log.send(Served::File {
            name: file.name.clone(),
        })
        .await?;
        log.send(Served::Events(file.bytes.slice(file.head.clone()))).await?;
        for transaction in &file.transactions {
            let bytes = file.bytes.slice(transaction.range.clone());
            match decide(transaction) {
                Do::Stop => break 'files,
                Do::Send => {
                    sent += 1;
                    log.send(Served::Events(bytes)).await?;
                }
                Do::Skip if transaction.kind == 162 => {}
                Do::Skip => {
                    sent += 1;
                    for part in [
                        crate::mysql::head_alone(&bytes),
                        ballast_mysql::empty_query(transaction.timestamp, transaction.server_id, "BEGIN"),
                        ballast_mysql::empty_query(transaction.timestamp, transaction.server_id, "COMMIT"),
                    ] {
                        log.send(Served::Events(part)).await?;
                    }
                }
            }
        }
        log.send(Served::Events(file.bytes.slice(file.tail.clone()))).await?;
    }
    Ok(sent)
}

/// Every base table of a server that is not the server's own.
pub(crate) fn tables(server: &MysqlServer) -> Vec<(String, String)> {
    let rows = server.sql(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'
         AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema') ORDER BY 1, 2",
    );
    rows.into_iter()
        .map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap()))
        .collect()
}

pub(crate) fn source_sums(server: &MysqlServer, tables: &[(String, String)]) -> BTreeMap<String, String> {
    let list: Vec<String> = tables.iter().map(|(base, name)| quote_table(base, name)).collect();
    server
        .sql(&format!("CHECKSUM TABLE {} EXTENDED", list.join(", ")))
        .into_iter()
        .map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap_or_default()))
        .collect()
}

/// The names of everything in a folder.
pub(crate) fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}
