//! New rows: defaults and identities filled in, generated columns computed, NOT NULL and CHECK verified.
//!
//! Expressions of the definition are planned once and evaluated on each batch. They are kept per session as long
//! as the definition stays the same and they do not depend on the time of the statement.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, new_empty_array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::array_value_to_string;
use datafusion::common::tree_node::{TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::async_func::AsyncMapper;
use parking_lot::Mutex;
use triune_common::{Error, ErrorKind, Result};
use triune_storage::stamp::TableId;
use triune_storage::table::TableDef;

use super::assign;
use super::generated::Generated;
use super::query;
use super::target::Target;
use crate::params::Params;
use crate::parser;
use crate::session::SessionCore;
use crate::transaction;
use crate::visit;

const ROW: &str = "@row";

/// An expression that was planned, and its field.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) expr: Arc<dyn PhysicalExpr>,
    pub(super) field: Arc<Field>,
    /// What waits for something; its values are columns after those of the row.
    pub(super) waiting: Arc<AsyncMapper>,
    /// Names of the columns that it reads.
    pub(super) reads: Vec<String>,
}

/// What a definition asks of rows, planned.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// By name of the constraint.
    checks: Vec<(String, Compiled)>,
    /// By place of the column.
    defaults: HashMap<usize, Compiled>,
    pub(super) generated: Generated,
}

/// The rules of tables that a session wrote to.
#[derive(Debug, Default)]
pub(crate) struct RulesCache(Mutex<HashMap<TableId, (u64, Arc<Rules>)>>);

/// The rules of a table, planned now or before.
pub(super) async fn rules(core: &Arc<SessionCore>, target: &Target) -> Result<Arc<Rules>> {
    let def = &target.def;
    if def.checks.is_empty() && def.columns.iter().all(|c| c.default.is_none() && c.generated.is_none()) {
        return Ok(Arc::default());
    }
    if let Some((revision, rules)) = core.rules().0.lock().get(&def.id)
        && *revision == def.revision
    {
        return Ok(Arc::clone(rules));
    }
    let (rules, stable) = plan_rules(core, def, &target.name).await?;
    if rules.generated.waits() {
        // A model may give other vectors than it did when the table was made.
        rules.generated.check(def)?;
    }
    let rules = Arc::new(rules);
    if stable {
        core.rules().0.lock().insert(def.id, (def.revision, Arc::clone(&rules)));
    }
    Ok(rules)
}

/// Plans all rules; whether they hold for other statements too.
pub(crate) async fn plan_rules(core: &Arc<SessionCore>, def: &TableDef, name: &str) -> Result<(Rules, bool)> {
    let schema = def.schema();
    let mut stable = true;
    let texts: Vec<&str> = def.checks.iter().map(|c| c.sql.as_str()).collect();
    let checks = compile(core, &schema, name, &texts, Clause::Check, &mut stable).await?;
    let checks = def.checks.iter().map(|c| c.name.clone()).zip(checks).collect();
    let with_default = def.columns.iter().enumerate().filter_map(|(i, c)| Some((i, c.default.as_deref()?)));
    let (places, texts): (Vec<usize>, Vec<&str>) = with_default.unzip();
    let defaults = compile(core, &Schema::empty().into(), name, &texts, Clause::Default, &mut stable).await?;
    let generated = Generated::plan(core, def, name).await?;
    // A model may be dropped, or become another one, without a change of the definition.
    let stable = stable && !generated.waits();
    Ok((Rules { checks, defaults: places.into_iter().zip(defaults).collect(), generated }, stable))
}

/// Where an expression of a definition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clause {
    Check,
    Default,
    Generated,
}

impl Clause {
    fn label(self) -> &'static str {
        match self {
            Self::Check => "a CHECK",
            Self::Default => "a DEFAULT",
            Self::Generated => "a generated column",
        }
    }
}

/// Plans expressions over one row of a schema.
pub(super) async fn compile(
    core: &Arc<SessionCore>,
    schema: &Arc<Schema>,
    alias: &str,
    texts: &[&str],
    clause: Clause,
    stable: &mut bool,
) -> Result<Vec<Compiled>> {
    if texts.is_empty() {
        return Ok(vec![]);
    }
    let mut items = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let expr = expression(text)?;
        refuse_queries(&expr, clause)?;
        items.push(query::item(expr, format!("e{i}")));
    }
    transaction::put_relation(ROW, Arc::new(EmptyTable::new(Arc::clone(schema))))?;
    let query = query::select(None, items, vec![query::relation(ROW, alias)], None)?;
    let plan = query::plan(core, query, &Params::None).await?;
    let state = core.state();
    let options = Arc::clone(state.config_options());
    let plan = state.analyzer().execute_and_check(plan, &options, |_, _| {})?;
    let of_one_row = |projection: &&Projection| {
        matches!(projection.input.as_ref(), LogicalPlan::SubqueryAlias(_) | LogicalPlan::TableScan(_))
    };
    let projection = match &plan {
        LogicalPlan::Projection(projection) => Some(projection),
        _ => None,
    };
    let Some(projection) = projection.filter(of_one_row) else {
        return Err(Error::invalid(format!("{} takes an expression of one row", clause.label()))
            .with_hint("sub-queries, aggregates and window functions are not accepted"));
    };
    let input = projection.input.schema();
    let context = SimplifyContext::builder()
        .with_schema(Arc::clone(input))
        .with_config_options(options)
        .with_query_execution_start_time(state.execution_props().query_execution_start_time)
        .build();
    let simplifier = ExprSimplifier::new(context);
    let mut compiled = Vec::with_capacity(texts.len());
    for (expr, field) in projection.expr.iter().zip(plan.schema().fields()) {
        let expr = expr.clone().unalias();
        *stable &= is_stable(&expr)?;
        if clause == Clause::Generated {
            refuse_undetermined(&expr)?;
        }
        let reads = expr.column_refs().into_iter().map(|c| c.name.clone()).collect();
        let expr = simplifier.simplify(expr)?;
        let physical = create_physical_expr(&expr, input, state.execution_props())?;
        let mut waiting = AsyncMapper::new(input.fields().len());
        waiting.find_references(&physical, input.as_arrow())?;
        if let (Some(one), true) = (waiting.async_exprs.first(), clause != Clause::Generated) {
            return Err(Error::unsupported(format!("{} cannot call {}", clause.label(), one.func)));
        }
        let physical = physical.transform_up(|e| Ok(waiting.map_expr(e))).data()?;
        compiled.push(Compiled {
            expr: physical,
            field: Arc::clone(field),
            waiting: Arc::new(waiting),
            reads,
        });
    }
    Ok(compiled)
}

/// A stored value must be the one that its expression would have now.
fn refuse_undetermined(expr: &Expr) -> Result<()> {
    let mut found = None;
    expr.apply(|e| {
        if let Expr::ScalarFunction(f) = e
            && f.func.signature().volatility != Volatility::Immutable
            && f.func.as_async().is_none()
        {
            found = Some(f.func.name().to_owned());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match found {
        Some(name) => Err(Error::invalid(format!(
            "a generated column cannot call {name}(): it has another value each time"
        ))
        .with_hint("a DEFAULT may call it")),
        None => Ok(()),
    }
}

fn refuse_queries(expr: &datafusion::sql::sqlparser::ast::Expr, clause: Clause) -> Result<()> {
    use datafusion::sql::sqlparser::ast::Expr;
    let is_query = |e: &Expr| {
        matches!(
            e,
            Expr::Subquery(_)
                | Expr::InSubquery { .. }
                | Expr::Exists { .. }
                | Expr::AnyOp { .. }
                | Expr::AllOp { .. }
        )
    };
    if visit::any(expr, is_query) {
        return Err(Error::unsupported(format!("{} takes no sub-queries", clause.label())));
    }
    Ok(())
}

/// Parses an expression of a definition.
pub(crate) fn expression(text: &str) -> Result<datafusion::sql::sqlparser::ast::Expr> {
    use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr};
    let query = parser::parse_query(&format!("SELECT ({text}) AS e"))?;
    let SetExpr::Select(mut select) = *query.body else {
        return Err(Error::internal("an expression is no expression"));
    };
    match select.projection.pop() {
        Some(SelectItem::ExprWithAlias { expr, .. }) if select.projection.is_empty() => Ok(expr),
        _ => Err(Error::invalid(format!("{text} is not one expression"))),
    }
}

/// Whether the value depends on nothing but the row.
fn is_stable(expr: &Expr) -> Result<bool> {
    let mut stable = true;
    expr.apply(|e| {
        if let Expr::ScalarFunction(f) = e {
            // A volatile function is called for each batch; a stable one was folded to this statement's value.
            stable &= f.func.signature().volatility != Volatility::Stable;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(stable)
}

impl Compiled {
    pub(super) fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        Ok(self.expr.evaluate(batch)?.into_array(batch.num_rows())?)
    }
}

impl Rules {
    /// The DEFAULT of a column for some rows, in the column's type; NULL where it has none.
    fn default_of(&self, target: &Target, place: usize, rows: usize) -> Result<ArrayRef> {
        let field = &target.column(place).field;
        let Some(default) = self.defaults.get(&place) else {
            return Ok(new_null_array(field.data_type(), rows));
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
        let values = default.evaluate(&none)?;
        assign::to_column(&values, &default.field, field).map_err(|e| e.error)
    }

    /// Whether DEFAULTs can be put into their columns and CHECKs are conditions.
    pub(crate) fn check(&self, def: &TableDef) -> Result<()> {
        for (name, check) in &self.checks {
            if !matches!(check.field.data_type(), DataType::Boolean | DataType::Null) {
                return Err(Error::invalid(format!("the check \"{name}\" is no condition"))
                    .with_hint("it must be true or false for a row"));
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let one = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
        for (place, default) in &self.defaults {
            let values = default.evaluate(&one)?;
            let field = &def.columns[*place].field;
            assign::to_column(&values, &default.field, field)
                .map_err(|e| Error::new(e.error.kind(), format!("the DEFAULT: {}", e.error.message())))?;
        }
        self.generated.check(def)
    }

    /// NOT NULL and CHECK of rows of the user's schema.
    pub(super) fn verify(&self, target: &Target, rows: &RecordBatch) -> Result<()> {
        for (name, check) in &self.checks {
            let holds = check.evaluate(rows)?;
            let Some(holds) = holds.as_boolean_opt() else {
                return Err(Error::invalid(format!("the check \"{name}\" is no condition")));
            };
            // NULL is not false: the standard lets such rows pass.
            if let Some(row) = holds.iter().position(|h| h == Some(false)) {
                return Err(Error::new(
                    ErrorKind::Constraint,
                    format!("new row for \"{}\" violates check constraint \"{name}\"", target.name),
                )
                .with_hint(format!("the row is {}", describe(rows, row))));
            }
        }
        Ok(())
    }
}

/// `(1, abc, NULL)`, long values cut.
fn describe(rows: &RecordBatch, row: usize) -> String {
    const LONGEST: usize = 40;
    let value = |column: &ArrayRef| {
        if column.is_null(row) {
            return "NULL".to_owned();
        }
        let mut text = array_value_to_string(column, row).unwrap_or_else(|_| "?".to_owned());
        if let Some((at, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(at);
            text.push('…');
        }
        text
    };
    format!("({})", rows.columns().iter().map(value).collect::<Vec<_>>().join(", "))
}

/// Where a new row's column comes from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// Given, in the column's type. `generate`: rows that ask for the column's identity instead.
    Given { values: ArrayRef, generate: Option<Vec<bool>> },
    /// Not given: DEFAULT, identity or NULL.
    Omitted,
}

/// Makes whole rows of what was given.
pub(super) async fn complete(
    core: &Arc<SessionCore>,
    target: &Target,
    rules: &Rules,
    sources: Vec<Source>,
    rows: usize,
) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(sources.len());
    for (place, source) in sources.into_iter().enumerate() {
        let column = target.column(place);
        let values = match source {
            Source::Given { values, generate: None } => values,
            Source::Given { values, generate: Some(generate) } => {
                let wanted = generate.iter().filter(|g| **g).count();
                let fresh = identities(core, target, place, wanted)?;
                let fresh = assign::to_column(
                    &fresh,
                    &Field::new("", fresh.data_type().clone(), true),
                    &column.field,
                )
                .map_err(|e| e.error)?;
                let mut next = 0;
                let picks: Vec<(usize, usize)> = generate
                    .iter()
                    .enumerate()
                    .map(|(row, g)| {
                        if *g {
                            next += 1;
                            (1, next - 1)
                        } else {
                            (0, row)
                        }
                    })
                    .collect();
                arrow::compute::interleave(&[values.as_ref(), fresh.as_ref()], &picks)?
            }
            Source::Omitted if column.identity.is_some() => {
                let fresh = identities(core, target, place, rows)?;
                assign::to_column(&fresh, &Field::new("", fresh.data_type().clone(), true), &column.field)
                    .map_err(|e| e.error)?
            }
            // Computed when the others are there.
            Source::Omitted if column.generated.is_some() => new_empty_array(column.field.data_type()),
            Source::Omitted => rules.default_of(target, place, rows)?,
        };
        if column.generated.is_none() {
            not_null(target, place, &values)?;
        }
        columns.push(values);
    }
    for place in rules.generated.compute(&target.def, &mut columns, rows, None).await? {
        not_null(target, place, &columns[place])?;
    }
    let rows = target.batch(columns, rows)?;
    rules.verify(target, &rows)?;
    Ok(rows)
}

/// New rows of an UPDATE that set the columns at `changed`: generated columns, NOT NULL and CHECK.
pub(super) async fn verified(
    target: &Target,
    rules: &Rules,
    mut columns: Vec<ArrayRef>,
    changed: &[usize],
    rows: usize,
) -> Result<RecordBatch> {
    for (place, values) in columns.iter().enumerate() {
        if target.column(place).generated.is_none() {
            not_null(target, place, values)?;
        }
    }
    for place in rules.generated.compute(&target.def, &mut columns, rows, Some(changed)).await? {
        not_null(target, place, &columns[place])?;
    }
    let rows = target.batch(columns, rows)?;
    rules.verify(target, &rows)?;
    Ok(rows)
}

/// `SET c = DEFAULT` for some rows.
pub(super) fn default_values(
    core: &Arc<SessionCore>,
    target: &Target,
    rules: &Rules,
    place: usize,
    rows: usize,
) -> Result<ArrayRef> {
    let column = target.column(place);
    if column.generated.is_some() {
        // Computed when the other columns are there.
        return Ok(new_null_array(column.field.data_type(), rows));
    }
    if column.identity.is_none() {
        return rules.default_of(target, place, rows);
    }
    let fresh = identities(core, target, place, rows)?;
    assign::to_column(&fresh, &Field::new("", fresh.data_type().clone(), true), &column.field)
        .map_err(|e| e.error)
}

fn not_null(target: &Target, place: usize, values: &ArrayRef) -> Result<()> {
    let field = &target.column(place).field;
    if field.is_nullable() || values.null_count() == 0 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Constraint,
        format!(
            "null value in column \"{}\" of \"{}\" violates not-null constraint",
            field.name(),
            target.name
        ),
    ))
}

fn identities(core: &Arc<SessionCore>, target: &Target, place: usize, rows: usize) -> Result<ArrayRef> {
    let name = target.column(place).field.name();
    let ranges = core.database().store().next_identity(target.id(), name, rows as u64)?;
    let values: Int64Array = ranges.into_iter().flatten().map(Some).collect();
    if values.len() != rows {
        return Err(Error::internal(format!("{} identities instead of {rows}", values.len())));
    }
    Ok(Arc::new(values))
}
