//! From the marker's arguments to a checked search.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue, TableReference};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Projection, cast};
use serde_json::Value;
use triune_common::{Error, Position, names::did_you_mean};

use super::SCORE_COLUMN;
use super::analysis::{AnalysisOptions, Analyzer};
use super::marker::marker_args;
use super::node::{TextSearchNode, TextSpec};
use super::query::{Fuzziness, Query, QueryOptions};
use crate::access::text::usual_analysis;
use crate::analyzer::search::{gives_all, k_of, relation_of, text_of};
use crate::node::without_alias;
use crate::recency::Recency;

/// The search that a projection `table.*, marker AS _score` stands for.
pub(crate) fn of_projection(projection: Projection) -> Result<LogicalPlan> {
    let rows = projection.input;
    let args = match projection.expr.split_last() {
        Some((marker, columns)) if !columns.is_empty() && gives_all(columns, rows.schema()) => {
            marker_args(marker)
        }
        _ => None,
    };
    let Some([query, k, options, origin @ ..]) = args else {
        return Err(Error::invalid("__text_search is not a function of its own")
            .with_hint("write FROM text_search(table, 'query')")
            .into());
    };
    let broken = || Error::internal("the options of a text search are not readable");
    let options: Value = serde_json::from_str(text_of(options)?).map_err(|e| broken().with_source(e))?;
    let place = options["at"]
        .as_array()
        .and_then(|at| Some(Position::new(at.first()?.as_u64()?, at.get(1)?.as_u64()?)));
    let checked = || -> triune_common::Result<LogicalPlan> {
        let columns = columns_of(rows.schema(), &options)?;
        let usual = usual_analysis(&rows, &columns).unwrap_or_default();
        let spec = TextSpec {
            k: k_of(k)?,
            query: query_options(&options),
            analysis: analysis(&options, usual),
            exact: options["exact"].as_bool().unwrap_or(false),
        };
        let query = query_of(query.clone(), &spec)?;
        // `where => …` chooses among the rows; the statistics are of the table.
        let table = match rows.as_ref() {
            LogicalPlan::Filter(filter) => Arc::clone(&filter.input),
            _ => Arc::clone(&rows),
        };
        let texts = columns.iter().cloned().map(Expr::Column);
        let corpus = Arc::new(LogicalPlanBuilder::from(table).project(texts)?.build()?);
        let columns = columns.into_iter().map(Expr::Column).collect();
        let score = (None, SCORE_COLUMN.to_owned());
        let recency = Recency::of(&options, origin.first(), rows.schema())?;
        let node = TextSearchNode::try_new(Arc::clone(&rows), corpus, columns, query, spec, score)?;
        Ok(node.with_recency(recency).into_plan()?)
    };
    checked().map_err(|e| DataFusionError::from(e.at(place)))
}

/// The same search under an alias, and with new names for its columns if there are any.
pub(crate) fn renamed(
    search: &TextSearchNode,
    alias: TableReference,
    names: Option<Vec<String>>,
) -> Result<TextSearchNode> {
    let old = search.rows().schema();
    let mut builder = LogicalPlanBuilder::from(Arc::clone(search.rows()));
    let mut score = search.score_column().name;
    if let Some(mut names) = names {
        score = names.pop().unwrap_or(score);
        let columns = old.columns().into_iter().zip(names).map(|(c, name)| Expr::Column(c).alias(name));
        builder = builder.project(columns)?;
    }
    let rows = Arc::new(builder.alias(alias.clone())?.build()?);
    let columns = search
        .columns()
        .iter()
        .map(|column| match column {
            Expr::Column(c) => {
                Ok(Expr::Column(Column::from(rows.schema().qualified_field(old.index_of_column(c)?))))
            }
            _ => Err(Error::internal("a text search's column is not a column before it is optimised").into()),
        })
        .collect::<Result<Vec<_>>>()?;
    let (corpus, query, spec) = (Arc::clone(search.corpus()), search.query().clone(), search.spec().clone());
    let recency = search.recency().map(|recency| recency.renamed(old, rows.schema())).transpose()?;
    Ok(TextSearchNode::try_new(rows, corpus, columns, query, spec, (Some(alias), score))?
        .with_recency(recency))
}

pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn columns_of(schema: &DFSchema, options: &Value) -> triune_common::Result<Vec<Column>> {
    let texts: Vec<(&str, Column)> = schema
        .iter()
        .filter(|(_, f)| is_text(f.data_type()))
        .map(|(r, f)| (f.name().as_str(), Column::new(r.cloned(), f.name())))
        .collect();
    let hint = match texts.as_slice() {
        [] => "it has no text column".to_owned(),
        _ => {
            let names: Vec<_> = texts.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            format!("its text columns are {}", names.join(", "))
        }
    };
    let Some(wanted) = options["columns"].as_array() else {
        if texts.is_empty() {
            return Err(Error::invalid(format!("{} has no text column to search", relation_of(schema))));
        }
        return Ok(texts.into_iter().map(|(_, column)| column).collect());
    };
    let mut found: Vec<Column> = Vec::with_capacity(wanted.len());
    for name in wanted.iter().filter_map(Value::as_str) {
        let exact: Vec<_> = schema.iter().filter(|(_, f)| f.name() == name).collect();
        let any: Vec<_> = match exact.is_empty() {
            true => schema.iter().filter(|(_, f)| f.name().eq_ignore_ascii_case(name)).collect(),
            false => exact,
        };
        let (relation, field) = match any.as_slice() {
            [one] => *one,
            [] => {
                let near = did_you_mean(name, texts.iter().map(|(name, _)| *name))
                    .map(|near| format!("did you mean \"{near}\"? "))
                    .unwrap_or_default();
                return Err(Error::not_found(format!("{} has no column \"{name}\"", relation_of(schema)))
                    .with_hint(format!("{near}{hint}")));
            }
            _ => {
                return Err(Error::invalid(format!(
                    "{} has several columns \"{name}\"",
                    relation_of(schema)
                ))
                .with_hint("write its name in double quotes"));
            }
        };
        if !is_text(field.data_type()) {
            return Err(Error::invalid(format!(
                "the column \"{}\" of {} is no text but {}",
                field.name(),
                relation_of(schema),
                field.data_type()
            ))
            .with_hint(hint));
        }
        let column = Column::new(relation.cloned(), field.name());
        if found.contains(&column) {
            return Err(Error::invalid(format!("columns names \"{name}\" twice")));
        }
        found.push(column);
    }
    Ok(found)
}

pub(crate) fn query_options(options: &Value) -> QueryOptions {
    let count = |name: &str| options[name].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    QueryOptions {
        all: options["operator"] == "and",
        phrase: options["phrase"].as_bool().unwrap_or(false),
        slop: count("slop"),
        fuzziness: match options["fuzziness"] == "auto" {
            true => Fuzziness::Auto,
            false => Fuzziness::Edits(count("fuzziness")),
        },
        prefix: count("prefix_length"),
    }
}

/// How words are made: as `usual` says, where the call does not.
pub(crate) fn analysis(options: &Value, usual: AnalysisOptions) -> AnalysisOptions {
    let mut analysis = usual;
    if let Some(language) = options["language"].as_str() {
        analysis = analysis.with("language", language);
    }
    for name in ["stemming", "stop_words"] {
        if let Some(flag) = options[name].as_bool() {
            analysis = analysis.with(name, flag.to_string());
        }
    }
    analysis
}

/// Checks the query as far as it is known, and makes it a text.
fn query_of(query: Expr, spec: &TextSpec) -> triune_common::Result<Expr> {
    let query = without_alias(query);
    let mut dependent = None;
    query.apply(|e| {
        use datafusion::common::tree_node::TreeNodeRecursion::{Continue, Stop};
        let outer = match e {
            Expr::Column(c) | Expr::OuterReferenceColumn(_, c) => Some(c.to_string()),
            Expr::ScalarSubquery(s) => s.outer_ref_columns.first().map(ToString::to_string),
            _ => None,
        };
        dependent = dependent.take().or(outer);
        Ok(if dependent.is_some() { Stop } else { Continue })
    })?;
    if let Some(outer) = dependent {
        return Err(Error::unsupported(format!("the query of text_search depends on {outer}")).with_hint(
            "it must be a constant, a parameter or a sub-query of its own; a search per row is not supported",
        ));
    }
    // Mistakes of the options and of a constant text are told now rather than when it runs.
    let mut analyzer = Analyzer::new(&spec.analysis)?;
    if let Expr::Literal(value, _) = &query
        && let Some(Some(text)) = value.try_as_str()
    {
        Query::parse(text, &spec.query, &mut analyzer)?;
    }
    let query = match query {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            let field = Arc::new(Field::new(&id, DataType::Utf8, true));
            Expr::Placeholder(Placeholder::new_with_field(id, Some(field)))
        }
        Expr::Literal(ScalarValue::Null, _) => Expr::Literal(ScalarValue::Utf8(None), None),
        other => other,
    };
    let data_type = query.get_type(&DFSchema::empty())?;
    match data_type {
        DataType::Utf8 => Ok(query),
        other if is_text(&other) => Ok(cast(query, DataType::Utf8)),
        other => Err(Error::invalid(format!("the query of text_search is no text but {other}"))
            .with_hint("write text_search(table, 'words to look for')")),
    }
}
