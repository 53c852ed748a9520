//! Bad connections, bad servers, full disks.

use super::{Shop, User, download};
use crate::support::hub::{Fault, git_sha, sha256};
use adamix::engine::transfer::{Transfer, TransferEvent};
use adamix::error::ErrorKind;
use adamix::model::HeaderReader;
use adamix::model_store::{ModelId, Stage};
use std::fs;
use std::time::Duration;

const WEIGHTS: &str = "model.safetensors";

/// Weights of some size: connections are to break in their middle.
fn large(shop: &Shop) -> Vec<u8> {
    let read = |name: &str| fs::read(shop.place.path("model").join(name)).unwrap();
    let weights: Vec<u8> = (0..700_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    let files = [("config.json", read("config.json")), ("vocab.txt", read("vocab.txt")), (WEIGHTS, weights.clone())];
    shop.server.put("tiny/large", 'f', &files);
    weights
}

fn part(shop: &Shop, weights: &[u8]) -> std::path::PathBuf {
    shop.repo("tiny/large").join("blobs").join(sha256(weights)).with_extension("part")
}

fn weight_bodies(shop: &Shop) -> Vec<u64> {
    shop.server.bodies().into_iter().filter(|(file, _)| file == WEIGHTS).map(|(_, from)| from).collect()
}

#[test]
fn a_broken_connection_goes_on_where_it_broke() {
    let shop = Shop::open();
    let weights = large(&shop);
    shop.server.fail(WEIGHTS, Fault::Break(1_000_000), 2);
    let mut user = User::default();
    let done = shop.get("tiny/large", &mut user).unwrap();
    assert_eq!(fs::read(done.path.join(WEIGHTS)).unwrap(), weights);
    let from = weight_bodies(&shop);
    assert!(from.len() == 3 && from[0] == 0 && from[1] > 0 && from[2] > from[1], "{from:?}");
    assert_eq!(user.waits, [Duration::from_secs(1); 2], "bytes came, so patience begins anew");
    let reason = user.told.iter().find_map(|told| match &told.stage {
        Stage::Waiting { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.unwrap().contains("broke off"));
    assert!(!part(&shop, &weights).exists());
}

#[test]
fn a_dead_connection_is_given_up_after_some_tries_and_the_next_download_goes_on() {
    let shop = Shop::open();
    let weights = large(&shop);
    shop.server.fail(WEIGHTS, Fault::Break(900_000), 1);
    shop.server.fail(WEIGHTS, Fault::Break(0), 100);
    let mut user = User::default();
    let err = shop.get("tiny/large", &mut user).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Network);
    assert!(err.to_string().contains(WEIGHTS) && err.to_string().contains("goes on where it stopped"), "{err}");
    assert_eq!(user.waits.iter().map(Duration::as_secs).collect::<Vec<_>>(), [1, 2, 4, 8]);
    let there = fs::metadata(part(&shop, &weights)).unwrap().len();
    assert!(there > 100_000 && there <= 900_000, "{there}");
    let cached = shop.hub().scan(&HeaderReader);
    assert!(
        cached.models[0].incomplete && cached.models[0].problem.as_ref().unwrap().contains("goes on"),
        "{cached:?}"
    );
    let missing = shop.hub().locate(&ModelId::parse("tiny/large").unwrap()).unwrap_err().to_string();
    assert!(missing.contains("adamix models download tiny/large"), "{missing}");
    shop.server.heal();
    shop.get("tiny/large", &mut User::default()).unwrap();
    assert_eq!(weight_bodies(&shop).last(), Some(&there));
}

#[test]
fn giving_up_in_the_middle_of_a_file_keeps_what_has_come() {
    let shop = Shop::open();
    let weights = large(&shop);
    let mut user = User { patience: Some(1_500_000), ..User::default() };
    let err = shop.get("tiny/large", &mut user).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Cancelled);
    let there = fs::metadata(part(&shop, &weights)).unwrap().len();
    assert!(there > 1_000_000 && there < weights.len() as u64, "{there}");
    assert!(!shop.repo("tiny/large").join("refs/main").exists(), "no name for half a model");
    let mut user = User::default();
    let done = shop.get("tiny/large", &mut user).unwrap();
    assert_eq!(fs::read(done.path.join(WEIGHTS)).unwrap(), weights);
    assert_eq!(weight_bodies(&shop), [0, there]);
    assert_eq!(user.told.last().unwrap().fetched, weights.len() as u64 - there, "only what was missing came");
}

#[test]
fn damaged_bytes_never_get_a_name() {
    let shop = Shop::open();
    let weights = large(&shop);
    shop.server.fail(WEIGHTS, Fault::Wrong, 1);
    let err = shop.refusal("tiny/large");
    assert!(err.contains("damaged") && err.contains("checksum") && err.contains("deleted"), "{err}");
    assert!(!part(&shop, &weights).exists() && !shop.repo("tiny/large").join("blobs").join(sha256(&weights)).exists());
    assert_eq!(shop.names("tiny/large", &format!("snapshots/{}", "f".repeat(40))), ["config.json", "vocab.txt"]);
    shop.get("tiny/large", &mut User::default()).unwrap();

    // The small files have Git's checksum.
    let shop = Shop::open();
    large(&shop);
    shop.server.fail("vocab.txt", Fault::Wrong, 1);
    assert!(shop.refusal("tiny/large").contains("vocab.txt has arrived damaged"));
    let vocab = fs::read(shop.place.path("model").join("vocab.txt")).unwrap();
    assert!(!shop.repo("tiny/large").join("blobs").join(git_sha(&vocab)).exists());
}

#[test]
fn what_is_there_of_a_file_is_not_believed() {
    let shop = Shop::open();
    let weights = large(&shop);
    let part = part(&shop, &weights);
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    for rubbish in [1000, weights.len(), weights.len() + 5] {
        fs::write(&part, vec![7u8; rubbish]).unwrap();
        let done = shop.get("tiny/large", &mut User::default()).unwrap();
        assert_eq!(fs::read(done.path.join(WEIGHTS)).unwrap(), weights, "{rubbish} bytes of rubbish");
        fs::remove_file(done.path.join(WEIGHTS)).unwrap();
        fs::remove_file(part.with_extension("")).unwrap();
    }
    // Killed between the last byte and the name.
    fs::write(&part, &weights).unwrap();
    let before = weight_bodies(&shop).len();
    shop.get("tiny/large", &mut User::default()).unwrap();
    assert_eq!(weight_bodies(&shop).len(), before, "it was whole");
    // A server that cannot go on in the middle of a file.
    let shop = Shop::open();
    let weights = large(&shop);
    shop.server.fail(WEIGHTS, Fault::Break(500_000), 1);
    shop.server.fail(WEIGHTS, Fault::NoRange, 2);
    let done = shop.get("tiny/large", &mut User::default()).unwrap();
    assert_eq!(fs::read(done.path.join(WEIGHTS)).unwrap(), weights);
}

#[test]
fn every_status_says_what_to_do() {
    let shop = Shop::open();
    for (status, words) in [(403, "terms"), (404, "check organisation"), (400, "HF_ENDPOINT")] {
        for path in ["/api/models/", WEIGHTS] {
            shop.server.fail(path, Fault::Status(status), 1);
            let err = shop.refusal("tiny/bert");
            assert!(err.contains(words) && err.contains(&status.to_string()), "{path}: {err}");
            shop.server.heal();
        }
    }
    assert!(shop.refusal("no/where").contains("404"));
    assert!(shop.refusal("tiny/bert@v9").contains("v9"));
    for (status, words) in [(429, "HF_TOKEN"), (503, "try again later"), (500, "try again later")] {
        let mut user = User::default();
        shop.server.fail("/api/models/", Fault::Status(status), 5);
        let err = shop.get("tiny/bert", &mut user).unwrap_err().to_string();
        assert!(err.contains(words) && err.contains(&status.to_string()), "{err}");
        assert_eq!(user.waits.len(), 4);
        shop.server.heal();
    }
    shop.server.fail("/api/models/", Fault::Status(429), 2);
    shop.server.fail(WEIGHTS, Fault::Status(503), 3);
    let mut user = User::default();
    shop.get("tiny/bert", &mut user).unwrap();
    assert_eq!(user.waits.len(), 5, "two for the list, three for the file");
}

#[test]
fn nobody_there_is_said_after_some_tries() {
    let shop = Shop::open();
    let mut hub = shop.hub();
    hub.endpoint = "http://127.0.0.1:1".to_owned();
    let mut user = User::default();
    let id = ModelId::parse("tiny/bert").unwrap();
    let err = download(&hub, &id, &mut user).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Network);
    assert!(err.to_string().contains("HF_ENDPOINT"), "{err}");
    assert_eq!(user.waits.len(), 4);
}

#[test]
fn a_server_that_is_no_hub_is_refused() {
    let shop = Shop::open();
    for etag in ["../../../evil", "a/b", "W/x", ""] {
        shop.server.fail(WEIGHTS, Fault::Etag(etag), 10);
        assert!(shop.refusal("tiny/bert").contains("its etag is"), "{etag}");
        shop.server.heal();
    }
    assert!(!shop.dir.path().join("evil.lock").exists() && !shop.dir.path().join("evil").exists());
    shop.server.claim("tiny/bert", WEIGHTS, 5);
    assert!(shop.refusal("tiny/bert").contains("it lists 5 bytes"));
}

#[test]
fn a_disk_without_room_is_said_before_and_in_the_middle() {
    let shop = Shop::open();
    let weights = large(&shop);
    let mut user = User { free: Some(1_000_000), ..User::default() };
    let err = shop.get("tiny/large", &mut user).unwrap_err().to_string();
    assert!(err.contains("needs 2.8 MB") && err.contains("1.0 MB left") && err.contains("HF_HUB_CACHE"), "{err}");
    assert!(shop.server.bodies().is_empty(), "nothing is fetched for a disk without room");
    #[cfg(target_os = "linux")]
    {
        let part = part(&shop, &weights);
        fs::create_dir_all(part.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/dev/full", &part).unwrap();
        let mut user = User::default();
        let err = shop.get("tiny/large", &mut user).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Io);
        assert!(err.to_string().contains("the disk is full") && err.to_string().contains("goes on"), "{err}");
        assert!(user.waits.is_empty(), "waiting makes no room");
    }
    drop(weights);
}

#[test]
fn two_programs_do_not_write_the_same_file() {
    let shop = Shop::open();
    let weights = large(&shop);
    let lock = part(&shop, &weights).with_extension("lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let err = shop.refusal("tiny/large");
    assert!(err.contains("another program is fetching model.safetensors"), "{err}");
    held.unlock().unwrap();
    shop.get("tiny/large", &mut User::default()).unwrap();
}

#[test]
fn a_silent_connection_is_closed_and_the_next_one_resumes() {
    let shop = Shop::open();
    let weights = large(&shop);
    shop.server.fail(WEIGHTS, Fault::Silence(800_000), 2);
    let id = ModelId::parse("tiny/large").unwrap();
    let mut hub = shop.hub();
    hub.read_timeout = Duration::from_millis(1500);
    let mut transfer = Transfer::start(&hub, id.clone()).unwrap();
    let mut reasons = Vec::new();
    let done = loop {
        match transfer.next(Duration::from_millis(50)) {
            Some(TransferEvent::Ended(done)) => break done.unwrap(),
            Some(TransferEvent::Progress(progress)) => {
                if let Stage::Waiting { reason, .. } = progress.stage {
                    reasons.push(reason);
                }
            }
            None => {}
        }
    };
    assert_eq!(fs::read(done.path.join(WEIGHTS)).unwrap(), weights);
    assert!(reasons.len() >= 2 && reasons[0].contains("has sent nothing"), "{reasons:?}");
    let from = weight_bodies(&shop);
    assert!(from.len() >= 3 && from[1] > 0 && from[2] > from[1], "{from:?}");

    // The user is never made to wait for it either.
    shop.hub().remove(&id).unwrap();
    shop.server.fail(WEIGHTS, Fault::Silence(800_000), 1);
    let mut transfer = Transfer::start(&shop.hub(), id).unwrap();
    let mut stopped = false;
    let err = loop {
        match transfer.next(Duration::from_millis(50)) {
            Some(TransferEvent::Ended(done)) => break done.unwrap_err(),
            Some(TransferEvent::Progress(progress)) if progress.fetched > 0 && !stopped => {
                stopped = true;
                transfer.stop();
            }
            _ => {}
        }
    };
    assert_eq!(err.kind(), ErrorKind::Cancelled);
}
