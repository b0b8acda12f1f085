//! Which tables of a backup go where on a running server: decided and shown before anything is written.

pub(crate) mod carry;
mod names;

use std::collections::{BTreeMap, BTreeSet};

use ballast_mysql::{Change, Connection, Facts, Flavour, Loss, ServerAddress, TableSchema};
use ballast_repository::{BackupId, Manifest, Repository};

use self::carry::{Carried, carry};
pub use self::names::Rename;
pub(crate) use self::names::{NameCase, TableName, dotted, is_chosen, renamed, some_of};
use self::names::{names, refuse_taken};
use crate::catalog::{BackupSummary, list};
use crate::context::Context;
use crate::error::{ProtectError, Result};
use crate::load::binlog;
use crate::load::book::{Book, Stage};
use crate::load::resume::{
    GoesOn, Present, cannot_go_on, choice, going_on, is_in_the_way, is_our_sequence, refuse_own_name,
};
use crate::load::{Names, RowSource};
use crate::log_plan::plan_log;
use crate::mysql::lease::{Alone, Lease};
use crate::mysql::logical::record::LogicalRecord;
use crate::mysql::record::PhysicalRecord;
use crate::pattern::TablePattern;
use crate::restore_plan::{RestorePlan, RestoreRequest, RestoreTarget, choose, plan_private_files};
use crate::settings::Engine;
use crate::vault::Vault;

/// A decided load.
#[derive(Debug, serde::Serialize)]
pub struct LoadPlan {
    pub backup: BackupSummary,
    pub repository: String,
    /// Where to, without a password.
    pub target: String,
    /// What each table is and what it will be, as `database.table`.
    pub tables: Vec<(String, String)>,
    /// Named, and not in the backup: the log that is replayed on top must make them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub awaited: Vec<String>,
    pub databases_new: BTreeSet<String>,
    /// Tables on the target that will be dropped first.
    pub replaces: Vec<String>,
    /// An earlier run of this load was not finished.
    pub goes_on: Option<GoesOn>,
    /// Of a physical backup: its files, on which a private server gives the rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Box<RestorePlan>>,
    /// What is loaded is written down on the target, so that another run goes on.
    #[serde(skip)]
    pub(crate) remembers: bool,
    #[serde(skip)]
    pub(crate) source: String,
    #[serde(skip)]
    pub(crate) choice: String,
    #[serde(skip)]
    pub(crate) replace: bool,
    /// The target's binary log does not hear of the load.
    #[serde(skip)]
    pub(crate) no_binlog: bool,
    #[serde(skip)]
    pub(crate) book: Option<Book>,
    /// Keeps other loads away from the target.
    #[serde(skip)]
    pub(crate) lease: Option<Lease>,
    /// What has the names of tables on the target.
    #[serde(skip)]
    pub(crate) present: BTreeMap<TableName, Present>,
    /// What becomes something else on a target of another flavour or version.
    pub changes: Vec<Change>,
    /// What does not carry over to such a target.
    pub left_out: Vec<Loss>,
    /// Tables among those.
    #[serde(skip)]
    pub(crate) without: BTreeSet<(String, String)>,
    /// From MySQL to MariaDB or the other way.
    #[serde(skip)]
    pub(crate) crosses: bool,
    #[serde(skip)]
    pub(crate) rename: Vec<Rename>,
    #[serde(skip)]
    pub(crate) only: Vec<TablePattern>,
    /// Of a physical backup it is read from the private server.
    #[serde(skip)]
    pub(crate) record: LogicalRecord,
    #[serde(skip)]
    pub(crate) rows: RowSource,
    #[serde(skip)]
    pub(crate) databases_there: BTreeSet<String>,
    /// Of the target.
    #[serde(skip)]
    pub(crate) case: NameCase,
    #[serde(skip)]
    pub(crate) manifest: Manifest,
    #[serde(skip)]
    pub(crate) from: Repository,
    #[serde(skip)]
    pub(crate) address: ServerAddress,
    #[serde(skip)]
    pub(crate) mariadb: bool,
}

impl LoadPlan {
    /// The plan as lines for people.
    pub fn lines(&self) -> Vec<(String, String)> {
        let moment = self.backup.snapshot_at.map_or_else(String::new, |at| at.to_string());
        let mut lines = vec![
            (
                "backup".to_owned(),
                format!("{} from repository \"{}\"", self.backup.id, self.repository),
            ),
            (
                "holds".to_owned(),
                format!("{} tables as of {moment}", self.backup.tables.unwrap_or_default()),
            ),
            ("target".to_owned(), self.target.clone()),
            (
                "loads".to_owned(),
                some_of(self.tables.iter().map(|(from, to)| {
                    if from == to {
                        from.clone()
                    } else {
                        format!("{from} as {to}")
                    }
                })),
            ),
        ];
        lines.retain(|(label, _)| label != "loads" || !self.tables.is_empty());
        if !self.awaited.is_empty() {
            let awaited = some_of(self.awaited.iter().cloned());
            lines.push(("of the log".to_owned(), format!("{awaited}: not in the backup")));
        }
        if !self.replaces.is_empty() {
            lines.push(("replaces".to_owned(), some_of(self.replaces.iter().cloned())));
        }
        if self.no_binlog {
            lines.push(binlog::line());
        }
        if let Some(files) = &self.files {
            lines.extend(files.private_lines());
        }
        if let Some(before) = &self.goes_on {
            let (whole, all) = (before.tables_whole, self.tables.len());
            let bytes = ballast_base::format_bytes(before.bytes);
            lines.push((
                "goes on".to_owned(),
                format!(
                    "with the load begun at {}: {whole} of {all} tables are whole, {bytes} of rows are there",
                    before.begun_at
                ),
            ));
        }
        lines.extend(carry::lines(&self.changes, &self.left_out));
        lines
    }

    /// Everything that is in the backup, under its own name.
    pub(crate) fn is_whole(&self) -> bool {
        self.only.is_empty() && self.rename.is_empty()
    }

    pub(crate) fn is_chosen(&self, database: &str, table: &str) -> bool {
        is_chosen(&self.only, database, table) && !self.without.contains(&(database.to_owned(), table.to_owned()))
    }

    /// Of a private server that nobody else knows: everything in the record, and nothing is remembered for another run.
    pub(crate) fn private(
        files: &RestorePlan,
        address: &ServerAddress,
        record: LogicalRecord,
        manifest: Manifest,
    ) -> Self {
        Self {
            backup: files.backup.clone(),
            repository: files.repository.clone(),
            target: address.place(),
            tables: Vec::new(),
            awaited: Vec::new(),
            databases_new: BTreeSet::new(),
            replaces: Vec::new(),
            changes: Vec::new(),
            left_out: Vec::new(),
            without: BTreeSet::new(),
            crosses: false,
            goes_on: None,
            source: String::new(),
            choice: String::new(),
            replace: false,
            no_binlog: false,
            book: None,
            lease: None,
            present: BTreeMap::new(),
            remembers: false,
            files: None,
            rename: Vec::new(),
            only: Vec::new(),
            record,
            rows: RowSource::Stored,
            databases_there: BTreeSet::new(),
            case: NameCase::Matters,
            manifest,
            from: files.from.clone(),
            address: address.clone(),
            mariadb: false,
        }
    }

    /// Takes note of what the target makes of the record, unless that leaves nothing to load.
    pub(crate) fn take_over(&mut self, carried: Carried) -> Result<()> {
        self.changes = carried.changes;
        self.left_out = carried.left_out;
        self.without = carried.without;
        self.crosses = carried.crosses;
        if self.chosen().next().is_none() && !self.without.is_empty() {
            let first = self.left_out.first().map(ToString::to_string).unwrap_or_default();
            return Err(carry::nothing_left(&first));
        }
        Ok(())
    }

    /// Notes tables that the target refused to make.
    pub(crate) fn leave_out(&mut self, tables: Vec<((String, String), String)>) {
        for (name, why) in tables {
            self.left_out.push(Loss {
                object: format!("table {}", dotted(&name)),
                why,
            });
            self.without.insert(name);
        }
    }

    /// The chosen tables with their numbers.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = (usize, &TableSchema)> {
        let all = self.record.schema.tables.iter().enumerate();
        all.filter(|(_, table)| self.is_chosen(&table.database, &table.name))
    }

    pub(crate) fn names(&self) -> Names<'_> {
        Names::new(|database, table| self.case.of(renamed(&self.rename, database, table)))
    }
}

/// Decides; writes nothing. Other loads are kept away from the target as long as the plan lives.
pub async fn plan_load(context: &Context, vault: &Vault, request: &RestoreRequest) -> Result<LoadPlan> {
    let address = address(request)?;
    let mut connection = Connection::open(&address, &context.cancel).await?;
    if request.no_binlog {
        binlog::keep_out(&mut connection).await?;
    }
    let lease = Lease::take(context, Alone::Load, &address.place(), &address).await?;
    let book = Book::read(&mut connection).await?;
    let request = &going_on(request, book.as_ref())?;
    let backups = list(context, vault, Some(&request.source)).await?;
    // The log is replayed on files; rows that are loaded one table after the other cannot be taken on.
    let files = |backup: &BackupSummary| backup.engine == Some(Engine::Physical);
    let (backup, from, replay) = match plan_log(context, vault, request, &backups, &files).await? {
        Some(chosen) => (chosen.backup, chosen.from, chosen.replay),
        None => {
            let backup = choose(context, request, backups).map_err(|error| cannot_go_on(error, book.as_ref()))?;
            let from = vault.named(backup.repositories.first().map_or("", String::as_str))?;
            (backup, from.clone(), None)
        }
    };
    if backup.engine == Some(Engine::External) {
        let message = format!(
            "backup \"{}\" is a backup tool's, and holds files and no rows",
            backup.id
        );
        return Err(ProtectError::usage(message).hint(
            "restore it to a directory with --to datadir:PATH and start a server there; or choose a logical backup with --backup ID",
        ));
    }
    let id =
        BackupId::parse(&backup.id).ok_or_else(|| ProtectError::usage(format!("\"{}\" is no backup id", backup.id)))?;
    let manifest = from.manifest(&id, &context.cancel).await?;
    let (mut record, tables, files) = if backup.engine == Some(Engine::Logical) {
        let record = LogicalRecord::read(&manifest.annex)?;
        let tables = record.schema.tables.iter();
        let tables = tables
            .map(|table| (table.database.clone(), table.name.clone()))
            .collect();
        (record, tables, None)
    } else {
        let tables = PhysicalRecord::read(&manifest.annex)?.tables;
        let mut files = plan_private_files(context, request, backup.clone(), from.clone()).await?;
        files.replay = replay;
        (LogicalRecord::default(), tables, Some(Box::new(files)))
    };
    let facts = Facts::read(&mut connection).await?;
    let case = NameCase::of_server(&facts);
    let replays = files.as_ref().is_some_and(|files| files.replay.is_some());
    let (mut names, awaited) = names(request, tables, case, replays)?;
    refuse_own_name(&names)?;

    let present = Present::read(&mut connection, case).await?;
    let databases = connection
        .query("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")
        .await?;
    let databases: BTreeSet<String> = databases
        .into_iter()
        .filter_map(|row| Some(case.fold(&row.text(0)?)))
        .collect();
    // What is in files is known when a server has opened them.
    let carried = match files {
        None => carry(&mut connection, &facts, &request.only, &request.rename, &mut record).await?,
        Some(_) => Carried::default(),
    };
    names.retain(|(from, _)| !carried.without.contains(from));
    carry::refuse_nothing(&names, &carried)?;
    let databases_new = names
        .iter()
        .map(|(_, to)| to.0.clone())
        .chain(
            record
                .schema
                .databases
                .iter()
                .filter(|_| request.is_whole())
                .map(|database| case.fold(&database.name)),
        )
        .filter(|database| !databases.contains(database))
        .collect();
    let mut taken = Vec::new();
    let new_names: BTreeMap<&TableName, &TableName> = names.iter().map(|(from, to)| (from, to)).collect();
    for (number, table) in record.schema.tables.iter().enumerate() {
        let from = (table.database.clone(), table.name.clone());
        let Some((to, there)) = new_names.get(&from).and_then(|to| present.get_key_value(*to)) else {
            continue;
        };
        let state = book.as_ref().map(|book| book.state(number));
        if is_in_the_way(&mut connection, to, there, state).await? {
            taken.push(dotted(to));
        }
    }
    if files.is_some() {
        let there = names.iter().filter(|(_, to)| present.contains_key(to));
        taken.extend(there.map(|(_, to)| dotted(to)));
    }
    if book.as_ref().is_none_or(|book| book.stage == Stage::Tables) && request.is_whole() {
        for sequence in &record.schema.sequences {
            let name = case.of((sequence.database.clone(), sequence.name.clone()));
            if let Some(there) = present.get(&name)
                && (book.is_none() || !is_our_sequence(&mut connection, &name, there, sequence).await?)
            {
                taken.push(dotted(&name));
            }
        }
    }
    connection.close().await;
    let replaces = refuse_taken(taken, request.replace)?;
    Ok(LoadPlan {
        goes_on: book.as_ref().map(GoesOn::of),
        remembers: files.is_none(),
        files,
        source: request.source.clone(),
        choice: choice(request),
        replace: request.replace,
        no_binlog: request.no_binlog,
        book,
        lease,
        present,
        repository: from.name().to_owned(),
        backup,
        target: address.place(),
        tables: names.iter().map(|(from, to)| (dotted(from), dotted(to))).collect(),
        awaited,
        databases_new,
        replaces,
        changes: carried.changes,
        left_out: carried.left_out,
        without: carried.without,
        crosses: carried.crosses,
        rename: request.rename.clone(),
        only: request.only.clone(),
        record,
        rows: RowSource::Stored,
        databases_there: databases,
        case,
        manifest,
        from,
        address,
        mariadb: facts.version.flavour == Flavour::MariaDb,
    })
}

fn address(request: &RestoreRequest) -> Result<ServerAddress> {
    let RestoreTarget::Server(url) = &request.target else {
        return Err(ProtectError::usage("a folder is no running server"));
    };
    let address: ServerAddress = url.parse().map_err(ProtectError::usage_of)?;
    Ok(match &request.target_password {
        Some(password) => address.with_password(password.clone()),
        None => address,
    })
}
