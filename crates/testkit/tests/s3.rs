//! The S3 server asks for a signature, dies at once, comes back on its port, and speaks TLS that its authority vouches for.
#![allow(clippy::disallowed_methods, reason = "no program runs here")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use ballast_testkit::s3::{S3Options, S3Server};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

const REQUEST: &[u8] = b"GET /balance-backup/none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn nothing_is_given_without_a_signature_and_a_kill_cuts_open_connections() {
    let server = S3Server::start(S3Options::default());
    assert!(server.endpoint().starts_with("http://127.0.0.1:"));
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.write_all(REQUEST).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("AccessDenied"), "{answer}");

    let mut open = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    open.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    open.write_all(&REQUEST[..20]).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    server.kill();
    assert!(
        matches!(open.read(&mut [0; 100]), Ok(0) | Err(_)),
        "the half request was not answered"
    );
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
    server.restart();
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_ok());
}

#[test]
fn tls_is_vouched_for_by_the_authority() {
    let server = S3Server::start(S3Options {
        tls: true,
        ..S3Options::default()
    });
    assert!(server.endpoint().starts_with("https://127.0.0.1:"));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(server.ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut connection = rustls::ClientConnection::new(config, name).unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    stream.write_all(REQUEST).unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, b"HTTP/1.1 403");
}
