//! Every key of `ballast.toml`, once: the reader, the schema, the reference file and the documentation all follow this
//! list, and tests prove that they do.

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Texts,
    Flag,
    /// A whole number above zero.
    Number,
    /// A number and a unit: `30d`, `1.5s`.
    Duration,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `{ env = … }`, `{ file = … }` or `{ command = … }`; never the secret itself.
    Secret,
    /// A table of further keys, at most once.
    Table,
    /// A table of further keys, as often as wanted.
    Tables,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// The dotted path, such as `source.backup.keep`.
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    pub(crate) default: Option<&'static str>,
    pub(crate) about: &'static str,
}

impl Key {
    /// The table the key is in, and its name there.
    pub(crate) fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}

const fn key(path: &'static str, kind: Kind, about: &'static str) -> Key {
    Key {
        path,
        kind,
        required: false,
        default: None,
        about,
    }
}

const fn required(path: &'static str, kind: Kind, about: &'static str) -> Key {
    Key {
        path,
        kind,
        required: true,
        default: None,
        about,
    }
}

const fn default(path: &'static str, kind: Kind, value: &'static str, about: &'static str) -> Key {
    Key {
        path,
        kind,
        required: false,
        default: Some(value),
        about,
    }
}

pub(crate) const SOURCE_KINDS: &[&str] = &["mysql", "redis"];
pub(crate) const ENGINES: [&str; 4] = ["auto", "physical", "logical", "external"];

/// In the order in which people meet them.
pub(crate) const KEYS: &[Key] = &[
    default(
        "time_zone",
        Kind::Text,
        "UTC",
        "IANA time zone of schedules and of moments written without an offset",
    ),
    required(
        "repository",
        Kind::Tables,
        "an encrypted repository; every backup goes to each of them",
    ),
    required(
        "repository.name",
        Kind::Text,
        "its name in messages and on the command line",
    ),
    required(
        "repository.url",
        Kind::Text,
        "file:///absolute/path, s3://bucket/prefix or oss://bucket/prefix",
    ),
    key(
        "repository.endpoint",
        Kind::Text,
        "address of the object store's API, https unless insecure = true",
    ),
    key("repository.region", Kind::Text, "region the bucket is in"),
    key(
        "repository.access_key",
        Kind::Secret,
        "access key id of the object store",
    ),
    key(
        "repository.secret_key",
        Kind::Secret,
        "secret access key of the object store",
    ),
    key(
        "repository.session_token",
        Kind::Secret,
        "session token of temporary credentials",
    ),
    key(
        "repository.ca_file",
        Kind::Text,
        "PEM file with the authorities to trust instead of the machine's own",
    ),
    default(
        "repository.insecure",
        Kind::Flag,
        "false",
        "allow an endpoint with plain http",
    ),
    required(
        "key",
        Kind::Table,
        "what opens the repositories: a passphrase or a key file, exactly one",
    ),
    key("key.passphrase", Kind::Secret, "a passphrase"),
    key(
        "key.key_file",
        Kind::Secret,
        "the content of a key file, at least 32 bytes of text",
    ),
    key(
        "objectives",
        Kind::Table,
        "what is promised to the business; status measures against it",
    ),
    default(
        "objectives.rpo",
        Kind::Duration,
        "1h",
        "how much may be lost: the recovery point objective",
    ),
    default(
        "objectives.rto",
        Kind::Duration,
        "4h",
        "how long a restore may take: the recovery time objective",
    ),
    key(
        "spool",
        Kind::Table,
        "where a log that is followed is kept until every repository has it",
    ),
    default(
        "spool.path",
        Kind::Text,
        "/var/lib/ballast/spool",
        "a folder of this machine, on a disk that keeps what it was told to; encrypted, readable by its owner only",
    ),
    default(
        "spool.limit",
        Kind::Text,
        "8GiB",
        "how much of each source may wait there; beyond it, the log is read no further",
    ),
    key("source", Kind::Tables, "a server that is protected"),
    required(
        "source.name",
        Kind::Text,
        "its name in messages and on the command line",
    ),
    required(
        "source.kind",
        Kind::Choice(SOURCE_KINDS),
        "mysql (MySQL, Percona Server, MariaDB) or redis (Redis, Valkey)",
    ),
    required(
        "source.url",
        Kind::Text,
        "mysql://user@host:port or redis://host:port, with ?socket=, ?tls= and ?ca= but no password",
    ),
    key("source.password", Kind::Secret, "the password of the url's user"),
    key(
        "source.databases",
        Kind::Texts,
        "databases to back up; all but the server's own if absent",
    ),
    key(
        "source.expect",
        Kind::Texts,
        "tables that must be in a backup for it to be good, such as shop.orders_{0..119}",
    ),
    default(
        "source.engine",
        Kind::Choice(&ENGINES),
        "auto",
        "how a backup is taken; of a Redis auto (a snapshot) or logical (keys one by one, not of one moment)",
    ),
    key(
        "source.tool",
        Kind::Text,
        "the backup tool of engine external: path of mariadb-backup or xtrabackup; found in PATH if absent",
    ),
    key(
        "source.backup",
        Kind::Table,
        "when backups are taken and how long they are kept",
    ),
    key(
        "source.backup.schedule",
        Kind::Text,
        "five cron fields, in time_zone; on demand only if absent",
    ),
    key(
        "source.backup.keep",
        Kind::Duration,
        "how long backups are kept; for ever if absent",
    ),
    key("source.limit", Kind::Table, "how much a backup may ask of the server"),
    key(
        "source.limit.rate",
        Kind::Text,
        "bytes a second that are read, such as 50MiB/s",
    ),
    key(
        "source.limit.threads_running",
        Kind::Number,
        "reading of rows pauses while more than so many threads of others run",
    ),
    key(
        "source.limit.lag",
        Kind::Duration,
        "reading of rows pauses while the server, a replica, is further behind",
    ),
    key("source.log", Kind::Table, "the binlog or the replication stream"),
    default("source.log.follow", Kind::Flag, "false", "record the log all the time"),
    default("source.log.keep", Kind::Duration, "7d", "how long the log is kept"),
    default(
        "source.log.semi_sync",
        Kind::Flag,
        "false",
        "acknowledge transactions once they are durable here (mysql)",
    ),
    default(
        "source.log.seal_after",
        Kind::Duration,
        "1s",
        "how soon a piece of log is closed and uploaded",
    ),
    key("group", Kind::Tables, "sources that share one recovery point"),
    required("group.name", Kind::Text, "its name in messages and on the command line"),
    required(
        "group.sources",
        Kind::Texts,
        "names of its sources, in the order in which they are restored",
    ),
];

/// The keys directly in the table `path`; the top of the file is `""`.
pub(crate) fn keys_in(path: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.split().0 == path)
}
