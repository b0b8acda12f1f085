//! From a URL in the configuration to a store. The only list of kinds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ballast_base::{Secret, run_blocking};

use crate::s3::{Dialect, S3Storage};
use crate::{LocalStorage, ObjectName, Storage, StorageError};

const KINDS: &str = "file:///absolute/path, s3://bucket/prefix or oss://bucket/prefix";

/// Where objects are and how to get at them.
#[derive(Debug, Clone, Default)]
pub struct StorageSettings {
    pub url: String,
    /// The server of a bucket, with `https://`. Without it, the region's own server at Amazon.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key: Option<Secret>,
    pub secret_key: Option<Secret>,
    pub session_token: Option<Secret>,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Allows `http://`.
    pub insecure: bool,
}

/// Whether a folder that is not there may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    MustExist,
    MayCreate,
}

/// Opens the store `settings` speak of. A bucket is not asked whether it is there: the first call tells.
pub async fn open(settings: &StorageSettings, presence: Presence) -> Result<Arc<dyn Storage>, StorageError> {
    let url = &settings.url;
    let (kind, rest) = url.split_once("://").unwrap_or(("", url));
    let dialect = match kind {
        "file" => return open_local(url, Path::new(rest), presence).await,
        "s3" => Dialect::S3,
        "oss" => Dialect::Oss,
        _ => {
            return Err(misconfigured(
                url,
                "it is of no kind this program knows",
                &format!("write {KINDS}"),
            ));
        }
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let bucket_ok = bucket.len() >= 3
        && bucket
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    if !bucket_ok {
        let hint = format!("write {kind}://bucket or {kind}://bucket/prefix");
        return Err(misconfigured(url, &format!("{bucket:?} is no bucket name"), &hint));
    }
    if !prefix.is_empty() && ObjectName::new(prefix).is_err() {
        let hint = "use letters, digits, \".\", \"_\", \"-\" and \"/\" only";
        return Err(misconfigured(url, &format!("{prefix:?} cannot be a prefix"), hint));
    }
    Ok(Arc::new(S3Storage::open(dialect, settings, bucket, prefix)?))
}

async fn open_local(url: &str, path: &Path, presence: Presence) -> Result<Arc<dyn Storage>, StorageError> {
    let plain = path
        .components()
        .all(|part| !matches!(part, std::path::Component::ParentDir));
    if !path.is_absolute() || !plain {
        let hint = "write file:// and an absolute path without \"..\", as in file:///var/backups";
        return Err(misconfigured(url, "the path is not absolute", hint));
    }
    let path = path.to_owned();
    let opened = run_blocking("open local storage", move || match presence {
        Presence::MustExist => LocalStorage::open(&path),
        Presence::MayCreate => LocalStorage::create(&path),
    });
    let opened = opened
        .await
        .unwrap_or_else(|error| Err(StorageError::from_task(url, "open the folder".into(), error)));
    Ok(Arc::new(opened?))
}

pub(crate) fn misconfigured(location: &str, problem: &str, hint: &str) -> StorageError {
    StorageError::Misconfigured {
        location: location.to_owned(),
        problem: problem.to_owned(),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(url: &str, endpoint: &str, insecure: bool) -> StorageSettings {
        StorageSettings {
            url: url.to_owned(),
            endpoint: Some(endpoint.to_owned()),
            region: Some("tide-1".to_owned()),
            access_key: Some(Secret::new("anchor-id".to_owned())),
            secret_key: Some(Secret::new("anchor-secret".to_owned())),
            insecure,
            ..StorageSettings::default()
        }
    }

    async fn refused(settings: &StorageSettings) -> String {
        let error = open(settings, Presence::MustExist).await.unwrap_err();
        assert!(matches!(error, StorageError::Misconfigured { .. }), "{error:?}");
        error.to_string()
    }

    #[tokio::test]
    async fn each_mistake_in_a_url_says_what_to_write() {
        for (url, word) in [
            ("", KINDS),
            ("/var/backups", KINDS),
            ("ftp://host/path", KINDS),
            ("file://relative/path", "file:///var/backups"),
            ("file:///a/../b", "file:///var/backups"),
            ("s3://", "s3://bucket/prefix"),
            ("s3://UPPER/x", "s3://bucket/prefix"),
            ("oss://harbour//x", "letters"),
            ("s3://harbour/a b", "letters"),
        ] {
            let message = refused(&bucket(url, "https://s3.example.com", false)).await;
            assert!(message.contains(word), "{url}: {message}");
        }
    }

    #[tokio::test]
    async fn plain_http_is_refused_unless_the_settings_say_insecure() {
        let message = refused(&bucket("s3://harbour", "http://127.0.0.1:9", false)).await;
        assert!(message.contains("insecure = true"), "{message}");
        for kind in ["s3", "oss"] {
            let settings = bucket(&format!("{kind}://harbour/a/"), "http://127.0.0.1:9", true);
            let opened = open(&settings, Presence::MustExist);
            assert_eq!(opened.await.unwrap().location(), format!("{kind}://harbour/a"));
        }
        for endpoint in [
            "127.0.0.1:9",
            "ftp://x",
            "https://",
            "https://u:p@x",
            "https://x/path?query",
        ] {
            let message = refused(&bucket("s3://harbour", endpoint, true)).await;
            assert!(
                message.contains("endpoint") && !message.contains("u:p"),
                "{endpoint}: {message}"
            );
        }
    }

    #[tokio::test]
    async fn keys_and_certificates_that_are_missing_are_named_and_nothing_prints_a_secret() {
        let good = bucket("s3://harbour", "https://s3.example.com", false);
        let message = refused(&StorageSettings {
            secret_key: None,
            ..good.clone()
        })
        .await;
        assert!(message.contains("secret_key"), "{message}");
        let message = refused(&StorageSettings {
            region: None,
            endpoint: None,
            ..good.clone()
        })
        .await;
        assert!(message.contains("region"), "{message}");
        let message = refused(&StorageSettings {
            ca_file: Some("/no/such/ca.pem".into()),
            ..good.clone()
        })
        .await;
        assert!(message.contains("/no/such/ca.pem"), "{message}");
        let printed = format!("{good:?} {:?}", open(&good, Presence::MustExist).await.unwrap());
        assert!(!printed.contains("anchor-secret"), "{printed}");
    }
}
