//! Casts to vectors become calls of `to_vector`, which also takes text and lists of any number type; `TRY_CAST` becomes
//! `try_to_vector`, which gives NULL where the other fails.

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, Value, ValueWithSpan,
};
use triune_common::{Error, Result};
use triune_vector::types::VectorType;

pub(super) fn rewrite(expr: &mut Expr) -> Result<()> {
    let Expr::Cast { kind, expr: inner, data_type, .. } = expr else { return Ok(()) };
    let Some(name) = vector_type_name(data_type)? else { return Ok(()) };
    let function = match kind {
        CastKind::TryCast | CastKind::SafeCast => "try_to_vector",
        CastKind::Cast | CastKind::DoubleColon => "to_vector",
    };
    let placeholder = Expr::Value(ValueWithSpan::from(Value::Null));
    let value = std::mem::replace(inner.as_mut(), placeholder);
    *expr = call(function, vec![value, text(&name)]);
    Ok(())
}

/// The name under which `to_vector` knows the type; `None` when it is no vector.
fn vector_type_name(data_type: &DataType) -> Result<Option<String>> {
    match data_type {
        DataType::Custom(name, modifiers) => {
            let Some(last) = name.0.last() else { return Ok(None) };
            let base = last.to_string().to_ascii_uppercase();
            if !matches!(base.as_str(), "VECTOR" | "HALFVEC" | "TINYVEC" | "BITVEC") {
                return Ok(None);
            }
            let dims = match modifiers.as_slice() {
                [] => None,
                [one] => Some(one.as_str()),
                _ => return Err(Error::invalid(format!("{data_type} has more than one length"))),
            };
            // Checked here, where the statement's text is at hand; the planner's check comes second.
            Ok(VectorType::from_sql_name(&base, dims)?.map(|t| t.to_string()))
        }
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, Some(size))) => match element.as_ref() {
            DataType::Real | DataType::Float4 | DataType::Float32 => Ok(Some(format!("VECTOR({size})"))),
            DataType::Float(info) if info.to_string().is_empty() => Ok(Some(format!("VECTOR({size})"))),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

fn text(text: &str) -> Expr {
    Expr::Value(ValueWithSpan::from(Value::SingleQuotedString(text.to_owned())))
}

/// `name(args…)`
pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|a| FunctionArg::Unnamed(FunctionArgExpr::Expr(a))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}
