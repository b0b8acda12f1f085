//! A running clone as a stream of events.
//!
//! One task per data connection reads ahead a few blocks; [`CloneStream::next`] merges what they read. Not calling it
//! fills those queues, then the sockets, and so stops the donor: memory is bounded by the number of connections.
//!
//! # Why merging keeps the order that matters
//! Within one state no two connections carry the same bytes, so their order does not matter. Between states it does:
//! a page that comes again in PAGE_COPY must come after the one of FILE_COPY. The donor keeps its own threads together
//! at the end of each state, but the sockets between us may run ahead of each other. So a connection that delivered
//! the end of a state is not read on until all have, and only then is the state acknowledged, on the auxiliary
//! connection; the donor sends nothing of the next state before that. Which files there are is told on the first
//! connection alone, before its own data of a state, so the others are read only after that.
//!
//! # Ending early
//! When the connection is cut, the donor keeps the clone for a while (`clone_donor_timeout_after_network_failure`, 5
//! minutes by default) in case the other side comes back, and goes on recording what changes for it. A new clone takes
//! its place at once, but nobody may start one, so [`CloneStream::abort`] tells the donor to end it. Whoever drops the
//! stream instead leaves it waiting. A clone that still sends (also into a network that is silently dead, for up to the
//! donor's `net_write_timeout`) makes the donor refuse another one with error 3634.

use std::task::Poll;
use std::time::Duration;

use ballast_base::{Cancel, Task, spawn};
use tokio::sync::mpsc;

use super::descriptor::Descriptor;
use super::event::{CloneEvent, CloneState, DataBlock, StateDescriptor};
use super::message::{self, Answer, Locator};
use super::session::{Session, kind};
use crate::{MysqlError, ServerAddress};

/// Blocks read ahead on each connection. A donor's block is 1 MiB.
const EVENTS_AHEAD: usize = 4;
/// Data connections of one clone.
const DATA_CONNECTIONS_MAX: usize = 8;
/// Ending a clone early is a courtesy to the donor; it may take this long.
const ABORT_WAIT_MAX: Duration = Duration::from_secs(10);
/// The error we give the donor as the reason for an early end: query interrupted.
const INTERRUPTED: u16 = 1317;

/// How to clone.
#[derive(Debug, Clone, Copy)]
pub struct CloneOptions {
    /// 1 to 8. One is enough for a network of 1 GB/s.
    pub data_connections: usize,
    /// Take the donor's backup lock: DDL waits there until the clone has ended. Otherwise DDL goes on.
    pub block_ddl: bool,
    /// How long to wait for running DDL when DDL is blocked.
    pub ddl_wait: Duration,
}

impl Default for CloneOptions {
    fn default() -> Self {
        Self {
            data_connections: 1,
            block_ddl: false,
            ddl_wait: Duration::from_secs(300),
        }
    }
}

#[derive(Debug)]
struct Lane {
    events: mpsc::Receiver<Result<CloneEvent, MysqlError>>,
    /// It delivered the end of the current state and waits for the others.
    parked: bool,
    complete: bool,
    _task: Task<()>,
}

#[derive(Debug)]
pub struct CloneStream {
    /// What came before the lanes started, in reverse order.
    preamble: Vec<CloneEvent>,
    lanes: Vec<Lane>,
    /// Which lane is asked first, so that none starves.
    turn: usize,
    auxiliary: Session,
    locator: Locator,
    /// The first lane has not come to the data of this state yet: it still tells which files there are.
    announcing: bool,
    /// The end of a state, delivered by the first lane and not yet handed out.
    ended: Option<StateDescriptor>,
    /// The end of a state, handed out and not yet acknowledged.
    unacknowledged: Option<StateDescriptor>,
    /// The newest state descriptor, which an early end is said with.
    newest: Option<StateDescriptor>,
    finished: bool,
    cancel: Cancel,
}

impl CloneStream {
    /// Starts a clone: from here on the donor records what changes.
    pub async fn start(address: &ServerAddress, options: CloneOptions, cancel: &Cancel) -> Result<Self, MysqlError> {
        let connections = options.data_connections;
        if !(1..=DATA_CONNECTIONS_MAX).contains(&connections) {
            return Err(MysqlError::Unsupported {
                what: format!("{connections} data connections for one clone"),
                hint: format!("choose 1 to {DATA_CONNECTIONS_MAX}"),
            });
        }
        let ddl_seconds = u32::try_from(options.ddl_wait.as_secs()).unwrap_or(u32::MAX);
        let request = |command, locators: &[Locator]| message::start(command, ddl_seconds, options.block_ddl, locators);

        let mut first = Session::open(address, cancel).await?;
        first.wait_longer(if options.block_ddl {
            options.ddl_wait
        } else {
            Duration::ZERO
        });
        let (mut preamble, locators) = read_preamble(first.ask(&request(message::INIT, &[])).await?)?;
        let [locator] = locators.as_slice() else {
            return Err(MysqlError::protocol(format!(
                "{} storage engines to clone, known is InnoDB",
                locators.len()
            )));
        };
        let locator = locator.clone();
        // Its waits are raced here: a cancelled clone must still be ended at the donor.
        let mut auxiliary = cancel.race(Session::open(address, &Cancel::new())).await??;
        first.send(&[message::EXECUTE]).await?;
        let newest = reach_file_copy(&mut first, &mut auxiliary, &locator, &mut preamble).await?;

        // The donor answers ATTACH only once the copy of files has begun.
        let mut sessions = vec![first];
        for _ in 1..connections {
            let mut session = Session::open(address, cancel).await?;
            session.ask(&request(message::ATTACH, &locators)).await?;
            session.send(&[message::EXECUTE]).await?;
            sessions.push(session);
        }
        preamble.reverse();
        let lanes = sessions.into_iter().map(Lane::start).collect();
        Ok(Self {
            preamble,
            lanes,
            turn: 0,
            announcing: true,
            auxiliary,
            locator,
            ended: None,
            unacknowledged: None,
            newest: Some(newest),
            finished: false,
            cancel: cancel.clone(),
        })
    }

    /// The next event; `None` after [`CloneEvent::Complete`]. After an error the clone is over, at the donor as well
    /// where it can still be told.
    ///
    /// The end of a state is acknowledged by the call after the one that gave it: until then the donor does not go on.
    /// At the end of PAGE_COPY this counts, because its acknowledgement makes the donor fix the point that the copy
    /// will recover to; the start of REDO_COPY says that it is fixed.
    pub async fn next(&mut self) -> Result<Option<CloneEvent>, MysqlError> {
        if let Some(event) = self.preamble.pop() {
            return Ok(Some(event));
        }
        if self.finished {
            return Ok(None);
        }
        let outcome = self.advance().await;
        if outcome.is_err() {
            self.end_early().await;
        }
        outcome
    }

    async fn advance(&mut self) -> Result<Option<CloneEvent>, MysqlError> {
        if let Some(state) = self.unacknowledged.take() {
            self.cancel
                .race(self.auxiliary.acknowledge(&self.locator, &state))
                .await??;
            self.lanes.iter_mut().for_each(|lane| lane.parked = false);
            self.announcing = true;
        }
        loop {
            if self.lanes.iter().all(|lane| lane.parked)
                && let Some(state) = self.ended.take()
            {
                // All that was sent of this state has been handed out.
                self.unacknowledged = Some(state.clone());
                return Ok(Some(CloneEvent::State(state)));
            }
            if self.lanes.iter().all(|lane| lane.complete) {
                self.finished = true;
                self.auxiliary.send(&[message::EXIT]).await?;
                return Ok(Some(CloneEvent::Complete));
            }
            let (lane, event) = self.receive().await?;
            if lane == 0
                && !matches!(&event, CloneEvent::File(_))
                && !matches!(&event, CloneEvent::State(state) if state.started)
            {
                self.announcing = false;
            }
            match event {
                CloneEvent::Complete => self.lane(lane)?.complete = true,
                CloneEvent::State(state) if state.started => {
                    // Each lane announces it, the first with its numbers.
                    if lane == 0 {
                        self.newest = Some(state.clone());
                        return Ok(Some(CloneEvent::State(state)));
                    }
                }
                CloneEvent::State(state) => {
                    self.lane(lane)?.parked = true;
                    if lane == 0 {
                        self.ended = Some(state);
                    }
                }
                other => return Ok(Some(other)),
            }
        }
    }

    /// Ends a clone that is not wanted any more, so that the donor is free for another at once.
    pub async fn abort(mut self) {
        self.end_early().await;
    }

    async fn end_early(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        if let Some(state) = self.newest.take() {
            let refusal = self.auxiliary.refuse(&self.locator, &state, INTERRUPTED);
            // The donor may be gone; then there is nothing to end.
            drop(tokio::time::timeout(ABORT_WAIT_MAX, refusal).await);
        }
        self.lanes.clear();
    }

    fn lane(&mut self, index: usize) -> Result<&mut Lane, MysqlError> {
        self.lanes
            .get_mut(index)
            .ok_or_else(|| MysqlError::protocol("a clone without its connection"))
    }

    /// The next event of any lane that may be read.
    async fn receive(&mut self) -> Result<(usize, CloneEvent), MysqlError> {
        let count = self.lanes.len();
        self.turn = (self.turn + 1) % count.max(1);
        let turn = self.turn;
        let only_first = self.announcing;
        let lanes = &mut self.lanes;
        let (index, received) = std::future::poll_fn(|context| {
            let (before, after) = lanes.split_at_mut(turn.min(count));
            let numbered = after.iter_mut().zip(turn..).chain(before.iter_mut().zip(0..));
            let readable = |lane: &Lane, index| !lane.parked && !lane.complete && (index == 0 || !only_first);
            for (lane, index) in numbered.filter(|(lane, index)| readable(lane, *index)) {
                if let Poll::Ready(event) = lane.events.poll_recv(context) {
                    return Poll::Ready((index, event));
                }
            }
            Poll::Pending
        })
        .await;
        match received {
            Some(event) => Ok((index, event?)),
            None => Err(MysqlError::Gone {
                doing: "cloning",
                detail: "an earlier error ended it".to_owned(),
            }),
        }
    }
}

impl Lane {
    fn start(mut session: Session) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_AHEAD);
        let task = spawn("clone connection", async move {
            loop {
                let event = read_event(&mut session).await;
                let last = matches!(event, Err(_) | Ok(CloneEvent::Complete));
                if sender.send(event).await.is_err() {
                    return;
                }
                if last {
                    // The first connection carries the clone: closed before the others are through, it cuts them.
                    sender.closed().await;
                    return;
                }
            }
        });
        Self {
            events,
            parked: false,
            complete: false,
            _task: task,
        }
    }
}

/// What INIT answers: what the copy depends on, and how the donor names this clone.
fn read_preamble(parts: Vec<Answer>) -> Result<(Vec<CloneEvent>, Vec<Locator>), MysqlError> {
    let (mut events, mut locators) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Answer::Plugin { name, library } => events.push(CloneEvent::Plugin { name, library }),
            Answer::Config { key, value } => events.push(CloneEvent::Config { key, value }),
            Answer::Collation(name) => events.push(CloneEvent::Collation(name)),
            Answer::Locators { locators: found, .. } => locators = found,
            other => {
                return Err(MysqlError::protocol(format!(
                    "the start of a clone answered by {}",
                    kind(&other)
                )));
            }
        }
    }
    Ok((events, locators))
}

/// Reads up to the start of FILE_COPY, acknowledging what ends before it.
async fn reach_file_copy(
    first: &mut Session,
    auxiliary: &mut Session,
    locator: &Locator,
    events: &mut Vec<CloneEvent>,
) -> Result<StateDescriptor, MysqlError> {
    loop {
        match read_event(first).await? {
            CloneEvent::State(state) => {
                events.push(CloneEvent::State(state.clone()));
                if state.started && state.state == CloneState::FileCopy {
                    return Ok(state);
                }
                if !state.started {
                    auxiliary.acknowledge(locator, &state).await?;
                }
            }
            CloneEvent::Data(_) | CloneEvent::File(_) | CloneEvent::Complete => {
                return Err(MysqlError::protocol(
                    "a clone that does not begin with the copy of files",
                ));
            }
            other => events.push(other),
        }
    }
}

/// The next thing of weight on one connection.
async fn read_event(session: &mut Session) -> Result<CloneEvent, MysqlError> {
    loop {
        let descriptor = match session.receive().await? {
            Answer::Descriptor(descriptor) => descriptor,
            Answer::Complete => return Ok(CloneEvent::Complete),
            other => {
                return Err(MysqlError::protocol(format!(
                    "{} in the middle of a clone",
                    kind(&other)
                )));
            }
        };
        match descriptor {
            // Which of the donor's threads serves this connection; a repeated locator says nothing new.
            Descriptor::Task | Descriptor::Locator => {}
            // The donor waits for the acknowledgement and shows that it is alive.
            Descriptor::State(state) if state.repeated => {}
            Descriptor::State(state) => return Ok(CloneEvent::State(state)),
            Descriptor::File(file) => {
                if file.is_encrypted() {
                    return Err(message::encrypted(&format!("tablespace \"{}\"", file.display_name())));
                }
                return Ok(CloneEvent::File(file));
            }
            Descriptor::Data(header) => {
                let bytes = session.receive_data(header.length).await?;
                return Ok(CloneEvent::Data(DataBlock {
                    state: header.state,
                    file_index: header.file_index,
                    offset: header.offset,
                    file_size: header.file_size,
                    bytes,
                }));
            }
        }
    }
}
