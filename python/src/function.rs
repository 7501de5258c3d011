//! Functions written in Python: scalar ones over columns, and those that give tables.
//!
//! The engine's thread takes the interpreter for each batch. `triune._udf` turns columns into what the function wants
//! (Python's objects, numpy's arrays, Arrow's) and its answer back.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use triune_common::Error;

use crate::column::Column;
use crate::error::from_python;
use crate::frame::{self, Reading};
use crate::import::array_of;
use crate::scalars;

/// A scalar function over columns.
pub(crate) struct Scalar {
    name: String,
    signature: Signature,
    returns: FieldRef,
    call: Arc<Py<PyAny>>,
}

impl Scalar {
    /// `call` takes columns and a number of rows, and gives an Arrow array.
    pub(crate) fn new(
        name: &str,
        takes: Option<Vec<DataType>>,
        returns: &Field,
        is_volatile: bool,
        call: Py<PyAny>,
    ) -> Self {
        let takes = match takes {
            Some(types) if types.is_empty() => TypeSignature::Nullary,
            Some(types) => TypeSignature::Exact(types),
            None => TypeSignature::VariadicAny,
        };
        let volatility = if is_volatile { Volatility::Volatile } else { Volatility::Immutable };
        let returns = Arc::new(returns.clone().with_name(name).with_nullable(true));
        Self {
            name: name.to_owned(),
            signature: Signature::new(takes, volatility),
            returns,
            call: Arc::new(call),
        }
    }
}

impl std::fmt::Debug for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scalar").field("name", &self.name).finish_non_exhaustive()
    }
}

// Two functions of one name are the same one only when they call the same object.
impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.returns == other.returns && Arc::ptr_eq(&self.call, &other.call)
    }
}

impl Eq for Scalar {}

impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Scalar {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.returns.data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        Ok(Arc::clone(&self.returns))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let constant =
            !args.args.is_empty() && args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { rows };
        let columns = args
            .args
            .into_iter()
            .zip(args.arg_fields)
            .map(|(value, field)| Ok(Column { field, array: value.into_array(rows)? }))
            .collect::<DfResult<Vec<_>>>()?;
        let failed = |py: Python<'_>, e: PyErr| {
            DataFusionError::from(from_python(py, &format!("the function {}", self.name), e))
        };
        let array = Python::attach(|py| {
            let call = || {
                let columns = columns.into_iter().map(|c| Bound::new(py, c)).collect::<PyResult<Vec<_>>>()?;
                let answer = self.call.bind(py).call1((PyTuple::new(py, columns)?, rows))?;
                array_of(&answer)
            };
            call().map_err(|e| failed(py, e))
        })?;
        let (from, array) = array;
        if array.len() != rows {
            return Err(Error::invalid(format!(
                "the function {} gave {} values for {rows} rows",
                self.name,
                array.len()
            ))
            .into());
        }
        let wanted = self.returns.data_type();
        let array = match triune_vector::types::VectorType::from_field(&self.returns) {
            Some(vector) if array.data_type() != wanted => {
                triune_vector::types::array_to_vectors(&array, &from, vector)?
            }
            _ => arrow::compute::cast_with_options(
                &array,
                wanted,
                &arrow::compute::CastOptions { safe: false, ..Default::default() },
            )?,
        };
        if constant {
            return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// A function that gives a table.
pub(crate) struct Table {
    pub(crate) name: String,
    /// Takes the arguments and gives an object with Arrow data.
    pub(crate) call: Py<PyAny>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TableFunctionImpl for Table {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> DfResult<Arc<dyn TableProvider>> {
        let values = args
            .exprs()
            .iter()
            .map(|expr| match expr {
                Expr::Literal(value, _) => Ok(value.clone()),
                other => {
                    Err(Error::invalid(format!("the function {} takes constants, not {other}", self.name))
                        .into())
                }
            })
            .collect::<DfResult<Vec<_>>>()?;
        Python::attach(|py| {
            let call = || {
                let values = values.iter().map(|v| scalars::object(py, v)).collect::<PyResult<Vec<_>>>()?;
                let answer = self.call.bind(py).call1(PyTuple::new(py, values)?)?;
                frame::table(&answer, Reading::Whole)
            };
            call().map_err(|e| from_python(py, &format!("the function {}", self.name), e).into())
        })
    }
}
