use std::sync::Arc;

use ballast_base::Cancel;
use ballast_repository::{BackupWriter, FindingKind, RepositoryError};
use ballast_storage::{MemoryStorage, Storage};

use crate::kit::{self, Files, PIECE, check, create, objects, restore};

#[tokio::test]
async fn an_interrupted_backup_is_not_damage_and_the_next_one_uses_what_it_left() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repositories = create(&[("one", Arc::clone(&store))]).await;
    let files = Files::from([("big".to_owned(), kit::noise(7, 40 * 1024 * 1024))]);
    let cancel = Cancel::new();
    let mut writer = BackupWriter::begin(repositories.clone(), 2, &cancel).await.unwrap();
    kit::write_pieces(&mut writer, &files).await.unwrap();
    while !objects(&*store).await.iter().any(|object| object.starts_with("packs/")) {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    let error = writer.store(bytes::Bytes::from(vec![1; PIECE])).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Cancelled(_)), "{error}");
    drop(writer);

    let report = check(&repositories[0]).await;
    assert!(!report.is_damaged());
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.kind == FindingKind::Unused)
    );
    let next = kit::back_up(&repositories, 2, &files).await.unwrap();
    assert!(next.written.bytes_reused >= 15 * 1024 * 1024, "{next:?}");
    assert_eq!(restore(&repositories[0], 2).await.unwrap(), files);
    assert!(
        check(&repositories[0])
            .await
            .findings
            .iter()
            .all(|finding| finding.kind == FindingKind::Unused)
    );
}
