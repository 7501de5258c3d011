//! Databases and sessions as Python holds them.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use parking_lot::Mutex;
use pyo3::prelude::*;
use triune_common::{Error, Result};
use triune_query::{DatabaseOptions, Params, ProgressHandle, Session as EngineSession, split_statements};

use crate::engine::{self, Own};
use crate::error::to_python;
use crate::export::SchemaCapsule;
use crate::frame::{self, Reading};
use crate::rows::Rows;
use crate::{function, scalars};

/// An open database. In a process that was forked from the one that opened it, it is refused.
#[pyclass(frozen, module = "triune")]
#[derive(Debug)]
pub(crate) struct Database {
    inner: Mutex<Option<Own<Arc<triune_query::Database>>>>,
    location: String,
}

fn closed(what: &str) -> Error {
    Error::invalid(format!("the {what} is closed"))
}

impl Database {
    fn get(&self) -> Result<Arc<triune_query::Database>> {
        let inner = self.inner.lock();
        Ok(Arc::clone(inner.as_ref().ok_or_else(|| closed("database"))?.get()?))
    }
}

#[pymethods]
impl Database {
    /// Opens a folder, a URL or `:memory:`.
    #[new]
    #[pyo3(signature = (location, read_only=false, memory_limit=None))]
    fn open(
        py: Python<'_>,
        location: String,
        read_only: bool,
        memory_limit: Option<usize>,
    ) -> PyResult<Self> {
        let options = DatabaseOptions { read_only, memory_limit, ..DatabaseOptions::default() };
        let at = location.clone();
        let opening = async move { triune_query::Database::open_with(Some(&at), options).await };
        let inner = engine::wait(py, |_| Ok(()), opening)?;
        Ok(Self { inner: Mutex::new(Some(Own::new(inner))), location })
    }

    #[getter]
    fn location(&self) -> &str {
        &self.location
    }

    fn session(&self, py: Python<'_>) -> PyResult<Session> {
        let database = self.get().map_err(|e| to_python(py, e))?;
        Ok(Session { inner: Mutex::new(Some(Own::new(Arc::new(database.session())))) })
    }

    /// Ends writing and lets go of the files; a second call does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(own) = self.inner.lock().take() else { return Ok(()) };
        let Ok(database) = own.get().map(Arc::clone) else { return Ok(()) };
        drop(own);
        engine::wait(py, |_| Ok(()), async move {
            let done = database.close().await;
            drop(tokio::task::spawn_blocking(move || drop(database)).await);
            done
        })
    }
}

/// One conversation with a database.
#[pyclass(frozen, module = "triune")]
#[derive(Debug)]
pub(crate) struct Session {
    inner: Mutex<Option<Own<Arc<EngineSession>>>>,
}

impl Session {
    fn get(&self, py: Python<'_>) -> PyResult<Arc<EngineSession>> {
        let inner = self.inner.lock();
        let session =
            inner.as_ref().ok_or_else(|| closed("connection")).and_then(|s| s.get().map(Arc::clone));
        session.map_err(|e| to_python(py, e))
    }
}

/// Calls a progress function: `(fraction or None, rows read, rows in all or None, bytes read)`.
pub(crate) fn report(py: Python<'_>, tick: Option<&Py<PyAny>>, progress: &ProgressHandle) -> PyResult<()> {
    if let Some(tick) = tick {
        let now = progress.snapshot();
        tick.call1(py, (now.fraction, now.rows_read, now.total_rows, now.bytes_read))?;
    }
    Ok(())
}

#[pymethods]
impl Session {
    /// Runs one statement.
    #[pyo3(signature = (sql, parameters=None, tick=None))]
    fn execute(
        &self,
        py: Python<'_>,
        sql: String,
        parameters: Option<&Bound<'_, PyAny>>,
        tick: Option<Py<PyAny>>,
    ) -> PyResult<Rows> {
        let session = self.get(py)?;
        let parameters = scalars::parameters(parameters)?;
        let progress = session.progress();
        let running = async move { session.execute_with(&sql, &parameters).await };
        let result = engine::wait(py, |py| report(py, tick.as_ref(), &progress), running)?;
        Ok(Rows::new(result, tick))
    }

    /// The columns of a query, which is not run; None for what is no query.
    #[pyo3(signature = (sql, parameters=None))]
    fn schema_of(
        &self,
        py: Python<'_>,
        sql: String,
        parameters: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<SchemaCapsule>> {
        let session = self.get(py)?;
        let parameters = scalars::parameters(parameters)?;
        let planning = async move { session.schema_of(&sql, &parameters).await };
        Ok(engine::wait(py, |_| Ok(()), planning)?.map(SchemaCapsule))
    }

    /// `(as written, as a table is called)` of names that are no relations of the session.
    fn unknown_names(&self, py: Python<'_>, sql: &str) -> PyResult<Vec<(String, String)>> {
        self.get(py)?.unknown_names(sql).map_err(|e| to_python(py, e))
    }

    /// Puts a Python object in front of the tables: read `whole` now, `once` or `again` with each query.
    fn register(&self, py: Python<'_>, name: &str, object: &Bound<'_, PyAny>, reading: &str) -> PyResult<()> {
        let reading = match reading {
            "once" => Reading::Once,
            "again" => Reading::Again,
            _ => Reading::Whole,
        };
        let session = self.get(py)?;
        session.register_temporary(name, frame::table(object, reading)?);
        Ok(())
    }

    fn unregister(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        Ok(self.get(py)?.deregister_temporary(name))
    }

    /// Makes a scalar function: its types as SQL writes them.
    #[pyo3(signature = (name, call, returns, takes=None, is_volatile=false))]
    fn register_scalar(
        &self,
        py: Python<'_>,
        name: &str,
        call: Py<PyAny>,
        returns: &str,
        takes: Option<Vec<String>>,
        is_volatile: bool,
    ) -> PyResult<()> {
        let session = self.get(py)?;
        let mut casts = vec![format!("CAST(NULL AS {returns}) AS c")];
        for (i, kind) in takes.iter().flatten().enumerate() {
            casts.push(format!("CAST(NULL AS {kind}) AS c{i}"));
        }
        let sql = format!("SELECT {}", casts.join(", "));
        let planning = {
            let session = Arc::clone(&session);
            async move { session.schema_of(&sql, &Params::None).await }
        };
        let schema = engine::wait(py, |_| Ok(()), planning)?
            .ok_or_else(|| to_python(py, Error::internal("types that are no query")))?;
        let takes = takes.map(|_| schema.fields().iter().skip(1).map(|f| f.data_type().clone()).collect());
        let made = function::Scalar::new(name, takes, schema.field(0), is_volatile, call);
        session.register_scalar(Arc::new(ScalarUDF::new_from_impl(made))).map_err(|e| to_python(py, e))
    }

    fn register_table_function(&self, py: Python<'_>, name: String, call: Py<PyAny>) -> PyResult<()> {
        let session = self.get(py)?;
        session.register_table_function(&name.clone(), Arc::new(function::Table { name, call }));
        Ok(())
    }

    /// `(schema, name, kind, columns, notes, statement)` of every relation; a column is
    /// `(name, type, nullable, default, comment)`.
    #[expect(clippy::type_complexity, reason = "a tuple for Python, which names its parts")]
    fn relations(
        &self,
        py: Python<'_>,
    ) -> PyResult<
        Vec<(
            String,
            String,
            String,
            Vec<(String, String, bool, Option<String>, Option<String>)>,
            Vec<String>,
            Option<String>,
        )>,
    > {
        let session = self.get(py)?;
        let names = engine::wait(py, |_| Ok(()), async move { Ok(session.names().await) })?;
        let tables = names.tables.into_iter().map(|t| {
            let columns = t.columns.into_iter();
            let columns = columns.map(|c| (c.name, c.data_type, c.nullable, c.default, c.comment)).collect();
            (t.schema, t.name, t.kind.to_owned(), columns, t.notes, t.statement)
        });
        Ok(tables.collect())
    }

    /// `(name, kind, signature, description)` of every function.
    fn functions(&self, py: Python<'_>) -> PyResult<Vec<(String, String, String, String)>> {
        let functions = self.get(py)?.functions().into_iter();
        Ok(functions.map(|f| (f.name, f.kind.label().to_owned(), f.signature, f.description)).collect())
    }

    /// Lets go of the database; a second call does nothing. An open transaction is rolled back.
    fn close(&self) {
        drop(self.inner.lock().take());
    }
}

/// The statements of a script.
#[pyfunction]
pub(crate) fn split(script: &str) -> Vec<String> {
    split_statements(script).all().into_iter().map(|s| s.text.to_owned()).collect()
}
