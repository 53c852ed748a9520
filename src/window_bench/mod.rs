//! The window measured in its own code, without a display: [`crate::app::headless`] over an engine that streams, over a
//! long record, and beside a training. What is measured and the limits are in [`crate::bench`]; `adamix bench ui` starts a
//! process for each part.

mod frames;
mod opening;
mod stream;
mod training;

use crate::app::headless::Headless;
use crate::app::settings::Settings;
use crate::app::{WindowOptions, first_form};
use crate::bench::window::{Part, Plan};
use crate::engine::EngineHandle;
use crate::error::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The window's size at the first start, in pixels.
const SIZE: [f32; 2] = [1280.0, 800.0];
/// Seconds between two frames.
const FRAME: f64 = 1.0 / 60.0;
/// The same as a time.
const FRAME_TIME: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// Measures one part in this process.
pub fn measure(part: &Part, plan: &Plan) -> Result<Value> {
    match part {
        Part::Frames => json(&frames::measure(plan)?),
        Part::Write(dir) => json(&opening::write(dir, plan.steps)?),
        Part::Open(dir) => json(&opening::measure(dir)?),
        Part::FirstFrame => {
            let form = Some(first_form());
            let options = WindowOptions { form, ..WindowOptions::default() };
            let mut window =
                Headless::open(EngineHandle::spawn(Arc::new(|| {})).map(boxed), Settings::default(), options, SIZE);
            json(&window.frame(0.0).triangles())
        }
        Part::Training(dir) => json(&training::measure(dir, plan)?),
    }
}

fn boxed(engine: EngineHandle) -> Box<dyn crate::protocol::Engine> {
    Box::new(engine)
}

fn json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|err| Error::internal(format!("no JSON of a figure: {err}")))
}
