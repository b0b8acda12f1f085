#![allow(clippy::disallowed_methods, reason = "tests plant files behind the store's back")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::conformance;

/// Where a child of this test binary finds its folder, and whether it is to write the other way.
const CHILD_FOLDER: &str = "BALLAST_STORAGE_TEST_FOLDER";
const CHILD_NAMED_FILES: &str = "BALLAST_STORAGE_TEST_NAMED_FILES";

fn open_private(named_files: bool) -> (tempfile::TempDir, LocalStorage) {
    let dir = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(&dir.path().join("objects")).unwrap();
    if named_files {
        storage.root.writer.without_nameless_files();
    }
    (dir, storage)
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

async fn names(storage: &LocalStorage) -> Vec<String> {
    storage
        .list("", None, 10_000)
        .await
        .unwrap()
        .into_iter()
        .map(|facts| facts.name.to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn local_keeps_the_contract_with_nameless_files() {
    let (_dir, storage) = open_private(false);
    conformance::run(Arc::new(storage), Capabilities { atomic_create: true }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_keeps_the_contract_with_named_files() {
    let (dir, storage) = open_private(true);
    conformance::run(Arc::new(storage), Capabilities { atomic_create: true }).await;
    let left = std::fs::read_dir(dir.path().join("objects/.incoming")).unwrap().count();
    assert_eq!(left, 0, "files that lost a race must not stay");
}

#[tokio::test]
async fn folders_and_files_are_closed_to_others() {
    for named_files in [false, true] {
        let (dir, storage) = open_private(named_files);
        storage
            .put_new(&name("packs/00/a"), Bytes::from_static(b"x"))
            .await
            .unwrap();
        let root = dir.path().join("objects");
        for folder in ["", "packs", "packs/00"] {
            assert_eq!(mode(&root.join(folder)), 0o700, "{folder}");
        }
        assert_eq!(mode(&root.join("packs/00/a")), 0o600);
        let again = LocalStorage::create(&root).unwrap();
        assert_eq!(again.get(&name("packs/00/a")).await.unwrap(), "x");
    }
}

#[test]
fn a_root_that_is_missing_open_to_others_or_no_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = LocalStorage::open(&dir.path().join("missing")).unwrap_err();
    assert!(matches!(missing, StorageError::NoRoot { .. }), "{missing:?}");
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    for open_mode in [0o755, 0o710, 0o701, 0o770] {
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(open_mode)).unwrap();
        let message = LocalStorage::create(&root).unwrap_err().to_string();
        assert!(
            message.contains(&format!("chmod 700 '{}'", root.display())),
            "{message}"
        );
    }
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).unwrap();
    LocalStorage::open(&root).unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let message = LocalStorage::open(&file).unwrap_err().to_string();
    assert!(message.contains("no folder"), "{message}");
}

#[test]
fn a_root_of_someone_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let stat = rustix::fs::stat(dir.path()).unwrap();
    let owner = std::fs::metadata(dir.path()).unwrap().uid();
    check_private(dir.path(), "here", &stat, owner).unwrap();
    let message = check_private(dir.path(), "here", &stat, owner + 1)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains(&format!("belongs to user {owner}")) && message.contains("chown"),
        "{message}"
    );
}

#[tokio::test]
async fn links_and_pipes_are_never_followed_and_are_reported() {
    let (dir, storage) = open_private(false);
    let root = dir.path().join("objects");
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "x").unwrap();
    symlink(&outside, root.join("folder-link")).unwrap();
    symlink(outside.join("secret"), root.join("file-link")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(root.join("pipe"))
            .status()
            .unwrap()
            .success()
    );
    for odd in ["file-link", "pipe", "folder-link/secret"] {
        let outcome = tokio::time::timeout(Duration::from_secs(5), storage.get(&name(odd)))
            .await
            .unwrap();
        assert!(
            matches!(outcome, Err(StorageError::Corrupt { .. })),
            "{odd}: {outcome:?}"
        );
        let outcome = storage.head(&name(odd)).await;
        assert!(
            matches!(outcome, Err(StorageError::Corrupt { .. })),
            "{odd}: {outcome:?}"
        );
    }
    for odd in ["file-link", "pipe", "folder-link/new"] {
        let outcome = storage.put_new(&name(odd), Bytes::from_static(b"y")).await;
        assert!(
            matches!(outcome, Err(StorageError::Corrupt { .. })),
            "{odd}: {outcome:?}"
        );
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"x");
    assert_eq!(names(&storage).await, [""; 0]);
    let mut strangers = storage.strangers(10).await.unwrap();
    strangers.sort();
    assert_eq!(strangers, ["file-link", "folder-link", "pipe"]);
}

#[tokio::test]
async fn foreign_files_are_listed_or_reported_as_strangers() {
    let (dir, storage) = open_private(false);
    let root = dir.path().join("objects");
    for folder in ["packs", "lost+found", ".hidden", "packs/.incoming"] {
        std::fs::create_dir(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("packs/foreign.txt"), "hello").unwrap();
    std::fs::write(root.join("packs/two words"), "").unwrap();
    std::fs::write(root.join(OsStr::from_bytes(b"packs/\xff")), "").unwrap();
    std::fs::write(root.join(".hidden/x"), "").unwrap();
    std::fs::create_dir_all(root.join("manifests/empty")).unwrap();
    assert_eq!(names(&storage).await, ["packs/foreign.txt"]);
    let mut strangers = storage.strangers(10).await.unwrap();
    strangers.sort();
    assert_eq!(
        strangers,
        [
            ".hidden",
            "manifests/empty/",
            "packs/.incoming",
            "packs/two words",
            "packs/\u{fffd}"
        ]
    );
    assert_eq!(storage.strangers(2).await.unwrap().len(), 2);
}

#[tokio::test]
async fn left_overs_of_dead_writers_go_and_those_of_living_ones_stay() {
    let (dir, storage) = open_private(true);
    let incoming = dir.path().join("objects/.incoming");
    std::fs::create_dir(&incoming).unwrap();
    std::fs::write(incoming.join("dead"), "half an obj").unwrap();
    std::fs::write(incoming.join("alive"), "half an obj").unwrap();
    let alive = File::open(incoming.join("alive")).unwrap();
    rustix::fs::flock(&alive, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(names(&storage).await, [""; 0]);
    assert_eq!(storage.strangers(10).await.unwrap(), [""; 0]);
    storage.put_new(&name("a"), Bytes::new()).await.unwrap();
    let left: Vec<_> = std::fs::read_dir(&incoming)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["alive"]);
}

/// The bytes an object of a killed writer must have, from its name alone.
fn expected_body(number: u64) -> Bytes {
    let length = 50_000 + usize::try_from(number % 7).unwrap() * 40_000;
    number
        .to_le_bytes()
        .into_iter()
        .cycle()
        .take(length)
        .collect::<Vec<u8>>()
        .into()
}

fn child(test: &str, folder: &Path, named_files: bool) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        &format!("local::tests::{test}"),
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    child_env(&mut command, folder, named_files);
    command
}

fn child_env(command: &mut Command, folder: &Path, named_files: bool) {
    command
        .env(CHILD_FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if named_files {
        command.env(CHILD_NAMED_FILES, "1");
    }
}

fn open_as_child() -> LocalStorage {
    let folder = std::env::var_os(CHILD_FOLDER).expect("only another test runs this one");
    let storage = LocalStorage::create(Path::new(&folder)).unwrap();
    if std::env::var_os(CHILD_NAMED_FILES).is_some() {
        storage.root.writer.without_nameless_files();
    }
    storage
}

#[tokio::test]
#[ignore = "the child of a_writer_killed_at_any_moment_leaves_whole_objects_only"]
async fn child_that_writes_until_it_is_killed() {
    let storage = open_as_child();
    let first = names(&storage).await.len() as u64;
    for number in first.. {
        let object = name(&format!("kill/{}/{number}", number % 5));
        storage.put_new(&object, expected_body(number)).await.unwrap();
    }
}

#[tokio::test]
async fn a_writer_killed_at_any_moment_leaves_whole_objects_only() {
    for named_files in [false, true] {
        let (dir, storage) = open_private(named_files);
        let root = dir.path().join("objects");
        let mut seen = 0;
        for kill in 0..15u64 {
            let mut writer = child("child_that_writes_until_it_is_killed", &root, named_files)
                .spawn()
                .unwrap();
            tokio::time::sleep(Duration::from_millis(60 + kill * 13)).await;
            writer.kill().unwrap();
            writer.wait().unwrap();
            let listed = storage.list("kill/", None, 10_000).await.unwrap();
            assert!(listed.len() >= seen, "objects went away");
            for facts in &listed {
                let number = facts.name.as_str().rsplit('/').next().unwrap().parse().unwrap();
                // Those of earlier rounds were looked at then.
                if number >= seen as u64 {
                    assert!(
                        storage.get(&facts.name).await.unwrap() == expected_body(number),
                        "{} is torn",
                        facts.name
                    );
                }
            }
            seen = listed.len();
            // A writer that was killed before its first object may leave an empty folder.
            let strangers = storage.strangers(10).await.unwrap();
            assert!(strangers.iter().all(|name| name.ends_with('/')), "{strangers:?}");
        }
        assert!(
            seen > 15,
            "the children wrote only {seen} objects, so nothing was tried"
        );
        storage.put_new(&name("last"), Bytes::new()).await.unwrap();
        let left = std::fs::read_dir(root.join(".incoming")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "the next writer sweeps what the killed ones left");
    }
}

#[tokio::test]
#[ignore = "the child of a_full_disk_is_told_and_leaves_whole_objects_only"]
async fn child_that_writes_until_the_disk_is_full() {
    const BYTES: usize = 300_000;
    let storage = open_as_child();
    let body = |number: usize| Bytes::from(vec![u8::try_from(number).unwrap(); BYTES]);
    let mut stored = 0;
    let error = loop {
        assert!(stored < 100, "the disk never got full");
        match storage.put_new(&name(&format!("full/{stored:03}")), body(stored)).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        if std::env::var_os("BALLAST_STORAGE_TEST_ONE_LARGE").is_some() {
            break storage
                .put_new(&name("large"), Bytes::from(vec![0; 4 * BYTES]))
                .await
                .unwrap_err();
        }
    };
    assert!(matches!(error, StorageError::NoSpace { .. }), "{error:?}");
    let listed = storage.list("", None, 1000).await.unwrap();
    assert!(
        !listed.is_empty() && listed.len() == stored,
        "{stored} were stored, listed are {listed:?}"
    );
    for (number, facts) in listed.iter().enumerate() {
        assert!(
            storage.get(&facts.name).await.unwrap() == body(number),
            "{} is torn",
            facts.name
        );
    }
    storage.delete(&listed[0].name).await.unwrap();
    storage
        .put_new(&name("again"), body(0))
        .await
        .expect("what a failed write took up was given back");
}

/// A tiny file system of its own where mounts are permitted (root, or a user namespace), and a limit on the size of
/// files everywhere.
#[test]
fn a_full_disk_is_told_and_leaves_whole_objects_only() {
    let test = "child_that_writes_until_the_disk_is_full";
    let is_root = rustix::process::geteuid().is_root();
    for named_files in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let run = |wrapper: &str, shell: &str, extra: &[&str]| {
            let mut command = if wrapper.is_empty() {
                Command::new("sh")
            } else {
                Command::new(wrapper)
            };
            command
                .args(extra)
                .args(["-c", shell, "sh"])
                .arg(dir.path())
                .arg(&program);
            command.args(["--exact", &format!("local::tests::{test}"), "--ignored", "--nocapture"]);
            child_env(&mut command, &dir.path().join("objects"), named_files);
            command
        };
        let limited = run("", "trap '' XFSZ; ulimit -f 1000; shift; exec \"$@\"", &[])
            .env("BALLAST_STORAGE_TEST_ONE_LARGE", "1")
            .output()
            .unwrap();
        assert!(limited.status.success(), "{}", String::from_utf8_lossy(&limited.stderr));
        assert!(
            String::from_utf8_lossy(&limited.stdout).contains("1 passed"),
            "the child found no test to run"
        );

        let namespace: &[&str] = if is_root {
            &["--mount", "sh"]
        } else {
            &["--user", "--map-root-user", "--mount", "sh"]
        };
        let shell = "mount -t tmpfs -o size=2m,mode=700 none \"$1\" || exit 77; shift; exec \"$@\"";
        let full = run("unshare", shell, namespace).output();
        match full.map(|output| (output.status.code(), output)) {
            Ok((Some(0), output)) => assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed")),
            Ok((Some(101), output)) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
            other => println!("SKIPPED: no file system of one's own here: {other:?}"),
        }
    }
}

fn any_name() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab.\\-0]{1,3}", 1..4)
        .prop_map(|parts| parts.join("/"))
        .prop_filter("an object name", |text| ObjectName::new(text).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Against a sorted set: any names, any page size, any prefix, any place to go on from.
    #[test]
    fn lists_are_in_byte_order_whatever_the_names(
        wanted in prop::collection::btree_set(any_name(), 0..30),
        prefix in "[ab.\\-/]{0,3}",
        limit in 1usize..6,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_dir, storage) = open_private(false);
            let mut stored = Vec::new();
            for text in &wanted {
                // A name that runs through another object cannot be stored in a folder.
                if storage.put_new(&name(text), Bytes::from(text.clone())).await.is_ok() {
                    stored.push(text.clone());
                }
            }
            stored.retain(|text| text.starts_with(&prefix));
            let mut found: Vec<ObjectFacts> = Vec::new();
            loop {
                let page = storage.list(&prefix, found.last().map(|facts| &facts.name), limit).await.unwrap();
                let more = page.len() == limit;
                found.extend(page);
                if !more {
                    break;
                }
            }
            let found: Vec<String> = found.iter().map(|facts| facts.name.to_string()).collect();
            assert_eq!(found, stored);
        });
    }
}
