//! Looking into a cache that others have written, and removing from it.

use super::{Shop, User};
use crate::support::hub::hub;
use adamix::model::{HeaderReader, ModelSource};
use adamix::model_store::ModelId;
use std::fs;
use std::path::Path;

fn id(text: &str) -> ModelId {
    ModelId::parse(text).unwrap()
}

/// A cache as the hub's own tools write it.
fn snapshot(cache: &Path, repo: &str, commit: &str, files: &[(&str, &[u8])]) {
    let dir = cache.join(format!("models--{}", repo.replace('/', "--")));
    for below in ["refs", "blobs"] {
        fs::create_dir_all(dir.join(below)).unwrap();
    }
    fs::write(dir.join("refs/main"), commit).unwrap();
    for (name, bytes) in files {
        let pointer = dir.join("snapshots").join(commit).join(name);
        fs::create_dir_all(pointer.parent().unwrap()).unwrap();
        let blob = format!("{}{}", name.replace(['/', '.'], "-"), bytes.len());
        fs::write(dir.join("blobs").join(&blob), bytes).unwrap();
        #[cfg(unix)]
        {
            let up = "../".repeat(name.split('/').count() + 1);
            std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(&blob), &pointer).unwrap();
        }
        #[cfg(not(unix))]
        fs::copy(dir.join("blobs").join(&blob), &pointer).unwrap();
    }
}

#[test]
fn everything_is_listed_with_the_reason_why_it_cannot_be_used() {
    let shop = Shop::open();
    let cache = shop.dir.path().join("hub");
    let read = |name: &str| fs::read(shop.place.path("model").join(name)).unwrap();
    let (config, weights, vocab) = (read("config.json"), read("model.safetensors"), read("vocab.txt"));
    snapshot(
        &cache,
        "a/whole",
        "11",
        &[("config.json", &config), ("model.safetensors", &weights), ("vocab.txt", &vocab)],
    );
    snapshot(&cache, "b/no-tokenizer", "22", &[("config.json", &config), ("model.safetensors", &weights)]);
    snapshot(&cache, "c/pickle", "33", &[("config.json", &config), ("pytorch_model.bin", b"x"), ("vocab.txt", &vocab)]);
    snapshot(&cache, "d/t5", "44", &[("config.json", b"{\"model_type\":\"t5\"}"), ("model.safetensors", &weights)]);
    snapshot(
        &cache,
        "e/cut",
        "55",
        &[("config.json", &config), ("model.safetensors", &weights[..99]), ("vocab.txt", &vocab)],
    );
    snapshot(&cache, "f/half", "66", &[("config.json", &config)]);
    fs::write(cache.join("models--f--half/blobs/abc.incomplete"), [0; 1000]).unwrap();
    snapshot(&cache, "g/gguf", "77", &[("x.gguf", b"GGUF")]);
    fs::create_dir_all(cache.join("datasets--a--b/snapshots/1")).unwrap();
    fs::create_dir_all(cache.join(".locks")).unwrap();
    fs::write(cache.join("version.txt"), "1").unwrap();
    fs::create_dir_all(cache.join("models--h--begun/blobs")).unwrap();
    fs::write(cache.join("models--h--begun/blobs/abc.part"), [0; 500]).unwrap();

    let cached = shop.hub().scan(&HeaderReader);
    let said: Vec<(&str, &str, bool)> = cached
        .models
        .iter()
        .map(|model| (model.id.as_str(), model.problem.as_deref().unwrap_or("fine"), model.incomplete))
        .collect();
    let expected = [
        ("a/whole", "fine", false),
        ("b/no-tokenizer", "no tokenizer", false),
        ("c/pickle", "pickle", false),
        ("d/t5", "t5", false),
        ("e/cut", "safetensors", false),
        ("f/half", "adamix models download f/half", true),
        ("g/gguf:x.gguf", "GGUF", false),
        ("h/begun", "adamix models download h/begun", true),
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for ((id, problem, incomplete), (want, words, want_incomplete)) in said.into_iter().zip(expected) {
        assert!(id == want && problem.contains(words) && incomplete == want_incomplete, "{id}: {problem}");
    }
    let bytes = |id: &str| cached.models.iter().find(|model| model.id == id).unwrap().bytes;
    assert_eq!((bytes("f/half"), bytes("h/begun")), (config.len() as u64 + 1000, 500));
    assert!(hub(Path::new("/no/such/cache"), "http://x", "").scan(&HeaderReader).models.is_empty());
}

#[test]
fn names_lead_to_snapshots_and_wrong_ones_to_advice() {
    let shop = Shop::open();
    let cache = shop.dir.path().join("hub");
    snapshot(&cache, "a/q", "1234567890", &[("x.gguf", b"GGUF"), ("y/z.gguf", b"GGUF2")]);
    let find = |text: &str| shop.hub().locate(&id(text)).map_err(|err| err.to_string());
    assert!(find("a/q:x.gguf").unwrap().ends_with("snapshots/1234567890/x.gguf"));
    assert!(find("a/q@1234567:y/z.gguf").unwrap().ends_with("y/z.gguf"));
    let several = find("a/q").unwrap_err();
    assert!(several.contains("a/q:x.gguf, a/q:y/z.gguf"), "{several}");
    for missing in ["a/q:w.gguf", "a/q@v2", "a/none", "gpt2"] {
        let err = find(missing).unwrap_err();
        assert!(err.contains(&format!("adamix models download {missing}")), "{err}");
    }
    // Paths come first, and a path that is no name stays a path.
    let own = shop.place.path("model").display().to_string();
    assert!(ModelSource::open(&own).is_ok());
    let err = ModelSource::open("/no/such/model").err().unwrap().to_string();
    assert!(err.contains("no such directory") && !err.contains("adamix models"), "{err}");
}

#[test]
fn removing_takes_what_was_named_and_nothing_that_others_need() {
    let shop = Shop::open();
    shop.get("tiny/bert", &mut User::default()).unwrap();
    let read = |name: &str| fs::read(shop.place.path("model").join(name)).unwrap();
    let files = [
        ("config.json", read("config.json")),
        ("model.safetensors", read("model.safetensors")),
        ("vocab.txt", [read("vocab.txt"), b"more\n".to_vec()].concat()),
    ];
    shop.server.put("tiny/bert", 'b', &files);
    shop.get("tiny/bert", &mut User::default()).unwrap();
    let hub = shop.hub();
    assert_eq!(shop.names("tiny/bert", "blobs").len(), 4);
    let freed = hub.remove(&id("tiny/bert@aaaaaaaaaaaa")).unwrap();
    assert!(freed >= read("vocab.txt").len() as u64, "{freed}");
    assert_eq!(shop.names("tiny/bert", "blobs").len(), 3, "shared files stay");
    assert!(ModelSource::open(hub.locate(&id("tiny/bert")).unwrap().to_str().unwrap()).is_ok());
    let freed = hub.remove(&id("tiny/bert")).unwrap();
    assert!(freed > 40_000 && !shop.repo("tiny/bert").exists());
    let again = hub.remove(&id("tiny/bert")).unwrap_err().to_string();
    assert!(again.contains("not on disk"), "{again}");

    let cache = shop.dir.path().join("hub");
    snapshot(&cache, "a/q", "12", &[("x.gguf", b"GGUF"), ("y.gguf", b"GGUF2")]);
    assert_eq!(hub.remove(&id("a/q:x.gguf")).unwrap(), 4);
    assert_eq!(
        hub.scan(&HeaderReader).models.iter().map(|model| model.id.as_str()).collect::<Vec<_>>(),
        ["a/q:y.gguf"]
    );
    hub.remove(&id("a/q:y.gguf")).unwrap();
    assert!(!cache.join("models--a--q").exists(), "nothing is left of it");
    #[cfg(unix)]
    {
        let elsewhere = shop.dir.path().join("precious");
        fs::create_dir_all(elsewhere.join("snapshots/1")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, cache.join("models--my--link")).unwrap();
        assert!(hub.remove(&id("my/link")).unwrap_err().to_string().contains("it is a link"));
        assert!(elsewhere.join("snapshots/1").is_dir());
    }
}
