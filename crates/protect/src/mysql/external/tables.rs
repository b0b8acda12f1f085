//! The tables of a server, with the names of their files.

use std::collections::{BTreeMap, BTreeSet};

use ballast_mysql::{BackupTool, Connection, ServerAddress};

use crate::context::Context;
use crate::error::Result;

/// What a table is; the server has sequences and views in the same list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    schema: String,
    table: String,
    engine: String,
    is_table: bool,
}

/// By the path of the definition, `folder/name`.
#[derive(Debug, Default)]
pub(crate) struct Tables(BTreeMap<String, Listed>);

impl Tables {
    pub(crate) async fn read(context: &Context, address: &ServerAddress) -> Result<Self> {
        let mut connection = Connection::open(address, &context.cancel).await?;
        let tables = Self::of_connection(&mut connection).await?;
        connection.close().await;
        Ok(tables)
    }

    pub(crate) async fn of_connection(connection: &mut Connection) -> Result<Self> {
        // A name in the character set `filename` is the name of its file.
        let rows = connection
            .query(
                "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, CAST(CONVERT(TABLE_SCHEMA USING filename) AS BINARY), \
                 CAST(CONVERT(TABLE_NAME USING filename) AS BINARY) FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')",
            )
            .await?;
        let mut tables = BTreeMap::new();
        for row in rows {
            let text = |column| row.text(column).map(std::borrow::Cow::into_owned).unwrap_or_default();
            let listed = Listed {
                schema: text(0),
                table: text(1),
                engine: text(3),
                is_table: matches!(text(2).as_str(), "BASE TABLE" | "SYSTEM VERSIONED"),
            };
            let file = |name: &str, column| match name.strip_prefix("#mysql50#") {
                // A folder or file with this very name.
                Some(plain) => plain.to_owned(),
                None => text(column),
            };
            let path = format!("{}/{}", file(&listed.schema, 4), file(&listed.table, 5));
            tables.insert(path, listed);
        }
        Ok(Self(tables))
    }

    /// Those of both lists.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The tables, `(schema, table)`.
    pub(crate) fn names(&self) -> BTreeSet<(String, String)> {
        self.0
            .values()
            .filter(|listed| listed.is_table)
            .map(|listed| (listed.schema.clone(), listed.table.clone()))
            .collect()
    }

    /// The tables whose definitions these are, and whether all of these are known.
    pub(crate) fn of<'a>(&self, definitions: impl Iterator<Item = &'a str>) -> (BTreeSet<(String, String)>, bool) {
        let (mut tables, mut all_known) = (BTreeSet::new(), true);
        for path in definitions {
            match self.0.get(path) {
                Some(listed) if listed.is_table => {
                    tables.insert((listed.schema.clone(), listed.table.clone()));
                }
                Some(_) => {}
                None => all_known = false,
            }
        }
        (tables, all_known)
    }

    /// Those of `tables` whose rows the tool does not copy, with their engines.
    pub(crate) fn not_copied<'a>(
        &'a self,
        tables: &'a BTreeSet<(String, String)>,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
        self.0
            .values()
            .filter(|listed| {
                let name = (listed.schema.clone(), listed.table.clone());
                listed.is_table && !BackupTool::copies(&listed.engine) && tables.contains(&name)
            })
            .map(|listed| (listed.schema.as_str(), listed.table.as_str(), listed.engine.as_str()))
    }
}
