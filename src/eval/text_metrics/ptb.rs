//! Words by the rules of the Penn Treebank, as the E2E scorer prepares text for METEOR, ROUGE-L and CIDEr: lower
//! case, contractions cut (`is n't`, `it 's`), punctuation left out.
//!
//! The scorer runs the tokenizer of Stanford CoreNLP 3.4.1 and drops punctuation that stands alone. The rules below
//! reproduce its output on the texts of the E2E challenge, and follow the Treebank elsewhere (brackets become `-lrb-`, the
//! pound sign `#`). Addresses of web pages and mail stay whole.

/// Abbreviations that keep their full stop.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "rev", "gen", "sen", "rep", "gov", "lt", "col", "sgt", "capt", "st", "jr", "sr",
    "inc", "ltd", "co", "corp", "bros", "dept", "univ", "assn", "ave", "blvd", "rd", "mt", "ft", "vs", "etc", "al",
    "est", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "approx", "e.g", "i.e",
    "a.m", "p.m", "ph.d",
];

/// Words that are cut in two, by the length of the first part.
const CUT: &[(&str, usize)] = &[("cannot", 3), ("gonna", 3), ("gotta", 3), ("wanna", 3), ("lemme", 3), ("gimme", 3)];

/// Endings that stand alone.
const ENDINGS: &[&str] = &["'s", "'m", "'d", "'re", "'ve", "'ll", "n't"];

/// The words of a text, without punctuation.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let plain: String = text.chars().map(plain_char).collect();
    for chunk in plain.split_whitespace() {
        let chars: Vec<char> = chunk.chars().collect();
        if is_address(chunk) {
            words.push(chunk.to_lowercase());
        } else {
            cut_chunk(&chars, &mut words);
        }
    }
    words
}

/// Typographic quotes and currencies as the Treebank writes them.
fn plain_char(char: char) -> char {
    match char {
        '“' | '”' | '„' | '«' | '»' | '″' => '"',
        '‘' | '’' | '`' | '´' => '\'',
        '£' => '#',
        '€' => '$',
        '…' => '.',
        '–' | '—' => '\u{2014}',
        '\u{ad}' | '\u{200b}' | '\u{feff}' => ' ',
        other => other,
    }
}

fn is_address(chunk: &str) -> bool {
    let web = ["http://", "https://", "www."].iter().any(|start| chunk.starts_with(start));
    let mail =
        chunk.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.trim_end_matches('.').contains('.'));
    web || mail
}

/// Cuts what stands between white space: pieces of word characters, and signs.
fn cut_chunk(chars: &[char], words: &mut Vec<String>) {
    let mut start = 0;
    while start < chars.len() {
        let end = word_end(chars, start);
        if end > start {
            push_word(&chars[start..end], words);
            start = end;
        } else {
            push_sign(chars[start], words);
            start += 1;
        }
    }
}

/// Where the word that begins at `start` ends; `start` itself where none begins.
fn word_end(chars: &[char], start: usize) -> usize {
    let mut end = start;
    while let Some(&char) = chars.get(end) {
        let before = end.checked_sub(1).filter(|_| end > start).map(|at| chars[at]);
        let after = chars.get(end + 1).copied();
        if !belongs(before, char, after, &chars[start..end], chars.get(end + 1..).unwrap_or_default()) {
            break;
        }
        end += 1;
    }
    end
}

/// Whether a character is part of a word, given its neighbours in the word and after it.
fn belongs(before: Option<char>, char: char, after: Option<char>, word: &[char], rest: &[char]) -> bool {
    let alphanumeric = |char: Option<char>| char.is_some_and(char::is_alphanumeric);
    let digit = |char: Option<char>| char.is_some_and(|char| char.is_ascii_digit());
    match char {
        _ if char.is_alphanumeric() || char == '_' => true,
        // Decimal points, points of acronyms and of abbreviations.
        '.' if digit(before) && digit(after) => true,
        '.' if before.is_none() && digit(after) => true,
        // "the center., close to" is taken for an abbreviation.
        '.' if before.is_some_and(char::is_alphabetic) && matches!(after, Some(',' | ';' | ':')) => true,
        '.' => alphanumeric(before) && (is_acronym(word, rest) || is_abbreviation(word, after)),
        ',' | ':' => digit(before) && digit(after),
        '-' if before.is_none() => digit(after),
        '-' | '/' | '&' => alphanumeric(before) && alphanumeric(after),
        '\'' => (alphanumeric(before) && alphanumeric(after)) || (before.is_none() && is_elision(rest)),
        _ => char.is_alphabetic() || (!char.is_ascii() && char != '\u{2014}' && !char.is_whitespace()),
    }
}

/// `U` of `U.S.`: single letters with points between them, and more of them to come or already there.
fn is_acronym(word: &[char], rest: &[char]) -> bool {
    let letters = word.split(|&char| char == '.').all(|part| part.len() == 1 && part[0].is_alphabetic());
    let more = rest.first().is_some_and(|char| char.is_alphabetic())
        && !rest.get(1).is_some_and(|char| char.is_alphanumeric());
    letters && (word.contains(&'.') || more)
}

fn is_abbreviation(word: &[char], after: Option<char>) -> bool {
    let word = word.iter().collect::<String>().to_lowercase();
    !after.is_some_and(char::is_alphanumeric) && ABBREVIATIONS.contains(&word.as_str())
}

/// What follows the apostrophe of `'em`, `'90s`, or of an ending that lost its word.
fn is_elision(rest: &[char]) -> bool {
    let word = rest.iter().take_while(|char| char.is_alphanumeric()).collect::<String>().to_lowercase();
    let decade = word.len() == 3 && word.ends_with('s') && word.starts_with(|char: char| char.is_ascii_digit());
    decade || ["em", "til", "cause", "n", "s", "m", "d", "re", "ve", "ll"].contains(&word.as_str())
}

fn push_word(word: &[char], words: &mut Vec<String>) {
    let word = word.iter().collect::<String>().to_lowercase().replace('/', "\\/");
    let cut = CUT.iter().find(|(whole, _)| *whole == word).map(|&(_, at)| at);
    let ending = ENDINGS.iter().find(|ending| word.len() > ending.len() && word.ends_with(**ending));
    match cut.or(ending.map(|ending| word.len() - ending.len())) {
        Some(at) => words.extend([word[..at].to_owned(), word[at..].to_owned()]),
        None => words.push(word),
    }
}

/// Signs that stand alone; punctuation is dropped.
fn push_sign(sign: char, words: &mut Vec<String>) {
    let word = match sign {
        '"' | '\'' | '.' | ',' | '-' | '\u{2014}' | ':' | ';' | '?' | '!' => return,
        '(' => "-lrb-",
        ')' => "-rrb-",
        '[' => "-lsb-",
        ']' => "-rsb-",
        '{' => "-lcb-",
        '}' => "-rcb-",
        '/' => "\\/",
        '*' => "\\*",
        other => return words.push(other.to_string()),
    };
    words.push(word.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(words(text).join(" "), expected);
    }

    #[test]
    fn words_of_the_treebank() {
        check("If you're nearby, it isn't kids' food.", "if you 're nearby it is n't kids food");
        check("Near 'The Vaults': £20-£25 (cheap)!", "near the vaults # 20 # 25 -lrb- cheap -rrb-");
        check("a range of 20£-25 or £20-25, £30.99", "a range of 20 # -25 or # 20-25 # 30.99");
        check("drinks,food; family-friendly - yes. a non- child", "drinks food family-friendly yes a non child");
        check("\"Café\" costs $20", "café costs $ 20");
        check("at 10:30 a.m. in the U.S. near St. Paul's", "at 10:30 a.m. in the u.s. near st. paul 's");
        check("pub/bar, we cannot", "pub\\/bar we can not");
        check("in the city center., near a pub.", "in the city center. near a pub");
        check("1,000 people... see www.example.org/a,b", "1,000 people see www.example.org/a,b");
        check("", "");
        check("...", "");
        check("日本 語", "日本 語");
    }
}
