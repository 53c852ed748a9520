//! Atomic writes and the safetensors format.

use super::tensor;
use adamix::atomic::{clean_leftovers, write_dir, write_file, write_file_with};
use adamix::error::{Error, ErrorKind};
use adamix::tensor::safetensors::{Metadata, SafetensorsFile, read, write};
use adamix::tensor::{HostTensor, NumberFormat};
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_failed_write_keeps_the_old_file_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    write_file(&path, b"old").unwrap();
    let err = write_file_with(&path, |out| {
        out.write_all(b"half of the new").unwrap();
        Err(Error::io("writing", &path, std::io::ErrorKind::StorageFull.into()))
    })
    .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Io);
    assert!(err.to_string().contains("free some disk space"), "{err}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["state"]);
    write_file(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn a_directory_appears_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint-5");
    let fill = |text: &'static str| move |dir: &Path| write_file(&dir.join("a"), text.as_bytes());
    let broken = |dir: &Path| {
        write_file(&dir.join("a"), b"half")?;
        Err::<(), _>(Error::internal("interrupted"))
    };
    assert!(write_dir(&path, broken).is_err());
    assert_eq!(names(dir.path()), [""; 0]);
    write_dir(&path, fill("one")).unwrap();
    assert!(write_dir(&path, broken).is_err());
    assert_eq!(fs::read(path.join("a")).unwrap(), b"one", "the old one stays when its replacement fails");
    write_dir(&path, fill("two")).unwrap();
    assert_eq!(fs::read(path.join("a")).unwrap(), b"two");
    assert_eq!(names(dir.path()), ["checkpoint-5"]);
}

#[test]
fn leftovers_of_a_killed_process_are_tidied_up() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at(".tmp-checkpoint-9")).unwrap();
    fs::write(at(".tmp-checkpoint-9/experts"), b"half").unwrap();
    fs::write(at(".tmp-run.toml"), b"half").unwrap();
    fs::create_dir(at(".old-checkpoint-3")).unwrap();
    fs::create_dir(at(".old-checkpoint-4")).unwrap();
    fs::create_dir(at("checkpoint-4")).unwrap();
    fs::write(at("kept"), b"").unwrap();
    let done = clean_leftovers(dir.path()).unwrap();
    assert_eq!(done.len(), 4, "{done:?}");
    assert_eq!(names(dir.path()), ["checkpoint-3", "checkpoint-4", "kept"]);
    assert!(clean_leftovers(&at("not there")).unwrap().is_empty());
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no such directory").join("file");
    let err = write_file(&path, b"x").unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Io);
    assert!(err.to_string().contains("no such directory"), "{err}");
}

#[test]
fn f32_survives_bit_by_bit_and_other_programs_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.safetensors");
    let odd = [0.1, -0.0, f32::MIN_POSITIVE / 8.0, f32::MAX, f32::INFINITY, 1.0 + f32::EPSILON];
    let tensors = [
        HostTensor::new("odd", [2, 3], odd.to_vec()).unwrap(),
        tensor("layers.0.ffn.down.weight", &[4, 3, 5]),
        HostTensor::new("empty", [0, 3], vec![]).unwrap(),
        HostTensor::new("number", [], vec![42.0]).unwrap(),
    ];
    let metadata = Metadata::from([("b".to_owned(), "ä \"quoted\"".to_owned()), ("a".to_owned(), "1".to_owned())]);
    write(&path, &tensors, NumberFormat::F32, &metadata).unwrap();
    let (back, found) = read(&path).unwrap();
    assert_eq!(found, metadata);
    assert_eq!(back.len(), tensors.len());
    for (a, b) in tensors.iter().zip(&back) {
        assert_eq!((&a.name, &a.shape), (&b.name, &b.shape));
        let bits = |t: &HostTensor| t.data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(a), bits(b), "{}", a.name);
    }
    // The reference implementation accepts the file and sees the same.
    let bytes = fs::read(&path).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    let view = theirs.tensor("odd").unwrap();
    assert_eq!(view.shape(), [2, 3]);
    assert_eq!(view.data(), odd.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    // Equal contents give equal bytes.
    write(&dir.path().join("again"), &tensors, NumberFormat::F32, &metadata).unwrap();
    assert_eq!(fs::read(dir.path().join("again")).unwrap(), bytes);
}

#[test]
fn half_precision_is_rounded_and_overflow_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.safetensors");
    let values = vec![1.0 + 2f32.powi(-11), 0.1, -3.7e-6, f32::NAN];
    let tensors = [HostTensor::new("a", [4], values.clone()).unwrap()];
    for dtype in [NumberFormat::F16, NumberFormat::Bf16] {
        write(&path, &tensors, dtype, &Metadata::new()).unwrap();
        let file = SafetensorsFile::open(&path).unwrap();
        assert_eq!(file.entries()[0].format(), dtype);
        let back = file.read("a").unwrap();
        for (value, back) in values.iter().zip(&back.data).take(3) {
            assert_eq!(dtype.round(*value), *back);
        }
        assert!(back.data[3].is_nan());
    }
    let large = [HostTensor::new("too.large", [1], vec![70_000.0]).unwrap()];
    let err = write(&path, &large, NumberFormat::F16, &Metadata::new()).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Numerics);
    assert!(err.to_string().contains("too.large"), "{err}");
    write(&path, &large, NumberFormat::Bf16, &Metadata::new()).unwrap();
}

#[test]
fn two_tensors_of_one_name_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let twice = [tensor("a", &[2]), tensor("a", &[2])];
    assert!(write(&dir.path().join("t"), &twice, NumberFormat::F32, &Metadata::new()).is_err());
    let reserved = [tensor("__metadata__", &[2])];
    assert!(write(&dir.path().join("t"), &reserved, NumberFormat::F32, &Metadata::new()).is_err());
}

/// A file with this header and so many bytes of values.
fn file(dir: &Path, header: &str, values: usize) -> std::path::PathBuf {
    let path = dir.join("bad.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + values, 0);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn every_lie_in_a_header_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let one = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert!(SafetensorsFile::open(&file(dir.path(), one, 8)).is_ok(), "the control is sound");
    let cases = [
        ("the values end early", one, 7, "truncated: tensor w"),
        ("bytes after the end", one, 9, "1 bytes after the last tensor"),
        ("garbage", "{\"w\":", 8, "not the JSON"),
        ("not an object", "[1, 2]", 8, "not the JSON"),
        (
            "a name twice",
            r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            8,
            "tensor w twice",
        ),
        (
            "shape and bytes disagree",
            r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            8,
            "tensor w of shape [3]",
        ),
        (
            "dtype and bytes disagree",
            r#"{"w":{"dtype":"F16","shape":[2],"data_offsets":[0,8]}}"#,
            8,
            "tensor w of shape [2]",
        ),
        (
            "the product overflows",
            r#"{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#,
            0,
            "tensor w of shape",
        ),
        ("backwards", r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8, "tensor w of shape"),
        (
            "an overlap",
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
            "tensor b overlaps",
        ),
        (
            "a gap",
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
            12,
            "before tensor b",
        ),
        ("an unknown dtype", r#"{"w":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#, 8, "tensor w has dtype I64"),
        ("no dtype", r#"{"w":{"shape":[1],"data_offsets":[0,8]}}"#, 8, "tensor w has no dtype"),
        (
            "a negative size",
            r#"{"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
            8,
            "tensor w has no valid shape",
        ),
        (
            "one offset",
            r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0]}}"#,
            8,
            "tensor w has no valid data_offsets",
        ),
        ("metadata is not text", r#"{"__metadata__":{"a":1}}"#, 0, "metadata is not text"),
    ];
    for (what, header, values, message) in cases {
        let path = file(dir.path(), header, values);
        let err = SafetensorsFile::open(&path).map(|_| ()).expect_err(what);
        assert_eq!(err.kind(), ErrorKind::Format, "{what}: {err}");
        let text = err.to_string();
        assert!(text.contains(message) && text.contains("bad.safetensors"), "{what}: {text}");
    }
}

#[test]
fn a_lying_header_length_takes_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.safetensors");
    for (bytes, message) in [
        (Vec::new(), "0 bytes are too few"),
        (b"1234567".to_vec(), "7 bytes are too few"),
        (u64::MAX.to_le_bytes().to_vec(), "announces a header"),
        (1000u64.to_le_bytes().to_vec(), "truncated"),
    ] {
        fs::write(&path, bytes).unwrap();
        let text = SafetensorsFile::open(&path).unwrap_err().to_string();
        assert!(text.contains(message), "{text}");
    }
    let text = SafetensorsFile::open(&dir.path().join("absent")).unwrap_err().to_string();
    assert!(text.contains("absent"), "{text}");
}

#[test]
fn a_tensor_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    write(&path, &[tensor("a", &[2])], NumberFormat::F32, &Metadata::new()).unwrap();
    let text = SafetensorsFile::open(&path).unwrap().read("b").unwrap_err().to_string();
    assert!(text.contains("no tensor b"), "{text}");
}

#[test]
fn tensors_that_are_no_weights_may_lie_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let header = r#"{"ids":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"w":{"dtype":"F64","shape":[1],"data_offsets":[8,16]}}"#;
    let path = file(dir.path(), header, 16);
    assert!(SafetensorsFile::open(&path).is_err(), "our own files hold F32, F16 and BF16 only");
    let open = SafetensorsFile::open_any(&path).unwrap();
    assert_eq!(open.read("w").unwrap().data, [0.0]);
    let text = open.read("ids").unwrap_err().to_string();
    assert!(text.contains("tensor ids is stored as I64"), "{text}");
}
