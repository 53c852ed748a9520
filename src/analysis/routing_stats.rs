//! Which expert ran how often, and whether the counts are what chance gives: expectations, z-scores, and a limit for many
//! counts looked at together.
//!
//! With a uniform law, `n` independent draws among `M` experts give each of them `n / M` on average with the
//! standard deviation `sqrt(n (1/M) (1 - 1/M))`. Among many counts the largest deviation is large by chance alone;
//! the limit is therefore Bonferroni's: a fair law stays inside it in 95 of 100 cases, whatever the number of counts.

use crate::config::{LawChange, MixtureConfig, RoutingLaw, RoutingPolicy};
use crate::records::{Pick, Route, SIDES};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Steps of routes that are kept one by one.
const RECENT: usize = 64;

/// Shares of the experts in one pick: a single 1 for a whole-batch draw, a distribution for draws by example or token.
pub type Shares = Vec<f32>;

/// One step's draws, reduced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRoute {
    /// Steps done when it was drawn.
    pub step: u64,
    /// Expert of `(pass * sites + site) * 2 + side`; where several ran, the one that ran most.
    pub experts: Vec<u8>,
    /// Where each example or token drew for itself: of every such cell the share of each of its experts, in 255ths.
    /// Empty where a whole batch took one expert.
    pub shares: Vec<u8>,
}

impl StepRoute {
    /// The shares of the experts of a cell, 0 to 1; `experts`: of the down side and of the up side.
    pub fn shares_of(&self, cell: usize, experts: [usize; 2]) -> Shares {
        let (pair, side) = (cell / SIDES.len(), cell % SIDES.len());
        let first = pair * (experts[0] + experts[1]) + side * experts[0];
        match self.shares.get(first..first + experts[side]) {
            Some(shares) => shares.iter().map(|&share| f32::from(share) / 255.0).collect(),
            None => {
                let expert = self.experts.get(cell).map(|&expert| usize::from(expert));
                (0..experts[side]).map(|e| f32::from(u8::from(Some(e) == expert))).collect()
            }
        }
    }
}

/// Which expert runs where, now and so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoutingSnapshot {
    /// Steps done.
    pub step: u64,
    /// The law of the newest step's draws.
    pub policy: RoutingPolicy,
    /// The expert of a fixed law.
    #[serde(default)]
    pub fixed_expert: usize,
    /// The step from which on draws are counted: the first one under the present law; 0: from the start.
    #[serde(default)]
    pub counted_from: u64,
    /// Passes of a step: 2 with consistency.
    pub passes: usize,
    /// Names of the adapted modules in order, such as `layers.3.ffn`.
    pub sites: Vec<String>,
    /// Experts of the down side and of the up side; 1: shared, nothing is drawn.
    pub experts: [usize; 2],
    /// The newest step's picks: shares of the experts at `(pass * sites + site) * 2 + side`.
    pub current: Vec<Shares>,
    /// The newest steps' picks, oldest first, at most 64.
    pub recent: Vec<StepRoute>,
    /// How often each expert was drawn under the present law, at `site * 2 + side`; both passes counted, per example or token where so drawn. `[sites * 2][experts]`
    pub counts: Vec<Vec<u64>>,
    /// Independent draws at `site * 2 + side`: the sum of its counts. `[sites * 2]`
    pub draws: Vec<u64>,
}

impl RoutingSnapshot {
    /// The z-scores of the counts; nothing where nothing is left to chance: a shared side, a fixed expert, round-robin, or no
    /// draws yet. `[sites * 2][experts]`
    pub fn z_scores(&self) -> Vec<Option<Vec<f64>>> {
        let cells = self.counts.iter().zip(&self.draws);
        cells
            .map(|(counts, &draws)| {
                let experts = counts.len();
                (self.policy.is_random() && experts > 1 && draws > 0)
                    .then(|| counts.iter().map(|&count| z_score(count, draws, experts)).collect())
            })
            .collect()
    }
}

/// Counts routes as they are drawn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteCounts {
    snapshot: RoutingSnapshot,
    recent: VecDeque<StepRoute>,
    /// Changes of the law that are still to come, by step.
    #[serde(skip)]
    laws: VecDeque<LawChange>,
}

impl RouteCounts {
    /// Nothing counted yet.
    pub fn new(mixture: &MixtureConfig, sites: Vec<String>) -> Self {
        let experts = [mixture.down_experts(), mixture.up_experts()];
        let counts = (0..sites.len() * SIDES.len()).map(|cell| vec![0; experts[cell % SIDES.len()]]).collect();
        let passes = if mixture.consistency { 2 } else { 1 };
        let RoutingLaw { routing: policy, fixed_expert } = RoutingLaw::of(mixture);
        let snapshot =
            RoutingSnapshot { policy, fixed_expert, passes, sites, experts, counts, ..RoutingSnapshot::default() };
        Self { snapshot, recent: VecDeque::new(), laws: VecDeque::new() }
    }

    /// The same where the law changes so; changes up to the last step that was counted have been made.
    #[must_use]
    pub fn with_laws(mut self, laws: &[LawChange]) -> Self {
        let mut later: Vec<LawChange> =
            laws.iter().copied().filter(|change| change.step > self.snapshot.step).collect();
        later.sort_by_key(|change| change.step);
        self.laws = later.into();
        self
    }

    /// The law changes: counts of draws by two laws say nothing together, so they begin anew with the change's step.
    pub fn change_law(&mut self, change: &LawChange) {
        self.snapshot.policy = change.law.routing;
        self.snapshot.fixed_expert = change.law.fixed_expert;
        self.snapshot.counted_from = change.step;
        self.snapshot.counts.iter_mut().for_each(|counts| counts.fill(0));
    }

    /// Counts the route of one micro-batch of a step. A route of another model counts nothing.
    pub fn add(&mut self, step: u64, route: &Route) {
        let cells = self.snapshot.counts.len();
        if route.sites * SIDES.len() != cells || route.picks.len() != route.passes * cells || cells == 0 {
            return;
        }
        while let Some(change) = self.laws.pop_front_if(|change| change.step <= step) {
            self.change_law(&change);
        }
        // Of several micro-batches of a step the last one is shown; all are counted.
        let full = self.recent.len() >= RECENT;
        let again = self.recent.back().is_some_and(|last| last.step == step);
        let old = if again { self.recent.pop_back() } else { None };
        let old = old.or_else(|| if full { self.recent.pop_front() } else { None });
        // Millions of routes are counted when a long run is opened: memory is used again, not allocated for each.
        let StepRoute { experts: mut most, shares: mut in_255ths, .. } = old.unwrap_or_default();
        most.clear();
        in_255ths.clear();
        let mixed = route.picks.iter().any(|pick| !matches!(pick, Pick::One(_)));
        let current = &mut self.snapshot.current;
        current.resize_with(route.picks.len(), Shares::new);
        for (index, (pick, shares)) in route.picks.iter().zip(current).enumerate() {
            let counts = &mut self.snapshot.counts[index % cells];
            shares.resize(counts.len(), 0.0);
            shares.fill(0.0);
            most.push(count(pick, counts, shares));
            if mixed {
                in_255ths.extend(shares.iter().map(|share| (255.0 * share).round() as u8));
            }
        }
        self.recent.push_back(StepRoute { step, experts: most, shares: in_255ths });
        (self.snapshot.step, self.snapshot.passes) = (step, route.passes);
    }

    /// Whether these are counts of such routes, where the law changes so.
    pub fn is_of(&self, mixture: &MixtureConfig, sites: &[String], laws: &[LawChange]) -> bool {
        let fresh = Self::new(mixture, sites.to_vec()).snapshot;
        let own = &self.snapshot;
        let experts = |counts: &[Vec<u64>]| counts.iter().map(Vec::len).collect::<Vec<_>>();
        let first = RoutingLaw::of(mixture);
        let law = RoutingLaw { routing: own.policy, fixed_expert: own.fixed_expert };
        let same_law = law == LawChange::law_of(first, laws, own.step);
        let same = same_law && (own.experts, &own.sites) == (fresh.experts, &fresh.sites);
        same && experts(&own.counts) == experts(&fresh.counts)
    }

    /// As it stands.
    pub fn snapshot(&self) -> RoutingSnapshot {
        RoutingSnapshot {
            recent: self.recent.iter().cloned().collect(),
            draws: self.snapshot.counts.iter().map(|counts| counts.iter().sum()).collect(),
            ..self.snapshot.clone()
        }
    }
}

/// Counts a pick, and sets the shares (zeros so far) of the experts in it; the expert that ran most.
fn count(pick: &Pick, counts: &mut [u64], shares: &mut [f32]) -> u8 {
    let many = match pick {
        Pick::One(expert) => std::slice::from_ref(expert),
        Pick::PerExample(many) | Pick::PerToken(many) => many.as_slice(),
    };
    for &expert in many {
        if let Some(count) = counts.get_mut(usize::from(expert)) {
            *count += 1;
            shares[usize::from(expert)] += 1.0;
        }
    }
    if let [expert] = many {
        return if usize::from(*expert) < counts.len() { *expert } else { 0 };
    }
    let all = shares.iter().sum::<f32>().max(1.0);
    shares.iter_mut().for_each(|share| *share /= all);
    (1..shares.len()).fold(0, |best, e| if shares[e] > shares[best] { e } else { best }) as u8
}

/// Counts of expected size below this are not judged: the normal distribution does not describe them yet.
pub const FEWEST_EXPECTED: f64 = 5.0;

/// Probability that a standard normal number is above `z`.
pub fn upper_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z < 3.0 {
        // Φ(z) - 1/2 = φ(z) (z + z³/3 + z⁵/(3·5) + ...)
        let (mut term, mut sum) = (z, z);
        for k in 1..60 {
            term *= z * z / (2.0 * f64::from(k) + 1.0);
            sum += term;
        }
        0.5 - density * sum
    } else {
        // 1 - Φ(z) = φ(z) / (z + 1/(z + 2/(z + 3/(z + ...))))
        let fraction = (1..=60).rev().fold(z, |below, k| z + f64::from(k) / below);
        density / fraction
    }
}

/// The z above which a standard normal number lies with probability `p` (0 < p < 1).
pub fn upper_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-40.0f64, 40.0f64);
    for _ in 0..90 {
        let middle = 0.5 * (low + high);
        if upper_tail(middle) > p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Standard deviations between a count and its expectation, (count - n/M) / sqrt(n/M (1 - 1/M)): a count of uniform draws is
/// binomial. 0 where nothing is left to chance.
pub fn z_score(count: u64, draws: u64, experts: usize) -> f64 {
    let share = 1.0 / experts.max(1) as f64;
    let deviation = (draws as f64 * share * (1.0 - share)).sqrt();
    if deviation > 0.0 { (count as f64 - draws as f64 * share) / deviation } else { 0.0 }
}

/// How the counts are to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// No side has more than one expert: nothing is drawn.
    NothingDrawn,
    /// Too few draws.
    TooEarly,
    /// Inside what a fair law gives in 95 of 100 cases.
    WithinChance,
    /// A fair law gives more in fewer than 1 of 20, but not fewer than 1 of 1000 cases.
    Unusual,
    /// A fair law gives more in fewer than 1 of 1000 cases.
    NotChance,
    /// The law leaves nothing to chance, and the counts are exactly as it says.
    AsPlanned,
    /// The law leaves nothing to chance, and the counts are not as it says.
    NotAsPlanned,
}

/// All counts of a run, judged together.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// Counts looked at.
    pub cells: usize,
    /// Draws that the least drawn side expects for each expert.
    pub expected: f64,
    /// The largest deviation: its z-score, with sign.
    pub largest: f64,
    /// Where it is: index into the counts, and the expert.
    pub place: (usize, usize),
    /// What the largest of so many is typically: exceeded by one count on average.
    pub typical: f64,
    /// Exceeded by a fair law in 1 of 20 cases.
    pub limit: f64,
    /// Pearson's chi-squared over all sides.
    pub chi_squared: f64,
    /// Its degrees of freedom.
    pub freedom: usize,
    /// Probability of a chi-squared at least as large under a fair law.
    pub p_value: f64,
    /// The verdict.
    pub judgement: Judgement,
}

/// Judges the counts of all sides (`[sites * 2][experts]`) under a law; `fixed` is the expert of the fixed law.
pub fn judge(counts: &[Vec<u64>], policy: RoutingPolicy, fixed: usize) -> Balance {
    let drawn = || counts.iter().enumerate().filter(|(_, counts)| counts.len() > 1);
    let cells: usize = drawn().map(|(_, counts)| counts.len()).sum();
    let mut expected = f64::INFINITY;
    let (mut largest, mut place) = (0.0f64, (0, 0));
    let (mut chi_squared, mut freedom) = (0.0, 0);
    let mut planned = true;
    for (index, counts) in drawn() {
        let (n, m) = (counts.iter().sum::<u64>(), counts.len());
        let mean = n as f64 / m as f64;
        expected = expected.min(mean);
        freedom += m - 1;
        for (expert, &count) in counts.iter().enumerate() {
            let z = z_score(count, n, m);
            if z.abs() > largest.abs() {
                (largest, place) = (z, (index, expert));
            }
            if mean > 0.0 {
                chi_squared += (count as f64 - mean).powi(2) / mean;
            }
            planned &= match policy {
                RoutingPolicy::Fixed => (count > 0) == (expert == fixed.min(m - 1) && n > 0),
                // Both passes of a step take neighbours, so a count may be one step's worth ahead.
                RoutingPolicy::RoundRobin => (count as f64 - mean).abs() <= 2.0,
                RoutingPolicy::PerBatch | RoutingPolicy::PerExample | RoutingPolicy::PerToken => true,
            };
        }
    }
    let looks = cells.max(1) as f64;
    let limit = upper_quantile(0.05 / (2.0 * looks));
    let judgement = if cells == 0 {
        Judgement::NothingDrawn
    } else if !policy.is_random() {
        if planned { Judgement::AsPlanned } else { Judgement::NotAsPlanned }
    } else if expected < FEWEST_EXPECTED {
        Judgement::TooEarly
    } else if largest.abs() <= limit {
        Judgement::WithinChance
    } else if largest.abs() <= upper_quantile(0.001 / (2.0 * looks)) {
        Judgement::Unusual
    } else {
        Judgement::NotChance
    };
    Balance {
        cells,
        expected: if expected.is_finite() { expected } else { 0.0 },
        largest,
        place,
        typical: upper_quantile((1.0 / (2.0 * looks)).min(0.5)),
        limit,
        chi_squared,
        freedom,
        p_value: chi_squared_tail(chi_squared, freedom),
        judgement,
    }
}

/// Probability that chi-squared with `freedom` degrees is at least `x` (Wilson and Hilferty's approximation).
fn chi_squared_tail(x: f64, freedom: usize) -> f64 {
    if freedom == 0 {
        return 1.0;
    }
    let k = freedom as f64;
    let spread = 2.0 / (9.0 * k);
    upper_tail(((x / k).cbrt() - (1.0 - spread)) / spread.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    #[test]
    fn the_normal_distribution_has_its_known_values() {
        close(upper_tail(0.0), 0.5, 1e-15);
        close(upper_tail(1.959_963_984_540_054), 0.025, 1e-12);
        close(upper_tail(-1.0), 0.841_344_746_068_542_9, 1e-12);
        close(upper_tail(5.0) / 2.866_515_718_791_939e-7, 1.0, 1e-6);
        close(upper_tail(2.999_999_999), upper_tail(3.000_000_001), 1e-11);
        close(upper_quantile(0.025), 1.959_963_984_540_054, 1e-9);
        close(upper_quantile(1e-9), 5.997_807, 1e-5);
    }

    #[test]
    fn chi_squared_is_near_its_table() {
        close(chi_squared_tail(16.919, 9), 0.05, 2e-3);
        close(chi_squared_tail(129.561, 100), 0.025, 1e-3);
    }

    #[test]
    fn draws_for_each_token_keep_their_shares() {
        let mixture =
            MixtureConfig { routing: RoutingPolicy::PerToken, consistency: false, ..MixtureConfig::default() };
        let mut counts = RouteCounts::new(&mixture, vec!["layers.0.ffn".to_owned()]);
        let picks = vec![Pick::PerToken(vec![0, 1, 1, 3]), Pick::One(0)];
        counts.add(1, &Route { passes: 1, sites: 1, picks });
        let snapshot = counts.snapshot();
        let shares = snapshot.recent[0].shares_of(0, snapshot.experts);
        for (share, wanted) in shares.iter().zip([0.25, 0.5, 0.0, 0.25]) {
            assert!((share - wanted).abs() < 0.003, "{shares:?}");
        }
        assert_eq!(snapshot.recent[0].shares_of(1, snapshot.experts), [1.0]);
        // A draw for the whole batch is a share of 1, without anything stored for it.
        counts.add(2, &Route { passes: 1, sites: 1, picks: vec![Pick::One(2), Pick::One(0)] });
        let step = &counts.snapshot().recent[1];
        assert!(step.shares.is_empty());
        assert_eq!(step.shares_of(0, [4, 1]), [0.0, 0.0, 1.0, 0.0]);
    }

    /// Counts of a fair or a loaded law from a small generator of its own.
    fn draw(seed: u64, sides: usize, experts: u64, draws: u64, loaded: bool) -> Vec<Vec<u64>> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state >> 11
        };
        let mut counts = vec![vec![0; experts as usize]; sides];
        for side in &mut counts {
            for _ in 0..draws {
                let mut pick = next() % experts;
                if loaded && pick == 0 && next() % 4 == 0 {
                    pick = 1;
                }
                side[pick as usize] += 1;
            }
        }
        counts
    }

    #[test]
    fn a_fair_law_raises_the_nominal_number_of_alarms() {
        let runs = 400;
        let alarms = (1..=runs)
            .filter(|&seed| {
                let balance = judge(&draw(seed, 12, 4, 600, false), RoutingPolicy::PerBatch, 0);
                !matches!(balance.judgement, Judgement::WithinChance)
            })
            .count();
        // 5 in 100 at most, because the four counts of a side are not independent; some must occur.
        assert!((1..=34).contains(&alarms), "{alarms} alarms in {runs} fair runs");
    }

    #[test]
    fn a_loaded_law_is_found_and_named() {
        let mut counts = draw(7, 12, 4, 2000, false);
        counts[5] = draw(8, 1, 4, 2000, true).remove(0);
        let balance = judge(&counts, RoutingPolicy::PerBatch, 0);
        assert_eq!(balance.judgement, Judgement::NotChance);
        assert_eq!(balance.place.0, 5);
        assert!(balance.largest.abs() > balance.limit && balance.limit > balance.typical);
    }

    #[test]
    fn few_draws_and_shared_sides_are_not_judged() {
        assert_eq!(judge(&[vec![3, 0, 0, 1]], RoutingPolicy::PerBatch, 0).judgement, Judgement::TooEarly);
        assert_eq!(judge(&[vec![90], vec![90]], RoutingPolicy::PerBatch, 0).judgement, Judgement::NothingDrawn);
    }

    #[test]
    fn laws_without_chance_are_checked_exactly() {
        let fixed = |counts: &[Vec<u64>]| judge(counts, RoutingPolicy::Fixed, 2).judgement;
        assert_eq!(fixed(&[vec![0, 0, 50, 0], vec![50]]), Judgement::AsPlanned);
        assert_eq!(fixed(&[vec![0, 1, 49, 0], vec![50]]), Judgement::NotAsPlanned);
        let round = |counts: &[Vec<u64>]| judge(counts, RoutingPolicy::RoundRobin, 0).judgement;
        assert_eq!(round(&[vec![26, 25, 24, 25]]), Judgement::AsPlanned);
        assert_eq!(round(&[vec![40, 10, 25, 25]]), Judgement::NotAsPlanned);
    }

    #[test]
    fn z_scores_are_exact() {
        close(z_score(63, 240, 4), 3.0 / (240.0f64 * 0.25 * 0.75).sqrt(), 1e-12);
        assert_eq!(z_score(9, 9, 1), 0.0);
        assert_eq!(z_score(0, 0, 4), 0.0);
    }
}
