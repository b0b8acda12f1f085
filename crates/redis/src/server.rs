//! What a server is: its flavour and version, what it holds, how it saves, whom it feeds. All from `INFO` and `CONFIG GET`, and
//! no more is asked for than the account may see.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Connection, Position, RdbVersion, RedisError};

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavour {
    Redis,
    Valkey,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerVersion {
    pub flavour: Flavour,
    /// As the server writes it.
    pub text: String,
}

impl ServerVersion {
    /// Missing parts are zero.
    pub fn numeric(&self) -> (u16, u16, u16) {
        let mut parts = self.text.split('.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part.get(..digits).and_then(|part| part.parse().ok()).unwrap_or(0)
        });
        let mut next = || parts.next().unwrap_or(0);
        (next(), next(), next())
    }

    /// Whether several files make an append-only log: since Redis 7, and in every Valkey.
    pub fn has_multi_part_log(&self) -> bool {
        self.flavour == Flavour::Valkey || self.numeric() >= (7, 0, 0)
    }

    /// Whether this server loads a snapshot of that version, by what its release knows.
    pub fn loads(&self, version: RdbVersion) -> bool {
        let newest = match (self.flavour, version.flavour, self.numeric()) {
            (Flavour::Redis, Flavour::Valkey, _) | (Flavour::Valkey, Flavour::Valkey, (..9, ..)) => return false,
            (Flavour::Valkey, Flavour::Valkey, _) => 80,
            (Flavour::Valkey, Flavour::Redis, _) => 11,
            (Flavour::Redis, Flavour::Redis, (..4, ..)) => 7,
            (Flavour::Redis, Flavour::Redis, (4, ..)) => 8,
            (Flavour::Redis, Flavour::Redis, (5 | 6, ..)) => 9,
            (Flavour::Redis, Flavour::Redis, (7, 0 | 1, _)) => 10,
            (Flavour::Redis, Flavour::Redis, (7, 2 | 3, _)) => 11,
            (Flavour::Redis, Flavour::Redis, _) => 12,
        };
        version.number <= newest
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.flavour {
            Flavour::Redis => "Redis",
            Flavour::Valkey => "Valkey",
        };
        write!(f, "{name} {}", self.text)
    }
}

/// The lines of `INFO`.
#[derive(Debug, Clone, Default)]
pub struct Info(BTreeMap<String, String>);

impl Info {
    pub fn parse(text: &str) -> Self {
        let pairs = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = pairs.filter_map(|line| line.trim_end().split_once(':'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub async fn read(connection: &mut Connection) -> Result<Self, RedisError> {
        let reply = connection.command(&[b"INFO"]).await?;
        Ok(Self::parse(&reply.text().unwrap_or_default()))
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    pub fn is_on(&self, name: &str) -> bool {
        self.number(name).is_some_and(|number| number != 0)
    }

    pub fn version(&self) -> Option<ServerVersion> {
        let (flavour, name) = match self.text("valkey_version") {
            Some(_) => (Flavour::Valkey, "valkey_version"),
            None => (Flavour::Redis, "redis_version"),
        };
        Some(ServerVersion {
            flavour,
            text: self.text(name)?.to_owned(),
        })
    }

    /// Where the server's stream is now.
    pub fn position(&self) -> Option<Position> {
        // A replica counts what it has from its primary.
        Position::new(self.text("master_replid")?, self.number("master_repl_offset")?)
    }

    /// Whether the server goes on from `position` without sending all its data: the rule it uses itself. What it has of the stream
    /// may change until it is asked.
    pub fn continues(&self, position: &Position) -> bool {
        self.continuation(position) == Continuation::Possible
    }

    /// The same, with what stands in the way.
    pub fn continuation(&self, position: &Position) -> Continuation {
        let Some(now) = self.position() else {
            return Continuation::OtherHistory;
        };
        let wanted = position.offset + 1;
        if now.history != position.history {
            let was = self.text("master_replid2").map(str::to_ascii_lowercase);
            if was.as_deref() != Some(&position.history) {
                return Continuation::OtherHistory;
            }
            if self.number("second_repl_offset").is_none_or(|last| wanted > last) {
                return Continuation::Ahead;
            }
        }
        if position.offset > now.offset {
            return Continuation::Ahead;
        }
        if !self.is_on("repl_backlog_active") {
            return Continuation::Forgotten { first: None };
        }
        match self.number("repl_backlog_first_byte_offset") {
            Some(first) if wanted < first => Continuation::Forgotten { first: Some(first) },
            _ => Continuation::Possible,
        }
    }

    /// Keys and expiring keys of each database.
    pub fn databases(&self) -> BTreeMap<u32, (u64, u64)> {
        let entry = |(name, value): (&String, &String)| {
            let number = name.strip_prefix("db")?.parse().ok()?;
            let mut fields = value.split(',').filter_map(|field| field.split_once('='));
            let mut field = |wanted| fields.find(|(name, _)| *name == wanted)?.1.parse().ok();
            Some((number, (field("keys")?, field("expires")?)))
        };
        self.0.iter().filter_map(entry).collect()
    }

    /// Whether the server saves, rewrites its log or feeds a new replica just now: each is a child process.
    pub fn child_running(&self) -> Option<&'static str> {
        [
            ("rdb_bgsave_in_progress", "a snapshot is being saved"),
            ("aof_rewrite_in_progress", "the append-only file is being rewritten"),
            ("module_fork_in_progress", "a module runs a child process"),
        ]
        .into_iter()
        .find(|(name, _)| self.is_on(name))
        .map(|(_, what)| what)
    }

    pub fn is_replica(&self) -> bool {
        self.text("role") == Some("slave")
    }

    pub fn is_cluster(&self) -> bool {
        self.is_on("cluster_enabled")
    }

    /// Replicas that follow this server.
    pub fn replicas(&self) -> Vec<ReplicaFact> {
        (0..self.number("connected_slaves").unwrap_or(0).min(REPLICAS_MAX))
            .filter_map(|number| ReplicaFact::parse(self.text(&format!("slave{number}"))?))
            .collect()
    }
}

/// Whether a server's stream goes on from a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuation {
    Possible,
    /// The server does not know that history: it was restarted without it, or is another one.
    OtherHistory,
    /// The server, or the one it was promoted from, never had the last bytes before that place, or lost them.
    Ahead,
    /// The history is the same; the server has its stream only from the byte `first` on, or none of it.
    Forgotten {
        first: Option<u64>,
    },
}

/// A server that feeds more replicas than this has them listed up to here.
const REPLICAS_MAX: u64 = 1024;

/// One replica, as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaFact {
    pub host: String,
    /// 0 for a recorder that announces none.
    pub port: u16,
    /// `wait_bgsave`, `send_bulk`, `online`.
    pub state: String,
    pub offset: u64,
    /// Seconds since it was last heard.
    pub lag: u64,
}

impl ReplicaFact {
    fn parse(line: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> = line.split(',').filter_map(|field| field.split_once('=')).collect();
        Some(Self {
            host: (*fields.get("ip")?).to_owned(),
            port: fields.get("port")?.parse().ok()?,
            state: (*fields.get("state")?).to_owned(),
            offset: fields.get("offset")?.parse().ok()?,
            lag: fields.get("lag")?.parse().ok()?,
        })
    }
}

/// All that checks are made of.
#[derive(Debug, Clone)]
pub struct Facts {
    pub version: ServerVersion,
    pub info: Info,
    /// `None` where the account may not read it.
    pub settings: Option<BTreeMap<String, String>>,
    /// The account that asks.
    pub account: String,
    /// Commands of those a backup needs that the account may not run.
    pub denied: Vec<&'static str>,
    /// The kernel's rule on memory that is promised and not there; known for a server of this machine only.
    pub overcommit: Option<u8>,
}

/// Commands a recorder sends.
pub(crate) const NEEDED_COMMANDS: [&str; 4] = ["ping", "psync", "replconf", "info"];

impl Facts {
    /// Only reads.
    pub async fn read(connection: &mut Connection, is_local: bool) -> Result<Self, RedisError> {
        let info = Info::read(connection).await?;
        let version = info
            .version()
            .ok_or_else(|| RedisError::protocol("INFO names no version of Redis or Valkey"))?;
        let settings = match connection.command(&[b"CONFIG", b"GET", b"*"]).await {
            Ok(reply) => Some(pairs(reply)),
            Err(RedisError::Server { .. }) => None,
            Err(error) => return Err(error),
        };
        let account = match connection.command(&[b"ACL", b"WHOAMI"]).await {
            Ok(reply) => reply.text().unwrap_or_else(|| "default".to_owned()),
            Err(RedisError::Server { .. }) => "default".to_owned(),
            Err(error) => return Err(error),
        };
        let mut denied = Vec::new();
        for command in NEEDED_COMMANDS {
            if is_denied(connection, &account, command).await? {
                denied.push(command);
            }
        }
        let overcommit = if is_local { read_overcommit() } else { None };
        Ok(Self {
            version,
            info,
            settings,
            account,
            denied,
            overcommit,
        })
    }

    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.as_ref()?.get(name).map(String::as_str)
    }

    pub fn setting_number(&self, name: &str) -> Option<u64> {
        self.setting(name)?.parse().ok()
    }
}

/// Asks the server itself, which knows since 7.0. Where it does not, the first use will tell.
async fn is_denied(connection: &mut Connection, account: &str, command: &str) -> Result<bool, RedisError> {
    let asked = connection
        .command(&[b"ACL", b"DRYRUN", account.as_bytes(), command.as_bytes(), b"a", b"b"])
        .await;
    match asked {
        Ok(reply) => Ok(reply.text().is_some_and(|text| text.contains("no permissions"))),
        Err(RedisError::Server { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn pairs(reply: crate::Reply) -> BTreeMap<String, String> {
    let list: Vec<String> = reply.list().iter().filter_map(crate::Reply::text).collect();
    let (pairs, _) = list.as_chunks::<2>();
    pairs.iter().cloned().map(|[name, value]| (name, value)).collect()
}

fn read_overcommit() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/vm/overcommit_memory")
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n# Replication\r\nrole:master\r\n\
        connected_slaves:2\r\nslave0:ip=127.0.0.1,port=0,state=online,offset=297,lag=1\r\nslave1:ip=::1,port=7,state=wait_bgsave,offset=0,lag=0,type=replica\r\n\
        master_replid:2d8393841d1cf6f03c01a25420486b07125f7df5\r\nmaster_repl_offset:297\r\n# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=7\r\ndb11:keys=2,expires=0,avg_ttl=0,subexpiry=0\r\n";

    #[test]
    fn what_info_says() {
        let info = Info::parse(INFO);
        let version = info.version().unwrap();
        assert_eq!(
            (version.to_string().as_str(), version.numeric()),
            ("Valkey 9.1.2", (9, 1, 2))
        );
        assert_eq!(info.position().unwrap().offset, 297);
        assert_eq!(info.databases(), BTreeMap::from([(0, (3, 1)), (11, (2, 0))]));
        let replicas = info.replicas();
        assert_eq!(
            (replicas.len(), replicas[0].port, replicas[1].state.as_str()),
            (2, 0, "wait_bgsave")
        );
        assert!(!info.is_replica() && info.child_running().is_none());
        let history = "2d8393841d1cf6f03c01a25420486b07125f7df5";
        let at = |offset| Position::new(history, offset).unwrap();
        assert_eq!(info.continuation(&at(297)), Continuation::Forgotten { first: None });
        let backlog = format!("{INFO}repl_backlog_active:1\r\nrepl_backlog_first_byte_offset:101\r\n");
        let info = Info::parse(&backlog);
        assert!(info.continues(&at(297)) && info.continues(&at(100)));
        assert_eq!(info.continuation(&at(99)), Continuation::Forgotten { first: Some(101) });
        assert_eq!(info.continuation(&at(298)), Continuation::Ahead);
        let before = "0123456789abcdef0123456789abcdef01234567";
        let of_before = |offset| Position::new(before, offset).unwrap();
        assert_eq!(info.continuation(&of_before(120)), Continuation::OtherHistory);
        let promoted = format!("{backlog}master_replid2:{before}\r\nsecond_repl_offset:150\r\n");
        let info = Info::parse(&promoted);
        assert!(info.continues(&of_before(149)));
        assert_eq!(info.continuation(&of_before(150)), Continuation::Ahead);
        let old = Info::parse("redis_version:6.0.16\r\nrdb_bgsave_in_progress:1\r\n");
        assert!(!old.version().unwrap().has_multi_part_log());
        assert_eq!(old.child_running(), Some("a snapshot is being saved"));
    }
}
