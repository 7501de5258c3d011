//! Where queries compute: threads of their own, which give way to short statements.
//!
//! ```text
//!  caller's runtime       parse · plan · look-ups by key · single-row writes · answers of commits
//!        ▲ batches (at most AHEAD wait)
//!  threads of queries     operators and their tasks, at a lower priority
//! ```
//!
//! An operator computes for milliseconds between two pauses. On the caller's threads every short statement would wait
//! for it, however little it has to do. Here it is the operating system that divides the time: who writes a row wakes up,
//! takes a core for its microseconds and sleeps again, and what is left is for the queries.
//!
//! The threads are made when a database runs its first query, as many as the caller's runtime has. A caller on a runtime
//! of one thread (tests, simulations) has its queries run there, in a fixed order.
//!
//! Limits: the lower priority exists on Linux only. Planning is done by the caller.

use std::sync::{Arc, OnceLock};

use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{StreamExt, TryStreamExt};
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use triune_common::{Error, ErrorKind, Result};

use crate::transaction;

/// Batches that wait for whoever reads the result; each may be large.
const AHEAD: usize = 2;

/// Plans nest deeply, and so do the calls of their operators.
const STACK_BYTES: usize = 32 << 20;

/// How much nicer than the process these threads are, in steps of the operating system. Beside a thread that never waits,
/// two steps leave them 39 % of a core; more would starve them where the writers alone fill all cores.
#[cfg(target_os = "linux")]
const NICER: i32 = 2;

/// The threads that a database's queries compute on; none before the first query.
#[derive(Debug, Default)]
pub(crate) struct CpuPool {
    runtime: OnceLock<Runtime>,
}

impl CpuPool {
    /// Where a query of the caller runs; `None`: on the caller's own runtime.
    fn handle(&self) -> Result<Option<Handle>> {
        let Ok(caller) = Handle::try_current() else { return Ok(None) };
        if caller.runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Ok(None);
        }
        if let Some(runtime) = self.runtime.get() {
            return Ok(Some(runtime.handle().clone()));
        }
        let made = Builder::new_multi_thread()
            .worker_threads(caller.metrics().num_workers())
            .thread_name("triune-query")
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(give_way)
            .enable_all()
            .build()
            .map_err(|e| {
                Error::new(ErrorKind::Resources, format!("the threads for queries cannot be started: {e}"))
            })?;
        if let Err(second) = self.runtime.set(made) {
            // Two first queries at once; one of them was quicker.
            second.shutdown_background();
        }
        Ok(self.runtime.get().map(|runtime| runtime.handle().clone()))
    }

    /// Starts a plan. Its first batch is computed when it is asked for; dropping the stream cancels it.
    pub(crate) fn stream(
        self: &Arc<Self>,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let Some(handle) = self.handle()? else { return Ok(execute_stream(plan, context)?) };
        let schema = plan.schema();
        let pool = Arc::clone(self);
        let of_batches = Arc::clone(&schema);
        let statement = transaction::context();
        let batches = async move {
            let mut running = RecordBatchReceiverStreamBuilder::new(of_batches, AHEAD);
            let out = running.tx();
            let compute = async move {
                let mut stream = execute_stream(plan, context)?;
                while let Some(batch) = stream.next().await {
                    if out.send(batch).await.is_err() {
                        break;
                    }
                }
                Ok(())
            };
            running.spawn_on(transaction::within(statement, compute), &handle);
            // The threads live as long as somebody computes on them.
            Ok::<_, DataFusionError>(running.build().inspect(move |_| {
                let _ = &pool;
            }))
        };
        let batches = futures::stream::once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

impl Drop for CpuPool {
    fn drop(&mut self) {
        // A runtime must not be waited for within another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lowers the priority of the calling thread. What fails leaves it as it was: queries run all the same.
#[cfg(target_os = "linux")]
pub(crate) fn give_way() {
    // SAFETY: these calls take numbers only; 0 is the calling thread, whose priority alone is changed.
    unsafe {
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, now.saturating_add(NICER).min(19));
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn give_way() {}

#[cfg(test)]
mod tests {
    use crate::Database;

    fn threads(name: &str) -> Vec<i32> {
        let mut found = Vec::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
            let Some((head, rest)) = stat.rsplit_once(") ") else { continue };
            if head.ends_with(name) {
                // The 19th field of the line, the 17th after the name.
                found.push(rest.split(' ').nth(16).unwrap().parse().unwrap());
            }
        }
        found
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn queries_compute_on_threads_that_give_way() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let database = Database::open(None).await.unwrap();
            let session = database.session();
            let sum = "SELECT sum(x) FROM range(100000) AS t(x)";
            session.execute(sum).await.unwrap().collect().await.unwrap();
            let mine = threads("(tokio-rt-worker").into_iter().max().unwrap_or(0);
            // A thread takes its name and its priority when it first runs.
            let mut nice = threads("(triune-query");
            for _ in 0..500 {
                if nice.len() >= 2 && nice.iter().all(|n| *n > mine || *n == 19) {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                nice = threads("(triune-query");
            }
            assert!(nice.len() >= 2, "{nice:?}");
            assert!(nice.iter().all(|n| *n > mine || *n == 19), "{nice:?} beside {mine}");
            // A result that outlives its database.
            let rest = session.execute("SELECT x FROM range(300000) AS t(x)").await.unwrap();
            drop((session, database));
            let rows: usize = rest.collect().await.unwrap().iter().map(|b| b.num_rows()).sum();
            assert_eq!(rows, 300_000);
        });
    }

    #[test]
    fn an_error_and_a_cancelled_query_leave_the_threads_usable() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let session = Database::open(None).await.unwrap().session();
            let fails = "SELECT sum(100 / (x - 99999)) FROM range(100000) AS t(x)";
            let error = session.execute(fails).await.unwrap().collect().await.unwrap_err();
            assert!(error.message().contains("zero"), "{error}");
            let endless = "SELECT count(*) FROM range(1000000) AS a(x), range(1000000) AS b(y)";
            let mut running = session.execute(endless).await.unwrap();
            let wait = tokio::time::timeout(std::time::Duration::from_millis(50), running.next()).await;
            assert!(wait.is_err());
            drop(running);
            session.execute("SELECT 1").await.unwrap().collect().await.unwrap();
        });
    }
}
