//! A backup of a Redis into a running server: decided, and refused where it cannot be, before anything is written.

use std::collections::BTreeSet;

use ballast_redis::{
    Connection, KeyPattern, KeySelection, RedisError, ServerAddress, TargetFacts, load_rights, refuse_target,
};
use ballast_repository::{Manifest, Repository};

use super::commands::plan_commands;
use super::load_book::{BOOK, Book};
use super::record::RedisRecord;
use super::restore_plan::read_backup;
use crate::catalog::{BackupSummary, list};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::restore_plan::choose_of;
use crate::vault::Vault;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct RedisLoadRequest {
    pub source: String,
    /// `redis://…` or `rediss://…`
    pub target: String,
    pub target_password: Option<ballast_base::Secret>,
    /// This backup and no other.
    pub backup: Option<String>,
    /// Only these keys; the others of the target stay as they are.
    pub only: Vec<KeyPattern>,
    /// What the target holds may go.
    pub replace: bool,
}

/// A decided load.
#[derive(Debug, serde::Serialize)]
pub struct RedisLoadPlan {
    pub backup: BackupSummary,
    pub repository: String,
    pub target: String,
    /// What the target is.
    pub server: String,
    /// Patterns of keys; all of them if there is none.
    pub only: Vec<String>,
    /// What is on the target and will be removed.
    pub replaces: Vec<String>,
    /// An earlier load of the same was stopped after this many bytes of the snapshot.
    pub goes_on_from: Option<u64>,
    #[serde(skip)]
    pub(super) replace: bool,
    #[serde(skip)]
    pub(super) address: ServerAddress,
    #[serde(skip)]
    pub(super) facts: TargetFacts,
    #[serde(skip)]
    pub(super) book: Book,
    #[serde(skip)]
    pub(super) selection: KeySelection,
    #[serde(skip)]
    pub(super) record: RedisRecord,
    #[serde(skip)]
    pub(super) manifest: Manifest,
    #[serde(skip)]
    pub(super) from: Repository,
}

impl RedisLoadPlan {
    /// The plan as lines for people.
    pub fn lines(&self) -> Vec<(String, String)> {
        let backup = &self.backup;
        let position = backup.position.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut lines = vec![
            (
                "backup",
                format!("{} from repository \"{}\"", backup.id, self.repository),
            ),
            (
                "holds",
                format!("{} keys, {}", backup.keys.unwrap_or_default(), backup.moment()),
            ),
            ("position", position),
            ("target", format!("{} ({})", self.target, self.server)),
        ];
        if !self.only.is_empty() {
            lines.push(("only", self.only.join(", ")));
        }
        if let Some(bytes) = self.goes_on_from {
            let all = ballast_base::format_bytes(self.record.snapshot.bytes);
            let bytes = ballast_base::format_bytes(bytes);
            lines.push(("goes on", format!("an earlier load was stopped after {bytes} of {all}")));
        }
        if !self.replaces.is_empty() {
            lines.push(("removes", self.replaces.join(", ")));
        }
        lines
            .into_iter()
            .map(|(label, value)| (label.to_owned(), value))
            .collect()
    }

    /// Everything that is there goes first.
    pub(super) fn clears(&self) -> bool {
        self.replace && self.selection.is_all() && self.goes_on_from.is_none()
    }
}

/// Decides; writes nothing.
pub async fn plan_redis_load(context: &Context, vault: &Vault, request: &RedisLoadRequest) -> Result<RedisLoadPlan> {
    let address = address(request)?;
    let about = format!("target {}", address.place());
    let mut connection = Connection::open(&address, &context.cancel).await?;
    let all = request.only.is_empty();
    let facts = TargetFacts::read(&mut connection).await.map_err(|error| {
        let denied = error.server_code() == Some("NOPERM");
        let error = ProtectError::from(error).about(&about);
        let account = address.user.as_deref().unwrap_or("default");
        if denied {
            error.hint(rights_line(account, all && request.replace))
        } else {
            error
        }
    })?;
    refuse_target(&facts).map_err(|error| ProtectError::from(error).about(&about))?;
    let selection = KeySelection::of(&request.only).without(0, BOOK);
    let held = facts.holds();
    // Of some keys it is known which they are when the backup was read.
    let key = if all { b"x" } else { BOOK };
    let account = address.user.as_deref().unwrap_or(&facts.account);
    let commands = commands(&facts, all, request.replace, key);
    refuse(&mut connection, account, &commands, all && request.replace, &about).await?;
    let only: BTreeSet<String> = request.only.iter().map(ToString::to_string).collect();
    let only: Vec<String> = only.into_iter().collect();
    let begun = Book::read(&mut connection).await?;
    connection.close().await;
    let wanted = match &begun {
        Some(book) if request.backup.is_none() && book.is_of(&request.source, &only) => Some(book.backup.clone()),
        _ => request.backup.clone(),
    };
    let backups = list(context, vault, Some(&request.source)).await?;
    let backup = choose_of(context, &request.source, wanted.as_deref(), backups)?;
    let (from, manifest, record) = read_backup(context, vault, &request.source, &backup).await?;
    if wanted.is_none() {
        warn_of_commands(context, vault, &request.source, &backup).await;
    }
    let goes_on = begun
        .as_ref()
        .filter(|book| book.is_of(&request.source, &only) && book.backup == backup.id)
        // Loaded and found to differ: only a new begin can mend that.
        .filter(|book| !(request.replace && book.loaded));
    if let (Some(book), None, false) = (&begun, goes_on, request.replace) {
        let message = format!("{about} holds an unfinished load of {}", book.what());
        return Err(ProtectError::usage(message).hint(format!(
            "go on with it: ballast restore {} --to {address} --backup {}{}; or add --replace to begin this one",
            book.source,
            book.backup,
            book.only_flags()
        )));
    }
    if goes_on.is_none() && request.only.is_empty() && !held.is_empty() && !request.replace {
        let message = format!("{about} is not empty, it holds {}", held.join(", "));
        return Err(ProtectError::usage(message).hint(
            "add --replace to remove all of that first, choose an empty server, or restore some keys beside it with --only PATTERN",
        ));
    }
    let goes_on_from = goes_on.map(|book| book.up_to);
    let book = goes_on.cloned().unwrap_or_else(|| Book {
        source: request.source.clone(),
        backup: backup.id.clone(),
        only: only.clone(),
        ..Book::default()
    });
    let replaces = if request.replace && request.only.is_empty() && goes_on_from.is_none() {
        held
    } else {
        Vec::new()
    };
    Ok(RedisLoadPlan {
        backup,
        repository: from.name().to_owned(),
        target: address.to_string(),
        server: facts.version.to_string(),
        only,
        replaces,
        goes_on_from,
        replace: request.replace,
        address,
        facts,
        book,
        selection,
        record,
        manifest,
        from,
    })
}

/// A running server gets the backup alone. Where its commands cannot be read there is nothing to say of them here.
async fn warn_of_commands(context: &Context, vault: &Vault, source: &str, backup: &BackupSummary) {
    let only = std::slice::from_ref(backup);
    if let Ok(Some((_, replay))) = Box::pin(plan_commands(context, vault, source, only, None)).await
        && let Some(at) = replay.at.filter(|at| backup.snapshot_at.is_none_or(|own| own < *at))
    {
        let message =
            format!("the recorded commands of \"{source}\" lead on to {at}: a running server gets the backup alone");
        context.warn(
            message,
            Some(format!(
                "for what came after it: ballast restore {source} --to dir:PATH"
            )),
        );
    }
}

fn address(request: &RedisLoadRequest) -> Result<ServerAddress> {
    let parsed = request.target.parse::<ServerAddress>();
    let address = parsed.map_err(|error| ProtectError::from(error).of_kind(ErrorKind::Usage).about("target"))?;
    if address.database != 0 {
        let message = format!(
            "target \"{}\" names a database, and keys go back to the one they were in",
            request.target
        );
        return Err(ProtectError::usage(message)
            .hint("leave the number out; to choose keys of one database: --only '3/PATTERN'"));
    }
    Ok(match &request.target_password {
        Some(password) => address.with_password(password.clone()),
        None => address,
    })
}

/// Every command that will be sent, with a key of the backup.
fn commands(facts: &TargetFacts, all: bool, replace: bool, key: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut commands: Vec<Vec<&[u8]>> = vec![
        vec![b"SELECT", b"0"],
        vec![b"RESTORE", key, b"0", b"", b"ABSTTL"],
        vec![b"DUMP", key],
        vec![b"PEXPIRETIME", key],
        vec![b"EXISTS", key],
        vec![b"GET", BOOK],
        vec![b"SET", BOOK, b""],
        vec![b"DEL", BOOK],
        vec![b"FUNCTION", b"DUMP"],
    ];
    if all {
        commands.push(vec![b"FUNCTION", b"RESTORE", b""]);
    }
    if all && replace {
        commands.push(vec![b"FLUSHALL"]);
        if !facts.functions.is_empty() {
            commands.push(vec![b"FUNCTION", b"FLUSH"]);
        }
    }
    let owned = |words: Vec<&[u8]>| words.into_iter().map(<[u8]>::to_vec).collect();
    commands.into_iter().map(owned).collect()
}

/// Refuses a server that would not do all of it, asked with a key that will be loaded.
pub(super) async fn refuse_key(connection: &mut Connection, plan: &RedisLoadPlan, key: &[u8]) -> Result<()> {
    let commands = commands(&plan.facts, plan.selection.is_all(), plan.replace, key);
    let about = format!("target {}", plan.address.place());
    let account = plan.address.user.as_deref().unwrap_or(&plan.facts.account);
    refuse(connection, account, &commands, plan.clears(), &about).await
}

fn rights_line(account: &str, clears: bool) -> String {
    let flush = if clears { " +flushall +function|flush" } else { "" };
    format!(
        "as an administrator of the target: ACL SETUSER {account} ~* +info +select +multi +discard +restore +dump +pexpiretime \
         +exists +get +set +del +function|dump +function|list +function|restore{flush} +client|setname +client|list"
    )
}

async fn refuse(
    connection: &mut Connection,
    account: &str,
    commands: &[Vec<Vec<u8>>],
    clears: bool,
    about: &str,
) -> Result<()> {
    let mut said = load_rights(connection, commands).await?;
    // A server that is full is emptied first.
    said.retain(|message| !(message.starts_with("EXECABORT") || clears && message.starts_with("OOM")));
    let Some(first) = said.first() else { return Ok(()) };
    let error = RedisError::Server { message: first.clone() };
    let hint = if said.iter().any(|message| message.starts_with("NOPERM")) {
        rights_line(account, clears)
    } else {
        error
            .hint()
            .unwrap_or_else(|| "mend that on the target, then start again".to_owned())
    };
    let message = format!("{about} would not take it; it says: {}", said.join("; "));
    Err(ProtectError::failed(message).hint(hint))
}
