//! Memory by statement: the database's pool, with what one statement takes of it counted.

use std::fmt;
use std::sync::Arc;

use datafusion::error::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;

use super::Entry;
use super::recorder::current;

/// Limits stay the database's own; this only counts.
#[derive(Debug)]
struct ChargedPool {
    pool: Arc<dyn MemoryPool>,
    entry: Arc<Entry>,
}

/// The same context with its memory charged to the running statement.
pub(crate) fn charged(context: Arc<TaskContext>) -> Arc<TaskContext> {
    let Some(entry) = current() else { return context };
    // Whoever shares it with us goes on with the one that they have.
    let context = match Arc::try_unwrap(context) {
        Ok(context) => context,
        Err(shared) => return shared,
    };
    let runtime = context.runtime_env();
    let pool = Arc::clone(&runtime.memory_pool);
    let runtime =
        RuntimeEnv { memory_pool: Arc::new(ChargedPool { pool, entry }), ..runtime.as_ref().clone() };
    Arc::new(context.with_runtime(Arc::new(runtime)))
}

impl MemoryPool for ChargedPool {
    fn name(&self) -> &str {
        self.pool.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
        self.entry.reserve(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
        self.entry.release(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DfResult<()> {
        self.pool.try_grow(reservation, additional)?;
        self.entry.reserve(additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

impl fmt::Display for ChargedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pool.name())
    }
}
