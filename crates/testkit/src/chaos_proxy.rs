//! A TCP proxy on the loopback that misbehaves on demand: it stands between the program and a server and cuts, delays,
//! slows, stalls or refuses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep;

/// How much is passed on at once, when nothing limits it.
const PIECE: usize = 64 * 1024;
/// No cut is asked for.
const NEVER: u64 = u64::MAX;

/// A running proxy. It forgets its troubles one by one: each setting stands until it is set again.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    trouble: Arc<Trouble>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Trouble {
    /// Bytes from the server that may still pass, over all connections; at zero all are cut.
    left: AtomicU64,
    passed: AtomicU64,
    latency_micros: AtomicU64,
    /// Bytes a second and direction; zero is no limit.
    rate: AtomicU64,
    refuse: AtomicBool,
    stalled: watch::Sender<bool>,
    cut: Notify,
}

impl ChaosProxy {
    /// Listens on a port of its own and passes everything to `127.0.0.1:target_port`.
    pub fn start(target_port: u16) -> Self {
        let trouble = Arc::new(Trouble {
            left: AtomicU64::new(NEVER),
            passed: AtomicU64::new(0),
            latency_micros: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            refuse: AtomicBool::new(false),
            stalled: watch::Sender::new(false),
            cut: Notify::new(),
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        let shared = Arc::clone(&trouble);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept_all(listener, target_port, shared) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            address,
            trouble,
            end: Some(end),
            thread: Some(thread),
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Bytes that came from the server and were passed on, over all connections.
    pub fn passed(&self) -> u64 {
        self.trouble.passed.load(Ordering::SeqCst)
    }

    /// Resets all connections once that many more bytes came from the server. It happens once.
    pub fn cut_after(&self, bytes: u64) {
        self.trouble.left.store(bytes, Ordering::SeqCst);
    }

    /// Resets all connections now. New ones are accepted.
    pub fn cut(&self) {
        self.trouble.cut.notify_waiters();
    }

    /// Each piece of data waits that long in each direction.
    pub fn latency(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap();
        self.trouble.latency_micros.store(micros, Ordering::SeqCst);
    }

    /// Bytes a second, for each connection and direction; `None` is no limit.
    pub fn bandwidth(&self, bytes_per_second: Option<u64>) {
        self.trouble.rate.store(bytes_per_second.unwrap_or(0), Ordering::SeqCst);
    }

    /// Passes nothing on while keeping connections open, until set to `false`.
    pub fn stall(&self, stall: bool) {
        self.trouble.stalled.send_replace(stall);
    }

    /// Resets each new connection, until set to `false`. Those that are open stay.
    pub fn refuse(&self, refuse: bool) {
        self.trouble.refuse.store(refuse, Ordering::SeqCst);
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn accept_all(listener: std::net::TcpListener, target_port: u16, trouble: Arc<Trouble>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        if trouble.refuse.load(Ordering::SeqCst) {
            reset(client);
            continue;
        }
        let trouble = Arc::clone(&trouble);
        tokio::spawn(async move {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, target_port)).await {
                Ok(server) => converse(client, server, &trouble).await,
                Err(_) => reset(client),
            }
        });
    }
}

async fn converse(client: TcpStream, server: TcpStream, trouble: &Trouble) {
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (mut client_read, mut client_write) = client.into_split();
    let (mut server_read, mut server_write) = server.into_split();
    // The first direction that breaks ends both: what one side lost, the other must not wait for.
    let ended_well = tokio::select! {
        () = trouble.cut.notified() => false,
        result = async {
            tokio::try_join!(
                pass(&mut client_read, &mut server_write, trouble, false),
                pass(&mut server_read, &mut client_write, trouble, true),
            )
        } => result.is_ok(),
    };
    if !ended_well {
        reset(client_read.reunite(client_write).expect("the halves of one stream"));
        reset(server_read.reunite(server_write).expect("the halves of one stream"));
    }
}

async fn pass(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    trouble: &Trouble,
    from_server: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut stalled = trouble.stalled.subscribe();
    loop {
        let rate = trouble.rate.load(Ordering::SeqCst);
        // A tenth of a second's worth at a time keeps a slow line even.
        let most = if rate == 0 {
            PIECE
        } else {
            usize::try_from(rate / 10).unwrap().clamp(1, PIECE)
        };
        let count = from.read(&mut buffer[..most]).await?;
        stalled.wait_for(|stalled| !stalled).await.ok();
        if count == 0 {
            return to.shutdown().await;
        }
        let latency = trouble.latency_micros.load(Ordering::SeqCst);
        if latency > 0 {
            sleep(Duration::from_micros(latency)).await;
        }
        // Asked again: the read may have waited since before the limit was set.
        let rate = trouble.rate.load(Ordering::SeqCst);
        if rate > 0 {
            sleep(Duration::from_secs(1).mul_f64(count as f64 / rate as f64)).await;
        }
        let allowed = if from_server { take(&trouble.left, count) } else { count };
        // Counted first: whoever has the bytes finds them counted.
        if from_server {
            trouble.passed.fetch_add(allowed as u64, Ordering::SeqCst);
        }
        to.write_all(&buffer[..allowed]).await?;
        if allowed < count {
            trouble.left.store(NEVER, Ordering::SeqCst);
            trouble.cut.notify_waiters();
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
}

/// How many of `count` bytes may pass; lowers what is left by them.
fn take(left: &AtomicU64, count: usize) -> usize {
    let count = count as u64;
    let take = |left: u64| {
        if left == NEVER {
            left
        } else {
            left.saturating_sub(count)
        }
    };
    let before = left
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(take(left)))
        .unwrap_or(NEVER);
    usize::try_from(before.min(count)).unwrap()
}

/// Closing with nothing to linger for sends RST: the other side sees a connection reset, not an end of file.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().ok();
    drop(stream);
}
