//! What there is on a server besides rows, as values that can be stored.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Everything that was read, in an order in which it can be created: databases, sequences, tables, libraries, routines,
/// views, triggers, events, accounts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Schema {
    /// The server's version as it says it.
    pub server_version: String,
    pub mariadb: bool,
    /// 0 where names of tables are told apart by case, else they are not.
    pub lower_case_table_names: u8,
    pub databases: Vec<Database>,
    pub sequences: Vec<Sequence>,
    pub tables: Vec<TableSchema>,
    pub libraries: Vec<Library>,
    pub routines: Vec<Routine>,
    /// Each after those it reads from.
    pub views: Vec<View>,
    /// Those of one table and one moment in the order they fire in.
    pub triggers: Vec<Trigger>,
    pub events: Vec<Event>,
    pub accounts: Vec<Account>,
    /// What is on the server and not above, or may be there and cannot be seen by the account.
    pub left_out: Vec<LeftOut>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    pub name: String,
    pub charset: String,
    pub collation: String,
    /// MariaDB only.
    pub comment: String,
    /// As SHOW CREATE DATABASE gives it.
    pub create: String,
}

/// What stands in the way of a table being like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    Ordinary,
    /// MariaDB: it keeps its rows' history.
    SystemVersioned,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    pub database: String,
    pub name: String,
    pub kind: TableKind,
    pub engine: String,
    pub collation: String,
    pub comment: String,
    /// The server's estimate.
    pub rows: u64,
    /// The server's estimate.
    pub data_bytes: u64,
    /// The server's estimate.
    pub index_bytes: u64,
    /// All, in order, generated and invisible ones too.
    pub columns: Vec<ColumnSchema>,
    /// In order; empty where there is none.
    pub primary_key: Vec<KeyPart>,
    /// Unique keys whose columns cannot be NULL, in the server's order.
    pub unique_keys: Vec<UniqueKey>,
    /// Names, in order, the innermost ones (the subpartitions where there are any); empty where there are none.
    pub partitions: Vec<String>,
    /// The primary key is one that the server made by itself and hides.
    pub generated_primary_key: bool,
    /// As SHOW CREATE TABLE gives it.
    pub create: String,
}

impl TableSchema {
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// How a column's value is made from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generated {
    Virtual,
    Stored,
    /// MariaDB: the beginning or end of a row version's time.
    RowPeriod,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnSchema {
    pub name: String,
    /// In lower case, such as `varchar`.
    pub data_type: String,
    /// As declared, such as `varchar(300)` or `int(10) unsigned zerofill`.
    pub column_type: String,
    pub nullable: bool,
    /// Of text types only.
    pub charset: Option<String>,
    pub collation: Option<String>,
    /// The longest value in bytes, of text and binary types only.
    pub octet_length: Option<u64>,
    pub generated: Option<Generated>,
    pub invisible: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueKey {
    pub name: String,
    pub parts: Vec<KeyPart>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    pub column: String,
    /// Only that many characters (bytes, of binary types) are in the key.
    pub prefix: Option<u64>,
    pub descending: bool,
}

/// MariaDB's sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    pub database: String,
    pub name: String,
    /// The next value that is not in a cache.
    pub next: i64,
    /// How often it went around.
    pub round: u64,
    /// As SHOW CREATE SEQUENCE gives it.
    pub create: String,
}

/// What a session must be set to for a statement to mean again what it meant when it was first run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creation {
    pub sql_mode: String,
    pub character_set_client: String,
    pub collation_connection: String,
    /// The database's collation at that time; empty for a view, which has none.
    pub database_collation: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutineKind {
    Procedure,
    Function,
    /// MariaDB.
    Package,
    /// MariaDB.
    PackageBody,
}

impl RoutineKind {
    /// As SQL says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Procedure => "PROCEDURE",
            Self::Function => "FUNCTION",
            Self::Package => "PACKAGE",
            Self::PackageBody => "PACKAGE BODY",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routine {
    pub database: String,
    pub name: String,
    pub kind: RoutineKind,
    /// `user@host`.
    pub definer: String,
    pub creation: Creation,
    /// As SHOW CREATE gives it; a comment that would not read back is as it is.
    pub create: String,
}

/// A library of JavaScript code, of MySQL 9.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    pub database: String,
    pub name: String,
    pub creation: Creation,
    /// As SHOW CREATE LIBRARY gives it.
    pub create: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub database: String,
    pub name: String,
    /// `user@host`.
    pub definer: String,
    pub creation: Creation,
    /// As SHOW CREATE VIEW gives it to a session that is in the view's database: names of other databases are in it only
    /// where it reads from them.
    pub create: String,
    /// Why it cannot be used now, in the server's words. Where that is a table or function that is gone, it cannot be created
    /// either; where it is the definer, it can.
    pub invalid: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    pub database: String,
    pub table: String,
    pub name: String,
    /// BEFORE or AFTER.
    pub timing: String,
    /// INSERT, UPDATE or DELETE.
    pub event: String,
    /// From 1.
    pub order: u64,
    /// `user@host`.
    pub definer: String,
    pub creation: Creation,
    /// As SHOW CREATE TRIGGER gives it.
    pub create: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub database: String,
    pub name: String,
    /// `user@host`.
    pub definer: String,
    /// In which its times are meant.
    pub time_zone: String,
    /// ENABLED, DISABLED, or disabled because it is a replica's, in the server's words.
    pub status: String,
    pub creation: Creation,
    /// As SHOW CREATE EVENT gives it; a comment that would not read back is as it is.
    pub create: String,
}

/// Whose account it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    User,
    Role,
    /// `root`: every server has one, and who restores may be it.
    Administrator,
    /// One the server makes and needs for itself.
    Server,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub user: String,
    /// Empty for a role of MariaDB, which has none.
    pub host: String,
    pub kind: AccountKind,
    /// One statement; holds the password's hash.
    pub create: SecretSql,
    /// GRANT, and where rights are taken back from part of a grant REVOKE, in the server's order.
    pub grants: Vec<SecretSql>,
    /// SET DEFAULT ROLE, where there is one.
    pub default_roles: Option<SecretSql>,
}

/// SQL that may hold the hash of a password: not in `Debug`. It is stored as it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretSql(String);

impl SecretSql {
    pub fn new(sql: String) -> Self {
        Self(sql)
    }

    /// The statement itself, for the server.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretSql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretSql(hidden)")
    }
}

/// What kind of thing is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    Database,
    Table,
    Sequence,
    View,
    Routine,
    Library,
    Trigger,
    Event,
    Account,
    Tablespace,
    LoadableFunction,
    ForeignServer,
    ResourceGroup,
    SpatialReferenceSystem,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "database",
            Self::Table => "table",
            Self::Sequence => "sequence",
            Self::View => "view",
            Self::Routine => "routine",
            Self::Library => "library",
            Self::Trigger => "trigger",
            Self::Event => "event",
            Self::Account => "account",
            Self::Tablespace => "tablespace",
            Self::LoadableFunction => "loadable function",
            Self::ForeignServer => "foreign server",
            Self::ResourceGroup => "resource group",
            Self::SpatialReferenceSystem => "spatial reference system",
        })
    }
}

/// Something that was not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub kind: ObjectKind,
    /// In which database, where it is in one.
    pub database: Option<String>,
    /// `None`: all of that kind that there may be.
    pub name: Option<String>,
    pub reason: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.database, &self.name) {
            (Some(database), Some(name)) => write!(f, "{} \"{database}.{name}\"", self.kind),
            (None, Some(name)) => write!(f, "{} \"{name}\"", self.kind),
            (Some(database), None) => write!(f, "every {} of \"{database}\"", self.kind),
            (None, None) => write!(f, "every {}", self.kind),
        }?;
        write!(f, ": {}", self.reason)
    }
}
