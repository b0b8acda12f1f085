//! The name of one transaction, as the server writes it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::MysqlError;
use crate::gtid::{parse_tag, parse_uuid, write_uuid};

/// `uuid:number`, `uuid:tag:number` (MySQL), `domain-server-sequence` (MariaDB).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Gtid {
    Mysql {
        uuid: [u8; 16],
        /// Mostly empty.
        tag: String,
        number: u64,
    },
    MariaDb {
        domain: u32,
        server: u32,
        sequence: u64,
    },
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mysql { uuid, tag, number } => {
                write_uuid(f, uuid)?;
                if !tag.is_empty() {
                    write!(f, ":{tag}")?;
                }
                write!(f, ":{number}")
            }
            Self::MariaDb {
                domain,
                server,
                sequence,
            } => write!(f, "{domain}-{server}-{sequence}"),
        }
    }
}

impl FromStr for Gtid {
    type Err = MysqlError;

    fn from_str(text: &str) -> Result<Self, MysqlError> {
        let text = text.trim();
        parse_mysql(text)
            .or_else(|| parse_mariadb(text))
            .ok_or_else(|| MysqlError::protocol(format!("\"{text}\" is no GTID of one transaction")))
    }
}

/// Digits only; `parse` alone would take a sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn parse_mysql(text: &str) -> Option<Gtid> {
    let (uuid, rest) = text.split_once(':')?;
    let (tag, last) = match rest.split_once(':') {
        Some((tag, last)) => (parse_tag(tag.trim())?, last),
        None => (String::new(), rest),
    };
    Some(Gtid::Mysql {
        uuid: parse_uuid(uuid.trim())?,
        tag,
        number: number(last.trim()).filter(|number: &u64| (1..i64::MAX as u64).contains(number))?,
    })
}

pub(super) fn parse_mariadb(text: &str) -> Option<Gtid> {
    let mut parts = text.split('-');
    let gtid = Gtid::MariaDb {
        domain: number(parts.next()?)?,
        server: number(parts.next()?)?,
        sequence: number(parts.next()?)?,
    };
    parts.next().is_none().then_some(gtid)
}

impl TryFrom<String> for Gtid {
    type Error = MysqlError;

    fn try_from(text: String) -> Result<Self, MysqlError> {
        text.parse()
    }
}

impl From<Gtid> for String {
    fn from(gtid: Gtid) -> Self {
        gtid.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gtids_read_as_the_servers_write_them() {
        for text in [
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:23",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:nightly_job:1",
            "0-1-100",
            "4294967295-4294967295-18446744073709551615",
        ] {
            let gtid: Gtid = text.parse().unwrap();
            assert_eq!(gtid.to_string(), text);
            assert_eq!(serde_json::to_string(&gtid).unwrap(), format!("\"{text}\""));
        }
        let gtid: Gtid = " 3E11FA47-71CA-11E1-9E33-C80AA9429562:Tag:5 ".parse().unwrap();
        assert_eq!(gtid.to_string(), "3e11fa47-71ca-11e1-9e33-c80aa9429562:tag:5");
        for text in [
            "",
            "7",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:0",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:a:b:1",
            "0-1",
            "0-1-+2",
            "0-1-2-3",
            "4294967296-1-1",
        ] {
            assert!(text.parse::<Gtid>().is_err(), "{text}");
        }
    }
}
