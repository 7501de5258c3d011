//! The logical plan's node of a fusion: see the drawing in [`super`].

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, TableReference};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, Sort, UserDefinedLogicalNodeCore};
use triune_common::Error;

use super::rank::{Method, Number};
use crate::node::without_alias;
use crate::recency::Recency;

/// What is asked of a fusion, checked and complete.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FusionSpec {
    /// How many rows; 1 to [`crate::MAX_K`].
    pub k: usize,
    pub method: Method,
    /// For each part, whether its least score is the best: a distance.
    pub ascending: Vec<bool>,
    /// What becomes of parts that search vectors and cannot answer; an error without it.
    pub fallback: Option<Fallback>,
}

/// `fallback => 'text'`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fallback {
    /// Seconds within which a part must answer.
    pub deadline: Option<Number>,
    /// Why a part was left out before the statement runs.
    pub lost: Option<String>,
}

/// What the columns that a fusion adds are called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Added {
    pub relation: Option<TableReference>,
    pub score: String,
    /// There is one with [`FusionSpec::fallback`].
    pub fallback: Option<String>,
}

impl fmt::Display for FusionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weights = match &self.method {
            Method::Reciprocal { constant, weights } => {
                write!(f, "rrf, rrf_k={constant}")?;
                weights
            }
            Method::Weighted { weights } => {
                write!(f, "weighted")?;
                weights
            }
        };
        if !weights.is_empty() {
            let weights: Vec<_> = weights.iter().map(|w| w.0.to_string()).collect();
            write!(f, ", weights=[{}]", weights.join(", "))?;
        }
        if let Some(Fallback { deadline, lost }) = &self.fallback {
            write!(f, ", fallback=text")?;
            if let Some(deadline) = deadline {
                write!(f, " after {}s", deadline.0)?;
            }
            if let Some(lost) = lost {
                write!(f, " ({lost})")?;
            }
        }
        Ok(())
    }
}

/// The `k` best rows of several searches of one table, best first.
///
/// *Inputs*: searches; each has the columns of the table, under one alias, and its score at the end. *Output*: the
/// columns of the table, then the score as `Float64`, never NULL; with a fallback a text that is NULL if every part
/// answered. *Expressions*: the key's columns, those of the recency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FusionNode {
    parts: Vec<Arc<LogicalPlan>>,
    key: Vec<Expr>,
    spec: FusionSpec,
    added: Added,
    recency: Option<Recency>,
    schema: DFSchemaRef,
}

impl FusionNode {
    /// # Errors
    /// If the table has a column of the score's name already; internal, if the parts have different columns.
    pub fn try_new(
        parts: Vec<Arc<LogicalPlan>>,
        key: Vec<Expr>,
        spec: FusionSpec,
        added: Added,
    ) -> Result<Self> {
        let schema = schema_of(&parts, &added)?;
        Ok(Self { parts, key, spec, added, recency: None, schema })
    }

    /// The same fusion with another factor for its scores.
    #[must_use]
    pub fn with_recency(self, recency: Option<Recency>) -> Self {
        Self { recency, ..self }
    }

    /// What scores are multiplied by.
    pub fn recency(&self) -> Option<&Recency> {
        self.recency.as_ref()
    }

    /// The searches.
    pub fn parts(&self) -> &[Arc<LogicalPlan>] {
        &self.parts
    }

    /// The columns that tell rows apart, over each part.
    pub fn key(&self) -> &[Expr] {
        &self.key
    }

    pub fn spec(&self) -> &FusionSpec {
        &self.spec
    }

    /// What the added columns are called.
    pub fn added(&self) -> &Added {
        &self.added
    }

    /// How many columns the table has.
    pub(crate) fn width(&self) -> usize {
        self.schema.fields().len() - 1 - usize::from(self.added.fallback.is_some())
    }

    /// The same fusion of other searches, which have the same columns.
    pub(crate) fn with_parts(&self, parts: Vec<LogicalPlan>) -> Result<Self> {
        let parts = parts.into_iter().map(Arc::new).collect();
        let new = Self::try_new(parts, self.key.clone(), self.spec.clone(), self.added.clone())?;
        Ok(new.with_recency(self.recency.clone()))
    }

    /// The node in a plan, below a sort with a fetch of `k` that changes nothing: see
    /// [`crate::VectorSearchNode::into_plan`].
    pub fn into_plan(self) -> LogicalPlan {
        let fetch = Some(self.spec.k);
        let score = Column::new(self.added.relation.clone(), self.added.score.clone());
        let expr = vec![Expr::Column(score).sort(false, false)];
        let fusion = LogicalPlan::Extension(Extension { node: Arc::new(self) });
        LogicalPlan::Sort(Sort { expr, input: Arc::new(fusion), fetch })
    }

    /// The fusion at the top of `plan`, with or without the sort of [`Self::into_plan`].
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

fn schema_of(parts: &[Arc<LogicalPlan>], added: &Added) -> Result<DFSchemaRef> {
    let Some(first) = parts.first() else { return Err(Error::internal("a fusion has no parts").into()) };
    let width = first.schema().fields().len().saturating_sub(1);
    let names = |plan: &LogicalPlan| -> Vec<String> {
        plan.schema().fields().iter().take(width).map(|f| f.name().clone()).collect()
    };
    if parts.iter().any(|p| p.schema().fields().len() != width + 1 || names(p) != names(first)) {
        return Err(Error::internal("the parts of a fusion have different columns").into());
    }
    let (relation, from) = (&added.relation, first.schema());
    let taken = |name: &String| {
        from.iter()
            .take(width)
            .any(|(r, f)| f.name() == name && (r == relation.as_ref() || relation.is_none()))
    };
    if let Some(name) = [Some(&added.score), added.fallback.as_ref()].into_iter().flatten().find(|n| taken(n))
    {
        return Err(Error::invalid(format!(
            "the table has a column \"{name}\" already, a name that the search gives to a column of its own"
        ))
        .with_hint("rename the column in a sub-query or a view and search that")
        .into());
    }
    let mut fields: Vec<_> = from.iter().take(width).map(|(r, f)| (r.cloned(), Arc::clone(f))).collect();
    fields.push((relation.clone(), Arc::new(Field::new(&added.score, DataType::Float64, false))));
    if let Some(name) = &added.fallback {
        fields.push((relation.clone(), Arc::new(Field::new(name, DataType::Utf8, true))));
    }
    Ok(Arc::new(DFSchema::new_with_metadata(fields, from.metadata().clone())?))
}

impl Hash for FusionNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts.hash(state);
        self.key.hash(state);
        self.spec.hash(state);
        self.added.hash(state);
        self.recency.hash(state);
    }
}

impl PartialOrd for FusionNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        // Equal must mean equal; an order between others is needed by nobody.
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for FusionNode {
    fn name(&self) -> &str {
        "Fusion"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.parts.iter().map(AsRef::as_ref).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let recency = self.recency.iter().flat_map(Recency::expressions);
        self.key.iter().cloned().chain(recency).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key: Vec<_> = self.key.iter().map(ToString::to_string).collect();
        write!(f, "Fusion: {}, key=[{}], k={}", self.spec, key.join(", "), self.spec.k)?;
        match &self.recency {
            Some(recency) => write!(f, ", {recency}"),
            None => Ok(()),
        }
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let recency = self.recency.as_ref().and_then(|r| r.with_expressions(&mut exprs));
        if exprs.len() != self.key.len() || inputs.len() != self.parts.len() {
            return Err(Error::internal("a fusion was rebuilt without its key or its parts").into());
        }
        let mut new = self.with_parts(inputs)?;
        new.key = exprs.into_iter().map(without_alias).collect();
        Ok(new.with_recency(recency))
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.width();
        let mut columns: Vec<usize> = output_columns.iter().copied().filter(|i| *i < width).collect();
        // The key's columns are added by the caller, from `expressions`; the part's score is at its end.
        columns.push(width);
        Some(vec![columns; self.parts.len()])
    }
}
