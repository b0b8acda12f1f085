//! What a replica asks of its source before it asks for the log.
#![deny(clippy::indexing_slicing)]

use ballast_base::{Clock as _, SystemClock};
use bytes::{BufMut as _, BytesMut};

use super::ServeOptions;
use super::events::put_lenenc;
use super::login::{OK, refuse};
use crate::wire::packet::Channel;
use crate::wire::reader::{Reader, text};
use crate::{Flavour, GtidSet, MysqlError};

const DOING: &str = "answering the replica";
const QUIT: u8 = 0x01;
const QUERY: u8 = 0x03;
const PING: u8 = 0x0E;
const BINLOG_DUMP: u8 = 0x12;
const REGISTER_REPLICA: u8 = 0x15;
const BINLOG_DUMP_GTID: u8 = 0x1E;
/// MySQL: heartbeats may come in the long form. The same bit asks a MariaDB for other things.
const LONG_HEARTBEATS: u16 = 0x02;
const UNKNOWN_VARIABLE: u16 = 1193;
const UNKNOWN_COMMAND: u16 = 1047;
/// Known replicas ask about a dozen.
const QUESTIONS_MAX: usize = 64;
/// In a coded set with tags this is the first byte and the eighth.
const TAGGED: u8 = 1;

/// What the replica wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) server_id: u32,
    pub(super) executed: String,
    pub(super) long_heartbeats: bool,
}

/// Answers until it asks for the log.
pub(super) async fn converse(channel: &mut Channel, options: &ServeOptions) -> Result<Asked, MysqlError> {
    let mut connect_state = String::new();
    for _ in 0..QUESTIONS_MAX {
        channel.start_over();
        let command = channel.receive(DOING).await?;
        let (kind, body) = command
            .split_first()
            .ok_or_else(|| MysqlError::protocol("an empty command of the replica"))?;
        match *kind {
            QUERY => {
                let sql = text(body);
                if let Some(state) = value_of(&sql, "slave_connect_state") {
                    connect_state = state;
                }
                match answer(&sql, options) {
                    Answer::Done => channel.send(DOING, &[&OK]).await?,
                    Answer::Rows(columns, cells) => send_row(channel, &columns, &cells).await?,
                    Answer::Unknown => refuse(channel, UNKNOWN_VARIABLE, "HY000", "Unknown system variable").await?,
                }
            }
            REGISTER_REPLICA | PING => channel.send(DOING, &[&OK]).await?,
            BINLOG_DUMP_GTID => return dump_of_gtids(body),
            BINLOG_DUMP => return dump(body, connect_state),
            QUIT => {
                return Err(MysqlError::Gone {
                    doing: DOING,
                    detail: "the replica said goodbye".to_owned(),
                });
            }
            other => {
                let message = format!("Unknown command {other}");
                refuse(channel, UNKNOWN_COMMAND, "08S01", &message).await?;
            }
        }
    }
    Err(MysqlError::protocol(format!(
        "the replica asked {QUESTIONS_MAX} questions and not for the log"
    )))
}

enum Answer {
    Done,
    /// One row.
    Rows(Vec<&'static str>, Vec<String>),
    Unknown,
}

fn answer(sql: &str, options: &ServeOptions) -> Answer {
    let one = |value: String| Answer::Rows(vec!["value"], vec![value]);
    let asked = sql
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_ascii_lowercase();
    match asked.as_str() {
        "select unix_timestamp()" => one(SystemClock::new().now().as_second().to_string()),
        "select @@global.server_id" => one(options.server_id.to_string()),
        "show variables like 'server_id'" => Answer::Rows(
            vec!["Variable_name", "Value"],
            vec!["server_id".to_owned(), options.server_id.to_string()],
        ),
        "select @@global.server_uuid" => one(options.server_uuid.clone()),
        "select @@global.gtid_mode" if options.flavour != Flavour::MariaDb => one("ON".to_owned()),
        "select @@global.gtid_domain_id" if options.flavour == Flavour::MariaDb => one("0".to_owned()),
        // The log's events have sums, and those made up here have, too.
        "select @source_binlog_checksum" | "select @master_binlog_checksum" => one("CRC32".to_owned()),
        set if set.starts_with("set ") => Answer::Done,
        _ => Answer::Unknown,
    }
}

/// Of `SET @name='value'`.
fn value_of(sql: &str, name: &str) -> Option<String> {
    let rest = sql.trim().strip_prefix("SET @")?.strip_prefix(name)?.trim_start();
    let value = rest.strip_prefix('=')?.trim();
    Some(value.strip_prefix('\'')?.strip_suffix('\'')?.to_owned())
}

async fn send_row(channel: &mut Channel, columns: &[&'static str], cells: &[String]) -> Result<(), MysqlError> {
    const END: [u8; 5] = [0xFE, 0, 0, 2, 0];
    let mut row = BytesMut::new();
    for cell in cells {
        put_text(&mut row, cell);
    }
    let count = u8::try_from(columns.len()).unwrap_or(u8::MAX);
    channel.send(DOING, &[&[count]]).await?;
    for column in columns {
        channel.send(DOING, &[&definition(column)]).await?;
    }
    channel.send(DOING, &[&END]).await?;
    channel.send(DOING, &[&row]).await?;
    channel.send(DOING, &[&END]).await
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    put_lenenc(bytes, text.len() as u64);
    bytes.put_slice(text.as_bytes());
}

/// Of a column of texts that is in no table.
fn definition(name: &str) -> BytesMut {
    let mut bytes = BytesMut::new();
    for part in ["def", "", "", "", name, ""] {
        put_text(&mut bytes, part);
    }
    bytes.put_u8(12);
    bytes.put_u16_le(45); // utf8mb4_general_ci
    bytes.put_u32_le(1024); // longest value
    bytes.put_u8(0xFD); // VAR_STRING
    bytes.put_u16_le(0);
    bytes.put_u8(0);
    bytes.put_u16_le(0);
    bytes
}

fn dump(body: &[u8], executed: String) -> Result<Asked, MysqlError> {
    let mut reader = Reader::new("the replica's demand for the log", body);
    reader.u32_le()?; // offset
    reader.u16_le()?; // flags
    Ok(Asked {
        server_id: reader.u32_le()?,
        executed,
        long_heartbeats: false,
    })
}

fn dump_of_gtids(body: &[u8]) -> Result<Asked, MysqlError> {
    let mut reader = Reader::new("the replica's demand for the log", body);
    let flags = reader.u16_le()?;
    let server_id = reader.u32_le()?;
    reader.u32_bytes()?; // file
    reader.take(8)?; // offset
    let executed = decode_set(reader.u32_bytes()?)?;
    Ok(Asked {
        server_id,
        executed: executed.to_string(),
        long_heartbeats: flags & LONG_HEARTBEATS != 0,
    })
}

/// A set of transactions in the binary coding, with tags or without.
fn decode_set(bytes: &[u8]) -> Result<GtidSet, MysqlError> {
    let mut reader = Reader::new("the replica's set of transactions", bytes);
    let count = reader.u64_le()?;
    let [first, .., last] = count.to_le_bytes();
    let tagged = last == TAGGED;
    if tagged && first != TAGGED {
        return Err(reader.wrong("a set of an unknown coding"));
    }
    let count = if tagged { count << 8 >> 16 } else { count };
    let mut parts = Vec::new();
    for _ in 0..count {
        let uuid = uuid_text(reader.take(16)?);
        let mut part = uuid;
        if tagged {
            // A length below 64, coded as twice itself.
            let length = usize::from(reader.u8()? >> 1);
            let tag = text(reader.take(length)?);
            if !tag.is_empty() {
                part.push(':');
                part.push_str(&tag);
            }
        }
        let intervals = reader.u64_le()?;
        for _ in 0..intervals {
            let (from, to) = (reader.u64_le()?, reader.u64_le()?);
            if to <= from {
                return Err(reader.wrong(format_args!("an interval from {from} to {to}")));
            }
            part.push_str(&format!(":{from}-{}", to - 1));
        }
        if intervals > 0 {
            parts.push(part);
        }
    }
    parts.join(",").parse()
}

fn uuid_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: [u8; 16] = [
        0x3e, 0x11, 0xfa, 0x47, 0x71, 0xca, 0x11, 0xe1, 0x9e, 0x33, 0xc8, 0x0a, 0xa9, 0x42, 0x95, 0x62,
    ];

    fn demand(set: &[u8]) -> Vec<u8> {
        let mut body = BytesMut::new();
        body.put_u16_le(2);
        body.put_u32_le(3332);
        body.put_u32_le(0);
        body.put_u64_le(4);
        body.put_u32_le(u32::try_from(set.len()).unwrap());
        body.put_slice(set);
        body.to_vec()
    }

    #[test]
    fn a_set_is_read_in_both_codings() {
        let asked = dump_of_gtids(&demand(&[0; 8])).unwrap();
        assert_eq!(
            (asked.server_id, asked.executed.as_str(), asked.long_heartbeats),
            (3332, "", true)
        );
        let mut plain = BytesMut::new();
        plain.put_u64_le(1);
        plain.put_slice(&UUID);
        plain.put_u64_le(2);
        for number in [1, 21, 30, 31] {
            plain.put_u64_le(number);
        }
        assert_eq!(
            dump_of_gtids(&demand(&plain)).unwrap().executed,
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-20:30"
        );
        let mut tagged = BytesMut::new();
        tagged.put_slice(&[1, 2, 0, 0, 0, 0, 0, 1]);
        for (tag, to) in [("", 21), ("backup_tag", 4)] {
            tagged.put_slice(&UUID);
            tagged.put_u8(u8::try_from(tag.len() * 2).unwrap());
            tagged.put_slice(tag.as_bytes());
            for number in [1, 1, to] {
                tagged.put_u64_le(number);
            }
        }
        assert_eq!(
            dump_of_gtids(&demand(&tagged)).unwrap().executed,
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-20:backup_tag:1-3"
        );
    }

    #[test]
    fn the_state_of_a_mariadb_is_kept() {
        let state = value_of("SET @slave_connect_state='0-3341-7,5-3341-1'", "slave_connect_state");
        assert_eq!(state.as_deref(), Some("0-3341-7,5-3341-1"));
        assert_eq!(value_of("SET @slave_connect_state=7", "slave_connect_state"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(bytes: Vec<u8>, sql: String) {
            let _ = (dump_of_gtids(&bytes).is_ok(), dump(&bytes, String::new()).is_ok());
            let _ = dump_of_gtids(&demand(&bytes)).is_ok();
            let _ = decode_set(&[&[1, 1, 0, 0, 0, 0, 0, 1], &bytes[..]].concat()).is_ok();
            drop(value_of(&sql, "slave_connect_state"));
        }
    }
}
