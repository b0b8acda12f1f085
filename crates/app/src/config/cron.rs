//! Five cron fields, checked for form: minute, hour, day of month, month, day of week.

use super::reader::Problem;

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        first: 0,
        last: 59,
        names: &[],
    },
    Field {
        name: "hour",
        first: 0,
        last: 23,
        names: &[],
    },
    Field {
        name: "day of month",
        first: 1,
        last: 31,
        names: &[],
    },
    Field {
        name: "month",
        first: 1,
        last: 12,
        names: MONTHS,
    },
    Field {
        name: "day of week",
        first: 0,
        last: 7,
        names: WEEKDAYS,
    },
];

pub(crate) fn check(text: &str) -> Result<(), Problem> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() != FIELDS.len() {
        return Err(Problem::new(format!("has {} cron fields, not 5", words.len()))
            .hint("minute, hour, day of month, month, day of week: \"0 1 * * *\" is every day at 01:00"));
    }
    for (field, word) in FIELDS.iter().zip(words) {
        if !word.split(',').all(|part| field.accepts(part)) {
            let Field { name, first, last, .. } = field;
            return Err(
                Problem::new(format!("is wrong at the {name}: \"{word}\"")).hint(format!(
                    "*, a number from {first} to {last}, a range 1-5, a step */10, or several with commas"
                )),
            );
        }
    }
    Ok(())
}

impl Field {
    fn accepts(&self, part: &str) -> bool {
        let (range, step) = part
            .split_once('/')
            .map_or((part, None), |(range, step)| (range, Some(step)));
        let steps = step.is_none_or(|step| step.parse::<u32>().is_ok_and(|step| (1..=self.last).contains(&step)));
        steps
            && match range.split_once('-') {
                _ if range == "*" => true,
                Some((from, to)) => {
                    matches!((self.number(from), self.number(to)), (Some(from), Some(to)) if from <= to)
                }
                None => self.number(range).is_some(),
            }
    }

    fn number(&self, text: &str) -> Option<u32> {
        if let Some(place) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return u32::try_from(place).ok().map(|place| place + self.first);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|number| digits && (self.first..=self.last).contains(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crontab_takes_is_taken() {
        for text in [
            "0 1 * * *",
            "*/5 * * * *",
            "0,30 8-18/2 1,15 jan-MAR mon-fri",
            "59 23 31 12 7",
            "0 0 * * Sun",
        ] {
            assert!(check(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("0 1 * *", "4 cron fields"),
            ("60 1 * * *", "minute"),
            ("0 24 * * *", "hour"),
            ("0 1 0 * *", "day of month"),
            ("0 1 * 13 *", "month"),
            ("0 1 * * 8", "day of week"),
            ("0 5-1 * * *", "hour"),
            ("*/0 * * * *", "minute"),
            ("1, * * * *", "minute"),
            ("+1 * * * *", "minute"),
            ("0 1 * mon *", "month"),
        ] {
            let problem = check(text).unwrap_err();
            assert!(problem.message.contains(part), "{text}: {}", problem.message);
        }
    }
}
