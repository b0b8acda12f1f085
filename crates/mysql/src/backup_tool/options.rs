//! The option file a tool reads: who it is and where the server is.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use ballast_base::Secret;
use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};

use crate::{MysqlError, ServerAddress, TlsMode};

/// The file's content.
pub(super) fn of(address: &ServerAddress, is_mariadb: bool) -> Secret {
    let mut text = format!("[client]\nuser={}\n", quoted(&address.user));
    let mut add = |name: &str, value: &str| {
        text.push_str(name);
        if !value.is_empty() {
            text.push_str(&format!("={}", quoted(value)));
        }
        text.push('\n');
    };
    if let Some(password) = &address.password {
        add("password", password.expose());
    }
    if let Some(socket) = &address.socket {
        add("socket", &socket.to_string_lossy());
    } else {
        // The tools take this name for a socket.
        let host = if address.host == "localhost" {
            "127.0.0.1"
        } else {
            &address.host
        };
        add("host", host);
        add("port", &address.port.to_string());
    }
    if let Some(ca) = &address.ca {
        add("ssl-ca", &ca.to_string_lossy());
    }
    match (address.tls, is_mariadb) {
        (TlsMode::Off, true) if address.socket.is_none() => add("skip-ssl", ""),
        (TlsMode::Off, false) if address.socket.is_none() => add("ssl-mode", "DISABLED"),
        (TlsMode::Off, _) => {}
        (TlsMode::Required, true) => add("ssl", ""),
        (TlsMode::Required, false) if address.ca.is_some() => add("ssl-mode", "VERIFY_CA"),
        (TlsMode::Required, false) => add("ssl-mode", "REQUIRED"),
        (TlsMode::Verify, true) => {
            add("ssl", "");
            add("ssl-verify-server-cert", "");
        }
        (TlsMode::Verify, false) => add("ssl-mode", "VERIFY_IDENTITY"),
    }
    Secret::new(text)
}

/// A value as an option file has it: in quotes, so that blanks and `#` stay.
fn quoted(value: &str) -> String {
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\'' => quoted.push_str("\\'"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A file without a name, for a child's standard input. Opened by the name `/dev/stdin` it is read from its beginning, as often
/// as the child likes. It can be read by its owner only: the tools pass over one that others could write.
pub(super) fn in_memory(content: &Secret) -> Result<Stdio, MysqlError> {
    let failed = |source: std::io::Error| MysqlError::File {
        step: "make option file",
        path: PathBuf::from("/dev/stdin"),
        source,
    };
    let file = memfd_create("ballast-options", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
    let mut file = File::from(file);
    file.write_all(content.expose().as_bytes()).map_err(failed)?;
    Ok(Stdio::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_a_password_stays_in_it() {
        let address: ServerAddress = "mysql://b@localhost:3307".parse().unwrap();
        let address = address.with_password(Secret::new("p '\"#\\x\n".to_owned()));
        assert_eq!(
            of(&address, true).expose(),
            "[client]\nuser=\"b\"\npassword=\"p \\'\\\"#\\\\x\\n\"\nhost=\"127.0.0.1\"\nport=\"3307\"\nskip-ssl\n"
        );
        let address: ServerAddress = "mysql://b@db?tls=verify&ca=/ca.pem".parse().unwrap();
        assert!(
            of(&address, false)
                .expose()
                .contains("ssl-ca=\"/ca.pem\"\nssl-mode=\"VERIFY_IDENTITY\"\n")
        );
    }

    #[test]
    fn it_can_be_read_twice_by_its_name() {
        let input = in_memory(&Secret::new("tide".to_owned())).unwrap();
        let output = std::process::Command::new("/bin/sh")
            .args(["-c", "cat /dev/stdin; cat /dev/stdin; stat -Lc %a /dev/stdin"])
            .stdin(input)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "tidetide600\n");
    }
}
