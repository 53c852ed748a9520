//! The command line as its users see it: the real binary, its output, its exit codes.

use crate::support::cli::{Ran, adamix};
use adamix::artifact::export::ExportTarget;
use adamix::artifact::run_list::RunStatus;
use adamix::config::{MixtureKind, Task};
use adamix::data::order::Order;
use adamix::rng::SeedStream;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs it where the home does not matter.
fn quick(arguments: &[&str]) -> Ran {
    adamix(tempfile::tempdir().unwrap().path(), arguments)
}

#[track_caller]
fn assert_refused(ran: &Ran, code: i32, needles: &[&str]) {
    assert_eq!(ran.code, Some(code), "stdout: {}\nstderr: {}", ran.out, ran.err);
    for needle in needles {
        assert!(ran.err.contains(needle), "{needle:?} is missing in: {}", ran.err);
    }
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}

fn last_json(ran: &Ran) -> Value {
    serde_json::from_str(ran.out.lines().last().unwrap_or_else(|| panic!("no output; stderr: {}", ran.err))).unwrap()
}

const COMMANDS: [&str; 19] = [
    "train", "resume", "eval", "merge", "try", "export", "inspect", "compare", "data", "generate", "models", "score",
    "bench", "doctor", "queue", "capsule", "open", "report", "window",
];

#[test]
fn help_lists_all_commands_and_each_explains_itself() {
    let help = quick(&["--help"]);
    assert_eq!(help.code, Some(0));
    for command in COMMANDS {
        assert!(help.out.contains(&format!("  {command} ")), "{command} is missing in: {}", help.out);
        let own = quick(&[command, "--help"]);
        assert_eq!(own.code, Some(0), "{}", own.err);
        assert!(own.out.contains("Usage: adamix"), "{}", own.out);
        assert!(own.out.contains("--json"), "{command} has no --json");
    }
    let version = quick(&["--version"]);
    assert!(version.out.starts_with(concat!("adamix ", env!("CARGO_PKG_VERSION"))), "{}", version.out);
}

#[test]
fn training_help_explains_every_setting_with_its_default_and_the_papers_value() {
    let help = quick(&["train", "--help"]).out;
    for key in adamix::config::keys::KEYS {
        assert!(help.contains(&format!("--{}", key.flag)), "--{} is missing", key.flag);
    }
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("Decoupled weight decay, not on biases and norms. Values: 0 to 1. Default: 0.1. Paper: 0.1.")
    );
}

#[test]
fn wrong_usage_ends_with_code_2_and_says_what_is_right() {
    assert_refused(&quick(&["trian"]), 2, &["trian", "train"]);
    assert_refused(&quick(&["train", "--learning-rat", "1e-3"]), 2, &["--learning-rat", "--learning-rate"]);
    assert_refused(&quick(&["train", "--learning-rate", "fast"]), 2, &["--learning-rate \"fast\" is not a number"]);
    assert_refused(&quick(&["train", "--learning-rate", "-1"]), 2, &["learning_rate is -1", "above 0"]);
    assert_refused(&quick(&["train", "--routing", "lottery"]), 2, &["per-batch, per-example"]);
    assert_refused(&quick(&["train", "--batch-size", "0"]), 2, &["batch_size is 0", "1 to 65536"]);
    assert_refused(&quick(&["train", "--preset", "sst3"]), 2, &["sst3", "lab"]);
    assert_refused(&quick(&["train", "--task", "custom"]), 2, &["train_file"]);
    assert_refused(&quick(&["train", "--task", "rte"]), 2, &["no data directory"]);
    let foreign = ["train", "--task", "sst2", "--data", "glue", "--train-file", "mini.tsv"];
    assert_refused(&quick(&foreign), 2, &["--train-file does not belong to task sst2", "task custom or text"]);
    assert_refused(
        &quick(&["train", "--lab", "--lora-rank", "8"]),
        2,
        &["--lora-rank does not belong to kind adapter"],
    );
    assert_refused(&quick(&["train", "--lab", "surplus"]), 2, &["surplus"]);
    assert_refused(&quick(&["resume"]), 2, &["RUN"]);
    assert_refused(&quick(&["resume", "small", "--device", "moon"]), 2, &["moon", "auto, cpu, cuda, gpu"]);
}

#[test]
fn a_run_file_sets_and_a_flag_overrides() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("run.toml");
    fs::write(&file, "[model]\npath = \"lab\"\n[train]\nlearning_rate = 1e-4\nmax_steps = 7\n[eval]\neval-steps = 3\n")
        .unwrap();
    let ran = adamix(home.path(), &["train", "-c", "run.toml", "--max_steps", "9", "--dry-run", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let plan = last_json(&ran);
    assert_eq!(plan["settings"]["train"]["learning_rate"], 1e-4);
    assert_eq!(plan["settings"]["train"]["max_steps"], 9);
    assert_eq!(plan["settings"]["eval"]["eval_steps"], 3);
    assert_eq!(plan["total_steps"], 9);
    for number in ["trained_parameters", "merged_parameters", "memory_mb", "seconds", "tokens_per_step"] {
        assert!(plan[number].as_f64().unwrap() > 0.0, "{number}: {plan}");
    }
    assert!(!home.path().join(".local").exists(), "a dry run must write nothing");

    fs::write(&file, "[train]\nlearning_rat = 1e-4\n").unwrap();
    let ran = adamix(home.path(), &["train", "-c", "run.toml"]);
    assert_refused(&ran, 2, &["train.learning_rat", "line 2", "did you mean train.learning_rate", "run.toml"]);
    assert_refused(&adamix(home.path(), &["train", "-c", "absent.toml"]), 2, &["absent.toml"]);
}

#[test]
fn a_small_training_goes_through_every_command() {
    let home = tempfile::tempdir().unwrap();
    let small = "train --lab --json --max-steps 6 --batch-size 4 --eval-steps 3 --max-train-rows 40 --max-eval-rows 20 \
                 --random-routes 3 --name small --threads 1";
    let ran = adamix(home.path(), &small.split_whitespace().collect::<Vec<_>>());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let events: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((count("start"), count("step"), count("eval"), count("result")), (1, 6, 2, 1));
    let result = events.last().unwrap();
    for number in ["merged", "ensemble", "majority", "seconds", "tokens_per_s", "peak_rss_mb"] {
        assert!(result[number].is_f64(), "{number}: {result}");
    }
    for number in ["mean", "min", "max"] {
        assert!(result["random"][number].is_f64(), "{result}");
    }
    assert_eq!(result["fixed"].as_array().unwrap().len(), 4);
    let (trained, merged) =
        (result["trained_parameters"].as_u64().unwrap(), result["merged_parameters"].as_u64().unwrap());
    assert!(merged > 0 && trained > merged, "{result}");
    let run = Path::new(result["run_dir"].as_str().unwrap());
    assert!(run.starts_with(home.path()) && run.join("run.toml").exists(), "{result}");
    let run = run.to_str().unwrap();

    let eval = adamix(home.path(), &["eval", run, "--random-routes", "3", "--json"]);
    assert_eq!(eval.code, Some(0), "{}", eval.err);
    assert_eq!(last_json(&eval)["merged"], result["merged"], "evaluating the run again gives what training gave");
    let merge = adamix(home.path(), &["merge", "small", "--weights", "1,0,0,0", "--json"]);
    assert_eq!(merge.code, Some(0), "{}", merge.err);
    assert_eq!(last_json(&merge)["merged"], result["fixed"][0], "all weight on one expert is that expert");
    let export = adamix(home.path(), &["export", "small", "--target", "all", "--json"]);
    assert_eq!(export.code, Some(0), "{}\n{}", export.out, export.err);
    let exports = last_json(&export);
    let fits = |target: &ExportTarget| target.refusal(Task::Lab, MixtureKind::Adapter).is_none() && !target.is_whole();
    let targets = ExportTarget::all().filter(fits).count();
    assert!(targets >= 3 && exports["exports"].as_array().unwrap().len() == targets, "{exports}");
    assert!(exports["exports"].as_array().unwrap().iter().all(|export| export["passed"] == true), "{exports}");
    let inspect = adamix(home.path(), &["inspect", "small", "--json"]);
    assert_eq!(inspect.code, Some(0), "{}", inspect.err);
    let sites = last_json(&inspect);
    assert!(sites["routing"].as_array().is_some_and(|rows| !rows.is_empty()), "{sites}");
    let report = adamix(home.path(), &["report", "small", "--out", "small.html", "--json"]);
    assert_eq!(report.code, Some(0), "{}", report.err);
    let page = fs::read_to_string(home.path().join("small.html")).unwrap();
    assert_eq!(last_json(&report)["bytes"], page.len());
    assert!(page.contains("<h1>small</h1>") && page.contains("<svg") && !page.contains("<script"));
    let compare = adamix(home.path(), &["compare", "small", run, "--json"]);
    assert_eq!(compare.code, Some(0), "{}", compare.err);
    assert_eq!(last_json(&compare)["runs"].as_array().unwrap().len(), 2);
    let before = std::fs::read(Path::new(run).join("metrics.jsonl")).unwrap();
    let again = adamix(home.path(), &["resume", "small", "--json"]);
    assert_eq!(again.code, Some(0), "{}", again.err);
    assert!(again.err.contains("nothing is left to train"), "{}", again.err);
    for field in ["merged", "random", "fixed", "ensemble", "tokens_per_s", "steps", "run_dir"] {
        assert_eq!(last_json(&again)[field], result[field], "{field}");
    }
    assert_eq!(std::fs::read(Path::new(run).join("metrics.jsonl")).unwrap(), before, "the run was written again");
    for command in ["eval", "merge", "inspect", "compare"] {
        let ran = adamix(home.path(), &[command, "small"]);
        assert_eq!(ran.code, Some(0), "{command}: {}", ran.err);
        assert!(ran.out.lines().count() > 2, "{command}: {}", ran.out);
    }
}

#[test]
fn without_a_display_the_lab_is_trained_and_the_reason_is_said() {
    let home = tempfile::tempdir().unwrap();
    let ran = adamix(home.path(), &["--max-steps", "2"]);
    assert_refused(&ran, 2, &["--max-steps"]); // settings belong to `train`
    let ran = adamix(home.path(), &["window"]);
    assert_refused(&ran, 1, &["adamix train --lab"]);
    assert!(ran.err.contains("no display") || ran.err.contains("no window"), "{}", ran.err);
}

#[test]
fn a_model_that_is_not_there_or_broken_is_named() {
    let home = tempfile::tempdir().unwrap();
    let ran = adamix(home.path(), &["train", "--model", "no/such/model", "--task", "lab"]);
    assert_refused(&ran, 1, &["no/such/model"]);

    let model = home.path().join("broken");
    fs::create_dir(&model).unwrap();
    assert_refused(&adamix(home.path(), &["train", "--model", "broken"]), 1, &["config.json"]);
    fs::write(model.join("config.json"), "{ \"model_type\": \"bert\", ").unwrap();
    assert_refused(&adamix(home.path(), &["train", "--model", "broken"]), 1, &["config.json", "broken"]);
    fs::write(model.join("config.json"), "{ \"model_type\": \"t5\" }").unwrap();
    assert_refused(&adamix(home.path(), &["train", "--model", "broken"]), 1, &["t5"]);
    assert!(!home.path().join(".local").exists(), "a run that cannot start leaves no directory");
}

#[test]
fn data_that_cannot_be_used_is_named_with_file_and_line() {
    let home = tempfile::tempdir().unwrap();
    let train = |text: &str, more: &[&str]| {
        fs::write(home.path().join("own.tsv"), text).unwrap();
        let arguments = ["train", "--task", "custom", "--train-file", "own.tsv", "--max-steps", "1"];
        adamix(home.path(), &[&arguments, more].concat())
    };
    assert_refused(&train("", &[]), 1, &["own.tsv"]);
    assert_refused(&train("sentence\tlabel\n", &[]), 1, &["own.tsv"]);
    let rows = "sentence\tlabel\na fine film\tgood\na bad film\tbad\n";
    assert_refused(&train(rows, &["--text-column", "review"]), 1, &["review", "sentence"]);
    assert_refused(&train("sentence\tlabel\na fine film\tgood\nonly one cell\n", &[]), 1, &["own.tsv", "3"]);
    let ran = adamix(home.path(), &["train", "--task", "custom", "--train-file", "absent.tsv"]);
    assert_refused(&ran, 1, &["absent.tsv"]);
}

#[test]
fn the_data_preview_counts_labels_and_tokens() {
    let home = tempfile::tempdir().unwrap();
    let rows: String = (0..20).map(|i| format!("film number {i} is fine\t{}\n", ["bad", "good"][i % 2])).collect();
    fs::write(home.path().join("own.tsv"), format!("sentence\tlabel\n{rows}")).unwrap();
    let ran = adamix(home.path(), &["data", "--task", "custom", "--train-file", "own.tsv", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let preview = last_json(&ran);
    assert_eq!(preview["labels"], serde_json::json!(["bad", "good"]));
    let total = |split: &str| preview[split]["rows"].as_u64().unwrap();
    assert_eq!(total("train") + total("dev"), 20);
    assert!(preview["train"]["lengths"]["mean"].as_f64().unwrap() > 4.0, "{preview}");
    let ran = adamix(home.path(), &["data", "--task", "custom", "--train-file", "own.tsv"]);
    assert!(ran.out.contains("film number") && ran.out.contains("tokens:"), "{}", ran.out);
}

#[test]
fn commands_on_runs_name_what_is_missing() {
    let home = tempfile::tempdir().unwrap();
    for command in ["resume", "eval", "merge", "export", "inspect", "compare", "report"] {
        let ran = adamix(home.path(), &[command, "nothing-here"]);
        assert_refused(&ran, 1, &["nothing-here"]);
    }
    fs::create_dir(home.path().join("plain")).unwrap();
    assert_refused(&adamix(home.path(), &["eval", "./plain"]), 1, &["run.toml", "plain"]);
}

#[test]
fn the_doctor_reports_the_machine() {
    let home = tempfile::tempdir().unwrap();
    let ran = adamix(home.path(), &["doctor", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let findings = last_json(&ran);
    assert_eq!(findings["version"], env!("CARGO_PKG_VERSION"));
    assert!(findings["cores"].as_u64().unwrap() >= 1);
    assert!(findings["gemm_gflops"].as_f64().unwrap() > 0.1, "{findings}");
    assert_eq!(findings["runs_dir_writable"], true);
    assert_eq!(findings["display"], Value::Null);
    let gpus = findings["gpus"].as_array().unwrap();
    assert_eq!(gpus.iter().map(|gpu| gpu["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["cuda", "gpu"]);
    for gpu in gpus.iter().filter(|gpu| gpu["built"] == false) {
        assert!(gpu["problem"].as_str().unwrap().contains("build"), "{gpu}");
    }
    fs::write(home.path().join("file"), "in the way").unwrap();
    let ran = adamix(home.path(), &["doctor", "--runs-dir", "file/runs"]);
    assert!(ran.out.contains("problem: runs cannot be written"), "{}", ran.out);
}

#[test]
fn the_selftest_says_which_kernels_were_compared_and_names_a_gpu_it_cannot_use() {
    let ran = quick(&["doctor", "--selftest", "--device", "cuda:999"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let warning = ran.out.lines().next().unwrap();
    assert!(warning.starts_with("warning: device cuda:999 cannot be used: "), "{warning}");
    assert!(ran.out.contains("device: CPU") && ran.out.contains("attention, heads of 64"), "{}", ran.out);
    assert!(ran.out.contains("checks agree up to rounding"), "{}", ran.out);
    assert_refused(&quick(&["doctor", "--selftest", "--device", "npu"]), 2, &["npu", "cuda:1"]);
    assert_refused(&quick(&["doctor", "--device", "cpu"]), 2, &["--selftest"]);
    assert_refused(&quick(&["train", "--device", "npu"]), 2, &["--device", "npu", "cuda:1"]);
}

#[test]
fn the_selftest_checks_every_kernel_and_both_losses_in_every_format() {
    let report = quick(&["doctor", "--selftest", "--device", "cpu", "--json"]).json().pop().unwrap();
    let checks = report["checks"].as_array().unwrap();
    let kernels = [
        "gelu",
        "gelu (tanh)",
        "relu",
        "swish",
        "tanh",
        "dropout",
        "layer norm",
        "loss of classes",
        "loss of values",
        "linear",
        "linear with gelu",
        "attention, heads of 64",
        "attention, heads of 32 with dropout",
        "attention, heads of 20",
        "attention of first tokens",
        "mixture, one expert a pass",
        "mixture, one expert a token",
        "AdamW, gradient norm",
        "training, losses of 6 steps",
        "RMS norm",
        "residual add, layer norm again",
        "norm of queries and keys",
        "SwiGLU",
        "gated gelu (tanh)",
        "rotary positions",
        "rotary positions, interleaved",
        "causal attention, 9 heads on 3",
        "causal attention, heads of 128",
        "LoRA, one expert a pass",
        "LoRA, one expert a token",
        "loss over a vocabulary",
        "loss over a vocabulary, not detached",
        "scores over a vocabulary",
        "language model, losses of 6 steps",
        "writing, scores of 80 steps",
    ];
    let found: Vec<(&str, &str)> =
        checks.iter().map(|check| (check["kernel"].as_str().unwrap(), check["format"].as_str().unwrap())).collect();
    let wanted: Vec<(&str, &str)> =
        kernels.iter().flat_map(|kernel| ["f32", "bf16", "f16"].map(|format| (*kernel, format))).collect();
    assert_eq!(found, wanted);
    assert!(checks.iter().all(|check| check["passed"] == true), "{report}");
}

#[test]
fn a_run_that_diverges_says_where_its_last_finite_weights_are() {
    let home = tempfile::tempdir().unwrap();
    // The gradient of this row's label does not fit into f32; it is the fourth that is drawn.
    let (seed, rows) = (7u64, 6);
    let bad = Order::new(SeedStream::new(seed), rows, 1).rows(3)[0];
    let row = |i: usize| format!("film number {i}\t{}\n", if i == bad { "3e38".to_owned() } else { format!("0.{i}") });
    fs::write(home.path().join("own.tsv"), format!("sentence\tlabel\n{}", (0..rows).map(row).collect::<String>()))
        .unwrap();
    fs::write(home.path().join("dev.tsv"), "sentence\tlabel\na film\t0.1\nanother film\t0.2\n").unwrap();
    let train = format!(
        "train --task custom --train-file own.tsv --dev-file dev.tsv --problem regression --batch-size 1 --max-steps 6 \
         --save-steps 1 --eval-steps 2 --threads 1 --runs-dir runs --name bad --seed {seed}"
    );
    let ran = adamix(home.path(), &train.split_whitespace().collect::<Vec<_>>());
    assert_refused(
        &ran,
        1,
        &["not finite at step 4", "the last finite weights are in", "checkpoint-3", "--learning-rate"],
    );
    let run = home.path().join("runs/bad");
    assert!(run.join("checkpoint-3").is_dir() && !run.join("checkpoint-4").exists());
    let listed = adamix::workflow::runs::summary(&run);
    assert_eq!((listed.status, listed.step, listed.resumable), (RunStatus::Diverged, 3, false));
    let log = fs::read_to_string(run.join("events.log")).unwrap();
    assert!(log.contains("not finite") && log.contains("checkpoint-3"), "{log}");
}

#[test]
fn a_run_on_a_gpu_that_is_not_there_goes_on_on_the_cpu_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let run = ["train", "--max-steps", "2", "--max-train-rows", "64", "--max-eval-rows", "16"];
    let more = ["--device", "cuda:999", "--dtype", "bf16", "--runs-dir", "runs", "--name", "one"];
    let ran = adamix(home.path(), &[&run[..], &more[..]].concat());
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    for text in [&ran.err, &fs::read_to_string(home.path().join("runs/one/events.log")).unwrap()] {
        assert!(text.contains("device cuda:999 cannot be used: ") && text.contains("computing on the CPU"), "{text}");
    }
    let settings = fs::read_to_string(home.path().join("runs/one/run.toml")).unwrap();
    assert!(settings.contains("device = \"cuda:999\"") && settings.contains("dtype = \"bf16\""), "{settings}");
    assert!(ran.err.contains("CPU, bf16"), "{}", ran.err);
}

#[cfg(unix)]
#[test]
fn without_a_command_and_a_display_the_lab_runs_until_it_is_interrupted() {
    use std::io::{BufRead as _, BufReader};
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_adamix"));
    command.env("HOME", home.path()).env_remove("XDG_DATA_HOME").env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    let reason = lines.next().unwrap();
    assert!(reason.contains("no display") || reason.contains("no window"), "{reason}");
    assert!(reason.contains("lab"), "{reason}");
    let plan = lines.next().unwrap();
    assert!(plan.contains("steps on 4,000 rows"), "{plan}");
    let signal = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("adamix resume")), "{rest:?}");
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adamix"));
    let mut child = command.args(["train", "--help"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
