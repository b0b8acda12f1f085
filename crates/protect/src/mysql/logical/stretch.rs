//! Which rows of a table one statement reads: a stretch between two keys, in the order of a key, up to a number of rows.
//!
//! Pure. A stretch that was cut off by its limit goes on behind the last key that came. Where it begins and ends is compared by
//! the server, in the column's own order: so two stretches that meet at a key hold every row between them once, whatever the
//! types and collations are. A key that can hold NULL, or whose values cannot be written down exactly, is none.
#![deny(clippy::indexing_slicing)]

use ballast_mysql::{KeyPart, TableForm, TableSchema, quote_name, quote_table};

/// Integers whose order is that of their numbers, and what a column of other types needs before a value's bytes.
const INTEGERS: [&str; 5] = ["tinyint", "smallint", "mediumint", "int", "bigint"];

/// How the rows of one table can be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableKey {
    /// What the server calls it.
    index: String,
    pub(super) columns: Vec<KeyColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    name: String,
    /// Which of the selected columns it is.
    place: usize,
    pub(super) literal: Literal,
}

/// How a value is written in SQL so that it means the same again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Literal {
    Number,
    /// In quotes, as the server printed it.
    Quoted,
    /// Bytes of this character set.
    Text(String),
}

/// The values of a key's columns as SQL, or of the first few of them.
pub(crate) type Literals = Vec<String>;

/// Some rows of a table, all of them where nothing is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stretch {
    /// Rows of these partitions only; of all where there are none.
    pub(crate) partitions: Vec<String>,
    /// Rows whose key is not less than this.
    pub(crate) from: Option<Literals>,
    /// Rows whose key is less than this.
    pub(crate) before: Option<Literals>,
    /// Rows whose key is greater than this.
    pub(crate) after: Option<Literals>,
}

impl TableKey {
    /// The primary key, or else a unique key without NULL; `None` where no key's values can be written down exactly.
    pub(crate) fn of(table: &TableSchema) -> Option<Self> {
        let primary = std::iter::once(("PRIMARY", &table.primary_key));
        let unique = table.unique_keys.iter().map(|key| (key.name.as_str(), &key.parts));
        let mut keys = primary.chain(unique).filter(|(_, parts)| !parts.is_empty());
        keys.find_map(|(index, parts)| {
            let columns: Option<Vec<_>> = parts.iter().map(|part| KeyColumn::of(table, part)).collect();
            columns.map(|columns| Self {
                index: index.to_owned(),
                columns,
            })
        })
    }

    /// The key of a row, written down. `None` if a value is missing, which a key's cannot be.
    pub(crate) fn literals<'a>(&self, values: &dyn Fn(usize) -> Option<&'a [u8]>) -> Option<Literals> {
        let literal = |column: &KeyColumn| column.literal(values(column.place)?);
        self.columns.iter().map(literal).collect()
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.columns.iter().map(|column| quote_name(&column.name))
    }

    fn list(&self) -> String {
        self.names().collect::<Vec<_>>().join(", ")
    }

    /// Whether the key of a row is greater than this one, or not less: `(a, b) > (x, y)`, spelled so that the server looks it up.
    fn greater(&self, than: &[String], or_equal: bool) -> Option<String> {
        self.compare(than, ">", or_equal)
    }

    /// `(a, b) < (x, y)`, or not greater.
    fn less(&self, than: &[String], or_equal: bool) -> Option<String> {
        self.compare(than, "<", or_equal)
    }

    fn compare(&self, with: &[String], sign: &str, or_equal: bool) -> Option<String> {
        let mut condition = String::new();
        let pairs: Vec<_> = self.names().zip(with).collect();
        for (name, value) in pairs.into_iter().rev() {
            condition = match condition.as_str() {
                "" if or_equal => format!("{name} {sign}= {value}"),
                "" => format!("{name} {sign} {value}"),
                inner => format!("{name} {sign}= {value} AND ({name} {sign} {value} OR ({inner}))"),
            };
        }
        (!condition.is_empty()).then_some(condition)
    }
}

impl KeyColumn {
    fn of(table: &TableSchema, part: &KeyPart) -> Option<Self> {
        let selected = table.columns.iter().filter(|column| column.generated.is_none());
        let (place, column) = selected.enumerate().find(|(_, column)| column.name == part.column)?;
        let literal = match (column.data_type.as_str(), &column.charset) {
            (data_type, _) if INTEGERS.contains(&data_type) => Literal::Number,
            ("decimal", _) => Literal::Number,
            ("date" | "datetime" | "timestamp", _) => Literal::Quoted,
            ("char" | "varchar", Some(charset)) => Literal::Text(charset.clone()),
            ("binary" | "varbinary", _) => Literal::Text("binary".to_owned()),
            _ => return None,
        };
        (part.prefix.is_none() && !part.descending && !column.nullable).then(|| Self {
            name: column.name.clone(),
            place,
            literal,
        })
    }

    /// A value as SQL.
    pub(super) fn literal(&self, value: &[u8]) -> Option<String> {
        Some(match &self.literal {
            Literal::Number => std::str::from_utf8(value).ok()?.to_owned(),
            Literal::Quoted => format!("'{}'", std::str::from_utf8(value).ok()?),
            Literal::Text(charset) if value.is_empty() => format!("_{charset} ''"),
            Literal::Text(charset) => format!("_{charset} 0x{}", hex(value)),
        })
    }
}

impl Stretch {
    /// The statement that reads it, `limit` rows at most.
    pub(crate) fn select(
        &self,
        table: &TableSchema,
        form: &TableForm,
        key: Option<&TableKey>,
        limit: Option<u64>,
    ) -> String {
        let mut sql = format!("SELECT {} FROM {}", form.select_list(), self.place(table));
        let Some(key) = key else { return sql };
        sql.push_str(&self.condition(key, &[]));
        sql.push_str(" ORDER BY ");
        sql.push_str(&key.list());
        if let Some(limit) = limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        sql
    }

    /// The statement that asks for its first key that is not less than `probe`, greater than `low` and not greater than `high`.
    pub(super) fn select_key(
        &self,
        table: &TableSchema,
        key: &TableKey,
        (low, high): (&[String], &[String]),
        probe: &[String],
    ) -> String {
        let more = [key.greater(low, false), key.less(high, true), key.greater(probe, true)];
        let (list, condition) = (key.list(), self.condition(key, &more));
        format!(
            "SELECT {list} FROM {}{condition} ORDER BY {list} LIMIT 1",
            self.place(table)
        )
    }

    /// The statement that asks for its first or its last key.
    pub(super) fn select_end(&self, table: &TableSchema, key: &TableKey, last: bool) -> String {
        let direction = if last { " DESC" } else { "" };
        let order: Vec<_> = key.names().map(|name| name + direction).collect();
        let (list, order, condition) = (key.list(), order.join(", "), self.condition(key, &[]));
        format!(
            "SELECT {list} FROM {}{condition} ORDER BY {order} LIMIT 1",
            self.place(table)
        )
    }

    /// The statement that has the server estimate how many rows it has.
    pub(super) fn explain(&self, table: &TableSchema, key: &TableKey) -> String {
        format!(
            "EXPLAIN FORMAT=TRADITIONAL SELECT {} FROM {} USE INDEX ({}){}",
            key.list(),
            self.place(table),
            quote_name(&key.index),
            self.condition(key, &[])
        )
    }

    fn place(&self, table: &TableSchema) -> String {
        let name = quote_table(&table.database, &table.name);
        if self.partitions.is_empty() {
            return name;
        }
        let partitions: Vec<_> = self.partitions.iter().map(|partition| quote_name(partition)).collect();
        format!("{name} PARTITION ({})", partitions.join(", "))
    }

    fn condition(&self, key: &TableKey, more: &[Option<String>]) -> String {
        let ends = [
            self.from.as_deref().and_then(|from| key.greater(from, true)),
            self.before.as_deref().and_then(|before| key.less(before, false)),
            self.after.as_deref().and_then(|after| key.greater(after, false)),
        ];
        let all: Vec<_> = ends.iter().chain(more).flatten().map(String::as_str).collect();
        if all.is_empty() {
            return String::new();
        }
        format!(" WHERE {}", all.join(" AND "))
    }

    /// The same from behind one of its keys on.
    pub(crate) fn behind(&self, last: Literals) -> Self {
        Self {
            from: None,
            after: Some(last),
            ..self.clone()
        }
    }

    /// Two that hold together what this one holds, the second from a key on.
    pub(super) fn split(&self, at: Literals) -> (Self, Self) {
        let first = Self {
            before: Some(at.clone()),
            ..self.clone()
        };
        let second = Self {
            from: Some(at),
            ..self.clone()
        };
        (first, second)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // A string takes all that is written.
            write!(text, "{byte:02x}").ok();
            text
        })
}
