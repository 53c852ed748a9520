//! `adamix eval` and `adamix merge`: measure a trained run, as a whole or merged with given weights.

pub(super) use super::opened::{about, dev_file, title, with_opened};
use super::results::{EvalResult, comparison, score_cells, score_columns, texts};
use super::{Done, args, out, rows, runs, score, usage};
use crate::analysis::verdict;
use crate::error::{Error, Result};
use crate::format;
use crate::protocol::MergePlan;
use crate::workflow::written_texts::{WritePlan, write_and_score};
use clap::{Arg, ArgMatches, Command};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

/// Answers shown side by side.
const SAMPLES: usize = 3;

pub(super) fn command() -> Command {
    Command::new("eval")
        .about("Measure a run: merged against random routes, single experts and their ensemble")
        .args(runs::arguments())
        .args([
            args::whole("random-routes", "R", 1..=1000)
                .help("Whole random routes to measure [default: as the run says]"),
            args::whole("generate", "N", 0..=1 << 32).num_args(0..=1).default_missing_value("0").help(
                "Of a language model: also write answers for the first N inputs (all without N) as base, merged and \
                     along a random route, and score them: BLEU, NIST, ROUGE-L, CIDEr, TER, chrF",
            ),
            args::whole("max-new-tokens", "N", 1..=1 << 20)
                .requires("generate")
                .default_value("128")
                .help("Longest answer, in tokens"),
            args::path("meteor-data", "DIR")
                .requires("generate")
                .help("Directory with METEOR 1.5's word lists, for METEOR too"),
            dev_file(),
            args::threads(),
        ])
        .args(rows::arguments())
}

pub(super) fn merge_command() -> Command {
    Command::new("merge")
        .about("Merge the experts of a run with given weights and measure the result beside the uniform mean")
        .args(runs::arguments())
        .args([weights_argument(), dev_file(), args::threads()])
}

/// `--weights`, shared with `export`.
pub(super) fn weights_argument() -> Arg {
    args::option("weights", "A,B,...")
        .allow_hyphen_values(true)
        .help("One weight for each expert, or with / between them one list for each layer [default: all equal, or the scores of imported experts]")
}

/// What `--weights` says; none where it is absent.
pub(super) fn merge_plan(matches: &ArgMatches) -> Result<Option<MergePlan>> {
    let Some(text) = matches.get_one::<String>("weights") else { return Ok(None) };
    let list = |list: &str| {
        let number = |item: &str| {
            let wrong =
                || format!("--weights {text:?}: {item:?} is not a number; give one for each expert, such as 1,1,0,0");
            item.trim().parse::<f32>().ok().filter(|weight| weight.is_finite()).ok_or_else(|| Error::config(wrong()))
        };
        list.split(',').map(number).collect::<Result<Vec<f32>>>()
    };
    let mut lists = text.split('/').map(list).collect::<Result<Vec<_>>>()?;
    Ok(Some(if lists.len() == 1 { MergePlan::Global(lists.remove(0)) } else { MergePlan::PerSite(lists) }))
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    if rows::wanted(matches) {
        return rows::run(matches);
    }
    let routes = args::given(matches, "random-routes");
    let lists = matches.get_one::<PathBuf>("meteor-data").map(|dir| score::word_lists(dir)).transpose()?;
    let plan = args::given(matches, "generate").map(|inputs| WritePlan {
        inputs,
        max_new_tokens: args::given(matches, "max-new-tokens").unwrap_or(128),
        samples: SAMPLES,
        word_lists: lists,
    });
    with_opened(matches, |opened| {
        let started = Instant::now();
        let report = opened.compare(routes.unwrap_or(opened.config.eval.random_routes))?;
        let written = plan.map(|plan| write_and_score(&opened.subject, &opened.config, &plan, &|_| true));
        let written = written.transpose()?;
        let seconds = started.elapsed().as_secs_f64();
        let result = EvalResult::new(&report, opened, seconds, written.as_ref());
        Ok(out::result(matches.get_flag("json"), &result, || {
            title(opened)?;
            comparison(&report)?;
            out::line(&verdict::verdict(&report, &[], &[]).text)?;
            written.as_ref().map_or(Ok(()), texts)
        })?)
    })
}

pub(super) fn merge(matches: &ArgMatches) -> Done {
    let plan = usage(merge_plan(matches))?;
    with_opened(matches, |opened| {
        let own = MergePlan::own(&opened.config.mixture);
        let scored = plan.is_none() && own != MergePlan::Uniform;
        let plan = plan.unwrap_or(own);
        let uniform = opened.merge(&MergePlan::Uniform)?;
        let weighed = if plan == MergePlan::Uniform { uniform.clone() } else { opened.merge(&plan)? };
        if matches.get_flag("json") {
            let result = json!({
                "merged": weighed.scores.primary,
                "uniform": uniform.scores.primary,
                "metric": weighed.metric,
                "weights": weighed.plan,
                "scores": weighed.scores,
                "uniform_scores": uniform.scores,
                "rows": weighed.rows,
                "minus_own": weighed.paired,
                "seconds": weighed.seconds,
                "run_dir": opened.dir.path(),
                "step": opened.weights.step,
                "checkpoint": opened.weights.checkpoint,
            });
            return Ok(out::json(&result)?);
        }
        let (names, titles) = score_columns(&uniform.scores, "");
        let mut rows = vec![out::row(format!("{} rows", format::count(uniform.rows)), titles)];
        let typed = matches.get_one::<String>("weights").map(|weights| format!("weights {weights}"));
        let typed = typed.or_else(|| scored.then(|| "the imported scores".to_owned()));
        for (label, report) in [(Some("uniform mean".to_owned()), &uniform), (typed, &weighed)] {
            rows.extend(label.map(|label| out::row(label, score_cells(&report.scores, &names))));
        }
        title(opened)?;
        out::table(&rows)?;
        if let Some(paired) = weighed.paired {
            let words = paired.describe(&weighed.metric, weighed.metric != "loss");
            out::line(&format!("less the run's own merge: {words}"))?;
        }
        Ok(())
    })
}
