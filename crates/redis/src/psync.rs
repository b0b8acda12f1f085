//! The server's own replication: how a replica is given a snapshot and then the commands, byte for byte.
//!
//! # Two uses
//! [`Snapshot`] asks for all data and nothing after it (`rdb-only`): the server keeps no buffer for us and closes when it is done.
//! [`CommandLink`] follows the stream from a position (`PSYNC <id> <offset + 1>`), which costs the server nothing while its
//! backlog reaches that far back. A server that cannot go on from there answers with a snapshot; that is told as such, since
//! bytes between are missing then.
//!
//! # What is said about us
//! `capa eof` lets the server send a snapshot straight from its child process. Without it, it writes `dump.rdb` into its own
//! directory first, replacing one that is there: only for those who ask for that. `capa psync2` makes `+CONTINUE` name the
//! history, which changes when a replica is promoted. Valkey 9 must be told its own version, else it writes snapshots for older
//! replicas and fails on hash fields that expire.

mod handshake;
mod link;
mod payload;
mod refusal;
mod snapshot;

pub use handshake::SyncOptions;
pub use link::{Attached, CommandLink, StreamPiece};
pub use refusal::RefusingListener;
pub use snapshot::{Snapshot, SnapshotForm};
