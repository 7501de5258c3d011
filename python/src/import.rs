//! Arrow's PyCapsule interface, taking; and numpy's arrays, without a copy where their memory is as Arrow's.

use std::ptr::NonNull;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, BooleanArray, FixedSizeListArray, RecordBatch, RecordBatchOptions,
    StructArray, make_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow::ffi_stream::{ArrowArrayStreamReader, FFI_ArrowArrayStream};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyTuple};
use triune_common::{Error, Result};

use crate::column::Column;
use crate::error::to_python;
use crate::export::{ARRAY, SCHEMA, STREAM, raise};
use crate::rows::Batches;
use crate::scalars;

/// What an object gives: a stream of batches, or an array that is there.
pub(crate) enum Given {
    Stream(ArrowArrayStreamReader),
    Batch(RecordBatch),
}

/// Takes an object by its `__arrow_c_stream__` or `__arrow_c_array__`.
pub(crate) fn given(object: &Bound<'_, PyAny>) -> PyResult<Given> {
    if object.hasattr("__arrow_c_stream__")? {
        let capsule = object.call_method0("__arrow_c_stream__")?;
        return stream_of(&capsule).map(Given::Stream);
    }
    if object.hasattr("__arrow_c_array__")? {
        let (field, array) = array_of(object)?;
        return match array.as_any().downcast_ref::<StructArray>() {
            Some(rows) => Ok(Given::Batch(batch_of(&field, rows)?)),
            None => {
                let name = if field.name().is_empty() { "value" } else { field.name().as_str() };
                let schema = Arc::new(Schema::new(vec![field.clone().with_name(name)]));
                Ok(Given::Batch(RecordBatch::try_new(schema, vec![array]).map_err(raise)?))
            }
        };
    }
    let name = object.get_type().name()?;
    Err(PyTypeError::new_err(format!("a {name} gives no Arrow data: it has no __arrow_c_stream__")))
}

fn stream_of(capsule: &Bound<'_, PyAny>) -> PyResult<ArrowArrayStreamReader> {
    let pointer = capsule.cast::<PyCapsule>()?.pointer_checked(Some(STREAM))?;
    // SAFETY: a capsule of that name holds such a struct; it is moved out and marked as released.
    let stream = unsafe { FFI_ArrowArrayStream::from_raw(pointer.as_ptr().cast()) };
    ArrowArrayStreamReader::try_new(stream).map_err(raise)
}

/// An array with its field.
pub(crate) fn array_of(object: &Bound<'_, PyAny>) -> PyResult<(Field, ArrayRef)> {
    let pair = object.call_method0("__arrow_c_array__")?;
    let pair = pair.cast::<PyTuple>()?;
    let schema = pair.get_item(0)?.cast::<PyCapsule>()?.pointer_checked(Some(SCHEMA))?;
    let array = pair.get_item(1)?.cast::<PyCapsule>()?.pointer_checked(Some(ARRAY))?;
    // SAFETY: capsules of these names hold such structs; they are moved out and marked as released.
    let (schema, array) = unsafe {
        (FFI_ArrowSchema::from_raw(schema.as_ptr().cast()), FFI_ArrowArray::from_raw(array.as_ptr().cast()))
    };
    let field = Field::try_from(&schema).map_err(raise)?;
    // SAFETY: both are of one producer, as the interface says.
    let data = unsafe { from_ffi(array, &schema) }.map_err(raise)?;
    Ok((field, make_array(aligned(data))))
}

/// Other libraries need not align as Rust does.
fn aligned(mut data: ArrayData) -> ArrayData {
    data.align_buffers();
    data
}

fn batch_of(field: &Field, rows: &StructArray) -> PyResult<RecordBatch> {
    if rows.null_count() > 0 {
        return Err(PyValueError::new_err("an array of structs with nulls is no table"));
    }
    let schema = Arc::new(Schema::new_with_metadata(rows.fields().clone(), field.metadata().clone()));
    let count = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema, rows.columns().to_vec(), &count).map_err(raise)
}

/// Reads an Arrow producer whole.
#[pyfunction]
pub(crate) fn read_batches(object: &Bound<'_, PyAny>) -> PyResult<Batches> {
    match given(object)? {
        Given::Batch(batch) => Ok(Batches { schema: batch.schema(), batches: vec![batch] }),
        Given::Stream(mut reader) => {
            let schema = arrow::array::RecordBatchReader::schema(&reader);
            // A producer written in Python takes the interpreter itself.
            let batches = object.py().detach(move || {
                let mut batches = Vec::new();
                for batch in reader.by_ref() {
                    batches.push(batch?);
                }
                Ok(batches)
            });
            Ok(Batches { schema, batches: batches.map_err(raise)? })
        }
    }
}

/// A numpy array as a column; `missing` says where values are none.
#[pyfunction]
#[pyo3(signature = (name, array, missing=None))]
pub(crate) fn column_of_numpy(
    name: &str,
    array: &Bound<'_, PyAny>,
    missing: Option<&Bound<'_, PyAny>>,
) -> PyResult<Column> {
    let mut array = of_numpy(array)?;
    if let Some(missing) = missing {
        let missing = of_numpy(missing)?;
        let missing = missing
            .as_any()
            .downcast_ref::<BooleanArray>()
            .filter(|m| m.len() == array.len())
            .ok_or_else(|| PyValueError::new_err("missing must be one boolean for each row"))?;
        let nulls = NullBuffer::new(!missing.values());
        let data = array.to_data().into_builder().nulls(Some(nulls));
        array = make_array(data.build().map_err(raise)?);
    }
    let field = Arc::new(Field::new(name, array.data_type().clone(), true));
    Ok(Column { field, array })
}

/// A list of Python's objects as a column.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "what Python gives is owned")]
pub(crate) fn column_of_list(name: &str, values: Vec<Bound<'_, PyAny>>, py: Python<'_>) -> PyResult<Column> {
    let array = scalars::array_of(py, &values)?;
    let field = Arc::new(Field::new(name, array.data_type().clone(), true));
    Ok(Column { field, array })
}

/// Columns of one length as a table.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "what Python gives is owned")]
pub(crate) fn batches_of_columns(columns: Vec<PyRef<'_, Column>>, py: Python<'_>) -> PyResult<Batches> {
    let fields: Vec<_> = columns.iter().map(|c| Arc::clone(&c.field)).collect();
    let arrays: Vec<_> = columns.iter().map(|c| Arc::clone(&c.array)).collect();
    let schema: SchemaRef = Arc::new(Schema::new(Fields::from(fields)));
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(|e| to_python(py, Error::from(e)))?;
    Ok(Batches { schema, batches: vec![batch] })
}

/// Keeps a Python object while memory of it is read.
struct Owner(#[expect(dead_code, reason = "it is there to be held")] std::panic::AssertUnwindSafe<Py<PyAny>>);

/// A numpy array of numbers, Booleans or times in one or two dimensions.
///
/// *Errors*: other types and shapes, memory that is not in one piece: `triune._values` has made copies of those.
pub(crate) fn of_numpy(array: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    let py = array.py();
    let interface = array.getattr("__array_interface__")?;
    let interface = interface.cast::<PyDict>()?;
    let item = |name: &str| {
        interface
            .get_item(name)?
            .ok_or_else(|| PyTypeError::new_err(format!("__array_interface__ has no {name}")))
    };
    let kind: String = item("typestr")?.extract()?;
    let shape: Vec<usize> = item("shape")?.extract()?;
    let (address, _): (usize, bool) = item("data")?.extract()?;
    if interface.get_item("strides")?.is_some_and(|s| !s.is_none()) {
        return Err(PyTypeError::new_err("the array's memory is not in one piece"));
    }
    let (data_type, width) = type_of(&kind).map_err(|e| to_python(py, e))?;
    let count = shape.iter().product::<usize>();
    let bytes = count * width;
    let buffer = match NonNull::new(address as *mut u8) {
        Some(pointer) if bytes > 0 => {
            let owner = Arc::new(Owner(std::panic::AssertUnwindSafe(array.clone().unbind())));
            // SAFETY: the array says that these bytes are its own and in one piece, and it is held while they are read.
            // Who writes to the array meanwhile changes what is read, as with every view of numpy's.
            unsafe { Buffer::from_custom_allocation(pointer, bytes, owner) }
        }
        _ => Buffer::from(Vec::<u8>::new()),
    };
    let flat = if data_type == DataType::Boolean {
        let bits = BooleanBuffer::collect_bool(count, |i| buffer.as_slice()[i] != 0);
        Arc::new(BooleanArray::new(bits, None)) as ArrayRef
    } else {
        let data = ArrayData::builder(data_type.clone()).len(count).add_buffer(buffer);
        // SAFETY: numbers of every bit pattern are valid, and there are as many bytes as `count` needs.
        let data = unsafe { data.build_unchecked() };
        let array = make_array(aligned(data));
        if kind.ends_with("[D]") {
            arrow::compute::cast(&array, &DataType::Int32)
                .and_then(|days| arrow::compute::cast(&days, &DataType::Date32))
                .map_err(raise)?
        } else {
            array
        }
    };
    match shape.as_slice() {
        [_] => Ok(flat),
        [rows, size] => {
            let size = i32::try_from(*size).map_err(|_| PyValueError::new_err("the array is too wide"))?;
            let item = Arc::new(Field::new_list_field(flat.data_type().clone(), true));
            let lists =
                FixedSizeListArray::try_new_with_length(item, size, flat, None, *rows).map_err(raise)?;
            Ok(Arc::new(lists))
        }
        _ => Err(PyTypeError::new_err(format!("an array of {} dimensions is no column", shape.len()))),
    }
}

/// `<f4` as `Float32` of four bytes.
fn type_of(kind: &str) -> Result<(DataType, usize)> {
    let unknown = || Error::unsupported(format!("numpy's type {kind} is not supported"));
    let bare = kind.get(1..).ok_or_else(unknown)?;
    if kind.starts_with('>') {
        return Err(unknown());
    }
    let unit = || match bare.get(3..bare.len() - 1) {
        Some("s") => Ok(TimeUnit::Second),
        Some("ms") => Ok(TimeUnit::Millisecond),
        Some("us") => Ok(TimeUnit::Microsecond),
        Some("ns") => Ok(TimeUnit::Nanosecond),
        _ => Err(unknown()),
    };
    Ok(match bare {
        "b1" => (DataType::Boolean, 1),
        "i1" => (DataType::Int8, 1),
        "i2" => (DataType::Int16, 2),
        "i4" => (DataType::Int32, 4),
        "i8" => (DataType::Int64, 8),
        "u1" => (DataType::UInt8, 1),
        "u2" => (DataType::UInt16, 2),
        "u4" => (DataType::UInt32, 4),
        "u8" => (DataType::UInt64, 8),
        "f2" => (DataType::Float16, 2),
        "f4" => (DataType::Float32, 4),
        "f8" => (DataType::Float64, 8),
        "M8[D]" => (DataType::Int64, 8),
        _ if bare.starts_with("M8[") => (DataType::Timestamp(unit()?, None), 8),
        _ if bare.starts_with("m8[") => (DataType::Duration(unit()?), 8),
        _ => return Err(unknown()),
    })
}
