//! Cutting text into words as the scorers do: NIST's `mteval` rules, and plain white space.

/// Words after NIST's `mteval-v13a` rules (the ones that are not "international"), in lower case.
///
/// Four entities are resolved; ASCII punctuation stands alone, except apostrophe, hyphen, full stop and comma; full
/// stop and comma stand alone unless a digit is on both sides; a hyphen stands alone after a digit. Characters beyond
/// ASCII belong to words.
pub(crate) fn mteval(text: &str) -> Vec<String> {
    let text = text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let mut chars = vec![' '];
    for char in text.to_lowercase().chars() {
        if char.is_ascii_punctuation() && !matches!(char, '.' | ',' | '-' | '\'') {
            chars.extend([' ', char, ' ']);
        } else {
            chars.push(char);
        }
    }
    chars.push(' ');
    let point = |char: char| matches!(char, '.' | ',');
    let digit = |char: char| char.is_ascii_digit();
    let chars = pairs(&chars, |a, b| !digit(a) && point(b), |a, b| [a, ' ', b, ' ']);
    let chars = pairs(&chars, |a, b| point(a) && !digit(b), |a, b| [' ', a, ' ', b]);
    let chars = pairs(&chars, |a, b| digit(a) && b == '-', |a, b| [a, ' ', b, ' ']);
    chars.into_iter().collect::<String>().split_whitespace().map(str::to_owned).collect()
}

/// Words between white space, in lower case.
pub(crate) fn lower_words(text: &str) -> Vec<String> {
    text.to_lowercase().split_whitespace().map(str::to_owned).collect()
}

/// Rewrites pairs of neighbours from left to right; a character belongs to one pair at most.
fn pairs(text: &[char], fits: impl Fn(char, char) -> bool, write: impl Fn(char, char) -> [char; 4]) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut at = 0;
    while let Some(&char) = text.get(at) {
        match text.get(at + 1) {
            Some(&next) if fits(char, next) => {
                out.extend(write(char, next));
                at += 2;
            }
            _ => {
                out.push(char);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(mteval(text).join(" "), expected);
    }

    #[test]
    fn mteval_rules() {
        check("It costs $1,000.50, (mostly).", "it costs $ 1,000.50 , ( mostly ) .");
        check("Family-friendly, it's 20-25.", "family-friendly , it's 20 - 25 .");
        check("a &quot;b&quot; &lt;c&gt; &amp;", "a \" b \" < c > &");
        check("Café £20-£25", "café £20 - £25");
        check("", "");
        check("  one  ", "one");
        check("5.", "5 .");
        check("end.Start", "end . start");
    }

    #[test]
    fn white_space_words() {
        assert_eq!(lower_words(" A\u{a0}b  C "), ["a", "b", "c"]);
    }
}
