//! What a server that is to take over a schema has, by its own word: no version number is compared.
//!
//! Everything is asked in a way that writes nothing. What cannot be looked up is tried with PREPARE, which takes a statement
//! apart and says what it does not know, without running it.

use std::collections::{BTreeMap, BTreeSet};

use super::Schema;
use super::translate::functions_used;
use crate::{Connection, Facts, Flavour, MysqlError, quote_text};

/// What only some servers can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ability {
    Uuid,
    Inet4,
    Inet6,
    Vector,
    InvisibleColumns,
    /// MySQL's INVISIBLE.
    InvisibleKeys,
    /// MariaDB's IGNORED.
    IgnoredKeys,
    FunctionalKeys,
    UnenforcedChecks,
    SpatialReference,
    CompressedColumns,
    SystemVersioning,
    Periods,
    Sequences,
    DefaultPartition,
    ExpressionDefaults,
    Checks,
    /// MySQL's libraries.
    Libraries,
}

/// Each with a statement that only those understand who have it. There is no such database; it is not looked for.
const TRIALS: [(Ability, &str); 18] = [
    (Ability::Uuid, "CREATE TABLE ballast_trial.t (a UUID)"),
    (Ability::Inet4, "CREATE TABLE ballast_trial.t (a INET4)"),
    (Ability::Inet6, "CREATE TABLE ballast_trial.t (a INET6)"),
    (Ability::Vector, "CREATE TABLE ballast_trial.t (a VECTOR(3))"),
    (
        Ability::InvisibleColumns,
        "CREATE TABLE ballast_trial.t (a INT, b INT INVISIBLE)",
    ),
    (
        Ability::InvisibleKeys,
        "CREATE TABLE ballast_trial.t (a INT, KEY (a) INVISIBLE)",
    ),
    (
        Ability::IgnoredKeys,
        "CREATE TABLE ballast_trial.t (a INT, KEY (a) IGNORED)",
    ),
    (
        Ability::FunctionalKeys,
        "CREATE TABLE ballast_trial.t (a INT, KEY ((a + 1)))",
    ),
    (
        Ability::UnenforcedChecks,
        "CREATE TABLE ballast_trial.t (a INT, CHECK (a > 1) NOT ENFORCED)",
    ),
    (
        Ability::SpatialReference,
        "CREATE TABLE ballast_trial.t (a POINT SRID 0)",
    ),
    (
        Ability::CompressedColumns,
        "CREATE TABLE ballast_trial.t (a TEXT COMPRESSED)",
    ),
    (
        Ability::SystemVersioning,
        "CREATE TABLE ballast_trial.t (a INT) WITH SYSTEM VERSIONING",
    ),
    (
        Ability::Periods,
        "CREATE TABLE ballast_trial.t (a DATE, b DATE, PERIOD FOR p (a, b))",
    ),
    (Ability::Sequences, "CREATE SEQUENCE ballast_trial.s"),
    (
        Ability::DefaultPartition,
        "CREATE TABLE ballast_trial.t (a INT) PARTITION BY LIST (a) (PARTITION p DEFAULT)",
    ),
    (
        Ability::ExpressionDefaults,
        "CREATE TABLE ballast_trial.t (a INT DEFAULT (1 + 1))",
    ),
    (
        Ability::Checks,
        "CREATE TABLE ballast_trial.t (a INT, CONSTRAINT c CHECK (a > 1))",
    ),
    (
        Ability::Libraries,
        "CREATE LIBRARY ballast_trial.l LANGUAGE JAVASCRIPT AS 'export function f() { return 1 }'",
    ),
];

/// A function that is not there, named without a database in use, in one, or beside one of another database.
const NO_FUNCTION: [u16; 3] = [1305, 1046, 1630];
const NOT_PREPARABLE: u16 = 1295;

/// What a target has, as far as a schema wants to know.
#[derive(Debug, Clone, Default)]
pub struct Abilities {
    pub(super) mariadb: bool,
    /// Full names, each with its character set.
    pub(super) collations: BTreeMap<String, String>,
    /// Of each character set.
    pub(super) default_collations: BTreeMap<String, String>,
    /// In lower case.
    pub(super) engines: BTreeSet<String>,
    pub(super) login_plugins: BTreeSet<String>,
    pub(super) text_parsers: BTreeSet<String>,
    /// In upper case.
    pub(super) privileges: BTreeSet<String>,
    pub(super) can: BTreeSet<Ability>,
    /// Of those that the schema uses.
    pub(super) missing_functions: BTreeSet<String>,
    /// Of those that the schema uses.
    pub(super) missing_modes: BTreeSet<String>,
}

impl Abilities {
    /// Asks the target. The session's SQL mode and current database are changed and left so.
    pub async fn read(connection: &mut Connection, facts: &Facts, schema: &Schema) -> Result<Self, MysqlError> {
        for sql in [
            "SET NAMES utf8mb4",
            "SET SESSION sql_mode = ''",
            "USE information_schema",
        ] {
            connection.execute(sql).await?;
        }
        let mut found = Self {
            mariadb: facts.version.flavour == Flavour::MariaDb,
            ..Self::default()
        };
        found.read_collations(connection).await?;
        found.read_plugins(connection).await?;
        for row in connection.query("SHOW PRIVILEGES").await? {
            found
                .privileges
                .extend(row.text(0).map(|name| name.to_ascii_uppercase()));
        }
        for (ability, sql) in TRIALS {
            if prepared(connection, sql)
                .await?
                .is_none_or(|code| code == NOT_PREPARABLE)
            {
                found.can.insert(ability);
            }
        }
        for function in functions_used(schema) {
            let code = prepared(connection, &format!("SELECT {function}()")).await?;
            if code.is_some_and(|code| NO_FUNCTION.contains(&code)) {
                found.missing_functions.insert(function);
            }
        }
        for mode in modes_used(schema) {
            match connection
                .execute(&format!("SET SESSION sql_mode = {}", quote_text(&mode)))
                .await
            {
                Err(MysqlError::Server { .. }) => drop(found.missing_modes.insert(mode)),
                done => drop(done?),
            }
        }
        connection.execute("SET SESSION sql_mode = ''").await?;
        Ok(found)
    }

    pub(super) fn has(&self, ability: Ability) -> bool {
        self.can.contains(&ability)
    }

    pub(super) fn has_charset(&self, charset: &str) -> bool {
        charset.eq_ignore_ascii_case("binary") || self.default_collations.contains_key(charset)
    }

    async fn read_collations(&mut self, connection: &mut Connection) -> Result<(), MysqlError> {
        for row in connection
            .query("SELECT CHARACTER_SET_NAME, DEFAULT_COLLATE_NAME FROM information_schema.CHARACTER_SETS")
            .await?
        {
            if let (Some(charset), Some(collation)) = (row.text(0), row.text(1)) {
                self.default_collations
                    .insert(charset.into_owned(), collation.into_owned());
            }
        }
        // Newer MariaDB has collations of several character sets, which have a longer name for each.
        let full = "SELECT FULL_COLLATION_NAME, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY";
        let plain =
            "SELECT COLLATION_NAME, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY";
        let rows = match connection.query(full).await {
            Err(MysqlError::Server { .. }) => connection.query(plain).await?,
            rows => rows?,
        };
        for row in rows {
            if let (Some(collation), Some(charset)) = (row.text(0), row.text(1)) {
                self.collations.insert(collation.into_owned(), charset.into_owned());
            }
        }
        Ok(())
    }

    async fn read_plugins(&mut self, connection: &mut Connection) -> Result<(), MysqlError> {
        for row in connection.query("SHOW ENGINES").await? {
            if row
                .text(1)
                .is_some_and(|support| support == "YES" || support == "DEFAULT")
            {
                self.engines.extend(row.text(0).map(|name| name.to_ascii_lowercase()));
            }
        }
        let sql = "SELECT PLUGIN_TYPE, PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE'";
        for row in connection.query(sql).await? {
            let (kind, name) = (row.text(0), row.text(1).map(|name| name.to_ascii_lowercase()));
            match kind.as_deref() {
                Some("AUTHENTICATION") => self.login_plugins.extend(name),
                Some("FTPARSER") => self.text_parsers.extend(name),
                _ => {}
            }
        }
        Ok(())
    }
}

/// `None` where the server understands the statement, else its error.
async fn prepared(connection: &mut Connection, sql: &str) -> Result<Option<u16>, MysqlError> {
    match connection
        .execute(&format!("PREPARE ballast_trial FROM {}", quote_text(sql)))
        .await
    {
        Ok(_) => Ok(None),
        Err(MysqlError::Server { code, .. }) => Ok(Some(code)),
        Err(error) => Err(error),
    }
}

fn modes_used(schema: &Schema) -> BTreeSet<String> {
    let creations = (schema.routines.iter().map(|each| &each.creation))
        .chain(schema.triggers.iter().map(|each| &each.creation))
        .chain(schema.events.iter().map(|each| &each.creation))
        .chain(schema.libraries.iter().map(|each| &each.creation));
    let modes = creations.flat_map(|creation| creation.sql_mode.split(','));
    modes.filter(|mode| !mode.is_empty()).map(str::to_owned).collect()
}
