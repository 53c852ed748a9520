//! The Routing view.

use super::harness::panel;
use super::panel_support::{fresh, lab, opened, trained};
use crate::fake_engine::data;
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::config::{MixtureKind, RoutingPolicy};
use adamix::protocol::{Incoming, RoutingSnapshot, RunId, Side};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::PathBuf;
use std::sync::Arc;

fn show(session: Session) -> Harness<'static, super::panel_support::World> {
    panel(View::Routing, session)
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
fn before_the_first_route_it_waits() {
    let (session, ..) = trained(lab(), 0, (0, Side::Down));
    show(session).get_by_label("No routes yet");
    let (mut session, ..) = trained(lab(), 1, (0, Side::Down));
    session.live.as_mut().unwrap().routing = None;
    show(session).get_by_label("Waiting for the first routes");
}

#[test]
fn a_run_without_a_route_log_can_be_read_again() {
    let mut h = show(opened(|detail| detail.routing = None));
    h.get_by_label_contains("no readable route log");
    h.get_by_label("Read the run again").click();
    h.run();
    assert_eq!(h.state_mut().take(), [Action::OpenRun(PathBuf::from("runs/lab-demo"))]);
}

#[test]
fn a_run_without_a_mixture_has_nothing_to_show() {
    let session = opened(|detail| detail.config.model.method = adamix::config::Method::HeadOnly);
    show(session).get_by_label("No mixture in this run");
}

#[test]
fn the_diagram_shows_the_picks_of_both_passes() {
    let (session, ..) = trained(lab(), 3, (0, Side::Down));
    let routing = session.shown().unwrap().routing.clone().unwrap();
    let h = show(session);
    let sites = routing.sites.len();
    for site in 0..sites {
        let pick = |pass: usize| {
            let shares = &routing.current[(pass * sites + site) * 2];
            shares.iter().position(|&share| share == 1.0).unwrap()
        };
        let (a, b) = (pick(0), pick(1));
        if a == b {
            h.get_by_label(&format!("layer {site} down, expert {a}: runs in pass A and pass B"));
        } else {
            h.get_by_label(&format!("layer {site} down, expert {a}: runs in pass A"));
            h.get_by_label(&format!("layer {site} down, expert {b}: runs in pass B"));
        }
        h.get_by_label(&format!("layer {site} up: one matrix shared by all experts; nothing is drawn"));
    }
    assert!(h.query_by_label_contains("4⁴ = 256").is_some(), "the number of paths is shown");
    h.get_by_label_contains("Routing policy: one uniform draw for the whole batch");
}

#[test]
fn counts_stand_against_the_exact_expectation() {
    let (session, ..) = trained(lab(), 9, (0, Side::Down));
    let routing = session.shown().unwrap().routing.clone().unwrap();
    let h = show(session);
    let (count, draws) = (routing.counts[4][1], routing.draws[4]);
    let (mean, deviation) = (draws as f64 / 4.0, (draws as f64 * 0.25 * 0.75).sqrt());
    let z = (count as f64 - mean) / deviation;
    h.get_by_label(&format!("layer 2 down, expert 1: {count} of {draws} draws, expected {mean:.1}, z {z:+.2}"));
    h.get_by_label_contains("Consistent with chance: the largest |z| of 16 counts");
    assert!(h.query_by_label_contains("layer 2 up, expert").is_none(), "a shared side has no counts");
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

#[test]
fn draws_for_each_token_are_shown_as_shares() {
    let mut config = lab();
    config.mixture.routing = RoutingPolicy::PerToken;
    let (mut session, ..) = trained(config.clone(), 2, (0, Side::Down));
    let mut routing = data::routing(&config.mixture, 60);
    routing.current[0] = vec![0.25, 0.5, 0.0, 0.25];
    routing.current[8] = vec![0.1, 0.2, 0.3, 0.4];
    session.apply(Incoming::Routing(RunId(1), Arc::new(routing)));
    let h = show(session);
    h.get_by_label("layer 0 down, expert 1: serves 50 % in pass A, 20 % in pass B");
    h.get_by_label_contains("There is no single path.");
    h.get_by_label_contains("Routing policy: one uniform draw for each token");
}

/// A finished run of a language model with LoRA on seven matrices of each of four layers.
fn lora(change: impl FnOnce(&mut RoutingSnapshot)) -> Session {
    opened(|detail| {
        detail.config.mixture.kind = MixtureKind::Lora;
        detail.config.mixture.sharing_up = false;
        let mut routing = data::routing(&detail.config.mixture, 60);
        change(&mut routing);
        detail.routing = Some(routing);
    })
}

#[test]
fn matrices_of_a_layer_have_names_of_their_own() {
    let mut h = show(lora(|_| {}));
    // Compact: a cell for each matrix and side.
    for part in ["q", "k", "v", "o", "gate", "up", "down"] {
        for side in ["lora_A", "lora_B"] {
            h.get_by_label_contains(&format!("layer 3 {part} {side}: pass A expert"));
        }
    }
    h.get_by_label_contains("stand side by side, not one after the other");
    h.get_by_label("Compact").click();
    h.run();
    assert!(h.query_all_by_label_contains("layer 3 q lora_A, expert 0").next().is_some());
    let drawn =
        |h: &Harness<'_, super::panel_support::World>| h.query_all_by_label("Experts of the newest step").count();
    assert_eq!(drawn(&h), 1, "the lower layers are folded");
    h.get_by_label("layer 2").click();
    h.run_steps(20);
    assert_eq!(drawn(&h), 2);
    h.get_by_label_contains("for matrix A and matrix B independently");
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
fn the_history_of_draws_for_each_token_is_one_of_shares() {
    let mut config = lab();
    config.mixture.routing = RoutingPolicy::PerToken;
    let (mut session, ..) = trained(config.clone(), 2, (0, Side::Down));
    let mut routing = data::routing(&config.mixture, 60);
    for step in &mut routing.recent {
        // Two passes of four modules: 4 shares of the down side, 1 of the shared up side.
        step.shares = [51, 102, 0, 102, 255].repeat(8);
    }
    session.apply(Incoming::Routing(RunId(1), Arc::new(routing)));
    let mut h = show(session);
    assert!(h.query_by_label_contains("Possible paths").is_none(), "no path has a probability of its own");
    assert!(h.query_all_by_label("Experts of the newest step").next().is_some());
    let strip = h.get_by_label("layer 3 down, pass A: experts of the last 60 steps").rect();
    h.event(egui::Event::PointerMoved(strip.right_center() - egui::vec2(2.0, 0.0)));
    h.run_steps(40);
    h.get_by_label("layer 3 down, pass A, step 60: expert 0 20 %, expert 1 40 %, expert 2 0 %, expert 3 40 %");
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
