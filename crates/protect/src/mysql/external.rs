//! The external engine: the vendor's own tool copies the server's files, its stream goes into pieces.
//!
//! Why the copy is consistent is the tool's promise: it copies files while they change, all redo that is written meanwhile, and at the end holds
//! commits for the instant at which it notes the position in the binary log. What we promise is that this stream is kept as it
//! came, whole, and that nothing counts as a backup unless the tool ended well by its status and its own last word, the stream ended where it may,
//! and the position it noted was found.
//!
//! Which tables are in it: the server's list before and after, as far as the stream holds their definitions. The server
//! says itself by what file names it knows them.

mod contents;
mod cutter;
pub(crate) mod proof;
pub(crate) mod record;
pub(crate) mod tables;
pub(crate) mod tools;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ballast_mysql::{BackupTool, Facts, Flavour, MysqlError, ServerAddress, ToolRun, XbStream};
use ballast_repository::{BackupWriter, FileContent};
use jiff::Timestamp;

use self::contents::Contents;
use self::cutter::Cutter;
use self::record::ExternalRecord;
use self::tables::Tables;
use super::pace::Pace;
use super::taken::Taken;
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::position::Position;
use crate::settings::{Engine, SourceSettings};

/// Settings a server needs to open the copy.
const SETTINGS: [&str; 4] = [
    "innodb_page_size",
    "innodb_data_file_path",
    "lower_case_table_names",
    "innodb_undo_tablespaces",
];
/// The tool is about to hold commits: a part of the line it says then.
const BEFORE_SNAPSHOT: &str = "BLOCK_COMMIT";
/// The name of the stream in the backup.
const STREAM_NAME: &[u8] = b"backup.xbstream";

pub(crate) async fn take(
    context: &Context,
    source: &SourceSettings,
    address: &ServerAddress,
    facts: &Facts,
    writer: BackupWriter,
    piece_bytes: usize,
) -> Result<Taken> {
    let tool = tools::find(context, &source.tools, facts.version.flavour).await?;
    let before = Tables::read(context, address).await?;
    let moment = Arc::new(Mutex::new(Moment::new(context.clock.now())));
    let (clock, noted) = (Arc::clone(&context.clock), Arc::clone(&moment));
    let on_line = move |line: &str| {
        let mut moment = noted.lock().unwrap_or_else(PoisonError::into_inner);
        moment.line(line, clock.now());
    };
    let mut run = tool.backup(address, on_line, &context.cancel).await?;
    let mut pass = Pass::new(context, facts, writer, piece_bytes);
    pass.pace = Pace::new(context, source.limit.rate);
    match pass.through(&mut run).await {
        Ok(()) => run.finish().await.map_err(|error| told(&tool, error))?,
        // The stream is wrong: mostly because the tool came to an end, and it says why.
        Err(Broken::Stream(error)) => return Err(told(&tool, run.explain(error).await)),
        Err(Broken::Tool(error)) => {
            run.stop().await;
            return Err(told(&tool, error));
        }
        Err(Broken::Ours(error)) => {
            run.stop().await;
            return Err(error);
        }
    }
    let snapshot_at = moment.lock().unwrap_or_else(PoisonError::into_inner).snapshot_at();
    let after = Tables::read(context, address).await?;
    pass.finish(&tool, before.and(after), snapshot_at)
}

/// What the tool said, with what to do where that is known.
pub(crate) fn told(tool: &BackupTool, error: MysqlError) -> ProtectError {
    let text = error.to_string();
    let name = tool.name();
    let made = ProtectError::from(error);
    if made.kind() == ErrorKind::Interrupted || made.hint_text().is_some() {
        return made;
    }
    const KNOWN: [(&str, &str); 4] = [
        (
            "Too many open files",
            "it opens every table's file: allow more, such as with: ulimit -n 100000",
        ),
        (
            "Permission denied",
            "run ballast as the server's system user, such as: sudo -u mysql ballast …, or as root",
        ),
        (
            "privilege",
            "see what the account lacks, and what to grant, with: ballast doctor",
        ),
        ("No space left", "make room on the volume, then start again"),
    ];
    match KNOWN.iter().find(|(what, _)| text.contains(what)) {
        Some((_, hint)) => made.hint(*hint),
        None => made.hint(format!(
            "these are {name}'s own words; what it says can be looked up in its documentation"
        )),
    }
}

/// When the data was of, by our clock: no later than the tool began to hold commits.
#[derive(Debug)]
struct Moment {
    last_line_at: Timestamp,
    found: Option<Timestamp>,
    began_at: Timestamp,
}

impl Moment {
    fn new(began_at: Timestamp) -> Self {
        Self {
            last_line_at: began_at,
            found: None,
            began_at,
        }
    }

    fn line(&mut self, line: &str, now: Timestamp) {
        if self.found.is_none() && line.contains(BEFORE_SNAPSHOT) {
            // That of the line before: this one may have been read a little late.
            self.found = Some(self.last_line_at);
        }
        self.last_line_at = now;
    }

    fn snapshot_at(&self) -> Timestamp {
        self.found.unwrap_or(self.began_at)
    }
}

/// Why a stream did not come through.
enum Broken {
    Stream(MysqlError),
    Tool(MysqlError),
    Ours(ProtectError),
}

/// The stream on its way into the repository.
struct Pass<'a> {
    context: &'a Context,
    facts: &'a Facts,
    writer: BackupWriter,
    stream: XbStream,
    cutter: Cutter,
    contents: Contents,
    content: FileContent,
    bytes: u64,
    expected: u64,
    /// The tool waits for its pipe.
    pace: Pace,
}

impl<'a> Pass<'a> {
    fn new(context: &'a Context, facts: &'a Facts, writer: BackupWriter, piece_bytes: usize) -> Self {
        Self {
            context,
            facts,
            writer,
            stream: XbStream::new(facts.version.flavour),
            cutter: Cutter::new(piece_bytes),
            contents: Contents::default(),
            content: FileContent::default(),
            bytes: 0,
            expected: facts.data_bytes(),
            pace: Pace::new(context, None),
        }
    }

    async fn through(&mut self, run: &mut ToolRun) -> std::result::Result<(), Broken> {
        let mut pieces = Vec::new();
        while let Some(mut bytes) = run.read().await.map_err(Broken::Tool)? {
            while let Some(part) = self.stream.next(&mut bytes).map_err(Broken::Stream)? {
                self.contents.see(&part);
                self.cutter.take(part, &mut pieces);
            }
            self.store(&mut pieces).await.map_err(Broken::Ours)?;
        }
        self.stream.finish().map_err(Broken::Stream)?;
        self.cutter.finish(&mut pieces);
        self.store(&mut pieces).await.map_err(Broken::Ours)
    }

    async fn store(&mut self, pieces: &mut Vec<bytes::Bytes>) -> Result<()> {
        for piece in pieces.drain(..) {
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let number = self.writer.store(piece).await?;
            self.content.put(self.bytes, length, number, 0);
            self.bytes += u64::from(length);
            self.pace.taken(self.context, u64::from(length)).await?;
        }
        self.context
            .progress("copy", self.bytes, Some(self.expected.max(self.bytes)));
        Ok(())
    }

    fn finish(self, tool: &BackupTool, listed: Tables, snapshot_at: Timestamp) -> Result<Taken> {
        self.contents.refuse_elsewhere()?;
        let position = self.position(tool)?;
        let is_mariadb = self.facts.version.flavour == Flavour::MariaDb;
        // The other kind keeps its definitions in tables of its own.
        let (tables, tables_exact) = if is_mariadb {
            listed.of(self.contents.definitions())
        } else {
            (listed.names(), false)
        };
        let lost = self.contents.lost();
        let lost = lost.map(|path| format!("{path} (the tool had copied it and removed it again)"));
        let missing = listed
            .not_copied(&tables)
            .map(|(schema, table, engine)| format!("rows of {schema}.{table} (engine {engine})"))
            .chain(lost)
            .collect();
        let settings: BTreeMap<_, _> = SETTINGS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.facts.variable(name)?.to_owned())))
            .collect();
        let record = ExternalRecord {
            tool: tool.name(),
            tool_version: tool.version.text.clone(),
            settings,
            tables,
            tables_exact,
        };
        Ok(Taken {
            writer: self.writer,
            engine: Engine::External,
            files: vec![(STREAM_NAME.to_vec(), self.bytes, self.content)],
            annex: record.to_json()?,
            tables: record.tables,
            missing,
            position,
            snapshot_at,
            bytes_source: self.bytes,
        })
    }

    /// Where the tool says that the server stood while commits were held.
    fn position(&self, tool: &BackupTool) -> Result<Position> {
        match self.contents.position() {
            Some(position) => Ok(position),
            None if self.facts.variable("log_bin") != Some("ON") => Ok(Position {
                exact: true,
                ..Position::default()
            }),
            None => Err(ProtectError::failed(format!(
                "{} noted no position in the binary log, which the server writes",
                tool.name()
            ))
            .hint("take rows instead, with: --engine logical")),
        }
    }
}
