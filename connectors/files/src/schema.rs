//! One schema for several files: columns by name, in the order in which they first appear.
//!
//! | in one file  | in another    | in the table                                                        |
//! |--------------|---------------|---------------------------------------------------------------------|
//! | absent       | any           | that type, NULL where it is absent                                  |
//! | INTEGER      | BIGINT        | BIGINT (the wider number; DOUBLE when one is a float)               |
//! | DATE         | TIMESTAMP     | TIMESTAMP                                                           |
//! | struct       | struct        | their fields, merged in the same way                                |
//! | BIGINT       | VARCHAR       | VARCHAR in CSV and JSON, which are text; elsewhere an error         |
//! | VECTOR(3)    | VECTOR(4)     | an error that names both files                                      |

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use triune_common::{Error, Result};

use crate::kind::FileKind;

/// What is kept of a field's metadata: the name and parameters of its extension type. The rest (ids of
/// Parquet columns, comments of other tools) differs between files and means nothing to a query.
const KEPT: &str = "ARROW:extension:";

/// A file's schema without foreign metadata and with types that every reader can fill.
pub(crate) fn cleaned(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(|f| clean_field(f)).collect::<Fields>())
}

fn clean_field(field: &Field) -> FieldRef {
    let metadata: HashMap<String, String> = field
        .metadata()
        .iter()
        .filter(|(k, _)| k.starts_with(KEPT))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    Arc::new(field.clone().with_metadata(metadata))
}

/// Merges the schemas of files, each given with its name for messages.
pub(crate) fn merge(kind: FileKind, files: &[(String, Schema)]) -> Result<Schema> {
    struct Column<'a> {
        field: Field,
        /// The file that gave it its present type.
        file: &'a str,
        seen: usize,
    }
    let mut order: Vec<String> = Vec::new();
    let mut columns: HashMap<String, Column<'_>> = HashMap::new();
    for (file, schema) in files {
        let mut here = HashSet::new();
        for field in schema.fields() {
            if !here.insert(field.name()) {
                return Err(Error::data(format!("\"{file}\" has two columns called \"{}\"", field.name())));
            }
            match columns.get_mut(field.name()) {
                None => {
                    order.push(field.name().clone());
                    let column = Column { field: field.as_ref().clone(), file, seen: 1 };
                    columns.insert(field.name().clone(), column);
                }
                Some(column) => {
                    column.seen += 1;
                    let data_type = widen(kind, column.field.data_type(), field.data_type());
                    let metadata = merge_metadata(&column.field, field);
                    let (Some(data_type), Some(metadata)) = (data_type, metadata) else {
                        return Err(Error::data(format!(
                            "column \"{}\" is {} in \"{}\" and {} in \"{file}\"",
                            field.name(),
                            described(&column.field),
                            column.file,
                            described(field)
                        ))
                        .with_hint("declare the column's type, or read the files as two tables"));
                    };
                    if &data_type != column.field.data_type() {
                        column.file = file;
                    }
                    let nullable = column.field.is_nullable() || field.is_nullable();
                    column.field = Field::new(field.name(), data_type, nullable).with_metadata(metadata);
                }
            }
        }
    }
    let fields: Fields = order
        .iter()
        .filter_map(|name| columns.remove(name))
        .map(|c| {
            // Absent somewhere: NULL there.
            let nullable = c.field.is_nullable() || c.seen < files.len();
            Arc::new(c.field.with_nullable(nullable))
        })
        .collect();
    Ok(Schema::new(fields))
}

fn merge_metadata(a: &Field, b: &Field) -> Option<HashMap<String, String>> {
    match (a.metadata().is_empty(), b.metadata().is_empty()) {
        (true, _) => Some(b.metadata().clone()),
        (_, true) => Some(a.metadata().clone()),
        _ => (a.metadata() == b.metadata()).then(|| a.metadata().clone()),
    }
}

/// The type that holds the values of both.
fn widen(kind: FileKind, a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{
        Boolean, Date32, Date64, Dictionary, FixedSizeList, Float16, Float32, Float64, Int64, LargeList,
        LargeUtf8, List, Null, Struct, Timestamp, UInt64, Utf8, Utf8View,
    };
    if a == b {
        return Some(a.clone());
    }
    let is_text = |t: &DataType| matches!(t, Utf8 | LargeUtf8 | Utf8View);
    let is_binary =
        |t: &DataType| matches!(t, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    let is_float = |t: &DataType| matches!(t, Float16 | Float32 | Float64);
    match (a, b) {
        (Null, other) | (other, Null) => Some(other.clone()),
        _ if a.is_integer() && b.is_integer() => Some(wider_integer(a, b)),
        _ if (a.is_integer() && is_float(b)) || (is_float(a) && b.is_integer()) => Some(Float64),
        _ if is_float(a) && is_float(b) => {
            Some(if a == &Float64 || b == &Float64 { Float64 } else { Float32 })
        }
        (DataType::Decimal128(p, s), DataType::Decimal128(q, t)) => {
            let scale = *s.max(t);
            let whole = (i16::from(*p) - i16::from(*s)).max(i16::from(*q) - i16::from(*t));
            let precision = u8::try_from(whole + i16::from(scale)).ok().filter(|p| *p <= 38)?;
            Some(DataType::Decimal128(precision, scale))
        }
        (Date32 | Date64, Timestamp(unit, tz)) | (Timestamp(unit, tz), Date32 | Date64) => {
            Some(Timestamp(*unit, tz.clone()))
        }
        (Date32, Date64) | (Date64, Date32) => Some(Date64),
        (Timestamp(u, x), Timestamp(v, y)) if x == y => Some(Timestamp(finer(*u, *v), x.clone())),
        _ if is_text(a) && is_text(b) => {
            Some(if a == &Utf8View || b == &Utf8View { Utf8View } else { LargeUtf8 })
        }
        _ if is_binary(a) && is_binary(b) => Some(DataType::LargeBinary),
        (Dictionary(_, v), other) | (other, Dictionary(_, v)) => {
            let other = if let Dictionary(_, o) = other { o.as_ref() } else { other };
            widen(kind, v, other)
        }
        (Struct(x), Struct(y)) => widen_struct(kind, x, y).map(Struct),
        (List(x), List(y)) => Some(List(widen_item(kind, x, y)?)),
        (LargeList(x) | List(x), LargeList(y) | List(y)) => Some(LargeList(widen_item(kind, x, y)?)),
        // Only the names and nullability of the items may differ: vectors keep their length and type.
        (FixedSizeList(x, n), FixedSizeList(y, m)) if n == m && x.data_type() == y.data_type() => {
            let nullable = x.is_nullable() || y.is_nullable();
            Some(FixedSizeList(Arc::new(x.as_ref().clone().with_nullable(nullable)), *n))
        }
        // What inference takes for a number in one text file may be a word in the next.
        _ if matches!(kind, FileKind::Csv) && is_scalar(a) && is_scalar(b) => Some(Utf8),
        _ if matches!(kind, FileKind::Json)
            && [a, b].iter().all(|t| is_text(t) || matches!(t, Boolean | Int64 | UInt64 | Float64)) =>
        {
            Some(Utf8)
        }
        _ => None,
    }
}

fn is_scalar(t: &DataType) -> bool {
    !t.is_nested()
}

fn wider_integer(a: &DataType, b: &DataType) -> DataType {
    let bits = |t: &DataType| t.primitive_width().unwrap_or(8) * 8;
    let (sa, sb) = (a.is_signed_integer(), b.is_signed_integer());
    let needed = match (sa, sb) {
        (true, true) => bits(a).max(bits(b)),
        (false, false) => {
            return match bits(a).max(bits(b)) {
                8 => DataType::UInt8,
                16 => DataType::UInt16,
                32 => DataType::UInt32,
                _ => DataType::UInt64,
            };
        }
        // One more bit for the sign.
        (true, false) => bits(a).max(bits(b) * 2),
        (false, true) => bits(b).max(bits(a) * 2),
    };
    match needed {
        0..=8 => DataType::Int8,
        16 => DataType::Int16,
        32 => DataType::Int32,
        64 => DataType::Int64,
        // UBIGINT beside a signed type fits no integer.
        _ => DataType::Decimal128(20, 0),
    }
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    let rank = |u: TimeUnit| match u {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    if rank(a) >= rank(b) { a } else { b }
}

fn widen_item(kind: FileKind, a: &Field, b: &Field) -> Option<FieldRef> {
    let data_type = widen(kind, a.data_type(), b.data_type())?;
    Some(Arc::new(Field::new(a.name(), data_type, a.is_nullable() || b.is_nullable())))
}

fn widen_struct(kind: FileKind, a: &Fields, b: &Fields) -> Option<Fields> {
    let mut fields: Vec<Field> = Vec::new();
    for x in a {
        match b.iter().find(|y| y.name() == x.name()) {
            Some(y) => fields.push(widen_item(kind, x, y)?.as_ref().clone()),
            None => fields.push(x.as_ref().clone().with_nullable(true)),
        }
    }
    fields.extend(
        b.iter()
            .filter(|y| a.iter().all(|x| x.name() != y.name()))
            .map(|y| y.as_ref().clone().with_nullable(true)),
    );
    Some(fields.into())
}

fn described(field: &Field) -> String {
    match field.metadata().get("ARROW:extension:name") {
        Some(extension) => format!("{} ({extension})", sql_type(field.data_type())),
        None => sql_type(field.data_type()),
    }
}

/// A type's name for messages.
pub(crate) fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BLOB".to_owned(),
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".to_owned(),
        DataType::Decimal128(p, s) => format!("DECIMAL({p},{s})"),
        DataType::FixedSizeList(item, n) => format!("{}[{n}]", sql_type(item.data_type())),
        DataType::List(item) | DataType::LargeList(item) => format!("{}[]", sql_type(item.data_type())),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), false)).collect::<Vec<_>>())
    }

    fn merged(kind: FileKind, a: DataType, b: DataType) -> Result<DataType> {
        let s = merge(kind, &[("a".into(), schema(&[("x", a)])), ("b".into(), schema(&[("x", b)]))])?;
        Ok(s.field(0).data_type().clone())
    }

    #[test]
    fn columns_are_joined_by_name() {
        let s = merge(
            FileKind::Parquet,
            &[
                ("a".into(), schema(&[("x", DataType::Int32), ("y", DataType::Utf8)])),
                ("b".into(), schema(&[("z", DataType::Boolean), ("x", DataType::Int64)])),
            ],
        )
        .unwrap();
        let names: Vec<&str> = s.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["x", "y", "z"]);
        assert_eq!(s.field(0).data_type(), &DataType::Int64);
        assert!(!s.field(0).is_nullable() && s.field(1).is_nullable() && s.field(2).is_nullable());
    }

    #[test]
    fn types_widen_or_are_refused() {
        use DataType::{
            Date32, Float32, Float64, Int8, Int16, Int64, Timestamp, UInt8, UInt64, Utf8, Utf8View,
        };
        let p = FileKind::Parquet;
        assert_eq!(merged(p, Int8, UInt8).unwrap(), Int16);
        assert_eq!(merged(p, Int64, UInt64).unwrap(), DataType::Decimal128(20, 0));
        assert_eq!(merged(p, Int64, Float32).unwrap(), Float64);
        assert_eq!(merged(p, DataType::Null, Utf8).unwrap(), Utf8);
        assert_eq!(
            merged(p, Date32, Timestamp(TimeUnit::Microsecond, None)).unwrap(),
            Timestamp(TimeUnit::Microsecond, None)
        );
        assert_eq!(merged(p, Utf8, Utf8View).unwrap(), Utf8View);
        assert_eq!(
            merged(p, DataType::Decimal128(5, 2), DataType::Decimal128(6, 4)).unwrap(),
            DataType::Decimal128(7, 4)
        );
        assert_eq!(merged(FileKind::Csv, Int64, Utf8).unwrap(), Utf8);
        assert_eq!(merged(FileKind::Csv, Int64, Date32).unwrap(), Utf8);
        let e = merged(p, Int64, Utf8).unwrap_err();
        assert_eq!(e.kind(), triune_common::ErrorKind::Data);
        assert!(e.message().contains("column \"x\" is BIGINT in \"a\" and VARCHAR in \"b\""), "{e}");
        assert!(merged(FileKind::Json, Int64, DataType::Struct(Fields::empty())).is_err());
    }

    #[test]
    fn vectors_of_other_lengths_do_not_mix() {
        let vector = |n| DataType::new_fixed_size_list(DataType::Float32, n, true);
        let e = merged(FileKind::Parquet, vector(3), vector(4)).unwrap_err().to_string();
        assert!(e.contains("REAL[3] in \"a\" and REAL[4] in \"b\""), "{e}");
        assert_eq!(merged(FileKind::Parquet, vector(3), vector(3)).unwrap(), vector(3));
    }

    #[test]
    fn extension_types_are_kept_and_not_mixed() {
        let field = |name: &str| {
            let metadata = [
                ("ARROW:extension:name".to_owned(), name.to_owned()),
                ("PARQUET:field_id".into(), "1".into()),
            ];
            Field::new("x", DataType::Int64, true).with_metadata(metadata.into())
        };
        let one = |f: Field| cleaned(&Schema::new(vec![f]));
        let s = merge(FileKind::Parquet, &[("a".into(), one(field("e"))), ("b".into(), one(field("e")))])
            .unwrap();
        assert_eq!(s.field(0).metadata().len(), 1);
        assert!(
            merge(FileKind::Parquet, &[("a".into(), one(field("e"))), ("b".into(), one(field("f")))])
                .is_err()
        );
    }
}
