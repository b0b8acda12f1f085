//! A fresh data directory, made by the server's own program.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ballast_base::Cancel;

use super::{NO_KEYS, ServerBinary, clean_command};
use crate::MysqlError;

const WAIT_MAX: Duration = Duration::from_secs(600);

impl ServerBinary {
    /// Makes a data directory in `directory`, which must be empty or not there; of MySQL only. Its one account beside the
    /// server's own is `root@localhost`, without a password. It is not durable yet.
    pub async fn initialise(
        &self,
        directory: &Path,
        settings: &BTreeMap<String, String>,
        cancel: &Cancel,
    ) -> Result<(), MysqlError> {
        let mut command = clean_command(&self.path);
        command
            .args([
                "--no-defaults",
                "--initialize-insecure",
                "--mysqlx=OFF",
                "--secure-file-priv=NULL",
            ])
            .arg(format!("--datadir={}", directory.display()))
            .args([
                "--innodb-flush-method=nosync",
                "--innodb-doublewrite=OFF",
                "--performance-schema=OFF",
            ])
            .args(NO_KEYS);
        if rustix::process::geteuid().is_root() {
            command.arg("--user=root");
        }
        command.args(
            settings
                .iter()
                .map(|(name, value)| format!("--{}={value}", name.replace('_', "-"))),
        );
        let made = command
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .output();
        let output = cancel
            .race(tokio::time::timeout(WAIT_MAX, made))
            .await?
            .map_err(|_| MysqlError::Timeout {
                doing: "making a fresh data directory",
                after: WAIT_MAX,
            })?
            .map_err(|source| MysqlError::File {
                step: "run server program",
                path: self.path.clone(),
                source,
            })?;
        if output.status.success() {
            return Ok(());
        }
        Err(MysqlError::Process {
            what: format!("the server made no fresh data directory ({})", output.status),
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
