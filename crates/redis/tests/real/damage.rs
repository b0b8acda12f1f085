//! A snapshot that is not what a server wrote is refused, and the reason named.

use ballast_redis::{RdbSummary, RedisError, WalkOptions, walk};
use ballast_testkit::dataset::cache;
use proptest::prelude::*;

use crate::common::{FLAVOURS, address, options, snapshot_of, start};

fn walked(bytes: &[u8]) -> Result<RdbSummary, RedisError> {
    walk(bytes, WalkOptions::default(), &mut |_| {})
}

fn is_named(error: &RedisError) -> bool {
    matches!(error, RedisError::Damaged { .. } | RedisError::Unsupported { .. })
}

async fn small_snapshots() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for flavour in FLAVOURS {
        let server = start(flavour);
        cache::load(&server);
        // The long ones only make it slow.
        for database in cache::DATABASES {
            let mut client = server.client();
            client.send(&[b"SELECT", database.to_string().as_bytes()]);
            for key in [
                "large",
                "list of large",
                "hash:long value",
                "compressible",
                "set:large",
                "hash:large",
                "list long",
            ] {
                client.send(&[b"DEL", key.as_bytes()]);
            }
            if database != 0 {
                client.send(&[b"FLUSHDB"]);
                client.send(&[b"SET", b"only", b"one"]);
            }
        }
        all.push(
            snapshot_of(&address(&server), &options(&server).await, WalkOptions::default())
                .await
                .0,
        );
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_a_cut_and_an_unknown_version_are_refused() {
    for bytes in small_snapshots().await {
        walked(&bytes).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len() / 200) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let error = walked(&changed).unwrap_err();
            // But for the version, the checksum tells what was changed from what is new.
            let damaged = matches!(error, RedisError::Damaged { .. });
            assert!(damaged || at < 9 && is_named(&error), "byte {at}: {error}");
        }
        for end in (0..bytes.len())
            .step_by(bytes.len() / 120)
            .chain(bytes.len() - 9..bytes.len())
        {
            let error = walked(&bytes[..end]).unwrap_err();
            assert!(matches!(error, RedisError::Damaged { .. }), "cut at {end}: {error}");
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert!(
            walked(&longer)
                .unwrap_err()
                .to_string()
                .contains("something follows its end")
        );
        for head in [b"REDIS0013", b"REDIS9999", b"VALKEY081", b"REDIS0002"] {
            let newer = [head.as_slice(), &bytes[9..]].concat();
            let error = walked(&newer).unwrap_err();
            assert!(matches!(error, RedisError::Unsupported { .. }), "{error}");
            assert!(error.to_string().contains(&*String::from_utf8_lossy(head)), "{error}");
        }
        for head in [b"PEDIS0010", b"REDIS00x0", b"         "] {
            assert!(matches!(
                walked(&[head.as_slice(), &bytes[9..]].concat()),
                Err(RedisError::Damaged { .. })
            ));
        }
        // Where the server writes no checksum, the structure is what is checked: nothing may panic, or take memory.
        let mut unsummed = bytes.clone();
        let end = unsummed.len() - 8;
        unsummed[end..].fill(0);
        assert_eq!(walked(&unsummed).unwrap().checksum, None);
        let (mut noticed, mut tried) = (0, 0);
        for at in (9..end).step_by(bytes.len() / 250) {
            let mut changed = unsummed.clone();
            changed[at] = changed[at].wrapping_add(u8::try_from(at % 255 + 1).unwrap());
            tried += 1;
            noticed += u32::from(walked(&changed).is_err());
        }
        assert!(noticed > tried / 20, "{noticed} of {tried}");
    }
}

/// A type that is new, in a snapshot that is whole, is named as such.
#[test]
fn a_type_that_is_not_known_is_named() {
    let mut bytes = b"REDIS0012\xFE\x00\xC8\x03key\x01x\xFF".to_vec();
    let sum = crc(&bytes);
    bytes.extend(sum.to_le_bytes());
    let error = walked(&bytes).unwrap_err();
    assert!(
        matches!(error, RedisError::Unsupported { .. }) && error.to_string().contains("(200)"),
        "{error}"
    );
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(matches!(walked(&bytes), Err(RedisError::Damaged { .. })));
}

/// The format's own sum, bit by bit.
fn crc(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u64::from(*byte), |sum, _| {
            sum >> 1 ^ if sum & 1 == 1 { 0x95ac_9329_ac4b_c9b5 } else { 0 }
        })
    })
}

/// A snapshot nobody could hold: a string of gigabytes and a list of millions, made as they are read.
struct Endless {
    parts: Vec<(Vec<u8>, u64)>,
    at: usize,
}

impl std::io::Read for Endless {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let mut filled = 0;
        while let Some((part, times)) = self.parts.first_mut() {
            if *times == 0 {
                self.parts.remove(0);
                continue;
            }
            let now = (part.len() - self.at).min(to.len() - filled);
            to[filled..filled + now].copy_from_slice(&part[self.at..self.at + now]);
            filled += now;
            self.at += now;
            if self.at == part.len() {
                (self.at, *times) = (0, *times - 1);
            }
            if filled == to.len() {
                break;
            }
        }
        Ok(filled)
    }
}

#[test]
fn big_keys_pass_in_little_memory() {
    const STRING_BYTES: u64 = 3 << 30;
    const ELEMENTS: u64 = 2_000_000;
    let long = |code: u8, name: &str, count: u64| {
        let mut head = vec![code, u8::try_from(name.len()).unwrap()];
        head.extend(name.as_bytes());
        head.push(0x81);
        head.extend(count.to_be_bytes());
        head
    };
    let mut end = vec![0xFF];
    end.extend([0; 8]);
    let snapshot = Endless {
        parts: vec![
            (b"REDIS0010\xFE\x00".to_vec(), 1),
            (long(0, "string", STRING_BYTES), 1),
            (vec![b'x'; 4096], STRING_BYTES / 4096),
            (long(1, "list", ELEMENTS), 1),
            (b"\x0Felement of list".to_vec(), ELEMENTS),
            (end, 1),
        ],
        at: 0,
    };
    let before = peak_kib();
    let summary = walk(snapshot, WalkOptions::default(), &mut |_| {}).unwrap();
    assert_eq!((summary.keys(), summary.largest_elements), (2, ELEMENTS));
    let more = peak_kib() - before;
    assert!(more < 16 * 1024, "{more} KiB more");
}

/// The most memory this process ever had.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

proptest! {
    #[test]
    fn random_bytes_are_never_a_snapshot(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(walked(&bytes).is_err());
        for head in [b"REDIS0012", b"VALKEY080"] {
            drop(walked(&[head.as_slice(), &bytes].concat()));
        }
    }
}
