//! Which way a search of words takes.
//!
//! ```text
//! TextSearch: columns=[s.title]                TextIndexExec: k=10, access=index words
//!   SubqueryAlias: s                    ─►       TextSearchExec: access=exact, if the index cannot answer
//!     TableScan: docs                              <the rows>  <all texts>
//!       full_filters=[lang = 'en']               UnionExec          rows beyond the index, those in memory too
//!   Projection: docs.title                       UnionExec          their texts, for the counts
//!     TableScan: docs
//! ```
//!
//! *When*: the rows are those of one table, seen through aliases and choices of columns, with all other conditions in
//! its scan; the counts are of the whole table; each searched column has a full-text index whose words are made as
//! those of the search; neither `exact => true` nor `search.mode = exact` was said.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::union::UnionExec;
use triune_lance::provider::unqualified;
use triune_lance::{IndexMethod, LanceProvider, TextIndexes};
use triune_storage::store::StoreProvider;

use super::searched::{Searched, has_table, scan_of, source_of};
use super::{VectorAccess, access_of};
use crate::settings::{SEARCH_MODE, SearchMode};
use crate::text::analysis::AnalysisOptions;
use crate::text::node::TextSearchNode;

/// A search of words through indexes.
#[derive(Debug)]
pub(crate) struct TextWay {
    pub(crate) indexes: TextIndexes,
    /// Over the table's columns.
    pub(crate) conditions: Vec<Arc<dyn PhysicalExpr>>,
    /// For each column of the rows its place in the table.
    pub(crate) output: Vec<usize>,
    /// The rows that the indexes do not speak of and that meet the conditions, with the columns of the rows.
    pub(crate) rows_beside: Arc<dyn ExecutionPlan>,
    /// The searched columns of all rows that the indexes do not speak of.
    pub(crate) texts_beside: Arc<dyn ExecutionPlan>,
}

/// The way through indexes; else why every text is read, where the table might have had one.
///
/// # Errors
/// Of reading the table's state and of planning. Not those of an index.
pub(crate) async fn text_way(
    search: &TextSearchNode,
    mode: SearchMode,
    state: &SessionState,
) -> Result<std::result::Result<TextWay, Option<String>>> {
    let because = |why: &str| Ok(Err(Some(why.to_owned())));
    let Some(Searched { scan, columns, joins }) = scan_of(search.rows())? else {
        let why = "the rows searched are not a table with conditions of one row".to_owned();
        return Ok(Err(has_table(search.rows()).then_some(why)));
    };
    let Ok(source) = source_as_provider(&scan.source) else { return Ok(Err(None)) };
    let Some(table) = access_of(source.as_ref()) else { return Ok(Err(None)) };
    if search.spec().exact {
        return because("exact => true");
    }
    if mode == SearchMode::Exact {
        return Ok(Err(Some(format!("{SEARCH_MODE} = exact"))));
    }
    if !joins.is_empty() {
        return because("the rows are chosen by keys of another table");
    }
    if scan.fetch.is_some() {
        return because("the table is searched only in part");
    }
    let whole = match scan_of(search.corpus())? {
        Some(all) => {
            let plain = all.scan.filters.is_empty() && all.scan.fetch.is_none() && all.joins.is_empty();
            (plain && Arc::ptr_eq(&all.scan.source, &scan.source)).then_some(all.columns)
        }
        None => None,
    };
    let Some(texts) = whole else { return because("the table is searched only in part") };
    let schema = scan.source.schema();
    let names: Vec<String> = texts.iter().map(|c| schema.field(*c).name().clone()).collect();
    if let Some(why) = why_none(source.as_ref(), &names) {
        return Ok(Err(Some(why)));
    }
    let provider = match table.indexed(&[])? {
        Ok(provider) => provider,
        Err(why) => return Ok(Err(Some(why))),
    };
    let indexes = match provider.text_indexes(&names, &search.spec().analysis.params()?).await {
        Ok(Ok(indexes)) => indexes,
        Ok(Err(why)) => return Ok(Err(Some(why))),
        Err(e) => {
            return Ok(Err(Some(format!("the indexes of the table cannot be read: {}", e.message()))));
        }
    };
    let of_table = DFSchema::try_from(schema)?;
    let filters = scan.filters.iter().map(|f| state.create_physical_expr(unqualified(f)?, &of_table));
    let conditions = filters.collect::<Result<Vec<_>>>()?;
    let rows = search.rows().schema().as_arrow();
    let rows_beside =
        renamed_rows(table, indexes.rest(), state, scan, &columns, rows.fields(), &scan.filters).await?;
    let corpus = search.corpus().schema().as_arrow();
    let texts_beside = renamed_rows(table, indexes.rest(), state, scan, &texts, corpus.fields(), &[]).await?;
    Ok(Ok(TextWay { indexes, conditions, output: columns, rows_beside, texts_beside }))
}

/// Rows that the indexes do not speak of, with `columns` of the table under the names of `fields`.
pub(super) async fn renamed_rows(
    table: &dyn VectorAccess,
    rest: Option<&Arc<LanceProvider>>,
    state: &SessionState,
    scan: &TableScan,
    columns: &[usize],
    fields: &arrow::datatypes::Fields,
    filters: &[Expr],
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut read = columns.to_vec();
    read.sort_unstable();
    read.dedup();
    let mut parts = Vec::with_capacity(2);
    if let Some(rest) = rest {
        parts.push(rest.scan(state, Some(&read), filters, None).await?);
    }
    parts.extend(table.beside(state, &read, filters)?);
    let rows: Arc<dyn ExecutionPlan> = match parts.len() {
        0 => Arc::new(EmptyExec::new(Arc::new(scan.source.schema().project(&read)?))),
        1 => parts.remove(0),
        _ => UnionExec::try_new(parts)?,
    };
    let schema = rows.schema();
    let columns = columns.iter().zip(fields).map(|(column, field)| {
        let place = read.partition_point(|c| c < column);
        let expr = Arc::new(PhysicalColumn::new(schema.field(place).name(), place));
        ProjectionExpr { expr, alias: field.name().clone() }
    });
    Ok(Arc::new(ProjectionExec::try_new(columns, rows)?))
}

/// Why a table of the database has no index for a search of these columns, as far as its definition tells.
fn why_none(source: &dyn TableProvider, columns: &[String]) -> Option<String> {
    let any: &dyn std::any::Any = source;
    let definition = any.downcast_ref::<StoreProvider>()?.definition();
    let without = columns.iter().find(|column| {
        let of_column = |i: &&triune_storage::table::IndexDef| {
            i.method() == IndexMethod::FullText && i.columns().contains(column)
        };
        !definition.indexes().iter().any(|i| of_column(&i))
    })?;
    Some(format!("no full-text index on {without}"))
}

/// How words are made in a search of these columns that does not say it: as the table's full-text index of the first
/// column that has one does it. `None` without an index.
pub(crate) fn usual_analysis(rows: &LogicalPlan, columns: &[Column]) -> Option<AnalysisOptions> {
    columns.iter().find_map(|column| {
        let (scan, place) = source_of(rows, rows.schema().maybe_index_of_column(column)?)?;
        let source = source_as_provider(&scan.source).ok()?;
        let any: &dyn std::any::Any = source.as_ref();
        let table = any.downcast_ref::<StoreProvider>()?;
        let schema = scan.source.schema();
        let name = schema.field(place).name();
        let indexes = table.definition().indexes();
        let index = indexes
            .iter()
            .find(|i| i.method() == IndexMethod::FullText && i.columns().iter().any(|c| c == name))?;
        Some(AnalysisOptions::of_index(index.options()))
    })
}
