//! The client: how long it waits, whom it trusts, how it signs.

use std::time::Duration;

use ballast_base::Secret;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{HttpTransporter, OperationContext, Operator, services};
use opendal_http_transport_reqwest::ReqwestTransport;

use super::Dialect;
use crate::url::misconfigured;
use crate::{StorageError, StorageSettings};

/// An uplink slower than this is not waited for (1 Mbit/s).
const UPLINK_BYTES_PER_SECOND: u64 = 125_000;
/// The body of one request is not larger in ordinary work.
const BODY_BYTES: u64 = 32 * 1024 * 1024;
/// One request with its body may take this long. The client's own default, 10 s, would cut every large body short.
const IO_WAIT_MAX: Duration = Duration::from_secs(BODY_BYTES.div_ceil(UPLINK_BYTES_PER_SECOND) + 30);
/// One request without a body may take this long.
const CALL_WAIT_MAX: Duration = Duration::from_secs(60);
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);
/// A peer that does not confirm what was sent for this long is gone, however long the body may take.
const UNCONFIRMED_WAIT_MAX: Duration = Duration::from_secs(60);

const RETRIES_MAX: usize = 4;
const RETRY_WAIT_FIRST: Duration = Duration::from_millis(300);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(8);

pub(super) fn operator(dialect: Dialect, settings: &StorageSettings, bucket: &str) -> Result<Operator, StorageError> {
    let failed = |problem: String, hint: &str| misconfigured(&settings.url, &problem, hint);
    check_endpoint(settings)?;
    let access_key = required(settings, "access_key", settings.access_key.as_ref())?;
    let secret_key = required(settings, "secret_key", settings.secret_key.as_ref())?;
    let built = match dialect {
        Dialect::S3 => {
            let region = settings
                .region
                .as_deref()
                .or(settings.endpoint.as_ref().map(|_| "us-east-1"));
            let region = region.ok_or_else(|| failed("region is missing".to_owned(), "write region or endpoint"))?;
            let mut s3 = services::S3::default()
                .bucket(bucket)
                .region(region)
                .access_key_id(access_key.expose())
                .secret_access_key(secret_key.expose())
                .disable_config_load()
                .disable_ec2_metadata();
            if let Some(endpoint) = &settings.endpoint {
                s3 = s3.endpoint(endpoint);
            }
            if let Some(token) = &settings.session_token {
                s3 = s3.session_token(token.expose());
            }
            Operator::new(s3)
        }
        Dialect::Oss => {
            let endpoint = settings.endpoint.as_deref();
            let endpoint =
                endpoint.ok_or_else(|| failed("endpoint is missing".to_owned(), "write endpoint = \"https://…\""))?;
            let mut oss = services::Oss::default()
                .bucket(bucket)
                .endpoint(endpoint)
                .access_key_id(access_key.expose())
                .access_key_secret(secret_key.expose());
            if let Some(token) = &settings.session_token {
                oss = oss.security_token(token.expose());
            }
            Operator::new(oss)
        }
    };
    let operator = built.map_err(|error| failed(error.message().to_owned(), "mend these settings"))?;
    let transport = HttpTransporter::new(ReqwestTransport::new(http_client(settings)?));
    // The time limit must lie below the retries, or it would end them all at once.
    Ok(operator
        .with_context(OperationContext::new().with_http_transport(transport))
        .layer(
            TimeoutLayer::new()
                .with_timeout(CALL_WAIT_MAX)
                .with_io_timeout(IO_WAIT_MAX),
        )
        .layer(
            RetryLayer::new()
                .with_jitter()
                .with_max_times(RETRIES_MAX)
                .with_min_delay(RETRY_WAIT_FIRST)
                .with_max_delay(RETRY_WAIT_MAX)
                .with_notify(|event: opendal::layers::RetryEvent<'_>| {
                    tracing::info!(operation = %event.op, kind = %event.err.kind(), "bucket: trying again");
                }),
        ))
}

/// Refuses what would send secrets or objects over a line anyone can read, and what is no address of a server.
fn check_endpoint(settings: &StorageSettings) -> Result<(), StorageError> {
    let Some(endpoint) = &settings.endpoint else {
        return Ok(());
    };
    let host = match endpoint.split_once("://") {
        Some(("https", host)) => host,
        Some(("http", host)) if settings.insecure => host,
        Some(("http", _)) => {
            let problem = "its endpoint starts with http://, so anyone on the way could read and change what is sent";
            return Err(misconfigured(
                &settings.url,
                problem,
                "write https://, or else insecure = true beside it",
            ));
        }
        _ => "",
    };
    // Not printed: what is wrong may be that it holds a password.
    if host.is_empty() || host.contains(['@', '?', '#', ' ']) {
        let problem = "its endpoint is no address of a server";
        return Err(misconfigured(
            &settings.url,
            problem,
            "write endpoint = \"https://host:port\"",
        ));
    }
    Ok(())
}

fn required<'a>(settings: &StorageSettings, key: &str, secret: Option<&'a Secret>) -> Result<&'a Secret, StorageError> {
    let missing = || {
        misconfigured(
            &settings.url,
            &format!("{key} is missing"),
            &format!("write {key} = {{ env = \"NAME\" }}"),
        )
    };
    secret.ok_or_else(missing)
}

fn http_client(settings: &StorageSettings) -> Result<reqwest::Client, StorageError> {
    let failed = |problem: String, hint: &str| misconfigured(&settings.url, &problem, hint);
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_WAIT_MAX)
        .tcp_user_timeout(UNCONFIRMED_WAIT_MAX)
        // A redirect means another region or server than the one named; the server's answer says which.
        .redirect(reqwest::redirect::Policy::none())
        .https_only(!settings.insecure);
    if let Some(path) = &settings.ca_file {
        let hint = "name a file of PEM certificates in ca_file";
        let wrong = |error: &dyn std::fmt::Display| failed(format!("ca_file \"{}\": {error}", path.display()), hint);
        let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong(&error))?;
        if certificates.is_empty() {
            return Err(wrong(&"no certificate in it"));
        }
        builder = builder.tls_certs_only(certificates);
    }
    let built = builder.build();
    built.map_err(|error| {
        let hint = "install the system's certificates, or name a file of them in ca_file";
        failed(format!("set up TLS: {}", super::answer::chain(&error)), hint)
    })
}
