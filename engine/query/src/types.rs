//! Arrow types under the names that a user types.

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use triune_vector::types::VectorType;

/// The SQL name of a column's type: `BIGINT`, `VARCHAR`, `VECTOR(384)`, `TIMESTAMP`, `INTEGER[]` …
pub fn sql_type_name(field: &Field) -> String {
    if let Some(form) = crate::ddl::types::named(field) {
        return form.label().to_owned();
    }
    if let Some(vector) = VectorType::from_field(field) {
        return vector.to_string();
    }
    name_of(field.data_type())
}

/// The SQL name of a type that no field says more about.
pub(crate) fn name_of(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "NULL".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INTEGER".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "UTINYINT".into(),
        DataType::UInt16 => "USMALLINT".into(),
        DataType::UInt32 => "UINTEGER".into(),
        DataType::UInt64 => "UBIGINT".into(),
        DataType::Float16 => "HALF".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BLOB".into(),
        DataType::FixedSizeBinary(n) => format!("BLOB({n})"),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(unit, zone) => {
            let precision = match unit {
                TimeUnit::Second => "(0)",
                TimeUnit::Millisecond => "(3)",
                TimeUnit::Microsecond => "",
                TimeUnit::Nanosecond => "(9)",
            };
            let base = if zone.is_some() { "TIMESTAMPTZ" } else { "TIMESTAMP" };
            format!("{base}{precision}")
        }
        DataType::Duration(_) => "DURATION".into(),
        DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime | IntervalUnit::MonthDayNano) => {
            "INTERVAL".into()
        }
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => format!("DECIMAL({p},{s})"),
        DataType::List(f) | DataType::LargeList(f) | DataType::ListView(f) | DataType::LargeListView(f) => {
            format!("{}[]", sql_type_name(f))
        }
        DataType::FixedSizeList(f, n) => format!("{}[{n}]", sql_type_name(f)),
        DataType::Struct(fields) => {
            let inner: Vec<String> =
                fields.iter().map(|f| format!("{} {}", f.name(), sql_type_name(f))).collect();
            format!("STRUCT({})", inner.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                format!("MAP({}, {})", sql_type_name(&kv[0]), sql_type_name(&kv[1]))
            }
            _ => "MAP".into(),
        },
        DataType::Dictionary(_, value) => name_of(value),
        DataType::RunEndEncoded(_, value) => sql_type_name(value),
        DataType::Union(..) => "UNION".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_sql() {
        let name = |t: DataType| sql_type_name(&Field::new("c", t, true));
        assert_eq!(name(DataType::Int64), "BIGINT");
        assert_eq!(name(DataType::new_list(DataType::Int32, true)), "INTEGER[]");
        assert_eq!(name(DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))), "TIMESTAMPTZ(9)");
        assert_eq!(name(DataType::Decimal128(10, 2)), "DECIMAL(10,2)");
        assert_eq!(name(DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8))), "VARCHAR");
    }
}
