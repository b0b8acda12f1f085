//! What a load finds on its target: tables that stand in the way, and what an earlier run of the same load left.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use ballast_mysql::{Connection, Sequence, quote_table};

use super::binlog;
use super::book::{Book, DATABASE, GIVE_UP, TableState};
use crate::error::{ProtectError, Result};
use crate::load_plan::{NameCase, Rename, TableName};
use crate::mysql::logical::is_transactional;
use crate::pattern::{TablePattern, written};
use crate::restore_plan::{RestoreRequest, RestoreTarget};

const SEQUENCE: &str = "SEQUENCE";

/// What has the name of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Present {
    kind: String,
    engine: String,
}

impl Present {
    /// Everything on the server that is named as tables are, by the names it knows them by.
    pub(crate) async fn read(connection: &mut Connection, case: NameCase) -> Result<BTreeMap<TableName, Self>> {
        let rows = connection
            .query(
                "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')",
            )
            .await?;
        let text =
            |row: &ballast_mysql::Row, column| row.text(column).map(std::borrow::Cow::into_owned).unwrap_or_default();
        let present = |row| {
            let present = Self {
                kind: text(&row, 2),
                engine: text(&row, 3),
            };
            (case.of((text(&row, 0), text(&row, 1))), present)
        };
        Ok(rows.into_iter().map(present).collect())
    }

    pub(crate) fn is_table(&self) -> bool {
        !self.is_view() && self.kind != SEQUENCE
    }

    pub(crate) fn is_view(&self) -> bool {
        self.kind.ends_with("VIEW")
    }

    /// Whether rows and the mark that tells of them come and go together.
    pub(crate) fn is_transactional(&self) -> bool {
        is_transactional(&self.engine)
    }

    /// The statement that takes it away.
    pub(crate) fn drop_sql(&self, name: &TableName) -> String {
        let kind = match self.kind.as_str() {
            SEQUENCE => SEQUENCE,
            _ if self.is_view() => "VIEW",
            _ => "TABLE",
        };
        format!("DROP {kind} IF EXISTS {}", quote_table(&name.0, &name.1))
    }
}

/// What an earlier run left, where this one goes on.
#[derive(Debug, Clone, serde::Serialize)]
pub struct GoesOn {
    pub begun_at: String,
    pub tables_whole: u64,
    pub rows: u64,
    pub bytes: u64,
}

impl GoesOn {
    pub(crate) fn of(book: &Book) -> Self {
        let sum = book.sum();
        Self {
            begun_at: book.begun_at.clone(),
            tables_whole: book.tables_whole(),
            rows: sum.rows,
            bytes: sum.bytes,
        }
    }
}

/// The flags that chose tables and named them, always in the same order.
pub(crate) fn choice(request: &RestoreRequest) -> String {
    flags(&request.only, &request.rename, request.no_binlog)
}

fn flags(only: &[TablePattern], rename: &[Rename], no_binlog: bool) -> String {
    let mut flags: Vec<String> = only
        .iter()
        .map(|pattern| format!("--only {}", in_shell(pattern.as_str())))
        .collect();
    flags.extend(rename.iter().map(|rename| {
        let (from, to) = (&rename.from, &rename.to);
        let names = format!("{}={}", written(&from.0, &from.1), written(&to.0, &to.1));
        format!("--rename {}", in_shell(&names))
    }));
    // What was loaded without the log and what is loaded with it would be half a table to a replica.
    flags.extend(no_binlog.then(|| binlog::FLAG.to_owned()));
    flags.sort();
    flags.dedup();
    flags.join(" ")
}

/// One word for a shell.
pub(super) fn in_shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What is asked for, by the backup that an unfinished load began with. Another unfinished load must be finished first.
pub(crate) fn going_on(request: &RestoreRequest, book: Option<&Book>) -> Result<RestoreRequest> {
    let Some(book) = book else {
        return Ok(request.clone());
    };
    let same = book.source == request.source
        && book.choice == choice(request)
        && request.backup.as_ref().is_none_or(|backup| *backup == book.backup);
    if same {
        return Ok(RestoreRequest {
            backup: Some(book.backup.clone()),
            ..request.clone()
        });
    }
    let url = match &request.target {
        RestoreTarget::Server(url) if url.chars().all(|c| c.is_ascii_alphanumeric() || "/:.@-_%".contains(c)) => {
            url.clone()
        }
        RestoreTarget::Server(url) => in_shell(url),
        RestoreTarget::DataDir(_) => "TARGET".to_owned(),
    };
    let mut command = format!(
        "ballast restore {} --backup {} --to {url} {}",
        book.source, book.backup, book.choice
    );
    command.truncate(command.trim_end().len());
    Err(ProtectError::usage(format!(
        "another load into this server is not finished: backup \"{}\" of source \"{}\", begun at {}",
        book.backup, book.source, book.begun_at
    ))
    .hint(format!("finish it with: {command}; or {GIVE_UP}")))
}

/// Says of the backup that is to go on, and cannot be had, that there is another way.
pub(crate) fn cannot_go_on(error: ProtectError, book: Option<&Book>) -> ProtectError {
    let Some(book) = book else { return error };
    let hint = error.hint_text().map_or_else(String::new, |hint| format!("{hint}; "));
    error.hint(format!(
        "{hint}a load of backup \"{}\" is not finished on the target; {GIVE_UP}",
        book.backup
    ))
}

/// Tables of ours must not be called as what is remembered of them.
pub(crate) fn refuse_own_name(names: &[(TableName, TableName)]) -> Result<()> {
    if names.iter().any(|(_, to)| to.0.eq_ignore_ascii_case(DATABASE)) {
        let message =
            format!("database {DATABASE} is where a load remembers what it did, and holds no tables of yours");
        return Err(ProtectError::usage(message).hint("give these tables another database with --rename"));
    }
    Ok(())
}

/// Whether something of this name stands in the way: it is not what an earlier run of this load made.
pub(crate) async fn is_in_the_way(
    connection: &mut Connection,
    name: &TableName,
    present: &Present,
    state: Option<TableState>,
) -> Result<bool> {
    Ok(match state {
        None => true,
        Some(_) if !present.is_table() => true,
        // Made and not yet noted, or somebody else's. One of ours has no rows.
        Some(TableState::Planned) => {
            let sql = format!("SELECT 1 FROM {} LIMIT 1", quote_table(&name.0, &name.1));
            connection.value(&sql).await?.is_some()
        }
        Some(_) => false,
    })
}

/// Whether a sequence may be what an earlier run of this load made: it was never used, or stands where it is to stand. There is
/// nothing in it then that making it again would not bring back.
pub(crate) async fn is_our_sequence(
    connection: &mut Connection,
    name: &TableName,
    present: &Present,
    sequence: &Sequence,
) -> Result<bool> {
    if present.kind != SEQUENCE {
        return Ok(false);
    }
    let place = quote_table(&name.0, &name.1);
    let (next, round) = (&sequence.next, &sequence.round);
    let sql = format!(
        "SELECT 1 FROM {place} WHERE (next_not_cached_value = start_value AND cycle_count = 0) \
         OR (next_not_cached_value = {next} AND cycle_count = {round})"
    );
    Ok(connection.value(&sql).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_flags_makes_no_other_choice() {
        let only = |text: &str| TablePattern::parse(text).unwrap();
        let rename: Rename = "a.b=c.d".parse().unwrap();
        let (one, two) = (only("balance.orders_{0..9}"), only("balance.shops"));
        let first = flags(&[one.clone(), two.clone()], std::slice::from_ref(&rename), false);
        assert_eq!(
            first,
            "--only 'balance.orders_{0..9}' --only 'balance.shops' --rename 'a.b=c.d'"
        );
        assert_eq!(flags(&[two, one.clone()], std::slice::from_ref(&rename), false), first);
        assert_ne!(flags(&[one], &[rename], false), first);
        assert_eq!(flags(&[], &[], false), "");
        assert_eq!(flags(&[], &[], true), "--no-binlog");
        let rename: Rename = "a.it's=c.`x.y`".parse().unwrap();
        assert_eq!(flags(&[], &[rename], false), r"--rename 'a.it'\''s=c.`x.y`'");
    }
}
