//! The pieces of an SQL text: names, texts, words, symbols. Enough to find where a clause begins and ends, whatever stands
//! inside quotes and comments.
#![deny(clippy::indexing_slicing)]

use std::iter::Peekable;
use std::ops::Range;
use std::str::CharIndices;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In backticks or double quotes.
    Name,
    /// In single quotes.
    Text,
    Word,
    Symbol(char),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) at: Range<usize>,
}

impl Token<'_> {
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub(super) fn is_symbol(&self, symbol: char) -> bool {
        self.kind == Kind::Symbol(symbol)
    }

    /// A name without its quotes; a bare word is a name too.
    pub(super) fn name(&self) -> Option<String> {
        match self.kind {
            Kind::Name => {
                let quote = self.text.chars().next()?;
                let inner = self.text.strip_prefix(quote)?.strip_suffix(quote)?;
                Some(inner.replace(&format!("{quote}{quote}"), &quote.to_string()))
            }
            Kind::Word => Some(self.text.to_owned()),
            _ => None,
        }
    }
}

/// Comments are passed over; of a conditional one (`/*!80023 … */`) only its marks are, as the server reads what is in it.
/// A quote that never ends ends with the text.
pub(super) fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut chars = sql.char_indices().peekable();
    while let Some((start, first)) = chars.next() {
        let kind = match first {
            _ if first.is_whitespace() => continue,
            '\'' | '"' | '`' => {
                end_quote(&mut chars, first);
                if first == '\'' { Kind::Text } else { Kind::Name }
            }
            '/' if next_is(&mut chars, '*') => {
                chars.next();
                if next_is(&mut chars, 'M') {
                    chars.next();
                }
                if next_is(&mut chars, '!') {
                    chars.next();
                    while chars.next_if(|(_, c)| c.is_ascii_digit()).is_some() {}
                } else {
                    let mut last = ' ';
                    while let Some((_, c)) = chars.next().filter(|(_, c)| !(last == '*' && *c == '/')) {
                        last = c;
                    }
                }
                continue;
            }
            '*' if next_is(&mut chars, '/') => {
                chars.next();
                continue;
            }
            '#' => {
                end_line(&mut chars);
                continue;
            }
            '-' if is_line_comment(sql, start) => {
                end_line(&mut chars);
                continue;
            }
            _ if is_word(first) => {
                while chars.next_if(|(_, c)| is_word(*c)).is_some() {}
                Kind::Word
            }
            _ => Kind::Symbol(first),
        };
        let end = chars.peek().map_or(sql.len(), |(at, _)| *at);
        let text = sql.get(start..end).unwrap_or_default();
        tokens.push(Token {
            kind,
            text,
            at: start..end,
        });
    }
    tokens
}

type Chars<'a> = Peekable<CharIndices<'a>>;

fn next_is(chars: &mut Chars<'_>, wanted: char) -> bool {
    chars.peek().is_some_and(|(_, c)| *c == wanted)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii() && !c.is_whitespace()
}

fn is_line_comment(sql: &str, start: usize) -> bool {
    let rest = sql.get(start..).unwrap_or_default();
    rest.strip_prefix("--")
        .is_some_and(|rest| rest.chars().next().is_none_or(|c| c.is_whitespace() || c.is_control()))
}

fn end_line(chars: &mut Chars<'_>) {
    while chars.next_if(|(_, c)| *c != '\n').is_some() {}
}

/// In a name a backslash is a character like any other; a quote stands for itself where it is doubled.
fn end_quote(chars: &mut Chars<'_>, quote: char) {
    while let Some((_, c)) = chars.next() {
        if c == '\\' && quote == '\'' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{quote_name, quote_text};

    fn texts(sql: &str) -> Vec<&str> {
        tokens(sql).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn quotes_and_comments_hide_what_is_in_them() {
        assert_eq!(
            texts("a `b``,(` 'it''s \\' (' -- ), '\n/* ' ( */ /*!80023 INVISIBLE */ # (\n\"q\"),3"),
            ["a", "`b``,(`", "'it''s \\' ('", "INVISIBLE", "\"q\"", ")", ",", "3"]
        );
        assert_eq!(texts("a--1 /*M!100 x*/ - -"), ["a", "-", "-", "1", "x", "-", "-"]);
        assert_eq!(texts("`雪`.数 _utf8mb4'🧨"), ["`雪`", ".", "数", "_utf8mb4", "'🧨"]);
    }

    proptest! {
        #[test]
        fn any_name_and_any_text_is_one_token(name in "\\PC{1,20}", text: String) {
            let sql = format!("KEY {} ({})", quote_name(&name), quote_text(&text));
            let found = tokens(&sql);
            prop_assert_eq!(found.len(), 5);
            prop_assert_eq!(found.get(1).and_then(Token::name), Some(name));
            let quoted = quote_text(&text);
            prop_assert_eq!(found.get(3).map(|token| token.text), Some(quoted.as_str()));
        }

        #[test]
        fn no_text_makes_it_panic(sql in "[-`'\"\\\\/*!#a雪 \n(]{0,40}") {
            for token in tokens(&sql) {
                prop_assert_eq!(sql.get(token.at.clone()), Some(token.text));
            }
        }
    }
}
