//! Files in every shape that tables come in: JSON, separators, encodings, packings, binary formats, several at once.

use super::{assert_says, classes, custom, files, load, texts};
use adamix::config::{BadRows, DataConfig, FileFormat, Task};
use adamix::data;
use std::io::Write as _;
use std::path::Path;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tables");

/// What the golden tables hold.
const ROWS: [(&str, &str); 6] = [
    ("A fine film, really", "pos"),
    ("Déjà vu; dull", "neg"),
    ("この映画はとても面白い", "pos"),
    ("Not for me", "neg"),
    ("I laughed", "pos"),
    ("I left early", "neg"),
];

/// The rows of one file, read for training and evaluation.
fn rows(path: &Path) -> (Vec<String>, Vec<u32>) {
    let name = path.display().to_string();
    let config = DataConfig { task: Task::Custom, train_file: name.clone(), dev_file: name, ..DataConfig::default() };
    let task = load(&config).unwrap();
    (task.train.rows.iter().map(|row| row.text.clone()).collect(), classes(&task.train))
}

#[track_caller]
fn expect_rows(path: &Path) {
    let (found, labels) = rows(path);
    assert_eq!(found, ROWS.map(|(text, _)| text), "{}", path.display());
    assert_eq!(labels, [1, 0, 1, 0, 1, 0], "{}", path.display());
}

#[test]
fn binary_tables_that_other_programs_wrote() {
    // Written by tests/golden/tables.py: pandas, pyarrow, polars, openpyxl, odfpy.
    let mut seen = 0;
    for entry in std::fs::read_dir(GOLDEN).unwrap() {
        let path = entry.unwrap().path();
        expect_rows(&path);
        // The ending does not matter.
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("table.data");
        std::fs::copy(&path, &other).unwrap();
        expect_rows(&other);
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
}

#[test]
fn json_in_every_layout() {
    let objects: Vec<String> =
        ROWS.iter().map(|(text, label)| serde_json::json!({ "sentence": text, "label": label }).to_string()).collect();
    let pretty: Vec<String> =
        objects.iter().map(|object| object.replace(",\"", ",\n  \"").replace('{', "{\n  ")).collect();
    let dir = files(&[
        ("lines.jsonl", objects.join("\n").as_bytes()),
        ("array.json", format!("[{}]", objects.join(",\n")).as_bytes()),
        ("pretty.jsonl", pretty.join("\n").as_bytes()),
        ("inside.json", format!("{{\"version\": 1,\n\"data\": [{}]}}", pretty.join(",")).as_bytes()),
        ("lines.ndjson", objects.join("\r\n").as_bytes()),
    ]);
    for name in ["lines.jsonl", "array.json", "pretty.jsonl", "inside.json", "lines.ndjson"] {
        expect_rows(&dir.path().join(name));
    }
    // Keys that the first object lacks, NaN for a missing label, and where the rows stand.
    let array = "[\n{\"label\": \"pos\"},\n{\"sentence\": \"a\", \"label\": \"pos\"},\n{\"sentence\": \"b\", \"label\": NaN},\n{\"sentence\": \"c\", \"label\": \"neg\"}]";
    let dir = files(&[("t.json", array.as_bytes())]);
    let config = DataConfig { bad_rows: BadRows::Skip, ..custom(&dir, "t.json", "t.json") };
    let task = load(&config).unwrap();
    assert_eq!(texts(&task.train), ["a", "c"]);
    let lines: Vec<(usize, bool)> =
        task.skipped[..2].iter().map(|row| (row.line, row.reason.contains("no value for"))).collect();
    assert_eq!(lines, [(2, true), (4, true)]);
}

#[test]
fn separators_encodings_and_packings() {
    let csv = |separator: &str, rows: &[(&str, &str)]| {
        let quote = |cell: &str| format!("\"{}\"", cell.replace('"', "\"\""));
        let line = |(text, label): &(&str, &str)| format!("{}{separator}{label}\n", quote(text));
        format!("sentence{separator}label\n{}", rows.iter().map(line).collect::<String>())
    };
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        dir.path().join(name)
    };
    for (number, separator) in [",", ";", "\t", "|", "^", "~"].into_iter().enumerate() {
        expect_rows(&put(&format!("{number}.csv"), csv(separator, &ROWS).as_bytes()));
    }
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(csv(";", &ROWS).as_bytes()).unwrap();
    expect_rows(&put("a.csv.gz", &gz.finish().unwrap()));
    expect_rows(&put("a.csv.zst", &zstd::stream::encode_all(csv(",", &ROWS).as_bytes(), 0).unwrap()));
    let utf16: Vec<u8> =
        [0xfeff].into_iter().chain(csv(",", &ROWS).encode_utf16()).flat_map(u16::to_le_bytes).collect();
    expect_rows(&put("utf16.csv", &utf16));
    // A guess is told, in training and in the preview.
    let (text, _, _) = encoding_rs::WINDOWS_1252.encode("sentence,label\nDéjà vu,neg\nTrès agréable,pos\nÀ côté,neg\n");
    let path = put("latin.csv", &text);
    let config = custom_file(&path);
    let task = load(&config).unwrap();
    assert_eq!(texts(&task.train), ["Déjà vu", "Très agréable", "À côté"]);
    assert!(task.notes.iter().any(|note| note.contains("windows-1252 (guessed")), "{:?}", task.notes);
    let preview = data::preview(&config, None).unwrap();
    assert_eq!(preview.columns.layout, "CSV, windows-1252 (guessed from the bytes)");
    let (text, _, _) =
        encoding_rs::SHIFT_JIS.encode("sentence,label\nこの映画はとても面白い,pos\nつまらない映画でした,neg\n");
    let task = load(&custom_file(&put("sjis.csv", &text))).unwrap();
    assert_eq!(texts(&task.train), ["この映画はとても面白い", "つまらない映画でした"]);
    let broken = put("broken.csv.gz", &[0x1f, 0x8b, 8, 0, 1, 2, 3]);
    assert_says(&load(&custom_file(&broken)).unwrap_err().to_string(), &["gzip file is broken", "broken.csv.gz"]);
    let cut = put("cut.parquet", b"PAR1cut");
    assert_says(&load(&custom_file(&cut)).unwrap_err().to_string(), &["Parquet file cannot be read", "cut.parquet"]);
    let given = DataConfig { format: FileFormat::Parquet, ..custom_file(&path) };
    assert_says(&load(&given).unwrap_err().to_string(), &["data.format is parquet", "latin.csv"]);
}

fn custom_file(path: &Path) -> DataConfig {
    let name = path.display().to_string();
    DataConfig { task: Task::Custom, train_file: name.clone(), dev_file: name, ..DataConfig::default() }
}

#[test]
fn several_files_are_one_split() {
    let dir = files(&[
        ("a.csv", b"sentence,label\none,x\ntwo,y\n"),
        ("b.csv", b"sentence,label\nthree,x\n,y\nfour,y\n"),
        ("dev.csv", b"sentence,label\nfive,x\nsix,y\n"),
    ]);
    let config = DataConfig { bad_rows: BadRows::Skip, ..custom(&dir, "a.csv; b.csv", "dev.csv") };
    let task = load(&config).unwrap();
    assert_eq!(texts(&task.train), ["one", "two", "three", "four"]);
    assert!(task.skipped[0].file.ends_with("b.csv") && task.skipped[0].line == 3, "{:?}", task.skipped);
    let pattern = load(&DataConfig { train_file: "*.csv".to_owned(), ..config.clone() }).unwrap();
    assert_eq!(pattern.train.len(), 6, "a, b and dev");
    let gone = load(&custom(&dir, "a.csv; gone.csv", "dev.csv")).unwrap_err().to_string();
    assert_says(&gone, &["reading the data failed", "gone.csv"]);
}

#[test]
fn missing_labels_are_no_classes() {
    let row = |i: usize, label: &str| format!("text {i},{label}\n");
    let usual: String = (0..30).map(|i| row(i, ["pos", "neg"][i % 2])).collect();
    for missing in ["NaN", "nan", "None", "null", "NULL", "NA", "N/A", "<NA>", "#N/A", "-100"] {
        let text = format!("sentence,label\n{usual}{}", row(99, missing));
        let dir = files(&[("t.csv", text.as_bytes())]);
        let message = load(&custom(&dir, "t.csv", "t.csv")).unwrap_err().to_string();
        assert_says(&message, &["line 32", missing, "a missing one", "data.labels"]);
        let task = load(&DataConfig { bad_rows: BadRows::Skip, ..custom(&dir, "t.csv", "t.csv") }).unwrap();
        assert_eq!((task.labels.as_slice(), task.train.len()), (&["neg".to_owned(), "pos".to_owned()][..], 30));
    }
    // Somebody's class may be called so, and says it.
    let text = format!("sentence,label\n{usual}{}{}", row(98, "None"), row(99, "None"));
    let dir = files(&[("t.csv", text.as_bytes())]);
    let labels = ["None", "neg", "pos"].map(str::to_owned).to_vec();
    let task = load(&DataConfig { labels, ..custom(&dir, "t.csv", "t.csv") }).unwrap();
    assert_eq!(classes(&task.train).iter().filter(|&&class| class == 0).count(), 2);
    assert_eq!(task.notes, Vec::<String>::new());
    // A class of one row is worth a word.
    let text = format!("sentence,label\n{usual}{}", row(98, "pso"));
    let dir = files(&[("t.csv", text.as_bytes())]);
    let task = load(&custom(&dir, "t.csv", "t.csv")).unwrap();
    assert_says(&task.notes.concat(), &["only one training row has the label \"pso\"", "t.csv"]);
    // So is a column that looks as if it kept rows out.
    let dir = files(&[("t.csv", b"sentence,label,weight\na,x,0\nb,y,1\n")]);
    let task = load(&custom(&dir, "t.csv", "t.csv")).unwrap();
    assert_says(&task.notes.concat(), &["the column \"weight\" is not used", "t.csv"]);
}
