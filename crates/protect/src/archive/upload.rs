//! One repository's part: takes segments from the shelf in their order and stores them, for ever if need be. Each repository has
//! such a task of its own, so one that is away holds up nobody else.

use std::sync::Arc;
use std::time::Duration;

use ballast_base::{Cancel, Cancelled, random_unit};
use ballast_repository::{Link, Repository, RepositoryError, SegmentPlace, StreamId};
use tokio::sync::watch;

use super::merge::Merger;
use super::shelf::{Item, Shelf};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result, chain};
use crate::observer::LogNews;
use crate::settings::{KeyMaterial, RepositorySettings};
use crate::vault::reopen;

/// After a failure the first wait; it doubles from there.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a repository is told that nothing was committed.
const SEEN_EVERY: Duration = Duration::from_secs(60);

/// Up to `until`, microseconds since 1970 by the server's clock, its log ended at `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) stream: StreamId,
    pub(super) end: u64,
    pub(super) until: u64,
}

/// What is needed to open a repository that was away at the start.
#[derive(Debug, Clone)]
pub(super) struct Away {
    pub(super) settings: RepositorySettings,
    pub(super) key: KeyMaterial,
    /// One of the others: it must be a copy of the same.
    pub(super) other: Repository,
}

#[derive(Debug)]
pub(super) struct Uploader {
    pub(super) context: Context,
    pub(super) who: usize,
    pub(super) name: String,
    pub(super) shelf: Arc<Shelf>,
    pub(super) seen: watch::Receiver<Option<Seen>>,
    /// Ends all waits, also those for the storage.
    pub(super) stop: Cancel,
    pub(super) repository: Option<Repository>,
    pub(super) away: Option<Away>,
    /// It is not to be had now: said once, until it is back.
    pub(super) lost: watch::Sender<Option<String>>,
}

/// What is known of the stream that is stored now.
#[derive(Debug)]
struct Begun {
    stream: StreamId,
    end: u64,
    merger: Merger,
    marked: Option<(Duration, Seen)>,
}

impl Uploader {
    /// Works until the shelf is closed and empty, or `stop` fires.
    pub(super) async fn run(mut self) {
        if self.work().await.is_err() {
            tracing::info!(repository = self.name, "stopped; what is not stored stays in the spool");
        }
    }

    async fn work(&mut self) -> std::result::Result<(), Cancelled> {
        let mut begun: Option<Begun> = None;
        loop {
            let shelf = Arc::clone(&self.shelf);
            let stop = self.stop.clone();
            let item = tokio::select! {
                item = shelf.next(self.who, &stop) => item?,
                () = self.context.clock.sleep(SEEN_EVERY / 10) => {
                    self.mark(&mut begun).await?;
                    continue;
                }
            };
            let Some(item) = item else { return Ok(()) };
            self.store(&item, &mut begun).await?;
            if let Err(error) = shelf.done(self.who).await {
                let hint = "the next start removes it, once it was stored again".to_owned();
                self.context.warn(chain(&error), Some(hint));
            }
            self.mark(&mut begun).await?;
        }
    }

    /// Stores one segment, however long it takes.
    async fn store(&mut self, item: &Item, begun: &mut Option<Begun>) -> std::result::Result<(), Cancelled> {
        let mut wait = FIRST_WAIT;
        loop {
            let from = self.context.clock.elapsed();
            match self.try_store(item, begun).await {
                Ok(stored) => {
                    self.back();
                    let seconds = self.context.clock.elapsed().saturating_sub(from).as_secs_f64();
                    self.context.news(LogNews::Uploaded {
                        repository: self.name.clone(),
                        stream: item.stream.id.to_string(),
                        start: item.place.start,
                        end: item.place.end,
                        bytes_stored: stored,
                        seconds,
                    });
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(Cancelled),
                Err(error) => {
                    self.away_now(&error);
                    // It may be another place when it comes back: look again at what is there.
                    *begun = None;
                    let pause = wait.mul_f64(0.5 + random_unit() / 2.0);
                    self.stop.race(self.context.clock.sleep(pause)).await?;
                    wait = (wait * 2).min(WAIT_MAX);
                }
            }
        }
    }

    async fn try_store(&mut self, item: &Item, begun: &mut Option<Begun>) -> Result<u64> {
        let repository = self.opened().await?;
        if begun.as_ref().is_none_or(|begun| begun.stream != item.stream.id) {
            *begun = Some(self.begin(&repository, item).await?);
        }
        if item.previous.get().is_none() {
            let link = link_before(&repository, item, &self.stop).await?;
            item.previous.set(link).ok();
        }
        let sealed = self.stop.race(item.sealed(&repository)).await??;
        repository.put_segment(item.stream.id, &sealed, &self.stop).await?;
        if let Some(begun) = begun {
            begun.end = item.place.end;
            begun.merger.add(item.place);
            begun.merger.work(&repository, &self.context, &self.stop).await;
        }
        Ok(sealed.bytes.len() as u64)
    }

    /// Makes the stream, or looks at what is there of it.
    async fn begin(&self, repository: &Repository, item: &Item) -> Result<Begun> {
        let stream = &item.stream;
        let listing = match repository.stream(stream.id, &self.stop).await {
            Ok(listing) => Some(listing),
            Err(RepositoryError::Missing { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let end = listing.as_ref().map_or(0, ballast_repository::StreamListing::held_end);
        if end < item.place.start {
            let message = format!(
                "repository \"{}\" lacks what came before in the log of source \"{}\"",
                self.name,
                stream.state.facts.source()
            );
            let hint = format!("bring it there with: ballast copy --from NAME --to {}", self.name);
            self.context.warn(message, Some(hint));
        }
        let merger = match listing {
            Some(listing) => Merger::of(&listing, self.context.clock.elapsed()),
            None => {
                repository.create_stream(stream.id, &stream.facts, &self.stop).await?;
                Merger::new(stream.id)
            }
        };
        Ok(Begun {
            stream: stream.id,
            end,
            merger,
            marked: None,
        })
    }

    /// The repository; one that was away is tried again.
    async fn opened(&mut self) -> Result<Repository> {
        if let Some(repository) = &self.repository {
            return Ok(repository.clone());
        }
        let Some(away) = &self.away else {
            return Err(ProtectError::failed(format!(
                "repository \"{}\" cannot be opened",
                self.name
            )));
        };
        let opened = self
            .stop
            .race(reopen(&self.context, &away.settings, &away.key, &away.other));
        let repository = opened.await??;
        self.repository = Some(repository.clone());
        Ok(repository)
    }

    /// Says that nothing was committed since the last segment, when everything before is stored.
    async fn mark(&mut self, begun: &mut Option<Begun>) -> std::result::Result<(), Cancelled> {
        let (Some(seen), Some(repository)) = (*self.seen.borrow(), &self.repository) else {
            return Ok(());
        };
        if begun.is_none() && self.shelf.lacking(self.who) == 0 {
            // Nothing was stored by this run: what an earlier one stored is the end.
            *begun = match repository.stream(seen.stream, &self.stop).await {
                Ok(listing) => Some(Begun {
                    stream: seen.stream,
                    end: listing.held_end(),
                    merger: Merger::of(&listing, self.context.clock.elapsed()),
                    marked: None,
                }),
                Err(RepositoryError::Cancelled(cancelled)) => return Err(cancelled),
                Err(_) => None,
            };
        }
        let Some(begun) = begun else { return Ok(()) };
        let now = self.context.clock.elapsed();
        let soon = begun
            .marked
            .is_some_and(|(at, marked)| marked == seen || now.saturating_sub(at) < SEEN_EVERY);
        if seen.stream != begun.stream || seen.end != begun.end || soon {
            return Ok(());
        }
        let facts = serde_json::json!({});
        let marked = repository.mark_seen(seen.stream, seen.end, seen.until, &facts, &self.stop);
        match marked.await {
            Ok(()) => begun.marked = Some((now, seen)),
            Err(RepositoryError::Cancelled(cancelled)) => return Err(cancelled),
            // The next segment or the next minute finds out whether it is away.
            Err(error) => tracing::info!(%error, repository = self.name, "what was seen is not marked"),
        }
        Ok(())
    }

    fn away_now(&self, error: &ProtectError) {
        let message = chain(error);
        tracing::info!(repository = self.name, message, "a segment is not stored yet");
        if self.lost.borrow().is_none() {
            self.context.news(LogNews::RepositoryLost {
                repository: self.name.clone(),
                message: message.clone(),
            });
        }
        self.lost.send_replace(Some(message));
    }

    fn back(&self) {
        if self.lost.send_replace(None).is_some() {
            self.context.news(LogNews::RepositoryBack {
                repository: self.name.clone(),
            });
        }
    }
}

/// The link of the segment that ends where this one begins, asked of the repository.
async fn link_before(repository: &Repository, item: &Item, stop: &Cancel) -> Result<Link> {
    if item.place.start == 0 {
        return Ok(Link::FIRST);
    }
    let listing = repository.stream(item.stream.id, stop).await?;
    let ends_there = |place: &&SegmentPlace| place.end == item.place.start;
    let before = listing.segments.iter().chain(&listing.superseded).find(ends_there);
    let Some(before) = before else {
        return Err(ProtectError::failed(format!(
            "repository \"{}\" has no segment that ends at log offset {}",
            repository.name(),
            item.place.start
        )));
    };
    Ok(repository.segment_facts(item.stream.id, before, stop).await?.link)
}
