//! What is known of a dataset's vector indexes.

use std::sync::Arc;

use arrow::datatypes::Schema;
use lance::Dataset;
use lance::index::DatasetIndexExt;
use serde_json::Value;
use triune_common::names::did_you_mean;
use triune_common::{Error, Result};

use crate::error::from_lance;
use crate::metric::LanceMetric;

/// How an index keeps vectors; anything but `Flat` gives approximate distances, which a search corrects
/// by reading the vectors of its best candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// The vectors themselves.
    Flat,
    /// Product quantisation.
    Product,
    /// Eight bits a number.
    Scalar,
    /// RaBitQ with this many bits a number.
    Rabit { bits: u32 },
}

/// A vector index of one column, over all its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorIndexInfo {
    pub name: String,
    pub column: String,
    pub metric: LanceMetric,
    /// Lance's name: `IVF_PQ`, `IVF_RQ`, `IVF_HNSW_SQ`, `IVF_FLAT`, …
    pub index_type: String,
    pub compression: Compression,
    /// Rows of fragments that the index covers, rows deleted since included.
    pub indexed_rows: u64,
    /// Rows of fragments that came after it; a search reads these as they are.
    pub unindexed_rows: u64,
    /// Whether Lance takes this one by itself: it asks the first index of a column only.
    pub(crate) is_first: bool,
}

impl VectorIndexInfo {
    /// How many times `k` candidates are read again exactly, where a statement does not say.
    ///
    /// Chosen for a recall of about 0.95 on real embeddings: the fewer bits a code has, the more
    /// candidates are needed.
    pub fn default_refine_factor(&self, k: usize) -> u32 {
        // The order of approximate distances says little about the first few rows.
        let (usual, least) = match self.compression {
            Compression::Flat => return 1,
            Compression::Product => (10, 150_usize),
            Compression::Scalar => (2, 50),
            Compression::Rabit { bits } if bits >= 4 => (2, 50),
            Compression::Rabit { bits } if bits >= 2 => (5, 50),
            Compression::Rabit { .. } => (10, 50),
        };
        usual.max(u32::try_from(least.div_ceil(k.max(1))).unwrap_or(usual))
    }
}

/// All vector indexes of a dataset, in the order in which Lance considers them.
pub(crate) async fn describe(dataset: &Arc<Dataset>) -> Result<Vec<VectorIndexInfo>> {
    let metadata = dataset.load_indices().await.map_err(from_lance)?;
    if metadata.is_empty() {
        return Ok(Vec::new());
    }
    let described = Box::pin(dataset.describe_indices(None)).await.map_err(from_lance)?;
    let mut out: Vec<VectorIndexInfo> = Vec::new();
    for entry in metadata.iter() {
        if out.iter().any(|i| i.name == entry.name) {
            continue;
        }
        let Some(description) = described.iter().find(|d| d.name() == entry.name) else { continue };
        if !description.type_url().ends_with("VectorIndexDetails") {
            continue;
        }
        let Some(field) =
            entry.fields.first().and_then(|id| dataset.schema().fields.iter().find(|f| f.id == *id))
        else {
            // An index of a field inside a struct: no column of the table to search by.
            continue;
        };
        let details: Value = serde_json::from_str(&description.details().map_err(from_lance)?)
            .map_err(|e| Error::data(format!("the description of index {} is no JSON: {e}", entry.name)))?;
        let Some(metric) = details["metric_type"].as_str().and_then(LanceMetric::from_lance_name) else {
            continue;
        };
        let covered = |fragment: u32| {
            description
                .segments()
                .iter()
                .any(|s| s.fragment_bitmap.as_ref().is_some_and(|b| b.contains(fragment)))
        };
        let (mut indexed_rows, mut unindexed_rows) = (0, 0);
        for fragment in dataset.fragments().iter() {
            let rows = fragment.num_rows().or(fragment.physical_rows).unwrap_or(0) as u64;
            if u32::try_from(fragment.id).is_ok_and(covered) {
                indexed_rows += rows;
            } else {
                unindexed_rows += rows;
            }
        }
        out.push(VectorIndexInfo {
            name: entry.name.clone(),
            column: field.name.clone(),
            metric,
            index_type: description.index_type().to_owned(),
            compression: compression(&details["compression"]),
            indexed_rows,
            unindexed_rows,
            is_first: !out.iter().any(|i| i.column == field.name),
        });
    }
    Ok(out)
}

fn compression(details: &Value) -> Compression {
    match details["type"].as_str() {
        Some("pq") => Compression::Product,
        Some("sq") => Compression::Scalar,
        Some("rq") => {
            let bits = details["num_bits"].as_u64().and_then(|b| u32::try_from(b).ok());
            Compression::Rabit { bits: bits.unwrap_or(1) }
        }
        _ => Compression::Flat,
    }
}

/// How many partitions the largest segment of an index has. Opens the index.
pub(crate) async fn partitions(dataset: &Arc<Dataset>, name: &str) -> Result<usize> {
    let text = Box::pin(dataset.index_statistics(name)).await.map_err(from_lance)?;
    let statistics: Value = serde_json::from_str(&text)
        .map_err(|e| Error::data(format!("the statistics of index {name} are no JSON: {e}")))?;
    let segments = statistics["indices"].as_array().map(Vec::as_slice).unwrap_or_default();
    let most = segments.iter().filter_map(|s| s["num_partitions"].as_u64()).max();
    Ok(most.and_then(|n| usize::try_from(n).ok()).unwrap_or(1).max(1))
}

/// An error with a near name for a column that does not exist.
pub(crate) fn check_column(schema: &Schema, column: &str) -> Result<usize> {
    schema.index_of(column).map_err(|_| {
        let error = Error::not_found(format!("the Lance dataset has no column \"{column}\""));
        match did_you_mean(column, schema.fields().iter().map(|f| f.name().as_str())) {
            Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
            None => error,
        }
    })
}
