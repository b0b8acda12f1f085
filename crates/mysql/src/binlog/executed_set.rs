//! Which transactions a server, a backup or a piece of a log has.
//!
//! MySQL: the set of GTIDs. MariaDB: per domain the highest sequence, which stands for all below it; a transaction that is
//! missing below it cannot be seen in it.
//!
//! The empty set is the same for both.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::gtid::{Gtid, parse_mariadb};
use crate::{Flavour, GtidSet, MysqlError};

/// Whose log it is, as far as logs differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFlavour {
    Mysql,
    MariaDb,
}

impl From<Flavour> for LogFlavour {
    fn from(flavour: Flavour) -> Self {
        match flavour {
            Flavour::Mysql | Flavour::Percona => Self::Mysql,
            Flavour::MariaDb => Self::MariaDb,
        }
    }
}

#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ExecutedSet {
    Mysql(GtidSet),
    MariaDb(MariaDbPosition),
}

/// Per domain the last transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MariaDbPosition {
    domains: BTreeMap<u32, Last>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Last {
    sequence: u64,
    server: u32,
}

impl MariaDbPosition {
    /// The last sequence of a domain.
    pub fn sequence(&self, domain: u32) -> Option<u64> {
        self.domains.get(&domain).map(|last| last.sequence)
    }

    pub fn domains(&self) -> impl Iterator<Item = u32> {
        self.domains.keys().copied()
    }

    fn add(&mut self, domain: u32, added: Last) {
        let last = self.domains.entry(domain).or_insert(added);
        if last.sequence < added.sequence {
            *last = added;
        }
    }

    fn parse(text: &str) -> Result<Self, MysqlError> {
        let mut position = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some(Gtid::MariaDb {
                domain,
                server,
                sequence,
            }) = parse_mariadb(part)
            else {
                return Err(MysqlError::protocol(format!("\"{part}\" is no GTID of MariaDB")));
            };
            position.add(domain, Last { sequence, server });
        }
        Ok(position)
    }
}

impl fmt::Display for MariaDbPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (domain, last)) in self.domains.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{domain}-{}-{}", last.server, last.sequence)?;
        }
        Ok(())
    }
}

impl Default for ExecutedSet {
    fn default() -> Self {
        Self::empty(LogFlavour::Mysql)
    }
}

impl ExecutedSet {
    pub fn empty(flavour: LogFlavour) -> Self {
        match flavour {
            LogFlavour::Mysql => Self::Mysql(GtidSet::default()),
            LogFlavour::MariaDb => Self::MariaDb(MariaDbPosition::default()),
        }
    }

    pub fn parse(flavour: LogFlavour, text: &str) -> Result<Self, MysqlError> {
        Ok(match flavour {
            LogFlavour::Mysql => Self::Mysql(text.parse()?),
            LogFlavour::MariaDb => Self::MariaDb(MariaDbPosition::parse(text)?),
        })
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::Mysql(set) => set.is_empty(),
            Self::MariaDb(position) => position.domains.is_empty(),
        }
    }

    /// Whether all of `other` is in this one.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (_, other) if other.is_empty() => true,
            (Self::Mysql(a), Self::Mysql(b)) => a.contains(b),
            (Self::MariaDb(a), Self::MariaDb(b)) => b
                .domains
                .iter()
                .all(|(domain, last)| a.sequence(*domain).is_some_and(|sequence| sequence >= last.sequence)),
            _ => false,
        }
    }

    pub fn contains_gtid(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Self::Mysql(set), Gtid::Mysql { uuid, tag, number }) => set.contains_number(*uuid, tag, *number),
            (Self::MariaDb(position), Gtid::MariaDb { domain, sequence, .. }) => {
                position.sequence(*domain).is_some_and(|last| last >= *sequence)
            }
            _ => false,
        }
    }

    pub fn add(&mut self, gtid: &Gtid) -> Result<(), MysqlError> {
        self.take_flavour(match gtid {
            Gtid::Mysql { .. } => LogFlavour::Mysql,
            Gtid::MariaDb { .. } => LogFlavour::MariaDb,
        });
        match (self, gtid) {
            (Self::Mysql(set), Gtid::Mysql { uuid, tag, number }) => {
                set.add(*uuid, tag, *number, number.saturating_add(1))?;
            }
            (
                Self::MariaDb(position),
                Gtid::MariaDb {
                    domain,
                    server,
                    sequence,
                },
            ) => position.add(
                *domain,
                Last {
                    sequence: *sequence,
                    server: *server,
                },
            ),
            _ => return Err(mixed()),
        }
        Ok(())
    }

    pub fn union(&mut self, other: &Self) -> Result<(), MysqlError> {
        if other.is_empty() {
            return Ok(());
        }
        self.take_flavour(other.flavour());
        match (self, other) {
            (Self::Mysql(a), Self::Mysql(b)) => a.union(b),
            (Self::MariaDb(a), Self::MariaDb(b)) => {
                for (domain, last) in &b.domains {
                    a.add(*domain, *last);
                }
            }
            _ => return Err(mixed()),
        }
        Ok(())
    }

    /// Takes out what `other` has. MariaDB: domains that `other` has as far or further go; others stay as they are.
    pub fn minus(&mut self, other: &Self) {
        match (self, other) {
            (Self::Mysql(a), Self::Mysql(b)) => a.minus(b),
            (Self::MariaDb(a), Self::MariaDb(b)) => a
                .domains
                .retain(|domain, last| b.sequence(*domain).is_none_or(|sequence| sequence < last.sequence)),
            _ => {}
        }
    }

    /// Of each server (MariaDB: of each domain) the last transaction.
    pub fn last_of_each(&self) -> Vec<Gtid> {
        match self {
            Self::Mysql(set) => {
                let gtid = |(uuid, tag, number): ([u8; 16], &str, u64)| Gtid::Mysql {
                    uuid,
                    tag: tag.to_owned(),
                    number,
                };
                set.last_of_each().map(gtid).collect()
            }
            Self::MariaDb(position) => {
                let gtid = |(domain, last): (&u32, &Last)| Gtid::MariaDb {
                    domain: *domain,
                    server: last.server,
                    sequence: last.sequence,
                };
                position.domains.iter().map(gtid).collect()
            }
        }
    }

    pub fn flavour(&self) -> LogFlavour {
        match self {
            Self::Mysql(_) => LogFlavour::Mysql,
            Self::MariaDb(_) => LogFlavour::MariaDb,
        }
    }

    /// An empty set becomes what is put into it.
    fn take_flavour(&mut self, flavour: LogFlavour) {
        if self.is_empty() && self.flavour() != flavour {
            *self = Self::empty(flavour);
        }
    }
}

fn mixed() -> MysqlError {
    MysqlError::protocol("GTIDs of MySQL and of MariaDB in one set")
}

impl PartialEq for ExecutedSet {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mysql(a), Self::Mysql(b)) => a == b,
            (Self::MariaDb(a), Self::MariaDb(b)) => a == b,
            (a, b) => a.is_empty() && b.is_empty(),
        }
    }
}

impl fmt::Display for ExecutedSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mysql(set) => set.fmt(f),
            Self::MariaDb(position) => position.fmt(f),
        }
    }
}

/// Only a set of MySQL has colons.
impl TryFrom<String> for ExecutedSet {
    type Error = MysqlError;

    fn try_from(text: String) -> Result<Self, MysqlError> {
        let flavour = if text.contains(':') || text.trim().is_empty() {
            LogFlavour::Mysql
        } else {
            LogFlavour::MariaDb
        };
        Self::parse(flavour, &text)
    }
}

impl From<ExecutedSet> for String {
    fn from(set: ExecutedSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> ExecutedSet {
        ExecutedSet::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_mariadb_position_is_what_is_below_it() {
        let mut a = set("1-1-7,0-1-5,0-2-9");
        assert_eq!(a.to_string(), "0-2-9,1-1-7");
        assert!(a.contains(&set("0-1-8")) && a.contains(&set("")) && !a.contains(&set("0-1-10")));
        assert!(!a.contains(&set("2-1-1")) && a.contains_gtid(&"0-5-9".parse().unwrap()));
        a.minus(&set("0-2-8,1-1-7"));
        assert_eq!(a, set("0-2-9"));
        a.union(&set("3-1-1")).unwrap();
        a.add(&"0-7-11".parse().unwrap()).unwrap();
        assert_eq!(a.to_string(), "0-7-11,3-1-1");
        let last = ["0-7-11", "3-1-1"].map(|gtid| gtid.parse::<Gtid>().unwrap());
        assert_eq!(a.last_of_each(), last);
    }

    #[test]
    fn a_mysql_set_grows_by_transactions() {
        let mut a = ExecutedSet::empty(LogFlavour::MariaDb);
        for number in [1, 2, 4, 3] {
            a.add(&format!("{A}:{number}").parse().unwrap()).unwrap();
        }
        a.add(&format!("{A}:x:1").parse().unwrap()).unwrap();
        assert_eq!(a.to_string(), format!("{A}:1-4:x:1"));
        assert!(a.contains_gtid(&format!("{A}:4").parse().unwrap()));
        assert!(!a.contains_gtid(&format!("{A}:5").parse().unwrap()));
        a.minus(&set(&format!("{A}:2")));
        assert_eq!(a.to_string(), format!("{A}:1:3-4:x:1"));
        let last = ["4", "x:1"].map(|number| format!("{A}:{number}").parse::<Gtid>().unwrap());
        assert_eq!(a.last_of_each(), last);
    }

    #[test]
    fn the_empty_set_is_one_and_sets_of_two_flavours_do_not_mix() {
        assert_eq!(
            ExecutedSet::empty(LogFlavour::Mysql),
            ExecutedSet::empty(LogFlavour::MariaDb)
        );
        let (mut mysql, mariadb) = (set(&format!("{A}:1")), set("0-1-1"));
        assert!(mysql.union(&mariadb).is_err() && mysql.add(&"0-1-2".parse().unwrap()).is_err());
        assert!(!mysql.contains(&mariadb) && mysql != mariadb);
        let json = serde_json::to_string(&mysql).unwrap();
        assert_eq!(serde_json::from_str::<ExecutedSet>(&json).unwrap(), mysql);
    }
}
