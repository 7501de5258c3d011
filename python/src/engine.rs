//! The engine's threads, and waiting for them without holding the interpreter.
//!
//! A process has one runtime. After a fork the child makes one of its own: the parent's threads are not in it, and what
//! was opened before the fork is refused there.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use datafusion::common::runtime::SpawnedTask;
use futures::FutureExt;
use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use triune_common::{Error, ErrorKind, Result};

use crate::error::to_python;

/// Plans nest deeply, and so do the calls of their operators.
const STACK_BYTES: usize = 32 << 20;

/// How often a wait looks for Ctrl-C and shows its progress.
const PAUSE: Duration = Duration::from_millis(50);

static ENGINE: Mutex<Option<(u32, Runtime)>> = Mutex::new(None);

/// The runtime of this process.
///
/// *Errors*: the operating system gives no threads.
pub(crate) fn handle() -> Result<Handle> {
    let process = std::process::id();
    let mut engine = ENGINE.lock();
    if let Some((of, runtime)) = engine.as_ref()
        && *of == process
    {
        return Ok(runtime.handle().clone());
    }
    let made = Builder::new_multi_thread()
        .thread_name("triune")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .map_err(|e| Error::new(ErrorKind::Resources, format!("the engine's threads cannot start: {e}")))?;
    let handle = made.handle().clone();
    if let Some((_, parents)) = engine.replace((process, made)) {
        // Its threads stayed in the parent: there is nothing to wait for.
        std::mem::forget(parents);
    }
    Ok(handle)
}

/// What belongs to the process that made it. In a forked child it is neither used nor dropped.
#[derive(Debug)]
pub(crate) struct Own<T: Send + 'static> {
    process: u32,
    value: Option<T>,
}

impl<T: Send + 'static> Own<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { process: std::process::id(), value: Some(value) }
    }

    pub(crate) fn get(&self) -> Result<&T> {
        match &self.value {
            Some(value) if self.process == std::process::id() => Ok(value),
            _ => Err(Error::invalid("the database was opened before this process was forked")
                .with_hint("call triune.connect in the child, or start processes with \"spawn\"")),
        }
    }
}

impl<T: Send + 'static> Own<T> {
    pub(crate) fn get_mut(&mut self) -> Result<&mut T> {
        self.get()?;
        self.value.as_mut().ok_or_else(|| Error::internal("a value that was dropped"))
    }
}

impl<T: Send + 'static> Drop for Own<T> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else { return };
        if self.process != std::process::id() {
            std::mem::forget(value);
            return;
        }
        // The last of a database may wait for its threads; one of them may want the interpreter.
        match handle() {
            Ok(engine) => drop(engine.spawn_blocking(move || drop(value))),
            Err(_) => drop(value),
        }
    }
}

/// Blocks this thread. Where it is one of the engine's own (a Python function asks the database), another takes its work
/// over: the future may be waiting in this very thread's queue.
fn apart<T>(block: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|h| h.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(block),
        _ => block(),
    }
}

/// Runs a future on the engine and waits for it. Ctrl-C drops it, which cancels what it does.
///
/// *Errors*: the future's own; a panic in it is an internal error; `KeyboardInterrupt` and whatever else a signal's
/// handler or `tick` raises.
pub(crate) fn wait<T, F>(
    py: Python<'_>,
    mut tick: impl FnMut(Python<'_>) -> PyResult<()>,
    future: F,
) -> PyResult<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let engine = handle().map_err(|e| to_python(py, e))?;
    let (sender, mut receiver) = sync_channel(1);
    let task = {
        let _inside = engine.enter();
        SpawnedTask::spawn(async move {
            let done = AssertUnwindSafe(future).catch_unwind().await;
            // Nobody listens any more when the wait was interrupted.
            let _ = sender.send(done);
        })
    };
    let done = loop {
        let receiver = &mut receiver;
        match py.detach(move || apart(|| receiver.recv_timeout(PAUSE))) {
            Ok(done) => break done,
            Err(RecvTimeoutError::Timeout) => {
                py.check_signals()?;
                tick(py)?;
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(to_python(py, Error::new(ErrorKind::Cancelled, "the statement was cancelled")));
            }
        }
    };
    drop(task);
    match done {
        Ok(done) => done.map_err(|e| to_python(py, e)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(to_python(py, Error::internal(format!("the statement met a defect: {text}"))))
        }
    }
}
