//! Texts put together again from their tokens.
#![deny(clippy::indexing_slicing)]

use super::super::sql_text::{Kind, Token};

/// Types that stand before a parenthesis within an expression, and are no functions.
const TYPES: [&str; 8] = [
    "char", "nchar", "binary", "decimal", "float", "datetime", "time", "vector",
];

/// The text of the tokens as it stands, without comments and without the marks of conditional ones.
pub(super) fn plain(source: &str, tokens: &[Token<'_>]) -> String {
    replaced(source, tokens, |_, _| None)
}

/// The same, with another text for some tokens. An empty one takes the space before it along.
pub(super) fn replaced(
    source: &str,
    tokens: &[Token<'_>],
    new: impl Fn(usize, &Token<'_>) -> Option<String>,
) -> String {
    let mut text = String::new();
    let mut end = None;
    for (at, token) in tokens.iter().enumerate() {
        let word = new(at, token).unwrap_or_else(|| token.text.to_owned());
        let gap = end.and_then(|end| source.get(end..token.at.start)).unwrap_or_default();
        end = Some(token.at.end);
        if word.is_empty() {
            continue;
        }
        if gap.contains("/*") || gap.contains("*/") || gap.contains("--") || gap.contains('#') {
            text.push(' ');
        } else {
            text.push_str(gap);
        }
        text.push_str(&word);
    }
    text.trim().to_owned()
}

/// Names of the functions that are called, in lower case.
pub(super) fn calls<'t>(tokens: &'t [Token<'_>]) -> impl Iterator<Item = String> + use<'t> {
    tokens.windows(2).filter_map(|pair| match pair {
        [name, open] if name.kind == Kind::Word && open.is_symbol('(') && open.at.start == name.at.end => {
            let name = name.text.to_ascii_lowercase();
            let function = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
                && name.starts_with(|c: char| c.is_ascii_alphabetic())
                && !TYPES.contains(&name.as_str());
            function.then_some(name)
        }
        _ => None,
    })
}
