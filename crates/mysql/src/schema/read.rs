//! Reading: the session it needs, and the order of the parts.

use super::visible::Visible;
use super::{LeftOut, ObjectKind, Schema, SchemaFilter, accounts, extras, programs, tables, view_order, views};
use crate::{Connection, Facts, Flavour, MysqlError, Row, quote_name, quote_text};

/// The server's own schemas, on either flavour.
pub(super) const SYSTEM_SCHEMAS: [&str; 5] = ["mysql", "sys", "information_schema", "performance_schema", "ndbinfo"];

/// What is handed from part to part.
pub(super) struct Reading<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) mariadb: bool,
    pub(super) version: (u16, u16, u16),
    pub(super) filter: &'a SchemaFilter<'a>,
    pub(super) visible: Visible,
    pub(super) schema: Schema,
}

impl Schema {
    /// Reads everything the filter chooses. The connection's session is changed for it (character set, SQL mode, time zone,
    /// current database) and left so. It must not be in a transaction that has locks others wait for: this takes as
    /// many statements as there are tables and objects.
    pub async fn read(
        connection: &mut Connection,
        facts: &Facts,
        filter: &SchemaFilter<'_>,
    ) -> Result<Self, MysqlError> {
        let mariadb = facts.version.flavour == Flavour::MariaDb;
        prepare(connection, mariadb, facts.version.numeric()).await?;
        let visible = Visible::read(connection, facts).await?;
        let schema = Self {
            server_version: facts.version.text.clone(),
            mariadb,
            lower_case_table_names: facts
                .variable("lower_case_table_names")
                .and_then(|value| value.parse().ok())
                .unwrap_or_default(),
            ..Self::default()
        };
        let mut reading = Reading {
            connection,
            mariadb,
            version: facts.version.numeric(),
            filter,
            visible,
            schema,
        };
        reading.databases().await?;
        let names: Vec<String> = reading.schema.databases.iter().map(|each| each.name.clone()).collect();
        for database in &names {
            reading
                .connection
                .execute(&format!("USE {}", quote_name(database)))
                .await?;
            reading.name_the_unseen(database);
            let listed = tables::list(&mut reading, database).await?;
            tables::read(&mut reading, database, &listed).await?;
            tables::read_sequences(&mut reading, database, &listed).await?;
            views::read(&mut reading, database, &listed).await?;
            programs::read_libraries(&mut reading, database).await?;
            programs::read_routines(&mut reading, database).await?;
            programs::read_triggers(&mut reading, database).await?;
            programs::read_events(&mut reading, database).await?;
        }
        let views = std::mem::take(&mut reading.schema.views);
        reading.schema.views = view_order::in_creatable_order(views);
        if filter.accounts {
            accounts::read(&mut reading).await?;
        }
        extras::name(&mut reading).await?;
        Ok(reading.schema)
    }
}

async fn prepare(connection: &mut Connection, mariadb: bool, version: (u16, u16, u16)) -> Result<(), MysqlError> {
    // What SHOW CREATE prints goes by all of these.
    let mut list = vec![
        "SET NAMES utf8mb4",
        "SET SESSION sql_mode = ''",
        "SET SESSION time_zone = '+00:00'",
        "SET SESSION sql_quote_show_create = 1",
    ];
    if !mariadb {
        // Estimates as they are now, not as they were when somebody asked last.
        list.push("SET SESSION information_schema_stats_expiry = 0");
        if version >= (8, 0, 17) {
            // Hashes are bytes that no text column can carry.
            list.push("SET SESSION print_identified_with_as_hex = 1");
        }
        if version >= (8, 0, 30) {
            list.push("SET SESSION show_gipk_in_create_table_and_information_schema = 1");
        }
    }
    for sql in list {
        connection.execute(sql).await?;
    }
    Ok(())
}

impl Reading<'_> {
    async fn databases(&mut self) -> Result<(), MysqlError> {
        let comment = if self.mariadb { "SCHEMA_COMMENT" } else { "''" };
        let sql = format!(
            "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, {comment}
             FROM information_schema.SCHEMATA ORDER BY SCHEMA_NAME"
        );
        for row in self.connection.query(&sql).await? {
            let name = text(&row, 0)?;
            if SYSTEM_SCHEMAS.iter().any(|system| name.eq_ignore_ascii_case(system)) || !(self.filter.database)(&name) {
                continue;
            }
            let sql = format!("SHOW CREATE DATABASE {}", quote_name(&name));
            let found = self.shown(ObjectKind::Database, None, &name, &sql, 1).await?;
            let Some((_, create)) = found else {
                continue;
            };
            self.schema.databases.push(super::Database {
                charset: text(&row, 1)?,
                collation: text(&row, 2)?,
                comment: text(&row, 3)?,
                name,
                create,
            });
        }
        if !self.visible.all_databases {
            self.leave_out(
                ObjectKind::Database,
                None,
                None,
                "the account sees only databases it has a privilege on; others may be there (GRANT SHOW DATABASES ON *.* shows them)",
            );
        }
        Ok(())
    }

    /// Objects that the server hides from an account without a privilege, instead of refusing them.
    fn name_the_unseen(&mut self, database: &str) {
        for (kind, privileges) in self.visible.unseen(database, self.mariadb) {
            let reason = format!(
                "the account sees only those it has a privilege on; it lacks {} on the database",
                privileges.join(" or ")
            );
            self.leave_out(kind, Some(database), None, reason);
        }
    }

    pub(super) fn leave_out(
        &mut self,
        kind: ObjectKind,
        database: Option<&str>,
        name: Option<&str>,
        reason: impl Into<String>,
    ) {
        self.schema.left_out.push(LeftOut {
            kind,
            database: database.map(str::to_owned),
            name: name.map(str::to_owned),
            reason: reason.into(),
        });
    }

    /// One object's row of SHOW CREATE and the text in that column. `None`, and left out by name, where the server does not
    /// give it.
    pub(super) async fn shown(
        &mut self,
        kind: ObjectKind,
        database: Option<&str>,
        name: &str,
        sql: &str,
        column: usize,
    ) -> Result<Option<(Row, String)>, MysqlError> {
        let rows = match self.connection.query(sql).await {
            Ok(rows) => rows,
            Err(MysqlError::Server { code, message, .. }) if !says_nothing_of_object(code) => {
                self.leave_out(
                    kind,
                    database,
                    Some(name),
                    format!("the server says: {message} (error {code})"),
                );
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some(row) = rows.into_iter().next() else {
            self.leave_out(kind, database, Some(name), "the server shows nothing of it");
            return Ok(None);
        };
        match row.bytes(column).map(std::str::from_utf8) {
            Some(Ok(create)) if !create.is_empty() => {
                let create = create.to_owned();
                Ok(Some((row, create)))
            }
            Some(Err(_)) => {
                self.leave_out(
                    kind,
                    database,
                    Some(name),
                    "its text holds bytes that are no characters; create it again by hand",
                );
                Ok(None)
            }
            _ => {
                self.leave_out(kind, database, Some(name), "the account may not see its text");
                Ok(None)
            }
        }
    }
}

/// The server is ending, or the statement was: not a word about the object.
fn says_nothing_of_object(code: u16) -> bool {
    matches!(code, 1053 | 1317 | 1205 | 1213 | 3024 | 1969)
}

/// A cell that is there and is UTF-8.
pub(super) fn text(row: &Row, column: usize) -> Result<String, MysqlError> {
    optional(row, column)?.ok_or_else(|| MysqlError::protocol(format!("column {column} of a system table is NULL")))
}

pub(super) fn optional(row: &Row, column: usize) -> Result<Option<String>, MysqlError> {
    row.bytes(column)
        .map(|bytes| std::str::from_utf8(bytes).map(str::to_owned))
        .transpose()
        .map_err(|_| MysqlError::protocol(format!("column {column} of a system table is not UTF-8")))
}

/// A column is this name, letter by letter: some servers compare names without case.
pub(super) fn is(column: &str, name: &str) -> String {
    format!("{column} = {}", quote_text(name))
}
