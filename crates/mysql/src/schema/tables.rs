//! Tables, and MariaDB's sequences, which are listed among them.

use std::collections::BTreeMap;

use super::read::{Reading, is, optional, text};
use super::table_text::TableText;
use super::{ColumnSchema, Generated, ObjectKind, Sequence, TableKind, TableSchema, UniqueKey};
use crate::{MysqlError, Row, quote_table, quote_text};

/// Tables whose columns are asked for at once: the answer must fit into one read.
const TABLES_AT_ONCE: usize = 500;
/// What MySQL calls the column of a primary key it makes by itself.
const GENERATED_KEY_COLUMN: &str = "my_row_id";

/// One line of the server's list of tables, views and sequences.
pub(super) struct Listed {
    pub(super) name: String,
    /// As the server says it.
    kind: String,
    engine: Option<String>,
    collation: Option<String>,
    pub(super) comment: String,
    rows: u64,
    data_bytes: u64,
    index_bytes: u64,
}

impl Listed {
    pub(super) fn is_view(&self) -> bool {
        self.kind == "VIEW"
    }

    fn is_sequence(&self) -> bool {
        self.kind == "SEQUENCE"
    }
}

/// All that the filter chooses, by name.
pub(super) async fn list(reading: &mut Reading<'_>, database: &str) -> Result<Vec<Listed>, MysqlError> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_COLLATION, TABLE_COMMENT, TABLE_ROWS, DATA_LENGTH,
         INDEX_LENGTH FROM information_schema.TABLES WHERE {} AND TABLE_TYPE <> 'TEMPORARY' ORDER BY TABLE_NAME",
        is("TABLE_SCHEMA", database)
    );
    let mut list = Vec::new();
    for row in reading.connection.query(&sql).await? {
        let name = text(&row, 1)?;
        if text(&row, 0)? == database && (reading.filter.table)(database, &name) {
            list.push(Listed {
                name,
                kind: text(&row, 2)?,
                engine: optional(&row, 3)?,
                collation: optional(&row, 4)?,
                comment: optional(&row, 5)?.unwrap_or_default(),
                rows: row.number(6).unwrap_or_default(),
                data_bytes: row.number(7).unwrap_or_default(),
                index_bytes: row.number(8).unwrap_or_default(),
            });
        }
    }
    Ok(list)
}

pub(super) async fn read(reading: &mut Reading<'_>, database: &str, listed: &[Listed]) -> Result<(), MysqlError> {
    let tables: Vec<&Listed> = listed
        .iter()
        .filter(|each| !each.is_view() && !each.is_sequence())
        .collect();
    for tables in tables.chunks(TABLES_AT_ONCE) {
        let names: Vec<String> = tables.iter().map(|table| quote_text(&table.name)).collect();
        let here = format!(
            "{} AND TABLE_NAME IN ({})",
            is("TABLE_SCHEMA", database),
            names.join(",")
        );
        let mut columns = read_columns(reading, database, &here).await?;
        let mut partitions = read_partitions(reading, database, &here).await?;
        for table in tables {
            let columns = columns.remove(&table.name).unwrap_or_default();
            let partitions = partitions.remove(&table.name).unwrap_or_default();
            read_table(reading, database, table, columns, partitions).await?;
        }
    }
    Ok(())
}

async fn read_table(
    reading: &mut Reading<'_>,
    database: &str,
    listed: &Listed,
    columns: Vec<ColumnSchema>,
    partitions: Vec<String>,
) -> Result<(), MysqlError> {
    let sql = format!("SHOW CREATE TABLE {}", quote_table(database, &listed.name));
    let shown = reading
        .shown(ObjectKind::Table, Some(database), &listed.name, &sql, 1)
        .await?;
    let Some((_, create)) = shown else {
        return Ok(());
    };
    let Some(engine) = listed.engine.clone().filter(|_| !columns.is_empty()) else {
        let reason = format!("the server cannot open it: {}", listed.comment);
        reading.leave_out(ObjectKind::Table, Some(database), Some(&listed.name), reason);
        return Ok(());
    };
    let parsed = TableText::parse(&create)?;
    let primary_key = parsed.primary_key();
    let column = |name: &str| columns.iter().find(|column| column.name == name);
    let unique_keys = parsed
        .unique_keys()
        .filter(|(_, parts)| {
            parts
                .iter()
                .all(|part| column(&part.column).is_some_and(|column| !column.nullable))
        })
        .map(|(name, parts)| UniqueKey { name, parts })
        .collect();
    let generated_primary_key = columns
        .first()
        .is_some_and(|column| column.name == GENERATED_KEY_COLUMN && column.invisible && !reading.mariadb)
        && matches!(primary_key.as_slice(), [part] if part.column == GENERATED_KEY_COLUMN);
    reading.schema.tables.push(TableSchema {
        database: database.to_owned(),
        name: listed.name.clone(),
        kind: if listed.kind == "SYSTEM VERSIONED" {
            TableKind::SystemVersioned
        } else {
            TableKind::Ordinary
        },
        engine,
        collation: listed.collation.clone().unwrap_or_default(),
        comment: listed.comment.clone(),
        rows: listed.rows,
        data_bytes: listed.data_bytes,
        index_bytes: listed.index_bytes,
        columns,
        primary_key,
        unique_keys,
        partitions,
        generated_primary_key,
        create,
    });
    Ok(())
}

async fn read_columns(
    reading: &mut Reading<'_>,
    database: &str,
    here: &str,
) -> Result<BTreeMap<String, Vec<ColumnSchema>>, MysqlError> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, CHARACTER_SET_NAME,
         COLLATION_NAME, CHARACTER_OCTET_LENGTH, EXTRA, GENERATION_EXPRESSION
         FROM information_schema.COLUMNS WHERE {here} ORDER BY TABLE_NAME, ORDINAL_POSITION"
    );
    let mut columns: BTreeMap<String, Vec<ColumnSchema>> = BTreeMap::new();
    for row in reading.connection.query(&sql).await? {
        if text(&row, 0)? == database {
            columns.entry(text(&row, 1)?).or_default().push(column(&row)?);
        }
    }
    Ok(columns)
}

fn column(row: &Row) -> Result<ColumnSchema, MysqlError> {
    let extra = text(row, 9)?.to_ascii_uppercase();
    let expression = optional(row, 10)?.unwrap_or_default();
    let generated = if matches!(expression.as_str(), "ROW START" | "ROW END") {
        Some(Generated::RowPeriod)
    } else if extra.contains("VIRTUAL GENERATED") {
        Some(Generated::Virtual)
    } else if extra.contains("STORED GENERATED") || extra.contains("PERSISTENT GENERATED") {
        Some(Generated::Stored)
    } else {
        None
    };
    Ok(ColumnSchema {
        name: text(row, 2)?,
        data_type: text(row, 3)?.to_ascii_lowercase(),
        column_type: text(row, 4)?,
        nullable: text(row, 5)? == "YES",
        charset: optional(row, 6)?,
        collation: optional(row, 7)?,
        octet_length: row.number(8),
        generated,
        invisible: extra.contains("INVISIBLE"),
    })
}

async fn read_partitions(
    reading: &mut Reading<'_>,
    database: &str,
    here: &str,
) -> Result<BTreeMap<String, Vec<String>>, MysqlError> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COALESCE(SUBPARTITION_NAME, PARTITION_NAME) FROM information_schema.PARTITIONS
         WHERE {here} AND PARTITION_NAME IS NOT NULL
         ORDER BY TABLE_NAME, PARTITION_ORDINAL_POSITION, SUBPARTITION_ORDINAL_POSITION"
    );
    let mut partitions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in reading.connection.query(&sql).await? {
        if text(&row, 0)? == database {
            partitions.entry(text(&row, 1)?).or_default().push(text(&row, 2)?);
        }
    }
    Ok(partitions)
}

pub(super) async fn read_sequences(
    reading: &mut Reading<'_>,
    database: &str,
    listed: &[Listed],
) -> Result<(), MysqlError> {
    for sequence in listed.iter().filter(|each| each.is_sequence()) {
        let place = quote_table(database, &sequence.name);
        let sql = format!("SHOW CREATE SEQUENCE {place}");
        let shown = reading
            .shown(ObjectKind::Sequence, Some(database), &sequence.name, &sql, 1)
            .await?;
        let Some((_, create)) = shown else {
            continue;
        };
        let sql = format!("SELECT next_not_cached_value, cycle_count FROM {place}");
        let shown = reading
            .shown(ObjectKind::Sequence, Some(database), &sequence.name, &sql, 0)
            .await?;
        let Some((row, next)) = shown else {
            continue;
        };
        let number = |_| MysqlError::protocol(format!("\"{next}\" is no value of a sequence"));
        let next = next.parse().map_err(number)?;
        reading.schema.sequences.push(Sequence {
            database: database.to_owned(),
            name: sequence.name.clone(),
            next,
            round: row.number(1).unwrap_or_default(),
            create,
        });
    }
    Ok(())
}
