//! The binary `triune`: an allocator and [`triune_cli::run`].

use std::process::ExitCode;

use triune_cli::args::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(triune_cli::run(Cli::from_process()))
}
