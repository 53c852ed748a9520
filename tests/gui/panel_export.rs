//! The Export view.

use super::panel_support::{World, done, failed, finished, fresh, harness, opened};
use adamix::app::actions::Action;
use adamix::app::files::Purpose;
use adamix::app::panels::export::{ExportPanel, recipe};
use adamix::app::session::Session;
use adamix::artifact::export::recipe::Recipe;
use adamix::engine::fake_data;
use adamix::engine::protocol::{ExportDtype, ExportPlan, ExportTarget, MergePlan, Outcome, Subject};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::PathBuf;

fn show(session: Session) -> Harness<'static, World<ExportPanel>> {
    harness(session, ExportPanel::ui)
}

fn plan(targets: &[ExportTarget], dtype: ExportDtype) -> ExportPlan {
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
    h.state_mut().panel.set_dir(std::path::Path::new("/tmp/elsewhere"));
    h.run();
    h.get_by_label("Export").click();
    h.run();
    let mut wanted = plan(&[ExportTarget::Merged, ExportTarget::AdapterHub], ExportDtype::F32);
    wanted.dir = Some(PathBuf::from("/tmp/elsewhere"));
    assert_eq!(h.state_mut().take(), [Action::Export(Subject::Live, wanted)]);
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
    h.get_by_label("writing, loading afresh, proving");
    let reports = fake_data::exports(&plan(&[ExportTarget::Merged], ExportDtype::Bf16));
    h.state_mut().session.apply(done(req, Outcome::Exported(reports.clone())));
    h.run();
    h.get_by_label_contains("Passed: the files, loaded afresh");
    h.get_by_label("Predictions that changed\n0 of 64");
    h.get_by_label("Copy the hash of adapter.safetensors").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::Copy(reports[0].files[0].sha256.clone())]);
    h.get_by_label("Rounding of each tensor").click();
    h.run();
    h.get_by_label("layers.0.ffn.down.weight");
    assert!(h.query_by_label_contains("Earlier exports").is_none(), "the newest export is shown once");
}

#[test]
fn a_failed_certificate_names_the_tensor() {
    let mut reports = fake_data::exports(&plan(&[ExportTarget::Merged], ExportDtype::F32));
    reports[0].certificate.passed = false;
    reports[0].certificate.flipped = 3;
    reports[0].certificate.problems = vec!["layers.2.ffn.down.weight differs in 1 of 2048 values".to_owned()];
    let h = show(opened(|detail| detail.exports = reports));
    h.get_by_label("Earlier exports of this run (1)");
    h.get_by_label_contains("Failed: these files do not do what was seen on screen");
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
    assert_eq!(h.state_mut().take(), [Action::Export(Subject::Live, plan(&[ExportTarget::Merged], ExportDtype::F32))]);
}

#[test]
fn the_recipe_is_what_the_export_reads() {
    let sites = ["layers.0.ffn", "layers.1.ffn"].map(str::to_owned);
    let own = MergePlan::PerSite(vec![vec![0.5, 0.5], vec![1.0, 0.0]]);
    for plan in [MergePlan::Uniform, MergePlan::Global(vec![1.0, 3.0]), own] {
        let text = recipe::toml(&plan, 2, &sites, [2, 1]);
        let recipe = Recipe::from_toml(&text).unwrap();
        assert_eq!(recipe.num_experts, 2);
        assert_eq!(recipe.sites.len(), if plan == MergePlan::Uniform { 0 } else { 2 });
        if let Some(site) = recipe.sites.get("layers.0.ffn") {
            assert_eq!(site.up, [1.0]);
            assert!((site.down.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        }
    }
}
