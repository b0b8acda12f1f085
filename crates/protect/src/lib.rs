//! Floor 3: what is promised. Backs up, restores, verifies, copies, lists and examines; knows databases and the repository, prints nothing.

mod archive;
mod backup;
mod catalog;
mod context;
mod copy;
mod doctor;
mod error;
mod load;
mod load_plan;
mod log_find;
mod log_plan;
mod mysql;
mod observer;
mod pattern;
mod position;
mod redis;
mod replay;
mod restore;
mod restore_plan;
mod settings;
mod status;
mod stop;
mod timeline;
mod vault;
mod verify;

pub use archive::{ArchiveOutcome, ArchiveRequest, LogStatus, archive};
pub use backup::{BackupOutcome, backup, backup_in_pieces};
pub use ballast_mysql::Gtid;
pub use ballast_redis::KeyPattern;
pub use catalog::{BackupState, BackupSummary, list};
pub use context::{Context, StepTime};
pub use copy::{CopyOutcome, copy};
pub use doctor::{Finding, Severity, doctor};
pub use error::{ErrorKind, ProtectError};
pub use load::resume::GoesOn;
pub use load::{LoadOutcome, load};
pub use load_plan::{LoadPlan, Rename, plan_load};
pub use log_find::{
    FoundStatement, FoundTable, FoundTransaction, FoundWay, LogFindOutcome, LogFindRequest, Suspicion, SuspicionKind,
    log_find,
};
pub use mysql::proof::Proof;
pub use observer::{Event, LogNews, Observer, Progress};
pub use pattern::{PatternError, TablePattern};
pub use position::Position;
pub use redis::commands::{RedisReplay, RedisStop};
pub use redis::load::{RedisLoadOutcome, load_redis};
pub use redis::load_plan::{RedisLoadPlan, RedisLoadRequest, plan_redis_load};
pub use redis::proof::RedisProof;
pub use redis::restore::{RedisRestoreOutcome, restore_redis};
pub use redis::restore_plan::{RedisRestorePlan, RedisRestoreRequest, plan_redis_restore};
pub use replay::{ReplayPlan, Replayed, Seam, StreamPart, TransactionLine};
pub use restore::{RestoreOutcome, restore};
pub use restore_plan::{RestorePlan, RestoreRequest, RestoreTarget, plan_restore, probe_early};
pub use settings::{
    Engine, KeyMaterial, Limit, LogSettings, RepositorySettings, SourceKind, SourceSettings, SpoolSettings, ToolPlaces,
};
pub use status::{SourceStatus, status};
pub use stop::{PositionStop, Stop};
pub use timeline::{Gap, Moments, Timeline, timeline};
pub use vault::{InitOutcome, LostRepository, Vault};
pub use verify::{RepositoryReport, VerifyFinding, VerifyReport, VerifyScope, verify};
