//! Waiting for an object store from code that blocks.

use std::fmt;
use std::io;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use triune_common::{Error, ErrorKind, Result};

/// Threads that send requests and read answers; they compute nothing.
const THREADS: usize = 2;

/// A runtime of its own for requests, so that somebody who blocks until an answer is there never holds up the
/// thread that would receive it.
pub struct StoreIo {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl fmt::Debug for StoreIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreIo")
    }
}

impl StoreIo {
    /// Starts the threads.
    pub fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("triune-store-io")
            .enable_all()
            .build()
            .map_err(|e| {
                Error::new(ErrorKind::Resources, format!("no threads for requests can be started: {e}"))
            })?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }

    /// Where requests are sent from.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a future on the threads of this value and blocks until it is done. May be called from anywhere but from
    /// these threads.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        self.wait_within(None, future)
    }

    /// The same, for a limited time; what it does goes on after that.
    pub(crate) fn wait_within<T: Send + 'static>(
        &self,
        limit: Option<Duration>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, answer) = mpsc::sync_channel(1);
        self.handle.spawn(async move { done.send(future.await) });
        let receive = move || match limit {
            None => answer.recv().map_err(|_| io::Error::other("a request was given up")),
            Some(limit) => answer.recv_timeout(limit).map_err(|_| io::ErrorKind::TimedOut.into()),
        };
        match Handle::try_current() {
            // The other tasks of this thread go to another one meanwhile.
            Ok(here) if here.runtime_flavor() == RuntimeFlavor::MultiThread => {
                tokio::task::block_in_place(receive)
            }
            _ => receive(),
        }
    }
}

impl Drop for StoreIo {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for its threads is not allowed inside of another runtime.
            runtime.shutdown_background();
        }
    }
}
