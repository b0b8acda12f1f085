//! Floor 1: Redis and Valkey as they are. Connections, what a server is and has, its snapshot format, its replication
//! protocol and command stream, the directory it loads by itself.
//!
//! Nothing here knows what the floors above keep or promise.

mod address;
mod aof;
mod command;
mod connection;
mod dumps;
mod error;
mod key_scan;
mod load_requirements;
mod loader;
mod position;
mod psync;
mod rdb;
mod requirements;
mod restore_commands;
mod server;
mod throwaway;
mod wire;

pub use address::ServerAddress;
pub use aof::{DataForm, DataWriter};
pub use ballast_base::TlsMode;
pub use command::{Border, CommandScanner, StreamCommand, select_command};
pub use connection::Connection;
pub use dumps::Dumps;
pub use error::RedisError;
pub use key_scan::KeyScan;
pub use load_requirements::{TargetFacts, load_rights, refuse_load, refuse_target};
pub use loader::{Loader, shown_key};
pub use position::Position;
pub use psync::{Attached, CommandLink, RefusingListener, Snapshot, SnapshotForm, StreamPiece, SyncOptions};
pub use rdb::{
    ContentDigest, DatabaseSummary, KeyFact, KeyHead, KeyKind, KeyPattern, KeySelection, Part, PartSink, RdbFeed,
    RdbSummary, RdbVersion, WalkOptions, walk, walk_parts,
};
pub use requirements::{
    ForkRoom, Requirement, Severity, fork_room, log_requirements, recorder_rights, snapshot_requirements,
};
pub use restore_commands::{
    CommandBatch, LARGE_BYTES, LoadNeeds, Names, RestoreOptions, load_needs, needed_version, payload_version,
    restore_commands,
};
pub use server::{Continuation, Facts, Flavour, Info, ReplicaFact, ServerVersion};
pub use throwaway::{ServerBinary, ThrowawayOptions, ThrowawayServer};
pub use wire::resp::Reply;
