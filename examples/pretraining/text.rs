//! The corpora as streams of sentences.
//!
//! A corpus is a list of documents (a novel, an article, a review); a document is a list of sentences. Sequences
//! for pre-training are cut from consecutive sentences of one document, never across documents.

use adamix::error::{Error, Result};
use rayon::prelude::*;
use std::io::Read as _;
use std::path::Path;

/// One body of text and how often each of its documents is read in an epoch.
pub struct Source {
    /// Name in the provenance file.
    pub name: &'static str,
    /// Licence of the text, as its source states it.
    pub licence: &'static str,
    /// Where it lies under the corpora directory.
    path: &'static str,
    /// The part held out for the validation loss; `None`: every 20th document.
    valid_path: Option<&'static str>,
    layout: Layout,
    /// Passes over this source in one epoch (fractions choose documents by chance).
    pub repeats: f64,
    /// Passes for articles about films, books, music and theatre.
    pub culture_repeats: f64,
    /// Weight of its words when the vocabulary is learned.
    pub vocabulary_weight: u64,
}

/// How a file marks documents and paragraphs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Hard line breaks, paragraphs end with an empty line, the whole file is one document per 400 paragraphs.
    Novels,
    /// A title line, a paragraph a line, an empty line after each article.
    Articles,
    /// Tab-separated label, file and text; the label is thrown away.
    Reviews,
}

/// The corpora of the lab encoder. Labels are never read.
pub const SOURCES: [Source; 4] = [
    Source {
        name: "English novels 1839-1928",
        licence: "public domain",
        path: "text/novels/train.txt.zst",
        valid_path: Some("text/novels/valid.txt"),
        layout: Layout::Novels,
        repeats: 0.5,
        culture_repeats: 0.5,
        vocabulary_weight: 2,
    },
    Source {
        name: "English Wikipedia, 24047 articles created 2018-2021",
        licence: "CC BY-SA 3.0",
        path: "text/wikipedia/train.txt.zst",
        valid_path: Some("text/wikipedia/valid.txt"),
        layout: Layout::Articles,
        repeats: 0.1,
        culture_repeats: 0.6,
        vocabulary_weight: 1,
    },
    Source {
        name: "English Wikinews, 18739 articles",
        licence: "CC BY 2.5",
        path: "text/wikinews/train.txt.zst",
        valid_path: Some("text/wikinews/valid.txt"),
        layout: Layout::Articles,
        repeats: 0.2,
        culture_repeats: 0.6,
        vocabulary_weight: 1,
    },
    Source {
        name: "Polarity data set v2.0: 2000 whole film reviews (Pang and Lee 2004), text without its labels",
        licence: "CC BY 4.0",
        path: "cls/movie_reviews_v2/all.tsv.zst",
        valid_path: None,
        layout: Layout::Reviews,
        repeats: 5.0,
        culture_repeats: 5.0,
        vocabulary_weight: 12,
    },
];

/// A document: its sentences in order.
pub struct Document {
    /// The sentences, white space runs joined.
    pub sentences: Vec<String>,
    /// Whether it is about films, books, music or theatre.
    pub culture: bool,
}

impl Source {
    /// Training and held-out documents of this source.
    pub fn read(&self, corpora: &Path) -> Result<(Vec<Document>, Vec<Document>)> {
        let train = documents(&read_text(&corpora.join(self.path))?, self.layout);
        match self.valid_path {
            Some(valid) => Ok((train, documents(&read_text(&corpora.join(valid))?, self.layout))),
            None => {
                let (mut kept, mut held_out) = (Vec::new(), Vec::new());
                for (i, document) in train.into_iter().enumerate() {
                    if i % 20 == 19 { held_out.push(document) } else { kept.push(document) }
                }
                Ok((kept, held_out))
            }
        }
    }
}

/// A text file, unpacked if its name ends in `.zst`.
fn read_text(path: &Path) -> Result<String> {
    let file = std::fs::File::open(path).map_err(|err| Error::io("opening a corpus", path, err))?;
    let mut text = String::new();
    let read = if path.extension().is_some_and(|ext| ext == "zst") {
        ruzstd::decoding::StreamingDecoder::new(file)
            .map_err(std::io::Error::other)
            .and_then(|mut decoder| decoder.read_to_string(&mut text))
    } else {
        std::io::BufReader::new(file).read_to_string(&mut text)
    };
    read.map_err(|err| Error::io("reading a corpus", path, err))?;
    Ok(text)
}

fn documents(text: &str, layout: Layout) -> Vec<Document> {
    let raw: Vec<Vec<String>> = match layout {
        Layout::Novels => {
            let paragraphs: Vec<String> = text
                .split("\n\n")
                .map(|p| p.split_whitespace().collect::<Vec<_>>().join(" ").replace('_', ""))
                .filter(|p| p.chars().any(char::is_lowercase))
                .collect();
            paragraphs.chunks(400).map(<[String]>::to_vec).collect()
        }
        Layout::Articles => text
            .split("\n\n")
            .map(|article| article.lines().skip(1).filter(|line| line.len() >= 50).map(str::to_owned).collect())
            .collect(),
        Layout::Reviews => text
            .lines()
            .skip(1)
            .filter_map(|line| line.splitn(3, '\t').nth(2))
            .map(|text| vec![text.replace('_', "")])
            .collect(),
    };
    raw.into_par_iter()
        .map(|paragraphs| Document {
            culture: layout == Layout::Reviews || is_culture(&paragraphs),
            sentences: paragraphs.iter().flat_map(|p| sentences(p)).collect(),
        })
        .filter(|document| !document.sentences.is_empty())
        .collect()
}

/// At least three mentions of film, book, music or theatre words.
fn is_culture(paragraphs: &[String]) -> bool {
    const WORDS: [&str; 18] = [
        "film",
        "films",
        "movie",
        "movies",
        "comedy",
        "drama",
        "critics",
        "review",
        "reviews",
        "album",
        "novel",
        "actor",
        "actress",
        "director",
        "television",
        "theatre",
        "horror",
        "soundtrack",
    ];
    let mut mentions = 0;
    for paragraph in paragraphs {
        for word in paragraph.split(|c: char| !c.is_alphanumeric()) {
            if WORDS.contains(&word) {
                mentions += 1;
                if mentions == 3 {
                    return true;
                }
            }
        }
    }
    false
}

/// Words that end with a full stop inside a sentence.
const ABBREVIATIONS: [&str; 16] =
    ["mr", "mrs", "ms", "dr", "st", "jr", "sr", "prof", "gen", "col", "capt", "rev", "no", "vs", "inc", "esq"];

/// Cuts a paragraph after `.`, `!` or `?` (and closing quotes) that white space follows.
fn sentences(paragraph: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current = String::new();
    let mut words = paragraph.split_whitespace().peekable();
    while let Some(word) = words.next() {
        if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(word);
        let closes = ends_sentence(word) && words.peek().is_none_or(|next| !continues(next));
        if closes {
            found.push(std::mem::take(&mut current));
        }
    }
    if !current.is_empty() {
        found.push(current);
    }
    found
}

fn ends_sentence(word: &str) -> bool {
    let core = word.trim_end_matches(['"', '\'', ')', '”', '’', ']']);
    let Some(stem) = core.strip_suffix(['.', '!', '?']) else { return false };
    if core.ends_with(['!', '?']) {
        return true;
    }
    let letters = stem.trim_start_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let initial = letters.chars().count() == 1 && letters.chars().all(char::is_alphabetic);
    !initial && !letters.contains('.') && !ABBREVIATIONS.contains(&letters.as_str())
}

/// Closing marks and further full stops that belong to the sentence before (tokenised text: `. . .`, `. "`).
fn continues(word: &str) -> bool {
    matches!(word, "." | "!" | "?" | ")" | "]" | ".\"" | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_where_a_reader_would_end_them() {
        let cut = sentences("Mr. Smith, of the U.S. team, said \"No!\" Then J. Doe left. a film . . . it drags .");
        assert_eq!(
            cut,
            ["Mr. Smith, of the U.S. team, said \"No!\"", "Then J. Doe left.", "a film . . .", "it drags ."]
        );
    }
}
