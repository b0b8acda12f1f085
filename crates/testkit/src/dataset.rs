//! Data to back up: the shop system Balance, a database of everything ugly, a cache with every type, writers that keep changing it, and the
//! fingerprints that tell whether two servers hold the same.

pub mod balance;
pub mod cache;
mod cache_writers;
mod checksums;
mod donor;
pub mod ugly;
mod writers;

pub use cache_writers::CacheWriters;
pub use checksums::{Fingerprint, checksums};
pub use donor::Donor;
pub use writers::{WriterOptions, WriterReport, Writers};

/// A name between backticks.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
