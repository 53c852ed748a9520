//! Runs that differ only in their seed: mean and standard deviation of their curves and scores.

use crate::config::{RunConfig, keys};

/// Mean of several values, and how they spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// How many.
    pub n: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation of the sample, with n - 1; absent for one value.
    pub sd: Option<f64>,
}

impl Spread {
    /// Of finite values; absent for none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (n > 0).then(|| Self { n, mean, sd: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()) })
    }
}

/// The value of a line at `x`, in proportion between two points; absent outside of it.
fn at(line: &[[f64; 2]], x: f64) -> Option<f64> {
    let next = line.partition_point(|point| point[0] < x);
    let after = line.get(next)?;
    if after[0] == x {
        return Some(after[1]);
    }
    let before = line.get(next.checked_sub(1)?)?;
    Some(before[1] + (after[1] - before[1]) * (x - before[0]) / (after[0] - before[0]))
}

/// Mean and spread of lines (`[x, y]`, x ascending) at every x of any of them that all of them reach.
pub fn mean_line(lines: &[&[[f64; 2]]]) -> Vec<(f64, Spread)> {
    let mut xs: Vec<f64> = lines.iter().flat_map(|line| line.iter().map(|point| point[0])).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let spread = |x: f64| {
        let values: Vec<f64> = lines.iter().filter_map(|line| at(line, x)).collect();
        Spread::of(values).filter(|spread| spread.n == lines.len())
    };
    xs.into_iter().filter_map(|x| Some((x, spread(x)?))).collect()
}

/// Settings that say where a run lies and how fast it is, not what it computes, and the seed.
const NOT_COMPARED: [&str; 4] = ["name", "runs_dir", "train.seed", "model.threads"];

/// Whether two runs differ at most in their seed.
pub fn same_but_seed(a: &RunConfig, b: &RunConfig) -> bool {
    keys::differences(a, b).is_ok_and(|keys| keys.iter().all(|(key, _)| NOT_COMPARED.contains(&key.path)))
}

/// Runs, by index, in groups that differ only in their seed; in the order of their first runs.
pub fn groups(configs: &[&RunConfig]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, config) in configs.iter().enumerate() {
        match groups.iter_mut().find(|group| same_but_seed(configs[group[0]], config)) {
            Some(group) => group.push(i),
            None => groups.push(vec![i]),
        }
    }
    groups
}

/// The settings that are not the same in all runs, but for names and directories: the setting, and its value in each run.
pub fn differing(configs: &[&RunConfig]) -> Vec<(&'static keys::Key, Vec<String>)> {
    let Some(first) = configs.first() else { return Vec::new() };
    let differs = |key: &&'static keys::Key| {
        !matches!(key.path, "name" | "runs_dir")
            && configs[1..].iter().any(|other| value(other, key) != value(first, key))
    };
    let values = |key| configs.iter().map(|config| value(config, key)).collect();
    keys::KEYS.iter().filter(differs).map(|key| (key, values(key))).collect()
}

fn value(config: &RunConfig, key: &keys::Key) -> String {
    keys::get(config, key.path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_standard_deviation_of_known_numbers() {
        let spread = Spread::of([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert_eq!((spread.n, spread.mean), (8, 5.0));
        assert!((spread.sd.unwrap() - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(Spread::of([3.0, f64::NAN]), Some(Spread { n: 1, mean: 3.0, sd: None }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_mean_line_needs_all_lines_and_interpolates() {
        let a: &[[f64; 2]] = &[[0.0, 0.0], [10.0, 10.0], [20.0, 20.0]];
        let b: &[[f64; 2]] = &[[0.0, 2.0], [5.0, 7.0], [10.0, 12.0]];
        let line = mean_line(&[a, b]);
        let means: Vec<[f64; 2]> = line.iter().map(|(x, spread)| [*x, spread.mean]).collect();
        assert_eq!(means, [[0.0, 1.0], [5.0, 6.0], [10.0, 11.0]], "not beyond the shorter one");
        assert!(line.iter().all(|(_, spread)| spread.sd.is_some_and(|sd| (sd - 2f64.sqrt()).abs() < 1e-12)));
        assert!(mean_line(&[]).is_empty());
    }

    #[test]
    fn runs_are_grouped_by_everything_but_the_seed() {
        let mut runs = vec![RunConfig::default(); 4];
        for (i, run) in runs.iter_mut().enumerate() {
            (run.train.seed, run.name) = (i as u64, format!("run-{i}"));
        }
        runs[1].train.learning_rate *= 2.0;
        let all: Vec<&RunConfig> = runs.iter().collect();
        assert_eq!(groups(&all), [vec![0, 2, 3], vec![1]]);
        let keys: Vec<&str> = differing(&all).iter().map(|(key, _)| key.path).collect();
        assert_eq!(keys, ["train.seed", "train.learning_rate"]);
        assert_eq!(differing(&all)[0].1, ["0", "1", "2", "3"]);
        assert!(differing(&all[..1]).is_empty());
    }
}
