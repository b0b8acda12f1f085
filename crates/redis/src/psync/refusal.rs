//! The port that a recorder announces, on which it refuses to become a primary.
//!
//! To a server a recorder is a replica, so `FAILOVER` may choose it: the server makes itself a replica of the recorder, and stays
//! one, read-only, for as long as nobody answers at the announced port. Here somebody answers, with an error, upon which the
//! server gives up and is the primary it was. Sentinel, which asks every replica what it is, is told that this one is not to be
//! shown or promoted.
//!
//! Whoever connects gets these few fixed answers and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use ballast_base::{Cancel, Clock as _, SystemClock, Task, TaskSet, spawn};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::wire::resp::{self, Reply};
use crate::{RedisError, ServerAddress};

/// So many may talk to it at once; others wait.
const VISITORS_MAX: usize = 16;
/// One that says nothing for so long is left.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// After a visitor that could not be let in.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Nobody has more than this to say.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
const REFUSAL: &[u8] = b"-ERR this is a backup recorder and no replica to be promoted\r\n";
const ROLE: &[u8] = b"*5\r\n$5\r\nslave\r\n$0\r\n\r\n:0\r\n$9\r\nconnected\r\n:0\r\n";
const INFO: &str = "# Replication\r\nrole:slave\r\nmaster_link_status:up\r\nslave_priority:0\r\nreplica_announced:0\r\nslave_read_only:1\r\n";

/// Listens until it is dropped.
#[derive(Debug)]
pub struct RefusingListener {
    port: u16,
    _answering: Task<()>,
}

impl RefusingListener {
    /// Listens on the address of this machine that `server` sees, at a port that is free. `None` where the server is spoken to by a
    /// Unix socket: it knows no address of ours.
    pub async fn start(server: &ServerAddress, cancel: &Cancel) -> Result<Option<Self>, RedisError> {
        if server.socket.is_some() {
            return Ok(None);
        }
        let unreachable = |source| RedisError::Unreachable {
            address: server.place(),
            source,
        };
        let own = own_address(server).await.map_err(unreachable)?;
        let listener = TcpListener::bind(own).await.map_err(unreachable)?;
        let port = listener.local_addr().map_err(unreachable)?.port();
        let cancel = cancel.clone();
        let answering = spawn("refusing listener", async move {
            let mut visits = TaskSet::new("visitor");
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    // How a visit ended is nobody's concern.
                    _ = visits.join_next(), if !visits.is_empty() => {}
                    visitor = listener.accept(), if visits.len() < VISITORS_MAX => match visitor {
                        Ok((stream, _)) => visits.spawn(async move { drop(answer_all(stream).await) }),
                        Err(_) => SystemClock::new().sleep(ACCEPT_AGAIN_AFTER).await,
                    },
                }
            }
        });
        Ok(Some(Self {
            port,
            _answering: answering,
        }))
    }

    /// What is announced.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The address by which this machine reaches the server, with no port. Nothing is sent.
async fn own_address(server: &ServerAddress) -> std::io::Result<SocketAddr> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for target in tokio::net::lookup_host((server.host.as_str(), server.port)).await? {
        let any: SocketAddr = if target.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0_u16; 8], 0).into()
        };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(target).await {
            Ok(()) => return Ok(SocketAddr::new(socket.local_addr()?.ip(), 0)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn answer_all(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(answer) = take_request(&mut buffer) {
            stream.write_all(&answer).await?;
        }
        let read = tokio::time::timeout(SILENCE_MAX, stream.read_buf(&mut buffer)).await;
        if !matches!(read, Ok(Ok(count)) if count > 0) || buffer.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
}

/// The answer to the request at the begin of `buffer`, if a whole one is there.
fn take_request(buffer: &mut BytesMut) -> Option<Vec<u8>> {
    let words: Vec<String> = if buffer.first() == Some(&b'*') {
        match resp::take_reply(buffer) {
            Ok(Some(request)) => request.list().iter().filter_map(Reply::text).collect(),
            Ok(None) => return None,
            // Whatever it was meant to be, nothing sensible follows.
            Err(_) => {
                buffer.clear();
                return Some(REFUSAL.to_vec());
            }
        }
    } else {
        let end = buffer.iter().position(|byte| *byte == b'\n')?;
        let line = buffer.split_to(end + 1);
        let line = String::from_utf8_lossy(&line);
        line.split_ascii_whitespace().map(str::to_owned).collect()
    };
    Some(answer_to(&words))
}

fn answer_to(words: &[String]) -> Vec<u8> {
    let name = words.first().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    match name.as_str() {
        "ping" => b"+PONG\r\n".to_vec(),
        "auth" | "replconf" | "client" | "hello" | "subscribe" | "select" => b"+OK\r\n".to_vec(),
        "info" => format!("${}\r\n{INFO}\r\n", INFO.len()).into_bytes(),
        "role" => ROLE.to_vec(),
        _ => REFUSAL.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_in_any_form_is_answered_and_a_promotion_refused() {
        let mut buffer = BytesMut::from(
            "PING\r\n*1\r\n$4\r\nping\r\n*4\r\n$5\r\nPSYNC\r\n$1\r\nx\r\n$1\r\n7\r\n$8\r\nFAILOVER\r\n*1\r\n$4\r\n",
        );
        let mut answers = Vec::new();
        while let Some(answer) = take_request(&mut buffer) {
            answers.push(String::from_utf8(answer).unwrap());
        }
        assert_eq!(answers[..2], ["+PONG\r\n", "+PONG\r\n"]);
        assert!(answers.len() == 3 && answers[2].starts_with("-ERR this is a backup recorder"));
        buffer.extend_from_slice(b"INFO\r\n");
        let info = String::from_utf8(take_request(&mut buffer).unwrap()).unwrap();
        assert!(info.contains("slave_priority:0") && info.contains("replica_announced:0"));
        let length: usize = info[1..].split("\r\n").next().unwrap().parse().unwrap();
        assert_eq!(info.len(), format!("${length}\r\n").len() + length + 2);
        let mut odd = BytesMut::from("*-5\r\n!!");
        drop(take_request(&mut odd));
    }
}
