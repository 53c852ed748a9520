//! METEOR's word lists: synonyms, base forms and function words.

use crate::error::{Error, Result};
use crate::eval::text_metrics::meteor::stem;
use crate::eval::text_metrics::ngrams::Words;
use std::collections::{HashMap, HashSet};

/// Endings by which WordNet finds base forms: nouns, then verbs, then adjectives.
const BASE_FORMS: &[(&str, &str)] = &[
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
    ("s", ""),
    ("ies", "y"),
    ("es", "e"),
    ("es", ""),
    ("ed", "e"),
    ("ed", ""),
    ("ing", "e"),
    ("ing", ""),
    ("er", ""),
    ("est", ""),
    ("er", "e"),
    ("est", "e"),
];

/// The word lists of METEOR 1.5 for English.
#[derive(Clone, Debug, Default)]
pub struct WordLists {
    /// Numbers of the sets of synonyms a word belongs to.
    synonyms: HashMap<String, Vec<u32>>,
    /// Base forms of irregular forms.
    bases: HashMap<String, Vec<String>>,
    function_words: HashSet<String>,
}

/// A text with the name of the file it came from, for messages.
#[derive(Clone, Copy, Debug)]
pub struct NamedText<'a> {
    /// Where the text came from.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
}

impl WordLists {
    /// From the contents of the three files.
    ///
    /// `synsets` and `exceptions` are pairs of lines: a word and the numbers of its sets of synonyms; a base form and
    /// its irregular forms. `function_words` has one word a line.
    pub fn parse(synsets: NamedText<'_>, exceptions: NamedText<'_>, function_words: NamedText<'_>) -> Result<Self> {
        let mut lists = Self::default();
        for (line, word, numbers) in line_pairs(synsets)? {
            let parsed: std::result::Result<Vec<u32>, _> = numbers.split_whitespace().map(str::parse).collect();
            let mut sets = parsed.map_err(|_| {
                let shown: String = numbers.chars().take(40).collect();
                Error::format(format!(
                    "line {line} should list the synonym sets of {word:?} by number, but it is {shown:?}: {}",
                    synsets.name
                ))
            })?;
            sets.sort_unstable();
            lists.synonyms.insert(word.to_owned(), sets);
        }
        for (_, base, forms) in line_pairs(exceptions)? {
            for form in forms.split_whitespace() {
                lists.bases.entry(form.to_owned()).or_default().push(base.to_owned());
            }
        }
        lists.function_words = function_words.text.lines().map(str::to_owned).collect();
        if lists.synonyms.is_empty() || function_words.text.trim().is_empty() {
            let name = if lists.synonyms.is_empty() { synsets.name } else { function_words.name };
            return Err(Error::format(format!("there are no words in this list: {name}")));
        }
        Ok(lists)
    }

    /// All sets of synonyms of a word and of its base forms, in ascending order.
    fn synonym_sets(&self, word: &str) -> Vec<u32> {
        let mut sets = self.sets_of(word).to_vec();
        let regular: Vec<String> = self.regular_base(word).into_iter().collect();
        let bases = self.bases.get(word).unwrap_or(&regular);
        sets.extend(bases.iter().flat_map(|base| self.sets_of(base)));
        sets.sort_unstable();
        sets.dedup();
        sets
    }

    fn sets_of(&self, word: &str) -> &[u32] {
        self.synonyms.get(word).map_or(&[], Vec::as_slice)
    }

    /// The first base form by WordNet's endings that is a known word.
    fn regular_base(&self, word: &str) -> Option<String> {
        if word.ends_with("ss") || word.chars().nth(2).is_none() {
            return Some(word.to_owned());
        }
        let candidates = BASE_FORMS.iter().filter_map(|(ending, by)| Some(word.strip_suffix(ending)?.to_owned() + by));
        candidates.into_iter().find(|base| self.synonyms.contains_key(base))
    }
}

/// Non-overlapping pairs of lines with the number of the second line.
fn line_pairs<'a>(list: NamedText<'a>) -> Result<Vec<(usize, &'a str, &'a str)>> {
    let mut lines = list.text.lines();
    let mut pairs = Vec::new();
    while let Some(first) = lines.next() {
        let line = 2 * pairs.len() + 2;
        let second = lines.next().ok_or_else(|| {
            Error::format(format!("line {line} is missing: after {first:?} a second line was expected: {}", list.name))
        })?;
        pairs.push((line, first, second));
    }
    Ok(pairs)
}

/// How two different words correspond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) stem: bool,
    pub(crate) synonym: bool,
}

/// A word with what the lists say about it.
#[derive(Clone, Debug)]
struct WordEntry {
    stem: String,
    synonym_sets: Vec<u32>,
    function: bool,
}

/// The words met so far, by number.
#[derive(Clone, Debug)]
pub(crate) struct Lexicon {
    lists: WordLists,
    numbers: Words,
    entries: Vec<WordEntry>,
}

impl Lexicon {
    pub(crate) fn new(lists: WordLists) -> Self {
        Self { lists, numbers: Words::default(), entries: Vec::new() }
    }

    pub(crate) fn number(&mut self, word: &str) -> u32 {
        let number = self.numbers.number(word);
        if number as usize == self.entries.len() {
            self.entries.push(WordEntry {
                stem: stem(word),
                synonym_sets: self.lists.synonym_sets(word),
                function: self.lists.function_words.contains(word),
            });
        }
        number
    }

    pub(crate) fn is_function_word(&self, word: u32) -> bool {
        self.entries[word as usize].function
    }

    /// How two words correspond that are not the same.
    pub(crate) fn relation(&self, left: u32, right: u32) -> Relation {
        let [left, right] = [left, right].map(|word| &self.entries[word as usize]);
        Relation { stem: left.stem == right.stem, synonym: share_any(&left.synonym_sets, &right.synonym_sets) }
    }
}

/// Whether two ascending lists have a number in common.
fn share_any(left: &[u32], right: &[u32]) -> bool {
    let (few, many) = if left.len() < right.len() { (left, right) } else { (right, left) };
    few.iter().any(|number| many.binary_search(number).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> NamedText<'_> {
        NamedText { name: "list", text }
    }

    fn lists() -> WordLists {
        WordLists::parse(
            named("big\n1 2\nlarge\n2 3\ngo\n7\nmove\n7\nbox\n9\n"),
            named("go\nwent gone\n"),
            named("the\nof\n"),
        )
        .unwrap()
    }

    #[test]
    fn words_correspond_by_stem_and_by_synonym() {
        let mut lexicon = Lexicon::new(lists());
        let mut relation = |left: &str, right: &str| {
            let (left, right) = (lexicon.number(left), lexicon.number(right));
            let relation = lexicon.relation(left, right);
            (relation.stem, relation.synonym)
        };
        assert_eq!(relation("big", "large"), (false, true));
        assert_eq!(relation("went", "move"), (false, true));
        assert_eq!(relation("boxes", "box"), (true, true));
        assert_eq!(relation("biggest", "large"), (false, false));
        assert_eq!(relation("pub", "pubs"), (true, false));
        let (the, big) = (lexicon.number("the"), lexicon.number("big"));
        assert!(lexicon.is_function_word(the) && !lexicon.is_function_word(big));
    }

    #[test]
    fn broken_lists_are_named_with_their_line() {
        let error = |synsets: &str, exceptions: &str, functions: &str| {
            WordLists::parse(named(synsets), named(exceptions), named(functions)).unwrap_err().to_string()
        };
        assert!(error("big\n1\nlarge\nx\n", "", "the").contains("line 4 should list the synonym sets of \"large\""));
        assert!(error("big\n1\nlarge\n", "", "the").contains("line 4 is missing: after \"large\""));
        assert!(error("big\n1\n", "go\n", "the").contains("line 2 is missing"));
        assert!(error("", "", "the").contains("no words in this list"));
        assert!(error("big\n1\n", "", "\n").contains("no words in this list"));
    }
}
