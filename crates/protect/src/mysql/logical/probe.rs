//! Guesses where the middle between two keys is: in the first column in which they differ, halfway between its values.
//!
//! Pure. A guess need not be a value of the column's, and not even between the two as the server sorts them; it must only be
//! one that the server can read.
#![deny(clippy::indexing_slicing)]

use super::stretch::{Literal, Literals, TableKey};

/// In which ASCII characters have more than a byte.
const NOT_ASCII: [&str; 4] = ["ucs2", "utf16", "utf16le", "utf32"];
/// In which every byte is a character.
const ANY_BYTE: [&str; 2] = ["binary", "latin1"];
const UTF8: [&str; 3] = ["utf8mb4", "utf8mb3", "utf8"];

/// Beginnings of keys to look behind, the best guess first.
pub(super) fn probes(key: &TableKey, low: &[Vec<u8>], high: &[Vec<u8>]) -> Vec<Literals> {
    let mut before = Literals::new();
    for ((column, low), high) in key.columns.iter().zip(low).zip(high) {
        if low == high {
            let Some(literal) = column.literal(low) else { break };
            before.push(literal);
            continue;
        }
        let middles = middles(&column.literal, low, high);
        let literals = middles.iter().filter_map(|middle| column.literal(middle));
        return literals
            .map(|literal| before.iter().cloned().chain([literal]).collect())
            .collect();
    }
    Vec::new()
}

fn middles(literal: &Literal, low: &[u8], high: &[u8]) -> Vec<Vec<u8>> {
    match literal {
        Literal::Number => number(low, high).into_iter().collect(),
        Literal::Quoted => date(low, high).into_iter().collect(),
        Literal::Text(charset) => text(charset, low, high),
    }
}

/// Halfway, rounded up, so that it is never the lower one.
fn half(low: i128, high: i128) -> i128 {
    low + (high - low + 1) / 2
}

/// Of integers and decimals, which the server prints with the same digits after the point.
fn number(low: &[u8], high: &[u8]) -> Option<Vec<u8>> {
    let (low, high) = (std::str::from_utf8(low).ok()?, std::str::from_utf8(high).ok()?);
    let scale = low.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let parse = |text: &str| text.replace('.', "").parse::<i128>().ok();
    let (low, high) = (parse(low)?, parse(high)?);
    // Longer ones could overflow; such a decimal is not divided.
    let limit = i128::MAX / 4;
    if low.abs() > limit || high.abs() > limit {
        return None;
    }
    let middle = half(low, high);
    if scale == 0 {
        return Some(middle.to_string().into_bytes());
    }
    let digits = format!("{:0>width$}", middle.abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at_checked(digits.len() - scale)?;
    let sign = if middle < 0 { "-" } else { "" };
    Some(format!("{sign}{whole}.{fraction}").into_bytes())
}

/// Of dates with or without a time of day.
fn date(low: &[u8], high: &[u8]) -> Option<Vec<u8>> {
    const RADIX: [i128; 6] = [10_000, 13, 32, 24, 60, 60];
    let read = |value: &[u8]| {
        let text = std::str::from_utf8(value).ok()?;
        let mut fields = text.split(['-', ' ', ':', '.']).map(|field| field.parse::<i128>().ok());
        RADIX.iter().try_fold(0, |sum, radix| {
            let field = fields.next().unwrap_or(Some(0))?;
            Some(sum * radix + field.min(radix - 1))
        })
    };
    let mut middle = half(read(low)?, read(high)?);
    let mut fields = [0; 6];
    for (field, radix) in fields.iter_mut().zip(RADIX).rev() {
        *field = middle % radix;
        middle /= radix;
    }
    let [year, month, day, hour, minute, second] = fields;
    let month = month.max(1);
    // No day that its month may not have.
    let day = day.clamp(1, if month == 2 { 28 } else { 30 });
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if low.len() > text.len() {
        text.push_str(&format!(" {hour:02}:{minute:02}:{second:02}"));
    }
    Some(text.into_bytes())
}

/// What is common to both, and the character halfway between those in which they differ; also without regard to case.
fn text(charset: &str, low: &[u8], high: &[u8]) -> Vec<Vec<u8>> {
    let folded = (low.to_ascii_lowercase(), high.to_ascii_lowercase());
    let plain = character(charset, low, high);
    let folded = character(charset, &folded.0, &folded.1);
    let mut middles: Vec<_> = plain.into_iter().chain(folded).collect();
    middles.dedup();
    // Where the server sorts otherwise than by numbers, what is in the middle of the alphabet may do.
    if let Some(same) = middles.first().and_then(|middle| without_last(charset, middle)) {
        middles.extend(["m", "5", "e", "t"].map(|letter| [&same, letter.as_bytes()].concat()));
    }
    middles
}

/// A guess without its last character.
fn without_last(charset: &str, middle: &[u8]) -> Option<Vec<u8>> {
    let end = if UTF8.contains(&charset) {
        std::str::from_utf8(middle).ok()?.char_indices().last()?.0
    } else {
        middle.len().checked_sub(1)?
    };
    middle.get(..end).map(<[u8]>::to_vec)
}

fn character(charset: &str, low: &[u8], high: &[u8]) -> Option<Vec<u8>> {
    if NOT_ASCII.contains(&charset) {
        return None;
    }
    if UTF8.contains(&charset) {
        let (low, high) = (std::str::from_utf8(low).ok()?, std::str::from_utf8(high).ok()?);
        let same = low
            .chars()
            .zip(high.chars())
            .take_while(|(low, high)| low == high)
            .count();
        let at = |text: &str| {
            text.chars()
                .nth(same)
                .map_or(0, |character| i128::from(u32::from(character)))
        };
        let middle = half(at(low), at(high));
        let middle = u32::try_from(middle).ok().and_then(char::from_u32)?;
        let middle: String = high.chars().take(same).chain([middle]).collect();
        return Some(middle.into_bytes());
    }
    let same = low.iter().zip(high).take_while(|(low, high)| low == high).count();
    let at = |text: &[u8]| text.get(same).map_or(0, |byte| i128::from(*byte));
    let (low, before) = (at(low), high.get(..same)?);
    let middle = u8::try_from(half(low, at(high))).ok()?;
    let is_readable = ANY_BYTE.contains(&charset) || (middle.is_ascii() && before.is_ascii());
    is_readable.then(|| [before, &[middle]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_between_or_the_higher_one() {
        let text = |charset: &str| Literal::Text(charset.to_owned());
        for (literal, low, high, expected) in [
            (Literal::Number, "1", "10", Some("6")),
            (Literal::Number, "-10", "-9", Some("-9")),
            (
                Literal::Number,
                "0",
                "18446744073709551615",
                Some("9223372036854775808"),
            ),
            (Literal::Number, "-0.05", "0.02", Some("-0.01")),
            (Literal::Number, "-1.50", "-1.40", Some("-1.45")),
            (Literal::Quoted, "2026-01-01", "2026-03-01", Some("2026-02-01")),
            (
                Literal::Quoted,
                "2026-03-30 00:00:00",
                "2026-03-30 02:00:00",
                Some("2026-03-30 01:00:00"),
            ),
            (Literal::Quoted, "2026-01-31", "2026-03-31", Some("2026-02-28")),
            (
                Literal::Quoted,
                "2026-01-01 00:00:00.5",
                "2026-01-03 00:00:00",
                Some("2026-01-02 00:00:00"),
            ),
            (Literal::Quoted, "0000-00-00", "0000-00-01", Some("0000-01-01")),
            (text("utf8mb4"), "order-1", "order-9", Some("order-5")),
            (text("utf8mb4"), "商a", "商c", Some("商b")),
            (text("utf8mb4"), "a", "ab", Some("a1")),
            (text("gbk"), "B7", "cX", Some("S")),
            (text("gbk"), "商a", "商c", None),
            (text("utf16"), "a", "c", None),
        ] {
            let found = middles(&literal, low.as_bytes(), high.as_bytes());
            let found = found.first().map(|middle| String::from_utf8_lossy(middle).into_owned());
            assert_eq!(found.as_deref(), expected, "{low} and {high}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(low: Vec<u8>, high: Vec<u8>) {
            for charset in ["utf8mb4", "latin1", "gbk", "binary", "ucs2"] {
                middles(&Literal::Text(charset.to_owned()), &low, &high);
            }
            middles(&Literal::Number, &low, &high);
            middles(&Literal::Quoted, &low, &high);
        }
    }
}
