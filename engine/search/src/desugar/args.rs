//! The arguments of `vector_search`, sorted by name and checked one by one.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Spanned, TableFactor, Value, ValueWithSpan,
};
use triune_common::{Error, Position, Result, names::did_you_mean};
use triune_vector::kernels::Metric;

use super::{NAME, check, position_of};
use crate::spec::{Diversity, SearchOptions};

/// The names of the arguments; the first four may be given by place.
const ARGUMENTS: [&str; 12] = [
    "table",
    "column",
    "query",
    "k",
    "metric",
    "where",
    "nprobes",
    "refine_factor",
    "exact",
    "per",
    "diversity",
    OPTIONAL,
];
/// Said by a fusion that can do without the search: a query that is NULL is not a mistake then. Not for users.
pub(crate) const OPTIONAL: &str = "__optional";
/// The arguments that users have.
const PUBLIC: usize = ARGUMENTS.len() - 1;
const BY_PLACE: usize = 4;
pub(crate) const DEFAULT_K: u64 = 10;

/// What the metric may be called in messages.
pub(crate) const METRICS: &str = "'cosine', 'l2', 'dot', 'l1', 'hamming' or 'jaccard'";

/// The arguments of one call, ready to be put into a sub-query.
#[derive(Debug)]
pub(super) struct SearchArgs {
    pub(super) table: TableFactor,
    /// As a catalog has it: lower case unless it was quoted. Empty: the only vector column.
    pub(super) column: String,
    pub(super) query: Expr,
    pub(super) k: Expr,
    pub(super) filter: Option<Expr>,
    pub(super) options: SearchOptions,
    /// Whether the query or the condition may name columns of what stands before in FROM.
    pub(super) may_depend: bool,
}

/// One argument as it was written.
struct Given {
    expr: Expr,
    /// Of the name if it has one, else of the expression, else of the call.
    place: Option<Position>,
}

impl SearchArgs {
    pub(super) fn parse(args: Vec<FunctionArg>, call: Option<Position>) -> Result<Self> {
        let mut given = sort(args, call)?;
        let mut take = |name: &str| ARGUMENTS.iter().position(|a| *a == name).and_then(|i| given[i].take());
        let missing = |name: &str| {
            Error::invalid(format!("{NAME} is missing its argument {name}"))
                .with_hint(format!("write {NAME}(table, column, query [, k => 10, metric => 'cosine', …])"))
                .at(call)
        };

        let table = take("table").ok_or_else(|| missing("table"))?;
        let table = table_of(NAME, table.expr, table.place)?;
        let column = take("column");
        let query =
            take("query").ok_or_else(|| missing(if column.is_none() { "column" } else { "query" }))?;
        let k = take("k");
        let metric = take("metric");
        let mut options = SearchOptions::default();
        options.places.call = call;
        options.places.column = column.as_ref().and_then(|g| g.place);
        options.places.query = query.place;
        options.places.k = k.as_ref().and_then(|g| g.place);
        options.places.metric = metric.as_ref().and_then(|g| g.place);

        options.optional = take(OPTIONAL).is_some();
        if !options.optional || !is_null(&query.expr) {
            check::query(&query.expr, query.place)?;
        }
        let filter = take("where").map(|g| g.expr);
        let may_depend =
            check::names_columns(&query.expr) || filter.as_ref().is_some_and(check::names_relations);
        if let Some(g) = metric {
            options.metric = Some(metric_of(&g)?);
        }
        if let Some(g) = take("nprobes") {
            options.nprobes = Some(count_of("nprobes", &g)?);
        }
        if let Some(g) = take("refine_factor") {
            options.refine_factor = Some(count_of("refine_factor", &g)?);
        }
        if let Some(g) = take("exact") {
            options.exact = truth_of("exact", &g)?;
        }
        if let Some(g) = take("per") {
            options.per = names_of(g)?;
        }
        if let Some(g) = take("diversity") {
            options.diversity = Some(diversity_of(&g)?);
        }
        if let (false, Some(_)) = (options.per.is_empty(), options.diversity) {
            return Err(
                Error::unsupported(format!("{NAME} does not take per and diversity together")).at(call)
            );
        }
        Ok(Self {
            table,
            column: column.map_or(Ok(String::new()), |c| column_of(&c))?,
            query: query.expr,
            k: match k {
                Some(g) => check::k(NAME, g.expr, g.place)?,
                None => Expr::Value(Value::Number(DEFAULT_K.to_string(), false).with_empty_span()),
            },
            filter,
            options,
            may_depend,
        })
    }
}

/// Whether an expression is the word NULL.
pub(crate) fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(ValueWithSpan { value: Value::Null, .. }))
}

/// Puts every argument into the slot of its name.
fn sort(args: Vec<FunctionArg>, call: Option<Position>) -> Result<[Option<Given>; ARGUMENTS.len()]> {
    let mut slots: [Option<Given>; ARGUMENTS.len()] = Default::default();
    let mut named = false;
    for (index, arg) in args.into_iter().enumerate() {
        let (slot, place, arg) = match arg {
            FunctionArg::Named { name, arg, .. } => {
                named = true;
                (slot_of(&name)?, position_of(name.span), arg)
            }
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => {
                named = true;
                (slot_of(&name)?, position_of(name.span), arg)
            }
            FunctionArg::ExprNamed { name, .. } => {
                return Err(Error::invalid(format!("{name} is not the name of an argument of {NAME}"))
                    .with_hint(accepted())
                    .at(position_of(name.span()).or(call)));
            }
            FunctionArg::Unnamed(arg) => {
                let place = place_of(&arg).or(call);
                if let Some(name) = equals_instead_of_arrow(&arg) {
                    return Err(Error::invalid(format!("{name} = … is a comparison, not a named argument"))
                        .with_hint(format!("write {name} => …"))
                        .at(place));
                }
                if named {
                    return Err(Error::invalid(format!(
                        "{NAME} has an argument without a name after one with a name: {arg}"
                    ))
                    .with_hint(accepted())
                    .at(place));
                }
                if index >= BY_PLACE {
                    return Err(Error::invalid(format!(
                        "{NAME} takes four arguments by place (table, column, query, k), and {arg} is the fifth"
                    ))
                    .with_hint(accepted())
                    .at(place));
                }
                (index, place, arg)
            }
        };
        let FunctionArgExpr::Expr(expr) = arg else {
            return Err(Error::invalid(format!("{} of {NAME} cannot be {arg}", ARGUMENTS[slot])).at(place));
        };
        if slots[slot].is_some() {
            return Err(
                Error::invalid(format!("{NAME} has its argument {} twice", ARGUMENTS[slot])).at(place)
            );
        }
        slots[slot] = Some(Given { expr, place });
    }
    Ok(slots)
}

fn accepted() -> String {
    format!("named arguments are {}", ARGUMENTS[BY_PLACE - 1..PUBLIC].join(", "))
}

fn slot_of(name: &Ident) -> Result<usize> {
    let wanted = name.value.to_lowercase();
    if let Some(slot) = ARGUMENTS.iter().position(|a| *a == wanted) {
        return Ok(slot);
    }
    let hint = match did_you_mean(&wanted, ARGUMENTS[..PUBLIC].iter().copied()) {
        Some(near) => format!("did you mean {near}? {}", accepted()),
        None => accepted(),
    };
    Err(Error::invalid(format!("{NAME} has no argument {}", name.value))
        .with_hint(hint)
        .at(position_of(name.span)))
}

/// `k = 10` as PostgreSQL's dialect reads it: a comparison with a column `k`.
fn equals_instead_of_arrow(arg: &FunctionArgExpr) -> Option<&'static str> {
    use datafusion::sql::sqlparser::ast::BinaryOperator;
    let FunctionArgExpr::Expr(Expr::BinaryOp { left, op: BinaryOperator::Eq, .. }) = arg else { return None };
    let Expr::Identifier(name) = left.as_ref() else { return None };
    ARGUMENTS.iter().find(|a| name.value.eq_ignore_ascii_case(a)).copied()
}

fn place_of(arg: &FunctionArgExpr) -> Option<Position> {
    match arg {
        FunctionArgExpr::Expr(expr) => position_of(expr.span()),
        _ => None,
    }
}

/// What a search's first argument names.
pub(crate) fn table_of(function: &str, table: Expr, place: Option<Position>) -> Result<TableFactor> {
    let name = match table {
        Expr::Identifier(ident) => vec![ident],
        Expr::CompoundIdentifier(idents) => idents,
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span }) => {
            if is_file(&text) {
                vec![Ident::with_quote_and_span('\'', span, text)]
            } else {
                text.split('.').map(|part| Ident::with_span(span, part)).collect()
            }
        }
        Expr::Subquery(subquery) => {
            return Ok(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None });
        }
        Expr::Nested(inner) => return table_of(function, *inner, place),
        other => {
            return Err(Error::invalid(format!("the table of {function} cannot be {other}"))
                .with_hint(
                    "a table's name, a file in single quotes or a sub-query in parentheses is accepted",
                )
                .at(place));
        }
    };
    Ok(TableFactor::Table {
        name: ObjectName::from(name),
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    })
}

/// Whether a string names a file rather than a table: it has a folder, a scheme, a glob or an ending
/// that a reader of ours knows.
fn is_file(text: &str) -> bool {
    const ENDINGS: [&str; 14] = [
        "parquet", "parq", "lance", "csv", "tsv", "json", "ndjson", "jsonl", "arrow", "feather", "ipc", "gz",
        "zst", "bz2",
    ];
    text.contains(['/', '\\', '*', '?', ':'])
        || text
            .rsplit_once('.')
            .is_some_and(|(_, ending)| ENDINGS.iter().any(|e| ending.eq_ignore_ascii_case(e)))
}

fn column_of(given: &Given) -> Result<String> {
    let name = match &given.expr {
        Expr::Identifier(ident) => normal(ident),
        // `docs.embedding`: the table is known, its name in front says nothing new.
        Expr::CompoundIdentifier(idents) => match idents.as_slice() {
            [.., _, last] => normal(last),
            _ => String::new(),
        },
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => text.clone(),
        other => {
            return Err(Error::invalid(format!("the column of {NAME} cannot be {other}"))
                .with_hint("the name of a vector column is accepted")
                .at(given.place));
        }
    };
    if name.is_empty() {
        return Err(Error::invalid(format!("the column of {NAME} has no name")).at(given.place));
    }
    Ok(name)
}

pub(crate) fn normal(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

fn metric_of(given: &Given) -> Result<String> {
    let error = |what: String| {
        Error::invalid(format!("metric => {what} is not a metric"))
            .with_hint(format!("{METRICS} is accepted"))
            .at(given.place)
    };
    match &given.expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => {
            match text.parse::<Metric>() {
                Ok(_) => Ok(text.clone()),
                Err(_) => Err(error(format!("'{text}'"))),
            }
        }
        other => Err(error(other.to_string())),
    }
}

fn count_of(name: &str, given: &Given) -> Result<u32> {
    let parsed = match &given.expr {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => digits.parse::<u32>().ok(),
        _ => None,
    };
    parsed.filter(|n| *n > 0).ok_or_else(|| {
        Error::invalid(format!("{name} => {} is not accepted", given.expr))
            .with_hint("a whole number of at least 1 is")
            .at(given.place)
    })
}

/// `per => lang`, `per => (lang, year)`.
fn names_of(given: Given) -> Result<Vec<String>> {
    let exprs = match given.expr {
        Expr::Tuple(exprs) => exprs,
        Expr::Nested(expr) => vec![*expr],
        expr => vec![expr],
    };
    exprs
        .into_iter()
        .map(|expr| match expr {
            Expr::Identifier(ident) => Ok(normal(&ident)),
            Expr::CompoundIdentifier(idents) if !idents.is_empty() => {
                Ok(idents.last().map(normal).unwrap_or_default())
            }
            other => Err(Error::invalid(format!("per => {other} is not accepted"))
                .with_hint("the name of a column, or several in parentheses, is")
                .at(given.place)),
        })
        .collect()
}

fn diversity_of(given: &Given) -> Result<Diversity> {
    let parsed = match &given.expr {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => digits.parse::<f64>().ok(),
        _ => None,
    };
    parsed.and_then(Diversity::new).ok_or_else(|| {
        Error::invalid(format!("diversity => {} is not accepted", given.expr))
            .with_hint("a number from 0 to 1 is")
            .at(given.place)
    })
}

fn truth_of(name: &str, given: &Given) -> Result<bool> {
    match &given.expr {
        Expr::Value(ValueWithSpan { value: Value::Boolean(b), .. }) => Ok(*b),
        other => Err(Error::invalid(format!("{name} => {other} is not accepted"))
            .with_hint("true or false is")
            .at(given.place)),
    }
}
