//! Vectors of Parquet files are those that Arrow's own reader gives, however they were written.

use std::fs::File;
use std::sync::Arc;

use crate::support::Fixture;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Int64Array, RecordBatch, StringArray, make_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Float32Type, Int64Type, Schema};
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionConfig;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use triune_files::{ExternalTableSpec, FileKind};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

fn fixture() -> Fixture {
    let mut config = SessionConfig::new().with_target_partitions(3).with_batch_size(200);
    config.options_mut().execution.parquet.pushdown_filters = true;
    config.options_mut().optimizer.repartition_file_min_size = 0;
    Fixture::with_config(config)
}

/// `id, text, embedding`, with NULL vectors, NULL elements or neither.
fn batch(
    r: &mut Random,
    rows: usize,
    element: &DataType,
    dims: usize,
    null_rows: bool,
    null_values: bool,
) -> RecordBatch {
    let distinct = if r.one_in(3) { 7 } else { 1 << 20 };
    let values: Float32Array = (0..rows * dims)
        .map(|_| {
            let value = match element {
                DataType::Int8 => r.below(200.min(distinct)) as f32 - 100.0,
                DataType::UInt8 => r.below(256.min(distinct)) as f32,
                _ => r.below(distinct) as f32 / 16.0 - 1000.0,
            };
            (!null_values || !r.one_in(50)).then_some(value)
        })
        .collect();
    let values = cast(&values, element).unwrap();
    let nulls = null_rows.then(|| NullBuffer::from((0..rows).map(|_| !r.one_in(20)).collect::<Vec<_>>()));
    let item = Arc::new(Field::new("item", element.clone(), true));
    let list = arrow::array::FixedSizeListArray::new(Arc::clone(&item), dims as i32, values, nulls);
    let ids = Int64Array::from_iter_values(0..rows as i64);
    let text = StringArray::from_iter_values((0..rows).map(|i| format!("text {}", i % 17)));
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("text", DataType::Utf8, false),
        Field::new("embedding", list.data_type().clone(), true),
    ]);
    let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(text), Arc::new(list)];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn properties(r: &mut Random, rows: usize, element: &DataType) -> WriterProperties {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let compressions = [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd, Compression::LZ4_RAW];
    let mut builder = WriterProperties::builder()
        .set_compression(compressions[r.below(4)])
        .set_writer_version([WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0][r.below(2)])
        .set_max_row_group_row_count(Some(1 + r.below(rows + 100)))
        .set_data_page_size_limit(64 + r.below(20_000))
        .set_data_page_row_count_limit(1 + r.below(400))
        .set_write_batch_size(1 + r.below(300))
        .set_dictionary_enabled(r.one_in(2))
        .set_dictionary_page_size_limit(256 + r.below(20_000))
        .set_offset_index_disabled(r.one_in(2));
    if r.one_in(3) {
        builder = builder.set_statistics_enabled(
            [EnabledStatistics::None, EnabledStatistics::Chunk, EnabledStatistics::Page][r.below(3)],
        );
    }
    if matches!(element, DataType::Float32 | DataType::Float64 | DataType::Float16) && r.one_in(3) {
        let path = ColumnPath::from(vec!["embedding".to_owned(), "list".to_owned(), "item".to_owned()]);
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT);
    }
    builder.build()
}

fn write(path: &str, batch: &RecordBatch, properties: WriterProperties) {
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// The oracle.
fn by_arrow(path: &str) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = Arc::clone(reader.schema());
    let batches: Vec<_> = reader.build().unwrap().map(|b| b.unwrap()).collect();
    concat_batches(&schema, &batches).unwrap()
}

async fn plan_of(f: &Fixture, sql: &str) -> Arc<dyn ExecutionPlan> {
    let state = f.ctx.state();
    let plan = state.create_logical_plan(sql).await.unwrap();
    state.create_physical_plan(&plan).await.unwrap()
}

/// The result in the order of `id`, and how many pages of vectors were taken as bytes.
async fn run(f: &Fixture, sql: &str) -> (RecordBatch, usize) {
    let plan = plan_of(f, sql).await;
    let batches = collect(Arc::clone(&plan), f.ctx.task_ctx()).await.unwrap_or_else(|e| {
        panic!("{e}\n{}", displayable(plan.as_ref()).indent(false));
    });
    let all = concat_batches(&plan.schema(), &batches).unwrap();
    let order = arrow::compute::sort_to_indices(all.column(0), None, None).unwrap();
    (take_record_batch(&all, &order).unwrap(), pages(plan.as_ref()))
}

fn pages(plan: &dyn ExecutionPlan) -> usize {
    let own = plan.metrics().and_then(|m| m.sum_by_name("vector_pages")).map_or(0, |v| v.as_usize());
    own + plan.children().into_iter().map(|c| pages(c.as_ref())).sum::<usize>()
}

fn assert_same(found: &RecordBatch, expected: &RecordBatch, what: &str) {
    assert_eq!(found.num_rows(), expected.num_rows(), "{what}");
    for (found, expected) in found.columns().iter().zip(expected.columns()) {
        let expected = cast(expected, found.data_type()).unwrap();
        assert_eq!(&make_array(found.to_data()), &expected, "{what}");
    }
}

#[tokio::test]
async fn whatever_the_file_is_like_arrow_gives_the_same() {
    let elements = [
        DataType::Float32,
        DataType::Float32,
        DataType::Float16,
        DataType::Float64,
        DataType::Int8,
        DataType::UInt8,
    ];
    let mut taken = 0;
    for seed in 0..150_u64 {
        let mut r = Random(seed);
        let f = fixture();
        let element = &elements[r.below(elements.len())];
        let dims = [1, 2, 3, 7, 8, 64, 65, 130][r.below(8)];
        let rows = 1 + r.below(1500);
        let (null_rows, null_values) = (r.one_in(5), r.one_in(5));
        let written = batch(&mut r, rows, element, dims, null_rows, null_values);
        let props = properties(&mut r, rows, element);
        let path = f.path("v.parquet");
        write(&path, &written, props.clone());
        let oracle = by_arrow(&path);
        f.table(&f.spec("v.parquet", FileKind::Parquet)).await.unwrap();
        let what = format!("seed {seed}: {rows} rows of {dims} {element}, {props:?}");

        let (all, pages) = run(&f, "SELECT * FROM t").await;
        assert_same(&all, &oracle, &what);
        taken += pages;

        // Few rows, many rows, by another column and by a text that is not given out.
        let low = r.below(rows) as i64;
        let high = low + r.below(rows) as i64;
        let sql =
            format!("SELECT id, embedding FROM t WHERE id BETWEEN {low} AND {high} AND text <> 'text 3'");
        let (some, _) = run(&f, &sql).await;
        let keep: BooleanArray =
            (0..rows).map(|i| Some((low..=high).contains(&(i as i64)) && i % 17 != 3)).collect();
        let expected = filter_record_batch(&oracle, &keep).unwrap().project(&[0, 2]).unwrap();
        assert_same(&some, &expected, &format!("{what}: {sql}"));

        let (present, _) = run(&f, "SELECT id, embedding FROM t WHERE embedding IS NOT NULL").await;
        let keep: BooleanArray = (0..rows).map(|i| Some(oracle.column(2).is_valid(i))).collect();
        let expected = filter_record_batch(&oracle, &keep).unwrap().project(&[0, 2]).unwrap();
        assert_same(&present, &expected, &what);
        let (limited, _) = run(&f, "SELECT id, embedding FROM t LIMIT 5").await;
        assert_eq!(limited.num_rows(), rows.min(5), "{what}");
    }
    assert!(taken > 1000, "the fast way was hardly taken: {taken} pages");
}

#[tokio::test]
async fn row_groups_with_nulls_are_read_the_general_way_and_the_others_are_not() {
    let f = fixture();
    let mut r = Random(5);
    let full = batch(&mut r, 1000, &DataType::Float32, 64, false, false);
    let with_nulls = batch(&mut r, 1000, &DataType::Float32, 64, true, true);
    let path = f.path("mixed.parquet");
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), full.schema(), None).unwrap();
    for part in [&full, &with_nulls, &full, &full, &with_nulls] {
        writer.write(part).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    let oracle = by_arrow(&path);
    f.table(&f.spec("mixed.parquet", FileKind::Parquet)).await.unwrap();
    let (found, pages) = run(&f, "SELECT * FROM t").await;
    assert!(pages >= 3, "{pages}");
    assert_eq!(found.num_rows(), 5000);
    assert_eq!(found.column(2).null_count(), oracle.column(2).null_count());
    let sum = |b: &RecordBatch| -> f64 {
        let lists = b.column(2).as_fixed_size_list();
        lists
            .iter()
            .flatten()
            .flat_map(|v| v.as_primitive::<Float32Type>().iter().flatten().map(f64::from).collect::<Vec<_>>())
            .sum()
    };
    assert!((sum(&found) - sum(&oracle)).abs() < 1e-3);
    // In one partition and one order, row for row.
    let config = SessionConfig::new().with_target_partitions(1);
    let one = Fixture::with_config(config);
    one.table(&ExternalTableSpec::new(path, FileKind::Parquet)).await.unwrap();
    let batches = one.batches("SELECT * FROM t").await.unwrap();
    let all = concat_batches(&batches[0].schema(), &batches).unwrap();
    assert_same(&all, &oracle, "in order");
}

#[tokio::test]
async fn one_row_group_is_shared_out_by_rows() {
    let f = fixture();
    let mut r = Random(9);
    let rows = 5000;
    let written = batch(&mut r, rows, &DataType::Float32, 32, false, false);
    let properties = WriterProperties::builder().set_data_page_row_count_limit(100).build();
    write(&f.path("one.parquet"), &written, properties);
    f.table(&f.spec("one.parquet", FileKind::Parquet)).await.unwrap();
    let plan = plan_of(&f, "SELECT id, embedding FROM t").await;
    let partitions = datafusion::physical_plan::collect_partitioned(plan, f.ctx.task_ctx()).await.unwrap();
    let counts: Vec<usize> =
        partitions.iter().map(|p| p.iter().map(RecordBatch::num_rows).sum::<usize>()).collect();
    assert_eq!(counts.iter().sum::<usize>(), rows, "{counts:?}");
    let mut ids: Vec<i64> = partitions
        .iter()
        .flatten()
        .flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..rows as i64));
}

#[tokio::test]
async fn a_damaged_page_is_an_error_with_the_files_name() {
    let mut r = Random(3);
    let written = batch(&mut r, 800, &DataType::Float32, 16, false, false);
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
        let f = fixture();
        let path = f.path("bad.parquet");
        let properties = WriterProperties::builder().set_compression(compression).build();
        write(&path, &written, properties);
        let sound = std::fs::read(&path).unwrap();
        for at in (4..sound.len() / 2).step_by(97) {
            let mut bytes = sound.clone();
            bytes[at..at + 8].fill(0xff);
            std::fs::write(&path, &bytes).unwrap();
            let Ok(()) = f.table(&f.spec("bad.parquet", FileKind::Parquet)).await else { continue };
            // Values may be other values; the process goes on, and an error says which file it is about.
            if let Err(e) = f.batches("SELECT embedding FROM t").await {
                assert!(e.message().contains("bad.parquet"), "{e}");
            }
        }
    }
}

/// `value of (row, place) = row * 10 + place + 0.5`, 300 rows of 4, written by others; see `tests/data/README.md`.
#[tokio::test]
async fn files_of_other_writers() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/");
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let declared = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("embedding", DataType::FixedSizeList(item, 4), true),
    ]));
    for name in ["pyarrow.parquet", "pyarrow_v2.parquet", "duckdb.parquet"] {
        let f = fixture();
        let mut spec = ExternalTableSpec::new(format!("{data}{name}"), FileKind::Parquet);
        if name == "duckdb.parquet" {
            spec.columns = Some(Arc::clone(&declared));
        }
        f.table(&spec).await.unwrap();
        let (found, pages) = run(&f, "SELECT id, embedding FROM t").await;
        assert!(pages > 0, "{name} was read the general way");
        assert_eq!(found.num_rows(), 300);
        let lists = found.column(1).as_fixed_size_list();
        for row in 0..300 {
            let vector = lists.value(row);
            let expected: Vec<f32> = (0..4).map(|j| row as f32 * 10.0 + j as f32 + 0.5).collect();
            assert_eq!(vector.as_primitive::<Float32Type>().values(), &expected[..], "{name}, row {row}");
        }
        let (some, _) = run(&f, "SELECT id, embedding FROM t WHERE id IN (7, 150, 299)").await;
        assert_eq!(some.num_rows(), 3, "{name}");
    }
}
