//! Casts to texts that have a form become calls of the functions that read them: `x::UUID` is `to_uuid(x)`.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, Spanned,
};
use triune_common::{Error, Result};

use crate::ddl::types;
use crate::parser::position;

pub(super) fn rewrite(expr: &mut Expr) -> Result<()> {
    let Expr::Cast { kind, expr: inner, data_type, .. } = expr else { return Ok(()) };
    let name = match data_type {
        DataType::Uuid => "to_uuid",
        DataType::JSON | DataType::JSONB => "to_json_text",
        DataType::Custom(name, _) if types::is_struct(name) => {
            *data_type = types::plain(data_type)?;
            return Ok(());
        }
        DataType::Array(_) | DataType::Blob(_) => {
            *data_type = types::plain(data_type)?;
            return Ok(());
        }
        _ => return Ok(()),
    };
    if matches!(kind, CastKind::TryCast | CastKind::SafeCast) {
        return Err(Error::unsupported(format!("TRY_CAST to {data_type} is not supported"))
            .with_hint("use CAST, or filter the values first")
            .at(position(inner.span().start)));
    }
    let value = std::mem::replace(inner.as_mut(), Expr::Identifier(Ident::new("")));
    *expr = Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(value))],
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    });
    Ok(())
}
