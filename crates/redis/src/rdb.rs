//! A snapshot in the server's own format (RDB), walked from its first byte to its last.
//!
//! [`walk`] reads as the bytes pass and keeps no more than one element and a small window, whatever the size of a key. It checks
//! what can be checked: the version, the structure of each value, the counts the server wrote beside, the CRC-64 at the end, and
//! that nothing follows. What it gives is what the snapshot holds: keys per database, kind and expiry, and a digest of the
//! content that does not depend on how a server keeps it, so that a restored server can be compared with what was captured.
//!
//! Bytes that are not what a server wrote are [`crate::RedisError::Damaged`]. A version or a type this release does not know is
//! [`crate::RedisError::Unsupported`]; it is never skipped, since nobody could say where the next value begins.

mod compose;
mod digest;
mod feed;
mod input;
mod packed;
mod parts;
mod selection;
mod streams;
mod summary;
pub(crate) mod text;
mod values;
mod walker;

pub(crate) use compose::{RdbComposer, key_head, select};
pub use digest::ContentDigest;
pub use feed::RdbFeed;
pub use parts::{KeyHead, Part, PartSink};
pub use selection::{KeyPattern, KeySelection};
pub use summary::{DatabaseSummary, RdbSummary, RdbVersion};
pub use values::KeyKind;
pub use walker::{KeyFact, WalkOptions, walk, walk_parts};
