//! The names of all keys, by `SCAN`: each key that is there from the begin to the end comes once, one that is made or goes
//! meanwhile may come or not. A server may give a name twice, when its table shrinks; so a digest of each is kept (16 bytes).

use std::collections::HashSet;

use crate::wire::resp::Reply;
use crate::{Connection, Info, Names, RedisError};

/// Names that are asked for at once.
const TOGETHER: &[u8] = b"256";

#[derive(Debug)]
pub struct KeyScan {
    connection: Connection,
    /// That are not begun, the next one last.
    databases: Vec<u32>,
    database: u32,
    cursor: Option<Vec<u8>>,
    seen: HashSet<[u8; 16]>,
}

impl KeyScan {
    /// Of every database that holds a key now.
    pub async fn begin(mut connection: Connection) -> Result<Self, RedisError> {
        let info = Info::read(&mut connection).await?;
        let databases = info.databases().into_keys().rev().collect();
        Ok(Self {
            connection,
            databases,
            database: 0,
            cursor: None,
            seen: HashSet::new(),
        })
    }

    /// Some names of one database; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Names>, RedisError> {
        loop {
            let cursor = match &self.cursor {
                Some(cursor) => cursor.clone(),
                None => match self.databases.pop() {
                    Some(database) => {
                        self.database = database;
                        self.seen.clear();
                        let number = database.to_string();
                        self.connection.command(&[b"SELECT", number.as_bytes()]).await?;
                        b"0".to_vec()
                    }
                    None => return Ok(None),
                },
            };
            let reply = self.connection.command(&[b"SCAN", &cursor, b"COUNT", TOGETHER]).await?;
            let mut parts = reply.list().into_iter();
            let (Some(Reply::Bytes(next)), Some(Reply::List(names))) = (parts.next(), parts.next()) else {
                return Err(RedisError::protocol("SCAN gave no cursor and names"));
            };
            self.cursor = (next != b"0".as_slice()).then(|| next.to_vec());
            let mut new = Vec::new();
            for name in names {
                let Reply::Bytes(name) = name else {
                    return Err(RedisError::protocol("SCAN gave what is no name"));
                };
                if self.seen.insert(short_digest(&name)) {
                    new.push(name.to_vec());
                }
            }
            if !new.is_empty() {
                return Ok(Some((self.database, new)));
            }
        }
    }

    pub async fn end(self) {
        self.connection.close().await;
    }
}

fn short_digest(name: &[u8]) -> [u8; 16] {
    let digest = blake3::hash(name);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}
