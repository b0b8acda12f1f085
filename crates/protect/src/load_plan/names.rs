//! What tables are called in a backup and on the target, and which of them were asked for.

use std::collections::BTreeSet;

use ballast_mysql::Facts;

use super::LoadPlan;
use crate::error::{ProtectError, Result};
use crate::load::resume::refuse_own_name;
use crate::pattern::{Letter, TablePattern, letters, plain, split_at};
use crate::restore_plan::RestoreRequest;

/// Database and name.
pub(crate) type TableName = (String, String);

/// Whether a server tells names apart by case (`lower_case_table_names`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameCase {
    Matters,
    /// Two names that differ only by case are one table there.
    Folded,
}

impl NameCase {
    pub(crate) fn of_server(facts: &Facts) -> Self {
        match facts.variable("lower_case_table_names") {
            None | Some("0") => Self::Matters,
            Some(_) => Self::Folded,
        }
    }

    /// A name as it is compared on this server.
    pub(crate) fn fold(self, name: &str) -> String {
        match self {
            Self::Matters => name.to_owned(),
            Self::Folded => name.to_lowercase(),
        }
    }

    pub(crate) fn of(self, (database, table): TableName) -> TableName {
        (self.fold(&database), self.fold(&table))
    }
}

pub(crate) fn dotted((database, table): &TableName) -> String {
    format!("{database}.{table}")
}

/// What a table is called, and what it will be.
type OldAndNew = (TableName, TableName);

/// Another name for one table: `balance.orders_7=rescue.orders_7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    pub from: (String, String),
    pub to: (String, String),
}

impl std::str::FromStr for Rename {
    type Err = ProtectError;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            ProtectError::usage(format!("\"{text}\" is no new name for a table")).hint(
                "write DATABASE.TABLE=DATABASE.TABLE, such as balance.orders_7=rescue.orders_7; names with \".\", \"=\" or \"`\" \
                 in them go between backticks, such as 'shop.`a.b`=rescue.ab'",
            )
        };
        let name = |letters: &[Letter]| {
            let (database, table) = split_at(letters, '.')?;
            (!database.is_empty() && !table.is_empty()).then(|| (plain(database), plain(table)))
        };
        let text = letters(text).map_err(|_| wrong())?;
        let (from, to) = split_at(&text, '=').ok_or_else(wrong)?;
        Ok(Self {
            from: name(from).ok_or_else(wrong)?,
            to: name(to).ok_or_else(wrong)?,
        })
    }
}

pub(crate) fn is_chosen(only: &[TablePattern], database: &str, table: &str) -> bool {
    only.is_empty() || only.iter().any(|pattern| pattern.matches(database, table))
}

pub(crate) fn renamed(rename: &[Rename], database: &str, table: &str) -> (String, String) {
    let new = rename
        .iter()
        .find(|rename| rename.from.0 == database && rename.from.1 == table);
    new.map_or_else(|| (database.to_owned(), table.to_owned()), |rename| rename.to.clone())
}

pub(crate) fn some_of(names: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    let all: Vec<_> = names.collect();
    let more = all.len().saturating_sub(SHOWN);
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        format!("{shown} and {more} more")
    } else {
        shown
    }
}

/// Old and new name of every chosen table of the backup. Names that mean nothing, and two tables of one name, are mistakes. Where the log
/// is replayed on top it may make tables, too: those that are named and not in the backup are given beside.
pub(super) fn names(
    request: &RestoreRequest,
    all: BTreeSet<TableName>,
    case: NameCase,
    replays: bool,
) -> Result<(Vec<OldAndNew>, Vec<String>)> {
    let hint = "see what is in it with: ballast restore … --dry-run";
    let mut awaited: Vec<String> = request.only.iter().flat_map(|pattern| pattern.missing(&all)).collect();
    if let Some(missing) = awaited.first().filter(|_| !replays) {
        return Err(ProtectError::usage(format!("the backup has no table {missing}")).hint(hint));
    }
    let renamed_of_log = request.rename.iter().map(|rename| &rename.from);
    awaited.extend(renamed_of_log.filter(|from| !all.contains(*from)).map(dotted));
    awaited.sort();
    awaited.dedup();
    for rename in &request.rename {
        let there = replays || all.contains(&rename.from);
        if !there || !is_chosen(&request.only, &rename.from.0, &rename.from.1) {
            let message = format!("table {} is not among those that are restored", dotted(&rename.from));
            return Err(ProtectError::usage(message).hint(hint));
        }
    }
    let mut renamed_once = BTreeSet::new();
    if let Some(twice) = request.rename.iter().find(|rename| !renamed_once.insert(&rename.from)) {
        let message = format!("table {} is given two new names", dotted(&twice.from));
        return Err(ProtectError::usage(message).hint("restore it once under each of them, by two commands"));
    }
    let chosen = all
        .iter()
        .filter(|(database, table)| is_chosen(&request.only, database, table));
    Ok((new_names(chosen, &request.rename, case)?, awaited))
}

/// Old and new name of each of these tables.
fn new_names<'a>(
    tables: impl Iterator<Item = &'a TableName>,
    rename: &[Rename],
    case: NameCase,
) -> Result<Vec<OldAndNew>> {
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for from in tables {
        let to = case.of(renamed(rename, &from.0, &from.1));
        if !seen.insert(to.clone()) {
            return Err(
                ProtectError::usage(format!("two tables would be called {} on this target", dotted(&to)))
                    .hint("give one of them another name with --rename"),
            );
        }
        names.push((from.clone(), to));
    }
    Ok(names)
}

impl LoadPlan {
    /// Takes note of the tables that there are when the log was replayed. Some of those that were planned for may be gone; those that the
    /// log made are held to the same rules as the others before anything is made on the target.
    pub(crate) fn take_over_tables(&mut self, there: &BTreeSet<TableName>) -> Result<()> {
        let chosen = there
            .iter()
            .filter(|(database, table)| is_chosen(&self.only, database, table));
        let names = new_names(chosen, &self.rename, self.case)?;
        refuse_own_name(&names)?;
        let planned: BTreeSet<&String> = self.tables.iter().map(|(_, to)| to).collect();
        let made = names.iter().filter(|(_, to)| !planned.contains(&dotted(to)));
        let made: Vec<_> = made.cloned().collect();
        let taken = made.iter().filter(|(_, to)| self.present.contains_key(to));
        let taken = refuse_taken(taken.map(|(_, to)| dotted(to)).collect(), self.replace)?;
        self.replaces.extend(taken);
        let databases = made.iter().map(|(_, to)| to.0.clone());
        let new = databases.filter(|database| !self.databases_there.contains(database));
        self.databases_new.extend(new);
        self.tables
            .extend(made.iter().map(|(from, to)| (dotted(from), dotted(to))));
        Ok(())
    }
}

pub(super) fn refuse_taken(taken: Vec<String>, replace: bool) -> Result<Vec<String>> {
    if taken.is_empty() || replace {
        return Ok(taken);
    }
    Err(ProtectError::usage(format!(
        "the target has tables of these names: {}",
        some_of(taken.into_iter())
    ))
    .hint("choose others with --only or --rename, or add --replace to drop these first"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::written;

    #[test]
    fn a_new_name_may_be_of_any_letters() {
        for (from, to) in [("a.b", "c.d"), ("a.b", "x=y"), ("`", "*{}"), ("d'b", "=")] {
            let text = format!("{}={}", written(from, to), written(to, from));
            let rename: Rename = text.parse().unwrap();
            let name = |a: &str, b: &str| (a.to_owned(), b.to_owned());
            assert_eq!((rename.from, rename.to), (name(from, to), name(to, from)), "{text}");
        }
        for text in ["a.b", "a=b", "a.=c.d", "`a.b=c.d`", "a.`b=c.d"] {
            assert!(text.parse::<Rename>().is_err(), "{text}");
        }
    }
}
