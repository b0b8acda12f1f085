//! Transactions that were logged as statements whose outcome depends on the server or the run (`UUID()`, `SYSDATE()`, `LIMIT` without an
//! order): a replay may come to other values than the source did, and nothing in the log tells which they were.

use ballast_mysql::Gtid;

use super::event_statements::statements_in;

/// Functions whose value is not in the log.
const FUNCTIONS: [&str; 22] = [
    "CURRENT_ROLE",
    "CURRENT_USER",
    "FOUND_ROWS",
    "GET_LOCK",
    "IS_FREE_LOCK",
    "IS_USED_LOCK",
    "LOAD_FILE",
    "MASTER_POS_WAIT",
    "RANDOM_BYTES",
    "RELEASE_ALL_LOCKS",
    "RELEASE_LOCK",
    "ROW_COUNT",
    "SESSION_USER",
    "SLEEP",
    "SOURCE_POS_WAIT",
    "SYSDATE",
    "SYSTEM_USER",
    "USER",
    "UUID",
    "UUID_SHORT",
    "VERSION",
    "WAIT_FOR_EXECUTED_GTID_SET",
];
/// These write rows; what defines things is not computed.
const WRITES: [&str; 5] = ["INSERT", "REPLACE", "UPDATE", "DELETE", "WITH"];

/// Those that were met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UnsafeStatements {
    pub(super) transactions: u64,
    pub(super) first: Option<String>,
}

impl UnsafeStatements {
    /// Looks into the bytes of one transaction.
    pub(super) fn look(&mut self, gtid: &Gtid, transaction: &[u8]) {
        if statements_in(transaction).any(|(_, text)| may_differ(&text)) {
            self.transactions += 1;
            self.first.get_or_insert_with(|| gtid.to_string());
        }
    }
}

/// Whether a statement may write other values when it is run again. Pure.
fn may_differ(text: &str) -> bool {
    let words = words(text);
    let is = |at: usize, word: &str| words.get(at).is_some_and(|found| found.eq_ignore_ascii_case(word));
    if !WRITES.iter().any(|write| is(0, write)) {
        return false;
    }
    let has = |word: &str| (0..words.len()).any(|at| is(at, word));
    let called = |at: usize| {
        let known = FUNCTIONS.iter().any(|function| is(at, function));
        known && (is(at + 1, "(") || is(at, "CURRENT_USER"))
    };
    (0..words.len()).any(called) || (has("LIMIT") && !has("ORDER"))
}

/// Words and marks, without what is quoted and what is a comment.
fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' | '`' => {
                while let Some(next) = letters.next() {
                    if next == '\\' && letter != '`' {
                        letters.next();
                    } else if next == letter {
                        break;
                    }
                }
                // No word of its own, and a call of nothing.
                found.push("?".to_owned());
            }
            '#' => while letters.next().is_some_and(|next| next != '\n') {},
            '-' if letters.peek() == Some(&'-') => while letters.next().is_some_and(|next| next != '\n') {},
            '/' if letters.peek() == Some(&'*') => {
                let mut before = ' ';
                letters.next();
                for next in letters.by_ref() {
                    if before == '*' && next == '/' {
                        break;
                    }
                    before = next;
                }
            }
            _ if letter.is_alphanumeric() || letter == '_' => {
                let mut word = String::from(letter);
                while let Some(next) = letters.next_if(|next| next.is_alphanumeric() || *next == '_') {
                    word.push(next);
                }
                found.push(word);
            }
            _ if letter.is_whitespace() => {}
            _ => found.push(letter.to_string()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_come_out_otherwise_is_told_from_what_does_not() {
        for (text, expected) in [
            ("INSERT INTO t VALUES (UUID())", true),
            ("insert into t select uuid_short ()", true),
            ("UPDATE t SET a = SYSDATE(6) WHERE id = 1", true),
            ("UPDATE t SET a = CURRENT_USER", true),
            ("DELETE FROM t LIMIT 5", true),
            ("/* by */ REPLACE INTO t VALUES (LOAD_FILE('/x'))", true),
            ("DELETE FROM t ORDER BY id LIMIT 5", false),
            // The log has the time and the seed.
            ("INSERT INTO t VALUES (NOW(6), RAND())", false),
            ("INSERT INTO t VALUES ('UUID()', \"it\\\"s UUID()\")", false),
            ("INSERT INTO t (`UUID`) VALUES (1) -- UUID()", false),
            ("INSERT INTO t (user) VALUES (1)", false),
            ("CREATE TABLE t (a CHAR(36) DEFAULT (UUID()))", false),
            (
                "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET NEW.a = UUID()",
                false,
            ),
            ("BEGIN", false),
        ] {
            assert_eq!(may_differ(text), expected, "{text}");
        }
    }
}
