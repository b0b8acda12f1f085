//! What a server is: version, flavour, variables.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Connection, MysqlError, quote_text};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    Mysql,
    Percona,
    MariaDb,
}

/// A server's version, as numbers and as it says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
    pub flavour: Flavour,
    pub text: String,
}

impl ServerVersion {
    /// From `version` and `version_comment`. Old MariaDB servers put `5.5.5-` before their version.
    pub fn parse(version: &str, comment: &str) -> Option<Self> {
        let maria = version.contains("MariaDB") || comment.to_ascii_lowercase().contains("mariadb");
        let flavour = if maria {
            Flavour::MariaDb
        } else if comment.contains("Percona") {
            Flavour::Percona
        } else {
            Flavour::Mysql
        };
        let numbers = version.strip_prefix("5.5.5-").filter(|_| maria).unwrap_or(version);
        let mut numbers = numbers.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
            flavour,
            text: version.to_owned(),
        })
    }

    pub async fn read(connection: &mut Connection) -> Result<Self, MysqlError> {
        let rows = connection.query("SELECT @@version, @@version_comment").await?;
        let row = rows.rows.first();
        let cell = |column| row.and_then(|row| row.text(column)).unwrap_or_default();
        Self::parse(&cell(0), &cell(1))
            .ok_or_else(|| MysqlError::protocol(format!("\"{}\" is no server version", cell(0))))
    }

    pub fn numeric(&self) -> (u16, u16, u16) {
        (self.major, self.minor, self.patch)
    }

    /// What the vendor releases patches for: `8.4`, `9.7`.
    pub fn series(&self) -> (u16, u16) {
        (self.major, self.minor)
    }

    /// Whether a data directory of one starts under the other without an upgrade.
    pub fn same_series(&self, other: &Self) -> bool {
        self.series() == other.series() && (self.flavour == Flavour::MariaDb) == (other.flavour == Flavour::MariaDb)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.flavour {
            Flavour::Mysql => "MySQL",
            Flavour::Percona => "Percona Server",
            Flavour::MariaDb => "MariaDB",
        };
        write!(f, "{name} {}", self.text)
    }
}

/// The values of global variables. One that the server does not have is not in the answer.
pub async fn variables(connection: &mut Connection, names: &[&str]) -> Result<BTreeMap<String, String>, MysqlError> {
    let list: Vec<String> = names.iter().map(|name| quote_text(name)).collect();
    let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", list.join(","));
    let rows = connection.query(&sql).await?;
    let pair = |row: crate::Row| Some((row.text(0)?.into_owned(), row.text(1)?.into_owned()));
    Ok(rows.into_iter().filter_map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_flavours_of_real_servers() {
        for (version, comment, numeric, flavour) in [
            ("9.7.4-2", "(Debian)", (9, 7, 4), Flavour::Mysql),
            (
                "8.0.36-28",
                "Percona Server (GPL), Release 28, Revision 47601f19",
                (8, 0, 36),
                Flavour::Percona,
            ),
            ("10.11.6-MariaDB-0+deb12u1", "Debian 12", (10, 11, 6), Flavour::MariaDb),
            (
                "5.5.5-10.3.39-MariaDB-log",
                "mariadb.org binary distribution",
                (10, 3, 39),
                Flavour::MariaDb,
            ),
        ] {
            let parsed = ServerVersion::parse(version, comment).unwrap();
            assert_eq!((parsed.numeric(), parsed.flavour), (numeric, flavour), "{version}");
        }
        assert_eq!(ServerVersion::parse("unknown", ""), None);
    }
}
