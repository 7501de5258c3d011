//! What a pass has found, given out in batches.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, RecordBatch, RecordBatchOptions, new_null_array,
};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;

use super::LateralSearch;
use crate::lateral::kept::{Entry, Kept, merged};

/// See the module.
pub(super) struct Found {
    pub(super) left: Vec<RecordBatch>,
    pub(super) parts: Vec<Kept>,
    /// Where each partition's store begins among all stored batches.
    pub(super) offsets: Vec<usize>,
    /// The next query, its left batch and row, and the count of queries.
    pub(super) query: usize,
    pub(super) at: (usize, usize),
    pub(super) queries: usize,
    /// Rows that the last query had beyond a batch.
    pub(super) waiting: Vec<Row>,
    pub(super) schema: SchemaRef,
    pub(super) search: Arc<LateralSearch>,
    pub(super) size: usize,
}

/// A left row and what was found for it.
pub(super) type Row = ((usize, usize), Option<(usize, Entry)>);

impl Found {
    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut rows = std::mem::take(&mut self.waiting);
        while rows.len() < self.size && self.query < self.queries {
            while self.at.1 == self.left[self.at.0].num_rows() {
                self.at = (self.at.0 + 1, 0);
            }
            let spec = &self.search.spec;
            let found = merged(&mut self.parts, self.query, spec.k, spec.skip);
            if found.is_empty() && spec.left_join {
                rows.push((self.at, None));
            }
            rows.extend(found.into_iter().map(|f| (self.at, Some(f))));
            self.query += 1;
            self.at.1 += 1;
        }
        if rows.len() > self.size {
            self.waiting = rows.split_off(self.size);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        self.batch(&rows).map(Some)
    }

    fn batch(&self, rows: &[Row]) -> Result<RecordBatch> {
        let (of_left, of_right) = &self.search.output;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        let places: Vec<(usize, usize)> = rows.iter().map(|(at, _)| *at).collect();
        for column in of_left {
            let arrays: Vec<&dyn Array> = self.left.iter().map(|b| b.column(*column).as_ref()).collect();
            columns.push(interleave(&arrays, &places)?);
        }
        // The last array holds the NULL of rows that found nothing.
        let stored: usize = self.parts.iter().map(|p| p.store.len()).sum();
        let places: Vec<(usize, usize)> = rows
            .iter()
            .map(|(_, found)| match found {
                Some((part, entry)) => (self.offsets[*part] + entry.batch as usize, entry.row as usize),
                None => (stored, 0),
            })
            .collect();
        for i in 0..of_right.len() {
            let null = new_null_array(self.schema.field(of_left.len() + i).data_type(), 1);
            let mut arrays: Vec<&dyn Array> =
                self.parts.iter().flat_map(|p| &p.store).map(|b| b.column(i).as_ref()).collect();
            arrays.push(null.as_ref());
            columns.push(interleave(&arrays, &places)?);
        }
        let distance = |found: &Option<(usize, Entry)>| {
            found.as_ref().filter(|(_, e)| !e.is_null).map(|(_, e)| e.distance)
        };
        columns.push(Arc::new(rows.iter().map(|(_, f)| distance(f)).collect::<Float32Array>()));
        let found: BooleanArray = rows.iter().map(|(_, f)| f.as_ref().map(|_| true)).collect();
        columns.push(Arc::new(found));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}
