//! `adamix inspect --consensus`, `--directions` and `--differences`: what the files of a trained run say about its experts.

use super::causes::trained;
use crate::support::cli::adamix;
use crate::support::place::Place;
use adamix::artifact::checkpoint;
use adamix::workflow::snapshot::Banks;
use serde_json::Value;

#[test]
fn the_files_of_a_run_say_how_its_experts_came_together() {
    let place = Place::new();
    let dir = trained(&place, |config| {
        config.eval.eval_steps = 8;
        config.eval.save_total_limit = 5;
    });
    let run = dir.path().to_str().unwrap();
    let ask = |more: &[&str]| adamix(&place.path(""), &[&["inspect", run], more].concat());
    let json = |more: &[&str]| -> Value { ask(&[more, &["--json"]].concat()).json().pop().unwrap() };
    let steps = checkpoint::list(&dir).unwrap();
    let last = *steps.last().unwrap();
    let banks = Banks::of_tensors(&checkpoint::read(&dir, last).unwrap().tensors).unwrap();
    let start = banks.at_start_of(&dir).unwrap();

    let found = json(&["--consensus"]);
    let wanted: Vec<u64> = std::iter::once(0).chain(steps.iter().copied()).collect();
    assert_eq!(found["steps"], serde_json::json!(wanted));
    assert_eq!((&found["experts"], &found["strangers"]), (&4.into(), &0.5.into()));
    let curves = found["banks"].as_array().unwrap();
    assert_eq!(curves.len(), 2, "the up side is shared");
    for (curve, site) in curves.iter().zip([0, 1]) {
        let values: Vec<f64> = curve["consensus"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        assert_eq!((values.len(), curve["side"].as_str()), (wanted.len(), Some("down")));
        assert_eq!(values.last().copied(), banks.sides[2 * site].consensus());
        assert!((values[0] - 0.5).abs() < 0.1, "strangers at the start: {values:?}");
        // A tiny network need not bring them together in 24 steps.
        assert!(values.iter().all(|q| (0.2..=1.0).contains(q)) && values[1] != values[0], "{values:?}");
    }

    let last = last.to_string();
    let at = |more: &[&str]| json(&[&["--checkpoint", &last], more].concat());
    let found = at(&["--directions"]);
    let directions = found["banks"].as_array().unwrap();
    assert_eq!(directions.len(), 4);
    let own = banks.directions(1, adamix::mixture::Side::Down).unwrap();
    let told = &directions[2];
    assert_eq!((&told["module"], &told["space"]), (&"layers.1.ffn".into(), &own.space.into()));
    let of = |value: &Value| value["effective_rank"].as_f64();
    assert_eq!(of(&told["experts"][3]), own.experts[3].as_ref().map(|s| s.effective_rank));
    assert_eq!(of(&told["mean_product"]), own.mean_product.as_ref().map(|s| s.effective_rank));
    assert_eq!(told["overlap"][1].as_f64(), own.overlap[1]);
    assert!(told["chance"]["overlap"].as_f64().unwrap() > 0.0);

    let found = at(&["--differences"]);
    let tensors = found["tensors"].as_array().unwrap();
    assert_eq!((tensors.len(), tensors[0].get("values")), (4, None));
    let found = at(&["--differences=layers.1.ffn.down.weight", "--cell", "1,3"]);
    let told = &found["tensors"][0];
    let (bank, begun) = (&banks.sides[2], &start.sides[2]);
    let index = bank.cols + 3;
    let weight = |bank: &adamix::analysis::expert_stats::HostBank, e: usize| bank.weights().nth(e).unwrap()[index];
    let number = |value: &Value| value.as_f64().unwrap() as f32;
    assert_eq!(number(&told["cell"]["weight"][2]), weight(bank, 2));
    assert_eq!(number(&told["cell"]["start"][2]), weight(begun, 2), "computed again from the seed");
    assert_eq!(number(&told["cell"]["mean"]), bank.mean()[index]);
    assert_eq!(number(&told["values"]["weight"][2][1][3]), weight(bank, 2));
    assert_eq!(number(&told["values"]["mean"][1][3]), bank.mean()[index]);

    for (arguments, words) in [
        (&["--consensus"][..], &["step 0", "layers.1.ffn.down", "nothing in common"][..]),
        (&["--directions"], &["effective / stable rank", "overlap of two experts' spans"]),
        (&["--differences"], &["|W - mean|", "layers.0.ffn.up.weight"]),
        (&["--differences=layers.0.ffn.down.weight", "--cell", "0,0"], &["row 0 column 0"]),
        (&[], &["consensus 0."]),
    ] {
        let printed = ask(arguments);
        for word in words {
            assert!(printed.done().contains(word), "{word} is missing: {}", printed.out);
        }
    }
    for (arguments, code, words) in [
        (&["--differences=layers.9.ffn.down.weight"][..], 1, "layers.0.ffn.down.weight"),
        (&["--differences=layers.0.ffn.down.weight", "--cell", "99,0"], 1, "counted from 0"),
        (&["--cell", "0,0"], 2, "--differences"),
        (&["--consensus", "--directions"], 2, "cannot be used with"),
        (&["--consensus", "--averages"], 2, "cannot be used with"),
    ] {
        let refused = ask(arguments);
        assert_eq!(refused.code, Some(code), "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains(words), "{arguments:?}: {}", refused.err);
    }
}

#[test]
fn a_run_without_experts_says_so() {
    let place = Place::new();
    let dir = trained(&place, |config| config.model.method = adamix::config::Method::HeadOnly);
    let run = dir.path().to_str().unwrap();
    for flag in ["--consensus", "--directions", "--differences"] {
        let refused = adamix(&place.path(""), &["inspect", run, flag]);
        assert_eq!(refused.code, Some(1), "{flag}: {}", refused.out);
        assert!(refused.err.contains("no experts"), "{flag}: {}", refused.err);
    }
}
