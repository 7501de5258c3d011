//! Which columns are vectors, in which row groups they are plain, and which rows a part of a file has.

use std::ops::Range;

use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::Result;
use datafusion::datasource::listing::FileRange;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::basic::{Encoding, Type};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use triune_common::Error;

/// A column of fixed-size lists and how its elements lie in a file and in memory.
#[derive(Debug, Clone)]
pub(crate) struct VectorColumn {
    /// The table's field, whose type the vectors come out with.
    pub(crate) field: FieldRef,
    pub(crate) element: FieldRef,
    /// Its place among the file's columns, and among the leaves of the file's schema.
    pub(crate) root: usize,
    pub(crate) leaf: usize,
    pub(crate) dims: usize,
    /// Bytes of an element in the file and in memory.
    pub(crate) file_width: usize,
    pub(crate) width: usize,
    /// The definition level of a value that is there.
    pub(crate) max_definition: u16,
}

/// The element and the number of elements, if a type is one of vectors that we can take as bytes.
pub(crate) fn vector_of(data_type: &DataType) -> Option<(&FieldRef, usize)> {
    match data_type {
        DataType::FixedSizeList(element, dims) if widths(element.data_type()).is_some() => {
            Some((element, usize::try_from(*dims).ok().filter(|d| *d > 0)?))
        }
        _ => None,
    }
}

/// The physical type of an element with its bytes in a file and in memory.
fn widths(element: &DataType) -> Option<(Type, usize, usize)> {
    match element {
        DataType::Float32 => Some((Type::FLOAT, 4, 4)),
        DataType::Float64 => Some((Type::DOUBLE, 8, 8)),
        DataType::Float16 => Some((Type::FIXED_LEN_BYTE_ARRAY, 2, 2)),
        DataType::Int8 | DataType::UInt8 => Some((Type::INT32, 4, 1)),
        _ => None,
    }
}

impl VectorColumn {
    /// The column of a file (its schema in Arrow's terms is `file`) that a field of the table is read from; `None`
    /// if the file has it in another shape.
    pub(crate) fn find(field: &FieldRef, metadata: &ParquetMetaData, file: &Schema) -> Option<Self> {
        let (element, dims) = vector_of(field.data_type())?;
        let (physical, file_width, width) = widths(element.data_type())?;
        let (root, found) = file.column_with_name(field.name())?;
        // Writers without fixed-size lists write lists; whether they are full is told by the number of values.
        let file_element = match found.data_type() {
            DataType::FixedSizeList(e, file_dims) if usize::try_from(*file_dims) == Ok(dims) => e,
            DataType::List(e) | DataType::LargeList(e) => e,
            _ => return None,
        };
        if file_element.data_type() != element.data_type() {
            return None;
        }
        let schema = metadata.file_metadata().schema_descr();
        let mut leaves = (0..schema.num_columns()).filter(|leaf| schema.get_column_root_idx(*leaf) == root);
        let (Some(leaf), None) = (leaves.next(), leaves.next()) else { return None };
        let descriptor = schema.column(leaf);
        let fits = descriptor.physical_type() == physical
            && descriptor.max_rep_level() == 1
            && (physical != Type::FIXED_LEN_BYTE_ARRAY || descriptor.type_length() == 2)
            && schema.root_schema().get_fields().get(root)?.name() == field.name();
        let max_definition = u16::try_from(descriptor.max_def_level()).ok()?;
        fits.then(|| Self {
            field: FieldRef::clone(field),
            element: FieldRef::clone(element),
            root,
            leaf,
            dims,
            file_width,
            width,
            max_definition,
        })
    }

    /// Whether the footer tells that a row group's vectors are all there and full, in encodings that we read.
    pub(crate) fn is_plain(&self, row_group: &RowGroupMetaData) -> bool {
        let chunk = row_group.column(self.leaf);
        let rows = usize::try_from(row_group.num_rows()).unwrap_or(0);
        let values = usize::try_from(chunk.num_values()).unwrap_or(0);
        // A NULL or empty list counts as one value, so with one of those there are too few.
        let full = rows > 0 && rows.checked_mul(self.dims) == Some(values);
        let present = chunk.definition_level_histogram().map_or_else(
            || match chunk.statistics().and_then(|s| s.null_count_opt()) {
                Some(nulls) => nulls == 0,
                // Only the list itself has a level: there is nothing else to be NULL.
                None => self.max_definition == 1,
            },
            |levels| levels.values().last() == Some(&chunk.num_values()),
        );
        let readable = chunk.encodings().all(|e| {
            matches!(
                e,
                Encoding::PLAIN
                    | Encoding::RLE
                    | Encoding::RLE_DICTIONARY
                    | Encoding::PLAIN_DICTIONARY
                    | Encoding::BYTE_STREAM_SPLIT
            )
        });
        full && present && readable && chunk.file_path().is_none() && chunk.compressed_size() > 0
    }
}

/// For each row group the rows that a part of a file has: a part of its bytes has the same part of its rows.
/// Parts that share no byte share no row, and parts that make up the file have all of them.
pub(crate) fn rows_of(metadata: &ParquetMetaData, part: Option<&FileRange>) -> Vec<Range<usize>> {
    metadata
        .row_groups()
        .iter()
        .map(|group| {
            let rows = usize::try_from(group.num_rows()).unwrap_or(0);
            let Some(part) = part else { return 0..rows };
            let start = group.columns().iter().map(|c| c.byte_range().0).min().unwrap_or(0);
            let length = u64::try_from(group.compressed_size()).unwrap_or(0).max(1);
            let row_at = |byte: i64| {
                let inside = u64::try_from(byte).unwrap_or(0).saturating_sub(start).min(length);
                let row = u128::from(inside) * rows as u128 / u128::from(length);
                usize::try_from(row).unwrap_or(rows)
            };
            row_at(part.start)..row_at(part.end)
        })
        .collect()
}

/// How the rows are read: whole row groups as such, parts of them as a selection.
pub(crate) fn access_of(metadata: &ParquetMetaData, rows: &[Range<usize>]) -> ParquetAccessPlan {
    let groups = metadata.row_groups().iter().zip(rows).map(|(group, rows)| {
        let all = usize::try_from(group.num_rows()).unwrap_or(0);
        if rows.is_empty() {
            return RowGroupAccess::Skip;
        }
        if *rows == (0..all) {
            return RowGroupAccess::Scan;
        }
        let selectors = [
            RowSelector::skip(rows.start),
            RowSelector::select(rows.len()),
            RowSelector::skip(all - rows.end.min(all)),
        ];
        RowGroupAccess::Selection(RowSelection::from(Vec::from(selectors)))
    });
    ParquetAccessPlan::new(groups.collect())
}

/// Reads single rows, by their ascending places in the file.
///
/// # Errors
/// A row beyond the last: the file is another one by now.
pub(crate) fn access_of_rows(metadata: &ParquetMetaData, rows: &[u64]) -> Result<ParquetAccessPlan> {
    let mut plan = ParquetAccessPlan::new_none(metadata.num_row_groups());
    let mut rows = rows.iter().copied().peekable();
    let mut first = 0_u64;
    for (i, group) in metadata.row_groups().iter().enumerate() {
        let end = first + u64::try_from(group.num_rows()).unwrap_or(0);
        let mut selectors = Vec::new();
        let mut at = first;
        while let Some(row) = rows.next_if(|row| *row < end) {
            selectors.push(RowSelector::skip(usize::try_from(row - at).unwrap_or(usize::MAX)));
            selectors.push(RowSelector::select(1));
            at = row + 1;
        }
        if !selectors.is_empty() {
            selectors.push(RowSelector::skip(usize::try_from(end - at).unwrap_or(usize::MAX)));
            plan.set(i, RowGroupAccess::Selection(RowSelection::from(selectors)));
        }
        first = end;
    }
    match rows.next() {
        None => Ok(plan),
        Some(_) => Err(Error::data("a file has fewer rows than it had when it was scanned").into()),
    }
}

/// The runs of row groups for which all columns are plain, or for which some is not, among those that are read.
pub(crate) fn runs(
    metadata: &ParquetMetaData,
    columns: &[VectorColumn],
    access: &ParquetAccessPlan,
) -> Vec<(bool, ParquetAccessPlan)> {
    let mut runs: Vec<(bool, ParquetAccessPlan)> = Vec::new();
    for (i, group) in metadata.row_groups().iter().enumerate() {
        let how = &access.inner()[i];
        if matches!(how, RowGroupAccess::Skip) {
            continue;
        }
        let plain = columns.iter().all(|c| c.is_plain(group));
        if runs.last().is_none_or(|(last, _)| *last != plain) {
            runs.push((plain, ParquetAccessPlan::new_none(access.len())));
        }
        if let Some((_, plan)) = runs.last_mut() {
            plan.set(i, how.clone());
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    #[test]
    fn parts_of_a_file_have_each_row_once() {
        let numbers = Arc::new(Int64Array::from_iter_values(0..5000));
        let batch = RecordBatch::try_from_iter([("n", numbers as _)]).unwrap();
        for most in [5000, 1024, 7] {
            let properties = WriterProperties::builder().set_max_row_group_row_count(Some(most)).build();
            let mut bytes = Vec::new();
            let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
            writer.write(&batch).unwrap();
            let metadata = writer.close().unwrap();
            for parts in [1, 2, 3, 10] {
                let cut = |i: usize| (bytes.len() * i / parts) as i64;
                let shares: Vec<_> = (0..parts)
                    .map(|i| rows_of(&metadata, Some(&FileRange { start: cut(i), end: cut(i + 1) })))
                    .collect();
                for (g, group) in metadata.row_groups().iter().enumerate() {
                    let mut at = 0;
                    for share in &shares {
                        assert_eq!(share[g].start, at);
                        at = share[g].end;
                    }
                    assert_eq!(at as i64, group.num_rows());
                }
                if most == 5000 {
                    let most = shares.iter().map(|s| s[0].len()).max().unwrap();
                    assert!(most <= 5000 / parts + 200, "{most} rows in one of {parts} parts");
                }
            }
        }
    }
}
