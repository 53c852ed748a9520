//! Words as METEOR's option `-norm` cuts them: a variant of the Moses tokenizer that keeps punctuation.
//!
//! Signs stand alone, except: commas inside numbers stay, hyphens between words become a space, English contractions are
//! cut before the apostrophe, a final full stop stays with an abbreviation or before a word in lower case, and acronyms
//! lose their full stops. The result is in lower case.

use crate::eval::text_metrics::tokens::rewrite;

/// Stands for a full stop that is left alone.
const KEPT_DOT: char = '\u{e000}';

/// Abbreviations whose full stop belongs to them.
const ABBREVIATIONS: &[&str] = &[
    "Adj", "Adm", "Adv", "Asst", "Bart", "Bldg", "Brig", "Bros", "Capt", "Cmdr", "Col", "Comdr", "Con", "Corp", "Cpl",
    "DR", "Dr", "Drs", "Ens", "Gen", "Gov", "Hon", "Hr", "Hosp", "Insp", "Lt", "MM", "MR", "MRS", "MS", "Maj",
    "Messrs", "Mlle", "Mme", "Mr", "Mrs", "Ms", "Msgr", "Op", "Ord", "Pfc", "Ph", "Prof", "Pvt", "Rep", "Reps", "Res",
    "Rev", "Rt", "Sen", "Sens", "Sfc", "Sgt", "Sr", "St", "Supt", "Surg", "v", "vs", "i.e", "rev", "e.g", "Nos", "Nr",
];
/// Abbreviations that keep it before a number only.
const BEFORE_NUMBERS: &[&str] = &["No", "Art", "pp"];

/// The words of a text.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut chars = Vec::with_capacity(text.len() + 16);
    chars.push(' ');
    for char in text.chars() {
        if is_letter(char) || char.is_ascii_digit() || is_space(char) || ".'`,-‘’".contains(char) {
            chars.push(char);
        } else {
            chars.extend([' ', char, ' ']);
        }
    }
    chars.push(' ');
    let chars = apostrophes(&hyphens(&quotes(&commas(&dots(&chars)))));
    let text: String = chars.into_iter().collect();
    let words: Vec<&str> = text.split(is_space).filter(|word| !word.is_empty()).collect();
    let mut out = Vec::with_capacity(words.len());
    for (at, word) in words.iter().enumerate() {
        final_dot(word, words.get(at + 1).copied(), &mut out);
    }
    let dotted = out.iter().map(|word| word.replace(KEPT_DOT, ".").to_lowercase());
    dotted.filter(|word| !word.trim().is_empty()).collect()
}

fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// Latin and Cyrillic letters; others are signs to this tokenizer.
fn is_letter(char: char) -> bool {
    char.is_ascii_alphabetic()
        || matches!(char, '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{17e}' | '\u{1d00}'..='\u{1d7f}')
        || matches!(char, '\u{400}'..='\u{4ff}' | '\u{500}'..='\u{527}' | '\u{a640}'..='\u{a66e}' | '\u{a67e}'..='\u{a697}')
}

/// Several dots in a row are one word.
fn dots(text: &[char]) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() + 8);
    for run in text.chunk_by(|a, b| *a == '.' && *b == '.') {
        if run.len() > 1 {
            out.push(' ');
            out.extend(std::iter::repeat_n(KEPT_DOT, run.len()));
            out.push(' ');
        } else {
            out.extend(run);
        }
    }
    out
}

fn commas(text: &[char]) -> Vec<char> {
    let digit = |char: char| char.is_ascii_digit();
    let mut text = text.to_vec();
    for (before, after) in [(false, false), (true, false), (false, true)] {
        text = triples(&text, ',', |a, b| digit(a) == before && digit(b) == after, " , ");
    }
    text
}

fn quotes(text: &[char]) -> Vec<char> {
    let mut out: Vec<char> = Vec::with_capacity(text.len() + 8);
    let mut at = 0;
    let apostrophe = |at: usize| text.get(at).is_some_and(|char| "'`‘’".contains(*char));
    while let Some(&char) = text.get(at) {
        if "“”".contains(char) {
            out.extend([' ', '"', ' ']);
        } else if apostrophe(at) && apostrophe(at + 1) {
            out.extend([' ', '"', ' ']);
            at += 1;
        } else {
            out.push(if apostrophe(at) { '\'' } else { char });
        }
        at += 1;
    }
    out
}

fn hyphens(text: &[char]) -> Vec<char> {
    let mut dashes: Vec<char> = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&char) = text.get(at) {
        let dash = |at: usize| text.get(at).is_some_and(|char| "-–".contains(*char));
        at += if dash(at) && dash(at + 1) { 2 } else { 1 };
        dashes.push(if char == '–' { '-' } else { char });
    }
    let word = |char: char| is_letter(char) || char.is_ascii_digit();
    triples(&dashes, '-', |a, b| (word(a) || a == '.') && word(b), " ")
}

fn apostrophes(text: &[char]) -> Vec<char> {
    let (letter, digit) = (is_letter, |char: char| char.is_ascii_digit());
    let text = triples(text, '\'', |a, b| !letter(a) && !letter(b), " ' ");
    let text = triples(&text, '\'', |a, b| !letter(a) && !digit(a) && letter(b), " ' ");
    let text = triples(&text, '\'', |a, b| letter(a) && !letter(b), " ' ");
    let text = triples(&text, '\'', |a, b| letter(a) && letter(b), " '");
    triples(&text, '\'', |a, b| digit(a) && b == 's', " '")
}

/// Replaces a sign between two characters.
fn triples(text: &[char], sign: char, fits: impl Fn(char, char) -> bool, by: &str) -> Vec<char> {
    rewrite(text, |[first, middle, last]| {
        let fits = middle == sign && fits(first, last);
        fits.then(|| std::iter::once(first).chain(by.chars()).chain([last]))
    })
}

/// Decides on the full stop at the end of a word.
fn final_dot(word: &str, next: Option<&str>, out: &mut Vec<String>) {
    let Some(stem) = word.strip_suffix('.').filter(|stem| !stem.is_empty()) else { return out.push(word.to_owned()) };
    let next_starts = |fits: fn(char) -> bool| next.is_some_and(|next| next.starts_with(fits));
    let initial = stem.len() == 1 && stem.starts_with(|char: char| char.is_ascii_uppercase());
    if stem.contains('.') && stem.contains(is_letter) {
        out.push(word.replace('.', ""));
    } else if initial
        || ABBREVIATIONS.contains(&stem)
        || next_starts(|char| char.is_ascii_lowercase())
        || (BEFORE_NUMBERS.contains(&stem) && next_starts(|char| char.is_ascii_digit()))
    {
        out.push(word.to_owned());
    } else {
        out.extend([stem.to_owned(), ".".to_owned()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(words(text).join(" "), expected);
    }

    #[test]
    fn words_as_meteor_cuts_them() {
        check("A family-friendly pub, isn't it?", "a family friendly pub , isn 't it ?");
        check("it 's 20-25", "it ' s 20 25");
        check("1,000 people,in Paris.", "1,000 people , in paris .");
        check("the U.S. army of Mr. Smith etc.", "the us army of mr. smith etc .");
        check("wait... what", "wait ... what");
        check("No. 5 is near no. 6", "no. 5 is near no . 6");
        check("“Café” – ‘open’", "\" café \" - ' open '");
        check("# 20", "# 20");
        check("", "");
    }
}
