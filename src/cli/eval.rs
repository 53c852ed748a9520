//! `adamix eval` and `adamix merge`: measure a trained run, as a whole or merged with given weights.

pub(super) use super::opened::{about, dev_file, title, with_opened};
use super::results::{EvalResult, comparison, score_cells, score_columns, texts};
use super::{Done, args, out, rows, runs, score, usage};
use crate::analysis::verdict;
use crate::artifact::named_merges;
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::format;
use crate::protocol::{MergePlan, MergeReport};
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
        .about("Merge the experts of a run in one of several ways and measure the result beside the uniform mean")
        .args(runs::arguments())
        .args(merge_arguments())
        .args([
            dev_file(),
            args::threads(),
            args::option("save", "NAME")
                .help("Keep this merge under a name in the run's directory, for --method named:NAME"),
        ])
}

/// `--weights` and `--method`, shared with `export`.
pub(super) fn merge_arguments() -> [Arg; 2] {
    [
        args::option("weights", "A,B,...")
            .allow_hyphen_values(true)
            .help("One weight for each expert, or with / between them one list for each layer [default: all equal, or the scores of imported experts]"),
        args::option("method", "METHOD")
            .conflicts_with("weights")
            .help("Another way of merging: soup, fisher, ties, dare, wide, budget:WIDTH or fitted")
            .long_help(METHODS),
    ]
}

const METHODS: &str = "Another way of merging than a mean with given weights:
  uniform: the mean of factors, the paper's
  soup: greedy soup; whole experts, in the order of their own evaluation loss, while the loss falls
  fisher[:ROWS]: Fisher-weighted mean, from gradients on that many training rows [256]
  ties[:DENSITY]: TIES; trim the changes since the start to that share, elect signs, mean of those that agree [0.2]
  dare[:DROP[:SEED]]: DARE; drop changes since the start with this probability, rescale the others [0.5, 0]
  wide: all experts side by side in one module: the exact mean of their outputs, of bottleneck or rank M r
  wide:all: the same of all M x M pairs of down- and up-projections
  budget:WIDTH[:ROWS]: the wide module pruned to that many hidden units, by what they contribute on training rows [256]
  named:NAME: the merge that was kept under this name in the run's directory
  fitted[:ROWS]: one module of r fitted to the wide one's outputs on training rows [256]";

/// What `--weights` or `--method` says; none where both are absent.
pub(super) fn merge_plan(matches: &ArgMatches) -> Result<Option<MergePlan>> {
    if let Some(method) = matches.try_get_one::<String>("method").ok().flatten() {
        if let Some(name) = method.strip_prefix("named:") {
            return named_merges::find(runs::open(matches)?.path(), name).map(Some);
        }
        return method.parse().map(Some).map_err(|err: Error| Error::config(format!("--method: {err}")));
    }
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

/// What a way of merging computed, and what it cost beside the score.
fn method_lines(report: &MergeReport, config: &RunConfig) -> Result<()> {
    let (plan, mixture) = (&report.plan, &config.mixture);
    if plan.is_weights() {
        return Ok(());
    }
    out::line(&format!("\n{}: {}", plan.method(), plan.formula(mixture)))?;
    let cost = plan.cost(mixture);
    let parts = [
        (cost.evaluations, "passes over the evaluation rows"),
        (cost.forwards, "training rows forward"),
        (cost.backwards, "training rows backward"),
        (cost.fit_steps, "optimiser steps a module"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", format::count(*n))).collect();
    if !parts.is_empty() {
        out::line(&format!("cost: at most {}", parts.join(", ")))?;
    }
    if let Some(weights) = &report.found {
        let list: Vec<String> = weights.iter().map(|weight| format!("{weight:.3}")).collect();
        out::line(&format!("weights found: {}", list.join(",")))?;
    }
    Ok(())
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
        let kept = matches.get_one::<String>("save");
        let uniform = opened.merge(&MergePlan::Uniform)?;
        let weighed = if plan == MergePlan::Uniform { uniform.clone() } else { opened.merge(&plan)? };
        if let Some(name) = kept {
            named_merges::change(opened.dir.path(), name, Some(weighed.plan.clone()))?;
        }
        if matches.get_flag("json") {
            let result = json!({
                "merged": weighed.scores.primary,
                "uniform": uniform.scores.primary,
                "metric": weighed.metric,
                "method": weighed.plan.method(),
                "weights": weighed.plan,
                "found_weights": weighed.found,
                "width": weighed.width,
                "parameters": weighed.parameters,
                "uniform_parameters": uniform.parameters,
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
        rows[0].extend(["width", "parameters"].map(str::to_owned));
        let typed = matches.get_one::<String>("weights").map(|weights| format!("weights {weights}"));
        let typed = typed.or_else(|| matches.get_one::<String>("method").cloned());
        let typed = typed.or_else(|| scored.then(|| "the imported scores".to_owned()));
        for (label, report) in [(Some("uniform mean".to_owned()), &uniform), (typed, &weighed)] {
            let cost = [report.width, report.parameters].map(format::count);
            rows.extend(
                label.map(|label| [out::row(label, score_cells(&report.scores, &names)), cost.to_vec()].concat()),
            );
        }
        title(opened)?;
        out::table(&rows)?;
        if let Some(paired) = &weighed.paired {
            let words = paired.describe(&weighed.metric, weighed.metric != "loss");
            out::line(&format!("less the run's own merge: {words}"))?;
        }
        Ok(method_lines(&weighed, &opened.config)?)
    })
}
