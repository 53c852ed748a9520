//! Models by name, against a hub on this machine: the whole way, and everything that goes wrong on it.

mod cache;
mod cli;
mod faults;
mod hostile;

use crate::support::hub::{HubServer, hub};
use crate::support::place::Place;
use adamix::error::{ErrorKind, Result};
use adamix::model::HeaderReader;
use adamix::model_store::{self, Client, DownloadProgress, Downloaded, Hub, ModelId, Stage, Watcher};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A cache, and a hub with the tiny encoder as `tiny/bert`.
struct Shop {
    dir: tempfile::TempDir,
    server: HubServer,
    place: Place,
}

impl Shop {
    fn open() -> Self {
        let (dir, server, place) = (tempfile::tempdir().unwrap(), HubServer::start(), Place::new());
        server.put_dir("tiny/bert", &place.path("model"));
        Self { dir, server, place }
    }

    fn hub(&self) -> Hub {
        self.hub_with("")
    }

    fn hub_with(&self, token: &str) -> Hub {
        hub(&self.dir.path().join("hub"), &self.server.endpoint, token)
    }

    fn repo(&self, name: &str) -> PathBuf {
        self.dir.path().join("hub").join(format!("models--{}", name.replace('/', "--")))
    }

    /// What lies in a directory of the cached repository.
    fn names(&self, repo: &str, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.repo(repo).join(below)).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.ends_with(".lock"));
        names.sort();
        names
    }

    fn get(&self, id: &str, user: &mut User) -> Result<Downloaded> {
        download(&self.hub(), &ModelId::parse(id).unwrap(), user)
    }

    #[track_caller]
    fn refusal(&self, id: &str) -> String {
        let mut user = User::default();
        self.get(id, &mut user).expect_err("it should be refused").to_string()
    }
}

fn download(hub: &Hub, id: &ModelId, user: &mut User) -> Result<Downloaded> {
    model_store::download(&Client::new(hub), id, &HeaderReader, user)
}

/// Somebody who waits for nothing.
#[derive(Default)]
struct User {
    told: Vec<DownloadProgress>,
    waits: Vec<Duration>,
    /// Gives up when so many bytes have come.
    patience: Option<u64>,
    free: Option<u64>,
}

impl Watcher for User {
    fn report(&mut self, progress: &DownloadProgress) -> bool {
        self.told.push(progress.clone());
        self.patience.is_none_or(|bytes| progress.fetched < bytes)
    }
    fn wait(&mut self, time: Duration) -> bool {
        self.waits.push(time);
        true
    }
    fn free_space(&self, _path: &Path) -> Option<u64> {
        self.free
    }
}

#[test]
fn a_model_comes_whole_with_what_belongs_to_it_and_is_found_without_the_network() {
    let shop = Shop::open();
    let mut user = User::default();
    let done = shop.get("tiny/bert", &mut user).unwrap();
    let commit = "a".repeat(40);
    assert_eq!((done.id.as_str(), &done.path), ("tiny/bert", &shop.repo("tiny/bert").join("snapshots").join(&commit)));
    assert_eq!(
        shop.names("tiny/bert", &format!("snapshots/{commit}")),
        ["config.json", "model.safetensors", "vocab.txt"]
    );
    assert_eq!(shop.names("tiny/bert", "refs"), ["main"]);
    assert_eq!(fs::read_to_string(shop.repo("tiny/bert").join("refs/main")).unwrap(), commit);
    for name in ["config.json", "model.safetensors", "vocab.txt"] {
        assert_eq!(fs::read(done.path.join(name)).unwrap(), fs::read(shop.place.path("model").join(name)).unwrap());
    }
    #[cfg(unix)]
    assert!(fs::read_link(done.path.join("model.safetensors")).unwrap().starts_with("../../blobs"));

    let last = user.told.last().unwrap();
    assert_eq!((last.number, last.files, last.done, last.share()), (3, 3, last.total, 1.0));
    assert_eq!((done.bytes, last.fetched), (last.total, last.total));
    assert!(user.told.iter().any(|told| told.stage == Stage::Verifying), "it was not checked");
    assert!(user.told.windows(2).all(|pair| pair[0].done <= pair[1].done), "progress goes one way");
    assert!(user.waits.is_empty());

    let asked = shop.server.requests().len();
    let found = shop.hub().locate(&ModelId::parse("tiny/bert").unwrap()).unwrap();
    assert_eq!(found, done.path);
    let cached = shop.hub().scan(&HeaderReader);
    assert_eq!(cached.models.len(), 1);
    let model = &cached.models[0];
    assert_eq!((model.id.as_str(), model.family.as_str(), model.problem.as_deref()), ("tiny/bert", "BERT", None));
    assert_eq!((model.bytes, model.incomplete, model.parameters > 1000), (done.bytes, false, true));
    assert_eq!(shop.server.requests().len(), asked, "looking at the cache needs no network");

    let bodies = shop.server.bodies().len();
    assert_eq!(shop.get("tiny/bert", &mut User::default()).unwrap(), done);
    assert_eq!(shop.server.bodies().len(), bodies, "what is there is not fetched again");
}

#[test]
fn a_newer_commit_takes_over_what_has_not_changed() {
    let shop = Shop::open();
    shop.get("tiny/bert", &mut User::default()).unwrap();
    let read = |name: &str| fs::read(shop.place.path("model").join(name)).unwrap();
    let (config, weights) = (read("config.json"), read("model.safetensors"));
    let vocab = [read("vocab.txt"), b"fresh\n".to_vec()].concat();
    shop.server.put("tiny/bert", 'b', &[("config.json", config), ("model.safetensors", weights), ("vocab.txt", vocab)]);
    let before = shop.server.bodies().len();
    let newer = shop.get("tiny/bert", &mut User::default()).unwrap();
    let fetched = shop.server.bodies().split_off(before);
    assert_eq!(fetched, [("vocab.txt".to_owned(), 0)]);
    assert!(newer.path.join("model.safetensors").is_file());
    assert_eq!(fs::read_to_string(shop.repo("tiny/bert").join("refs/main")).unwrap(), "b".repeat(40));
    let ids: Vec<String> = shop.hub().scan(&HeaderReader).models.into_iter().map(|model| model.id).collect();
    assert_eq!(ids, ["tiny/bert@aaaaaaaaaaaa", "tiny/bert"]);
    let old = shop.hub().locate(&ModelId::parse("tiny/bert@aaaaaaaaaaaa").unwrap()).unwrap();
    assert!(old.ends_with("a".repeat(40)));
}

#[test]
fn sharded_weights_come_with_their_index_and_gguf_files_alone() {
    let shop = Shop::open();
    let read = |name: &str| fs::read(shop.place.path("model").join(name)).unwrap();
    let index = |names: &[&str]| {
        let map: serde_json::Map<_, _> =
            names.iter().enumerate().map(|(i, name)| (format!("t{i}"), (*name).into())).collect();
        serde_json::json!({ "weight_map": map }).to_string().into_bytes()
    };
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let whole = [
        ("config.json", read("config.json")),
        ("vocab.txt", read("vocab.txt")),
        ("model.safetensors.index.json", index(&[one, two])),
        (one, read("model.safetensors")),
        (two, read("model.safetensors")),
    ];
    shop.server.put("tiny/shards", 'c', &whole);
    let done = shop.get("tiny/shards", &mut User::default()).unwrap();
    assert!(done.path.join(one).is_file() && done.path.join(two).is_file());
    shop.server.put("tiny/torn", 'c', &whole[..4]);
    assert!(shop.refusal("tiny/torn").contains("model-00002-of-00002.safetensors is missing"));

    let gguf = crate::support::gguf::file(&crate::support::gguf::byte_level("smollm", &[]), &[], 0);
    shop.server.put(
        "tiny/q",
        'd',
        &[("a-q4.gguf", gguf.clone()), ("a-q8.gguf", gguf.clone()), ("config.json", read("config.json"))],
    );
    let offer = shop.refusal("tiny/q");
    assert!(offer.contains("tiny/q:a-q4.gguf") && offer.contains("a-q8.gguf ("), "{offer}");
    let done = shop.get("tiny/q:a-q8.gguf", &mut User::default()).unwrap();
    assert_eq!((done.id.as_str(), fs::read(&done.path).unwrap()), ("tiny/q:a-q8.gguf", gguf));
    let models = shop.hub().scan(&HeaderReader).models;
    let model = models.iter().find(|model| model.id == "tiny/q:a-q8.gguf").unwrap();
    assert_eq!((model.family.as_str(), &model.problem), ("Llama", &None));
}

#[test]
fn a_model_that_cannot_be_used_is_refused_before_its_weights_are_fetched() {
    let shop = Shop::open();
    let weights = fs::read(shop.place.path("model").join("model.safetensors")).unwrap();
    shop.server.put(
        "tiny/t5",
        'e',
        &[("config.json", b"{\"model_type\":\"t5\"}".to_vec()), ("model.safetensors", weights)],
    );
    let err = shop.refusal("tiny/t5");
    assert!(err.contains("t5") && err.contains("weights were not fetched"), "{err}");
    assert_eq!(shop.server.bodies(), [("config.json".to_owned(), 0)]);
}

#[test]
fn the_token_goes_to_the_hub_and_opens_what_is_private() {
    let shop = Shop::open();
    shop.server.require("hf_secret");
    let err = shop.refusal("tiny/bert");
    assert!(err.contains("HF_TOKEN") && err.contains("401") && err.contains("/tiny/bert"), "{err}");
    let id = ModelId::parse("tiny/bert").unwrap();
    let wrong = download(&shop.hub_with("hf_wrong"), &id, &mut User::default()).unwrap_err();
    assert!(wrong.to_string().contains("does not accept the token"), "{wrong}");
    assert!(!wrong.to_string().contains("hf_wrong"), "a token in a message: {wrong}");
    download(&shop.hub_with("hf_secret"), &id, &mut User::default()).unwrap();
    let broken = download(&shop.hub_with("hf\nx"), &id, &mut User::default()).unwrap_err();
    assert!(broken.to_string().contains("HF_TOKEN"), "{broken}");
}

#[test]
fn offline_means_offline() {
    let shop = Shop::open();
    let mut hub = shop.hub();
    hub.offline = Some("HF_HUB_OFFLINE");
    let err = download(&hub, &ModelId::parse("tiny/bert").unwrap(), &mut User::default()).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Config);
    assert!(err.to_string().contains("HF_HUB_OFFLINE is set"), "{err}");
    assert!(shop.server.requests().is_empty());
}
