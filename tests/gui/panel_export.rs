//! The Export view.

use super::harness::panel;
use super::panel_support::{World, done, failed, finished, fresh, opened};
use crate::fake_engine::{data, studies};
use adamix::app::actions::Action;
use adamix::app::files::Purpose;
use adamix::app::panels::export::recipe;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::artifact::export::recipe::Recipe;
use adamix::config::{Method, MixtureConfig, MixtureKind, Task};
use adamix::protocol::{
    ExportPlan, ExportTarget, MergePlan, ModelQuery, NumberFormat, Outcome, RoundingPlan, RoundingReport, Study,
    StudyReport, Subject,
};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::PathBuf;

fn show(session: Session) -> Harness<'static, World> {
    panel(View::Export, session)
}

fn plan(targets: &[ExportTarget], dtype: NumberFormat) -> ExportPlan {
    ExportPlan { targets: targets.to_vec(), dtype, merge: MergePlan::Uniform, dir: None }
}

#[test]
fn without_a_run_it_says_what_to_do() {
    show(fresh()).get_by_label("Nothing to export yet");
}

#[test]
fn targets_and_destination_become_a_plan() {
    let mut h = show(finished());
    h.get_by_label_contains("Nothing of this run was exported yet");
    h.get_by_label("AdapterHub directory").click();
    h.run();
    h.get_by_label("Browse for destination").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::Pick(Purpose::ExportDir)]);
    h.state_mut().panel.export.set_dir(std::path::Path::new("/tmp/elsewhere"));
    h.run();
    h.get_by_label("Export").click();
    h.run();
    let mut wanted = plan(&[ExportTarget::Merged, ExportTarget::AdapterHub], NumberFormat::F32);
    wanted.dir = Some(PathBuf::from("/tmp/elsewhere"));
    assert_eq!(h.state_mut().take(), [Action::Query(Subject::Live, ModelQuery::Export(wanted))]);
}

#[test]
fn scores_of_imported_experts_are_the_merge_unless_another_is_chosen() {
    let lists = vec![vec![0.7, 0.1, 0.1, 0.1]; 4];
    let mut h = show(opened(|detail| detail.config.mixture.merge_weights = lists.clone()));
    let exported = |h: &mut Harness<'static, World>| {
        h.get_by_label("Export").click();
        h.run();
        let Some(Action::Query(_, ModelQuery::Export(plan))) = h.state_mut().take().pop() else {
            panic!("nothing was asked for")
        };
        plan.merge
    };
    let own = MergePlan::PerSite(lists.iter().map(|list| list.iter().map(|&w| w as f32).collect()).collect());
    assert_eq!(exported(&mut h), own);
    h.get_by_value("scores of the imported experts").click();
    h.run();
    h.get_by_label("uniform mean (the paper)").click();
    h.run();
    assert_eq!(exported(&mut h), MergePlan::Uniform);
}

#[test]
fn nothing_chosen_cannot_be_exported() {
    let mut h = show(finished());
    h.get_by_label("Merged adapter").click();
    h.run();
    h.get_by_label("Choose at least one of these.");
    h.get_by_label("Export").click();
    h.run();
    assert_eq!(h.state_mut().take(), []);
}

#[test]
fn a_passed_certificate_is_shown_and_copied() {
    let mut h = show(finished());
    let req = h.state_mut().session.next_request();
    h.state_mut().session.export.begin(req);
    h.run();
    h.get_by_label("writing, reading back, verifying");
    let reports = data::exports(&plan(&[ExportTarget::Merged], NumberFormat::Bf16));
    h.state_mut().session.apply(done(req, Outcome::Exported(reports.clone())));
    h.run();
    h.get_by_label_contains("Passed: the model read back from the files");
    h.get_by_label("Predictions that changed\n0 of 64");
    h.get_by_label("Copy the hash of adapter.safetensors").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::Copy(reports[0].certificate.files[0].sha256.clone())]);
    h.get_by_label("Rounding of each tensor").click();
    h.run();
    h.get_by_label("layers.0.ffn.down.weight");
    assert!(h.query_by_label_contains("Earlier exports").is_none(), "the newest export is shown once");
}

#[test]
fn a_failed_certificate_names_the_tensor() {
    let mut reports = data::exports(&plan(&[ExportTarget::Merged], NumberFormat::F32));
    reports[0].certificate.passed = false;
    reports[0].certificate.probe.flipped = 3;
    reports[0].certificate.problems = vec!["layers.2.ffn.down.weight differs in 1 of 2048 values".to_owned()];
    let h = show(opened(|detail| detail.exports = reports));
    h.get_by_label("Earlier exports of this run (1)");
    h.get_by_label_contains("Failed: the model read back from the files gives other outputs");
    h.get_by_label("layers.2.ffn.down.weight differs in 1 of 2048 values");
    h.get_by_label("Predictions that changed\n3 of 64");
}

#[test]
fn an_error_is_shown_and_the_button_stays() {
    let mut h = show(finished());
    let req = h.state_mut().session.next_request();
    h.state_mut().session.export.begin(req);
    h.state_mut().session.apply(failed(req, "no space left on the disk; free 2 MiB"));
    h.run();
    h.get_by_label("no space left on the disk; free 2 MiB");
    h.get_by_label("Export").click();
    h.run();
    assert_eq!(
        h.state_mut().take(),
        [Action::Query(Subject::Live, ModelQuery::Export(plan(&[ExportTarget::Merged], NumberFormat::F32)))]
    );
}

#[test]
fn the_recipe_is_what_the_export_reads() {
    let sites = ["layers.0.ffn", "layers.1.ffn"].map(str::to_owned);
    let own = MergePlan::PerSite(vec![vec![0.5, 0.5], vec![1.0, 0.0]]);
    let mixture = MixtureConfig { num_experts: 2, ..MixtureConfig::default() };
    for plan in MergePlan::methods(&mixture).into_iter().filter(|plan| !plan.is_weights()) {
        let recipe: Recipe = toml::from_str(&recipe::toml(&plan, &mixture, &sites, [2, 1])).unwrap();
        assert_eq!((recipe.method.as_str(), recipe.num_experts), (plan.method(), 2));
        assert!(recipe::describe(&plan, &mixture).contains(&plan.formula(&mixture)));
    }
    for plan in [MergePlan::Uniform, MergePlan::Global(vec![1.0, 3.0]), own] {
        let text = recipe::toml(&plan, &mixture, &sites, [2, 1]);
        let recipe: Recipe = toml::from_str(&text).unwrap();
        assert!(text.contains("method = \"average-of-factors\""));
        assert_eq!(recipe.num_experts, 2);
        assert_eq!(recipe.sites.len(), if plan == MergePlan::Uniform { 0 } else { 2 });
        if let Some(site) = recipe.sites.get("layers.0.ffn") {
            assert_eq!(site.up, [1.0]);
            assert!((site.down.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        }
    }
}

fn rounding(targets: &[ExportTarget], causes: bool) -> RoundingPlan {
    RoundingPlan { targets: targets.to_vec(), merge: MergePlan::Uniform, causes }
}

fn answer(h: &mut Harness<'static, World>, report: RoundingReport) {
    let req = h.state_mut().session.next_request();
    h.state_mut().session.studies.rounding.begin(req);
    h.state_mut().session.apply(done(req, Outcome::Studied(Box::new(StudyReport::Rounding(report)))));
    h.run();
}

#[test]
fn the_rounding_budget_is_asked_for_what_is_chosen() {
    let mut h = show(opened(|detail| {
        (detail.config.data.task, detail.config.mixture.kind) = (Task::Text, MixtureKind::Lora);
    }));
    for target in ["PEFT directory", "Whole model, GGUF", "Which layers cause it"] {
        h.get_by_label(target).click();
        h.run();
    }
    h.get_by_label("Measure the rounding").click();
    h.run();
    let subject = h.state().session.subject().unwrap();
    let study = Study::Rounding(rounding(&[ExportTarget::Merged, ExportTarget::Gguf], false));
    assert_eq!(
        h.state_mut().take(),
        [Action::Query(subject, ModelQuery::Study(study))],
        "one question for files with the same numbers"
    );
    let req = h.state_mut().session.next_request();
    h.state_mut().session.studies.rounding.begin(req);
    h.run();
    h.get_by_label("rounding");
    h.get_by_label("Cancel").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::CancelJob]);
    h.state_mut().session.apply(failed(req, "the base model is gone; put it back"));
    h.run();
    h.get_by_label("the base model is gone; put it back");
    for target in ["Merged adapter", "PEFT directory", "Whole model, GGUF"] {
        h.get_by_label(target).click();
        h.run();
    }
    h.get_by_label("Measure the rounding").click();
    h.run();
    assert_eq!(h.state_mut().take(), [], "without an export there is nothing to measure");
    let h = show(opened(|detail| detail.config.model.method = Method::HeadOnly));
    assert!(h.query_by_label("Measure the rounding").is_none());
}

#[test]
fn the_rounding_budget_shows_formats_verdicts_and_causes() {
    let mut h = show(finished());
    answer(&mut h, studies::rounding(&rounding(&[ExportTarget::Merged, ExportTarget::Gguf], true)));
    h.get_by_label("Merged module and head (adapter, PEFT, AdapterHub, GGUF adapter)");
    for (words, count) in [
        ("f32, f16 would pass the certificate, bf16 would not.", 1),
        ("f32, f16, q8_0 would pass the certificate, bf16 would not.", 1),
        ("kept", 5),
        ("lost", 2),
        ("0.7600 (-0.0040)", 2),
        ("3.1e-1", 2),
        ("Change by each part alone", 2),
        ("layer 3: 0.186", 2),
        ("classifier.dense: 0.0372", 2),
    ] {
        assert_eq!(h.query_all_by_label(words).count(), count, "{words}");
    }
    assert_eq!(h.query_all_by_label_contains("all at once change a logit by 0.310").count(), 2);
    h.get_all_by_label("f16").last().unwrap().click();
    h.run();
    assert!(h.query_all_by_label("layer 3: 0.000660").count() >= 1);
    h.get_by_label("What rounding does").click();
    h.run();
    h.get_by_label_contains("2^-12 of itself in f16");
}

#[test]
fn formats_that_cannot_hold_the_weights_say_so() {
    let mut h = show(finished());
    let mut report = studies::rounding(&rounding(&[ExportTarget::Merged], false));
    for format in &mut report.files[0].formats {
        (format.kept, format.scores) = (false, None);
        format.problem = Some("1e6 in tensor classifier.weight does not fit into F16".to_owned());
    }
    report.merge = MergePlan::Global(vec![1.0, 0.0, 0.0, 0.0]);
    answer(&mut h, report);
    h.get_by_label("None would pass the certificate: f32, f16, bf16.");
    assert_eq!(h.query_all_by_label("cannot be stored").count(), 3);
    h.get_by_label_contains("belong to another merge");
    assert!(h.query_by_label("Change by each part alone").is_none());
}
