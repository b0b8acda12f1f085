//! `log find`: which transactions touched a table, and which of them look like an accident.

use ballast_protect::{FoundTransaction, FoundWay, LogFindOutcome, LogFindRequest, TablePattern, log_find};

use super::{Result, Run, code_with};
use crate::cli::{LogFindArgs, LogVerb};
use crate::exit::AppError;
use crate::moment;

pub(super) async fn run(run: &Run, verb: LogVerb) -> Result<u8> {
    match verb {
        LogVerb::Find(args) => find(run, &args).await,
    }
}

async fn find(run: &Run, args: &LogFindArgs) -> Result<u8> {
    let config = run.config()?;
    let zone = moment::time_zone(&config);
    let usage = |message: String| AppError::Usage { message, hint: None };
    let mut span = args
        .between
        .iter()
        .map(|text| moment::parse(text, &zone).map_err(usage));
    let (from, to) = (span.next().transpose()?, span.next().transpose()?);
    if from > to && to.is_some() {
        return Err(usage("the span of --between ends before it begins".to_owned()));
    }
    let tables = args.table.iter().map(|text| TablePattern::parse(text));
    let tables = tables
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| usage(error.to_string()))?;
    let vault = run.open_some(&config).await?;
    let request = LogFindRequest {
        source: args.source.clone(),
        tables,
        from,
        to,
        suspicious: args.suspicious,
        mass_rows: args.mass_rows,
        found_max: args.limit,
    };
    let outcome = log_find(&run.context, &vault, &request).await?;
    if run.output.json {
        run.output.object(&outcome)?;
    } else {
        tell(run, &outcome)?;
    }
    Ok(code_with(vault.lost()))
}

fn tell(run: &Run, outcome: &LogFindOutcome) -> Result<()> {
    if outcome.transactions.is_empty() {
        run.output
            .say(format!("none of {} transactions is one of those", outcome.looked_at));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = outcome.transactions.iter().map(row).collect();
    run.output
        .table(&["committed", "transaction", "did", "!"], &[], &rows)?;
    if outcome.more {
        run.output
            .say("there are more: give a shorter span with --between, or a larger --limit");
    }
    if let Some(way) = &outcome.go_back {
        run.output.say(words(&outcome.source, way));
    }
    Ok(())
}

fn words(source: &str, way: &FoundWay) -> String {
    let FoundWay {
        before,
        backup,
        possible,
    } = way;
    if !possible {
        return format!("no backup leads to before the first suspicious one, {before}: ballast timeline {source}");
    }
    let backup = backup.as_ref().map_or_else(String::new, |id| format!(" --backup {id}"));
    format!(
        "to go back to before the first suspicious one: ballast restore {source} --to TARGET --before {before}{backup}"
    )
}

/// A statement takes one line, cut to this many characters.
const STATEMENT_CHARS_MAX: usize = 60;

fn row(found: &FoundTransaction) -> Vec<String> {
    let mut did: Vec<String> = found
        .tables
        .iter()
        .map(|table| {
            let counts = [('+', table.inserted), ('~', table.updated), ('-', table.deleted)];
            let counts: Vec<String> = counts
                .iter()
                .filter(|(_, rows)| *rows > 0)
                .map(|(sign, rows)| format!("{sign}{rows}"))
                .collect();
            let more = if table.exact { "" } else { " or more" };
            format!("{}.{} {}{more}", table.database, table.table, counts.join(" "))
        })
        .collect();
    did.extend(found.statements.iter().map(|statement| {
        let words: Vec<&str> = statement.text.split_whitespace().collect();
        let text = words.join(" ");
        let short: String = text.chars().take(STATEMENT_CHARS_MAX).collect();
        let cut = if short.len() < text.len() || statement.cut {
            "…"
        } else {
            ""
        };
        format!("{short}{cut}")
    }));
    if found.incomplete {
        did.push("and more that is not told".to_owned());
    }
    let suspicious: Vec<String> = found.suspicious.iter().map(ToString::to_string).collect();
    vec![
        found.committed_at.strftime("%Y-%m-%d %H:%M:%S.%6fZ").to_string(),
        found.gtid.clone().unwrap_or_else(|| "without GTID".to_owned()),
        did.join("; "),
        suspicious.join("; "),
    ]
}
