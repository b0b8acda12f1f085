//! The server's side of a login: the greeting, and one account that proves its password.
//!
//! The password is random and lives as long as the run. It is proved by the fast form of `caching_sha2_password`, for a MariaDB by
//! `mysql_native_password`: no form in which it would cross the line.
#![deny(clippy::indexing_slicing)]

use aws_lc_rs::constant_time::verify_slices_are_equal;
use ballast_base::{Secret, fill_random};
use bytes::{BufMut as _, BytesMut};
use mysql_common::auth::plugins::caching_sha2_password::scramble_sha256;
use mysql_common::auth::plugins::mysql_native_password::scramble_native;
use mysql_common::constants::CapabilityFlags;

use super::ServeOptions;
use crate::wire::handshake::NONCE_BYTES;
use crate::wire::packet::Channel;
use crate::wire::reader::{Reader, text};
use crate::{Flavour, MysqlError};

const DOING: &str = "letting the replica in";
pub(super) const OK: [u8; 7] = [0, 0, 0, 2, 0, 0, 0];
const FAST_LOGIN_DONE: [u8; 2] = [1, 3];
const ACCESS_DENIED: u16 = 1045;
/// utf8mb4_general_ci.
const COLLATION: u8 = 0x2D;
const STATUS_AUTOCOMMIT: u16 = 2;
/// MariaDB's replicas know a MariaDB by these characters before its version.
const MARIADB_PREFIX: &str = "5.5.5-";

/// What a source of old could: answers end by EOF packets, and statements come as plain text.
fn offered() -> CapabilityFlags {
    CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_FOUND_ROWS
        | CapabilityFlags::CLIENT_LONG_FLAG
        | CapabilityFlags::CLIENT_CONNECT_WITH_DB
        | CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_PLUGIN_AUTH
        | CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
}

fn plugin(flavour: Flavour) -> &'static [u8] {
    match flavour {
        Flavour::MariaDb => b"mysql_native_password",
        Flavour::Mysql | Flavour::Percona => b"caching_sha2_password",
    }
}

/// Greets, and lets in who is the account and knows the password.
pub(super) async fn admit(
    channel: &mut Channel,
    options: &ServeOptions,
    user: &str,
    password: &Secret,
) -> Result<(), MysqlError> {
    let nonce = nonce();
    let plugin = plugin(options.flavour);
    channel.start_over();
    channel.send(DOING, &[&greeting(options, &nonce, plugin)]).await?;
    let request = Request::decode(&channel.receive(DOING).await?)?;
    let proof = if request.plugin == plugin {
        request.proof
    } else {
        channel.send(DOING, &[&[0xFE], plugin, &[0], &nonce, &[0]]).await?;
        channel.receive(DOING).await?.to_vec()
    };
    let proved = match options.flavour {
        Flavour::MariaDb => {
            scramble_native(&nonce, password.expose().as_bytes()).is_some_and(|wanted| equal(&wanted, &proof))
        }
        Flavour::Mysql | Flavour::Percona => {
            scramble_sha256(&nonce, password.expose().as_bytes()).is_some_and(|wanted| equal(&wanted, &proof))
        }
    };
    if !proved || request.user != user {
        let message = format!("Access denied for user '{}'", request.user);
        refuse(channel, ACCESS_DENIED, "28000", &message).await?;
        return Err(MysqlError::Login {
            user: request.user,
            address: "the served log".to_owned(),
            code: ACCESS_DENIED,
            message,
        });
    }
    if options.flavour != Flavour::MariaDb {
        channel.send(DOING, &[&FAST_LOGIN_DONE]).await?;
    }
    channel.send(DOING, &[&OK]).await
}

pub(super) async fn refuse(channel: &mut Channel, code: u16, state: &str, message: &str) -> Result<(), MysqlError> {
    channel
        .send(
            DOING,
            &[&[0xFF], &code.to_le_bytes(), b"#", state.as_bytes(), message.as_bytes()],
        )
        .await
}

fn equal(wanted: &[u8], given: &[u8]) -> bool {
    verify_slices_are_equal(wanted, given).is_ok()
}

/// The nonce must not hold a zero: it ends at one.
fn nonce() -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    fill_random(&mut nonce);
    nonce.map(|byte| byte & 0x7F).map(|byte| byte.max(1))
}

fn greeting(options: &ServeOptions, nonce: &[u8; NONCE_BYTES], plugin: &[u8]) -> Vec<u8> {
    let capabilities = offered().bits().to_le_bytes();
    let (low, high) = capabilities.split_at(2);
    let (first, second) = nonce.split_at(8);
    let mut bytes = BytesMut::new();
    bytes.put_u8(10);
    if options.flavour == Flavour::MariaDb && !options.version.starts_with(MARIADB_PREFIX) {
        bytes.put_slice(MARIADB_PREFIX.as_bytes());
    }
    bytes.put_slice(options.version.replace('\0', "").as_bytes());
    bytes.put_u8(0);
    bytes.put_u32_le(1); // the connection's number
    bytes.put_slice(first);
    bytes.put_u8(0);
    bytes.put_slice(low);
    bytes.put_u8(COLLATION);
    bytes.put_u16_le(STATUS_AUTOCOMMIT);
    bytes.put_slice(high);
    bytes.put_u8(u8::try_from(NONCE_BYTES + 1).unwrap_or_default());
    bytes.put_bytes(0, 10);
    bytes.put_slice(second);
    bytes.put_u8(0);
    bytes.put_slice(plugin);
    bytes.put_u8(0);
    bytes.to_vec()
}

/// What the replica answers to the greeting.
#[derive(Debug)]
struct Request {
    user: String,
    proof: Vec<u8>,
    plugin: Vec<u8>,
}

impl Request {
    fn decode(bytes: &[u8]) -> Result<Self, MysqlError> {
        let mut reader = Reader::new("the replica's login", bytes);
        // It may claim more than was offered.
        let capabilities = CapabilityFlags::from_bits_truncate(reader.u32_le()?) & offered();
        if !capabilities.contains(CapabilityFlags::CLIENT_PROTOCOL_41 | CapabilityFlags::CLIENT_SECURE_CONNECTION) {
            return Err(reader.wrong("a client from before MySQL 4.1"));
        }
        reader.take(4 + 1 + 23)?; // largest packet, collation, filler
        let user = text(reader.until_nul()?);
        let proof = if capabilities.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA) {
            reader.lenenc_bytes()?.to_vec()
        } else {
            let length = usize::from(reader.u8()?);
            reader.take(length)?.to_vec()
        };
        if capabilities.contains(CapabilityFlags::CLIENT_CONNECT_WITH_DB) && !reader.is_empty() {
            reader.until_nul()?;
        }
        let plugin = if capabilities.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH) && !reader.is_empty() {
            reader.until_nul()?.to_vec()
        } else {
            Vec::new()
        };
        Ok(Self { user, proof, plugin })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::handshake::Greeting;

    fn options(flavour: Flavour, version: &str) -> ServeOptions {
        ServeOptions {
            flavour,
            version: version.to_owned(),
            server_id: 1,
            server_uuid: String::new(),
            heartbeat: std::time::Duration::from_secs(1),
        }
    }

    #[test]
    fn the_greeting_reads_as_a_client_reads_it() {
        for (flavour, version, greeted) in [
            (Flavour::Mysql, "9.7.4", "9.7.4"),
            (Flavour::MariaDb, "10.11.19-MariaDB-log", "5.5.5-10.11.19-MariaDB-log"),
        ] {
            let nonce = nonce();
            assert!(nonce.iter().all(|byte| *byte != 0));
            let bytes = greeting(&options(flavour, version), &nonce, plugin(flavour));
            let read = Greeting::decode(&bytes).unwrap();
            assert_eq!((read.version.as_str(), read.nonce), (greeted, nonce));
            assert_eq!(read.plugin, plugin(flavour));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>, capabilities: u32) {
            let _ = Request::decode(&bytes).is_ok();
            let _ = Request::decode(&[&capabilities.to_le_bytes(), &bytes[..]].concat()).is_ok();
        }
    }
}
