//! Options of a server that takes in a log: for speed, and to keep its own notes out of the data directory.
//!
//! A copy on which this server fails is thrown away, so nothing it commits needs to be on disk before it has ended in order.

use super::{ReplayOptions, ServerBinary};
use crate::Flavour;

/// What was received and is not applied yet lies beside the socket, up to this; then the source waits.
const RELAY_SPACE_BYTES: u64 = 256 * 1024 * 1024;
const RELAY_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// The source may be silent for so long in the middle of an event, while it waits for storage.
const SILENCE_SECONDS: u64 = 3600;

pub(super) fn arguments(options: &ReplayOptions, binary: &ServerBinary, folder: &str) -> Vec<String> {
    let ReplayOptions {
        server_id,
        workers,
        buffer_pool_bytes,
    } = options;
    let mut arguments = vec![
        format!("--server-id={server_id}"),
        format!("--relay-log={folder}/relay"),
        format!("--relay-log-index={folder}/relay.index"),
        format!("--relay-log-space-limit={RELAY_SPACE_BYTES}"),
        format!("--max-relay-log-size={RELAY_FILE_BYTES}"),
        "--sync-relay-log=0".to_owned(),
        "--innodb-flush-log-at-trx-commit=0".to_owned(),
        "--event-scheduler=OFF".to_owned(),
        format!("--innodb-buffer-pool-size={buffer_pool_bytes}"),
    ];
    if binary.version.flavour == Flavour::MariaDb {
        arguments.extend([
            // One by one: what is tried again in parallel is counted again, and the count is what proves a replay here.
            "--slave-parallel-threads=0".to_owned(),
            format!("--master-info-file={folder}/master.info"),
            format!("--relay-log-info-file={folder}/relay-log.info"),
            format!("--slave-net-timeout={SILENCE_SECONDS}"),
            "--sync-master-info=0".to_owned(),
            "--sync-relay-log-info=0".to_owned(),
            "--innodb-doublewrite=0".to_owned(),
        ]);
        return arguments;
    }
    let replica = if binary.version.numeric() >= (8, 0, 26) {
        "replica"
    } else {
        "slave"
    };
    arguments.extend([
        format!("--{replica}-parallel-workers={workers}"),
        // Nobody reads meanwhile, and what fails fails as a whole.
        format!("--{replica}-preserve-commit-order=OFF"),
        format!("--{replica}-net-timeout={SILENCE_SECONDS}"),
        // Persisted options of the donor, such as its server id, come after those of the command line.
        "--persisted-globals-load=OFF".to_owned(),
    ]);
    arguments
}
