//! Loads rows of a backup into a running server that may hold other data: databases and tables first, rows by several connections,
//! then keys, and every table is fingerprinted by the server and compared; what refers to tables comes last.
//!
//! Nothing that was there is touched unless the plan named it. Rows go in transactions of whole rows, each committed only when
//! the server took all of them, and each with the mark that tells so (`load/book.rs`): what is killed in the middle, here or
//! there, goes on when the same is asked for again.

mod beside;
pub(crate) mod binlog;
pub(crate) mod book;
mod by_value;
mod files;
mod objects;
pub(crate) mod resume;
mod rows;
mod standing;
mod work;

use std::sync::Arc;

use ballast_base::TaskSet;
use ballast_mysql::{
    Change, Connection, LOAD_SESSION, MysqlError, Naming, READ_SESSION, TableSchema, creation_session, quote_name,
    quote_table,
};

pub(crate) use self::beside::{Stay, put_back};
use self::book::{Book, Stage, TableState};
use self::resume::Present;
use self::rows::Loader;
pub(crate) use self::work::RowSource;
use self::work::Work;
use crate::context::{Context, StepTime, Steps};
use crate::error::{ErrorKind, ProtectError, Result};
use crate::load_plan::{LoadPlan, TableName};
use crate::mysql::logical::record::TableRows;
use crate::mysql::proof::Proof;
use crate::replay::Replayed;
use crate::restore::{Expected, Reached};

/// Connections that load.
const LOADERS: usize = 4;
/// One whose machine vanished holds its rows for this long at most; one that waits for the repository is not silent for so long.
const LOADER_SILENCE_MAX_SECONDS: u32 = 900;
/// The connection that makes tables and objects has nothing to do while rows are loaded, and holds nothing meanwhile.
const CONTROL_SILENCE_MAX_SECONDS: u32 = 604_800;

/// What a load came to.
#[derive(Debug, serde::Serialize)]
pub struct LoadOutcome {
    pub backup: String,
    pub repository: String,
    pub target: String,
    /// Where the source stood when the rows were read, and when that was.
    pub reached: Reached,
    pub expected: Expected,
    pub proof: Proof,
    /// Of the rows, those that an earlier run of this load had loaded.
    pub rows_kept: u64,
    /// Tables whose rows were read back, because servers of two flavours fingerprint them in different ways.
    pub tables_read_back: u64,
    /// What became something else on a target of another flavour or version.
    pub changes: Vec<Change>,
    /// What of the log was replayed on top of the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Replayed>,
    /// What was not carried over and objects that could not be made, and why.
    pub left_out: Vec<String>,
    pub steps: Vec<StepTime>,
    pub seconds: f64,
}

impl LoadOutcome {
    /// Whether something that is in the backup is not on the server.
    pub fn partial(&self) -> bool {
        !self.left_out.is_empty()
    }
}

/// Carries out the plan; goes on where an earlier run of the same load stopped.
pub async fn load(context: &Context, mut plan: LoadPlan) -> Result<LoadOutcome> {
    let lease = plan.lease.take();
    let outcome = load_alone(context, plan).await;
    if let Some(lease) = lease {
        lease.release().await?;
    }
    outcome
}

async fn load_alone(context: &Context, mut plan: LoadPlan) -> Result<LoadOutcome> {
    let steps = context.steps();
    match plan.files.take() {
        Some(files) => Box::pin(files::load(context, plan, &files, steps)).await,
        None => carry_out(context, plan, steps).await,
    }
}

pub(crate) async fn carry_out(context: &Context, mut plan: LoadPlan, mut steps: Steps) -> Result<LoadOutcome> {
    let mut book = plan.book.take();
    let mut control = session(context, &plan).await?;
    match &mut book {
        Some(book) => book.settle(&mut control).await?,
        None if plan.remembers => book = Book::begin(context, &mut control, &plan).await?,
        None => {}
    }
    let remembers = book.is_some();
    let unfinished = |error| unfinished(error, remembers);
    let made = steps.run("tables", make_tables(&mut control, &plan, &mut book)).await;
    plan.leave_out(made.map_err(unfinished)?);
    let plan = Arc::new(plan);
    let present = Present::read(&mut control, plan.case).await.map_err(unfinished)?;
    let work = Work::of(&plan, book.as_ref(), &present);
    let rows_kept = work.rows_before();
    let loaded = steps.run("rows", load_rows(context, &plan, work)).await;
    let (proof, tables_read_back) = loaded.map_err(unfinished)?;
    if !proof.holds() {
        return Err(differing(&plan, &proof));
    }
    let objects = objects::make(&mut control, &plan, book.as_mut());
    let made = steps.run("objects", objects).await.map_err(unfinished)?;
    let left_out = (plan.left_out.iter().map(ToString::to_string)).chain(made).collect();
    if remembers {
        Book::finish(context, &mut control).await.map_err(unfinished)?;
    }
    control.close().await;
    let (steps, seconds) = steps.finish();
    Ok(LoadOutcome {
        backup: plan.backup.id.clone(),
        repository: plan.repository.clone(),
        target: plan.target.clone(),
        reached: Reached {
            position: plan.backup.position.clone().unwrap_or_default(),
            at: plan.backup.snapshot_at,
        },
        expected: Expected {
            position: plan.backup.position.clone(),
        },
        proof,
        rows_kept,
        tables_read_back,
        changes: plan.changes.clone(),
        replayed: None,
        left_out,
        steps,
        seconds,
    })
}

/// Tables that were made already must not pass for whole ones.
fn unfinished(error: ProtectError, remembers: bool) -> ProtectError {
    const GO_ON: &str = "then type the same again: it goes on where this stopped";
    match error.hint_text() {
        Some(hint) if remembers => {
            let hint = format!("{}; {GO_ON}", hint.trim_end_matches(';'));
            error.hint(hint)
        }
        None if remembers => error.hint("the load is not finished; type the same again: it goes on where this stopped"),
        None if error.kind() != ErrorKind::Interrupted => {
            error.hint("tables that this load made are not whole; load again with --replace, which drops them first")
        }
        _ => error,
    }
}

fn differing(plan: &LoadPlan, proof: &Proof) -> ProtectError {
    ProtectError::new(
        ErrorKind::Damaged,
        format!(
            "what was loaded is not what was backed up: {}",
            proof.tables_differing.join("; ")
        ),
    )
    .hint(format!(
        "look who else writes to these tables of {}; load again with --replace, which makes these anew",
        plan.target
    ))
}

/// A connection that creates things as they were created once.
async fn session(context: &Context, plan: &LoadPlan) -> Result<Connection> {
    let mut connection = Connection::open_for_load(&plan.address, &context.cancel).await?;
    prepare(&mut connection, plan).await?;
    connection
        .execute(&format!("SET SESSION wait_timeout = {CONTROL_SILENCE_MAX_SECONDS}"))
        .await?;
    Ok(connection)
}

/// Sets the session to what things are created under.
async fn prepare(connection: &mut Connection, plan: &LoadPlan) -> Result<()> {
    for (sql, needed) in creation_session(plan.mariadb) {
        match connection.execute(&sql).await {
            Err(error @ MysqlError::Server { .. }) if !needed => {
                tracing::debug!(%error, sql, "is not possible here");
            }
            done => drop(done?),
        }
    }
    if plan.no_binlog {
        binlog::keep_out(connection).await?;
    }
    Ok(())
}

/// Databases, sequences and empty tables; what an earlier run made and can be used stays. Gives the tables that a server of another
/// flavour refused, which was asked before but looks at some things only now.
async fn make_tables(
    control: &mut Connection,
    plan: &LoadPlan,
    book: &mut Option<Book>,
) -> Result<Vec<(TableName, String)>> {
    let mut refused = Vec::new();
    let names = plan.names();
    let naming = names.naming();
    let schema = &plan.record.schema;
    for name in &plan.databases_new {
        let known = schema
            .databases
            .iter()
            .find(|database| plan.case.fold(&database.name) == *name);
        let sql = match known {
            Some(database) => database.statement(&naming)?,
            None => format!("CREATE DATABASE {}", quote_name(name)),
        };
        control.execute(&sql).await?;
    }
    let first = book.as_ref().is_none_or(|book| book.stage == Stage::Tables);
    for sequence in &schema.sequences {
        if plan.is_whole() && first {
            make_way(control, plan, &names.table(&sequence.database, &sequence.name)).await?;
            run(control, &sequence.statements(&naming)?).await?;
        }
    }
    for (number, table) in plan.chosen() {
        let name = names.table(&table.database, &table.name);
        let about = |error: ProtectError| error.about(&format!("create table {}.{}", name.0, name.1));
        let made = make_table(control, plan, book, (number, table), &name).await;
        if let Some(why) = made.map_err(about)? {
            refused.push(((table.database.clone(), table.name.clone()), why));
        }
    }
    if let Some(book) = book {
        book.made(control).await?;
    }
    Ok(refused)
}

/// Gives why the table cannot be made, where that keeps only itself from being loaded.
async fn make_table(
    control: &mut Connection,
    plan: &LoadPlan,
    book: &mut Option<Book>,
    (number, table): (usize, &TableSchema),
    name: &TableName,
) -> Result<Option<String>> {
    let rows = plan.record.tables.get(number);
    let state = book.as_ref().map_or(TableState::Planned, |book| book.state(number));
    if let Some(present) = plan.present.get(name) {
        let stays = match state {
            TableState::Planned => false,
            TableState::Differing if plan.replace => false,
            _ if present.is_transactional() => true,
            // What a server that died left of such a table, nobody knows.
            TableState::Whole => is_as_backed_up(control, plan, name, rows).await?,
            TableState::Made | TableState::Differing => false,
        };
        if stays {
            return Ok(None);
        }
    }
    make_way(control, plan, name).await?;
    if let Some(book) = book
        && state != TableState::Planned
    {
        let files: Vec<u32> = rows
            .into_iter()
            .flat_map(|rows| &rows.parts)
            .map(|part| part.file)
            .collect();
        book.anew(control, number, &files).await?;
    }
    let create = table.statements(&plan.names().naming())?.create;
    match control.execute(&create).await {
        Err(error @ MysqlError::Server { .. }) if plan.crosses => Ok(Some(error.to_string())),
        made => made.map(|_| None).map_err(Into::into),
    }
}

/// Drops what has the name of something that is made next: named by the plan, or a leftover of an earlier run of this load.
async fn make_way(control: &mut Connection, plan: &LoadPlan, name: &TableName) -> Result<()> {
    if let Some(present) = plan.present.get(name) {
        control.execute(&present.drop_sql(name)).await?;
    } else if plan.goes_on.is_some() {
        drop_late(control, name).await?;
    }
    Ok(())
}

/// Drops a table that came to be there after we looked, by a statement of an earlier run. Ours has no rows; one that has is
/// somebody else's.
async fn drop_late(control: &mut Connection, (database, table): &TableName) -> Result<()> {
    const NO_SUCH: [u16; 2] = [1146, 1049];
    let place = quote_table(database, table);
    match control.value(&format!("SELECT 1 FROM {place} LIMIT 1")).await {
        Err(error) if error.server_code().is_some_and(|code| NO_SUCH.contains(&code)) => Ok(()),
        Ok(Some(_)) => {
            let message =
                format!("the target has come to have a table {database}.{table}, with rows that are not of this load");
            Err(ProtectError::usage(message).hint("move it away, or add --replace to drop it"))
        }
        Ok(None) => {
            control.execute(&format!("DROP TABLE {place}")).await?;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn is_as_backed_up(
    control: &mut Connection,
    plan: &LoadPlan,
    name: &TableName,
    rows: Option<&TableRows>,
) -> Result<bool> {
    let Some(rows) = rows else { return Ok(false) };
    control.execute(READ_SESSION).await?;
    let place = quote_table(&name.0, &name.1);
    let same = match rows.form.fingerprint(control, &place, None).await {
        Ok(found) => found == rows.digest,
        // It may be marked as crashed.
        Err(MysqlError::Server { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    prepare(control, plan).await?;
    Ok(same)
}

async fn run(control: &mut Connection, statements: &[String]) -> std::result::Result<(), MysqlError> {
    for sql in statements {
        control.execute(sql).await?;
    }
    Ok(())
}

/// Rows, keys and fingerprints of all chosen tables.
async fn load_rows(context: &Context, plan: &Arc<LoadPlan>, work: Work) -> Result<(Proof, u64)> {
    let work = Arc::new(work);
    work.tell(context);
    let mut loaders = TaskSet::new("load rows");
    for _ in 0..LOADERS {
        let mut connection = session(context, plan).await?;
        connection.execute(LOAD_SESSION).await?;
        connection
            .execute(&format!("SET SESSION wait_timeout = {LOADER_SILENCE_MAX_SECONDS}"))
            .await?;
        let loader = Loader::new(context.clone(), Arc::clone(plan), Arc::clone(&work), connection);
        loaders.spawn(loader.run());
    }
    while let Some(ended) = loaders.join_next().await {
        ended??;
    }
    Ok((work.proof(), work.read_back()))
}

/// What a table of the backup is called on the target: database and name to database and name.
type Rename<'a> = dyn Fn(&str, &str) -> (String, String) + Send + Sync + 'a;

/// What tables are called on the target.
pub(crate) struct Names<'a>(Box<Rename<'a>>);

impl<'a> Names<'a> {
    pub(crate) fn new(table: impl Fn(&str, &str) -> (String, String) + Send + Sync + 'a) -> Self {
        Self(Box::new(table))
    }

    pub(crate) fn naming(&self) -> Naming<'_> {
        Naming {
            database: &str::to_owned,
            table: &*self.0,
            keep_places: false,
        }
    }

    pub(crate) fn table(&self, database: &str, name: &str) -> (String, String) {
        (self.0)(database, name)
    }
}
