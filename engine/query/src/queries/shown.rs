//! Statements' texts as others may read them.
//!
//! ```text
//! CREATE USER ada PASSWORD 'a long one' ROLE writer     ──▶  CREATE USER ada PASSWORD '…' ROLE writer
//! CREATE USER ada PASSWRD 'a long one'                  ──▶  CREATE USER …      (no statement, and it may hold one)
//! ```

use crate::statement::Statement;

/// The most bytes of a text that are kept.
const LONGEST: usize = 4 << 10;

/// Words of statements whose options are secrets.
const SECRETS: [&str; 8] = ["PASSWORD", "SECRET", "USER", "ROLE", "TOKEN", "MODEL", "LOCATION", "OPTIONS"];

/// A text, and whether nothing was taken from it but its length.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(super) text: String,
    pub(super) whole: bool,
}

/// Of a statement, by what it is.
pub(super) fn of_statement(sql: &str, statement: &Statement) -> Shown {
    match has_secrets(statement) {
        true => Shown { text: cut(&without_options(&without_strings(sql))), whole: false },
        false => Shown { text: cut(sql), whole: true },
    }
}

/// Of a text that is no statement: what somebody mistyped may still hold a password.
pub(super) fn of_text(sql: &str) -> Shown {
    let upper = cut(sql).to_ascii_uppercase();
    if SECRETS.iter().any(|word| upper.contains(word)) {
        // A word ends where something is quoted, too.
        let bare =
            |w: &'_ str| w.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let words: Vec<String> = sql.split_whitespace().take(2).map(bare).collect();
        return Shown { text: cut(&format!("{} …", words.join(" "))), whole: false };
    }
    Shown { text: cut(sql), whole: true }
}

fn has_secrets(statement: &Statement) -> bool {
    match statement {
        Statement::CreateSecret(_)
        | Statement::CreateModel(_)
        | Statement::CreateUser(_)
        | Statement::AlterUser(_)
        | Statement::CreateExternalTable(_)
        | Statement::Copy(_)
        | Statement::CopyFrom(_) => true,
        Statement::Explain(explain) => has_secrets(&explain.statement),
        _ => false,
    }
}

fn cut(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(LONGEST)])
}

/// Every string literal as `'…'`, whichever way it is written; one that does not end goes up to the end. Comments and
/// quoted names go too: nothing is lost by it, and nobody has to know where one begins within another.
fn without_strings(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find(['\'', '"', '$']) {
        out.push_str(&rest[..at]);
        let quoted = &rest[at..];
        let quote = match dollar_quote(quoted) {
            Some(tag) => tag,
            None if quoted.starts_with('$') => {
                out.push('$');
                rest = &quoted[1..];
                continue;
            }
            None => &quoted[..1],
        };
        out.push_str("'…'");
        // A doubled quote is the end of one string and the start of another: both go.
        rest = match quoted[quote.len()..].find(quote) {
            Some(end) => &quoted[quote.len() + end + quote.len()..],
            None => "",
        };
    }
    out.push_str(rest);
    out
}

/// The last pair of parentheses, where options stand, without what is in it: values need no quotes there.
fn without_options(text: &str) -> String {
    let Some(at) = text.rfind('(') else { return text.to_owned() };
    let end = text[at..].find(')').map_or(text.len(), |end| at + end);
    format!("{}(…{}", &text[..at], &text[end..])
}

/// `$$` or `$tag$` at the start.
fn dollar_quote(text: &str) -> Option<&str> {
    let end = text.strip_prefix('$')?.find('$')?;
    let tag = &text[1..=end];
    tag.chars().all(|c| c.is_alphanumeric() || c == '_').then(|| &text[..end + 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser;

    fn shown(sql: &str) -> String {
        match parser::parse_one(sql) {
            Ok(statement) => of_statement(sql, &statement).text,
            Err(_) => of_text(sql).text,
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let sealed = "KEY0KEY";
        for sql in [
            "CREATE USER ada PASSWORD 'KEY0KEY!!' ROLE writer",
            "ALTER USER ada PASSWORD 'it''sKEY0KEY'",
            "CREATE USER ada PASSWORD $$KEY0KEY$$",
            "CREATE USER ada PASSWORD KEY0KEY",
            "CREATE USER ada PASSWRD 'KEY0KEY",
            "ALTER USER'KEY0KEY",
            "CREATE SECRET s (TYPE s3, KEY_ID 'KEY0KEY', SECRET 'x')",
            "CREATE SECRET s (TYPE s3, KEY_ID 'KEY0KEY'",
            "CREATE SECRET s (TYPE s3, KEY_ID KEY0KEY)",
            "COPY t TO 's3://b/t.parquet' OPTIONS (key KEY0KEY)",
            "EXPLAIN CREATE SECRET s (TYPE s3, KEY_ID 'KEY0KEY', SECRET 'x')",
            "COPY t TO 's3://b/t.parquet' OPTIONS (key 'KEY0KEY')",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'https://u:KEY0KEY@h/t.csv'",
        ] {
            assert!(!shown(sql).contains(sealed), "{sql}: {}", shown(sql));
        }
        let plain = "SELECT 'KEY0KEY' AS a, \"b\" FROM t WHERE c = $1";
        assert_eq!(shown(plain), plain);
    }

    #[test]
    fn a_long_text_is_cut() {
        let text = shown(&format!("SELECT '{}'", "é".repeat(10_000)));
        assert!(text.len() <= LONGEST + '…'.len_utf8() && text.ends_with('…'), "{}", text.len());
    }
}
