//! Generated texts and their references, as the scorers of the E2E and WebNLG challenges lay them out.

use super::files::encoding::{GUESSED, decoded};
use super::lines::{BOM, utf8};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// How references are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceLayout {
    /// One file: the references of a segment on lines of their own, an empty line between segments (E2E).
    Blocks,
    /// One or more files: line i of each is a reference of segment i, or empty where there are fewer (WebNLG).
    Lines,
}

/// The references of all segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct References {
    /// How they were laid out.
    pub layout: ReferenceLayout,
    /// For each segment its references. With [`ReferenceLayout::Lines`] some may be empty, but not all.
    pub texts: Vec<Vec<String>>,
}

/// The contents of a text file, without a byte order mark; `what` says what was read, for messages.
pub fn read_text(path: &Path, what: &str) -> Result<String> {
    let raw = std::fs::read(path).map_err(|err| Error::io(&format!("reading {what}"), path, err))?;
    let name = path.display().to_string();
    let (bytes, stored) = decoded(&name, raw.as_slice().into())?;
    // A score does not depend on a guess.
    let bytes = if stored.contains(GUESSED) { raw.as_slice().into() } else { bytes };
    let body = bytes.strip_prefix(BOM).unwrap_or(&bytes);
    if let Ok(text) = std::str::from_utf8(body) {
        return Ok(text.to_owned());
    }
    let mut lines = body.split(|&byte| byte == b'\n').enumerate();
    let wrong = lines.find_map(|(line, bytes)| utf8(bytes).err().map(|reason| (line + 1, reason)));
    let (line, reason) = wrong.unwrap_or((1, "not UTF-8 text".to_owned()));
    Err(Error::data(format!("line {line}: {reason}: {name}")))
}

/// Generated texts, one a line; an empty line is an empty text. Line ends may be those of Windows.
pub fn read_outputs(path: &Path) -> Result<Vec<String>> {
    let text = read_text(path, "the generated texts")?;
    if text.trim().is_empty() {
        return Err(Error::data(format!(
            "the file is empty; one generated text a line is expected: {}",
            path.display()
        )));
    }
    Ok(text.lines().map(str::to_owned).collect())
}

/// References. Without a `layout`, several files are lines; one file is blocks if it has an empty line between texts.
pub fn read_references(paths: &[PathBuf], layout: Option<ReferenceLayout>) -> Result<References> {
    let texts = paths.iter().map(|path| read_text(path, "the references")).collect::<Result<Vec<_>>>()?;
    let (Some(first), Some(path)) = (texts.first(), paths.first()) else {
        return Err(Error::data("no file with references is given"));
    };
    if let Some((_, path)) = texts.iter().zip(paths).find(|(text, _)| text.trim().is_empty()) {
        return Err(Error::data(format!("the file is empty; references are expected: {}", path.display())));
    }
    let guessed = || if texts.len() == 1 && has_gap(first) { ReferenceLayout::Blocks } else { ReferenceLayout::Lines };
    let layout = layout.unwrap_or_else(guessed);
    match layout {
        ReferenceLayout::Blocks if texts.len() > 1 => Err(Error::data(format!(
            "references in blocks come in one file, but {} files are given, the first of them {}",
            texts.len(),
            path.display()
        ))),
        ReferenceLayout::Blocks => Ok(References { layout, texts: blocks(first) }),
        ReferenceLayout::Lines => Ok(References { layout, texts: by_line(&texts, paths)? }),
    }
}

/// Whether an empty line stands between two texts.
fn has_gap(text: &str) -> bool {
    text.trim().lines().any(|line| line.trim().is_empty())
}

fn blocks(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    let blocks = lines.split(|line| line.trim().is_empty()).filter(|block| !block.is_empty());
    blocks.map(|block| block.iter().map(|&line| line.to_owned()).collect()).collect()
}

fn by_line(texts: &[String], paths: &[PathBuf]) -> Result<Vec<Vec<String>>> {
    let files: Vec<Vec<&str>> = texts.iter().map(|text| text.lines().collect()).collect();
    let lines = files[0].len();
    if let Some((other, path)) = files.iter().zip(paths).find(|(other, _)| other.len() != lines) {
        return Err(Error::data(format!(
            "reference files must have as many lines as each other: {} has {lines}, {} has {}",
            paths[0].display(),
            path.display(),
            other.len()
        )));
    }
    let of_line = |line: usize| {
        let texts: Vec<String> = files.iter().map(|file| file[line].to_owned()).collect();
        if texts.iter().all(|text| text.trim().is_empty()) {
            let every = if files.len() > 1 { " in every reference file" } else { "" };
            return Err(Error::data(format!(
                "line {} is empty{every}, but each segment needs a reference (if empty lines separate the segments, \
                 say --layout blocks): {}",
                line + 1,
                paths[0].display()
            )));
        }
        Ok(texts)
    };
    (0..lines).map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[&str], layout: Option<ReferenceLayout>) -> Result<References> {
        let dir = tempfile::tempdir().unwrap();
        let write = |(number, text): (usize, &&str)| {
            let path = dir.path().join(number.to_string());
            std::fs::write(&path, text).unwrap();
            path
        };
        let paths: Vec<PathBuf> = files.iter().enumerate().map(write).collect();
        read_references(&paths, layout)
    }

    #[test]
    fn the_layout_is_seen_by_the_empty_lines() {
        let blocks = read(&["\na\nb\n\n\nc\n\n"], None).unwrap();
        assert_eq!((blocks.layout, blocks.texts.len()), (ReferenceLayout::Blocks, 2));
        assert_eq!(blocks.texts[0], ["a", "b"]);
        let lines = read(&["a\nb\nc\n"], None).unwrap();
        assert_eq!((lines.layout, lines.texts.len()), (ReferenceLayout::Lines, 3));
        let one = read(&["a\nb\nc\n"], Some(ReferenceLayout::Blocks)).unwrap();
        assert_eq!(one.texts, [["a", "b", "c"]]);
    }

    #[test]
    fn line_i_of_each_file_belongs_to_segment_i() {
        let lines = read(&["a\nb\n", "c\n\n", "\n\n d"], None);
        assert!(lines.unwrap_err().to_string().contains("has 2, "));
        let lines = read(&["a\n\n", "c\nd\n"], None).unwrap();
        assert_eq!(lines.texts, [["a", "c"], ["", "d"]]);
        assert!(read(&[], None).unwrap_err().to_string().contains("no file with references"));
    }
}
