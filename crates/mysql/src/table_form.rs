//! In which form the columns of a table leave the server, come back, and are fingerprinted.
//!
//! Everything here holds under [`READ_SESSION`] and [`LOAD_SESSION`] only: without a conversion of characters, with
//! UTC, and without the SQL modes that refuse or change values which other modes had let in. All of it was tried with
//! MySQL 9.7.4 and MariaDB 10.11.18, by dumps, by fingerprints and by `CHECKSUM TABLE` before and after (`tests/rows`
//! does so each time):
//!
//! - FLOAT shows six digits, which are not all; a product with a DOUBLE has them. Of numbers with a fraction MySQL makes
//!   one text where it sends them (`0.00000018`) and another where it puts them into a text (`1.8e-7`), so FLOAT and
//!   DOUBLE are sent as texts as well. The text of a product has 22 characters at most, which is more than enough for
//!   a FLOAT; that of a DOUBLE column has all digits, also where a scale is declared, to which it is rounded again.
//!   MariaDB writes `0.00000018` in both places: for such values the fingerprints of the two servers differ.
//! - The members of an ENUM or SET go by number: the error value is then apart from a member with an empty name, and
//!   digits are no names. `c + 0` is a DOUBLE and loses bits of a SET with more than 53 members; a CAST does not.
//! - BIT, spatial and VECTOR columns give and take their bytes.
//! - JSON refuses bytes without a character set, and so do MariaDB's UUID and INET types, which take 16 of them for
//!   the value itself. The latter give their bytes when cast to BINARY, so they are cast to text first.
//! - A date that is none, such as February 31, is loaded under ALLOW_INVALID_DATES only.
//!
//! What JSON text does not say is not carried: MySQL keeps the SQL type of values that were put into a document by an
//! expression (a DATETIME, a DECIMAL), and they come back as the texts and numbers they show as. Where that shows, as
//! with a DECIMAL of more than 17 digits, the fingerprint of the loaded table differs. The history of MariaDB's
//! system-versioned tables is not selected, and rows begin it anew when they are loaded.
#![deny(clippy::indexing_slicing)]

use serde::{Deserialize, Serialize};

use crate::{ColumnSchema, Connection, MysqlError, TableDigest, quote_name};

/// Declared lengths from here on are fingerprinted by a CRC of their own, so that a row's values always fit into
/// `max_allowed_packet`.
const LONG_OCTETS: u64 = 4096;

/// What a session that reads rows must have set, as one statement.
pub const READ_SESSION: &str = "SET NAMES binary, SESSION time_zone = '+00:00', SESSION sql_mode = ''";

/// What a session that loads rows must have set, as one statement.
pub const LOAD_SESSION: &str = "SET NAMES binary, SESSION time_zone = '+00:00', \
     SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', \
     SESSION foreign_key_checks = 0, SESSION unique_checks = 0";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// The bytes that the server shows, both ways.
    Plain,
    /// All digits of a FLOAT.
    Approximate,
    /// As text, as the server makes it within a statement: by itself it sends some values with another last digit.
    Double,
    /// The number of a member or the bits of a set.
    Number,
    /// Text that the server does not take from bytes without a character set.
    Characters,
    /// The same, of a type whose bytes are not its text.
    Identifier,
}

/// The form of one column. Stored beside the rows, which are read back by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnForm {
    name: String,
    kind: Kind,
    /// Its value is fingerprinted by a CRC of its own.
    long: bool,
    /// What is put together with bytes takes it in as it is. To say so all the same costs the server time.
    #[serde(default)]
    bare: bool,
    /// Never NULL, by the table's own words: nobody has to ask in each row.
    #[serde(default)]
    required: bool,
}

/// The forms of a table's columns, without those that the server computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableForm {
    columns: Vec<ColumnForm>,
}

impl ColumnForm {
    fn new(column: &ColumnSchema) -> Self {
        let kind = match column.data_type.as_str() {
            "float" => Kind::Approximate,
            "double" => Kind::Double,
            "enum" | "set" => Kind::Number,
            "json" => Kind::Characters,
            "uuid" | "inet4" | "inet6" => Kind::Identifier,
            _ => Kind::Plain,
        };
        let short = match column.data_type.as_str() {
            "char" | "varchar" | "binary" | "varbinary" => {
                column.octet_length.is_some_and(|octets| octets <= LONG_OCTETS)
            }
            "tinytext" | "tinyblob" | "uuid" | "inet4" | "inet6" => true,
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "float" | "double" | "bit"
            | "date" | "datetime" | "timestamp" | "time" | "year" | "enum" | "set" => true,
            _ => false,
        };
        let bare = matches!(
            column.data_type.as_str(),
            "tinyint"
                | "smallint"
                | "mediumint"
                | "int"
                | "bigint"
                | "decimal"
                | "date"
                | "datetime"
                | "timestamp"
                | "char"
                | "varchar"
                | "binary"
                | "varbinary"
        );
        Self {
            name: column.name.clone(),
            kind,
            long: !short,
            bare,
            required: !column.nullable,
        }
    }

    fn selected(&self) -> String {
        let name = quote_name(&self.name);
        match self.kind {
            Kind::Plain | Kind::Characters | Kind::Identifier => name,
            Kind::Approximate => format!("CONCAT({name} * 1e0)"),
            Kind::Double => format!("CONCAT({name})"),
            Kind::Number => format!("CAST({name} AS UNSIGNED)"),
        }
    }

    /// What the fingerprint is taken of.
    fn fingerprinted(&self) -> String {
        let selected = match self.kind {
            Kind::Identifier => format!("CAST({} AS CHAR CHARACTER SET latin1)", self.selected()),
            _ => self.selected(),
        };
        match (self.long, self.bare) {
            // Without a cast, whose value a server may cut off at `max_allowed_packet`.
            (true, _) => format!("CRC32({selected})"),
            (_, true) => selected,
            _ => format!("CAST({selected} AS BINARY)"),
        }
    }

    /// A number whose text is the server's own choice.
    pub(crate) fn is_float(&self) -> bool {
        self.kind == Kind::Approximate
    }

    /// The same, of twice the size.
    pub(crate) fn is_double(&self) -> bool {
        self.kind == Kind::Double
    }

    /// What stands before and after a value that is loaded; nothing where the column takes it as it is.
    pub(crate) fn around(&self) -> Option<(&'static str, &'static str)> {
        match self.kind {
            Kind::Plain | Kind::Approximate | Kind::Double => None,
            Kind::Number => Some(("CAST(", " AS UNSIGNED)")),
            Kind::Characters | Kind::Identifier => Some(("CONVERT(", " USING utf8mb4)")),
        }
    }
}

impl TableForm {
    pub fn new(columns: &[ColumnSchema]) -> Self {
        let loaded = columns.iter().filter(|column| column.generated.is_none());
        Self {
            columns: loaded.map(ColumnForm::new).collect(),
        }
    }

    /// Whether servers of two flavours may write its values in different ways, see [`crate::ValueDigester`].
    pub fn differs_by_flavour(&self) -> bool {
        self.columns
            .iter()
            .any(|column| column.is_float() || column.is_double())
    }

    pub(crate) fn columns(&self) -> &[ColumnForm] {
        &self.columns
    }

    pub(crate) fn long_columns(&self) -> Vec<bool> {
        if self.columns.is_empty() {
            return vec![false];
        }
        self.columns.iter().map(|column| column.long).collect()
    }

    /// What to select. A table without columns to load gives an empty text for each row.
    pub fn select_list(&self) -> String {
        if self.columns.is_empty() {
            return "''".to_owned();
        }
        self.list(ColumnForm::selected)
    }

    /// The statement that loads rows into a table; its name comes quoted.
    pub fn load_sql(&self, table: &str) -> String {
        let mut targets = Vec::new();
        let mut set = Vec::new();
        for (number, column) in self.columns.iter().enumerate() {
            let name = quote_name(&column.name);
            match column.around() {
                None => targets.push(name),
                Some((before, after)) => {
                    let variable = format!("@c{number}");
                    set.push(format!("{name} = {before}{variable}{after}"));
                    targets.push(variable);
                }
            }
        }
        if targets.is_empty() {
            targets.push("@nothing".to_owned());
        }
        let mut sql = format!(
            "LOAD DATA LOCAL INFILE 'rows' INTO TABLE {table} CHARACTER SET binary \
             FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({})",
            targets.join(", ")
        );
        if !set.is_empty() {
            sql.push_str(" SET ");
            sql.push_str(&set.join(", "));
        }
        sql
    }

    /// The beginning of a statement that inserts rows, up to the first parenthesis of the values.
    pub(crate) fn insert_sql(&self, table: &str) -> String {
        let names = self.list(|column| quote_name(&column.name));
        format!("INSERT INTO {table} ({names}) VALUES ")
    }

    /// The statement by which the server fingerprints a table, or the part of it that meets a condition.
    pub fn fingerprint_sql(&self, table: &str, condition: Option<&str>) -> String {
        let (values, nulls) = if self.columns.is_empty() {
            ("''".to_owned(), "'0'".to_owned())
        } else {
            (self.list(ColumnForm::fingerprinted), self.nulls())
        };
        // One sum: of two the server would make every row's fingerprint twice. The separator makes bytes of all, also of
        // texts in several character sets: what is said of a collation aloud outweighs what columns have.
        let mut sql = format!(
            "SELECT COUNT(*), SUM(CRC32(CONCAT_WS(_binary'\\t' COLLATE `binary`, {values}, {nulls}))) FROM {table}"
        );
        if let Some(condition) = condition {
            sql.push_str(" WHERE ");
            sql.push_str(condition);
        }
        sql
    }

    /// A digit for each column: whether its value is NULL.
    fn nulls(&self) -> String {
        let mut parts = Vec::new();
        let mut known = String::new();
        for column in &self.columns {
            if column.required {
                known.push('0');
                continue;
            }
            if !known.is_empty() {
                parts.push(format!("'{}'", std::mem::take(&mut known)));
            }
            parts.push(format!("ISNULL({})", quote_name(&column.name)));
        }
        if !known.is_empty() {
            parts.push(format!("'{known}'"));
        }
        format!("CONCAT({})", parts.join(", "))
    }

    /// Has the server fingerprint a table, which takes as long as reading it. The session must be as
    /// [`READ_SESSION`] or [`LOAD_SESSION`] says.
    pub async fn fingerprint(
        &self,
        connection: &mut Connection,
        table: &str,
        condition: Option<&str>,
    ) -> Result<TableDigest, MysqlError> {
        let rows = connection.query(&self.fingerprint_sql(table, condition)).await?;
        connection.refuse_cut_values().await?;
        let digest = rows.rows.first().and_then(|row| {
            let sum = match row.text(1) {
                None => 0,
                Some(sum) => sum.parse::<u128>().ok()? & u128::from(u64::MAX),
            };
            Some(TableDigest {
                rows: row.number(0)?,
                sum: u64::try_from(sum).ok()?,
            })
        });
        digest.ok_or_else(|| MysqlError::protocol(format!("no fingerprint of {table} in the answer")))
    }

    fn list(&self, part: impl Fn(&ColumnForm) -> String) -> String {
        let parts: Vec<String> = self.columns.iter().map(part).collect();
        parts.join(", ")
    }
}
