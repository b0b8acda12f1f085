//! The first packets of a connection: the server's greeting, our answer, and a change of the login method.
#![deny(clippy::indexing_slicing)]

use mysql_common::constants::CapabilityFlags;
use mysql_common::packets::{AuthPlugin, HandshakeResponse, SslRequest};
use mysql_common::proto::MySerialize as _;

use super::reader::{Reader, text};
use crate::MysqlError;

/// The only protocol there has been since MySQL 3.21.
const PROTOCOL_VERSION: u8 = 10;
/// The random bytes of the greeting that a password is mixed with.
pub(crate) const NONCE_BYTES: usize = 20;
/// The largest packet we announce; servers go by their own limit.
const PACKET_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// utf8mb4_general_ci, which every server with utf8mb4 has.
const COLLATION: u8 = 45;

/// What we can do; the connection uses what the server can do as well.
fn wanted() -> CapabilityFlags {
    CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_LONG_FLAG
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_PLUGIN_AUTH
        | CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
        | CapabilityFlags::CLIENT_CONNECT_ATTRS
        | CapabilityFlags::CLIENT_DEPRECATE_EOF
}

/// The server's greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: String,
    pub(crate) connection_id: u32,
    pub(crate) capabilities: CapabilityFlags,
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) plugin: Vec<u8>,
}

impl Greeting {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MysqlError> {
        let mut reader = Reader::new("server greeting", bytes);
        let protocol = reader.u8()?;
        if protocol != PROTOCOL_VERSION {
            return Err(reader.wrong(format_args!("protocol version {protocol}; is it a MySQL server?")));
        }
        let version = text(reader.until_nul()?);
        let connection_id = reader.u32_le()?;
        let first_half = reader.take(8)?;
        reader.take(1)?;
        let low = reader.u16_le()?;
        reader.take(3)?; // collation and status, which the login repeats
        let high = reader.u16_le()?;
        let capabilities = CapabilityFlags::from_bits_truncate(u32::from(high) << 16 | u32::from(low));
        let nonce_length = usize::from(reader.u8()?);
        reader.take(10)?;
        if !capabilities.contains(CapabilityFlags::CLIENT_PROTOCOL_41 | CapabilityFlags::CLIENT_SECURE_CONNECTION) {
            return Err(reader.wrong("a server from before MySQL 4.1"));
        }
        let second_half = reader.take(nonce_length.saturating_sub(8).max(13))?;
        let mut nonce = [0; NONCE_BYTES];
        for (to, from) in nonce.iter_mut().zip(first_half.iter().chain(second_half)) {
            *to = *from;
        }
        let plugin = if capabilities.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH) {
            let name = reader.rest();
            name.strip_suffix(&[0]).unwrap_or(name).to_vec()
        } else {
            b"mysql_native_password".to_vec()
        };
        Ok(Self {
            version,
            connection_id,
            capabilities,
            nonce,
            plugin,
        })
    }

    pub(crate) fn offers_tls(&self) -> bool {
        self.capabilities.contains(CapabilityFlags::CLIENT_SSL)
    }

    /// What both sides can do; of our side also `more`, which not every connection is to have.
    pub(crate) fn common(&self, tls: bool, more: CapabilityFlags) -> CapabilityFlags {
        let tls = if tls {
            CapabilityFlags::CLIENT_SSL
        } else {
            CapabilityFlags::empty()
        };
        (wanted() | more | tls) & self.capabilities
    }
}

/// Asks to go on under TLS.
pub(crate) fn tls_request(capabilities: CapabilityFlags) -> Vec<u8> {
    let mut bytes = Vec::new();
    SslRequest::new(capabilities, PACKET_BYTES_MAX, COLLATION).serialize(&mut bytes);
    bytes
}

/// Says who we are and gives the first proof of it.
pub(crate) fn login_request(capabilities: CapabilityFlags, user: &str, plugin: &[u8], proof: Vec<u8>) -> Vec<u8> {
    let plugin = capabilities
        .contains(CapabilityFlags::CLIENT_PLUGIN_AUTH)
        .then(|| AuthPlugin::from_bytes(plugin));
    let attributes = capabilities
        .contains(CapabilityFlags::CLIENT_CONNECT_ATTRS)
        .then(|| crate::client::attributes().into_iter().collect());
    let mut bytes = Vec::new();
    HandshakeResponse::new(
        Some(proof),
        (8, 0, 0),
        Some(user.as_bytes()),
        None::<&[u8]>,
        plugin,
        capabilities,
        attributes,
        PACKET_BYTES_MAX,
    )
    .serialize(&mut bytes);
    bytes
}

/// The server wants another login method: its name and its nonce.
pub(crate) fn decode_switch(bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>), MysqlError> {
    let mut reader = Reader::new("change of the login method", bytes);
    reader.take(1)?;
    if reader.is_empty() {
        return Ok((b"mysql_old_password".to_vec(), Vec::new()));
    }
    let plugin = reader.until_nul()?.to_vec();
    let nonce = reader.rest();
    Ok((plugin, nonce.to_vec()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_greeting_reads_as_the_library_writes_it() {
        use mysql_common::constants::StatusFlags;
        use mysql_common::packets::HandshakePacket;
        let mut bytes = Vec::new();
        HandshakePacket::new(
            10,
            &b"9.7.4"[..],
            7,
            *b"abcdefgh",
            Some(&b"ijklmnopqrst\0"[..]),
            wanted(),
            45,
            StatusFlags::empty(),
            Some(&b"caching_sha2_password"[..]),
        )
        .serialize(&mut bytes);
        let greeting = Greeting::decode(&bytes).unwrap();
        assert_eq!((greeting.version.as_str(), greeting.connection_id), ("9.7.4", 7));
        assert_eq!(&greeting.nonce, b"abcdefghijklmnopqrst");
        assert_eq!(greeting.plugin, b"caching_sha2_password");
        assert_eq!(greeting.common(true, CapabilityFlags::CLIENT_LOCAL_FILES), wanted());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(mut bytes: Vec<u8>) {
            let _ = Greeting::decode(&bytes).is_ok();
            let _ = decode_switch(&bytes).is_ok();
            bytes.insert(0, PROTOCOL_VERSION);
            let _ = Greeting::decode(&bytes).is_ok();
        }
    }
}
