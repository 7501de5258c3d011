//! `FROM hybrid_search(table, vector => …, text => …)` and `FROM rrf(search, search, …)` become a sub-query that
//! DataFusion's planner understands:
//!
//! ```sql
//! (SELECT "__0".* EXCLUDE (_distance), __fusion(10, '{…}') AS _score
//!  FROM vector_search(…) AS "__0" CROSS JOIN text_search(…) AS "__1") AS h
//! ```
//!
//! The calls in it are rewritten in their turn, as calls of the statement are.
//!
//! | argument of `hybrid_search` | accepted | when it is left out |
//! |---|---|---|
//! | `table` (1st) | as of `vector_search` | an error |
//! | `vector` | a query vector, as of `vector_search` | an error, unless `fallback => 'text'` |
//! | `text` | a query text, as of `text_search` | an error |
//! | `column` | the vector column | the only one that the table has |
//! | `columns` | the text columns | every text column |
//! | `fusion` | `'rrf'` or `'weighted'` | `'rrf'` |
//! | `alpha` | the weight of the vector part, 0 to 1; the text part has the rest. `weighted` only | 0.5 |
//! | `candidates` | how many rows each part gives, 1 to 1,000,000 | 10 · k, at least 100 |
//! | `metric`, `nprobes`, `refine_factor` | as of `vector_search` | |
//! | `exact` | of both searches: `true` uses no index | `false` |
//! | `operator`, `phrase`, `slop`, `fuzziness`, `prefix_length`, `language`, `stemming`, `stop_words` | as of `text_search` | |
//! | `where` | a condition over the table's columns | every row |
//!
//! | argument of both | accepted | when it is left out |
//! |---|---|---|
//! | `k` | a whole number from 1 to 1,000,000, or a constant expression | 10 |
//! | `rrf_k` | the constant of `rrf`, 0 to 1,000,000 | 60 |
//! | `weights` (`rrf` only) | a number of at least 0 for each part: `[1, 2]` | 1 each |
//! | `key` | columns that tell the table's rows apart: `id`, `[a, b]` | the primary key |
//! | `recency` | `exponential(column, '7 days')`, `gauss(…)`, `linear(…)`: see [`crate::recency`] | scores as they are |
//! | `fallback` | `'text'`: where a vector search cannot answer, the others do, and `_fallback` says why | an error |
//! | `deadline` | an interval within which vector searches must answer; with `fallback` | none |

use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentList, FunctionArguments, Ident, Join, JoinOperator, ObjectName, ObjectNamePart, Query,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Spanned, Statement, TableAlias, TableFactor, Value,
    WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use serde_json::{Map, Value as Json, json};
use triune_common::{Error, Position, Result};

use super::marker::SCORE_MARKER;
use crate::desugar::args::{DEFAULT_K, OPTIONAL, is_null};
use crate::desugar::named::{Given, Signature, decimal, list, wrong};
use crate::desugar::{Call, call_of, check, position_of};
use crate::recency::interval;
use crate::{DISTANCE_COLUMN, MAX_K};

const HYBRID: &str = "hybrid_search";
const RRF: &str = "rrf";
const VECTOR: &str = crate::desugar::NAME;
const TEXT: &str = crate::text::desugar::NAME;

static HYBRID_SIGNATURE: Signature = Signature {
    name: HYBRID,
    arguments: &[
        "table",
        "vector",
        "text",
        "column",
        "columns",
        "k",
        "fusion",
        "alpha",
        "rrf_k",
        "candidates",
        "key",
        "where",
        "metric",
        "nprobes",
        "refine_factor",
        "exact",
        "operator",
        "phrase",
        "slop",
        "fuzziness",
        "prefix_length",
        "language",
        "stemming",
        "stop_words",
        "recency",
        "fallback",
        "deadline",
    ],
    by_place: 1,
    usage: "hybrid_search(table, vector => '[…]', text => 'words to look for' [, k => 10, …])",
};

static RRF_SIGNATURE: Signature = Signature {
    name: RRF,
    arguments: &["k", "rrf_k", "weights", "key", "recency", "fallback", "deadline"],
    by_place: 0,
    usage: "rrf(vector_search(…), text_search(…) [, k => 10, …])",
};

/// The greatest `rrf_k`.
const MOST_RRF_K: u32 = 1_000_000;

/// Rewrites `factor` if it is a call of `hybrid_search` or `rrf` and says whether it was one.
///
/// # Errors
/// `Invalid`, with a position, for every argument that is unknown, doubled, missing or of the wrong kind.
pub(crate) fn desugar(factor: &mut TableFactor) -> Result<bool> {
    let (name, call, fusion) = if let Some(call) = call_of(factor, HYBRID)? {
        let (rest, fusion) = hybrid(call)?;
        (HYBRID, rest, fusion)
    } else if let Some(call) = call_of(factor, RRF)? {
        let (rest, fusion) = rrf(call)?;
        (RRF, rest, fusion)
    } else {
        return Ok(false);
    };
    let alias = call.alias.unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::with_span(call.span, name),
        columns: Vec::new(),
        at: None,
    });
    let subquery = Box::new(subquery_of(fusion)?);
    *factor = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
    Ok(true)
}

/// A fusion as its call describes it.
struct Fusion {
    /// Calls of searches.
    parts: Vec<(String, Vec<FunctionArg>)>,
    k: Expr,
    options: Map<String, Json>,
    /// When the age of a row is 0.
    origin: Option<Expr>,
}

fn hybrid(mut call: Call) -> Result<(Call, Fusion)> {
    let mut given = Given::sort(&HYBRID_SIGNATURE, std::mem::take(&mut call.args), call.place)?;
    let (table, _) = given.needed("table")?;
    let (mut options, origin) = common(&mut given)?;
    let fallback = options.contains_key("fallback");
    let vector = match given.take("vector") {
        Some((vector, _)) => Some(vector).filter(|v| !fallback || !is_null(v)),
        None if fallback => None,
        None => Some(given.needed("vector")?.0),
    };
    let (text, _) = given.needed("text")?;
    let method = given.one_of("fusion", &["rrf", "weighted"])?.unwrap_or_else(|| "rrf".to_owned());
    let weighted = method == "weighted";
    let alpha_place = given.place("alpha");
    let alpha = given.share("alpha")?;
    for (name, set, needs) in [
        ("alpha", alpha.is_some() && !weighted, "weighted"),
        ("rrf_k", options.contains_key("rrf_k") && weighted, "rrf"),
    ] {
        if set {
            return Err(Error::invalid(format!("{name} is an argument of fusion => '{needs}'"))
                .with_hint(format!("write fusion => '{needs}', or leave {name} out"))
                .at(alpha_place.or(call.place)));
        }
    }
    if weighted {
        let alpha = alpha.unwrap_or(0.5);
        let weights = [alpha, 1.0 - alpha];
        options.insert("weights".to_owned(), json!(weights[usize::from(vector.is_none())..]));
    }
    options.insert("fusion".to_owned(), Json::from(method));
    let most = u32::try_from(MAX_K).unwrap_or(u32::MAX);
    // 0: the analyzer computes it from k, which may be a parameter.
    let candidates = given.count("candidates", 1..=most)?.unwrap_or(0);
    options.insert("candidates".to_owned(), Json::from(candidates));

    if vector.is_none() {
        options.insert("lost".to_owned(), Json::from(super::rewrite::NO_VECTOR));
    }
    let mut near = vec![unnamed(table.clone())];
    let mut found = vec![unnamed(table), unnamed(text)];
    near.extend(given.take("column").map(|(e, _)| named("column", e)));
    let has_vector = vector.is_some();
    near.extend(vector.map(|v| named("query", v)));
    for name in ["metric", "nprobes", "refine_factor"] {
        near.extend(given.take(name).map(|(e, _)| named(name, e)));
    }
    if let Some((exact, _)) = given.take("exact") {
        near.push(named("exact", exact.clone()));
        found.push(named("exact", exact));
    }
    for name in [
        "columns",
        "operator",
        "phrase",
        "slop",
        "fuzziness",
        "prefix_length",
        "language",
        "stemming",
        "stop_words",
    ] {
        found.extend(given.take(name).map(|(e, _)| named(name, e)));
    }
    if let Some((condition, _)) = given.take("where") {
        near.push(named("where", condition.clone()));
        found.push(named("where", condition));
    }
    let k = k_of(&mut given)?;
    let mut parts = vec![(TEXT.to_owned(), found)];
    if has_vector {
        parts.insert(0, (VECTOR.to_owned(), near));
    }
    Ok((call, Fusion { parts, k, options, origin }))
}

fn rrf(mut call: Call) -> Result<(Call, Fusion)> {
    let mut parts = Vec::new();
    let mut rest = Vec::new();
    for arg in std::mem::take(&mut call.args) {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => parts.push(part(&expr, call.place)?),
            other => rest.push(other),
        }
    }
    if parts.is_empty() {
        return Err(Error::invalid("rrf is missing the searches that it fuses")
            .with_hint(format!("write {}", RRF_SIGNATURE.usage))
            .at(call.place));
    }
    let mut given = Given::sort(&RRF_SIGNATURE, rest, call.place)?;
    let (mut options, origin) = common(&mut given)?;
    if let Some((expr, place)) = given.take("weights") {
        let weights: Option<Vec<f64>> = list(&expr).into_iter().map(decimal).collect();
        let weights = weights.filter(|w| w.len() == parts.len()).ok_or_else(|| {
            let accepted =
                format!("a list of {} numbers of at least 0, one for each search, is", parts.len());
            wrong("weights", &expr, &accepted, place)
        })?;
        options.insert("weights".to_owned(), json!(weights));
    }
    options.insert("fusion".to_owned(), Json::from("rrf"));
    let k = k_of(&mut given)?;
    Ok((call, Fusion { parts, k, options, origin }))
}

/// One of the searches that `rrf` fuses.
fn part(expr: &Expr, call: Option<Position>) -> Result<(String, Vec<FunctionArg>)> {
    const SEARCHES: [&str; 4] = [VECTOR, TEXT, HYBRID, RRF];
    let place = position_of(expr.span()).or(call);
    let hint = "vector_search(…), text_search(…), hybrid_search(…) and rrf(…) are searches";
    if let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr
        && let [ObjectNamePart::Identifier(name)] = name.0.as_slice()
        && let Some(search) = SEARCHES.iter().find(|s| name.value.eq_ignore_ascii_case(s))
    {
        return Ok(((*search).to_owned(), list.args.clone()));
    }
    Err(Error::invalid(format!("rrf fuses searches, and {expr} is none")).with_hint(hint).at(place))
}

fn common(given: &mut Given) -> Result<(Map<String, Json>, Option<Expr>)> {
    let mut options = Map::new();
    let fallback = given.one_of("fallback", &["text"])?;
    if let Some((expr, place)) = given.take("deadline") {
        let seconds = interval(&expr).filter(|s| *s > 0.0).ok_or_else(|| {
            wrong("deadline", &expr, "an interval of more than 0, '50 milliseconds', is", place)
        })?;
        if fallback.is_none() {
            return Err(Error::invalid("deadline is an argument of fallback => 'text'")
                .with_hint("without it, nothing answers when the time is over")
                .at(place));
        }
        options.insert("deadline".to_owned(), json!(seconds));
    }
    if let Some(fallback) = fallback {
        options.insert("fallback".to_owned(), Json::from(fallback));
    }
    let recency = crate::recency::desugar(given.take("recency"))?;
    let origin = recency.map(|(recency, origin)| {
        options.insert("recency".to_owned(), recency);
        origin
    });
    if let Some(rrf_k) = given.count("rrf_k", 0..=MOST_RRF_K)? {
        options.insert("rrf_k".to_owned(), Json::from(rrf_k));
    }
    let place = given.place("key");
    if let Some(key) = given.columns("key", "['a', 'b']")? {
        options.insert("key".to_owned(), json!(key));
    }
    if let Some(place) = place.or(given.call) {
        options.insert("at".to_owned(), json!([place.line, place.column]));
    }
    Ok((options, origin))
}

fn k_of(given: &mut Given) -> Result<Expr> {
    match given.take("k") {
        Some((k, place)) => check::k(given.function(), k, place),
        None => Ok(Expr::Value(Value::Number(DEFAULT_K.to_string(), false).with_empty_span())),
    }
}

fn unnamed(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

fn named(name: &str, expr: Expr) -> FunctionArg {
    // The place of the value stands for that of the name, which the inner call reports.
    let name = Ident::with_span(expr.span(), name);
    FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), operator: FunctionArgOperator::RightArrow }
}

fn subquery_of(fusion: Fusion) -> Result<Query> {
    const TEMPLATE: &str =
        "SELECT __0.*, __fusion() AS _score, __fusion_fallback() AS _fallback FROM __table";
    let broken = || Error::internal("the template of a fusion no longer parses");
    let statement = Parser::parse_sql(&GenericDialect {}, TEMPLATE)
        .map_err(|e| broken().with_source(e))?
        .pop()
        .ok_or_else(broken)?;
    let Statement::Query(mut tree) = statement else { return Err(broken()) };
    let SetExpr::Select(select) = tree.body.as_mut() else { return Err(broken()) };
    let fallback = fusion.options.contains_key("fallback");
    let first_is_vector = fusion.parts.first().is_some_and(|(name, _)| name == VECTOR);
    let parts = fusion.parts.into_iter().map(|(name, mut args)| {
        if fallback && name == VECTOR {
            args.push(named(OPTIONAL, Expr::Value(Value::Boolean(true).with_empty_span())));
        }
        (name, args)
    });
    let mut factors = parts.enumerate().map(|(number, (name, args))| TableFactor::Function {
        lateral: false,
        name: ObjectName::from(vec![Ident::new(name)]),
        args,
        with_ordinality: false,
        alias: Some(TableAlias {
            explicit: true,
            name: Ident::with_quote('"', format!("__{number}")),
            columns: Vec::new(),
            at: None,
        }),
    });
    match select.from.as_mut_slice() {
        [from] => {
            from.relation = factors.next().ok_or_else(broken)?;
            from.joins = factors
                .map(|relation| Join {
                    relation,
                    global: false,
                    join_operator: JoinOperator::CrossJoin(
                        datafusion::sql::sqlparser::ast::JoinConstraint::None,
                    ),
                })
                .collect();
        }
        _ => return Err(broken()),
    }
    let own = if first_is_vector { DISTANCE_COLUMN } else { crate::text::SCORE_COLUMN };
    if !fallback {
        select.projection.truncate(2);
    }
    let [all, SelectItem::ExprWithAlias { expr: Expr::Function(Function { name, args, .. }), .. }, ..] =
        select.projection.as_mut_slice()
    else {
        return Err(broken());
    };
    *all = SelectItem::QualifiedWildcard(
        SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(vec![Ident::with_quote('"', "__0")])),
        WildcardAdditionalOptions {
            opt_exclude: Some(ExcludeSelectItem::Multiple(vec![ObjectName::from(vec![Ident::new(own)])])),
            ..WildcardAdditionalOptions::default()
        },
    );
    *name = ObjectName::from(vec![Ident::new(SCORE_MARKER)]);
    let options = Value::SingleQuotedString(Json::Object(fusion.options).to_string()).with_empty_span();
    *args = FunctionArguments::List(FunctionArgumentList {
        duplicate_treatment: None,
        args: [Some(fusion.k), Some(Expr::Value(options)), fusion.origin]
            .into_iter()
            .flatten()
            .map(unnamed)
            .collect(),
        clauses: Vec::new(),
    });
    Ok(*tree)
}
