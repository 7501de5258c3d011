//! The binary `triune`: an allocator, a runtime with deep stacks, and [`triune_cli::run`].

use std::io::Write;
use std::process::ExitCode;

use datafusion::common::runtime::SpawnedTask;
use triune_cli::args::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// SQL nested a thousand deep is planned by recursion. Only touched pages of a stack take memory.
const STACK: usize = 32 * 1024 * 1024;

fn main() -> ExitCode {
    let cli = Cli::from_process();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "error: the threads cannot be started: {e}");
            return ExitCode::FAILURE;
        }
    };
    // On a worker, whose stack is deep; this thread's may not be.
    let status = runtime.block_on(async { SpawnedTask::spawn(triune_cli::run(cli)).join().await });
    // Reads that nobody waits for any more must not hold the process up.
    runtime.shutdown_background();
    // A panic has been told of by the hook.
    status.map_or(ExitCode::FAILURE, ExitCode::from)
}
