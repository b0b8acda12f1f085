//! The proxy passes bytes on, and does each of its misdeeds exactly.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "helpers of a test that measures time"
)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use ballast_testkit::chaos_proxy::ChaosProxy;

/// Sends back what it gets, to each client.
fn echo_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    port
}

fn connect(proxy: &ChaosProxy) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn echo(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
    stream.write_all(text)?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, text);
    Ok(())
}

#[test]
fn a_cut_is_a_reset_after_exactly_that_many_bytes_and_happens_once() {
    let proxy = ChaosProxy::start(echo_server());
    let mut stream = connect(&proxy);
    echo(&mut stream, b"hello").unwrap();
    assert_eq!(proxy.passed(), 5);
    proxy.cut_after(3);
    stream.write_all(b"0123456789").unwrap();
    let mut got = Vec::new();
    let error = stream.read_to_end(&mut got).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(
        b"012".starts_with(&got),
        "a reset may swallow bytes, never add any: {got:?}"
    );
    assert_eq!(proxy.passed(), 8);
    echo(&mut connect(&proxy), &[7; 100_000]).unwrap();
}

#[test]
fn cut_now_resets_open_connections_and_refuse_new_ones() {
    let proxy = ChaosProxy::start(echo_server());
    let mut stream = connect(&proxy);
    echo(&mut stream, b"hello").unwrap();
    proxy.cut();
    assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut stream = connect(&proxy);
    echo(&mut stream, b"again").unwrap();
    proxy.refuse(true);
    assert!(echo(&mut connect(&proxy), b"no").is_err());
    echo(&mut stream, b"still open").unwrap();
    proxy.refuse(false);
    echo(&mut connect(&proxy), b"yes").unwrap();
}

#[test]
fn a_dead_server_is_a_reset_and_not_a_wait() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let proxy = ChaosProxy::start(listener.local_addr().unwrap().port());
    let mut stream = connect(&proxy);
    stream.write_all(b"unread").unwrap();
    let (accepted, _) = listener.accept().unwrap();
    thread::sleep(Duration::from_millis(100));
    drop(accepted);
    assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn latency_bandwidth_and_stall_slow_it_down() {
    let proxy = ChaosProxy::start(echo_server());
    let mut stream = connect(&proxy);
    let time = |stream: &mut TcpStream, bytes: usize| {
        let begin = Instant::now();
        echo(stream, &vec![1; bytes]).unwrap();
        begin.elapsed()
    };
    proxy.latency(Duration::from_millis(100));
    assert!(time(&mut stream, 1) >= Duration::from_millis(200), "there and back");
    proxy.latency(Duration::ZERO);
    proxy.bandwidth(Some(100_000));
    assert!(time(&mut stream, 50_000) >= Duration::from_millis(450));
    proxy.bandwidth(None);
    proxy.stall(true);
    stream.write_all(b"x").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(matches!(
        stream.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    proxy.stall(false);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
}
