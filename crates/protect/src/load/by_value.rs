//! What a table's rows are by the value of their numbers, for a target whose server would fingerprint them in another way.
//!
//! The stored rows are read once more, so that it does not matter which of them an earlier run of the load had loaded. On the way
//! they are fingerprinted as they were when they were read from the source: both digests are of the same bytes.
#![deny(clippy::indexing_slicing)]

use ballast_mysql::{Connection, TableDigest, ValueDigester};
use ballast_repository::BackupReader;
use bytes::BytesMut;
use futures_util::StreamExt as _;

use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::load_plan::LoadPlan;
use crate::mysql::logical::record::TableRows;

/// Between two signs of life the server hears nothing for as long as it takes to read this much.
const SILENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Whether the target writes some of the table's numbers in another way than the source did.
pub(super) fn is_wanted(plan: &LoadPlan, rows: &TableRows) -> bool {
    plan.crosses && rows.form.differs_by_flavour()
}

/// The digest of the stored rows. The connection is only kept alive meanwhile.
pub(super) async fn stored(
    context: &Context,
    plan: &LoadPlan,
    rows: &TableRows,
    connection: &mut Connection,
) -> Result<TableDigest> {
    let reader = BackupReader::new(&plan.from, &plan.manifest);
    let mut digester = ValueDigester::new(&rows.form);
    let (mut backed_up, mut values) = (TableDigest::default(), TableDigest::default());
    let mut silent = 0;
    for part in &rows.parts {
        let mut text = Box::pin(reader.stream(part.file as usize, 0, &context.cancel));
        let mut gathered = BytesMut::new();
        while let Some(bytes) = text.next().await {
            let bytes = bytes?;
            silent += bytes.len();
            if silent > SILENT_BYTES_MAX {
                connection.execute("DO 0").await?;
                silent = 0;
            }
            // The beginning of a long row has no end in it, and is not looked through again.
            let end = bytes.iter().rposition(|byte| *byte == b'\n');
            let whole = end.map_or(0, |end| gathered.len() + end + 1);
            gathered.extend_from_slice(&bytes);
            let lines = gathered.split_to(whole);
            digester.add_stored(&lines, &mut backed_up, &mut values)?;
        }
        digester.add_stored(&gathered, &mut backed_up, &mut values)?;
    }
    if backed_up == rows.digest {
        Ok(values)
    } else {
        Err(ProtectError::new(
            ErrorKind::Damaged,
            "its stored rows are not those that were read",
        ))
    }
}
