//! What the user should know of the data although nothing is refused: every kind once, with how often and where first.

/// Kinds kept; a file that needs more is told enough.
const MOST: usize = 40;

/// Collected notes, in the order in which they came up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    found: Vec<Note>,
}

#[derive(Clone, Debug)]
struct Note {
    file: String,
    text: String,
    rows: usize,
    /// The first one; 0: of the file as a whole.
    line: usize,
}

impl Notes {
    /// Something in the row at `line` (from 1).
    pub(super) fn row(&mut self, file: &str, line: usize, text: &str) {
        if let Some(known) = self.found.iter_mut().find(|note| note.text == text && note.file == file) {
            known.rows += 1;
        } else if self.found.len() < MOST {
            self.found.push(Note { file: file.to_owned(), text: text.to_owned(), rows: 1, line });
        }
    }

    /// Something about the whole file.
    pub(super) fn file(&mut self, file: &str, text: &str) {
        self.row(file, 0, text);
    }

    /// One line each: how many rows, what, the first line, the file.
    pub(super) fn words(&self) -> Vec<String> {
        let words = |note: &Note| match note {
            Note { line: 0, text, file, .. } => format!("{text}: {file}"),
            Note { rows: 1, line, text, file } => format!("in line {line}: {text}: {file}"),
            Note { rows, line, text, file } => format!("in {rows} rows, the first in line {line}: {text}: {file}"),
        };
        self.found.iter().map(words).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_once() {
        let mut notes = Notes::default();
        notes.row("a.csv", 3, "odd");
        notes.row("a.csv", 7, "odd");
        notes.row("b.csv", 9, "odd");
        notes.file("a.csv", "all the same");
        assert_eq!(
            notes.words(),
            ["in 2 rows, the first in line 3: odd: a.csv", "in line 9: odd: b.csv", "all the same: a.csv"]
        );
    }
}
