//! Getting in: sockets, TLS, accounts with no more rights than are needed, and being told why not.

use ballast_base::{Cancel, Secret};
use ballast_redis::{
    Connection, Facts, Flavour, RedisError, Requirement, ServerAddress, Snapshot, WalkOptions, fork_room,
    log_requirements, recorder_rights, snapshot_requirements,
};
use ballast_testkit::servers::{RedisFlavour, RedisOptions, RedisServer};

use crate::common::{FLAVOURS, address, options, quick, snapshot_of, start, take};

async fn pinged(address: &ServerAddress) -> Result<String, RedisError> {
    let mut connection = Connection::open(address, &Cancel::new()).await?;
    Ok(connection.command(&[b"PING"]).await?.text().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_socket_and_by_tls() {
    for flavour in FLAVOURS {
        let server = RedisServer::start(RedisOptions {
            tls: true,
            ..quick(flavour)
        });
        server.command(&["SET", "a", "1"]);
        let socket: ServerAddress = format!("redis://localhost?socket={}", server.socket().display())
            .parse()
            .unwrap();
        assert_eq!(pinged(&socket).await.unwrap(), "PONG");
        let (port, ca) = server.tls();
        for url in [
            format!("rediss://localhost:{port}?ca={}", ca.display()),
            format!("redis://127.0.0.1:{port}?tls=required"),
            format!("redis://127.0.0.1:{port}?tls=required&ca={}", ca.display()),
        ] {
            let secure: ServerAddress = url.parse().unwrap();
            assert_eq!(pinged(&secure).await.unwrap(), "PONG", "{url}");
            let (_, summary) = snapshot_of(&secure, &options(&server).await, WalkOptions::default()).await;
            assert_eq!(summary.keys(), 1);
        }
        // An authority nobody trusts.
        let error = pinged(&format!("rediss://localhost:{port}").parse().unwrap())
            .await
            .unwrap_err();
        assert!(matches!(error, RedisError::Tls { .. }), "{error:?}");
    }
}

/// It waits for the end of a line that never comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_speaks_no_tls_is_given_up() {
    let server = start(FLAVOURS[0]);
    let error = pinged(&format!("rediss://localhost:{}", server.port()).parse().unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(error, RedisError::Tls { .. } | RedisError::Unreachable { .. }),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_with_few_rights_is_enough_and_a_refusal_is_named() {
    for flavour in FLAVOURS {
        let server = start(flavour);
        server.command(&["SET", "a", "1"]);
        let rights = [
            "ACL",
            "SETUSER",
            "cap",
            "on",
            ">hush",
            "resetkeys",
            "resetchannels",
            "-@all",
            "+psync",
            "+replconf",
            "+ping",
        ];
        server.command(&rights);
        let mut account = address(&server);
        account.user = Some("cap".to_owned());
        account.password = Some(Secret::new("hush".to_owned()));
        let mut snapshot = Snapshot::start(&account, &options(&server).await, &Cancel::new())
            .await
            .unwrap();
        assert_eq!(take(&mut snapshot, WalkOptions::default()).await.unwrap().1.keys(), 1);
        account.password = Some(Secret::new("wrong".to_owned()));
        let error = pinged(&account).await.unwrap_err();
        assert!(matches!(error, RedisError::Login { .. }), "{error:?}");
        assert!(error.to_string().contains("cap") && !format!("{error:?}").contains("hush"));
        server.command(&["ACL", "SETUSER", "cap", "-psync"]);
        account.password = Some(Secret::new("hush".to_owned()));
        let error = Snapshot::start(&account, &options(&server).await, &Cancel::new())
            .await
            .unwrap_err();
        assert_eq!(error.server_code(), Some("NOPERM"), "{error:?}");
        assert!(error.hint().unwrap().contains("+psync"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_can_be_cancelled() {
    // The server waits a minute for more replicas.
    let server = RedisServer::start(quick(FLAVOURS[0]).arg("--repl-diskless-sync-delay", "60"));
    let cancel = Cancel::new();
    let (address, options) = (address(&server), options(&server).await);
    let (asked, ()) = tokio::join!(Snapshot::start(&address, &options, &cancel), async {
        while !server.command(&["INFO", "replication"]).contains("wait_bgsave") {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    assert!(matches!(asked, Err(RedisError::Cancelled(_))));
}

/// What a real server says is understood, and a point that fails is mended by its own statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_setting_is_found_and_mended_by_its_statement() {
    for flavour in FLAVOURS {
        let server = start(flavour);
        let mut connection = Connection::open(&address(&server), &Cancel::new()).await.unwrap();
        let facts = Facts::read(&mut connection, true).await.unwrap();
        assert_eq!(
            facts.version.flavour == Flavour::Valkey,
            flavour == RedisFlavour::Valkey
        );
        assert!(facts.denied.is_empty() && facts.overcommit.is_some() && facts.account == "default");
        assert!(fork_room(&facts).unwrap().is_some());
        let failing: Vec<Requirement> = log_requirements(&facts).into_iter().filter(|point| !point.ok).collect();
        let names: Vec<&str> = failing.iter().map(|point| point.name).collect();
        assert_eq!(names, ["save", "appendonly", "repl-backlog-size"]);
        for point in &failing {
            let statement = point.remedy.strip_suffix(" and then CONFIG REWRITE").unwrap();
            let value = statement.splitn(4, ' ').nth(3).unwrap().trim_matches('"');
            server.command(&["CONFIG", "SET", point.name, value]);
        }
        let facts = Facts::read(&mut connection, true).await.unwrap();
        assert!(log_requirements(&facts).iter().all(|point| point.ok));
        server.command(&[
            "ACL",
            "SETUSER",
            "few",
            "on",
            "nopass",
            "-@all",
            "+info",
            "+ping",
            "+acl|whoami",
            "+acl|dryrun",
        ]);
        let mut few = address(&server);
        few.user = Some("few".to_owned());
        few.password = Some(Secret::new("any".to_owned()));
        let mut connection = Connection::open(&few, &Cancel::new()).await.unwrap();
        let facts = Facts::read(&mut connection, false).await.unwrap();
        assert_eq!(
            (facts.denied.as_slice(), facts.account.as_str()),
            (["psync", "replconf"].as_slice(), "few")
        );
        assert_eq!(log_requirements(&facts)[0].name, "settings");
        // The line it names is enough, and no more than that.
        let line = recorder_rights("few").replace(">PASSWORD", "nopass");
        server.command(&line.split(' ').collect::<Vec<_>>());
        let mut connection = Connection::open(&few, &Cancel::new()).await.unwrap();
        let facts = Facts::read(&mut connection, false).await.unwrap();
        assert!(
            snapshot_requirements(&facts)
                .iter()
                .all(|point| point.ok || point.name == "maxmemory")
        );
        assert!(connection.command(&[b"GET", b"a"]).await.is_err());
    }
}
