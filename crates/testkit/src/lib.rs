//! The test kit: real servers, data, trouble, and the program as a user runs it. For tests and benches only.
//!
//! Everything panics when it cannot do its work, with the reason and the end of the server's log. A server that is not
//! on the machine is a panic that says `run ./dev servers`, never a skipped test. All calls block: call them from a
//! test's own thread, or before the async part begins. Values clean up after themselves when dropped.
//!
//! - [`servers::MysqlServer`]`::start(MysqlOptions)` or `::start_on(datadir, MysqlOptions)`; then `sql(text)` gives rows of
//!   `Option<String>`, `try_sql`, `sql_as(user, password, text)`, `value(text)` gives one field, `create_user(name, password,
//!   grants)`, `url(user)`, `port()`, `socket()`, `datadir()`, `outside_dir()`, `ca()`, `program()`, `client_program("mysqldump")`, `backup_tool()`,
//!   `version()`, `gtid_executed()`, `flavour()`, `pid()`, `is_running()`, `log_tail()`, `stop()`, `kill()`, `restart()`. `root` has
//!   no password at `localhost` (socket) and `127.0.0.1`. [`servers::MysqlOptions`] has `flavour`, `args`, `tls`, `binlog`, `gtid`,
//!   `durable`, `clone_plugin`, `buffer_pool_mib`, `redo_mib`, and the helpers `mariadb()` and `arg("--…")`.
//! - [`servers::RedisServer`]`::start(RedisOptions)` or `::start_on(dir, …)`: `command(&["SET", "a", "b"])`, `try_command`, `url()`,
//!   `port()`, `socket()`, `tls()`, `data_dir()`, `version()`, `flavour()`, `program()`, `knows("HEXPIRE")`, `pid()`, `stop()`, `kill()`,
//!   `restart()`; `client()` gives a connection that stays: `send(&[b"SET", …])`, `try_send`, `pipeline`. [`servers::RedisOptions`] has
//!   `flavour`, `args`, `password`, `tls`, and the helpers `valkey()` and `arg("--…", "…")`.
//! - [`dataset::balance`]: `load(&server, shards, rows_per_shard)`, `tables(shards)`, `rows_for_bytes(shards, bytes)`.
//!   [`dataset::ugly`]: `load(&server)`, `DATABASES`, `NAMES`. [`dataset::Writers`]`::start(&server, count, &tables,
//!   WriterOptions { ddl, rate })`, then `stop()` gives a report. [`dataset::checksums`]`(&server, &["balance"])` gives the
//!   fingerprint of each table. [`dataset::cache`]`::load(&server)` fills a Redis or Valkey with every type it has;
//!   [`dataset::CacheWriters`]`::start(&server, count)` keeps changing it, `stop()` gives the number of commands. [`dataset::Donor`]`::load(bytes)` is a server to measure on: `rest()`, `touch_one_percent()`.
//! - [`s3::S3Server`]`::start(S3Options { tls, dir })`: `endpoint()`, `port()`, `ca()`, `bucket_dir()`, `kill()`, `restart()`, and the
//!   constants `ACCESS_KEY`, `SECRET_KEY`, `BUCKET`, `REGION`. Path-style addresses.
//! - [`chaos_proxy::ChaosProxy`]`::start(target_port)`: `port()`, `cut_after(bytes)`, `cut()`, `latency`, `bandwidth`, `stall`,
//!   `refuse`, `passed()`.
//! - [`program::Program`]`::new(path)`: `env(name, value)`, `limit(time)`, `write(name, content)`, `dir()`, `run(args)` gives an
//!   `Output { code, signal, stdout, stderr, took }` with `expect(code)`; `spawn(args)` gives a `Running` with `wait()`,
//!   `kill_after(time)`, `kill_at_random(longest)`, `interrupt()`. [`program::built`]`("ballast")` finds the built program.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "the kit serves tests: it reads the environment, runs programs, and panics when it cannot do its work"
)]

mod certificates;
pub mod chaos_proxy;
pub mod dataset;
pub mod program;
pub mod s3;
pub mod servers;
