use ballast_testkit::dataset::balance;
use ballast_testkit::servers::{MysqlOptions, MysqlServer};
use serde_json::Value;

use crate::site::{Site, server};

const SHARDS: u32 = 12;
const ROWS: u32 = 16_000;

/// Nothing changed: under 0.5 % of the first. One row in a hundred pages' worth changed at random places: under 10 %.
#[test]
fn a_second_backup_stores_what_changed() {
    let source = server(MysqlOptions::default());
    balance::load(&source, SHARDS, ROWS);
    settle(&source);
    let site = Site::new(&source, "").init();
    let first = stored(&site.json(&["backup", "orders"], 0));
    let idle = stored(&site.json(&["backup", "orders"], 0));
    println!(
        "first {first} bytes, nothing changed {idle} bytes ({:.3} %)",
        share(idle, first)
    );
    // The absolute part: the manifest and the server's own bookkeeping pages do not shrink with the database.
    assert!(idle * 200 < first || idle < 400_000, "{idle} of {first}");

    // About sixteen rows stand on a page: one row of every 1600, wherever it is, touches one page of a hundred.
    for shard in 0..SHARDS {
        source.sql(&format!(
            "UPDATE balance.orders_{shard} SET status = status + 1 WHERE MOD(CRC32(id), 1600) = 7"
        ));
    }
    settle(&source);
    let changed = stored(&site.json(&["backup", "orders"], 0));
    println!(
        "1 % of the pages changed: {changed} bytes ({:.2} %)",
        share(changed, first)
    );
    assert!(changed * 10 < first, "{changed} of {first}");
    assert!(changed > idle);
    site.verify_clean();
}

fn stored(outcome: &Value) -> u64 {
    outcome["backup"]["bytes_stored"]
        .as_u64()
        .unwrap_or_else(|| panic!("{outcome}"))
}

fn share(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share to print")]
    let share = part as f64 * 100.0 / whole as f64;
    share
}

/// Lets the server write what it still holds: pages that wait in memory would come as changed next time.
fn settle(source: &MysqlServer) {
    source.stop();
    source.restart();
}
