//! `FROM text_search(table, query [, k => 10, …]) [AS s]` becomes a sub-query that DataFusion's planner
//! understands:
//!
//! ```sql
//! (SELECT *, __text_search(query, 10, '{"columns":["title"],…}') AS _score FROM table WHERE …) AS s
//! ```
//!
//! | argument | accepted | when it is left out |
//! |---|---|---|
//! | `table` (1st) | a name, `'file.parquet'`, or a sub-query in parentheses | an error |
//! | `query` (2nd) | a text: a constant expression, `$1`, or a scalar sub-query; see [`super::query`] | an error |
//! | `columns` | a text column or a list of them: `'title'`, `['title', 'body']` | every text column |
//! | `k` | a whole number from 1 to 1,000,000, or a constant expression | 10 |
//! | `operator` | `'or'`: one of the words is enough; `'and'`: all must be there | `'or'` |
//! | `phrase` | `true`: the whole text is one phrase | `false` |
//! | `slop` | how many other words may be between a phrase's words, together | 0 |
//! | `fuzziness` | 0, 1, 2 or `'auto'`: letters by which plain words may differ | 0 |
//! | `prefix_length` | letters at the beginning of a word that may not differ | 0 |
//! | `where` | a condition over the table's columns | every row |
//! | `language` | what endings and stop words are of: [`super::analysis::LANGUAGES`] | `'english'` |
//! | `stemming`, `stop_words` | `false`: endings count, stop words are words | `true` |
//! | `exact` | `true`: use no index | `false` (no index is used yet) |

use datafusion::sql::sqlparser::ast::{
    Array, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Query, SelectItem, SetExpr, Spanned, Statement, TableAlias, TableFactor, Value,
    ValueWithSpan,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use serde_json::{Map, Value as Json, json};
use triune_common::{Error, Position, Result, names::did_you_mean};

use super::analysis::LANGUAGES;
use super::marker::MARKER_NAME;
use crate::desugar::args::{DEFAULT_K, normal, table_of};
use crate::desugar::{call_of, check, position_of};

const NAME: &str = "text_search";
const ARGUMENTS: [&str; 14] = [
    "table",
    "query",
    "columns",
    "k",
    "operator",
    "phrase",
    "slop",
    "fuzziness",
    "prefix_length",
    "where",
    "language",
    "stemming",
    "stop_words",
    "exact",
];
const BY_PLACE: usize = 2;
/// More words between the words of a phrase, or more letters of a prefix, than any text has use for.
const MOST: u32 = 1000;

/// Rewrites `factor` if it is a call of `text_search` and says whether it was one.
///
/// # Errors
/// `Invalid`, with a position, for every argument that is unknown, doubled, missing or of the wrong kind.
pub(crate) fn desugar(factor: &mut TableFactor) -> Result<bool> {
    let Some(call) = call_of(factor, NAME)? else { return Ok(false) };
    let alias = call.alias.unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::with_span(call.span, NAME),
        columns: Vec::new(),
        at: None,
    });
    let subquery = Box::new(subquery_of(Given::sort(call.args, call.place)?)?);
    *factor = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
    Ok(true)
}

/// The arguments by name, each with its place.
struct Given {
    slots: [Option<(Expr, Option<Position>)>; ARGUMENTS.len()],
    call: Option<Position>,
}

impl Given {
    fn sort(args: Vec<FunctionArg>, call: Option<Position>) -> Result<Self> {
        let mut given = Self { slots: Default::default(), call };
        let accepted = || format!("named arguments are {}", ARGUMENTS[BY_PLACE..].join(", "));
        let mut named = false;
        for (index, arg) in args.into_iter().enumerate() {
            let (name, arg) = match arg {
                FunctionArg::Named { name, arg, .. } => (Some(name), arg),
                FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => (Some(name), arg),
                FunctionArg::ExprNamed { name, .. } => {
                    return Err(Error::invalid(format!("{name} is not the name of an argument of {NAME}"))
                        .with_hint(accepted())
                        .at(position_of(name.span()).or(call)));
                }
                FunctionArg::Unnamed(arg) => (None, arg),
            };
            let FunctionArgExpr::Expr(expr) = arg else {
                return Err(Error::invalid(format!("an argument of {NAME} cannot be {arg}")).at(call));
            };
            let (slot, place) = match name {
                Some(name) => {
                    named = true;
                    let wanted = name.value.to_lowercase();
                    let place = position_of(name.span).or(call);
                    let slot = ARGUMENTS.iter().position(|a| *a == wanted).ok_or_else(|| {
                        let near = did_you_mean(&wanted, ARGUMENTS)
                            .map(|near| format!("did you mean {near}? "))
                            .unwrap_or_default();
                        Error::invalid(format!("{NAME} has no argument {}", name.value))
                            .with_hint(format!("{near}{}", accepted()))
                            .at(place)
                    })?;
                    (slot, place)
                }
                None if named || index >= BY_PLACE => {
                    return Err(Error::invalid(format!(
                        "{NAME} takes two arguments by place (table, query), and {expr} has no name"
                    ))
                    .with_hint(accepted())
                    .at(position_of(expr.span()).or(call)));
                }
                None => (index, position_of(expr.span()).or(call)),
            };
            if given.slots[slot].is_some() {
                return Err(
                    Error::invalid(format!("{NAME} has its argument {} twice", ARGUMENTS[slot])).at(place)
                );
            }
            given.slots[slot] = Some((expr, place));
        }
        Ok(given)
    }

    fn take(&mut self, name: &str) -> Option<(Expr, Option<Position>)> {
        ARGUMENTS.iter().position(|a| *a == name).and_then(|i| self.slots[i].take())
    }

    fn needed(&mut self, name: &str) -> Result<(Expr, Option<Position>)> {
        let call = self.call;
        self.take(name).ok_or_else(|| {
            Error::invalid(format!("{NAME} is missing its argument {name}"))
                .with_hint(format!(
                    "write {NAME}(table, 'query' [, columns => ['title', 'body'], k => 10, …])"
                ))
                .at(call)
        })
    }

    fn truth(&mut self, name: &str) -> Result<Option<bool>> {
        let Some((expr, place)) = self.take(name) else { return Ok(None) };
        match expr {
            Expr::Value(ValueWithSpan { value: Value::Boolean(b), .. }) => Ok(Some(b)),
            other => Err(wrong(name, &other, "true or false is", place)),
        }
    }

    fn count(&mut self, name: &str) -> Result<Option<u32>> {
        let Some((expr, place)) = self.take(name) else { return Ok(None) };
        match number(&expr).filter(|n| *n <= MOST) {
            Some(n) => Ok(Some(n)),
            None => Err(wrong(name, &expr, &format!("a whole number from 0 to {MOST} is"), place)),
        }
    }

    fn one_of(&mut self, name: &str, values: &[&str]) -> Result<Option<String>> {
        let Some((expr, place)) = self.take(name) else { return Ok(None) };
        let value = string(&expr).map(str::to_lowercase).filter(|v| values.contains(&v.as_str()));
        let list: Vec<_> = values.iter().map(|v| format!("'{v}'")).collect();
        value.map(Some).ok_or_else(|| wrong(name, &expr, &format!("one of {} is", list.join(", ")), place))
    }
}

fn wrong(name: &str, value: &Expr, accepted: &str, place: Option<Position>) -> Error {
    Error::invalid(format!("{name} => {value} is not accepted")).with_hint(accepted.to_owned()).at(place)
}

fn string(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

fn number(expr: &Expr) -> Option<u32> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => digits.parse().ok(),
        _ => None,
    }
}

fn column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(normal(ident)),
        Expr::CompoundIdentifier(idents) => idents.last().map(normal),
        other => string(other).map(str::to_owned),
    }
    .filter(|name| !name.is_empty())
}

fn columns(expr: &Expr, place: Option<Position>) -> Result<Vec<String>> {
    let list = match expr {
        Expr::Array(Array { elem, .. }) => elem.iter().map(column).collect(),
        Expr::Nested(inner) => return columns(inner, place),
        Expr::Tuple(elem) => elem.iter().map(column).collect(),
        one => column(one).map(|c| vec![c]),
    };
    list.filter(|l: &Vec<String>| !l.is_empty()).ok_or_else(|| {
        wrong("columns", expr, "the name of a text column or a list of them, ['title', 'body'], is", place)
    })
}

fn subquery_of(mut given: Given) -> Result<Query> {
    const TEMPLATE: &str = "SELECT *, __text_search() AS _score FROM __table";
    let broken = || Error::internal("the template of a search no longer parses");
    let (table, place) = given.needed("table")?;
    let table = table_of(NAME, table, place)?;
    let (query, query_place) = given.needed("query")?;
    let k = match given.take("k") {
        Some((k, place)) => check::k(NAME, k, place)?,
        None => Expr::Value(Value::Number(DEFAULT_K.to_string(), false).with_empty_span()),
    };
    let mut options = Map::new();
    if let Some((expr, place)) = given.take("columns") {
        options.insert("columns".to_owned(), json!(columns(&expr, place)?));
    }
    let mut put = |name: &str, value: Option<Json>| {
        if let Some(value) = value {
            options.insert(name.to_owned(), value);
        }
    };
    put("operator", given.one_of("operator", &["or", "and"])?.map(Json::from));
    put("phrase", given.truth("phrase")?.map(Json::from));
    put("slop", given.count("slop")?.map(Json::from));
    put("prefix_length", given.count("prefix_length")?.map(Json::from));
    put("language", given.one_of("language", &LANGUAGES)?.map(Json::from));
    put("stemming", given.truth("stemming")?.map(Json::from));
    put("stop_words", given.truth("stop_words")?.map(Json::from));
    given.truth("exact")?;
    if let Some((expr, place)) = given.take("fuzziness") {
        let value = match (number(&expr), string(&expr)) {
            (Some(n @ 0..=2), _) => Some(json!(n)),
            (_, Some(text)) if text.eq_ignore_ascii_case("auto") => Some(json!("auto")),
            _ => None,
        };
        put(
            "fuzziness",
            Some(value.ok_or_else(|| wrong("fuzziness", &expr, "0, 1, 2 or 'auto' is", place))?),
        );
    }
    put("at", query_place.or(given.call).map(|p| json!([p.line, p.column])));
    let filter = given.take("where").map(|(expr, _)| expr);

    let statement = Parser::parse_sql(&GenericDialect {}, TEMPLATE)
        .map_err(|e| broken().with_source(e))?
        .pop()
        .ok_or_else(broken)?;
    let Statement::Query(mut tree) = statement else { return Err(broken()) };
    let SetExpr::Select(select) = tree.body.as_mut() else { return Err(broken()) };
    select.selection = filter;
    match select.from.as_mut_slice() {
        [from] => from.relation = table,
        _ => return Err(broken()),
    }
    let Some(SelectItem::ExprWithAlias { expr: Expr::Function(Function { name, args, .. }), .. }) =
        select.projection.last_mut()
    else {
        return Err(broken());
    };
    let options = Value::SingleQuotedString(Json::Object(options).to_string()).with_empty_span();
    *name = ObjectName::from(vec![Ident::new(MARKER_NAME)]);
    *args = FunctionArguments::List(FunctionArgumentList {
        duplicate_treatment: None,
        args: [query, k, Expr::Value(options)]
            .into_iter()
            .map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e)))
            .collect(),
        clauses: Vec::new(),
    });
    Ok(*tree)
}
