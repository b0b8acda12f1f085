//! Proving the password by each method we know, as a machine without input or output: it is given what the server
//! sent and says what to answer.
//!
//! The password itself goes out only where nobody on the way can read it: over TLS, over a Unix socket, or encrypted
//! with the server's RSA key. Over plain TCP that key comes unauthenticated, so an active attacker could put in
//! his own; choose TLS where that matters.
//!
//! The scrambles are `mysql_common`'s. Its own machine is not used because its RSA code panics on a malformed key,
//! which comes from outside.
#![deny(clippy::indexing_slicing)]

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use ballast_base::Secret;
use mysql_common::auth::plugins::caching_sha2_password::scramble_sha256;
use mysql_common::auth::plugins::client_ed25519::ClientEd25519;
use mysql_common::auth::plugins::mysql_native_password::scramble_native;
use mysql_common::auth::plugins::{ChallengeResponsePlugin as _, Context};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;

use super::handshake::NONCE_BYTES;
use super::reader::text;
use crate::MysqlError;

const REQUEST_SERVER_KEY: u8 = 2;
const REQUEST_SHA256_KEY: u8 = 1;
const FAST_LOGIN_DONE: u8 = 3;
const FULL_LOGIN_WANTED: u8 = 4;

/// One login by one method.
#[derive(Debug)]
pub(crate) struct Login {
    method: Method,
    password: Option<Secret>,
    /// Nobody on the way can read what is sent.
    private: bool,
}

#[derive(Debug)]
enum Method {
    CachingSha2 {
        nonce: [u8; NONCE_BYTES],
        waiting_for_key: bool,
    },
    /// Gone since MySQL 9, except as what a server asks of users it does not know, to give nothing away.
    Sha256 {
        nonce: [u8; NONCE_BYTES],
    },
    Native {
        nonce: [u8; NONCE_BYTES],
    },
    Ed25519 {
        nonce: Vec<u8>,
    },
}

impl Login {
    pub(crate) fn new(
        plugin: &[u8],
        nonce: &[u8],
        password: Option<Secret>,
        private: bool,
    ) -> Result<Self, MysqlError> {
        let twenty = || {
            nonce
                .get(..NONCE_BYTES)
                .and_then(|nonce| nonce.try_into().ok())
                .ok_or_else(|| {
                    MysqlError::protocol(format!(
                        "a login nonce of {} bytes instead of {NONCE_BYTES}",
                        nonce.len()
                    ))
                })
        };
        let method = match plugin {
            b"caching_sha2_password" => Method::CachingSha2 {
                nonce: twenty()?,
                waiting_for_key: false,
            },
            b"sha256_password" => Method::Sha256 { nonce: twenty()? },
            b"mysql_native_password" => Method::Native { nonce: twenty()? },
            b"client_ed25519" => Method::Ed25519 { nonce: nonce.to_vec() },
            other => {
                return Err(MysqlError::Unsupported {
                    what: format!(
                        "the server asks for the login method \"{}\", which is not supported",
                        text(other)
                    ),
                    hint:
                        "use an account with caching_sha2_password (MySQL), mysql_native_password or ed25519 (MariaDB)"
                            .to_owned(),
                });
            }
        };
        Ok(Self {
            method,
            password,
            private,
        })
    }

    /// Whether a server that greets with `plugin` can be answered at once.
    pub(crate) fn knows(plugin: &[u8]) -> bool {
        matches!(
            plugin,
            b"caching_sha2_password" | b"sha256_password" | b"mysql_native_password" | b"client_ed25519"
        )
    }

    fn password(&self) -> &[u8] {
        self.password.as_ref().map_or(b"", |secret| secret.expose().as_bytes())
    }

    /// Only for a private line.
    fn clear_password(&self) -> Vec<u8> {
        let mut clear = self.password().to_vec();
        clear.push(0);
        clear
    }

    /// What is sent first.
    pub(crate) fn first_proof(&self) -> Result<Vec<u8>, MysqlError> {
        Ok(match &self.method {
            Method::CachingSha2 { nonce, .. } => scramble_sha256(nonce, self.password())
                .map(|proof| proof.to_vec())
                .unwrap_or_default(),
            Method::Sha256 { .. } if self.private || self.password().is_empty() => self.clear_password(),
            Method::Sha256 { .. } => vec![REQUEST_SHA256_KEY],
            Method::Native { nonce } => scramble_native(nonce, self.password())
                .map(|proof| proof.to_vec())
                .unwrap_or_default(),
            Method::Ed25519 { nonce } => {
                let answer = ClientEd25519::default()
                    .run(PasswordOnly(self.password()), nonce)
                    .map_err(|error| MysqlError::protocol(format!("ed25519 login: {error}")))?;
                answer.data().unwrap_or_default().to_vec()
            }
        })
    }

    /// The answer to what the server sent in the middle of the login; `None` when nothing is to be sent.
    pub(crate) fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, MysqlError> {
        let unexpected = || MysqlError::protocol(format!("login: unexpected message of {} bytes", challenge.len()));
        if let Method::Sha256 { nonce } = &self.method {
            return Ok(Some(encrypt_with_key(self.password(), nonce, challenge)?));
        }
        let Method::CachingSha2 { nonce, waiting_for_key } = &mut self.method else {
            return Err(unexpected());
        };
        if *waiting_for_key {
            *waiting_for_key = false;
            let nonce = *nonce;
            return Ok(Some(encrypt_with_key(self.password(), &nonce, challenge)?));
        }
        match challenge {
            [FAST_LOGIN_DONE] => Ok(None),
            [FULL_LOGIN_WANTED] if self.private => Ok(Some(self.clear_password())),
            [FULL_LOGIN_WANTED] => {
                *waiting_for_key = true;
                Ok(Some(vec![REQUEST_SERVER_KEY]))
            }
            _ => Err(unexpected()),
        }
    }
}

/// The NUL-ended password, mixed with the nonce, under the server's key.
fn encrypt_with_key(password: &[u8], nonce: &[u8; NONCE_BYTES], pem: &[u8]) -> Result<Vec<u8>, MysqlError> {
    let wrong = |what: &str| MysqlError::protocol(format!("login: the server's RSA key {what}"));
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| wrong("is not in PEM form"))?;
    let key = PublicEncryptingKey::from_der(&der).map_err(|_| wrong("is not usable"))?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| wrong("is not usable"))?;
    let mut mixed: Vec<u8> = password
        .iter()
        .chain(&[0])
        .zip(nonce.iter().cycle())
        .map(|(byte, nonce)| byte ^ nonce)
        .collect();
    let mut sealed = vec![0; key.ciphertext_size()];
    let length = key
        .encrypt(&OAEP_SHA1_MGF1SHA1, &mixed, &mut sealed, None)
        .map_err(|_| wrong("is too short for the password"))?
        .len();
    mixed.fill(0);
    sealed.truncate(length);
    Ok(sealed)
}

struct PasswordOnly<'a>(&'a [u8]);

impl Context for PasswordOnly<'_> {
    fn pass(&self) -> &[u8] {
        self.0
    }
    fn is_ipc_transport(&self) -> bool {
        false
    }
    fn is_tls_transport(&self) -> bool {
        false
    }
    fn scramble(&self) -> &[u8] {
        b""
    }
    fn server_key_pem(&self) -> Option<&[u8]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_password_never_goes_out_in_clear_over_an_open_line() {
        let password = || Some(Secret::new("tide".to_owned()));
        let mut private = Login::new(b"caching_sha2_password", &[7; 20], password(), true).unwrap();
        assert_eq!(private.answer(&[FULL_LOGIN_WANTED]).unwrap().unwrap(), b"tide\0");
        let mut open = Login::new(b"caching_sha2_password", &[7; 20], password(), false).unwrap();
        assert_eq!(
            open.answer(&[FULL_LOGIN_WANTED]).unwrap().unwrap(),
            [REQUEST_SERVER_KEY]
        );
        let error = open
            .answer(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
            .unwrap_err();
        assert!(error.to_string().contains("the server's RSA key"), "{error}");
        let error = Login::new(b"mysql_clear_password", &[], password(), true).unwrap_err();
        assert!(error.to_string().contains("mysql_clear_password"), "{error}");
    }

    /// MariaDB's method is Ed25519 with the password in the place of the seed, so with a password as long as a seed
    /// the proof is an ordinary signature of the nonce, which another library makes as well.
    #[test]
    fn the_ed25519_proof_is_a_signature_of_the_nonce() {
        use aws_lc_rs::signature::Ed25519KeyPair;
        let (password, nonce) = ("a password of thirty-two letters", [9u8; 32]);
        let login = Login::new(b"client_ed25519", &nonce, Some(Secret::new(password.to_owned())), false).unwrap();
        let expected = Ed25519KeyPair::from_seed_unchecked(password.as_bytes())
            .unwrap()
            .sign(&nonce);
        assert_eq!(login.first_proof().unwrap(), expected.as_ref());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_login_panic(nonce: Vec<u8>, first: Vec<u8>, second: Vec<u8>, private: bool) {
            for plugin in [&b"caching_sha2_password"[..], b"sha256_password", b"mysql_native_password", b"client_ed25519", &nonce] {
                let password = Some(Secret::new("tide".to_owned()));
                if let Ok(mut login) = Login::new(plugin, &nonce, password, private) {
                    let _ = login.first_proof().is_ok();
                    let _ = (login.answer(&first).is_ok(), login.answer(&[FULL_LOGIN_WANTED]).is_ok());
                    let _ = login.answer(&second).is_ok();
                }
            }
        }
    }
}
