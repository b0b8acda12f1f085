//! Asking a server for its log, as a replica does.

use std::time::Duration;

use ballast_base::Cancel;

use super::executed_set::LogFlavour;
use crate::wire::response;
use crate::{Connection, MysqlError, ServerAddress};

const COM_REGISTER_REPLICA: u8 = 0x15;
const COM_DUMP: u8 = 0x12;
/// End at the end of the log instead of waiting for more.
const DUMP_ENDS: u16 = 0x01;
/// MySQL: heartbeats with the whole offset. MariaDB: what a statement was is part of the log, as it is in its files.
const DUMP_WHOLE: u16 = 0x02;
/// What `SHOW REPLICAS` says of us.
const SHOWN_AS: &[u8] = b"ballast";
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(2);
/// Where a server id that is made of a UUID begins; people number their servers far below.
const SERVER_IDS_FROM: u32 = 0x8000_0000;

/// A place in a log: a file, and an offset where one of its events begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlace {
    pub file: String,
    pub offset: u64,
}

#[derive(Debug, Clone)]
pub struct FollowOptions {
    pub flavour: LogFlavour,
    /// Who we are to the server. Of two with the same one the newer replaces the older.
    pub replica_uuid: String,
    pub server_id: u32,
    /// How often the server says something when nothing happens.
    pub heartbeat: Duration,
    /// Whether the server may wait for us before it tells a client that a transaction is committed.
    pub semi_sync: bool,
    /// The command names no offset above it; the server then begins with the file. Tests lower it.
    #[doc(hidden)]
    pub plain_offset_max: u64,
}

impl FollowOptions {
    /// The server id is made of the UUID.
    pub fn new(flavour: LogFlavour, replica_uuid: &str) -> Self {
        Self {
            flavour,
            replica_uuid: replica_uuid.to_owned(),
            server_id: SERVER_IDS_FROM | crc_fast::crc32_iso_hdlc(replica_uuid.as_bytes()) >> 1,
            heartbeat: HEARTBEAT_DEFAULT,
            semi_sync: true,
            plain_offset_max: u64::from(u32::MAX),
        }
    }
}

/// A connection that asked for the log from `start` on and waits for its first packet.
pub(super) async fn ask_for_log(
    address: &ServerAddress,
    options: &FollowOptions,
    start: &LogPlace,
    cancel: &Cancel,
) -> Result<Connection, MysqlError> {
    let mut connection = Connection::open(address, cancel).await?;
    let heartbeat = options.heartbeat.as_nanos();
    let mut variables = format!(
        "@source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32', \
         @source_heartbeat_period = {heartbeat}, @master_heartbeat_period = {heartbeat}"
    );
    let uuid = crate::quote_text(&options.replica_uuid);
    variables.push_str(&format!(", @replica_uuid = {uuid}, @slave_uuid = {uuid}"));
    if options.semi_sync {
        variables.push_str(", @rpl_semi_sync_replica = 1, @rpl_semi_sync_slave = 1");
    }
    if options.flavour == LogFlavour::MariaDb {
        // All kinds of events as they are in the file.
        variables.push_str(", @mariadb_slave_capability = 4");
    }
    connection.execute(&format!("SET {variables}")).await?;
    register(&mut connection, options).await?;
    let command = dump(start, DUMP_WHOLE, options.server_id);
    connection
        .channel
        .send_command("asking for the log", &[&command])
        .await?;
    Ok(connection)
}

/// The same for a look that ends at the log's end and that the server does not take for a replica.
pub(super) async fn ask_for_look(
    address: &ServerAddress,
    flavour: LogFlavour,
    start: &LogPlace,
    cancel: &Cancel,
) -> Result<Connection, MysqlError> {
    let mut connection = Connection::open(address, cancel).await?;
    let capability = match flavour {
        LogFlavour::Mysql => "",
        LogFlavour::MariaDb => ", @mariadb_slave_capability = 4",
    };
    connection
        .execute(&format!(
            "SET @source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32'{capability}"
        ))
        .await?;
    // Without an identity nobody is replaced.
    let command = dump(start, DUMP_WHOLE | DUMP_ENDS, 0);
    connection
        .channel
        .send_command("asking for the log", &[&command])
        .await?;
    Ok(connection)
}

async fn register(connection: &mut Connection, options: &FollowOptions) -> Result<(), MysqlError> {
    const DOING: &str = "registering as a replica";
    let mut command = vec![COM_REGISTER_REPLICA];
    command.extend(options.server_id.to_le_bytes());
    command.push(u8::try_from(SHOWN_AS.len()).unwrap_or(0));
    command.extend(SHOWN_AS);
    command.extend([0; 2]); // no user, no password
    command.extend([0; 2 + 4 + 4]); // port, rank, source
    connection.channel.send_command(DOING, &[&command]).await?;
    let answer = connection.channel.receive(DOING).await?;
    match answer.first() {
        Some(&response::OK) => Ok(()),
        Some(&response::ERROR) => Err(response::decode_error(&answer)),
        _ => Err(MysqlError::protocol(format!("{DOING}: neither OK nor an error"))),
    }
}

/// Names an offset below 4 GiB; the command for GTIDs has a longer field, and begins at the file's start whatever it says.
fn dump(start: &LogPlace, flags: u16, server_id: u32) -> Vec<u8> {
    let mut command = vec![COM_DUMP];
    command.extend(u32::try_from(start.offset).unwrap_or(u32::MAX).to_le_bytes());
    command.extend(flags.to_le_bytes());
    command.extend(server_id.to_le_bytes());
    command.extend(start.file.as_bytes());
    command
}
