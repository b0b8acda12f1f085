//! Commands and answers in the server's own protocol (RESP2).
//!
//! Answers come from outside: each length is checked against a limit before anything is made room for, and lists are not
//! nested without end.
#![deny(clippy::indexing_slicing)]

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::RedisError;

/// A status, an error or a length stands on one line, which is no longer than this.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// One text of an answer.
pub(crate) const TEXT_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Elements of one list.
const ELEMENTS_MAX: usize = 1024 * 1024;
/// Lists within lists.
const DEPTH_MAX: usize = 8;

/// What the server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Status(String),
    /// The server's own words, the code first.
    Error(String),
    Integer(i64),
    Bytes(Bytes),
    Nil,
    List(Vec<Self>),
}

impl Reply {
    /// A text, whichever way it came.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Status(text) => Some(text.clone()),
            Self::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Error(_) | Self::Nil | Self::List(_) => None,
        }
    }

    pub fn list(self) -> Vec<Self> {
        match self {
            Self::List(list) => list,
            _ => Vec::new(),
        }
    }
}

/// A command as the server reads it.
pub(crate) fn encode(words: &[&[u8]]) -> BytesMut {
    let bytes: usize = words.iter().map(|word| word.len() + 32).sum();
    let mut out = BytesMut::with_capacity(bytes + 32);
    encode_into(words, &mut out);
    out
}

pub(crate) fn encode_into(words: &[&[u8]], out: &mut BytesMut) {
    out.put_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.put_slice(format!("${}\r\n", word.len()).as_bytes());
        out.put_slice(word);
        out.put_slice(b"\r\n");
    }
}

/// The first answer in `buffer`, taken out of it; `None` while it is not whole, and then nothing is taken.
pub(crate) fn take_reply(buffer: &mut BytesMut) -> Result<Option<Reply>, RedisError> {
    let Some(length) = measure(buffer)? else {
        return Ok(None);
    };
    let whole = buffer.split_to(length).freeze();
    let (reply, _) = decode(&whole, 0, 0)?;
    Ok(Some(reply))
}

/// One line that begins at `at`, without its end, and where the next begins.
pub(crate) fn line_at(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, RedisError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(end) = rest.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\r') else {
        if rest.len() >= LINE_BYTES_MAX {
            return Err(RedisError::protocol(format!(
                "an answer whose line is longer than {LINE_BYTES_MAX} bytes"
            )));
        }
        return Ok(None);
    };
    match rest.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((rest.get(..end).unwrap_or_default(), at + end + 2))),
        Some(_) => Err(RedisError::protocol("an answer whose line does not end as one")),
    }
}

pub(crate) fn number(text: &[u8]) -> Result<i64, RedisError> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| RedisError::protocol(format!("\"{}\" is no number", String::from_utf8_lossy(text))))
}

fn limited(what: &str, count: i64, max: usize) -> Result<Option<usize>, RedisError> {
    if count == -1 {
        return Ok(None);
    }
    let count = usize::try_from(count).ok().filter(|count| *count <= max);
    count
        .map(Some)
        .ok_or_else(|| RedisError::protocol(format!("{what} of an answer is negative or above {max}")))
}

/// How long the answer at the begin of `bytes` is, without building it: it may come in many portions.
fn measure(bytes: &[u8]) -> Result<Option<usize>, RedisError> {
    let (mut at, mut missing) = (0, 1_usize);
    while missing > 0 {
        let Some((line, next)) = line_at(bytes, at)? else {
            return Ok(None);
        };
        at = next;
        missing -= 1;
        match line.split_first() {
            Some((b'+' | b'-' | b':', _)) => {}
            Some((b'$', length)) => {
                if let Some(length) = limited("a text", number(length)?, TEXT_BYTES_MAX)? {
                    at += length + 2;
                    if bytes.len() < at {
                        return Ok(None);
                    }
                }
            }
            Some((b'*', count)) => {
                missing += limited("a list", number(count)?, ELEMENTS_MAX)?.unwrap_or(0);
                limited("a list", i64::try_from(missing).unwrap_or(i64::MAX), ELEMENTS_MAX)?;
            }
            _ => return Err(RedisError::protocol("an answer of an unknown kind")),
        }
    }
    Ok(Some(at))
}

fn decode(bytes: &Bytes, at: usize, depth: usize) -> Result<(Reply, usize), RedisError> {
    let short = || RedisError::protocol("an answer that is cut short");
    if depth > DEPTH_MAX {
        return Err(RedisError::protocol(format!(
            "an answer of more than {DEPTH_MAX} lists within lists"
        )));
    }
    let (line, mut at) = line_at(bytes, at)?.ok_or_else(short)?;
    let (kind, rest) = line.split_first().ok_or_else(short)?;
    let text = || String::from_utf8_lossy(rest).into_owned();
    let reply = match kind {
        b'+' => Reply::Status(text()),
        b'-' => Reply::Error(text()),
        b':' => Reply::Integer(number(rest)?),
        b'$' => match limited("a text", number(rest)?, TEXT_BYTES_MAX)? {
            None => Reply::Nil,
            Some(length) => {
                if bytes.get(at + length..at + length + 2) != Some(b"\r\n".as_slice()) {
                    return Err(RedisError::protocol("a text of an answer does not end where it should"));
                }
                let text = bytes.slice(at..at + length);
                at += length + 2;
                Reply::Bytes(text)
            }
        },
        b'*' => match limited("a list", number(rest)?, ELEMENTS_MAX)? {
            None => Reply::Nil,
            Some(count) => {
                let mut list = Vec::new();
                for _ in 0..count {
                    let (element, next) = decode(bytes, at, depth + 1)?;
                    at = next;
                    list.push(element);
                }
                Reply::List(list)
            }
        },
        _ => return Err(RedisError::protocol("an answer of an unknown kind")),
    };
    Ok((reply, at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Reply>, RedisError> {
        let mut buffer = BytesMut::from(bytes);
        let mut found = Vec::new();
        while let Some(reply) = take_reply(&mut buffer)? {
            found.push(reply);
        }
        Ok(found)
    }

    #[test]
    fn answers_of_every_kind() {
        let bytes = b"+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n$0\r\n\r\n*2\r\n:1\r\n*1\r\n+x\r\n*-1\r\n*0\r\n";
        assert_eq!(
            all(bytes).unwrap(),
            [
                Reply::Status("OK".to_owned()),
                Reply::Error("ERR no".to_owned()),
                Reply::Integer(-7),
                Reply::Bytes(Bytes::from_static(b"a\r\n")),
                Reply::Nil,
                Reply::Bytes(Bytes::new()),
                Reply::List(vec![
                    Reply::Integer(1),
                    Reply::List(vec![Reply::Status("x".to_owned())])
                ]),
                Reply::Nil,
                Reply::List(Vec::new()),
            ]
        );
    }

    #[test]
    fn what_is_no_answer_is_named() {
        for (bytes, named) in [
            (b"?\r\n".as_slice(), "unknown kind"),
            (b"\r\n", "unknown kind"),
            (b"$x\r\n", "no number"),
            (b"$-2\r\n", "negative or above"),
            (b"$99999999999\r\n", "negative or above"),
            (b"*9999999\r\n", "negative or above"),
            (b"$1\r\nabc", "does not end"),
            (b"+a\rb\r\n", "does not end"),
        ] {
            let error = all(bytes).unwrap_err().to_string();
            assert!(error.contains(named), "{}: {error}", String::from_utf8_lossy(bytes));
        }
        let deep = b"*1\r\n".repeat(DEPTH_MAX + 2);
        assert!(all(&[deep.as_slice(), b":1\r\n"].concat()).is_err());
        assert!(all(&vec![b'+'; LINE_BYTES_MAX + 1]).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_are_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = all(&bytes).is_ok();
        }

        #[test]
        fn bytes_that_look_like_answers_do_no_harm(text in "[$*:+\\-0-9ab\r\n]{0,80}") {
            let _ = all(text.as_bytes()).is_ok();
        }

        #[test]
        fn a_cut_anywhere_changes_nothing(words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..5), cut in 0_usize..200) {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let whole = encode(&words);
            let cut = cut.min(whole.len() - 1);
            let mut buffer = BytesMut::from(&whole[..cut]);
            prop_assert_eq!(take_reply(&mut buffer).unwrap(), None);
            buffer.extend_from_slice(&whole[cut..]);
            let list = take_reply(&mut buffer).unwrap().unwrap().list();
            let expected: Vec<Reply> = words.iter().map(|word| Reply::Bytes(Bytes::copy_from_slice(word))).collect();
            prop_assert_eq!(list, expected);
        }
    }
}
