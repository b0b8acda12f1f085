//! Names and values inside statements.

/// A name in backticks, whatever is in it.
pub fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table with its schema.
pub fn quote_table(schema: &str, table: &str) -> String {
    format!("{}.{}", quote_name(schema), quote_name(table))
}

/// A text value. Both ways to end it early, a quote and a backslash before the closing one, are doubled; the latter is
/// wrong under the SQL mode NO_BACKSLASH_ESCAPES, which no session of ours sets.
pub fn quote_text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_quotes() {
        assert_eq!(quote_table("a`b", "c"), "`a``b`.`c`");
        assert_eq!(quote_text("it's a \\"), "'it''s a \\\\'");
    }
}
