//! Floor 1: MySQL as it is. Connections, statements, what a server is and has, its clone protocol, its data directory.
//!
//! Nothing here knows what the floors above keep or promise.

mod address;
mod connection;
mod error;
mod wire;

pub use address::{ServerAddress, TlsMode};
pub use connection::Connection;
pub use error::MysqlError;
pub use wire::response::{Executed, Row, Rows};
