//! Patterns for tables: `balance.orders_{0..119}`, `balance.shops`, `balance.orders_*`.
//!
//! Braces expand (`{a,b}`, `{0..9}`, `{000..119}` keeps the zeros); `*` and `?` match inside one name. A pattern without
//! wildcards expands to names that must all exist; one with wildcards must match at least one table.

/// A pattern may expand to this many names.
const NAMES_MAX: usize = 100_000;

/// One parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePattern {
    text: String,
    names: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table pattern \"{text}\": {cause}")]
pub struct PatternError {
    text: String,
    cause: &'static str,
}

impl TablePattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let failed = |cause| PatternError {
            text: text.to_owned(),
            cause,
        };
        let mut names = Vec::new();
        for name in expand(text).map_err(failed)? {
            let (database, table) = name
                .split_once('.')
                .ok_or_else(|| failed("write it as DATABASE.TABLE"))?;
            if database.is_empty() || table.is_empty() {
                return Err(failed("write it as DATABASE.TABLE"));
            }
            names.push((database.to_owned(), table.to_owned()));
        }
        Ok(Self {
            text: text.to_owned(),
            names,
        })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn matches(&self, database: &str, table: &str) -> bool {
        self.names.iter().any(|(d, t)| like(d, database) && like(t, table))
    }

    /// The names this pattern demands and `tables` lacks, as `database.table`.
    pub fn missing<'a>(&'a self, tables: &'a std::collections::BTreeSet<(String, String)>) -> Vec<String> {
        let there = |(d, t): &(String, String)| {
            if d.contains(['*', '?']) || t.contains(['*', '?']) {
                tables
                    .iter()
                    .any(|(database, table)| like(d, database) && like(t, table))
            } else {
                tables.contains(&(d.clone(), t.clone()))
            }
        };
        self.names
            .iter()
            .filter(|name| !there(name))
            .map(|(d, t)| format!("{d}.{t}"))
            .collect()
    }
}

fn expand(text: &str) -> Result<Vec<String>, &'static str> {
    let Some(open) = text.find('{') else {
        return if text.contains('}') {
            Err("a \"}\" without its \"{\"")
        } else {
            Ok(vec![text.to_owned()])
        };
    };
    let close = open + text[open..].find('}').ok_or("a \"{\" without its \"}\"")?;
    let (head, body, tails) = (&text[..open], &text[open + 1..close], expand(&text[close + 1..])?);
    let middles = match body.split_once("..") {
        Some((from, to)) => range(from, to)?,
        None => body.split(',').map(str::to_owned).collect(),
    };
    if middles.len().saturating_mul(tails.len()) > NAMES_MAX {
        return Err("it expands to more than 100000 names");
    }
    Ok(middles
        .iter()
        .flat_map(|middle| tails.iter().map(move |tail| format!("{head}{middle}{tail}")))
        .collect())
}

fn range(from: &str, to: &str) -> Result<Vec<String>, &'static str> {
    let number = |text: &str| text.parse::<u32>().map_err(|_| "a range is written {0..119}");
    let (first, last) = (number(from)?, number(to)?);
    if first > last {
        return Err("a range runs from the smaller number to the larger");
    }
    if (last - first) as usize >= NAMES_MAX {
        return Err("it expands to more than 100000 names");
    }
    let width = if from.starts_with('0') && from.len() > 1 {
        from.len()
    } else {
        0
    };
    Ok((first..=last).map(|n| format!("{n:0width$}")).collect())
}

/// Shell-like match of `*` and `?`, linear in practice: a star only ever moves forward.
fn like(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn tables(names: &[&str]) -> BTreeSet<(String, String)> {
        names
            .iter()
            .map(|name| name.split_once('.').unwrap())
            .map(|(d, t)| (d.to_owned(), t.to_owned()))
            .collect()
    }

    #[test]
    fn a_missing_shard_is_named() {
        let pattern = TablePattern::parse("balance.orders_{0..3}").unwrap();
        let there = tables(&[
            "balance.orders_0",
            "balance.orders_1",
            "balance.orders_3",
            "other.orders_2",
        ]);
        assert_eq!(pattern.missing(&there), ["balance.orders_2"]);
        assert!(pattern.matches("balance", "orders_2") && !pattern.matches("balance", "orders_4"));
    }

    #[test]
    fn braces_zeros_lists_and_wildcards() {
        assert_eq!(expand("a{08..11}").unwrap(), ["a08", "a09", "a10", "a11"]);
        assert_eq!(expand("{a,b}.x{1..2}").unwrap(), ["a.x1", "a.x2", "b.x1", "b.x2"]);
        let pattern = TablePattern::parse("shop.*_log?").unwrap();
        assert!(
            pattern.matches("shop", "a_log1")
                && !pattern.matches("shop", "a_log")
                && !pattern.matches("shops", "a_log1")
        );
        assert_eq!(pattern.missing(&tables(&["shop.x"])), ["shop.*_log?"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, cause) in [
            ("orders", "DATABASE.TABLE"),
            ("a.b{0..", "without its"),
            ("a.b}", "without its"),
            ("a.b{9..1}", "smaller"),
            ("a.b{x..y}", "{0..119}"),
            ("a.b{0..9999999}", "100000"),
        ] {
            let error = TablePattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }
}
