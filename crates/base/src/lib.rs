//! Floor 0: what every floor above needs and what knows nothing of backups. Time, chance, retry, shutdown,
//! named tasks, secrets, units, files that survive a crash, the way to a server and the folder of a private one each have
//! their one door here.

mod clock;
mod durable;
mod random;
mod retry;
mod scratch;
mod secret;
mod shutdown;
mod task;
mod transport;
mod units;

#[cfg(any(test, feature = "testing"))]
pub use clock::ManualClock;
pub use clock::{Clock, SystemClock};
pub use durable::{DurableError, create_durable, create_private_dir, replace_durable, sync_dir, write_durable};
pub use random::{fill_random, random_hex, random_unit};
pub use retry::{RetryPolicy, Retryable, retry};
pub use scratch::{Scratch, ScratchError, processes_where, socket_in, sweep};
pub use secret::{Secret, SecretError, SecretRef};
pub use shutdown::{Cancel, Cancelled};
pub use task::{Task, TaskError, TaskSet, run_blocking, spawn};
pub use transport::{TlsError, TlsMode, Transport, connect, encrypt};
pub use units::{format_bytes, format_duration, parse_bytes, parse_duration};
