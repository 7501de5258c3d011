//! Errors of the engine as Python's exceptions: `triune.errors` makes them, by kind.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use triune_common::Error;

static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The exception of an error; where a Python function raised it, that is its cause.
#[expect(clippy::needless_pass_by_value, reason = "it ends here, in `map_err`")]
pub(crate) fn to_python(py: Python<'_>, error: Error) -> PyErr {
    match exception(py, &error) {
        Ok(exception) => {
            let made = PyErr::from_value(exception);
            if let Some(cause) = std::error::Error::source(&error).and_then(|s| s.downcast_ref::<PyErr>()) {
                made.set_cause(py, Some(cause.clone_ref(py)));
            }
            made
        }
        Err(_) => PyRuntimeError::new_err(error.to_string()),
    }
}

fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let make =
        MAKE.get_or_try_init(py, || PyResult::Ok(py.import("triune.errors")?.getattr("_make")?.unbind()))?;
    let position = error.position().map(|p| (p.line, p.column));
    make.bind(py).call1((
        error.kind().label(),
        error.message(),
        error.hint(),
        position,
        error.kind().is_retryable(),
    ))
}

/// An exception that Python code raised, on its way through the engine.
pub(crate) fn from_python(py: Python<'_>, what: &str, error: PyErr) -> Error {
    Error::invalid(format!("{what}: {}", text_of(py, &error))).with_source(error)
}

/// `ValueError: no such thing`.
fn text_of(py: Python<'_>, error: &PyErr) -> String {
    let name = error.get_type(py).name().map_or_else(|_| "an exception".to_owned(), |n| n.to_string());
    format!("{name}: {}", error.value(py))
}
