//! Getting to a server: TCP or a Unix socket, and TLS on top.

mod tls;

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};

pub use self::tls::{TlsError, TlsMode, encrypt};

/// Connecting to one address of the host may take this long.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);

/// Bytes to and from a server, however they travel.
pub trait Transport: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Transport for T {}

/// Connects to the socket where one is named, else to the first address of the host that answers.
pub async fn connect(host: &str, port: u16, socket: Option<&Path>) -> std::io::Result<Box<dyn Transport>> {
    if let Some(path) = socket {
        return Ok(Box::new(in_time(UnixStream::connect(path)).await?));
    }
    let found = in_time(lookup_host((host, port))).await?;
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for target in found {
        match in_time(connect_tcp(target)).await {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_tcp(target: std::net::SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if target.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A dead peer is noticed even where the wait for an answer is long.
    socket.set_keepalive(true)?;
    socket.set_nodelay(true)?;
    socket.connect(target).await
}

async fn in_time<T>(work: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    tokio::time::timeout(CONNECT_WAIT_MAX, work)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer")))
}
