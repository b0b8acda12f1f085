//! Which files a server's log has, and what stands at their heads.
#![deny(clippy::indexing_slicing)]

use ballast_base::Cancel;
use bytes::Bytes;

use super::event::{EventHeader, LOG_MAGIC};
use super::executed_set::{ExecutedSet, LogFlavour};
use super::packet::{self, Packet};
use super::session::{self, LogPlace};
use super::walker::{LogWalker, Walked};
use crate::{Connection, MysqlError, ServerAddress};

/// An encrypted file begins with this much that is never sent.
const ENCRYPTION_HEAD_BYTES: u64 = 512;
/// The head of a file is within its first events.
const HEAD_EVENTS_MAX: usize = 8;
const DOING: &str = "reading the head of a log file";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    pub name: String,
    /// Of what is sent of it.
    pub size: u64,
    pub encrypted: bool,
}

/// The files, oldest first; the last one is written to.
pub async fn list_log_files(connection: &mut Connection) -> Result<Vec<LogFile>, MysqlError> {
    let rows = connection.query("SHOW BINARY LOGS").await?;
    let file = |row: crate::Row| {
        let encrypted = row.text(2).is_some_and(|text| text.eq_ignore_ascii_case("yes"));
        let size = row.number(1)?;
        Some(LogFile {
            name: row.text(0)?.into_owned(),
            size: if encrypted {
                size.saturating_sub(ENCRYPTION_HEAD_BYTES)
            } else {
                size
            },
            encrypted,
        })
    };
    Ok(rows.into_iter().filter_map(file).collect())
}

/// What tells a file from another one of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// The event that says how to read the others, as it is in the file.
    pub format: Bytes,
    /// The event that says what all files before hold; empty where there is none.
    pub previous: Bytes,
    pub set: ExecutedSet,
    /// The version of the server that wrote the file.
    pub version: String,
}

/// Reads the head of one file. The server does not take it for a replica, so nobody is replaced.
pub async fn read_log_head(
    address: &ServerAddress,
    flavour: LogFlavour,
    file: &str,
    cancel: &Cancel,
) -> Result<LogHead, MysqlError> {
    let start = LogPlace {
        file: file.to_owned(),
        offset: LOG_MAGIC.len() as u64,
    };
    let mut connection = session::ask_for_look(address, flavour, &start, cancel).await?;
    let mut walker = LogWalker::new(flavour, 0);
    walker.push(&LOG_MAGIC)?;
    let mut head = LogHead {
        format: Bytes::new(),
        previous: Bytes::new(),
        set: ExecutedSet::empty(flavour),
        version: String::new(),
    };
    for _ in 0..HEAD_EVENTS_MAX {
        let (packet, _) = connection.channel.receive_any(DOING).await?;
        let event = match Packet::decode(&packet, false) {
            Ok(Packet::Event { event, .. }) => event,
            Ok(Packet::End) => break,
            Err(error) => return Err(packet::refusal(error, &start, false)),
        };
        let header = EventHeader::decode(&event)?;
        if header.flags & EventHeader::FLAG_ARTIFICIAL != 0 || header.kind == EventHeader::HEARTBEAT {
            continue;
        }
        for walked in walker.push(&event)? {
            match walked {
                Walked::Format { version, .. } => {
                    head.format = event.clone();
                    head.version = version;
                }
                Walked::Previous { set, .. } => {
                    head.previous = event.clone();
                    head.set = set;
                    return Ok(head);
                }
                _ => {}
            }
        }
        if header.is_gtid() {
            break;
        }
    }
    if head.format.is_empty() {
        return Err(MysqlError::protocol(format!("\"{file}\" does not begin as a log file")));
    }
    Ok(head)
}
