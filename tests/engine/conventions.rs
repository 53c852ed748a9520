//! Rules that no compiler checks: memory that nobody has written, units and times, what the self-test computes.

use crate::architecture::{sources, without_comments_and_strings};
use std::collections::{BTreeMap, BTreeSet};

/// What makes values of memory that nobody has written.
const UNWRITTEN: &[&str] = &["set_len", "assume_init", "uninit", "Tensor::empty"];

/// Functions that any code may call although such memory is made in them, and why they may.
const AUDITED: &[(&str, &str, &str)] = &[
    ("nn/kernels/host.rs", "new_rows", "it asserts that every block was written to its end"),
    ("nn/kernels/gemm/product.rs", "product_append", "the product writes all of it before the function returns"),
    ("nn/kernels/cuda/ops.rs", "empty", "the memory is a GPU's, and only kernels of the same folder get it"),
];

/// Whether the words stand in the code as a whole name.
fn finds(code: &str, words: &str) -> Vec<usize> {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |at: &usize| !code[..*at].ends_with(inside) && !code[at + words.len()..].starts_with(inside);
    code.match_indices(words).map(|(at, _)| at).filter(whole).collect()
}

/// Safe functions of a file that hand out memory which nobody has written.
fn unwritten(path: &str, text: &str) -> Vec<String> {
    let code = without_comments_and_strings(text);
    let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut found = Vec::new();
    // Files have a `set_len` of their own, which is safe.
    if !code.contains("unsafe") {
        return found;
    }
    for words in UNWRITTEN {
        for at in finds(code, words) {
            let Some(start) = code[..at].rfind("fn ") else { continue };
            let name: String = code[start + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let safe = !code[..start].trim_end().ends_with("unsafe");
            if safe && !AUDITED.iter().any(|(file, function, _)| *file == path && *function == name) {
                found.push(format!("src/{path}: {name} is safe and uses {words}"));
            }
        }
    }
    found
}

#[test]
fn no_safe_function_hands_out_memory_that_nobody_has_written() {
    let files = sources();
    let found: Vec<String> = files.iter().flat_map(|(path, text)| unwritten(path, text)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    for (path, function, _) in AUDITED {
        let (_, text) = files.iter().find(|(name, _)| name == path).unwrap();
        assert!(text.contains(&format!("fn {function}")), "{path} has no {function}");
    }
    let planted =
        "fn new(n: usize) -> Vec<f32> {\n let mut v = Vec::with_capacity(n);\n unsafe { v.set_len(n) };\n v\n}";
    assert_eq!(unwritten("nn/kernels/host.rs", planted), ["src/nn/kernels/host.rs: new is safe and uses set_len"]);
    assert!(unwritten("nn/kernels/host.rs", &planted.replacen("fn ", "unsafe fn ", 1)).is_empty());
}

/// Lines of code that name a unit in powers of two.
fn binary_units(path: &str, text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let named = code.filter(|line| ["KiB", "MiB", "GiB", "TiB"].iter().any(|unit| line.contains(unit)));
    named.map(|line| format!("src/{path}: {}", line.trim())).collect()
}

#[test]
fn sizes_are_in_powers_of_ten_everywhere() {
    let found: Vec<String> = sources().iter().flat_map(|(path, text)| binary_units(path, text)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(binary_units("x.rs", "// 4 MiB\nformat!(\"{n} MiB\")"), ["src/x.rs: format!(\"{n} MiB\")"]);
}

/// The kernels that a file of the self-test calls: module and function.
fn called(text: &str) -> BTreeSet<(String, String)> {
    let code = without_comments_and_strings(text);
    let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    // `use crate::nn::kernels::module::{self, function, ..}` and `use crate::nn::kernels::{module, module::..}`.
    let lines = code.lines().filter_map(|line| line.strip_prefix("use crate::nn::kernels::"));
    let lower = |name: &str| name.starts_with(char::is_lowercase) && name != "self";
    let (mut modules, mut functions) = (BTreeSet::new(), BTreeMap::new());
    for line in lines {
        let (module, rest) = line.split_once("::").unwrap_or(("", line));
        let module = module.trim_start_matches('{');
        let names = rest.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| lower(name));
        if module.is_empty() {
            modules.extend(names.map(str::to_owned));
        } else {
            modules.insert(module.to_owned());
            functions.extend(names.map(|name| (name.to_owned(), module.to_owned())));
        }
    }
    let calls = |start: &str| -> BTreeSet<String> {
        let ends = finds(code, start).into_iter().map(|at| &code[at + start.len()..]);
        let names = ends.filter_map(|rest| rest.strip_prefix("::")).map(|rest| rest.split('(').next().unwrap_or(""));
        names
            .filter(|name| lower(name) && name.chars().all(|c| c.is_alphanumeric() || c == '_'))
            .map(str::to_owned)
            .collect()
    };
    let direct = functions.iter().map(|(function, module)| (module.clone(), function.clone()));
    let through =
        modules.iter().flat_map(|module| calls(module).into_iter().map(|function| (module.clone(), function)));
    direct.chain(through).collect()
}

/// The functions that nothing but the self-test, the benchmark and the kernels themselves call.
fn only_checked(calls: &BTreeSet<(String, String)>, files: &[(String, String)]) -> Vec<String> {
    let apart = ["machine/selftest/", "nn/kernels/", "bench/", "testing/"];
    let product: Vec<String> = files
        .iter()
        .filter(|(path, _)| !apart.iter().any(|start| path.starts_with(start)))
        .map(|(_, text)| without_comments_and_strings(text))
        .collect();
    let names = |code: &str, name: &str| !finds(code, name).is_empty();
    let used = |module: &str, function: &str| product.iter().any(|code| names(code, module) && names(code, function));
    calls
        .iter()
        .filter(|(module, function)| !used(module, function))
        .map(|(module, function)| format!("{module}::{function}"))
        .collect()
}

#[test]
fn the_selftest_computes_with_nothing_but_what_the_program_computes_with() {
    let files = sources();
    let selftest = files.iter().filter(|(path, _)| path.starts_with("machine/selftest/"));
    let calls: BTreeSet<(String, String)> = selftest.flat_map(|(_, text)| called(text)).collect();
    let is = |module: &str, function: &str| calls.contains(&(module.to_owned(), function.to_owned()));
    assert!(is("gemm", "linear") && is("vocab_loss", "vocab_loss") && is("adamw", "update_all"), "{calls:?}");
    assert!(calls.len() > 25, "{calls:?}");
    assert_eq!(only_checked(&calls, &files), Vec::<String>::new(), "kernels that nothing but the self-test runs");
    let planted =
        called("use crate::nn::kernels::{gemm, loss};\nfn f() { loss::cross_entropy_of_nobody(); gemm::linear() }");
    assert_eq!(only_checked(&planted, &files), ["loss::cross_entropy_of_nobody"]);
}
