//! Which weights of a run are meant: the one place that answers.
//!
//! A run keeps the best checkpoint, the newest ones, and those it was asked to keep. Best is the first of equals by the
//! metric the run decides by ([`records::is_better`](crate::records::is_better)); a run that was not evaluated yet has none,
//! and then its last checkpoint takes that place, and is called the last.

use super::{RunDir, checkpoint};
use crate::error::{Context as _, Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which checkpoint of a run; written `best`, `last` or the number of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Checkpoint {
    /// The one with the best metric, the first of equals.
    #[default]
    Best,
    /// The newest.
    Last,
    /// The one written after so many steps.
    Step(u64),
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("best"),
            Self::Last => f.write_str("last"),
            Self::Step(step) => step.fmt(f),
        }
    }
}

impl FromStr for Checkpoint {
    type Err = Error;

    /// Takes the name of a checkpoint's directory too.
    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix(checkpoint::PREFIX).unwrap_or(text) {
            "best" => Ok(Self::Best),
            "last" => Ok(Self::Last),
            step => step.parse().map(Self::Step).map_err(|_| {
                Error::config(format!("{text:?} is not a checkpoint; give best, last or the number of a step"))
            }),
        }
    }
}

impl From<Checkpoint> for String {
    fn from(checkpoint: Checkpoint) -> Self {
        checkpoint.to_string()
    }
}

impl TryFrom<String> for Checkpoint {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// The checkpoints of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// Their steps in order.
    pub steps: Vec<u64>,
    /// The step of the best one; absent before the first evaluation, or where it is lost.
    pub best: Option<u64>,
}

impl Checkpoints {
    /// Those in a run directory.
    pub fn of(run: &RunDir) -> Result<Self> {
        let steps = checkpoint::list(run)?;
        // Every checkpoint says which one was the best when it was written.
        let newest = checkpoint::latest_valid(run)?;
        let best = newest.and_then(|found| found.data.best_step()).filter(|best| steps.contains(best));
        Ok(Self { steps, best })
    }

    /// The checkpoint that is meant; an error lists the steps there are. Where none is best, the last one is called the last.
    pub fn resolve(&self, which: Checkpoint) -> Result<WeightsOf> {
        let Some(&last) = self.steps.last() else { return Err(Error::config("the run has no checkpoint yet")) };
        match (which, self.best) {
            (Checkpoint::Best, Some(best)) => Ok(WeightsOf::saved(best, which)),
            (Checkpoint::Best | Checkpoint::Last, _) => Ok(WeightsOf::saved(last, Checkpoint::Last)),
            (Checkpoint::Step(step), _) if self.steps.contains(&step) => Ok(WeightsOf::saved(step, which)),
            (Checkpoint::Step(step), _) => {
                let have: Vec<String> = self.steps.iter().map(u64::to_string).collect();
                Err(Error::config(format!(
                    "there is no checkpoint of step {step}; choose best, last, or one of the steps {}",
                    have.join(", ")
                )))
            }
        }
    }
}

/// The checkpoint of a run that is meant.
pub fn resolve(run: &RunDir, which: Checkpoint) -> Result<WeightsOf> {
    let checkpoints = match which {
        Checkpoint::Best => Checkpoints::of(run)?,
        // Which is best matters not, and finding out reads a whole checkpoint.
        _ => Checkpoints { steps: checkpoint::list(run)?, best: None },
    };
    checkpoints.resolve(which).with_context(|| run.path().display().to_string())
}

/// The weights that something was computed from, written or shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsOf {
    /// Steps done.
    pub step: u64,
    /// Why these; absent: those of a run in training, which no checkpoint need hold.
    pub checkpoint: Option<Checkpoint>,
}

impl WeightsOf {
    /// Those of a checkpoint.
    pub fn saved(step: u64, checkpoint: Checkpoint) -> Self {
        Self { step, checkpoint: Some(checkpoint) }
    }

    /// Those of a run in training.
    pub fn training(step: u64) -> Self {
        Self { step, checkpoint: None }
    }
}

impl fmt::Display for WeightsOf {
    /// `step 400 (best checkpoint)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.checkpoint {
            None => "in training",
            Some(Checkpoint::Best) => "best checkpoint",
            Some(Checkpoint::Last) => "last checkpoint",
            Some(Checkpoint::Step(_)) => "chosen checkpoint",
        };
        write!(f, "step {} ({why})", self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_choice_are_each_other() {
        for (text, choice) in [("best", Checkpoint::Best), ("last", Checkpoint::Last), ("400", Checkpoint::Step(400))] {
            assert_eq!((text.parse::<Checkpoint>().unwrap(), choice.to_string().as_str()), (choice, text));
            let json = serde_json::to_string(&choice).unwrap();
            assert_eq!(
                (json.as_str(), serde_json::from_str::<Checkpoint>(&json).unwrap()),
                (&*format!("{text:?}"), choice)
            );
        }
        assert_eq!("checkpoint-7".parse::<Checkpoint>().unwrap(), Checkpoint::Step(7));
        for wrong in ["", "soon", "-1", "1.5", "Best"] {
            let err = wrong.parse::<Checkpoint>().unwrap_err().to_string();
            assert!(err.contains(&format!("{wrong:?}")) && err.contains("best, last or the number"), "{err}");
        }
    }

    #[test]
    fn the_choice_is_one_of_those_there_are() {
        let some = Checkpoints { steps: vec![200, 400, 800], best: Some(400) };
        let found =
            [Checkpoint::Best, Checkpoint::Last, Checkpoint::Step(200)].map(|which| some.resolve(which).unwrap());
        assert_eq!(found.map(|weights| weights.step), [400, 800, 200]);
        assert_eq!(
            found.map(|weights| weights.to_string()).concat(),
            "step 400 (best checkpoint)step 800 (last checkpoint)step 200 (chosen checkpoint)"
        );
        let err = some.resolve(Checkpoint::Step(600)).unwrap_err().to_string();
        assert!(err.contains("no checkpoint of step 600") && err.contains("200, 400, 800"), "{err}");
        let unmeasured = Checkpoints { best: None, ..some };
        assert_eq!(unmeasured.resolve(Checkpoint::Best).unwrap(), WeightsOf::saved(800, Checkpoint::Last));
        assert!(
            Checkpoints::default().resolve(Checkpoint::Last).unwrap_err().to_string().contains("no checkpoint yet")
        );
    }
}
