//! The learning rate as a pure function of the step.

use crate::config::{Schedule, TrainConfig};

/// Rate of the step with index `step` (0 for the first) of `total`: `(step + 1) / warm` in the warm-up, then the schedule,
/// which is not 0 at the last step.
pub fn learning_rate(config: &TrainConfig, step: u64, total: u64) -> f64 {
    let warm = warmup_steps(config, total);
    if step < warm {
        return config.learning_rate * (step + 1) as f64 / warm as f64;
    }
    let left = total.saturating_sub(step) as f64 / total.saturating_sub(warm).max(1) as f64;
    config.learning_rate
        * match config.lr_scheduler {
            Schedule::Linear => left,
            Schedule::Cosine => 0.5 * (1.0 - (std::f64::consts::PI * left).cos()),
            Schedule::Constant => 1.0,
        }
}

/// Steps of the warm-up.
pub fn warmup_steps(config: &TrainConfig, total: u64) -> u64 {
    (config.warmup_ratio * total as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn climbs_then_falls_and_never_leaves_its_bounds() {
        for scheduler in [Schedule::Linear, Schedule::Cosine, Schedule::Constant] {
            let config = TrainConfig {
                learning_rate: 2.0,
                warmup_ratio: 0.1,
                lr_scheduler: scheduler,
                ..TrainConfig::default()
            };
            let rates: Vec<f64> = (0..100).map(|s| learning_rate(&config, s, 100)).collect();
            assert_eq!(rates[0], 0.2);
            assert_eq!(rates[9], 2.0);
            assert!(rates.iter().all(|r| (0.0..=2.0).contains(r)));
            assert!(rates[10..].windows(2).all(|w| w[1] <= w[0]));
            if scheduler != Schedule::Constant {
                assert!(rates[99] > 0.0 && rates[99] < 0.05, "{scheduler:?} ends at {}", rates[99]);
            }
        }
        let none = TrainConfig { learning_rate: 1.0, warmup_ratio: 0.0, ..TrainConfig::default() };
        assert_eq!(learning_rate(&none, 0, 10), 1.0);
        assert_eq!(learning_rate(&none, 0, 1), 1.0);
    }
}
