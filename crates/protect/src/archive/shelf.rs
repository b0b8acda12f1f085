//! Segments on their way: closed journals, in order, until every repository has them. Each repository takes them at its own pace.
//!
//! In memory are at most [`HELD_BYTES_MAX`] of their bytes; those of a repository that is far behind are read from their journals again.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ballast_base::{Cancel, Cancelled, run_blocking};
use ballast_repository::{Journal, Link, Repository, SealedSegment, SegmentPlace, StreamId};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::kind::LogSegment;
use super::spool::{State, StreamFolder, at};
use crate::error::{ProtectError, Result};

/// Bytes of segments that are kept in memory for repositories that will soon ask for them.
const HELD_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// A closed journal.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) stream: Arc<Stream>,
    pub(super) place: SegmentPlace,
    pub(super) facts: LogSegment,
    path: PathBuf,
    /// The link of the segment before, once it is known.
    pub(super) previous: Arc<OnceLock<Link>>,
    link: Arc<OnceLock<Link>>,
    raw: Mutex<Option<Bytes>>,
    sealed: tokio::sync::Mutex<Option<Arc<SealedSegment>>>,
    /// Its stream is not gone on with: when this one is gone, so is the folder.
    last: bool,
}

/// The stream an item is of.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    /// As they are stored.
    pub(super) facts: Value,
    pub(super) folder: StreamFolder,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) struct Shelf {
    state: Mutex<Contents>,
    news: watch::Sender<()>,
    /// One removal at a time, so that a stream's state never goes back.
    removing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Contents {
    items: VecDeque<Arc<Item>>,
    /// The number of the first of them.
    first: u64,
    /// For each repository the number of the item it wants next.
    wanted: Vec<u64>,
    closed: bool,
    /// Of all of them.
    bytes: u64,
    /// Of the item that was put there last: its stream and end, and the link it will have.
    last: Option<(StreamId, u64, Arc<OnceLock<Link>>)>,
}

impl Item {
    /// The segment; sealed once, and again for whoever asks when it is no longer in memory.
    pub(super) async fn sealed(&self, repository: &Repository) -> Result<Arc<SealedSegment>> {
        let mut held = self.sealed.lock().await;
        if let Some(sealed) = &*held {
            return Ok(Arc::clone(sealed));
        }
        let previous = *self.previous.get().ok_or_else(|| {
            ProtectError::failed(format!(
                "the link of the segment before log offset {} is not known",
                self.place.start
            ))
        })?;
        let raw = lock(&self.raw).clone();
        let (repository, path, place) = (repository.clone(), self.path.clone(), self.place);
        let (id, facts) = (self.stream.id, serde_json::to_value(&self.facts).unwrap_or_default());
        let sealed = run_blocking("seal", move || -> Result<SealedSegment> {
            let raw = match raw {
                Some(raw) => raw,
                None => read_journal(&repository, &path, &place)?,
            };
            Ok(repository.seal_segment(id, place, facts, previous, &raw))
        })
        .await??;
        let link = *self.link.get_or_init(|| sealed.link);
        assert!(link == sealed.link, "the same bytes have the same link");
        let sealed = Arc::new(sealed);
        *held = Some(Arc::clone(&sealed));
        // What is sealed is smaller.
        lock(&self.raw).take();
        Ok(sealed)
    }

    fn bytes(&self) -> u64 {
        self.place.end - self.place.start
    }
}

fn read_journal(repository: &Repository, path: &std::path::Path, place: &SegmentPlace) -> Result<Bytes> {
    let mut reader = Journal::open(repository, path)?;
    let wanted = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
    let mut raw = Vec::with_capacity(wanted);
    while raw.len() < wanted
        && let Some(record) = reader.next_record()?
    {
        raw.extend_from_slice(&record);
    }
    if raw.len() < wanted {
        let message = format!("journal \"{}\" holds less than it held", path.display());
        return Err(ProtectError::failed(message).hint("look after the disk of the spool"));
    }
    // What is behind was torn off when it was found.
    raw.truncate(wanted);
    Ok(raw.into())
}

impl Shelf {
    pub(super) fn new(repositories: usize) -> Self {
        Self {
            state: Mutex::new(Contents {
                items: VecDeque::new(),
                first: 0,
                wanted: vec![0; repositories],
                closed: false,
                bytes: 0,
                last: None,
            }),
            news: watch::Sender::new(()),
            removing: tokio::sync::Mutex::default(),
        }
    }

    /// Puts a closed journal behind the others. `previous` is what is known of the first of a stream.
    pub(super) fn put(&self, new: NewItem) {
        let mut contents = lock(&self.state);
        let before = (new.stream.id, new.place.start);
        let same = contents
            .last
            .take()
            .filter(|(stream, end, _)| (*stream, *end) == before);
        let previous = same.map_or_else(
            || {
                let cell = OnceLock::new();
                if let Some(link) = new.previous {
                    cell.set(link).ok();
                }
                Arc::new(cell)
            },
            |(_, _, link)| link,
        );
        let link = Arc::new(OnceLock::new());
        contents.last = Some((new.stream.id, new.place.end, Arc::clone(&link)));
        contents.bytes += new.place.end - new.place.start;
        contents.items.push_back(Arc::new(Item {
            stream: new.stream,
            place: new.place,
            facts: new.facts,
            path: new.path,
            previous,
            link,
            raw: Mutex::new(new.raw),
            sealed: tokio::sync::Mutex::default(),
            last: new.last,
        }));
        contents.forget_bytes();
        drop(contents);
        self.news.send_replace(());
    }

    /// Nothing is put any more.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.news.send_replace(());
    }

    /// What repository number `who` needs next; waits for it. `None` when there is nothing more to come.
    pub(super) async fn next(&self, who: usize, cancel: &Cancel) -> std::result::Result<Option<Arc<Item>>, Cancelled> {
        let mut news = self.news.subscribe();
        loop {
            {
                let contents = lock(&self.state);
                if let Some(item) = contents.item_for(who) {
                    return Ok(Some(item));
                }
                if contents.closed {
                    return Ok(None);
                }
            }
            // The sender lives as long as this.
            drop(cancel.race(news.changed()).await?);
        }
    }

    /// Repository number `who` has what it asked for. What every repository has is removed.
    pub(super) async fn done(&self, who: usize) -> Result<()> {
        let removing = self.removing.lock().await;
        let finished = lock(&self.state).advance(who);
        self.news.send_replace(());
        let removed = if finished.is_empty() {
            Ok(())
        } else {
            run_blocking("remove journals", move || remove(&finished)).await?
        };
        drop(removing);
        removed
    }

    /// How many segments not even the quickest repository has.
    pub(super) fn waiting(&self) -> usize {
        let contents = lock(&self.state);
        let quickest = contents.wanted.iter().copied().max().unwrap_or(contents.first);
        contents.items.len()
            - usize::try_from(quickest - contents.first)
                .unwrap_or(0)
                .min(contents.items.len())
    }

    /// How many segments repository number `who` lacks.
    pub(super) fn lacking(&self, who: usize) -> usize {
        let contents = lock(&self.state);
        let wanted = contents.wanted.get(who).copied().unwrap_or(contents.first);
        contents.items.len()
            - usize::try_from(wanted - contents.first)
                .unwrap_or(0)
                .min(contents.items.len())
    }

    /// Bytes of the log that some repository lacks.
    pub(super) fn bytes(&self) -> u64 {
        lock(&self.state).bytes
    }

    /// The end of what was put there of a stream, if it was the last that anything was put of.
    pub(super) fn end_of(&self, stream: StreamId) -> Option<u64> {
        let contents = lock(&self.state);
        let last = contents.last.as_ref().filter(|(last, ..)| *last == stream);
        last.map(|(_, end, _)| *end)
    }
}

/// A closed journal on its way to the shelf.
#[derive(Debug)]
pub(super) struct NewItem {
    pub(super) stream: Arc<Stream>,
    pub(super) place: SegmentPlace,
    pub(super) facts: LogSegment,
    pub(super) path: PathBuf,
    pub(super) previous: Option<Link>,
    pub(super) raw: Option<Bytes>,
    pub(super) last: bool,
}

impl Contents {
    fn item_for(&self, who: usize) -> Option<Arc<Item>> {
        let at = self.wanted.get(who)?.checked_sub(self.first)?;
        self.items.get(usize::try_from(at).ok()?).map(Arc::clone)
    }

    fn advance(&mut self, who: usize) -> Vec<Arc<Item>> {
        if let Some(wanted) = self.wanted.get_mut(who) {
            *wanted += 1;
        }
        let needed = self.wanted.iter().copied().min().unwrap_or(self.first);
        let mut finished = Vec::new();
        while self.first < needed {
            let Some(item) = self.items.pop_front() else { break };
            self.bytes -= item.bytes();
            finished.push(item);
            self.first += 1;
        }
        finished
    }

    /// Keeps the bytes of the latest ones only.
    fn forget_bytes(&mut self) {
        let mut held = 0;
        for item in self.items.iter().rev() {
            held += item.bytes();
            if held <= HELD_BYTES_MAX {
                continue;
            }
            lock(&item.raw).take();
            // One that is being sealed now is kept this time.
            if let Ok(mut sealed) = item.sealed.try_lock() {
                sealed.take();
            }
        }
    }
}

/// Removes journals that every repository has, and says first up to where that is so.
fn remove(finished: &[Arc<Item>]) -> Result<()> {
    for (number, item) in finished.iter().enumerate() {
        let stream = &item.stream;
        let last_of_stream = finished.get(number + 1).is_none_or(|next| next.stream.id != stream.id);
        if last_of_stream && let Some(link) = item.link.get() {
            let state = stream.state.with_end(item.place.end, *link);
            // It only spares a question to the repositories at the next start; on a full disk, room is more.
            if let Err(error) = stream.folder.save(&state) {
                tracing::warn!(%error, "the state of a stream is not written");
            }
        }
    }
    for item in finished {
        match std::fs::remove_file(&item.path) {
            // Somebody else has.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            removed => removed.map_err(|error| at("remove a journal", &item.path, error))?,
        }
        if item.last {
            item.stream.folder.remove()?;
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
