//! Patterns for tables: `balance.orders_{0..119}`, `balance.shops`, `balance.orders_*`.
//!
//! Braces expand (`{a,b}`, `{0..9}`, `{000..119}` keeps the zeros); `*` and `?` match inside one name. A pattern without
//! wildcards expands to names that must all exist; one with wildcards must match at least one table. What stands between
//! backticks is meant letter by letter, as in SQL; a backtick in it is written twice.

/// A pattern may expand to this many names.
const NAMES_MAX: usize = 100_000;

/// One parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePattern {
    text: String,
    names: Vec<(Vec<Letter>, Vec<Letter>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table pattern \"{text}\": {cause}")]
pub struct PatternError {
    text: String,
    cause: &'static str,
}

/// A letter of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Letter {
    /// It may mean something.
    Bare(char),
    /// It stands for itself.
    Quoted(char),
}

impl Letter {
    fn char(self) -> char {
        match self {
            Self::Bare(c) | Self::Quoted(c) => c,
        }
    }

    fn is_wild(&self) -> bool {
        matches!(self, Self::Bare('*' | '?'))
    }
}

/// The letters of a text, of which some are between backticks.
pub(crate) fn letters(text: &str) -> Result<Vec<Letter>, &'static str> {
    let mut letters = Vec::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '`' if quoted && chars.next_if_eq(&'`').is_some() => letters.push(Letter::Quoted(c)),
            '`' => quoted = !quoted,
            _ if quoted => letters.push(Letter::Quoted(c)),
            _ => letters.push(Letter::Bare(c)),
        }
    }
    if quoted {
        return Err("a \"`\" without its second");
    }
    Ok(letters)
}

/// What stands before and after the first bare one of these letters.
pub(crate) fn split_at(letters: &[Letter], at: char) -> Option<(&[Letter], &[Letter])> {
    let place = letters.iter().position(|letter| *letter == Letter::Bare(at))?;
    Some((letters.get(..place)?, letters.get(place + 1..)?))
}

/// The name, however it was written.
pub(crate) fn plain(letters: &[Letter]) -> String {
    letters.iter().map(|letter| letter.char()).collect()
}

/// The name of a table as it is written where its letters must not mean anything else.
pub(crate) fn written(database: &str, table: &str) -> String {
    let part = |name: &str| match name.contains(['.', '=', '`']) {
        true => format!("`{}`", name.replace('`', "``")),
        false => name.to_owned(),
    };
    format!("{}.{}", part(database), part(table))
}

impl TablePattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let failed = |cause| PatternError {
            text: text.to_owned(),
            cause,
        };
        let mut names = Vec::new();
        for name in letters(text).and_then(|letters| expand(&letters)).map_err(failed)? {
            let (database, table) = split_at(&name, '.').ok_or_else(|| failed("write it as DATABASE.TABLE"))?;
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

    /// Whether tables of that database may match.
    pub(crate) fn is_about(&self, database: &str) -> bool {
        self.names.iter().any(|(d, _)| like(d, database))
    }

    /// The names this pattern demands and `tables` lacks, as `database.table`.
    pub fn missing<'a>(&'a self, tables: &'a std::collections::BTreeSet<(String, String)>) -> Vec<String> {
        let there = |(d, t): &(Vec<Letter>, Vec<Letter>)| {
            if d.iter().chain(t).any(Letter::is_wild) {
                tables
                    .iter()
                    .any(|(database, table)| like(d, database) && like(t, table))
            } else {
                tables.contains(&(plain(d), plain(t)))
            }
        };
        self.names
            .iter()
            .filter(|name| !there(name))
            .map(|(d, t)| format!("{}.{}", plain(d), plain(t)))
            .collect()
    }
}

fn expand(text: &[Letter]) -> Result<Vec<Vec<Letter>>, &'static str> {
    let Some((head, rest)) = split_at(text, '{') else {
        return if text.contains(&Letter::Bare('}')) {
            Err("a \"}\" without its \"{\"")
        } else {
            Ok(vec![text.to_owned()])
        };
    };
    let (body, tail) = split_at(rest, '}').ok_or("a \"{\" without its \"}\"")?;
    let tails = expand(tail)?;
    let middles = middles(body)?;
    if middles.len().saturating_mul(tails.len()) > NAMES_MAX {
        return Err("it expands to more than 100000 names");
    }
    Ok(middles
        .iter()
        .flat_map(|middle| tails.iter().map(move |tail| [head, middle, tail].concat()))
        .collect())
}

fn middles(body: &[Letter]) -> Result<Vec<Vec<Letter>>, &'static str> {
    let bare = body.iter().all(|letter| matches!(letter, Letter::Bare(_)));
    if let Some((from, to)) = plain(body).split_once("..").filter(|_| bare) {
        let numbers = range(from, to)?;
        return Ok(numbers
            .iter()
            .map(|number| number.chars().map(Letter::Bare).collect())
            .collect());
    }
    let parts = body.split(|letter| *letter == Letter::Bare(','));
    Ok(parts.map(<[Letter]>::to_vec).collect())
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
fn like(pattern: &[Letter], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(Letter::Bare('*')) => {
                star = Some((p, n));
                p += 1;
            }
            Some(letter) if *letter == Letter::Bare('?') || letter.char() == name[n] => {
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
    pattern[p..].iter().all(|letter| *letter == Letter::Bare('*'))
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
        let expand = |text: &str| -> Vec<String> {
            let all = expand(&letters(text).unwrap()).unwrap();
            all.iter().map(|one| plain(one)).collect()
        };
        assert_eq!(expand("a{08..11}"), ["a08", "a09", "a10", "a11"]);
        assert_eq!(expand("{a,b}.x{1..2}"), ["a.x1", "a.x2", "b.x1", "b.x2"]);
        let pattern = TablePattern::parse("shop.*_log?").unwrap();
        assert!(
            pattern.matches("shop", "a_log1")
                && !pattern.matches("shop", "a_log")
                && !pattern.matches("shops", "a_log1")
        );
        assert_eq!(pattern.missing(&tables(&["shop.x"])), ["shop.*_log?"]);
    }

    #[test]
    fn between_backticks_every_letter_stands_for_itself() {
        let pattern = TablePattern::parse("`d.b`.`a*{1..2}?``, x=`").unwrap();
        assert!(pattern.matches("d.b", "a*{1..2}?`, x="));
        assert!(!pattern.matches("d.b", "aa{1..2}?`, x=") && !pattern.matches("d", "b.a*{1..2}?`, x="));
        let pattern = TablePattern::parse("`d.b`.{`x,y`,z}_{1..2}*").unwrap();
        assert!(pattern.matches("d.b", "x,y_1") && pattern.matches("d.b", "z_22") && !pattern.matches("d.b", "z_3"));
        let there = BTreeSet::from([("d.b".to_owned(), "t*".to_owned())]);
        let missing = |text: &str| TablePattern::parse(text).unwrap().missing(&there);
        assert!(missing("`d.b`.`t*`").is_empty() && missing("`d.b`.t*").is_empty());
        assert_eq!(missing("`d.b`.`t?`"), ["d.b.t?"]);
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
            ("a.`b", "second"),
            ("`a.b`", "DATABASE.TABLE"),
        ] {
            let error = TablePattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }
}
