//! One logged-in connection and statements on it.
//!
//! Every wait has a limit and races the cancel handle given when it was opened. A call that failed in the middle of an
//! answer, or was dropped there, leaves the connection unusable: later calls say so instead of reading another
//! statement's answer.

use std::time::Duration;

use ballast_base::Cancel;
use mysql_common::constants::CapabilityFlags;

use crate::error::PACKET_HINT;
use crate::wire::auth::Login;
use crate::wire::handshake::{self, Greeting};
use crate::wire::packet::{Channel, PAYLOAD_BYTES_MAX};
use crate::wire::reader::Reader;
use crate::wire::response::{self, Executed, Row, Rows};
use crate::{MysqlError, ServerAddress, TlsMode};

/// Greeting, TLS and login may take this long each.
const LOGIN_WAIT_MAX: Duration = Duration::from_secs(20);
/// A statement is answered within this time unless the caller says otherwise.
const STATEMENT_WAIT_MAX: Duration = Duration::from_secs(300);
/// An answer read as a whole may have this many columns, as a table may.
const COLUMNS_MAX: u64 = 4096;
/// A login takes no more messages than this.
const LOGIN_MESSAGES_MAX: usize = 16;
/// Errors by which a server refuses the person, not the statement: access denied (MySQL, MariaDB), password expired,
/// account locked (MySQL, MariaDB), host not allowed.
const LOGIN_ERRORS: [u16; 6] = [1045, 1698, 1862, 3118, 4151, 1130];

const WHOLE_ANSWERS: &str = "SET SESSION sql_select_limit = 18446744073709551615, SESSION sql_big_selects = 1, \
     SESSION completion_type = 0, SESSION autocommit = 1, SESSION sql_safe_updates = 0";
const UNKNOWN_VARIABLE: u16 = 1193;

const QUERY: u8 = 0x03;
const QUIT: u8 = 0x01;

#[derive(Debug)]
pub struct Connection {
    pub(crate) channel: Channel,
    pub(crate) capabilities: CapabilityFlags,
    version: String,
    id: u32,
    tls: bool,
    /// Of the last statement that gave rows.
    pub(crate) warnings: u16,
}

impl Connection {
    pub async fn open(address: &ServerAddress, cancel: &Cancel) -> Result<Self, MysqlError> {
        Self::open_with(address, cancel, CapabilityFlags::empty()).await
    }

    pub(crate) async fn open_with(
        address: &ServerAddress,
        cancel: &Cancel,
        more: CapabilityFlags,
    ) -> Result<Self, MysqlError> {
        let opened = Self::greet(address, cancel, more).await;
        opened.map_err(|error| named(address, error))
    }

    async fn greet(address: &ServerAddress, cancel: &Cancel, more: CapabilityFlags) -> Result<Self, MysqlError> {
        let transport = cancel.race(address.connect()).await??;
        let mut channel = Channel::new(transport, cancel.clone(), LOGIN_WAIT_MAX);
        let first = channel.receive("waiting for the server's greeting").await?;
        if first.first() == Some(&response::ERROR) {
            return Err(refusal(address, response::decode_error(&first)));
        }
        let greeting = Greeting::decode(&first)?;
        let encrypted = address.tls != TlsMode::Off && address.socket.is_none();
        let capabilities = greeting.common(encrypted, more);
        if encrypted {
            if !greeting.offers_tls() {
                return Err(MysqlError::Tls {
                    address: address.place(),
                    detail: "the server does not offer TLS".to_owned(),
                });
            }
            channel
                .send("asking for TLS", &[&handshake::tls_request(capabilities)])
                .await?;
            let (transport, sequence) = channel.into_transport()?;
            let transport = cancel
                .race(tokio::time::timeout(LOGIN_WAIT_MAX, address.encrypt(transport)))
                .await?
                .map_err(|_| MysqlError::Timeout {
                    doing: "starting TLS",
                    after: LOGIN_WAIT_MAX,
                })??;
            channel = Channel::new(transport, cancel.clone(), LOGIN_WAIT_MAX).with_sequence(sequence);
        }
        let mut connection = Self {
            channel,
            capabilities,
            version: greeting.version.clone(),
            id: greeting.connection_id,
            tls: encrypted,
            warnings: 0,
        };
        connection.log_in(address, &greeting).await?;
        connection.channel.read_wait_max = STATEMENT_WAIT_MAX;
        connection.have_answers_whole().await?;
        Ok(connection)
    }

    /// Takes off what the server's administrator may have set for every session, by which answers come short or statements end early.
    async fn have_answers_whole(&mut self) -> Result<(), MysqlError> {
        let time_limit = if self.version.contains("MariaDB") {
            "SET SESSION max_statement_time = 0"
        } else {
            "SET SESSION max_execution_time = 0"
        };
        for sql in [WHOLE_ANSWERS, time_limit] {
            match self.execute(sql).await {
                // Not every version has it.
                Err(error) if error.server_code() == Some(UNKNOWN_VARIABLE) => {}
                done => drop(done?),
            }
        }
        Ok(())
    }

    async fn log_in(&mut self, address: &ServerAddress, greeting: &Greeting) -> Result<(), MysqlError> {
        let private = self.tls || address.socket.is_some();
        let login = |plugin: &[u8], nonce: &[u8]| Login::new(plugin, nonce, address.password.clone(), private);
        // A server whose default method is unknown to us may still have the account on another; it then asks to switch.
        let plugin = if Login::knows(&greeting.plugin) {
            greeting.plugin.as_slice()
        } else {
            b"mysql_native_password"
        };
        let mut method = login(plugin, &greeting.nonce)?;
        let proof = method.first_proof()?;
        let request = handshake::login_request(self.capabilities, &address.user, plugin, proof);
        self.channel.send("logging in", &[&request]).await?;
        for _ in 0..LOGIN_MESSAGES_MAX {
            let message = self.channel.receive("logging in").await?;
            match message.split_first() {
                Some((&response::OK, _)) => return Ok(()),
                Some((&response::ERROR, _)) => return Err(refusal(address, response::decode_error(&message))),
                Some((&response::EOF, _)) => {
                    let (plugin, nonce) = handshake::decode_switch(&message)?;
                    method = login(
                        &plugin,
                        nonce
                            .strip_suffix(&[0])
                            .filter(|_| nonce.len() % 4 == 1)
                            .unwrap_or(&nonce),
                    )?;
                    self.channel.send("logging in", &[&method.first_proof()?]).await?;
                }
                Some((1, challenge)) => {
                    if let Some(answer) = method.answer(challenge)? {
                        self.channel.send("logging in", &[&answer]).await?;
                    }
                }
                _ => return Err(MysqlError::protocol("login: a message of an unknown kind")),
            }
        }
        Err(MysqlError::protocol(format!(
            "login: no end after {LOGIN_MESSAGES_MAX} messages"
        )))
    }

    /// The version text of the server's greeting.
    pub fn server_version(&self) -> &str {
        &self.version
    }

    /// The server's number for this connection.
    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// How long one part of an answer may take to come.
    pub fn set_read_timeout(&mut self, wait_max: Duration) {
        self.channel.read_wait_max = wait_max;
    }

    /// Runs one statement and reads its rows as a whole.
    pub async fn query(&mut self, sql: &str) -> Result<Rows, MysqlError> {
        match self.run(sql.as_bytes()).await? {
            Answer::Rows(rows) => Ok(rows),
            Answer::Done(_) => Ok(Rows {
                columns: Vec::new(),
                rows: Vec::new(),
            }),
        }
    }

    /// Runs one statement for its effect; rows, if any, are read and dropped.
    pub async fn execute(&mut self, sql: &str) -> Result<Executed, MysqlError> {
        self.execute_bytes(sql.as_bytes()).await
    }

    pub(crate) async fn execute_bytes(&mut self, sql: &[u8]) -> Result<Executed, MysqlError> {
        match self.run(sql).await? {
            Answer::Done(done) => Ok(done),
            Answer::Rows(_) => Ok(Executed {
                affected_rows: 0,
                last_insert_id: 0,
                warnings: 0,
            }),
        }
    }

    /// The first value of the first row; `None` where there is none or it is NULL.
    pub async fn value(&mut self, sql: &str) -> Result<Option<String>, MysqlError> {
        let rows = self.query(sql).await?;
        Ok(rows
            .rows
            .first()
            .and_then(|row| row.text(0))
            .map(std::borrow::Cow::into_owned))
    }

    /// Sends a statement and reads how its answer begins.
    pub(crate) async fn ask(&mut self, doing: &'static str, sql: &[u8]) -> Result<Beginning, MysqlError> {
        self.channel.send_command(doing, &[&[QUERY], sql]).await?;
        let first = self.channel.receive(doing).await?;
        match first.first() {
            Some(&response::OK) => return Ok(Beginning::Done(response::decode_ok(&first)?)),
            Some(&response::ERROR) => return Err(response::decode_error(&first)),
            Some(&response::LOCAL_FILE) => return Ok(Beginning::LocalFile),
            _ => {}
        }
        let count = Reader::new("column count", &first).lenenc()?;
        if count > COLUMNS_MAX {
            return Err(MysqlError::protocol(format!("an answer of {count} columns")));
        }
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(response::decode_column_name(&self.channel.receive(doing).await?)?);
        }
        if !self.capabilities.contains(CapabilityFlags::CLIENT_DEPRECATE_EOF) {
            self.channel.receive(doing).await?;
        }
        Ok(Beginning::Rows(columns))
    }

    async fn run(&mut self, sql: &[u8]) -> Result<Answer, MysqlError> {
        const DOING: &str = "running a statement";
        let columns = match self.ask(DOING, sql).await? {
            Beginning::Done(done) => return Ok(Answer::Done(done)),
            Beginning::Rows(columns) => columns,
            Beginning::LocalFile => {
                // Never send a file because a server asks for it.
                self.channel.send(DOING, &[]).await?;
                self.channel.receive(DOING).await?;
                return Err(MysqlError::protocol("the server asked for a local file"));
            }
        };
        let (mut rows, mut bytes) = (Vec::new(), 0);
        loop {
            let packet = self.channel.receive(DOING).await?;
            if packet.first() == Some(&response::ERROR) {
                return Err(response::decode_error(&packet));
            }
            if response::is_end_of_rows(&packet, self.capabilities) {
                self.warnings = response::decode_end_of_rows(&packet, self.capabilities)?;
                return Ok(Answer::Rows(Rows { columns, rows }));
            }
            bytes += packet.len() + columns.len() * size_of::<Option<bytes::Bytes>>();
            if bytes > PAYLOAD_BYTES_MAX {
                self.channel.shutdown().await;
                return Err(MysqlError::protocol(format!(
                    "an answer of more than {PAYLOAD_BYTES_MAX} bytes"
                )));
            }
            rows.push(Row::decode(&packet, columns.len())?);
        }
    }

    /// Fails where the server cut values of the statement that gave the last rows: it says so by a warning only, and sends
    /// an empty or a shorter value.
    pub async fn refuse_cut_values(&mut self) -> Result<(), MysqlError> {
        const CUT: u64 = 1301;
        if std::mem::take(&mut self.warnings) == 0 {
            return Ok(());
        }
        let warnings = self.query("SHOW WARNINGS").await?;
        let Some(cut) = warnings.rows.iter().find(|row| row.number(1) == Some(CUT)) else {
            return Ok(());
        };
        let words = cut.text(2).unwrap_or_default();
        Err(MysqlError::Unsupported {
            what: format!("the server cuts a value off: {words}"),
            hint: PACKET_HINT.to_owned(),
        })
    }

    /// Says goodbye and closes.
    pub async fn close(mut self) {
        if self.channel.send_command("closing", &[&[QUIT]]).await.is_ok() {
            self.channel.shutdown().await;
        }
    }
}

/// How an answer begins.
pub(crate) enum Beginning {
    Done(Executed),
    /// The columns of the rows that follow.
    Rows(Vec<String>),
    /// The server waits for the data of a `LOAD DATA LOCAL`.
    LocalFile,
}

enum Answer {
    Done(Executed),
    Rows(Rows),
}

/// A connection that ends before it was of use says whose it was to be.
fn named(address: &ServerAddress, error: MysqlError) -> MysqlError {
    match error {
        MysqlError::Gone { .. } | MysqlError::Timeout { .. } => MysqlError::Unreachable {
            address: address.place(),
            source: std::io::Error::other(error.to_string()),
        },
        other => other,
    }
}

fn refusal(address: &ServerAddress, error: MysqlError) -> MysqlError {
    match error {
        MysqlError::Server { code, message, .. } if LOGIN_ERRORS.contains(&code) => MysqlError::Login {
            user: address.user.clone(),
            address: address.place(),
            code,
            message,
        },
        other => other,
    }
}
