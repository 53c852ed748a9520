//! The commands of the program, and the window's thread, on a language model.

use crate::independence::Window;
use crate::support::cli;
use crate::support::texts::TextPlace;
use adamix::analysis::expert_stats::CosineOf;
use adamix::protocol::*;
use serde_json::Value;

/// Runs `adamix` in this place; what it printed as JSON, line by line.
#[track_caller]
pub fn adamix(place: &TextPlace, arguments: &[&str]) -> Vec<Value> {
    cli::adamix(&place.path(""), &[arguments, &["--json"]].concat()).json()
}

const TRAIN: &str = "train --model model --task text --train-file train.jsonl --dev-file dev.jsonl --kind lora \
                     --max-length 16 --num-experts 3 --lora-target all-linear --batch-size 8 --max-steps 12 \
                     --eval-steps 4 --learning-rate 2e-2 --random-routes 3 --threads 1 --device cpu --runs-dir runs \
                     --name texts";

#[test]
fn every_command_works_on_a_language_model() {
    let place = TextPlace::new("llama-tiny");
    let train: Vec<&str> = TRAIN.split_whitespace().collect();
    let plan = adamix(&place, &[&train[..], &["--dry-run"]].concat()).pop().unwrap();
    for number in ["trained_parameters", "merged_parameters", "memory_mb", "seconds", "tokens_per_step"] {
        assert!(plan[number].as_f64().unwrap() > 0.0, "{number}: {plan}");
    }
    assert_eq!((&plan["train_rows"], &plan["eval_rows"], &plan["total_steps"]), (&96.into(), &30.into(), &12.into()));
    // 96 texts of 7 or 8 tokens in batches of 8, twice.
    let tokens = plan["tokens_per_step"].as_f64().unwrap();
    assert!(!place.path("runs").exists(), "a dry run must write nothing");

    let events = adamix(&place, &train);
    let steps: Vec<f64> =
        events.iter().filter(|e| e["event"] == "step").map(|e| e["tokens"].as_f64().unwrap()).collect();
    assert_eq!(steps.len(), 12);
    assert!((steps.iter().sum::<f64>() / 12.0 - tokens).abs() < 0.1 * tokens, "{tokens} expected: {steps:?}");
    let result = events.last().unwrap();
    for number in ["merged", "ensemble", "majority", "base", "seconds", "tokens_per_s", "peak_rss_mb"] {
        assert!(result[number].as_f64().unwrap() > 0.0, "{number}: {result}");
    }
    for number in ["mean", "min", "max"] {
        assert!(result["random"][number].is_f64(), "{result}");
    }
    assert_eq!(result["fixed"].as_array().unwrap().len(), 3);
    assert_eq!((&result["majority"], &result["metric"]), (&result["base"], &"loss".into()));
    assert!(result["merged"].as_f64() < result["base"].as_f64(), "{result}");
    let (trained, merged) = (&result["trained_parameters"], &result["merged_parameters"]);
    assert!(trained.as_u64() > merged.as_u64() && merged.as_u64() > Some(0), "{result}");
    assert!(result["run_dir"].as_str().unwrap().ends_with("runs/texts"));
    let token = |report: &Value| report["merged"]["token_accuracy"].as_f64().unwrap();
    assert!(token(&result["report"]) > 0.0);

    let again = adamix(&place, &["resume", "runs/texts"]).pop().unwrap();
    assert_eq!(again["merged"], result["merged"], "a finished run says once more what came out");
    let eval = adamix(&place, &["eval", "runs/texts"]).pop().unwrap();
    assert_eq!((&eval["report"], &eval["base"]), (&result["report"], &result["base"]));
    std::fs::write(place.path("eval.json"), eval.to_string()).unwrap();
    let one = adamix(&place, &["merge", "runs/texts", "--weights", "1,0,0"]).pop().unwrap();
    assert_eq!(one["uniform"], result["merged"]);
    assert_ne!(one["merged"], one["uniform"]);
    let inspection = adamix(&place, &["inspect", "runs/texts"]).pop().unwrap();
    assert_eq!(inspection["routing"][0]["name"], "layers.0.self_attn.q_proj");
    assert!(inspection["experts"][0]["tensor"].as_str().unwrap().ends_with("lora_a.weight"));
    // The window shows the same cosines: those of the changes since the start.
    let (mut window, dir) = (Window::open(), place.path("runs/texts"));
    let subject = Subject::Saved { dir, checkpoint: Checkpoint::Last };
    let inspect = window.send(Command::Query { subject, query: ModelQuery::Inspect { site: 0, side: Side::Down } });
    let Ok(Outcome::Experts(shown)) = window.wait_for(inspect) else { panic!("no experts") };
    let sides: Vec<_> = shown.sides.iter().filter(|side| side.experts.len() > 1).collect();
    let printed = inspection["experts"].as_array().unwrap();
    assert_eq!((printed.len(), printed[0]["cosine_of"].as_str()), (sides.len(), Some("change")));
    for (printed, side) in printed.iter().zip(sides) {
        let rows = printed["cosine"].as_array().unwrap().iter();
        let cosine: Vec<f32> =
            rows.flat_map(|row| row.as_array().unwrap()).map(|c| c.as_f64().unwrap() as f32).collect();
        assert_eq!((&cosine, CosineOf::Change), (&side.cosine, side.cosine_of), "{}", printed["tensor"]);
    }
    let compared = adamix(&place, &["compare", "runs/texts", "eval.json"]).pop().unwrap();
    assert_eq!(compared["runs"][0]["report"], compared["runs"][1]["report"]);
    let data = adamix(&place, &["data", "--model", "model", "--text", "train.jsonl", "--dev-file", "dev.jsonl"]);
    assert!(data[0]["train"]["learned_tokens"].as_u64() > Some(0));
}

#[test]
fn people_read_it_as_a_table() {
    let place = TextPlace::new("gpt2-tiny");
    let run = |arguments: &[&str]| cli::adamix(&place.path(""), arguments).done().to_owned();
    let trained = run(&TRAIN.split_whitespace().collect::<Vec<_>>());
    for words in ["loss*", "perplexity", "token_accuracy", "base model, untrained", "expert 2 alone", "ensemble of 3"] {
        assert!(trained.contains(words), "{words:?} is missing in: {trained}");
    }
    assert!(!trained.contains("most frequent answer"), "{trained}");
    assert!(run(&["inspect", "runs/texts"]).contains("layers.1.mlp.c_fc.down"));
    let compared = run(&["compare", "runs/texts", "runs/texts"]);
    assert!(compared.contains("learned nothing"), "{compared}");
}

#[test]
fn the_windows_thread_trains_a_language_model() {
    let (place, mut window) = (TextPlace::new("llama-tiny"), Window::open());
    let config = place.config(12);
    let model = window.send(Command::PreviewModel(config.model.clone()));
    let Ok(Outcome::Model(info)) = window.wait_for(model) else { panic!("no model") };
    assert_eq!((info.family.as_str(), info.layers, info.hidden_size, info.vocab_size), ("Llama", 2, 16, 32));
    let data = window.send(Command::PreviewData(Box::new(config.clone())));
    let Ok(Outcome::Texts(preview)) = window.wait_for(data) else { panic!("no preview") };
    assert_eq!((preview.train.examples, preview.dev.examples), (96, 30));
    let preflight = window.send(Command::Preflight(Box::new(config.clone())));
    let Ok(Outcome::Preflight(report)) = window.wait_for(preflight) else { panic!("no report") };
    assert_eq!(
        (report.problems.len(), report.start.total_steps, report.start.train_rows),
        (0, 12, 96),
        "{:?}",
        report.problems
    );
    assert!(report.seconds.is_some() && report.start.trained_parameters > 0);

    window.engine.watch(Watch { routing: true, experts: Some((3, Side::Up)), ..Watch::default() });
    let start = window.start(&config);
    assert!(matches!(window.wait_for(start), Ok(Outcome::RunEnded(_))));
    assert_eq!(window.steps.iter().map(|bucket| bucket.n).sum::<u32>(), 12);
    let end = window.end().unwrap();
    assert!(end.report.as_ref().unwrap().base.is_some());
    let live = window.send(Command::Query { subject: Subject::Live, query: ModelQuery::Compare { random_routes: 3 } });
    let Ok(Outcome::Compared(report)) = window.wait_for(live) else { panic!("no comparison") };
    assert_eq!(Some(*report), end.report);
    let dir = window.dir();
    let saved = Subject::Saved { dir: dir.clone(), checkpoint: Checkpoint::Best };
    let merge = window.send(Command::Query { subject: saved.clone(), query: ModelQuery::Merge(MergePlan::Uniform) });
    let Ok(Outcome::Merged(merged)) = window.wait_for(merge) else { panic!("no merge") };
    assert_eq!(merged.scores, end.report.unwrap().merged);
    let inspect =
        window.send(Command::Query { subject: saved, query: ModelQuery::Inspect { site: 3, side: Side::Up } });
    let Ok(Outcome::Experts(experts)) = window.wait_for(inspect) else { panic!("no experts") };
    assert_eq!((experts.sites.len(), experts.sites[3].as_str()), (14, "layers.0.self_attn.o_proj"));
    let opened = window.send(Command::OpenRun(dir));
    let Ok(Outcome::Opened(detail)) = window.wait_for(opened) else { panic!("no run") };
    assert!(detail.routing.is_some() && detail.evals.iter().all(|eval| eval.merged.perplexity.is_some()));
}
