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
    let chars = rewrite(&chars, |[a, b]| (!digit(a) && point(b)).then_some([a, ' ', b, ' ']));
    let chars = rewrite(&chars, |[a, b]| (point(a) && !digit(b)).then_some([' ', a, ' ', b]));
    let chars = rewrite(&chars, |[a, b]| (digit(a) && b == '-').then_some([a, ' ', b, ' ']));
    chars.into_iter().collect::<String>().split_whitespace().map(str::to_owned).collect()
}

/// Words between white space, in lower case.
pub(crate) fn lower_words(text: &str) -> Vec<String> {
    text.to_lowercase().split_whitespace().map(str::to_owned).collect()
}

/// Replaces runs of N characters from left to right where `by` gives something; a character belongs to one run at most.
pub(crate) fn rewrite<const N: usize, T: IntoIterator<Item = char>>(
    text: &[char],
    by: impl Fn([char; N]) -> Option<T>,
) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let replaced = rest.split_first_chunk().and_then(|(&run, after)| Some((by(run)?, after)));
        rest = match replaced {
            Some((text, after)) => {
                out.extend(text);
                after
            }
            None => {
                out.push(first);
                after
            }
        };
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
