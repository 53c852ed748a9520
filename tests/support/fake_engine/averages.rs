//! The three averages of the experts that the engine without a model reports.

use super::data::{noise, scores, site_names};
use adamix::config::MixtureKind;
use adamix::protocol::*;
use adamix::records::{Interval, PairedDifference};

/// Three averages of four experts of this kind, without a shared side.
pub fn averages(kind: MixtureKind) -> AveragesReport {
    let lora = kind == MixtureKind::Lora;
    let site = |(i, name): (usize, String)| {
        let x = f64::from(noise(i as u64));
        AveragedSite {
            name: name.replace(".ffn", ".attention.self.query"),
            factors_norm: 0.9 + 0.2 * x,
            deltas_norm: 1.1 + 0.2 * x,
            off: 0.35 + 0.3 * x,
            parts: vec![0.4 + 0.2 * x, 0.5 + 0.2 * x, 0.3 + 0.2 * x, 0.45 + 0.2 * x],
            all_pairs: 2e-9,
            crossed: 0.70 + 0.1 * x,
            rank: 4,
            deltas_rank: 16,
            truncated_off: 0.2 + 0.1 * x,
            parameters: 1024,
            deltas_parameters: 4096,
        }
    };
    let sites: Vec<AveragedSite> = site_names().into_iter().enumerate().filter(|_| lora).map(site).collect();
    // On 640 rows an accuracy that is 0.003 higher is not shown to be higher.
    let against = |value: f64| Interval { value, low: value - 0.008, high: value + 0.008, p: 0.4 };
    let paired = |accuracy: f64| PairedDifference { primary: against(accuracy - 0.764), ..PairedDifference::default() };
    let way = |average, accuracy, parameters, forwards, kl: f64| AverageScore {
        average,
        scores: scores(accuracy),
        paired: (average != Average::Factors).then(|| paired(accuracy)),
        parameters,
        forwards,
        from_outputs: (kl > 0.0).then_some(FromOutputs {
            largest: 8.0 * kl,
            kl: Some(kl),
            changed: (200.0 * kl) as usize,
        }),
    };
    let mut ways = vec![way(Average::Factors, 0.764, 4096, 1, 0.012)];
    if lora {
        ways.push(way(Average::Deltas, 0.767, 16_384, 1, 0.006));
        ways.push(way(Average::Truncated, 0.765, 4096, 1, 0.009));
    }
    ways.push(way(Average::Outputs, 0.769, 16_384, 4, 0.0));
    AveragesReport {
        kind,
        experts: 4,
        shared: false,
        tied: false,
        metric: "accuracy".to_owned(),
        higher_is_better: true,
        rows: 640,
        probe_rows: 64,
        sites,
        ways,
        without_deltas: (!lora).then(|| "An adapter has a nonlinearity between its two matrices.".to_owned()),
        seconds: 1.4,
    }
}
