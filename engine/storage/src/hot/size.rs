//! How many bytes rows take, without asking for the buffers they are slices of.
//!
//! Arrow's own `get_array_memory_size` counts whole buffers: a one-row batch that was decoded from a WAL frame would
//! count the frame once per column. Here a slice counts what it shows, which is what it takes once it has been
//! gathered with its neighbours.

use arrow::array::{Array, AsArray, OffsetSizeTrait, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;

/// Bytes of all columns of the batch.
pub fn bytes_of_batch(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|c| bytes_of(c.as_ref())).sum()
}

/// Bytes of the values, offsets and null bits that the array shows. Cost: independent of the number of rows, except
/// for view types.
pub(super) fn bytes_of(array: &dyn Array) -> usize {
    use DataType as T;
    let rows = array.len();
    let nulls = if array.nulls().is_some() { rows.div_ceil(8) } else { 0 };
    let values = match array.data_type() {
        T::Null => 0,
        T::Boolean => rows.div_ceil(8),
        T::Utf8 => spanned(array.as_string::<i32>().offsets()).total(),
        T::LargeUtf8 => spanned(array.as_string::<i64>().offsets()).total(),
        T::Binary => spanned(array.as_binary::<i32>().offsets()).total(),
        T::LargeBinary => spanned(array.as_binary::<i64>().offsets()).total(),
        T::Utf8View => views(rows, array.as_string_view().views()),
        T::BinaryView => views(rows, array.as_binary_view().views()),
        T::FixedSizeBinary(width) => rows * usize::try_from(*width).unwrap_or(0),
        T::FixedSizeList(..) => bytes_of(array.as_fixed_size_list().values().as_ref()),
        T::List(_) => {
            let list = array.as_list::<i32>();
            let span = spanned(list.offsets());
            span.offsets + bytes_of(list.values().slice(span.first, span.len).as_ref())
        }
        T::LargeList(_) => {
            let list = array.as_list::<i64>();
            let span = spanned(list.offsets());
            span.offsets + bytes_of(list.values().slice(span.first, span.len).as_ref())
        }
        T::Struct(_) => array.as_struct().columns().iter().map(|c| bytes_of(c.as_ref())).sum(),
        other => match other.primitive_width() {
            Some(width) => rows * width,
            None => {
                let data = array.to_data();
                return data.get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
            }
        },
    };
    nulls + values
}

struct Span {
    first: usize,
    len: usize,
    /// Bytes of the offsets themselves.
    offsets: usize,
}

impl Span {
    fn total(&self) -> usize {
        self.len + self.offsets
    }
}

fn spanned<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> Span {
    let first = offsets.first().map_or(0, |o| o.as_usize());
    let last = offsets.last().map_or(0, |o| o.as_usize());
    Span { first, len: last - first, offsets: size_of_val(&offsets[..]) }
}

/// A view is 16 bytes; values of up to 12 bytes lie inside it.
fn views(rows: usize, views: &[u128]) -> usize {
    let outside = |v: &u128| {
        let len = (*v as u32) as usize;
        if len > 12 { len } else { 0 }
    };
    rows * 16 + views.iter().map(outside).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, FixedSizeListArray, Int64Array, ListArray, StringArray, StringViewArray};
    use arrow::datatypes::{Float32Type, Int32Type};

    use super::*;

    #[test]
    fn a_slice_counts_what_it_shows() {
        let ints: ArrayRef = Arc::new(Int64Array::from((0..1000).collect::<Vec<_>>()));
        assert_eq!(bytes_of(&ints.slice(10, 3)), 24);
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["aaaa"; 100]));
        assert_eq!(bytes_of(&texts.slice(50, 2)), 2 * 4 + 3 * 4);
        let vectors: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            (0..10).map(|_| Some(vec![Some(1.0); 16])),
            16,
        ));
        // 16 floats and their null bits.
        assert_eq!(bytes_of(&vectors.slice(9, 1)), 64);
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
            (0..10).map(|i| Some(vec![Some(1); i])),
        ));
        assert!(bytes_of(&lists.slice(2, 2)) < 40);
        let views: ArrayRef =
            Arc::new(StringViewArray::from(vec!["short", "a text of more than twelve bytes"]));
        assert_eq!(bytes_of(&views), 32 + 32);
    }
}
