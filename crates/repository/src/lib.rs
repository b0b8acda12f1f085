//! Floor 2: the vault. Chunks, packs, manifests and keys in a [`ballast_storage::Storage`]; knows nothing of databases.
//!
//! `docs/format.md` is the specification: bytes, write order, threat model. What this floor guarantees: nothing is named before it
//! is durable, every byte is authenticated before it is used, an object is written once.

mod bytes;
mod check;
mod chunk;
mod cipher;
mod copy;
mod error;
mod extent;
mod format;
mod head;
mod index;
mod keys;
mod manifest;
mod marks;
mod names;
mod pack;
mod reader;
mod repository;
mod writer;

pub use check::{CheckFinding, CheckReport, CheckScope, FindingKind};
pub use chunk::{CHUNK_BYTES_MAX, ChunkId};
pub use copy::{CopyCounts, copy_manifest};
pub use error::RepositoryError;
pub use extent::Extent;
pub use head::copy_head;
pub use keys::Lock;
pub use manifest::{FileEntry, Manifest, ManifestFacts};
pub use names::{BackupId, PackId, RepositoryId, SlotId};
pub use reader::{BackupReader, WriteAt};
pub use repository::{Presence, Repository, create_all};
pub use writer::{BackupWriter, ChunkNumber, FileContent, LostWriter, Written, WrittenBackup};
