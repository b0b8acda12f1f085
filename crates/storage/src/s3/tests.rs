use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use ballast_base::{Retryable as _, fill_random};
use ballast_testkit::chaos_proxy::ChaosProxy;
use ballast_testkit::s3::{S3Options, S3Server};

use super::*;
use crate::{Presence, conformance, open, self_test};

/// The server of the test kit looks whether an object is there and then writes it, in two steps.
const TEST_SERVER: Capabilities = Capabilities { atomic_create: false };

fn settings(endpoint: &str, prefix: &str) -> StorageSettings {
    StorageSettings {
        url: format!("s3://{}{prefix}", S3Server::BUCKET),
        endpoint: Some(endpoint.to_owned()),
        region: Some(S3Server::REGION.to_owned()),
        access_key: Some(Secret::new(S3Server::ACCESS_KEY.to_owned())),
        secret_key: Some(Secret::new(S3Server::SECRET_KEY.to_owned())),
        insecure: endpoint.starts_with("http://"),
        ..StorageSettings::default()
    }
}

async fn opened(settings: &StorageSettings) -> Arc<dyn Storage> {
    open(settings, Presence::MustExist).await.unwrap()
}

fn plain_server() -> S3Server {
    S3Server::start(S3Options::default())
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn random(bytes: usize) -> Bytes {
    let mut body = vec![0; bytes];
    fill_random(&mut body);
    body.into()
}

/// The error and all its causes.
fn told(error: &StorageError) -> String {
    answer::chain(error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_the_contract_over_plain_http() {
    let server = plain_server();
    conformance::run(opened(&settings(&server.endpoint(), "")).await, TEST_SERVER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_keeps_the_contract_over_tls_with_an_authority_of_ones_own() {
    let server = S3Server::start(S3Options {
        tls: true,
        ..S3Options::default()
    });
    let trusting = StorageSettings {
        ca_file: Some(server.ca().to_owned()),
        ..settings(&server.endpoint(), "/fleet/a/")
    };
    let storage = opened(&trusting).await;
    let neighbour = opened(&StorageSettings {
        url: trusting.url.replace("/a/", "/ab"),
        ..trusting.clone()
    })
    .await;
    neighbour
        .put_new(&name("other"), Bytes::from_static(b"x"))
        .await
        .unwrap();
    conformance::run(storage, TEST_SERVER).await;
    assert_eq!(neighbour.get(&name("other")).await.unwrap(), "x");

    let distrusting = opened(&StorageSettings {
        ca_file: None,
        ..trusting
    })
    .await;
    let error = distrusting.get(&name("other")).await.unwrap_err();
    assert!(
        matches!(error, StorageError::Misconfigured { .. }) && told(&error).contains("ca_file"),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_the_server_says_is_told_and_secrets_are_not() {
    let server = plain_server();
    let good = settings(&server.endpoint(), "");
    let wrong_secret = Some(Secret::new("not-the-secret".to_owned()));
    let storage = opened(&StorageSettings {
        secret_key: wrong_secret,
        ..good.clone()
    })
    .await;
    let error = storage.put_new(&name("a"), random(10)).await.unwrap_err();
    let message = told(&error);
    assert!(
        matches!(error, StorageError::Denied { .. }) && message.contains("SignatureDoesNotMatch"),
        "{error:?}"
    );
    assert!(
        message.contains("\"a\"") && message.contains(S3Server::BUCKET),
        "{message}"
    );
    assert!(!format!("{message} {error:?} {storage:?}").contains("not-the-secret"));

    let wrong_key = Some(Secret::new("nobody".to_owned()));
    let storage = opened(&StorageSettings {
        access_key: wrong_key,
        ..good.clone()
    })
    .await;
    for error in [
        storage.get(&name("a")).await.map(drop).unwrap_err(),
        storage.head(&name("a")).await.map(drop).unwrap_err(),
        storage.list("", None, 5).await.map(drop).unwrap_err(),
        storage.delete(&name("a")).await.unwrap_err(),
    ] {
        assert!(
            matches!(error, StorageError::Denied { .. }) && !error.may_retry(),
            "{error:?}"
        );
    }

    let storage = opened(&StorageSettings {
        url: "s3://no-such-bucket/x".to_owned(),
        ..good
    })
    .await;
    for error in [
        storage.head(&name("a")).await.map(drop).unwrap_err(),
        storage.list("", None, 5).await.map(drop).unwrap_err(),
    ] {
        assert!(
            error.to_string().contains("create the bucket \"no-such-bucket\""),
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_is_unavailable_and_works_again_when_it_is_back() {
    let server = plain_server();
    let storage = opened(&settings(&server.endpoint(), "")).await;
    storage.put_new(&name("a"), Bytes::from_static(b"tide")).await.unwrap();
    server.kill();
    let error = storage.get(&name("a")).await.unwrap_err();
    assert!(
        matches!(error, StorageError::Unavailable { .. }) && error.may_retry(),
        "{error:?}"
    );
    assert!(told(&error).contains("refused"), "{}", told(&error));
    server.restart();
    assert_eq!(storage.get(&name("a")).await.unwrap(), "tide");
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_unavailable() {
    let storage = opened(&settings("http://nowhere.invalid", "")).await;
    let error = storage.list("", None, 1).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
}

/// The write happens, its answer is cut, the client sends it again and is told that the object exists.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_success_and_a_foreign_object_is_not() {
    let server = plain_server();
    let proxy = ChaosProxy::start(server.port());
    let storage = opened(&settings(&format!("http://127.0.0.1:{}", proxy.port()), "")).await;
    let direct = opened(&settings(&server.endpoint(), "")).await;
    let body = random(100_000);
    for (round, foreign) in [false, true, false, true].into_iter().enumerate() {
        let object = name(&format!("lost/{round}"));
        if foreign {
            direct.put_new(&object, random(100_000)).await.unwrap();
        }
        proxy.cut_after(1);
        let outcome = storage.put_new(&object, body.clone()).await;
        if foreign {
            assert!(
                matches!(outcome, Err(StorageError::AlreadyExists { .. })),
                "{outcome:?}"
            );
        } else {
            outcome.unwrap();
        }
        assert_eq!(direct.get(&object).await.unwrap() == body, !foreign);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_the_middle_of_a_read_is_taken_up_again() {
    let server = plain_server();
    let proxy = ChaosProxy::start(server.port());
    let storage = opened(&settings(&format!("http://127.0.0.1:{}", proxy.port()), "")).await;
    let body = random(8 * 1024 * 1024);
    storage.put_new(&name("large"), body.clone()).await.unwrap();
    for cut_after in [1000, 3_000_000, 8_000_000] {
        proxy.cut_after(cut_after);
        assert!(
            storage.get(&name("large")).await.unwrap() == body,
            "cut after {cut_after}"
        );
        proxy.cut_after(cut_after / 2);
        assert!(storage.get_range(&name("large"), 5..7_000_000).await.unwrap() == body.slice(5..7_000_000));
    }
}

/// Longer than the client's own limit of 10 s for one request would allow.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_take_its_time_on_a_slow_line() {
    let server = plain_server();
    let proxy = ChaosProxy::start(server.port());
    proxy.bandwidth(Some(1024 * 1024));
    let storage = opened(&settings(&format!("http://127.0.0.1:{}", proxy.port()), "")).await;
    let body = random(13 * 1024 * 1024);
    storage.put_new(&name("slow"), body.clone()).await.unwrap();
    proxy.bandwidth(None);
    assert!(storage.get(&name("slow")).await.unwrap() == body);
}

#[tokio::test]
async fn foreign_keys_are_listed_or_reported_as_strangers() {
    let server = plain_server();
    let storage = opened(&settings(&server.endpoint(), "/fleet")).await;
    let folder = server.bucket_dir().join("fleet");
    std::fs::create_dir_all(folder.join("packs")).unwrap();
    for key in ["packs/foreign.txt", "packs/two words", "packs/ä"] {
        std::fs::File::create(folder.join(key)).unwrap();
    }
    let listed = storage.list("", None, 10).await.unwrap();
    assert_eq!(
        listed.iter().map(|facts| facts.name.as_str()).collect::<Vec<_>>(),
        ["packs/foreign.txt"]
    );
    assert_eq!(storage.strangers(10).await.unwrap(), ["packs/two words", "packs/ä"]);
    assert_eq!(storage.strangers(1).await.unwrap().len(), 1);
}

/// A server that gives one answer to everything.
fn scripted(status: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut body_bytes = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap() == 0 || line == "\r\n" {
                    break;
                }
                if let Some(length) = line.to_lowercase().strip_prefix("content-length:") {
                    body_bytes = length.trim().parse().unwrap();
                }
            }
            std::io::copy(&mut reader.take(body_bytes), &mut std::io::sink()).unwrap();
            // The client may have gone.
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    endpoint
}

fn error_xml(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>so it is</Message></Error>")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_leads_to_the_callers_next_move() {
    type Check = fn(&StorageError) -> bool;
    let cases: [(&str, String, Check); 10] = [
        ("503 Slow", error_xml("SlowDown"), |e| {
            matches!(e, StorageError::Throttled { .. })
        }),
        ("500 Oh", error_xml("InternalError"), |e| {
            matches!(e, StorageError::Unavailable { .. })
        }),
        ("502 Bad Gateway", "so it is".to_owned(), |e| {
            matches!(e, StorageError::Unavailable { .. })
        }),
        ("409 Conflict", error_xml("QuotaExceeded"), |e| {
            matches!(e, StorageError::NoSpace { .. })
        }),
        ("507 Full", "so it is".to_owned(), |e| {
            matches!(e, StorageError::NoSpace { .. })
        }),
        ("301 Moved", error_xml("PermanentRedirect"), |e| {
            e.to_string().contains("mend region")
        }),
        ("400 Bad", error_xml("AuthorizationHeaderMalformed"), |e| {
            e.to_string().contains("mend region")
        }),
        ("501 No", error_xml("NotImplemented"), |e| {
            e.to_string().contains("conditional")
        }),
        ("404 Not Found", error_xml("NoSuchBucket"), |e| {
            e.to_string().contains("create the bucket")
        }),
        ("404 Not Found", "<html>nginx</html>".to_owned(), |e| {
            matches!(e, StorageError::Misconfigured { .. })
        }),
    ];
    let checks = cases.map(async |(status, body, check)| {
        let storage = opened(&settings(&scripted(status, &body), "")).await;
        for error in [
            storage.put_new(&name("a"), random(5000)).await.unwrap_err(),
            storage.get(&name("a")).await.map(drop).unwrap_err(),
        ] {
            assert!(check(&error), "{status}: {error:?}");
            let message = told(&error);
            assert!(
                message.contains("so it is") || message.contains("not a store's"),
                "{status}: {message}"
            );
        }
    });
    futures_util::future::join_all(checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lists_nonsense_is_an_error_and_no_panic() {
    let page = |keys: &[&str]| {
        let contents: String = keys
            .iter()
            .map(|key| {
                format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>\
                     <ETag>\"x\"</ETag><Size>1</Size></Contents>"
                )
            })
            .collect();
        format!(
            "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        )
    };
    for keys in [
        &["fleet/b", "fleet/a"][..],
        &["fleet/a", "fleet/a"],
        &["f"],
        &["other/a"],
        &["fleet/a", "x"],
    ] {
        let storage = opened(&settings(&scripted("200 OK", &page(keys)), "/fleet")).await;
        let outcome = storage.list("", None, 10).await;
        assert!(
            matches!(outcome, Err(StorageError::Misconfigured { .. })),
            "{keys:?}: {outcome:?}"
        );
    }
    let storage = opened(&settings(&scripted("200 OK", &page(&["fleet/a", "fleet/b"])), "/fleet")).await;
    assert_eq!(storage.list("", None, 10).await.unwrap().len(), 2);
}

/// What a server does that knows no conditional requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_yes_to_everything_fails_the_self_test() {
    let storage = opened(&settings(&scripted("200 OK", ""), "")).await;
    let outcome = tokio::time::timeout(Duration::from_secs(60), self_test(&*storage))
        .await
        .unwrap();
    assert!(outcome.is_err(), "{outcome:?}");
}
