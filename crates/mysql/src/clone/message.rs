//! The outer layer of the clone protocol: requests to the donor and its answers. Integers are little-endian.
#![deny(clippy::indexing_slicing)]

use bytes::Bytes;

use super::descriptor::Descriptor;
use crate::MysqlError;
use crate::wire::reader::{Reader, text};
use crate::wire::response;

/// The newest protocol known; the donor answers with the older of this and its own.
const PROTOCOL_VERSION: u32 = 0x0103;
/// Set in the time limit: do not take the backup lock, so that DDL goes on.
const DDL_GOES_ON: u32 = 1 << 31;
/// InnoDB's number among the storage engines.
const INNODB: u8 = 12;
/// A donor has one engine that can be cloned; a few more may come.
const LOCATORS_MAX: usize = 16;

/// The donor's error for encrypted data over a connection without TLS.
const NEEDS_TLS_FOR_KEYS: u16 = 3872;

pub(crate) const INIT: u8 = 1;
pub(crate) const ATTACH: u8 = 2;
pub(crate) const EXECUTE: u8 = 4;
pub(crate) const ACKNOWLEDGE: u8 = 5;
pub(crate) const EXIT: u8 = 6;

/// How the donor names the clone that runs, for one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locator {
    pub(crate) engine: u8,
    pub(crate) bytes: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Locators { version: u32, locators: Vec<Locator> },
    Descriptor(Descriptor),
    Data(Bytes),
    Plugin { name: String, library: Option<String> },
    Config { key: String, value: String },
    Collation(String),
    Complete,
}

impl Answer {
    /// The donor's refusals, in either of their two forms, are errors here.
    pub(crate) fn decode(packet: &Bytes) -> Result<Self, MysqlError> {
        let mut reader = Reader::new("clone answer", packet);
        Ok(match reader.u8()? {
            1 => decode_locators(reader, packet)?,
            2 => {
                let engine = reader.u8()?;
                if engine != INNODB {
                    return Err(reader.wrong(format_args!("data of storage engine {engine}, known is InnoDB")));
                }
                reader.u8()?; // which of the locators
                Self::Descriptor(Descriptor::decode(&packet.slice_ref(reader.rest()))?)
            }
            3 => Self::Data(packet.slice_ref(reader.rest())),
            4 => Self::Plugin {
                name: text(reader.u32_bytes()?),
                library: None,
            },
            7 => Self::Plugin {
                name: text(reader.u32_bytes()?),
                library: Some(text(reader.u32_bytes()?)).filter(|file| !file.is_empty()),
            },
            5 | 8 | 9 => Self::Config {
                key: text(reader.u32_bytes()?),
                value: text(reader.u32_bytes()?),
            },
            6 => Self::Collation(text(reader.u32_bytes()?)),
            99 => Self::Complete,
            100 => return Err(decode_refusal(reader)),
            response::ERROR => return Err(response::decode_error(packet)),
            other => return Err(reader.wrong(format_args!("unknown kind {other}"))),
        })
    }
}

fn decode_locators(mut reader: Reader<'_>, packet: &Bytes) -> Result<Answer, MysqlError> {
    let version = reader.u32_le()?;
    let mut locators = Vec::new();
    while !reader.is_empty() {
        if locators.len() == LOCATORS_MAX {
            return Err(reader.wrong("too many locators"));
        }
        let engine = reader.u8()?;
        locators.push(Locator {
            engine,
            bytes: packet.slice_ref(reader.u32_bytes()?),
        });
    }
    Ok(Answer::Locators { version, locators })
}

fn decode_refusal(mut reader: Reader<'_>) -> MysqlError {
    let code = match reader.u32_le() {
        Ok(code) => code,
        Err(error) => return error,
    };
    match u16::try_from(code) {
        // "Clone needs SSL connection for encrypted table": without TLS the donor does not even name it.
        Ok(NEEDS_TLS_FOR_KEYS) => encrypted("a tablespace"),
        Ok(code) => MysqlError::Server {
            code,
            state: "HY000".to_owned(),
            message: text(reader.rest()),
        },
        Err(_) => MysqlError::protocol(format!("clone answer: error {code}: {}", text(reader.rest()))),
    }
}

/// What is encrypted with the server's keys is not copied: the keys would have to be copied and kept as well.
pub(crate) fn encrypted(what: &str) -> MysqlError {
    MysqlError::Unsupported {
        what: format!("{what} of the server is encrypted, which a clone does not copy yet"),
        hint: "copy encrypted tables logically, or decrypt them: ALTER TABLE … ENCRYPTION='N', ALTER TABLESPACE mysql \
               ENCRYPTION='N', SET GLOBAL innodb_redo_log_encrypt=OFF, SET GLOBAL innodb_undo_log_encrypt=OFF"
            .to_owned(),
    }
}

fn put_locators(payload: &mut Vec<u8>, locators: &[Locator]) {
    for locator in locators {
        payload.push(locator.engine);
        put_bytes(payload, &locator.bytes);
    }
}

fn put_bytes(payload: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("locators and descriptors came in one packet, which is under 4 GiB");
    payload.extend(length.to_le_bytes());
    payload.extend_from_slice(bytes);
}

/// INIT without locators, ATTACH with those that INIT answered.
pub(crate) fn start(command: u8, ddl_wait_seconds: u32, block_ddl: bool, locators: &[Locator]) -> Vec<u8> {
    let ddl = ddl_wait_seconds & !DDL_GOES_ON | if block_ddl { 0 } else { DDL_GOES_ON };
    let mut payload = vec![command];
    payload.extend(PROTOCOL_VERSION.to_le_bytes());
    payload.extend(ddl.to_le_bytes());
    put_locators(&mut payload, locators);
    payload
}

/// The acknowledgement of a state; with an `error` other than 0 it asks the donor to stop.
pub(crate) fn acknowledge(error: u16, locator: &Locator, descriptor: &[u8]) -> Vec<u8> {
    let mut payload = vec![ACKNOWLEDGE];
    payload.extend(i32::from(error).to_le_bytes());
    put_locators(&mut payload, std::slice::from_ref(locator));
    put_bytes(&mut payload, descriptor);
    payload
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refusals_carry_the_donors_words_in_both_forms() {
        for packet in [
            &b"\x64\x32\x0e\x00\x00Too many concurrent clone operations."[..],
            b"\xff\x32\x0e#HY000Too many concurrent clone operations.",
        ] {
            let error = Answer::decode(&Bytes::copy_from_slice(packet)).unwrap_err();
            assert_eq!(error.server_code(), Some(3634));
            assert!(
                error.to_string().contains("Too many concurrent clone operations."),
                "{error}"
            );
        }
    }

    #[test]
    fn locators_go_back_as_they_came() {
        let packet = Bytes::from_static(b"\x01\x03\x01\x00\x00\x0c\x03\x00\x00\x00abc");
        let Answer::Locators { version, locators } = Answer::decode(&packet).unwrap() else {
            unreachable!("locators were written");
        };
        assert_eq!(version, 0x0103);
        let request = start(ATTACH, 300, false, &locators);
        assert_eq!(request, b"\x02\x03\x01\x00\x00\x2c\x01\x00\x80\x0c\x03\x00\x00\x00abc");
        assert_eq!(start(INIT, 300, true, &[]), b"\x01\x03\x01\x00\x00\x2c\x01\x00\x00");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(kind: u8, mut bytes: Vec<u8>) {
            let _ = Answer::decode(&Bytes::from(bytes.clone())).is_ok();
            bytes.insert(0, kind % 12);
            let _ = Answer::decode(&Bytes::from(bytes)).is_ok();
        }
    }
}
