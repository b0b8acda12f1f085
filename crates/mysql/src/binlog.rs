//! The binary log of a server: what its bytes say, and getting them as they are written.

mod detail;
mod event;
mod executed_set;
mod files;
mod follower;
mod gtid;
mod packet;
mod previous;
mod query;
mod receiver;
mod session;
#[cfg(test)]
mod testing;
mod transaction_head;
mod walker;

pub use detail::{Statement, StatementKind, StatementName, TableRows, TransactionWalker, WalkedTransaction};
pub use event::{EventHeader, LOG_MAGIC};
pub use executed_set::{ExecutedSet, LogFlavour, MariaDbPosition};
pub use files::{LogFile, LogHead, list_log_files, read_log_head};
pub use follower::{Followed, LogFollower};
pub use gtid::Gtid;
pub use session::{FollowOptions, LogPlace};
pub use transaction_head::TransactionHead;
pub use walker::{LogWalker, Walked, WalkerState};
