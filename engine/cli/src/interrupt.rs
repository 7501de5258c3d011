//! Ctrl-C: counted by one task, waited for by whoever runs a query.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::runtime::SpawnedTask;
use tokio::sync::watch;

/// So many presses without anybody taking notice end the process: something hangs.
const PATIENCE: u64 = 3;

/// The presses so far. While it lives, Ctrl-C no longer ends the process.
#[derive(Debug, Clone)]
pub struct Interrupts {
    pressed: watch::Receiver<u64>,
    heeded: Arc<AtomicU64>,
    _task: Arc<SpawnedTask<()>>,
}

impl Interrupts {
    /// Takes the signal over. Must be called inside the runtime.
    pub fn listen() -> Self {
        let (sender, pressed) = watch::channel(0);
        let heeded = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&heeded);
        let task = SpawnedTask::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                sender.send_modify(|n| *n += 1);
                if *sender.borrow() >= seen.load(Ordering::SeqCst) + PATIENCE {
                    std::process::exit(130);
                }
            }
        });
        Self { pressed, heeded, _task: Arc::new(task) }
    }

    /// Forgets what was pressed until now.
    pub fn forget(&mut self) {
        let now = *self.pressed.borrow_and_update();
        self.heeded.store(now, Ordering::SeqCst);
    }

    /// Waits for the next press.
    pub async fn pressed(&mut self) {
        if self.pressed.changed().await.is_err() {
            // The task is gone: no press can come.
            std::future::pending::<()>().await;
        }
        self.forget();
    }
}
