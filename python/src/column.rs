//! A column for numpy: its memory as it lies there, through `__array_interface__`.
//!
//! ```text
//!  Arrow array ─ values ─ Memory.__array_interface__ ─▶ numpy.asarray(...)      no copy
//!              └ nulls ─▶ a byte for each row                                   copied: numpy has no bitmaps
//! ```
//!
//! Numbers, timestamps, durations and vectors lie in Arrow as numpy has them. Dates are widened and Booleans are
//! unpacked; everything else goes through Python objects.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyList, PyTuple};

use crate::{export, objects};

/// One column in one piece.
#[pyclass(frozen, module = "triune")]
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) field: FieldRef,
    pub(crate) array: ArrayRef,
}

#[pymethods]
impl Column {
    fn __len__(&self) -> usize {
        self.array.len()
    }

    #[getter]
    fn name(&self) -> &str {
        self.field.name()
    }

    /// The SQL name of its type.
    #[getter(r#type)]
    fn sql_type(&self) -> String {
        triune_query::sql_type_name(&self.field)
    }

    /// Its zone, of a timestamp with one.
    #[getter]
    fn zone(&self) -> Option<String> {
        match self.field.data_type() {
            DataType::Timestamp(_, zone) => zone.as_ref().map(ToString::to_string),
            _ => None,
        }
    }

    #[getter]
    fn null_count(&self) -> usize {
        self.array.logical_null_count()
    }

    /// `string`, `binary`, or what tells nothing more.
    #[getter]
    fn family(&self) -> &'static str {
        match self.field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if !objects::is_uuid(&self.field) => {
                "string"
            }
            DataType::FixedSizeList(..) => "vector",
            _ => "other",
        }
    }

    /// The values for numpy, with something in the place of nulls; None where numpy has no such type.
    fn memory(&self) -> Option<Memory> {
        memory_of(&self.array)
    }

    /// True where a value is missing; None where none is.
    fn nulls(&self) -> Option<Memory> {
        let nulls = self.array.logical_nulls().filter(|n| n.null_count() > 0)?;
        Some(Memory::bytes(nulls.iter().map(|valid| u8::from(!valid)).collect()))
    }

    fn to_pylist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, objects::of_array(py, &self.field, &self.array)?)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        export::refuse_other(requested_schema)?;
        export::array(py, &self.field, &self.array)
    }
}

fn memory_of(array: &ArrayRef) -> Option<Memory> {
    let kind = match array.data_type() {
        DataType::Boolean => {
            let values: &BooleanArray = array.as_boolean();
            return Some(Memory::bytes(values.values().iter().map(u8::from).collect()));
        }
        DataType::Date32 => {
            let days = arrow::compute::cast(array, &DataType::Int64).ok()?;
            return Memory::of(days, "<M8[D]".to_owned());
        }
        DataType::FixedSizeList(_, size) => {
            let lists = array.as_fixed_size_list();
            let inner = memory_of(lists.values())?;
            if inner.shape.len() != 1 || lists.values().null_count() > 0 {
                return None;
            }
            return Some(Memory { shape: vec![lists.len(), usize::try_from(*size).ok()?], ..inner });
        }
        DataType::Int8 => "|i1",
        DataType::Int16 => "<i2",
        DataType::Int32 => "<i4",
        DataType::Int64 => "<i8",
        DataType::UInt8 => "|u1",
        DataType::UInt16 => "<u2",
        DataType::UInt32 => "<u4",
        DataType::UInt64 => "<u8",
        DataType::Float16 => "<f2",
        DataType::Float32 => "<f4",
        DataType::Float64 => "<f8",
        DataType::Date64 => "<M8[ms]",
        DataType::Timestamp(unit, _) => {
            return Memory::of(Arc::clone(array), format!("<M8[{}]", word(*unit)));
        }
        DataType::Duration(unit) => return Memory::of(Arc::clone(array), format!("<m8[{}]", word(*unit))),
        _ => return None,
    };
    Memory::of(Arc::clone(array), kind.to_owned())
}

fn word(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

/// Memory that numpy reads where it lies, kept while numpy has it.
#[pyclass(frozen, module = "triune")]
#[derive(Debug)]
pub(crate) struct Memory {
    _keep: Keep,
    address: usize,
    shape: Vec<usize>,
    kind: String,
}

#[derive(Debug)]
#[expect(dead_code, reason = "it is there to be held")]
enum Keep {
    Array(ArrayRef),
    Bytes(Box<[u8]>),
}

impl Memory {
    fn bytes(bytes: Vec<u8>) -> Self {
        let bytes = bytes.into_boxed_slice();
        Self {
            address: bytes.as_ptr() as usize,
            shape: vec![bytes.len()],
            kind: "|b1".to_owned(),
            _keep: Keep::Bytes(bytes),
        }
    }

    fn of(array: ArrayRef, kind: String) -> Option<Self> {
        let data = array.to_data();
        let width = data.data_type().primitive_width()?;
        let start = data.offset().checked_mul(width)?;
        let address = data.buffers().first()?.as_slice().get(start..)?.as_ptr() as usize;
        Some(Self { address, shape: vec![array.len()], kind, _keep: Keep::Array(array) })
    }
}

#[pymethods]
impl Memory {
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", &self.kind)?;
        interface.set_item("shape", PyTuple::new(py, &self.shape)?)?;
        // Read-only: other results and the engine's caches may read the same memory.
        interface.set_item("data", (self.address, true))?;
        Ok(interface)
    }
}
