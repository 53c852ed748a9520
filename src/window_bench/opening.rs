//! Opening a long record: how long until the window shows it, and how much memory that takes.

use super::{FRAME, FRAME_TIME, SIZE, boxed};
use crate::app::headless::Headless;
use crate::app::settings::Settings;
use crate::app::{WindowOptions, first_form};
use crate::artifact::RunDir;
use crate::artifact::recorder::Recorder;
use crate::bench::window::OpenFigures;
use crate::engine::EngineHandle;
use crate::error::{Error, Result};
use crate::machine::facts;
use crate::records::{EndReason, EndRecord, EvalRecord, Pick, Route, SIDES, Scores, StartRecord, StepRecord};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than this nothing takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Adapted modules of the record's model, as many as RoBERTa-base has layers.
const SITES: usize = 12;
/// Steps between two evaluations.
const EVAL_EVERY: u64 = 1000;

/// Writes the record of a run of so many steps with the recorder that training uses.
pub(super) fn write(root: &Path, steps: u64) -> Result<PathBuf> {
    let mut config = first_form();
    config.runs_dir = root.display().to_string();
    config.name = format!("record-{steps}");
    config.train.max_steps = steps;
    let (dir, _lock) = RunDir::create(&config)?;
    let mut recorder = Recorder::create(&dir)?;
    let experts = [config.mixture.down_experts(), config.mixture.up_experts()];
    recorder.start(&StartRecord {
        total_steps: steps,
        steps_per_epoch: 1000.0,
        sites: (0..SITES).map(|layer| format!("layers.{layer}.ffn")).collect(),
        experts,
        metric: "accuracy".to_owned(),
        higher_is_better: true,
        ..StartRecord::default()
    });
    for step in 1..=steps {
        let wave = (step as f64 * 0.37).sin();
        let loss = 0.3 + 0.4 * (-4.0 * step as f64 / steps as f64).exp() + 0.05 * wave;
        let cells = (0..2 * SITES).flat_map(|_| SIDES).enumerate();
        let expert = |(cell, side): (usize, crate::records::Side)| {
            let drawn = (step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (cell % 48)) as usize;
            Pick::One((drawn % experts[side as usize].max(1)) as u8)
        };
        recorder.step(&StepRecord {
            step,
            epoch: step as f64 / 1000.0,
            loss,
            task_loss: loss - 0.01,
            consistency_loss: 0.01 + 0.001 * wave,
            learning_rate: 1e-3 * (1.0 - step as f64 / steps as f64),
            grad_norm: 1.0 + 0.3 * wave,
            tokens: 1500 + (step % 97) as usize,
            seconds: 0.0234 + 1e-4 * wave,
            routes: vec![Route { passes: 2, sites: SITES, picks: cells.map(expert).collect() }],
        });
        if step.is_multiple_of(EVAL_EVERY) {
            let accuracy = 0.5 + 0.3 * step as f64 / steps as f64;
            let merged = Scores { loss, accuracy: Some(accuracy), primary: accuracy, ..Scores::default() };
            recorder.eval(&EvalRecord { step, epoch: step as f64 / 1000.0, merged, best: true, seconds: 0.5 });
        }
    }
    let reason = EndReason::Stopped("the record is long enough".to_owned());
    recorder.end(&EndRecord { reason, step: steps, seconds: 1.0, tokens_per_s: 1.0, report: None, best: None });
    match recorder.take_problems().first() {
        Some(problem) => Err(Error::internal(format!("the record could not be written: {problem}"))),
        None => Ok(dir.path().to_owned()),
    }
}

/// Opens the run in a new window over the real engine.
pub(super) fn measure(dir: &Path) -> Result<OpenFigures> {
    let mut form = first_form();
    form.runs_dir = dir.parent().map(|root| root.display().to_string()).unwrap_or_default();
    let options = WindowOptions { form: Some(form), open: Some(dir.to_owned()), ..WindowOptions::default() };
    let engine = EngineHandle::spawn(Arc::new(|| {})).map(boxed);
    let mut window = Headless::open(engine, Settings::default(), options, SIZE);
    window.frame(0.0);
    facts::reset_peak_memory();
    let before = facts::resident_memory();
    let began = Instant::now();
    let mut shown = false;
    while !shown && began.elapsed() < PATIENCE {
        // At the pace of a screen: more frames would take time from the reading.
        std::thread::sleep(FRAME_TIME);
        window.frame(FRAME);
        shown = window.app.session.opened.is_some();
    }
    let open_ms = 1e3 * began.elapsed().as_secs_f64();
    if !shown {
        let log: Vec<&str> = window.app.session.log.iter().map(|line| line.text.as_str()).collect();
        return Err(Error::internal(format!("the run was not opened: {}", log.join("; "))));
    }
    let memory_mb = facts::peak_memory().saturating_sub(before) as f64 / 1e6;
    Ok(OpenFigures { open_ms, memory_mb })
}
