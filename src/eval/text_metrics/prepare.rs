//! How WebNLG's texts are prepared before they are scored: letters without accents, lower case, signs apart.

/// Letters and signs beyond ASCII, by what stands for them.
const ASCII: &[(&str, &str)] = &[
    ("a", "àáâãäåāăąǎạảấầẩẫậắằẳẵặ"),
    ("c", "çćĉċč"),
    ("d", "ďđð"),
    ("e", "èéêëēĕėęěẹẻẽếềểễệ"),
    ("g", "ĝğġģǧ"),
    ("h", "ĥħ"),
    ("i", "ìíîïĩīĭįıǐỉị"),
    ("j", "ĵ"),
    ("k", "ķǩ"),
    ("l", "ĺļľŀł"),
    ("n", "ñńņňŋ"),
    ("o", "òóôõöøōŏőơǒọỏốồổỗộớờởỡợ"),
    ("r", "ŕŗř"),
    ("s", "śŝşšș"),
    ("t", "ţťŧț"),
    ("u", "ùúûüũūŭůűųưǔụủứừửữự"),
    ("w", "ŵ"),
    ("y", "ýÿŷỳỵỷỹ"),
    ("z", "źżž"),
    ("ae", "æ"),
    ("oe", "œ"),
    ("ss", "ß"),
    ("th", "þ"),
    ("-", "‐‑‒–—―−"),
    ("'", "‘’‚′"),
    ("\"", "“”„″«»"),
    ("...", "…"),
];

/// A text with accents taken off Latin letters, in lower case, with a space around every sign.
///
/// Signs are all characters but letters, digits and `_`. Other scripts stay as they are.
pub fn webnlg(text: &str) -> String {
    let mut folded = String::with_capacity(text.len() + 16);
    for char in text.to_lowercase().chars() {
        match ASCII.iter().find(|(_, letters)| !char.is_ascii() && letters.contains(char)) {
            Some((ascii, _)) => folded.push_str(ascii),
            // Accents that are characters of their own.
            None if ('\u{300}'..='\u{36f}').contains(&char) => {}
            None => folded.push(char),
        }
    }
    let mut apart = String::with_capacity(folded.len() + 16);
    for char in folded.chars() {
        if char.is_alphanumeric() || char == '_' {
            apart.push(char);
        } else {
            apart.extend([' ', char, ' ']);
        }
    }
    apart.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::webnlg;

    #[test]
    fn texts_are_folded_and_cut() {
        assert_eq!(
            webnlg("Adolfo Suárez Madrid–Barajas Airport's 18L/36R."),
            "adolfo suarez madrid - barajas airport ' s 18l / 36r ."
        );
        assert_eq!(webnlg("İstanbul, Atatürk: 3.5 (m)"), "istanbul , ataturk : 3 . 5 ( m )");
        assert_eq!(webnlg("Straße Ærø 東京 x_y"), "strasse aero 東京 x_y");
        assert_eq!(webnlg(" \u{a0}"), "");
        let once = webnlg("“Łódź” — naïve…");
        assert_eq!(once, "\" lodz \" - naive . . .");
        assert_eq!(webnlg(&once), once);
    }
}
