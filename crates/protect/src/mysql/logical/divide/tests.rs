//! With real servers: whatever a table's key is, its stretches hold every row once, also when they are read in short statements.
#![allow(
    clippy::indexing_slicing,
    reason = "a test panics when something is not as it must be"
)]

use std::collections::HashMap;

use ballast_base::Cancel;
use ballast_mysql::{Facts, READ_SESSION, Schema, SchemaFilter, TableForm, TextRows};
use ballast_testkit::servers::{Flavour, MysqlOptions, MysqlServer};

use super::super::cutter::Cutter;
use super::*;

const ROWS: usize = 1200;
/// Of one statement.
const LIMIT: u64 = 97;
const FINENESS: Fineness = Fineness {
    stretch_bytes: 32 * 1024,
    stretches_max: 9,
};

/// Numbers that come again with the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    /// Characters of which some sort alike, some far from where their bytes do, and some at the end are not seen.
    fn text(&mut self, of: &[&str]) -> String {
        (0..1 + self.below(7)).map(|_| self.pick(of)).collect()
    }

    fn hex(&mut self, bytes: u64) -> String {
        (0..bytes)
            .map(|_| {
                let byte = if self.below(3) == 0 { 0 } else { self.below(256) };
                format!("{byte:02x}")
            })
            .collect()
    }
}

const WIDE: [&str; 16] = [
    "a", "A", "ä", "ß", "z", "Z", "0", "9", "_", " ", "'", "\\\\", "商", "店", "é", "📒",
];
const NARROW: [&str; 12] = ["a", "A", "ä", "ß", "z", "Z", "0", "9", "_", " ", "é", "ÿ"];
const ASCII: [&str; 9] = ["a", "A", "z", "Z", "0", "9", "_", " ", "~"];
const CHINESE: [&str; 8] = ["商", "店", "一", "上", "a", "Z", "0", " "];

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

type Draw = fn(&mut Chance, usize) -> String;

/// What the columns of the key are, the key, and values for the columns. A key that is made of `KEY` is none to divide by.
fn tables() -> Vec<(&'static str, &'static str, &'static str, Draw)> {
    vec![
        ("numbers", "k BIGINT UNSIGNED NOT NULL", "PRIMARY KEY (k)", |chance, row| match row {
            0 => "0".to_owned(),
            1 => u64::MAX.to_string(),
            _ => chance.next().to_string(),
        }),
        ("negative", "k BIGINT NOT NULL", "PRIMARY KEY (k)", |chance, row| match row {
            0 => i64::MIN.to_string(),
            1 => i64::MAX.to_string(),
            _ => chance.next().cast_signed().to_string(),
        }),
        ("far_apart", "k BIGINT NOT NULL", "PRIMARY KEY (k)", |chance, row| match row {
            0..20 => (1_u64 << 50 << chance.below(12)).to_string(),
            _ => row.to_string(),
        }),
        ("tiny", "k TINYINT NOT NULL, l SMALLINT NOT NULL", "PRIMARY KEY (k, l)", |chance, row| {
            format!("{}, {row}", chance.below(4).cast_signed() - 2)
        }),
        ("decimals", "k DECIMAL(40, 7) NOT NULL", "PRIMARY KEY (k)", |chance, _| {
            let sign = chance.pick(&["-", ""]);
            format!("{sign}{}.{}", chance.below(1_000_000), chance.below(10_000_000))
        }),
        ("days", "k DATE NOT NULL, l INT NOT NULL", "PRIMARY KEY (k, l)", |chance, row| match row {
            0..9 => format!("'0000-00-00', {row}"),
            9..14 => format!("'9999-12-31', {row}"),
            _ => format!("'2026-{:02}-{:02}', {row}", 1 + chance.below(12), 1 + chance.below(28)),
        }),
        ("times", "k DATETIME(6) NOT NULL", "PRIMARY KEY (k)", |chance, _| {
            format!("'2025-01-01' + INTERVAL {} MICROSECOND", chance.below(1 << 45))
        }),
        ("stamps", "k TIMESTAMP(3) NOT NULL, l INT NOT NULL", "PRIMARY KEY (k, l)", |chance, row| {
            format!("'2025-03-30' + INTERVAL {} SECOND, {row}", chance.below(9_000))
        }),
        ("wide", "k VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci NOT NULL", "PRIMARY KEY (k)", |chance, _| {
            quoted(&chance.text(&WIDE))
        }),
        ("wide_bin", "k VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL", "PRIMARY KEY (k)", |chance, _| {
            quoted(&chance.text(&WIDE))
        }),
        ("wide_default", "k CHAR(40) CHARACTER SET utf8mb4 NOT NULL", "PRIMARY KEY (k)", |chance, _| {
            quoted(&chance.text(&WIDE))
        }),
        ("narrow", "k CHAR(20) CHARACTER SET latin1 COLLATE latin1_german2_ci NOT NULL", "PRIMARY KEY (k)", |chance, _| {
            quoted(&chance.text(&NARROW))
        }),
        ("chinese", "k VARCHAR(20) CHARACTER SET gbk NOT NULL", "PRIMARY KEY (k)", |chance, _| {
            quoted(&chance.text(&CHINESE))
        }),
        ("two_bytes", "k VARCHAR(20) CHARACTER SET utf16 NOT NULL", "PRIMARY KEY (k)", |chance, _| {
            quoted(&chance.text(&WIDE))
        }),
        ("order_numbers", "k CHAR(24) CHARACTER SET ascii NOT NULL", "PRIMARY KEY (k)", |chance, row| {
            format!("'{}{row:020}'", chance.pick(&["OR", "or", "ZZ"]))
        }),
        ("bytes", "k VARBINARY(12) NOT NULL", "PRIMARY KEY (k)", |chance, _| {
            let length = chance.below(12);
            format!("x'{}'", chance.hex(length))
        }),
        ("ids", "k BINARY(16) NOT NULL", "PRIMARY KEY (k)", |chance, _| format!("x'{}'", chance.hex(16))),
        (
            "composite",
            "k INT NOT NULL, l VARCHAR(20) CHARACTER SET ascii NOT NULL, m DATETIME NOT NULL",
            "PRIMARY KEY (k, l, m)",
            |chance, _| {
                let (tenant, text) = (chance.below(3), quoted(&chance.text(&ASCII)));
                format!("{tenant}, {text}, '2026-01-01' + INTERVAL {} SECOND", chance.below(9))
            },
        ),
        ("unique_only", "n INT NULL, k INT NOT NULL", "UNIQUE KEY nullable (n), UNIQUE KEY other (k)", |chance, _| {
            let number = chance.below(1 << 30);
            format!("IF({number} % 3 = 0, NULL, {number}), {}", chance.below(1 << 30))
        }),
        ("nullable_only", "k INT NULL", "UNIQUE KEY nullable (k)", |chance, row| match row % 3 {
            0 => "NULL".to_owned(),
            _ => chance.below(1 << 30).to_string(),
        }),
        ("no_key", "k INT NULL", "KEY plain (k)", |chance, _| chance.below(9).to_string()),
        ("shortened", "k VARCHAR(40) CHARACTER SET ascii NOT NULL", "UNIQUE KEY first (k(12))", |chance, row| {
            format!("'{}{row}'", chance.pick(&["a", "b"]))
        }),
        (
            "by_hash",
            "k INT NOT NULL",
            "PRIMARY KEY (k)) PARTITION BY HASH (k) PARTITIONS 5",
            |chance, _| chance.below(1 << 30).to_string(),
        ),
        (
            "by_range",
            "k INT NOT NULL, l CHAR(8) CHARACTER SET ascii NOT NULL",
            "PRIMARY KEY (k, l)) PARTITION BY RANGE (k) SUBPARTITION BY HASH (k) SUBPARTITIONS 2
             (PARTITION p0 VALUES LESS THAN (1), PARTITION `p 1` VALUES LESS THAN (9), PARTITION p9 VALUES LESS THAN MAXVALUE)",
            |chance, row| format!("{}, '{row}'", chance.below(12)),
        ),
        (
            "by_range_without_key",
            "k INT NOT NULL",
            "KEY plain (k)) PARTITION BY RANGE (k) (PARTITION p0 VALUES LESS THAN (500), PARTITION p1 VALUES LESS THAN MAXVALUE)",
            |chance, _| chance.below(1000).to_string(),
        ),
    ]
}

/// Those whose characters are not where their bytes would be, or that have but a few partitions.
const PARTLY: [&str; 6] = [
    "chinese",
    "narrow",
    "wide",
    "wide_default",
    "by_range",
    "by_range_without_key",
];
/// Those that can be read only as one.
const UNDIVIDED: [&str; 4] = ["two_bytes", "nullable_only", "no_key", "shortened"];

fn load(server: &MysqlServer, chance: &mut Chance) {
    server.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
    for (name, columns, keys, draw) in tables() {
        // Partitions stand behind the parenthesis, and bring it along.
        let end = if keys.contains("PARTITION BY") { "" } else { ")" };
        let mut sql = format!(
            "SET NAMES utf8mb4; SET SESSION sql_mode = '', SESSION time_zone = '+00:00'; USE d;
             CREATE TABLE {name} (id INT NOT NULL, pad CHAR(200) CHARACTER SET ascii NOT NULL, {columns}, {keys}{end};\n"
        );
        let values: Vec<_> = (0..ROWS)
            .map(|row| {
                format!(
                    "({row}, REPEAT('x', {}), {})",
                    100 + chance.below(100),
                    draw(chance, row)
                )
            })
            .collect();
        sql.push_str(&format!("INSERT IGNORE INTO {name} VALUES {};\n", values.join(",\n")));
        sql.push_str(&format!("ANALYZE TABLE {name};\n"));
        server.sql(&sql);
    }
}

async fn rows(connection: &mut Connection, form: &TableForm, sql: &str) -> Vec<Vec<u8>> {
    let mut encoder = TextRows::new(form);
    let mut stream = connection
        .stream(sql)
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
    let mut found = Vec::new();
    while let Some(batch) = stream.next().await.unwrap_or_else(|error| panic!("{error}: {sql}")) {
        for row in batch.rows() {
            let mut text = Vec::new();
            encoder.encode(row, &mut text).unwrap();
            found.push(text);
        }
    }
    found
}

/// The rows of a stretch, some at a time.
async fn stretch_rows(connection: &mut Connection, table: &TableSchema, mut stretch: Stretch) -> Vec<Vec<u8>> {
    let (form, key) = (TableForm::new(&table.columns), TableKey::of(table));
    let limit = key.is_some().then_some(LIMIT);
    let mut found = Vec::new();
    loop {
        let sql = stretch.select(table, &form, key.as_ref(), limit);
        let some = rows(connection, &form, &sql).await;
        let count = some.len() as u64;
        found.extend(some);
        let Some(key) = key.as_ref().filter(|_| Some(count) == limit) else {
            return found;
        };
        let mut last = None;
        let mut stream = connection.stream(&sql).await.unwrap();
        while let Some(batch) = stream.next().await.unwrap() {
            for row in batch.rows() {
                let values: Vec<_> = row.values().map(|value| value.unwrap()).collect();
                last = key.literals(&|place| values.get(place).copied().flatten());
            }
        }
        stretch = stretch.behind(last.unwrap());
    }
}

async fn every_row_is_in_one_stretch(flavour: Flavour) {
    let seed = u64::from_str_radix(&ballast_base::random_hex(8), 16).unwrap();
    println!("seed {seed}");
    let server = MysqlServer::start(MysqlOptions {
        flavour,
        ..MysqlOptions::default()
    });
    load(&server, &mut Chance(seed));
    let address = format!("{}?tls=off", server.url("root")).parse().unwrap();
    let mut connection = Connection::open(&address, &Cancel::new()).await.unwrap();
    let facts = Facts::read(&mut connection).await.unwrap();
    let filter = SchemaFilter {
        database: &|name| name == "d",
        table: &|_, _| true,
        accounts: false,
    };
    let schema = Schema::read(&mut connection, &facts, &filter).await.unwrap();
    connection.execute(READ_SESSION).await.unwrap();
    assert_eq!(schema.tables.len(), tables().len());
    for table in &schema.tables {
        let key = TableKey::of(table);
        let stretches = divide(&mut connection, table, key.as_ref(), FINENESS).await.unwrap();
        let form = TableForm::new(&table.columns);
        let all = rows(
            &mut connection,
            &form,
            &Stretch::default().select(table, &form, None, None),
        )
        .await;
        let mut left: HashMap<Vec<u8>, usize> = HashMap::new();
        for row in &all {
            *left.entry(row.clone()).or_default() += 1;
        }
        let mut sizes = Vec::new();
        for stretch in &stretches {
            let found = stretch_rows(&mut connection, table, stretch.clone()).await;
            sizes.push(found.len());
            for row in found {
                let count = left
                    .get_mut(&row)
                    .unwrap_or_else(|| panic!("{}: another row", table.name));
                *count = count
                    .checked_sub(1)
                    .unwrap_or_else(|| panic!("{}: twice: {}", table.name, String::from_utf8_lossy(&row)));
            }
        }
        println!("{}: {} rows in {sizes:?}", table.name, all.len());
        assert!(
            left.values().all(|count| *count == 0),
            "{}: rows in no stretch",
            table.name
        );
        let most = sizes.iter().max().copied().unwrap_or_default();
        if UNDIVIDED.contains(&table.name.as_str()) {
            assert_eq!(sizes.len(), 1, "{}", table.name);
        } else if !PARTLY.contains(&table.name.as_str()) {
            assert!(most * 2 < all.len(), "{}: hardly divided: {sizes:?}", table.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_in_one_stretch_on_mysql() {
    every_row_is_in_one_stretch(Flavour::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_in_one_stretch_on_mariadb() {
    every_row_is_in_one_stretch(Flavour::Mariadb).await;
}

/// The chunks a table is stored as.
async fn chunks(connection: &mut Connection, table: &TableSchema) -> (usize, Vec<bytes::Bytes>) {
    let (form, key) = (TableForm::new(&table.columns), TableKey::of(table));
    let fineness = Fineness {
        stretch_bytes: 3 * 1024 * 1024,
        stretches_max: 64,
    };
    let stretches = divide(connection, table, key.as_ref(), fineness).await.unwrap();
    let (mut encoder, mut chunks) = (TextRows::new(&form), Vec::new());
    for stretch in &stretches {
        let mut cutter = Cutter::default();
        let sql = stretch.select(table, &form, key.as_ref(), None);
        let mut stream = connection.stream(&sql).await.unwrap();
        while let Some(batch) = stream.next().await.unwrap() {
            for row in batch.rows() {
                let start = cutter.text().len();
                let fingerprint = encoder.encode(row, cutter.text()).unwrap();
                let length = cutter.text().len() - start;
                chunks.extend(cutter.row(length, fingerprint));
            }
        }
        chunks.extend(cutter.rest());
    }
    (stretches.len(), chunks)
}

/// Borders move when a table grows. What did not change is stored in the same chunks all the same, but for those at the borders.
#[tokio::test(flavor = "multi_thread")]
async fn borders_that_move_cost_no_more_than_the_chunks_at_them() {
    let server = MysqlServer::start(MysqlOptions::default());
    let insert = |from: u32, to: u32| {
        format!(
            "SET SESSION cte_max_recursion_depth = 1000000;
             INSERT INTO d.t WITH RECURSIVE s (n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM s WHERE n + 1 < {to})
             SELECT CONCAT('order-', LPAD(n, 12, '0')), SHA2(n, 512), SHA2(n + 1, 512), n FROM s; ANALYZE TABLE d.t;"
        )
    };
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (k VARCHAR(40) CHARACTER SET ascii NOT NULL PRIMARY KEY,
         a CHAR(128) CHARACTER SET ascii NOT NULL, b CHAR(128) CHARACTER SET ascii NOT NULL, n INT NOT NULL)",
    );
    server.sql(&insert(0, 60_000));
    let address = format!("{}?tls=off", server.url("root")).parse().unwrap();
    let mut connection = Connection::open(&address, &Cancel::new()).await.unwrap();
    let (before_count, before) = {
        let table = only_table(&mut connection).await;
        chunks(&mut connection, &table).await
    };
    server.sql(&insert(60_000, 66_000));
    let (after_count, after) = {
        let table = only_table(&mut connection).await;
        chunks(&mut connection, &table).await
    };
    let known: std::collections::HashSet<_> = before.iter().collect();
    let new: Vec<_> = after.iter().filter(|chunk| !known.contains(chunk)).collect();
    let bytes = |chunks: &[&bytes::Bytes]| chunks.iter().map(|chunk| chunk.len()).sum::<usize>();
    let (new_bytes, all_bytes) = (bytes(&new), bytes(&after.iter().collect::<Vec<_>>()));
    println!(
        "{before_count} and {after_count} stretches; {} of {} chunks are new, {new_bytes} of {all_bytes} bytes",
        new.len(),
        after.len()
    );
    assert!(before_count > 4 && after_count > 4, "hardly divided");
    // A twelfth is new, and each border costs a chunk or two.
    let grown = all_bytes / 11;
    assert!(
        new_bytes > grown / 2 && new_bytes < grown + 2 * after_count * 160 * 1024,
        "{new_bytes}"
    );
}

async fn only_table(connection: &mut Connection) -> TableSchema {
    let facts = Facts::read(connection).await.unwrap();
    let filter = SchemaFilter {
        database: &|name| name == "d",
        table: &|_, _| true,
        accounts: false,
    };
    let schema = Schema::read(connection, &facts, &filter).await.unwrap();
    connection.execute(READ_SESSION).await.unwrap();
    schema.tables.into_iter().next().unwrap()
}

#[test]
fn very_many_partitions_are_read_some_at_a_time() {
    let names: Vec<_> = (0..8192).map(|number| format!("p{number}")).collect();
    let stretches = of_partitions(&names);
    assert!(stretches.len() <= PARTITIONS_MAX);
    assert_eq!(
        stretches
            .into_iter()
            .flat_map(|stretch| stretch.partitions)
            .collect::<Vec<_>>(),
        names
    );
}
