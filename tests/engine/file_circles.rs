//! No two files need each other, but for a folder's `mod.rs` and what lies in its folder: a file may use the types of the
//! folders around it, and these its own. Other circles stand in `DEFENDED`, with their reason.

use crate::architecture::{references, sources, without_comments_and_strings};
use std::collections::{BTreeMap, BTreeSet};

/// Circles that stay: (files, why).
const DEFENDED: &[(&[&str], &str)] = &[
    (
        &[
            "artifact/certificate.rs",
            "artifact/export/adapterhub.rs",
            "artifact/export/gguf_adapter.rs",
            "artifact/export/gguf_model.rs",
            "artifact/export/hf.rs",
            "artifact/export/mod.rs",
            "artifact/export/native.rs",
            "artifact/export/peft.rs",
            "artifact/export/source.rs",
            "artifact/export/target.rs",
        ],
        "each format ends by asking for its certificate, and the certificate recognises and reads the files as any reader \
         would: through the table of all formats",
    ),
    (
        &["train/checkpoint.rs", "train/observer.rs", "train/trainer.rs"],
        "an observer is shown the trainer itself, and checkpoints are a part of the trainer in a file of their own",
    ),
];

#[test]
fn no_circle_of_files_but_those_defended() {
    let files = sources();
    let found: Vec<Vec<String>> = circles(&files);
    for circle in &found {
        let known = DEFENDED.iter().any(|(names, why)| circle.iter().eq(names.iter()) && !why.is_empty());
        assert!(known, "a circle of files: {circle:?}");
    }
    assert_eq!(found.len(), DEFENDED.len(), "a defended circle is no longer there");
}

#[test]
fn planted_circles_are_found() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let plain = [
        file("a/mod.rs", "pub mod b; pub mod c; mod d; pub use d::Hidden; pub struct Shared;"),
        file("a/b.rs", "use super::Shared; use crate::a::c::C;"),
        file("a/c.rs", "pub struct C; // crate::a::b::B"),
        file("a/d.rs", "use crate::a::b; pub struct Hidden;"),
    ];
    assert_eq!(circles(&plain), Vec::<Vec<String>>::new());
    for planted in ["use crate::a::b::B;", "use super::{b::B};", "use super::Hidden;", "fn f() { crate::a::b::g(); }"] {
        let mut files = plain.clone();
        files[2].1.push_str(&format!("\n{planted}"));
        let found = circles(&files);
        assert!(found.len() == 1 && found[0].contains(&"a/c.rs".to_owned()), "{planted}: {found:?}");
    }
}

/// The groups of files of which each needs, through others, each other one; by path, in order.
fn circles(files: &[(String, String)]) -> Vec<Vec<String>> {
    let modules: BTreeMap<String, &str> = files.iter().map(|(path, _)| (module(path), path.as_str())).collect();
    let names = reexports(files, &modules);
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, text) in files {
        let own = module(path);
        let targets = references(path, text).into_iter().filter_map(|used| file_of(&own, &used, &modules, &names));
        // What lies around a file is not another file's business.
        let others = targets.filter(|used| *used != own && !own.starts_with(&format!("{used}::")));
        uses.insert(path, others.map(|used| modules[&used]).collect());
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> = uses.keys().map(|&path| (path, reach(path, &uses))).collect();
    let mut found: Vec<Vec<String>> = Vec::new();
    for (path, all) in &reached {
        let circle: Vec<String> =
            all.iter().filter(|other| reached[*other].contains(path)).map(|other| (*other).to_owned()).collect();
        if !circle.is_empty() && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

/// Everything `start` needs, directly or through others.
fn reach<'a>(start: &'a str, uses: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![start]);
    while let Some(path) = waiting.pop() {
        waiting.extend(uses.get(path).into_iter().flatten().filter(|next| seen.insert(**next)));
    }
    seen
}

/// `crate::model::decoder` of `model/decoder/mod.rs`.
fn module(path: &str) -> String {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    if ["lib", "main"].contains(&path) { "crate".to_owned() } else { format!("crate::{}", path.replace('/', "::")) }
}

/// The module in whose file a path that `own` names is defined; none when it is no path of this crate.
fn file_of(
    own: &str,
    used: &str,
    modules: &BTreeMap<String, &str>,
    names: &BTreeMap<String, String>,
) -> Option<String> {
    let inner = format!("{own}::{used}");
    let path = if used.starts_with("crate::") { used } else { inner.as_str() };
    let mut ends = std::iter::once(path.len()).chain(path.rmatch_indices("::").map(|(at, _)| at));
    let found = ends.find_map(|end| {
        names.get(&path[..end]).cloned().or_else(|| modules.contains_key(&path[..end]).then(|| path[..end].to_owned()))
    })?;
    // A name of some other crate has no part in this one but the module it stands in.
    (found != own && found != "crate").then_some(found)
}

/// Names that a module passes on, with the module they are from.
fn reexports(files: &[(String, String)], modules: &BTreeMap<String, &str>) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for (path, text) in files {
        let own = module(path);
        let code = without_comments_and_strings(text);
        for part in code.split("pub use ").skip(1) {
            let list = format!("use {};", part.split(';').next().unwrap_or_default());
            for used in references(path, &list) {
                if let (Some(from), Some((_, name))) =
                    (file_of(&own, &used, modules, &BTreeMap::new()), used.rsplit_once("::"))
                {
                    names.insert(format!("{own}::{name}"), from);
                }
            }
        }
    }
    names
}
