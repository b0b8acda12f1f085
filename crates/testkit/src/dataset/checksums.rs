//! Fingerprints of tables, taken by the server itself.
//!
//! `CHECKSUM TABLE` of a table with a multi-valued index gives another number each time it is asked (seen with MySQL
//! 9.7.4: the index's hidden column is in it, and holds what the memory held). So a table with an index on an
//! expression is summed row by row instead.

use std::collections::BTreeMap;

use super::quoted;
use crate::servers::{Flavour, MysqlServer};

/// Tables of one statement.
const TABLES_AT_ONCE: usize = 40;

/// What `CHECKSUM TABLE … EXTENDED` and `COUNT(*)` say of one table. To be compared with one of the same table only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    pub checksum: u64,
    pub rows: u64,
}

/// The fingerprint of every base table in these databases, by `database.table`. Panics when a table cannot be read.
#[track_caller]
pub fn checksums(server: &MysqlServer, databases: &[&str]) -> BTreeMap<String, Fingerprint> {
    let list: Vec<String> = databases
        .iter()
        .map(|name| format!("'{}'", name.replace('\'', "''")))
        .collect();
    let names = server.sql(&format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES
         WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA IN ({}) ORDER BY 1, 2",
        list.join(", ")
    ));
    let names: Vec<(String, String)> = names
        .into_iter()
        .map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap()))
        .collect();
    let mut found = BTreeMap::new();
    for part in names.chunks(TABLES_AT_ONCE) {
        let quoted: Vec<String> = part
            .iter()
            .map(|(base, name)| format!("{}.{}", quoted(base), quoted(name)))
            .collect();
        let counts: Vec<String> = quoted
            .iter()
            .enumerate()
            .map(|(at, name)| format!("SELECT {at} AS at, COUNT(*) FROM {name}"))
            .collect();
        let sums = server.sql(&format!("CHECKSUM TABLE {} EXTENDED", quoted.join(", ")));
        let counts = server.sql(&format!("{} ORDER BY at", counts.join(" UNION ALL ")));
        assert_eq!(
            (sums.len(), counts.len()),
            (part.len(), part.len()),
            "each table answers once"
        );
        for (((base, name), sum), count) in part.iter().zip(sums).zip(counts) {
            let number = |text: &Option<String>| {
                text.as_ref()
                    .and_then(|text| text.parse().ok())
                    .unwrap_or_else(|| panic!("cannot read {base}.{name}"))
            };
            let fingerprint = Fingerprint {
                checksum: number(&sum[1]),
                rows: number(&count[1]),
            };
            found.insert(format!("{base}.{name}"), fingerprint);
        }
    }
    for (base, name) in with_expressions(server, &list.join(", ")) {
        let sum = row_sum(server, &base, &name);
        found.get_mut(&format!("{base}.{name}")).expect("listed above").checksum = sum;
    }
    found
}

fn with_expressions(server: &MysqlServer, databases: &str) -> Vec<(String, String)> {
    if server.flavour() == Flavour::Mariadb {
        return Vec::new();
    }
    let rows = server.sql(&format!(
        "SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME FROM information_schema.STATISTICS
         WHERE EXPRESSION IS NOT NULL AND TABLE_SCHEMA IN ({databases})"
    ));
    rows.into_iter()
        .map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap()))
        .collect()
}

/// The sum of a checksum of each row's text, in which NULL and the empty string differ.
fn row_sum(server: &MysqlServer, base: &str, name: &str) -> u64 {
    let literal = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
    let columns = server.sql(&format!(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS
         WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
        literal(base),
        literal(name)
    ));
    let columns: Vec<String> = columns
        .into_iter()
        .map(|row| format!("IFNULL(HEX(CONCAT({})), 'null')", quoted(row[0].as_ref().unwrap())))
        .collect();
    let sum = server.value(&format!(
        "SELECT IFNULL(SUM(CRC32(CONCAT_WS(',', {}))), 0) FROM {}.{}",
        columns.join(", "),
        quoted(base),
        quoted(name)
    ));
    sum.parse().unwrap()
}
