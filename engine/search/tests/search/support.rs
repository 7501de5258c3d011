//! A session with searches, and tables to search.

use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Int64Type, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::execution::context::{QueryPlanner, SessionState};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::optimizer::Optimizer;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{TableFactor, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use triune_common::{Error, Result};

/// A session and what it was made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) partitions: usize,
    pub(crate) batch_size: usize,
    pub(crate) memory: Option<usize>,
    /// Whether the physical rule is there.
    pub(crate) fuse: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { partitions: 2, batch_size: 8192, memory: None, fuse: true }
    }
}

pub(crate) struct Session {
    context: SessionContext,
}

impl Session {
    pub(crate) fn new(options: Options) -> Self {
        let mut analyzer = triune_search::analyzer_rules();
        analyzer.extend(Analyzer::new().rules);
        let mut optimizer = Optimizer::new().rules;
        optimizer.extend(triune_search::optimizer_rules());
        let mut runtime = RuntimeEnvBuilder::new();
        if let Some(memory) = options.memory {
            runtime = runtime.with_memory_limit(memory, 1.0);
        }
        let config = SessionConfig::new()
            .with_target_partitions(options.partitions)
            .with_batch_size(options.batch_size)
            .with_information_schema(false);
        let mut config = config;
        config.options_mut().sql_parser.collect_spans = true;
        let mut physical = PhysicalOptimizer::new().rules;
        if options.fuse {
            physical.extend(triune_search::physical_optimizer_rules());
        }
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_physical_optimizer_rules(physical)
            .with_runtime_env(runtime.build_arc().unwrap())
            .with_expr_planners(vec![Arc::new(triune_vector::VectorExprPlanner)])
            .with_default_features()
            .with_analyzer_rules(analyzer)
            .with_optimizer_rules(optimizer)
            .with_query_planner(Arc::new(Planner))
            .build();
        let context = SessionContext::new_with_state(state);
        for function in triune_search::scalar_functions() {
            context.register_udf(function.as_ref().clone());
        }
        for function in triune_vector::scalar_functions() {
            context.register_udf(function.as_ref().clone());
        }
        Self { context }
    }

    pub(crate) fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Registers batches as a table of so many partitions, dealt out in turn.
    pub(crate) fn table(&self, name: &str, schema: SchemaRef, batches: Vec<RecordBatch>, partitions: usize) {
        let mut parts = vec![Vec::new(); partitions.max(1)];
        let count = parts.len();
        for (i, batch) in batches.into_iter().enumerate() {
            parts[i % count].push(batch);
        }
        let table = MemTable::try_new(schema, parts).unwrap();
        self.context.register_table(name, Arc::new(table)).unwrap();
    }

    /// Plans a statement without rules.
    pub(crate) async fn plan(&self, sql: &str) -> Result<LogicalPlan> {
        let mut statement =
            DFParserBuilder::new(sql).with_dialect(&PostgreSqlDialect {}).build()?.parse_statement()?;
        desugar(&mut statement)?;
        Ok(self.context.state().statement_to_plan(statement).await?)
    }

    pub(crate) async fn frame(&self, sql: &str) -> Result<DataFrame> {
        let plan = self.plan(sql).await?;
        Ok(self.context.execute_logical_plan(plan).await?)
    }

    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        Ok(self.frame(sql).await?.collect().await?)
    }

    pub(crate) async fn error(&self, sql: &str) -> Error {
        match self.rows(sql).await {
            Ok(rows) => panic!("{sql} gave {rows:?}"),
            Err(e) => e,
        }
    }

    /// The first column as integers, in the order of the answer.
    pub(crate) async fn ids(&self, sql: &str) -> Vec<i64> {
        let batches = self.rows(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    /// The analysed and the optimised plan as texts.
    pub(crate) async fn logical(&self, sql: &str) -> (String, String) {
        let plan = self.plan(sql).await.unwrap();
        let state = self.context.state();
        let analysed = state
            .analyzer()
            .execute_and_check(plan.clone(), state.config_options(), |_, _| {})
            .unwrap_or_else(|e| panic!("{sql}: {}", Error::from(e)));
        let optimised = state.optimize(&plan).unwrap();
        (analysed.display_indent().to_string(), optimised.display_indent().to_string())
    }

    pub(crate) async fn physical(&self, sql: &str) -> Arc<dyn ExecutionPlan> {
        self.frame(sql).await.unwrap().create_physical_plan().await.unwrap()
    }

    pub(crate) async fn physical_text(&self, sql: &str) -> String {
        displayable(self.physical(sql).await.as_ref()).indent(false).to_string()
    }
}

#[derive(Debug)]
struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        state: &SessionState,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(triune_search::extension_planners())
            .create_physical_plan(plan, state)
            .await
    }
}

fn desugar(statement: &mut Statement) -> Result<()> {
    match statement {
        Statement::Statement(statement) => {
            let mut visitor = Desugar { error: None };
            let _ = statement.visit(&mut visitor);
            visitor.error.map_or(Ok(()), Err)
        }
        Statement::Explain(explain) => desugar(&mut explain.statement),
        _ => Ok(()),
    }
}

struct Desugar {
    error: Option<Error>,
}

impl VisitorMut for Desugar {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        match triune_search::desugar_table_factor(factor) {
            Ok(_) => ControlFlow::Continue(()),
            Err(e) => {
                self.error = Some(e);
                ControlFlow::Break(())
            }
        }
    }
}

/// `id BIGINT, kind TEXT, e VECTOR(dims)`.
pub(crate) fn docs_schema(dims: usize) -> SchemaRef {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let vector = DataType::FixedSizeList(item, i32::try_from(dims).unwrap());
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("kind", DataType::Utf8, true),
        Field::new("e", vector, true),
    ]))
}

/// One row of the table: a vector may be NULL.
#[derive(Debug, Clone)]
pub(crate) struct Doc {
    pub(crate) id: i64,
    pub(crate) kind: &'static str,
    pub(crate) vector: Option<Vec<f32>>,
}

pub(crate) fn docs_batch(docs: &[Doc], dims: usize) -> RecordBatch {
    let schema = docs_schema(dims);
    let DataType::FixedSizeList(item, size) = schema.field(2).data_type().clone() else { unreachable!() };
    let zero = vec![0.0; dims];
    let values: Float32Array = docs
        .iter()
        .flat_map(|d| d.vector.as_ref().unwrap_or(&zero).iter().copied())
        .collect::<Vec<_>>()
        .into();
    let valid = NullBuffer::from_iter(docs.iter().map(|d| d.vector.is_some()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(docs.iter().map(|d| d.id))),
        Arc::new(StringArray::from_iter_values(docs.iter().map(|d| d.kind))),
        Arc::new(FixedSizeListArray::new(item, size, Arc::new(values), Some(valid))),
    ];
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Rows on a line: id i has the vector (i, 1), kinds `a`, `b`, `c` in turn.
pub(crate) fn line(rows: i64) -> Vec<Doc> {
    const KINDS: [&str; 3] = ["a", "b", "c"];
    (0..rows)
        .map(|id| Doc {
            id,
            kind: KINDS[usize::try_from(id % 3).unwrap()],
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            vector: Some(vec![id as f32, 1.0]),
        })
        .collect()
}

/// A session with `docs` (a line of 30 rows) and `extra (doc_id, tag)`.
pub(crate) fn session() -> Session {
    session_with(Options::default(), &line(30), 7)
}

pub(crate) fn session_with(options: Options, docs: &[Doc], rows_per_batch: usize) -> Session {
    let session = Session::new(options);
    let dims = docs.iter().find_map(|d| d.vector.as_ref()).map_or(2, Vec::len);
    let batches = docs.chunks(rows_per_batch.max(1)).map(|c| docs_batch(c, dims)).collect();
    session.table("docs", docs_schema(dims), batches, options.partitions);
    let schema = Arc::new(Schema::new(vec![
        Field::new("doc_id", DataType::Int64, false),
        Field::new("tag", DataType::Utf8, false),
    ]));
    let ids: Vec<i64> = docs.iter().map(|d| d.id).filter(|id| id % 2 == 0).collect();
    let tags: Vec<_> = ids.iter().map(|id| if id % 4 == 0 { "x" } else { "y" }).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids)), Arc::new(StringArray::from(tags))];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    session.table("extra", schema, vec![batch], 1);
    session
}

/// The distances of an answer whose column has the name.
pub(crate) fn distances(batches: &[RecordBatch], name: &str) -> Vec<f32> {
    batches
        .iter()
        .flat_map(|b| b.column_by_name(name).unwrap().as_primitive::<Float32Type>().values().to_vec())
        .collect()
}
