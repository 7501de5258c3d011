//! From PostgreSQL's operators to the functions.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::sqlparser::ast::BinaryOperator;
use datafusion::logical_expr::{Expr, ExprSchemable};
use triune_common::Error;

use super::function::{Form, JsonFunc};

/// Plans `->`, `->>`, `#>`, `#>>` and `?`. What DataFusion makes of them with lists and maps on the left
/// (nothing, today) stays its own.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct JsonExprPlanner;

impl ExprPlanner for JsonExprPlanner {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let form = match &raw.op {
            BinaryOperator::Arrow => Form::Get,
            BinaryOperator::LongArrow => Form::GetText,
            BinaryOperator::HashArrow => Form::Path,
            BinaryOperator::HashLongArrow => Form::PathText,
            BinaryOperator::Question => Form::HasKey,
            _ => return Ok(PlannerResult::Original(raw)),
        };
        if let Ok(ty) = raw.left.get_type(schema)
            && !super::function::is_text(&ty)
        {
            let ty = crate::types::name_of(&ty);
            return Err(Error::invalid(format!("{} reads JSON text, not {ty}", raw.op))
                .with_hint("accepted on its left are columns of type JSON and text")
                .into());
        }
        let right = match (form, raw.right) {
            (Form::Path | Form::PathText, Expr::Literal(value, metadata)) => match value.try_as_str() {
                Some(Some(text)) => Expr::Literal(path_of(text)?, metadata),
                _ => Expr::Literal(value, metadata),
            },
            (_, right) => right,
        };
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction {
            func: JsonFunc::udf(form),
            args: vec![raw.left, right],
        })))
    }
}

/// `{a,0,"b c"}`: PostgreSQL's spelling of an array of texts.
fn path_of(text: &str) -> Result<ScalarValue> {
    let wrong = || {
        Error::invalid(format!("'{text}' is no path into JSON"))
            .with_hint("write it as '{key,0,other key}', or as a list: ['key', '0']")
    };
    let inner = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(wrong)?;
    let mut keys = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (key, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_key(quoted).ok_or_else(wrong)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let key = rest[..end].trim();
                if key.is_empty() || key.contains(['{', '}', '"']) {
                    return Err(wrong().into());
                }
                (key.to_owned(), &rest[end..])
            }
        };
        keys.push(ScalarValue::Utf8(Some(key)));
        rest = after.trim_start();
        if let Some(more) = rest.strip_prefix(',') {
            rest = more.trim_start();
            if rest.is_empty() {
                return Err(wrong().into());
            }
        } else if !rest.is_empty() {
            return Err(wrong().into());
        }
    }
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&keys, &DataType::Utf8)))
}

/// The key up to the closing quote, and what follows it.
fn quoted_key(text: &str) -> Option<(String, &str)> {
    let mut key = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((key, &text[at + 1..])),
            '\\' => key.push(letters.next()?.1),
            other => key.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_postgresql_writes_them() {
        let keys = |text: &str| path_of(text).map(|p| p.to_string());
        assert_eq!(keys("{}").unwrap(), "[]");
        assert_eq!(keys("{a, 0 ,b c}").unwrap(), "[a, 0, b c]");
        assert_eq!(keys(r#"{"a,b","x\"y"}"#).unwrap(), r#"[a,b, x"y]"#);
        for text in ["", "a", "{a", "{a,}", "{,a}", "{\"a}", "{\"a\" b}", "{a{b}"] {
            assert!(keys(text).is_err(), "{text}");
        }
    }
}
