//! Files as they lie on the disk, unpacked where they are packed with gzip or zstd.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes that a packed file may come to: a few kilobytes can be made to unpack to more than any memory holds.
const MOST: u64 = 16 << 30;

/// The bytes of a file, and what it was packed with.
pub(super) fn read(path: &Path, what: &str) -> Result<(Vec<u8>, Option<&'static str>)> {
    let failed = |err| Error::io(what, path, err);
    let mut file = File::open(path).map_err(failed)?;
    let packing = packing(&first_bytes(&mut file).map_err(failed)?);
    let mut bytes = Vec::new();
    let unpacked = match packing {
        None => {
            return std::fs::read(path).map_err(failed).map(|bytes| (bytes, None));
        }
        Some("gzip") => flate2::read::MultiGzDecoder::new(BufReader::new(file)).take(MOST + 1).read_to_end(&mut bytes),
        Some(_) => {
            zstd::stream::read::Decoder::new(file).and_then(|reader| reader.take(MOST + 1).read_to_end(&mut bytes))
        }
    };
    let name = packing.unwrap_or_default();
    match unpacked {
        Ok(count) if count as u64 > MOST => Err(Error::data(format!(
            "the {name} file unpacks to more than {} GB; split it: {}",
            MOST >> 30,
            path.display()
        ))),
        Ok(_) => Ok((bytes, packing)),
        Err(err) => Err(Error::data(format!("the {name} file is broken ({err}); fetch it again: {}", path.display()))),
    }
}

/// The first bytes of a file; its position stays at the start.
pub(super) fn first_bytes(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    file.by_ref().take(16).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(start)
}

fn packing(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        _ => None,
    }
}

/// The path without the ending of a packing: what the ending of the unpacked file would be.
pub(in crate::data) fn unpacked_name(path: &Path) -> PathBuf {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if ["gz", "gzip", "zst", "zstd"].contains(&ending.as_str()) { path.with_extension("") } else { path.to_path_buf() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn packed_and_plain_files_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let text = "a line\n".repeat(1000);
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("plain"), &text).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(text.as_bytes()).unwrap();
        // Two members one after the other, as `cat a.gz b.gz` makes.
        let gz = gz.finish().unwrap();
        std::fs::write(path("gz"), [&gz[..], &gz[..]].concat()).unwrap();
        std::fs::write(path("zst"), zstd::stream::encode_all(text.as_bytes(), 3).unwrap()).unwrap();
        let read = |name: &str| super::read(&path(name), "reading").unwrap();
        assert_eq!(read("plain"), (text.clone().into_bytes(), None));
        assert_eq!(read("gz"), (format!("{text}{text}").into_bytes(), Some("gzip")));
        assert_eq!(read("zst"), (text.clone().into_bytes(), Some("zstd")));
        std::fs::write(path("cut"), &gz[..gz.len() / 2]).unwrap();
        let err = super::read(&path("cut"), "reading").unwrap_err().to_string();
        assert!(err.contains("gzip file is broken") && err.contains("cut"), "{err}");
        assert_eq!(unpacked_name(Path::new("d/a.csv.gz")), Path::new("d/a.csv"));
        assert_eq!(unpacked_name(Path::new("a.csv")), Path::new("a.csv"));
    }
}
