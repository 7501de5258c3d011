//! From the marker's arguments to a checked fusion.

use std::sync::Arc;

use arrow::row::{RowConverter, SortField};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use serde_json::Value;
use triune_common::{Error, Position, names::did_you_mean};

use super::FALLBACK_COLUMN;
use super::marker::marker_args;
use super::node::{Added, Fallback, FusionNode, FusionSpec};
use super::rank::{Method, Number};
use crate::access::key_of;
use crate::analyzer::search::{k_of, relation_of, text_of};
use crate::node::VectorSearchNode;
use crate::recency::Recency;
use crate::text::node::TextSearchNode;
use crate::{MAX_K, text};

/// Each part gives at least so many rows, unless it is said otherwise.
const LEAST_CANDIDATES: usize = 100;
/// Why a search of vectors is left out.
pub(crate) const NO_VECTOR: &str = "no query vector";

/// The fusion that a projection `first.* EXCLUDE (…), marker AS _score` over a cross join of searches stands for.
pub(crate) fn of_projection(projection: &Projection) -> Result<LogicalPlan> {
    let broken = || -> DataFusionError {
        Error::invalid("__fusion is not a function of its own")
            .with_hint("write FROM hybrid_search(table, vector => …, text => …) or rrf(search, search)")
            .into()
    };
    let Some([k, options, origin @ ..]) = projection.expr.iter().find_map(marker_args) else {
        return Err(broken());
    };
    let options: Value = serde_json::from_str(text_of(options)?).map_err(|_| broken())?;
    let place = options["at"]
        .as_array()
        .and_then(|at| Some(Position::new(at.first()?.as_u64()?, at.get(1)?.as_u64()?)));
    let mut parts = Vec::new();
    parts_of(&projection.input, &mut parts);
    let searches: Option<Vec<Search<'_>>> = parts.iter().map(|p| Search::find(p)).collect();
    let Some(searches) = searches.filter(|s| !s.is_empty()) else { return Err(broken()) };
    fuse(searches, k, &options, origin.first()).map_err(|e| DataFusionError::from(e.at(place)))
}

fn fuse(
    mut searches: Vec<Search<'_>>,
    k: &Expr,
    options: &Value,
    origin: Option<&Expr>,
) -> triune_common::Result<LogicalPlan> {
    let k = k_of(k)?;
    let rows = searches[0].rows();
    for other in &searches[1..] {
        same_columns(rows.schema(), other.rows().schema())?;
    }
    let key = key_columns(rows, options)?;
    let mut weights = options["weights"]
        .as_array()
        .map(|list| list.iter().filter_map(Value::as_f64).map(Number).collect::<Vec<_>>())
        .unwrap_or_default();
    let fallback = fallback(&mut searches, &mut weights, options)?;
    let parts: Vec<LogicalPlan> = match options["candidates"].as_u64() {
        None => searches.iter().map(|s| s.plan.clone()).collect(),
        Some(given) => {
            let default = k.saturating_mul(10).clamp(LEAST_CANDIDATES, MAX_K);
            let given = usize::try_from(given).unwrap_or(MAX_K);
            let candidates = if given == 0 { default } else { given.max(k) };
            searches.iter().map(|s| s.with_k(candidates)).collect::<Result<_>>()?
        }
    };
    // The columns of every part under the name of the first, until the statement's alias comes.
    let alias = match rows.schema().iter().next() {
        Some((Some(relation), _)) => relation.clone(),
        _ => TableReference::bare("__0"),
    };
    let parts = parts.iter().map(|p| renamed(p, &alias, None)).collect::<Result<Vec<_>>>()?;
    let method = match options["fusion"] == "weighted" {
        true => Method::Weighted { weights },
        false => {
            let constant = options["rrf_k"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(60);
            Method::Reciprocal { constant, weights }
        }
    };
    let ascending = searches.iter().map(|s| matches!(s.kind, Kind::Vector(_))).collect();
    let added = Added {
        relation: None,
        score: text::SCORE_COLUMN.to_owned(),
        fallback: fallback.is_some().then(|| FALLBACK_COLUMN.to_owned()),
    };
    let spec = FusionSpec { k, method, ascending, fallback };
    let key = key
        .into_iter()
        .map(|place| Expr::Column(Column::new(Some(alias.clone()), rows.schema().field(place).name())))
        .collect();
    let columns = rows_of(&parts[0]).unwrap_or(rows).schema();
    let recency = Recency::of(options, origin, columns)?;
    let parts = parts.into_iter().map(Arc::new).collect();
    Ok(FusionNode::try_new(parts, key, spec, added)?.with_recency(recency).into_plan())
}

/// What `fallback => 'text'` says; takes away the searches that are known to have no query vector, with their weights.
fn fallback(
    searches: &mut Vec<Search<'_>>,
    weights: &mut Vec<Number>,
    options: &Value,
) -> triune_common::Result<Option<Fallback>> {
    let inner = |s: &Search<'_>| matches!(&s.kind, Kind::Fusion(f) if f.added().fallback.is_some());
    if searches.iter().any(inner) {
        return Err(Error::unsupported("a search that is fused cannot have a fallback of its own")
            .with_hint("give fallback => 'text' to the outermost rrf, with all searches in it"));
    }
    if options["fallback"].is_null() {
        return Ok(None);
    }
    if searches.iter().all(|s| matches!(s.kind, Kind::Vector(_))) {
        return Err(Error::invalid(
            "fallback => 'text' has no text to fall back on: all searches are of vectors",
        )
        .with_hint("add a text_search"));
    }
    let mut lost = options["lost"].as_str().map(str::to_owned);
    let has_query = |s: &Search<'_>| !matches!(&s.kind, Kind::Vector(v) if matches!(v.query(), Expr::Literal(value, _) if value.is_null()));
    let kept: Vec<bool> = searches.iter().map(has_query).collect();
    if kept.contains(&false) {
        lost = Some(NO_VECTOR.to_owned());
        let mut keep = kept.iter();
        weights.retain(|_| keep.next().copied().unwrap_or(true));
        let mut keep = kept.iter();
        searches.retain(|_| keep.next().copied().unwrap_or(true));
    }
    Ok(Some(Fallback { deadline: options["deadline"].as_f64().map(Number), lost }))
}

/// The searches that are joined, from left to right.
fn parts_of<'a>(plan: &'a LogicalPlan, parts: &mut Vec<&'a LogicalPlan>) {
    match plan {
        LogicalPlan::Join(join) => {
            parts_of(&join.left, parts);
            parts_of(&join.right, parts);
        }
        plan => parts.push(plan),
    }
}

/// A search of any kind at the top of a plan.
struct Search<'a> {
    plan: &'a LogicalPlan,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Vector(&'a VectorSearchNode),
    Text(&'a TextSearchNode),
    Fusion(&'a FusionNode),
}

impl<'a> Search<'a> {
    fn find(plan: &'a LogicalPlan) -> Option<Self> {
        let kind = if let Some(search) = VectorSearchNode::find(plan) {
            Kind::Vector(search)
        } else if let Some(search) = TextSearchNode::find(plan) {
            Kind::Text(search)
        } else {
            Kind::Fusion(FusionNode::find(plan)?)
        };
        Some(Self { plan, kind })
    }

    fn rows(&self) -> &'a LogicalPlan {
        match &self.kind {
            Kind::Vector(search) => search.input(),
            Kind::Text(search) => search.rows(),
            Kind::Fusion(fusion) => {
                // A fusion has parts, and they are searches: it was made here.
                fusion.parts().first().and_then(|p| Search::find(p)).map_or(self.plan, |s| s.rows())
            }
        }
    }

    fn with_k(&self, k: usize) -> Result<LogicalPlan> {
        match &self.kind {
            Kind::Vector(search) => Ok(search.with_k(k).into_plan()),
            Kind::Text(search) => search.with_k(k).into_plan(),
            Kind::Fusion(_) => Ok(self.plan.clone()),
        }
    }
}

/// The rows that a search of any kind at the top of a plan looks at; of a fusion those of its first part.
pub(crate) fn rows_of(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    Search::find(plan).map(|s| s.rows())
}

/// The search at the top of `plan` over rows that meet a condition.
///
/// # Errors
/// Internal, if there is no search.
pub(crate) fn restricted(plan: &LogicalPlan, condition: &Expr) -> Result<LogicalPlan> {
    use datafusion::logical_expr::Filter;
    let chosen = |rows: &Arc<LogicalPlan>| -> Result<Arc<LogicalPlan>> {
        Ok(Arc::new(LogicalPlan::Filter(Filter::try_new(condition.clone(), Arc::clone(rows))?)))
    };
    match Search::find(plan).map(|s| s.kind) {
        Some(Kind::Vector(search)) => Ok(search.with_input(chosen(search.input())?)?.into_plan()),
        Some(Kind::Text(search)) => search.with_rows(chosen(search.rows())?)?.into_plan(),
        Some(Kind::Fusion(fusion)) => {
            let parts = fusion.parts().iter().map(|p| restricted(p, condition)).collect::<Result<_>>()?;
            Ok(fusion.with_parts(parts)?.into_plan())
        }
        None => Err(Error::internal("a condition was moved below something that is no search").into()),
    }
}

/// The search at the top of `plan` under an alias, and with new names for its columns, the score's too, if there
/// are any.
///
/// # Errors
/// Internal, if there is no search; that the score's name is taken.
pub(crate) fn renamed(
    plan: &LogicalPlan,
    alias: &TableReference,
    names: Option<Vec<String>>,
) -> Result<LogicalPlan> {
    match Search::find(plan).map(|s| s.kind) {
        Some(Kind::Vector(search)) => {
            Ok(crate::analyzer::search::renamed(search, alias.clone(), names)?.into_plan())
        }
        Some(Kind::Text(search)) => text::rewrite::renamed(search, alias.clone(), names)?.into_plan(),
        Some(Kind::Fusion(fusion)) => fusion_renamed(fusion, alias, names),
        None => Err(Error::internal("something that is no search was given an alias").into()),
    }
}

fn fusion_renamed(
    fusion: &FusionNode,
    alias: &TableReference,
    names: Option<Vec<String>>,
) -> Result<LogicalPlan> {
    use datafusion::logical_expr::UserDefinedLogicalNodeCore;
    let old = fusion.schema();
    let mut added = Added { relation: Some(alias.clone()), ..fusion.added().clone() };
    let columns = names.map(|mut names| {
        let mut own = names.split_off(fusion.width().min(names.len())).into_iter();
        added.score = own.next().unwrap_or_else(|| added.score.clone());
        added.fallback = added.fallback.take().map(|name| own.next().unwrap_or(name));
        names
    });
    let parts = fusion
        .parts()
        .iter()
        .map(|part| {
            let names = columns.as_ref().map(|columns| {
                let own = part.schema().fields().last().map_or_else(String::new, |f| f.name().clone());
                columns.iter().cloned().chain([own]).collect()
            });
            renamed(part, alias, names)
        })
        .collect::<Result<Vec<_>>>()?;
    let key = fusion
        .key()
        .iter()
        .map(|key| match key {
            Expr::Column(c) => {
                let place = old.index_of_column(c)?;
                let name =
                    columns.as_ref().and_then(|n| n.get(place)).map_or(c.name.as_str(), String::as_str);
                Ok(Expr::Column(Column::new(Some(alias.clone()), name)))
            }
            _ => Err(Error::internal("a fusion's key is not of columns before it is optimised").into()),
        })
        .collect::<Result<Vec<_>>>()?;
    let recency = match (fusion.recency(), parts.first().and_then(rows_of)) {
        (Some(recency), Some(rows)) => {
            let before = fusion.parts().first().and_then(|p| rows_of(p)).map_or(old, |rows| rows.schema());
            Some(recency.renamed(before, rows.schema())?)
        }
        _ => None,
    };
    let parts = parts.into_iter().map(Arc::new).collect();
    Ok(FusionNode::try_new(parts, key, fusion.spec().clone(), added)?.with_recency(recency).into_plan())
}

fn same_columns(first: &DFSchema, other: &DFSchema) -> triune_common::Result<()> {
    let columns = |schema: &DFSchema| -> Vec<(String, String)> {
        schema.fields().iter().map(|f| (f.name().clone(), f.data_type().to_string())).collect()
    };
    let (first, other) = (columns(first), columns(other));
    if first == other {
        return Ok(());
    }
    let shown = |columns: &[(String, String)]| {
        columns.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
    };
    Err(Error::invalid(format!(
        "the searches that are fused are of tables with different columns: {} and {}",
        shown(&first),
        shown(&other)
    ))
    .with_hint("search one table, or sub-queries that give the same columns"))
}

/// The name of the table for messages, below the names that the rewrite of the call has given.
fn name_of(rows: &LogicalPlan) -> String {
    match rows {
        LogicalPlan::SubqueryAlias(alias) if alias.alias.table().starts_with("__") => name_of(&alias.input),
        other => relation_of(other.schema()),
    }
}

/// The places of the columns that tell rows apart.
fn key_columns(rows: &LogicalPlan, options: &Value) -> triune_common::Result<Vec<usize>> {
    let schema = rows.schema();
    let places = match options["key"].as_array() {
        None => key_of(rows).ok_or_else(|| {
            Error::invalid(format!(
                "the rows of {} cannot be told apart: it has no primary key",
                name_of(rows)
            ))
            .with_hint("key => id names the column or the columns, [a, b], that tell them apart")
        })?,
        Some(names) => names
            .iter()
            .filter_map(Value::as_str)
            .map(|name| {
                let exact = schema.fields().iter().position(|f| f.name() == name);
                exact
                    .or_else(|| schema.fields().iter().position(|f| f.name().eq_ignore_ascii_case(name)))
                    .ok_or_else(|| {
                        let columns = schema.fields().iter().map(|f| f.name().as_str());
                        let error = Error::not_found(format!("{} has no column \"{name}\"", name_of(rows)));
                        match did_you_mean(name, columns) {
                            Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
                            None => error.with_hint("key => … names columns that tell the rows apart"),
                        }
                    })
            })
            .collect::<triune_common::Result<Vec<_>>>()?,
    };
    for place in &places {
        let field = schema.field(*place);
        if !RowConverter::supports_fields(&[SortField::new(field.data_type().clone())]) {
            return Err(Error::unsupported(format!(
                "the column \"{}\" of type {} cannot be a key of a search",
                field.name(),
                field.data_type()
            )));
        }
    }
    Ok(places)
}
