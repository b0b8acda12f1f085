//! The addresses in the configuration: right scheme, all parts there, and no password in them.
//!
//! A message never repeats an address: it may hold a password until it was found to hold none.

use url::Url;

use super::reader::{Found, Problem, Section, nearest};

/// What may follow the `?` of a source's address.
const SOURCE_OPTIONS: &[&str] = &["socket", "tls", "ca"];
const TLS_MODES: &[&str] = &["off", "required", "verify"];

/// The schemes of a repository's address.
const REPOSITORY_SCHEMES: &[&str] = &["file", "s3", "oss"];

fn parse(text: &str, example: &str, secret: &str) -> Result<Url, Problem> {
    let url = Url::parse(text).map_err(|error| Problem::new(format!("is not an address: {error}")).hint(example))?;
    if url.password().is_some() {
        return Err(
            Problem::new("has a password in it, which anybody who sees the file or its output could read").hint(
                format!("take it out of the address and say where it is kept: {secret} = {{ env = \"NAME\" }}"),
            ),
        );
    }
    Ok(url)
}

/// An address of a repository.
pub(crate) fn check_repository(text: &str) -> Result<(), Problem> {
    let url = parse(
        text,
        "file:///var/backups/ballast, s3://bucket/prefix or oss://bucket/prefix",
        "secret_key",
    )?;
    let scheme = url.scheme();
    if !REPOSITORY_SCHEMES.contains(&scheme) {
        let hint = nearest(scheme, REPOSITORY_SCHEMES.iter().copied()).map_or_else(
            || "one of file, s3 and oss".to_owned(),
            |known| format!("did you mean \"{known}://\"?"),
        );
        return Err(Problem::new(format!("has the unknown scheme \"{scheme}\"")).hint(hint));
    }
    if !url.username().is_empty() {
        return Err(Problem::new("has a user in it")
            .hint("access_key = { env = \"NAME\" } and secret_key = { env = \"NAME\" }"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Problem::new("ends in options, which this address has none of"));
    }
    let host = url.host_str().unwrap_or("");
    match scheme {
        "file" if !host.is_empty() || !text.starts_with("file:///") || url.path().len() < 2 || text.contains("/..") => {
            Err(Problem::new("must be a folder by its absolute path")
                .hint("file:///var/backups/ballast, with three slashes"))
        }
        "s3" | "oss" if host.is_empty() => {
            Err(Problem::new("names no bucket").hint(format!("{scheme}://bucket/prefix")))
        }
        _ => Ok(()),
    }
}

/// The address of an object store's API.
pub(crate) fn check_endpoint(text: &str, insecure: bool) -> Result<(), Problem> {
    let url = parse(text, "https://s3.example.com", "secret_key")?;
    match url.scheme() {
        "https" => Ok(()),
        "http" if insecure => Ok(()),
        "http" => Err(Problem::new(
            "is plain http: everybody on the way could read names and sizes and change what is stored",
        )
        .hint("use https://, or write insecure = true in this [[repository]]")),
        scheme => Err(Problem::new(format!("has the unknown scheme \"{scheme}\"")).hint("https://s3.example.com")),
    }
}

/// The address of a source of `kind`.
pub(crate) fn check_source(section: &Section<'_>, kind: &str, address: &Found<String>) {
    if let Err(problem) = source_problem(kind, &address.value) {
        section.mistake(address.at, format!("\"url\" {}", problem.message), problem.hint);
    }
}

fn source_problem(kind: &str, text: &str) -> Result<(), Problem> {
    let (schemes, example): (&[&str], _) = match kind {
        "mysql" => (&["mysql"], "mysql://backup@127.0.0.1:3306"),
        _ => (&["redis", "rediss"], "redis://127.0.0.1:6379"),
    };
    let url = parse(text, example, "password")?;
    if !schemes.contains(&url.scheme()) {
        return Err(Problem::new(format!("has the scheme \"{}\", but kind is \"{kind}\"", url.scheme())).hint(example));
    }
    let (mut socket, mut ca, mut off) = (false, false, None);
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "socket" | "ca" if value.is_empty() => return Err(Problem::new(format!("gives no path after {name}="))),
            "socket" => socket = true,
            "ca" => ca = true,
            "tls" if TLS_MODES.contains(&value.as_ref()) => off = Some(value == "off"),
            "tls" => {
                return Err(
                    Problem::new("has an unknown tls mode").hint("one of ?tls=off, ?tls=required and ?tls=verify")
                );
            }
            other => {
                let hint = nearest(other, SOURCE_OPTIONS.iter().copied()).map_or_else(
                    || format!("it knows {}", SOURCE_OPTIONS.join(", ")),
                    |known| format!("did you mean \"{known}\"?"),
                );
                return Err(Problem::new(format!("has the unknown option \"{other}\"")).hint(hint));
            }
        }
    }
    if socket && off == Some(false) {
        return Err(Problem::new("asks for tls on a Unix socket, which is private already").hint("leave tls out"));
    }
    if ca && off == Some(true) {
        return Err(Problem::new("names a ca and turns tls off").hint("leave one of them out"));
    }
    if url.host_str().unwrap_or("").is_empty() && !socket {
        return Err(Problem::new("names no host").hint(example));
    }
    if !matches!(url.path(), "" | "/") {
        let hint = if kind == "mysql" {
            "databases = [\"NAME\"]"
        } else {
            "a backup holds all databases of a server"
        };
        return Err(Problem::new("names a database").hint(hint));
    }
    if kind == "mysql" && url.username().is_empty() {
        return Err(Problem::new("names no user").hint(example));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_the_contract_are_taken() {
        for text in [
            "file:///var/backups/balance",
            "s3://balance-backup/prod",
            "s3://bucket",
            "oss://bucket/prefix",
        ] {
            assert!(check_repository(text).is_ok(), "{text}");
        }
        for (kind, text) in [
            ("mysql", "mysql://backup@127.0.0.1:3306"),
            ("mysql", "mysql://backup@db?tls=verify&ca=/etc/ca.pem"),
            ("mysql", "mysql://backup@localhost?socket=/run/mysqld/mysqld.sock"),
            ("mysql", "mysql://backup@[::1]:3306/"),
            ("redis", "redis://127.0.0.1:6379"),
            ("redis", "rediss://user@cache:6380"),
        ] {
            assert!(source_problem(kind, text).is_ok(), "{kind} {text}");
        }
    }

    #[test]
    fn a_wrong_address_is_explained_and_never_repeated() {
        for text in [
            "file:///tide/../x",
            "file://relative",
            "file:/x",
            "s3:///prefix",
            "ftp://tide/x",
            "s3://user@bucket",
            "s3://k:tide@b",
            "s3://b?x=tide",
            "tide",
        ] {
            let problem = check_repository(text).unwrap_err();
            assert!(!problem.message.contains("tide"), "{text}: {}", problem.message);
        }
        for (kind, text) in [
            ("mysql", "mysql://root:tide@127.0.0.1"),
            ("mysql", "mysql://root@db?password=tide"),
            ("mysql", "mysql://root@db?tls=tide"),
            ("mysql", "mysql://db"),
            ("mysql", "mysql://root@h?socket=/tide&tls=verify"),
            ("mysql", "mysql://root@h?ca=/tide&tls=off"),
            ("mysql", "mysql://root@db/tide"),
            ("mysql", "redis://db"),
            ("redis", "redis://:tide@db"),
            ("redis", "redis://db/3"),
            ("redis", "tide"),
        ] {
            let problem = source_problem(kind, text).unwrap_err();
            assert!(!problem.message.contains("tide"), "{text}: {}", problem.message);
        }
        assert!(check_endpoint("http://store", false).is_err() && check_endpoint("http://store", true).is_ok());
        assert!(check_endpoint("https://store:9000", false).is_ok() && check_endpoint("store:9000", true).is_err());
    }
}
