//! Proves a directory that a tool has prepared: a private server opens it, and every recorded table must be there and readable.
//!
//! Where it stands is known by half: InnoDB keeps the place of its own last transaction. It must not be behind the recorded position,
//! and often is that very place; if it is before, what is between was of other engines or changed definitions.

use std::collections::BTreeSet;
use std::path::Path;

use ballast_mysql::{Connection, ThrowawayOptions, ThrowawayServer};

use super::record::ExternalRecord;
use super::tables::Tables;
use crate::context::Context;
use crate::error::Result;
use crate::mysql::proof::{Proof, Proved, count, options};
use crate::position::Position;
use crate::replay::{replay_options, take_on};
use crate::restore_plan::RestorePlan;

pub(crate) async fn prove(
    context: &Context,
    plan: &RestorePlan,
    record: &ExternalRecord,
    directory: &Path,
    reached: Option<(String, u64)>,
) -> Result<Proved> {
    let starts = ThrowawayOptions {
        replay: plan.replay.as_ref().map(|_| replay_options()),
        ..options(directory, record.settings.clone())
    };
    let mut server = ThrowawayServer::start(&plan.binary, starts, &context.cancel).await?;
    let mut found = tables_of(context, &server).await?;
    let tables_found = record.tables.intersection(&found).count() as u64;
    let missing = record.tables.difference(&found);
    let mut differing: Vec<_> = missing
        .map(|(schema, table)| format!("table {schema}.{table} is missing"))
        .collect();
    if record.tables_exact {
        let more = found.difference(&record.tables);
        differing.extend(more.map(|(schema, table)| format!("table {schema}.{table} was not there")));
    }
    let recorded = plan.backup.position.clone().unwrap_or_default();
    let (mut position, mut position_equal) = compare(&recorded, reached);
    if position_equal.is_none() && recorded.file.is_some() {
        context.note(
            "the last changes before the recorded position were of other engines than InnoDB, or of definitions: \
             that they are in the copy is the tool's word",
        );
    }
    let mut replayed = None;
    let as_recorded = position_equal != Some(false) && differing.is_empty();
    if let Some(replay) = plan.replay.as_ref().filter(|_| as_recorded) {
        let again = options(directory, record.settings.clone());
        let (taken_on, what) = take_on(context, plan, replay, server, again).await?;
        (server, replayed) = (taken_on, Some(what));
        // The replay ends only where it was to, and counted what was applied.
        (position, position_equal) = (replay.position(), Some(true));
        found = tables_of(context, &server).await?;
    }
    let (rows, unreadable) = count(context, server.address(), &found).await?;
    differing.extend(unreadable);
    server.stop().await?;
    let proof = Proof {
        position_equal,
        tables_expected: record.tables.len() as u64,
        tables_found,
        tables_differing: differing,
        rows,
    };
    Ok(Proved {
        proof,
        position,
        replayed,
    })
}

async fn tables_of(context: &Context, server: &ThrowawayServer) -> Result<BTreeSet<(String, String)>> {
    let mut connection = Connection::open(server.address(), &context.cancel).await?;
    let found = Tables::of_connection(&mut connection).await?.names();
    connection.close().await;
    Ok(found)
}

/// The position reached, and whether it is the recorded one, where that can be told.
fn compare(recorded: &Position, reached: Option<(String, u64)>) -> (Position, Option<bool>) {
    let (Some((file, offset)), Some(recorded_file), Some(recorded_offset)) = (reached, &recorded.file, recorded.offset)
    else {
        return (recorded.clone(), None);
    };
    let place = (number(&file), offset);
    match place.cmp(&(number(recorded_file), recorded_offset)) {
        std::cmp::Ordering::Equal => (recorded.clone(), Some(true)),
        std::cmp::Ordering::Less => (recorded.clone(), None),
        std::cmp::Ordering::Greater => {
            let beyond = Position {
                gtid_executed: String::new(),
                file: Some(file),
                offset: Some(offset),
                exact: true,
                at_least: None,
                replication_id: None,
            };
            (beyond, Some(false))
        }
    }
}

/// Of a file of the binary log: they are counted.
fn number(file: &str) -> u64 {
    let digits = file.rsplit('.').next().and_then(|digits| digits.parse().ok());
    digits.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_beyond_its_position_is_not_what_was_backed_up() {
        let recorded = Position {
            gtid_executed: "0-7-8".to_owned(),
            file: Some("binlog.000009".to_owned()),
            offset: Some(2718),
            exact: true,
            at_least: None,
            replication_id: None,
        };
        let at = |file: &str, offset| compare(&recorded, Some((file.to_owned(), offset)));
        assert_eq!(at("binlog.000009", 2718), (recorded.clone(), Some(true)));
        assert_eq!(at("binlog.000009", 2185), (recorded.clone(), None));
        assert_eq!(at("binlog.000008", 9999), (recorded.clone(), None));
        assert_eq!(at("binlog.000009", 2719).1, Some(false));
        let (beyond, equal) = at("binlog.000010", 4);
        assert_eq!((beyond.to_string().as_str(), equal), ("binlog.000010:4", Some(false)));
        assert_eq!(compare(&recorded, None), (recorded.clone(), None));
    }
}
