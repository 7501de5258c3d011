//! The logical plan's node of a search.
//!
//! ```text
//! Sort: v._distance ASC NULLS LAST, fetch=10                     ← see `into_plan`
//!   VectorSearch: column=v.embedding, metric=cosine, k=10, query=[384 dimensions]
//!     Filter: v.lang = 'en'
//!       SubqueryAlias: v
//!         TableScan: docs
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{
    Column, DFSchema, DFSchemaRef, DataFusionError, Result, ScalarValue, TableReference,
};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, Sort, UserDefinedLogicalNodeCore};
use triune_common::Error;

use crate::spec::{Missing, SearchSpec};

/// The `k` rows of the input that are nearest to a query vector, nearest first.
///
/// *Input*: one plan; `column` is a vector column of it. *Output*: the columns of the input that are
/// asked for (all of them unless [`crate::NarrowSearchRule`] has taken some away), then the distance as
/// `Float32` (NULL only with [`Missing::Last`]). *Expressions*: the column and the query. The query does not depend on the input;
/// a scalar sub-query in it stays an expression, which DataFusion plans beside the tree and runs before
/// it, so nothing that is pushed into inputs can reach it.
///
/// Nothing moves through the node: it decides which rows there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorSearchNode {
    input: Arc<LogicalPlan>,
    column: Expr,
    query: Expr,
    /// Columns of the input; each combination of their values has k rows of its own.
    per: Vec<Expr>,
    spec: SearchSpec,
    /// The relation and the name that the distance goes by.
    distance: (Option<TableReference>, String),
    /// The input's columns that are given out, in the input's order; `None` is all of them.
    output: Option<Vec<Column>>,
    schema: DFSchemaRef,
}

impl VectorSearchNode {
    /// A search that gives out every column.
    ///
    /// # Errors
    /// If the input has a column of the distance's name already.
    pub fn try_new(
        input: Arc<LogicalPlan>,
        column: Expr,
        query: Expr,
        spec: SearchSpec,
        distance: (Option<TableReference>, String),
    ) -> Result<Self> {
        let schema = schema_of(&input, None, &distance, spec.missing)?;
        Ok(Self { input, column, query, per: Vec::new(), spec, distance, output: None, schema })
    }

    /// The same search with k rows for each combination of values of some of the input's columns.
    #[must_use]
    pub fn with_per(self, per: Vec<Expr>) -> Self {
        Self { per, ..self }
    }

    /// The columns whose values make groups.
    pub fn per(&self) -> &[Expr] {
        &self.per
    }

    /// The nearest `k` of the same rows as far as they are asked for, without regard to what they have in common.
    pub(crate) fn of_candidates(&self, k: usize, column: &Column) -> Result<Self> {
        let spec = SearchSpec { k, diversity: None, ..self.spec.clone() };
        let mut output = self.output.clone();
        if let Some(output) = &mut output
            && !output.contains(column)
        {
            // In the input's order, as all searches have them.
            let place = self.input.schema().index_of_column(column)?;
            let mut at = output.len();
            for (i, other) in output.iter().enumerate().rev() {
                if self.input.schema().index_of_column(other)? > place {
                    at = i;
                }
            }
            output.insert(at, column.clone());
        }
        let schema = schema_of(&self.input, output.as_deref(), &self.distance, self.spec.missing)?;
        Ok(Self { output, schema, spec, ..self.clone() })
    }

    /// The rows that are searched.
    pub fn input(&self) -> &Arc<LogicalPlan> {
        &self.input
    }

    /// The vector column, an expression over the input.
    pub fn column(&self) -> &Expr {
        &self.column
    }

    /// The query vector, an expression without columns.
    pub fn query(&self) -> &Expr {
        &self.query
    }

    /// k, metric and the options for an index.
    pub fn spec(&self) -> &SearchSpec {
        &self.spec
    }

    /// The place of the distance in the output: the last.
    pub fn distance_index(&self) -> usize {
        self.schema.fields().len() - 1
    }

    /// The distance as a column.
    pub fn distance_column(&self) -> Column {
        Column::new(self.distance.0.clone(), self.distance.1.clone())
    }

    /// The input's columns that are given out, as places in the input.
    ///
    /// # Errors
    /// Internal, if a column has gone from the input.
    pub fn output_indices(&self) -> Result<Vec<usize>> {
        output_indices(self.input.schema(), self.output.as_deref())
    }

    /// The same search giving out only the columns at `keep` (places in the output) and the distance.
    pub fn narrowed(&self, keep: &[usize]) -> Result<Self> {
        let mut keep = keep.to_vec();
        keep.sort_unstable();
        keep.dedup();
        let output: Vec<Column> = keep
            .into_iter()
            .filter(|i| *i < self.distance_index())
            .map(|i| Column::from(self.schema.qualified_field(i)))
            .collect();
        let schema = schema_of(&self.input, Some(&output), &self.distance, self.spec.missing)?;
        Ok(Self { output: Some(output), schema, ..self.clone() })
    }

    /// The same search over other rows of the same columns.
    pub fn with_input(&self, input: Arc<LogicalPlan>) -> Result<Self> {
        let schema = schema_of(&input, self.output.as_deref(), &self.distance, self.spec.missing)?;
        Ok(Self { input, schema, ..self.clone() })
    }

    /// A search for as many rows by the same query, over other rows; it gives out all of their columns.
    pub(crate) fn over(&self, input: Arc<LogicalPlan>, column: Column) -> Result<Self> {
        let mut name = "__distance".to_owned();
        while input.schema().fields().iter().any(|f| f.name() == &name) {
            name.push('_');
        }
        Self::try_new(input, Expr::Column(column), self.query.clone(), self.spec.clone(), (None, name))
    }

    /// The same search for another number of rows.
    pub(crate) fn with_k(&self, k: usize) -> Self {
        Self { spec: SearchSpec { k, ..self.spec.clone() }, ..self.clone() }
    }

    /// The node in a plan, below a sort with a fetch of `k` that changes nothing.
    ///
    /// The sort is how DataFusion learns that the order matters: without one, its distribution rule may
    /// deal out the rows to several partitions again and gather them as they come. It costs nothing,
    /// because the operators of a search are ordered and the sort is taken out over ordered input. Its
    /// fetch is how every rule, DataFusion's and others', learns that filters must not pass: an extension
    /// node cannot say so for filters without columns (`random() < 0.5`).
    pub fn into_plan(self) -> LogicalPlan {
        // Of groups nobody knows how many there are.
        let fetch = Some(if self.per.is_empty() { self.spec.k } else { ALL_GROUPS });
        let expr = vec![Expr::Column(self.distance_column()).sort(true, false)];
        let search = LogicalPlan::Extension(Extension { node: Arc::new(self) });
        LogicalPlan::Sort(Sort { expr, input: Arc::new(search), fetch })
    }

    /// The search at the top of `plan`, with or without the sort that [`Self::into_plan`] puts above it.
    pub fn find(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Sort(sort) if sort.fetch.is_some() => Self::find_bare(&sort.input),
            plan => Self::find_bare(plan),
        }
    }

    fn find_bare(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(e) => e.node.as_any().downcast_ref::<Self>(),
            _ => None,
        }
    }
}

/// More rows than a search finds.
const ALL_GROUPS: usize = u32::MAX as usize;

/// The type of the distance: NULL only where rows without a distance are kept.
pub(crate) fn distance_field(name: &str, missing: Missing) -> Field {
    Field::new(name, DataType::Float32, missing == Missing::Last)
}

/// The expression below its aliases.
pub(crate) fn without_alias(mut expr: Expr) -> Expr {
    while let Expr::Alias(alias) = expr {
        expr = *alias.expr;
    }
    expr
}

fn output_indices(input: &DFSchema, output: Option<&[Column]>) -> Result<Vec<usize>> {
    match output {
        None => Ok((0..input.fields().len()).collect()),
        Some(columns) => columns.iter().map(|c| input.index_of_column(c)).collect(),
    }
}

fn schema_of(
    input: &LogicalPlan,
    output: Option<&[Column]>,
    distance: &(Option<TableReference>, String),
    missing: Missing,
) -> Result<DFSchemaRef> {
    let from = input.schema();
    let (relation, name) = distance;
    if from.iter().any(|(r, f)| f.name() == name && (r == relation.as_ref() || relation.is_none())) {
        let of = relation.as_ref().map_or_else(|| "the table".to_owned(), |r| format!("\"{r}\""));
        return Err(DataFusionError::from(
            Error::invalid(format!(
                "{of} has a column \"{name}\" already, the name that the search gives its distances"
            ))
            .with_hint("rename the column in a sub-query or a view and search that"),
        ));
    }
    let mut fields = output_indices(from, output)?
        .into_iter()
        .map(|i| {
            let (r, f) = from.qualified_field(i);
            (r.cloned(), Arc::clone(f))
        })
        .collect::<Vec<_>>();
    fields.push((relation.clone(), Arc::new(distance_field(name, missing))));
    Ok(Arc::new(DFSchema::new_with_metadata(fields, from.metadata().clone())?))
}

impl Hash for VectorSearchNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.column.hash(state);
        self.query.hash(state);
        self.per.hash(state);
        self.spec.hash(state);
        self.distance.hash(state);
        self.output.hash(state);
    }
}

impl PartialOrd for VectorSearchNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let parts = |n: &Self| (n.column.clone(), n.query.clone());
        match self.input.partial_cmp(&other.input) {
            Some(Ordering::Equal) => {}
            order => return order,
        }
        match parts(self).partial_cmp(&parts(other)) {
            Some(Ordering::Equal) => {}
            order => return order,
        }
        match (self.spec.k, &self.distance, &self.output).partial_cmp(&(
            other.spec.k,
            &other.distance,
            &other.output,
        )) {
            // Equal must mean equal: what is not compared above decides whether there is an order at all.
            Some(Ordering::Equal) if self == other => Some(Ordering::Equal),
            Some(Ordering::Equal) => {
                self.spec.metric.name().partial_cmp(other.spec.metric.name()).filter(|o| o.is_ne())
            }
            order => order,
        }
    }
}

impl UserDefinedLogicalNodeCore for VectorSearchNode {
    fn name(&self) -> &str {
        "VectorSearch"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        [self.column.clone(), self.query.clone()].into_iter().chain(self.per.iter().cloned()).collect()
    }

    // `prevent_predicate_push_down_columns` keeps its default, all columns, and
    // `supports_limit_pushdown` its default, no: both would change which rows are found.

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "VectorSearch: column={}, metric={}, k={}",
            self.column,
            self.spec.metric.name(),
            self.spec.k
        )?;
        if let Some(nprobes) = self.spec.nprobes {
            write!(f, ", nprobes={nprobes}")?;
        }
        if let Some(refine_factor) = self.spec.refine_factor {
            write!(f, ", refine_factor={refine_factor}")?;
        }
        if self.spec.exact {
            write!(f, ", exact=true")?;
        }
        if !self.per.is_empty() {
            let names: Vec<_> = self.per.iter().map(ToString::to_string).collect();
            write!(f, ", per=[{}]", names.join(", "))?;
        }
        if let Some(diversity) = self.spec.diversity {
            write!(f, ", diversity={}", diversity.share())?;
        }
        if self.spec.missing == Missing::Last {
            write!(f, ", rows without distance last")?;
        }
        write!(f, ", query={}", QueryText(&self.query))?;
        if let Some(output) = &self.output {
            let names: Vec<_> = output.iter().map(ToString::to_string).collect();
            write!(f, ", output=[{}]", names.join(", "))?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let broken = |what: &str| {
            DataFusionError::from(Error::internal(format!("a search was rebuilt without its {what}")))
        };
        let mut exprs = exprs.into_iter();
        // Rules that keep names wrap what they rewrite into aliases; the names mean nothing here.
        let mut next = |what: &str| exprs.next().map(without_alias).ok_or_else(|| broken(what));
        let (column, query) = (next("column")?, next("query")?);
        let per = self.per.iter().map(|_| next("groups")).collect::<Result<Vec<_>>>()?;
        let input = inputs.into_iter().next().ok_or_else(|| broken("input"))?;
        let mut new = self.with_input(Arc::new(input))?;
        new.column = column;
        new.query = query;
        new.per = per;
        Ok(new)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let places = self.output_indices().ok()?;
        // The vector column is added by the caller, from `expressions`.
        Some(vec![output_columns.iter().filter_map(|i| places.get(*i).copied()).collect()])
    }
}

/// A query for people: hundreds of numbers tell nobody anything.
struct QueryText<'a>(&'a Expr);

impl fmt::Display for QueryText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 60;
        let text = match self.0 {
            Expr::Literal(ScalarValue::FixedSizeList(list), _) if list.value_length() > 8 => {
                return write!(f, "[{} dimensions]", list.value_length());
            }
            Expr::Literal(value, _) => value.to_string(),
            other => other.to_string(),
        };
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "{}…", &text[..end]),
            None => f.write_str(&text),
        }
    }
}
