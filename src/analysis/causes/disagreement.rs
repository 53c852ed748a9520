//! The disagreement of a step's two passes against the number of layers in which they drew differently.
//!
//! To first order each layer that differs adds its own share to the consistency term (the symmetric KL divergence of both
//! answers, or for regression their squared difference), so over many steps
//!
//! ```text
//! KL_t ≈ intercept + Σ_l κ_l d_lt        d_lt: share of layer l's draws that differ between the passes of step t, 0 to 1
//! ```
//!
//! The slopes are what routing does, layer by layer; the intercept is what the passes disagree in with equal routes: dropout.

use super::least_squares::{Estimate, fit_rows};
use crate::error::{Error, Result};
use crate::records::{Pick, Route, SIDES};
use serde::Serialize;

/// One step's draws and disagreement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassPair {
    /// Share of each layer's draws that differ between the two passes, 0 to 1. `[layers]`
    pub differs: Vec<f64>,
    /// The consistency term of the step, before its weight.
    pub term: f64,
}

impl PassPair {
    /// h: in how many layers the passes differ.
    pub fn distance(&self) -> f64 {
        self.differs.iter().sum()
    }
}

/// Steps whose passes differ in the same number of layers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AtDistance {
    /// Layers that differ.
    pub layers: usize,
    /// Steps.
    pub steps: usize,
    /// Their mean disagreement.
    pub mean: f64,
    /// Its standard error; nothing of a single step.
    pub se: Option<f64>,
}

/// The disagreement of the passes and what it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Disagreement {
    /// Steps that count.
    pub steps: usize,
    /// For each layer that differs.
    pub slope: Option<Estimate>,
    /// Where no layer differs: dropout.
    pub intercept: Option<Estimate>,
    /// By layer; nothing for a layer whose draws always or never differ. `[layers]`
    pub layers: Vec<Option<Estimate>>,
    /// The means by number of layers; empty where draws differ in parts of a layer (draws by example or token, several
    /// modules or sides in a layer).
    pub at: Vec<AtDistance>,
}

/// Writes the share of each layer's draws that differ in a step, and returns the step's disagreement. `[layers]`
pub type StepOf<'a> = dyn Fn(usize, &mut [f64]) -> f64 + 'a;

impl Disagreement {
    /// Of these steps, all of one number of layers.
    pub fn of(steps: &[PassPair]) -> Self {
        let usable: Vec<&PassPair> = steps.iter().filter(|step| step.term.is_finite()).collect();
        let layers = usable.first().map_or(0, |step| step.differs.len());
        let step = |i: usize, differs: &mut [f64]| {
            differs.copy_from_slice(&usable[i].differs);
            usable[i].term
        };
        Self::of_rows(layers, usable.len(), &step, &|| true).unwrap_or_default()
    }

    /// As [`Disagreement::of`] of `n` steps, all with a finite disagreement, that `step` writes one at a time: in little memory
    /// however many they are. Nothing where `go_on`, which is asked now and then, said no.
    pub fn of_rows(layers: usize, n: usize, step: &StepOf<'_>, go_on: &dyn Fn() -> bool) -> Option<Self> {
        let of = |i: usize| {
            let mut differs = vec![0.0; layers];
            let term = step(i, &mut differs);
            (differs, term)
        };
        let distance = |i: usize, x: &mut [f64]| {
            let (differs, term) = of(i);
            x[0] = differs.iter().sum();
            term
        };
        let line = fit_rows(1, n, &distance, go_on);
        let found = Self {
            steps: n,
            slope: line.as_ref().and_then(|line| line.get(1).copied()),
            intercept: line.and_then(|line| line.first().copied()),
            layers: slopes(layers, n, &of, go_on),
            at: at(layers, n, &of),
        };
        go_on().then_some(found)
    }

    /// What the line expects of a step whose passes differ in this many layers.
    pub fn expected(&self, distance: f64) -> Option<f64> {
        Some(self.intercept?.value + self.slope?.value * distance)
    }
}

/// One regression over the layers whose draws differ at times and agree at times; `of`: the share of each layer's draws that
/// differ in an observation, and the disagreement. Modules can stand for layers. -> nothing for a layer that always or never
/// differs, and for all of them where there are too few observations.
pub fn slopes(
    layers: usize,
    n: usize,
    of: &dyn Fn(usize) -> (Vec<f64>, f64),
    go_on: &dyn Fn() -> bool,
) -> Vec<Option<Estimate>> {
    let mut found = vec![None; layers];
    if n == 0 {
        return found;
    }
    let first = of(0).0;
    let mut varies = vec![false; layers];
    for differs in (1..n).map(|i| of(i).0) {
        varies.iter_mut().zip(differs.iter().zip(&first)).for_each(|(varies, (own, first))| *varies |= own != first);
    }
    let varying: Vec<usize> = (0..layers).filter(|&layer| varies[layer]).collect();
    let row = |i: usize, x: &mut [f64]| {
        let (differs, term) = of(i);
        x.iter_mut().zip(&varying).for_each(|(x, &layer)| *x = differs[layer]);
        term
    };
    if let Some(fitted) = fit_rows(varying.len(), n, &row, go_on) {
        varying.iter().zip(&fitted[1..]).for_each(|(&layer, slope)| found[layer] = Some(*slope));
    }
    found
}

fn at(layers: usize, n: usize, of: &dyn Fn(usize) -> (Vec<f64>, f64)) -> Vec<AtDistance> {
    let mut groups: Vec<Vec<f64>> = vec![Vec::new(); layers + 1];
    for (differs, term) in (0..n).map(of) {
        if !differs.iter().all(|&share| share == 0.0 || share == 1.0) {
            return Vec::new();
        }
        groups[differs.iter().sum::<f64>() as usize].push(term);
    }
    let group = |(layers, terms): (usize, Vec<f64>)| AtDistance {
        layers,
        steps: terms.len(),
        mean: terms.iter().sum::<f64>() / terms.len() as f64,
        se: Estimate::mean(&terms).map(|mean| mean.se),
    };
    groups.into_iter().enumerate().filter(|(_, terms)| !terms.is_empty()).map(group).collect()
}

/// Share of each layer's draws in which the two passes of a route differ; nothing for a route of one pass. `layer_of`: the
/// layer of each adapted module. `experts`: of both sides; a side of one expert is shared, and nothing is drawn there.
///
/// # Errors
/// Of kind [`Format`](crate::error::ErrorKind::Format) where the route does not belong to these modules.
pub fn differing(route: &Route, layer_of: &[usize], experts: [usize; 2]) -> Result<Option<Vec<f64>>> {
    let cells = layer_of.len() * SIDES.len();
    if route.sites != layer_of.len() || route.picks.len() != route.passes * cells {
        return Err(Error::format("a recorded route has other modules than the run"));
    }
    if route.passes != 2 {
        return Ok(None);
    }
    let layers = layer_of.iter().max().map_or(0, |last| last + 1);
    let (mut differ, mut drawn) = (vec![0.0; layers], vec![0.0; layers]);
    for (site, &layer) in layer_of.iter().enumerate() {
        for side in SIDES {
            if experts[side as usize] > 1 {
                differ[layer] += apart(route.pick(0, site, side), route.pick(1, site, side))?;
                drawn[layer] += 1.0;
            }
        }
    }
    Ok(Some(differ.into_iter().zip(drawn).map(|(d, all)| if all > 0.0 { d / all } else { 0.0 }).collect()))
}

/// Share of the places where two picks of one kind differ.
fn apart(a: &Pick, b: &Pick) -> Result<f64> {
    match (a, b) {
        (Pick::One(a), Pick::One(b)) => Ok(f64::from(u8::from(a != b))),
        (Pick::PerExample(a), Pick::PerExample(b)) | (Pick::PerToken(a), Pick::PerToken(b)) if a.len() == b.len() => {
            let differ = a.iter().zip(b).filter(|(a, b)| a != b).count();
            Ok(differ as f64 / a.len().max(1) as f64)
        }
        _ => Err(Error::format("the passes of a recorded route do not fit together")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, SeedStream};

    /// Steps of four experts in some layers, drawn twice each; `term` of what differs and a number in [-1, 1).
    fn steps(n: u64, layers: usize, term: impl Fn(&[f64], f64) -> f64) -> Vec<PassPair> {
        let step = |index| {
            let mut draws = SeedStream::new(7).stream(Purpose::Sampling, index);
            let differs: Vec<f64> =
                (0..layers).map(|_| f64::from(u8::from(draws.below(4) != draws.below(4)))).collect();
            let term = term(&differs, 2.0 * draws.uniform() - 1.0);
            PassPair { differs, term }
        };
        (0..n).map(step).collect()
    }

    #[test]
    fn planted_slopes_are_found_within_their_errors() {
        let kappa = [0.002, 0.004, 0.0, 0.006];
        let term = |d: &[f64], noise: f64| {
            let mean = 0.008 + d.iter().zip(kappa).map(|(d, k)| d * k).sum::<f64>();
            mean * (1.0 + 0.5 * noise)
        };
        let found = Disagreement::of(&steps(2000, 4, term));
        for (layer, (slope, want)) in found.layers.iter().zip(kappa).enumerate() {
            let slope = slope.unwrap();
            assert!((slope.value - want).abs() < 4.0 * slope.se, "layer {layer}: {slope:?}, planted {want}");
        }
        assert!(found.layers[3].unwrap().z() > 8.0 && found.layers[2].unwrap().z().abs() < 4.0);
        let (slope, intercept) = (found.slope.unwrap(), found.intercept.unwrap());
        assert!((slope.value - 0.003).abs() < 4.0 * slope.se && slope.z() > 8.0, "{slope:?}");
        assert!((intercept.value - 0.008).abs() < 0.001, "{intercept:?}");
        let want = intercept.value + 3.0 * slope.value;
        assert!((found.expected(3.0).unwrap() - want).abs() < 1e-15);
        let counts: usize = found.at.iter().map(|group| group.steps).sum();
        assert_eq!((counts, found.steps), (2000, 2000));
        assert!(found.at.windows(2).all(|pair| pair[0].layers < pair[1].layers));
    }

    #[test]
    fn equal_experts_have_no_slope_and_no_dropout_no_intercept() {
        let only_dropout = Disagreement::of(&steps(1000, 4, |_, noise| 0.008 + 0.004 * noise));
        assert!(only_dropout.slope.unwrap().z().abs() < 3.0, "{only_dropout:?}");
        let only_routing =
            Disagreement::of(&steps(1000, 4, |d, noise| 0.003 * d.iter().sum::<f64>() * (1.0 + 0.5 * noise)));
        assert!(only_routing.intercept.unwrap().z().abs() < 3.0 && only_routing.slope.unwrap().z() > 10.0);
        let equal = Disagreement::of(&steps(100, 3, |_, _| 0.0));
        assert_eq!((equal.slope.unwrap().value, equal.intercept.unwrap().value), (0.0, 0.0));
    }

    #[test]
    fn errors_hold_their_level_over_many_runs() {
        // The share of |z| > 1.96 under no slope: 5 % of 400, give or take 2.2 (two standard deviations 2.2 %).
        let beyond = (0..400).filter(|run| {
            let mut noise = SeedStream::new(*run).stream(Purpose::Sampling, 1 << 40);
            let mut all = steps(200, 4, |_, _| 0.0);
            all.iter_mut().for_each(|step| step.term = 0.01 * noise.uniform());
            // Other draws in each run.
            let shift = usize::try_from(run % 190).unwrap();
            let differs: Vec<Vec<f64>> = all.iter().map(|step| step.differs.clone()).collect();
            all.iter_mut().enumerate().for_each(|(i, step)| step.differs.clone_from(&differs[(i + shift) % 200]));
            Disagreement::of(&all).slope.unwrap().z().abs() > 1.96
        });
        let share = beyond.count() as f64 / 400.0;
        assert!((0.02..0.085).contains(&share), "{share}");
    }

    #[test]
    fn draws_that_never_vary_and_broken_numbers_are_left_out() {
        let mut all = steps(300, 2, |d, noise| 0.01 + 0.002 * d[0] + 0.001 * noise);
        all.iter_mut().for_each(|step| step.differs.push(1.0));
        all[5].term = f64::NAN;
        let found = Disagreement::of(&all);
        assert_eq!((found.steps, found.layers[2]), (299, None));
        assert!(found.layers[0].unwrap().z() > 10.0);
        let nothing = Disagreement::of(&[]);
        assert_eq!(nothing, Disagreement::default());
    }

    #[test]
    fn what_differs_is_read_from_the_route() {
        let one = Pick::One;
        // Three modules, two of them in layer 0; up is shared.
        let picks =
            vec![one(0), one(0), one(1), one(0), one(2), one(0), one(0), one(0), one(3), one(0), one(1), one(0)];
        let route = Route { passes: 2, sites: 3, picks };
        assert_eq!(differing(&route, &[0, 0, 1], [4, 1]).unwrap().unwrap(), [0.5, 1.0]);
        let shared = differing(&route, &[0, 0, 1], [1, 1]).unwrap().unwrap();
        assert_eq!(shared, [0.0, 0.0]);
        let tokens = |a: &[u8], b: &[u8]| Route {
            passes: 2,
            sites: 1,
            picks: vec![Pick::PerToken(a.to_vec()), one(0), Pick::PerToken(b.to_vec()), one(0)],
        };
        let found = differing(&tokens(&[0, 1, 2, 3], &[0, 1, 3, 3]), &[0], [4, 1]).unwrap().unwrap();
        assert_eq!(found, [0.25]);
        assert!(differing(&tokens(&[0, 1], &[0]), &[0], [4, 1]).is_err());
        assert!(differing(&route, &[0, 1], [4, 1]).is_err());
        let single = Route { passes: 1, sites: 1, picks: vec![one(0), one(0)] };
        assert_eq!(differing(&single, &[0], [4, 1]).unwrap(), None);
    }
}
