//! The compiled half of the Python package `triune`: a database, sessions, results and columns; everything else is
//! Python, in `python/triune`.
//!
//! ```text
//!  triune/*.py      connection, relations, DB-API, pandas, notebook        (what users call)
//!  _triune          Database ─ Session ─ Rows ─ Batches ─ Column           (this crate)
//!  triune-query     the engine, on threads of its own
//! ```
//!
//! The interpreter's lock is given up while the engine works, and taken every 50 ms to look for Ctrl-C.

mod column;
mod engine;
mod error;
mod export;
mod frame;
mod function;
mod import;
mod objects;
mod rows;
mod scalars;
mod session;

use pyo3::prelude::*;

/// The module `triune._triune`.
#[pymodule]
fn _triune(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<session::Database>()?;
    module.add_class::<session::Session>()?;
    module.add_class::<rows::Rows>()?;
    module.add_class::<rows::Batches>()?;
    module.add_class::<column::Column>()?;
    module.add_class::<column::Memory>()?;
    module.add_class::<export::SchemaCapsule>()?;
    module.add_function(wrap_pyfunction!(session::split, module)?)?;
    module.add_function(wrap_pyfunction!(import::read_batches, module)?)?;
    module.add_function(wrap_pyfunction!(import::column_of_numpy, module)?)?;
    module.add_function(wrap_pyfunction!(import::column_of_list, module)?)?;
    module.add_function(wrap_pyfunction!(import::batches_of_columns, module)?)?;
    Ok(())
}
