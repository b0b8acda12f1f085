//! The replica side of a private server: its own applier, told where the served log is, watched, and made to forget it.
//!
//! A data directory may hold the replication of the server it came from. On MySQL a channel of our own is used, so that stays as it
//! is. A MariaDB keeps its default connection's notes in files, which a private server has in its own folder.

use std::collections::BTreeMap;

use ballast_base::Secret;

use crate::{Connection, Flavour, LogServer, MysqlError, Rows, ServerVersion, quote_name, quote_table, quote_text};

/// Ours, so that a channel of the donor's is not touched.
const CHANNEL: &str = "ballast_replay";
/// Since then the statements have the names used here.
const MYSQL_SINCE: (u16, u16, u16) = (8, 0, 23);
/// Silence of the source for this long is a fault. It sends heartbeats.
const HEARTBEAT_SECONDS: u32 = 10;
/// Scheduled events are switched off altogether.
const EVENTS_OFF: u16 = 1577;

/// How the applier of a server is spoken to.
#[derive(Debug, Clone, Copy)]
pub struct Applier {
    mariadb: bool,
}

/// Where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApplierState {
    /// It still receives.
    pub receiving: bool,
    pub applying: bool,
    /// File and offset in it behind the last transaction of those without a gap.
    pub file: String,
    pub offset: u64,
    /// What the receiving side says, such as the text the log ended with.
    pub received_error: Option<String>,
    /// What the applier could not do, with the transaction where that is known.
    pub applied_error: Option<String>,
    /// Transactions (event groups) it has applied since it started, where it counts them (MariaDB).
    pub groups: Option<u64>,
}

impl Applier {
    pub fn of(version: &ServerVersion) -> Result<Self, MysqlError> {
        let mariadb = version.flavour == Flavour::MariaDb;
        if !mariadb && version.numeric() < MYSQL_SINCE {
            return Err(MysqlError::Unsupported {
                what: format!(
                    "a log is replayed by MySQL 8.0.23 or later, and this is {}",
                    version.text
                ),
                hint: "replay it with a newer server program of the same series (restore.mysqld)".to_owned(),
            });
        }
        Ok(Self { mariadb })
    }

    /// Lets it begin. For a MariaDB `position` is where it stands, which it does not know by itself.
    pub async fn start(&self, connection: &mut Connection, log: &LogServer, position: &str) -> Result<(), MysqlError> {
        let (port, user, password) = (log.port(), quote_text(log.user()), secret_text(log.password()));
        if self.mariadb {
            let set = format!("SET GLOBAL gtid_slave_pos = {}", quote_text(position));
            connection.execute(&set).await?;
            let change = format!(
                "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = {user}, MASTER_PASSWORD = {}, \
                 MASTER_SSL = 0, MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = {HEARTBEAT_SECONDS}, \
                 MASTER_USE_GTID = slave_pos",
                password.expose()
            );
            connection.execute(&change).await?;
            connection.execute("START SLAVE").await?;
            return Ok(());
        }
        let channel = quote_text(CHANNEL);
        let change = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, SOURCE_SSL = 0, \
             SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 1, SOURCE_HEARTBEAT_PERIOD = {HEARTBEAT_SECONDS}, \
             SOURCE_AUTO_POSITION = 1 FOR CHANNEL {channel}"
        );
        connection.execute(&change).await?;
        // Given here they are not written to a table.
        let start = format!(
            "START REPLICA USER = {user} PASSWORD = {} FOR CHANNEL {channel}",
            password.expose()
        );
        connection.execute(&start).await?;
        Ok(())
    }

    pub async fn state(&self, connection: &mut Connection) -> Result<ApplierState, MysqlError> {
        let sql = if self.mariadb {
            "SHOW SLAVE STATUS".to_owned()
        } else {
            format!("SHOW REPLICA STATUS FOR CHANNEL {}", quote_text(CHANNEL))
        };
        let rows = connection.query(&sql).await?;
        let column = |names: [&str; 2]| {
            let at = rows
                .columns
                .iter()
                .position(|column| names.contains(&column.as_str()))?;
            rows.rows.first()?.text(at).map(std::borrow::Cow::into_owned)
        };
        let text = |names| column(names).unwrap_or_default();
        let number = |names| text(names).parse::<u64>().ok();
        let error = |number: &'static str, words: &'static str| {
            let code = text([number, number]);
            (!code.is_empty() && code != "0").then(|| format!("{} (error {code})", text([words, words])))
        };
        let mut state = ApplierState {
            receiving: text(["Replica_IO_Running", "Slave_IO_Running"]) != "No" && !rows.rows.is_empty(),
            applying: text(["Replica_SQL_Running", "Slave_SQL_Running"]) == "Yes",
            file: text(["Relay_Source_Log_File", "Relay_Master_Log_File"]),
            offset: number(["Exec_Source_Log_Pos", "Exec_Master_Log_Pos"]).unwrap_or_default(),
            received_error: error("Last_IO_Errno", "Last_IO_Error"),
            applied_error: error("Last_SQL_Errno", "Last_SQL_Error"),
            groups: None,
        };
        if self.mariadb {
            let counters = [
                "Slave_DDL_Groups",
                "Slave_Non_Transactional_Groups",
                "Slave_Transactional_Groups",
            ];
            state.groups = counters.iter().map(|name| number([name, name])).sum();
        } else if state.applied_error.is_some() {
            // The coordinator says only that a worker failed.
            state.applied_error = worker_error(connection).await?.or(state.applied_error);
        }
        Ok(state)
    }

    /// Ends it, and leaves nothing of it in the server.
    pub async fn forget(&self, connection: &mut Connection) -> Result<(), MysqlError> {
        let statements = if self.mariadb {
            ["STOP SLAVE".to_owned(), "RESET SLAVE ALL".to_owned()]
        } else {
            let channel = quote_text(CHANNEL);
            [
                format!("STOP REPLICA FOR CHANNEL {channel}"),
                format!("RESET REPLICA ALL FOR CHANNEL {channel}"),
            ]
        };
        for sql in statements {
            connection.execute(&sql).await?;
        }
        Ok(())
    }
}

/// The first worker's error, with the transaction it was in.
async fn worker_error(connection: &mut Connection) -> Result<Option<String>, MysqlError> {
    let sql = format!(
        "SELECT APPLYING_TRANSACTION, LAST_ERROR_NUMBER, LAST_ERROR_MESSAGE
         FROM performance_schema.replication_applier_status_by_worker
         WHERE CHANNEL_NAME = {} AND LAST_ERROR_NUMBER <> 0 ORDER BY LAST_ERROR_TIMESTAMP LIMIT 1",
        quote_text(CHANNEL)
    );
    let rows: Rows = connection.query(&sql).await?;
    Ok(rows.rows.first().map(|row| {
        let cell = |at| row.text(at).unwrap_or_default();
        format!("transaction {}: {} (error {})", cell(0), cell(2), cell(1))
    }))
}

fn secret_text(secret: &Secret) -> Secret {
    Secret::new(quote_text(secret.expose()))
}

/// Whether each event (scheduled statement) that is there runs, by database and name: `ENABLED`, `DISABLED`, or a word for those of
/// another server.
pub async fn event_states(connection: &mut Connection) -> Result<BTreeMap<(String, String), String>, MysqlError> {
    let sql = "SELECT EVENT_SCHEMA, EVENT_NAME, STATUS FROM information_schema.EVENTS";
    let rows = match connection.query(sql).await {
        // A MariaDB without grant tables does not look at events at all.
        Err(error) if error.server_code() == Some(EVENTS_OFF) => return Ok(BTreeMap::new()),
        rows => rows?,
    };
    let text = |row: &crate::Row, at| row.text(at).unwrap_or_default().into_owned();
    Ok(rows
        .into_iter()
        .map(|row| ((text(&row, 0), text(&row, 1)), text(&row, 2)))
        .collect())
}

/// A replica switches off every event it is told to create or change. Gives those in `wanted` (what the source had) their state back;
/// everything else about them stays, their definers and sessions too. Gives what was changed.
pub async fn put_events_back(
    connection: &mut Connection,
    wanted: &BTreeMap<(String, String), bool>,
) -> Result<Vec<String>, MysqlError> {
    let sql =
        "SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER, SQL_MODE, TIME_ZONE, CHARACTER_SET_CLIENT, COLLATION_CONNECTION
               FROM information_schema.EVENTS WHERE STATUS NOT IN ('ENABLED', 'DISABLED') ORDER BY 1, 2";
    let mut changed = Vec::new();
    if wanted.is_empty() {
        return Ok(changed);
    }
    for row in connection.query(sql).await? {
        let text = |at| row.text(at).unwrap_or_default().into_owned();
        let (schema, name) = (text(0), text(1));
        let Some(enabled) = wanted.get(&(schema.clone(), name.clone())) else {
            continue;
        };
        let definer = text(2);
        let (user, host) = definer.rsplit_once('@').unwrap_or((&definer, "%"));
        // The event keeps the session of the one who changes it last.
        let session = format!(
            "SET SESSION sql_mode = {}, time_zone = {}, character_set_client = {}, collation_connection = {}",
            quote_text(&text(3)),
            quote_text(&text(4)),
            quote_text(&text(5)),
            quote_text(&text(6))
        );
        connection.execute(&session).await?;
        let state = if *enabled { "ENABLE" } else { "DISABLE" };
        let alter = format!(
            "ALTER DEFINER = {}@{} EVENT {} {state}",
            quote_name(user),
            quote_name(host),
            quote_table(&schema, &name)
        );
        connection.execute(&alter).await?;
        changed.push(format!("{schema}.{name}"));
    }
    if !changed.is_empty() {
        connection
            .execute("SET SESSION sql_mode = DEFAULT, time_zone = DEFAULT, character_set_client = DEFAULT, collation_connection = DEFAULT")
            .await?;
    }
    Ok(changed)
}
