//! Rows that a backup of files carries beside them, of tables of other engines than InnoDB: back into their tables on the private
//! server that recovered the files.
//!
//! The copy knows these tables and has no files of them, so each is dropped and made again before its rows are loaded,
//! and its triggers after: they must not fire.

use ballast_mysql::{Connection, ServerAddress};
use ballast_repository::BackupId;

use super::carry_out;
use super::resume::Present;
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::load_plan::{LoadPlan, NameCase};
use crate::mysql::logical::record::LogicalRecord;
use crate::restore_plan::RestorePlan;

/// Their rows are gone whenever a server stops.
const IN_MEMORY: &str = "MEMORY";

/// Whether the server's tables will be there after it has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    /// The directory is kept: what is only in memory is not.
    Kept,
    /// The server is read from.
    ReadNow,
}

/// Puts them in their places, and compares them with what was backed up.
pub(crate) async fn put_back(
    context: &Context,
    plan: &RestorePlan,
    mut record: LogicalRecord,
    address: &ServerAddress,
    stay: Stay,
) -> Result<()> {
    if stay == Stay::Kept {
        leave_out_memory(context, &mut record);
    }
    if record.tables.is_empty() {
        return Ok(());
    }
    let id = BackupId::parse(&plan.backup.id)
        .ok_or_else(|| ProtectError::usage(format!("\"{}\" is no backup id", plan.backup.id)))?;
    let mut connection = Connection::open(address, &context.cancel).await?;
    let present = Present::read(&mut connection, NameCase::Matters).await?;
    connection.close().await;
    let names = record.schema.tables.iter();
    let manifest = plan.from.manifest(&id, &context.cancel).await?;
    let replaces = names
        .map(|table| format!("{}.{}", table.database, table.name))
        .collect();
    let load = LoadPlan {
        replaces,
        replace: true,
        present,
        ..LoadPlan::private(plan, address, record, manifest)
    };
    let about = "tables of other engines than InnoDB";
    let outcome = Box::pin(carry_out(context, load, context.steps()))
        .await
        .map_err(|error| {
            if error.kind() == ErrorKind::Interrupted {
                return error;
            }
            error
                .about(about)
                .hint("restore another backup with --backup ID, and check the stored bytes with: ballast verify")
        })?;
    if outcome.partial() {
        let message = format!("{about}: {}", outcome.left_out.join("; "));
        return Err(ProtectError::new(ErrorKind::Damaged, message).hint("restore another backup with --backup ID"));
    }
    Ok(())
}

fn leave_out_memory(context: &Context, record: &mut LogicalRecord) {
    let in_memory = |engine: &str| engine.eq_ignore_ascii_case(IN_MEMORY);
    let schema = &mut record.schema;
    let (out, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut schema.tables)
        .into_iter()
        .zip(std::mem::take(&mut record.tables))
        .partition(|(table, _)| in_memory(&table.engine));
    (schema.tables, record.tables) = kept.into_iter().unzip();
    let is_kept = |database: &str, name: &str| {
        let mut tables = schema.tables.iter();
        tables.any(|table| table.database == database && table.name == name)
    };
    let triggers = std::mem::take(&mut schema.triggers);
    schema.triggers = triggers
        .into_iter()
        .filter(|trigger| is_kept(&trigger.database, &trigger.table))
        .collect();
    if !out.is_empty() {
        let names: Vec<_> = out
            .iter()
            .map(|(table, _)| format!("{}.{}", table.database, table.name))
            .collect();
        context.warn(
            format!(
                "tables that are in memory only are empty after any start of a server: {}",
                names.join(", ")
            ),
            Some("their rows are in the backup: load them into a running server with --to mysql://… --only".to_owned()),
        );
    }
}
