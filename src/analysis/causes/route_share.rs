//! Whether a loss that stands out is the route's fault or the batch's.
//!
//! One-way analysis of variance with batches as groups, `loss = mean + batch + route`: one batch under many routes gives the
//! variance within a batch, the route's alone; many batches, each under a route of its own, give the sum of both.

use serde::Serialize;

/// A step's loss taken apart, and the shares of the variance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RouteShare {
    /// Variance of the loss of one batch over its routes.
    pub route_variance: f64,
    /// Variance of the loss over batches, each under a route of its own.
    pub total_variance: f64,
    /// Share of the total variance that the route explains, 0 to 1; absent where nothing varies.
    pub route_share: Option<f64>,
    /// The rest: the share of the batch.
    pub batch_share: Option<f64>,
    /// How far the step's loss is above the mean of the other batches: the sum of the next two.
    pub excess: f64,
    /// Of that the batch's part: its mean over routes against the mean of the other batches.
    pub of_batch: f64,
    /// Of that the route's part: the step's loss against the mean of its batch over routes.
    pub of_route: f64,
}

impl RouteShare {
    /// `own`: the step's loss; `rolls`: those of its batch under other routes; `others`: those of other batches under routes of
    /// their own. Nothing where there are fewer than two of either.
    pub fn of(own: f64, rolls: &[f64], others: &[f64]) -> Option<Self> {
        let (route_variance, total_variance) = (variance(rolls)?, variance(others)?);
        let (same, other) = (mean(rolls), mean(others));
        // Estimates of two samples: the part can come out above the whole.
        let route_share = (total_variance > 0.0).then(|| (route_variance / total_variance).min(1.0));
        Some(Self {
            route_variance,
            total_variance,
            route_share,
            batch_share: route_share.map(|share| 1.0 - share),
            excess: own - other,
            of_batch: same - other,
            of_route: own - same,
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// With n - 1 degrees of freedom; nothing of fewer than two values.
fn variance(values: &[f64]) -> Option<f64> {
    let centre = mean(values);
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    (values.len() > 1).then(|| squares / (values.len() - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, SeedStream};

    #[test]
    fn shares_and_parts_are_those_of_a_hand_computation() {
        // Routes on one batch: 1.0 1.2 1.4, mean 1.2, variance (0.04 + 0 + 0.04) / 2 = 0.04.
        // Batches: 0.5 1.0 1.5 1.0, mean 1.0, variance (0.25 + 0 + 0.25 + 0) / 3 = 1/6.
        let found = RouteShare::of(1.5, &[1.0, 1.2, 1.4], &[0.5, 1.0, 1.5, 1.0]).unwrap();
        assert!((found.route_variance - 0.04).abs() < 1e-12 && (found.total_variance - 1.0 / 6.0).abs() < 1e-12);
        assert!((found.route_share.unwrap() - 0.24).abs() < 1e-12 && (found.batch_share.unwrap() - 0.76).abs() < 1e-12);
        assert!((found.of_batch - 0.2).abs() < 1e-12 && (found.of_route - 0.3).abs() < 1e-12, "{found:?}");
        assert!((found.excess - 0.5).abs() < 1e-12);
    }

    #[test]
    fn planted_variances_come_out() {
        let mut draws = SeedStream::new(4).stream(Purpose::Sampling, 0);
        let rolls: Vec<f64> = (0..4000).map(|_| 2.0 + 0.1 * draws.normal()).collect();
        let others: Vec<f64> = (0..4000).map(|_| 1.0 + 0.3 * draws.normal() + 0.1 * draws.normal()).collect();
        // 0.01 of 0.10: a tenth.
        let found = RouteShare::of(2.0, &rolls, &others).unwrap();
        assert!((found.route_share.unwrap() - 0.1).abs() < 0.01, "{found:?}");
        assert!((found.of_batch - 1.0).abs() < 0.02);
    }

    #[test]
    fn what_cannot_be_said_is_not_said() {
        assert_eq!(RouteShare::of(1.0, &[1.0], &[1.0, 2.0]), None);
        assert_eq!(RouteShare::of(1.0, &[1.0, 2.0], &[]), None);
        let still = RouteShare::of(1.0, &[1.0, 1.0], &[1.0, 1.0]).unwrap();
        assert_eq!((still.route_share, still.excess), (None, 0.0));
        let wild = RouteShare::of(1.0, &[0.0, 9.0], &[1.0, 1.1]).unwrap();
        assert_eq!((wild.route_share, wild.batch_share), (Some(1.0), Some(0.0)));
    }
}
