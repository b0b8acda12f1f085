//! Which keys of a snapshot: patterns as the server's own `KEYS` and `SCAN MATCH` know them, with a database before them if only one
//! is meant: `session:*`, `3/cart:[0-9]*`, `*/2024/*`.
#![deny(clippy::indexing_slicing)]

use std::str::FromStr;
use std::sync::Arc;

use crate::RedisError;

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPattern {
    text: String,
    /// `None` is every database.
    database: Option<u32>,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// `*`
    Many,
    /// `?`
    One,
    Byte(u8),
    /// `[a-z]`, `[^a-z]`: first and last of each stretch.
    Of {
        stretches: Vec<(u8, u8)>,
        not: bool,
    },
}

impl Token {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Many | Self::One => true,
            Self::Byte(own) => *own == byte,
            Self::Of { stretches, not } => {
                stretches.iter().any(|(first, last)| (*first..=*last).contains(&byte)) != *not
            }
        }
    }
}

impl std::fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for KeyPattern {
    type Err = RedisError;

    fn from_str(text: &str) -> Result<Self, RedisError> {
        let wrong = |what: String| RedisError::Unsupported {
            what,
            hint:
                "write --only 'session:*', or with a database: --only '3/session:*'; \\ takes the meaning from * ? [ ]"
                    .to_owned(),
        };
        let (database, glob) = match text.split_once('/') {
            Some(("*", glob)) => (None, glob),
            Some((digits, glob)) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let number = digits.parse();
                (
                    Some(number.map_err(|_| wrong(format!("\"{digits}\" is no number of a database")))?),
                    glob,
                )
            }
            _ => (None, text),
        };
        let mut tokens = Vec::new();
        let mut bytes = glob.bytes();
        while let Some(byte) = bytes.next() {
            tokens.push(match byte {
                b'*' if tokens.last() == Some(&Token::Many) => continue,
                b'*' => Token::Many,
                b'?' => Token::One,
                b'\\' => Token::Byte(bytes.next().unwrap_or(b'\\')),
                b'[' => class(&mut bytes).ok_or_else(|| wrong(format!("\"{text}\" has a [ and no ]")))?,
                byte => Token::Byte(byte),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            database,
            tokens,
        })
    }
}

/// What stands between `[` and `]`.
fn class(bytes: &mut std::str::Bytes<'_>) -> Option<Token> {
    let (mut stretches, mut not, mut is_first) = (Vec::new(), false, true);
    let mut byte = bytes.next()?;
    loop {
        match byte {
            b']' => return Some(Token::Of { stretches, not }),
            b'^' if is_first => not = true,
            b'-' if !stretches.is_empty() => {
                let mut last = bytes.next()?;
                if last == b']' {
                    stretches.push((b'-', b'-'));
                    return Some(Token::Of { stretches, not });
                }
                if last == b'\\' {
                    last = bytes.next()?;
                }
                let (first, _) = stretches.pop()?;
                stretches.push((first.min(last), first.max(last)));
            }
            b'\\' => {
                let byte = bytes.next()?;
                stretches.push((byte, byte));
            }
            byte => stretches.push((byte, byte)),
        }
        is_first = false;
        byte = bytes.next()?;
    }
}

impl KeyPattern {
    pub fn takes(&self, database: u32, name: &[u8]) -> bool {
        self.database.is_none_or(|own| own == database) && self.matches(name)
    }

    /// No more than one place is remembered to go back to: the last `*`.
    fn matches(&self, name: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        let mut back: Option<(usize, usize)> = None;
        loop {
            match (self.tokens.get(token), name.get(at)) {
                (Some(Token::Many), _) => {
                    back = Some((token + 1, at));
                    token += 1;
                    continue;
                }
                (Some(wanted), Some(byte)) if wanted.takes(*byte) => {
                    token += 1;
                    at += 1;
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            match &mut back {
                Some((again, from)) if *from < name.len() => {
                    *from += 1;
                    (token, at) = (*again, *from);
                }
                _ => return false,
            }
        }
    }
}

/// All keys, or those of some patterns.
#[derive(Debug, Clone, Default)]
pub struct KeySelection {
    only: Option<Arc<[KeyPattern]>>,
    without: Option<(u32, &'static [u8])>,
}

impl KeySelection {
    /// No pattern is all.
    pub fn of(patterns: &[KeyPattern]) -> Self {
        Self {
            only: (!patterns.is_empty()).then(|| patterns.into()),
            without: None,
        }
    }

    /// This key is never one of them.
    #[must_use]
    pub fn without(mut self, database: u32, name: &'static [u8]) -> Self {
        self.without = Some((database, name));
        self
    }

    /// Whether it was not limited by a pattern.
    pub fn is_all(&self) -> bool {
        self.only.is_none()
    }

    /// Functions belong to a server, not to keys.
    pub(crate) fn has_functions(&self) -> bool {
        self.is_all()
    }

    pub fn takes(&self, database: u32, name: &[u8]) -> bool {
        self.without != Some((database, name))
            && self
                .only
                .as_deref()
                .is_none_or(|only| only.iter().any(|pattern| pattern.takes(database, name)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn takes(pattern: &str, database: u32, name: &str) -> bool {
        pattern.parse::<KeyPattern>().unwrap().takes(database, name.as_bytes())
    }

    #[test]
    fn patterns_are_the_servers_own() {
        for (pattern, name, expected) in [
            ("session:*", "session:7", true),
            ("session:*", "session:", true),
            ("session:*", "xsession:7", false),
            ("*:7", "a:7:7", true),
            ("*a*b*c", "xxaybzzc", true),
            ("*a*b*c", "xxaybzzcd", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[\\]]llo", "h]llo", true),
            ("[a-]", "-", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "anything", true),
        ] {
            assert_eq!(takes(pattern, 5, name), expected, "{pattern} {name}");
        }
        assert!(takes("3/a*", 3, "abc") && !takes("3/a*", 4, "abc"));
        assert!(takes("*/3/a", 9, "3/a") && takes("x/a", 0, "x/a") && takes("/a", 0, "/a"));
        for wrong in ["[a", "[a-", "[\\", "99999999999/a"] {
            assert!(wrong.parse::<KeyPattern>().is_err(), "{wrong}");
        }
        let some = KeySelection::of(&["a*".parse().unwrap(), "2/b".parse().unwrap()]).without(0, b"ab");
        assert!(some.takes(0, b"ac") && some.takes(2, b"b") && !some.takes(1, b"b") && !some.takes(0, b"ab"));
        assert!(KeySelection::default().takes(7, b"x") && KeySelection::default().is_all() && !some.is_all());
    }

    proptest! {
        #[test]
        fn a_name_matches_itself_and_no_pattern_panics(name in "[a-c*?\\[\\]\\\\^-]{0,12}", text in "[a-c*?\\[\\]\\\\^/0-9-]{0,12}") {
            let mut quoted = String::new();
            for letter in name.chars() {
                quoted.push('\\');
                quoted.push(letter);
            }
            prop_assert!(takes(&quoted, 0, &name));
            let (around, longer) = (format!("*{quoted}*"), format!("x{name}y"));
            prop_assert!(takes(&around, 0, &longer));
            if let Ok(pattern) = text.parse::<KeyPattern>() {
                let _ = pattern.takes(0, name.as_bytes());
            }
        }
    }
}
