//! Moments as people write them: in the configuration's time zone unless they say another.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::config::Config;

/// The configuration's `time_zone`.
pub(crate) fn time_zone(config: &Config) -> TimeZone {
    let value = config.values.iter().find(|value| value.key == "time_zone");
    // It was checked when the configuration was read.
    value
        .and_then(|value| value.value.as_str())
        .and_then(|name| TimeZone::get(name).ok())
        .unwrap_or(TimeZone::UTC)
}

/// `2026-11-25 10:00`, with seconds and up to six digits behind them; with `Z` or `+08:00` it is in that zone.
/// A moment that a change of the clocks makes twice, or leaves out, is refused.
pub(crate) fn parse(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let Ok(civil) = text.parse::<DateTime>() else {
        return Err(format!(
            "\"{text}\" is no moment: write it as \"2026-11-25 10:00:00\", or with its zone as 2026-11-25T10:00:00Z"
        ));
    };
    let named = zone.iana_name().unwrap_or("the configured zone");
    zone.to_ambiguous_timestamp(civil).unambiguous().map_err(|_| {
        format!("\"{text}\" is not one moment in {named}, where clocks change then: write it with its offset, as 2026-11-25T10:00:00+02:00")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_of_the_zone_they_name_or_else_of_the_configured_one() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for (text, expected) in [
            ("2026-11-25 10:00", "2026-11-25T09:00:00Z"),
            ("2026-11-25T10:00:00.123456", "2026-11-25T09:00:00.123456Z"),
            ("2026-11-25 10:00:00Z", "2026-11-25T10:00:00Z"),
            ("2026-11-25T10:00:00+08:00", "2026-11-25T02:00:00Z"),
            ("2026-11-25", "2026-11-24T23:00:00Z"),
        ] {
            assert_eq!(parse(text, &berlin).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "yesterday", "10:00", "2026-10-25 02:30", "2026-03-29 02:30"] {
            assert!(parse(text, &berlin).is_err(), "{text}");
        }
    }
}
