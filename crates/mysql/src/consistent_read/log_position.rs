//! Where in its binary log a server is.

use serde::{Deserialize, Serialize};

use crate::{Connection, Facts, Flavour, GtidSet, MysqlError, quote_text};

/// The end of everything that all connections of a consistent read see, and of nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// The binary log's file; `None` where the account may not see it and the GTIDs say it all.
    pub file: Option<String>,
    pub offset: Option<u64>,
    /// MySQL with `gtid_mode=ON`: the executed set.
    pub gtid_set: Option<GtidSet>,
    /// MariaDB: the last transaction of each replication domain.
    pub gtid_position: Option<String>,
}

pub(super) fn has_log(facts: &Facts) -> bool {
    facts.variable("log_bin") == Some("ON")
}

/// Whether every transaction has a GTID. The modes on the way to ON also have transactions without.
pub(super) fn has_gtids(facts: &Facts) -> bool {
    facts.variable("gtid_mode") == Some("ON")
}

/// File and offset; `None` where the account may not see them.
pub(super) async fn read_place(connection: &mut Connection) -> Result<Option<(String, u64)>, MysqlError> {
    let place = |row: crate::Row| Some((row.text(0)?.into_owned(), row.number(1)?));
    Ok(read_log_status(connection).await?.and_then(place))
}

/// Whether changes of some databases are kept out of the log, as far as the account may see that.
pub(super) async fn is_filtered(connection: &mut Connection) -> Result<bool, MysqlError> {
    let names_some = |row: crate::Row| (2..4).any(|column| row.text(column).is_some_and(|names| !names.is_empty()));
    Ok(read_log_status(connection).await?.is_some_and(names_some))
}

async fn read_log_status(connection: &mut Connection) -> Result<Option<crate::Row>, MysqlError> {
    // The first since MySQL 8.2, where the last is gone since 8.4; the account may not see either.
    for sql in ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"] {
        match connection.query(sql).await {
            Ok(rows) => return Ok(rows.into_iter().next()),
            Err(MysqlError::Server { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

pub(super) async fn read_gtids(connection: &mut Connection) -> Result<GtidSet, MysqlError> {
    connection
        .value("SELECT @@GLOBAL.gtid_executed")
        .await?
        .unwrap_or_default()
        .parse()
}

/// MySQL's position, to be called while nothing commits. `None` without a binary log.
pub(super) async fn read_held(connection: &mut Connection, facts: &Facts) -> Result<Option<LogPosition>, MysqlError> {
    if !has_log(facts) {
        return Ok(None);
    }
    let gtid_set = if has_gtids(facts) {
        Some(read_gtids(connection).await?)
    } else {
        None
    };
    let place = read_place(connection).await?;
    if place.is_none() && gtid_set.is_none() {
        return Err(MysqlError::Unsupported {
            what: "the position in the binary log cannot be read".to_owned(),
            hint: format!(
                "GRANT REPLICATION CLIENT ON *.* TO {}; -- or switch on gtid_mode",
                facts.account
            ),
        });
    }
    let (file, offset) = place.unzip();
    Ok(Some(LogPosition {
        file,
        offset,
        gtid_set,
        gtid_position: None,
    }))
}

/// The place of a MariaDB session's own snapshot, which the server notes when it opens one. `None` without a binary log.
pub(super) async fn read_of_snapshot(connection: &mut Connection) -> Result<Option<(String, u64)>, MysqlError> {
    let rows = connection
        .query("SHOW SESSION STATUS WHERE Variable_name IN ('Binlog_snapshot_file', 'Binlog_snapshot_position')")
        .await?;
    let (mut file, mut offset) = (None, None);
    for row in rows {
        let name = row.text(0).unwrap_or_default().to_ascii_lowercase();
        if name == "binlog_snapshot_file" {
            file = row.text(1).map(std::borrow::Cow::into_owned);
        } else {
            offset = row.number(1);
        }
    }
    Ok(file.filter(|file| !file.is_empty()).zip(offset))
}

/// Completes a MariaDB place with its GTIDs, which the server finds in its log.
pub(super) async fn complete(
    connection: &mut Connection,
    (file, offset): (String, u64),
) -> Result<LogPosition, MysqlError> {
    let sql = format!("SELECT BINLOG_GTID_POS({}, {offset})", quote_text(&file));
    let gtid_position = connection.value(&sql).await?;
    if gtid_position.is_none() {
        return Err(MysqlError::Disturbed {
            what: format!("the server does not know the GTIDs at {file}:{offset}"),
            hint: "see that nothing purges the newest binary log, then try again".to_owned(),
        });
    }
    Ok(LogPosition {
        file: Some(file),
        offset: Some(offset),
        gtid_set: None,
        gtid_position,
    })
}

/// Which of both kinds of servers it is.
pub(super) fn is_mariadb(facts: &Facts) -> bool {
    facts.version.flavour == Flavour::MariaDb
}
