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
    use adamix::app::{self, Options, Picture};
    use adamix::engine::handle::EngineHandle;

    Some(|options| {
        let picture = options.frames.map(|frames| Picture {
            file: options.screenshot,
            frames,
            appearance: None,
            view: None,
            actions: Vec::new(),
            size: [1280.0, 800.0],
        });
        app::run(Options { form: None, open: options.run, picture }, EngineHandle::factory())
    })
}
