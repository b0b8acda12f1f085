//! Sizes and durations: one spelling for the configuration, tables and messages. JSON carries plain numbers.

use std::time::Duration;

/// `1536` as `1.5 KiB`: three significant digits, binary units.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

/// `1h 4m`, `12.3 s`, `45 ms`: for people.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_millis() < 1000 => format!("{} ms", duration.as_millis()),
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `30d`, `4h`, `1.5s`, `250ms`. `None` for anything else, zero and bare numbers included.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] = [
        ("ms", 0.001),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
        ("d", 86_400.0),
        ("w", 604_800.0),
    ];
    let (number, unit) = split_number(text)?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Duration::try_from_secs_f64(number * factor)
        .ok()
        .filter(|duration| !duration.is_zero())
}

/// `64KiB`, `1.5 GiB`, `100MB`, `512`. `None` for anything else.
pub fn parse_bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u32, u32); 9] = [
        ("", 1000, 0),
        ("KiB", 1024, 1),
        ("MiB", 1024, 2),
        ("GiB", 1024, 3),
        ("TiB", 1024, 4),
        ("kB", 1000, 1),
        ("MB", 1000, 2),
        ("GB", 1000, 3),
        ("TB", 1000, 4),
    ];
    let (number, unit) = split_number(text)?;
    let (_, base, power) = UNITS.iter().find(|(name, _, _)| *name == unit)?;
    let bytes = number * f64::from(*base).powi(i32::try_from(*power).ok()?);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked against both ends"
    )]
    (0.0..=9.0e18).contains(&bytes).then_some(bytes as u64)
}

fn split_number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64KiB", 65_536),
            ("1.5 GiB", 1_610_612_736),
            ("100MB", 100_000_000),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "-1", "1 parsec", "1e3", "99999999TiB", "1.2.3"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.50 KiB"),
            (1 << 30, "1.00 GiB"),
            (1_048_000, "1.00 MiB"),
        ] {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, seconds) in [("30d", 2_592_000.0), ("4h", 14_400.0), ("1.5s", 1.5), ("250ms", 0.25)] {
            assert_eq!(parse_duration(text).map(|d| d.as_secs_f64()), Some(seconds), "{text}");
        }
        for text in ["", "0s", "5", "h", "1 year"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(format_duration(Duration::from_millis(45)), "45 ms");
        assert_eq!(format_duration(Duration::from_secs(3840)), "1h 4m");
    }
}
