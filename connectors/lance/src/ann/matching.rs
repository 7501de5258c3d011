//! The rows that meet a condition, before the search.

use std::ops::Range;

use arrow::array::{AsArray, UInt64Array};
use arrow::datatypes::UInt64Type;
use datafusion::common::runtime::SpawnedTask;
use futures::TryStreamExt;
use lance::dataset::scanner::{RowAddrMask, RowAddrTreeMap};
use lance_core::{ROW_ADDR, ROW_ID};
use triune_common::{Error, ErrorKind, Result};

use crate::ann::exact::{Reads, column_of, reads, report};
use crate::ann::search::{AnnSpec, Run};
use crate::scan::pieces::{self, Piece};

/// The rows that match: for an index as a mask over row ids, for reading as places in fragments.
#[derive(Debug)]
pub(crate) struct Matching {
    pub(crate) mask: RowAddrMask,
    /// In the order of the dataset.
    pub(crate) pieces: Vec<Piece>,
    pub(crate) count: u64,
}

#[derive(Default)]
struct Part {
    pieces: Vec<(u64, Vec<Range<u64>>)>,
    ids: RowAddrTreeMap,
    count: u64,
}

/// Reads the columns of the condition, in as many partitions as the session has.
pub(crate) async fn matching(spec: &AnnSpec, run: &Run) -> Result<Matching> {
    let stable = spec.table.stable_row_ids();
    let mut columns = vec![spec.table.schema.index_of(ROW_ADDR)?];
    if stable {
        columns.push(spec.table.schema.index_of(ROW_ID)?);
    }
    let parts = pieces::split(&spec.table.fragments, run.partitions);
    let Reads { streams, metrics } = reads(spec, run, &columns, &spec.predicate, parts)?;
    let mut tasks = Vec::new();
    for mut stream in streams {
        tasks.push(SpawnedTask::spawn(async move {
            let mut part = Part::default();
            while let Some(batch) = stream.try_next().await? {
                let addresses: &UInt64Array = column_of(&batch, 0)?.as_primitive::<UInt64Type>();
                part.count += batch.num_rows() as u64;
                part.add_addresses(addresses.values());
                if stable {
                    part.ids.extend(column_of(&batch, 1)?.as_primitive::<UInt64Type>().values().iter());
                }
            }
            Ok::<_, Error>(part)
        }));
    }
    let (mut all, mut pieces, mut count) = (RowAddrTreeMap::new(), Vec::new(), 0);
    for task in tasks {
        let gone = |_| Error::new(ErrorKind::Cancelled, "the search for matching rows was cancelled");
        let part = task.join_unwind().await.map_err(gone)??;
        count += part.count;
        if stable {
            all |= &part.ids;
        }
        for (fragment, ranges) in part.pieces {
            if !stable {
                for range in &ranges {
                    all.insert_range((fragment << 32 | range.start)..(fragment << 32 | range.end));
                }
            }
            pieces.push(Piece { fragment, ranges: ranges.into() });
        }
    }
    report(&metrics, run);
    Ok(Matching { mask: RowAddrMask::from_allowed(all), pieces, count })
}

impl Part {
    /// Addresses grow within a partition.
    fn add_addresses(&mut self, addresses: &[u64]) {
        let mut rest = addresses;
        while let Some(first) = rest.first() {
            let fragment = first >> 32;
            let length = rest.partition_point(|a| a >> 32 == fragment);
            let ranges = pieces::ranges_of(rest[..length].iter().map(|a| a & u64::from(u32::MAX)), 0);
            match self.pieces.last_mut() {
                Some((last, known)) if *last == fragment => known.extend(ranges),
                _ => self.pieces.push((fragment, ranges)),
            }
            rest = &rest[length..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges_of(offsets: [u64; 2]) -> Vec<Range<u64>> {
        pieces::ranges_of(offsets, 0)
    }

    #[test]
    fn addresses_become_pieces() {
        let mut part = Part::default();
        part.add_addresses(&[1, 2, 5]);
        part.add_addresses(&[6, 7 << 32, (7 << 32) + 1]);
        assert_eq!(part.pieces, vec![(0, vec![1..3, 5..6, 6..7]), (7, ranges_of([0, 1]))]);
    }
}
