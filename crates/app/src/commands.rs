//! One verb, one file. Here: from the arguments to the verb, and what every verb starts with.

mod archive;
mod backup;
mod completions;
mod config;
mod copy;
mod doctor;
mod init;
mod list;
mod load_redis;
mod log;
mod restore;
mod restore_redis;
mod status;
mod timeline;
mod verify;

use std::sync::Arc;

use ballast_base::{Cancel, Clock, SystemClock};
use ballast_protect::{BackupState, Context, LostRepository, ProtectError, RepositorySettings, Severity, Vault};
use clap::Parser as _;
use jiff::Timestamp;

use crate::cli::{Cli, Global, Verb};
use crate::config::Config;
use crate::config::settings::SecretFailure;
use crate::exit::{AppError, DONE, PARTIAL};
use crate::output::Output;
use crate::progress::Show;

type Result<T> = std::result::Result<T, AppError>;

/// The arguments; `None` when they only asked for help or the version, which is printed then.
pub(crate) fn parse(output: &Output) -> Result<Option<Cli>> {
    match Cli::try_parse() {
        Ok(cli) => Ok(Some(cli)),
        Err(told) if !told.use_stderr() => output.data(&told.render().to_string()).map(|()| None),
        Err(wrong) => Err(AppError::Arguments(wrong)),
    }
}

/// Runs the verb and gives the exit code.
pub(crate) async fn run(cli: Cli, output: Output, cancel: Cancel) -> Result<u8> {
    let run = Run::new(cli.global, prints_lines(&cli.verb), output, cancel);
    match cli.verb {
        Verb::Init => Box::pin(init::run(&run)).await,
        Verb::Doctor(args) => Box::pin(doctor::run(&run, &args)).await,
        Verb::Backup(args) => Box::pin(backup::run(&run, &args)).await,
        Verb::Archive(args) => Box::pin(archive::run(&run, &args)).await,
        Verb::List(args) => Box::pin(list::run(&run, &args)).await,
        Verb::Timeline(args) => Box::pin(timeline::run(&run, &args)).await,
        Verb::Verify(args) => Box::pin(verify::run(&run, args)).await,
        Verb::Restore(args) => Box::pin(restore::run(&run, *args)).await,
        Verb::Copy(args) => Box::pin(copy::run(&run, &args)).await,
        Verb::Status => Box::pin(status::run(&run)).await,
        Verb::Log(verb) => Box::pin(log::run(&run, verb)).await,
        Verb::Config(verb) => config::run(&run, verb),
        Verb::Completions(args) => completions::run(&run, args.shell),
    }
}

/// Whether the verb's JSON is one object a line; the others print a single object.
fn prints_lines(verb: &Verb) -> bool {
    match verb {
        Verb::Doctor(_) | Verb::Backup(_) | Verb::Archive(_) | Verb::Verify(_) | Verb::Restore(_) | Verb::Copy(_) => {
            true
        }
        Verb::Init
        | Verb::List(_)
        | Verb::Timeline(_)
        | Verb::Log(_)
        | Verb::Status
        | Verb::Config(_)
        | Verb::Completions(_) => false,
    }
}

/// What every verb has at hand.
#[derive(Debug)]
struct Run {
    global: Global,
    output: Output,
    context: Context,
}

impl Run {
    fn new(global: Global, lines: bool, output: Output, cancel: Cancel) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let observer = Arc::new(Show::new(output.clone(), &global, lines, Arc::clone(&clock)));
        Self {
            global,
            output,
            context: Context {
                clock,
                cancel,
                observer,
            },
        }
    }

    fn config(&self) -> Result<Config> {
        Ok(Config::load(self.global.config.as_deref())?)
    }

    /// Reads secrets; a command that gives one may take its time, so this too ends when the run is interrupted.
    async fn secrets<T>(&self, read: impl Future<Output = std::result::Result<T, SecretFailure>>) -> Result<T> {
        let read = self.context.cancel.race(read).await.map_err(ProtectError::from)?;
        Ok(read?)
    }

    /// Opens the repositories of the configuration; those that are out of reach are told of.
    async fn open(&self, config: &Config) -> Result<Vault> {
        let settings = self.secrets(config.repository_settings()).await?;
        self.open_those(config, &settings).await
    }

    /// Opens one repository. The others may be away, locked or somebody else's: nothing of theirs is asked for, secrets included.
    async fn open_only(&self, config: &Config, name: &str) -> Result<Vault> {
        let settings = self.secrets(config.repository(name)?.settings()).await?;
        self.open_those(config, &[settings]).await
    }

    /// Opens the two repositories of a copy; with `mend`, what opens the second is brought back if it is missing or damaged.
    async fn open_pair(&self, config: &Config, from: &str, to: &str, mend: bool) -> Result<Vault> {
        let from = self.secrets(config.repository(from)?.settings()).await?;
        let to = self.secrets(config.repository(to)?.settings()).await?;
        let key = self.secrets(config.key.material()).await?;
        Ok(Vault::open_pair(&self.context, &from, &to, &key, mend).await?)
    }

    /// Opens what can be opened, for work that needs only one of them: a secret that cannot be read costs its own repository.
    async fn open_some(&self, config: &Config) -> Result<Vault> {
        let (mut settings, mut unread) = (Vec::new(), None);
        for repository in &config.repositories {
            match self.secrets(repository.settings()).await {
                Ok(read) => settings.push(read),
                Err(AppError::Secret(failure)) => {
                    let message = format!(
                        "repository \"{}\" is left out: {failure}: {}",
                        repository.name, failure.source
                    );
                    self.output.warn(&message, None);
                    unread.get_or_insert(failure);
                }
                Err(error) => return Err(error),
            }
        }
        match unread {
            Some(failure) if settings.is_empty() => Err(failure.into()),
            _ => self.open_those(config, &settings).await,
        }
    }

    async fn open_those(&self, config: &Config, settings: &[RepositorySettings]) -> Result<Vault> {
        let key = self.secrets(config.key.material()).await?;
        let vault = Vault::open(&self.context, settings, &key).await?;
        self.tell_lost(vault.lost());
        Ok(vault)
    }

    fn tell_lost<'a>(&self, lost: impl IntoIterator<Item = &'a LostRepository>) {
        for LostRepository {
            name,
            message,
            hint,
            damaged,
        } in lost
        {
            let state = if *damaged { "is damaged" } else { "is out of reach" };
            self.output
                .warn(&format!("repository \"{name}\" {state}: {message}"), hint.as_deref());
        }
    }
}

/// Done, or done in part when a repository that should have been asked was out of reach.
fn code_with(lost: &[LostRepository]) -> u8 {
    if lost.is_empty() { DONE } else { PARTIAL }
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn state_word(state: BackupState) -> &'static str {
    match state {
        BackupState::Good => "good",
        BackupState::Incomplete => "incomplete",
        BackupState::Damaged => "damaged",
    }
}

/// A moment for tables.
fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "?".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}
