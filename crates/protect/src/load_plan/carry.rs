//! What a backup becomes on a target of another flavour or version, and what does not carry over: known before anything is
//! written.

use std::collections::{BTreeMap, BTreeSet};

use ballast_mysql::{Abilities, Change, Connection, Facts, Flavour, Loss};

use super::{Rename, TableName, dotted, is_chosen, renamed, some_of};
use crate::error::{ProtectError, Result};
use crate::load::Names;
use crate::mysql::logical::record::LogicalRecord;
use crate::pattern::TablePattern;

/// The difference between two servers, as far as it touches what is loaded.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) changes: Vec<Change>,
    pub(crate) left_out: Vec<Loss>,
    /// Tables that are not loaded.
    pub(crate) without: BTreeSet<TableName>,
    /// The two are of different flavours.
    pub(crate) crosses: bool,
}

/// Puts the record into the target's words. Asks the target, and writes nothing.
pub(crate) async fn carry(
    connection: &mut Connection,
    facts: &Facts,
    only: &[TablePattern],
    rename: &[Rename],
    record: &mut LogicalRecord,
) -> Result<Carried> {
    let mariadb = facts.version.flavour == Flavour::MariaDb;
    let crosses = mariadb != record.schema.mariadb;
    if !crosses && facts.version.text == record.schema.server_version {
        return Ok(Carried::default());
    }
    let chosen = |database: &str, table: &str| is_chosen(only, database, table);
    let others = only.is_empty() && rename.is_empty();
    let abilities = Abilities::read(connection, facts, &record.schema).await?;
    let mut translated = record.schema.translate(&abilities, &chosen, others);
    let names = Names::new(|database, table| renamed(rename, database, table));
    abilities
        .rehearse(connection, &mut translated, &names.naming(), &chosen, others)
        .await?;
    let mut left_out: Vec<Loss> = translated
        .tables_left_out
        .iter()
        .map(|(name, why)| Loss {
            object: format!("table {}", dotted(name)),
            why: why.clone(),
        })
        .collect();
    let without: BTreeSet<TableName> = translated.tables_left_out.into_iter().map(|(name, _)| name).collect();
    // What becomes of a part is no news of a table that does not come at all.
    let is_without = |object: &str| {
        let is = |name: &String| object == format!("table {name}") || object.ends_with(&format!(" of {name}"));
        without.iter().map(dotted).any(|name| is(&name))
    };
    left_out.extend(translated.losses.into_iter().filter(|loss| !is_without(&loss.object)));
    let mut changes = translated.changes;
    changes.retain(|change| !is_without(&change.object));
    record.schema = translated.schema;
    Ok(Carried {
        changes,
        left_out,
        without,
        crosses,
    })
}

/// Nothing is left to load.
pub(crate) fn refuse_nothing(names: &[(TableName, TableName)], carried: &Carried) -> Result<()> {
    let Some(first) = carried
        .left_out
        .first()
        .filter(|_| names.is_empty() && !carried.without.is_empty())
    else {
        return Ok(());
    };
    Err(nothing_left(&first.to_string()))
}

pub(crate) fn nothing_left(first: &str) -> ProtectError {
    ProtectError::usage(format!("no table can be carried to this target; {first}"))
        .hint("restore to a server of the kind the backup is of")
}

/// Both lists for people, those of one kind together.
pub(crate) fn lines(changes: &[Change], left_out: &[Loss]) -> Vec<(String, String)> {
    let changes = changes.iter().map(|change| (&change.what, &change.object));
    let losses = left_out.iter().map(|loss| (&loss.why, &loss.object));
    let line = |label: &str, (what, objects): (String, String)| (label.to_owned(), format!("{objects}: {what}"));
    let changes = grouped(changes).into_iter().map(|group| line("changes", group));
    let losses = grouped(losses).into_iter().map(|group| line("left out", group));
    changes.chain(losses).collect()
}

fn grouped<'a>(list: impl Iterator<Item = (&'a String, &'a String)>) -> Vec<(String, String)> {
    let mut groups: Vec<(&String, Vec<String>)> = Vec::new();
    let mut places = BTreeMap::new();
    for (what, object) in list {
        let place = *places.entry(what).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, objects)) => objects.push(object.clone()),
            None => groups.push((what, vec![object.clone()])),
        }
    }
    groups
        .into_iter()
        .map(|(what, objects)| (what.clone(), some_of(objects.into_iter())))
        .collect()
}
