//! `timeline`: the moments one can go back to, and the gaps.

use ballast_protect::timeline;
use jiff::Timestamp;

use super::{Result, Run, code_with};
use crate::cli::TimelineArgs;

pub(super) async fn run(run: &Run, args: &TimelineArgs) -> Result<u8> {
    let config = run.config()?;
    let vault = run.open(&config).await?;
    let timeline = timeline(&run.context, &vault, &args.source).await?;
    // A source that the configuration no longer has can still be restored; a misspelt name has no moments.
    if timeline.points.is_empty() {
        config.source(&args.source)?;
    }
    if run.output.json {
        run.output.object(&timeline)?;
        return Ok(code_with(vault.lost()));
    }
    if timeline.points.is_empty() {
        run.output.say("there is no moment to go back to yet: take a backup");
        return Ok(code_with(vault.lost()));
    }
    let points = timeline.points.iter().map(|span| (span.from, span.to, String::new()));
    let gaps = timeline
        .gaps
        .iter()
        .map(|gap| (gap.from, gap.to, format!("gap: {}", gap.cause)));
    let mut rows: Vec<_> = points.chain(gaps).collect();
    rows.sort_by_key(|(from, to, _)| (*from, *to));
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(from, to, gap)| {
            let what = if gap.is_empty() && from == to {
                "a backup alone".to_owned()
            } else if gap.is_empty() {
                "any moment".to_owned()
            } else {
                gap
            };
            vec![exact(from), exact(to), what]
        })
        .collect();
    run.output.table(&["from", "to", "can be restored"], &[], &rows)?;
    Ok(code_with(vault.lost()))
}

/// To the microsecond: what `restore --at` takes.
fn exact(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
