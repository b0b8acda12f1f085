//! From what the server said to what the caller does next. The server's own words are kept, secrets are not.

use std::error::Error;

use opendal::ErrorKind;

use super::S3Storage;
use crate::{ObjectName, StorageError};

/// What is kept of an answer that is not in the server's own error format, such as a proxy's page.
const FOREIGN_TEXT_MAX: usize = 300;

/// What a failed call came back with.
struct Answer {
    /// The server's word for the error; empty if there was no such word.
    code: String,
    /// Everything worth telling.
    text: String,
    /// The HTTP status, if there was an answer.
    status: Option<u16>,
}

impl Answer {
    /// The server understood and will say the same next time. (The client marks every error alike once it has given
    /// up retrying, so the status must tell.)
    fn is_final(&self) -> bool {
        const PASSING: [u16; 5] = [408, 409, 425, 429, 499];
        let status = self.status.filter(|status| (300..500).contains(status));
        status.is_some_and(|status| !PASSING.contains(&status)) && self.code != "RequestTimeout"
    }
}

impl S3Storage {
    /// For calls on one object.
    pub(super) fn failed_on(&self, name: &ObjectName, action: String, error: opendal::Error) -> StorageError {
        if error.kind() == ErrorKind::NotFound && read(&error).code == "NoSuchKey" {
            return StorageError::NotFound {
                location: self.location.clone(),
                name: name.clone(),
            };
        }
        self.failed(action, error)
    }

    /// For errors that come out of a stream of bytes.
    pub(super) fn failed_stream(&self, name: &ObjectName, action: String, error: std::io::Error) -> StorageError {
        let text = self.without_secrets(chain(&error));
        match error.into_inner().map(|inner| inner.downcast::<opendal::Error>()) {
            Some(Ok(error)) => self.failed_on(name, action, *error),
            _ => StorageError::Unavailable {
                location: self.location.clone(),
                action,
                source: text.into(),
            },
        }
    }

    pub(super) fn failed(&self, action: String, error: opendal::Error) -> StorageError {
        let answer = read(&error);
        let is_final = answer.is_final();
        let text = self.without_secrets(answer.text);
        let location = self.location.clone();
        let misconfigured = |hint: &str| StorageError::Misconfigured {
            location: location.clone(),
            problem: format!("{action}: {text}"),
            hint: hint.to_owned(),
        };
        let source = || text.clone().into();
        match (answer.code.as_str(), error.kind()) {
            ("NoSuchBucket", _) => misconfigured(&format!("create the bucket \"{}\", or mend the url", self.bucket)),
            ("PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed", _) => {
                misconfigured("mend region and endpoint")
            }
            ("NotImplemented", _) => misconfigured("use a store that knows conditional writes (If-None-Match)"),
            ("QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "InsufficientStorage", _) => {
                StorageError::NoSpace {
                    location,
                    action,
                    source: source(),
                }
            }
            (_, ErrorKind::PermissionDenied) => StorageError::Denied {
                location,
                action,
                source: source(),
            },
            (_, ErrorKind::RateLimited) => StorageError::Throttled {
                location,
                action,
                source: source(),
            },
            _ if answer.status == Some(507) => StorageError::NoSpace {
                location,
                action,
                source: source(),
            },
            _ if text.contains("invalid peer certificate") => {
                misconfigured("name the file of the server's CA in ca_file, or mend the endpoint")
            }
            (_, ErrorKind::ConfigInvalid | ErrorKind::Unsupported) => misconfigured("mend these settings"),
            _ if is_final => misconfigured("mend endpoint, region and bucket"),
            _ => StorageError::Unavailable {
                location,
                action,
                source: source(),
            },
        }
    }

    fn without_secrets(&self, text: String) -> String {
        self.hidden
            .iter()
            .fold(text, |text, secret| text.replace(secret.expose(), "(hidden)"))
    }
}

/// Whether fewer bytes came than were asked for. The client has no kind for it.
pub(super) fn is_short(error: &opendal::Error) -> bool {
    error.kind() == ErrorKind::Unexpected && error.message().contains("too little data")
}

/// An error and all below it, as one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        // Wrappers like to repeat what they wrap.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
}

/// The client hands the server's answer on as the debug text of a structure; a body it could not read as it is.
fn read(error: &opendal::Error) -> Answer {
    let message = error.message();
    let status = field(&error.to_string(), "status: ", |c| c.is_ascii_digit()).and_then(|digits| digits.parse().ok());
    let quoted = |key: &str| field(message, &format!("{key}: \""), |c| c != '"').filter(|text| !text.is_empty());
    if let Some(code) = quoted("code") {
        let mut text = format!("{code}: {}", quoted("message").unwrap_or_default());
        if let Some(request) = quoted("request_id") {
            text.push_str(&format!(" (request {request})"));
        }
        return Answer { code, text, status };
    }
    // A page in HTML reads as an error of the store with nothing in it.
    let message = if message.contains("Error { code: \"\"") {
        "the answer is not a store's"
    } else {
        message
    };
    let mut text: String = message
        .chars()
        .take(FOREIGN_TEXT_MAX)
        .filter(|c| !c.is_control())
        .collect();
    if let Some(status) = status {
        text = format!("HTTP status {status}: {text}");
    }
    if let Some(source) = error.source() {
        text = format!("{text}: {}", chain(source));
    }
    Answer {
        code: String::new(),
        text,
        status,
    }
}

/// What follows `key` in `text` for as long as `wanted` holds.
fn field(text: &str, key: &str, wanted: impl Fn(char) -> bool) -> Option<String> {
    let (_, rest) = text.split_once(key)?;
    Some(rest.chars().take_while(|c| wanted(*c)).collect())
}
