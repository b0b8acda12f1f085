//! Writers that change a cache while it is backed up: every kind of write, transactions, scripts, expiry, whole databases.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crate::servers::RedisServer;

/// Running writers. Dropping them stops them.
#[derive(Debug)]
pub struct CacheWriters {
    stop: Arc<AtomicBool>,
    commands: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl CacheWriters {
    /// Starts `count` writers, each on databases of its own and on one they share.
    pub fn start(server: &RedisServer, count: usize) -> Self {
        let (stop, commands) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let expires_fields = server.knows("HEXPIRE");
        let threads = (0..count)
            .map(|number| {
                let (stop, commands) = (Arc::clone(&stop), Arc::clone(&commands));
                let mut client = server.client();
                thread::spawn(move || {
                    let mut random = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(number as u64 + 1);
                    while !stop.load(Ordering::Relaxed) {
                        let mut batch = Vec::new();
                        for _ in 0..8 {
                            random ^= random << 13;
                            random ^= random >> 7;
                            random ^= random << 17;
                            batch.extend(some(random, number, expires_fields));
                        }
                        let batch: Vec<Vec<Vec<u8>>> = batch
                            .iter()
                            .map(|line| {
                                line.split(' ')
                                    .map(|word| word.replace('_', " ").into_bytes())
                                    .collect()
                            })
                            .collect();
                        // Some fail on a key of another type, as in life.
                        drop(client.pipeline(&batch));
                        commands.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self {
            stop,
            commands,
            threads,
        }
    }

    /// Ends them after what each is doing; how many commands were sent.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.commands.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() && !thread::panicking() {
                panic!("a writer failed");
            }
        }
    }
}

impl Drop for CacheWriters {
    fn drop(&mut self) {
        self.end();
    }
}

/// One step of a writer; `_` stands for a space in a word.
fn some(random: u64, number: usize, expires_fields: bool) -> Vec<String> {
    let key = random >> 20 & 0xFF;
    let value = random >> 28 & 0xFFFF;
    let own = 4 + number;
    match random % 40 {
        0..=5 => vec![format!("SET w:{key} {value}")],
        6 | 7 => vec![format!("SET w:{key} {value} PX {}", 20 + value % 500)],
        8 => vec![format!("INCRBYFLOAT f:{key} 0.{value}")],
        9 | 10 => vec![format!("RPUSH l:{key} {value} {key}"), format!("LPOP l:{} 2", key ^ 1)],
        11 | 12 => vec![
            format!("SADD s:{key} {value} a{value}"),
            format!("SPOP s:{} 2", key ^ 1),
        ],
        13 | 14 => vec![
            format!("ZADD z:{key} {value}.25 m{value}"),
            format!("ZINCRBY z:{key} -1.5 m{value}"),
        ],
        15 | 16 => vec![
            format!("HSET h:{key} f{} {value} g {key}", value % 60),
            format!("HINCRBY h:{key} n {key}"),
        ],
        17 => vec![format!("HDEL h:{key} f{}", value % 60), format!("DEL l:{key} s:{key}")],
        18 | 19 => vec![
            format!("XADD x:{} * a {value} b {key}", key % 8),
            format!("XADD x:{} MAXLEN ~ 200 * a {value}", key % 8),
        ],
        20 => vec![
            format!("XGROUP CREATE x:{} g 0 MKSTREAM", key % 8),
            format!("XREADGROUP GROUP g c{number} COUNT 3 STREAMS x:{} >", key % 8),
        ],
        21 => vec![
            format!("XACK x:{} g {value}-0", key % 8),
            format!("XTRIM x:{} MAXLEN 300", key % 8),
        ],
        22 | 23 => vec![
            "MULTI".to_owned(),
            format!("INCR m:{key}"),
            format!("SELECT {own}"),
            format!("SET m:{key} {value}"),
            "SELECT 0".to_owned(),
            format!("INCR m:{key}:b"),
            "EXEC".to_owned(),
        ],
        24 => vec![
            "MULTI".to_owned(),
            format!("SET single:{key} {value}"),
            "EXEC".to_owned(),
        ],
        25 | 26 => vec![format!(
            "EVAL redis.call('SET',KEYS[1],ARGV[1]);redis.call('RPUSH',KEYS[2],ARGV[1]);return_1 2 e:{key} el:{key} {value}"
        )],
        27 => vec![format!(
            "EVAL redis.call('SET',KEYS[1],ARGV[1]);error('no') 1 half:{key} {value}"
        )],
        28 => vec![
            format!("PEXPIRE h:{key} {}", 50 + value % 1000),
            format!("PERSIST h:{}", key ^ 3),
        ],
        29 => vec![
            format!("SELECT {own}"),
            format!("SET o:{key} {value}"),
            "SELECT 0".to_owned(),
        ],
        30 => vec![
            format!("MOVE w:{key} {own}"),
            format!("COPY h:{key} c:{key} DB {own} REPLACE"),
        ],
        31 => vec![format!("RENAME w:{key} r:{key}"), format!("GETDEL r:{}", key ^ 1)],
        32 if value.is_multiple_of(16) => vec![format!("SWAPDB {own} 12")],
        33 if value.is_multiple_of(32) => vec![
            format!("SELECT {own}"),
            "FLUSHDB ASYNC".to_owned(),
            "SELECT 0".to_owned(),
        ],
        34 => vec![
            format!("SETBIT bits:{key} {value} 1"),
            format!("PFADD hll:{key} {value}"),
        ],
        35 => vec![format!("GEOADD geo:{key} {}.5 {}.25 p{value}", key % 180, value % 80)],
        36 => vec![
            format!("PUBLISH news {value}"),
            format!("SORT l:{key} STORE sorted:{key}"),
        ],
        37 if expires_fields => vec![
            format!("HEXPIRE h:{key} 3600 FIELDS 1 g"),
            format!("HPEXPIRE h:{key} 90000000 FIELDS 1 n"),
        ],
        38 => vec![format!("FCALL double 1 fn:{key} {value}")],
        _ => vec![
            format!("APPEND t:{} {value}", key % 32),
            format!("GETEX w:{key} EX 100"),
        ],
    }
}
