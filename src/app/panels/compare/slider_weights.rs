//! What the sliders stand for: weights for all modules, for each group of layers, or for each module.

use crate::protocol::MergePlan;

/// Groups of layers at most: lower, middle, upper.
const GROUPS: usize = 3;

/// What one list of weights is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All modules.
    #[default]
    All,
    /// The modules of a group of layers.
    Group,
    /// One module.
    Module,
}

/// The sliders' positions; shares are these divided by their sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SliderWeights {
    pub scope: Scope,
    /// One list for all layers.
    pub global: Vec<f32>,
    /// One list for each group of layers, from the lowest.
    pub groups: Vec<Vec<f32>>,
    /// One list for each module.
    pub layers: Vec<Vec<f32>>,
    /// The group of each module.
    group_of: Vec<usize>,
}

impl SliderWeights {
    /// In the middle of the sliders, so that each can be raised and lowered.
    pub fn uniform(experts: usize, sites: &[String]) -> Self {
        let list = vec![0.5; experts];
        let numbers: Vec<usize> = sites.iter().map(|site| layer_number(site)).collect();
        let depth = numbers.iter().max().map_or(0, |last| last + 1);
        let groups = depth.clamp(1, GROUPS);
        let group_of = numbers.iter().map(|number| number * groups / depth.max(1)).collect();
        let (layers, groups) = (vec![list.clone(); sites.len()], vec![list.clone(); groups]);
        Self { scope: Scope::All, global: list, groups, layers, group_of }
    }

    /// Whether they are for so many experts and modules.
    pub fn fits(&self, experts: usize, sites: &[String]) -> bool {
        let lists = || self.layers.iter().chain(&self.groups).chain([&self.global]);
        self.layers.len() == sites.len() && !self.groups.is_empty() && lists().all(|list| list.len() == experts)
    }

    /// The same lists for this scope.
    pub fn with_scope(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// The list that is shown: of this group or of this module, as the scope says.
    pub fn list_mut(&mut self, group: usize, module: usize) -> &mut Vec<f32> {
        match self.scope {
            Scope::Group if group < self.groups.len() => &mut self.groups[group],
            Scope::Module if module < self.layers.len() => &mut self.layers[module],
            _ => &mut self.global,
        }
    }

    /// Names of the groups of layers.
    pub fn group_names(&self) -> &'static [&'static str] {
        match self.groups.len() {
            0 | 1 => &["all layers"],
            2 => &["lower layers", "upper layers"],
            _ => &["lower layers", "middle layers", "upper layers"],
        }
    }

    /// What is asked of the engine, or why it cannot be.
    pub fn plan(&self) -> Result<MergePlan, String> {
        let zero = |list: &[f32]| list.iter().sum::<f32>() <= 1e-6;
        let lists = match self.scope {
            Scope::All => {
                return match &self.global {
                    list if zero(list) => Err("all weights are 0; raise at least one".to_owned()),
                    list if even(list) => Ok(MergePlan::Uniform),
                    list => Ok(MergePlan::Global(normalised(list))),
                };
            }
            Scope::Group => {
                if let Some(group) = self.groups.iter().position(|list| zero(list)) {
                    return Err(format!("all weights of the {} are 0; raise at least one", self.group_names()[group]));
                }
                self.group_of.iter().map(|&group| &self.groups[group]).collect::<Vec<_>>()
            }
            Scope::Module => {
                if let Some(layer) = self.layers.iter().position(|list| zero(list)) {
                    return Err(format!("all weights of module {layer} are 0; raise at least one"));
                }
                self.layers.iter().collect()
            }
        };
        if lists.iter().all(|list| even(list)) {
            return Ok(MergePlan::Uniform);
        }
        Ok(MergePlan::PerSite(lists.into_iter().map(|list| normalised(list)).collect()))
    }

    /// The sliders at a plan; in the middle where it is no weights, or of another mixture.
    pub fn from_plan(plan: &MergePlan, experts: usize, sites: &[String]) -> Self {
        let mut weights = Self::uniform(experts, sites);
        match plan {
            MergePlan::Global(list) => weights.global = normalised(list),
            MergePlan::PerSite(lists) => {
                weights.scope = Scope::Module;
                weights.layers = lists.iter().map(|list| normalised(list)).collect();
            }
            _ => {}
        }
        if weights.fits(experts, sites) { weights } else { Self::uniform(experts, sites) }
    }
}

fn even(list: &[f32]) -> bool {
    list.iter().all(|w| (w - list[0]).abs() < 1e-6)
}

pub fn normalised(list: &[f32]) -> Vec<f32> {
    let sum: f32 = list.iter().sum();
    if sum.abs() < 1e-9 { list.to_vec() } else { list.iter().map(|w| w / sum).collect() }
}

/// The number of the layer in a module's name, such as `layers.3.ffn`.
fn layer_number(site: &str) -> usize {
    site.strip_prefix("layers.").and_then(|rest| rest.split('.').next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(layers: usize, each: &[&str]) -> Vec<String> {
        (0..layers).flat_map(|layer| each.iter().map(move |name| format!("layers.{layer}.{name}"))).collect()
    }

    #[test]
    fn sliders_become_plans() {
        let sites = sites(2, &["ffn"]);
        let mut weights = SliderWeights::uniform(4, &sites);
        assert_eq!(weights.plan(), Ok(MergePlan::Uniform));
        weights.global = vec![1.0, 0.0, 0.0, 1.0];
        assert_eq!(weights.plan(), Ok(MergePlan::Global(vec![0.5, 0.0, 0.0, 0.5])));
        weights.global = vec![0.0; 4];
        assert!(weights.plan().is_err());
        weights.scope = Scope::Module;
        assert_eq!(weights.plan(), Ok(MergePlan::Uniform));
        weights.layers[1] = vec![3.0, 1.0, 0.0, 0.0];
        let plan = weights.plan().unwrap_or_default();
        assert_eq!(plan, MergePlan::PerSite(vec![vec![0.25; 4], vec![0.75, 0.25, 0.0, 0.0]]));
        assert_eq!(SliderWeights::from_plan(&plan, 4, &sites).plan(), Ok(plan));
        for other in [MergePlan::Global(vec![1.0]), MergePlan::Soup] {
            assert_eq!(SliderWeights::from_plan(&other, 4, &sites), SliderWeights::uniform(4, &sites));
        }
    }

    #[test]
    fn a_group_is_a_third_of_the_layers() {
        let sites = sites(6, &["q", "v"]);
        let mut weights = SliderWeights::uniform(2, &sites);
        weights.scope = Scope::Group;
        assert_eq!((weights.plan(), weights.groups.len()), (Ok(MergePlan::Uniform), 3));
        *weights.list_mut(1, 0) = vec![1.0, 0.0];
        let Ok(MergePlan::PerSite(lists)) = weights.plan() else { panic!("no lists") };
        let changed: Vec<usize> = (0..12).filter(|&i| lists[i] == [1.0, 0.0]).collect();
        assert_eq!(changed, [4, 5, 6, 7], "both modules of layers 2 and 3");
        *weights.list_mut(2, 0) = vec![0.0, 0.0];
        assert_eq!(weights.plan(), Err("all weights of the upper layers are 0; raise at least one".to_owned()));
        assert_eq!(SliderWeights::uniform(2, &self::sites(1, &["ffn"])).groups.len(), 1);
        assert_eq!(SliderWeights::uniform(2, &self::sites(2, &["ffn"])).group_names().len(), 2);
    }
}
