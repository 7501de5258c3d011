//! The threads that models compute on.
//!
//! The products of matrices are divided among these threads, and several batches go over them at once. Whoever waits for
//! a batch waits for a message, not in a thread: the runtime that serves connections and files is never held up.

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::oneshot;
use triune_common::{Error, ErrorKind, Result};

/// Threads for the models of a database; clones are the same threads.
#[derive(Debug, Clone)]
pub struct Workers(Arc<ThreadPool>);

/// Models nest little, matrices lie on the heap.
const STACK_BYTES: usize = 4 << 20;

impl Workers {
    /// `count` threads (at least one), each of which calls `begin` first.
    ///
    /// Errors: out of resources when the system gives no threads.
    pub fn new(count: usize, begin: fn()) -> Result<Self> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(count.max(1))
            .thread_name(|n| format!("triune-embed-{n}"))
            .stack_size(STACK_BYTES)
            .start_handler(move |_| begin())
            .build()
            .map_err(|e| {
                Error::new(ErrorKind::Resources, format!("the threads for models cannot be started: {e}"))
            })?;
        Ok(Self(Arc::new(pool)))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.current_num_threads()
    }

    /// Runs some work. If nobody waits for it any more when its turn comes, it is not begun.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        self.0.spawn(move || {
            if sender.is_closed() {
                return;
            }
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let done = done.unwrap_or_else(|_| Err(Error::internal("the work of a model ended in a panic")));
            let _ = sender.send(done);
        });
        receiver.await.unwrap_or_else(|_| Err(Error::internal("the threads for models are gone")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_not_begun() {
        let workers = Workers::new(1, || {}).unwrap();
        let begun = Arc::new(AtomicUsize::new(0));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let first = workers.run(move || Ok(wait.recv().is_ok()));
        let mut first = Box::pin(first);
        assert!(futures::poll!(&mut first).is_pending());
        let counted = Arc::clone(&begun);
        let mut second = Box::pin(workers.run(move || Ok(counted.fetch_add(1, Ordering::SeqCst))));
        assert!(futures::poll!(&mut second).is_pending());
        drop(second);
        go.send(()).unwrap();
        assert!(first.await.unwrap());
        workers.run(|| Ok(())).await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 0);
        let error = workers.run::<()>(|| panic!("at the disco")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        workers.run(|| Ok(())).await.unwrap();
    }
}
