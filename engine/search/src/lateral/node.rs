//! The logical plan's node of a search per row.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema, DFSchemaRef, DataFusionError, Result, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use triune_common::Error;
use triune_vector::kernels::Metric;

use crate::node::without_alias;

/// In which order the rows of a query come, and which of them count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// The nearest first; rows without a distance are no results: `vector_search`.
    Nearest,
    /// `ORDER BY distance`: rows without a distance are results too, NaN after all numbers.
    Ascending { nulls_first: bool },
    /// `ORDER BY similarity DESC`: the nearest first, after NaN.
    Descending { nulls_first: bool },
}

impl Order {
    /// Which rows come before which, by class and then by distance; `None` is no result.
    pub(crate) fn class(self, is_null: bool, is_nan: bool) -> Option<u8> {
        let null = |first: bool| Some(if first { 0 } else { 3 });
        match (self, is_null, is_nan) {
            (Self::Nearest, false, false) => Some(1),
            (Self::Nearest, _, _) => None,
            (Self::Ascending { nulls_first } | Self::Descending { nulls_first }, true, _) => {
                null(nulls_first)
            }
            (Self::Ascending { .. }, false, nan) => Some(if nan { 2 } else { 1 }),
            (Self::Descending { .. }, false, nan) => Some(if nan { 1 } else { 2 }),
        }
    }
}

/// What is asked of each search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LateralSpec {
    pub k: usize,
    /// How many of the first rows are left out: OFFSET.
    pub skip: usize,
    pub metric: Metric,
    pub order: Order,
    /// Whether rows of the left side without results are kept, with NULLs.
    pub left_join: bool,
    /// How many partitions of an index are read; the index decides when it is `None`.
    pub nprobes: Option<u32>,
    /// How many times `k` candidates of an index are compared by their full vectors.
    pub refine_factor: Option<u32>,
    /// Whether an index must not be used.
    pub exact: bool,
}

/// For each row of `left` the `k` nearest rows of `right`.
///
/// *Output*: the columns of both sides that are asked for, the distance (`Float32`), and whether there was a
/// row (`Boolean`, true or NULL: NULL only with `left_join`). *Expressions*: the column over `right`, the query
/// over `left`, the condition over both. Nothing moves through the node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LateralSearchNode {
    left: Arc<LogicalPlan>,
    right: Arc<LogicalPlan>,
    column: Expr,
    query: Expr,
    filter: Option<Expr>,
    spec: LateralSpec,
    distance: (Option<TableReference>, String),
    /// Whether conditions of the `WHERE` above belong below the search.
    adopts: bool,
    /// The columns that are given out; `None` is all of them.
    output: Option<Vec<Column>>,
    schema: DFSchemaRef,
}

/// The name of the column that says whether there was a row.
pub(crate) const FOUND: &str = "__lateral_found";

/// What a node is made of, apart from its inputs.
#[derive(Debug, Clone)]
pub struct Parts {
    pub column: Expr,
    pub query: Expr,
    pub filter: Option<Expr>,
    pub spec: LateralSpec,
    pub distance: (Option<TableReference>, String),
    pub adopts: bool,
}

impl LateralSearchNode {
    /// # Errors
    /// If the two sides have a column of the same name.
    pub fn try_new(left: Arc<LogicalPlan>, right: Arc<LogicalPlan>, parts: Parts) -> Result<Self> {
        let Parts { column, query, filter, spec, distance, adopts } = parts;
        let schema = schema_of(&left, &right, None, &distance, spec.left_join)?;
        Ok(Self { left, right, column, query, filter, spec, distance, adopts, output: None, schema })
    }

    pub fn left(&self) -> &Arc<LogicalPlan> {
        &self.left
    }

    pub fn right(&self) -> &Arc<LogicalPlan> {
        &self.right
    }

    pub fn column(&self) -> &Expr {
        &self.column
    }

    pub fn query(&self) -> &Expr {
        &self.query
    }

    pub fn filter(&self) -> Option<&Expr> {
        self.filter.as_ref()
    }

    pub fn spec(&self) -> &LateralSpec {
        &self.spec
    }

    pub fn adopts(&self) -> bool {
        self.adopts
    }

    pub fn schema_ref(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// The columns given out, as places in the left and in the right side.
    ///
    /// # Errors
    /// Internal, if a column has gone from the inputs.
    pub fn output_indices(&self) -> Result<(Vec<usize>, Vec<usize>)> {
        output_indices(self.left.schema(), self.right.schema(), self.output.as_deref())
    }

    /// The places in the output of the two columns that the node adds.
    pub(crate) fn own_columns(&self) -> [usize; 2] {
        let all = self.schema.fields().len();
        [all - 2, all - 1]
    }

    /// The same searches giving out only the columns at `keep` and the node's own two.
    pub(crate) fn narrowed(&self, keep: &[usize]) -> Result<Self> {
        let [own, _] = self.own_columns();
        let mut keep: Vec<usize> = keep.iter().copied().filter(|i| *i < own).collect();
        keep.sort_unstable();
        keep.dedup();
        let output: Vec<Column> =
            keep.into_iter().map(|i| Column::from(self.schema.qualified_field(i))).collect();
        let schema = schema_of(&self.left, &self.right, Some(&output), &self.distance, self.spec.left_join)?;
        Ok(Self { output: Some(output), schema, ..self.clone() })
    }

    /// The same searches over other rows of the same columns.
    pub(crate) fn with_inputs(&self, left: Arc<LogicalPlan>, right: Arc<LogicalPlan>) -> Result<Self> {
        let output = self.output.as_deref();
        let schema = schema_of(&left, &right, output, &self.distance, self.spec.left_join)?;
        Ok(Self { left, right, schema, ..self.clone() })
    }

    pub(crate) fn find(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(e) => e.node.as_any().downcast_ref::<Self>(),
            _ => None,
        }
    }
}

fn output_indices(
    left: &DFSchema,
    right: &DFSchema,
    output: Option<&[Column]>,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let Some(output) = output else {
        return Ok(((0..left.fields().len()).collect(), (0..right.fields().len()).collect()));
    };
    let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
    for column in output {
        match left.maybe_index_of_column(column) {
            Some(i) => of_left.push(i),
            None => of_right.push(right.index_of_column(column)?),
        }
    }
    Ok((of_left, of_right))
}

fn schema_of(
    left: &LogicalPlan,
    right: &LogicalPlan,
    output: Option<&[Column]>,
    distance: &(Option<TableReference>, String),
    left_join: bool,
) -> Result<DFSchemaRef> {
    let (left, right) = (left.schema(), right.schema());
    let (of_left, of_right) = output_indices(left, right, output)?;
    let mut fields = Vec::new();
    for i in of_left {
        let (r, f) = left.qualified_field(i);
        fields.push((r.cloned(), Arc::clone(f)));
    }
    for i in of_right {
        let (r, f) = right.qualified_field(i);
        let nullable = f.is_nullable() || left_join;
        fields.push((r.cloned(), Arc::new(f.as_ref().clone().with_nullable(nullable))));
    }
    fields.push((distance.0.clone(), Arc::new(Field::new(&distance.1, DataType::Float32, true))));
    fields.push((None, Arc::new(Field::new(FOUND, DataType::Boolean, true))));
    Ok(Arc::new(DFSchema::new_with_metadata(fields, left.metadata().clone())?))
}

impl PartialOrd for LateralSearchNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let parts = |n: &Self| (n.column.clone(), n.query.clone(), n.filter.clone(), n.spec.k);
        let order = (&self.left, &self.right)
            .partial_cmp(&(&other.left, &other.right))?
            .then(parts(self).partial_cmp(&parts(other))?);
        // Equal must mean equal.
        (order.is_ne() || self == other).then_some(order)
    }
}

impl UserDefinedLogicalNodeCore for LateralSearchNode {
    fn name(&self) -> &str {
        "LateralSearch"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        [self.column.clone(), self.query.clone()].into_iter().chain(self.filter.clone()).collect()
    }

    // As for `VectorSearchNode`, predicates and limits stay above.

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LateralSpec { k, skip, metric, order, left_join, .. } = &self.spec;
        let kind = if *left_join { "left" } else { "inner" };
        let metric = metric.name();
        write!(f, "LateralSearch: join={kind}, column={}, metric={metric}, k={k}", self.column)?;
        if *skip > 0 {
            write!(f, ", skip={skip}")?;
        }
        if *order != Order::Nearest {
            write!(f, ", order={order:?}")?;
        }
        write!(f, ", query={}", self.query)?;
        if let Some(filter) = &self.filter {
            write!(f, ", filter={filter}")?;
        }
        if let Some(output) = &self.output {
            let names: Vec<_> = output.iter().map(ToString::to_string).collect();
            write!(f, ", output=[{}]", names.join(", "))?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let broken = || DataFusionError::from(Error::internal("searches per row were rebuilt incompletely"));
        let mut exprs = exprs.into_iter().map(without_alias);
        let mut inputs = inputs.into_iter();
        let (left, right) = (inputs.next().ok_or_else(broken)?, inputs.next().ok_or_else(broken)?);
        let mut new = self.with_inputs(Arc::new(left), Arc::new(right))?;
        new.column = exprs.next().ok_or_else(broken)?;
        new.query = exprs.next().ok_or_else(broken)?;
        if self.filter.is_some() {
            new.filter = Some(exprs.next().ok_or_else(broken)?);
        }
        Ok(new)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let (left, right) = self.output_indices().ok()?;
        let of_left = output_columns.iter().filter_map(|i| left.get(*i).copied()).collect();
        let of_right =
            output_columns.iter().filter_map(|i| right.get(i.checked_sub(left.len())?).copied()).collect();
        Some(vec![of_left, of_right])
    }
}
