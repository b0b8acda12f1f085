//! What an unfinished load remembers on the server it loads into: one key, made before the first key is loaded and removed after the
//! proof. It says how much of the snapshot is there, written only after the server has answered for that much; a server saves
//! what it did in order, so after its death it holds no less than this key says it does, whatever it lost.

use ballast_redis::{Connection, RedisError, Reply};
use serde::{Deserialize, Serialize};

use crate::error::{ProtectError, Result};

/// In database 0. A key of that name in a backup is what another load left: it is not restored.
pub(super) const BOOK: &[u8] = b"ballast:load";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Book {
    pub(super) source: String,
    pub(super) backup: String,
    /// Patterns, in order.
    pub(super) only: Vec<String>,
    /// Bytes of the snapshot.
    pub(super) up_to: u64,
    /// All of it, and not yet proved.
    pub(super) loaded: bool,
}

impl Book {
    pub(super) async fn read(connection: &mut Connection) -> Result<Option<Self>> {
        let text = match connection.command(&[b"GET", BOOK]).await {
            Ok(Reply::Bytes(text)) => text,
            // Somebody else's, and no string.
            Ok(_) | Err(RedisError::Server { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            ProtectError::failed("what an unfinished load left on the target (key \"ballast:load\") is not understood")
                .because(error)
                .hint("go on with the version of ballast that began it, or remove that key: DEL ballast:load")
        })
    }

    pub(super) async fn write(&self, connection: &mut Connection) -> Result<()> {
        let text =
            serde_json::to_vec(self).map_err(|error| ProtectError::failed("write down the load").because(error))?;
        connection.command(&[b"SET", BOOK, &text]).await?;
        Ok(())
    }

    pub(super) async fn remove(connection: &mut Connection) -> Result<()> {
        connection.command(&[b"DEL", BOOK]).await?;
        Ok(())
    }

    pub(super) fn is_of(&self, source: &str, only: &[String]) -> bool {
        self.source == source && self.only == only
    }

    pub(super) fn what(&self) -> String {
        let keys = if self.only.is_empty() {
            String::new()
        } else {
            format!(", keys {}", self.only.join(", "))
        };
        format!("backup {} of \"{}\"{keys}", self.backup, self.source)
    }

    pub(super) fn only_flags(&self) -> String {
        self.only.iter().map(|pattern| format!(" --only '{pattern}'")).collect()
    }
}
