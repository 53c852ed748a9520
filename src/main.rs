//! The `adamix` program: opens the window, or runs a command.

use std::process::ExitCode;

/// Activations of every step go back to the allocator and come out again; the system's one would fault them in afresh.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    adamix::cli::main(std::env::args_os(), window())
}

#[cfg(not(feature = "gui"))]
fn window() -> Option<adamix::cli::OpenWindow> {
    None
}

#[cfg(feature = "gui")]
fn window() -> Option<adamix::cli::OpenWindow> {
    None
}
