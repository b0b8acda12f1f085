//! Writers that change data while a backup runs. Each is a client of its own, fed through its standard input, so it
//! holds one long connection as an application does.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::servers::{Client, MysqlServer};

/// What the writers do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriterOptions {
    /// One more client that creates, drops, renames, swaps, truncates and alters tables, and creates and drops
    /// databases, without ever taking a shard away.
    pub ddl: bool,
    /// Transactions a second of each writer; without it as many as the server takes.
    pub rate: Option<u32>,
}

/// What they did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterReport {
    /// Transactions that were sent and answered.
    pub transactions: u64,
    /// Rounds of DDL, each of all kinds.
    pub ddl_rounds: u64,
    /// What the server said to statements that failed: a deadlock, or the end of a connection.
    pub errors: Vec<String>,
}

/// Running writers. Dropping them stops them.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    writers: Vec<Writer>,
}

#[derive(Debug)]
struct Writer {
    is_ddl: bool,
    thread: JoinHandle<(u64, Vec<String>)>,
}

impl Writers {
    /// Starts `count` writers over these tables (`balance.orders_0` …), which have the columns of the shards.
    pub fn start(server: &MysqlServer, count: usize, tables: &[String], options: WriterOptions) -> Self {
        assert!(!tables.is_empty(), "writers need tables");
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        let run = ballast_base::random_hex(3);
        for number in 0..count {
            let (tables, run) = (tables.to_vec(), run.clone());
            let make = move |round: u64| transaction(&tables, &run, number, round);
            writers.push(Writer {
                is_ddl: false,
                thread: spawn(server.client(), &stop, options.rate, make),
            });
        }
        if options.ddl {
            let tables = tables.to_vec();
            let make = move |round: u64| ddl_round(&tables, round);
            writers.push(Writer {
                is_ddl: true,
                thread: spawn(server.client(), &stop, None, make),
            });
        }
        Self { stop, writers }
    }

    /// Ends them all after the transaction each is in, and waits for it.
    pub fn stop(mut self) -> WriterReport {
        self.join()
    }

    fn join(&mut self) -> WriterReport {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = WriterReport {
            transactions: 0,
            ddl_rounds: 0,
            errors: Vec::new(),
        };
        for writer in self.writers.drain(..) {
            let (rounds, errors) = writer.thread.join().expect("a writer does not panic");
            let total = if writer.is_ddl {
                &mut report.ddl_rounds
            } else {
                &mut report.transactions
            };
            *total += rounds;
            report.errors.extend(errors);
        }
        report
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        if !self.writers.is_empty() {
            self.join();
        }
    }
}

/// Gives the client one batch after the other. Each ends in a SELECT, whose answer is waited for: so what is counted
/// has happened, and stopping leaves nothing in a pipe.
fn spawn(
    client: &Client,
    stop: &Arc<AtomicBool>,
    rate: Option<u32>,
    make: impl Fn(u64) -> String + Send + 'static,
) -> JoinHandle<(u64, Vec<String>)> {
    let mut command = client.command();
    command.args(["--batch", "--skip-column-names", "--unbuffered", "--force"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let pid = Pid::from_child(&child);
    let errors = thread::spawn(move || {
        let mut errors = Vec::new();
        for line in stderr.lines().map_while(Result::ok) {
            // A client that goes on after errors would wait for ever when its server is gone. The process is not
            // reaped before this thread ends, so the id is its own.
            if line.starts_with("ERROR 20") || line.starts_with("ERROR 4031") {
                kill_process(pid, Signal::KILL).ok();
            }
            errors.push(line);
        }
        errors
    });
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let rounds = feed(&mut child, &stop, rate, make);
        let errors = errors.join().unwrap();
        child.wait().unwrap();
        (rounds, errors)
    })
}

fn feed(child: &mut Child, stop: &AtomicBool, rate: Option<u32>, make: impl Fn(u64) -> String) -> u64 {
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let pause = rate.map(|rate| Duration::from_secs(1) / rate.max(1));
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        // A pipe that is closed: the server is gone, and the client with it.
        if exchange(&mut stdin, &mut stdout, &make(rounds)).is_err() {
            break;
        }
        rounds += 1;
        if let Some(pause) = pause {
            thread::sleep(pause);
        }
    }
    rounds
}

fn exchange(stdin: &mut ChildStdin, stdout: &mut impl io::Read, batch: &str) -> io::Result<()> {
    stdin.write_all(batch.as_bytes())?;
    stdin.write_all(b"SELECT 'done';\n")?;
    stdin.flush()?;
    let mut answer = [0; 5];
    stdout.read_exact(&mut answer)
}

/// One transaction over three shards: a new order, one changed, one deleted.
fn transaction(tables: &[String], run: &str, writer: usize, round: u64) -> String {
    let pick = |step: u64| {
        let at = (round * 7 + step * 31 + writer as u64 * 13) % tables.len() as u64;
        &tables[usize::try_from(at).unwrap()]
    };
    let (first, second, third) = (pick(0), pick(1), pick(2));
    let number = format!("W{writer:02}{run}{round:015}");
    format!(
        "START TRANSACTION;
        INSERT INTO {first} (order_no, shop_id, user_id, amount, token, items, address, note, created_at)
            VALUES ('{number}', 1 + {round} % 200, {round}, {round} % 1000, UNHEX(SHA2('{number}', 512)), '[]',
                'written by {writer}', REPEAT('n', {round} % 200), NOW(6));
        UPDATE {second} SET status = status + 1, note = CONCAT('changed in ', {round}) WHERE id = 1 + {round} % 500;
        DELETE FROM {third} WHERE id = 1000 + {round} % 1000;
        COMMIT;\n"
    )
}

/// Every kind of DDL once, on tables of its own in `balance_ddl_*`, and on one shard what an online schema change
/// does: a copy is swapped in by one RENAME, so the shard is always there.
fn ddl_round(tables: &[String], round: u64) -> String {
    let base = format!("balance_ddl_{}", round % 3);
    let shard = &tables[usize::try_from(round % tables.len() as u64).unwrap()];
    let mut sql = format!(
        "DROP DATABASE IF EXISTS {base};
        CREATE DATABASE {base};
        CREATE TABLE {base}.a (id INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(200), KEY (b)) ENGINE = InnoDB;
        CREATE TABLE {base}.gone (id INT PRIMARY KEY) ENGINE = InnoDB;\n"
    );
    for _ in 0..4 {
        writeln!(
            sql,
            "INSERT INTO {base}.a (b) VALUES (UUID()), (UUID()), (UUID()), (UUID()), (UUID()), (UUID());"
        )
        .unwrap();
    }
    write!(
        sql,
        "RENAME TABLE {base}.a TO {base}.b;
        CREATE TABLE {base}.a LIKE {base}.b;
        INSERT INTO {base}.a SELECT * FROM {base}.b;
        RENAME TABLE {base}.a TO {base}.c, {base}.b TO {base}.a, {base}.c TO {base}.b;
        TRUNCATE TABLE {base}.b;
        INSERT INTO {base}.b (b) VALUES ('after the truncate');
        ALTER TABLE {base}.a ADD COLUMN quick INT NOT NULL DEFAULT {round}, ALGORITHM = INSTANT;
        ALTER TABLE {base}.a ADD COLUMN slow INT NOT NULL DEFAULT 7, ALGORITHM = COPY;
        DROP TABLE {base}.gone;
        CREATE TABLE {shard}_new LIKE {shard};
        ALTER TABLE {shard}_new COMMENT = 'changed in round {round}';
        INSERT INTO {shard}_new SELECT * FROM {shard};
        RENAME TABLE {shard} TO {shard}_old, {shard}_new TO {shard};
        DROP TABLE {shard}_old;\n"
    )
    .unwrap();
    sql
}
