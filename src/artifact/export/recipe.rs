//! How the experts became one adapter: in words, and as TOML that can be replayed.
//!
//! ```toml
//! method = "average-of-factors"
//! num_experts = 4
//! # one entry per adapted module where the weights are not uniform; each list sums to 1
//! [sites."layers.0.ffn"]
//! down = [0.4, 0.2, 0.2, 0.2]
//! up = [1.0]
//! ```

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The method of the paper, the only one here: each projection is the weighted mean of its experts' projections.
const METHOD: &str = "average-of-factors";

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
    /// Always `average-of-factors`.
    method: String,
    /// M.
    pub num_experts: usize,
    /// Modules whose weights are not uniform, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sites: BTreeMap<String, SiteWeights>,
}

impl Recipe {
    /// The uniform mean of `num_experts` experts everywhere: the paper's merge.
    pub fn uniform(num_experts: usize) -> Self {
        Self { method: METHOD.to_owned(), num_experts, sites: BTreeMap::new() }
    }

    /// Given weights for the named modules, the uniform mean for all others.
    pub fn weighted(num_experts: usize, sites: impl IntoIterator<Item = (String, SiteWeights)>) -> Self {
        Self { sites: sites.into_iter().collect(), ..Self::uniform(num_experts) }
    }

    /// The computation as a paragraph.
    pub fn describe(&self) -> String {
        let m = self.num_experts;
        let mut text = if m == 1 {
            "There is one expert, so nothing was merged.".to_owned()
        } else {
            format!(
                "Average of factors: at each adapted module, the merged down-projection (weight and bias) is the mean of its {m} \
                 experts' down-projections with weights 1/{m}, and likewise the up-projection; a projection that all \
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
        for recipe in [Recipe::uniform(4), Recipe::weighted(2, [("layers.0.ffn".to_owned(), weights)])] {
            assert_eq!(toml::from_str::<Recipe>(&recipe.to_toml().unwrap()).unwrap(), recipe);
        }
        assert!(Recipe::uniform(4).describe().contains("1/4"));
    }
}
