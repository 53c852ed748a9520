//! Display names of adapted modules, sides and routing policies.

use crate::config::{MixtureKind, RoutingPolicy};
use crate::format;
use crate::protocol::{MergePlan, Pairs, Side};

/// The layer of an adapted module and the module's place in it: `layers.3.self_attn.q_proj` is layer 3 and
/// `self_attn.q_proj`; `None` for other names.
fn split(name: &str) -> Option<(usize, &str)> {
    let rest = name.strip_prefix("layers.")?;
    let (n, part) = rest.split_once('.').unwrap_or((rest, ""));
    Some((n.parse().ok()?, part))
}

/// The place of a module in its layer, in short: q, k, v, o, gate, up and down for the matrices of language models;
/// nothing for the adapter of a layer's feed-forward block.
fn short_part(part: &str) -> &str {
    match part {
        "ffn" => "",
        "attention.self.query" => "q",
        "attention.self.key" => "k",
        "attention.self.value" => "v",
        "attn.c_attn" => "qkv",
        // Two matrices of GPT-2 end in c_proj, so their block is part of the name.
        part if part.ends_with("c_proj") => part,
        part => {
            let last = part.rsplit('.').next().unwrap_or(part);
            let fused = part.strip_prefix("attn.c_attn.");
            fused.or_else(|| last.strip_suffix("_proj")).unwrap_or(part)
        }
    }
}

/// An adapted module: `layers.3.ffn` as `layer 3`, `layers.3.self_attn.q_proj` as `layer 3 q`; anything else as it is.
/// Different modules of a model have different names.
pub fn layer(name: &str) -> String {
    match split(name) {
        Some((n, part)) => format!("layer {n} {}", short_part(part)).trim_end().to_owned(),
        None => name.to_owned(),
    }
}

/// As [`layer`] without the layer: `q`, `gate`; `ffn` for the adapter of a feed-forward block.
pub fn part(name: &str) -> String {
    match split(name).map(|(_, part)| (part, short_part(part))) {
        Some((part, "")) => part.to_owned(),
        Some((_, short)) => short.to_owned(),
        None => name.to_owned(),
    }
}

/// The adapted modules of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerGroup {
    /// Such as `layer 3`.
    pub name: String,
    /// Its modules by index, in their order.
    pub sites: Vec<usize>,
}

/// Modules by layer, the lowest layer first.
pub fn by_layer(sites: &[String]) -> Vec<LayerGroup> {
    let mut groups: Vec<LayerGroup> = Vec::new();
    for (site, name) in sites.iter().enumerate() {
        let name = split(name).map_or_else(|| name.clone(), |(n, _)| format!("layer {n}"));
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.sites.push(site),
            None => groups.push(LayerGroup { name, sites: vec![site] }),
        }
    }
    groups
}

/// `layers.3.self_attn.q_proj` as `layer 3 self_attn.q_proj`: every part, where a layer has several modules.
pub fn module(name: &str) -> String {
    match name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
        Some((n, part)) if n.bytes().all(|b| b.is_ascii_digit()) => format!("layer {n} {part}"),
        _ => layer(name),
    }
}

/// A side of an expert: the projections of an adapter, the matrices of a LoRA as PEFT names them.
pub fn side(kind: MixtureKind, side: Side) -> &'static str {
    match (kind, side) {
        (MixtureKind::Adapter, Side::Down) => "down",
        (MixtureKind::Adapter, Side::Up) => "up",
        (MixtureKind::Lora, Side::Down) => "lora_A",
        (MixtureKind::Lora, Side::Up) => "lora_B",
    }
}

/// A side of an expert in a sentence.
pub fn side_in_words(kind: MixtureKind, side: Side) -> &'static str {
    match (kind, side) {
        (MixtureKind::Adapter, Side::Down) => "down-projection",
        (MixtureKind::Adapter, Side::Up) => "up-projection",
        (MixtureKind::Lora, Side::Down) => "matrix A",
        (MixtureKind::Lora, Side::Up) => "matrix B",
    }
}

/// `base` to the power of `exponent`, as it is written by hand: `4²⁸`.
pub fn power(base: usize, exponent: usize) -> String {
    format!("{base}{}", superscript(exponent))
}

/// A number in superscript digits.
pub fn superscript(number: usize) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let digits = number.to_string();
    digits.bytes().filter_map(|digit| DIGITS.get(usize::from(digit.wrapping_sub(b'0')))).collect()
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

/// Short name and description of a routing policy; `sides`: what is drawn in each module, as [`drawn_sides`] says.
pub fn policy(policy: RoutingPolicy, sides: &str) -> (&'static str, String) {
    match policy {
        RoutingPolicy::PerBatch => (
            "one uniform draw for the whole batch",
            format!(
                "Random, no gate, nothing learned (AdaMix, section 3.1): for every batch, every module draws one of its M \
                 experts with equal chances, {sides}. All sequences of the batch take the same path."
            ),
        ),
        RoutingPolicy::PerExample => (
            "one uniform draw for each example",
            format!(
                "Every example draws its own path with equal chances, {sides}. The paper draws once for the whole batch; \
                 this is how its reference code evaluates random routing."
            ),
        ),
        RoutingPolicy::PerToken => (
            "one uniform draw for each token",
            format!(
                "Every token draws its own expert in every module with equal chances, {sides}. The paper draws once for \
                 the whole batch."
            ),
        ),
        RoutingPolicy::Fixed => (
            "always the same expert",
            "Every module always uses the same expert: a single adapter, the paper's control without a mixture \
             (Table 7)."
                .to_owned(),
        ),
        RoutingPolicy::RoundRobin => (
            "in turn, not random",
            "The experts take turns: (micro-batch + module + pass) mod M. Even by construction, to tell the effect of chance \
             from that of the mixture."
                .to_owned(),
        ),
    }
}

/// Which sides of a module are drawn, in a clause; `experts`: of the down and of the up side, 1 where it is shared.
pub fn drawn_sides(kind: MixtureKind, experts: [usize; 2]) -> String {
    let [down, up] =
        [Side::Down, Side::Up].map(|s| if kind == MixtureKind::Lora { side_in_words(kind, s) } else { side(kind, s) });
    match experts {
        [1, 1] => "and there is only one".to_owned(),
        [1, _] => format!("for {up}; {down} is shared by all experts"),
        [_, 1] => format!("for {down}; {up} is shared by all experts"),
        _ => format!("for {down} and {up} independently"),
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
        MergePlan::PerSite(lists) => format!("own weights in each of {}", format::counted(lists.len(), "module")),
        MergePlan::Soup => "greedy soup".to_owned(),
        MergePlan::Fisher { rows } => format!("Fisher-weighted, {}", format::counted(*rows, "row")),
        MergePlan::Ties { density } => format!("TIES, {} kept", share(*density as f32)),
        MergePlan::Dare { drop, seed } => format!("DARE, {} dropped, seed {seed}", share(*drop as f32)),
        MergePlan::Wide(Pairs::Same) => "wide: all experts side by side".to_owned(),
        MergePlan::Wide(Pairs::All) => "wide: all pairs side by side".to_owned(),
        MergePlan::Budget { width, .. } => format!("wide, pruned to {width} units"),
        MergePlan::Fitted { .. } => "one module fitted to the wide one".to_owned(),
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
        assert_eq!(part("layers.11.attention"), "attention");
        assert_eq!(part("layers.11.ffn"), "ffn");
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

    /// Every module of a layer that a model can have experts on has its own short name.
    #[test]
    fn no_two_modules_of_a_model_share_a_name() {
        let llama = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj"];
        let gpt2 = ["attn.c_attn", "attn.c_attn.qv", "attn.c_attn.q", "attn.c_attn.k", "attn.c_attn.v", "attn.c_proj"];
        let bert = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"];
        let models = [
            [&llama[..], &["mlp.up_proj", "mlp.down_proj"]].concat(),
            [&gpt2[..], &["mlp.c_fc", "mlp.c_proj"]].concat(),
            [&bert[..], &["intermediate.dense", "output.dense"]].concat(),
            vec!["ffn", "attention"],
        ];
        for parts in models {
            let sites: Vec<String> =
                (0..2).flat_map(|n| parts.iter().map(move |part| format!("layers.{n}.{part}"))).collect();
            let mut labels: Vec<String> = sites.iter().map(|site| layer(site)).collect();
            labels.sort();
            labels.dedup();
            assert_eq!(labels.len(), sites.len(), "{labels:?}");
            let groups = by_layer(&sites);
            assert_eq!(groups.len(), 2);
            assert!(groups.iter().all(|group| group.sites.len() == parts.len()));
        }
        let names = ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"]
            .map(|part| layer(&format!("layers.29.{part}")));
        assert_eq!(names, ["layer 29 q", "layer 29 o", "layer 29 gate", "layer 29 down"]);
    }

    #[test]
    fn powers_are_written_with_superscripts() {
        assert_eq!(power(4, 28), "4²⁸");
        assert_eq!(superscript(1_234_567_890), "¹²³⁴⁵⁶⁷⁸⁹⁰");
    }

    #[test]
    fn a_shared_side_is_not_said_to_be_drawn() {
        let text = |kind, experts| policy(RoutingPolicy::PerBatch, &drawn_sides(kind, experts)).1;
        assert!(text(MixtureKind::Adapter, [4, 1]).contains("for down; up is shared by all experts"));
        assert!(text(MixtureKind::Adapter, [4, 4]).contains("for down and up independently"));
        assert!(text(MixtureKind::Lora, [4, 4]).contains("for matrix A and matrix B independently"));
    }
}
