//! Arrow's values as Python's objects, each in its own type.
//!
//! | SQL | Python |
//! |---|---|
//! | whole numbers, floats, BOOLEAN, VARCHAR, BLOB | `int`, `float`, `bool`, `str`, `bytes` |
//! | DECIMAL | `decimal.Decimal` |
//! | UUID | `uuid.UUID` |
//! | DATE, TIME, TIMESTAMP | `datetime.date`, `.time`, `.datetime`; with a zone, aware in that zone |
//! | INTERVAL, DURATION | `datetime.timedelta`; with months, `triune.Interval` |
//! | vectors, lists | `list` |
//! | STRUCT, MAP | `dict` |
//!
//! Limits: Python has no nanoseconds: such values come as `pandas.Timestamp` where pandas is there, else they are an
//! error, as are years beyond 9999.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Field,
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use triune_common::Error;

use crate::error::to_python;
use crate::export::raise;

/// What makes Python's objects of times, decimals and the like: `triune._objects`.
static MAKERS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn maker<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let module = MAKERS.get_or_try_init(py, || py.import("triune._objects").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

/// Whether a field's texts are UUIDs.
pub(crate) fn is_uuid(field: &Field) -> bool {
    triune_query::sql_type_name(field) == "UUID"
}

type Objects<'py> = Vec<Bound<'py, PyAny>>;

/// The values of an array; None for nulls.
pub(crate) fn of_array<'py>(py: Python<'py>, field: &Field, array: &ArrayRef) -> PyResult<Objects<'py>> {
    let none = || py.None().into_bound(py);
    macro_rules! plain {
        ($type:ty) => {
            array
                .as_primitive::<$type>()
                .iter()
                .map(|v| Ok(v.into_pyobject(py)?.into_any()))
                .collect::<PyResult<Objects<'py>>>()
        };
    }
    macro_rules! made {
        ($type:ty, $maker:expr, $to:expr) => {{
            let make = maker(py, $maker)?;
            let to = $to;
            array
                .as_primitive::<$type>()
                .iter()
                .map(|v| match v {
                    Some(v) => make.call1(to(v)),
                    None => Ok(none()),
                })
                .collect::<PyResult<Objects<'py>>>()
        }};
    }
    macro_rules! texts {
        ($values:expr) => {{
            if is_uuid(field) {
                let make = maker(py, "uuid")?;
                $values.iter().map(|v| v.map_or_else(|| Ok(none()), |v| make.call1((v,)))).collect()
            } else {
                Ok($values.iter().map(|v| v.map_or_else(none, |v| PyString::new(py, v).into_any())).collect())
            }
        }};
    }
    macro_rules! blobs {
        ($values:expr) => {
            Ok($values.iter().map(|v| v.map_or_else(none, |v| PyBytes::new(py, v).into_any())).collect())
        };
    }
    macro_rules! decimals {
        ($type:ty) => {{
            let make = maker(py, "decimal")?;
            let values = array.as_primitive::<$type>();
            (0..values.len())
                .map(|i| match values.is_null(i) {
                    true => Ok(none()),
                    false => make.call1((values.value_as_string(i),)),
                })
                .collect()
        }};
    }
    match array.data_type() {
        DataType::Null => Ok((0..array.len()).map(|_| none()).collect()),
        DataType::Boolean => array.as_boolean().iter().map(|v| Ok(v.into_pyobject(py)?.into_any())).collect(),
        DataType::Int8 => plain!(Int8Type),
        DataType::Int16 => plain!(Int16Type),
        DataType::Int32 => plain!(Int32Type),
        DataType::Int64 => plain!(Int64Type),
        DataType::UInt8 => plain!(UInt8Type),
        DataType::UInt16 => plain!(UInt16Type),
        DataType::UInt32 => plain!(UInt32Type),
        DataType::UInt64 => plain!(UInt64Type),
        DataType::Float16 => {
            let values = array.as_primitive::<Float16Type>().iter();
            values.map(|v| Ok(v.map(|v| v.to_f32()).into_pyobject(py)?.into_any())).collect()
        }
        DataType::Float32 => plain!(Float32Type),
        DataType::Float64 => plain!(Float64Type),
        DataType::Utf8 => texts!(array.as_string::<i32>()),
        DataType::LargeUtf8 => texts!(array.as_string::<i64>()),
        DataType::Utf8View => texts!(array.as_string_view()),
        DataType::Binary => blobs!(array.as_binary::<i32>()),
        DataType::LargeBinary => blobs!(array.as_binary::<i64>()),
        DataType::BinaryView => blobs!(array.as_binary_view()),
        DataType::FixedSizeBinary(_) => blobs!(array.as_fixed_size_binary()),
        DataType::Decimal32(..) => decimals!(Decimal32Type),
        DataType::Decimal64(..) => decimals!(Decimal64Type),
        DataType::Decimal128(..) => decimals!(Decimal128Type),
        DataType::Decimal256(..) => decimals!(Decimal256Type),
        DataType::Date32 => made!(Date32Type, "date", |v| (i64::from(v),)),
        DataType::Date64 => made!(Date64Type, "date", |v: i64| (v.div_euclid(86_400_000),)),
        DataType::Time32(TimeUnit::Second) => {
            made!(Time32SecondType, "time", |v| (i64::from(v) * 1_000_000_000,))
        }
        DataType::Time32(_) => made!(Time32MillisecondType, "time", |v| (i64::from(v) * 1_000_000,)),
        DataType::Time64(TimeUnit::Microsecond) => {
            made!(Time64MicrosecondType, "time", |v: i64| (v * 1_000,))
        }
        DataType::Time64(_) => made!(Time64NanosecondType, "time", |v: i64| (v,)),
        // Wider than a column of theirs: a second may be 10^9 of what it is made into.
        DataType::Timestamp(unit, zone) => {
            let zone = zone.as_deref();
            match unit {
                TimeUnit::Second => {
                    made!(TimestampSecondType, "timestamp", |v| (i128::from(v) * NANOS, zone))
                }
                TimeUnit::Millisecond => {
                    made!(TimestampMillisecondType, "timestamp", |v| (i128::from(v) * 1_000_000, zone))
                }
                TimeUnit::Microsecond => {
                    made!(TimestampMicrosecondType, "timestamp", |v| (i128::from(v) * 1_000, zone))
                }
                TimeUnit::Nanosecond => {
                    made!(TimestampNanosecondType, "timestamp", |v| (i128::from(v), zone))
                }
            }
        }
        DataType::Duration(unit) => match unit {
            TimeUnit::Second => made!(DurationSecondType, "interval", |v| (0, 0, i128::from(v) * NANOS)),
            TimeUnit::Millisecond => {
                made!(DurationMillisecondType, "interval", |v| (0, 0, i128::from(v) * 1_000_000))
            }
            TimeUnit::Microsecond => {
                made!(DurationMicrosecondType, "interval", |v| (0, 0, i128::from(v) * 1_000))
            }
            TimeUnit::Nanosecond => made!(DurationNanosecondType, "interval", |v| (0, 0, i128::from(v))),
        },
        DataType::Interval(IntervalUnit::YearMonth) => {
            made!(IntervalYearMonthType, "interval", |v| (v, 0, 0_i128))
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            made!(IntervalDayTimeType, "interval", |v: arrow::datatypes::IntervalDayTime| (
                0,
                v.days,
                i128::from(v.milliseconds) * 1_000_000
            ))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            made!(IntervalMonthDayNanoType, "interval", |v: arrow::datatypes::IntervalMonthDayNano| (
                v.months,
                v.days,
                i128::from(v.nanoseconds)
            ))
        }
        DataType::List(item) => {
            let lists = array.as_list::<i32>();
            lists.iter().map(|v| list(py, item, v)).collect()
        }
        DataType::LargeList(item) => array.as_list::<i64>().iter().map(|v| list(py, item, v)).collect(),
        DataType::FixedSizeList(item, _) => {
            array.as_fixed_size_list().iter().map(|v| list(py, item, v)).collect()
        }
        DataType::Struct(fields) => {
            let structs = array.as_struct();
            let rows: Vec<_> = (0..structs.len()).map(|_| PyDict::new(py)).collect();
            for (field, column) in fields.iter().zip(structs.columns()) {
                let values = of_array(py, field, column)?;
                rows.iter().zip(values).try_for_each(|(row, value)| row.set_item(field.name(), value))?;
            }
            let rows = rows.into_iter().enumerate();
            Ok(rows.map(|(i, row)| if structs.is_null(i) { none() } else { row.into_any() }).collect())
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(kinds) = entries.data_type() else { return Err(unknown(py, array)) };
            let maps = array.as_map();
            let of = |i: usize| {
                if maps.is_null(i) {
                    return Ok(none());
                }
                let entries = maps.value(i);
                let keys = of_array(py, &kinds[0], entries.column(0))?;
                let values = of_array(py, &kinds[1], entries.column(1))?;
                let dict = PyDict::new(py);
                keys.into_iter().zip(values).try_for_each(|(k, v)| dict.set_item(k, v))?;
                Ok(dict.into_any())
            };
            (0..maps.len()).map(of).collect()
        }
        DataType::Dictionary(_, value) => {
            let plain = arrow::compute::cast(array, value).map_err(raise)?;
            of_array(py, &field.clone().with_data_type(value.as_ref().clone()), &plain)
        }
        DataType::RunEndEncoded(_, value) => {
            let plain = arrow::compute::cast(array, value.data_type()).map_err(raise)?;
            of_array(py, value, &plain)
        }
        DataType::ListView(item) => {
            let plain = arrow::compute::cast(array, &DataType::List(Arc::clone(item))).map_err(raise)?;
            of_array(py, field, &plain)
        }
        DataType::LargeListView(item) => {
            let plain = arrow::compute::cast(array, &DataType::LargeList(Arc::clone(item))).map_err(raise)?;
            of_array(py, field, &plain)
        }
        DataType::Union(..) => Err(unknown(py, array)),
    }
}

const NANOS: i128 = 1_000_000_000;

fn list<'py>(py: Python<'py>, item: &Field, values: Option<ArrayRef>) -> PyResult<Bound<'py, PyAny>> {
    match values {
        Some(values) => Ok(PyList::new(py, of_array(py, item, &values)?)?.into_any()),
        None => Ok(py.None().into_bound(py)),
    }
}

fn unknown(py: Python<'_>, array: &ArrayRef) -> PyErr {
    let error = Error::unsupported(format!("values of type {} have no Python object", array.data_type()));
    to_python(py, error.with_hint("read them with .to_arrow_table()"))
}
