//! Every command and flag. No work is done here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const AFTER_HELP: &str = "\
Examples:
  ballast init                      create the repositories of ./ballast.toml
  ballast doctor                    check settings, privileges, space and keys
  ballast backup orders             back up the source \"orders\" now
  ballast archive orders            follow its binlog from now on
  ballast list                      the backups there are
  ballast restore orders --to datadir:/var/lib/mysql-new
  ballast restore orders --to datadir:/var/lib/mysql-new --at '2026-11-25 02:59:59.999999'
  ballast restore orders --to datadir:/var/lib/mysql-new --before 3e11fa47-71ca-11e1-9e33-c80aa9429562:4711

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 done in part, 4 damage found,
5 cannot be restored, 10 no repository, 11 held by another writer, 12 wrong key, 130 interrupted.";

/// Keeps MySQL recoverable, and proves it
#[derive(Debug, Parser)]
#[command(name = "ballast", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every verb")]
pub(crate) struct Global {
    /// Configuration [default: $BALLAST_CONFIG, ./ballast.toml, /etc/ballast/ballast.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON to standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing for people but warnings and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Tell more of what happens inside; twice and thrice for more [also: $BALLAST_LOG]
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Show no progress
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create the repositories of the configuration
    #[command(after_help = "\
One that is there already and is the same is left as it is; one that is different is refused.

Examples:
  ballast init
  ballast --config /etc/ballast/ballast.toml init")]
    Init,
    /// Check settings, privileges, versions, space and keys
    #[command(after_help = "\
Each finding says what was expected, what is there and what to type. Exit code 1 if one is an error.

Examples:
  ballast doctor
  ballast doctor orders --json")]
    Doctor(DoctorArgs),
    /// Take one backup now
    #[command(after_help = "\
Prints the id of the backup. Exit code 3 if a table it should hold is missing or a repository was out of reach.

Examples:
  ballast backup orders
  ballast backup orders --engine physical --json")]
    Backup(BackupArgs),
    /// Follow a source's log and keep it, until interrupted
    #[command(after_help = "\
Connects as a replica does, and stores the binlog in every repository as it is written: with semi_sync = true in [source.log]
no commit is answered before it is durable in the spool. It goes on where it was, also after a crash of anything, and
tries again for as long as it takes. A second one of the same server ends with exit code 11.
SIGINT or SIGTERM end it in order: what is recorded is stored, and the exit code is 0, or 3 if a repository lacks some
of it (it stays in the spool, and the next run stores it).

Examples:
  ballast archive orders
  ballast archive orders --json")]
    Archive(ArchiveArgs),
    /// Show the backups there are, newest first
    #[command(after_help = "\
Examples:
  ballast list
  ballast list orders --json")]
    List(ListArgs),
    /// Show the moments one can go back to, and each gap with its cause
    #[command(after_help = "\
Every moment between FROM and TO can be restored, both included. A backup without a log is a single moment.
Times are UTC, to the microsecond.

Examples:
  ballast timeline orders
  ballast timeline orders --json")]
    Timeline(TimelineArgs),
    /// Prove the stored bytes without restoring
    #[command(after_help = "\
Reads every object back and names each one that is damaged, missing or unknown, and what to type next. A damaged
pack is marked in its repository, so that later backups do not use what is in it. Captured logs are read too, and
each segment must follow the one before it. Exit code 4 if there is damage.

Examples:
  ballast verify
  ballast verify orders
  ballast verify --backup ID")]
    Verify(VerifyArgs),
    /// Restore a backup, take it on to a later moment, and prove what came of it
    #[command(after_help = "\
Where the log was captured, it is replayed on top of the backup: to the latest moment there is, or to where --at,
--position or --before say. Exit code 5 if that moment cannot be restored; what can be is said then.
A server that began its log anew gives its GTIDs a second time: where it did, --backup says which one is meant.
TARGET is datadir:PATH, a folder that is empty or absent and becomes a MySQL data directory, or
mysql://USER@HOST:PORT, a running server that may hold other data; its password is in $BALLAST_TARGET_PASSWORD.
Rows out of a physical backup are read by a private mysqld of the source's series, on its files in --scratch.
In --only {0..9} counts, {a,b} lists, * and ? match. A name with any of these, or \".\", \"=\" or a backtick in it, goes
between backticks, as in SQL: --only '`shop.eu`.`a=b`' --rename '`shop.eu`.`a=b`=rescue.ab'.
A folder that holds something, and tables of the same names, are refused unless --replace says so.
A load into a running server that was stopped goes on when the same is typed again; until it is through it remembers
on the server, in database ballast_load, what is there.
Of a Redis or Valkey TARGET is dir:PATH, a folder that is empty or absent: a stock server loads what is in it; or
redis://HOST:PORT (rediss:// for TLS, redis://localhost?socket=PATH), a running server that holds nothing. With
--replace it is emptied first, after the backup was read and checked. --only 'session:*' restores keys of that name beside
the others, '3/session:*' those of database 3; patterns are those of KEYS and SCAN. Such a load goes on, too: until it is
through, key ballast:load of database 0 remembers how far it is.

Examples:
  ballast restore orders --to datadir:/var/lib/mysql-new --dry-run
  ballast restore orders --to datadir:/var/lib/mysql-new
  ballast restore orders --to datadir:/var/lib/mysql-new --backup ID --from-repository cloud
  ballast restore orders --to mysql://admin@db2:3306 --only 'balance.orders_{0..9}'
  ballast restore orders --to mysql://admin@db2:3306 --only balance.shops --rename balance.shops=rescue.shops
  ballast restore cache --to dir:/var/lib/redis-new
  ballast restore cache --to redis://cache2:6379
  ballast restore cache --to redis://cache2:6379 --only 'session:*'")]
    Restore(Box<RestoreArgs>),
    /// Bring one repository up to another
    #[command(after_help = "\
Copies the backups and captured logs it lacks, and of those it has what is missing or what verify found damaged; and
what opens it, if that is lost. No other repository is opened.

Examples:
  ballast copy --from local --to cloud --dry-run
  ballast copy --from local --to cloud")]
    Copy(CopyArgs),
    /// Show where each source stands against the objectives
    #[command(after_help = "\
Examples:
  ballast status
  ballast status --json")]
    Status,
    /// Look into the captured log of a source
    #[command(subcommand)]
    Log(LogVerb),
    /// Show, check or describe the configuration
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  ballast completions bash > /etc/bash_completion.d/ballast
  ballast completions zsh > ~/.zfunc/_ballast")]
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Only this source
    pub(crate) source: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The source by its name in the configuration
    pub(crate) source: String,
    /// How the backup is taken, instead of what the configuration says
    #[arg(long, value_parser = crate::config::ENGINES)]
    pub(crate) engine: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ArchiveArgs {
    /// The source by its name in the configuration
    pub(crate) source: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only this source
    pub(crate) source: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TimelineArgs {
    /// The source by its name in the configuration
    pub(crate) source: String,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Only the backups and the captured log of this source
    pub(crate) source: Option<String>,
    /// Only this backup
    #[arg(long, value_name = "ID")]
    pub(crate) backup: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The source whose backup is restored
    pub(crate) source: String,
    /// Where to: datadir:PATH, or mysql://USER@HOST:PORT (its password in $BALLAST_TARGET_PASSWORD); of a Redis dir:PATH, or redis://HOST:PORT
    #[arg(long, value_name = "TARGET")]
    pub(crate) to: String,
    /// Only these tables, such as 'balance.orders_{0..9}', of a Redis only these keys; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub(crate) only: Vec<String>,
    /// Restore a table under another name, such as balance.orders_7=rescue.orders_7; may be given several times
    #[arg(long, value_name = "DB.T=DB2.T2")]
    pub(crate) rename: Vec<String>,
    /// End with what was committed up to this moment: RFC 3339, or YYYY-MM-DD HH:MM:SS[.ffffff] in the configured time zone
    #[arg(long, value_name = "MOMENT", group = "stop")]
    pub(crate) at: Option<String>,
    /// End with this position: a GTID set, one GTID, or FILE:OFFSET
    #[arg(long, value_name = "POSITION", group = "stop")]
    pub(crate) position: Option<String>,
    /// End before this transaction
    #[arg(long, value_name = "GTID", group = "stop")]
    pub(crate) before: Option<String>,
    /// Leave this transaction out; may be given several times
    #[arg(long, value_name = "GTID")]
    pub(crate) skip: Vec<String>,
    /// Begin with this backup; without --at, --position, --before or --skip it is restored alone, without the log
    #[arg(long, value_name = "ID")]
    pub(crate) backup: Option<String>,
    /// Read from this repository only; the others are not opened
    #[arg(long, value_name = "NAME")]
    pub(crate) from_repository: Option<String>,
    /// Replace what the target holds; it is named first
    #[arg(long)]
    pub(crate) replace: bool,
    /// Load into a running server without its binary log: quicker, and its replicas do not get the rows
    #[arg(long)]
    pub(crate) no_binlog: bool,
    /// Print the plan and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The server that proves the restore [default: $BALLAST_MYSQLD or $BALLAST_MARIADBD, mysqld or mariadbd in $PATH or /usr/sbin]
    #[arg(long, value_name = "PATH")]
    pub(crate) mysqld: Option<PathBuf>,
    /// The same for a Redis [default: $BALLAST_REDIS_SERVER or $BALLAST_VALKEY_SERVER, redis-server or valkey-server in $PATH or /usr/sbin]
    #[arg(long, value_name = "PATH")]
    pub(crate) server: Option<PathBuf>,
    /// Folder with room for a backup's files while rows are read from them [default: $TMPDIR or /tmp]
    #[arg(long, value_name = "PATH")]
    pub(crate) scratch: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// The repository that is read
    #[arg(long, value_name = "REPOSITORY")]
    pub(crate) from: String,
    /// The repository that is brought up to it
    #[arg(long, value_name = "REPOSITORY")]
    pub(crate) to: String,
    /// Print what would be copied and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogVerb {
    /// Find the transactions that touched a table, and mark those that look like an accident
    #[command(after_help = "\
Tells of each transaction its moment, its GTID, the rows it inserted (+), updated (~) and deleted (-) per table, and its
statements. Marked are DROP, TRUNCATE and whatever deletes or updates many rows. Moments are in the configuration's
time_zone unless they say another. Nothing is asked of the source.

Examples:
  ballast log find orders --suspicious
  ballast log find orders --table balance.orders_7 --between '2026-11-25 10:00' '2026-11-25 10:30'
  ballast log find orders --table 'balance.*' --json")]
    Find(LogFindArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LogFindArgs {
    /// The source whose log is looked through
    pub(crate) source: String,
    /// Only what touched these tables, such as 'balance.orders_{0..9}'; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub(crate) table: Vec<String>,
    /// Only what was committed from A to B
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub(crate) between: Vec<String>,
    /// Only what looks like an accident
    #[arg(long)]
    pub(crate) suspicious: bool,
    /// So many rows of one table deleted or updated at once look like an accident
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) mass_rows: u64,
    /// List no more than this
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) limit: usize,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Print the effective values and where each came from
    #[command(after_help = "\
Secrets are shown as the place they are kept in.

Examples:
  ballast config show
  ballast config show --json")]
    Show,
    /// Name every mistake in the configuration
    #[command(after_help = "\
Examples:
  ballast config check
  ballast --config new.toml config check")]
    Check,
    /// Print the JSON schema of the configuration
    #[command(after_help = "\
Examples:
  ballast config schema > ballast.schema.json")]
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}
