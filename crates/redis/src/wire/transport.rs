//! Getting to the server: TCP or a Unix socket.

use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};

use super::channel::Transport;
use crate::{RedisError, ServerAddress};

/// Connecting to one address of the host may take this long.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn connect(address: &ServerAddress) -> Result<Box<dyn Transport>, RedisError> {
    let unreachable = |source| RedisError::Unreachable {
        address: address.place(),
        source,
    };
    if let Some(path) = &address.socket {
        let stream = in_time(UnixStream::connect(path)).await.map_err(unreachable)?;
        return Ok(Box::new(stream));
    }
    let found = in_time(lookup_host((address.host.as_str(), address.port)))
        .await
        .map_err(unreachable)?;
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for target in found {
        match in_time(connect_tcp(target)).await {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
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
