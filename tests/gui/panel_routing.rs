//! The Routing view: the route map.

use super::harness::{ScriptedPicker, panel, window_over};
use super::panel_support::{World, done, failed, fresh, lab, opened, read_routes, trained};
use crate::fake_engine::data::distances;
use crate::fake_engine::{FakeEngine, data, routes, studies};
use adamix::app::WorkbenchApp;
use adamix::app::actions::Action;
use adamix::app::session::{Session, Weights};
use adamix::app::settings::Settings;
use adamix::app::view::View;
use adamix::config::{MixtureConfig, MixtureKind, RoutingPolicy, RunConfig};
use adamix::protocol::*;
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::PathBuf;
use std::sync::Arc;

fn show(session: Session) -> Harness<'static, World> {
    panel(View::Routing, session)
}

/// A run on disk whose draws are read.
fn read(change: impl FnOnce(&mut RunDetail)) -> Session {
    let mut session = opened(change);
    read_routes(&mut session);
    session
}

#[test]
fn without_a_run_it_says_what_to_do() {
    let mut h = show(fresh());
    h.get_by_label("No routes yet");
    h.get_by_label("Start").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::StartRun]);
}

#[test]
fn a_run_without_a_mixture_has_nothing_to_show() {
    let session = opened(|detail| detail.config.model.method = adamix::config::Method::HeadOnly);
    show(session).get_by_label("No mixture in this run");
}

#[test]
fn a_loaded_law_raises_the_alarm_and_names_the_place() {
    let (mut session, ..) = trained(lab(), 2, (0, Side::Down));
    let mut routing = data::routing(&lab().mixture, 120);
    routing.counts[6] = vec![120, 60, 30, 30];
    session.apply(Incoming::Routing(RunId(1), Arc::new(routing)));
    let h = show(session);
    h.get_by_label_contains("Not chance: layer 3 down, expert 0 has z +8.9");
}

/// A finished run of a language model with LoRA on seven matrices of each of four layers.
fn lora(change: impl FnOnce(&mut RoutingSnapshot)) -> Session {
    read(|detail| {
        detail.config.mixture.kind = MixtureKind::Lora;
        detail.config.mixture.sharing_up = false;
        let mut routing = data::routing(&detail.config.mixture, 60);
        change(&mut routing);
        detail.routing = Some(routing);
    })
}

#[test]
fn a_run_that_has_ended_has_nothing_to_watch() {
    let unusual = |routing: &mut RoutingSnapshot| routing.counts[6] = vec![46, 25, 25, 24];
    let (mut session, ..) = trained(lab(), 2, (0, Side::Down));
    let mut routing = data::routing(&lab().mixture, 60);
    routing.counts.iter_mut().step_by(2).for_each(|counts| *counts = vec![30; 4]);
    unusual(&mut routing);
    session.apply(Incoming::Routing(RunId(1), Arc::new(routing.clone())));
    let h = show(session);
    h.get_by_label_contains("Unusual, but possible");
    h.get_by_label_contains("Watch whether it decreases.");
    let h = show(opened(|detail| detail.routing = Some(routing)));
    h.get_by_label_contains("Unusual, but possible");
    assert!(h.query_by_label_contains("Watch whether").is_none());
}

#[test]
fn before_the_first_route_it_waits() {
    let (session, ..) = trained(lab(), 0, (0, Side::Down));
    show(session).get_by_label("No routes yet");
    let (mut session, ..) = trained(lab(), 1, (0, Side::Down));
    let newest = show(std::mem::take(&mut session));
    newest.get_by_label("Reading the draws");
    let mut session = newest.into_state().session;
    session.live.as_mut().unwrap().history = adamix::app::history::History::default();
    show(session).get_by_label("Waiting for the first routes");
}

#[test]
fn a_run_without_a_route_log_can_be_read_again() {
    let mut session = opened(|detail| detail.routing = None);
    session.routes.turn_to(&PathBuf::from("runs/lab-demo"));
    let req = session.next_request();
    session.routes.reading.begin(req);
    session.apply(failed(req, "no such file: routes.bin"));
    let mut h = show(session);
    h.get_by_label_contains("The route log (routes.bin) cannot be read: no such file");
    h.get_by_label("Read the run again").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::OpenRun(PathBuf::from("runs/lab-demo"))]);
}

#[test]
fn the_map_shows_the_picks_of_both_passes_at_the_playhead() {
    let mut session = read(|_| {});
    for (playhead, step) in [(None, 240), (Some(100), 100), (Some(9_999), 240)] {
        session.playhead = playhead;
        let timeline = session.routes.timeline.clone();
        let row = timeline.row(step).unwrap();
        let h = show(session);
        for site in 0..4 {
            let [a, b] = [0, 1].map(|pass| row.pick(pass, site, Side::Down).unwrap());
            h.get_by_label(&format!("layer {site} down: pass A expert {a}, pass B expert {b}"));
            h.get_by_label(&format!("layer {site} up: one matrix shared by all experts; nothing is drawn"));
        }
        let distance = row.distance().unwrap();
        h.get_by_label_contains(&format!("step {step}   h = {distance} of 4 layers differ   KL 0.0"));
        h.get_by_label_contains(&format!("(expected for h = {distance}: 0.0"));
        h.get_by_label_contains(&format!("step {step}, {distance} of 4 layers differ between the passes, KL 0.0"));
        session = h.into_state().session;
    }
    let h = show(session);
    assert!(h.query_by_label_contains("4⁴ = 256").is_some(), "the number of paths is shown");
    h.get_by_label_contains("Routing policy: one uniform draw for the whole batch");
    h.get_by_label_contains("of the experts have waited 5 steps or longer; by chance 5.6 %");
}

#[test]
fn keys_move_the_playhead_and_space_plays() {
    let mut session = read(|_| {});
    session.playhead = Some(100);
    let mut h = show(session);
    let keys = [
        (Modifiers::NONE, Key::ArrowLeft, Some(99)),
        (Modifiers::NONE, Key::ArrowRight, Some(101)),
        (Modifiers::SHIFT, Key::ArrowLeft, Some(90)),
        (Modifiers::SHIFT, Key::ArrowRight, Some(110)),
        (Modifiers::NONE, Key::Home, Some(1)),
        (Modifiers::NONE, Key::End, Some(240)),
        (Modifiers::NONE, Key::F, None),
    ];
    for (modifiers, key, step) in keys {
        h.key_press_modifiers(modifiers, key);
        h.run_steps(2);
        assert_eq!(h.state_mut().take(), [Action::SetPlayhead(step)], "{key:?}");
    }
    h.key_press(Key::Space);
    h.run_steps(6);
    let played = h.state_mut().take();
    assert!(played.contains(&Action::SetPlayhead(Some(101))), "{played:?}");
    h.get_by_label("Stop playing the draws").click();
    h.run_steps(2);
    h.state_mut().take();
    h.run_steps(6);
    assert!(h.state_mut().take().is_empty(), "it stands still");
}

#[test]
fn space_belongs_to_the_training_unless_the_pointer_is_over_the_map() {
    let (engine, handle) = FakeEngine::demo(30, None);
    let mut window = window_over(engine, Settings::default(), ScriptedPicker::default());
    window.run_steps(6);
    window.state().actions.push(Action::StartRun);
    window.run_steps(4);
    window.state().actions.push(Action::Pause);
    window.run_steps(4);
    window.state().actions.push(Action::Show(View::Routing));
    for _ in 0..40 {
        window.run_steps(1);
    }
    let routes = &window.state().session.routes;
    assert!(routes.timeline.last() > 0 && routes.complete && routes.fit.value.is_some(), "{:?}", routes.reading.error);
    let controls = || handle.controls().len();
    let before = controls();
    let map = window.query_all_by_label_contains("layer 3 down: pass A").next().unwrap().rect();
    window.hover_at(map.center());
    window.run_steps(3);
    window.key_press(Key::ArrowLeft);
    window.run_steps(3);
    let last = window.state().session.routes.timeline.last();
    assert_eq!(window.state().session.playhead, Some(last - 1));
    // From the beginning: at the end it would stop by itself.
    window.key_press(Key::Home);
    window.run_steps(3);
    window.key_press(Key::Space);
    window.run_steps(3);
    assert_eq!(controls(), before, "the map plays, the training waits as before");
    window.get_by_label("Stop playing the draws").click();
    window.run_steps(3);
    window.hover_at(egui::pos2(3.0, 400.0));
    window.run_steps(3);
    window.key_press(Key::Space);
    window.run_steps(3);
    assert_eq!(handle.controls().last(), Some(&ControlRequest::Resume));
}

#[test]
fn dragging_scrubs() {
    let mut h = show(read(|_| {}));
    let place = h.get_by_label_contains("layers differ between the passes").rect();
    h.drag_at(place.left_center() + egui::vec2(0.5, 0.0));
    h.run_steps(2);
    let to_start = h.state_mut().take();
    assert!(to_start.contains(&Action::SetPlayhead(Some(1))), "{to_start:?}");
    h.hover_at(place.center());
    h.run_steps(2);
    let middle = h.state_mut().take();
    assert!(matches!(middle.last(), Some(Action::SetPlayhead(Some(119..=122)))), "{middle:?}");
    h.drop_at(place.center());
}

#[test]
fn the_playhead_chooses_the_texts_and_offers_the_nearest_checkpoint() {
    let mut session = opened(|detail| detail.checkpoints = Checkpoints { steps: vec![80, 240], best: Some(240) });
    session.playhead = Some(100);
    let req = session.next_request();
    session.inspect.begin(req);
    let experts = data::experts(&lab().mixture, 240, (0, Side::Down));
    session.apply(done(req, Outcome::Experts(Box::new(experts))));
    let mut h = panel(View::Experts, session);
    h.get_by_label_contains("Step 100 is at the playhead; the nearest saved weights are of step 80.");
    h.get_by_label("Take step 80").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::ChooseWeights(Weights::Saved(Checkpoint::Step(80)))]);

    let mut session = opened(|detail| *detail = data::run_detail(std::path::Path::new("runs/writer-demo")));
    session.playhead = Some(100);
    let mut h = panel(View::Train, session);
    h.get_by_label("80 of 240");
    h.state_mut().session.playhead = Some(10);
    h.run();
    h.get_by_label("before step 1");
}

#[test]
fn with_one_pass_nothing_is_split_and_steps_are_compared() {
    let h = show(read(|detail| {
        detail.config.mixture.consistency = false;
        detail.routing = Some(data::routing(&detail.config.mixture, 240));
    }));
    assert!(h.query_all_by_label_contains("of 4 layers differ from the step before").next().is_some());
    h.get_by_label_contains("One pass: there is no disagreement that could be split");
    assert!(h.query_by_label_contains("KL 0.").is_none() && h.query_by_label_contains("pass B").is_none());
    assert!(h.query_all_by_label_contains("layer 3 down: expert").next().is_some());
}

#[test]
fn what_the_draw_causes_stands_beside_its_band() {
    let mut session = read(|_| {});
    let mut h = show(std::mem::take(&mut session));
    h.get_by_label_contains("Of the mean KL of the passes, 0.01");
    h.get_by_label_contains("layer 2: adds 0.00");
    h.get_by_label_contains("1 + L (M + 1) = 21 passes over 256 evaluation rows");
    h.get_by_label("Pin every expert").click();
    h.run();
    let subject = Subject::Saved { dir: "runs/lab-demo".into(), checkpoint: Checkpoint::Best };
    let study = ModelQuery::Study(Study::Causes(CausesPlan::default()));
    assert_eq!(h.state_mut().take(), [Action::Query(subject, study)]);
    let mut session = h.into_state().session;
    let req = session.next_request();
    session.studies.begin(req, &Study::Causes(CausesPlan::default()));
    let report = StudyReport::Causes(Box::new(studies::causes(256)));
    session.apply(done(req, Outcome::Studied(Box::new(report))));
    let mut h = show(session);
    h.get_by_label_contains("layer 0 without its modules: loss +0.0200, standard error 0.0040");
    // The experts' way to one another over the steps: a mean of all sides that are drawn.
    let q = |step| distances(step).consensus[2].unwrap();
    let way = format!("layer 1: consensus {:.3} after step 0, {:.3} after step 240;", q(0), q(240));
    h.get_by_label_contains(&way);
    h.get_by_label_contains("layer 1 on expert 2: loss").click();
    h.run();
    h.get_by_label_contains("Chosen: layer 1 on expert 2: loss");
    let module = h.get_by_label("Pinned module").value().unwrap_or_default();
    assert!(module.contains("layer 1"), "the card below is about it: {module}");
    assert!(h.state_mut().take().is_empty(), "a pin is chosen in this view only");
    // Where only the checkpoint's consensus is known, it is a bar.
    let mut session = h.into_state().session;
    session.opened.as_mut().unwrap().distances.clear();
    let h = show(session);
    h.get_by_label_contains("layer 1: consensus 0.690; experts with nothing in common have 0.500");
}

#[test]
fn counts_stand_against_the_exact_expectation_below_one_line() {
    let (mut session, ..) = trained(lab(), 9, (0, Side::Down));
    read_routes(&mut session);
    let routing = session.shown().unwrap().routing.clone().unwrap();
    let mut h = show(session);
    h.get_by_label_contains("The draws are uniform, as chance has it: chi-squared");
    let (count, draws) = (routing.counts[4][1], routing.draws[4]);
    let (mean, deviation) = (draws as f64 / 4.0, (draws as f64 * 0.25 * 0.75).sqrt());
    let z = (count as f64 - mean) / deviation;
    let cell = format!("layer 2 down, expert 1: {count} of {draws} draws, expected {mean:.1}, z {z:+.2}");
    assert!(h.query_by_label(&cell).is_none(), "the table is folded");
    h.get_by_label("Counts of each expert").click();
    h.run_steps(20);
    h.get_by_label(&cell);
    assert!(h.query_by_label_contains("layer 2 up, expert").is_none(), "a shared side has no counts");
}

#[test]
fn draws_for_each_token_are_shown_as_shares() {
    let mut session = read(|detail| {
        detail.config.mixture.routing = RoutingPolicy::PerToken;
        detail.routing = Some(data::routing(&detail.config.mixture, 240));
    });
    session.playhead = Some(60);
    let h = show(session);
    for part in ["layer 0 down: pass A expert 0 ", " %, expert 1 ", " %, pass B expert 0 "] {
        assert!(h.query_all_by_label_contains(part).next().is_some(), "{part}");
    }
    h.get_by_label_contains("Routing policy: one uniform draw for each token");
    assert!(h.query_by_label_contains("Possible paths").is_none(), "no path has a probability of its own");
    assert!(h.query_by_label_contains("; by chance").is_none(), "every expert serves some token");
}

#[test]
fn matrices_of_a_layer_are_one_row_until_one_is_chosen() {
    let mut h = show(lora(|_| {}));
    for part in ["q", "k", "v", "o", "gate", "up", "down"] {
        let part = format!("\n{part}: pass A expert");
        assert!(h.query_all_by_label_contains(&part).next().is_some(), "{part}");
    }
    h.get_by_role_and_label(egui::accesskit::Role::ComboBox, "Module").click();
    h.run_steps(4);
    h.get_by_label("gate").click();
    h.run_steps(4);
    assert!(h.query_all_by_label_contains("layer 3 gate lora_A: pass A expert").next().is_some());
    assert!(h.query_all_by_label_contains("layer 3 gate lora_B: pass A expert").next().is_some());
    assert!(h.query_by_label_contains("down-projection").is_none(), "a LoRA has no projections");
}

#[test]
fn the_counts_of_many_matrices_are_folded_by_layer() {
    // The last of the seven matrices of layer 2.
    let cell = 2 * (2 * 7 + 6);
    let h = show(lora(|routing| (routing.counts[cell], routing.draws[cell]) = (vec![120, 60, 30, 30], 240)));
    h.get_by_label_contains("Not chance: layer 2 down lora_A, expert 0 has z");
    h.get_by_label_contains("layer 2: largest |z| 8.9");
    // The layer with the largest deviation is open, the others are not.
    assert!(h.query_by_label_contains("layer 2 down lora_A, expert 0: 120 of 240 draws").is_some());
    assert!(h.query_by_label_contains("layer 3 down lora_A, expert 0:").is_none());
}

#[test]
fn the_step_is_also_a_table() {
    let mut session = read(|_| {});
    session.playhead = Some(77);
    let row = session.routes.timeline.clone();
    let row = row.row(77).unwrap();
    let mut h = show(session);
    h.get_by_label("As a table").click();
    h.run();
    h.get_by_label("layer 3 down");
    h.get_by_label_contains("step 77, ");
    let [a, b] = [0, 1].map(|pass| row.pick(pass, 3, Side::Down).unwrap().to_string());
    assert!(h.query_all_by_label(&a).next().is_some() && h.query_all_by_label(&b).next().is_some());
    h.key_press(Key::ArrowLeft);
    h.run_steps(2);
    assert_eq!(h.state_mut().take(), [Action::SetPlayhead(Some(76))], "the same keys");
}

/// 48 layers of 8 experts on both sides.
fn large(steps: u64) -> Session {
    let mixture = MixtureConfig { num_experts: 8, sharing_up: false, ..MixtureConfig::default() };
    let config = RunConfig { mixture: mixture.clone(), ..lab() };
    let mut session = opened(|detail| detail.config = config);
    let sites = (0..48).map(|layer| format!("layers.{layer}.ffn")).collect();
    let layout = Layout::of(&mixture, sites, 1);
    let dir = session.shown().unwrap().dir.clone();
    session.routes.turn_to(&dir);
    for first in (1..=steps).step_by(4096) {
        let rows = routes::rows(&layout, first..=(first + 4095).min(steps));
        let part = RoutesPart { dir: dir.clone(), layout: layout.clone(), rows, share: 1.0, ..RoutesPart::default() };
        let req = session.next_request();
        session.routes.reading.begin(req);
        session.apply(done(req, Outcome::Routes(Box::new(RoutesAnswer::Part(part)))));
    }
    assert_eq!(session.routes.timeline.last(), steps);
    session
}

#[test]
fn a_frame_draws_as_much_of_a_hundred_thousand_steps_as_of_a_thousand() {
    let shapes = |steps: u64| {
        let mut h = show(large(steps));
        h.run_steps(60);
        let still = h.output().shapes.len();
        let mut most = 0;
        for scrubbed in 1..=5 {
            h.state_mut().session.playhead = Some(scrubbed * steps / 6);
            h.run_steps(1);
            most = most.max(h.output().shapes.len());
            let sets = h
                .output()
                .textures_delta
                .set
                .iter()
                .filter(|(_, deltas)| deltas.iter().any(|delta| delta.image.width() > 64))
                .count();
            assert_eq!(sets, 0, "nothing is uploaded again");
        }
        (still, most)
    };
    let (few, many) = (shapes(1000), shapes(100_000));
    // Longer numbers and other cuts of the texts; not one shape for each step.
    assert!(many.0 <= few.0 + 60 && many.1 <= few.1 + 60, "{few:?} against {many:?}");
    assert!(many.1 < 3000, "{many:?}");
}

#[test]
fn the_map_and_what_the_draw_causes_are_saved_as_values() {
    let mut picker = ScriptedPicker::default();
    picker.picks.extend(["/p/all.csv", "/p/few.csv", "/p/causes.csv"].map(PathBuf::from));
    let files = picker.saved.clone();
    let (engine, _handle) = FakeEngine::demo(30, None);
    let mut window = window_over(engine, Settings::default(), picker);
    window.set_size(egui::vec2(1280.0, 1400.0));
    window.run_steps(6);
    window.state().actions.push(Action::StartRun);
    window.state().actions.push(Action::Show(View::Routing));
    for _ in 0..400 {
        window.run_steps(1);
        let routes = &window.state().session.routes;
        if routes.timeline.last() > 150 && routes.fit.value.is_some() {
            break;
        }
    }
    window.state().actions.push(Action::Pause);
    window.run_steps(6);
    let saved = |window: &mut Harness<'static, WorkbenchApp>, plot: &str, file: &str| -> String {
        window.get_by_label(&format!("Save {plot}")).click();
        window.run_steps(4);
        window.get_by_label("Save as CSV…").click();
        window.run_steps(4);
        String::from_utf8(files.borrow()[std::path::Path::new(file)].clone()).unwrap()
    };
    // Of many steps the share in which the passes differ, two steps a column.
    let lines = saved(&mut window, "Route map", "/p/all.csv");
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].starts_with(",1,3,5,") && lines.len() == 5, "{lines:?}");
    let timeline = window.state().session.routes.timeline.clone();
    let differs = |step, layer| f64::from(u8::from(timeline.row(step).unwrap().differs(layer) == Some(1.0)));
    let cells: Vec<&str> = lines[1].split(',').collect();
    assert_eq!((cells[0], cells[1].parse()), ("layer 3", Ok(0.5 * (differs(1, 3) + differs(2, 3)))));
    // Of few steps the expert of each pass.
    for _ in 0..2 {
        window.get_by_label("Zoom in").click();
        window.run_steps(3);
    }
    let text = saved(&mut window, "Route map", "/p/few.csv");
    let first: u64 = text.lines().next().unwrap().split(',').nth(1).unwrap().parse().unwrap();
    let row = timeline.row(first).unwrap();
    for pass in 0..2 {
        let pick = row.pick(pass, 0, Side::Down).unwrap();
        let name = format!("\n\"layer 0 down, pass {}\",{pick},", ["A", "B"][pass]);
        assert!(text.contains(&name), "{name} in {text}");
    }
    let causes = saved(&mut window, "What each layer causes", "/p/causes.csv");
    assert!(causes.starts_with("layer,kl slope,kl slope SE,kl slope z,consensus,pinned to 0,"), "{causes}");
    assert!(causes.lines().nth(1).unwrap().starts_with("layer 3,"), "{causes}");
}
