//! A load that the target's binary log does not hear of, where the user asked for that: it costs the server less, and neither
//! replicas of the target nor an archive of its log get the rows.

use ballast_mysql::{Connection, MysqlError};

use crate::error::{ProtectError, Result};

/// The flag that asks for it.
pub(super) const FLAG: &str = "--no-binlog";

/// What the plan says of it.
pub(crate) fn line() -> (String, String) {
    (
        "binary log".to_owned(),
        "off for this load: replicas of the target and backups of its log do not get these tables".to_owned(),
    )
}

/// Keeps everything this session does out of the binary log.
pub(crate) async fn keep_out(connection: &mut Connection) -> Result<()> {
    match connection.execute("SET SESSION sql_log_bin = 0").await {
        Err(error @ MysqlError::Server { .. }) => Err(ProtectError::usage(format!(
            "this account may not keep the load out of the binary log: {error}"
        ))
        .hint(format!(
            "leave {FLAG} out, or as an administrator of the target: GRANT SESSION_VARIABLES_ADMIN ON *.* TO the account (MariaDB: BINLOG ADMIN)"
        ))),
        done => {
            done?;
            Ok(())
        }
    }
}
