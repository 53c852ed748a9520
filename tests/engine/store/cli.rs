//! `adamix models`, and training from a model by its name without a network.

use super::Shop;
#[cfg(unix)]
use crate::support::hub::Fault;
use serde_json::Value;
use std::fs;
use std::process::{Command, Output, Stdio};

fn command(shop: &Shop, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adamix"));
    let others: Vec<String> = std::env::vars()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("HF_") || name.to_lowercase().ends_with("_proxy"))
        .collect();
    for name in others {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(shop.dir.path()).stdin(Stdio::null()).env("HOME", shop.dir.path());
    command.env("HF_HUB_CACHE", shop.dir.path().join("hub")).env("HF_ENDPOINT", &shop.server.endpoint);
    command.env_remove("XDG_DATA_HOME").env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("RUST_LOG");
    command
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn adamix(shop: &Shop, arguments: &[&str]) -> Ran {
    ran(command(shop, arguments).output().unwrap())
}

#[test]
fn download_list_train_by_name_offline_and_remove() {
    let shop = Shop::open();
    let empty = adamix(&shop, &["models"]);
    assert_eq!((empty.code, empty.out.contains("no models in")), (Some(0), true), "{}", empty.err);
    let missing = adamix(&shop, &["models", "path", "tiny/bert"]);
    assert!(missing.code == Some(1) && missing.err.contains("adamix models download tiny/bert"), "{}", missing.err);

    let done = adamix(&shop, &["models", "download", "tiny/bert"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("--model tiny/bert"), "{}", done.out);
    assert!(done.err.contains("model.safetensors (3/3)"), "{}", done.err);
    let json = adamix(&shop, &["models", "download", "tiny/bert", "--json"]);
    let last: Value = serde_json::from_str(json.out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["id"]), (&"downloaded".into(), &"tiny/bert".into()));

    let list = adamix(&shop, &["models"]);
    assert!(list.out.contains("tiny/bert") && list.out.contains("BERT") && list.out.contains("labels"), "{}", list.out);
    let list: Value = serde_json::from_str(&adamix(&shop, &["models", "--json"]).out).unwrap();
    assert_eq!((&list["models"][0]["id"], &list["models"][0]["problem"]), (&"tiny/bert".into(), &Value::Null));
    let path = adamix(&shop, &["models", "path", "tiny/bert"]);
    assert!(path.out.trim_end().ends_with(&format!("snapshots/{}", "a".repeat(40))), "{}", path.out);

    // From here on nothing is fetched.
    let before = shop.server.requests().len();
    let text = |name: &str| shop.place.path(name).display().to_string();
    let (train, dev) = (text("train.csv"), text("dev.csv"));
    let settings = ["--task", "custom", "--train-file", &train, "--dev-file", &dev, "--max-length", "16"];
    let small =
        ["--max-steps", "4", "--adapter-size", "4", "--random-routes", "1", "--device", "cpu", "--runs-dir", "runs"];
    let arguments = [["train", "--model", "tiny/bert"].as_slice(), &settings, &small].concat();
    let trained = ran(command(&shop, &arguments).env("HF_HUB_OFFLINE", "1").output().unwrap());
    assert_eq!(trained.code, Some(0), "{}", trained.err);
    let run = fs::read_dir(shop.dir.path().join("runs")).unwrap().next().unwrap().unwrap().path();
    let name = run.file_name().unwrap().to_str().unwrap();
    assert!(name.contains("-bert-") && !name.contains("aaaa"), "{name}");
    let settings = fs::read_to_string(run.join("run.toml")).unwrap();
    assert!(settings.contains(&format!("path = \"tiny/bert@{}\"", "a".repeat(40))), "{settings}");
    let refused =
        ran(command(&shop, &["models", "download", "tiny/bert"]).env("HF_HUB_OFFLINE", "1").output().unwrap());
    assert!(refused.code == Some(1) && refused.err.contains("HF_HUB_OFFLINE is set"), "{}", refused.err);
    let absent = adamix(&shop, &["train", "--model", "tiny/absent", "--task", "custom", "--train-file", &train]);
    assert!(absent.err.contains("adamix models download tiny/absent"), "{}", absent.err);
    assert_eq!(shop.server.requests().len(), before, "nothing goes out unless it was asked for");

    // A newer commit does not change what the run was made from.
    let exported = adamix(&shop, &["export", run.to_str().unwrap(), "--target", "adapterhub"]);
    assert_eq!(exported.code, Some(0), "{}", exported.err);

    let asked = adamix(&shop, &["models", "remove", "tiny/bert"]);
    assert!(asked.code == Some(2) && asked.err.contains("--yes"), "{}", asked.err);
    let removed = adamix(&shop, &["models", "remove", "tiny/bert", "--yes"]);
    assert!(removed.code == Some(0) && removed.out.contains("removed tiny/bert"), "{}", removed.err);
    assert!(!shop.repo("tiny/bert").exists());
    let wrong = adamix(&shop, &["models", "download", "../x"]);
    assert!(wrong.code == Some(2) && wrong.err.contains("org/name"), "{}", wrong.err);
}

#[cfg(unix)]
#[test]
#[expect(unsafe_code, reason = "sends a signal to the child it has started")]
fn ctrl_c_leaves_a_part_to_go_on_from() {
    use std::io::{BufRead as _, BufReader};
    let shop = Shop::open();
    shop.server.fail("model.safetensors", Fault::Slow, 1);
    let arguments = ["models", "download", "tiny/bert"];
    let mut child = command(&shop, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let seen: Vec<String> = lines.by_ref().map_while(Result::ok).take_while(|line| !line.contains("3/3")).collect();
    // Not before something of the file has come: without it there is nothing to go on from.
    let blobs = shop.repo("tiny/bert").join("blobs");
    let begun =
        |name: &String| name.ends_with(".part") && fs::metadata(blobs.join(name)).is_ok_and(|part| part.len() > 0);
    while !shop.names("tiny/bert", "blobs").iter().any(begun) {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself: {seen:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // SAFETY: a signal to a process that this test has started and not yet waited for.
    let sent = unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert_eq!(sent, 0, "{seen:?}");
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("goes on from there")), "{rest:?}");
    let parts = shop.names("tiny/bert", "blobs").into_iter().filter(|name| name.ends_with(".part")).count();
    assert_eq!(parts, 1);
    let done = adamix(&shop, &arguments);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(shop.server.bodies().last().unwrap().1 > 0, "it began anew");
}
