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
        for at in (0..bytes.len()).step_by(bytes.len() / 500) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let error = walked(&changed).unwrap_err();
            assert!(is_named(&error), "byte {at}: {error}");
        }
        for end in (0..bytes.len())
            .step_by(bytes.len() / 300)
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
        for head in [b"RADIS0010", b"REDIS00x0", b"         "] {
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
        for at in (9..end).step_by(bytes.len() / 700) {
            let mut changed = unsummed.clone();
            changed[at] = changed[at].wrapping_add(u8::try_from(at % 255 + 1).unwrap());
            tried += 1;
            noticed += u32::from(walked(&changed).is_err());
        }
        assert!(noticed > tried / 20, "{noticed} of {tried}");
    }
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
