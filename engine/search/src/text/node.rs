//! The logical plan's node of a text search.
//!
//! ```text
//! Sort: s._score DESC NULLS LAST, s.id ASC NULLS LAST, fetch=10
//!   TextSearch: columns=[s.title], query=Utf8("solar"), k=10
//!     Filter: s.lang = 'en'                    ← the rows: conditions of the statement go here
//!       SubqueryAlias: s
//!         TableScan: docs
//!     Projection: docs.title                   ← all texts of the table, which make the statistics
//!       TableScan: docs
//! ```
//!
//! The sort is the top-k. Rows of one score come by the table's first column that has an order and is not
//! searched, so that a result does not depend on which part of the table was read first; rows that are
//! alike in that column too may come in any order.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, TableReference};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, Sort, UserDefinedLogicalNodeCore};
use triune_common::Error;

use super::analysis::AnalysisOptions;
use super::query::QueryOptions;
use crate::node::without_alias;
use crate::recency::Recency;

/// What is asked of a text search, checked and complete.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TextSpec {
    /// How many rows; 1 to [`crate::MAX_K`].
    pub k: usize,
    /// How the query text is read.
    pub query: QueryOptions,
    /// How texts become words.
    pub analysis: AnalysisOptions,
    /// Whether an index must not be used.
    pub exact: bool,
}

/// Rows of the first input that match a query text, with their scores.
///
/// *Inputs*: the rows, and the texts of the whole table: one column for each searched one. *Output*: the
/// rows' columns, then the score as `Float32`, never NULL. *Expressions*: the searched columns, the query, those of
/// the recency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextSearchNode {
    rows: Arc<LogicalPlan>,
    corpus: Arc<LogicalPlan>,
    columns: Vec<Expr>,
    query: Expr,
    spec: TextSpec,
    score: (Option<TableReference>, String),
    recency: Option<Recency>,
    schema: DFSchemaRef,
}

impl TextSearchNode {
    /// # Errors
    /// If the rows have a column of the score's name already.
    pub fn try_new(
        rows: Arc<LogicalPlan>,
        corpus: Arc<LogicalPlan>,
        columns: Vec<Expr>,
        query: Expr,
        spec: TextSpec,
        score: (Option<TableReference>, String),
    ) -> Result<Self> {
        let schema = schema_of(&rows, &score)?;
        Ok(Self { rows, corpus, columns, query, spec, score, recency: None, schema })
    }

    /// The same search with another factor for its scores.
    #[must_use]
    pub fn with_recency(self, recency: Option<Recency>) -> Self {
        Self { recency, ..self }
    }

    /// What scores are multiplied by.
    pub fn recency(&self) -> Option<&Recency> {
        self.recency.as_ref()
    }

    /// The rows that are searched.
    pub fn rows(&self) -> &Arc<LogicalPlan> {
        &self.rows
    }

    /// All texts of the table.
    pub fn corpus(&self) -> &Arc<LogicalPlan> {
        &self.corpus
    }

    /// The searched columns, over the rows.
    pub fn columns(&self) -> &[Expr] {
        &self.columns
    }

    /// The query text, an expression without columns.
    pub fn query(&self) -> &Expr {
        &self.query
    }

    pub fn spec(&self) -> &TextSpec {
        &self.spec
    }

    /// The score as a column.
    pub fn score_column(&self) -> Column {
        Column::new(self.score.0.clone(), self.score.1.clone())
    }

    /// The same search over other rows of the same table.
    pub(crate) fn with_rows(&self, rows: Arc<LogicalPlan>) -> Result<Self> {
        let schema = schema_of(&rows, &self.score)?;
        Ok(Self { rows, schema, ..self.clone() })
    }

    /// The same search for another number of rows.
    pub(crate) fn with_k(&self, k: usize) -> Self {
        Self { spec: TextSpec { k, ..self.spec.clone() }, ..self.clone() }
    }

    /// The node in a plan, below the sort that is its top-k.
    ///
    /// # Errors
    /// Internal only.
    pub fn into_plan(self) -> Result<LogicalPlan> {
        let mut expr = vec![Expr::Column(self.score_column()).sort(false, false)];
        let tie = self.rows.schema().iter().find_map(|(relation, field)| {
            let column = Expr::Column(Column::new(relation.cloned(), field.name()));
            (has_order(field.data_type()) && !self.columns.contains(&column)).then_some(column)
        });
        expr.extend(tie.map(|column| column.sort(true, false)));
        let fetch = Some(self.spec.k);
        let search = LogicalPlan::Extension(Extension { node: Arc::new(self) });
        Ok(LogicalPlan::Sort(Sort { expr, input: Arc::new(search), fetch }))
    }

    /// The search at the top of `plan`, with or without the sort of [`Self::into_plan`].
    pub fn find(plan: &LogicalPlan) -> Option<&Self> {
        let plan = match plan {
            LogicalPlan::Sort(sort) if sort.fetch.is_some() => sort.input.as_ref(),
            plan => plan,
        };
        match plan {
            LogicalPlan::Extension(e) => e.node.as_any().downcast_ref::<Self>(),
            _ => None,
        }
    }
}

fn has_order(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || data_type.is_temporal()
        || matches!(
            data_type,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean | DataType::Binary
        )
}

fn schema_of(rows: &LogicalPlan, score: &(Option<TableReference>, String)) -> Result<DFSchemaRef> {
    let from = rows.schema();
    let (relation, name) = score;
    if from.iter().any(|(r, f)| f.name() == name && (r == relation.as_ref() || relation.is_none())) {
        return Err(Error::invalid(format!(
            "the table has a column \"{name}\" already, the name that the search gives its scores"
        ))
        .with_hint("rename the column in a sub-query or a view and search that")
        .into());
    }
    let mut fields: Vec<_> = from.iter().map(|(r, f)| (r.cloned(), Arc::clone(f))).collect();
    fields.push((relation.clone(), Arc::new(Field::new(name, DataType::Float32, false))));
    Ok(Arc::new(DFSchema::new_with_metadata(fields, from.metadata().clone())?))
}

impl Hash for TextSearchNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rows.hash(state);
        self.corpus.hash(state);
        self.columns.hash(state);
        self.query.hash(state);
        self.spec.hash(state);
        self.score.hash(state);
        self.recency.hash(state);
    }
}

impl PartialOrd for TextSearchNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        // Equal must mean equal; an order between others is needed by nobody.
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for TextSearchNode {
    fn name(&self) -> &str {
        "TextSearch"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.rows, &self.corpus]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let recency = self.recency.iter().flat_map(Recency::expressions);
        self.columns.iter().cloned().chain([self.query.clone()]).chain(recency).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self.columns.iter().map(ToString::to_string).collect();
        write!(f, "TextSearch: columns=[{}], query={}, k={}", columns.join(", "), self.query, self.spec.k)?;
        match &self.recency {
            Some(recency) => write!(f, ", {recency}"),
            None => Ok(()),
        }
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let broken = |what: &str| Error::internal(format!("a text search was rebuilt without its {what}"));
        let recency = match &self.recency {
            Some(recency) => Some(recency.with_expressions(&mut exprs).ok_or_else(|| broken("recency"))?),
            None => None,
        };
        let query = exprs.pop().map(without_alias).ok_or_else(|| broken("query"))?;
        if exprs.len() != self.columns.len() {
            return Err(broken("columns").into());
        }
        let mut inputs = inputs.into_iter().map(Arc::new);
        let rows = inputs.next().ok_or_else(|| broken("rows"))?;
        let corpus = inputs.next().ok_or_else(|| broken("texts"))?;
        let columns = exprs.into_iter().map(without_alias).collect();
        let new = Self::try_new(rows, corpus, columns, query, self.spec.clone(), self.score.clone())?;
        Ok(new.with_recency(recency))
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.rows.schema().fields().len();
        // The searched columns are added by the caller, from `expressions`.
        Some(vec![
            output_columns.iter().copied().filter(|i| *i < width).collect(),
            (0..self.corpus.schema().fields().len()).collect(),
        ])
    }
}
