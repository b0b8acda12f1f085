//! `config`: what holds and where it came from, whether it is right, and what may be written.

use serde_json::{Value, json};

use super::{Result, Run};
use crate::cli::ConfigVerb;
use crate::config::{Config, Effective, schema};
use crate::exit::DONE;

pub(super) fn run(run: &Run, verb: ConfigVerb) -> Result<u8> {
    match verb {
        ConfigVerb::Show => show(run)?,
        ConfigVerb::Check => {
            let file = run.config()?.file.display().to_string();
            if run.output.json {
                run.output.object(&json!({ "file": file, "ok": true }))?;
            } else {
                run.output.line(format!("configuration \"{file}\" has no mistakes"))?;
            }
        }
        ConfigVerb::Schema => {
            let schema = schema::schema();
            if run.output.json {
                run.output.object(&schema)?;
            } else {
                run.output.line(format!("{schema:#}"))?;
            }
        }
    }
    Ok(DONE)
}

fn show(run: &Run) -> Result<()> {
    let config = run.config()?;
    let from = |value: &Effective| {
        value
            .line
            .map_or_else(|| "default".to_owned(), |line| origin(&config, line))
    };
    if run.output.json {
        let values: Vec<Value> = config
            .values
            .iter()
            .map(|value| json!({ "key": value.key, "value": value.value, "from": from(value) }))
            .collect();
        return run.output.object(&json!({ "file": config.file, "values": values }));
    }
    let rows: Vec<Vec<String>> = config
        .values
        .iter()
        .map(|value| vec![value.key.clone(), written(&value.value), from(value)])
        .collect();
    run.output.table(&["key", "value", "from"], &[], &rows)
}

fn origin(config: &Config, line: usize) -> String {
    format!("{}:{line}", config.file.display())
}

/// The value as it is written in the file.
fn written(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{key} = {}", written(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        plain => plain.to_string(),
    }
}
