//! Datasets in temporary folders, deterministic numbers, and a DataFusion session to query them with.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use tempfile::TempDir;
use triune_lance::{LanceCaches, LanceProvider, LanceStore, LanceVersion, NoOptions, WriteMode};
use url::Url;

/// A folder that goes away, and the location of one dataset in it.
pub(crate) struct Place {
    _folder: TempDir,
    pub(crate) url: Url,
    pub(crate) store: Arc<LanceStore>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("triune lance ").unwrap();
        let url = Url::from_file_path(folder.path().join("t.lance")).unwrap();
        let store = LanceStore::new(LanceCaches::default(), Arc::new(NoOptions));
        Self { _folder: folder, url, store }
    }

    pub(crate) async fn write(
        &self,
        batches: Vec<RecordBatch>,
        mode: WriteMode,
    ) -> triune_common::Result<u64> {
        let schema = batches[0].schema();
        let rows = futures::stream::iter(batches.into_iter().map(Ok));
        self.store.write(&self.url, Box::pin(RecordBatchStreamAdapter::new(schema, rows)), mode).await
    }

    pub(crate) async fn open(&self) -> Arc<LanceProvider> {
        self.store.open(&self.url, &LanceVersion::Latest).await.unwrap()
    }

    /// The dataset itself, to delete from, index and tag.
    pub(crate) async fn dataset(&self) -> lance::Dataset {
        self.open().await.dataset().as_ref().clone()
    }
}

/// SplitMix64: the same numbers on every machine.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between −1 and 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

pub(crate) fn vectors(values: Vec<f32>, dims: i32) -> FixedSizeListArray {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    FixedSizeListArray::new(item, dims, Arc::new(Float32Array::from(values)), None)
}

pub(crate) fn vector_type(dims: i32) -> DataType {
    DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), dims)
}

pub(crate) const DIMS: usize = 16;

/// Rows `from..to` of `id`, `class` (id mod 10), `name` (with NULLs), `vec`: points around 40 centres.
pub(crate) fn documents(from: i64, to: i64) -> RecordBatch {
    let mut values = Vec::new();
    for id in from..to {
        values.extend(document_vector(id));
    }
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("class", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("vec", vector_type(DIMS as i32), true),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(from..to)),
        Arc::new(Int64Array::from_iter_values((from..to).map(|i| i % 10))),
        Arc::new(StringArray::from_iter((from..to).map(|i| (i % 7 != 0).then(|| format!("document {i}"))))),
        Arc::new(vectors(values, DIMS as i32)),
    ];
    RecordBatch::try_new(schema, columns).unwrap()
}

pub(crate) fn document_vector(id: i64) -> Vec<f32> {
    let mut centre = Numbers(1000 + id.rem_euclid(40) as u64);
    let mut noise = Numbers(7_777 + id as u64);
    (0..DIMS).map(|_| centre.unit() + 0.3 * noise.unit()).collect()
}

pub(crate) fn session(partitions: usize, batch_rows: usize) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(batch_rows);
    SessionContext::new_with_config(config)
}

pub(crate) async fn plan(ctx: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    let logical = ctx.state().create_logical_plan(sql).await.unwrap();
    ctx.state().create_physical_plan(&logical).await.unwrap()
}

pub(crate) async fn rows_of(ctx: &SessionContext, sql: &str) -> RecordBatch {
    run(ctx, plan(ctx, sql).await).await.unwrap()
}

pub(crate) async fn run(
    ctx: &SessionContext,
    plan: Arc<dyn ExecutionPlan>,
) -> datafusion::common::Result<RecordBatch> {
    let schema = plan.schema();
    let batches = collect(plan, ctx.task_ctx()).await?;
    Ok(concat_batches(&schema, &batches)?)
}

pub(crate) fn register(ctx: &SessionContext, name: &str, table: Arc<dyn TableProvider>) {
    ctx.register_table(name, table).unwrap();
}

pub(crate) fn text(plan: &dyn ExecutionPlan) -> String {
    datafusion::physical_plan::displayable(plan).indent(false).to_string()
}

/// The first node of a type in a plan.
pub(crate) fn find<T: ExecutionPlan>(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if plan.is::<T>() {
        return Some(Arc::clone(plan));
    }
    plan.children().into_iter().find_map(find::<T>)
}

pub(crate) fn metric(plan: &Arc<dyn ExecutionPlan>, name: &str) -> usize {
    let metrics = plan.metrics().unwrap();
    match name {
        "output_rows" => metrics.output_rows().unwrap_or(0),
        _ => metrics.sum_by_name(name).map_or(0, |v| v.as_usize()),
    }
}

pub(crate) fn one_column(name: &str, array: ArrayRef) -> (SchemaRef, RecordBatch) {
    let schema = Arc::new(Schema::new(vec![Field::new(name, array.data_type().clone(), true)]));
    (Arc::clone(&schema), RecordBatch::try_new(schema, vec![array]).unwrap())
}
