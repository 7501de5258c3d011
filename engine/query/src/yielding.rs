//! Joins give way.
//!
//! ```text
//!  AggregateExec                     asks and asks …
//!  └─ CooperativeExec                … and is told to wait once in 128 batches,
//!     └─ CrossJoinExec               which one batch of the input may become millions of
//!        ├─ DataSourceExec
//!        └─ DataSourceExec           (gives way by itself, but is asked rarely)
//! ```
//!
//! A task of tokio is cancelled where it waits. DataFusion makes sources and exchanges wait now and then; a join with a
//! large fan-out can work for hours between two batches of its sources. This rule puts a place to wait above every join.
//!
//! Limits: between two batches of its *output* a join runs on. A nested loop join whose condition hardly ever holds
//! looks at `rows of the left side × batch size` pairs before it asks its right side for the next batch.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::SchedulingType;

/// The rule; it must be the last one, for others know joins by what stands above them.
#[derive(Debug, Default)]
pub(crate) struct JoinsGiveWay {}

impl PhysicalOptimizerRule for JoinsGiveWay {
    fn name(&self) -> &str {
        "joins_give_way"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let done = plan.transform_up(|node| {
            let waits = node.properties().scheduling_type == SchedulingType::Cooperative;
            Ok(if node.name().ends_with("JoinExec") && !waits {
                Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>)
            } else {
                Transformed::no(node)
            })
        })?;
        Ok(done.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use datafusion::common::runtime::SpawnedTask;

    use crate::Database;

    /// One thread must start the statement, notice the user's wish and carry it out. Were it not given back, the wish
    /// would wait for 10¹² rows.
    fn cancels(sql: &'static str) {
        let (done, finished) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let session = Database::open(None).await.unwrap().session();
                let running = session.execute(sql).await.unwrap();
                let running = SpawnedTask::spawn(running.collect()).join();
                let wait = tokio::time::timeout(Duration::from_millis(50), running).await;
                assert!(wait.is_err(), "{sql} is no long statement");
                let metrics = tokio::runtime::Handle::current().metrics();
                while metrics.num_alive_tasks() > 0 {
                    tokio::task::yield_now().await;
                }
                session.execute("SELECT 1").await.unwrap().collect().await.unwrap();
            });
            done.send(()).unwrap();
        });
        finished.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    #[test]
    fn a_cross_join_can_be_cancelled() {
        cancels("SELECT count(*) FROM range(1000000) AS a(x), range(1000000) AS b(y)");
    }

    #[test]
    fn a_nested_loop_join_can_be_cancelled() {
        cancels("SELECT count(*) FROM range(1000000) AS a(x) JOIN range(1000000) AS b(y) ON x + y > 5");
    }

    #[test]
    fn a_hash_join_with_a_large_fan_out_can_be_cancelled() {
        cancels("SELECT count(*) FROM range(1000000) AS a(x) JOIN range(1000000) AS b(y) ON x % 2 = y % 2");
    }

    #[test]
    fn joins_below_sorts_can_be_cancelled() {
        cancels(
            "SELECT max(x + y) FROM range(1000000) AS a(x), range(1000000) AS b(y) GROUP BY x % 3 ORDER BY 1",
        );
    }
}
