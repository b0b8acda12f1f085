//! Balance: a shop system whose orders live in shard tables, beside `shops` and `admin`.

use std::thread;

use crate::servers::{Client, Flavour, MysqlServer};

/// The seed's number of shards.
pub const SHARDS: u32 = 120;
/// Rows of one statement: one transaction, so not too many.
const ROWS_PER_STATEMENT: u32 = 20_000;
/// Clients that load at the same time.
const LOADERS: usize = 2;
/// What a row costs in a data directory, indexes and free pages included; measured with 20,000 rows a shard. Below some
/// thousand rows a shard is larger than that: no less than 9 MiB.
const BYTES_PER_ROW: u64 = 1000;

const SHOPS: u32 = 200;

/// The shard tables' qualified names: `balance.orders_0` and on.
pub fn tables(shards: u32) -> Vec<String> {
    (0..shards).map(|shard| format!("balance.orders_{shard}")).collect()
}

/// How many rows each shard needs for the data directory to hold about that many bytes.
pub fn rows_for_bytes(shards: u32, bytes: u64) -> u32 {
    u32::try_from(bytes / BYTES_PER_ROW / u64::from(shards)).unwrap()
}

/// Creates the database `balance`: `shops`, `admin` and `orders_0` … with that many rows each. The content depends on
/// the arguments alone, so two servers loaded alike are equal.
pub fn load(server: &MysqlServer, shards: u32, rows_per_shard: u32) {
    server.sql(&format!("{SCHEMA}{}", shop_rows()));
    let depth = match server.flavour() {
        Flavour::Mysql => "cte_max_recursion_depth",
        Flavour::Mariadb => "max_recursive_iterations",
    };
    thread::scope(|scope| {
        for loader in 0..LOADERS {
            let client = server.client();
            scope.spawn(move || {
                let mine = (0..shards).skip(loader).step_by(LOADERS);
                load_shards(client, depth, mine, rows_per_shard);
            });
        }
    });
}

fn load_shards(client: &Client, depth: &str, shards: impl Iterator<Item = u32>, rows: u32) {
    for shard in shards {
        let mut sql = format!("SET SESSION {depth} = {};\n", ROWS_PER_STATEMENT + 1);
        sql.push_str(&create_shard(shard));
        let mut done = 0;
        while done < rows {
            let next = rows.min(done + ROWS_PER_STATEMENT);
            sql.push_str(&insert_rows(shard, done, next));
            done = next;
        }
        client
            .run(&sql)
            .unwrap_or_else(|error| panic!("cannot load orders_{shard}: {error}"));
    }
}

const SCHEMA: &str = "
CREATE DATABASE balance CHARACTER SET utf8mb4;
USE balance;
CREATE TABLE shops (
    id INT UNSIGNED NOT NULL PRIMARY KEY,
    name VARCHAR(120) NOT NULL,
    owner VARCHAR(80) NOT NULL,
    phone CHAR(11) NOT NULL,
    status ENUM('open', 'closed', 'frozen') NOT NULL DEFAULT 'open',
    balance DECIMAL(14, 2) NOT NULL DEFAULT 0,
    created_at DATETIME NOT NULL,
    KEY by_phone (phone)
) ENGINE = InnoDB;
CREATE TABLE admin (
    id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    login VARCHAR(40) NOT NULL UNIQUE,
    password_hash VARBINARY(64) NOT NULL,
    role SET('orders', 'money', 'shops', 'root') NOT NULL,
    last_login DATETIME NULL,
    note TEXT NULL
) ENGINE = InnoDB;
INSERT INTO admin (login, password_hash, role, last_login, note) VALUES
    ('root', UNHEX(SHA2('root', 512)), 'root', '2026-01-02 03:04:05', NULL),
    ('财务', UNHEX(SHA2('money', 512)), 'money,orders', NULL, '月底对账 📒');
CREATE PROCEDURE settle (IN shop INT UNSIGNED, IN amount DECIMAL(14, 2))
    UPDATE shops SET balance = balance + amount WHERE id = shop;
CREATE TRIGGER shops_frozen BEFORE UPDATE ON shops FOR EACH ROW
    SET NEW.balance = IF(OLD.status = 'frozen', OLD.balance, NEW.balance);
CREATE VIEW open_shops AS SELECT id, name, balance FROM shops WHERE status = 'open';
";

fn shop_rows() -> String {
    let rows: Vec<String> = (1..=SHOPS)
        .map(|id| format!("({id}, '店铺 {id}', 'owner {id}', '138{id:08}', 'open', {id}.50, '2026-01-01 00:00:00')"))
        .collect();
    format!("INSERT INTO shops VALUES {};\n", rows.join(", "))
}

fn create_shard(shard: u32) -> String {
    format!(
        "CREATE TABLE balance.orders_{shard} (
            id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
            order_no CHAR(24) CHARACTER SET ascii NOT NULL UNIQUE,
            shop_id INT UNSIGNED NOT NULL,
            user_id BIGINT UNSIGNED NOT NULL,
            status TINYINT UNSIGNED NOT NULL DEFAULT 0,
            amount DECIMAL(12, 2) NOT NULL,
            token VARBINARY(64) NOT NULL,
            items JSON NOT NULL,
            address VARCHAR(255) NOT NULL,
            note VARCHAR(500) NULL,
            created_at DATETIME(6) NOT NULL,
            KEY by_shop (shop_id, created_at),
            KEY by_user (user_id)
        ) ENGINE = InnoDB;\n"
    )
}

/// Rows `from + 1` to `to`. Half of a row is digest bytes, which compress no better than real data.
fn insert_rows(shard: u32, from: u32, to: u32) -> String {
    let count = to - from;
    format!(
        "INSERT INTO balance.orders_{shard}
            (order_no, shop_id, user_id, status, amount, token, items, address, note, created_at)
        SELECT /*+ NO_MERGE(digests) */ CONCAT('O', LPAD({shard}, 4, '0'), LPAD(n, 19, '0')), 1 + n % {SHOPS}, CONV(LEFT(d, 8), 16, 10), n % 6,
            (CONV(LEFT(d, 6), 16, 10) % 1000000) / 100, UNHEX(d),
            CONCAT('[{{\"sku\": \"', LEFT(d, 12), '\", \"name\": \"商品 ', n % 500, '\", \"count\": ', 1 + n % 9,
                '}}, {{\"sku\": \"', MID(d, 13, 12), '\", \"name\": \"gift\", \"count\": 1}}]'),
            CONCAT('上海市浦东新区世纪大道 ', n % 3000, ' 号 ', MID(d, 25, 16)),
            IF(n % 4 = 0, NULL, CONCAT('please leave it at the door ', MID(d, 41, 60))),
            '2026-01-01' + INTERVAL n * 7 SECOND + INTERVAL (n * 7919) % 1000000 MICROSECOND
        FROM (SELECT n, SHA2(CONCAT({shard}, '-', n), 512) AS d FROM (
            WITH RECURSIVE s (n) AS (SELECT {from} + 1 UNION ALL SELECT n + 1 FROM s WHERE n < {from} + {count})
            SELECT n FROM s) AS numbers) AS digests;\n"
    )
}
