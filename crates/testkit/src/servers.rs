//! Real servers for tests: MySQL, MariaDB, Redis, Valkey.
//!
//! Each server lives in a private folder with its own port on 127.0.0.1 and its own unix socket. It is killed when its
//! value is dropped, and shows the end of its log when the test is failing. Nothing is skipped: a server that is not
//! on the machine is a panic that says what to type.

mod find;
mod mysql;
mod process;
mod redis;
mod redis_client;
mod sql;

pub use mysql::{Flavour, MysqlOptions, MysqlServer, Tls};
pub use redis::{RedisFlavour, RedisOptions, RedisServer};
pub use redis_client::RedisClient;
pub use sql::{Row, SqlError};

pub(crate) use process::{free_port, private_folder};
pub(crate) use sql::Client;
