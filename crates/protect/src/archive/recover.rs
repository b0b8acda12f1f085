//! What a recorder that ended, in whatever way, has left in the spool: read back, booked again, and put on the shelf.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ballast_base::run_blocking;
use ballast_repository::{Journal, Repository, StreamId};
use jiff::Timestamp;

use super::kind::{Books, Closed, LogStream, LogTail};
use super::shelf::{NewItem, Shelf, Stream};
use super::spool::{Found, Spool, at};
use super::writer::{About, Writer};
use crate::context::Context;
use crate::error::{ProtectError, Result, chain};

/// A stream that can be gone on with.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) stream: Arc<Stream>,
    pub(super) writer: Box<Writer>,
}

/// Puts everything that is in the spool on the shelf; gives the stream that was written last, where it can be gone on with.
pub(super) async fn recover(
    context: &Context,
    repository: &Repository,
    spool: &Spool,
    shelf: &Shelf,
) -> Result<Option<Active>> {
    let mut found = spool.scan()?;
    let latest = found.pop();
    for stream in found {
        read_back(context, repository, stream, shelf, false).await?;
    }
    match latest {
        Some(stream) => read_back(context, repository, stream, shelf, true).await,
        None => Ok(None),
    }
}

/// Reads back what was written last of a stream whose other journals are on the shelf.
pub(super) async fn recover_one(
    context: &Context,
    repository: &Repository,
    spool: &Spool,
    shelf: &Shelf,
    stream: StreamId,
) -> Result<Option<Active>> {
    let Some(mut found) = spool.scan()?.into_iter().find(|found| found.state.stream == stream) else {
        return Ok(None);
    };
    let shelved = shelf.end_of(stream);
    found
        .journals
        .retain(|(start, _)| shelved.is_none_or(|end| *start >= end));
    read_back(context, repository, found, shelf, true).await
}

async fn read_back(
    context: &Context,
    repository: &Repository,
    found: Found,
    shelf: &Shelf,
    latest: bool,
) -> Result<Option<Active>> {
    let stream = Arc::new(Stream {
        id: found.state.stream,
        facts: serde_json::to_value(&found.state.facts).unwrap_or_default(),
        folder: found.folder,
        state: found.state,
    });
    let mut items = Vec::new();
    let (mut books, mut whole) = (None, true);
    for (number, (start, path)) in found.journals.iter().enumerate() {
        let end = found.journals.get(number + 1).map(|(next, _)| *next);
        let (reader, file, start, now) = (repository.clone(), path.clone(), *start, context.clock.now());
        let of = stream.state.facts.clone();
        let read = run_blocking("read a journal", move || -> Result<(Books, Option<Closed>)> {
            let (tail, raw) = read_journal(&reader, &file, start, end)?;
            book(&of, &tail, &raw, now)
        });
        match read.await? {
            Ok((after, closed)) => {
                match closed {
                    Some(closed) => items.push((path.clone(), closed)),
                    // Empty ones of a stream that goes on are begun again, at the same place.
                    None if end.is_some() || !latest => {
                        std::fs::remove_file(path).map_err(|error| at("remove a journal", path, error))?;
                    }
                    None => {}
                }
                books = Some(after);
            }
            Err(error) => {
                let hint = format!(
                    "look after the disk of the spool; what the server still has is captured anew in another stream. \
                     When nobody needs what is left there any more: rm -r {}",
                    stream.folder.path.display()
                );
                context.warn(
                    format!(
                        "what \"{}\" held is lost, and what follows it: {}",
                        path.display(),
                        chain(&error)
                    ),
                    Some(hint),
                );
                whole = false;
                break;
            }
        }
    }
    let goes_on = latest && whole && books.is_some();
    let count = items.len();
    if count == 0 && !goes_on && whole {
        stream.folder.remove()?;
        return Ok(None);
    }
    for (number, (path, closed)) in items.into_iter().enumerate() {
        shelf.put(NewItem {
            stream: Arc::clone(&stream),
            previous: (closed.place.start == stream.state.end).then_some(stream.state.link),
            place: closed.place,
            facts: closed.facts,
            path,
            raw: None,
            last: !goes_on && whole && number + 1 == count,
        });
    }
    let Some(books) = books.filter(|_| goes_on) else {
        return Ok(None);
    };
    let (repository, folder) = (repository.clone(), stream.folder.clone());
    let writer = run_blocking("begin a journal", move || Writer::begin(&repository, folder, books)).await??;
    Ok(Some(Active {
        stream,
        writer: Box::new(writer),
    }))
}

/// The bytes of a journal. The last one (`end` is `None`) may be torn: it is cut to what came whole.
fn read_journal(repository: &Repository, path: &Path, start: u64, end: Option<u64>) -> Result<(LogTail, Vec<u8>)> {
    // What is read from here on is told to the server as held: it must not be in memory only.
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| at("sync a journal", path, error))?;
    let mut reader = Journal::open(repository, path)?;
    let not_understood = |error| ProtectError::failed("its head is not understood").because(error);
    let About { tail } = serde_json::from_value(reader.about().clone()).map_err(not_understood)?;
    if tail.offset() != start {
        return Err(ProtectError::failed(format!("it is of log offset {}", tail.offset())));
    }
    let mut raw = Vec::new();
    while let Some(record) = reader.next_record()? {
        raw.extend_from_slice(&record);
    }
    let kept = match end {
        Some(end) => usize::try_from(end - start).unwrap_or(usize::MAX),
        None => tail.whole(&raw),
    };
    if raw.len() < kept {
        return Err(ProtectError::failed(format!(
            "it holds {} bytes instead of {kept}",
            raw.len()
        )));
    }
    raw.truncate(kept);
    Ok((tail, raw))
}

fn book(of: &LogStream, tail: &LogTail, raw: &[u8], now: Timestamp) -> Result<(Books, Option<Closed>)> {
    let mut books = Books::resume(of, tail)?;
    books.push(raw)?;
    let closed = books.close(now);
    Ok((books, closed))
}
