//! The private server as a replica: started so, asked where it stands, and made to forget it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use ballast_base::fill_random;
use ballast_mysql::{
    Applier, ApplierState, Connection, ExecutedSet, Flavour, LogFlavour, LogServer, ReplayOptions, ServerVersion,
    ThrowawayServer, event_states, put_events_back,
};
use tokio::sync::Mutex;

use super::event_statements::EventStatements;
use super::feed::Fed;
use crate::context::Context;
use crate::error::{ProtectError, Result};

/// Transactions applied at once: more than processors, since each also waits.
const WORKERS: u32 = 8;
/// A server of a person has a small number; from here on there are next to none.
const SERVER_ID_FROM: u32 = 0x8000_0000;
/// The share of the memory at hand that the private server may keep pages in.
const BUFFER_POOL_SHARE: u64 = 4;
const BUFFER_POOL_BYTES_MIN: u64 = 128 << 20;
const BUFFER_POOL_BYTES_MAX: u64 = 16 << 30;

/// How a server is started that will replay.
pub(crate) fn replay_options() -> ReplayOptions {
    let mut id = [0; 4];
    fill_random(&mut id);
    ReplayOptions {
        server_id: SERVER_ID_FROM | u32::from_le_bytes(id).clamp(1, u32::MAX - 2),
        workers: WORKERS,
        buffer_pool_bytes: (memory_available() / BUFFER_POOL_SHARE).clamp(BUFFER_POOL_BYTES_MIN, BUFFER_POOL_BYTES_MAX),
    }
}

fn memory_available() -> u64 {
    let facts = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = facts.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}

/// A private server that can take in a log.
#[derive(Debug)]
pub(crate) struct Replica<'a> {
    server: &'a ThrowawayServer,
    control: Mutex<Connection>,
    applier: Applier,
    flavour: Flavour,
    server_id: u32,
    /// What a MariaDB had counted before.
    groups_before: OnceLock<u64>,
}

impl<'a> Replica<'a> {
    /// From here on the server's grant tables are in use: accounts can be made and changed, as the log may do, and nobody can log in
    /// any more but who is there already.
    pub(crate) async fn open(context: &Context, server: &'a ThrowawayServer, version: &ServerVersion) -> Result<Self> {
        let applier = Applier::of(version)?;
        let mut control = Connection::open(server.address(), &context.cancel).await?;
        let id = control.value("SELECT @@GLOBAL.server_id").await?;
        let server_id = id.and_then(|id| id.parse().ok()).unwrap_or_default();
        control.execute("FLUSH PRIVILEGES").await?;
        Ok(Self {
            server,
            control: Mutex::new(control),
            applier,
            flavour: version.flavour,
            server_id,
            groups_before: OnceLock::new(),
        })
    }

    pub(super) fn flavour(&self) -> Flavour {
        self.flavour
    }

    pub(super) fn server_id(&self) -> u32 {
        self.server_id
    }

    pub(super) fn log_tail(&self) -> String {
        self.server.log_tail()
    }

    /// What the server says it has executed.
    pub(super) async fn executed(&self) -> Result<ExecutedSet> {
        let flavour = LogFlavour::from(self.flavour);
        let sql = match flavour {
            LogFlavour::Mysql => "SELECT @@GLOBAL.gtid_executed",
            LogFlavour::MariaDb => "SELECT @@GLOBAL.gtid_slave_pos",
        };
        let text = self.control.lock().await.value(sql).await?.unwrap_or_default();
        let text: String = text.split_whitespace().collect();
        Ok(ExecutedSet::parse(flavour, &text)?)
    }

    pub(super) async fn start(&self, log: &LogServer, from: &ExecutedSet) -> Result<()> {
        let mut control = self.control.lock().await;
        self.applier.start(&mut control, log, &from.to_string()).await?;
        let groups = self.applier.state(&mut control).await?.groups.unwrap_or_default();
        // Nothing has been sent yet.
        let _ = self.groups_before.set(groups);
        Ok(())
    }

    pub(super) async fn state(&self) -> Result<ApplierState> {
        Ok(self.applier.state(&mut *self.control.lock().await).await?)
    }

    /// An error when it says that it does not come.
    pub(super) async fn has_come(&self) -> Result<()> {
        match self.state().await?.received_error {
            Some(words) => Err(ProtectError::failed(format!(
                "the private server does not take the log: {words}"
            ))),
            None => Ok(()),
        }
    }

    /// Of a MariaDB's count, what came since the start.
    pub(super) fn since_start(&self, groups: u64) -> u64 {
        groups.saturating_sub(self.groups_before.get().copied().unwrap_or_default())
    }

    /// Whether everything that was sent is applied.
    pub(super) fn is_done(&self, fed: &Fed, executed: &ExecutedSet, state: &ApplierState) -> bool {
        let counted = state
            .groups
            .is_none_or(|groups| self.since_start(groups) == fed.transactions);
        *executed == fed.executed && counted
    }

    /// An error of the sending side, with what the receiving one says.
    pub(super) async fn with_its_words(&self, error: ProtectError) -> ProtectError {
        match self.state().await {
            Ok(ApplierState {
                received_error: Some(words),
                ..
            }) => error.and(&format!("the private server says: {words}")),
            _ => error,
        }
    }

    /// Whether each scheduled event runs, where it is the server's own.
    pub(super) async fn events(&self) -> Result<BTreeMap<(String, String), bool>> {
        let states = event_states(&mut *self.control.lock().await).await?;
        let own = |(name, state): ((String, String), String)| match state.as_str() {
            "ENABLED" => Some((name, true)),
            "DISABLED" => Some((name, false)),
            _ => None,
        };
        Ok(states.into_iter().filter_map(own).collect())
    }

    /// Gives the events that the log created or changed the state they had on the source.
    pub(super) async fn put_events_back(
        &self,
        context: &Context,
        mut wanted: BTreeMap<(String, String), bool>,
        statements: &EventStatements,
    ) -> Result<()> {
        statements.carry_out(&mut wanted);
        let changed = put_events_back(&mut *self.control.lock().await, &wanted).await?;
        if !changed.is_empty() {
            context.note(format!("events as they were on the source: {}", changed.join(", ")));
        }
        Ok(())
    }

    pub(super) async fn forget(&self) -> Result<()> {
        Ok(self.applier.forget(&mut *self.control.lock().await).await?)
    }

    pub(crate) async fn close(self) {
        self.control.into_inner().close().await;
    }
}
