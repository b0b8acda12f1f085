//! Where a server is and how to talk to it: `redis://user@host:port/db?socket=PATH&tls=MODE&ca=PATH`, or `rediss://…` for TLS.
//!
//! A password in the URL is refused: URLs end up in logs, process lists and shell histories.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ballast_base::{Secret, TlsMode, Transport};

use crate::RedisError;

const DEFAULT_PORT: u16 = 6379;
/// Servers allow a few databases by default, and any number by their configuration; an index is a whole number below this.
const DATABASES_MAX: u32 = 1 << 31;
const EXAMPLE: &str = "an address looks like redis://host:6379?tls=verify&ca=/path/ca.pem, rediss://user@host or redis://localhost?socket=/run/redis/redis.sock";

/// One server and one account on it.
#[derive(Debug, Clone)]
pub struct ServerAddress {
    /// A name or an IP address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
    /// When given, the host and port are not used.
    pub socket: Option<PathBuf>,
    /// The account; without it the password is that of the default account.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// The database that commands are for. A backup takes all of them.
    pub database: u32,
    pub tls: TlsMode,
    /// The authority's certificates, in PEM form.
    pub ca: Option<PathBuf>,
}

impl ServerAddress {
    /// A server of this machine, by its Unix socket.
    pub fn local(socket: PathBuf) -> Self {
        Self {
            host: "localhost".to_owned(),
            port: DEFAULT_PORT,
            socket: Some(socket),
            user: None,
            password: None,
            database: 0,
            tls: TlsMode::Off,
            ca: None,
        }
    }

    #[must_use]
    pub fn with_password(mut self, password: Secret) -> Self {
        self.password = Some(password);
        self
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Transport>, RedisError> {
        let connected = ballast_base::connect(&self.host, self.port, self.socket.as_deref()).await;
        connected.map_err(|source| RedisError::Unreachable {
            address: self.place(),
            source,
        })
    }

    /// The caller limits how long it may take.
    pub(crate) async fn encrypt(&self, transport: Box<dyn Transport>) -> Result<Box<dyn Transport>, RedisError> {
        let encrypted = ballast_base::encrypt(transport, &self.host, self.tls, self.ca.as_deref()).await;
        encrypted.map_err(|error| RedisError::tls(self, error))
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

fn wrong(detail: impl Into<String>) -> RedisError {
    RedisError::Address {
        detail: detail.into(),
        hint: EXAMPLE.to_owned(),
    }
}

impl FromStr for ServerAddress {
    type Err = RedisError;

    fn from_str(url: &str) -> Result<Self, RedisError> {
        let (rest, encrypted) = match (url.strip_prefix("redis://"), url.strip_prefix("rediss://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => return Err(wrong("it begins neither with redis:// nor with rediss://")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match path {
            "" => 0,
            number => number
                .parse()
                .ok()
                .filter(|number| *number < DATABASES_MAX)
                .ok_or_else(|| wrong(format!("\"{number}\" is no number of a database")))?,
        };
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(RedisError::Address {
                detail: "it holds a password, which does not belong into a URL".to_owned(),
                hint: "take it out of the URL and give it by itself, such as password = { env = \"NAME\" } or { file = \"PATH\" }"
                    .to_owned(),
            });
        }
        let user = user.map(decode_percent).transpose()?;
        if user.as_deref() == Some("") {
            return Err(wrong("it has an @ and names no user"));
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
        if encrypted && tls == Some(TlsMode::Off) {
            return Err(wrong("rediss:// means TLS, and tls=off means none"));
        }
        if encrypted && socket.is_some() {
            return Err(wrong("a Unix socket is private already; write redis://"));
        }
        if ca.is_some() && tls == Some(TlsMode::Off) {
            return Err(wrong("a ca without tls has no effect"));
        }
        let here = socket.is_some() || is_this_machine(&host);
        let default = match (encrypted, here && ca.is_none()) {
            (true, _) => TlsMode::Verify,
            (false, true) => TlsMode::Off,
            (false, false) => TlsMode::Required,
        };
        Ok(Self {
            host,
            port,
            socket,
            user,
            password: None,
            database,
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

fn split_host(place: &str) -> Result<(String, u16), RedisError> {
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

fn decode_percent(text: &str) -> Result<String, RedisError> {
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
        write!(f, "redis://")?;
        if let Some(user) = &self.user {
            write!(f, "{}@", encode_percent(user, false))?;
        }
        write!(f, "{host}:{}", self.port)?;
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
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
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379?tls=off"),
            ("redis://localhost", "redis://localhost:6379?tls=off"),
            (
                "redis://cache.example.com/",
                "redis://cache.example.com:6379?tls=required",
            ),
            (
                "redis://cache.example.com?tls=off",
                "redis://cache.example.com:6379?tls=off",
            ),
            ("redis://b%40ck@[::1]:4000/3", "redis://b%40ck@[::1]:4000/3?tls=off"),
            (
                "rediss://b@[2001:db8::7]?ca=/a%20b.pem",
                "redis://b@[2001:db8::7]:6379?tls=verify&ca=/a%20b.pem",
            ),
            ("rediss://localhost?tls=required", "redis://localhost:6379?tls=required"),
            (
                "redis://localhost?socket=/run/redis.sock",
                "redis://localhost:6379?socket=/run/redis.sock",
            ),
            (
                "redis://localhost?ca=/ca.pem",
                "redis://localhost:6379?tls=required&ca=/ca.pem",
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
            ("mysql://a@b", "neither with redis:// nor"),
            ("redis://@localhost", "names no user"),
            ("redis://", "names no host"),
            ("redis://b:0", "is no port"),
            ("redis://b:99999", "is no port"),
            ("redis://::1", "names no host"),
            ("redis://[::1", "no closing bracket"),
            ("redis://[zz]", "no IPv6 address"),
            ("redis://b/balance", "no number of a database"),
            ("redis://b/-1", "no number of a database"),
            ("redis://b?tls=maybe", "none of off, required, verify"),
            ("redis://b?compress=1", "none of socket, tls, ca"),
            ("redis://b?ca=", "has no value"),
            ("redis://b?tls=off&ca=/x", "has no effect"),
            ("redis://b?socket=/x&tls=verify", "private already"),
            ("rediss://b?socket=/x", "private already"),
            ("rediss://b?tls=off", "means TLS"),
            ("redis://a%zz@b", "not percent-encoded"),
        ] {
            let error = url.parse::<ServerAddress>().unwrap_err().to_string();
            assert!(error.contains(named), "{url}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        for url in ["redis://backup:hush@localhost", "redis://:hush@localhost"] {
            let error = url.parse::<ServerAddress>().unwrap_err();
            assert!(error.to_string().contains("holds a password"), "{error}");
            assert!(error.hint().unwrap().contains("password = { env"));
            assert!(!format!("{error:?}").contains("hush"));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(rediss?://)?[a-z%@:\\[\\]/?=&0-9é]{0,40}") {
            let _ = text.parse::<ServerAddress>().is_ok();
        }

        #[test]
        fn any_user_and_socket_survive_the_url(user in "\\PC{1,12}", socket in "/\\PC{1,20}") {
            let mut address = ServerAddress::local(PathBuf::from(&socket));
            address.user = Some(user.clone());
            let back: ServerAddress = address.to_string().parse().unwrap();
            prop_assert_eq!(back.user, Some(user));
            prop_assert_eq!(back.socket, Some(PathBuf::from(socket)));
        }
    }
}
