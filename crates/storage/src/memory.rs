//! Objects in memory, for tests of the floors above.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::{Capabilities, ObjectFacts, ObjectName, Space, Storage, StorageError};

/// A store that lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    objects: Mutex<BTreeMap<ObjectName, Bytes>>,
}

impl MemoryStorage {
    pub fn new() -> Self {
        Self::default()
    }

    /// Damages an object behind the contract's back.
    pub fn tamper(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) {
        let mut objects = self.objects();
        let mut body = objects.get(name).map(|body| body.to_vec()).unwrap_or_default();
        change(&mut body);
        objects.insert(name.clone(), body.into());
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, name: &ObjectName) -> Result<Bytes, StorageError> {
        let found = self.objects().get(name).cloned();
        found.ok_or_else(|| StorageError::NotFound {
            location: self.location(),
            name: name.clone(),
        })
    }
}

/// Objects in memory have no age.
fn facts(name: &ObjectName, body: &Bytes) -> ObjectFacts {
    ObjectFacts {
        name: name.clone(),
        bytes: body.len() as u64,
        modified_at: Timestamp::UNIX_EPOCH,
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_create: true }
    }

    async fn put_new(&self, name: &ObjectName, body: Bytes) -> Result<(), StorageError> {
        let mut objects = self.objects();
        let there = objects.entry(name.clone()).or_insert_with(|| body.clone());
        if *there == body {
            return Ok(());
        }
        Err(StorageError::AlreadyExists {
            location: self.location(),
            name: name.clone(),
        })
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StorageError> {
        self.found(name)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StorageError> {
        let body = self.found(name)?;
        let inside = range.start <= range.end && range.end <= body.len() as u64;
        match (usize::try_from(range.start), usize::try_from(range.end)) {
            (Ok(start), Ok(end)) if inside => Ok(body.slice(start..end)),
            _ => {
                let action = format!("read bytes {}..{} of object \"{name}\"", range.start, range.end);
                Err(StorageError::corrupt(
                    &self.location(),
                    action,
                    format!("it has {} bytes", body.len()),
                ))
            }
        }
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectFacts, StorageError> {
        Ok(facts(name, &self.found(name)?))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<Vec<ObjectFacts>, StorageError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let objects = self.objects();
        let named = objects
            .range((from, Bound::Unbounded))
            .filter(|(name, _)| name.as_str().starts_with(prefix));
        Ok(named.take(limit).map(|(name, body)| facts(name, body)).collect())
    }

    async fn strangers(&self, _limit: usize) -> Result<Vec<String>, StorageError> {
        Ok(Vec::new())
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.objects().remove(name);
        Ok(())
    }

    async fn space(&self) -> Result<Option<Space>, StorageError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn memory_keeps_the_contract() {
        conformance::run(Arc::new(MemoryStorage::new()), Capabilities { atomic_create: true }).await;
    }
}
