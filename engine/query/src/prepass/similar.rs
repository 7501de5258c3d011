//! `x SIMILAR TO '(a|b)%'`: SQL's regular expressions as those of the engine.
//!
//! `%` is any text, `_` any character; `| * + ? { } ( ) [ ]` mean what they mean elsewhere; the whole text must match;
//! the escape character (`\`, or that of ESCAPE) takes the meaning from the next one. DataFusion 54 would search for
//! the pattern as it stands, anywhere in the text. *Limit*: the pattern is written out.

use datafusion::sql::sqlparser::ast::{Expr, Spanned, Value, ValueWithSpan};
use triune_common::{Error, Result};

use crate::parser::position;

/// Translates the pattern in place.
pub(super) fn rewrite(expr: &mut Expr) -> Result<()> {
    let Expr::SimilarTo { pattern, escape_char, .. } = expr else { return Ok(()) };
    let at = position(pattern.span().start);
    let text = match pattern.as_mut() {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => text,
        Expr::Value(ValueWithSpan { value: Value::Null, .. }) => return Ok(()),
        _ => {
            return Err(Error::unsupported("SIMILAR TO takes a pattern that is written out")
                .with_hint("regexp_like(text, pattern) takes a column")
                .at(at));
        }
    };
    let escape = match escape_char.take().map(|e| e.value) {
        None => Some('\\'),
        Some(Value::SingleQuotedString(e)) if e.chars().count() <= 1 => e.chars().next(),
        Some(other) => {
            return Err(Error::invalid(format!("ESCAPE {other} is not one character")).at(at));
        }
    };
    *text = translate(text, escape)
        .map_err(|why| Error::invalid(format!("SIMILAR TO '{text}': {why}")).at(at))?;
    Ok(())
}

fn translate(pattern: &str, escape: Option<char>) -> std::result::Result<String, &'static str> {
    let mut out = String::from("^(?s:");
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => {
                let next = chars.next().ok_or("it ends with the escape character")?;
                out.push_str(&quoted(next));
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '\\' | '[' | '&' | '~' if in_class => out.push_str(&quoted(c)),
            c if in_class => out.push(c),
            '[' => {
                in_class = true;
                out.push('[');
            }
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '|' | '*' | '+' | '?' | '{' | '}' | '(' | ')' => out.push(c),
            c => out.push_str(&quoted(c)),
        }
    }
    if in_class {
        return Err("a [ has no ]");
    }
    out.push_str(")$");
    Ok(out)
}

fn quoted(c: char) -> String {
    if c.is_ascii_punctuation() { format!("\\{c}") } else { c.to_string() }
}
