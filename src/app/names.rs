//! Display names of adapted modules, sides and routing policies.

use crate::config::RoutingPolicy;
use crate::format;
use crate::protocol::{MergePlan, Side};

/// `layers.3.ffn` as `layer 3`, `layers.3.attention` as `layer 3 attention`; anything else as it is.
pub fn layer(name: &str) -> String {
    let mut parts = name.split('.');
    match (parts.next(), parts.next().and_then(|n| n.parse::<usize>().ok()), parts.next()) {
        (Some("layers"), Some(n), None | Some("ffn")) => format!("layer {n}"),
        (Some("layers"), Some(n), Some(rest)) => format!("layer {n} {rest}"),
        _ => name.to_owned(),
    }
}

/// `layers.3.self_attn.q_proj` as `layer 3 self_attn.q_proj`: every part, where a layer has several modules.
pub fn module(name: &str) -> String {
    match name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
        Some((n, part)) if n.bytes().all(|b| b.is_ascii_digit()) => format!("layer {n} {part}"),
        _ => layer(name),
    }
}

pub fn side(side: Side) -> &'static str {
    match side {
        Side::Down => "down",
        Side::Up => "up",
    }
}

/// The metric's name as people write it.
pub fn metric(metric: &str) -> &str {
    match metric {
        "accuracy" => "Accuracy",
        "f1" => "F1",
        "matthews" => "Matthews correlation",
        "pearson" => "Pearson correlation",
        "spearman" => "Spearman correlation",
        "loss" => "Loss",
        "perplexity" => "Perplexity",
        "token_accuracy" => "Next-token accuracy",
        other => other,
    }
}

/// A routing policy in the list of choices.
pub fn policy_title(policy: RoutingPolicy) -> &'static str {
    match policy {
        RoutingPolicy::PerBatch => "Random per batch (paper)",
        RoutingPolicy::PerExample => "Random per example",
        RoutingPolicy::PerToken => "Random per token",
        RoutingPolicy::Fixed => "Always one expert",
        RoutingPolicy::RoundRobin => "Round-robin",
    }
}

/// Short name and description of a routing policy.
pub fn policy(policy: RoutingPolicy) -> (&'static str, &'static str) {
    match policy {
        RoutingPolicy::PerBatch => (
            "one uniform draw for the whole batch",
            "Random, no gate, nothing learned (AdaMix, section 3.1): for every batch, every layer draws one of its M \
             experts with equal chances, down and up independently. All sequences of the batch take the same path.",
        ),
        RoutingPolicy::PerExample => (
            "one uniform draw for each example",
            "Every example draws its own path with equal chances. The paper draws once for the whole batch; this \
             is how its reference code evaluates random routing.",
        ),
        RoutingPolicy::PerToken => (
            "one uniform draw for each token",
            "Every token draws its own expert in every layer with equal chances. The paper draws once for the whole \
             batch.",
        ),
        RoutingPolicy::Fixed => (
            "always the same expert",
            "Every layer always uses the same expert: a single adapter, the paper's control without a mixture \
             (Table 7).",
        ),
        RoutingPolicy::RoundRobin => (
            "in turn, not random",
            "The experts take turns: (micro-batch + module + pass) mod M. Even by construction, to tell the effect of chance \
             from that of the mixture.",
        ),
    }
}

/// A share of 1 as `25 %`; with a decimal where that matters.
pub fn share(share: f32) -> String {
    let percent = 100.0 * share;
    if (percent - percent.round()).abs() < 0.05 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// Weights as `25 : 25 : 50 %`.
pub fn shares(weights: &[f32]) -> String {
    let sum: f32 = weights.iter().sum();
    let parts: Vec<String> = weights.iter().map(|w| share(w / sum).trim_end_matches(" %").to_owned()).collect();
    format!("{} %", parts.join(" : "))
}

/// How the experts are weighed, in a line.
pub fn merge_plan(plan: &MergePlan) -> String {
    match plan {
        MergePlan::Uniform => "uniform mean".to_owned(),
        MergePlan::Global(weights) => shares(weights),
        MergePlan::PerSite(lists) => format!("own weights in each of {} layers", lists.len()),
    }
}

/// What a study ran on and how long it took.
pub fn study(rows: usize, probe_rows: usize, seconds: f64) -> String {
    let [rows, probe_rows] = [rows, probe_rows].map(format::count);
    format!("{rows} evaluation rows, {probe_rows} probe rows, {}.", format::duration(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_and_modules_have_short_names() {
        assert_eq!(layer("layers.3.ffn"), "layer 3");
        assert_eq!(layer("layers.11.attention"), "layer 11 attention");
        assert_eq!(layer("encoder.x"), "encoder.x");
        assert_eq!(module("layers.3.self_attn.q_proj"), "layer 3 self_attn.q_proj");
        assert_eq!(module("layers.3"), "layer 3");
        assert_eq!(module("encoder.x"), "encoder.x");
    }

    #[test]
    fn weights_are_normalised_for_reading() {
        assert_eq!(shares(&[1.0, 1.0, 2.0]), "25 : 25 : 50 %");
        assert_eq!(shares(&[1.0, 2.0]), "33.3 : 66.7 %");
        assert_eq!(merge_plan(&MergePlan::Uniform), "uniform mean");
    }
}
