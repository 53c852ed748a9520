//! Checkpoints of the reference code, and pickles that are none.

use super::json_of;
use crate::golden::{golden_dir, load, off};
use adamix::artifact::import::{self, Kind, reference};
use adamix::artifact::torch_file::TorchFile;
use adamix::config::{Activation, Method, MixtureKind};
use adamix::model::Network as _;
use adamix::model::network;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    golden_dir("torch").join(name)
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as f32).collect()
}

#[test]
fn published_experts_open() {
    let soup = reference::read(&file("roberta_soup.bin")).unwrap();
    assert_eq!(soup.model_type.as_deref(), Some("roberta"));
    let mixture = &soup.mixture;
    assert_eq!((mixture.kind, mixture.num_experts, mixture.adapter_size), (MixtureKind::Adapter, 4, 5));
    assert_eq!((mixture.sharing_down, mixture.sharing_up), (false, true));
    assert!(soup.weights.is_empty() && soup.notes.is_empty());
    assert_eq!(import::kind_of(&file("roberta_soup.bin")).unwrap(), Kind::Reference);
    let find = |name: &str| soup.tensors.iter().find(|t| t.name == name);
    let down = find("layers.1.ffn.down.weight").unwrap();
    assert_eq!(
        (down.shape.as_slice(), &down.data),
        ([4, 5, 20].as_slice(), &numbers(&json_of(&file("expected.json"))["down"]))
    );
    assert_eq!(find("layers.0.ffn.up.bias").unwrap().shape, [1, 20]);
    assert_eq!(find("classifier.out_proj.weight").unwrap().shape[0], 3);
    assert!(find("layers.2.ffn.up.bias").is_none());
    // They are all that a model of such settings trains.
    let model = load(&golden_dir("roberta-tiny"), Method::Adamix, mixture, 3);
    let values = |name: &str| find(name).map(|t| (t.shape.as_slice(), t.data.as_slice()));
    network::overwrite(model.params(), values).unwrap();
    assert_eq!(soup.tensors.len(), model.params().iter().count());
    let first = model.params().find("layers.1.ffn.down.weight").unwrap();
    assert_eq!(off(&first.value.flatten_all().unwrap().to_vec1::<f32>().unwrap(), &down.data), 0.0);
}

#[test]
fn its_gpt2_files_open() {
    let lora = reference::read(&file("gpt2_lora.pt")).unwrap();
    assert_eq!(lora.model_type.as_deref(), Some("gpt2"));
    assert!(lora.tensors.iter().all(|t| t.name.starts_with("layers.0.") || t.name.starts_with("layers.1.")));
    assert_eq!((lora.mixture.kind, lora.mixture.num_experts, lora.mixture.lora_rank), (MixtureKind::Lora, 3, 2));
    assert!(lora.mixture.sharing_up && lora.mixture.lora_alpha == 32.0);
    let a = lora.tensors.iter().find(|t| t.name == "layers.1.attn.c_attn.qv.lora_a.weight").unwrap();
    assert_eq!(
        (a.shape.as_slice(), &a.data),
        ([3, 4, 16].as_slice(), &numbers(&json_of(&file("expected.json"))["lora_a"]))
    );
    assert!(lora.notes[0].starts_with("6 tensors"), "{:?}", lora.notes);
    // They are what our own model of these settings trains.
    let model = super::random(&golden_dir("gpt2-tiny"), &lora.mixture);
    let find =
        |name: &str| lora.tensors.iter().find(|t| t.name == name).map(|t| (t.shape.as_slice(), t.data.as_slice()));
    network::overwrite(model.params(), find).unwrap();

    let adapter = reference::read(&file("gpt2_adapter.pt")).unwrap();
    assert_eq!((adapter.mixture.kind, adapter.mixture.adapter_size), (MixtureKind::Adapter, 2));
    assert_eq!(adapter.mixture.activation, Activation::GeluTanh);
    let [(site, weights)] = adapter.weights.as_slice() else { panic!("{:?}", adapter.weights) };
    let e = std::f64::consts::E;
    assert!(site == "layers.1.ffn" && (weights[1] - e / (e + 2.0)).abs() < 1e-9);
}

#[test]
fn views_and_formats_are_read_as_torch_has_them() {
    let mut open = TorchFile::open(&file("odd.bin")).unwrap();
    let expected = json_of(&file("expected.json"));
    for (name, values) in expected["odd"].as_object().unwrap() {
        let (tensor, _) = open.read(name).unwrap();
        assert_eq!(tensor.data, numbers(values), "{name}");
    }
    assert_eq!(open.read("transposed").unwrap().0.shape, [6, 4]);
    assert!(open.read("whole").unwrap_err().to_string().contains("whole numbers"));
    assert!(reference::read(&file("odd.bin")).unwrap_err().to_string().contains("no experts"));
}

#[test]
fn a_pickle_that_wants_to_run_something_is_refused() {
    let err = TorchFile::open(&file("evil.bin")).unwrap_err().to_string();
    assert!(err.contains(".system") && err.contains("refused"), "{err}");
    let err = TorchFile::open(&file("legacy.bin")).unwrap_err().to_string();
    assert!(err.contains("before torch 1.6"), "{err}");
}

fn crc(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(!0u32, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), step))
}

/// An archive of stored entries.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let at = out.len() as u32;
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend(crc(data).to_le_bytes());
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(*data);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// `{"w": tensor}` whose storage has `elements`, with this offset, shape and strides.
fn one_tensor(elements: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let mut p = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0".to_vec();
    p.extend(b"0X\x03\0\0\0cpu");
    let int = |p: &mut Vec<u8>, n: i32| {
        p.push(b'J');
        p.extend(n.to_le_bytes());
    };
    int(&mut p, elements);
    p.extend(b"tQ");
    int(&mut p, offset);
    for list in [shape, strides] {
        p.push(b'(');
        list.iter().for_each(|&n| int(&mut p, n));
        p.push(b't');
    }
    p.extend(b"\x89ccollections\nOrderedDict\n)RtRs.");
    p
}

fn open(place: &Path, bytes: &[u8]) -> String {
    let path = place.join("x.bin");
    std::fs::write(&path, bytes).unwrap();
    match TorchFile::open(&path).and_then(|mut open| open.read("w").map(|_| ())) {
        Ok(()) => "good".to_owned(),
        Err(err) => err.to_string(),
    }
}

#[test]
fn tensors_that_lie_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let archive = |pickle: &[u8], floats: usize| zip(&[("a/data.pkl", pickle), ("a/data/0", &vec![0; 4 * floats])]);
    let try_one = |pickle: &[u8], floats: usize| open(place.path(), &archive(pickle, floats));
    assert_eq!(try_one(&one_tensor(6, 0, &[2, 3], &[3, 1]), 6), "good");
    let inside = "does not lie inside its storage";
    for (pickle, floats, word) in [
        (one_tensor(600, 0, &[2, 3], &[3, 1]), 6, "needs a storage of 600"),
        (one_tensor(6, 1, &[2, 3], &[3, 1]), 6, inside),
        (one_tensor(6, 0, &[2, 3], &[4, 1]), 6, inside),
        (one_tensor(6, 0, &[2_000_000_000, 2_000_000_000], &[0, 0]), 6, inside),
        (one_tensor(6, 0, &[2_000_000_000, 2_000_000_000, 2_000_000_000], &[0, 0, 0]), 6, inside),
        (one_tensor(6, 0, &[7], &[0]), 6, inside),
        (one_tensor(6, -1, &[2, 3], &[3, 1]), 6, "from what is none"),
        (one_tensor(6, 0, &[2, 3], &[3, -1]), 6, "from what is none"),
        (one_tensor(6, 0, &[2, 3], &[1]), 6, "from what is none"),
        (one_tensor(-6, 0, &[2, 3], &[3, 1]), 6, "refers to no storage"),
    ] {
        let err = try_one(&pickle, floats);
        assert!(err.contains(word), "{word}: {err}");
    }
}

#[test]
fn programs_that_are_no_tensors_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let mut bomb = b"\x80\x02]q\0".to_vec();
    // Each list holds the last one twice: read as a tree it would have 2^200 leaves.
    for level in 0..200u8 {
        bomb.extend([b'(', b'h', level, b'h', level, b't', b'q', level + 1]);
    }
    bomb.push(b'.');
    let mut deep = b"\x80\x02".to_vec();
    deep.extend(vec![b'('; 1000]);
    let mut endless = b"\x80\x02".to_vec();
    endless.extend(vec![b'N'; 5 << 20]);
    let mut gaps = b"\x80\x02N".to_vec();
    gaps.extend(b"r\xff\xff\xff\xff");
    for n in (0..200u32).rev() {
        gaps.push(b'r');
        gaps.extend((n * 1000).to_le_bytes());
    }
    let cases: [(&[u8], &str); 18] = [
        (b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.", "wants to call os.system"),
        (b"\x80\x02cposix\nsystem\n.", "wants to call posix.system"),
        (b"\x80\x02cbuiltins\neval\n.", "wants to call builtins.eval"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor\n.", "wants to call torch._utils._rebuild_tensor"),
        (b"\x80\x02ctorch\nload\n.", "wants to call torch.load"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "wants to call os.system"),
        (b"\x80\x02X\x01\0\0\0x)R.", "calls what is no function"),
        (b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.", "calls what is no function"),
        (b"\x80\x02(X\x01\0\0\0xios\nsystem\n.", "instruction 0x69"),
        (b"\x80\x02]}b.", "sets the state of an object"),
        (b"\x80\x02)\x81.", "instruction 0x81"),
        (b"\x80\x02K\x01", "is cut off"),
        (b"\x80\x02R.", "empty stack"),
        (b"\x80\x02h\x07.", "recalls value 7"),
        (&deep, "too many lists inside each other"),
        (&endless, "more than 4194304 values"),
        (&gaps, "without order"),
        (&bomb, "no dictionary of tensors"),
    ];
    for (pickle, word) in cases {
        let err = open(place.path(), &zip(&[("a/data.pkl", pickle)]));
        assert!(err.contains(word), "{word}: {err}");
    }
}

#[test]
fn broken_archives_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let good = zip(&[("a/data.pkl", &one_tensor(2, 0, &[2], &[1])), ("a/data/0", &[0; 8])]);
    assert_eq!(open(place.path(), &good), "good");
    for cut in [0, 3, 30, good.len() / 2, good.len() - 1] {
        let err = open(place.path(), &good[..cut]);
        assert!(err.contains("not a usable file"), "{cut}: {err}");
    }
    // The last value of the storage, found by its checksum.
    let at = good.windows(8).position(|w| w == b"a/data/0").unwrap() + 8;
    let mut damaged = good.clone();
    damaged[at] = 1;
    assert!(open(place.path(), &damaged).contains("does not fit its checksum"));
    // The size of the storage in the directory.
    let at = good.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    let mut forged = good.clone();
    forged[at + 20..at + 28].copy_from_slice(&[0xf0, 0xff, 0xff, 0x7f, 0xf0, 0xff, 0xff, 0x7f]);
    assert!(open(place.path(), &forged).contains("lies outside the file"));
    let mut packed = good;
    packed[at + 10] = 8;
    assert!(open(place.path(), &packed).contains("compressed"));
}

/// As [`zip`], with the sizes, places and counts of ZIP64, which archives beyond 4 GB have.
fn zip64(entries: &[(&str, &[u8])]) -> Vec<u8> {
    zip64_from(0, entries)
}

/// As [`zip64`], for bytes that lie behind `before` others.
fn zip64_from(before: u64, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let (at, size) = (before + out.len() as u64, data.len() as u64);
        let common = |extra: u16| {
            let mut common = vec![45, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            common.extend(crc(data).to_le_bytes());
            common.extend([0xff; 8]);
            common.extend((name.len() as u16).to_le_bytes());
            common.extend(extra.to_le_bytes());
            common
        };
        let sizes = [&1u16.to_le_bytes()[..], &16u16.to_le_bytes(), &size.to_le_bytes(), &size.to_le_bytes()].concat();
        out.extend([b"PK\x03\x04", common(20).as_slice(), name.as_bytes(), &sizes, data].concat());
        directory.extend([b"PK\x01\x02\x2d\0", common(28).as_slice(), &[0; 10], &[0xff; 4], name.as_bytes()].concat());
        directory.extend([&1u16.to_le_bytes()[..], &24u16.to_le_bytes(), &sizes[4..], &at.to_le_bytes()].concat());
    }
    let (start, size, count) = (before + out.len() as u64, directory.len() as u64, entries.len() as u64);
    out.extend(&directory);
    let end = before + out.len() as u64;
    out.extend([b"PK\x06\x06", &44u64.to_le_bytes()[..], &[45, 0, 45, 0], &[0; 8]].concat());
    out.extend([count, count, size, start].map(u64::to_le_bytes).concat());
    out.extend([b"PK\x06\x07", &[0; 4][..], &end.to_le_bytes(), &1u32.to_le_bytes()].concat());
    out.extend([b"PK\x05\x06", &[0; 4][..], &[0xff; 12], &[0; 2]].concat());
    out
}

#[test]
fn archives_with_64_bit_sizes_are_read_and_checked() {
    let place = tempfile::tempdir().unwrap();
    let pickle = one_tensor(2, 0, &[2], &[1]);
    let good = zip64(&[("a/data.pkl", &pickle), ("a/data/0", &[0, 0, 128, 63, 0, 0, 0, 64])]);
    assert_eq!(open(place.path(), &good), "good");
    let mut file = TorchFile::open(&place.path().join("x.bin")).unwrap();
    assert_eq!(file.read("w").unwrap().0.data, [1.0, 2.0]);
    // An entry of 5 GB in a file of some hundred bytes.
    let at = good.windows(8).rposition(|w| w == 8u64.to_le_bytes()).unwrap();
    let mut forged = good.clone();
    for at in [at - 8, at] {
        forged[at..at + 8].copy_from_slice(&(5u64 << 30).to_le_bytes());
    }
    let err = open(place.path(), &forged);
    assert!(err.contains("lies outside the file"), "{err}");
    for cut in [good.len() / 2, good.len() - 1, good.len() - 30] {
        let err = open(place.path(), &good[..cut]);
        assert!(err.contains("not a usable file"), "{cut}: {err}");
    }
    let err = open(place.path(), &zip64(&[("a/data.pkl", &pickle), ("a/data/0", &[0; 8]), ("a/data/0", &[1; 8])]));
    assert!(err.contains("same name"), "{err}");
}

/// The file has a hole, so that it takes no room on the disk.
#[cfg(target_os = "linux")]
#[test]
fn archives_beyond_4_gb_are_read() {
    use std::io::{Seek as _, SeekFrom, Write as _};
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("large.pt");
    let before = 5u64 << 30;
    let entries: [(&str, &[u8]); 2] =
        [("a/data.pkl", &one_tensor(2, 0, &[2], &[1])), ("a/data/0", &[0, 0, 128, 63, 0, 0, 0, 64])];
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"PK\x03\x04").unwrap();
    file.seek(SeekFrom::Start(before)).unwrap();
    file.write_all(&zip64_from(before, &entries)).unwrap();
    drop(file);
    let mut file = TorchFile::open(&path).unwrap();
    assert_eq!((file.names(), file.read("w").unwrap().0.data), (vec!["w".to_owned()], vec![1.0, 2.0]));
}
