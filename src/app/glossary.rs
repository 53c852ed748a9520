//! The words of the trade: `docs/GLOSSARY.md`, read once, and where its words stand in a text.
//!
//! The layout of the file is fixed: `## term`, a line `*Also: other spellings*` where there are any, one paragraph, and
//! a formula between backquotes where it matters.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

const FILE: &str = include_str!("../../docs/GLOSSARY.md");

/// Words that every text has: they are marked in titles and names of fields, not in running text.
const EVERYDAY: [&str; 12] = [
    "batch",
    "deciding metric",
    "epoch",
    "evaluation rows",
    "gradient norm",
    "lab",
    "layer",
    "learning rate",
    "loss",
    "seed",
    "step",
    "token",
];

/// A word of the trade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The word.
    pub term: &'static str,
    /// Other spellings and other words for the same.
    pub also: Vec<&'static str>,
    /// What it means, in at most 40 words.
    pub text: &'static str,
    /// Its formula, where that matters.
    pub formula: Option<&'static str>,
}

impl Term {
    /// What it means, with the formula on a line of its own.
    pub fn meaning(&self) -> String {
        match self.formula {
            Some(formula) => format!("{}\n{formula}", self.text),
            None => self.text.to_owned(),
        }
    }

    /// Word and meaning.
    pub fn explanation(&self) -> String {
        format!("{}: {}", self.term, self.meaning())
    }
}

/// Which words of a text are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marking {
    /// All, in titles and names of fields.
    All,
    /// All but those of everyday use, in running text.
    Running,
}

/// All terms in alphabetical order.
pub fn terms() -> &'static [Term] {
    static TERMS: LazyLock<Vec<Term>> = LazyLock::new(|| FILE.split("\n## ").skip(1).filter_map(parse).collect());
    &TERMS
}

fn parse(entry: &'static str) -> Option<Term> {
    let (term, body) = entry.split_once('\n')?;
    let mut parsed = Term { term: term.trim(), also: Vec::new(), text: "", formula: None };
    for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let between = |start: &str, end: &str| line.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
        if let Some(also) = between("*Also: ", "*") {
            parsed.also = also.split(", ").collect();
        } else if let Some(formula) = between("`", "`") {
            parsed.formula = Some(formula);
        } else {
            parsed.text = line;
        }
    }
    Some(parsed)
}

/// A spelling in lower case, split into words, and the term it belongs to.
type Spelling = (Vec<String>, &'static Term);

/// The spellings by their first word, the longest ones first.
fn spellings() -> &'static HashMap<String, Vec<Spelling>> {
    static SPELLINGS: LazyLock<HashMap<String, Vec<Spelling>>> = LazyLock::new(|| {
        let mut found: HashMap<String, Vec<Spelling>> = HashMap::new();
        for term in terms() {
            for spelling in std::iter::once(&term.term).chain(&term.also) {
                let words: Vec<String> = words(spelling).map(|range| spelling[range].to_lowercase()).collect();
                if let Some(first) = words.first() {
                    found.entry(first.clone()).or_default().push((words, term));
                }
            }
        }
        found.values_mut().for_each(|list| list.sort_by_key(|(words, _)| std::cmp::Reverse(words.len())));
        found
    });
    &SPELLINGS
}

/// The words of a text as byte ranges; a hyphen between letters is a part of a word.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let inside = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    text.split(move |c| !inside(c)).filter_map(move |part| {
        let word = part.trim_matches(['-', '_']);
        let start = word.as_ptr().addr() - text.as_ptr().addr();
        (!word.is_empty()).then(|| start..start + word.len())
    })
}

/// Where terms stand in a text, each once, as byte ranges in order.
pub fn find(text: &str, marking: Marking) -> Vec<(Range<usize>, &'static Term)> {
    let ranges: Vec<Range<usize>> = words(text).collect();
    let lower: Vec<String> = ranges.iter().map(|range| text[range.clone()].to_lowercase()).collect();
    let mut found: Vec<(Range<usize>, &'static Term)> = Vec::new();
    let mut i = 0;
    while i < lower.len() {
        let hit = spellings().get(&lower[i]).and_then(|list| {
            list.iter().find(|(words, _)| lower[i..].starts_with(words) && together(text, &ranges[i..i + words.len()]))
        });
        let Some((words, term)) = hit else {
            i += 1;
            continue;
        };
        let range = ranges[i].start..ranges[i + words.len() - 1].end;
        i += words.len();
        let everyday = marking == Marking::Running && EVERYDAY.contains(&term.term);
        if !everyday && found.iter().all(|(_, known)| known.term != term.term) {
            found.push((range, term));
        }
    }
    found
}

/// Whether only spaces and commas lie between these words.
fn together(text: &str, words: &[Range<usize>]) -> bool {
    words.windows(2).all(|pair| matches!(&text[pair[0].end..pair[1].start], " " | ", "))
}

/// A tooltip with the explanations of the terms in `text` below it.
pub fn tooltip(text: &str, tip: &str) -> String {
    let explained = find(text, Marking::All).into_iter().map(|(_, term)| term.explanation());
    let parts: Vec<String> = (!tip.is_empty()).then(|| tip.to_owned()).into_iter().chain(explained).collect();
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn names(text: &str, marking: Marking) -> Vec<&'static str> {
        find(text, marking).into_iter().map(|(_, term)| term.term).collect()
    }

    /// The texts of the sources below `dir`, one after the other, but for this file.
    fn sources(dir: &Path, into: &mut String) {
        for entry in fs::read_dir(dir).expect("the sources are there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                sources(&path, into);
            } else if !path.ends_with("glossary.rs") {
                into.push_str(&fs::read_to_string(&path).expect("sources are text"));
            }
        }
    }

    #[test]
    fn every_term_is_short_unique_sorted_and_used() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut used = fs::read_to_string(root.join("docs/MANUAL.md")).expect("the manual is there");
        sources(&root.join("src/app"), &mut used);
        sources(&root.join("src/config"), &mut used);
        let used = names(&used.replace('\n', " "), Marking::All);
        assert!(terms().len() > 50, "{} terms were read", terms().len());
        for pair in terms().windows(2) {
            assert!(pair[0].term.to_lowercase() < pair[1].term.to_lowercase(), "{} is out of order", pair[1].term);
        }
        let mut spelled = std::collections::BTreeSet::new();
        for term in terms() {
            let count = term.text.split_whitespace().count();
            assert!((4..=40).contains(&count), "{} has {count} words", term.term);
            assert!(term.text.ends_with('.'), "{} ends without a full stop", term.term);
            assert!(used.contains(&term.term), "{} is used nowhere", term.term);
            for spelling in std::iter::once(&term.term).chain(&term.also) {
                let own = term.also.contains(spelling) && spelling.eq_ignore_ascii_case(term.term);
                assert!(!own && spelled.insert(spelling.to_lowercase()), "{spelling} is there twice");
            }
        }
        for word in EVERYDAY {
            assert!(terms().iter().any(|term| term.term == word), "{word} is no term");
        }
    }

    #[test]
    fn the_file_has_nothing_that_is_not_read() {
        let mut lines = FILE.lines().filter(|line| !line.is_empty()).count() - 2;
        for term in terms() {
            assert!(!term.text.is_empty());
            lines -= 2 + usize::from(!term.also.is_empty()) + usize::from(term.formula.is_some());
        }
        assert_eq!(lines, 0, "title, introduction, and of each term its lines");
    }

    #[test]
    fn terms_are_found_as_whole_words_the_longest_first_and_once() {
        assert_eq!(names("Experts (M)", Marking::All), ["expert"]);
        assert_eq!(
            names("The consistency term of all experts and each Expert", Marking::All),
            ["consistency term", "expert"]
        );
        assert_eq!(names("random routes, 4 routes", Marking::All), ["random route", "route"]);
        assert_eq!(names("Matthews correlation", Marking::All), ["Matthews correlation"]);
        assert_eq!(names("headline, baseless, expertise", Marking::All), Vec::<&str>::new());
        assert_eq!(names("loss of a batch in nats", Marking::Running), ["nats"]);
        assert_eq!(names("", Marking::All), Vec::<&str>::new());
        let (range, _) = find("ø: the experts", Marking::All)[0].clone();
        assert_eq!(&"ø: the experts"[range], "experts");
    }

    #[test]
    fn a_tooltip_keeps_its_own_words_first() {
        let both = tooltip("Experts (M)", "How many there are");
        assert!(both.starts_with("How many there are\n\nexpert: One of M"), "{both}");
        assert_eq!(tooltip("Colours", "Light or dark"), "Light or dark");
        assert_eq!(tooltip("Colours", ""), "");
    }
}
