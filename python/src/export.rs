//! Arrow's PyCapsule interface, giving: `__arrow_c_stream__` and `__arrow_c_schema__`.
//!
//! Whoever reads a stream may hold the interpreter or not, and may be on any thread.

use arrow::array::{RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use arrow::ffi_stream::FFI_ArrowArrayStream;
use pyo3::exceptions::{PyKeyboardInterrupt, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use triune_common::Error;
use triune_query::QueryResult;

use crate::engine;

pub(crate) const STREAM: &std::ffi::CStr = c"arrow_array_stream";
pub(crate) const SCHEMA: &std::ffi::CStr = c"arrow_schema";
pub(crate) const ARRAY: &std::ffi::CStr = c"arrow_array";

/// Batches that are there already.
pub(crate) fn batches<'py>(
    py: Python<'py>,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
) -> PyResult<Bound<'py, PyCapsule>> {
    let reader = RecordBatchIterator::new(batches.into_iter().map(Ok), schema);
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), STREAM)
}

/// A running query.
pub(crate) fn running<'py>(py: Python<'py>, result: QueryResult) -> PyResult<Bound<'py, PyCapsule>> {
    let reader = Running { schema: result.schema(), result: Some(result) };
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), STREAM)
}

pub(crate) fn schema<'py>(py: Python<'py>, schema: &SchemaRef) -> PyResult<Bound<'py, PyCapsule>> {
    let schema = FFI_ArrowSchema::try_from(schema.as_ref()).map_err(raise)?;
    PyCapsule::new_with_value(py, schema, SCHEMA)
}

/// An array with its field.
pub(crate) fn array<'py>(
    py: Python<'py>,
    field: &arrow::datatypes::Field,
    array: &arrow::array::ArrayRef,
) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
    let schema = FFI_ArrowSchema::try_from(field).map_err(raise)?;
    let array = FFI_ArrowArray::new(&array.to_data());
    Ok((PyCapsule::new_with_value(py, schema, SCHEMA)?, PyCapsule::new_with_value(py, array, ARRAY)?))
}

pub(crate) fn raise(error: ArrowError) -> PyErr {
    Python::attach(|py| crate::error::to_python(py, Error::from(error)))
}

/// Only its own schema can be given.
pub(crate) fn refuse_other(requested: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    match requested {
        Some(schema) if !schema.is_none() && !schema.is_instance_of::<PyCapsule>() => {
            Err(PyTypeError::new_err("requested_schema must be an arrow_schema capsule"))
        }
        // The interface lets a producer that cannot cast give its own schema.
        _ => Ok(()),
    }
}

/// A schema as an object of its own.
#[pyclass(frozen, module = "triune")]
#[derive(Debug)]
pub(crate) struct SchemaCapsule(pub(crate) SchemaRef);

#[pymethods]
impl SchemaCapsule {
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        schema(py, &self.0)
    }

    /// `(name, SQL type, nullable)` of each column.
    fn fields(&self) -> Vec<(String, String, bool)> {
        fields(&self.0)
    }
}

pub(crate) fn fields(schema: &SchemaRef) -> Vec<(String, String, bool)> {
    let of =
        |f: &arrow::datatypes::FieldRef| (f.name().clone(), triune_query::sql_type_name(f), f.is_nullable());
    schema.fields().iter().map(of).collect()
}

struct Running {
    schema: SchemaRef,
    result: Option<QueryResult>,
}

impl Iterator for Running {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut result = self.result.take()?;
        // A thread that holds the interpreter gives it up while it waits, one that does not takes it for a moment.
        let next = Python::attach(|py| {
            let next = async move {
                let batch = result.next().await;
                Ok((result, batch))
            };
            engine::wait(py, |_| Ok(()), next).map_err(|error| {
                if error.is_instance_of::<PyKeyboardInterrupt>(py) {
                    // The reader makes an error of its own of it; this raises it again after that.
                    // SAFETY: it sets a flag and takes nothing.
                    unsafe { pyo3::ffi::PyErr_SetInterrupt() };
                    return ArrowError::ExternalError("the statement was cancelled".into());
                }
                // As text: whoever shows it may not hold the interpreter.
                ArrowError::ExternalError(error.value(py).to_string().into())
            })
        });
        match next {
            Ok((result, Some(Ok(batch)))) => {
                self.result = Some(result);
                Some(Ok(batch))
            }
            Ok((_, Some(Err(error)))) => Some(Err(ArrowError::ExternalError(Box::new(error)))),
            Ok((_, None)) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl RecordBatchReader for Running {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}
