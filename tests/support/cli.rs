//! The command line as its users see it: the real binary, its output, its exit codes.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a command did.
pub struct Ran {
    /// Its exit code; nothing when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub out: String,
    /// What it said beside that.
    pub err: String,
}

impl Ran {
    /// What it printed, line by line; it must have succeeded.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        self.done();
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What it printed; it must have succeeded.
    #[track_caller]
    pub fn done(&self) -> &str {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.out, self.err);
        &self.out
    }
}

/// Runs `adamix` with these arguments in a directory that is its home, without a display.
pub fn adamix(home: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adamix"));
    command.args(arguments).current_dir(home).stdin(Stdio::null());
    command.env("HOME", home).env_remove("XDG_DATA_HOME").env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    let output = command.env_remove("RUST_LOG").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
