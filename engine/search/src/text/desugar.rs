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
//! | `recency` | `exponential(column, '7 days')`, `gauss(…)`, `linear(…)`: see [`crate::recency`] | scores as they are |
//! | `where` | a condition over the table's columns | every row |
//! | `language` | what endings and stop words are of: [`super::analysis::LANGUAGES`] | that of the table's full-text index, else `'english'` |
//! | `stemming`, `stop_words` | `false`: endings count, stop words are words | as the table's full-text index has it, else `true` |
//! | `exact` | `true`: read every row, use no index | `false` |

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    Query, SelectItem, SetExpr, Statement, TableAlias, TableFactor, Value,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use serde_json::{Map, Value as Json, json};
use triune_common::{Error, Result};

use super::analysis::LANGUAGES;
use super::marker::MARKER_NAME;
use crate::desugar::args::{DEFAULT_K, table_of};
use crate::desugar::named::{Given, Signature, string, whole, wrong};
use crate::desugar::{call_of, check};

pub(crate) const NAME: &str = "text_search";

static SIGNATURE: Signature = Signature {
    name: NAME,
    arguments: &[
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
        "recency",
        "exact",
    ],
    by_place: 2,
    usage: "text_search(table, 'query' [, columns => ['title', 'body'], k => 10, …])",
};

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
    let subquery = Box::new(subquery_of(Given::sort(&SIGNATURE, call.args, call.place)?)?);
    *factor = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
    Ok(true)
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
    if let Some(columns) = given.columns("columns", "['title', 'body']")? {
        options.insert("columns".to_owned(), json!(columns));
    }
    query_options(&mut given, &mut options)?;
    if given.truth("exact")? == Some(true) {
        options.insert("exact".to_owned(), json!(true));
    }
    if let Some(place) = query_place.or(given.call) {
        options.insert("at".to_owned(), json!([place.line, place.column]));
    }
    let filter = given.take("where").map(|(expr, _)| expr);
    let origin = crate::recency::desugar(given.take("recency"))?.map(|(recency, origin)| {
        options.insert("recency".to_owned(), recency);
        origin
    });

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
            .chain(origin)
            .map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e)))
            .collect(),
        clauses: Vec::new(),
    });
    Ok(*tree)
}

/// Reads the arguments that say how texts are read, which other calls take too.
pub(crate) fn query_options(given: &mut Given, options: &mut Map<String, Json>) -> Result<()> {
    let mut put = |name: &str, value: Option<Json>| {
        if let Some(value) = value {
            options.insert(name.to_owned(), value);
        }
    };
    put("operator", given.one_of("operator", &["or", "and"])?.map(Json::from));
    put("phrase", given.truth("phrase")?.map(Json::from));
    put("slop", given.count("slop", 0..=MOST)?.map(Json::from));
    put("prefix_length", given.count("prefix_length", 0..=MOST)?.map(Json::from));
    put("language", given.one_of("language", &LANGUAGES)?.map(Json::from));
    put("stemming", given.truth("stemming")?.map(Json::from));
    put("stop_words", given.truth("stop_words")?.map(Json::from));
    if let Some((expr, place)) = given.take("fuzziness") {
        let value = match (whole(&expr), string(&expr)) {
            (Some(n @ 0..=2), _) => Some(json!(n)),
            (_, Some(text)) if text.eq_ignore_ascii_case("auto") => Some(json!("auto")),
            _ => None,
        };
        put(
            "fuzziness",
            Some(value.ok_or_else(|| wrong("fuzziness", &expr, "0, 1, 2 or 'auto' is", place))?),
        );
    }
    Ok(())
}
