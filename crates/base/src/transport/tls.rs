//! TLS on a connection, from its first byte or from where both sides agreed on it.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::Transport;

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// In the clear. The default for a Unix socket and for this machine.
    Off,
    /// Encrypted. With a CA the certificate's chain must lead to it; the name is not compared. The default elsewhere.
    Required,
    /// Encrypted, with the chain (to the CA given, or to one the machine trusts) and the name checked.
    Verify,
}

impl TlsMode {
    /// As a URL has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Required => "required",
            Self::Verify => "verify",
        }
    }
}

/// Why there is no encrypted connection.
#[derive(Debug)]
pub enum TlsError {
    /// It is not to be had this way.
    Refused(String),
    /// The connection ended meanwhile.
    Lost(std::io::Error),
}

/// Encrypts `transport`, trusting the authorities in `ca` or those of the machine. The caller limits how long it may take.
pub async fn encrypt(
    transport: Box<dyn Transport>,
    host: &str,
    mode: TlsMode,
    ca: Option<&Path>,
) -> Result<Box<dyn Transport>, TlsError> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| TlsError::Refused(format!("\"{host}\" is no name a certificate can be for")))?;
    let config = config(mode, ca).map_err(TlsError::Refused)?;
    let encrypted = TlsConnector::from(Arc::new(config)).connect(name, transport).await;
    let stream = encrypted.map_err(|error| {
        let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match refused {
            Some(refused) => TlsError::Refused(refused.to_string()),
            None => TlsError::Lost(error),
        }
    })?;
    Ok(Box::new(stream))
}

fn config(mode: TlsMode, ca: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match (mode, ca) {
        (TlsMode::Verify, ca) => chain_verifier(ca, &provider)?,
        (_, Some(ca)) => Arc::new(Lenient {
            provider: Arc::clone(&provider),
            chain: Some(chain_verifier(Some(ca), &provider)?),
        }),
        (_, None) => Arc::new(Lenient {
            provider: Arc::clone(&provider),
            chain: None,
        }),
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Trusts the authorities in `ca`, or those of the machine.
fn chain_verifier(ca: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| format!("certificate file \"{}\": {error}", path.display());
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"holds no certificate"));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err("this machine trusts no certificate authority".to_owned());
            }
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| error.to_string())
}

/// `tls=required`: encrypted, the name not compared. With an authority given, the chain must lead to it; without,
/// any certificate will do, which keeps out listeners but not an attacker in the middle.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        // The name is compared last, after the chain was found good.
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
