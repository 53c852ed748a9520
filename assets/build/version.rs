//! Build script: the commit a release build is made from, for `adamix --version`.
//!
//! Sets `ADAMIX_VERSION` to `VERSION (COMMIT)`, with a `+` behind the commit where tracked files were changed. The commit
//! comes from the environment (`ADAMIX_COMMIT`), from Git, or from `.cargo_vcs_info.json` in a package of crates.io; where
//! none of them knows it, nothing is set and the version stands alone. Debug builds leave it out: the whole crate would be
//! compiled again after every commit.

#![expect(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=assets/build/version.rs");
    println!("cargo:rerun-if-env-changed=ADAMIX_COMMIT");
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let commit =
        std::env::var("ADAMIX_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(from_git).or_else(from_package);
    if let (Some(commit), Ok(version)) = (commit, std::env::var("CARGO_PKG_VERSION")) {
        println!("cargo:rustc-env=ADAMIX_VERSION={version} ({commit})");
    }
}

/// The first ten digits of the checked-out commit.
fn from_git() -> Option<String> {
    // A package inside some other repository must not take that one's commit.
    if !Path::new(".git").exists() {
        return None;
    }
    let logs = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&logs).exists() {
        println!("cargo:rerun-if-changed={logs}"); // one line more with every commit and checkout
    }
    let commit = git(&["rev-parse", "--short=10", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|list| !list.is_empty());
    Some(if changed { format!("{commit}+") } else { commit })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The commit that `cargo package` wrote down.
fn from_package() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    let hash = rest.split('"').nth(1)?;
    hash.get(..10).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit())).map(str::to_owned)
}
