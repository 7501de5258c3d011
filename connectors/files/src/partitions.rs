//! `…/year=2024/month=1/part-0.parquet`: columns from the names of folders.
//!
//! Found by themselves when every file lies below the same keys in the same order; switched off with
//! `hive_partitioning = false`. Types: BIGINT when every value is a whole number, DATE when every value is a
//! day, else VARCHAR; or as declared. `%XX` in a value stands for the letter, and
//! `__HIVE_DEFAULT_PARTITION__` for NULL, as other systems write them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use triune_common::{Error, Result};

use crate::locations::FoundFile;
use crate::schema::sql_type;

const NULL_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// `key=value` folders of a file, outermost first.
pub(crate) fn keys_of(file: &FoundFile) -> Vec<(String, Option<String>)> {
    file.folders()
        .iter()
        .filter_map(|name| name.split_once('='))
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (decode(key), (value != NULL_VALUE).then(|| decode(value))))
        .collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    // A value that decodes to no text stays as it is written.
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The partition columns that the folders show, if all files agree on them.
pub(crate) fn detect(files: &[FoundFile]) -> Vec<FieldRef> {
    let keys: Vec<Vec<(String, Option<String>)>> = files.iter().map(keys_of).collect();
    let Some(first) = keys.first().filter(|k| !k.is_empty()) else { return Vec::new() };
    let same = |other: &Vec<(String, Option<String>)>| {
        other.len() == first.len() && other.iter().zip(first).all(|((a, _), (b, _))| a == b)
    };
    if !keys.iter().all(same) {
        return Vec::new();
    }
    (0..first.len())
        .map(|i| {
            let values = keys.iter().filter_map(|k| k.get(i)).filter_map(|(_, v)| v.as_deref());
            Arc::new(Field::new(&first[i].0, type_of(values), true))
        })
        .collect()
}

/// The type of a declared partition column when its declaration leaves it open.
pub(crate) fn type_in_files(files: &[FoundFile], column: &str) -> DataType {
    let keys: Vec<_> = files.iter().flat_map(keys_of).filter(|(k, _)| k == column).collect();
    type_of(keys.iter().filter_map(|(_, v)| v.as_deref()))
}

fn type_of<'a>(values: impl Iterator<Item = &'a str>) -> DataType {
    let (mut any, mut integer, mut date) = (false, true, true);
    for value in values {
        any = true;
        integer &= value.parse::<i64>().is_ok();
        date &= value.len() == 10 && value.parse::<chrono::NaiveDate>().is_ok();
    }
    match (any, integer, date) {
        (true, true, _) => DataType::Int64,
        (true, _, true) => DataType::Date32,
        _ => DataType::Utf8,
    }
}

/// The values of `columns` for a file.
///
/// # Errors
/// `Data`, naming the file, when a folder is missing or its value is not of the column's type.
pub(crate) fn values_of(file: &FoundFile, name: &str, columns: &[FieldRef]) -> Result<Vec<ScalarValue>> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let keys = keys_of(file);
    columns
        .iter()
        .map(|column| {
            let value = keys.iter().find(|(k, _)| k == column.name()).map(|(_, v)| v).ok_or_else(|| {
                Error::data(format!("\"{name}\" lies in no folder {}=…", column.name())).with_hint(
                    "every file of a partitioned table has to; a glob can leave it out, hive_partitioning = false \
                     turns partitions off",
                )
            })?;
            match value {
                None => ScalarValue::try_from(column.data_type()).map_err(Error::from),
                Some(text) => ScalarValue::try_from_string(text.clone(), column.data_type()).map_err(|_| {
                    Error::data(format!(
                        "\"{name}\": folder {}={text} is no {}",
                        column.name(),
                        sql_type(column.data_type())
                    ))
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectMeta;
    use object_store::path::Path;

    fn file(path: &str) -> FoundFile {
        let meta = ObjectMeta {
            location: Path::parse(path).unwrap(),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: 1,
            e_tag: None,
            version: None,
        };
        FoundFile { meta, root: Path::from("t") }
    }

    fn types(paths: &[&str]) -> Vec<(String, DataType)> {
        let files: Vec<FoundFile> = paths.iter().map(|p| file(p)).collect();
        detect(&files).iter().map(|f| (f.name().clone(), f.data_type().clone())).collect()
    }

    #[test]
    fn keys_are_found_and_typed() {
        assert_eq!(
            types(&[
                "t/y=2024/d=2024-01-02/c=a/f",
                "t/y=03/d=2024-01-03/c=1/f",
                "t/y=__HIVE_DEFAULT_PARTITION__/d=2024-01-03/c=1/f"
            ]),
            [("y".into(), DataType::Int64), ("d".into(), DataType::Date32), ("c".into(), DataType::Utf8)]
        );
        assert!(types(&["t/y=1/f", "t/f"]).is_empty());
        assert!(types(&["t/y=1/f", "t/m=1/f"]).is_empty());
        assert!(types(&["t/f"]).is_empty());
        assert_eq!(types(&["t/x/y=1/f"]), [("y".into(), DataType::Int64)]);
    }

    #[test]
    fn values_are_parsed_or_named() {
        let columns = [
            Arc::new(Field::new("y", DataType::Int64, true)),
            Arc::new(Field::new("c", DataType::Utf8, true)),
        ];
        let v = values_of(&file("t/y=7/c=a%20b%2Fc/f"), "f", &columns).unwrap();
        assert_eq!(v, [ScalarValue::Int64(Some(7)), ScalarValue::Utf8(Some("a b/c".into()))]);
        let v = values_of(&file("t/y=__HIVE_DEFAULT_PARTITION__/c=x/f"), "f", &columns).unwrap();
        assert!(v[0].is_null());
        let e = values_of(&file("t/y=x/c=x/f"), "f", &columns).unwrap_err().to_string();
        assert!(e.contains("y=x is no BIGINT"), "{e}");
        let e = values_of(&file("t/y=1/f"), "f", &columns).unwrap_err().to_string();
        assert!(e.contains("lies in no folder c=…"), "{e}");
    }
}
