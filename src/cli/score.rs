//! `adamix score`: generated texts against reference texts.

use super::results::undefined;
use super::{Done, Failure, args, out};
use crate::data::references::{ReferenceLayout, References, read_outputs, read_references, read_text};
use crate::error::{Context as _, Error, Result};
use crate::eval::text_metrics::meteor::{self, NamedText};
use crate::eval::text_metrics::{Protocol, Scorer, TextScores, WordLists, prepare};
use crate::format;
use clap::{ArgAction, ArgMatches, Command};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Why METEOR is not in the table.
const NO_METEOR: &str = "METEOR is left out: its word lists are not part of this program. Give the directory that has \
                         them (METEOR 1.5's resources) with --meteor-data";

/// The scores of one file of generated texts.
#[derive(Debug, Serialize)]
struct ScoredFile {
    file: PathBuf,
    #[serde(flatten)]
    scores: TextScores,
    /// What kind of METEOR it is, where it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    meteor_name: Option<&'static str>,
}

pub(super) fn command() -> Command {
    let after = "E2E: adamix score outputs.txt --ref references.txt, references in blocks with an empty line between.\n\
                 WebNLG: adamix score outputs.txt --ref ref0 --ref ref1 --ref ref2, line i of each for output i; \
                 with --prepare unless the texts are prepared already.";
    Command::new("score")
        .about("Score generated texts against references: BLEU, NIST, METEOR, ROUGE-L, CIDEr, TER, chrF")
        .after_help(after)
        .args([
            args::paths("outputs", "FILE").help("Generated texts, one a line; several files are shown side by side"),
            args::path("ref", "FILE")
                .short('r')
                .aliases(["references", "reference"])
                .required(true)
                .action(ArgAction::Append)
                .help("References; more than once for several files"),
            args::option("layout", "CHOICE").value_parser(["blocks", "lines"]).hide_possible_values(true).help(
                "How references are laid out: blocks (an empty line between segments) or lines (line i of each file). \
                 Default: lines for several files or without empty lines, else blocks",
            ),
            args::option("protocol", "CHOICE").value_parser(["e2e", "webnlg"]).hide_possible_values(true).help(
                "Whose scorer's rules to follow, for DART too webnlg. Default: webnlg for several reference files, else e2e",
            ),
            args::switch("prepare")
                .help("Prepare all texts as WebNLG's are: no accents, lower case, signs apart (webnlg only)"),
            args::path("meteor-data", "DIR")
                .help("Directory with METEOR 1.5's word lists (english.synsets, english.exceptions, function words)"),
        ])
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let paths = args::given_paths(matches, "ref");
    let chosen = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let layout =
        chosen("layout").map(|name| if name == "blocks" { ReferenceLayout::Blocks } else { ReferenceLayout::Lines });
    let protocol = match chosen("protocol") {
        Some("webnlg") => Protocol::WebNlg,
        None if paths.len() > 1 => Protocol::WebNlg,
        _ => Protocol::E2e,
    };
    let prepared = matches.get_flag("prepare");
    if prepared && protocol == Protocol::E2e {
        let why = "--prepare goes with --protocol webnlg; the E2E scorer prepares texts by itself";
        return Err(Failure::Usage(Error::config(why)));
    }
    let mut references = read_references(&paths, layout)?;
    if prepared {
        references.texts.iter_mut().flatten().for_each(|text| *text = prepare::webnlg(text));
    }
    let lists = matches.get_one::<PathBuf>("meteor-data").map(|dir| word_lists(dir)).transpose()?;
    let outputs = args::given_paths(matches, "outputs").into_iter().map(|file| {
        let texts = outputs_for(&file, &references, &paths)?;
        Ok((file, texts))
    });
    let outputs = outputs.collect::<Result<Vec<_>>>()?;
    let mut scorer = Scorer::new(&references.texts, protocol, lists)?;
    let score = |(file, outputs): (PathBuf, Vec<String>)| {
        let outputs = if prepared { outputs.iter().map(|text| prepare::webnlg(text)).collect() } else { outputs };
        let scores = scorer.score(&outputs).with_context(|| file.display().to_string())?;
        let meteor_name = scores.meteor_exact_stem_synonym.map(|_| meteor::LABEL);
        Ok(ScoredFile { file, scores, meteor_name })
    };
    let entries = outputs.into_iter().map(score).collect::<Result<Vec<_>>>()?;
    if matches.get_flag("json") {
        return Ok(entries.iter().try_for_each(out::json)?);
    }
    print(&entries)?;
    Ok(())
}

/// The generated texts of a file, as many as there are segments.
fn outputs_for(file: &Path, references: &References, paths: &[PathBuf]) -> Result<Vec<String>> {
    let outputs = read_outputs(file)?;
    let segments = references.texts.len();
    if outputs.len() == segments {
        return Ok(outputs);
    }
    let reference = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
    let (unit, hint) = match references.layout {
        ReferenceLayout::Blocks => ("blocks of references", "if it has one reference a line, say --layout lines"),
        ReferenceLayout::Lines => {
            ("lines", "if empty lines separate the references of the segments, say --layout blocks")
        }
    };
    Err(Error::data(format!(
        "there must be one generated text a line for each segment: {} has {} lines, but {reference} has {segments} \
         {unit} ({hint})",
        file.display(),
        outputs.len(),
    )))
}

/// Reads METEOR's word lists, side by side or in the directories of METEOR's own archive.
pub(super) fn word_lists(dir: &Path) -> Result<WordLists> {
    let read = |names: [&str; 2]| -> Result<(String, String)> {
        let Some(path) = names.iter().map(|name| dir.join(name)).find(|path| path.is_file()) else {
            return Err(Error::data(format!(
                "there is no {} (nor {}) in the directory of --meteor-data; it should have the word lists of METEOR \
                 1.5 for English, or leave the option out to go without METEOR: {}",
                names[0],
                names[1],
                dir.display()
            )));
        };
        Ok((path.display().to_string(), read_text(&path, "METEOR's word lists")?))
    };
    let synsets = read(["english.synsets", "synonym/english.synsets"])?;
    let exceptions = read(["english.exceptions", "synonym/english.exceptions"])?;
    let function_words = read(["function.english.words", "function/english.words"])?;
    let [synsets, exceptions, function_words] =
        [&synsets, &exceptions, &function_words].map(|(name, text)| NamedText { name, text });
    WordLists::parse(synsets, exceptions, function_words)
}

fn print(entries: &[ScoredFile]) -> Result<()> {
    let Some(first) = entries.first() else { return Ok(()) };
    let rules = match first.scores.protocol {
        Protocol::E2e => "the E2E challenge's scorer",
        Protocol::WebNlg => "the scorers of WebNLG 2017 and DART",
    };
    let (segments, references) = (format::count(first.scores.segments), format::count(first.scores.references));
    out::line(&format!("{segments} segments, {references} references, by the rules of {rules}"))?;
    let name = |entry: &ScoredFile| entry.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut rows = vec![out::row("", entries.iter().map(name))];
    for (at, (label, _)) in first.scores.named().into_iter().enumerate() {
        let label = if label == "TER" { "TER (less is better)" } else { label };
        let cell = |entry: &ScoredFile| {
            entry.scores.named().get(at).map_or_else(String::new, |(_, value)| format!("{value:.4}"))
        };
        rows.push(out::row(label, entries.iter().map(cell)));
    }
    out::table(&rows)?;
    undefined(&first.scores)?;
    for entry in entries.iter().filter(|entry| entry.scores.empty_outputs > 0) {
        let count = format::count(entry.scores.empty_outputs);
        out::line(&format!("{count} of the generated texts are empty: {}", entry.file.display()))?;
    }
    if first.scores.meteor_exact_stem_synonym.is_none() {
        out::line(NO_METEOR)?;
    }
    Ok(())
}
