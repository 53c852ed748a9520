//! From weights and routes to the plain numbers that are looked at. Pure functions; nothing here is kept or sent.
//!
//! Experts: [`Banks`] are host copies of all banks, from a model or from a checkpoint; with the [`Banks`] at the
//! start of the run they give an [`ExpertSnapshot`] and a [`DistanceSample`]. Routes: a [`Tally`] counts them and
//! gives a [`RoutingSnapshot`]; [`expectation`] and [`z_scores`] say what chance alone would give.

use crate::config::{MixtureConfig, RoutingPolicy, RunConfig};
use crate::error::{Error, Result};
use crate::mixture::{Pick, Route, SIDES, Side, init};
use crate::model::Network;
use crate::protocol::snapshots::*;
use crate::rng::SeedStream;
use crate::tensor::{HostTensor, to_f32};
use std::collections::VecDeque;

/// Steps of routes that are kept one by one.
const RECENT: usize = 64;
/// Most rows and columns of a heat map.
const CELLS: usize = 128;

/// All experts of one side of one site, on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostBank {
    /// Experts; 1 where the side is shared.
    pub experts: usize,
    /// Rows of each weight matrix (outputs).
    pub rows: usize,
    /// Columns of each weight matrix (inputs).
    pub cols: usize,
    /// W of all experts. `[experts, rows, cols]`
    pub weight: Vec<f32>,
    /// b of all experts; empty for LoRA, which has none. `[experts, rows]`
    pub bias: Vec<f32>,
}

/// All banks of a model, on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Banks {
    /// Names of the sites in order.
    pub sites: Vec<String>,
    /// At `site * 2 + side`.
    pub sides: Vec<HostBank>,
}

impl Banks {
    /// Copies the banks of a model; empty without a mixture.
    pub fn of(model: &dyn Network) -> Result<Self> {
        let mut sides = Vec::new();
        for site in model.sites() {
            for side in SIDES {
                let bank = site.bank(side);
                let (experts, rows, cols) = bank.weight().dims3()?;
                let bias = bank.bias().map(to_f32).transpose()?.unwrap_or_default();
                sides.push(HostBank { experts, rows, cols, weight: to_f32(bank.weight())?, bias });
            }
        }
        Ok(Self { sites: model.site_names(), sides })
    }

    /// The banks among a checkpoint's tensors, in their order; empty when it has none.
    pub fn of_tensors(tensors: &[HostTensor]) -> Result<Self> {
        let mut banks = Self::default();
        // Checkpoints hold a site's first side, its bias if it has one, and then its second side.
        for tensor in tensors {
            let side = BANK_ENDS.iter().find_map(|ends| {
                let site = tensor.name.strip_suffix(&format!("{}.weight", ends[0]))?;
                (tensor.name.starts_with("layers.")).then_some((site, ends))
            });
            let Some((site, ends)) = side else { continue };
            for end in ends {
                let find = |part: &str| tensors.iter().find(|tensor| tensor.name == format!("{site}{end}.{part}"));
                let weight = find("weight").ok_or_else(|| {
                    Error::format(format!("tensor {site}{end}.weight is missing beside its other side"))
                })?;
                banks.sides.push(HostBank::of(weight, find("bias"))?);
            }
            banks.sites.push(site.to_owned());
        }
        Ok(banks)
    }

    /// What banks of these shapes held before the first step: a function of the settings, so that a resumed run
    /// and a checkpoint know their start.
    pub fn at_start(&self, config: &RunConfig) -> Self {
        let seed = SeedStream::new(config.train.seed);
        let mut sides = Vec::with_capacity(self.sides.len());
        for (site, (name, pair)) in self.sites.iter().zip(self.sides.chunks_exact(SIDES.len())).enumerate() {
            let shape = |bank: &HostBank| [bank.experts, bank.rows, bank.cols];
            let start = init::start(&config.mixture, seed, (site, name), [shape(&pair[0]), shape(&pair[1])]);
            for (now, weight) in pair.iter().zip(start) {
                sides.push(HostBank { weight, bias: vec![0.0; now.bias.len()], ..now.clone() });
            }
        }
        Self { sites: self.sites.clone(), sides }
    }

    /// Whether there is no mixture.
    pub fn is_empty(&self) -> bool {
        self.sides.is_empty()
    }
}

/// How the names of a site's two banks end: adapters, LoRA.
const BANK_ENDS: [[&str; 2]; 2] = [[".down", ".up"], [".lora_a", ".lora_b"]];

impl HostBank {
    /// From a checkpoint's tensors.
    fn of(weight: &HostTensor, bias: Option<&HostTensor>) -> Result<Self> {
        let &[experts, rows, cols] = weight.shape.as_slice() else {
            let text = format!("tensor {} of shape {:?} is not a bank of experts", weight.name, weight.shape);
            return Err(Error::format(text));
        };
        if bias.is_some_and(|bias| bias.data.len() != experts * rows) || weight.data.len() != experts * rows * cols {
            return Err(Error::format(format!("tensor {} does not fit its shape or its bias", weight.name)));
        }
        let bias = bias.map(|bias| bias.data.clone()).unwrap_or_default();
        Ok(Self { experts, rows, cols, weight: weight.data.clone(), bias })
    }

    fn weights(&self) -> impl Iterator<Item = &[f32]> {
        self.weight.chunks_exact((self.rows * self.cols).max(1))
    }

    /// The change of every expert since the start; the weights themselves where nothing has changed at all.
    fn changes(&self, start: &Self) -> Vec<Vec<f64>> {
        let parts = self.weights().zip(start.weights());
        let changes: Vec<Vec<f64>> = parts.map(|(now, start)| difference(now, start)).collect();
        if changes.iter().flatten().all(|&change| change == 0.0) {
            return self.weights().map(|part| part.iter().map(|&w| f64::from(w)).collect()).collect();
        }
        changes
    }

    fn distances(&self) -> Vec<f32> {
        let parts: Vec<&[f32]> = self.weights().collect();
        square(parts.len(), |i, j| norm(difference(parts[i], parts[j]).iter().copied()) as f32)
    }

    fn distances_from(&self, start: &Self) -> Vec<f32> {
        self.weights()
            .zip(start.weights())
            .map(|(now, start)| norm(difference(now, start).into_iter()) as f32)
            .collect()
    }
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f64> {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect()
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// A symmetric matrix, row by row; each pair is computed once.
fn square(n: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut all = vec![0.0; n * n];
    for i in 0..n {
        for j in i..n {
            all[i * n + j] = value(i, j);
            all[j * n + i] = all[i * n + j];
        }
    }
    all
}

/// Everything about the experts at one step; heat maps of the focus, where there is one.
pub fn experts(now: &Banks, start: &Banks, step: u64, focus: (usize, Option<Side>)) -> ExpertSnapshot {
    let sides = now.sides.iter().zip(&start.sides).map(|(now, start)| side_snapshot(now, start)).collect();
    let shown = focus.1.and_then(|side| now.sides.get(focus.0 * SIDES.len() + side as usize));
    let heat_maps = shown
        .map_or_else(Vec::new, |bank| bank.weights().map(|weight| heat_map(weight, bank.rows, bank.cols)).collect());
    ExpertSnapshot { step, sites: now.sites.clone(), sides, focus, heat_maps }
}

fn side_snapshot(now: &HostBank, start: &HostBank) -> SideSnapshot {
    let finite = now.weight.iter().copied().filter(|w| w.is_finite());
    let range = finite.fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], w| [low.min(w), high.max(w)]);
    let range = if range[0] <= range[1] { range } else { [0.0, 0.0] };
    let changes = now.changes(start);
    let lengths: Vec<f64> = changes.iter().map(|change| norm(change.iter().copied())).collect();
    let cosine = square(changes.len(), |i, j| {
        let dot: f64 = changes[i].iter().zip(&changes[j]).map(|(a, b)| a * b).sum();
        let both = lengths[i] * lengths[j];
        // An expert that was never drawn has no direction yet.
        if both > 0.0 { (dot / both).clamp(-1.0, 1.0) as f32 } else { f32::from(u8::from(i == j)) }
    });
    let biases = now.bias.chunks_exact(now.rows.max(1)).chain(std::iter::repeat(&[][..]));
    let parts = now.weights().zip(biases).zip(now.distances_from(start));
    let experts = parts.map(|((weight, bias), from_start)| stats(weight, bias, from_start, range)).collect();
    SideSnapshot { rows: now.rows, cols: now.cols, range, experts, cosine, distance: now.distances() }
}

fn stats(weight: &[f32], bias: &[f32], from_start: f32, [low, high]: [f32; 2]) -> ExpertStats {
    let n = weight.len().max(1) as f64;
    let mean = weight.iter().map(|&w| f64::from(w)).sum::<f64>() / n;
    let variance = weight.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum::<f64>() / n;
    let mut histogram = vec![0; HISTOGRAM_BINS];
    let scale = if high > low { HISTOGRAM_BINS as f32 / (high - low) } else { 0.0 };
    for &w in weight.iter().filter(|w| w.is_finite()) {
        histogram[(((w - low) * scale) as usize).min(HISTOGRAM_BINS - 1)] += 1;
    }
    ExpertStats {
        norm: norm(weight.iter().map(|&w| f64::from(w))) as f32,
        bias_norm: norm(bias.iter().map(|&b| f64::from(b))) as f32,
        mean: mean as f32,
        std: variance.sqrt() as f32,
        max_abs: weight.iter().fold(0.0, |most, w| f32::max(most, w.abs())),
        from_start,
        histogram,
    }
}

/// Of each cell the weight with the largest absolute value: averages would hide outliers. weight `[rows, cols]`
pub fn heat_map(weight: &[f32], rows: usize, cols: usize) -> HeatMap {
    let (height, width) = (rows.min(CELLS), cols.min(CELLS));
    let mut values = vec![0.0f32; height * width];
    for (row, line) in weight.chunks_exact(cols.max(1)).take(rows).enumerate() {
        let target = &mut values[row * height / rows * width..][..width];
        for (col, &w) in line.iter().enumerate() {
            let cell = &mut target[col * width / cols];
            if w.abs() > cell.abs() || w.is_nan() {
                *cell = w;
            }
        }
    }
    HeatMap { rows: height, cols: width, values }
}

/// How far the experts are apart, and from where they started.
pub fn distances(now: &Banks, start: &Banks, step: u64) -> DistanceSample {
    let pairwise = |bank: &HostBank| {
        let (n, all) = (bank.experts, bank.distances());
        let pairs = n * n.saturating_sub(1);
        // Each pair is there twice, and the diagonal is zero.
        if pairs == 0 { 0.0 } else { all.iter().sum::<f32>() / pairs as f32 }
    };
    let mean = |values: Vec<f32>| values.iter().sum::<f32>() / values.len().max(1) as f32;
    DistanceSample {
        step,
        pairwise: now.sides.iter().map(pairwise).collect(),
        from_start: now.sides.iter().zip(&start.sides).map(|(now, start)| mean(now.distances_from(start))).collect(),
    }
}

/// Counts routes as they are drawn.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    step: u64,
    policy: RoutingPolicy,
    passes: usize,
    sites: Vec<String>,
    experts: [usize; 2],
    current: Vec<Shares>,
    recent: VecDeque<StepRoute>,
    counts: Vec<Vec<u64>>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(mixture: &MixtureConfig, sites: Vec<String>) -> Self {
        let experts = [mixture.down_experts(), mixture.up_experts()];
        let counts = (0..sites.len() * SIDES.len()).map(|cell| vec![0; experts[cell % SIDES.len()]]).collect();
        let passes = if mixture.consistency { 2 } else { 1 };
        Self { policy: mixture.routing, passes, sites, experts, counts, ..Self::default() }
    }

    /// Counts the route of one micro-batch of a step. A route of another model counts nothing.
    pub fn add(&mut self, step: u64, route: &Route) {
        let cells = self.counts.len();
        if route.sites * SIDES.len() != cells || route.picks.len() != route.passes * cells || cells == 0 {
            return;
        }
        let mut current = Vec::with_capacity(route.picks.len());
        for (index, pick) in route.picks.iter().enumerate() {
            let counts = &mut self.counts[index % cells];
            let mut drawn = vec![0u64; counts.len()];
            let many = match pick {
                Pick::One(expert) => std::slice::from_ref(expert),
                Pick::PerExample(many) | Pick::PerToken(many) => many.as_slice(),
            };
            for &expert in many {
                if let Some(count) = drawn.get_mut(usize::from(expert)) {
                    *count += 1;
                }
            }
            let all = drawn.iter().sum::<u64>().max(1) as f32;
            current.push(drawn.iter().map(|&count| count as f32 / all).collect::<Shares>());
            counts.iter_mut().zip(drawn).for_each(|(sum, count)| *sum += count);
        }
        let most = |shares: &Shares| {
            let best = (1..shares.len()).fold(0, |best, e| if shares[e] > shares[best] { e } else { best });
            best as u8
        };
        let experts = current.iter().map(most).collect();
        // Of several micro-batches of a step the last one is shown; all are counted.
        if self.recent.back().is_some_and(|last| last.step == step) {
            self.recent.pop_back();
        }
        self.recent.push_back(StepRoute { step, experts });
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        (self.step, self.passes, self.current) = (step, route.passes, current);
    }

    /// As it stands.
    pub fn snapshot(&self) -> RoutingSnapshot {
        RoutingSnapshot {
            step: self.step,
            policy: self.policy,
            passes: self.passes,
            sites: self.sites.clone(),
            experts: self.experts,
            current: self.current.clone(),
            recent: self.recent.iter().cloned().collect(),
            counts: self.counts.clone(),
            draws: self.counts.iter().map(|counts| counts.iter().sum()).collect(),
        }
    }
}

/// How often each expert is drawn on average by uniform draws: n / M. `[sites * 2]`
pub fn expectation(routing: &RoutingSnapshot) -> Vec<f64> {
    let cells = routing.draws.iter().zip(&routing.counts);
    cells.map(|(&draws, counts)| draws as f64 / counts.len().max(1) as f64).collect()
}

/// (count - n/M) / sqrt(n/M (1 - 1/M)): a count of uniform draws is binomial. Nothing where nothing is left to
/// chance: a shared side, a fixed expert, round-robin, or no draws yet. `[sites * 2][experts]`
pub fn z_scores(routing: &RoutingSnapshot) -> Vec<Option<Vec<f64>>> {
    let by_chance = !matches!(routing.policy, RoutingPolicy::Fixed | RoutingPolicy::RoundRobin);
    let cells = routing.counts.iter().zip(&routing.draws);
    cells
        .map(|(counts, &draws)| {
            let share = 1.0 / counts.len().max(1) as f64;
            let deviation = (draws as f64 * share * (1.0 - share)).sqrt();
            let score = |&count: &u64| (count as f64 - draws as f64 * share) / deviation;
            (by_chance && deviation > 0.0).then(|| counts.iter().map(score).collect())
        })
        .collect()
}
