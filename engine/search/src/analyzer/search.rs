//! From the marker's arguments to a checked search.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue, TableReference};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Projection};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use triune_common::{Error, names::did_you_mean};
use triune_vector::kernels::Metric;
use triune_vector::types::{VectorType, parse_text};

use crate::desugar::wrong_k;
use crate::marker::marker_args;
use crate::node::{VectorSearchNode, without_alias};
use crate::spec::{Missing, SearchOptions, SearchSpec};
use crate::vectors::{default_metric, query_dims, same_vectors, to_vector, vector_type};
use crate::{DISTANCE_COLUMN, MAX_K};

/// The search that a projection `table.*, marker AS _distance` stands for.
pub(super) fn of_projection(projection: Projection) -> Result<LogicalPlan> {
    let input = projection.input;
    let args = match projection.expr.split_last() {
        Some((marker, columns)) if gives_all(columns, input.schema()) => marker_args(marker),
        _ => None,
    };
    let Some([column, query, k, options]) = args else {
        return Err(DataFusionError::from(Error::internal(
            "a search was not planned as all columns of a table and a distance",
        )));
    };
    let options = SearchOptions::from_json(text_of(options)?)?;
    let place = options.places;
    let checked = || -> triune_common::Result<VectorSearchNode> {
        let (column, ty) = vector_column(input.schema(), text_of(column)?).map_err(|e| e.at(place.column))?;
        let metric = metric_of(&options, ty, &column)?;
        let query = match query {
            // The fusion that the search is a part of goes on without it.
            Expr::Literal(value, _) if options.optional && value.is_null() => {
                Expr::Literal(ScalarValue::Null, None)
            }
            query => query_of(query.clone(), &column, ty, input.schema()).map_err(|e| e.at(place.query))?,
        };
        let spec = SearchSpec {
            k: k_of(k).map_err(|e| e.at(place.k.or(place.call)))?,
            metric,
            nprobes: options.nprobes,
            refine_factor: options.refine_factor,
            exact: options.exact,
            missing: Missing::LeftOut,
            diversity: options.diversity.filter(|d| d.share() > 0.0),
        };
        let per = options.per.iter().map(|name| group_column(input.schema(), name));
        let per = per.collect::<triune_common::Result<Vec<_>>>()?;
        Ok(VectorSearchNode::try_new(
            Arc::clone(&input),
            Expr::Column(column),
            query,
            spec,
            (None, DISTANCE_COLUMN.to_owned()),
        )?
        .with_per(per))
    };
    Ok(checked().map_err(|e| e.at(place.call))?.into_plan())
}

/// The same search under an alias, and with new names for its columns if there are any.
pub(crate) fn renamed(
    search: &VectorSearchNode,
    alias: TableReference,
    names: Option<Vec<String>>,
) -> Result<VectorSearchNode> {
    let old = search.input().schema();
    let Expr::Column(column) = search.column() else {
        return Err(DataFusionError::from(Error::internal(
            "a search's column is not a column before it is optimised",
        )));
    };
    let place = old.index_of_column(column)?;
    let mut builder = LogicalPlanBuilder::from(Arc::clone(search.input()));
    let mut distance = search.distance_column().name;
    if let Some(mut names) = names {
        distance = names.pop().unwrap_or(distance);
        let columns = old.columns().into_iter().zip(names).map(|(c, name)| Expr::Column(c).alias(name));
        builder = builder.project(columns)?;
    }
    let input = Arc::new(builder.alias(alias.clone())?.build()?);
    let column = Expr::Column(Column::from(input.schema().qualified_field(place)));
    let (query, spec) = (search.query().clone(), search.spec().clone());
    let per = search.per().iter().map(|expr| match expr {
        Expr::Column(c) => {
            Ok(Expr::Column(Column::from(input.schema().qualified_field(old.index_of_column(c)?))))
        }
        other => Ok::<_, DataFusionError>(other.clone()),
    });
    let per = per.collect::<Result<Vec<_>>>()?;
    Ok(VectorSearchNode::try_new(Arc::clone(&input), column, query, spec, (Some(alias), distance))?
        .with_per(per))
}

/// A column of `per => …`; exactly first, then without regard to letters' case.
fn group_column(schema: &DFSchema, wanted: &str) -> triune_common::Result<Expr> {
    let find = |same: &dyn Fn(&str) -> bool| {
        (0..schema.fields().len()).filter(|i| same(schema.field(*i).name())).collect::<Vec<_>>()
    };
    let mut found = find(&|name| name == wanted);
    if found.is_empty() {
        found = find(&|name| name.eq_ignore_ascii_case(wanted));
    }
    match found.as_slice() {
        [place] => Ok(Expr::Column(Column::from(schema.qualified_field(*place)))),
        [] => {
            let names = schema.fields().iter().map(|f| f.name().as_str());
            let near = did_you_mean(wanted, names).map(|name| format!("did you mean \"{name}\"?"));
            let error = Error::not_found(format!("{} has no column \"{wanted}\"", relation_of(schema)));
            Err(match near {
                Some(near) => error.with_hint(near),
                None => error,
            })
        }
        _ => Err(Error::invalid(format!("{} has several columns \"{wanted}\"", relation_of(schema)))
            .with_hint("write its name in double quotes")),
    }
}

pub(crate) fn gives_all(columns: &[Expr], input: &DFSchema) -> bool {
    columns.len() == input.fields().len()
        && columns
            .iter()
            .enumerate()
            .all(|(i, e)| matches!(e, Expr::Column(c) if input.maybe_index_of_column(c) == Some(i)))
}

pub(crate) fn text_of(expr: &Expr) -> triune_common::Result<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
    .ok_or_else(|| Error::internal(format!("a search was planned with {expr} in the place of a text")))
}

/// Finds the vector column; exactly first, then without regard to letters' case.
fn vector_column(schema: &DFSchema, wanted: &str) -> triune_common::Result<(Column, VectorType)> {
    let mut found: Vec<usize> =
        (0..schema.fields().len()).filter(|i| schema.field(*i).name() == wanted).collect();
    if found.is_empty() {
        found = (0..schema.fields().len())
            .filter(|i| schema.field(*i).name().eq_ignore_ascii_case(wanted))
            .collect();
    }
    let vectors: Vec<(&str, String)> = schema
        .fields()
        .iter()
        .filter_map(|f| Some((f.name().as_str(), format!("\"{}\" {}", f.name(), vector_type(f)?))))
        .collect();
    let hint = || match vectors.as_slice() {
        [] => "it has no vector column; to_vector(column, 'VECTOR(n)') in a sub-query makes one".to_owned(),
        _ => {
            let list: Vec<_> = vectors.iter().map(|(_, text)| text.as_str()).collect();
            format!("its vector columns are {}", list.join(", "))
        }
    };
    if wanted.is_empty() {
        let places: Vec<usize> =
            (0..schema.fields().len()).filter(|i| vector_type(schema.field(*i)).is_some()).collect();
        if places.len() != 1 {
            let table = relation_of(schema);
            return Err(match places.is_empty() {
                true => Error::invalid(format!("{table} has no vector column to search")),
                false => Error::invalid(format!("{table} has several vector columns"))
                    .with_hint(format!("column => … says which is searched; {}", hint())),
            });
        }
        found = places;
    }
    match found.as_slice() {
        [] => {
            let near = did_you_mean(wanted, vectors.iter().map(|(name, _)| *name))
                .map(|name| format!("did you mean \"{name}\"? "))
                .unwrap_or_default();
            Err(Error::not_found(format!("{} has no column \"{wanted}\"", relation_of(schema)))
                .with_hint(format!("{near}{}", hint())))
        }
        [index] => {
            let (relation, field) = schema.qualified_field(*index);
            match vector_type(field) {
                Some(ty) => Ok((Column::new(relation.cloned(), field.name()), ty)),
                None => Err(Error::invalid(format!(
                    "the column \"{}\" of {} is no vector but {}",
                    field.name(),
                    relation_of(schema),
                    field.data_type()
                ))
                .with_hint(hint())),
            }
        }
        _ => Err(Error::invalid(format!("{} has several columns \"{wanted}\"", relation_of(schema)))
            .with_hint("write its name in double quotes")),
    }
}

pub(crate) fn relation_of(schema: &DFSchema) -> String {
    match schema.iter().next() {
        Some((Some(relation), _)) => format!("\"{}\"", relation.table()),
        _ => "the sub-query".to_owned(),
    }
}

fn metric_of(options: &SearchOptions, ty: VectorType, column: &Column) -> triune_common::Result<Metric> {
    let Some(text) = &options.metric else { return Ok(default_metric(ty)) };
    let metric = text.parse::<Metric>()?;
    if metric.accepts(ty.kind) {
        return Ok(metric);
    }
    let fitting: Vec<_> = [
        Metric::Cosine,
        Metric::L2,
        Metric::NegativeInnerProduct,
        Metric::L1,
        Metric::Hamming,
        Metric::Jaccard,
    ]
    .into_iter()
    .filter(|m| m.accepts(ty.kind))
    .map(|m| format!("'{}'", m.name()))
    .collect();
    Err(Error::invalid(format!("metric => '{text}' does not compare {ty}, the type of \"{}\"", column.name))
        .with_hint(format!("{} is accepted", fitting.join(" or ")))
        .at(options.places.metric))
}

pub(crate) fn k_of(expr: &Expr) -> triune_common::Result<usize> {
    let value = match without_alias(expr.clone()) {
        Expr::Literal(value, _) => value,
        Expr::Placeholder(p) => {
            return Err(Error::invalid(format!("the parameter {} for k has no value", p.id)));
        }
        other => {
            let simplified = ExprSimplifier::new(SimplifyContext::default()).simplify(other)?;
            match simplified {
                Expr::Literal(value, _) => value,
                other => return Err(wrong_k(&other.to_string())),
            }
        }
    };
    let number = match &value {
        ScalarValue::Int8(Some(n)) => i128::from(*n),
        ScalarValue::Int16(Some(n)) => i128::from(*n),
        ScalarValue::Int32(Some(n)) => i128::from(*n),
        ScalarValue::Int64(Some(n)) => i128::from(*n),
        ScalarValue::UInt8(Some(n)) => i128::from(*n),
        ScalarValue::UInt16(Some(n)) => i128::from(*n),
        ScalarValue::UInt32(Some(n)) => i128::from(*n),
        ScalarValue::UInt64(Some(n)) => i128::from(*n),
        _ => return Err(wrong_k(&value.to_string())),
    };
    usize::try_from(number)
        .ok()
        .filter(|k| (1..=MAX_K).contains(k))
        .ok_or_else(|| wrong_k(&number.to_string()))
}

/// Checks the query as far as it is known and gives it the column's type.
fn query_of(query: Expr, column: &Column, ty: VectorType, schema: &DFSchema) -> triune_common::Result<Expr> {
    let query = without_alias(query);
    let mut dependent = None;
    query.apply(|e| {
        use datafusion::common::tree_node::TreeNodeRecursion::{Continue, Stop};
        let outer = match e {
            Expr::Column(c) => Some(c.to_string()),
            Expr::ScalarSubquery(s) => s.outer_ref_columns.first().map(ToString::to_string),
            _ => None,
        };
        dependent = dependent.take().or(outer);
        Ok(if dependent.is_some() { Stop } else { Continue })
    })?;
    if let Some(outer) = dependent {
        return Err(Error::unsupported(format!("the query of vector_search depends on {outer}")).with_hint(
            "it must be a constant, a parameter or a sub-query of its own; a search per row is not supported",
        ));
    }
    let field = column_field(schema, column)?;
    let query = match query {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            let typed =
                Field::new(&id, field.data_type().clone(), true).with_metadata(field.metadata().clone());
            Expr::Placeholder(Placeholder::new_with_field(id, Some(Arc::new(typed))))
        }
        other => other,
    };
    if matches!(&query, Expr::Literal(value, _) if value.is_null()) {
        return Err(Error::invalid("the query of vector_search is NULL").with_hint("a vector is accepted"));
    }
    let data_type = query.get_type(&DFSchema::empty()).ok();
    // A parameter is said to have the column's type and may be given another: it is converted below.
    let is_parameter = matches!(query, Expr::Placeholder(_));
    if !is_parameter && data_type.as_ref().is_some_and(|t| same_vectors(t, field.data_type())) {
        return Ok(query);
    }
    if let Some(dims) = query_dims(&query, data_type.as_ref(), ty)
        && dims != ty.dims
    {
        return Err(Error::invalid(format!(
            "the query has {dims} dimensions, the column \"{}\" of {} has {}",
            column.name,
            relation_of(schema),
            ty.dims
        )));
    }
    if let Expr::Literal(value, _) = &query
        && let Some(Some(text)) = value.try_as_str()
    {
        // Here the error has a place in the statement.
        parse_text(text, ty)?;
    }
    let query = to_vector(query, ty)?;
    query.get_type(&DFSchema::empty())?;
    Ok(query)
}

fn column_field<'a>(schema: &'a DFSchema, column: &Column) -> triune_common::Result<&'a Field> {
    Ok(schema.field(schema.index_of_column(column)?))
}
