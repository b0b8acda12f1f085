//! An S3 server in this process: real signatures, multipart uploads and listings over real sockets, objects as files.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Certificates;

/// Only a file operation that has begun can make the end wait.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// What a server is started with.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// `https` with a certificate for the loopback names, signed by [`S3Server::ca`].
    pub tls: bool,
    /// Where objects live; without it a private folder that goes with the server. Each bucket is a folder in it.
    pub dir: Option<PathBuf>,
}

/// A running (or stopped) server, with path-style addresses and one bucket, [`S3Server::BUCKET`].
pub struct S3Server {
    folder: TempDir,
    dir: PathBuf,
    address: SocketAddr,
    certificates: Option<Certificates>,
    running: Mutex<Option<Running>>,
}

struct Running {
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl std::fmt::Debug for S3Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Server")
            .field("endpoint", &self.endpoint())
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl S3Server {
    pub const ACCESS_KEY: &str = "ballast-test-access";
    pub const SECRET_KEY: &str = "ballast-test-secret";
    pub const BUCKET: &str = "balance-backup";
    pub const REGION: &str = "us-east-1";

    pub fn start(options: S3Options) -> Self {
        let folder = crate::servers::private_folder();
        let dir = options.dir.unwrap_or_else(|| folder.path().join("objects"));
        fs::create_dir_all(dir.join(Self::BUCKET)).unwrap();
        let certificates = options.tls.then(|| Certificates::create(folder.path()));
        let address = (Ipv4Addr::LOCALHOST, crate::servers::free_port()).into();
        let server = Self {
            folder,
            dir,
            address,
            certificates,
            running: Mutex::new(None),
        };
        server.run();
        server
    }

    fn run(&self) {
        let mut running = self.running.lock().unwrap();
        assert!(running.is_none(), "the S3 server runs already");
        let listener = TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(&self.dir).unwrap());
        builder.set_auth(SimpleAuth::from_single(Self::ACCESS_KEY, Self::SECRET_KEY));
        let service = builder.build();
        let tls = self.certificates.as_ref().map(acceptor);
        let (end, ended) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, service, tls) => {}
                    _ = ended => {}
                }
            });
            // Ends every connection where it is, in the middle of a request too.
            runtime.shutdown_timeout(SHUTDOWN_LIMIT);
        });
        *running = Some(Running { end, thread });
    }

    /// `http://127.0.0.1:port`, or `https`.
    pub fn endpoint(&self) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The PEM file of the authority to trust. Panics when the server has no TLS.
    pub fn ca(&self) -> &Path {
        &self.certificates.as_ref().expect("a server with TLS").ca
    }

    /// The folder that is the bucket: an object's file has the object's name.
    pub fn bucket_dir(&self) -> PathBuf {
        self.dir.join(Self::BUCKET)
    }

    /// A folder for whatever belongs to this server, such as a client's files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Drops all connections at once and refuses new ones.
    pub fn kill(&self) {
        let running = self
            .running
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(running) = running {
            running.end.send(()).ok();
            running.thread.join().ok();
        }
    }

    /// Serves again, on the same port and with the same objects.
    pub fn restart(&self) {
        self.kill();
        self.run();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn acceptor(made: &Certificates) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_file(&made.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&made.key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, service: S3Service, tls: Option<TlsAcceptor>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        // A client that went away before it was accepted is no reason to end.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (service, tls) = (service.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => converse(stream, service).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, service).await;
                    }
                }
            }
        });
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: S3Service) {
    // A connection that breaks is the client's concern, and often the test's purpose.
    Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}
