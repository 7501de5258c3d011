//! Texts that a statement writes out are embedded before it is planned.
//!
//! ```sql
//! SELECT … ORDER BY embedding <=> embed('a question', 'minilm') LIMIT 10
//!   → SELECT … ORDER BY embedding <=> CAST('[0.012,-0.034,…]' AS VECTOR(384)) LIMIT 10
//! ```
//!
//! A search then sees the vector that it would have seen if the user had written it, and uses its index. What is embedded
//! is any expression without columns and sub-queries; a parameter counts when its value is known. A column of a result
//! keeps the name that it has without this.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    Select, SelectItem, Value, VisitMut, VisitorMut,
};
use triune_common::{Error, Result, boxed};
use triune_embed::EMBED;

use crate::params::{self, Params};
use crate::prepass::labels;
use crate::session::SessionCore;
use crate::statement::Statement;
use crate::{dml, parser, visit};

/// Puts vectors in the places of texts that are written out.
pub(crate) async fn settle<T: VisitMut + Send>(
    core: &Arc<SessionCore>,
    tree: &mut T,
    params: &Params,
) -> Result<()> {
    if core.database().catalog().models.is_empty() {
        return Ok(());
    }
    let mut found = Vec::new();
    let _ = visit::walk_mut(tree, &mut Calls { params, each: |expr: &mut Expr| found.push(expr.clone()) });
    if found.is_empty() {
        return Ok(());
    }
    let mut computed = VecDeque::with_capacity(found.len());
    for expr in found {
        computed.push_back(compute(core, &expr, params).await?);
    }
    // The names of columns, before their expressions become long.
    let _ = visit::walk_mut(tree, &mut Names { params });
    let replace = |expr: &mut Expr| {
        if let Some(value) = computed.pop_front() {
            *expr = value;
        }
    };
    let _ = visit::walk_mut(tree, &mut Calls { params, each: replace });
    Ok(())
}

/// Whether a statement may call `embed`: it is not copied and walked for nothing.
pub(crate) fn may_call(core: &SessionCore, sql: &str) -> bool {
    let named = |w: &[u8]| w.eq_ignore_ascii_case(EMBED.as_bytes());
    !core.database().catalog().models.is_empty() && sql.as_bytes().windows(EMBED.len()).any(named)
}

/// A statement with vectors in the places of texts that its parameters complete, and the parameters that are left.
pub(crate) async fn settle_statement(
    core: &Arc<SessionCore>,
    statement: &Statement,
    params: &Params,
) -> Result<(Statement, Params)> {
    let mut statement = statement.clone();
    let mut left = params.clone();
    let mut inner = &mut statement;
    while let Statement::Explain(explain) = inner {
        inner = &mut explain.statement;
    }
    if let Statement::Sql(sql) = inner {
        params::check(sql.as_ref(), params)?;
        settle(core, sql.as_mut(), params).await?;
        left = params::used(sql.as_ref(), left);
    }
    Ok((statement, left))
}

/// Whether a tree calls `embed` with a text that is known.
fn is_constant_call(expr: &Expr, params: &Params) -> bool {
    let Expr::Function(call) = expr else { return false };
    let Some(arguments) = arguments(call) else { return false };
    arguments.iter().all(|argument| {
        !visit::any(*argument, |e| match e {
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::CompoundFieldAccess { .. }
            | Expr::Subquery(_)
            | Expr::Exists { .. }
            | Expr::InSubquery { .. }
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..) => true,
            Expr::Value(v) => match &v.value {
                Value::Placeholder(name) => params::value(params, name).is_none(),
                _ => false,
            },
            Expr::Function(f) => f.over.is_some() || f.name.to_string().eq_ignore_ascii_case("random"),
            _ => false,
        })
    })
}

/// The one or two arguments of a plain call of `embed`.
fn arguments(call: &Function) -> Option<Vec<&Expr>> {
    let [ast::ObjectNamePart::Identifier(name)] = call.name.0.as_slice() else { return None };
    if parser::normalize(name) != EMBED || call.filter.is_some() || call.over.is_some() {
        return None;
    }
    let FunctionArguments::List(FunctionArgumentList { args, clauses, duplicate_treatment: None }) =
        &call.args
    else {
        return None;
    };
    let plain = |arg| match arg {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref e)) => Some(e),
        _ => None,
    };
    let args = args.iter().map(plain).collect::<Option<Vec<&Expr>>>()?;
    (clauses.is_empty() && (1..=2).contains(&args.len())).then_some(args)
}

/// Goes to the calls that can be computed, an inner one before those around it.
struct Calls<'a, F> {
    params: &'a Params,
    each: F,
}

impl<F: FnMut(&mut Expr)> VisitorMut for Calls<'_, F> {
    type Break = visit::Stop;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<visit::Stop> {
        if is_constant_call(expr, self.params) {
            (self.each)(expr);
        }
        ControlFlow::Continue(())
    }
}

/// Gives columns the names that they have as they are written.
struct Names<'a> {
    params: &'a Params,
}

impl VisitorMut for Names<'_> {
    type Break = visit::Stop;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<visit::Stop> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && visit::any(expr, |e| is_constant_call(e, self.params))
            {
                let alias = Ident::with_quote('"', labels::name_of(expr));
                let expr = std::mem::replace(expr, Expr::value(Value::Null));
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
        }
        ControlFlow::Continue(())
    }
}

/// The vector of a call, as it would be written out.
#[boxed]
async fn compute(core: &Arc<SessionCore>, call: &Expr, params: &Params) -> Result<Expr> {
    let Expr::Function(function) = call else {
        return Err(Error::internal("embed() is no call"));
    };
    let arguments = arguments(function).ok_or_else(|| Error::internal("embed() has lost its arguments"))?;
    let name = match arguments.get(1) {
        None => None,
        Some(given) => Some(
            text(core, given, params)
                .await?
                .ok_or_else(|| Error::invalid("embed(): the model's name is NULL"))?,
        ),
    };
    let text = match arguments.first() {
        Some(given) => text(core, given, params).await?,
        None => None,
    };
    let model = super::open(core.database(), name.as_deref()).await?;
    let mut vectors = model.embed(&[text.as_deref()]).await?;
    let written = match vectors.pop().flatten() {
        None => "NULL".to_owned(),
        Some(vector) => {
            let mut written = String::with_capacity(vector.len() * 13);
            for (i, x) in vector.iter().enumerate() {
                // The shortest text that is read as the same number.
                let _ = write!(written, "{}{x}", if i == 0 { "'[" } else { "," });
            }
            written + "]'"
        }
    };
    dml::rows::expression(&format!("CAST({written} AS VECTOR({}))", model.dimension()))
}

/// The text that an argument without columns stands for.
async fn text(core: &Arc<SessionCore>, expr: &Expr, params: &Params) -> Result<Option<String>> {
    let value = match expr {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(text) => return Ok(Some(text.clone())),
            Value::Placeholder(name) => params::value(params, name).cloned(),
            _ => None,
        },
        _ => None,
    };
    let value = match value {
        Some(value) => value,
        None => {
            let query = parser::parse_query(&format!("SELECT {expr}"))?;
            let plan = core.plan(ast::Statement::Query(query), params).await?;
            let batches = core.start(&plan).await?.collect().await?;
            let batch = batches.iter().find(|b| b.num_rows() > 0);
            let batch = batch.ok_or_else(|| Error::invalid(format!("{expr} has no value")))?;
            ScalarValue::try_from_array(batch.column(0), 0)?
        }
    };
    let array = value.to_array()?;
    let texts = match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            cast(&array, &DataType::Utf8)?
        }
        other => {
            return Err(
                Error::invalid(format!("embed() takes texts, not {other}")).with_hint("CAST it to TEXT")
            );
        }
    };
    let texts = texts.as_string::<i32>();
    Ok((!texts.is_null(0)).then(|| texts.value(0).to_owned()))
}

/// `embed(title)` in a definition becomes `embed(title, 'minilm')`: what it means must not depend on models made later.
pub(crate) fn name_models(core: &Arc<SessionCore>, expr: &mut Expr) -> Result<()> {
    let mut wrong = None;
    visit::expressions_mut(expr, |e| {
        let Expr::Function(call) = e else { return };
        if arguments(call).is_none_or(|given| given.len() != 1) {
            return;
        }
        match super::pick(&core.database().catalog(), None) {
            Ok((name, _)) => {
                if let FunctionArguments::List(list) = &mut call.args {
                    let name = Expr::value(Value::SingleQuotedString(name.to_owned()));
                    list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(name)));
                }
            }
            Err(error) => wrong = Some(error),
        }
    });
    match wrong {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
