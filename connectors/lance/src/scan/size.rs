//! How wide rows are: an estimate for planning, never a measurement.

use arrow::datatypes::{DataType, Field};

/// What a value of variable length is taken to need where nothing is known: a short text.
pub(crate) const VARIABLE_BYTES: usize = 32;

/// Bytes of one value in Arrow memory, variable parts counted as `variable` each.
pub(crate) fn width(data_type: &DataType, variable: usize) -> usize {
    match data_type {
        DataType::Null => 0,
        // Rounded up: a bit.
        DataType::Boolean => 1,
        DataType::FixedSizeBinary(n) => usize::try_from(*n).unwrap_or(0),
        DataType::FixedSizeList(item, n) => {
            width(item.data_type(), variable).saturating_mul(usize::try_from(*n).unwrap_or(0))
        }
        DataType::Struct(fields) => fields.iter().map(|f| width(f.data_type(), variable)).sum(),
        other => other.primitive_width().unwrap_or(variable + 4),
    }
}

/// Whether values have no fixed length.
pub(crate) fn is_variable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null | DataType::Boolean | DataType::FixedSizeBinary(_) => false,
        DataType::FixedSizeList(item, _) => is_variable(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| is_variable(f.data_type())),
        other => other.primitive_width().is_none(),
    }
}

/// What values of variable length need on average, from the bytes of the files: the share that columns
/// of fixed length do not explain. Encoded bytes are fewer than Arrow's, so this is a lower estimate.
pub(crate) fn variable_bytes<'a>(
    fields: impl Iterator<Item = &'a Field>,
    file_bytes: u64,
    rows: u64,
) -> usize {
    let (mut fixed, mut variable) = (0u64, 0u64);
    for field in fields {
        if is_variable(field.data_type()) {
            variable += 1;
        } else {
            fixed += width(field.data_type(), 0) as u64;
        }
    }
    if rows == 0 || variable == 0 || file_bytes == 0 {
        return VARIABLE_BYTES;
    }
    let left = (file_bytes / rows).saturating_sub(fixed) / variable;
    usize::try_from(left).unwrap_or(VARIABLE_BYTES).clamp(8, 1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn widths() {
        let vector = DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), 384);
        assert_eq!(width(&vector, 32), 1536);
        assert_eq!(width(&DataType::Int64, 32), 8);
        assert_eq!(width(&DataType::Utf8, 32), 36);
        let fields = [Field::new("a", DataType::Int64, false), Field::new("b", DataType::Utf8, true)];
        assert_eq!(variable_bytes(fields.iter(), 108_000, 1000), 100);
        assert_eq!(variable_bytes(fields.iter(), 0, 0), VARIABLE_BYTES);
    }
}
