//! The physical engine: the donor's files, by its own clone protocol, straight into pieces.
//!
//! Why the copy is consistent: the donor sends its files (fuzzy), then the pages that changed meanwhile, then the redo log up to the snapshot point;
//! a server that recovers from these three is exactly at that point. We hold commits while the donor fixes the point, see
//! [`super::commit_pause`]. Nothing is staged: later pages cover earlier ones in the map of pieces, which is resolved before it is written.
//!
//! Tables of other engines than InnoDB are not in it; their rows are taken beside it, see [`super::other_engines`].
//!
//! Every page's checksum is looked at as it passes. A page may be torn while the files are copied, because the donor writes it at that moment; such a page comes
//! again with the changed pages. One that is still wrong at the end is damage on the donor, and the backup fails and names it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ballast_mysql::{
    ChecksumAlgorithm, CloneEvent, CloneOptions, CloneState, CloneStream, DataBlock, Disposition, Facts, FileMap,
    FilePath, PageChecker, ServerAddress,
};
use ballast_repository::BackupWriter;
use jiff::Timestamp;

use super::commit_pause::{CommitPause, read_position, read_tables};
use super::other_engines::{self, Held};
use super::pace::Pace;
use super::pieces::Pieces;
use super::record::PhysicalRecord;
use super::taken::Taken;
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::position::Position;
use crate::settings::{Engine, SourceSettings};

/// Pages with a wrong checksum that may wait for their second coming.
const SUSPECTS_MAX: usize = 10_000;
/// The server's error number for "too many concurrent clone operations".
const OTHER_CLONE_RUNS: u16 = 3634;
const OTHER_CLONE_WAIT_MAX: Duration = Duration::from_secs(60);
const OTHER_CLONE_ASK_EVERY: Duration = Duration::from_millis(500);
/// Each is served by a thread of the donor, which reads past the page cache: one alone waits for the disk most of the time.
const DATA_CONNECTIONS: usize = 4;
/// Settings a server needs to open the copy; the donor says them or its variables do.
const SETTINGS: [&str; 6] = [
    "innodb_page_size",
    "innodb_redo_log_capacity",
    "innodb_data_file_path",
    "lower_case_table_names",
    "innodb_undo_tablespaces",
    "default_time_zone",
];

/// What is known of the snapshot point.
struct Snapshot {
    pause: Option<CommitPause>,
    /// Why there is no pause.
    why: String,
    before: Position,
    at: Timestamp,
    beside: Option<Held>,
}

pub(crate) async fn take(
    context: &Context,
    source: &SourceSettings,
    address: &ServerAddress,
    facts: &Facts,
    writer: BackupWriter,
    piece_bytes: usize,
) -> Result<Taken> {
    let options = CloneOptions {
        data_connections: DATA_CONNECTIONS,
        ..CloneOptions::default()
    };
    let mut stream = start(context, address, options).await?;
    let mut run = Run::new(context, facts, Pieces::new(writer, piece_bytes));
    run.pace = Pace::new(context, source.limit.rate);
    match drive(context, (address, facts), &mut stream, &mut run).await {
        Ok(found) => Box::pin(run.finish(address, found)).await,
        Err(error) => {
            // The donor allows one clone at a time: told of the end, it is free for the next at once.
            stream.abort().await;
            Err(error)
        }
    }
}

/// Starts the clone. A donor that has not noticed yet that the last one was cut off refuses another for a while.
async fn start(context: &Context, address: &ServerAddress, options: CloneOptions) -> Result<CloneStream> {
    let give_up_at = context.clock.elapsed() + OTHER_CLONE_WAIT_MAX;
    loop {
        match CloneStream::start(address, options, &context.cancel).await {
            Err(error) if error.server_code() == Some(OTHER_CLONE_RUNS) && context.clock.elapsed() < give_up_at => {
                context.cancel.race(context.clock.sleep(OTHER_CLONE_ASK_EVERY)).await?;
            }
            started => return Ok(started?),
        }
    }
}

/// Takes the whole stream; gives what is known of the snapshot.
async fn drive(
    context: &Context,
    (address, facts): (&ServerAddress, &Facts),
    stream: &mut CloneStream,
    run: &mut Run<'_>,
) -> Result<Found> {
    let mut snapshot = None;
    let mut position = None;
    while let Some(event) = stream.next().await? {
        run.take(&event).await?;
        match event {
            CloneEvent::State(state) if state.state == CloneState::PageCopy && !state.started => {
                snapshot = Some(hold(context, address, facts).await?);
            }
            CloneEvent::State(state) if state.state == CloneState::RedoCopy && state.started && position.is_none() => {
                let Some(held) = snapshot.take() else {
                    return Err(ProtectError::failed(
                        "the donor fixed its snapshot before it was asked to",
                    ));
                };
                position = Some(release(context, address, held).await?);
            }
            _ => {}
        }
    }
    position.ok_or_else(|| ProtectError::failed("the donor's copy ended without a snapshot"))
}

/// Just before the donor fixes the snapshot.
async fn hold(context: &Context, address: &ServerAddress, facts: &Facts) -> Result<Snapshot> {
    let locker = other_engines::prepare(context, address, facts).await?;
    let (pause, why) = match CommitPause::begin(context, address).await? {
        Ok(pause) => (Some(pause), String::new()),
        Err(why) => (None, why),
    };
    let beside = other_engines::hold(context, locker).await?;
    let before = match &pause {
        Some(pause) => pause.position.clone(),
        None => {
            let mut connection = ballast_mysql::Connection::open(address, &context.cancel).await?;
            let position = read_position(&mut connection, false).await?;
            connection.close().await;
            position
        }
    };
    Ok(Snapshot {
        pause,
        why,
        before,
        at: context.clock.now(),
        beside,
    })
}

/// Position, tables and moment of the snapshot.
struct Found {
    position: Position,
    tables: std::collections::BTreeSet<(String, String)>,
    tables_exact: bool,
    at: Timestamp,
    /// Tables of other engines, which stand still since.
    beside: Option<Held>,
}

/// Just after the donor fixed the snapshot.
async fn release(context: &Context, address: &ServerAddress, snapshot: Snapshot) -> Result<Found> {
    let Snapshot {
        pause,
        why,
        before,
        at,
        beside,
    } = snapshot;
    if let Some(mut pause) = pause {
        let tables = std::mem::take(&mut pause.tables);
        pause.end().await?;
        return Ok(Found {
            position: before,
            tables,
            tables_exact: true,
            at,
            beside,
        });
    }
    let mut connection = ballast_mysql::Connection::open(address, &context.cancel).await?;
    let after = read_position(&mut connection, false).await?;
    let tables = read_tables(&mut connection).await?;
    connection.close().await;
    let same = after == before && !after.gtid_executed.is_empty();
    if !same {
        let hint = "grant RELOAD to the user, and look for long statements; restoring says the exact position";
        let message = format!("commits could not be held, so the position is known within bounds only: {why}");
        context.warn(message, Some(hint.to_owned()));
    }
    let at_least = (!same).then_some(before.gtid_executed);
    Ok(Found {
        position: Position {
            exact: same,
            at_least,
            ..after
        },
        tables,
        tables_exact: false,
        at,
        beside,
    })
}

/// The state of one copy.
struct Run<'a> {
    context: &'a Context,
    facts: &'a Facts,
    algorithm: ChecksumAlgorithm,
    map: FileMap,
    pieces: Pieces,
    checkers: HashMap<u32, Option<Arc<PageChecker>>>,
    /// Pages with a wrong checksum, by file and page number.
    suspects: BTreeMap<(u32, u64), String>,
    pace: Pace,
    bytes: u64,
    expected: u64,
}

impl<'a> Run<'a> {
    fn new(context: &'a Context, facts: &'a Facts, pieces: Pieces) -> Self {
        let algorithm = facts.variable("innodb_checksum_algorithm").unwrap_or("crc32");
        Self {
            context,
            facts,
            algorithm: ChecksumAlgorithm::from_variable(algorithm),
            map: FileMap::new(),
            pieces,
            checkers: HashMap::new(),
            suspects: BTreeMap::new(),
            pace: Pace::new(context, None),
            bytes: 0,
            expected: 0,
        }
    }

    async fn take(&mut self, event: &CloneEvent) -> Result<()> {
        let disposition = self.map.apply(event)?;
        match event {
            CloneEvent::State(state) if state.started => self.expected += state.estimated_bytes,
            CloneEvent::State(_) => self.pieces.flush().await?,
            CloneEvent::File(file) => drop(self.checkers.remove(&file.index)),
            CloneEvent::Data(block) if disposition == Disposition::Keep => self.block(block).await?,
            _ => {}
        }
        Ok(())
    }

    async fn block(&mut self, block: &DataBlock) -> Result<()> {
        self.check(block)?;
        let (file, offset, bytes) = (block.file_index, block.offset, block.bytes.clone());
        let length = bytes.len() as u64;
        self.bytes += length;
        if block.state == CloneState::PageCopy {
            self.pieces.put_over(file, offset, bytes).await?;
        } else {
            self.pieces.put(file, offset, bytes).await?;
        }
        self.context
            .progress("copy", self.bytes, Some(self.expected.max(self.bytes)));
        // Commits are never held while data comes, so nobody waits for this.
        self.pace.taken(self.context, length).await
    }

    fn check(&mut self, block: &DataBlock) -> Result<()> {
        let (map, algorithm) = (&self.map, self.algorithm);
        let checker = self
            .checkers
            .entry(block.file_index)
            .or_insert_with(|| map.checker(block.file_index, algorithm).map(Arc::new))
            .clone();
        let Some(checker) = checker else { return Ok(()) };
        let page_bytes = checker.page_bytes();
        let (first, end) = (
            block.offset / page_bytes,
            (block.offset + block.bytes.len() as u64).div_ceil(page_bytes),
        );
        let covered: Vec<_> = self
            .suspects
            .range((block.file_index, first)..(block.file_index, end))
            .map(|(key, _)| *key)
            .collect();
        covered.iter().for_each(|key| drop(self.suspects.remove(key)));
        // `check` stops at the first bad page, so it is asked again behind it.
        let mut from = 0;
        while let Err(bad) = checker.check(block.offset + from as u64, block.bytes.get(from..).unwrap_or_default()) {
            self.suspects
                .insert((block.file_index, bad.page_number), bad.to_string());
            if self.suspects.len() > SUSPECTS_MAX {
                return Err(damaged(&self.suspects, |file| {
                    self.map.file_name(file).unwrap_or_default().into_owned()
                }));
            }
            let behind = (bad.page_number + 1)
                .saturating_mul(page_bytes)
                .saturating_sub(block.offset);
            from = usize::try_from(behind).unwrap_or(usize::MAX);
        }
        Ok(())
    }

    async fn finish(mut self, address: &ServerAddress, found: Found) -> Result<Taken> {
        let settings = self.settings();
        let layout = std::mem::take(&mut self.map).finish()?;
        let kept: std::collections::HashSet<u32> = layout.files.iter().map(|file| file.index).collect();
        self.suspects.retain(|(file, _), _| kept.contains(file));
        if !self.suspects.is_empty() {
            let name = |index| {
                layout
                    .files
                    .iter()
                    .find(|file| file.index == index)
                    .map(|file| path_bytes(&file.path))
            };
            return Err(damaged(&self.suspects, |file| {
                String::from_utf8_lossy(&name(file).unwrap_or_default()).into_owned()
            }));
        }
        self.pieces.flush().await?;
        let mut layout = layout;
        // The order of names, so that the same files give the same manifest whatever order they came in.
        layout.files.sort_by_key(|file| path_bytes(&file.path));
        for file in &layout.files {
            if let Some(first) = file.initial_page() {
                self.pieces.put_first(file.index, first.into()).await?;
            }
        }
        let (mut writer, mut contents) = self.pieces.finish();
        let mut files: Vec<_> = layout
            .files
            .iter()
            .map(|file| {
                (
                    path_bytes(&file.path),
                    file.size,
                    contents.remove(&file.index).unwrap_or_default(),
                )
            })
            .collect();
        let mut bytes_source: u64 = layout.files.iter().map(|file| file.size).sum();
        let mut beside = None;
        if let Some(held) = found.beside {
            let rows = other_engines::take(self.context, address, self.facts, held, writer).await?;
            writer = rows.writer;
            bytes_source += rows.bytes;
            beside = Some(rows.record.behind(files.len()));
            files.extend(rows.files);
        }
        let record = PhysicalRecord {
            layout,
            settings,
            tables: found.tables,
            tables_exact: found.tables_exact,
            beside,
        };
        Ok(Taken {
            writer,
            engine: Engine::Physical,
            files,
            annex: record.to_json()?,
            tables: record.tables,
            missing: Vec::new(),
            position: found.position,
            snapshot_at: found.at,
            bytes_source,
        })
    }

    fn settings(&self) -> BTreeMap<String, String> {
        let said = |name: &str| self.map.config(name).or_else(|| self.facts.variable(name));
        SETTINGS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), said(name)?.to_owned())))
            .collect()
    }
}

/// The donor's pages that stayed wrong, some of them by name.
fn damaged(suspects: &BTreeMap<(u32, u64), String>, name: impl Fn(u32) -> String) -> ProtectError {
    const SHOWN: usize = 5;
    let shown = suspects
        .iter()
        .take(SHOWN)
        .map(|((file, _), what)| format!("\"{}\" {what}", name(*file)));
    let shown = shown.collect::<Vec<_>>().join("; ");
    let pages = if suspects.len() == 1 {
        "a page".to_owned()
    } else {
        format!("{} pages", suspects.len())
    };
    ProtectError::new(
        ErrorKind::Damaged,
        format!("{pages} of the source cannot be trusted: {shown}"),
    )
    .hint("check the table on the source with: CHECK TABLE … EXTENDED; restore it from an earlier backup")
}

pub(crate) fn path_bytes(path: &FilePath) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let (FilePath::Inside(path) | FilePath::External(path)) = path;
    path.as_os_str().as_bytes().to_vec()
}
