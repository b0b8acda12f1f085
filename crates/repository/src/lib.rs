//! Floor 2: the vault. Chunks, packs, manifests, streams of logs and keys in a [`ballast_storage::Storage`]; knows nothing of databases.
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
mod journal;
mod keys;
mod manifest;
mod marks;
mod names;
mod pack;
mod reader;
mod repository;
mod sealed;
mod segment;
mod stream;
mod writer;

pub use check::{CheckFinding, CheckReport, CheckScope, FindingKind};
pub use chunk::{CHUNK_BYTES_MAX, ChunkId};
pub use copy::{CopyCounts, copy_manifest, copy_stream};
pub use error::RepositoryError;
pub use extent::Extent;
pub use head::copy_head;
pub use journal::{JOURNAL_BYTES_MAX, Journal, JournalReader};
pub use keys::Lock;
pub use manifest::{FileEntry, Manifest, ManifestFacts};
pub use names::{BackupId, PackId, RepositoryId, SegmentPlace, SlotId, StreamId};
pub use reader::{BackupReader, WriteAt};
pub use repository::{Presence, Repository, create_all};
pub use segment::{Link, SEGMENT_BYTES_MAX, SEGMENT_LINKS_MAX, SealedSegment, SegmentFacts};
pub use stream::{StreamListing, StreamReader};
pub use writer::{BackupWriter, ChunkNumber, FileContent, LostWriter, Written, WrittenBackup};
