//! Moments of time travel that have to be computed: `FROM t AT (TIMESTAMP => now() - INTERVAL '1 hour')`.
//!
//! Before a statement is planned the expression is run as a query of its own, and its value takes its place in the
//! tree. A view computes it anew whenever it is read. A time without a zone is UTC, a date is its first moment.
//!
//! Limits: an expression of constants and functions; no columns, sub-queries or parameters.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use chrono::DateTime;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned, TableFactor, TableVersion, Value,
    VisitMut, VisitorMut,
};
use triune_common::{Error, Result, boxed};
use triune_lance::LanceVersion;

use crate::params::Params;
use crate::parser::{self, position};
use crate::prepass::versions;
use crate::session::SessionCore;
use crate::visit;

/// The version that an expression names in RESTORE, where `is_number` a number.
pub(crate) async fn version(core: &Arc<SessionCore>, expr: &Expr, is_number: bool) -> Result<LanceVersion> {
    let at = position(expr.span().start);
    let mut expr = expr.clone();
    if !is_number && !versions::is_written_out(&expr) {
        expr = compute(core, &expr).await.map_err(|e| e.at(at))?;
    }
    let version = if is_number { versions::number(&expr) } else { versions::timestamp(&expr) };
    version.map_err(|e| e.at(at))
}

/// Puts times in the places of the expressions that compute them.
pub(crate) async fn settle<T: VisitMut>(core: &Arc<SessionCore>, tree: &mut T) -> Result<()> {
    let mut found = Vec::new();
    // A visitor that breaks nowhere.
    let _ = visit::walk_mut(tree, &mut Moments(|expr: &mut Expr| found.push(expr.clone())));
    if found.is_empty() {
        return Ok(());
    }
    let mut computed = VecDeque::with_capacity(found.len());
    for expr in found {
        let at = position(expr.span().start);
        computed.push_back(compute(core, &expr).await.map_err(|e| e.at(at))?);
    }
    let replace = |expr: &mut Expr| {
        if let Some(value) = computed.pop_front() {
            *expr = value;
        }
    };
    let _ = visit::walk_mut(tree, &mut Moments(replace));
    Ok(())
}

/// Goes to the expressions that are to be computed, in the order of the text.
struct Moments<F>(F);

impl<F: FnMut(&mut Expr)> VisitorMut for Moments<F> {
    type Break = visit::Stop;

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<visit::Stop> {
        let TableFactor::Table { version: Some(version), .. } = factor else {
            return ControlFlow::Continue(());
        };
        let expr = match version {
            TableVersion::TimestampAsOf(expr) | TableVersion::ForSystemTimeAsOf(expr) => Some(expr),
            TableVersion::Function(Expr::Function(f)) => timestamp_argument(f),
            _ => None,
        };
        if let Some(expr) = expr.filter(|e| !versions::is_written_out(e)) {
            (self.0)(expr);
        }
        ControlFlow::Continue(())
    }
}

fn timestamp_argument(function: &mut ast::Function) -> Option<&mut Expr> {
    let FunctionArguments::List(list) = &mut function.args else { return None };
    match list.args.as_mut_slice() {
        [FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. }]
            if name.value.eq_ignore_ascii_case("timestamp") =>
        {
            Some(value)
        }
        _ => None,
    }
}

/// Runs `SELECT expr`, and gives the time as text.
#[boxed]
async fn compute(core: &Arc<SessionCore>, expr: &Expr) -> Result<Expr> {
    refuse(expr)?;
    let query = parser::parse_query(&format!("SELECT {expr}"))?;
    let plan = core.plan(ast::Statement::Query(query), &Params::None).await.map_err(|e| {
        // Positions belong to the text that was made here.
        Error::new(e.kind(), format!("AT (TIMESTAMP => {expr}): {}", e.message()))
    })?;
    let batches = core.start(&plan).await?.collect().await?;
    let batch = batches.iter().find(|b| b.num_rows() > 0);
    let batch = batch.ok_or_else(|| Error::invalid(format!("{expr} has no value")))?;
    let value = batch.column(0);
    let wrong = || {
        Error::invalid(format!("AT (TIMESTAMP => {expr}): the value is no time"))
            .with_hint(versions::ACCEPTED)
    };
    if value.is_null(0) {
        return Err(Error::invalid(format!("AT (TIMESTAMP => {expr}): the value is NULL"))
            .with_hint(versions::ACCEPTED));
    }
    let text = match value.data_type() {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            let micros = cast(value, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            let ScalarValue::TimestampMicrosecond(Some(micros), _) = ScalarValue::try_from_array(&micros, 0)?
            else {
                return Err(wrong());
            };
            DateTime::from_timestamp_micros(micros).ok_or_else(wrong)?.to_rfc3339()
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            match ScalarValue::try_from_array(value, 0)?.try_as_str().flatten() {
                Some(text) => text.to_owned(),
                None => return Err(wrong()),
            }
        }
        _ => return Err(wrong()),
    };
    Ok(Expr::value(Value::SingleQuotedString(text)))
}

fn refuse(expr: &Expr) -> Result<()> {
    let mut sub_query = false;
    let mut parameter = None;
    let _ = visit::expressions(expr, |e| {
        match e {
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => sub_query = true,
            Expr::Value(v) => {
                if let Value::Placeholder(name) = &v.value {
                    parameter = Some(name.clone());
                }
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    if sub_query {
        return Err(Error::unsupported("AT (TIMESTAMP => …) takes no sub-queries")
            .with_hint("read the time first, and write it out"));
    }
    match parameter {
        Some(name) => Err(Error::unsupported(format!("AT (TIMESTAMP => …) takes no parameters ({name})"))
            .with_hint("write the time into the statement")),
        None => Ok(()),
    }
}
