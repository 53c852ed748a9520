//! The table of modules in `src/lib.rs`, held by a test: who may use whom, and which crates stay where.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may use, as the table of `src/lib.rs` says it. `None` beside a module: every module.
fn allowed() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let mut table = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let cells: Vec<&str> = line.trim_end_matches(" |").split(" | ").collect();
        let &[modules, _, uses] = &cells[..] else { continue };
        if !modules.contains('`') {
            continue; // the table's head
        }
        let names = |text: &str| -> Vec<String> {
            text.split(", ").map(|name| name.trim_matches(['[', ']', '`']).to_owned()).collect()
        };
        let used = if uses == "nothing of ours" { Vec::new() } else { names(uses) };
        for module in names(modules) {
            assert!(table.insert(module, used.clone()).is_none(), "{modules} stands twice in the table");
        }
    }
    table
}

/// Single paths that the table would allow but that must not be: (module, path it must not use, why).
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("app", "crate::analysis::averages", "the window computes statistics of host data only"),
    ("app", "crate::analysis::rounding", "the window computes statistics of host data only"),
];

/// Crates (or paths) and the only files they may appear in, by the start of the path under `src`.
const CONFINED: &[(&str, &[&str])] = &[
    ("egui", &["app/", "main.rs"]),
    ("eframe", &["app/", "main.rs"]),
    ("egui_plot", &["app/"]),
    ("egui_extras", &["app/"]),
    ("egui_tiles", &["app/"]),
    ("egui_notify", &["app/"]),
    ("egui_kittest", &["app/"]),
    ("rfd", &["app/"]),
    // `machine/facts.rs` asks how many threads the processor runs; `window_bench` sleeps between frames.
    ("std::thread", &["engine/", "app/files.rs", "machine/facts.rs", "window_bench/"]),
    ("std::sync::mpsc", &[]),
    ("crossbeam_channel", &["engine/", "app/files.rs"]),
    ("candle_core", &["error.rs", "tensor/", "nn/kernels/cuda/", "nn/kernels/host.rs", "nn/kernels/quant/"]),
    ("clap", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("ctrlc", &["cli/"]),
    ("env_logger", &["cli/", "main.rs"]),
    ("tokenizers", &["data/"]),
    ("ureq", &["model_store/"]),
    ("sha1", &["model_store/"]),
    ("minijinja", &["data/text/"]),
    ("minijinja_contrib", &["data/text/"]),
    // `format.rs` writes times for people, with their zone, `artifact/utc.rs` those in files.
    ("jiff", &["format.rs", "artifact/utc.rs", "config/text.rs", "data/text/"]),
];

/// What is computed with.
const TENSORS: &[&str] = &["D", "DType", "Device", "Gpu", "GpuTensor", "Shape", "Tensor"];

/// Files that must not see a tensor, by the start of the path under `src`.
const NO_TENSOR: &[&str] = &[
    "app/",
    "cli/",
    "config/",
    "engine/mailbox.rs",
    "engine/handle.rs",
    "engine/transfer.rs",
    "model_store/",
    "protocol/",
    "records/",
];

#[test]
fn modules_use_what_the_table_allows() {
    let files = sources();
    assert!(files.len() > 20, "only {} source files were found", files.len());
    let table = allowed();
    let mut found = Vec::new();
    for (path, text) in &files {
        found.extend(violations(&table, path, text));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_table_has_no_circle_and_no_unknown_module() {
    let mut left = allowed();
    for (module, uses) in &left {
        for used in uses {
            assert!(left.contains_key(used), "{module} may use {used}, which is not in the table");
        }
    }
    while !left.is_empty() {
        let free: Vec<String> = left
            .iter()
            .filter(|(_, uses)| !uses.iter().any(|used| left.contains_key(used)))
            .map(|(name, _)| name.clone())
            .collect();
        assert!(!free.is_empty(), "the table has a circle among {:?}", left.keys());
        left.retain(|name, _| !free.contains(name));
    }
}

#[test]
fn the_table_allows_no_more_than_is_used() {
    let (table, files) = (allowed(), sources());
    for (module, uses) in &table {
        for used in uses {
            let start = format!("crate::{used}");
            let is = |path: &String| *path == start || path.starts_with(&format!("{start}::"));
            let own = files.iter().filter(|(path, _)| top_module(path) == module);
            let mut references = own.flat_map(|(path, text)| references(path, text));
            assert!(references.any(|path| is(&path)), "{module} may use {used}, but does not");
        }
    }
}

#[test]
fn files_keep_to_a_readable_size() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        let limit = if path == "main.rs" { 60 } else { 500 };
        assert!(lines <= limit, "src/{path} has {lines} lines, the limit is {limit}");
    }
}

#[test]
fn every_module_is_in_the_table() {
    let table = allowed();
    for (path, _) in sources() {
        let module = top_module(&path);
        assert!(
            table.contains_key(module) || ["lib", "main"].contains(&module),
            "src/{path}: the table in src/lib.rs has no row for {module}"
        );
    }
}

#[test]
fn planted_violations_are_found() {
    let cases = [
        ("nn/linear.rs", "use crate::train::Trainer;", "crate::train::Trainer"),
        ("nn/linear.rs", "use crate::{error::Result, model::{Classifier}};", "crate::model::Classifier"),
        ("nn/linear.rs", "fn f() { let x = crate::workflow::run::go(); }", "crate::workflow::run::go"),
        ("artifact/checkpoint.rs", "use crate::train::Trainer;", "crate::train::Trainer"),
        ("train/trainer.rs", "use crate::artifact::RunDir;", "crate::artifact::RunDir"),
        ("protocol/mod.rs", "use crate::engine::EngineHandle;", "crate::engine::EngineHandle"),
        ("nn/linear.rs", "use super::super::data::Batch;", "crate::data::Batch"),
        ("nn/mod.rs", "use super::data::Batch;", "crate::data::Batch"),
        ("train/step.rs", "fn f(ui: &mut egui::Ui) {}", "egui"),
        ("cli/mod.rs", "use crate::app;", "crate::app"),
        ("train/step.rs", "use candle_core::Tensor;", "candle_core"),
        ("cli/train.rs", "use crate::tensor::{NumberFormat, Tensor};", "crate::tensor::Tensor"),
        ("app/panels/run.rs", "use crate::{config::RunConfig, artifact};", "crate::artifact"),
        ("app/panels/run.rs", "use crate::app::panels::curves::CurvesPanel;", "another panel"),
        ("app/panels/run.rs", "use super::curves::CurvesPanel;", "another panel"),
        ("app/widgets/plot.rs", "use crate::app::session::Session;", "a widget"),
        ("app/logic.rs", "fn f() { std::thread::sleep(d); }", "std::thread"),
        ("train/trainer.rs", "use std::{fs, thread};", "std::thread"),
        ("app/panels/runs.rs", "use jiff::Timestamp;", "jiff"),
        ("data/load.rs", "use crossbeam_channel as channel;", "crossbeam_channel"),
        ("protocol/mod.rs", "pub fn f(t: crate::tensor::Tensor) {}", "crate::tensor::Tensor"),
    ];
    for (path, text, needle) in cases {
        let found = violations(&allowed(), path, text);
        assert!(found.iter().any(|line| line.contains(needle)), "{path}: {text}: {found:?}");
    }
}

#[test]
fn lawful_code_and_mere_words_are_not_accused() {
    let cases = [
        (
            "nn/linear.rs",
            "//! see crate::train\nuse crate::error::Result; /* egui::Ui */ const S: &str = \"use crate::app;\";",
        ),
        (
            "train/step.rs",
            "use crate::{model::Classifier, nn::loss};\nuse super::super::config::RunConfig;\nuse super::observer;",
        ),
        ("engine/worker.rs", "use std::thread;\nuse crate::train::Trainer;"),
        ("app/files.rs", "use std::thread::Builder;\nuse egui::Ui;"),
        (
            "app/panels/run.rs",
            "use crate::app::widgets::plot;\nuse super::super::theme;\nuse super::no_run_ui;\nuse crate::protocol::Event;",
        ),
        ("app/widgets/plot.rs", "use crate::app::theme::Theme;"),
        ("data/load.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n use crate::train::Trainer;\n}"),
        ("data/load.rs", "fn f<'a>(x: &'a str) -> char { '\"' }\nconst Q: char = '\\'';"),
    ];
    for (path, text) in cases {
        assert_eq!(violations(&allowed(), path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

/// All files under `src`, by their path from there with forward slashes.
pub fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut waiting, mut files) = (vec![root.clone()], Vec::new());
    while let Some(directory) = waiting.pop() {
        let mut entries: Vec<PathBuf> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

fn top_module(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// Every broken rule in one file, in words.
fn violations(table: &BTreeMap<String, Vec<String>>, path: &str, text: &str) -> Vec<String> {
    let module = top_module(path);
    let uses = table.get(module);
    let mut found = Vec::new();
    for used in references(path, text) {
        let segments: Vec<&str> = used.split("::").collect();
        let is = |start: &str| used == start || used.starts_with(&format!("{start}::"));
        if let (Some(uses), "crate", Some(&target)) = (uses, segments[0], segments.get(1))
            && target != module
            && table.contains_key(target)
            && !uses.iter().any(|name| name == target)
        {
            found.push(format!("src/{path}: uses {used}, which the table in src/lib.rs does not allow to {module}"));
        }
        for (from, forbidden, why) in FORBIDDEN {
            if *from == module && is(forbidden) {
                found.push(format!("src/{path}: uses {used}: {why}"));
            }
        }
        for (confined, places) in CONFINED {
            if is(confined) && !places.iter().any(|place| path.starts_with(place)) {
                found.push(format!("src/{path}: uses {used}, which belongs in {places:?}"));
            }
        }
        let tensor = matches!(&segments[..], ["crate", "tensor", name, ..] if TENSORS.contains(name));
        if tensor && NO_TENSOR.iter().any(|place| path.starts_with(place)) {
            found.push(format!("src/{path}: uses {used}: tensors stay out of here"));
        }
        found.extend(window_rules(path, &segments));
    }
    found
}

/// A panel knows no other panel; a widget knows nothing of the window but the theme and the words of the glossary.
fn window_rules(path: &str, segments: &[&str]) -> Option<String> {
    let used = segments.join("::");
    let inside = |directory: &str| path.strip_prefix("app/").and_then(|rest| rest.strip_prefix(directory));
    if let (Some(own), ["crate", "app", "panels", other, ..]) = (inside("panels/"), segments) {
        let own = own.split('/').next().unwrap().trim_end_matches(".rs");
        // Types and drawing helpers of the parent module are everybody's.
        let shared = other.starts_with(char::is_uppercase) || other.ends_with("_ui");
        return (own != "mod" && own != *other && !shared).then(|| format!("src/{path}: uses {used}: another panel"));
    }
    if let (Some(_), ["crate", "app", other, ..]) = (inside("widgets/"), segments) {
        return (!["theme", "glossary", "format", "widgets"].contains(other)).then(|| {
            format!("src/{path}: uses {used}: a widget knows nothing of the window but the theme and the glossary")
        });
    }
    None
}

/// All paths named in the code of a file, with `use` groups spelled out and `super` resolved from the crate's root.
pub fn references(path: &str, text: &str) -> Vec<String> {
    let code = without_comments_and_strings(text);
    let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let starts_path = is_name(&tokens[at]) && (at == 0 || tokens[at - 1] != "::");
        let in_use = at > 0 && tokens[at - 1] == "use";
        if starts_path && (in_use || tokens.get(at + 1).is_some_and(|next| next == "::")) {
            at = tree(&tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found.iter().map(|segments| resolved(path, segments).join("::")).collect()
}

/// Reads one path or `use` tree from `at`; returns where it ends.
fn tree(tokens: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    let before = at;
                    at = tree(tokens, at, &path, found);
                    while tokens.get(at).is_some_and(|token| token != "," && token != "}") {
                        at += 1; // `as name`
                    }
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                    assert!(at > before, "a use tree does not end");
                }
                return at + 1;
            }
            Some(name) if is_name(name) => path.push(name.to_owned()),
            _ => {
                found.push(path);
                return at + 1;
            }
        }
        if tokens.get(at + 1).is_some_and(|next| next == "::") {
            at += 2;
        } else {
            found.push(path);
            return at + 1;
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn tokens(code: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("::") {
            2
        } else if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            found.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    found
}

fn resolved(path: &str, segments: &[String]) -> Vec<String> {
    let supers = segments.iter().take_while(|segment| *segment == "super").count();
    if supers == 0 {
        return segments.to_vec();
    }
    let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let own: Vec<&str> = module.split('/').filter(|name| !["lib", "main"].contains(name)).collect();
    let kept = own.len().saturating_sub(supers);
    let start = std::iter::once("crate").chain(own[..kept].iter().copied()).map(str::to_owned);
    start.chain(segments[supers..].iter().cloned()).collect()
}

pub fn without_comments_and_strings(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let here = bytes[at];
        let next = bytes.get(at + 1).copied();
        at = match (here, next) {
            ('/', Some('/')) => skip_until(&bytes, at, |window| window == '\n'),
            ('/', Some('*')) => {
                (at + 3..bytes.len()).find(|&i| bytes[i - 1] == '*' && bytes[i] == '/').map_or(bytes.len(), |i| i + 1)
            }
            ('r', Some('"' | '#')) if raw_string_end(&bytes, at).is_some() => raw_string_end(&bytes, at).unwrap(),
            ('"', _) => quoted_end(&bytes, at, '"'),
            // A character literal, and not a lifetime.
            ('\'', Some('\\')) => quoted_end(&bytes, at, '\''),
            ('\'', Some(_)) if bytes.get(at + 2) == Some(&'\'') => at + 3,
            _ => {
                out.push(here);
                at + 1
            }
        };
    }
    out
}

fn skip_until(text: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
    (from..text.len()).find(|&i| stop(text[i])).unwrap_or(text.len())
}

fn quoted_end(text: &[char], from: usize, quote: char) -> usize {
    let mut at = from + 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string_end(text: &[char], from: usize) -> Option<usize> {
    let open = skip_until(text, from + 1, |c| c != '#');
    let hashes = open - from - 1;
    if text.get(open) != Some(&'"') || (from > 0 && (text[from - 1].is_alphanumeric() || text[from - 1] == '_')) {
        return None;
    }
    let closes = |i: &usize| text[*i] == '"' && text[i + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    Some((open + 1..text.len()).find(closes).map_or(text.len(), |i| i + 1 + hashes))
}
