//! One connection of a clone: requests out, answers in.
//!
//! After `COM_CLONE` the connection speaks only the clone protocol, and the packet number starts at 0 in every packet
//! of both directions, so it is not compared here.

use std::time::Duration;

use ballast_base::Cancel;
use bytes::Bytes;

use super::descriptor;
use super::event::StateDescriptor;
use super::message::{self, Answer, Locator};
use crate::{Connection, MysqlError, ServerAddress};

const COM_CLONE: u8 = 0x20;
/// The donor says something at least every 5 s while it works; it may be busy for longer, never for this long.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(300);
/// An answer to a request on the auxiliary connection, and the preamble of INIT, have no more parts than this.
const PARTS_MAX: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
}

impl Session {
    pub(crate) async fn open(address: &ServerAddress, cancel: &Cancel) -> Result<Self, MysqlError> {
        let mut connection = Connection::open(address, cancel).await?;
        connection
            .channel
            .send_command("starting a clone", &[&[COM_CLONE]])
            .await?;
        let answer = connection.channel.receive("starting a clone").await?;
        match answer.first() {
            Some(0) => {}
            Some(&crate::wire::response::ERROR) => return Err(crate::wire::response::decode_error(&answer)),
            _ => return Err(MysqlError::protocol("starting a clone: neither OK nor an error")),
        }
        connection.channel.read_wait_max = ANSWER_WAIT_MAX;
        Ok(Self { connection })
    }

    pub(crate) fn wait_longer(&mut self, by: Duration) {
        self.connection.channel.read_wait_max = ANSWER_WAIT_MAX + by;
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<(), MysqlError> {
        self.connection.channel.send_command("cloning", &[request]).await
    }

    pub(crate) async fn receive(&mut self) -> Result<Answer, MysqlError> {
        let (packet, _) = self.connection.channel.receive_any("cloning").await?;
        Answer::decode(&packet)
    }

    /// The bytes that a DATA descriptor announced.
    pub(crate) async fn receive_data(&mut self, length: usize) -> Result<Bytes, MysqlError> {
        match self.receive().await? {
            Answer::Data(bytes) if bytes.len() == length => Ok(bytes),
            Answer::Data(bytes) => Err(MysqlError::protocol(format!(
                "{} bytes of file data where {length} were announced",
                bytes.len()
            ))),
            other => Err(MysqlError::protocol(format!(
                "no file data after its descriptor but {}",
                kind(&other)
            ))),
        }
    }

    /// Sends a request and collects all parts of its answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Vec<Answer>, MysqlError> {
        self.send(request).await?;
        let mut parts = Vec::new();
        while parts.len() < PARTS_MAX {
            match self.receive().await? {
                Answer::Complete => return Ok(parts),
                part => parts.push(part),
            }
        }
        Err(MysqlError::protocol(format!(
            "a clone answer of more than {PARTS_MAX} parts"
        )))
    }

    pub(crate) async fn acknowledge(&mut self, locator: &Locator, state: &StateDescriptor) -> Result<(), MysqlError> {
        let parts = self
            .ask(&message::acknowledge(0, locator, &descriptor::acknowledged(state)))
            .await?;
        match parts.first() {
            None => Ok(()),
            Some(part) => Err(MysqlError::protocol(format!(
                "an acknowledgement answered by {}",
                kind(part)
            ))),
        }
    }

    /// Asks the donor to end the clone, so that it does not wait for us to come back.
    /// The caller limits the time.
    pub(crate) async fn refuse(
        &mut self,
        locator: &Locator,
        state: &StateDescriptor,
        error: u16,
    ) -> Result<(), MysqlError> {
        self.ask(&message::acknowledge(error, locator, &descriptor::acknowledged(state)))
            .await
            .map(drop)
    }
}

pub(crate) fn kind(answer: &Answer) -> &'static str {
    match answer {
        Answer::Locators { .. } => "locators",
        Answer::Descriptor(_) => "a descriptor",
        Answer::Data(_) => "file data",
        Answer::Plugin { .. } => "a plugin",
        Answer::Config { .. } => "a setting",
        Answer::Collation(_) => "a collation",
        Answer::Complete => "its end",
    }
}
