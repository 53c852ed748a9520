//! The window over invented numbers: to look at it and to take screenshots without training.
//!
//! `cargo run --features testing --example window_demo -- [--picture FILE] [--view NAME] [--dark | --light] [--size 1280x800]
//! [--frames N] [--download NAME] [--start] [--pause] [--compare] [--merge] [--export] [--averages] [--rounding]
//! [--play] [--weights best|last|N] [--guided] [--help-page] [--own-file] [--queue] [--present] [--script] [--layouts]
//! [--open-palette] [--steps N] [--set KEY=VALUE] [--drop FILE] [--zoom X]
//! [--real]`; `--real` trains with the real engine. `RUST_LOG=info` logs the frame times.
#![expect(clippy::print_stderr, reason = "an example for developers")]

#[path = "../tests/support/fake_engine/mod.rs"]
#[expect(dead_code, reason = "the window's tests use the rest")]
mod fake_engine;

use adamix::app::actions::Action;
use adamix::app::session::Weights;
use adamix::app::settings::Appearance;
use adamix::app::view::Page;
use adamix::app::{Screenshot, WindowOptions, first_form, run};
use adamix::config::keys;
use adamix::engine::handle::EngineHandle;
use adamix::protocol::{
    EngineFactory, ExportPlan, ExportTarget, MergePlan, ModelQuery, NumberFormat, Pane, PlayPlan, RoundingPlan, Study,
    Subject, Writer,
};
use fake_engine::FakeEngine;
use std::path::PathBuf;

fn main() {
    env_logger::init();
    let mut screenshot = Screenshot::default();
    let (mut steps, mut take, mut real, mut guided) = (2, false, false, false);
    let query = |query| Action::Query(Subject::Live, query);
    let mut form = first_form();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_default();
        match arg.as_str() {
            "--picture" => {
                screenshot.file = Some(PathBuf::from(value()));
                take = true;
            }
            "--view" => screenshot.view = serde_json::from_value(value().into()).ok(),
            "--dark" => screenshot.appearance = Some(Appearance::Dark),
            "--light" => screenshot.appearance = Some(Appearance::Light),
            "--frames" => screenshot.frames = value().parse().unwrap_or(40),
            "--steps" => steps = value().parse().unwrap_or(2),
            "--start" => screenshot.actions.push(Action::StartRun),
            "--pause" => screenshot.actions.push(Action::Pause),
            "--open" => screenshot.actions.push(Action::OpenRun(PathBuf::from(value()))),
            "--weights" => {
                let chosen = value().parse().map(|checkpoint| Action::ChooseWeights(Weights::Saved(checkpoint)));
                screenshot.actions.extend(chosen.ok());
            }
            "--overlay" => screenshot.actions.push(Action::ToggleOverlay(PathBuf::from(value()))),
            "--compare" => screenshot.actions.push(query(ModelQuery::Compare { random_routes: 8 })),
            "--merge" => {
                let weights = MergePlan::Global(vec![0.5, 0.5, 0.0, 0.0]);
                screenshot.actions.push(query(ModelQuery::Merge(weights)));
            }
            "--export" => {
                let targets = vec![ExportTarget::Merged, ExportTarget::AdapterHub];
                let (dtype, merge) = (NumberFormat::Bf16, MergePlan::Uniform);
                let plan = ExportPlan { targets, dtype, merge, dir: None };
                screenshot.actions.push(query(ModelQuery::Export(plan)));
            }
            "--averages" => screenshot.actions.push(query(ModelQuery::Study(Study::Averages))),
            "--rounding" => {
                let targets = vec![ExportTarget::Merged, ExportTarget::Hf];
                let plan = RoundingPlan { targets, merge: MergePlan::Uniform, causes: true };
                screenshot.actions.push(query(ModelQuery::Study(Study::Rounding(plan))));
            }
            "--download" => screenshot.actions.push(Action::DownloadModel(value())),
            "--play" => {
                let panes = vec![Pane::Merged, Pane::Base, Pane::Expert(2), Pane::Route(0)];
                let plan = PlayPlan { prompt: "Where is Zizzi?".to_owned(), panes, ..PlayPlan::default() };
                screenshot.actions.push(Action::Play(Writer::Model(form.model.path.clone()), Box::new(plan)));
            }
            "--drop" => screenshot.actions.push(Action::Dropped(PathBuf::from(value()))),
            "--zoom" => screenshot.zoom = value().parse().unwrap_or(1.0),
            "--real" => real = true,
            "--set" => {
                let text = value();
                let (key, value) = text.split_once('=').unwrap_or((&text, ""));
                if let Err(err) = keys::set(&mut form, key, value) {
                    eprintln!("{err}");
                }
            }
            "--queue" => {
                screenshot.actions.extend([Action::AddToQueue, Action::AddToQueue]);
            }
            "--present" => screenshot.actions.push(Action::TogglePresenter),
            "--script" => screenshot.actions.push(Action::ToggleScript),
            "--layouts" => {
                screenshot.actions.push(Action::SaveLayout("lecture".to_owned()));
                screenshot.actions.push(Action::ToggleLayouts);
            }
            "--open-palette" => screenshot.actions.push(Action::TogglePalette),
            "--guided" => guided = true,
            "--help-page" => screenshot.actions.push(Action::ShowPage(Page::Help)),
            "--own-file" => screenshot.actions.push(Action::OwnFile),
            "--open-settings" => screenshot.actions.push(Action::ToggleSettings),
            "--open-shortcuts" => screenshot.actions.push(Action::ToggleShortcuts),
            "--size" => {
                let text = value();
                let mut parts = text.split('x').filter_map(|part| part.parse().ok());
                if let (Some(width), Some(height)) = (parts.next(), parts.next()) {
                    screenshot.size = [width, height];
                }
            }
            other => eprintln!("unknown argument {other}"),
        }
    }
    let options =
        WindowOptions { screenshot: take.then_some(screenshot), form: Some(form), guided, ..WindowOptions::default() };
    let demo: EngineFactory = Box::new(move |waker| Ok(Box::new(FakeEngine::demo(steps, Some(waker)).0)));
    let engine = if real { EngineHandle::factory() } else { demo };
    if let Err(err) = run(options, engine) {
        eprintln!("{err}");
        std::process::exit(1);
    }
}
