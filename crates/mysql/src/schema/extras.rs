//! What a server can have and is not read: it is looked for, and named.

use super::ObjectKind;
use super::read::{Reading, text};
use crate::MysqlError;

/// What to look for, the statement that lists it by name, and why it is left out.
type Extra = (ObjectKind, &'static str, &'static str);

const TABLESPACES: Extra = (
    ObjectKind::Tablespace,
    "SELECT NAME FROM information_schema.INNODB_TABLESPACES WHERE SPACE_TYPE = 'General' AND NAME <> 'mysql' ORDER BY NAME",
    "tables are read, their general tablespaces are not; create it first where tables are to be in it again",
);
const FUNCTIONS: Extra = (
    ObjectKind::LoadableFunction,
    "SELECT name FROM mysql.func ORDER BY name",
    "its code is a file of the server; install it with CREATE FUNCTION … SONAME where it is needed",
);
const SERVERS: Extra = (
    ObjectKind::ForeignServer,
    "SELECT Server_name FROM mysql.servers ORDER BY Server_name",
    "it holds the password of another server; create it again with CREATE SERVER",
);
const RESOURCE_GROUPS: Extra = (
    ObjectKind::ResourceGroup,
    "SELECT RESOURCE_GROUP_NAME FROM information_schema.RESOURCE_GROUPS
     WHERE RESOURCE_GROUP_NAME NOT IN ('USR_default', 'SYS_default') ORDER BY RESOURCE_GROUP_NAME",
    "it is about the processors of one machine; create it again with CREATE RESOURCE GROUP",
);
/// Numbers outside those that the server keeps for itself.
const REFERENCE_SYSTEMS: Extra = (
    ObjectKind::SpatialReferenceSystem,
    "SELECT SRS_NAME FROM information_schema.ST_SPATIAL_REFERENCE_SYSTEMS
     WHERE SRS_ID > 32767 AND SRS_ID NOT BETWEEN 60000000 AND 69999999 AND SRS_ID < 2000000000 ORDER BY SRS_NAME",
    "spatial reference systems of one's own are not read; create it again with CREATE SPATIAL REFERENCE SYSTEM",
);

pub(super) async fn name(reading: &mut Reading<'_>) -> Result<(), MysqlError> {
    let list: &[Extra] = if reading.mariadb {
        &[FUNCTIONS, SERVERS]
    } else {
        &[TABLESPACES, FUNCTIONS, SERVERS, RESOURCE_GROUPS, REFERENCE_SYSTEMS]
    };
    for (kind, sql, reason) in list {
        match reading.connection.query(sql).await {
            Ok(rows) => {
                for row in rows {
                    let name = text(&row, 0)?;
                    reading.leave_out(*kind, None, Some(&name), *reason);
                }
            }
            Err(MysqlError::Server { code, message, .. }) => {
                let reason = format!("whether there is any is not known, the server says: {message} (error {code})");
                reading.leave_out(*kind, None, None, reason);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
