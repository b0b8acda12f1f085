//! Floor 1: MySQL as it is. Connections, statements, what a server is and has, its clone protocol, its data directory.
//!
//! Nothing here knows what the floors above keep or promise.

mod address;
mod applier;
mod backup_tool;
mod binlog;
mod client;
mod clone;
mod connection;
mod consistent_read;
mod error;
mod facts;
mod follow_requirements;
mod gtid;
mod identifier;
mod load_data;
mod page;
mod requirements;
mod row_requirements;
mod rows;
mod schema;
mod serve;
mod server;
mod table_form;
mod text_rows;
mod throwaway;
mod tool_requirements;
mod value_digest;
mod wire;
mod xbstream;

pub use address::ServerAddress;
pub use applier::{Applier, ApplierState, event_states, put_events_back};
pub use backup_tool::{BackupTool, ToolRun};
pub use ballast_base::TlsMode;
pub use binlog::{
    EventHeader, ExecutedSet, FollowOptions, Followed, Gtid, LOG_MAGIC, LogFile, LogFlavour, LogFollower, LogHead,
    LogPlace, LogWalker, MariaDbPosition, Statement, StatementKind, StatementName, TableRows, TransactionHead,
    TransactionWalker, Walked, WalkedTransaction, WalkerState, list_log_files, read_log_head,
};
pub use client::{HOST_ATTRIBUTE, PID_ATTRIBUTE, PROGRAM_ATTRIBUTE, SINCE_ATTRIBUTE};
pub use clone::{
    CloneEvent, CloneOptions, CloneState, CloneStream, DataBlock, DirectoryLayout, Disposition, FileChange,
    FileDescriptor, FileKind, FileMap, FilePath, LayoutFile, PageCompression, RecoveryStatus, StateDescriptor,
};
pub use connection::Connection;
pub use consistent_read::{
    ConsistentRead, Ddl, Guarantee, LogPosition, Moment, ReadOptions, TableLock, TableLocker, open_reader,
};
pub use error::{LogRefusal, MysqlError};
pub use facts::{Facts, TableFact};
pub use follow_requirements::{FollowFacts, follow_requirements};
pub use gtid::GtidSet;
pub use identifier::{quote_name, quote_table, quote_text};
pub use load_data::{Chunk, Loaded};
pub use page::{BadPage, ChecksumAlgorithm, PageChecker};
pub use requirements::{Requirement, Severity, clone_requirements, log_requirements};
pub use row_requirements::row_requirements;
pub use rows::{ROW_BYTES_MAX, RowBatch, RowPacket, RowStream};
pub use schema::{
    Abilities, Account, AccountKind, Change, ColumnSchema, Creation, Database, Event, Generated, KeyPart, LeftOut,
    Library, Loss, Naming, ObjectKind, Routine, RoutineKind, Schema, SchemaFilter, SecretSql, Sequence, TableKind,
    TableSchema, TableStatements, Translated, Trigger, UniqueKey, View, creation_session,
};
pub use serve::{LogServer, ReplicaState, ServeOptions, Served, empty_query, event_checksum};
pub use server::{Flavour, ServerVersion, variables};
pub use table_form::{ColumnForm, LOAD_SESSION, READ_SESSION, TableForm};
pub use text_rows::{TableDigest, TextRows};
pub use throwaway::{ReplayOptions, ServerBinary, ThrowawayOptions, ThrowawayServer, processes_with};
pub use tool_requirements::tool_requirements;
pub use value_digest::ValueDigester;
pub use wire::response::{Executed, Row, Rows};
pub use xbstream::{XbChunk, XbKind, XbPart, XbStream};
