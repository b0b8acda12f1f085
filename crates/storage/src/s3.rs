//! Objects in a bucket: S3 and the servers that speak like it, and OSS.
//!
//! `put_new` is one conditional request. Its answer can be lost and the request sent again by the client below us; the
//! second answer then says that the object exists although we made it. So whenever the server says "exists", the
//! stored bytes are read back and compared: equal means that the object is what the caller wanted stored.
//!
//! A server that does not know conditional requests would let objects be replaced without a word. Only a test can
//! tell: `self_test` must pass before a bucket is used.
//!
//! Keys are spelled here in full, prefix included, because the client's own handling of a root trusts the server to
//! list nothing outside of it.

mod answer;
mod client;

use std::fmt::{Debug, Formatter};
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use ballast_base::Secret;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use opendal::{EntryMode, ErrorKind, Metadata, Operator};

use crate::{Capabilities, OBJECT_BYTES_MAX, ObjectFacts, ObjectName, Space, Storage, StorageError, StorageSettings};

/// Calls without a body of ours end within this time, retries included.
const CONTROL_WAIT_MAX: Duration = Duration::from_secs(120);

/// The most a server lists in one answer.
const LIST_PAGE_MAX: usize = 1000;

/// What the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    S3,
    Oss,
}

/// A bucket, or what lies under a prefix of one.
pub(crate) struct S3Storage {
    operator: Operator,
    location: String,
    bucket: String,
    /// Empty or with a `/` at its end.
    prefix: String,
    /// Must not appear in any message.
    hidden: Vec<Secret>,
}

impl Debug for S3Storage {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Storage")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl S3Storage {
    pub(crate) fn open(
        dialect: Dialect,
        settings: &StorageSettings,
        bucket: &str,
        prefix: &str,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            operator: client::operator(dialect, settings, bucket)?,
            location: settings.url.strip_suffix('/').unwrap_or(&settings.url).to_owned(),
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() {
                String::new()
            } else {
                format!("{prefix}/")
            },
            hidden: [&settings.secret_key, &settings.session_token]
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
        })
    }

    fn key(&self, name: &ObjectName) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Runs a call that carries no body of ours.
    async fn control<T>(
        &self,
        action: impl Fn() -> String,
        call: impl Future<Output = opendal::Result<T>>,
    ) -> Result<opendal::Result<T>, StorageError> {
        tokio::time::timeout(CONTROL_WAIT_MAX, call)
            .await
            .map_err(|_| StorageError::Unavailable {
                location: self.location.clone(),
                action: action(),
                source: format!("no answer within {} s", CONTROL_WAIT_MAX.as_secs()).into(),
            })
    }

    /// Whether the object is there with these bytes; `None` if it is not there.
    async fn same_bytes(&self, name: &ObjectName, body: &Bytes) -> Result<Option<bool>, StorageError> {
        let same = match self.head(name).await {
            Ok(facts) if facts.bytes != body.len() as u64 => return Ok(Some(false)),
            Ok(_) => self.get(name).await.map(|there| there == body),
            Err(error) => Err(error),
        };
        match same {
            Ok(same) => Ok(Some(same)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Walks keys in the server's order and hands each, without our prefix, to `take` until it says stop.
    async fn walk(
        &self,
        prefix: &str,
        after: Option<&ObjectName>,
        page: usize,
        mut take: impl FnMut(&str, &Metadata) -> Result<bool, StorageError> + Send,
    ) -> Result<(), StorageError> {
        let action = || "list objects".to_owned();
        let keys = format!("{}{prefix}", self.prefix);
        let mut call = self
            .operator
            .lister_with(&keys)
            .recursive(true)
            .limit(page.clamp(1, LIST_PAGE_MAX));
        if let Some(after) = after {
            call = call.start_after(&self.key(after));
        }
        let mut lister = self
            .control(action, async { call.await })
            .await?
            .map_err(|error| self.failed(action(), error))?;
        loop {
            let next = self.control(action, lister.try_next()).await?;
            let Some(entry) = next.map_err(|error| self.failed(action(), error))? else {
                return Ok(());
            };
            let Some(rest) = entry.path().strip_prefix(&self.prefix) else {
                return Err(self.odd_list(entry.path(), "the server lists what was not asked for"));
            };
            // The marker some tools make for the prefix itself.
            if !rest.is_empty() && !take(rest, entry.metadata())? {
                return Ok(());
            }
        }
    }

    fn odd_list(&self, key: &str, cause: &str) -> StorageError {
        let hint = "use a server that lists like S3 does".to_owned();
        StorageError::Misconfigured {
            location: self.location.clone(),
            problem: format!("{cause}: {key:?}"),
            hint,
        }
    }
}

/// The object a listed key stands for, if it is one.
fn named(key: &str, metadata: &Metadata) -> Option<ObjectName> {
    if metadata.mode() == EntryMode::DIR {
        None
    } else {
        ObjectName::new(key).ok()
    }
}

fn facts(name: ObjectName, metadata: &Metadata) -> ObjectFacts {
    // Whole seconds, because some servers tell more in a list than of one object.
    let modified_at = metadata
        .last_modified()
        .and_then(|at| Timestamp::from_second(at.into_inner().as_second()).ok());
    let modified_at = modified_at.unwrap_or(Timestamp::UNIX_EPOCH);
    ObjectFacts {
        name,
        bytes: metadata.content_length(),
        modified_at,
    }
}

#[async_trait]
impl Storage for S3Storage {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_create: true }
    }

    async fn put_new(&self, name: &ObjectName, body: Bytes) -> Result<(), StorageError> {
        let action = || format!("write object \"{name}\"");
        StorageError::check_size(&self.location, name, &body)?;
        let written = self
            .operator
            .write_with(&self.key(name), body.clone())
            .if_not_exists(true)
            .await;
        let Err(error) = written else { return Ok(()) };
        // `Conflict` is what a server says while another request for the same name is under way.
        let exists = matches!(error.kind(), ErrorKind::ConditionNotMatch | ErrorKind::Conflict);
        let failure = self.failed(action(), error);
        // A server that knows early that the object exists hangs up on the body, and all we see is a broken line.
        if !exists && !matches!(failure, StorageError::Unavailable { .. }) {
            return Err(failure);
        }
        match self.same_bytes(name, &body).await {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => Err(StorageError::AlreadyExists {
                location: self.location.clone(),
                name: name.clone(),
            }),
            Ok(None) if exists => Err(StorageError::Unavailable {
                location: self.location.clone(),
                action: action(),
                source: "the server says that it exists, and then that it does not".into(),
            }),
            Err(error) if exists => Err(error),
            Ok(None) | Err(_) => Err(failure),
        }
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StorageError> {
        let action = || format!("read object \"{name}\"");
        let failed = |error| self.failed_on(name, action(), error);
        let reader = self.operator.reader(&self.key(name)).await.map_err(failed)?;
        let mut parts = reader.into_bytes_stream(..).await.map_err(failed)?;
        let mut body = BytesMut::new();
        while let Some(part) = parts
            .try_next()
            .await
            .map_err(|error| self.failed_stream(name, action(), error))?
        {
            if (body.len() + part.len()) as u64 > OBJECT_BYTES_MAX {
                let cause = format!("more than {OBJECT_BYTES_MAX} bytes are more than an object can have");
                return Err(StorageError::corrupt(&self.location, action(), cause));
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StorageError> {
        let action = || format!("read bytes {}..{} of object \"{name}\"", range.start, range.end);
        let corrupt = |cause: String| Err(StorageError::corrupt(&self.location, action(), cause));
        let length = match range.end.checked_sub(range.start) {
            Some(0) => {
                // No request can ask for nothing.
                let bytes = self.head(name).await?.bytes;
                let inside = range.end <= bytes;
                return if inside {
                    Ok(Bytes::new())
                } else {
                    corrupt(format!("it has {bytes} bytes"))
                };
            }
            Some(length) if length <= OBJECT_BYTES_MAX => length,
            _ => return corrupt("no object can have such a range".to_owned()),
        };
        let body = match self.operator.read_with(&self.key(name)).range(range.clone()).await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.kind() == ErrorKind::RangeNotSatisfied => {
                return corrupt("it ends before that".to_owned());
            }
            // A server gives what it has of a range that ends beyond the object, and the client says too little came.
            Err(error) if answer::is_short(&error) => {
                return match self.head(name).await {
                    Ok(facts) if facts.bytes < range.end => corrupt(format!("it has {} bytes", facts.bytes)),
                    _ => Err(self.failed_on(name, action(), error)),
                };
            }
            Err(error) => return Err(self.failed_on(name, action(), error)),
        };
        if body.len() as u64 == length {
            Ok(body)
        } else {
            corrupt(format!("{} bytes came", body.len()))
        }
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectFacts, StorageError> {
        let action = || format!("look at object \"{name}\"");
        let key = self.key(name);
        match self.control(action, self.operator.stat(&key)).await? {
            Ok(metadata) => Ok(facts(name.clone(), &metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // This answer has no body that would tell a missing object from a missing bucket; a list has.
                self.list("", None, 1).await?;
                Err(StorageError::NotFound {
                    location: self.location.clone(),
                    name: name.clone(),
                })
            }
            Err(error) => Err(self.failed(action(), error)),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<Vec<ObjectFacts>, StorageError> {
        let mut found: Vec<ObjectFacts> = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        self.walk(prefix, after, limit, |key, metadata| {
            let Some(name) = named(key, metadata) else {
                return Ok(true);
            };
            let last = found.last().map(|facts| &facts.name).or(after);
            if last.is_some_and(|last| *last >= name) {
                return Err(self.odd_list(key, "the server lists out of order"));
            }
            found.push(facts(name, metadata));
            Ok(found.len() < limit)
        })
        .await?;
        Ok(found)
    }

    async fn strangers(&self, limit: usize) -> Result<Vec<String>, StorageError> {
        let mut strangers = Vec::new();
        if limit == 0 {
            return Ok(strangers);
        }
        self.walk("", None, LIST_PAGE_MAX, |key, metadata| {
            if named(key, metadata).is_none() {
                strangers.push(key.to_owned());
            }
            Ok(strangers.len() < limit)
        })
        .await?;
        Ok(strangers)
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        let action = || format!("remove object \"{name}\"");
        let key = self.key(name);
        self.control(action, self.operator.delete(&key))
            .await?
            .map_err(|error| self.failed(action(), error))
    }

    async fn space(&self) -> Result<Option<Space>, StorageError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
