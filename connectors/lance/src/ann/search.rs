//! The course of a search: which way, how many probes, and when it has to be made again.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, SchemaRef, UInt64Type};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use lance::dataset::scanner::RowAddrMask;
use lance::index::DatasetIndexExt;
use lance_core::ROW_ID;
use triune_common::{Error, Result};

use crate::ann::exact::exact;
use crate::ann::fetch::{fetch_scored, fetch_unscored};
use crate::ann::matching::{Matching, matching};
use crate::error::from_lance;
use crate::index::VectorIndexInfo;
use crate::metric::{LanceMetric, VectorScorer};
use crate::predicate::Predicate;
use crate::provider::Table;
use crate::scan::pieces;

/// A search, ready to run. Column indexes are those of `table.schema`, which has the row identity.
#[derive(Debug, Clone)]
pub(crate) struct AnnSpec {
    pub(crate) table: Arc<Table>,
    pub(crate) column: usize,
    /// One vector of the column's element type.
    pub(crate) query: ArrayRef,
    pub(crate) k: usize,
    pub(crate) metric: LanceMetric,
    pub(crate) predicate: Predicate,
    pub(crate) access: Access,
    pub(crate) exact_below: usize,
    pub(crate) projection: Vec<usize>,
    /// The columns of `projection`, then `_distance`.
    pub(crate) output: SchemaRef,
    pub(crate) scorer: Arc<dyn VectorScorer>,
}

/// The way to the rows.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    Index { index: VectorIndexInfo, nprobes: Option<usize>, refine_factor: u32 },
    Exact { why: String },
}

/// What one execution has and counts.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) batch_rows: usize,
    pub(crate) partitions: usize,
    pub(crate) metrics: AnnMetrics,
}

#[derive(Debug)]
pub(crate) struct AnnMetrics {
    pub(crate) index_searches: Count,
    pub(crate) exact_searches: Count,
    /// Rows that met the condition.
    pub(crate) rows_matching: Count,
    /// Partitions of the index that the last search was given.
    pub(crate) nprobes: Count,
    pub(crate) rows_scanned: Count,
    pub(crate) bytes_scanned: Count,
}

impl AnnMetrics {
    pub(crate) fn new(set: &ExecutionPlanMetricsSet) -> Self {
        let counter = |name| MetricBuilder::new(set).counter(name, 0);
        Self {
            index_searches: counter("index_searches"),
            exact_searches: counter("exact_searches"),
            rows_matching: counter("rows_matching"),
            nprobes: counter("nprobes"),
            rows_scanned: counter("rows_scanned"),
            bytes_scanned: counter("bytes_scanned"),
        }
    }
}

/// The nearest rows, sorted.
pub(crate) async fn search(spec: &AnnSpec, run: &Run) -> Result<RecordBatch> {
    if spec.k == 0 {
        return Ok(RecordBatch::new_empty(Arc::clone(&spec.output)));
    }
    let all = || pieces::split(&spec.table.fragments, run.partitions);
    let Access::Index { index, nprobes, refine_factor } = &spec.access else {
        let hits = exact(spec, run, &spec.predicate, all()).await?;
        return fetch_scored(spec, hits).await;
    };
    let how = IndexSearch { spec, run, index, nprobes: *nprobes, refine_factor: *refine_factor };

    if spec.predicate.is_empty() {
        let rows = spec.table.rows();
        let ids = how.run(None, rows).await?;
        if enough(ids.len(), spec.k, rows)
            && let Some(found) = complete(fetch_unscored(spec, ids).await?, spec.k, rows)
        {
            return Ok(found);
        }
        let hits = exact(spec, run, &spec.predicate, all()).await?;
        return fetch_scored(spec, hits).await;
    }

    let found = matching(spec, run).await?;
    run.metrics.rows_matching.add(usize::try_from(found.count).unwrap_or(usize::MAX));
    if found.count > spec.exact_below as u64 {
        let ids = how.run(Some(&found), found.count).await?;
        if enough(ids.len(), spec.k, found.count)
            && let Some(near) = complete(fetch_unscored(spec, ids).await?, spec.k, found.count)
        {
            return Ok(near);
        }
    }
    // The rows are known: the condition is not evaluated again.
    let hits = exact(spec, run, &Predicate::default(), pieces::spread(found.pieces, run.partitions)).await?;
    fetch_scored(spec, hits).await
}

/// Whether a search that gave `found` rows of `possible` ones cannot have missed any.
fn enough(found: usize, k: usize, possible: u64) -> bool {
    found as u64 >= possible.min(k as u64)
}

/// The rows, if each has a distance and there are as many as there can be. A vector whose distance is not a
/// number (zero under cosine) must not take the place of a row that has one.
fn complete(rows: RecordBatch, k: usize, possible: u64) -> Option<RecordBatch> {
    let distances = rows.columns().last()?.as_primitive_opt::<Float32Type>()?;
    // They are sorted, NaN last.
    let last = distances.values().last();
    let numbers = last.is_none_or(|d| !d.is_nan());
    (numbers && enough(rows.num_rows(), k, possible)).then_some(rows)
}

struct IndexSearch<'a> {
    spec: &'a AnnSpec,
    run: &'a Run,
    index: &'a VectorIndexInfo,
    nprobes: Option<usize>,
    refine_factor: u32,
}

impl IndexSearch<'_> {
    /// The ids of up to `k` rows among the allowed ones, of which there are `rows`.
    async fn run(&self, allowed: Option<&Matching>, rows: u64) -> Result<Vec<u64>> {
        let partitions = self.spec.table.index_partitions(&self.index.name).await?;
        if let Some(fixed) = self.nprobes {
            return self.probe(fixed.min(partitions), allowed).await;
        }
        let total: u64 = self.spec.table.fragments.iter().map(|f| f.physical).sum();
        let candidates = self.spec.k.saturating_mul(self.refine_factor as usize);
        let mut probes = first_probes(partitions, candidates, rows, total);
        let mut ids = self.probe(probes, allowed).await?;
        // A mask of many rows is like a condition.
        if allowed.is_none() && rows >= total / 2 {
            return Ok(ids);
        }
        // A condition may keep only rows far from the query; that the result stands still when twice as
        // many partitions are searched is the sign that it does not.
        while probes < partitions {
            probes = probes.saturating_mul(2).min(partitions);
            let more = self.probe(probes, allowed).await?;
            let same = more.len() == ids.len() && {
                let before: HashSet<u64> = ids.iter().copied().collect();
                more.iter().all(|id| before.contains(id))
            };
            ids = more;
            if same && ids.len() >= self.spec.k {
                break;
            }
        }
        Ok(ids)
    }

    /// One search of `probes` partitions of each of the index's segments.
    async fn probe(&self, probes: usize, allowed: Option<&Matching>) -> Result<Vec<u64>> {
        let spec = self.spec;
        let dataset = &spec.table.dataset;
        let field = &dataset.schema().fields[spec.column];
        let path = dataset.schema().field_path(field.id).map_err(from_lance)?;
        let candidates = spec.k.saturating_mul(self.refine_factor as usize);
        self.run.metrics.index_searches.add(1);
        self.run.metrics.nprobes.add(probes);

        let mut scanner = dataset.scan();
        // Off by default: conditions would be applied to the k nearest rows.
        scanner.prefilter(true);
        scanner.nearest(&path, spec.query.as_ref(), spec.k).map_err(from_lance)?;
        // Both bounds: an unset maximum lets a search wander through all partitions.
        scanner.minimum_nprobes(probes).maximum_nprobes(probes);
        scanner.refine(self.refine_factor);
        scanner.distance_metric(spec.metric.to_lance());
        // For graphs: how many candidates are kept while walking.
        scanner.ef(candidates.saturating_mul(2).max(64));
        if let Some(allowed) = allowed {
            // Masked rows are not among them.
            scanner.with_row_id_prefilter(allowed.mask.clone());
        } else if let Some(mask) = &spec.table.mask {
            scanner.with_row_id_prefilter(mask.block().clone());
        }
        if !self.index.is_first {
            // Lance asks the first index of a column only. Naming segments of another one makes it leave
            // uncovered fragments out, unless fragments are named too.
            let segments = dataset.load_indices_by_name(&self.index.name).await.map_err(from_lance)?;
            scanner
                .with_index_segments(segments.iter().map(|s| s.uuid).collect())
                .map_err(from_lance)?
                .with_fragments(dataset.fragments().to_vec());
        }
        scanner.empty_project().map_err(from_lance)?.with_row_id();
        let found = Box::pin(scanner.try_into_batch()).await.map_err(from_lance)?;
        let ids = found
            .column_by_name(ROW_ID)
            .and_then(|c| c.as_primitive_opt::<UInt64Type>())
            .ok_or_else(|| Error::internal("a vector search of Lance came without row ids"))?;
        let mut seen = HashSet::with_capacity(ids.len());
        // A row that is not allowed must not be returned, whatever an index says (SRCH-1).
        let kept = ids
            .values()
            .iter()
            .copied()
            .filter(|id| seen.insert(*id) && allowed.is_none_or(|a| RowAddrMask::selected(&a.mask, *id)))
            .filter(|id| spec.table.mask.as_ref().is_none_or(|m| !m.hides(*id)));
        Ok(kept.collect())
    }
}

/// How many of `partitions` are searched first for `candidates` rows, where `rows` of `total` are allowed.
fn first_probes(partitions: usize, candidates: usize, rows: u64, total: u64) -> usize {
    let selectivity = (rows as f64 / total.max(1) as f64).clamp(1e-6, 1.0);
    let usual = 3.0 * (partitions as f64).sqrt() / selectivity.sqrt();
    // Partitions differ in size: twice as many as would do if they did not.
    let per_partition = rows as f64 / partitions as f64;
    let filling = 2.0 * candidates as f64 / per_partition.max(1e-9);
    (usual.max(filling).ceil() as usize).clamp(1, partitions)
}

#[cfg(test)]
mod tests {
    use super::first_probes;

    #[test]
    fn probes_grow_with_partitions_with_k_and_with_the_condition() {
        assert_eq!(first_probes(1, 20, 1_000, 1_000), 1);
        assert_eq!(first_probes(73, 20, 299_000, 299_000), 26);
        assert_eq!(first_probes(73, 20, 29_900, 299_000), 73);
        assert_eq!(first_probes(4096, 20, 16_000_000, 16_000_000), 192);
        // 20,000 candidates need ten partitions of 4,096 rows even if near ones are full.
        assert_eq!(first_probes(1024, 400_000, 4_194_304, 4_194_304), 196);
        assert_eq!(first_probes(16, 10, 0, 0), 16);
    }
}
