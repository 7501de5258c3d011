//! A file's batch in the shape of the table: columns by name, NULL for the absent, types widened.

use std::collections::HashMap;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;

/// Made once for a file, used for each of its batches.
#[derive(Debug, Clone)]
pub(crate) struct Aligner {
    wanted: SchemaRef,
    /// For each column that is wanted, where the file has it.
    sources: Vec<Option<usize>>,
}

impl Aligner {
    pub(crate) fn new(file: &Schema, wanted: SchemaRef) -> Self {
        let at: HashMap<&str, usize> =
            file.fields().iter().enumerate().map(|(i, f)| (f.name().as_str(), i)).collect();
        let sources = wanted.fields().iter().map(|f| at.get(f.name().as_str()).copied()).collect();
        Self { wanted, sources }
    }

    /// # Errors
    /// A value that does not fit the table's type.
    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let rows = batch.num_rows();
        let columns = self
            .wanted
            .fields()
            .iter()
            .zip(&self.sources)
            .map(|(field, source)| match source {
                None => Ok(new_null_array(field.data_type(), rows)),
                Some(at) if batch.column(*at).data_type() == field.data_type() => {
                    Ok(ArrayRef::clone(batch.column(*at)))
                }
                Some(at) => {
                    let options = CastOptions { safe: false, ..CastOptions::default() };
                    cast_with_options(batch.column(*at), field.data_type(), &options)
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(SchemaRef::clone(&self.wanted), columns, &options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{Array, AsArray, Int32Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type};

    #[test]
    fn columns_are_moved_widened_and_filled() {
        let file = Arc::new(Schema::new(vec![
            Field::new("b", DataType::Utf8, true),
            Field::new("a", DataType::Int32, true),
        ]));
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec!["x"])), Arc::new(Int32Array::from(vec![7]))];
        let batch = RecordBatch::try_new(Arc::clone(&file), columns).unwrap();
        let wanted = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("c", DataType::Boolean, true),
        ]));
        let out = Aligner::new(&file, wanted).apply(&batch).unwrap();
        assert_eq!(out.column(0).as_primitive::<Int64Type>().value(0), 7);
        assert_eq!(out.column(1).null_count(), 1);
        let none = Aligner::new(&file, Arc::new(Schema::empty())).apply(&batch).unwrap();
        assert_eq!((none.num_columns(), none.num_rows()), (0, 1));
    }
}
