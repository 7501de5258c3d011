//! `x LIKE 'a!%%' ESCAPE '!'`: another escape character than the backslash, which DataFusion 54 knows alone.
//! *Limit*: the pattern is written out.

use datafusion::sql::sqlparser::ast::{Expr, Spanned, Value, ValueWithSpan};
use triune_common::{Error, Result};

use crate::parser::position;

/// Writes the pattern with backslashes.
pub(super) fn rewrite(expr: &mut Expr) -> Result<()> {
    let (Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }) = expr else {
        return Ok(());
    };
    let Some(escape) = escape_char.take() else { return Ok(()) };
    let at = position(pattern.span().start);
    let escape = match escape.value {
        Value::SingleQuotedString(e) if e.chars().count() <= 1 => e.chars().next(),
        other => return Err(Error::invalid(format!("ESCAPE {other} is not one character")).at(at)),
    };
    if escape == Some('\\') {
        return Ok(());
    }
    match pattern.as_mut() {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => {
            *text = translate(text, escape).ok_or_else(|| {
                Error::invalid(format!("LIKE '{text}': it ends with the escape character")).at(at)
            })?;
            Ok(())
        }
        Expr::Value(ValueWithSpan { value: Value::Null, .. }) => Ok(()),
        _ => Err(Error::unsupported("LIKE … ESCAPE takes a pattern that is written out")
            .with_hint("without ESCAPE, a backslash takes the meaning from % and _")
            .at(at)),
    }
}

fn translate(pattern: &str, escape: Option<char>) -> Option<String> {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => {
                let next = chars.next()?;
                if matches!(next, '%' | '_' | '\\') {
                    out.push('\\');
                }
                out.push(next);
            }
            '\\' => out.push_str("\\\\"),
            c => out.push(c),
        }
    }
    Some(out)
}
