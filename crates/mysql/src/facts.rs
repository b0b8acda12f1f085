//! What a server is, has and allows, read once and only read.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Connection, Flavour, MysqlError, ServerVersion, variables};

/// The server's own schemas.
const SYSTEM_SCHEMAS: &str = "'mysql', 'sys', 'information_schema', 'performance_schema'";
/// Everything about the copy and the log that may have to be recorded or checked.
const VARIABLES: [&str; 33] = [
    "binlog_expire_logs_seconds",
    "binlog_format",
    "binlog_row_image",
    "datadir",
    "default_table_encryption",
    "enforce_gtid_consistency",
    "event_scheduler",
    "gtid_mode",
    "hostname",
    "innodb_checksum_algorithm",
    "innodb_data_file_path",
    "innodb_data_home_dir",
    "innodb_directories",
    "innodb_encrypt_log",
    "innodb_flush_log_at_trx_commit",
    "innodb_log_group_home_dir",
    "innodb_page_size",
    "innodb_redo_log_capacity",
    "innodb_redo_log_encrypt",
    "innodb_undo_directory",
    "innodb_undo_log_encrypt",
    "innodb_undo_tablespaces",
    "log_bin",
    "log_bin_basename",
    "lower_case_table_names",
    "max_binlog_size",
    "read_only",
    "server_id",
    "server_uuid",
    "sync_binlog",
    "time_zone",
    "version",
    "version_comment",
];
/// Privileges that, granted on everything, make every table visible in information_schema. Found by trial with 9.7.4:
/// EXECUTE, EVENT, LOCK TABLES and SHOW DATABASES do not.
const SHOW_TABLES: [&str; 11] = [
    "ALL PRIVILEGES",
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "ALTER",
    "INDEX",
    "TRIGGER",
    "SHOW VIEW",
    "REFERENCES",
];

/// Who everybody is on a MySQL that runs without grant tables; a session that began so stays so.
const NO_GRANT_TABLES: &str = "skip-grants user@skip-grants host";

/// A table of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFact {
    pub schema: String,
    pub name: String,
    pub engine: String,
    /// The server's estimate.
    pub rows: u64,
    /// Data and indexes, by the server's estimate.
    pub bytes: u64,
}

/// Engines whose tables a clone has the definitions of and no rows, which can be read beside it.
const ROWS_BESIDE: [&str; 4] = ["MyISAM", "CSV", "ARCHIVE", "MEMORY"];
/// Whose tables have no rows: a definition is all there is.
const NO_ROWS: &str = "BLACKHOLE";

impl TableFact {
    /// Its definition is in a clone and its rows are not.
    pub fn has_rows_beside(&self) -> bool {
        ROWS_BESIDE
            .iter()
            .any(|engine| self.engine.eq_ignore_ascii_case(engine))
    }

    /// Neither a clone nor rows beside it bring it back.
    pub fn is_in_no_copy(&self) -> bool {
        !self.engine.eq_ignore_ascii_case("InnoDB")
            && !self.engine.eq_ignore_ascii_case(NO_ROWS)
            && !self.has_rows_beside()
    }

    /// Of a row of schema, name, engine, rows and bytes.
    pub(crate) fn from_row(row: crate::Row) -> Self {
        let text = |column| row.text(column).map(std::borrow::Cow::into_owned).unwrap_or_default();
        let number = |column| row.number(column).unwrap_or_default();
        Self {
            schema: text(0),
            name: text(1),
            engine: text(2),
            rows: number(3),
            bytes: number(4),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Facts {
    pub version: ServerVersion,
    /// Global variables, see [`Facts::variable`].
    pub variables: BTreeMap<String, String>,
    /// This account, quoted for GRANT.
    pub account: String,
    /// Granted on everything, directly or by an active role.
    pub privileges: BTreeSet<String>,
    /// The plugin's state; `None` when it is not installed.
    pub clone_plugin: Option<String>,
    /// Tables outside the server's own schemas, as far as this account sees them.
    pub tables: Vec<TableFact>,
    /// Encrypted by the server; `None` when this account may not see them.
    pub encrypted_tablespaces: Option<Vec<String>>,
    /// The size of InnoDB's files; `None` when this account may not see it.
    pub file_bytes: Option<u64>,
    pub redo_log_enabled: bool,
}

impl Facts {
    pub async fn read(connection: &mut Connection) -> Result<Self, MysqlError> {
        let version = ServerVersion::read(connection).await?;
        let is_mysql = version.flavour != Flavour::MariaDb;
        let variables = variables(connection, &VARIABLES).await?;
        let privileges = read_privileges(connection).await?;
        let clone_plugin = connection
            .value("SELECT PLUGIN_STATUS FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone'")
            .await?;
        let redo = connection
            .query("SHOW GLOBAL STATUS LIKE 'Innodb_redo_log_enabled'")
            .await?;
        let sees_files = privileges.contains("PROCESS") || privileges.contains("ALL PRIVILEGES");
        let (mut encrypted_tablespaces, mut file_bytes) = (None, None);
        if is_mysql && sees_files {
            let rows = connection
                .query("SELECT NAME FROM information_schema.INNODB_TABLESPACES WHERE ENCRYPTION = 'Y' ORDER BY NAME")
                .await?;
            encrypted_tablespaces = Some(
                rows.into_iter()
                    .filter_map(|row| row.text(0).map(std::borrow::Cow::into_owned))
                    .collect(),
            );
            let bytes = connection
                .value("SELECT CAST(SUM(FILE_SIZE) AS UNSIGNED) FROM information_schema.INNODB_TABLESPACES")
                .await?;
            file_bytes = bytes.and_then(|bytes| bytes.parse().ok());
        }
        if !is_mysql && sees_files {
            encrypted_tablespaces = optional_names(
                connection,
                "SELECT NAME FROM information_schema.INNODB_TABLESPACES_ENCRYPTION WHERE ENCRYPTION_SCHEME <> 0 ORDER BY NAME",
            )
            .await?;
            let sizes = "SELECT CAST(SUM(FILE_SIZE) AS UNSIGNED) FROM information_schema.INNODB_SYS_TABLESPACES";
            let bytes = optional_names(connection, sizes).await?.unwrap_or_default();
            file_bytes = bytes.first().and_then(|bytes| bytes.parse().ok());
        }
        Ok(Self {
            version,
            variables,
            account: read_account(connection).await?,
            privileges,
            clone_plugin,
            tables: read_tables(connection).await?,
            encrypted_tablespaces,
            file_bytes,
            redo_log_enabled: redo
                .rows
                .first()
                .and_then(|row| row.text(1))
                .is_none_or(|value| value == "ON"),
        })
    }

    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    pub fn has_privilege(&self, name: &str) -> bool {
        self.privileges.contains(name) || (self.privileges.contains("ALL PRIVILEGES") && name != "BACKUP_ADMIN")
    }

    pub fn sees_all_tables(&self) -> bool {
        SHOW_TABLES.iter().any(|name| self.privileges.contains(*name))
    }

    /// Tables whose rows a clone does not have, and that can be read beside it.
    pub fn tables_beside(&self) -> impl Iterator<Item = &TableFact> {
        self.tables.iter().filter(|table| table.has_rows_beside())
    }

    /// How much there is: the files where they can be seen, else the tables' estimates.
    pub fn data_bytes(&self) -> u64 {
        self.file_bytes
            .unwrap_or_else(|| self.tables.iter().map(|table| table.bytes).fold(0, u64::saturating_add))
    }
}

/// The first column, or nothing where the server has no such table.
async fn optional_names(connection: &mut Connection, sql: &str) -> Result<Option<Vec<String>>, MysqlError> {
    match connection.query(sql).await {
        Ok(rows) => Ok(Some(
            rows.into_iter()
                .filter_map(|row| row.text(0).map(std::borrow::Cow::into_owned))
                .collect(),
        )),
        Err(MysqlError::Server { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn read_account(connection: &mut Connection) -> Result<String, MysqlError> {
    let account = connection.value("SELECT CURRENT_USER()").await?.unwrap_or_default();
    // The host is after the last @; a user name may hold others.
    let (user, host) = account.rsplit_once('@').unwrap_or((&account, "%"));
    Ok(format!("{}@{}", crate::quote_text(user), crate::quote_text(host)))
}

/// The privileges on everything, from lines such as GRANT SELECT, PROCESS ON *.* TO ….
async fn read_privileges(connection: &mut Connection) -> Result<BTreeSet<String>, MysqlError> {
    Ok(read_grants(connection)
        .await?
        .iter()
        .filter_map(|line| global_privileges(line))
        .flatten()
        .collect())
}

/// What this account may do, in the server's words.
pub(crate) async fn read_grants(connection: &mut Connection) -> Result<Vec<String>, MysqlError> {
    let rows = match connection.query("SHOW GRANTS").await {
        Ok(rows) => rows,
        // A server without grant tables shows none, and allows everything.
        Err(error @ MysqlError::Server { .. }) => {
            let account = connection.value("SELECT CURRENT_USER()").await?;
            return match account.as_deref() {
                Some(NO_GRANT_TABLES) => Ok(vec!["GRANT ALL PRIVILEGES ON *.* TO ``@``".to_owned()]),
                _ => Err(error),
            };
        }
        Err(error) => return Err(error),
    };
    Ok(rows
        .into_iter()
        .filter_map(|row| row.text(0).map(std::borrow::Cow::into_owned))
        .collect())
}

fn global_privileges(line: &str) -> Option<impl Iterator<Item = String>> {
    let (names, _) = line.strip_prefix("GRANT ")?.split_once(" ON *.* TO ")?;
    Some(names.split(',').map(|name| name.trim().to_ascii_uppercase()))
}

async fn read_tables(connection: &mut Connection) -> Result<Vec<TableFact>, MysqlError> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_ROWS, COALESCE(DATA_LENGTH, 0) + COALESCE(INDEX_LENGTH, 0)
         FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ({SYSTEM_SCHEMAS})
         ORDER BY TABLE_SCHEMA, TABLE_NAME"
    );
    let rows = connection.query(&sql).await?;
    Ok(rows.into_iter().map(TableFact::from_row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_privileges_on_everything_count() {
        let of = |line: &str| global_privileges(line).map(|names| names.collect::<Vec<_>>());
        assert_eq!(
            of("GRANT SELECT, PROCESS ON *.* TO `a`@`%`").unwrap(),
            ["SELECT", "PROCESS"]
        );
        assert_eq!(
            of("GRANT ALL PRIVILEGES ON *.* TO `a`@`%` WITH GRANT OPTION").unwrap(),
            ["ALL PRIVILEGES"]
        );
        assert_eq!(of("GRANT SELECT ON `balance`.* TO `a`@`%`"), None);
        assert_eq!(of("GRANT `role`@`%` TO `a`@`%`"), None);
    }
}
