//! What the server says of itself and its log.

use ballast_mysql::{
    Connection, ExecutedSet, Facts, FollowFacts, LogFlavour, Requirement, ServerAddress, Severity, follow_requirements,
    list_log_files, log_requirements,
};

use super::begin::{Identity, ServerLog};
use crate::error::{ProtectError, Result};
use crate::settings::SourceSettings;

/// What an encrypted file has before its log; positions do not count it (manual: Encrypting Binary Log Files).
const ENCRYPTION_HEAD_BYTES: u64 = 512;

/// A server as it was found when the recorder came.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) address: ServerAddress,
    pub(super) flavour: LogFlavour,
    pub(super) version: String,
    pub(super) log: ServerLog,
    /// What is executed and in no file of its log: it was before all of them.
    pub(super) purged: ExecutedSet,
    /// What it was found to lack, as far as it does without.
    pub(super) lacking: Vec<Requirement>,
}

/// Looks, and refuses a server whose log cannot be followed, or would be no use.
pub(super) async fn look(
    source: &SourceSettings,
    address: &ServerAddress,
    connection: &mut Connection,
) -> Result<Server> {
    let facts = Facts::read(connection).await?;
    let follow = FollowFacts::read(connection).await?;
    let mut lacking = log_requirements(&facts);
    lacking.extend(follow_requirements(&facts, &follow, source.log.semi_sync));
    lacking.retain(|requirement| !requirement.ok);
    // Without semi-synchronous replication the log is followed all the same, and waiting for a recorder begins when there is one.
    let refused: Vec<_> = lacking
        .iter()
        .filter(|requirement| requirement.severity == Severity::Must && !requirement.name.starts_with("semi-sync"))
        .collect();
    if !refused.is_empty() {
        let problems: Vec<_> = refused
            .iter()
            .map(|r| format!("{}: expected {}, found {}", r.name, r.expected, r.actual))
            .collect();
        let remedies: Vec<_> = refused.iter().map(|r| r.remedy.clone()).collect();
        let message = format!(
            "the log of source \"{}\" cannot be followed: {}",
            source.name,
            problems.join("; ")
        );
        return Err(ProtectError::failed(message).hint(remedies.join("; ")));
    }
    let flavour = LogFlavour::from(facts.version.flavour);
    let executed = match flavour {
        LogFlavour::Mysql => "SELECT @@GLOBAL.gtid_executed",
        LogFlavour::MariaDb => "SELECT @@GLOBAL.gtid_binlog_pos",
    };
    let executed = connection.value(executed).await?.unwrap_or_default();
    let purged = match flavour {
        LogFlavour::Mysql => connection.value("SELECT @@GLOBAL.gtid_purged").await?,
        LogFlavour::MariaDb => None,
    };
    let id = connection.value("SELECT @@GLOBAL.server_id").await?;
    let files = list_log_files(connection).await?;
    Ok(Server {
        address: address.clone(),
        flavour,
        version: facts.version.text.clone(),
        purged: ExecutedSet::parse(flavour, &purged.unwrap_or_default())?,
        log: ServerLog {
            identity: Identity {
                uuid: facts.variable("server_uuid").unwrap_or_default().to_owned(),
                id: id.and_then(|id| id.parse().ok()).unwrap_or_default(),
            },
            numbered: flavour == LogFlavour::MariaDb || facts.variable("gtid_mode") == Some("ON"),
            executed: ExecutedSet::parse(flavour, &executed)?,
            files: files.into_iter().map(|file| (file.name, file.size)).collect(),
        },
        lacking,
    })
}

/// The server's clock, in microseconds since 1970, and where its log ended after that.
pub(super) async fn server_time(
    address: &ServerAddress,
    cancel: &ballast_base::Cancel,
) -> Result<(u64, Option<LogEnd>)> {
    let mut connection = Connection::open(address, cancel).await?;
    let asked = connection
        .value("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)")
        .await?;
    let end = list_log_files(&mut connection).await?.pop().map(|last| LogEnd {
        offset: last
            .size
            .saturating_sub(if last.encrypted { ENCRYPTION_HEAD_BYTES } else { 0 }),
        file: last.name,
    });
    connection.close().await;
    let micros = asked.and_then(|text| text.parse().ok());
    Ok((
        micros.ok_or_else(|| ProtectError::failed("the server does not say what time it is"))?,
        end,
    ))
}

/// Where a server's log ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogEnd {
    pub(super) file: String,
    pub(super) offset: u64,
}

impl LogEnd {
    /// Whether it lies before a place of the same log.
    pub(super) fn is_before(&self, file: &str, offset: u64) -> bool {
        // Numbers grow longer behind 999999.
        let rank = |name: &str| (name.len(), name.to_owned());
        rank(&self.file) < rank(file) || (self.file == file && self.offset < offset)
    }
}
