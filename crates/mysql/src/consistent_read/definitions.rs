//! Whether tables are still the ones they were: what stands in for a lock against DDL where there is none.
//!
//! A snapshot is of rows, not of definitions. InnoDB itself refuses (error 1412, "Table definition has changed") to read
//! an index that was built after the snapshot was opened: a table that was truncated, rebuilt, or dropped and made again.
//! What it does not notice is another table under the same name (`RENAME TABLE`, `EXCHANGE PARTITION`), and a column that
//! was dropped and added again without a rebuild. All of these are `ALTER TABLE` or `RENAME TABLE`, which the server
//! counts from its start, also inside routines, events, prepared and replicated statements (`Com_alter_table`,
//! `Com_rename_table`; `mysql_execute_command` in sql/sql_parse.cc). The counters move when a statement begins. So:
//!
//! - equal counters: none began since;
//! - equal InnoDB table ids and column counts: none that began before, and waited, was carried out since.
//!
//! The counters do not say which table, so any ALTER or RENAME, even of a temporary table, is taken for a change. What else
//! can be read beside rows (views, routines, triggers, events, schemas) has counters too. Accounts have not.

use std::collections::BTreeMap;

use crate::{Connection, Facts, MysqlError};

use super::log_position::is_mariadb;

const COUNTERS: [&str; 21] = [
    "Com_alter_db",
    "Com_alter_event",
    "Com_alter_function",
    "Com_alter_procedure",
    "Com_alter_table",
    "Com_create_db",
    "Com_create_event",
    "Com_create_function",
    "Com_create_procedure",
    "Com_create_trigger",
    "Com_create_view",
    "Com_drop_db",
    "Com_drop_event",
    "Com_drop_function",
    "Com_drop_procedure",
    "Com_drop_trigger",
    "Com_drop_view",
    "Com_rename_table",
    // MariaDB's.
    "Com_alter_sequence",
    "Com_create_package",
    "Com_drop_package",
];
const ACCESS_DENIED: u16 = 1227;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counters(BTreeMap<String, String>);

impl Counters {
    pub(super) async fn read(connection: &mut Connection) -> Result<Self, MysqlError> {
        let names: Vec<String> = COUNTERS.iter().map(|name| crate::quote_text(name)).collect();
        let sql = format!("SHOW GLOBAL STATUS WHERE Variable_name IN ({})", names.join(","));
        let rows = connection.query(&sql).await?;
        let pair = |row: crate::Row| Some((row.text(0)?.into_owned(), row.text(1)?.into_owned()));
        Ok(Self(rows.into_iter().filter_map(pair).collect()))
    }

    /// The statements that ran since.
    fn differences(&self, later: &Self) -> Vec<String> {
        let began = later.0.iter().filter(|(name, value)| self.0.get(*name) != Some(*value));
        let word = |name: &str| name.trim_start_matches("Com_").replace('_', " ").to_uppercase();
        began.map(|(name, _)| word(name)).collect()
    }
}

/// InnoDB's tables by their names in the file system, a partitioned one by its partitions: what identifies each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definitions(BTreeMap<String, Vec<String>>);

impl Definitions {
    pub(super) async fn read(connection: &mut Connection, facts: &Facts) -> Result<Self, MysqlError> {
        let (table, versions) = match facts.version.numeric() {
            _ if is_mariadb(facts) => ("INNODB_SYS_TABLES", "0"),
            (0..8, _, _) => ("INNODB_SYS_TABLES", "0"),
            // The first in which a column can be dropped without a rebuild, and then counts its versions.
            version if version >= (8, 0, 29) => ("INNODB_TABLES", "TOTAL_ROW_VERSIONS"),
            _ => ("INNODB_TABLES", "0"),
        };
        let sql = format!(
            "SELECT NAME, CONCAT_WS(' ', NAME, TABLE_ID, N_COLS, SPACE, {versions})
             FROM information_schema.{table} WHERE NAME LIKE '%/%' ORDER BY NAME"
        );
        let rows = match connection.query(&sql).await {
            Err(MysqlError::Server {
                code: ACCESS_DENIED, ..
            }) => {
                let privileges = if is_mariadb(facts) {
                    "RELOAD, PROCESS"
                } else {
                    "BACKUP_ADMIN, PROCESS"
                };
                return Err(MysqlError::Unsupported {
                    what:
                        "without a lock against DDL, and without seeing InnoDB's table ids, a changed table could not \
                           be told"
                            .to_owned(),
                    hint: format!("GRANT {privileges} ON *.* TO {};", facts.account),
                });
            }
            other => other?,
        };
        let mut tables: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for row in rows {
            let text = |column| row.text(column).map(std::borrow::Cow::into_owned).unwrap_or_default();
            let name = text(0);
            // A partition's name follows a #, which in a name itself is encoded.
            let table = name.split('#').next().unwrap_or_default();
            // An ALTER under way has a table of its own.
            if !table.ends_with('/') {
                tables.entry(table.to_owned()).or_default().push(text(1));
            }
        }
        Ok(Self(tables))
    }

    /// Tables that are not what they were, also those that are gone or new.
    fn differences(&self, later: &Self, matters: &dyn Fn(&str, &str) -> bool) -> Vec<String> {
        let was = self.0.iter().filter(|(name, was)| later.0.get(*name) != Some(*was));
        let new = later.0.iter().filter(|(name, _)| !self.0.contains_key(*name));
        let changed = was.chain(new).filter_map(|(name, _)| match decode(name) {
            Some((schema, table)) => matters(&schema, &table).then(|| format!("table \"{schema}.{table}\" changed")),
            // Not known which it is, so it may be one that matters.
            None => Some(format!("table \"{name}\" (as its file is named) changed")),
        });
        changed.collect()
    }
}

/// Schema and table, from a name in the file system. There a character that is neither letter nor digit is `@` and its
/// number in hex, and a letter beyond ASCII may have a short form, whose table only the server has: `None` then.
fn decode(name: &str) -> Option<(String, String)> {
    let (schema, table) = name.split_once('/')?;
    let part = |encoded: &str| {
        let mut pieces = encoded.split('@');
        let mut decoded = pieces.next()?.to_owned();
        for piece in pieces {
            let (hex, rest) = piece.split_at_checked(4)?;
            decoded.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
            decoded.push_str(rest);
        }
        Some(decoded)
    };
    Some((part(schema)?, part(table)?))
}

/// What was, and has to be still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) counters: Counters,
    pub(super) definitions: Definitions,
}

impl Recorded {
    /// Fails naming what changed of the tables that matter.
    pub(super) async fn compare(
        &self,
        connection: &mut Connection,
        facts: &Facts,
        matters: &dyn Fn(&str, &str) -> bool,
    ) -> Result<(), MysqlError> {
        // In this order: what begins after the ids were read is counted.
        let definitions = Definitions::read(connection, facts).await?;
        let counters = Counters::read(connection).await?;
        let mut changes = self.definitions.differences(&definitions, matters);
        let ran = self.counters.differences(&counters);
        if !ran.is_empty() {
            changes.push(format!("the server ran {}", ran.join(", ")));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let more = changes.len().saturating_sub(NAMED_MAX);
        changes.truncate(NAMED_MAX);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        Err(MysqlError::Disturbed {
            what: format!("definitions changed while rows were read: {}{more}", changes.join("; ")),
            hint: if is_mariadb(facts) {
                format!(
                    "read while nobody changes definitions, or let the server hold DDL: GRANT RELOAD ON *.* TO {};",
                    facts.account
                )
            } else {
                format!(
                    "read while nobody changes definitions, or let the server hold DDL: GRANT BACKUP_ADMIN ON *.* TO {};",
                    facts.account
                )
            },
        })
    }
}

/// A message names at most this many changes.
const NAMED_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_names_of_tables_where_that_is_known() {
        let some = |schema: &str, table: &str| Some((schema.to_owned(), table.to_owned()));
        assert_eq!(decode("shop/orders_7"), some("shop", "orders_7"));
        assert_eq!(decode("we@0020ird@002fs/@0023a@4e2d"), some("we ird/s", "#a\u{4e2d}"));
        for name in ["shop", "shop/@0k", "shop/a@12", "shop/@d800", "shop/a@\u{e4}\u{e4}1"] {
            assert_eq!(decode(name), None, "{name}");
        }
    }
}
