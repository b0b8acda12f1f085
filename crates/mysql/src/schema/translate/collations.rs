//! Which collation of the target comes nearest to one it does not have.
//!
//! MySQL's collations of the Unicode 9 order and MariaDB's of the Unicode 14 one are for the same languages under other names.
//! Where the target has the same name, nothing changes.

use super::super::abilities::Abilities;

/// MySQL's short name of a language's order, and MariaDB's.
const LANGUAGES: [(&str, &str); 22] = [
    ("cs", "czech"),
    ("da", "danish"),
    ("de_pb", "german2"),
    ("eo", "esperanto"),
    ("es", "spanish"),
    ("es_trad", "spanish2"),
    ("et", "estonian"),
    ("hr", "croatian"),
    ("hu", "hungarian"),
    ("is", "icelandic"),
    ("la", "roman"),
    ("lt", "lithuanian"),
    ("lv", "latvian"),
    ("nb", "danish"),
    ("nn", "danish"),
    ("pl", "polish"),
    ("ro", "romanian"),
    ("sk", "slovak"),
    ("sl", "slovenian"),
    ("sv", "swedish"),
    ("tr", "turkish"),
    ("vi", "vietnamese"),
];

/// The collation itself where the target has it, else the nearest one for the character set; `None` where the target does not
/// have the character set.
pub(super) fn nearest(collation: &str, charset: &str, to: &Abilities) -> Option<String> {
    let has = |name: &str| to.collations.get(name).is_some_and(|of| of == charset);
    if has(collation) || charset == "binary" {
        return Some(collation.to_owned());
    }
    let own = collation.strip_prefix(charset).and_then(|rest| rest.strip_prefix('_'));
    let candidates = own.map(candidates).unwrap_or_default();
    let found = candidates
        .into_iter()
        .map(|name| format!("{charset}_{name}"))
        .find(|name| has(name));
    found.or_else(|| to.default_collations.get(charset).cloned())
}

/// Whether strings that the old collation tells apart are told apart by the new one, as far as names say.
pub(super) fn keeps_apart(old: &str, new: &str) -> bool {
    new.ends_with("_nopad_bin")
        || new.ends_with("_0900_bin")
        || new.ends_with("_bin") && !old.contains("nopad") && !old.contains("_0900_")
}

/// Names without their character set, the best first.
fn candidates(own: &str) -> Vec<String> {
    let mut list = Vec::new();
    if let Some((language, sensitivity)) = split(own, "0900_") {
        if sensitivity == "bin" {
            return vec!["nopad_bin".to_owned(), "bin".to_owned()];
        }
        let name = LANGUAGES.iter().find(|(short, _)| *short == language);
        // Of Japanese, kana are told apart as well; nothing here does so.
        let sensitivity = sensitivity.trim_end_matches("_ks");
        for language in name.map(|(_, name)| *name).into_iter().chain([""]) {
            let part = underlined(language);
            list.push(format!("uca1400_{part}nopad_{sensitivity}"));
        }
        if sensitivity == "as_cs" {
            list.extend(["nopad_bin".to_owned(), "bin".to_owned()]);
        }
        if let Some((_, name)) = name {
            list.push(format!("{name}_ci"));
        }
        list.extend(["unicode_520_nopad_ci", "unicode_520_ci", "unicode_ci"].map(str::to_owned));
    } else if let Some(rest) = own.strip_prefix("uca1400_") {
        let (language, sensitivity) = split(rest, "nopad_")
            .or_else(|| split(rest, "ai_").map(|(language, case)| (language, format!("ai_{case}"))))
            .or_else(|| split(rest, "as_").map(|(language, case)| (language, format!("as_{case}"))))
            .unwrap_or_default();
        // Case without accents is in no order of MySQL's: one that tells more apart lets nothing collide.
        let sensitivity = if sensitivity == "ai_cs" { "as_cs" } else { &sensitivity };
        let short = LANGUAGES.iter().find(|(_, name)| *name == language);
        for language in short.map(|(short, _)| *short).into_iter().chain([""]) {
            list.push(format!("{}0900_{sensitivity}", underlined(language)));
        }
        if sensitivity == "as_cs" {
            list.push("bin".to_owned());
        }
        if !language.is_empty() {
            list.push(format!("{language}_ci"));
        }
        list.extend(["unicode_520_ci", "unicode_ci"].map(str::to_owned));
    } else if own == "nopad_bin" {
        list.extend(["0900_bin", "bin"].map(str::to_owned));
    } else if own.contains("nopad_") {
        let padded = own.replace("nopad_", "");
        list.push(padded.clone());
        list.push(padded.replace("_mysql500", ""));
    } else {
        list.push(own.replace("_mysql561", "").replace("_mysql500", ""));
        list.extend(["unicode_520_ci", "unicode_ci"].map(str::to_owned));
    }
    list.push("general_ci".to_owned());
    list
}

/// What is before the word, without its underline, and what is behind it.
fn split(name: &str, word: &str) -> Option<(String, String)> {
    if let Some(rest) = name.strip_prefix(word) {
        return Some((String::new(), rest.to_owned()));
    }
    let (before, rest) = name.split_once(&format!("_{word}"))?;
    Some((before.to_owned(), rest.to_owned()))
}

fn underlined(language: &str) -> String {
    if language.is_empty() {
        String::new()
    } else {
        format!("{language}_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn having(names: &[&str]) -> Abilities {
        let mut to = Abilities::default();
        for name in names {
            let charset = name.split('_').next().unwrap().to_owned();
            to.default_collations
                .entry(charset.clone())
                .or_insert_with(|| (*name).to_owned());
            to.collations.insert((*name).to_owned(), charset);
        }
        to
    }

    #[test]
    fn the_nearest_collation_is_of_the_same_language_and_sensitivity() {
        let maria = having(&[
            "utf8mb4_general_ci",
            "utf8mb4_bin",
            "utf8mb4_nopad_bin",
            "utf8mb4_uca1400_ai_ci",
            "utf8mb4_uca1400_nopad_ai_ci",
            "utf8mb4_uca1400_nopad_as_cs",
            "utf8mb4_uca1400_german2_nopad_ai_ci",
            "utf8mb4_unicode_520_ci",
            "latin1_swedish_ci",
        ]);
        let mysql = having(&[
            "utf8mb4_0900_ai_ci",
            "utf8mb4_0900_as_cs",
            "utf8mb4_0900_bin",
            "utf8mb4_de_pb_0900_ai_ci",
            "utf8mb4_general_ci",
            "utf8mb4_bin",
            "utf8mb4_unicode_520_ci",
            "utf8mb3_general_ci",
            "utf8mb3_unicode_520_ci",
            "latin1_swedish_ci",
        ]);
        for (from, nearest_one, to) in [
            ("utf8mb4_0900_ai_ci", "utf8mb4_uca1400_nopad_ai_ci", &maria),
            ("utf8mb4_0900_as_cs", "utf8mb4_uca1400_nopad_as_cs", &maria),
            ("utf8mb4_0900_bin", "utf8mb4_nopad_bin", &maria),
            (
                "utf8mb4_de_pb_0900_ai_ci",
                "utf8mb4_uca1400_german2_nopad_ai_ci",
                &maria,
            ),
            ("utf8mb4_zh_0900_as_cs", "utf8mb4_uca1400_nopad_as_cs", &maria),
            ("utf8mb4_ja_0900_as_cs_ks", "utf8mb4_uca1400_nopad_as_cs", &maria),
            ("utf8mb4_0900_as_ci", "utf8mb4_unicode_520_ci", &maria),
            ("utf8mb4_general_ci", "utf8mb4_general_ci", &maria),
            ("latin1_german1_ci", "latin1_swedish_ci", &maria),
            ("utf8mb4_uca1400_ai_ci", "utf8mb4_0900_ai_ci", &mysql),
            ("utf8mb4_uca1400_nopad_ai_ci", "utf8mb4_0900_ai_ci", &mysql),
            (
                "utf8mb4_uca1400_german2_nopad_ai_ci",
                "utf8mb4_de_pb_0900_ai_ci",
                &mysql,
            ),
            ("utf8mb4_uca1400_ai_cs", "utf8mb4_0900_as_cs", &mysql),
            ("utf8mb4_nopad_bin", "utf8mb4_0900_bin", &mysql),
            ("utf8mb4_general_nopad_ci", "utf8mb4_general_ci", &mysql),
            ("utf8mb3_uca1400_ai_ci", "utf8mb3_unicode_520_ci", &mysql),
            ("latin1_nopad_bin", "latin1_swedish_ci", &mysql),
        ] {
            let charset = from.split('_').next().unwrap();
            assert_eq!(nearest(from, charset, to).as_deref(), Some(nearest_one), "{from}");
        }
        assert_eq!(nearest("gb18030_chinese_ci", "gb18030", &maria), None);
        assert!(keeps_apart("utf8mb4_0900_bin", "utf8mb4_nopad_bin"));
        assert!(!keeps_apart("utf8mb4_0900_ai_ci", "utf8mb4_uca1400_nopad_ai_ci"));
        // Where spaces at the end make no difference, two that differ in them become one.
        assert!(!keeps_apart("utf8mb4_0900_bin", "utf8mb4_bin"));
    }
}
