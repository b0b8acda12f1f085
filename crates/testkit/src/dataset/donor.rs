//! What is measured on: a server with a given amount of Balance on it, at rest, a known share of its pages changed.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::balance;
use crate::servers::{MysqlOptions, MysqlServer};

/// Below this a shard table is mostly empty pages, so smaller data has fewer shards.
const SHARD_BYTES_MIN: u64 = 16 << 20;
/// Loaded above what was asked, in per cent: a row's size is an estimate.
const MORE: u64 = 10;
/// How long a server may take to write what it has in memory.
const REST_MAX: Duration = Duration::from_secs(120);
/// How long nothing must be waiting to be written.
const REST: Duration = Duration::from_secs(4);
/// The server's default.
const PAGE_BYTES: u64 = 16 << 10;
const POLL: Duration = Duration::from_millis(200);

/// A server with Balance on it.
#[derive(Debug)]
pub struct Donor {
    pub server: MysqlServer,
    pub shards: u32,
    /// Of each shard.
    pub rows: u32,
}

impl Donor {
    /// What every server of a bench runs with: room to work, and commits that are not flushed one by one, which a load
    /// gains most from.
    pub fn options() -> MysqlOptions {
        MysqlOptions {
            buffer_pool_mib: 512,
            redo_mib: 512,
            ..MysqlOptions::default()
        }
    }

    /// With about `bytes` of table files, rather more than less.
    pub fn load(bytes: u64) -> Self {
        let shards = u32::try_from((bytes / SHARD_BYTES_MIN).clamp(1, u64::from(balance::SHARDS))).unwrap();
        Self::load_shards(bytes, shards)
    }

    /// The same in that many shards, whatever they cost: a shard takes 9 MiB at the least.
    pub fn load_shards(bytes: u64, shards: u32) -> Self {
        let rows = balance::rows_for_bytes(shards, bytes + bytes * MORE / 100);
        let server = MysqlServer::start(Self::options());
        balance::load(&server, shards, rows);
        server.sql(&format!("ANALYZE TABLE {}", balance::tables(shards).join(", ")));
        Self { server, shards, rows }
    }

    /// Bytes of Balance's table files.
    pub fn bytes(&self) -> u64 {
        fs::read_dir(self.server.datadir().join("balance"))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum()
    }

    /// Changes one row on about one page in a hundred of the table files, wherever it is.
    pub fn touch_one_percent(&self) {
        let pages = self.bytes() / PAGE_BYTES;
        let one_in = u64::from(self.shards) * u64::from(self.rows) * 100 / pages.max(1);
        for shard in 0..self.shards {
            self.server.sql(&format!(
                "UPDATE balance.orders_{shard} SET status = status + 1
                 WHERE MOD(CRC32(CONCAT({shard}, '-', id)), {one_in}) = 7"
            ));
        }
    }

    /// Changes the newest row in a hundred of each shard: the tail, where a shop system works.
    pub fn touch_tail(&self) {
        for shard in 0..self.shards {
            let rows = self.rows.div_ceil(100);
            self.server.sql(&format!(
                "UPDATE balance.orders_{shard} SET status = status + 1 ORDER BY id DESC LIMIT {rows}"
            ));
        }
    }

    /// Waits until the server has written all it has in memory, and the machine too, so that what is measured next does
    /// not pay for what was done before.
    pub fn rest(&self) {
        self.server.sql("SET GLOBAL innodb_max_dirty_pages_pct = 0");
        let begin = Instant::now();
        let mut clean_since = None;
        loop {
            let waiting = self.server.value(
                "SELECT VARIABLE_VALUE FROM performance_schema.global_status
                 WHERE VARIABLE_NAME = 'Innodb_buffer_pool_pages_dirty'",
            );
            if waiting != "0" {
                clean_since = None;
            } else if clean_since.get_or_insert_with(Instant::now).elapsed() >= REST {
                break;
            }
            assert!(
                begin.elapsed() < REST_MAX,
                "the server still has {waiting} pages to write"
            );
            thread::sleep(POLL);
        }
        self.server.sql("SET GLOBAL innodb_max_dirty_pages_pct = DEFAULT");
        rustix::fs::sync();
    }
}
