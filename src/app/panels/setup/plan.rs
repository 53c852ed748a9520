//! The pre-flight check, and the same run as a command.

use crate::app::actions::Action;
use crate::app::commands;
use crate::app::files::Purpose;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::cards;
use crate::config::RunConfig;
use crate::format;
use crate::protocol::PreflightReport;
use egui::{RichText, Ui};

/// Height of what the plan says: two lines of figures and a note; more of it is scrolled to.
const HEIGHT: f32 = 92.0;

/// The pre-flight: reasons that block the start, warnings, and the costs.
pub fn plan_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let session = ctx.session;
    let (problems, unchecked) = (session.form_problems(), session.unchecked());
    let active = session.phase.is_active();
    let (title, color) = if active {
        ("In training; these settings are for the next run", ctx.theme.muted)
    } else if !problems.is_empty() {
        ("Cannot start yet", ctx.theme.warning)
    } else if unchecked.is_some() {
        ("The plan is being checked", ctx.theme.muted)
    } else {
        ("Ready to start", ctx.theme.ok)
    };
    cards::card(ui, ctx.theme, "", |ui| {
        ui.horizontal_wrapped(|ui| {
            ctx.button(ui, Action::StartRun);
            ctx.button(ui, Action::AddToQueue);
            ctx.button(ui, Action::CheckPlan);
            ui.label(RichText::new(title).strong().color(color));
        });
        egui::ScrollArea::vertical().id_salt("plan").max_height(HEIGHT).min_scrolled_height(HEIGHT).show(ui, |ui| {
            ui.set_min_height(HEIGHT);
            body_ui(ctx, ui, &problems, unchecked.filter(|_| !active && problems.is_empty()));
        });
    });
}

fn body_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, problems: &[String], unchecked: Option<&str>) {
    let session = ctx.session;
    if !session.phase.is_active() {
        for problem in problems {
            match said_below(ctx, problem) {
                Some(place) => cards::note(ui, ctx.theme.warning, place),
                None => cards::note(ui, ctx.theme.warning, problem),
            }
        }
    }
    if let Some(what) = unchecked {
        cards::loading(ui, what, None);
    }
    let query = &session.preflight;
    ctx.error_ui(ui, query);
    let fresh = session.unchecked().is_none();
    match &query.value {
        // A plan that failed early knows none of the figures.
        Some(report) if report.start.total_steps == 0 => {}
        Some(report) => report_ui(ctx, ui, report, fresh),
        None => {}
    }
}

/// Where the form says the same problem in its place: it is said there in full, and here only that it is.
fn said_below(ctx: &PanelCtx<'_>, problem: &str) -> Option<&'static str> {
    let session = ctx.session;
    let says = |error: &Option<String>| error.as_ref().is_some_and(|error| problem.contains(error.as_str()));
    let refused = session.data.value.as_ref().is_some_and(|preview| preview.refused)
        || session.texts.value.as_ref().is_some_and(|preview| preview.refused);
    if says(&session.model.error) {
        Some("The model cannot be used; see Model below.")
    } else if says(&session.data.error) || says(&session.texts.error) {
        Some("The data cannot be used; see Data below.")
    } else if refused && problem.contains("cannot be used: ") && problem.contains("line ") {
        Some("Some rows cannot be used; see Data below.")
    } else {
        None
    }
}

fn report_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, report: &PreflightReport, fresh: bool) {
    let (theme, start) = (ctx.theme, &report.start);
    let all = start.trunk_parameters + start.trained_parameters;
    let share = format::percent(start.trained_parameters as f64 / all.max(1) as f64);
    let trained = format!("{} ({share})", format::short_count(start.trained_parameters as f64));
    let [head, base] = [start.head_parameters, start.trunk_parameters].map(format::count);
    let tooltip = format!("All experts and the classification head; the head has {head}, the frozen base model {base}");
    let mut memory = format::bytes(report.memory_bytes);
    if report.memory_available > 0 {
        memory.push_str(&format!(" of {}", format::bytes(report.memory_available)));
    }
    let seconds = report.seconds.map(|seconds| format!("about {}", format::duration(seconds)));
    let figures = [
        ("Trained", trained, tooltip.as_str()),
        (
            "After merging",
            format::short_count(start.merged_parameters as f64),
            "Adapter parameters that remain when the experts are merged into one",
        ),
        ("Steps", format::count(start.total_steps), "Optimizer steps in total"),
        ("Memory", memory, "Expected peak, and what is available"),
        (
            "Time",
            seconds.unwrap_or_else(|| "not known yet".to_owned()),
            "Expected on this machine, as busy as it is now; evaluations not counted",
        ),
        ("Device", start.device.clone(), "Device of the computation"),
    ];
    ui.add_enabled_ui(fresh, |ui| cards::figures(ui, theme, &figures));
    // Warnings of another plan would be about other settings.
    for warning in report.warnings.iter().filter(|_| fresh) {
        cards::note(ui, theme.warning, warning);
    }
}

/// The same run as a command line and as a file.
pub fn command_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, form: &RunConfig) {
    egui::CollapsingHeader::new("The same as a command").show(ui, |ui| {
        let command = match ctx.session.branches_from() {
            Some((from, checkpoint)) => commands::branch(&commands::path(&from.dir), checkpoint, &from.config, form),
            None => commands::train(form),
        };
        ui.add(egui::Label::new(RichText::new(&command).monospace().small()).wrap());
        ui.horizontal_wrapped(|ui| {
            let copy = egui::Button::new("Copy command");
            ctx.button_as(ui, Action::Copy(command), copy);
            match form.to_toml() {
                Ok(text) => drop(ctx.button_as(ui, Action::Copy(text), egui::Button::new("Copy run.toml"))),
                Err(err) => cards::error(ui, ctx.theme, &err.to_string()),
            }
            ctx.button(ui, Action::Pick(Purpose::SaveSettings));
            ctx.button(ui, Action::Pick(Purpose::OpenSettings));
        });
    });
}
