//! What a run's record says of one step.

use super::lines::{Line, for_each_line};
use super::routes::RouteFile;
use crate::artifact::RunDir;
use crate::config::LawChange;
use crate::error::{Context as _, Error, Result};
use crate::records::StepRecord;
use std::fs::File;

/// What the record says.
#[derive(Clone, Debug, Default)]
pub struct RecordedStep {
    /// The step with the routes of its micro-batches; absent where it is not recorded.
    pub record: Option<StepRecord>,
    /// The last step that is recorded; 0: none.
    pub last: u64,
    /// Changes of the routing law, those after the step too.
    pub laws: Vec<LawChange>,
}

impl RecordedStep {
    /// Reads `metrics.jsonl`, and `routes.bin` where the step is recorded. Lines that cannot be read are passed over.
    pub fn read(run: &RunDir, step: u64) -> Result<Self> {
        let mut found = Self::default();
        if !run.metrics().is_file() {
            return Ok(found);
        }
        let (path, doing) = (run.metrics(), || format!("looking for step {step} in the record"));
        let failed = |err| Error::io("reading", &path, err);
        let take = |line: &[u8]| {
            // A last line may be incomplete.
            let line = if line.ends_with(b"\n") { Line::parse(line) } else { Ok(Line::Unknown) };
            match line {
                Ok(Line::Step(record)) => {
                    found.last = found.last.max(record.step);
                    if record.step == step {
                        found.record = Some(record);
                    }
                }
                Ok(Line::Law(change)) => found.laws.push(change),
                _ => {}
            }
            Ok(())
        };
        let mut file = File::open(&path).map_err(failed).with_context(doing)?;
        for_each_line(&mut file, take, failed).with_context(doing)?;
        if let Some(record) = found.record.as_mut().filter(|_| run.routes().is_file()) {
            for route in RouteFile::open(&run.routes()).with_context(doing)? {
                let route = route.with_context(doing)?;
                if route.step > step {
                    break;
                }
                if route.step == step {
                    record.routes.push(route.route);
                }
            }
        }
        Ok(found)
    }
}
