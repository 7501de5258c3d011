//! Searches per row of another relation through an index.
//!
//! ```text
//! LateralTopKExec: access=index near        for each query:  LanceAnnExec                   rows on disk
//!   <left>                            ─►    for all together: a pass over the rows in memory
//!   <right>                                 a pass over every row, where that costs less or an index fails
//! ```

use std::sync::Arc;

use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_plan::ExecutionPlan;
use triune_common::Error;

use super::searched::{Searched, has_table, scan_of};
use super::text::renamed_rows;
use super::way::{Template, choose};
use super::{UsedIndex, WhyNone, access_of, metric_of};
use crate::DISTANCE_COLUMN;
use crate::lateral::LateralSearchNode;
use crate::lateral::node::Order;
use crate::settings::{SEARCH_MODE, SearchMode};
use crate::spec::{Missing, SearchSpec};
use crate::vectors::vector_type;

/// What a search through an index costs before it compares a vector, in numbers that could be compared instead.
const SEARCH: f64 = 24e6;
/// What reading and decoding a number costs, in numbers compared.
const READING: f64 = 16.0;

/// A table that is searched by one vector after the other.
#[derive(Debug, Clone)]
pub(crate) struct IndexedRows {
    template: Template,
    index: UsedIndex,
    /// Numbers that all its vectors have.
    numbers: f64,
    /// Whether the index is gone through whatever it costs, and one that cannot be read is an error.
    pub(crate) strict: bool,
}

/// Searches per row through an index.
#[derive(Debug)]
pub(crate) struct RowsWay {
    pub(crate) indexed: IndexedRows,
    /// The rows that the index does not speak of, as the searched rows are.
    pub(crate) beside: Arc<dyn ExecutionPlan>,
}

impl IndexedRows {
    /// The nearest of the rows on disk: the columns given out of the searched side, then the distance.
    ///
    /// # Errors
    /// Those of the query, and of reading the description of the index.
    pub(crate) async fn nearest(&self, query: &ScalarValue) -> Result<Arc<dyn ExecutionPlan>> {
        self.template.plan(query, Vec::new()).await
    }

    /// Whether so many searches cost less than comparing every row with all queries in one pass.
    pub(crate) fn pays(&self, queries: usize) -> bool {
        self.strict || queries as f64 * SEARCH < self.numbers * (queries as f64 + READING)
    }

    pub(crate) fn index(&self) -> &UsedIndex {
        &self.index
    }

    /// Has searches pass the index over from now on, if the error is one of what it holds.
    pub(crate) fn report(&self, error: &Error) {
        self.index.report(error);
    }
}

/// The way through an index; else why every row is compared, where the table might have had one.
///
/// # Errors
/// Of reading the table's state and of planning. Not those of an index.
pub(crate) async fn rows_way(
    search: &LateralSearchNode,
    mode: SearchMode,
    state: &SessionState,
) -> Result<std::result::Result<RowsWay, Option<String>>> {
    let because = |why: &str| Ok(Err(Some(why.to_owned())));
    let spec = search.spec();
    let Some(Searched { scan, columns, joins }) = scan_of(search.right())? else {
        let why = "the rows searched are not a table with conditions of one row".to_owned();
        return Ok(Err(has_table(search.right()).then_some(why)));
    };
    let Ok(source) = source_as_provider(&scan.source) else { return Ok(Err(None)) };
    let Some(table) = access_of(source.as_ref()) else { return Ok(Err(None)) };
    if spec.exact {
        return because("exact was asked for");
    }
    if mode == SearchMode::Exact {
        return Ok(Err(Some(format!("{SEARCH_MODE} = exact"))));
    }
    if search.filter().is_some() {
        return because("the conditions depend on the other side");
    }
    if !joins.is_empty() {
        return because("the rows are chosen by keys of another table");
    }
    if !matches!(spec.order, Order::Nearest | Order::Ascending { nulls_first: false }) {
        return because("rows without a distance come first");
    }
    let Some(metric) = metric_of(spec.metric) else {
        return Ok(Err(Some(format!("no index has the metric {}", spec.metric.name()))));
    };
    if scan.fetch.is_some() {
        return because("the table is searched only in part");
    }
    let Expr::Column(column) = search.column() else { return Ok(Err(None)) };
    let (_, output) = search.output_indices()?;
    let output: Option<Vec<usize>> = output.into_iter().map(|i| columns.get(i).copied()).collect();
    let place = columns.get(search.right().schema().index_of_column(column)?);
    let (Some(output), Some(place)) = (output, place) else { return Ok(Err(None)) };
    let schema = scan.source.schema();
    let field = Arc::clone(&schema.fields()[*place]);
    if output.iter().any(|c| schema.field(*c).name() == DISTANCE_COLUMN) {
        return because("the table has a column \"_distance\"");
    }
    let told = table.why_none(field.name(), metric);
    let provider = match table.indexed(&scan.filters)? {
        Ok(provider) => provider,
        Err(why) => return Ok(Err(Some(WhyNone::and(told, why)))),
    };
    let index = match provider.vector_indexes(field.name()).await {
        Ok(indexes) => match choose(&indexes, field.name(), metric) {
            Ok(index) => index.clone(),
            Err(why) => return Ok(Err(Some(WhyNone::or(told, &provider, why)))),
        },
        Err(e) => return Ok(Err(Some(format!("the indexes of the table cannot be read: {}", e.message())))),
    };
    let defaults = table.defaults(&index.name);
    let template = Template {
        provider: provider.as_ref().clone(),
        column: Arc::clone(&field),
        metric,
        spec: SearchSpec {
            k: spec.k + spec.skip,
            metric: spec.metric,
            nprobes: spec.nprobes.or(defaults.nprobes),
            refine_factor: spec.refine_factor.or(defaults.refine_factor),
            exact: false,
            missing: Missing::LeftOut,
            diversity: None,
        },
        filter: conjunction(scan.filters.clone()),
        output,
    };
    let right = search.right().schema().as_arrow();
    let beside = renamed_rows(table, None, state, scan, &columns, right.fields(), &scan.filters).await?;
    let dims = vector_type(&field).map_or(1, |ty| ty.list_size());
    let indexed = IndexedRows {
        template,
        numbers: provider.rows() as f64 * dims as f64,
        index: UsedIndex { provider, name: index.name },
        strict: mode == SearchMode::Index,
    };
    Ok(Ok(RowsWay { indexed, beside }))
}
