//! The arrows between the modules, held by a test: who may use whom, and which crates stay where.
//!
//! `app, cli -> engine -> train, eval, analysis, artifact -> model, data -> mixture, nn -> config, error, rng`

use std::fs;
use std::path::{Path, PathBuf};

/// Modules in layers, lowest first. A module may use its own layer and those below it.
const LAYERS: &[&[&str]] = &[
    &["config", "error", "rng", "clock"],
    &["mixture", "nn"],
    &["data", "model"],
    &["train", "eval", "analysis", "artifact"],
    &["engine"],
    &["cli", "app"],
];

/// Uses that the layers would allow but that must not be: (module, path it must not use, why).
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("error", "crate::config", "the error type knows nothing"),
    ("rng", "crate::config", "randomness knows no settings"),
    ("config", "crate::rng", "settings are plain data"),
    ("cli", "crate::app", "the command line knows no window; main hands it one"),
    ("app", "crate::cli", "the window knows no command line"),
    ("app", "crate::train", "the window sees host data only, through engine::protocol"),
    ("app", "crate::eval", "the window sees host data only, through engine::protocol"),
    ("app", "crate::analysis", "the window sees host data only, through engine::protocol"),
    ("app", "crate::artifact", "the window sees host data only, through engine::protocol"),
    ("app", "crate::model", "the window sees host data only, through engine::protocol"),
    ("app", "crate::data", "the window sees host data only, through engine::protocol"),
    ("app", "crate::mixture", "the window sees host data only, through engine::protocol"),
    ("app", "crate::nn", "the window sees host data only, through engine::protocol"),
    ("app", "crate::engine::worker", "only the handle talks to the training thread"),
    ("app", "crate::engine::run", "only the handle talks to the training thread"),
    ("artifact", "crate::train::trainer", "artifacts are written from host data"),
    ("train", "crate::artifact::run_dir", "the loop knows no files; an observer writes them"),
    ("train", "crate::artifact::recorder", "the loop knows no files; an observer writes them"),
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
    ("std::thread", &["engine/", "app/files.rs"]),
    ("std::sync::mpsc", &[]),
    ("crossbeam_channel", &["engine/", "app/files.rs"]),
    ("clap", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("ctrlc", &["cli/"]),
    ("env_logger", &["cli/", "main.rs"]),
    ("tokenizers", &["data/"]),
    ("hf_hub", &["model/store/"]),
    ("ureq", &["model/store/"]),
    ("sha1", &["model/store/"]),
    ("minijinja", &["data/text/"]),
    ("minijinja_contrib", &["data/text/"]),
];

/// Files that must not see a tensor, by the start of the path under `src`.
const NO_CANDLE: &[&str] = &[
    "app/",
    "cli/",
    "config/",
    "engine/protocol.rs",
    "engine/news.rs",
    "engine/snapshots.rs",
    "engine/mailbox.rs",
    "engine/handle.rs",
    "engine/fake",
    "engine/store",
    "engine/studies.rs",
    "engine/transfer.rs",
    "model/store/",
];

#[test]
fn the_arrows_point_one_way() {
    let files = sources();
    assert!(files.len() > 20, "only {} source files were found", files.len());
    let mut found = Vec::new();
    for (path, text) in &files {
        found.extend(violations(path, text));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
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
fn every_module_has_a_layer() {
    for (path, _) in sources() {
        let module = top_module(&path);
        let known = LAYERS.iter().flat_map(|layer| layer.iter()).any(|name| *name == module);
        assert!(known || ["lib", "main"].contains(&module), "src/{path}: module {module} has no layer");
    }
}

#[test]
fn planted_violations_are_found() {
    let cases = [
        ("nn/linear.rs", "use crate::train::Trainer;", "crate::train::Trainer"),
        ("nn/linear.rs", "use crate::{error::Result, model::{Classifier}};", "crate::model::Classifier"),
        ("nn/linear.rs", "fn f() { let x = crate::engine::run::go(); }", "crate::engine::run::go"),
        ("nn/linear.rs", "use super::super::data::Batch;", "crate::data::Batch"),
        ("nn/mod.rs", "use super::data::Batch;", "crate::data::Batch"),
        ("train/step.rs", "fn f(ui: &mut egui::Ui) {}", "egui"),
        ("cli/mod.rs", "use crate::app;", "crate::app"),
        ("cli/train.rs", "use candle_core::Tensor;", "candle_core"),
        ("app/panels/run.rs", "use crate::{config::RunConfig, artifact};", "crate::artifact"),
        ("app/panels/run.rs", "use crate::app::panels::curves::CurvesPanel;", "another panel"),
        ("app/panels/run.rs", "use super::curves::CurvesPanel;", "another panel"),
        ("app/widgets/plot.rs", "use crate::app::session::Session;", "a widget"),
        ("app/logic.rs", "fn f() { std::thread::sleep(d); }", "std::thread"),
        ("train/trainer.rs", "use std::{fs, thread};", "std::thread"),
        ("data/load.rs", "use crossbeam_channel as channel;", "crossbeam_channel"),
        ("engine/protocol.rs", "pub fn f(t: candle_core::Tensor) {}", "candle_core"),
    ];
    for (path, text, needle) in cases {
        let found = violations(path, text);
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
        ("engine/worker.rs", "use std::thread;\nuse candle_core::Device;\nuse crate::train::Trainer;"),
        ("app/files.rs", "use std::thread::Builder;\nuse egui::Ui;"),
        (
            "app/panels/run.rs",
            "use crate::app::widgets::plot;\nuse super::super::theme;\nuse super::no_run_ui;\nuse crate::engine::protocol::Event;",
        ),
        ("app/widgets/plot.rs", "use crate::app::theme::Theme;"),
        ("data/load.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n use crate::train::Trainer;\n}"),
        ("data/load.rs", "fn f<'a>(x: &'a str) -> char { '\"' }\nconst Q: char = '\\'';"),
    ];
    for (path, text) in cases {
        assert_eq!(violations(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

/// All files under `src`, by their path from there with forward slashes.
fn sources() -> Vec<(String, String)> {
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
fn violations(path: &str, text: &str) -> Vec<String> {
    let module = top_module(path);
    let layer = LAYERS.iter().position(|layer| layer.contains(&module));
    let mut found = Vec::new();
    for used in references(path, text) {
        let segments: Vec<&str> = used.split("::").collect();
        let is = |start: &str| used == start || used.starts_with(&format!("{start}::"));
        if let (Some(layer), "crate", Some(target)) = (layer, segments[0], segments.get(1))
            && let Some(other) = LAYERS.iter().position(|layer| layer.contains(target))
            && other > layer
        {
            found.push(format!("src/{path}: uses {used}, which is above {module}"));
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
        if segments[0].starts_with("candle") && NO_CANDLE.iter().any(|place| path.starts_with(place)) {
            found.push(format!("src/{path}: uses {used}: tensors stay out of here"));
        }
        found.extend(window_rules(path, &segments));
    }
    found
}

/// A panel knows no other panel; a widget knows nothing of the window but the theme.
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
        return (!["theme", "format", "widgets"].contains(other))
            .then(|| format!("src/{path}: uses {used}: a widget knows nothing of the window but the theme"));
    }
    None
}

/// All paths named in the code of a file, with `use` groups spelled out and `super` resolved from the crate's root.
fn references(path: &str, text: &str) -> Vec<String> {
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

fn without_comments_and_strings(text: &str) -> String {
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
