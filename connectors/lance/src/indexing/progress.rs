//! How far a build is.

use async_trait::async_trait;
use lance_index::progress::IndexBuildProgress;
use parking_lot::Mutex;

/// A moment of a build. Stages have Lance's names (`train_ivf`, `shuffle`, `merge_partitions`, `build_pages`, …).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildStage {
    pub stage: String,
    /// Units done in this stage.
    pub done: u64,
    /// Units of this stage, where they are known.
    pub total: Option<u64>,
    /// What is counted: `rows`, `partitions`, `batches`.
    pub unit: String,
    /// Stages that are finished.
    pub finished: u64,
}

/// What a build tells of itself, to be looked at from outside.
#[derive(Debug, Default)]
pub struct BuildProgress(Mutex<BuildStage>);

impl BuildProgress {
    pub fn snapshot(&self) -> BuildStage {
        self.0.lock().clone()
    }

    /// Says what is done between Lance's stages.
    pub fn enter(&self, stage: &str) {
        let mut now = self.0.lock();
        let finished = now.finished;
        *now = BuildStage { stage: stage.to_owned(), finished, ..BuildStage::default() };
    }
}

#[async_trait]
impl IndexBuildProgress for BuildProgress {
    async fn stage_start(&self, stage: &str, total: Option<u64>, unit: &str) -> lance::Result<()> {
        let mut now = self.0.lock();
        let finished = now.finished;
        *now = BuildStage { stage: stage.to_owned(), done: 0, total, unit: unit.to_owned(), finished };
        Ok(())
    }

    async fn stage_progress(&self, stage: &str, completed: u64) -> lance::Result<()> {
        let mut now = self.0.lock();
        if now.stage == stage {
            now.done = completed;
        }
        Ok(())
    }

    async fn stage_complete(&self, stage: &str) -> lance::Result<()> {
        let mut now = self.0.lock();
        if now.stage == stage {
            now.done = now.total.unwrap_or(now.done);
        }
        now.finished += 1;
        Ok(())
    }
}
