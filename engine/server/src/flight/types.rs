//! `GetXdbcTypeInfo`: the SQL types that columns can have.

use std::sync::LazyLock;

use arrow::array::RecordBatch;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType as X, XdbcDatetimeSubcode};
use triune_common::{Error, Result};

/// Name, code, size (digits, characters or bytes), whether it is a number, a text or something else.
const TYPES: &[(&str, X, Option<i32>, Form)] = &[
    ("BOOLEAN", X::XdbcBit, Some(1), Form::Plain),
    ("TINYINT", X::XdbcTinyint, Some(3), Form::Integer),
    ("BIGINT", X::XdbcBigint, Some(19), Form::Integer),
    ("BLOB", X::XdbcVarbinary, None, Form::Bytes),
    ("VARCHAR", X::XdbcVarchar, None, Form::Text),
    ("JSON", X::XdbcVarchar, None, Form::Text),
    ("DECIMAL", X::XdbcDecimal, Some(76), Form::Decimal),
    ("INTEGER", X::XdbcInteger, Some(10), Form::Integer),
    ("SMALLINT", X::XdbcSmallint, Some(5), Form::Integer),
    ("DOUBLE", X::XdbcDouble, Some(53), Form::Float),
    ("REAL", X::XdbcReal, Some(24), Form::Float),
    ("INTERVAL", X::XdbcInterval, None, Form::Plain),
    ("DATE", X::XdbcDate, Some(10), Form::Time(XdbcDatetimeSubcode::XdbcSubcodeYear)),
    ("TIME", X::XdbcTime, Some(15), Form::Time(XdbcDatetimeSubcode::XdbcSubcodeTime)),
    ("TIMESTAMP", X::XdbcTimestamp, Some(29), Form::Time(XdbcDatetimeSubcode::XdbcSubcodeTimestamp)),
    (
        "TIMESTAMPTZ",
        X::XdbcTimestamp,
        Some(35),
        Form::Time(XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone),
    ),
    // Lists, structs and vectors are no types of ODBC's and JDBC's; tools that need texts cast them.
    ("VECTOR", X::XdbcUnknownType, None, Form::Plain),
    ("LIST", X::XdbcUnknownType, None, Form::Plain),
    ("STRUCT", X::XdbcUnknownType, None, Form::Plain),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Integer,
    Decimal,
    Float,
    Text,
    Bytes,
    Time(XdbcDatetimeSubcode),
}

fn entry((name, code, size, form): &(&str, X, Option<i32>, Form)) -> XdbcTypeInfo {
    let is_number = matches!(form, Form::Integer | Form::Decimal | Form::Float);
    let quoted = matches!(form, Form::Text | Form::Time(_)).then(|| "'".to_owned());
    XdbcTypeInfo {
        type_name: (*name).to_owned(),
        data_type: *code,
        column_size: *size,
        literal_prefix: if *form == Form::Bytes { Some("X'".to_owned()) } else { quoted.clone() },
        literal_suffix: if *form == Form::Bytes { Some("'".to_owned()) } else { quoted },
        create_params: match (form, *name) {
            (Form::Decimal, _) => Some(vec!["precision".to_owned(), "scale".to_owned()]),
            (Form::Text, "VARCHAR") => Some(vec!["length".to_owned()]),
            _ => None,
        },
        nullable: Nullable::NullabilityNullable,
        case_sensitive: *form == Form::Text,
        searchable: if *form == Form::Text { Searchable::Full } else { Searchable::Basic },
        unsigned_attribute: is_number.then_some(false),
        fixed_prec_scale: false,
        auto_increment: is_number.then_some(false),
        local_type_name: Some((*name).to_owned()),
        minimum_scale: matches!(form, Form::Decimal | Form::Integer).then_some(0),
        maximum_scale: match form {
            Form::Decimal => Some(76),
            Form::Integer => Some(0),
            _ => None,
        },
        sql_data_type: if matches!(form, Form::Time(_)) { X::XdbcDatetime } else { *code },
        datetime_subcode: match form {
            Form::Time(code) => Some(*code),
            _ => None,
        },
        num_prec_radix: match form {
            Form::Float => Some(2),
            Form::Integer | Form::Decimal => Some(10),
            _ => None,
        },
        interval_precision: None,
    }
}

static DATA: LazyLock<Option<XdbcTypeInfoData>> = LazyLock::new(|| {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    TYPES.iter().for_each(|t| builder.append(entry(t)));
    builder.build().ok()
});

/// All types, or those of one code.
pub(super) fn batch(code: Option<i32>) -> Result<RecordBatch> {
    let data = DATA.as_ref().ok_or_else(|| Error::internal("the list of types cannot be made"))?;
    data.record_batch(code).map_err(|e| Error::internal(format!("the list of types: {e}")))
}
