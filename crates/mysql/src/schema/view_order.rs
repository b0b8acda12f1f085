//! In which order views can be created: each after the views it reads from.

use std::collections::BTreeMap;

use super::View;
use super::sql_text::{Kind, Token, tokens};

/// Views that seem to read from each other, which real ones cannot, come last, in the order given.
pub(super) fn in_creatable_order(views: Vec<View>) -> Vec<View> {
    let index: BTreeMap<(&str, &str), usize> = views
        .iter()
        .enumerate()
        .map(|(at, view)| ((view.database.as_str(), view.name.as_str()), at))
        .collect();
    let mut needs: Vec<Vec<usize>> = vec![Vec::new(); views.len()];
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); views.len()];
    for (at, view) in views.iter().enumerate() {
        for read in tables_read(view) {
            if let Some(other) = index.get(&(read.0.as_str(), read.1.as_str()))
                && *other != at
                && !needs[at].contains(other)
            {
                needs[at].push(*other);
                needed_by[*other].push(at);
            }
        }
    }
    let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut order: Vec<usize> = (0..views.len()).filter(|at| open[*at] == 0).collect();
    let mut next = 0;
    while let Some(at) = order.get(next).copied() {
        next += 1;
        for other in &needed_by[at] {
            open[*other] -= 1;
            if open[*other] == 0 {
                order.push(*other);
            }
        }
    }
    order.extend((0..views.len()).filter(|at| open[*at] != 0));
    let mut views: Vec<Option<View>> = views.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| views[at].take()).collect()
}

/// At least the tables and views it reads from: names that stand where one can stand.
fn tables_read(view: &View) -> Vec<(String, String)> {
    let all = tokens(&view.create);
    let mut found = Vec::new();
    for (at, token) in all.iter().enumerate().filter(|(_, token)| token.kind == Kind::Name) {
        let before = at.checked_sub(1).and_then(|at| all.get(at));
        let here = before.is_some_and(|before| {
            ["FROM", "JOIN", "STRAIGHT_JOIN"]
                .iter()
                .any(|word| before.is_word(word))
                || before.is_symbol('(')
                || before.is_symbol(',')
        });
        let Some(first) = token.name().filter(|_| here) else {
            continue;
        };
        match (all.get(at + 1), all.get(at + 2).and_then(Token::name)) {
            (Some(dot), Some(second)) if dot.is_symbol('.') => found.push((first, second)),
            _ => found.push((view.database.clone(), first)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Creation;

    fn view(database: &str, name: &str, text: &str) -> View {
        View {
            database: database.to_owned(),
            name: name.to_owned(),
            definer: String::new(),
            creation: Creation {
                sql_mode: String::new(),
                character_set_client: String::new(),
                collation_connection: String::new(),
                database_collation: String::new(),
            },
            create: format!("CREATE VIEW `{name}` AS {text}"),
            invalid: None,
        }
    }

    #[test]
    fn a_view_comes_after_those_it_reads_from() {
        let views = vec![
            view("a", "z", "select `b`.`x`.`c` AS `y` from (`b`.`x` join `a`.`t` on(1))"),
            view("a", "y", "select `z`.`c` AS `c` from (`z` join `q` `alias`)"),
            view("a", "q", "select 'from `y`' AS `y`"),
            view("b", "x", "select 1 AS `c`"),
            view("c", "one", "select 1 from `two`"),
            view("c", "two", "select 1 from `one`"),
        ];
        let order: Vec<_> = in_creatable_order(views).into_iter().map(|view| view.name).collect();
        assert_eq!(order, ["q", "x", "z", "y", "one", "two"]);
    }
}
