//! Whether a store keeps the contract, asked of the store itself before anything is entrusted to it.
//!
//! Servers that speak like S3 differ in what they silently leave out. The worst is a server that ignores the condition
//! of `put_new` and replaces what is there; it is refused here. Whether two writers that meet are told apart is
//! measured and handed back, for the caller to record.

use ballast_base::{fill_random, random_hex};
use bytes::Bytes;

use crate::url::misconfigured;
use crate::{Capabilities, ObjectName, Storage, StorageError};

/// How often two writers are made to meet.
const MEETINGS: u32 = 8;
const OBJECT_BYTES: usize = 4096;

/// Tries the contract with objects of its own and removes them again, also when it fails. They lie side by side at the root: a folder
/// of their own would stay behind.
pub async fn self_test(storage: &dyn Storage) -> Result<Capabilities, StorageError> {
    let prefix = format!("self-test-{}-", random_hex(8));
    let outcome = try_contract(storage, &prefix).await;
    let removed = remove_all(storage, &prefix).await;
    let capabilities = outcome?;
    removed?;
    Ok(capabilities)
}

async fn try_contract(storage: &dyn Storage, prefix: &str) -> Result<Capabilities, StorageError> {
    let location = storage.location();
    let hint = "use another store; on OSS, switch versioning of the bucket off";
    let must = |kept: bool, problem: &str| {
        if kept {
            Ok(())
        } else {
            Err(misconfigured(&location, problem, hint))
        }
    };

    let name = own_name(storage, prefix, "first")?;
    let (body, other) = (random_body(), random_body());
    storage.put_new(&name, body.clone()).await?;
    must(
        storage.get(&name).await? == body,
        "it gave back other bytes than were stored",
    )?;
    let again = storage.put_new(&name, other.clone()).await;
    let refused = matches!(again, Err(StorageError::AlreadyExists { .. }));
    must(
        refused,
        "it let one object replace another (it ignores the condition \"only if there is none\")",
    )?;
    must(
        storage.get(&name).await? == body,
        "it refused to replace an object and replaced it",
    )?;
    must(
        storage.put_new(&name, body.clone()).await.is_ok(),
        "it does not know an object of its own again",
    )?;

    let range = storage.get_range(&name, 1000..1010).await?;
    must(
        Some(&*range) == body.get(1000..1010),
        "it gave other bytes of a range than were asked for",
    )?;
    must(
        storage.head(&name).await?.bytes == OBJECT_BYTES as u64,
        "it tells a wrong size",
    )?;

    let second = own_name(storage, prefix, "second")?;
    storage.put_new(&second, other).await?;
    let listed = storage.list(prefix, None, 10).await?;
    must(
        listed.iter().map(|facts| &facts.name).eq([&name, &second]),
        "it does not list what was just stored",
    )?;
    let listed = storage.list(prefix, Some(&name), 10).await?;
    must(
        listed.iter().map(|facts| &facts.name).eq([&second]),
        "it lists from another place than asked for",
    )?;

    storage.delete(&second).await?;
    let gone = storage.get(&second).await;
    must(
        matches!(gone, Err(StorageError::NotFound { .. })),
        "it still gives what was removed",
    )?;

    Ok(Capabilities {
        atomic_create: writers_are_told_apart(storage, prefix).await?,
    })
}

/// Whether of two writers of one name that start together exactly one succeeds, and its bytes stay.
async fn writers_are_told_apart(storage: &dyn Storage, prefix: &str) -> Result<bool, StorageError> {
    for meeting in 0..MEETINGS {
        let name = own_name(storage, prefix, &format!("meeting-{meeting}"))?;
        let (left, right) = (random_body(), random_body());
        let (left_put, right_put) = tokio::join!(
            storage.put_new(&name, left.clone()),
            storage.put_new(&name, right.clone())
        );
        let winner = match (left_put, right_put) {
            (Ok(()), Err(StorageError::AlreadyExists { .. })) => left,
            (Err(StorageError::AlreadyExists { .. }), Ok(())) => right,
            (Ok(()), Ok(())) => return Ok(false),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        if storage.get(&name).await? != winner {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Every object this test can have made; a call that seemed to fail may have made one.
async fn remove_all(storage: &dyn Storage, prefix: &str) -> Result<(), StorageError> {
    for facts in storage.list(prefix, None, 100).await? {
        storage.delete(&facts.name).await?;
    }
    Ok(())
}

fn own_name(storage: &dyn Storage, prefix: &str, last: &str) -> Result<ObjectName, StorageError> {
    let name = ObjectName::new(&format!("{prefix}{last}"));
    name.map_err(|error| StorageError::corrupt(&storage.location(), "name a test object".to_owned(), error))
}

fn random_body() -> Bytes {
    let mut body = vec![0; OBJECT_BYTES];
    fill_random(&mut body);
    body.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Call, Fault, FaultyStorage, MemoryStorage};

    async fn outcome_with(call: Call, nth: u64, fault: Fault) -> String {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
        storage.fail_nth(call, nth, fault);
        let error = self_test(&storage).await.unwrap_err().to_string();
        assert_eq!(
            storage.list("", None, 10).await.unwrap(),
            [],
            "left something behind after: {error}"
        );
        error
    }

    #[tokio::test]
    async fn a_good_store_passes_and_is_left_empty() {
        let storage = MemoryStorage::new();
        assert_eq!(self_test(&storage).await.unwrap(), Capabilities { atomic_create: true });
        assert_eq!(storage.list("", None, 10).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_store_that_replaces_corrupts_or_cuts_is_refused_and_left_empty() {
        let message = outcome_with(Call::Put, 2, Fault::Replace).await;
        assert!(message.contains("replace"), "{message}");
        assert!(outcome_with(Call::Get, 1, Fault::Corrupt).await.contains("other bytes"));
        assert!(outcome_with(Call::GetRange, 1, Fault::Cut).await.contains("range"));
        assert!(
            outcome_with(Call::Put, 4, Fault::LoseAnswer)
                .await
                .contains("write object")
        );
    }
}
