//! Loads a logical backup into a running server that may hold other data: databases and tables first, rows by several connections,
//! then keys, and every table is fingerprinted by the server and compared; what refers to tables comes last.
//!
//! Nothing that was there is touched unless the plan named it. Rows go in transactions of whole rows, each committed only when
//! the server took all of them; what fails in the middle is named, and the tables it made stay, to be replaced by the next try.

mod objects;
mod rows;

use std::sync::Arc;

use ballast_base::TaskSet;
use ballast_mysql::{Connection, LOAD_SESSION, MysqlError, Naming, creation_session, quote_name, quote_table};

use self::rows::{Loader, Work};
use crate::context::{Context, StepTime};
use crate::error::{ErrorKind, ProtectError, Result};
use crate::load_plan::LoadPlan;
use crate::mysql::proof::Proof;
use crate::restore::{Expected, Reached};

/// Connections that load.
const LOADERS: usize = 4;

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
    /// Objects that could not be made, and why.
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

/// Carries out the plan.
pub async fn load(context: &Context, plan: LoadPlan) -> Result<LoadOutcome> {
    let mut steps = context.steps();
    let plan = Arc::new(plan);
    let mut control = session(context, &plan).await?;
    let made = steps.run("tables", make_tables(&mut control, &plan)).await;
    made.map_err(unfinished)?;
    let loaded = steps.run("rows", load_rows(context, &plan)).await;
    let proof = loaded.map_err(unfinished)?;
    if !proof.holds() {
        return Err(differing(&plan, &proof));
    }
    let left_out = steps.run("objects", objects::make(&mut control, &plan)).await?;
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
        left_out,
        steps,
        seconds,
    })
}

/// Tables that were made already must not pass for whole ones.
fn unfinished(error: ProtectError) -> ProtectError {
    if error.hint_text().is_some() || error.kind() == ErrorKind::Interrupted {
        return error;
    }
    error.hint("tables that this load made are not whole; load again with --replace, which drops them first")
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
        "look who else writes to these tables of {}; load again with --replace",
        plan.target
    ))
}

/// A connection that creates things as they were created once.
async fn session(context: &Context, plan: &LoadPlan) -> Result<Connection> {
    let mut connection = Connection::open_for_load(&plan.address, &context.cancel).await?;
    prepare(&mut connection, plan).await?;
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
    Ok(())
}

/// Databases, sequences and empty tables.
async fn make_tables(control: &mut Connection, plan: &LoadPlan) -> Result<()> {
    let names = plan.names();
    let naming = names.naming();
    let schema = &plan.record.schema;
    for name in &plan.databases_new {
        let known = schema.databases.iter().find(|database| database.name == *name);
        let sql = match known {
            Some(database) => database.statement(&naming)?,
            None => format!("CREATE DATABASE {}", quote_name(name)),
        };
        control.execute(&sql).await?;
    }
    for sequence in &schema.sequences {
        if plan.is_whole() {
            run(control, &sequence.statements(&naming)?).await?;
        }
    }
    for (_, table) in plan.chosen() {
        let (database, name) = names.table(&table.database, &table.name);
        let about = |error: MysqlError| ProtectError::from(error).about(&format!("create table {database}.{name}"));
        if plan.replaces.contains(&format!("{database}.{name}")) {
            let drop = format!("DROP TABLE IF EXISTS {}", quote_table(&database, &name));
            control.execute(&drop).await.map_err(about)?;
        }
        control
            .execute(&table.statements(&naming)?.create)
            .await
            .map_err(about)?;
    }
    Ok(())
}

async fn run(control: &mut Connection, statements: &[String]) -> std::result::Result<(), MysqlError> {
    for sql in statements {
        control.execute(sql).await?;
    }
    Ok(())
}

/// Rows, keys and fingerprints of all chosen tables.
async fn load_rows(context: &Context, plan: &Arc<LoadPlan>) -> Result<Proof> {
    let work = Arc::new(Work::of(plan));
    let mut loaders = TaskSet::new("load rows");
    for _ in 0..LOADERS {
        let mut connection = session(context, plan).await?;
        connection.execute(LOAD_SESSION).await?;
        let loader = Loader::new(context.clone(), Arc::clone(plan), Arc::clone(&work), connection);
        loaders.spawn(loader.run());
    }
    while let Some(ended) = loaders.join_next().await {
        ended??;
    }
    Ok(work.proof())
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
