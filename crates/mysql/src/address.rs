//! Where a server is and how to talk to it: `mysql://user@host:port?socket=PATH&tls=MODE&ca=PATH`.
//!
//! A password in the URL is refused: URLs end up in logs, process lists and shell histories.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ballast_base::{Secret, TlsMode, Transport};

use crate::MysqlError;

const DEFAULT_PORT: u16 = 3306;
const EXAMPLE: &str = "an address looks like mysql://user@host:3306?tls=verify&ca=/path/ca.pem or mysql://user@localhost?socket=/run/mysqld/mysqld.sock";

/// One server and one account on it.
#[derive(Debug, Clone)]
pub struct ServerAddress {
    /// A name or an IP address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
    /// When given, the host and port are not used.
    pub socket: Option<PathBuf>,
    pub user: String,
    pub password: Option<Secret>,
    pub tls: TlsMode,
    /// The authority's certificates, in PEM form.
    pub ca: Option<PathBuf>,
}

impl ServerAddress {
    /// A server of this machine, by its Unix socket.
    pub fn local(socket: PathBuf, user: &str) -> Self {
        Self {
            host: "localhost".to_owned(),
            port: DEFAULT_PORT,
            socket: Some(socket),
            user: user.to_owned(),
            password: None,
            tls: TlsMode::Off,
            ca: None,
        }
    }

    #[must_use]
    pub fn with_password(mut self, password: Secret) -> Self {
        self.password = Some(password);
        self
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Transport>, MysqlError> {
        let connected = ballast_base::connect(&self.host, self.port, self.socket.as_deref()).await;
        connected.map_err(|source| MysqlError::Unreachable {
            address: self.place(),
            source,
        })
    }

    /// The caller limits how long it may take.
    pub(crate) async fn encrypt(&self, transport: Box<dyn Transport>) -> Result<Box<dyn Transport>, MysqlError> {
        let encrypted = ballast_base::encrypt(transport, &self.host, self.tls, self.ca.as_deref()).await;
        encrypted.map_err(|error| MysqlError::tls(self, error))
    }

    /// Where it is, for messages.
    pub fn place(&self) -> String {
        match &self.socket {
            Some(path) => path.display().to_string(),
            None if self.host.contains(':') => format!("[{}]:{}", self.host, self.port),
            None => format!("{}:{}", self.host, self.port),
        }
    }
}

fn wrong(detail: impl Into<String>) -> MysqlError {
    MysqlError::Address {
        detail: detail.into(),
        hint: EXAMPLE.to_owned(),
    }
}

impl FromStr for ServerAddress {
    type Err = MysqlError;

    fn from_str(url: &str) -> Result<Self, MysqlError> {
        let rest = url
            .strip_prefix("mysql://")
            .ok_or_else(|| wrong("it does not begin with mysql://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !path.is_empty() {
            return Err(wrong(
                "it names a database; which databases are meant is said elsewhere",
            ));
        }
        let (user, place) = authority.rsplit_once('@').ok_or_else(|| wrong("it names no user"))?;
        if user.contains(':') {
            return Err(MysqlError::Address {
                detail: "it holds a password, which does not belong into a URL".to_owned(),
                hint: "take it out of the URL and give it by itself, such as password = { env = \"NAME\" } or { file = \"PATH\" }"
                    .to_owned(),
            });
        }
        let user = decode_percent(user)?;
        if user.is_empty() {
            return Err(wrong("it names no user"));
        }
        let (host, port) = split_host(place)?;
        let (mut socket, mut tls, mut ca) = (None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| wrong(format!("\"{pair}\" has no value")))?;
            let value = decode_percent(value)?;
            match (key, value.as_str()) {
                (_, "") => return Err(wrong(format!("\"{key}\" has no value"))),
                ("socket", path) => socket = Some(PathBuf::from(path)),
                ("ca", path) => ca = Some(PathBuf::from(path)),
                ("tls", "off") => tls = Some(TlsMode::Off),
                ("tls", "required") => tls = Some(TlsMode::Required),
                ("tls", "verify") => tls = Some(TlsMode::Verify),
                ("tls", other) => return Err(wrong(format!("tls={other} is none of off, required, verify"))),
                (other, _) => return Err(wrong(format!("\"{other}\" is none of socket, tls, ca"))),
            }
        }
        if socket.is_some() && tls.is_some_and(|mode| mode != TlsMode::Off) {
            return Err(wrong("a Unix socket is private already; leave tls out"));
        }
        if ca.is_some() && tls == Some(TlsMode::Off) {
            return Err(wrong("a ca without tls has no effect"));
        }
        let here = socket.is_some() || is_this_machine(&host);
        let default = if here && ca.is_none() {
            TlsMode::Off
        } else {
            TlsMode::Required
        };
        Ok(Self {
            host,
            port,
            socket,
            user,
            password: None,
            tls: tls.unwrap_or(default),
            ca,
        })
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn split_host(place: &str) -> Result<(String, u16), MysqlError> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| wrong("an IPv6 address has no closing bracket"))?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(wrong(format!("\"{host}\" is no IPv6 address")));
        }
        (host.to_owned(), rest)
    } else {
        let end = place.find(':').unwrap_or(place.len());
        let (host, rest) = place.split_at(end);
        (decode_percent(host)?, rest)
    };
    if host.is_empty() {
        return Err(wrong("it names no host"));
    }
    let port = match port {
        "" => DEFAULT_PORT,
        text => text
            .strip_prefix(':')
            .and_then(|digits| digits.parse().ok())
            .filter(|port| *port != 0)
            .ok_or_else(|| wrong(format!("\"{text}\" is no port; an IPv6 address stands in brackets")))?,
    };
    Ok((host, port))
}

fn decode_percent(text: &str) -> Result<String, MysqlError> {
    let broken = || wrong(format!("\"{text}\" is not percent-encoded UTF-8"));
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
            let (high, low) = (digit().ok_or_else(broken)?, digit().ok_or_else(broken)?);
            decoded.push(u8::try_from(high * 16 + low).map_err(|_| broken())?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).map_err(|_| broken())
}

/// A slash stays in a path.
fn encode_percent(text: &str, is_path: bool) -> String {
    use fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (is_path && byte == b'/') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
        out
    })
}

/// The URL that reads back as this address, without the password.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            encode_percent(&self.host, false)
        };
        write!(f, "mysql://{}@{host}:{}", encode_percent(&self.user, false), self.port)?;
        match &self.socket {
            Some(path) => write!(f, "?socket={}", encode_percent(&path.to_string_lossy(), true)),
            None => write!(f, "?tls={}", self.tls.name()),
        }?;
        match &self.ca {
            Some(path) => write!(f, "&ca={}", encode_percent(&path.to_string_lossy(), true)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_read_as_people_write_them() {
        for (url, shown) in [
            ("mysql://backup@127.0.0.1:3306", "mysql://backup@127.0.0.1:3306?tls=off"),
            ("mysql://backup@localhost", "mysql://backup@localhost:3306?tls=off"),
            (
                "mysql://backup@db.example.com/",
                "mysql://backup@db.example.com:3306?tls=required",
            ),
            ("mysql://b%40ck@[::1]:4000", "mysql://b%40ck@[::1]:4000?tls=off"),
            (
                "mysql://b@[2001:db8::7]?tls=verify&ca=/a%20b.pem",
                "mysql://b@[2001:db8::7]:3306?tls=verify&ca=/a%20b.pem",
            ),
            (
                "mysql://b@localhost?socket=/run/mysqld.sock",
                "mysql://b@localhost:3306?socket=/run/mysqld.sock",
            ),
            (
                "mysql://b@localhost?ca=/ca.pem",
                "mysql://b@localhost:3306?tls=required&ca=/ca.pem",
            ),
        ] {
            let address: ServerAddress = url.parse().unwrap();
            assert_eq!(address.to_string(), shown, "{url}");
            assert_eq!(shown.parse::<ServerAddress>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (url, named) in [
            ("postgres://a@b", "does not begin with mysql://"),
            ("mysql://localhost", "names no user"),
            ("mysql://@localhost", "names no user"),
            ("mysql://a@", "names no host"),
            ("mysql://a@b:0", "is no port"),
            ("mysql://a@b:99999", "is no port"),
            ("mysql://a@::1", "names no host"),
            ("mysql://a@[::1", "no closing bracket"),
            ("mysql://a@[zz]", "no IPv6 address"),
            ("mysql://a@b/balance", "names a database"),
            ("mysql://a@b?tls=maybe", "none of off, required, verify"),
            ("mysql://a@b?compress=1", "none of socket, tls, ca"),
            ("mysql://a@b?ca=", "has no value"),
            ("mysql://a@b?tls=off&ca=/x", "has no effect"),
            ("mysql://a@b?socket=/x&tls=verify", "private already"),
            ("mysql://a%zz@b", "not percent-encoded"),
        ] {
            let error = url.parse::<ServerAddress>().unwrap_err().to_string();
            assert!(error.contains(named), "{url}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let error = "mysql://backup:hush@localhost".parse::<ServerAddress>().unwrap_err();
        assert!(error.to_string().contains("holds a password"), "{error}");
        assert!(error.hint().unwrap().contains("password = { env"));
        assert!(!format!("{error:?}").contains("hush"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(mysql://)?[a-z%@:\\[\\]/?=&0-9é]{0,40}") {
            let _ = text.parse::<ServerAddress>().is_ok();
        }

        #[test]
        fn any_user_and_socket_survive_the_url(user in "\\PC{1,12}", socket in "/\\PC{1,20}") {
            let address = ServerAddress::local(PathBuf::from(&socket), &user);
            let back: ServerAddress = address.to_string().parse().unwrap();
            prop_assert_eq!(back.user, user);
            prop_assert_eq!(back.socket, Some(PathBuf::from(socket)));
        }
    }
}
