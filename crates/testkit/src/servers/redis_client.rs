//! A connection to a Redis or Valkey server, for tests: blocking, and with words of any bytes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// One connection.
#[derive(Debug)]
pub struct RedisClient {
    stream: BufReader<TcpStream>,
}

impl RedisClient {
    pub(crate) fn new(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends one command and returns its answer as text: a nested answer one element a line, nil as `(nil)`. Panics on an
    /// error answer.
    #[track_caller]
    pub fn send(&mut self, words: &[&[u8]]) -> String {
        self.try_send(words)
            .unwrap_or_else(|error| panic!("{}: {error}", shown(words)))
    }

    /// As [`RedisClient::send`], the error returned.
    pub fn try_send(&mut self, words: &[&[u8]]) -> Result<String, String> {
        self.write(&encoded(words))?;
        self.answer()
    }

    /// Sends many commands at once; the answers, errors among them.
    #[track_caller]
    pub fn pipeline(&mut self, commands: &[Vec<Vec<u8>>]) -> Vec<Result<String, String>> {
        let mut bytes = Vec::new();
        for words in commands {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            bytes.extend(encoded(&words));
        }
        self.write(&bytes).unwrap_or_else(|error| panic!("pipeline: {error}"));
        commands.iter().map(|_| self.answer()).collect()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream
            .get_mut()
            .write_all(bytes)
            .map_err(|error| error.to_string())
    }

    fn answer(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line);
        if read.map_err(|error| error.to_string())? == 0 {
            return Err("the server closed the connection".to_owned());
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        let (kind, rest) = line
            .split_at_checked(1)
            .ok_or_else(|| format!("not an answer: {line:?}"))?;
        let length = || rest.parse::<i64>().map_err(|error| format!("{line:?}: {error}"));
        match kind {
            "+" | ":" => Ok(rest.to_owned()),
            "-" => Err(rest.to_owned()),
            "$" => {
                let Ok(length) = usize::try_from(length()?) else {
                    return Ok("(nil)".to_owned());
                };
                let mut bytes = vec![0; length + 2];
                self.stream.read_exact(&mut bytes).map_err(|error| error.to_string())?;
                Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
            }
            "*" => {
                let mut lines = Vec::new();
                for _ in 0..length()? {
                    // An error inside a list is one of its elements.
                    lines.push(self.answer().unwrap_or_else(|error| error));
                }
                Ok(lines.join("\n"))
            }
            _ => Err(format!("not an answer: {line:?}")),
        }
    }
}

fn shown(words: &[&[u8]]) -> String {
    let words: Vec<_> = words.iter().take(4).map(|word| String::from_utf8_lossy(word)).collect();
    words.join(" ")
}

fn encoded(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
