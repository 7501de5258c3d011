//! `FROM vector_search(table, column, query [, k => 10, …]) [AS v]` becomes a sub-query that
//! DataFusion's planner understands:
//!
//! ```sql
//! (SELECT *, __vector_search('column', query, 10, '{"metric":"cosine"}') AS _distance
//!  FROM table WHERE …) AS v
//! ```
//!
//! | argument | accepted | when it is left out |
//! |---|---|---|
//! | `table` (1st) | a name, `'file.parquet'`, or a sub-query in parentheses | an error |
//! | `column` (2nd) | a column's name, bare or as a string | the only vector column of the table |
//! | `query` (3rd) | any constant expression, `$1`, a column of what stands before in `FROM` (see [`crate::lateral`]), or a scalar sub-query that does not depend on other rows | an error |
//! | `k` (4th or named) | a whole number from 1 to 1,000,000, or a constant expression | 10 |
//! | `metric` | `'cosine'`, `'l2'`, `'dot'`, `'l1'`; `'hamming'`, `'jaccard'` for bits | cosine, or hamming for bits |
//! | `where` | a condition over the table's columns | every row |
//! | `nprobes` | how many partitions of an index are read, at least 1 | the index decides |
//! | `refine_factor` | how many times `k` candidates are compared by their full vectors, at least 1 | the index decides |
//! | `exact` | `true`: use no index | `false` |
//! | `per` | a column, or several in parentheses: `k` rows for each of their values; also `k => 3 PER lang` | one group |
//! | `diversity` | from 0 to 1: how much the rows are to differ from each other, see [`crate::diverse`] | 0 |
//!
//! Arguments are named with `=>` or `:=`. Every mistake is an error that carries the argument's place.
//! The alias is kept with its column names; without one the relation is called `vector_search`.

pub(crate) mod args;
pub(crate) mod check;
pub(crate) mod named;
mod nearest;
#[cfg(test)]
mod tests;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Query, Select, SelectItem, SetExpr, Spanned, Statement, TableAlias, TableFactor, Value,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Span;
use triune_common::{Error, Position, Result};

use crate::marker::MARKER_NAME;
use args::SearchArgs;
pub(crate) use check::wrong_k;
pub(crate) use nearest::NEAREST_KEY;
pub use nearest::{NEAREST, desugar_nearest};

/// The name that users write in `FROM`.
pub const NAME: &str = "vector_search";

/// Rewrites `factor` if it is a call of `vector_search`, `text_search`, `hybrid_search` or `rrf` and says whether it was one.
///
/// Only the factor itself is looked at, not what is inside of it: call it for every factor of a
/// statement, the outer before the inner, so that calls within the arguments are found as well. Names
/// in single quotes are left for whoever resolves `FROM 'file.parquet'`, who must therefore run later
/// (or on the result).
///
/// # Errors
/// `Invalid`, `NotFound` or `Unsupported`, with a position, for every argument that is unknown, doubled,
/// missing or of the wrong kind.
pub fn desugar_table_factor(factor: &mut TableFactor) -> Result<bool> {
    let Some(call) = call_of(factor, NAME)? else {
        return Ok(crate::text::desugar::desugar(factor)? || crate::fusion::desugar::desugar(factor)?);
    };
    let place = call.place;
    let alias = call.alias.unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::with_span(call.span, NAME),
        columns: Vec::new(),
        at: None,
    });
    let args = SearchArgs::parse(call.args, place)?;
    // Table functions may refer to what stands before them in FROM, whether LATERAL is written or not.
    let lateral = call.lateral || args.may_depend;
    let subquery = Box::new(subquery_of(args)?);
    *factor = TableFactor::Derived { lateral, subquery, alias: Some(alias), sample: None };
    Ok(true)
}

/// A call of a search taken out of a table factor.
pub(crate) struct Call {
    pub(crate) span: Span,
    pub(crate) place: Option<Position>,
    pub(crate) args: Vec<FunctionArg>,
    pub(crate) alias: Option<TableAlias>,
    pub(crate) lateral: bool,
}

pub(crate) fn call_of(factor: &mut TableFactor, function: &str) -> Result<Option<Call>> {
    match factor {
        TableFactor::Table { name, alias, args: Some(args), version, with_ordinality, sample, .. }
            if is_call(name, function) =>
        {
            let span = name.span();
            let place = position_of(span);
            for (given, what) in [
                (
                    version.is_some(),
                    "AT (…) after the call; put it into a sub-query: (SELECT * FROM t AT …) as the table",
                ),
                (*with_ordinality, "WITH ORDINALITY"),
                (sample.is_some(), "TABLESAMPLE"),
                (args.settings.is_some(), "SETTINGS"),
            ] {
                if given {
                    return Err(Error::unsupported(format!("{function} does not take {what}")).at(place));
                }
            }
            let args = std::mem::take(&mut args.args);
            Ok(Some(Call { span, place, args, alias: alias.take(), lateral: false }))
        }
        TableFactor::Function { lateral, name, args, alias, with_ordinality, .. }
            if is_call(name, function) =>
        {
            let span = name.span();
            let place = position_of(span);
            if *with_ordinality {
                return Err(Error::unsupported(format!("{function} does not take WITH ORDINALITY")).at(place));
            }
            Ok(Some(Call { span, place, args: std::mem::take(args), alias: alias.take(), lateral: *lateral }))
        }
        _ => Ok(None),
    }
}

fn is_call(name: &ObjectName, function: &str) -> bool {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => ident.value.eq_ignore_ascii_case(function),
        _ => false,
    }
}

/// Whether a select list was made by a rewrite of this module, and its names are as they have to be.
pub fn is_of_search(select: &Select) -> bool {
    let markers = [MARKER_NAME, crate::text::marker::MARKER_NAME, crate::fusion::marker::SCORE_MARKER];
    select.projection.iter().any(|item| match item {
        SelectItem::ExprWithAlias { expr: Expr::Function(call), .. } => match call.name.0.as_slice() {
            [ObjectNamePart::Identifier(name)] => markers.contains(&name.value.as_str()),
            _ => false,
        },
        _ => false,
    })
}

/// Where a span begins; `None` for nodes that were not read from text.
pub(crate) fn position_of(span: Span) -> Option<Position> {
    (span.start.line > 0).then(|| Position::new(span.start.line, span.start.column))
}

/// Builds the sub-query from the parsed template, so that the many fields of `Select` that have nothing
/// to do with us keep the parser's own defaults.
fn subquery_of(args: SearchArgs) -> Result<Query> {
    const TEMPLATE: &str = "SELECT *, __vector_search() AS _distance FROM __table";
    let broken = || Error::internal("the template of a search no longer parses");
    let statement = Parser::parse_sql(&GenericDialect {}, TEMPLATE)
        .map_err(|e| broken().with_source(e))?
        .pop()
        .ok_or_else(broken)?;
    let Statement::Query(mut query) = statement else { return Err(broken()) };
    let SetExpr::Select(select) = query.body.as_mut() else { return Err(broken()) };
    select.selection = args.filter;
    match select.from.as_mut_slice() {
        [from] => from.relation = args.table,
        _ => return Err(broken()),
    }
    match select.projection.last_mut() {
        Some(SelectItem::ExprWithAlias {
            expr: Expr::Function(Function { name, args: list, .. }), ..
        }) => {
            *name = ObjectName::from(vec![Ident::new(MARKER_NAME)]);
            *list = FunctionArguments::List(FunctionArgumentList {
                duplicate_treatment: None,
                args: [text(&args.column), args.query, args.k, text(&args.options.to_json())]
                    .into_iter()
                    .map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e)))
                    .collect(),
                clauses: Vec::new(),
            });
        }
        _ => return Err(broken()),
    }
    Ok(*query)
}

fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).with_empty_span())
}
