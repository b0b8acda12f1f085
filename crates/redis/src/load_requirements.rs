//! What a running server must be and allow before keys are loaded into it. Nothing is written to find out: rights are asked for by
//! queuing the very commands in a transaction that is then given up, which needs no right of an administrator, and tells as
//! well when the server takes no writes at all.

use std::collections::BTreeMap;

use ballast_base::format_bytes;

use crate::restore_commands::{LoadNeeds, needed_version};
use crate::server::{Flavour, Info, ServerVersion};
use crate::wire::resp::Reply;
use crate::{Connection, RedisError};

/// The first release that says when a key ends (`PEXPIRETIME`), without which nothing is proved.
const RELEASE_MIN: (u16, u16, u16) = (7, 0, 0);
/// What a stock server takes as one value.
const BULK_BYTES_USUAL: u64 = 512 * 1024 * 1024;
/// Beside the data: what a server needs for itself.
const MEMORY_HEADROOM_BYTES: u64 = 1024 * 1024;

/// A running server that data is to go into.
#[derive(Debug, Clone)]
pub struct TargetFacts {
    pub version: ServerVersion,
    pub info: Info,
    pub account: String,
    /// Names of its libraries of functions.
    pub functions: Vec<String>,
    /// The longest value it takes; what a stock one does where it does not say.
    pub value_bytes_max: u64,
}

impl TargetFacts {
    /// Only reads.
    pub async fn read(connection: &mut Connection) -> Result<Self, RedisError> {
        let info = Info::read(connection).await?;
        let version = info
            .version()
            .ok_or_else(|| RedisError::protocol("INFO names no version of Redis or Valkey"))?;
        let account = optional(connection, &[b"ACL", b"WHOAMI"]).await?;
        let account = account
            .and_then(|reply| reply.text())
            .unwrap_or_else(|| "default".to_owned());
        let list = optional(connection, &[b"FUNCTION", b"LIST"]).await?;
        let functions = list
            .map(Reply::list)
            .unwrap_or_default()
            .into_iter()
            .filter_map(library)
            .collect();
        let limit = optional(connection, &[b"CONFIG", b"GET", b"proto-max-bulk-len"]).await?;
        let limit = limit.map(Reply::list).unwrap_or_default().get(1).and_then(Reply::text);
        Ok(Self {
            version,
            info,
            account,
            functions,
            value_bytes_max: limit.and_then(|text| text.parse().ok()).unwrap_or(BULK_BYTES_USUAL),
        })
    }

    /// Keys in each database.
    pub fn keys(&self) -> BTreeMap<u32, u64> {
        let held = self.info.databases().into_iter();
        held.map(|(number, (keys, _))| (number, keys)).collect()
    }

    /// What there is, for people; empty if there is nothing.
    pub fn holds(&self) -> Vec<String> {
        let keys = self.keys().into_iter();
        let mut held: Vec<String> = keys
            .map(|(number, keys)| format!("{keys} keys in database {number}"))
            .collect();
        if !self.functions.is_empty() {
            held.push(format!("functions {}", self.functions.join(", ")));
        }
        held
    }
}

/// An answer, unless the server does not know or allow the question.
async fn optional(connection: &mut Connection, words: &[&[u8]]) -> Result<Option<Reply>, RedisError> {
    match connection.command(words).await {
        Ok(reply) => Ok(Some(reply)),
        Err(RedisError::Server { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn library(entry: Reply) -> Option<String> {
    let fields = entry.list();
    let at = fields
        .iter()
        .position(|field| field.text().as_deref() == Some("library_name"))?;
    fields.get(at + 1)?.text()
}

/// Refuses a server that cannot take it, whatever is to be loaded.
pub fn refuse_target(facts: &TargetFacts) -> Result<(), RedisError> {
    let refused = |what: String, hint: String| Err(RedisError::Unsupported { what, hint });
    let info = &facts.info;
    if info.is_replica() {
        let text = |name| info.text(name).unwrap_or("?").to_owned();
        let (host, port) = (text("master_host"), text("master_port"));
        return refused(
            format!("it is a replica of {host}:{port}"),
            format!("restore into its primary: --to redis://{host}:{port}, or make it one: REPLICAOF NO ONE"),
        );
    }
    if info.is_on("loading") || info.is_on("async_loading") {
        return refused(
            "it is loading its data".to_owned(),
            "wait until INFO persistence says loading:0, then start again".to_owned(),
        );
    }
    if info.is_cluster() {
        return refused(
            "it is one of a cluster, and holds a part of the keys only".to_owned(),
            "restore into a server that is not in cluster mode, or to --to dir:PATH".to_owned(),
        );
    }
    if facts.version.numeric() < RELEASE_MIN {
        return refused(
            format!("it is {}", facts.version),
            "restore into a Redis 7.0 or later or a Valkey, or to --to dir:PATH".to_owned(),
        );
    }
    Ok(())
}

/// Refuses a server that cannot take this.
pub fn refuse_load(facts: &TargetFacts, flavour: Flavour, needs: &LoadNeeds, freed: bool) -> Result<(), RedisError> {
    let refused = |what: String, hint: String| Err(RedisError::Unsupported { what, hint });
    let unknown: Vec<String> = needs
        .codes
        .iter()
        .map(|(code, keys)| (code, keys, needed_version(flavour, *code)))
        .filter(|(_, _, version)| !facts.version.loads(*version))
        .map(|(code, keys, version)| format!("{keys} keys of type {code} ({}, format {version})", type_name(*code)))
        .collect();
    if !unknown.is_empty() {
        return refused(
            format!("{} does not know {}", facts.version, unknown.join(", ")),
            "restore into a server of the source's release or a later one, or other keys with --only".to_owned(),
        );
    }
    if let Some((bytes, database, name)) = &needs.longest
        && bytes + 16 > facts.value_bytes_max
    {
        let name = crate::loader::shown_key(name);
        return refused(
            format!(
                "key \"{name}\" of database {database} has {}, and the server takes {} as one value",
                format_bytes(*bytes),
                format_bytes(facts.value_bytes_max)
            ),
            format!(
                "type there, as an administrator: CONFIG SET proto-max-bulk-len {}",
                (bytes + 16).next_multiple_of(1024 * 1024)
            ),
        );
    }
    let limit = facts.info.number("maxmemory").unwrap_or(0);
    let there = facts.info.number("used_memory").unwrap_or(0);
    let taken = if freed {
        facts.info.number("used_memory_startup").unwrap_or(0).min(there)
    } else {
        there
    };
    let needed = taken + needs.memory();
    if limit > 0 && needed > limit {
        return refused(
            format!(
                "its maxmemory is {}, and about {} will be needed",
                format_bytes(limit),
                format_bytes(needed)
            ),
            format!(
                "type there, as an administrator: CONFIG SET maxmemory {}",
                (needed + needed / 8).next_multiple_of(1024 * 1024)
            ),
        );
    }
    Ok(())
}

fn type_name(code: u8) -> &'static str {
    match code {
        20 => "sets as list packs",
        21 => "streams",
        22..=25 => "hashes whose fields expire",
        15 | 19 => "streams",
        7 => "values of modules",
        _ => "a newer encoding",
    }
}

impl LoadNeeds {
    /// What its data will take, by what it took at the source where that is known and all of it is loaded.
    fn memory(&self) -> u64 {
        let of_all = self.used_memory.filter(|_| self.all_bytes > 0);
        let share = of_all.map_or(0, |used| {
            let share = u128::from(used) * u128::from(self.bytes) / u128::from(self.all_bytes.max(1));
            u64::try_from(share).unwrap_or(u64::MAX)
        });
        share.max(self.bytes).saturating_add(MEMORY_HEADROOM_BYTES)
    }
}

/// What an account lacks of what will be sent, in the server's own words.
pub async fn load_rights(connection: &mut Connection, commands: &[Vec<Vec<u8>>]) -> Result<Vec<String>, RedisError> {
    let mut said = Vec::new();
    if let Err(error) = connection.command(&[b"MULTI"]).await {
        return match error {
            RedisError::Server { message } => Ok(vec![message]),
            error => Err(error),
        };
    }
    for words in commands {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        match connection.command(&words).await {
            Ok(_) => {}
            Err(RedisError::Server { message }) => said.push(message),
            Err(error) => return Err(error),
        }
    }
    match connection.command(&[b"DISCARD"]).await {
        Ok(_) => {}
        Err(RedisError::Server { message }) => said.push(message),
        Err(error) => return Err(error),
    }
    said.dedup();
    Ok(said)
}
