//! SQL through the server's own command line client, so that the kit shares no code with what it tests.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

/// One row; `None` is SQL NULL. Bytes that are not UTF-8 are replaced, so select `HEX(column)` of binary data.
pub type Row = Vec<Option<String>>;

/// What the client printed when a statement failed, such as `ERROR 1146 (42S02) at line 1: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError(pub String);

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SqlError {}

/// Who connects, and where to: enough to start a client, independent of the server's value.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) program: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Client {
    /// A client ready to be given SQL on its standard input.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--no-defaults")
            .arg("--protocol=socket")
            .arg(format!("--socket={}", self.socket.display()))
            .arg(format!("--user={}", self.user))
            .args(["--default-character-set=utf8mb4", "--skip-reconnect"])
            .env("MYSQL_PWD", &self.password)
            .env_remove("MYSQL_HOST")
            .stdin(Stdio::piped());
        command
    }

    /// Runs the statements and returns the rows of all of them, one after the other.
    pub(crate) fn run(&self, sql: &str) -> Result<Vec<Row>, SqlError> {
        let mut command = self.command();
        command.arg("--xml").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| SqlError(format!("cannot start the client: {error}")))?;
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let (output, errors) = thread::scope(|scope| {
            scope.spawn(move || {
                // A client that gave up early closes the pipe; its message says why.
                stdin.write_all(sql.as_bytes()).ok();
            });
            let errors = scope.spawn(move || {
                let mut errors = Vec::new();
                stderr.read_to_end(&mut errors).unwrap();
                errors
            });
            let mut output = Vec::new();
            stdout.read_to_end(&mut output).unwrap();
            (output, errors.join().unwrap())
        });
        if child.wait().unwrap().success() {
            Ok(rows_of(&String::from_utf8_lossy(&output)))
        } else {
            Err(SqlError(String::from_utf8_lossy(&errors).trim().to_owned()))
        }
    }
}

/// The client's XML form is the only one that tells NULL from the text `NULL`.
fn rows_of(xml: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for row in xml.split("<row>").skip(1) {
        let row = row.split("</row>").next().unwrap_or_default();
        let fields = row.split("<field name=\"").skip(1).map(|field| {
            // The name ends at its quote: quotes inside it are escaped.
            let rest = field.split_once('"').map_or("", |(_, rest)| rest);
            if rest.trim_start().starts_with("xsi:nil") {
                return None;
            }
            let text = rest.split_once('>').map_or("", |(_, text)| text);
            Some(unescaped(text.split("</field>").next().unwrap_or_default()))
        });
        rows.push(fields.collect());
    }
    rows
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_told_from_the_word_and_markup_from_text() {
        let xml = "<?xml version=\"1.0\"?>\n<resultset statement=\"select\">\n  <row>\n\t<field name=\"a\">NULL</field>\n\
                   \t<field name=\"b &quot;x\" xsi:nil=\"true\" />\n\t<field name=\"c\"></field>\n  </row>\n\n  <row>\n\
                   \t<field name=\"a\">&lt;/field&gt; &amp;lt; &quot;q&quot;\n\tline</field>\n  </row>\n</resultset>\n";
        let text = |text: &str| Some(text.to_owned());
        let expected: Vec<Row> = vec![
            vec![text("NULL"), None, text("")],
            vec![text("</field> &lt; \"q\"\n\tline")],
        ];
        assert_eq!(rows_of(xml), expected);
    }
}
