//! Packets: a three-byte length, a sequence number, the payload; a payload of 16 MiB or more comes in several.
//!
//! Reading hands out slices of the read buffer, so a payload that came in one packet is never copied. Every wait is
//! limited and races the cancel handle. When a wait was cut short the stream stands at an unknown place, so the
//! channel then refuses to be used again.
#![deny(clippy::indexing_slicing)]

use std::time::Duration;

use ballast_base::{Cancel, Transport};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::response::{ERROR, decode_error};
use crate::MysqlError;

/// One packet carries less than this; one that is full is continued by the next.
pub(crate) const PACKET_BYTES_FULL: usize = 0xFF_FFFF;
/// A payload joined of several packets may be this large. The server's own limit is 1 GiB.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How much is asked of the transport at once.
const READ_BYTES: usize = 256 * 1024;
/// A run of packets is read into what a buffer has left, down to this; so that runs do not each hold a buffer.
const RUN_SPACE_BYTES: usize = 64 * 1024;
/// Data for a LOAD goes in packets of this size, which is under any sensible `max_allowed_packet`.
const DATA_PACKET_BYTES: usize = 128 * 1024;
/// Sending waits this long for the other side to take it.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Channel {
    transport: Box<dyn Transport>,
    buffer: BytesMut,
    sequence: u8,
    cancel: Cancel,
    pub(crate) read_wait_max: Duration,
    pub(crate) write_wait_max: Duration,
    broken: bool,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("sequence", &self.sequence)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

impl Channel {
    pub(crate) fn new(transport: Box<dyn Transport>, cancel: Cancel, read_wait_max: Duration) -> Self {
        Self {
            transport,
            buffer: BytesMut::new(),
            sequence: 0,
            cancel,
            read_wait_max,
            write_wait_max: WRITE_WAIT_MAX,
            broken: false,
        }
    }

    /// Takes the transport back, to be wrapped in TLS. Bytes that came before the handshake are an attack or a fault.
    pub(crate) fn into_transport(self) -> Result<(Box<dyn Transport>, u8), MysqlError> {
        if !self.buffer.is_empty() {
            return Err(MysqlError::protocol("bytes before the TLS handshake"));
        }
        Ok((self.transport, self.sequence))
    }

    /// TLS changes the bytes, not the numbering.
    pub(crate) fn with_sequence(mut self, sequence: u8) -> Self {
        self.sequence = sequence;
        self
    }

    /// The number of the next packet.
    pub(crate) fn sequence(&self) -> u8 {
        self.sequence
    }

    /// The other side starts a new command: its number is 0.
    pub(crate) fn start_over(&mut self) {
        self.sequence = 0;
    }

    /// Sends what is in packets already, numbered by the one who made them.
    pub(crate) async fn send_packets(&mut self, doing: &'static str, packets: &[u8]) -> Result<(), MysqlError> {
        if packets.is_empty() {
            return Ok(());
        }
        let write = async {
            self.transport.write_all(packets).await?;
            self.transport.flush().await
        };
        let broken = std::mem::replace(&mut self.broken, true);
        let written = limited(&self.cancel, broken, self.write_wait_max, doing, write).await;
        self.broken = !matches!(written, Ok(Ok(())));
        written?.map_err(|error| gone(doing, &error))
    }

    /// Starts a new command: the sequence starts at 0.
    pub(crate) async fn send_command(&mut self, doing: &'static str, parts: &[&[u8]]) -> Result<(), MysqlError> {
        self.sequence = 0;
        self.send(doing, parts).await
    }

    /// Sends `parts` as one payload.
    pub(crate) async fn send(&mut self, doing: &'static str, parts: &[&[u8]]) -> Result<(), MysqlError> {
        let mut payload = parts.concat();
        let mut packets = BytesMut::with_capacity(payload.len() + 8);
        let mut rest = payload.as_slice();
        loop {
            let (now, later) = rest.split_at(rest.len().min(PACKET_BYTES_FULL));
            let length = u32::try_from(now.len()).unwrap_or(u32::MAX).to_le_bytes();
            packets.extend(length.iter().take(3));
            packets.extend([self.sequence]);
            packets.extend_from_slice(now);
            self.sequence = self.sequence.wrapping_add(1);
            rest = later;
            if now.len() < PACKET_BYTES_FULL {
                break;
            }
        }
        // It may have been a password.
        payload.fill(0);
        let write = async {
            self.transport.write_all(&packets).await?;
            self.transport.flush().await
        };
        // Broken until it went well, so that a call which was dropped half-way counts as well.
        let broken = std::mem::replace(&mut self.broken, true);
        let written = limited(&self.cancel, broken, WRITE_WAIT_MAX, doing, write).await;
        packets.fill(0);
        self.broken = !matches!(written, Ok(Ok(())));
        written?.map_err(|error| gone(doing, &error))
    }

    /// The next payload, whose sequence number must be the expected one.
    pub(crate) async fn receive(&mut self, doing: &'static str) -> Result<Bytes, MysqlError> {
        let expected = self.sequence;
        let (payload, first) = self.receive_any(doing).await?;
        if first != expected {
            self.broken = true;
            // What a server says before it closes a connection answers nothing.
            if first == 0 && payload.first() == Some(&ERROR) {
                return Err(decode_error(&payload));
            }
            return Err(MysqlError::protocol(format!(
                "packet number {first} instead of {expected} while {doing}"
            )));
        }
        Ok(payload)
    }

    /// The next payload and the sequence number it began with. In the clone protocol that number starts anew in
    /// every packet.
    pub(crate) async fn receive_any(&mut self, doing: &'static str) -> Result<(Bytes, u8), MysqlError> {
        let read = read_payload(&mut *self.transport, &mut self.buffer, PAYLOAD_BYTES_MAX);
        let broken = std::mem::replace(&mut self.broken, true);
        match limited(&self.cancel, broken, self.read_wait_max, doing, read).await? {
            Ok((payload, first, last)) => {
                self.broken = false;
                self.sequence = last.wrapping_add(1);
                Ok((payload, first))
            }
            Err(Broken::Io(error)) => Err(gone(doing, &error)),
            Err(Broken::Wrong(what)) => Err(MysqlError::protocol(format!("{what} while {doing}"))),
            Err(Broken::TooLong(bytes)) => Err(MysqlError::protocol(format!(
                "a payload of more than {bytes} bytes while {doing}"
            ))),
        }
    }

    /// The next packet alone; one that is full is continued by the next. Its number is not compared: a server that waits
    /// for acknowledgements starts anew after each. A call that was dropped while it waited lost nothing.
    pub(crate) async fn receive_packet(&mut self, doing: &'static str) -> Result<Bytes, MysqlError> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<4>() {
                let (length, _) = header(*head);
                if self.buffer.len() >= 4 + length {
                    self.buffer.advance(4);
                    return Ok(self.buffer.split_to(length).freeze());
                }
                if self.buffer.capacity() < 4 + length {
                    self.buffer.reserve(4 + length - self.buffer.len());
                }
            }
            if self.buffer.capacity() - self.buffer.len() < RUN_SPACE_BYTES {
                self.buffer.reserve(READ_BYTES);
            }
            let read = self.transport.read_buf(&mut self.buffer);
            match limited(&self.cancel, self.broken, self.read_wait_max, doing, read).await? {
                Ok(0) => {
                    self.broken = true;
                    return Err(gone(doing, &closed()));
                }
                Ok(_) => {}
                Err(error) => {
                    self.broken = true;
                    return Err(gone(doing, &error));
                }
            }
        }
    }

    /// All whole payloads that have come, one at least, up to the one that `is_end` names.
    pub(crate) async fn receive_run(
        &mut self,
        doing: &'static str,
        payload_bytes_max: usize,
        is_end: impl Fn(&[u8]) -> bool,
    ) -> Result<Run, MysqlError> {
        let read = read_run(
            &mut *self.transport,
            &mut self.buffer,
            self.sequence,
            payload_bytes_max,
            is_end,
        );
        let broken = std::mem::replace(&mut self.broken, true);
        match limited(&self.cancel, broken, self.read_wait_max, doing, read).await? {
            Ok((run, next)) => {
                self.broken = false;
                self.sequence = next;
                Ok(run)
            }
            Err(Broken::Io(error)) => Err(gone(doing, &error)),
            Err(Broken::Wrong(what)) => Err(MysqlError::protocol(format!("{what} while {doing}"))),
            Err(Broken::TooLong(bytes)) => Err(MysqlError::Unsupported {
                what: format!("a row of more than {bytes} bytes"),
                hint: "no client can read such a row; make its longest values shorter".to_owned(),
            }),
        }
    }

    /// Sends data in packets of a middling size, without a copy. An empty packet, which would end it, is never sent.
    pub(crate) async fn send_data(&mut self, doing: &'static str, data: &[u8]) -> Result<(), MysqlError> {
        let broken = std::mem::replace(&mut self.broken, true);
        for part in data.chunks(DATA_PACKET_BYTES) {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
            let [first, second, third, _] = length;
            let header = [first, second, third, self.sequence];
            self.sequence = self.sequence.wrapping_add(1);
            let mut packet = bytes::Buf::chain(header.as_slice(), part);
            let write = self.transport.write_all_buf(&mut packet);
            limited(&self.cancel, broken, self.read_wait_max, doing, write)
                .await?
                .map_err(|error| gone(doing, &error))?;
        }
        self.broken = broken;
        Ok(())
    }

    /// Waits for something that is not the server, as long as nobody cancels.
    pub(crate) async fn race<T>(&self, work: impl Future<Output = T>) -> Result<T, MysqlError> {
        Ok(self.cancel.race(work).await?)
    }

    /// Not to be used again: the rest of an answer was not read, or of a question not sent.
    pub(crate) fn abandon(&mut self) {
        self.broken = true;
    }

    /// Ends the sending side in order. Whether the server still listens does not matter any more.
    pub(crate) async fn shutdown(&mut self) {
        let done = limited(
            &self.cancel,
            self.broken,
            WRITE_WAIT_MAX,
            "closing",
            self.transport.shutdown(),
        )
        .await;
        self.broken = true;
        drop(done);
    }
}

/// What has come of an answer.
pub(crate) enum Run {
    /// Whole packets with their headers, none of them full.
    Packets(Bytes),
    /// One payload, joined of several packets.
    Joined(Bytes),
    /// The payload that ends it.
    End(Bytes),
}

/// A channel in the middle of a question or an answer. Dropped there, it cannot be used again.
pub(crate) struct Underway<'a> {
    pub(crate) channel: &'a mut Channel,
    pub(crate) done: bool,
}

impl<'a> Underway<'a> {
    pub(crate) fn new(channel: &'a mut Channel) -> Self {
        Self { channel, done: false }
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.channel.abandon();
        }
    }
}

enum Broken {
    Io(std::io::Error),
    Wrong(String),
    /// A payload over this limit.
    TooLong(usize),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

async fn limited<T>(
    cancel: &Cancel,
    broken: bool,
    wait_max: Duration,
    doing: &'static str,
    work: impl Future<Output = T>,
) -> Result<T, MysqlError> {
    if broken {
        return Err(MysqlError::Gone {
            doing,
            detail: "an earlier call on it was cut short".to_owned(),
        });
    }
    cancel
        .race(tokio::time::timeout(wait_max, work))
        .await?
        .map_err(|_| MysqlError::Timeout { doing, after: wait_max })
}

fn gone(doing: &'static str, error: &std::io::Error) -> MysqlError {
    MysqlError::Gone {
        doing,
        detail: error.to_string(),
    }
}

/// Makes `buffer` hold at least `count` bytes.
async fn fill(transport: &mut dyn Transport, buffer: &mut BytesMut, count: usize) -> std::io::Result<()> {
    while buffer.len() < count {
        buffer.reserve((count - buffer.len()).max(READ_BYTES));
        if transport.read_buf(buffer).await? == 0 {
            return Err(closed());
        }
    }
    Ok(())
}

fn closed() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the server closed it")
}

/// The length and the number of a packet.
fn header(bytes: [u8; 4]) -> (usize, u8) {
    let [first, second, third, sequence] = bytes;
    let length = usize::from(first) | usize::from(second) << 8 | usize::from(third) << 16;
    (length, sequence)
}

async fn read_packet(transport: &mut dyn Transport, buffer: &mut BytesMut) -> Result<(Bytes, u8), Broken> {
    fill(transport, buffer, 4).await?;
    let (length, sequence) = header(buffer.get_u32_le().to_le_bytes());
    fill(transport, buffer, length).await?;
    Ok((buffer.split_to(length).freeze(), sequence))
}

async fn read_payload(
    transport: &mut dyn Transport,
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> Result<(Bytes, u8, u8), Broken> {
    let (payload, first) = read_packet(transport, buffer).await?;
    if payload.len() < PACKET_BYTES_FULL {
        return Ok((payload, first, first));
    }
    let mut joined = BytesMut::from(&*payload);
    let mut last = first;
    loop {
        let (part, sequence) = read_packet(transport, buffer).await?;
        if sequence != last.wrapping_add(1) {
            return Err(Broken::Wrong(format!(
                "packet number {sequence} after {last} in one payload"
            )));
        }
        last = sequence;
        if joined.len() + part.len() > bytes_max {
            return Err(Broken::TooLong(bytes_max));
        }
        joined.extend_from_slice(&part);
        if part.len() < PACKET_BYTES_FULL {
            return Ok((joined.freeze(), first, last));
        }
    }
}

/// The packets that are there, and the number the next one must have.
async fn read_run(
    transport: &mut dyn Transport,
    buffer: &mut BytesMut,
    mut expected: u8,
    bytes_max: usize,
    is_end: impl Fn(&[u8]) -> bool,
) -> Result<(Run, u8), Broken> {
    let wrong = |found: u8, expected: u8| Broken::Wrong(format!("packet number {found} instead of {expected}"));
    let length = loop {
        if let Some(first) = buffer.first_chunk::<4>() {
            let (length, sequence) = header(*first);
            if sequence != expected {
                return Err(wrong(sequence, expected));
            }
            if length == PACKET_BYTES_FULL || buffer.len() >= 4 + length {
                break length;
            }
            if buffer.capacity() < 4 + length {
                buffer.reserve(4 + length - buffer.len());
            }
        }
        if buffer.capacity() - buffer.len() < RUN_SPACE_BYTES {
            buffer.reserve(READ_BYTES);
        }
        if transport.read_buf(buffer).await? == 0 {
            return Err(closed().into());
        }
    };
    if length == PACKET_BYTES_FULL {
        let (payload, _, last) = read_payload(transport, buffer, bytes_max).await?;
        return Ok((Run::Joined(payload), last.wrapping_add(1)));
    }
    let mut at = 0;
    while let Some((bytes, rest)) = buffer.get(at..).and_then(<[u8]>::split_first_chunk) {
        let (length, sequence) = header(*bytes);
        let Some(payload) = rest.get(..length).filter(|_| length < PACKET_BYTES_FULL) else {
            break;
        };
        if sequence != expected {
            return Err(wrong(sequence, expected));
        }
        if is_end(payload) {
            if at > 0 {
                break;
            }
            buffer.advance(4);
            return Ok((Run::End(buffer.split_to(length).freeze()), expected.wrapping_add(1)));
        }
        expected = expected.wrapping_add(1);
        at += 4 + length;
    }
    Ok((Run::Packets(buffer.split_to(at).freeze()), expected))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn channel(stream: tokio::io::DuplexStream) -> Channel {
        Channel::new(Box::new(stream), Cancel::new(), Duration::from_secs(5))
    }

    #[tokio::test]
    async fn payloads_of_every_length_at_the_border_arrive_whole() {
        for length in [
            0,
            1,
            PACKET_BYTES_FULL - 1,
            PACKET_BYTES_FULL,
            PACKET_BYTES_FULL + 1,
            2 * PACKET_BYTES_FULL,
        ] {
            let (near, far) = tokio::io::duplex(1 << 20);
            let (mut near, mut far) = (channel(near), channel(far));
            let payload: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let parts = [payload.as_slice()];
            let (sent, received) = tokio::join!(near.send_command("testing", &parts), far.receive("testing"));
            sent.unwrap();
            assert!(received.unwrap() == payload, "{length}");
        }
    }

    #[tokio::test]
    async fn a_payload_over_the_limit_and_a_wrong_number_are_refused() {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let mut far = channel(far);
        let packet = vec![7u8; PACKET_BYTES_FULL];
        let writer = async {
            for sequence in 0..5u8 {
                let sent = near.write_all(&[0xFF, 0xFF, 0xFF, sequence]).await;
                if sent.is_err() || near.write_all(&packet).await.is_err() {
                    break;
                }
            }
            drop(near);
        };
        let (received, ()) = tokio::join!(
            async {
                let received = far.receive("testing").await;
                drop(far);
                received
            },
            writer
        );
        assert!(received.unwrap_err().to_string().contains("a payload of more than"));

        let (mut near, far) = tokio::io::duplex(64);
        near.write_all(&[1, 0, 0, 9, 0]).await.unwrap();
        let mut far = channel(far);
        assert!(
            far.receive("testing")
                .await
                .unwrap_err()
                .to_string()
                .contains("packet number 9 instead of 0")
        );
        assert!(matches!(far.receive("testing").await, Err(MysqlError::Gone { .. })));
    }

    #[tokio::test]
    async fn a_wait_for_a_packet_that_is_dropped_loses_nothing() {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let mut far = channel(far);
        let sent: Vec<u8> = [
            &b"\x03\0\0\x07abc\xff\xff\xff\0"[..],
            &[9; PACKET_BYTES_FULL],
            b"\0\0\0\x01",
        ]
        .concat();
        let writer = async {
            for part in sent.chunks(1_000_003) {
                near.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            near
        };
        let reader = async {
            let mut lengths = Vec::new();
            while lengths.len() < 3 {
                tokio::select! {
                    biased;
                    packet = far.receive_packet("testing") => lengths.push(packet.unwrap().len()),
                    () = tokio::task::yield_now() => {}
                }
            }
            lengths
        };
        let (near, lengths) = tokio::join!(writer, reader);
        assert_eq!(lengths, [3, PACKET_BYTES_FULL, 0]);
        drop(near);
        assert!(matches!(
            far.receive_packet("testing").await,
            Err(MysqlError::Gone { .. })
        ));
    }

    fn is_end(payload: &[u8]) -> bool {
        payload.first() == Some(&0xFE)
    }

    /// What comes in runs until the end, each payload with whether it came alone.
    async fn runs(far: &mut Channel, bytes_max: usize) -> Result<(Vec<(Bytes, bool)>, Bytes), MysqlError> {
        let mut seen = Vec::new();
        loop {
            match far.receive_run("testing", bytes_max, is_end).await? {
                Run::Packets(mut packets) => {
                    while !packets.is_empty() {
                        let (length, _) = header(*packets.first_chunk().unwrap());
                        packets.advance(4);
                        seen.push((packets.split_to(length), false));
                    }
                }
                Run::Joined(payload) => seen.push((payload, true)),
                Run::End(end) => return Ok((seen, end)),
            }
        }
    }

    #[tokio::test]
    async fn runs_bring_short_payloads_together_and_long_ones_joined() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (mut near, mut far) = (channel(near), channel(far));
        let long = vec![7; 2 * PACKET_BYTES_FULL];
        let sender = async {
            near.send_command("testing", &[b"one"]).await.unwrap();
            near.send("testing", &[]).await.unwrap();
            near.send("testing", &[&long]).await.unwrap();
            for _ in 0..300 {
                near.send("testing", &[b"two"]).await.unwrap();
            }
            near.send("testing", &[&long[..PACKET_BYTES_FULL - 1]]).await.unwrap();
            near.send("testing", &[b"\xfeend"]).await.unwrap();
            near.send("testing", &[b"next"]).await.unwrap();
        };
        let receiver = async {
            let (seen, end) = runs(&mut far, 1 << 30).await.unwrap();
            (seen, end, far.receive("testing").await.unwrap())
        };
        let ((), (seen, end, next)) = tokio::join!(sender, receiver);
        assert_eq!((&*end, &*next), (&b"\xfeend"[..], &b"next"[..]));
        let mut lengths: Vec<(usize, bool)> = seen.iter().map(|(payload, joined)| (payload.len(), *joined)).collect();
        assert_eq!(lengths.pop(), Some((PACKET_BYTES_FULL - 1, false)));
        assert_eq!(lengths[..3], [(3, false), (0, false), (2 * PACKET_BYTES_FULL, true)]);
        assert!(lengths.len() == 303 && seen[3..303].iter().all(|(payload, _)| **payload == *b"two"));
    }

    #[tokio::test]
    async fn a_run_with_a_wrong_number_or_over_the_limit_is_refused() {
        for (sent, words) in [
            (&b"\x01\0\0\0a\x01\0\0\x02b"[..], "packet number 2 instead of 1"),
            (b"\x01\0\0\x05a", "packet number 5 instead of 0"),
            (b"\x09\0\0\0a", "the server closed it"),
        ] {
            let (mut near, far) = tokio::io::duplex(64);
            near.write_all(sent).await.unwrap();
            drop(near);
            let mut far = channel(far);
            let error = runs(&mut far, 100).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert!(matches!(far.receive("testing").await, Err(MysqlError::Gone { .. })));
        }
        let (near, far) = tokio::io::duplex(1 << 20);
        let (mut near, mut far) = (channel(near), channel(far));
        let long = vec![7; PACKET_BYTES_FULL + 1];
        let parts = [long.as_slice()];
        let (_, error) = tokio::join!(near.send_command("testing", &parts), runs(&mut far, PACKET_BYTES_FULL));
        assert!(error.unwrap_err().to_string().contains("a row of more than"));
    }

    #[tokio::test]
    async fn data_is_sent_whole_in_packets_none_of_which_is_empty() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (mut near, mut far) = (channel(near), channel(far));
        let data: Vec<u8> = (0..3 * DATA_PACKET_BYTES + 5)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        near.send_data("testing", &[]).await.unwrap();
        near.send_data("testing", &data).await.unwrap();
        near.send("testing", &[b"\xfe"]).await.unwrap();
        let (seen, _) = runs(&mut far, 100).await.unwrap();
        assert_eq!(seen.len(), 4);
        let joined: Vec<u8> = seen.iter().flat_map(|(payload, _)| payload.iter().copied()).collect();
        assert!(joined == data);
    }

    #[tokio::test]
    async fn a_silent_server_and_a_cancel_end_the_wait() {
        let (_near, far) = tokio::io::duplex(64);
        let mut far = Channel::new(Box::new(far), Cancel::new(), Duration::from_millis(20));
        assert!(matches!(far.receive("testing").await, Err(MysqlError::Timeout { .. })));

        let (_near, far) = tokio::io::duplex(64);
        let cancel = Cancel::new();
        let mut far = Channel::new(Box::new(far), cancel.clone(), Duration::from_secs(60));
        cancel.cancel();
        assert!(matches!(far.receive("testing").await, Err(MysqlError::Cancelled(_))));
    }

    proptest! {
        #[test]
        fn random_bytes_never_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let (mut near, far) = tokio::io::duplex(1024);
                near.write_all(&bytes).await.unwrap();
                drop(near);
                let mut far = channel(far);
                while far.receive_any("testing").await.is_ok() {}
                let (mut near, far) = tokio::io::duplex(1024);
                near.write_all(&bytes).await.unwrap();
                drop(near);
                drop(runs(&mut channel(far), 1 << 30).await);
            });
        }
    }
}
