//! Who calls the committer: a thread of its own, or the caller itself.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use triune_common::{Error, ErrorKind, Result};

use super::committer::{Committer, Request};

/// How many requests share an fsync at most, so that the first of them is answered soon.
const GROUP: usize = 4096;

/// How long commits that do not wait may stay without fsync.
const SETTLE: Duration = Duration::from_millis(10);

/// See the module's description.
#[derive(Debug)]
pub(super) enum Driver {
    Thread {
        requests: Option<mpsc::Sender<Request>>,
        thread: Option<JoinHandle<()>>,
    },
    /// For simulations: requests are handled by whoever sends them, one by one.
    Inline(Arc<Mutex<Committer>>),
}

impl Driver {
    pub(super) fn thread(mut committer: Committer) -> Result<Self> {
        let (requests, waiting) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("triune-commit".to_owned())
            .spawn(move || work(&mut committer, &waiting))
            .map_err(|e| {
                Error::new(ErrorKind::Resources, format!("no thread for commits can be started: {e}"))
            })?;
        Ok(Self::Thread { requests: Some(requests), thread: Some(thread) })
    }

    pub(super) fn inline(committer: Committer) -> Self {
        Self::Inline(Arc::new(Mutex::new(committer)))
    }

    pub(super) fn send(&self, request: Request) -> Result<()> {
        let closed = || Error::new(ErrorKind::Unavailable, "the database is closed");
        match self {
            Self::Thread { requests, .. } => {
                requests.as_ref().ok_or_else(closed)?.send(request).map_err(|_| closed())
            }
            Self::Inline(committer) => {
                committer.lock().process([request]);
                Ok(())
            }
        }
    }

    /// Runs something between commits and returns what it found.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Committer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Run(Box::new(move |committer| drop(reply.send(work(committer))))))?;
        answer.await.map_err(|_| Error::internal("the committer ended without an answer"))?
    }
}

fn work(committer: &mut Committer, waiting: &mpsc::Receiver<Request>) {
    loop {
        let first = if committer.has_unsynced() {
            match waiting.recv_timeout(SETTLE) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    committer.settle();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        } else {
            match waiting.recv() {
                Ok(first) => first,
                Err(_) => break,
            }
        };
        let group = std::iter::once(first).chain(waiting.try_iter().take(GROUP - 1));
        committer.process(group);
    }
    committer.settle();
}

impl Drop for Driver {
    /// Everything that was sent is done and durable before the store is gone.
    fn drop(&mut self) {
        if let Self::Thread { requests, thread } = self {
            // The thread ends when the last sender is gone.
            drop(requests.take());
            if let Some(thread) = thread.take() {
                // A panic there was reported by the runtime; a destructor has nobody to tell.
                drop(thread.join());
            }
        }
    }
}
