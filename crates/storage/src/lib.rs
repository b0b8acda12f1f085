//! Floor 1: objects in a folder or a bucket. Knows nothing of what the objects hold.
//!
//! [`Storage`] is the seam. Every kind and every decorator keeps the contract written at its methods, and proves it
//! by running the suite in `conformance`.

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod error;
#[cfg(any(test, feature = "testing"))]
mod faulty;
mod local;
#[cfg(any(test, feature = "testing"))]
mod memory;
mod name;
mod s3;
mod self_test;
mod url;

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

pub use error::{Cause, StorageError};
#[cfg(any(test, feature = "testing"))]
pub use faulty::{Call, Fault, FaultyStorage};
pub use local::LocalStorage;
#[cfg(any(test, feature = "testing"))]
pub use memory::MemoryStorage;
pub use name::{NameError, ObjectName};
pub use self_test::self_test;
pub use url::{Presence, StorageSettings, open};

/// No object is larger: objects are held in memory whole, so a foreign file must not be able to fill it.
pub const OBJECT_BYTES_MAX: u64 = 1 << 30;

/// Objects under one root, written once and read back whole or in part.
///
/// Any call may be dropped while it runs; a `put_new` that was dropped may still take place, whole or not at all.
#[async_trait]
pub trait Storage: Send + Sync + Debug {
    /// Where the objects are, for people: a URL without credentials.
    fn location(&self) -> String;

    /// What this store promises beyond the contract.
    fn capabilities(&self) -> Capabilities;

    /// Creates an object. Durable when it returns `Ok`. `AlreadyExists` if there is one of that name; that one is
    /// left as it was, even when two writers meet. Safe to call again after a lost answer: finding the very bytes
    /// one's own lost call wrote counts as success.
    async fn put_new(&self, name: &ObjectName, body: Bytes) -> Result<(), StorageError>;

    /// The whole object. `NotFound` if there is none.
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StorageError>;

    /// The bytes `range` of an object. A range that ends beyond the object is `Corrupt`: objects never shrink.
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StorageError>;

    /// Size and age. `NotFound` if there is none.
    async fn head(&self, name: &ObjectName) -> Result<ObjectFacts, StorageError>;

    /// Up to `limit` objects whose names start with `prefix` and come after `after`, in byte order of their names.
    /// Fewer than `limit` means there are no more. Holds whatever lies under the root, whoever put it there.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<Vec<ObjectFacts>, StorageError>;

    /// Up to `limit` things under the root that `list` cannot name because their name is no [`ObjectName`] or they
    /// are no plain objects (links, pipes, and empty folders, which end with `/`). For people to look at; no object of ours is
    /// among them, but a folder may be that objects left empty.
    async fn strangers(&self, limit: usize) -> Result<Vec<String>, StorageError>;

    /// Removes an object. One that is not there counts as removed.
    async fn delete(&self, name: &ObjectName) -> Result<(), StorageError>;

    /// Bytes in all and free, where the store can tell.
    async fn space(&self) -> Result<Option<Space>, StorageError>;
}

/// What a store promises beyond the contract; learnt from the store itself where possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `put_new` is atomic when two writers meet.
    pub atomic_create: bool,
}

/// Size of the volume the objects lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub total_bytes: u64,
    pub free_bytes: u64,
}

/// What `head` and `list` tell of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectFacts {
    pub name: ObjectName,
    pub bytes: u64,
    pub modified_at: jiff::Timestamp,
}
