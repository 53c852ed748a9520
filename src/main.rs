//! The `adamix` program: opens the window, or runs a command.

use adamix::machine::memory::Counted;
use std::process::ExitCode;

/// Activations of every step go back to the allocator and come out again; the system's one would fault them in afresh.
#[global_allocator]
static ALLOCATOR: Counted<mimalloc::MiMalloc> = Counted(mimalloc::MiMalloc);

fn main() -> ExitCode {
    adamix::machine::facts::keep_freed_memory();
    adamix::cli::main(std::env::args_os(), window())
}

#[cfg(not(feature = "gui"))]
fn window() -> Option<adamix::cli::OpenWindow> {
    None
}

#[cfg(feature = "gui")]
fn window() -> Option<adamix::cli::OpenWindow> {
    use adamix::app::{self, Screenshot, WindowOptions};
    use adamix::engine::handle::EngineHandle;

    Some(|options| {
        let file = options.screenshot;
        let screenshot = options.frames.map(|frames| Screenshot { file, frames, ..Screenshot::default() });
        app::run(WindowOptions { form: None, open: options.run, screenshot }, EngineHandle::factory())
    })
}
