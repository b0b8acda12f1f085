//! A store that misbehaves on demand: by script, by seed, or switched off as a whole while it runs.
#![deny(clippy::missing_trait_methods)]

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ballast_base::{Clock, SystemClock};
use bytes::Bytes;

use crate::{Capabilities, ObjectFacts, ObjectName, Space, Storage, StorageError};

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Put,
    Get,
    GetRange,
    Head,
    List,
    Strangers,
    Delete,
    Space,
}

impl Call {
    fn action(self) -> &'static str {
        match self {
            Self::Put => "write object",
            Self::Get => "read object",
            Self::GetRange => "read a range of object",
            Self::Head => "look at object",
            Self::List => "list objects",
            Self::Strangers => "look for strangers",
            Self::Delete => "remove object",
            Self::Space => "ask for free space",
        }
    }
}

/// What goes wrong. Faults that make no sense for a call count as [`Fault::Fail`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens and `Unavailable` is the answer.
    Fail,
    /// Nothing happens and `Throttled` is the answer.
    Throttle,
    /// Everything happens and `Unavailable` is the answer.
    LoseAnswer,
    /// All is well, later.
    Delay(Duration),
    /// Half of the bytes that were asked for come, or are stored.
    Cut,
    /// One bit of what comes, or is stored, is another.
    Corrupt,
    /// What is there is replaced.
    Replace,
}

/// A decorator around a good store.
#[derive(Debug)]
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    down: bool,
    space_left: Option<u64>,
    calls: HashMap<Call, u64>,
    script: HashMap<(Call, u64), Fault>,
    /// State of the generator, faults per thousand calls, and what they are.
    random: Option<(u64, u64, Vec<Fault>)>,
}

impl FaultyStorage {
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self {
            inner,
            clock: Arc::new(SystemClock::new()),
            plan: Mutex::default(),
        }
    }

    /// The `nth` call of this kind (1 is the first that was ever made) goes wrong.
    pub fn fail_nth(&self, call: Call, nth: u64, fault: Fault) {
        self.plan().script.insert((call, nth), fault);
    }

    /// About `per_mille` of a thousand calls go wrong, each in one of these ways. The same seed and order of calls
    /// give the same faults.
    pub fn fail_at_random(&self, seed: u64, per_mille: u64, faults: &[Fault]) {
        self.plan().random = Some((seed, per_mille, faults.to_vec()));
    }

    /// Every call fails until it is up again, as if the server had died.
    pub fn set_down(&self, down: bool) {
        self.plan().down = down;
    }

    /// After this many more bytes there is no room; `None` is room without end.
    pub fn set_space_left(&self, bytes: Option<u64>) {
        self.plan().space_left = bytes;
    }

    /// How many calls of this kind were made.
    pub fn calls(&self, call: Call) -> u64 {
        self.plan().calls.get(&call).copied().unwrap_or(0)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unavailable(&self, call: Call, cause: &str) -> StorageError {
        let (location, action) = (self.inner.location(), call.action().to_owned());
        StorageError::Unavailable {
            location,
            action,
            source: cause.to_owned().into(),
        }
    }

    /// Counts the call, says what goes wrong with it, and has waited if that is all.
    async fn begin(&self, call: Call) -> Result<Option<Fault>, StorageError> {
        let fault = {
            let mut plan = self.plan();
            if plan.down {
                return Err(self.unavailable(call, "connection refused, as scripted"));
            }
            plan.next_fault(call)
        };
        match fault {
            Some(Fault::Delay(time)) => {
                self.clock.sleep(time).await;
                // It may have died meanwhile.
                if self.plan().down {
                    return Err(self.unavailable(call, "connection reset, as scripted"));
                }
                Ok(None)
            }
            Some(Fault::Fail) => Err(self.unavailable(call, "a fault, as scripted")),
            Some(Fault::Throttle) => Err(StorageError::Throttled {
                location: self.inner.location(),
                action: call.action().to_owned(),
                source: "a fault, as scripted".into(),
            }),
            fault => Ok(fault),
        }
    }

    /// For calls that only ask.
    async fn ask<T>(
        &self,
        call: Call,
        answer: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        match self.begin(call).await? {
            None => answer.await,
            Some(_) => Err(self.unavailable(call, "a fault, as scripted")),
        }
    }

    async fn read(
        &self,
        call: Call,
        answer: impl Future<Output = Result<Bytes, StorageError>>,
    ) -> Result<Bytes, StorageError> {
        match self.begin(call).await? {
            None => answer.await,
            Some(fault @ (Fault::Cut | Fault::Corrupt)) => answer.await.map(|body| damaged(&body, fault)),
            Some(_) => Err(self.unavailable(call, "a fault, as scripted")),
        }
    }

    fn take_space(&self, name: &ObjectName, bytes: u64) -> Result<(), StorageError> {
        let mut plan = self.plan();
        let Some(left) = plan.space_left else { return Ok(()) };
        let Some(rest) = left.checked_sub(bytes) else {
            let action = format!("write object \"{name}\"");
            let source = format!("{left} bytes left, as scripted").into();
            return Err(StorageError::NoSpace {
                location: self.inner.location(),
                action,
                source,
            });
        };
        plan.space_left = Some(rest);
        Ok(())
    }
}

impl Plan {
    fn next_fault(&mut self, call: Call) -> Option<Fault> {
        let count = self.calls.entry(call).or_insert(0);
        *count += 1;
        if let Some(fault) = self.script.remove(&(call, *count)) {
            return Some(fault);
        }
        let (state, per_mille, faults) = self.random.as_mut()?;
        let drawn = next_random(state);
        let kinds = u64::try_from(faults.len()).ok().filter(|kinds| *kinds > 0)?;
        if drawn % 1000 >= *per_mille {
            return None;
        }
        faults.get(usize::try_from(drawn / 1000 % kinds).ok()?).copied()
    }
}

/// SplitMix64: chance that a seed can repeat.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn damaged(body: &Bytes, fault: Fault) -> Bytes {
    let mut body = body.to_vec();
    let middle = body.len() / 2;
    match fault {
        Fault::Cut => body.truncate(middle),
        _ => body.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1),
    }
    body.into()
}

#[async_trait]
impl Storage for FaultyStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put_new(&self, name: &ObjectName, body: Bytes) -> Result<(), StorageError> {
        let fault = self.begin(Call::Put).await?;
        self.take_space(name, body.len() as u64)?;
        match fault {
            Some(Fault::LoseAnswer) => {
                self.inner.put_new(name, body).await?;
                Err(self.unavailable(Call::Put, "the answer was lost, as scripted"))
            }
            Some(fault @ (Fault::Cut | Fault::Corrupt)) => self.inner.put_new(name, damaged(&body, fault)).await,
            Some(Fault::Replace) => {
                self.inner.delete(name).await?;
                self.inner.put_new(name, body).await
            }
            _ => self.inner.put_new(name, body).await,
        }
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StorageError> {
        self.read(Call::Get, self.inner.get(name)).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.read(Call::GetRange, self.inner.get_range(name, range)).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectFacts, StorageError> {
        self.ask(Call::Head, self.inner.head(name)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<Vec<ObjectFacts>, StorageError> {
        self.ask(Call::List, self.inner.list(prefix, after, limit)).await
    }

    async fn strangers(&self, limit: usize) -> Result<Vec<String>, StorageError> {
        self.ask(Call::Strangers, self.inner.strangers(limit)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        match self.begin(Call::Delete).await? {
            None => self.inner.delete(name).await,
            Some(fault) => {
                if fault == Fault::LoseAnswer {
                    self.inner.delete(name).await?;
                }
                Err(self.unavailable(Call::Delete, "a fault, as scripted"))
            }
        }
    }

    async fn space(&self) -> Result<Option<Space>, StorageError> {
        self.ask(Call::Space, self.inner.space()).await
    }
}

#[cfg(test)]
mod tests;
