//! How a database is doing: what a server's metrics are made of.
//!
//! Everything is read where it is kept; nothing is counted twice for it. [`Database::vitals`] costs a look at the caches
//! and at each index's record, and no work on rows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryLimit, TrackConsumersPool};
use triune_common::{Result, boxed};
use triune_lance::CacheUse;
use triune_storage::store::MaintenanceInfo;

use crate::catalog::system_indexes::known;
use crate::database::Database;

/// A moment of a database.
#[derive(Debug, Clone)]
pub struct Vitals {
    pub at: DateTime<Utc>,
    pub statements_running: usize,
    pub memory: MemoryVitals,
    pub storage: StorageVitals,
    pub indexes: Vec<IndexVitals>,
    /// Indexes that are being built.
    pub index_builds: usize,
    pub caches: Vec<CacheUse>,
}

/// Memory that running statements reserve.
#[derive(Debug, Clone)]
pub struct MemoryVitals {
    pub reserved: usize,
    pub limit: Option<usize>,
    /// By the kind of operator; those that hold nothing are left out.
    pub consumers: BTreeMap<String, usize>,
}

/// The line of `system.maintenance`.
pub type StorageVitals = MaintenanceInfo;

/// A line of `system.indexes`.
#[derive(Debug, Clone)]
pub struct IndexVitals {
    pub schema: String,
    pub table: String,
    pub index: String,
    pub rows_indexed: u64,
    pub rows_unindexed: u64,
    pub rows_hot: u64,
    pub bytes_on_disk: Option<u64>,
    pub build_seconds: Option<f64>,
    pub last_upkeep: Option<DateTime<Utc>>,
}

impl Database {
    /// How the database is doing now.
    #[boxed]
    pub async fn vitals(&self) -> Result<Vitals> {
        let indexes = known(self).await?.into_iter().map(|(schema, table, info)| IndexVitals {
            schema,
            table,
            index: info.index.name().to_owned(),
            rows_indexed: info.rows_indexed,
            rows_unindexed: info.rows_unindexed,
            rows_hot: info.rows_hot,
            bytes_on_disk: info.bytes_on_disk,
            build_seconds: info.build_seconds,
            last_upkeep: info.last_upkeep,
        });
        Ok(Vitals {
            at: self.clock().now(),
            statements_running: self.queries().running(),
            memory: self.memory(),
            storage: self.store().maintenance(),
            indexes: indexes.collect(),
            index_builds: self.store().index_progress().len(),
            caches: self.lance().cache_use().await,
        })
    }

    fn memory(&self) -> MemoryVitals {
        let pool = &self.runtime().memory_pool;
        let mut consumers = BTreeMap::new();
        if let Some(tracked) = pool.downcast_ref::<TrackConsumersPool<FairSpillPool>>() {
            for consumer in tracked.metrics().into_iter().filter(|c| c.reserved > 0) {
                *consumers.entry(kind_of_consumer(&consumer.name).to_owned()).or_insert(0) +=
                    consumer.reserved;
            }
        }
        let limit = match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => Some(bytes),
            MemoryLimit::Infinite | MemoryLimit::Unknown => None,
        };
        MemoryVitals { reserved: pool.reserved(), limit, consumers }
    }
}

/// `ExternalSorter[3]` → `ExternalSorter`: names hold numbers of partitions and texts of expressions, of which there is no
/// end.
fn kind_of_consumer(name: &str) -> &str {
    let end = name.find(|c: char| !(c.is_alphabetic() || c == '_' || c == ' ')).unwrap_or(name.len());
    match name[..end].trim_end() {
        "" => "other",
        kind => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_consumers_are_few() {
        for (name, kind) in [
            ("ExternalSorter[3]", "ExternalSorter"),
            ("GroupedHashAggregateStream[0] (count(1))", "GroupedHashAggregateStream"),
            ("weights of a model", "weights of a model"),
            ("[3]", "other"),
            ("", "other"),
        ] {
            assert_eq!(kind_of_consumer(name), kind);
        }
    }
}
