//! The `adamix` program: opens the window, or runs a command.

use adamix::machine::memory::Counted;
use std::process::ExitCode;

/// Activations of every step go back to the allocator and come out again; the system's one would fault them in afresh.
#[global_allocator]
static ALLOCATOR: Counted<mimalloc::MiMalloc> = Counted(mimalloc::MiMalloc);

fn main() -> ExitCode {
    own_choice_of_gpus();
    adamix::machine::facts::keep_freed_memory();
    adamix::cli::main(std::env::args_os(), window())
}

/// Switches off Mesa's layer that reorders GPUs: their order is ours, and it complains aloud on servers, which have no desktop.
#[expect(unsafe_code, reason = "sets a variable of the environment before there is a second thread")]
fn own_choice_of_gpus() {
    // SAFETY: nothing else runs yet.
    unsafe { std::env::set_var("NODEVICE_SELECT", "1") }
}

#[cfg(not(feature = "gui"))]
fn window() -> Option<adamix::cli::WindowEntry> {
    None
}

#[cfg(feature = "gui")]
fn window() -> Option<adamix::cli::WindowEntry> {
    use adamix::app::{self, Screenshot, WindowOptions};
    use adamix::engine::handle::EngineHandle;

    let open: adamix::cli::OpenWindow = |options| {
        let file = options.screenshot;
        let screenshot = options.frames.map(|frames| Screenshot { file, frames, ..Screenshot::default() });
        app::run(
            WindowOptions { open: options.run, guided: true, screenshot, ..WindowOptions::default() },
            EngineHandle::factory(),
        )
    };
    Some(adamix::cli::WindowEntry { open, measure: adamix::window_bench::measure })
}
