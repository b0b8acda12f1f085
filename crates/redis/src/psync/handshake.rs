//! From a logged-in connection to the server's answer to `PSYNC`.

use std::time::Duration;

use ballast_base::{Clock as _, SystemClock};

use crate::wire::channel::{Channel, closed};
use crate::wire::resp;
use crate::{Connection, Position, RedisError};

const DOING: &str = "asking for the data";
/// The server speaks at least this often (an empty line each second while it prepares a snapshot); its ping period is 10 s.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A line that opens a snapshot or a stream is no longer than this.
const LINE_BYTES_MAX: usize = 1024;

/// How to present ourselves.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// Where we listen, so that the server lists us by it.
    pub announced_port: Option<u16>,
    /// The server's own version, for Valkey; others do not know the word, which does no harm.
    pub server_version: Option<String>,
    /// The snapshot may come straight from memory. Without it the server writes a file of its own first.
    pub from_memory: bool,
    /// How long the server may take before the first byte of a snapshot: it waits for more replicas, then forks.
    pub start_wait: Duration,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self {
            announced_port: None,
            server_version: None,
            from_memory: true,
            start_wait: Duration::from_secs(600),
        }
    }
}

/// The answer to `PSYNC`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A snapshot follows, taken at this position.
    Full(Position),
    /// The stream follows, under this history.
    Continue { history: Option<String> },
}

/// Says who we are and asks. `from` is the last byte we have; without it all is asked for.
pub(crate) async fn ask(
    mut connection: Connection,
    options: &SyncOptions,
    snapshot_only: bool,
    from: Option<&Position>,
) -> Result<(Channel, Answer), RedisError> {
    connection.run(DOING, &[b"PING"]).await?;
    if let Some(port) = options.announced_port {
        let port = port.to_string();
        connection
            .run(DOING, &[b"REPLCONF", b"listening-port", port.as_bytes()])
            .await?;
    }
    if options.from_memory {
        connection.run(DOING, &[b"REPLCONF", b"capa", b"eof"]).await?;
    }
    connection.run(DOING, &[b"REPLCONF", b"capa", b"psync2"]).await?;
    if let Some(version) = &options.server_version {
        // An error answer comes from servers that do not need it.
        match connection
            .run(DOING, &[b"REPLCONF", b"version", version.as_bytes()])
            .await
        {
            Ok(_) | Err(RedisError::Server { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if snapshot_only {
        // Older servers do not know it: they would go on to send commands, and nobody reads them.
        match connection.run(DOING, &[b"REPLCONF", b"rdb-only", b"1"]).await {
            Ok(_) | Err(RedisError::Server { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let (history, offset) = match from {
        Some(position) => (position.history.clone(), (position.offset + 1).to_string()),
        None => ("?".to_owned(), "-1".to_owned()),
    };
    let mut channel = connection.channel;
    channel
        .send(DOING, resp::encode(&[b"PSYNC", history.as_bytes(), offset.as_bytes()]))
        .await?;
    channel.read_wait_max = SILENCE_MAX;
    let line = next_line(&mut channel, options.start_wait).await?;
    let answer = parse_answer(&line)?;
    Ok((channel, answer))
}

/// The next line that is not empty: empty ones say that the server is alive and not ready.
pub(crate) async fn next_line(channel: &mut Channel, wait_max: Duration) -> Result<String, RedisError> {
    let clock = SystemClock::new();
    let give_up_at = clock.elapsed() + wait_max;
    loop {
        let empty = channel.buffer.iter().take_while(|byte| **byte == b'\n').count();
        drop(channel.buffer.split_to(empty));
        if let Some((line, next)) = resp::line_at(&channel.buffer, 0)? {
            let line = String::from_utf8_lossy(line).into_owned();
            drop(channel.buffer.split_to(next));
            return Ok(line);
        }
        if channel.buffer.len() > LINE_BYTES_MAX {
            return Err(RedisError::protocol(format!(
                "a line of more than {LINE_BYTES_MAX} bytes while {DOING}"
            )));
        }
        if clock.elapsed() >= give_up_at {
            return Err(RedisError::Timeout {
                doing: DOING,
                after: wait_max,
            });
        }
        if !channel.fill(DOING).await? {
            return Err(closed(DOING));
        }
    }
}

pub(crate) fn parse_answer(line: &str) -> Result<Answer, RedisError> {
    let odd = || RedisError::protocol(format!("\"{line}\" as the answer to PSYNC"));
    if let Some(message) = line.strip_prefix('-') {
        return Err(refusal(message));
    }
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        Some("+FULLRESYNC") => {
            let history = words.next().ok_or_else(odd)?;
            let offset = words.next().and_then(|word| word.parse().ok()).ok_or_else(odd)?;
            Position::new(history, offset).map(Answer::Full).ok_or_else(odd)
        }
        Some("+CONTINUE") => {
            let history = words.next().map(str::to_owned);
            let is_one = history
                .as_deref()
                .is_none_or(|history| Position::new(history, 0).is_some());
            is_one.then_some(Answer::Continue { history }).ok_or_else(odd)
        }
        _ => Err(odd()),
    }
}

fn refusal(message: &str) -> RedisError {
    if message.contains("unknown command") {
        return RedisError::Unsupported {
            what: format!("the server does not let itself be followed: {message}"),
            hint: "services that run servers for others often forbid PSYNC".to_owned(),
        };
    }
    RedisError::Server {
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "2d8393841d1cf6f03c01a25420486b07125f7df5";

    #[test]
    fn answers_of_real_servers() {
        let full = parse_answer(&format!("+FULLRESYNC {ID} 14")).unwrap();
        assert_eq!(full, Answer::Full(Position::new(ID, 14).unwrap()));
        let history = Some(ID.to_owned());
        assert_eq!(
            parse_answer(&format!("+CONTINUE {ID}")).unwrap(),
            Answer::Continue { history }
        );
        assert_eq!(parse_answer("+CONTINUE").unwrap(), Answer::Continue { history: None });
        let error = parse_answer("-NOMASTERLINK Can't SYNC while not connected with my master").unwrap_err();
        assert_eq!(error.server_code(), Some("NOMASTERLINK"));
        let error = parse_answer("-ERR unknown command 'PSYNC'").unwrap_err();
        assert!(matches!(error, RedisError::Unsupported { .. }));
        for odd in ["", "+OK", "+FULLRESYNC", "+FULLRESYNC ? 1", "+CONTINUE x", "$5"] {
            assert!(matches!(parse_answer(odd), Err(RedisError::Protocol { .. })), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_an_answer_or_an_error(line in "[+-]?(FULLRESYNC|CONTINUE|\\PC){0,1}[ 0-9a-f]{0,60}") {
            let _ = parse_answer(&line).is_ok();
        }
    }
}
