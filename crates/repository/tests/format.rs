//! `docs/format.md`, read by nothing but that document: another cipher library, other code, the same bytes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says by panicking what is wrong"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use aws_lc_rs::hmac;
use ballast_base::{Cancel, Secret};
use ballast_repository::{
    BackupId, BackupWriter, FileContent, Journal, Link, Lock, SegmentPlace, StreamId, create_all,
};
use ballast_storage::{MemoryStorage, Storage};
use bytes::Bytes;

const KEY_FILE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// HKDF-SHA256 for 32 bytes (RFC 5869), by hand.
fn hkdf(salt: &[u8], secret: &[u8], info: &[u8]) -> [u8; 32] {
    let mac = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let extracted = mac(salt, secret);
    mac(extracted.as_ref(), &[info, &[1]].concat())
        .as_ref()
        .try_into()
        .unwrap()
}

fn open(key: &[u8; 32], nonce: [u8; 12], bound: &[u8], sealed: &[u8]) -> Vec<u8> {
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key));
    cipher
        .decrypt(
            &Nonce::from(nonce),
            Payload {
                msg: sealed,
                aad: bound,
            },
        )
        .expect("it opens as the document says")
}

fn counter(value: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&value.to_le_bytes());
    nonce
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        head
    }

    fn number(&mut self, bytes: usize) -> usize {
        self.take(bytes)
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | usize::from(*byte))
    }
}

/// A repository with one backup of one file: 100 pieces of text, one of them zeroes, so that there is a list of extents.
async fn repository() -> (BTreeMap<String, Vec<u8>>, Vec<u8>) {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let lock = Lock::KeyFile(Secret::new(KEY_FILE.to_owned()));
    let cancel = Cancel::new();
    let made = create_all(vec![("one".to_owned(), Arc::clone(&store))], &lock, &cancel)
        .await
        .unwrap();
    let mut writer = BackupWriter::begin(vec![made[0].0.clone()], 2, &cancel).await.unwrap();
    let (mut content, mut file) = (FileContent::default(), Vec::new());
    for number in 0..100u32 {
        let piece = if number == 7 {
            vec![0; 1000]
        } else {
            format!("piece {number} ").repeat(100).into_bytes()
        };
        let stored = writer.store(Bytes::from(piece.clone())).await.unwrap();
        content.put(file.len() as u64, u32::try_from(piece.len()).unwrap(), stored, 0);
        file.extend(piece);
    }
    let id = BackupId::parse("20261123T053300Z-00000001").unwrap();
    let files = vec![(b"the file".to_vec(), file.len() as u64, content)];
    writer
        .finish(
            id,
            files,
            serde_json::json!({"annex": 1}),
            |_| serde_json::json!({"facts": 2}),
        )
        .await
        .unwrap();
    let mut objects = BTreeMap::new();
    for object in store.list("", None, 1000).await.unwrap() {
        objects.insert(object.name.to_string(), store.get(&object.name).await.unwrap().to_vec());
    }
    (objects, file)
}

#[tokio::test]
async fn the_document_is_enough_to_read_a_backup() {
    let (objects, file) = repository().await;
    let one = |prefix: &str| objects.iter().find(|(name, _)| name.starts_with(prefix)).unwrap();

    let stamp = &objects["ballast-repository"];
    assert_eq!(
        (stamp.len(), &stamp[..8], &stamp[8..10]),
        (66, &b"BLSTREPO"[..], &[1, 0][..])
    );
    assert_eq!(blake3::hash(&stamp[..34]).as_bytes(), &stamp[34..]);
    let repository = &stamp[10..26];

    let (name, slot) = one("keys/");
    assert_eq!(
        (&slot[..8], &slot[8..10], &slot[10..12], &slot[12..24]),
        (&b"BLSTKEY\0"[..], &[1, 0][..], &[2, 0][..], &[0; 12][..])
    );
    let (head, rest) = slot.split_at(56);
    let wrapping = hkdf(&head[24..], KEY_FILE.as_bytes(), b"ballast 1 key file");
    let bound = [head, repository, name.as_bytes()].concat();
    let master = open(&wrapping, rest[..12].try_into().unwrap(), &bound, &rest[12..60]);
    assert_eq!(
        blake3::hash(&slot[..slot.len() - 32]).as_bytes(),
        &slot[slot.len() - 32..]
    );

    let ids = hkdf(repository, &master, b"ballast 1 chunk id");
    let seal = hkdf(repository, &master, b"ballast 1 seal");
    let object_key = |name: &str, salt: &[u8]| {
        let part = |label: &str| hkdf(salt, &seal, format!("{label}{name}").as_bytes());
        (part("ballast 1 key "), part("ballast 1 commitment "))
    };
    // A chunk by its place: opened, unpacked, and of the content its id names.
    let chunk = |pack: &[u8], offset: usize, stored: usize, id: &[u8]| -> Vec<u8> {
        let digits: String = pack.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("packs/{}/{digits}", &digits[..2]);
        let object = &objects[&name];
        let (key, commitment) = object_key(&name, pack);
        assert_eq!(
            (&object[..8], &object[8..16], &object[16..48]),
            (&b"BLSTPACK"[..], &[1, 0, 0, 0, 0, 0, 0, 0][..], &commitment[..])
        );
        assert_eq!(&object[object.len() - 12..], b"BLSTPACKTAIL");
        let plain = open(&key, counter(offset as u64), id, &object[offset..offset + stored]);
        let raw = match plain[0] {
            0 => plain[5..].to_vec(),
            1 => zstd::decode_all(&plain[5..]).unwrap(),
            method => panic!("method {method}"),
        };
        assert_eq!(raw.len(), Reader(&plain[1..]).number(4));
        assert_eq!(&blake3::keyed_hash(&ids, &raw).as_bytes()[..16], id);
        raw
    };

    let (name, manifest) = one("manifests/");
    let mut header = Reader(&manifest[..88]);
    assert_eq!((header.take(8), header.take(4)), (&b"BLSTMANI"[..], &[1, 0, 0, 0][..]));
    let (facts, body, salt) = (header.number(4), header.number(8), header.take(32));
    let (key, commitment) = object_key(name, salt);
    assert_eq!(header.take(32), commitment);
    assert_eq!(manifest.len(), 88 + facts + body);
    let part = |number, sealed| zstd::decode_all(&open(&key, counter(number), &manifest[..88], sealed)[..]).unwrap();
    assert_eq!(part(1, &manifest[88..88 + facts]), br#"{"facts":2}"#);
    let body = part(2, &manifest[88 + facts..]);
    let mut body = Reader(&body);
    let annex = body.number(4);
    assert_eq!(body.take(annex), br#"{"annex":1}"#);
    let mut packs = Vec::new();
    for _ in 0..body.number(4) {
        packs.push(body.take(16));
        body.number(4);
    }
    assert_eq!(body.number(4), 1, "one file");
    let name = body.number(2);
    assert_eq!(body.take(name), b"the file");
    assert_eq!(body.number(8), file.len());
    assert_eq!(body.number(1), 1, "a layout of lists");
    let mut read = vec![0; file.len()];
    for _ in 0..body.number(4) {
        let id = body.take(16);
        let (pack, offset, stored) = (packs[body.number(4)], body.number(4), body.number(4));
        let list = chunk(pack, offset, stored, id);
        let mut list = Reader(&list);
        let mut own = Vec::new();
        for _ in 0..list.number(4) {
            own.push(list.take(16));
        }
        let count = list.number(4);
        let mut column = |width: usize| {
            list.take(count * width)
                .chunks(width)
                .map(<[u8]>::to_vec)
                .collect::<Vec<_>>()
        };
        let columns = [8, 4, 4, 16, 4, 4, 4].map(&mut column);
        assert!(list.0.is_empty() && count == 100);
        #[expect(clippy::needless_range_loop, reason = "a row of seven columns")]
        for row in 0..count {
            let number = |which: usize| Reader(&columns[which][row]).number(columns[which][row].len());
            let (at, length, skip, pack) = (number(0), number(1), number(2), number(4));
            if pack != 0xFFFF_FFFF {
                let raw = chunk(own[pack], number(5), number(6), &columns[3][row]);
                read[at..at + length].copy_from_slice(&raw[skip..skip + length]);
            }
        }
    }
    assert!(body.0.is_empty());
    assert!(read == file, "the file is what was backed up");
}

/// What the document says of keys, by hand.
struct Keys {
    seal: [u8; 32],
    link: [u8; 32],
}

impl Keys {
    fn of(objects: &BTreeMap<String, Vec<u8>>) -> Self {
        let repository = &objects["ballast-repository"][10..26];
        let (name, slot) = objects.iter().find(|(name, _)| name.starts_with("keys/")).unwrap();
        let wrapping = hkdf(&slot[24..56], KEY_FILE.as_bytes(), b"ballast 1 key file");
        let bound = [&slot[..56], repository, name.as_bytes()].concat();
        let master = open(&wrapping, slot[56..68].try_into().unwrap(), &bound, &slot[68..116]);
        Self {
            seal: hkdf(repository, &master, b"ballast 1 seal"),
            link: hkdf(repository, &master, b"ballast 1 log link"),
        }
    }

    fn object(&self, name: &str, salt: &[u8]) -> ([u8; 32], [u8; 32]) {
        let part = |label: &str| hkdf(salt, &self.seal, format!("{label}{name}").as_bytes());
        (part("ballast 1 key "), part("ballast 1 commitment "))
    }

    /// Facts and body of an object laid out as a manifest is.
    fn two_parts(&self, mark: &[u8; 8], name: &str, object: &[u8]) -> (serde_json::Value, Vec<u8>) {
        let mut header = Reader(&object[..88]);
        assert_eq!((header.take(8), header.take(4)), (&mark[..], &[1, 0, 0, 0][..]));
        let (facts, body, salt) = (header.number(4), header.number(8), header.take(32));
        let (key, commitment) = self.object(name, salt);
        assert_eq!(header.take(32), commitment);
        assert_eq!(object.len(), 88 + facts + body);
        let part =
            |number, sealed: &[u8]| zstd::decode_all(&open(&key, counter(number), &object[..88], sealed)[..]).unwrap();
        let body = match &object[88 + facts..] {
            [] => Vec::new(),
            sealed => part(2, sealed),
        };
        (serde_json::from_slice(&part(1, &object[88..88 + facts])).unwrap(), body)
    }

    fn link(&self, previous: &[u8], start: u64, end: u64, raw: &[u8]) -> Vec<u8> {
        let bytes = [previous, &start.to_le_bytes(), &end.to_le_bytes(), raw].concat();
        blake3::keyed_hash(&self.link, &bytes).as_bytes()[..16].to_vec()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_document_is_enough_to_read_a_log() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let lock = Lock::KeyFile(Secret::new(KEY_FILE.to_owned()));
    let cancel = Cancel::new();
    let made = create_all(vec![("one".to_owned(), Arc::clone(&store))], &lock, &cancel)
        .await
        .unwrap();
    let repository = &made[0].0;
    let id = StreamId::parse("000102030405060708090a0b0c0d0e0f").unwrap();
    let pieces = [
        b"one ".repeat(100),
        b"two ".repeat(50),
        b"three".to_vec(),
        b"four".to_vec(),
    ];
    let log = pieces.concat();
    repository
        .create_stream(id, &serde_json::json!({"stream": 1}), &cancel)
        .await
        .unwrap();
    let (mut start, mut link, mut parts) = (0, Link::FIRST, Vec::new());
    for piece in &pieces {
        let end = start + piece.len() as u64;
        let place = SegmentPlace {
            start,
            end,
            first_at: start + 1,
            last_at: end + 1,
        };
        let sealed = repository.seal_segment(id, place, serde_json::json!({"at": start}), link, piece);
        repository.put_segment(id, &sealed, &cancel).await.unwrap();
        parts.push(repository.segment(id, &place, &cancel).await.unwrap());
        (start, link) = (end, sealed.link);
    }
    // The two in the middle become one.
    let merged = repository
        .merge_segments(id, serde_json::json!({"at": 400}), &parts[1..3])
        .unwrap();
    repository.put_segment(id, &merged, &cancel).await.unwrap();
    repository
        .remove_segments(id, &[parts[1].0.place, parts[2].0.place], &cancel)
        .await
        .unwrap();
    repository
        .mark_seen(id, start, 5_000_000, &serde_json::json!({"seen": 1}), &cancel)
        .await
        .unwrap();

    let mut objects = BTreeMap::new();
    for object in store.list("", None, 1000).await.unwrap() {
        objects.insert(object.name.to_string(), store.get(&object.name).await.unwrap().to_vec());
    }
    let keys = Keys::of(&objects);
    let under = format!("logs/{id}/");
    let name = format!("{under}stream");
    assert_eq!(
        keys.two_parts(b"BLSTSTRM", &name, &objects[&name]),
        (serde_json::json!({"stream": 1}), Vec::new())
    );
    let name = format!("{under}seen-{start:016x}-{:016x}", 5_000_000);
    assert_eq!(
        keys.two_parts(b"BLSTSEEN", &name, &objects[&name]),
        (serde_json::json!({"seen": 1}), Vec::new())
    );

    let (mut read, mut previous) = (Vec::new(), vec![0; 16]);
    let names: Vec<_> = objects
        .keys()
        .filter(|name| name.starts_with(&format!("{under}0")))
        .collect();
    assert_eq!(names.len(), 3);
    for (name, at) in names.into_iter().zip([0, 400, 605]) {
        let numbers: Vec<u64> = name[under.len()..]
            .split('-')
            .map(|number| u64::from_str_radix(number, 16).unwrap())
            .collect();
        let (facts, raw) = keys.two_parts(b"BLSTSEGM", name, &objects[name]);
        assert_eq!(
            (numbers[0], numbers[1]),
            (read.len() as u64, (read.len() + raw.len()) as u64)
        );
        assert_eq!((numbers[2], numbers[3]), (numbers[0] + 1, numbers[1] + 1));
        assert_eq!(
            (&facts["previous"], &facts["facts"]["at"]),
            (&hex(&previous).into(), &at.into())
        );
        let mut begin = numbers[0];
        for end in facts["ends"].as_array().unwrap() {
            let end = end.as_u64().unwrap();
            let piece = |offset: u64| usize::try_from(offset - numbers[0]).unwrap();
            previous = keys.link(&previous, begin, end, &raw[piece(begin)..piece(end)]);
            begin = end;
        }
        assert_eq!((begin, &facts["link"]), (numbers[1], &hex(&previous).into()));
        read.extend(raw);
    }
    assert_eq!(read, log);
}

#[tokio::test]
async fn the_document_is_enough_to_read_a_journal() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let lock = Lock::KeyFile(Secret::new(KEY_FILE.to_owned()));
    let made = create_all(vec![("one".to_owned(), Arc::clone(&store))], &lock, &Cancel::new())
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let about = serde_json::json!({"for": "test"});
    let mut journal = Journal::create(&made[0].0, &path, &about).unwrap();
    journal.append(b"one").unwrap();
    journal.sync().unwrap();
    journal.append(b"two").unwrap();
    drop(journal);
    let (mut journal, _) = Journal::reopen(&made[0].0, &path).unwrap();
    journal.append(b"three").unwrap();

    let mut objects = BTreeMap::new();
    for object in store.list("", None, 1000).await.unwrap() {
        objects.insert(object.name.to_string(), store.get(&object.name).await.unwrap().to_vec());
    }
    let keys = Keys::of(&objects);
    let file = std::fs::read(&path).unwrap();
    let (mut at, mut key, mut found) = (0, [0; 32], Vec::new());
    while at < file.len() {
        let mut rest = Reader(&file[at..]);
        let mark = rest.take(4);
        if mark == b"BLJR" {
            let (sealed, synced) = (rest.number(4), rest.number(8));
            let plain = open(&key, counter(at as u64), &file[at..at + 16], rest.take(sealed));
            found.push((String::from_utf8(plain).unwrap(), synced));
            at += 16 + sealed;
        } else {
            assert_eq!(
                (mark, rest.take(4), rest.take(4)),
                (&b"BLST"[..], &b"JRNL"[..], &[1, 0, 0, 0][..])
            );
            let (sealed, salt) = (rest.number(4), rest.take(32));
            let (own, commitment) = keys.object("journal", salt);
            assert_eq!(rest.take(32), commitment);
            let plain = open(&own, counter(0), &file[at..at + 80], rest.take(sealed));
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&plain).unwrap(), about);
            (at, key) = (at + 80 + sealed, own);
        }
    }
    let head = 80 + about.to_string().len() + 16;
    let expected = [
        ("one", head),
        ("two", head + 16 + 3 + 16),
        ("three", 2 * head + 2 * (16 + 3 + 16)),
    ];
    assert_eq!(found, expected.map(|(text, synced)| (text.to_owned(), synced)));
}

/// Every mark and label the document names is one the code writes, and the other way round.
#[test]
fn the_document_names_what_the_code_writes() {
    let document = include_str!("../../../docs/format.md");
    let code = [
        include_str!("../src/format.rs"),
        include_str!("../src/keys.rs"),
        include_str!("../src/cipher.rs"),
        include_str!("../src/pack.rs"),
        include_str!("../src/manifest.rs"),
        include_str!("../src/segment.rs"),
        include_str!("../src/stream.rs"),
        include_str!("../src/journal.rs"),
    ]
    .concat();
    for word in [
        "BLSTREPO",
        "BLSTKEY\\0",
        "BLSTPACK",
        "BLSTPACKTAIL",
        "BLSTMANI",
        "BLSTSEGM",
        "BLSTSTRM",
        "BLSTSEEN",
        "BLSTJRNL",
        "BLJR",
        "ballast 1 log link",
        "ballast 1 chunk id",
        "ballast 1 seal",
        "ballast 1 key ",
        "ballast 1 commitment ",
        "ballast 1 key file",
    ] {
        assert!(document.contains(word), "the document does not name {word}");
        assert!(code.contains(word), "the code does not write {word}");
    }
}
