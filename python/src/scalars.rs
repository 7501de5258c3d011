//! Python's objects as values for parameters and columns.
//!
//! `triune._values.plain` first brings what is not Python's own (numpy, pandas, UUID, datetimes) into one of a few forms;
//! the forms are turned into Arrow's values here.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeListArray, StructArray, new_null_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, IntervalMonthDayNano, i256};
use datafusion::common::ScalarValue;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use triune_common::{Error, Result};
use triune_query::Params;

use crate::error::to_python;
use crate::import;

static PLAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Parameters as they are given: None, a list or tuple for `$1 …`, a dict for `$name`.
pub(crate) fn parameters(given: Option<&Bound<'_, PyAny>>) -> PyResult<Params> {
    let Some(given) = given.filter(|g| !g.is_none()) else { return Ok(Params::None) };
    if let Ok(named) = given.cast::<PyDict>() {
        let values = named.iter().map(|(name, value)| {
            let name: String = name.extract()?;
            let value = scalar(&value).map_err(|e| at(value.py(), &format!("${name}"), &e))?;
            Ok((name, value))
        });
        return Ok(Params::Named(values.collect::<PyResult<_>>()?));
    }
    let mut values = Vec::new();
    for (i, value) in given.try_iter()?.enumerate() {
        let value = value?;
        values.push(scalar(&value).map_err(|e| at(value.py(), &format!("${}", i + 1), &e))?);
    }
    Ok(Params::Positional(values))
}

fn at(py: Python<'_>, name: &str, error: &PyErr) -> PyErr {
    let text = error.value(py).to_string();
    let named = PyTypeError::new_err(format!("the parameter {name}: {text}"));
    named.set_cause(py, Some(error.clone_ref(py)));
    named
}

/// One value.
pub(crate) fn scalar(value: &Bound<'_, PyAny>) -> PyResult<ScalarValue> {
    let py = value.py();
    if value.is_none() {
        return Ok(ScalarValue::Null);
    }
    if let Ok(value) = value.cast_exact::<PyBool>() {
        return Ok(ScalarValue::Boolean(Some(value.is_true())));
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        return Ok(ScalarValue::Utf8(Some(text.extract()?)));
    }
    if value.is_exact_instance_of::<PyInt>() {
        return whole(value);
    }
    if let Ok(number) = value.cast_exact::<PyFloat>() {
        return Ok(ScalarValue::Float64(Some(number.value())));
    }
    if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return Ok(ScalarValue::Binary(Some(bytes.as_bytes().to_vec())));
    }
    if value.is_exact_instance_of::<PyList>() || value.is_exact_instance_of::<PyTuple>() {
        let values: Vec<Bound<'_, PyAny>> = value.try_iter()?.collect::<PyResult<_>>()?;
        let array = array_of(py, &values)?;
        return Ok(list_of(array));
    }
    if let Ok(dict) = value.cast_exact::<PyDict>() {
        return structure(dict);
    }
    let plain = PLAIN
        .get_or_try_init(py, || PyResult::Ok(py.import("triune._values")?.getattr("plain")?.unbind()))?;
    let (form, value): (String, Bound<'_, PyAny>) = plain.bind(py).call1((value,))?.extract()?;
    formed(py, &form, &value)
}

/// A value in one of the forms of `triune._values.plain`.
fn formed(py: Python<'_>, form: &str, value: &Bound<'_, PyAny>) -> PyResult<ScalarValue> {
    Ok(match form {
        "same" => scalar(value)?,
        "date" => ScalarValue::Date32(Some(value.extract()?)),
        "time" => ScalarValue::Time64Microsecond(Some(value.extract()?)),
        "timestamp" => {
            let (micros, zone): (i64, Option<String>) = value.extract()?;
            ScalarValue::TimestampMicrosecond(Some(micros), zone.map(Into::into))
        }
        "timestamp_ns" => {
            let (nanos, zone): (i64, Option<String>) = value.extract()?;
            ScalarValue::TimestampNanosecond(Some(nanos), zone.map(Into::into))
        }
        "interval" => {
            let (months, days, nanos): (i32, i32, i64) = value.extract()?;
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, nanos)))
        }
        "decimal" => {
            let (digits, scale): (String, i16) = value.extract()?;
            decimal(&digits, scale).map_err(|e| to_python(py, e))?
        }
        "uuid" => ScalarValue::Utf8(Some(value.extract()?)),
        "float32" => ScalarValue::Float32(Some(value.extract()?)),
        "array" => {
            let array = import::of_numpy(value)?;
            vector_of(array)
        }
        other => return Err(PyTypeError::new_err(format!("a value of form {other} is unknown"))),
    })
}

fn whole(value: &Bound<'_, PyAny>) -> PyResult<ScalarValue> {
    if let Ok(small) = value.extract::<i64>() {
        return Ok(ScalarValue::Int64(Some(small)));
    }
    if let Ok(large) = value.extract::<u64>() {
        return Ok(ScalarValue::UInt64(Some(large)));
    }
    decimal(&value.str()?.to_string(), 0).map_err(|e| to_python(value.py(), e))
}

/// Digits with a sign, and how many of them stand after the point.
fn decimal(digits: &str, scale: i16) -> Result<ScalarValue> {
    let count = digits.trim_start_matches('-').len().max(usize::from(scale.unsigned_abs())).max(1);
    let wrong = || Error::invalid(format!("a number of {count} digits is too long: DECIMAL holds 76"));
    let precision = u8::try_from(count).map_err(|_| wrong())?;
    let scale = i8::try_from(scale).map_err(|_| wrong())?;
    if precision <= 38 {
        let value: i128 = digits.parse().map_err(|_| wrong())?;
        return Ok(ScalarValue::Decimal128(Some(value), precision, scale));
    }
    if precision > 76 {
        return Err(wrong());
    }
    let value = i256::from_string(digits).ok_or_else(wrong)?;
    Ok(ScalarValue::Decimal256(Some(value), precision, scale))
}

fn structure(dict: &Bound<'_, PyDict>) -> PyResult<ScalarValue> {
    let py = dict.py();
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (name, value) in dict.iter() {
        let name: String = name.extract()?;
        let value = scalar(&value)?.to_array().map_err(|e| to_python(py, e.into()))?;
        fields.push(Field::new(name, value.data_type().clone(), true));
        columns.push(value);
    }
    if columns.is_empty() {
        return Err(PyTypeError::new_err("an empty dict has no type"));
    }
    let array = StructArray::try_new(Fields::from(fields), columns, None).map_err(crate::export::raise)?;
    Ok(ScalarValue::Struct(Arc::new(array)))
}

fn list_of(array: ArrayRef) -> ScalarValue {
    let item = Arc::new(Field::new_list_field(array.data_type().clone(), true));
    let lengths = OffsetBuffer::from_lengths([array.len()]);
    ScalarValue::List(Arc::new(arrow::array::ListArray::new(item, lengths, array, None)))
}

/// A numpy array: one dimension of numbers is a vector, everything else a list.
fn vector_of(array: ArrayRef) -> ScalarValue {
    let number =
        matches!(array.data_type(), DataType::Float16 | DataType::Float32 | DataType::Int8 | DataType::UInt8);
    match i32::try_from(array.len()) {
        Ok(size) if number && size > 0 => {
            let item = Arc::new(Field::new_list_field(array.data_type().clone(), true));
            let list = FixedSizeListArray::new(item, size, array, None);
            ScalarValue::FixedSizeList(Arc::new(list))
        }
        _ => list_of(array),
    }
}

/// A column of Python's objects, of one type that holds them all.
pub(crate) fn array_of(py: Python<'_>, values: &[Bound<'_, PyAny>]) -> PyResult<ArrayRef> {
    let scalars = values.iter().map(scalar).collect::<PyResult<Vec<_>>>()?;
    unite(scalars).map_err(|e| to_python(py, e))
}

fn unite(mut scalars: Vec<ScalarValue>) -> Result<ArrayRef> {
    let mut kind = DataType::Null;
    for scalar in &scalars {
        let other = scalar.data_type();
        kind = common(&kind, &other).ok_or_else(|| {
            Error::invalid(format!(
                "a list holds values of types {kind} and {other}, which have none in common"
            ))
        })?;
    }
    if kind == DataType::Null {
        return Ok(new_null_array(&DataType::Null, scalars.len()));
    }
    for scalar in &mut scalars {
        if scalar.data_type() != kind {
            *scalar = fitted(scalar, &kind)?;
        }
    }
    Ok(ScalarValue::iter_to_array(scalars)?)
}

fn fitted(scalar: &ScalarValue, kind: &DataType) -> Result<ScalarValue> {
    if scalar.is_null() {
        return Ok(ScalarValue::try_from(kind)?);
    }
    if let (ScalarValue::Struct(from), DataType::Struct(wanted)) = (scalar, kind) {
        // By name: a dict may lack some keys, and have them in any order.
        let columns = wanted.iter().map(|field| match from.column_by_name(field.name()) {
            Some(column) => Ok(arrow::compute::cast(column, field.data_type())?),
            None => Ok(new_null_array(field.data_type(), 1)),
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        return Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(wanted.clone(), columns, None)?)));
    }
    Ok(scalar.cast_to(kind)?)
}

/// The type that holds values of both.
fn common(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    Some(match (a, b) {
        (a, b) if a == b => a.clone(),
        (T::Null, other) | (other, T::Null) => other.clone(),
        (a, b) if a.is_integer() && b.is_integer() => match (a, b) {
            (T::UInt64, _) | (_, T::UInt64) => T::Decimal128(20, 0),
            _ => T::Int64,
        },
        (a, b) if a.is_numeric() && b.is_numeric() => match (a, b) {
            (T::Decimal128(p, s), T::Decimal128(q, t)) => {
                let scale = *s.max(t);
                let whole = (i16::from(*p) - i16::from(*s)).max(i16::from(*q) - i16::from(*t));
                let precision = u8::try_from(whole + i16::from(scale)).ok()?;
                if precision <= 38 {
                    T::Decimal128(precision, scale)
                } else {
                    T::Decimal256(precision.min(76), scale)
                }
            }
            (T::Decimal128(p, s), i) | (i, T::Decimal128(p, s)) if i.is_integer() => {
                common(&T::Decimal128(*p, *s), &T::Decimal128(19, 0))?
            }
            _ => T::Float64,
        },
        (T::Timestamp(u, z), T::Timestamp(v, y)) if z.is_some() == y.is_some() => T::Timestamp(
            *u.max(v),
            z.as_ref().map(|z| if Some(z) == y.as_ref() { Arc::clone(z) } else { "UTC".into() }),
        ),
        (T::List(x), T::List(y)) => {
            T::List(Arc::new(Field::new_list_field(common(x.data_type(), y.data_type())?, true)))
        }
        (T::FixedSizeList(x, _), T::FixedSizeList(y, _))
        | (T::FixedSizeList(x, _), T::List(y))
        | (T::List(x), T::FixedSizeList(y, _)) => {
            T::List(Arc::new(Field::new_list_field(common(x.data_type(), y.data_type())?, true)))
        }
        (T::Struct(x), T::Struct(y)) => {
            let mut fields: Vec<Field> = Vec::new();
            for field in x.iter() {
                let kind = match y.find(field.name()) {
                    Some((_, other)) => common(field.data_type(), other.data_type())?,
                    None => field.data_type().clone(),
                };
                fields.push(Field::new(field.name(), kind, true));
            }
            let more = y.iter().filter(|f| x.find(f.name()).is_none());
            fields.extend(more.map(|f| Field::new(f.name(), f.data_type().clone(), true)));
            T::Struct(Fields::from(fields))
        }
        _ => return None,
    })
}

/// A value as Python's, for the arguments of table functions.
pub(crate) fn object<'py>(py: Python<'py>, value: &ScalarValue) -> PyResult<Bound<'py, PyAny>> {
    let array = value.to_array().map_err(|e| to_python(py, e.into()))?;
    let field = Field::new("value", array.data_type().clone(), true);
    let mut values = crate::objects::of_array(py, &field, &array)?;
    Ok(values.pop().unwrap_or_else(|| py.None().into_bound(py)))
}
