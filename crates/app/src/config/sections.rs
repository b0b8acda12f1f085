//! Each table of the file, read and checked: on its own and against the others.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ballast_base::{SecretRef, format_bytes, parse_bytes};
use ballast_protect::{Engine, Limit, LogSettings, SourceKind, SpoolSettings, TablePattern};
use jiff::tz::TimeZone;
use toml::de::DeTable;

use super::reader::{Found, Mistake, Problem, Report, Section, nearest};
use super::{Config, KeyRef, Objectives, Repository, Source, address, cron};

/// The keys of a repository that only an object store has.
const STORE_KEYS: [&str; 7] = [
    "endpoint",
    "region",
    "access_key",
    "secret_key",
    "session_token",
    "ca_file",
    "insecure",
];
/// The keys of a source that only MySQL has.
const MYSQL_KEYS: [&str; 4] = ["databases", "expect", "tool", "limit"];
const FOR_MYSQL: &str = "is for sources of kind \"mysql\"";

/// Reads the whole text. `file` is where it came from: paths in it count from that folder.
pub(crate) fn read(file: &Path, text: &str) -> Result<Config, Vec<Mistake>> {
    let report = Report::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        report.mistake(error.span().map_or(0, |span| span.start), error.message().trim(), None);
    }
    // What could not be parsed would only lead to mistakes that nobody made.
    if !errors.is_empty() {
        return Err(report.finish().err().unwrap_or_default());
    }
    let folder = std::path::absolute(file)
        .ok()
        .and_then(|file| file.parent().map(Path::to_owned))
        .unwrap_or_default();
    let draft = Draft {
        folder,
        ..Draft::default()
    };
    let table = table.into_inner();
    draft.read(&Section::top(&report, &table));
    let values = report.finish()?;
    let key = draft.key.into_inner().ok_or_else(Vec::new)?;
    Ok(Config {
        file: file.to_owned(),
        repositories: draft.repositories.into_inner(),
        key,
        objectives: draft.objectives.into_inner(),
        spool: draft.spool.into_inner(),
        sources: draft.sources.into_inner(),
        values,
    })
}

/// What was read so far. Incomplete whenever there are mistakes.
#[derive(Debug, Default)]
struct Draft {
    folder: PathBuf,
    repositories: RefCell<Vec<Repository>>,
    key: RefCell<Option<KeyRef>>,
    objectives: RefCell<Objectives>,
    spool: RefCell<SpoolSettings>,
    sources: RefCell<Vec<Source>>,
    names: RefCell<BTreeSet<(&'static str, String)>>,
}

impl Default for Objectives {
    fn default() -> Self {
        Self {
            rpo: Duration::ZERO,
            rto: Duration::ZERO,
        }
    }
}

impl Draft {
    fn read(&self, top: &Section<'_>) {
        top.checked("time_zone", |name| {
            TimeZone::get(name)
                .map(drop)
                .map_err(|_| Problem::new("is not a time zone").hint("a name such as \"UTC\" or \"Asia/Shanghai\""))
        });
        top.sections("repository", |section| self.repository(section));
        top.section("key", |section| self.key(section));
        top.section("objectives", |section| self.objectives(section));
        top.section("spool", |section| self.spool(section));
        top.sections("source", |section| self.source(section));
        top.sections("group", |section| self.group(section));
        top.finish();
    }

    /// A name: well formed and, among its kind, used once.
    fn name(&self, section: &Section<'_>, kind: &'static str) -> Option<String> {
        let name = section.checked("name", |name| {
            let fine = !name.is_empty()
                && name
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
            let problem = || Problem::new("has characters a name must not have").hint("a to z, 0 to 9, _ and -");
            if fine { Ok(()) } else { Err(problem()) }
        })?;
        if !self.names.borrow_mut().insert((kind, name.value.clone())) {
            section.mistake(
                name.at,
                format!("there are two of the name \"{}\" in [[{kind}]]", name.value),
                None,
            );
        }
        Some(name.value)
    }

    /// A path as written in the file, from the file's folder.
    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.join(path)
    }

    fn secret(&self, section: &Section<'_>, name: &str) -> Option<SecretRef> {
        Some(match section.secret(name)?.value {
            SecretRef::File(path) => SecretRef::File(self.path(path)),
            other => other,
        })
    }

    fn repository(&self, section: &Section<'_>) {
        let name = self.name(section, "repository");
        let url = section.checked("url", address::check_repository);
        let mut repository = Repository::default();
        if url.as_ref().is_some_and(|url| url.value.starts_with("file:")) {
            section.foreign(&STORE_KEYS, "is for object stores; a folder has none");
        } else {
            self.store(section, &mut repository);
        }
        let (Some(name), Some(url)) = (name, url) else {
            return;
        };
        let same = |other: &&Repository| other.url == url.value && other.endpoint == repository.endpoint;
        if let Some(twin) = self.repositories.borrow().iter().find(same) {
            let message = format!("\"url\" is the place of repository \"{}\" already", twin.name);
            section.mistake(url.at, message, None);
        }
        (repository.name, repository.url) = (name, url.value);
        self.repositories.borrow_mut().push(repository);
    }

    fn store(&self, section: &Section<'_>, repository: &mut Repository) {
        let insecure = section.flag("insecure").is_some_and(|flag| flag.value);
        let endpoint = section.checked("endpoint", |text| address::check_endpoint(text, insecure));
        repository.insecure = insecure;
        repository.endpoint = endpoint.map(|found| found.value);
        repository.region = section.text("region").map(|found| found.value);
        repository.access_key = self.secret(section, "access_key");
        repository.secret_key = self.secret(section, "secret_key");
        repository.session_token = self.secret(section, "session_token");
        repository.ca_file = section.text("ca_file").map(|found| self.path(found.value));
        for (one, other) in [("access_key", "secret_key"), ("secret_key", "access_key")] {
            if let (Some(place), None) = (section.given(one), section.given(other)) {
                section.mistake(place, format!("\"{one}\" needs \"{other}\" beside it"), None);
            }
        }
    }

    fn key(&self, section: &Section<'_>) {
        let given = (section.given("passphrase"), section.given("key_file"));
        let passphrase = self.secret(section, "passphrase").map(KeyRef::Passphrase);
        let key_file = self.secret(section, "key_file").map(KeyRef::KeyFile);
        let forms = || Some("passphrase = { file = \"/etc/ballast/passphrase\" }".to_owned());
        match given {
            (None, None) => section.mistake(section.at(), "[key] needs \"passphrase\" or \"key_file\"", forms()),
            (Some(_), Some(at)) => {
                section.mistake(at, "[key] has both \"passphrase\" and \"key_file\"; keep one", None);
            }
            _ => *self.key.borrow_mut() = passphrase.or(key_file),
        }
    }

    fn objectives(&self, section: &Section<'_>) {
        let rpo = section.duration("rpo");
        let rto = section.duration("rto");
        if let (Some(rpo), Some(rto)) = (rpo, rto) {
            *self.objectives.borrow_mut() = Objectives {
                rpo: rpo.value,
                rto: rto.value,
            };
        }
    }

    fn spool(&self, section: &Section<'_>) {
        let path = section.text("path").map(|found| self.path(found.value));
        let limit = section.checked("limit", |text| match parse_bytes(text) {
            Some(bytes) if bytes >= SpoolSettings::LIMIT_MIN => Ok(()),
            Some(_) => {
                let least = format_bytes(SpoolSettings::LIMIT_MIN);
                Err(Problem::new(format!("is less than {least}, which is soon full")))
            }
            None => Err(Problem::new("is no size").hint("a number and a unit: \"8GiB\"")),
        });
        let limit = limit.and_then(|found| parse_bytes(&found.value));
        if let (Some(path), Some(limit)) = (path, limit) {
            *self.spool.borrow_mut() = SpoolSettings { path, limit };
        }
    }

    fn source(&self, section: &Section<'_>) {
        let name = self.name(section, "source");
        let kind = section.choice("kind");
        let url = section.text("url");
        if let (Some(kind), Some(url)) = (&kind, &url) {
            address::check_source(section, kind.value, url);
        }
        let password = self.secret(section, "password");
        let redis = kind.as_ref().is_some_and(|kind| kind.value == "redis");
        let (databases, expect, engine) = if redis {
            section.foreign(&MYSQL_KEYS, FOR_MYSQL);
            (Vec::new(), Vec::new(), redis_engine(section))
        } else {
            mysql_options(section)
        };
        let tool = section.text("tool").map(|found| self.path(found.value));
        let limit = if redis { Limit::default() } else { limit(section) };
        section.section("backup", |backup| {
            backup.checked("schedule", cron::check);
            backup.duration("keep");
        });
        let mut log = LogSettings::default();
        section.section("log", |section| {
            log.follow = section.flag("follow").is_some_and(|flag| flag.value);
            section.duration("keep");
            if let Some(seal_after) = section.duration("seal_after") {
                log.seal_after = seal_after.value;
            }
            if redis {
                section.foreign(&["semi_sync"], FOR_MYSQL);
            } else {
                log.semi_sync = section.flag("semi_sync").is_some_and(|flag| flag.value);
            }
        });
        if let (Some(name), Some(url)) = (name, url) {
            let kind = if redis { SourceKind::Redis } else { SourceKind::Mysql };
            let source = Source {
                name,
                kind,
                url: url.value,
                password,
                databases,
                expect,
                engine,
                tool,
                limit,
                log,
            };
            self.sources.borrow_mut().push(source);
        }
    }

    fn group(&self, section: &Section<'_>) {
        self.name(section, "group");
        let names = section.texts("sources");
        if section.given("sources").is_some() && names.is_empty() {
            section.mistake(section.at(), "a group needs at least one source", None);
        }
        let mut seen = BTreeSet::new();
        let known = self.names.borrow();
        let sources = || {
            known
                .iter()
                .filter(|(kind, _)| *kind == "source")
                .map(|(_, name)| name.as_str())
        };
        for Found { value, at } in names {
            if !sources().any(|source| source == value) {
                let hint = nearest(&value, sources());
                let hint = hint.map(|known| format!("did you mean \"{known}\"?"));
                section.mistake(at, format!("there is no source \"{value}\""), hint);
            } else if !seen.insert(value.clone()) {
                section.mistake(at, format!("source \"{value}\" is in the group twice"), None);
            }
        }
    }
}

/// What only a MySQL source has: its databases, the tables expected in them, and the engine.
fn mysql_options(section: &Section<'_>) -> (Vec<String>, Vec<TablePattern>, Engine) {
    let databases: Vec<String> = section
        .texts("databases")
        .into_iter()
        .map(|found| found.value)
        .collect();
    let mut expect = Vec::new();
    for Found { value, at } in section.texts("expect") {
        match TablePattern::parse(&value) {
            Ok(pattern) => expect.push(pattern),
            Err(error) => {
                section.mistake(
                    at,
                    error.to_string(),
                    Some("balance.orders_{0..119}, shop.*_log".to_owned()),
                );
            }
        }
        let database = value.split_once('.').map_or("", |(database, _)| database);
        let plain = !database.is_empty() && !database.contains(['{', '*', '?']);
        if plain && !databases.is_empty() && !databases.iter().any(|known| known == database) {
            section.mistake(
                at,
                format!("table pattern \"{value}\" is of no database in \"databases\""),
                None,
            );
        }
    }
    let engine = section
        .choice("engine")
        .map(|found| engine_of(found.value))
        .unwrap_or_default();
    (databases, expect, engine)
}

/// A Redis gives a snapshot, or its keys one by one.
fn redis_engine(section: &Section<'_>) -> Engine {
    let Some(Found { value, at }) = section.choice("engine") else {
        return Engine::default();
    };
    let engine = engine_of(value);
    if matches!(engine, Engine::Physical | Engine::External) {
        section.mistake(
            at,
            format!("a Redis has no engine \"{value}\""),
            Some("auto (a snapshot) or logical (keys one by one, not of one moment)".to_owned()),
        );
    }
    engine
}

/// How much a backup may ask of the server.
fn limit(section: &Section<'_>) -> Limit {
    let mut limit = Limit::default();
    section.section("limit", |section| {
        let check = |text: &str| match rate_of(text) {
            Some(rate) if rate >= Limit::RATE_MIN => Ok(()),
            Some(_) => {
                let least = format_bytes(Limit::RATE_MIN);
                Err(Problem::new(format!(
                    "is less than {least} a second, at which a server gives up"
                )))
            }
            None => Err(Problem::new("is no rate").hint("a size for each second: \"50MiB/s\"")),
        };
        let rate = section.checked("rate", check);
        limit.rate = rate.and_then(|found| rate_of(&found.value));
        limit.threads_running = section.number("threads_running").map(|found| found.value);
        limit.lag = section.duration("lag").map(|found| found.value);
    });
    limit
}

fn rate_of(text: &str) -> Option<u64> {
    parse_bytes(text.trim().strip_suffix("/s")?)
}

/// The engine of that word; the list of keys lets no other word through.
pub(crate) fn engine_of(word: &str) -> Engine {
    match word {
        "physical" => Engine::Physical,
        "logical" => Engine::Logical,
        "external" => Engine::External,
        _ => Engine::Auto,
    }
}
