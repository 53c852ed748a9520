//! Servers that send what they should not, or send it where they should not.

use super::{Shop, User, download};
use crate::support::hub::{Fault, sha256};
use adamix::error::ErrorKind;
use adamix::model_store::ModelId;
use std::fs;

const WEIGHTS: &str = "model.safetensors";

fn weights(shop: &Shop) -> Vec<u8> {
    fs::read(shop.place.path("model").join(WEIGHTS)).unwrap()
}

fn part(shop: &Shop) -> std::path::PathBuf {
    shop.repo("tiny/bert").join("blobs").join(sha256(&weights(shop))).with_extension("part")
}

#[test]
fn more_bytes_than_announced_are_not_written() {
    let shop = Shop::open();
    for surplus in [1, 5_000_000] {
        shop.server.fail(WEIGHTS, Fault::Surplus(surplus), 1);
        let mut user = User::default();
        let err = shop.get("tiny/bert", &mut user).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Network);
        let announced = format!("announces {} bytes and sends more", weights(&shop).len());
        assert!(err.to_string().contains(&announced), "{err}");
        assert!(user.told.iter().all(|told| told.done <= told.total), "more than the whole was taken");
        assert!(user.waits.is_empty() && !part(&shop).exists(), "what came is of no use");
    }
    shop.get("tiny/bert", &mut User::default()).unwrap();
}

#[test]
fn a_server_without_ranges_sends_the_whole_file_again() {
    let shop = Shop::open();
    shop.server.fail(WEIGHTS, Fault::Break(20_000), 1);
    shop.server.fail(WEIGHTS, Fault::NoRange, 1);
    let mut user = User::default();
    let done = shop.get("tiny/bert", &mut user).unwrap();
    assert_eq!(fs::read(done.path.join(WEIGHTS)).unwrap(), weights(&shop));
    let from: Vec<u64> =
        shop.server.bodies().into_iter().filter(|(file, _)| file == WEIGHTS).map(|(_, from)| from).collect();
    assert!(from.len() == 2 && from[0] == 0 && from[1] > 0, "the rest was asked for: {from:?}");
    assert_eq!(user.waits.len(), 1);
    assert!(user.told.last().unwrap().fetched > done.bytes, "the beginning came twice");

    // One that breaks off each time as well is given up.
    let shop = Shop::open();
    shop.server.fail(WEIGHTS, Fault::BreakWhole(20_000), 1000);
    let mut user = User::default();
    let err = shop.get("tiny/bert", &mut user).unwrap_err().to_string();
    assert!(err.contains("broke off") && user.waits.len() == 4, "{err}: {:?}", user.waits);
}

#[test]
fn circles_of_redirects_end() {
    let shop = Shop::open();
    for (path, bodies) in [("/api/models/", 0), ("/resolve/", 0), ("/cdn/", 2)] {
        shop.server.fail(path, Fault::Loop, 1000);
        let before = shop.server.requests().len();
        let err = shop.refusal("tiny/bert");
        assert!(err.contains("redirects more than 8 times") && err.contains("HF_ENDPOINT"), "{path}: {err}");
        assert!(shop.server.requests().len() < before + 20 && shop.server.bodies().len() >= bodies);
        shop.server.heal();
    }
}

#[test]
fn the_token_never_reaches_another_host() {
    let shop = Shop::open();
    shop.server.require("hf_secret");
    let id = ModelId::parse("tiny/bert").unwrap();
    download(&shop.hub_with("hf_secret"), &id, &mut User::default()).unwrap();
    let (foreign, own): (Vec<_>, Vec<_>) =
        shop.server.requests().into_iter().partition(|request| request.path.starts_with("/cdn/"));
    assert!(!foreign.is_empty() && foreign.iter().all(|request| request.token.is_none()), "{foreign:?}");
    assert!(own.len() > 3 && own.iter().all(|request| request.token.as_deref() == Some("hf_secret")), "{own:?}");
}

#[test]
fn names_that_leave_their_directory_are_not_fetched() {
    let shop = Shop::open();
    let evil = [
        "../../evil.gguf",
        "/tmp/adamix-evil.gguf",
        "..\\evil.gguf",
        "C:evil.gguf",
        "C:\\evil.gguf",
        "a/../../evil.gguf",
        "./../evil.gguf",
        "x\0.gguf",
        "",
        "evil.gguf/",
    ];
    let gguf = b"GGUF".to_vec();
    let files: Vec<(&str, Vec<u8>)> = evil.iter().map(|name| (*name, gguf.clone())).collect();
    shop.server.put("tiny/evil", 'e', &files);
    let err = shop.refusal("tiny/evil");
    assert!(err.contains("neither config.json nor a GGUF file"), "{err}");
    shop.server.put("tiny/good", 'e', &[files, vec![("a b.gguf", gguf)]].concat());
    let done = shop.get("tiny/good", &mut User::default()).unwrap();
    assert!(done.path.ends_with(format!("snapshots/{}/a b.gguf", "e".repeat(40))), "{done:?}");
    assert_eq!(shop.server.bodies().len(), 1);

    // An index may name files as well.
    let read = |name: &str| fs::read(shop.place.path("model").join(name)).unwrap();
    let secret = shop.dir.path().join("secret.safetensors");
    fs::write(&secret, read(WEIGHTS)).unwrap();
    for name in ["../../../../secret.safetensors", secret.to_str().unwrap()] {
        let index = serde_json::json!({ "weight_map": { "x": name } }).to_string().into_bytes();
        let files = [
            ("config.json", read("config.json")),
            ("vocab.txt", read("vocab.txt")),
            ("model.safetensors.index.json", index),
            ("model-00001-of-00001.safetensors", read(WEIGHTS)),
        ];
        shop.server.put("tiny/index", 'e', &files);
        let err = shop.refusal("tiny/index");
        assert!(err.contains("is missing, which its index names"), "{err}");
        fs::remove_dir_all(shop.repo("tiny/index")).unwrap();
    }
}

#[test]
fn a_list_without_end_is_refused() {
    let shop = Shop::open();
    shop.server.fail("/api/models/", Fault::Long((32 << 20) + 1), 1);
    let mut user = User::default();
    let err = shop.get("tiny/bert", &mut user).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Network);
    assert!(err.to_string().contains("list of files is longer than 33 MB"), "{err}");
    assert!(user.waits.is_empty());
}
