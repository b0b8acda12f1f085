//! Which rows of a table one statement reads: a stretch between two keys, in the order of a key, up to a number of rows.
//!
//! Pure. A stretch that was cut off by its limit goes on behind the last key that came; where the key's first column
//! is an integer, a table is divided beforehand, so that several connections read it.
#![deny(clippy::indexing_slicing)]

use ballast_mysql::{KeyPart, TableForm, TableSchema, quote_name, quote_table};

/// Integers whose order is that of their numbers, and what a column of other types needs before a value's bytes.
const INTEGERS: [&str; 5] = ["tinyint", "smallint", "mediumint", "int", "bigint"];

/// How the rows of one table can be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableKey {
    columns: Vec<KeyColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyColumn {
    name: String,
    /// Which of the selected columns it is.
    place: usize,
    literal: Literal,
}

/// How a value is written in SQL so that it means the same again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Literal {
    Number,
    /// In quotes, as the server printed it.
    Quoted,
    /// Bytes of this character set.
    Text(String),
}

/// Rows behind `after` and before `before`, each as the literals of the key's columns, or of the first few of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stretch {
    pub(crate) after: Option<Vec<String>>,
    /// The first column's value is less than this.
    pub(crate) before: Option<i128>,
    /// The first column's value is not less than this.
    pub(crate) from: Option<i128>,
}

impl TableKey {
    /// The primary key, or else a unique key without NULL; `None` where no key's values can be written down exactly.
    pub(crate) fn of(table: &TableSchema) -> Option<Self> {
        let keys = std::iter::once(&table.primary_key).chain(table.unique_keys.iter().map(|key| &key.parts));
        keys.filter(|parts| !parts.is_empty()).find_map(|parts| {
            let columns: Option<Vec<_>> = parts.iter().map(|part| KeyColumn::of(table, part)).collect();
            columns.map(|columns| Self { columns })
        })
    }

    /// The column by whose number the table can be divided.
    pub(crate) fn number(&self) -> Option<&str> {
        let first = self.columns.first()?;
        (first.literal == Literal::Number).then_some(first.name.as_str())
    }

    /// The key of a row, written down. `None` if a value is missing, which a key's cannot be.
    pub(crate) fn literals<'a>(&self, values: &dyn Fn(usize) -> Option<&'a [u8]>) -> Option<Vec<String>> {
        let literal = |column: &KeyColumn| {
            let value = values(column.place)?;
            Some(match &column.literal {
                Literal::Number => std::str::from_utf8(value).ok()?.to_owned(),
                Literal::Quoted => format!("'{}'", std::str::from_utf8(value).ok()?),
                Literal::Text(charset) if value.is_empty() => format!("_{charset} ''"),
                Literal::Text(charset) => format!("_{charset} 0x{}", hex(value)),
            })
        };
        self.columns.iter().map(literal).collect()
    }

    fn order(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| quote_name(&column.name)).collect();
        names.join(", ")
    }

    /// `(a, b) > (x, y)`, spelled so that the server looks it up in the key.
    fn behind(&self, last: &[String]) -> Option<String> {
        let mut condition = String::new();
        for (column, value) in self.columns.iter().zip(last).rev() {
            let name = quote_name(&column.name);
            condition = if condition.is_empty() {
                format!("{name} > {value}")
            } else {
                format!("{name} >= {value} AND ({name} > {value} OR ({condition}))")
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
        (part.prefix.is_none() && !part.descending).then(|| Self {
            name: column.name.clone(),
            place,
            literal,
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
        let mut sql = format!(
            "SELECT {} FROM {}",
            form.select_list(),
            quote_table(&table.database, &table.name)
        );
        let Some(key) = key else { return sql };
        let first = key
            .columns
            .first()
            .map(|column| quote_name(&column.name))
            .unwrap_or_default();
        let mut conditions = Vec::new();
        conditions.extend(self.from.map(|from| format!("{first} >= {from}")));
        conditions.extend(self.before.map(|before| format!("{first} < {before}")));
        conditions.extend(self.after.as_deref().and_then(|after| key.behind(after)));
        if !conditions.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&conditions.join(" AND "));
        }
        sql.push_str(" ORDER BY ");
        sql.push_str(&key.order());
        if let Some(limit) = limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        sql
    }

    /// The same from behind a key on.
    pub(crate) fn behind(&self, last: Vec<String>) -> Self {
        Self {
            after: Some(last),
            ..self.clone()
        }
    }
}

/// Divides the numbers from `least` to `most` into `count` stretches; the outer ones have no end, so that no row is in none.
pub(crate) fn divide(least: i128, most: i128, count: u32) -> Vec<Stretch> {
    let count = i128::from(count.max(1));
    let Some(width) = most.checked_sub(least).map(|width| width / count + 1) else {
        return vec![Stretch::default()];
    };
    let border = |number: i128| (number > 0 && number < count).then(|| least + width * number);
    (0..count)
        .map(|number| Stretch {
            from: border(number),
            before: border(number + 1),
            after: None,
        })
        .filter(|stretch| stretch.from.is_none_or(|from| from <= most))
        .collect()
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
