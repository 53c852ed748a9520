//! The texts and tables of a report.

use super::page::Page;
use crate::analysis::verdict::{self, Grade};
use crate::artifact::{TOOL, utc};
use crate::config::command_line::{command_line, quoted};
use crate::config::{RunConfig, keys};
use crate::figure::{Cell, Table};
use crate::format;
use crate::machine::facts;
use crate::protocol::{EndReason, HealthState, RunDetail, RunStatus};

/// Steps whose samples are shown: the first, some between, the last.
const SAMPLE_STEPS: usize = 5;

fn status(run: &RunDetail) -> &'static str {
    match run.summary.status {
        RunStatus::Running => "in training",
        RunStatus::Finished => "finished",
        RunStatus::Stopped => "stopped",
        RunStatus::Diverged => "diverged",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Damaged => "damaged",
    }
}

/// Name, outcome, notes.
pub fn head(page: &mut Page, run: &RunDetail) {
    let summary = &run.summary;
    page.title(summary.title());
    page.note(&format!(
        "{}; {} on {}; {}, step {} of {}; started {}; {} of training",
        summary.method,
        summary.model,
        summary.task,
        status(run),
        summary.step,
        summary.total_steps,
        format::date_time(summary.created),
        format::duration(summary.seconds)
    ));
    if summary.title() != summary.name {
        page.note(&format!("Directory: {}", summary.name));
    }
    if !summary.label.parent.is_empty() {
        let edge = if summary.label.edge.is_empty() { "no change" } else { &summary.label.edge };
        page.note(&format!("Made from {} ({edge})", summary.label.parent));
    }
    if !summary.label.tags.is_empty() {
        page.note(&format!("Tags: {}", summary.label.tags.join(", ")));
    }
    if !summary.label.notes.is_empty() {
        page.verbatim(&summary.label.notes);
    }
    if let Some(problem) = &summary.problem {
        page.verdict(false, problem);
    }
    outcome(page, run);
}

fn outcome(page: &mut Page, run: &RunDetail) {
    let Some(end) = &run.end else {
        return page.note("The record has no end: the run is still in training, or was interrupted.");
    };
    let (good, why) = match &end.reason {
        EndReason::Finished => (true, "Finished".to_owned()),
        EndReason::EarlyStopped => (true, "Stopped early, because the metric got no better".to_owned()),
        EndReason::Stopped(reason) => (true, format!("Stopped: {reason}")),
        EndReason::Diverged { step, last_checkpoint } => {
            let last = last_checkpoint.as_deref().unwrap_or("none was written");
            (false, format!("The loss was not finite at step {step}; last finite checkpoint: {last}"))
        }
    };
    page.verdict(good, &format!("{why} (step {}).", end.step));
    let Some(report) = &end.report else { return };
    let metric = format::metric;
    let step = format::count(end.weights_step());
    let mut words =
        format!("Merged model, weights after step {step}: {} {}", report.metric, metric(report.merged.primary));
    if !report.random.is_empty() {
        let band = report.random_band();
        words.push_str(&format!(
            "; {} {} on average ({} to {})",
            format::counted(report.random.len(), "random route"),
            metric(band.mean),
            metric(band.min),
            metric(band.max)
        ));
    }
    if report.majority.is_finite() {
        let what = if report.base.is_some() { "the base model" } else { "always the same answer" };
        words.push_str(&format!("; {what} {}", metric(report.majority)));
    }
    page.text(&format!("{words}; {}.", format::counted(report.rows, "evaluation row")));
    let judged = verdict::verdict(report, &[], &run.evals);
    page.verdict(judged.grade != Grade::Doubtful, &judged.text);
}

/// Those that differ from the defaults first.
pub fn settings(page: &mut Page, run: &RunDetail) {
    page.section("Settings");
    let table = |rows: Vec<(&'static keys::Key, String)>| {
        let mut table = Table::new(["setting", "key", "value", "default"]);
        for (key, value) in rows {
            table.push([key.help.into(), key.path.into(), value.into(), key.default_text().into()]);
        }
        table
    };
    match keys::differences(&run.config, &RunConfig::default()) {
        Ok(changed) => {
            page.part(&format!("Other than the default ({})", changed.len()));
            page.table(&table(changed.clone()));
            let is_changed = |key: &keys::Key| changed.iter().any(|(other, _)| other.path == key.path);
            let rest = keys::KEYS.iter().filter(|key| !is_changed(key));
            let rest: Vec<_> = rest.map(|key| (key, keys::get(&run.config, key.path).unwrap_or_default())).collect();
            page.folded(&format!("All others ({})", rest.len()), |page| page.table(&table(rest)));
        }
        Err(err) => page.verdict(false, &err.to_string()),
    }
}

/// What was known of the data and the model at the start.
pub fn data(page: &mut Page, run: &RunDetail) {
    page.section("Data and model");
    let (start, config) = (&run.start, &run.config);
    let mut table = Table::new(["", "value"]);
    let mut push = |name: &str, value: Cell| {
        if value != Cell::Empty && value != Cell::Text(String::new()) {
            table.push([name.into(), value]);
        }
    };
    let text = |n: usize| Cell::Text(format::count(n));
    push("Task", run.summary.task.as_str().into());
    push("Data directory", config.data.path.as_str().into());
    push("Training file", config.data.train_file.as_str().into());
    push("Evaluation file", config.data.dev_file.as_str().into());
    push("Training rows", text(start.train_rows));
    push("Evaluation rows", text(start.eval_rows));
    push("Labels", start.labels.join(", ").into());
    push("Deciding metric", start.metric.as_str().into());
    push("Base model", config.model.path.as_str().into());
    push("Its parameters, frozen", text(start.trunk_parameters));
    push("Trained parameters, all experts", text(start.trained_parameters));
    push("Of these, the head's", text(start.head_parameters));
    push("Left after merging, without the head", text(start.merged_parameters));
    push("Adapted modules", text(start.sites.len()));
    push("Experts, down and up", Cell::Text(format!("{} and {}", start.experts[0], start.experts[1])));
    push("Steps in an epoch", start.steps_per_epoch.into());
    page.table(&table);
}

/// Every evaluation.
pub fn evaluations(page: &mut Page, run: &RunDetail) {
    let Some(first) = run.evals.first() else { return };
    page.section("Evaluations of the merged model");
    let names: Vec<&str> =
        first.merged.named().into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect();
    let mut table = Table::new(["step", "epoch"].into_iter().chain(names.iter().copied()).chain(["best so far"]));
    for eval in &run.evals {
        let named = eval.merged.named();
        let values = named.iter().filter(|(name, _)| names.contains(name)).map(|(_, value)| (*value).into());
        let best = if eval.best { "yes" } else { "" };
        table.push([eval.step.into(), eval.epoch.into()].into_iter().chain(values).chain([best.into()]));
    }
    page.table(&table);
}

/// What a language model wrote.
pub fn samples(page: &mut Page, run: &RunDetail) {
    if run.samples.is_empty() {
        return;
    }
    page.section("Samples");
    let last = run.samples.len() - 1;
    let mut steps: Vec<usize> = (0..SAMPLE_STEPS).map(|i| i * last / (SAMPLE_STEPS - 1)).collect();
    steps.dedup();
    let inputs = run.samples[last].samples.len();
    for input in 0..inputs {
        let Some(asked) = run.samples[last].samples.get(input) else { continue };
        page.part(&format!("Input {}", input + 1));
        page.verbatim(&asked.prompt);
        let mut table = Table::new(["step", "who", "text"]);
        table.push(["".into(), "reference".into(), asked.reference.as_str().into()]);
        for &step in &steps {
            let record = &run.samples[step];
            let Some(sample) = record.samples.get(input) else { continue };
            table.push([record.step.to_string().into(), "merged".into(), sample.merged.as_str().into()]);
            if let Some(random) = &sample.random {
                table.push(["".into(), "random route".into(), random.as_str().into()]);
            }
        }
        page.table(&table);
    }
}

/// How many tensors learn, and those that do not.
pub fn gradient_health(page: &mut Page, run: &RunDetail) {
    let Some(first) = run.gradient_health.first() else { return };
    page.section("Gradient health");
    let count = |state| run.gradient_health.iter().filter(|health| health.state == state).count();
    page.text(&format!(
        "After step {}: {} of {} learn, {} were not drawn yet, {} without gradient or change, {} change too fast.",
        first.step,
        count(HealthState::Learning),
        format::counted(run.gradient_health.len(), "tensor"),
        count(HealthState::NotDrawn),
        count(HealthState::Dead),
        count(HealthState::Exploding)
    ));
    let mut table = Table::new(["tensor", "expert", "gradient", "change"]);
    let bad = run.gradient_health.iter().filter(|h| matches!(h.state, HealthState::Dead | HealthState::Exploding));
    for health in bad {
        let (gradient, change) = (health.max_abs_grad.into(), health.update_ratio.into());
        table.push([health.tensor.as_str().into(), health.expert.into(), gradient, change]);
    }
    if !table.rows.is_empty() {
        page.table(&table);
    }
}

/// What was exported, and the proof of each.
pub fn certificates(page: &mut Page, run: &RunDetail) {
    page.section("Exports and certificates");
    if run.exports.is_empty() {
        return page.note("Nothing was exported into the run's directory.");
    }
    for export in &run.exports {
        let certificate = &export.certificate;
        page.part(&format!("{}, {}", export.target.info().title, export.dtype.as_str()));
        let verdict = if certificate.passed { "Passed" } else { "Failed" };
        let probe = &certificate.probe;
        let delta = probe.max_abs_delta.map_or_else(|| "unknown".to_owned(), format::scientific);
        let words = if probe.rows > 0 {
            format!(
                "{verdict}: read back, the largest difference of a logit on {} is {delta} (allowed {}); {} changed.",
                format::counted(probe.rows, "probe row"),
                format::scientific(probe.tolerance),
                format::counted(probe.flipped, "prediction")
            )
        } else {
            format!("{verdict}: read back and compared tensor by tensor.")
        };
        page.verdict(certificate.passed, &words);
        certificate.problems.iter().for_each(|problem| page.verdict(false, problem));
        page.note(&format!("{}; {}; {}", export.dir.display(), certificate.created, certificate.tool));
        let mut table = Table::new(["file", "bytes", "SHA-256"]);
        for file in &certificate.files {
            table.push([file.name.as_str().into(), file.bytes.into(), file.sha256.as_str().into()]);
        }
        page.table(&table);
    }
}

/// Where it ran, and how to do it again.
pub fn environment(page: &mut Page, run: &RunDetail) {
    page.section("Environment and commands");
    let mut table = Table::new(["", "value"]);
    let machine = facts::machine();
    let memory = machine.memory.map_or_else(|| "not known here".to_owned(), format::bytes);
    table.push(["Trained on".into(), run.start.device.as_str().into()]);
    table.push(["Threads".into(), run.start.threads.into()]);
    table.push(["Report written by".into(), TOOL.into()]);
    table.push(["Report written at".into(), utc::stamp(utc::now()).into()]);
    let here = format!("{}, {}, {} cores, {memory}", machine.system, machine.processor, machine.cores);
    table.push(["Report written on".into(), here.into()]);
    page.table(&table);
    let dir = quoted(&run.summary.dir.display().to_string());
    page.part("The same run again");
    page.verbatim(&command_line(&run.config));
    page.part("Other commands for this run");
    let resume = if run.summary.resumable { format!("\nadamix resume {dir}") } else { String::new() };
    let commands = format!("adamix inspect {dir}\nadamix eval {dir}\nadamix export {dir} --target merged{resume}");
    page.verbatim(&commands);
    if !run.log.is_empty() {
        page.folded("Log", |page| page.verbatim(&run.log.join("\n")));
    }
}
