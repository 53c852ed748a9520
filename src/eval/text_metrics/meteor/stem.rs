//! The Snowball stemmer for English ("Porter2"), as METEOR 1.5 uses it.
//!
//! R1 is what follows the first non-vowel after a vowel, R2 the same within R1. Endings are replaced in eight steps,
//! most of them only inside one of these regions, always the longest ending that fits.

/// Words with stems of their own.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("skis", "ski"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("idly", "idl"),
    ("gently", "gentl"),
    ("ugly", "ugli"),
    ("early", "earli"),
    ("only", "onli"),
    ("singly", "singl"),
    ("sky", "sky"),
    ("news", "news"),
    ("howe", "howe"),
    ("atlas", "atlas"),
    ("cosmos", "cosmos"),
    ("bias", "bias"),
    ("andes", "andes"),
];
/// Words that are left alone once their plural is off.
const KEPT: &[&str] = &["inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"];

const STEP_2: &[(&str, &str)] = &[
    ("ational", "ate"),
    ("ization", "ize"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("iveness", "ive"),
    ("tional", "tion"),
    ("biliti", "ble"),
    ("lessli", "less"),
    ("entli", "ent"),
    ("ation", "ate"),
    ("alism", "al"),
    ("aliti", "al"),
    ("ousli", "ous"),
    ("iviti", "ive"),
    ("fulli", "ful"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("abli", "able"),
    ("izer", "ize"),
    ("ator", "ate"),
    ("alli", "al"),
    ("bli", "ble"),
    ("ogi", "og"),
    ("li", ""),
];
const STEP_3: &[(&str, &str)] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("alize", "al"),
    ("icate", "ic"),
    ("iciti", "ic"),
    ("ative", ""),
    ("ical", "ic"),
    ("ness", ""),
    ("ful", ""),
];
const STEP_4: &[&str] = &[
    "ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ism", "ate", "iti", "ous", "ive", "ize", "ion",
    "al", "er", "ic",
];

/// The stem of a word in lower case.
pub(crate) fn stem(word: &str) -> String {
    if word.chars().nth(2).is_none() {
        return word.to_owned();
    }
    if let Some((_, stem)) = EXCEPTIONS.iter().find(|(whole, _)| *whole == word) {
        return (*stem).to_owned();
    }
    let mut stem = Stem::of(word);
    stem.plural();
    if !KEPT.contains(&stem.text().as_str()) {
        stem.past_and_participle();
        stem.final_y();
        stem.derivations();
        stem.residues();
        stem.suffixes();
        stem.final_letters();
    }
    stem.text().to_lowercase()
}

/// A word on its way; `Y` is a y that acts as a consonant.
struct Stem {
    chars: Vec<char>,
    r1: usize,
    r2: usize,
}

fn is_vowel(char: char) -> bool {
    matches!(char, 'a' | 'e' | 'i' | 'o' | 'u' | 'y')
}

impl Stem {
    fn of(word: &str) -> Self {
        let mut chars: Vec<char> = word.strip_prefix('\'').unwrap_or(word).chars().collect();
        for at in 0..chars.len() {
            if chars[at] == 'y' && (at == 0 || is_vowel(chars[at - 1])) {
                chars[at] = 'Y';
            }
        }
        let region = |from: usize| {
            let vowel = (from..chars.len()).find(|&at| is_vowel(chars[at]));
            let end = vowel.and_then(|vowel| (vowel..chars.len()).find(|&at| !is_vowel(chars[at])));
            end.map_or(chars.len(), |at| at + 1)
        };
        let prefix = ["gener", "commun", "arsen"].iter().find(|prefix| word.starts_with(**prefix));
        let r1 = prefix.map_or_else(|| region(0), |prefix| prefix.len());
        let r2 = region(r1);
        Self { chars, r1, r2 }
    }

    fn text(&self) -> String {
        self.chars.iter().collect()
    }

    fn ends_with(&self, ending: &str) -> bool {
        let length = ending.len();
        self.chars.len() >= length && self.chars[self.chars.len() - length..].iter().copied().eq(ending.chars())
    }

    /// The character that many places before the end, from 1.
    fn back(&self, places: usize) -> Option<char> {
        self.chars.len().checked_sub(places).map(|at| self.chars[at])
    }

    fn replace(&mut self, length: usize, by: &str) {
        self.chars.truncate(self.chars.len() - length);
        self.chars.extend(by.chars());
    }

    /// Whether an ending of this length lies in the region that begins at `region`.
    fn within(&self, region: usize, length: usize) -> bool {
        self.chars.len() >= region + length
    }

    fn has_vowel_before(&self, length: usize) -> bool {
        self.chars[..self.chars.len() - length].iter().any(|&char| is_vowel(char))
    }

    /// Whether the first `length` characters end in a short syllable.
    fn short_syllable(&self, length: usize) -> bool {
        let at = |places: usize| length.checked_sub(places).map(|at| self.chars[at]);
        match (at(3), at(2), at(1)) {
            (None, Some(vowel), Some(last)) => is_vowel(vowel) && !is_vowel(last),
            (Some(first), Some(vowel), Some(last)) => {
                !is_vowel(first) && is_vowel(vowel) && !is_vowel(last) && !matches!(last, 'w' | 'x' | 'Y')
            }
            _ => false,
        }
    }

    /// Step 1a, with the genitive before it.
    fn plural(&mut self) {
        if let Some(ending) = ["'s'", "'s", "'"].into_iter().find(|ending| self.ends_with(ending)) {
            self.replace(ending.len(), "");
        }
        if self.ends_with("sses") {
            self.replace(2, "");
        } else if self.ends_with("ied") || self.ends_with("ies") {
            let by = if self.chars.len() > 4 { "i" } else { "ie" };
            self.replace(3, by);
        } else if self.ends_with("s") && !self.ends_with("us") && !self.ends_with("ss") {
            let length = self.chars.len();
            if length >= 2 && self.chars[..length - 2].iter().any(|&char| is_vowel(char)) {
                self.replace(1, "");
            }
        }
    }

    /// Step 1b.
    fn past_and_participle(&mut self) {
        let endings = ["eedly", "ingly", "edly", "eed", "ing", "ed"];
        let Some(ending) = endings.into_iter().find(|ending| self.ends_with(ending)) else { return };
        if ending.starts_with("ee") {
            if self.within(self.r1, ending.len()) {
                self.replace(ending.len(), "ee");
            }
            return;
        }
        if !self.has_vowel_before(ending.len()) {
            return;
        }
        self.replace(ending.len(), "");
        let doubled = self.back(1).is_some_and(|last| self.back(2) == Some(last) && "bdfgmnprt".contains(last));
        if ["at", "bl", "iz"].iter().any(|ending| self.ends_with(ending)) {
            self.chars.push('e');
        } else if doubled {
            self.replace(1, "");
        } else if self.r1 >= self.chars.len() && self.short_syllable(self.chars.len()) {
            self.chars.push('e');
        }
    }

    /// Step 1c.
    fn final_y(&mut self) {
        let after_consonant = self.back(2).is_some_and(|char| !is_vowel(char)) && self.chars.len() > 2;
        if matches!(self.back(1), Some('y' | 'Y')) && after_consonant {
            self.replace(1, "i");
        }
    }

    /// Step 2.
    fn derivations(&mut self) {
        let Some((ending, by)) = STEP_2.iter().find(|(ending, _)| self.ends_with(ending)) else { return };
        let before = self.back(ending.len() + 1);
        let fits = match *ending {
            "ogi" => before == Some('l'),
            "li" => before.is_some_and(|char| "cdeghkmnrt".contains(char)),
            _ => true,
        };
        if fits && self.within(self.r1, ending.len()) {
            self.replace(ending.len(), by);
        }
    }

    /// Step 3.
    fn residues(&mut self) {
        let Some((ending, by)) = STEP_3.iter().find(|(ending, _)| self.ends_with(ending)) else { return };
        let region = if *ending == "ative" { self.r2 } else { self.r1 };
        if self.within(region, ending.len()) {
            self.replace(ending.len(), by);
        }
    }

    /// Step 4.
    fn suffixes(&mut self) {
        let Some(ending) = STEP_4.iter().find(|ending| self.ends_with(ending)) else { return };
        let fits = *ending != "ion" || matches!(self.back(4), Some('s' | 't'));
        if fits && self.within(self.r2, ending.len()) {
            self.replace(ending.len(), "");
        }
    }

    /// Step 5.
    fn final_letters(&mut self) {
        let length = self.chars.len();
        let remove = match self.back(1) {
            Some('e') => self.within(self.r2, 1) || (self.within(self.r1, 1) && !self.short_syllable(length - 1)),
            Some('l') => self.within(self.r2, 1) && self.back(2) == Some('l'),
            _ => false,
        };
        if remove {
            self.replace(1, "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn stems() {
        let pairs = [
            ("consistently", "consist"),
            ("knightly", "knight"),
            ("generously", "generous"),
            ("communication", "communic"),
            ("skies", "sky"),
            ("dying", "die"),
            ("ties", "tie"),
            ("cries", "cri"),
            ("gas", "gas"),
            ("gaps", "gap"),
            ("hopping", "hop"),
            ("hoping", "hope"),
            ("bedding", "bed"),
            ("say", "say"),
            ("cry", "cri"),
            ("succeeds", "succeed"),
            ("is", "is"),
            ("café", "café"),
            ("cafés", "café"),
            ("restaurants", "restaur"),
            ("rolling", "roll"),
        ];
        for (word, expected) in pairs {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}
