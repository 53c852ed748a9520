//! How the experts became one adapter: in words, and as TOML that can be replayed.
//!
//! ```toml
//! method = "average-of-factors"   # or soup, fisher, ties, dare, wide, budget, fitted
//! num_experts = 4
//! # what the method was given, where it takes anything
//! [parameters]
//! density = 0.2
//! # one entry per adapted module where the weights are not uniform; each list sums to 1
//! [sites."layers.0.ffn"]
//! down = [0.4, 0.2, 0.2, 0.2]
//! up = [1.0]
//! ```

use crate::config::{MergePlan, MixtureConfig, Pairs};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the parameter that says how wide the merged modules are.
const WIDTH: &str = "width";

/// The weights of one module's experts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteWeights {
    /// One weight per expert of the down-projection.
    pub down: Vec<f64>,
    /// One weight per expert of the up-projection; a single 1 where it is shared.
    pub up: Vec<f64>,
}

/// How the experts became one adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Its name: `average-of-factors`, the paper's, or that of another [`MergePlan`].
    pub method: String,
    /// M.
    pub num_experts: usize,
    /// What is computed; absent for the mean of factors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formula: Option<String>,
    /// What it was given, by name, where it takes anything; also `width` where the merged modules have another than r.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, f64>,
    /// Modules whose weights are not uniform, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sites: BTreeMap<String, SiteWeights>,
}

impl Recipe {
    /// The uniform mean of `num_experts` experts everywhere: the paper's merge.
    pub fn uniform(num_experts: usize) -> Self {
        let method = MergePlan::Uniform.method().to_owned();
        Self { method, num_experts, formula: None, parameters: BTreeMap::new(), sites: BTreeMap::new() }
    }

    /// A way of merging such a mixture, without the weights of its modules.
    pub fn of(plan: &MergePlan, mixture: &MixtureConfig) -> Self {
        let uniform = Self::uniform(mixture.num_experts);
        if plan.is_weights() {
            return uniform;
        }
        let mut parameters = BTreeMap::new();
        let mut put = |name: &str, value: f64| {
            parameters.insert(name.to_owned(), value);
        };
        match *plan {
            MergePlan::Fisher { rows } | MergePlan::Fitted { rows } => put("rows", rows as f64),
            MergePlan::Budget { rows, .. } => put("rows", rows as f64),
            MergePlan::Ties { density } => put("density", density),
            MergePlan::Dare { drop, seed } => {
                put("drop", drop);
                put("seed", seed as f64);
            }
            MergePlan::Wide(pairs) => {
                let pairs = if pairs == Pairs::All { mixture.num_experts.pow(2) } else { mixture.num_experts };
                put("pairs", pairs as f64);
            }
            _ => {}
        }
        if plan.width(mixture) != mixture.rank() {
            put(WIDTH, plan.width(mixture) as f64);
        }
        let (method, formula) = (plan.method().to_owned(), Some(plan.formula(mixture)));
        Self { method, parameters, formula, ..uniform }
    }

    /// With these weights of the named modules; all others have the uniform mean.
    #[must_use]
    pub fn with_sites(self, sites: impl IntoIterator<Item = (String, SiteWeights)>) -> Self {
        Self { sites: sites.into_iter().collect(), ..self }
    }

    /// Bottleneck or rank of the merged modules, where it is not r.
    pub fn width(&self) -> Option<usize> {
        self.parameters.get(WIDTH).map(|&width| width as usize)
    }

    /// The computation as a paragraph.
    pub fn describe(&self) -> String {
        let m = self.num_experts;
        let mut text = if m == 1 {
            "There is one expert, so nothing was merged.".to_owned()
        } else if let Some(formula) = &self.formula {
            format!("Merged by the method {}: {formula}.", self.method)
        } else {
            format!(
                "Average of factors: at each adapted module, the merged down-projection (of LoRA: A) is the mean of its {m} experts' \
                 down-projections with weights 1/{m}, bias and all, and likewise the up-projection (B); a projection that all \
                 experts share is taken as it is."
            )
        };
        for (site, SiteWeights { down, up }) in &self.sites {
            text.push_str(&format!(" At {site} the weights are {down:?} for down and {up:?} for up."));
        }
        text
    }

    /// The computation as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|err| Error::internal(format!("the recipe cannot be written: {err}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_survives_toml() {
        let weights = SiteWeights { down: vec![0.1, 0.9], up: vec![1.0] };
        let weighted = Recipe::uniform(2).with_sites([("layers.0.ffn".to_owned(), weights)]);
        let mixture = MixtureConfig::default();
        let others = MergePlan::methods(&mixture).into_iter().map(|plan| Recipe::of(&plan, &mixture));
        for recipe in [Recipe::uniform(4), weighted].into_iter().chain(others) {
            assert_eq!(toml::from_str::<Recipe>(&recipe.to_toml().unwrap()).unwrap(), recipe);
        }
        assert!(Recipe::uniform(4).describe().contains("1/4"));
        assert_eq!(Recipe::of(&MergePlan::Global(vec![1.0, 0.0]), &mixture), Recipe::uniform(4), "weights come apart");
    }

    #[test]
    fn a_recipe_names_the_method_and_what_it_was_given() {
        let mixture = MixtureConfig::default();
        let of = |text: &str| Recipe::of(&text.parse().unwrap(), &mixture);
        assert_eq!(of("dare:0.9:7").parameters, BTreeMap::from([("drop".to_owned(), 0.9), ("seed".to_owned(), 7.0)]));
        assert_eq!((of("wide").method.as_str(), of("wide").parameters["width"]), ("wide", 64.0));
        assert_eq!(of("budget:40:9").parameters["width"], 40.0);
        assert!(!of("fitted").parameters.contains_key("width"), "r is what the settings say");
        assert!(of("wide").describe().contains("[D_1; ...; D_M]"), "{}", of("wide").describe());
    }
}
