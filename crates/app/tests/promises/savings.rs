use ballast_testkit::dataset::balance;
use ballast_testkit::servers::MysqlOptions;
use serde_json::Value;

use crate::site::{Site, server};

const SHARDS: u32 = 12;
const ROWS: u32 = 16_000;
/// For the server's own late writes.
const QUIET: std::time::Duration = std::time::Duration::from_secs(4);

/// Nothing changed: under 0.5 % of the first. One row in a hundred pages' worth changed at random places: under 10 %.
#[test]
fn a_second_backup_stores_what_changed() {
    let source = server(MysqlOptions::default());
    balance::load(&source, SHARDS, ROWS);
    // What loading left to do, the server does in its own time.
    std::thread::sleep(QUIET);
    let site = Site::new(&source, "").init();
    let first = stored(&site.json(&["backup", "orders"], 0));
    let idle = stored(&site.json(&["backup", "orders"], 0));
    println!(
        "first {first} bytes, nothing changed {idle} bytes ({:.3} %)",
        share(idle, first)
    );
    // The absolute part: the manifest and the server's own bookkeeping pages do not shrink with the database.
    assert!(idle * 200 < first || idle < 400_000, "{idle} of {first}");

    // One row of as many as stand on a hundred pages, wherever it is, touches about one page of a hundred.
    let leaves = "SELECT CAST(SUM(stat_value) AS UNSIGNED) FROM mysql.innodb_index_stats WHERE database_name = 'balance' \
         AND table_name LIKE 'orders%' AND index_name = 'PRIMARY' AND stat_name = 'n_leaf_pages'";
    for shard in 0..SHARDS {
        source.sql(&format!("ANALYZE TABLE balance.orders_{shard}"));
    }
    let pages: u32 = source.value(leaves).parse().unwrap();
    let one_in = SHARDS * ROWS * 100 / pages;
    let touch = format!("SET status = status + 1 WHERE MOD(CRC32(id), {one_in}) = 7; SELECT ROW_COUNT()");
    let rows: u32 = (0..SHARDS)
        .map(|shard| {
            source
                .value(&format!("UPDATE balance.orders_{shard} {touch}"))
                .parse::<u32>()
                .unwrap()
        })
        .sum();
    println!("{rows} rows on {pages} pages touched");
    std::thread::sleep(QUIET);
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
