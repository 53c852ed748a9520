//! The routing law as one value, and its changes while a run trains.

use super::choice_name;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which expert runs: one policy for all adapted modules; down and up, layers and passes are drawn independently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoutingPolicy {
    /// One uniform draw for the whole batch: the paper.
    #[default]
    PerBatch,
    /// One uniform draw for each example.
    PerExample,
    /// One uniform draw for each token.
    PerToken,
    /// Always `fixed_expert`.
    Fixed,
    /// Expert `(micro-batch + adapted module + pass) mod M`: even by construction.
    RoundRobin,
}

impl RoutingPolicy {
    /// All, in the order in which they are offered.
    pub const ALL: [Self; 5] = [Self::PerBatch, Self::PerExample, Self::PerToken, Self::Fixed, Self::RoundRobin];

    /// Whether experts are drawn at random, so that their counts are compared with what chance gives.
    pub fn is_random(self) -> bool {
        match self {
            Self::PerBatch | Self::PerExample | Self::PerToken => true,
            Self::Fixed | Self::RoundRobin => false,
        }
    }

    /// Whether all rows of a batch go through the same experts.
    pub fn is_per_batch(self) -> bool {
        match self {
            Self::PerBatch | Self::Fixed | Self::RoundRobin => true,
            Self::PerExample | Self::PerToken => false,
        }
    }
}

/// Which expert runs. Written as the settings name it, a fixed one with its expert: `per-token`, `fixed:2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RoutingLaw {
    /// The policy.
    pub routing: RoutingPolicy,
    /// The expert of [`RoutingPolicy::Fixed`], from 0; else 0.
    pub fixed_expert: usize,
}

impl fmt::Display for RoutingLaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.routing {
            RoutingPolicy::Fixed => write!(f, "fixed:{}", self.fixed_expert),
            policy => f.write_str(&choice_name(policy)),
        }
    }
}

impl FromStr for RoutingLaw {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let named = |name: &str| RoutingPolicy::ALL.into_iter().find(|policy| choice_name(policy) == name);
        let wrong = || {
            let names = "per-batch, per-example, per-token, round-robin, or fixed and an expert, as in fixed:2";
            Error::config(format!("{text:?} is no law of routing; choose {names}"))
        };
        match text.trim().split_once(':') {
            Some(("fixed", expert)) => {
                let fixed_expert = expert.trim().parse().map_err(|_| wrong())?;
                Ok(Self { routing: RoutingPolicy::Fixed, fixed_expert })
            }
            Some(_) => Err(wrong()),
            // A fixed expert must be said.
            None => named(text.trim())
                .filter(|policy| *policy != RoutingPolicy::Fixed)
                .map(|routing| Self { routing, fixed_expert: 0 })
                .ok_or_else(wrong),
        }
    }
}

impl From<RoutingLaw> for String {
    fn from(law: RoutingLaw) -> Self {
        law.to_string()
    }
}

impl TryFrom<String> for RoutingLaw {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// A law from one step on. Written `400=per-token`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LawChange {
    /// The first step that is made under it, from 1.
    pub step: u64,
    /// The law.
    pub law: RoutingLaw,
}

impl LawChange {
    /// The law of a step: that of the last change up to it, of several at one step the last in the list; `start` before all.
    pub fn law_of(start: RoutingLaw, changes: &[Self], step: u64) -> RoutingLaw {
        let before = changes.iter().filter(|change| change.step <= step);
        before.max_by_key(|change| change.step).map_or(start, |change| change.law)
    }
}

impl fmt::Display for LawChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.step, self.law)
    }
}

impl FromStr for LawChange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::config(format!("{text:?} is no step with a law, such as 400=per-token"));
        let (step, law) = text.split_once('=').ok_or_else(wrong)?;
        let step = step.trim().parse().ok().filter(|&step| step > 0).ok_or_else(wrong)?;
        Ok(Self { step, law: law.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_law_are_each_other() {
        for text in ["per-batch", "per-example", "per-token", "round-robin", "fixed:0", "fixed:3"] {
            let law: RoutingLaw = text.parse().unwrap();
            assert_eq!(law.to_string(), text);
            let json = serde_json::to_string(&law).unwrap();
            assert_eq!(
                (json.as_str(), serde_json::from_str::<RoutingLaw>(&json).unwrap()),
                (&*format!("{text:?}"), law)
            );
            let change: LawChange = format!(" 7={text}").parse().unwrap();
            assert_eq!((change.step, change.law, change.to_string()), (7, law, format!("7={text}")));
        }
        for wrong in ["", "fixed", "fixed:", "fixed:-1", "per-batch:2", "sticky"] {
            assert!(wrong.parse::<RoutingLaw>().unwrap_err().to_string().contains("as in fixed:2"), "{wrong}");
        }
        for wrong in ["", "per-token", "0=per-token", "x=per-token", "=per-token"] {
            assert!(wrong.parse::<LawChange>().unwrap_err().to_string().contains("such as 400=per-token"), "{wrong}");
        }
    }

    #[test]
    fn the_law_of_a_step_is_that_of_the_last_change() {
        let law = |text: &str| text.parse::<RoutingLaw>().unwrap();
        let at = |step: u64, text: &str| LawChange { step, law: law(text) };
        let changes = [at(9, "per-token"), at(4, "fixed:1"), at(9, "round-robin")];
        let found = [1, 3, 4, 8, 9, 50].map(|step| LawChange::law_of(law("per-batch"), &changes, step).to_string());
        assert_eq!(found, ["per-batch", "per-batch", "fixed:1", "fixed:1", "round-robin", "round-robin"]);
    }
}
