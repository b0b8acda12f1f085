//! Rows out of the files of a physical backup: a private server recovers them, says what the tables are, and gives their rows.
//!
//! Nothing is stored in between: what a loader reads from the private server it gives to the target. Both servers
//! fingerprint the table in the end.

use ballast_mysql::{Connection, Facts, Schema, SchemaFilter, TableDigest, open_reader};

use super::resume::in_shell;
use super::work::{LiveRows, RowSource};
use super::{LOADERS, LoadOutcome, carry_out};
use crate::context::{Context, Steps};
use crate::error::{ErrorKind, ProtectError, Result};
use crate::load_plan::carry::{self, carry};
use crate::load_plan::{LoadPlan, dotted};
use crate::mysql::logical::Plan;
use crate::mysql::logical::record::{LogicalRecord, TableRows};
use crate::restore::private::PrivateCopy;
use crate::restore_plan::RestorePlan;

/// Loads what the plan chose; the files and their server are gone afterwards, however it ends.
pub(super) async fn load(
    context: &Context,
    mut plan: LoadPlan,
    files: &RestorePlan,
    mut steps: Steps,
) -> Result<LoadOutcome> {
    let copy = PrivateCopy::open(context, files, &mut steps).await?;
    let loaded = match steps.run("definitions", read(context, &mut plan, &copy)).await {
        Ok(()) => Box::pin(carry_out(context, plan, steps)).await,
        Err(error) => Err(error),
    };
    let loaded = loaded.map(|mut outcome| {
        if copy.replayed.is_some() {
            outcome.reached.position = files.expected().unwrap_or_default();
            outcome.reached.at = files.moment();
            outcome.expected.position = files.expected();
        }
        outcome.replayed.clone_from(&copy.replayed);
        outcome
    });
    copy.discard(context).await;
    loaded
}

/// What the private server has of the chosen tables, and who reads their rows.
async fn read(context: &Context, plan: &mut LoadPlan, copy: &PrivateCopy) -> Result<()> {
    refuse_dropped(plan, copy)?;
    plan.take_over_tables(&copy.tables)?;
    let address = copy.server.address();
    let whole = plan.is_whole();
    let mut control = Connection::open(address, &context.cancel).await?;
    let facts = Facts::read(&mut control).await?;
    let mut readers = Vec::new();
    for _ in 0..LOADERS {
        readers.push(open_reader(address, &facts, &context.cancel).await?);
    }
    if whole {
        // From here on the server has accounts, and shows them; the sessions that there are keep all rights, and nobody
        // else can log in.
        control.execute("FLUSH PRIVILEGES").await?;
    }
    let only = plan.only.clone();
    let chosen = |database: &str, table: &str| crate::load_plan::is_chosen(&only, database, table);
    let wanted: Vec<_> = copy
        .tables
        .iter()
        .filter(|(database, table)| chosen(database, table))
        .collect();
    let filter = SchemaFilter {
        database: &|database| whole || wanted.iter().any(|(name, _)| name == database),
        table: &chosen,
        accounts: whole,
    };
    let schema = Schema::read(&mut control, &facts, &filter).await?;
    for left_out in schema.left_out.iter().filter(|_| whole) {
        context.warn(format!("left out: {left_out}"), None);
    }
    for (database, table) in wanted {
        if !schema
            .tables
            .iter()
            .any(|read| read.database == *database && read.name == *table)
        {
            let message = format!("the files hold table {database}.{table}, and its definition cannot be read");
            return Err(ProtectError::new(ErrorKind::Damaged, message)
                .hint("choose another backup with --backup ID, or leave the table out with --only"));
        }
    }
    let jobs = Plan::make(&mut control, &schema).await?;
    control.close().await;
    if whole {
        let names = schema.databases.iter().map(|database| plan.case.fold(&database.name));
        let new: Vec<_> = names.filter(|name| !plan.databases_there.contains(name)).collect();
        plan.databases_new.extend(new);
    }
    let tables = jobs.tables.iter().map(|task| TableRows {
        form: task.form.clone(),
        // The private server says it when the rows are read.
        digest: TableDigest::default(),
        parts: Vec::new(),
    });
    plan.record = LogicalRecord {
        tables: tables.collect(),
        schema,
    };
    plan.rows = RowSource::Live(LiveRows::new(jobs, readers));
    translate(context, plan).await
}

/// What was named must be there: the log may have dropped or renamed it on the way, or not made it.
fn refuse_dropped(plan: &LoadPlan, copy: &PrivateCopy) -> Result<()> {
    let chosen = plan.only.iter().flat_map(|pattern| pattern.missing(&copy.tables));
    let renamed = plan.rename.iter().map(|rename| &rename.from);
    let renamed = renamed.filter(|from| !copy.tables.contains(*from)).map(dotted);
    let Some(dropped) = chosen.chain(renamed).next() else {
        return Ok(());
    };
    let plain = |letter: char| letter.is_alphanumeric() || "_.".contains(letter);
    let word = match dropped.chars().all(plain) {
        true => dropped.clone(),
        false => in_shell(&dropped),
    };
    if plan.awaited.contains(&dropped) {
        let message = format!("table {dropped} is not in the backup, and does not exist at that moment of the log");
        return Err(ProtectError::new(ErrorKind::NotRestorable, message).hint(format!(
            "find when it was made with: ballast log find {} --table {word}",
            plan.source
        )));
    }
    let message = format!("table {dropped} is in the backup and does not exist at that moment of the log");
    Err(ProtectError::new(ErrorKind::NotRestorable, message).hint(format!(
        "find what dropped it with: ballast log find {} --table {word}; then stop before that with --before GTID, or leave it out \
         with --skip GTID",
        plan.source
    )))
}

/// Puts what was read into the target's words; what does not carry over is said before anything is written there.
async fn translate(context: &Context, plan: &mut LoadPlan) -> Result<()> {
    let mut target = Connection::open(&plan.address, &context.cancel).await?;
    let facts = Facts::read(&mut target).await?;
    let carried = carry(&mut target, &facts, &plan.only, &plan.rename, &mut plan.record).await?;
    target.close().await;
    for (label, what) in carry::lines(&carried.changes, &carried.left_out) {
        context.note(format!("{label}: {what}"));
    }
    plan.take_over(carried)
}
