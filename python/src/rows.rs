//! What a statement gives back: `Rows` that are still to come, `Batches` that are there.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_empty_array};
use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList, PyTuple};
use triune_common::{Error, Result};
use triune_query::{ProgressHandle, QueryResult, Tag};

use crate::column::Column;
use crate::engine::{self, Own};
use crate::error::to_python;
use crate::session::report;
use crate::{export, objects};

/// A running statement's rows, read once. Letting go of it cancels the statement.
#[pyclass(frozen, module = "triune")]
pub(crate) struct Rows {
    schema: SchemaRef,
    tag: Tag,
    progress: ProgressHandle,
    state: Mutex<Own<State>>,
    tick: Option<Py<PyAny>>,
}

struct State {
    result: Option<QueryResult>,
    /// A batch that was begun, and how many of its rows are out.
    begun: Option<(RecordBatch, usize)>,
}

impl Rows {
    pub(crate) fn new(result: QueryResult, tick: Option<Py<PyAny>>) -> Self {
        Self {
            schema: result.schema(),
            tag: result.tag().clone(),
            progress: result.progress(),
            state: Mutex::new(Own::new(State { result: Some(result), begun: None })),
            tick,
        }
    }

    /// The rest of the batch that was begun, and what is still to come.
    fn take(&self, py: Python<'_>) -> PyResult<(Option<RecordBatch>, Option<QueryResult>)> {
        let mut state = self.state.lock();
        let state = state.get_mut().map_err(|e| to_python(py, e))?;
        let begun = state.begun.take().map(|(b, at)| b.slice(at, b.num_rows() - at));
        Ok((begun.filter(|b| b.num_rows() > 0), state.result.take()))
    }

    fn next(&self, py: Python<'_>) -> PyResult<Option<RecordBatch>> {
        let (begun, result) = self.take(py)?;
        if let Some(batch) = begun {
            self.put(py, result)?;
            return Ok(Some(batch));
        }
        let Some(mut result) = result else { return Ok(None) };
        let next = async move {
            loop {
                match result.next().await {
                    Some(Ok(batch)) if batch.num_rows() == 0 => {}
                    Some(Ok(batch)) => return Ok((Some(batch), Some(result))),
                    Some(Err(e)) => return Err(e),
                    None => return Ok((None, None)),
                }
            }
        };
        let (batch, result) = self.waited(py, next)?;
        self.put(py, result)?;
        Ok(batch)
    }

    fn put(&self, py: Python<'_>, result: Option<QueryResult>) -> PyResult<()> {
        let mut state = self.state.lock();
        state.get_mut().map_err(|e| to_python(py, e))?.result = result;
        Ok(())
    }

    /// Waits, telling how far the query is, and at the end that it is over.
    fn waited<T: Send + 'static>(
        &self,
        py: Python<'_>,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> PyResult<T> {
        let done = engine::wait(py, |py| report(py, self.tick.as_ref(), &self.progress), future);
        if let Some(tick) = &self.tick {
            tick.call1(py, (py.None(), py.None(), py.None(), py.None()))?;
        }
        done
    }
}

#[pymethods]
impl Rows {
    /// `rows`, `plan`, or a command's name such as `INSERT`.
    #[getter]
    fn kind(&self) -> String {
        match &self.tag {
            Tag::Rows => "rows".to_owned(),
            Tag::Plan => "plan".to_owned(),
            Tag::Command { name, .. } => name.clone(),
        }
    }

    /// Whether the statement gives columns.
    #[getter]
    fn is_query(&self) -> bool {
        !matches!(self.tag, Tag::Command { .. })
    }

    /// Rows that were written, where that says something.
    #[getter]
    fn written(&self) -> Option<u64> {
        match &self.tag {
            Tag::Command { rows, .. } => *rows,
            _ => None,
        }
    }

    #[getter]
    fn schema(&self) -> export::SchemaCapsule {
        export::SchemaCapsule(Arc::clone(&self.schema))
    }

    /// Up to `n` rows as a list of tuples; all that are left without `n`.
    #[pyo3(signature = (n=None))]
    fn fetch<'py>(&self, py: Python<'py>, n: Option<usize>) -> PyResult<Bound<'py, PyList>> {
        let rows = PyList::empty(py);
        let mut wanted = n.unwrap_or(usize::MAX);
        while wanted > 0 {
            let Some(batch) = self.next(py)? else { break };
            let taken = wanted.min(batch.num_rows());
            append_rows(&rows, &batch.slice(0, taken))?;
            wanted -= taken;
            if taken < batch.num_rows() {
                let mut state = self.state.lock();
                state.get_mut().map_err(|e| to_python(py, e))?.begun = Some((batch, taken));
            }
        }
        Ok(rows)
    }

    /// The next batch, or None at the end.
    fn next_batch(&self, py: Python<'_>) -> PyResult<Option<Batches>> {
        let schema = Arc::clone(&self.schema);
        Ok(self.next(py)?.map(|batch| Batches { schema, batches: vec![batch] }))
    }

    /// Everything that is left.
    fn read(&self, py: Python<'_>) -> PyResult<Batches> {
        let (begun, result) = self.take(py)?;
        let mut batches: Vec<_> = begun.into_iter().collect();
        if let Some(result) = result {
            batches.extend(self.waited(py, result.collect())?);
        }
        Ok(Batches { schema: Arc::clone(&self.schema), batches })
    }

    /// Cancels what still runs.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        drop(self.take(py)?);
        Ok(())
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        export::refuse_other(requested_schema)?;
        match self.take(py)? {
            (None, Some(result)) => export::running(py, result),
            (begun, result) => {
                let mut batches: Vec<_> = begun.into_iter().collect();
                if let Some(result) = result {
                    batches.extend(self.waited(py, result.collect())?);
                }
                export::batches(py, Arc::clone(&self.schema), batches)
            }
        }
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        export::schema(py, &self.schema)
    }
}

/// Rows in memory; read as often as one likes.
#[pyclass(frozen, module = "triune")]
#[derive(Debug)]
pub(crate) struct Batches {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
}

#[pymethods]
impl Batches {
    fn __len__(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    #[getter]
    fn schema(&self) -> export::SchemaCapsule {
        export::SchemaCapsule(Arc::clone(&self.schema))
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.batches.iter().map(RecordBatch::get_array_memory_size).sum()
    }

    /// A column in one piece: without a copy where there is one batch.
    fn column(&self, py: Python<'_>, index: usize) -> PyResult<Column> {
        let done: Result<Column> = py.detach(|| {
            let field = self.schema.fields().get(index).ok_or_else(|| {
                Error::invalid(format!("there is no column {index}, only {}", self.schema.fields().len()))
            })?;
            let parts: Vec<&dyn arrow::array::Array> =
                self.batches.iter().map(|b| b.column(index).as_ref()).collect();
            let array: ArrayRef = match (parts.as_slice(), self.batches.as_slice()) {
                ([], _) => new_empty_array(field.data_type()),
                ([_], [batch]) => Arc::clone(batch.column(index)),
                (parts, _) => arrow::compute::concat(parts)?,
            };
            Ok(Column { field: Arc::clone(field), array })
        });
        done.map_err(|e| to_python(py, e))
    }

    /// The same rows with no names of extension types, for readers that would show those instead of vectors.
    fn plain(&self, py: Python<'_>) -> PyResult<Self> {
        let fields = self.schema.fields().iter().map(|f| {
            let mut kept = f.metadata().clone();
            kept.retain(|key, _| !key.starts_with("ARROW:extension"));
            f.as_ref().clone().with_metadata(kept)
        });
        let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
        let with = |b: &RecordBatch| {
            let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(b.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(&schema), b.columns().to_vec(), &rows)
        };
        let batches = self.batches.iter().map(with).collect::<std::result::Result<Vec<_>, _>>();
        let batches = batches.map_err(|e| to_python(py, Error::from(e)))?;
        Ok(Self { schema, batches })
    }

    /// All rows as a list of tuples.
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rows = PyList::empty(py);
        for batch in &self.batches {
            append_rows(&rows, batch)?;
        }
        Ok(rows)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        export::refuse_other(requested_schema)?;
        export::batches(py, Arc::clone(&self.schema), self.batches.clone())
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        export::schema(py, &self.schema)
    }
}

fn append_rows(rows: &Bound<'_, PyList>, batch: &RecordBatch) -> PyResult<()> {
    let py = rows.py();
    let schema = batch.schema();
    let columns: Vec<Vec<Bound<'_, PyAny>>> = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| objects::of_array(py, field, array))
        .collect::<PyResult<_>>()?;
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    for _ in 0..batch.num_rows() {
        let cells: Vec<_> = columns.iter_mut().filter_map(Iterator::next).collect();
        rows.append(PyTuple::new(py, cells)?)?;
    }
    Ok(())
}
