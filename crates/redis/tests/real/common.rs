//! What the tests share.

use std::path::Path;

use ballast_base::{Cancel, Clock as _, SystemClock};
use ballast_redis::{
    Connection, DataForm, Info, RdbFeed, RdbSummary, RedisError, ServerAddress, ServerBinary, Snapshot, SyncOptions,
    ThrowawayOptions, ThrowawayServer, WalkOptions,
};
use ballast_testkit::servers::{RedisFlavour, RedisOptions, RedisServer};

pub(crate) const FLAVOURS: [RedisFlavour; 2] = [RedisFlavour::Redis, RedisFlavour::Valkey];

/// A server that starts snapshots at once.
pub(crate) fn start(flavour: RedisFlavour) -> RedisServer {
    RedisServer::start(quick(flavour))
}

pub(crate) fn quick(flavour: RedisFlavour) -> RedisOptions {
    RedisOptions {
        flavour,
        ..RedisOptions::default()
    }
    .arg("--repl-diskless-sync-delay", "0")
    .arg("--enable-debug-command", "local")
}

pub(crate) fn address(server: &RedisServer) -> ServerAddress {
    server.url().parse().unwrap()
}

pub(crate) async fn options(server: &RedisServer) -> SyncOptions {
    let mut connection = Connection::open(&address(server), &Cancel::new()).await.unwrap();
    let version = Info::read(&mut connection).await.unwrap().version().unwrap();
    SyncOptions {
        server_version: Some(version.text),
        ..SyncOptions::default()
    }
}

/// All bytes of a snapshot, and what a walk beside found.
pub(crate) async fn take(snapshot: &mut Snapshot, walk: WalkOptions) -> Result<(Vec<u8>, RdbSummary), RedisError> {
    let feed = RdbFeed::start(walk);
    let mut bytes = Vec::new();
    while let Some(portion) = snapshot.next().await? {
        bytes.extend_from_slice(&portion);
        if !feed.push(portion).await {
            break;
        }
    }
    Ok((bytes, feed.finish().await?))
}

pub(crate) async fn snapshot_of(
    address: &ServerAddress,
    options: &SyncOptions,
    walk: WalkOptions,
) -> (Vec<u8>, RdbSummary) {
    let mut snapshot = Snapshot::start(address, options, &Cancel::new()).await.unwrap();
    let taken = take(&mut snapshot, walk).await.unwrap();
    let position = taken.1.position.as_ref();
    assert_eq!(
        position,
        Some(snapshot.position()),
        "a snapshot says itself where it was taken"
    );
    taken
}

pub(crate) fn now_ms() -> i64 {
    SystemClock::new().now().as_millisecond()
}

pub(crate) async fn binary(server: &RedisServer) -> ServerBinary {
    ServerBinary::probe(server.program(), &Cancel::new()).await.unwrap()
}

/// A private server on `folder` where nothing expires.
pub(crate) async fn load(server: &RedisServer, folder: &Path, form: DataForm) -> ThrowawayServer {
    let mut options = ThrowawayOptions::new(folder.to_owned(), form);
    options.keeps_expired = true;
    ThrowawayServer::start(&binary(server).await, options, &Cancel::new())
        .await
        .unwrap()
}

pub(crate) async fn debug_digest(address: &ServerAddress) -> String {
    let mut connection = Connection::open(address, &Cancel::new()).await.unwrap();
    let reply = connection.command(&[b"DEBUG", b"DIGEST"]).await.unwrap();
    reply.text().unwrap()
}
