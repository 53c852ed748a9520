//! Checkpoints of the AdaMix reference code: the published `pytorch_model_<task>_expert_soup.bin` and its GPT-2 files.
//!
//! | there | here |
//! |---|---|
//! | `roberta.encoder.layer.3.output.ExpertSoup.MoA_A.deepspeed_experts.2.weight` | row 2 of `layers.3.ffn.down.weight` |
//! | `...MoA_B.deepspeed_experts.0.bias` | row 0 of `layers.3.ffn.up.bias` |
//! | `module.transformer.h.3.mlp.ExpertSoup.MoA_A...` | the same, in GPT-2 |
//! | `module.transformer.h.3.attn.c_attn.experts_lora_A.2` | row 2 of `layers.3.attn.c_attn.qv.lora_a.weight` |
//! | `module.transformer.h.3.attn.c_attn.lora_A` (plain LoRA) | the only row of the same |
//! | `classifier...` | itself |
//!
//! The files say nothing of their settings: number of experts, sizes and sharing are read off the tensors. Scores of
//! experts (`expert_score_weight`) are zero in all published files, which is the uniform mean; others become merge weights.

use super::Imported;
use crate::artifact::torch_file::TorchFile;
use crate::config::{Activation, MixtureConfig, MixtureKind};
use crate::error::{Context as _, Error, Result};
use crate::tensor::HostTensor;
use std::collections::BTreeMap;
use std::path::Path;

/// Where an expert's tensor belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Expert { layer: usize, site: &'static str, part: String, side: usize, expert: usize },
    Score { layer: usize, site: &'static str, side: usize },
    Head,
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Imported> {
    let mut file = TorchFile::open(path)?;
    collect(&mut file).with_context(|| format!("not a checkpoint of the AdaMix reference code: {}", path.display()))
}

const LORA: &str = "attn.c_attn.qv";

/// Model type, layer and what is inside the layer.
fn in_layer(name: &str) -> Option<(&'static str, usize, &str)> {
    let name = name.strip_prefix("module.").unwrap_or(name);
    for (kind, prefix) in
        [("roberta", "roberta.encoder.layer."), ("bert", "bert.encoder.layer."), ("gpt2", "transformer.h.")]
    {
        if let Some((layer, rest)) = name.strip_prefix(prefix).and_then(|rest| rest.split_once('.')) {
            return layer.parse().ok().map(|layer| (kind, layer, rest));
        }
    }
    None
}

fn place(name: &str) -> Option<(Option<&'static str>, Place)> {
    let Some((kind, layer, rest)) = in_layer(name) else {
        return name.starts_with("classifier.").then_some((None, Place::Head));
    };
    let lora = |side, expert| Place::Expert { layer, site: LORA, part: "weight".to_owned(), side, expert };
    let found = if let Some(rest) = rest.strip_prefix("attn.c_attn.") {
        match rest {
            "lora_A" => lora(0, 0),
            "lora_B" => lora(1, 0),
            "lora_expert_score_weight" => Place::Score { layer, site: LORA, side: 0 },
            _ => {
                let (side, expert) = rest
                    .strip_prefix("experts_lora_A.")
                    .map(|n| (0, n))
                    .or_else(|| rest.strip_prefix("experts_lora_B.").map(|n| (1, n)))?;
                lora(side, expert.parse().ok()?)
            }
        }
    } else {
        let rest = rest.strip_prefix("output.").or_else(|| rest.strip_prefix("mlp."))?.strip_prefix("ExpertSoup.")?;
        let (side, rest) =
            rest.strip_prefix("MoA_A.").map(|r| (0, r)).or_else(|| rest.strip_prefix("MoA_B.").map(|r| (1, r)))?;
        if rest == "expert_score_weight" {
            Place::Score { layer, site: "ffn", side }
        } else {
            let (expert, part) = rest.strip_prefix("deepspeed_experts.")?.split_once('.')?;
            if !["weight", "bias"].contains(&part) {
                return None;
            }
            Place::Expert { layer, site: "ffn", part: part.to_owned(), side, expert: expert.parse().ok()? }
        }
    };
    Some((Some(kind), found))
}

/// Experts of one side's tensor by number.
type Banks = BTreeMap<(usize, &'static str, usize, String), BTreeMap<usize, HostTensor>>;

fn collect(file: &mut TorchFile) -> Result<Imported> {
    let (mut banks, mut head, mut ignored, mut scores) = (Banks::new(), Vec::new(), 0, Vec::new());
    let mut kinds: Vec<&'static str> = Vec::new();
    for name in file.names() {
        let Some((kind, place)) = place(&name) else {
            ignored += 1;
            continue;
        };
        kinds.extend(kind);
        let (tensor, _) = file.read(&name)?;
        if let Some(value) = tensor.data.iter().find(|value| !value.is_finite()) {
            return Err(Error::format(format!("tensor {name} holds {value}")));
        }
        match place {
            Place::Expert { layer, site, part, side, expert } => {
                banks.entry((layer, site, side, part)).or_default().insert(expert, tensor);
            }
            Place::Score { layer, site, side } => scores.push((layer, site, side, tensor.data)),
            Place::Head => head.push(tensor),
        }
    }
    kinds.dedup();
    let [model_type] = kinds.as_slice() else {
        return Err(Error::format(match kinds.is_empty() {
            true => "it holds no experts of bert, roberta or gpt2".to_owned(),
            false => format!("it mixes models of the types {kinds:?}"),
        }));
    };
    let mut tensors = Vec::new();
    let mut shape = Shape::default();
    for ((layer, site, side, part), experts) in banks {
        let end = match (site, side) {
            ("ffn", 0) => "down",
            ("ffn", _) => "up",
            (_, 0) => "lora_a",
            _ => "lora_b",
        };
        let tensor = bank(&format!("layers.{layer}.{site}.{end}.{part}"), &experts)?;
        if part == "weight" {
            shape.add(layer, site, side, &tensor)?;
        }
        tensors.push(tensor);
    }
    tensors.extend(head);
    let mixture = shape.finish(model_type)?;
    let weights = merge_weights(scores, &mixture)?;
    let mut notes = Vec::new();
    if ignored > 0 {
        notes.push(format!("{ignored} tensors that are no experts are left out; they come from the base model"));
    }
    if !weights.is_empty() {
        notes.push(format!("{} modules have scores, so that their experts count differently there; the run is merged with their softmax as weights", weights.len()));
    }
    if mixture.kind == MixtureKind::Lora {
        notes.push(format!("the file does not say alpha; {} is the reference's", mixture.lora_alpha));
    }
    Ok(Imported {
        source: "the AdaMix reference code",
        model_type: Some((*model_type).to_owned()),
        base_model: None,
        mixture,
        weights,
        tensors,
        notes,
    })
}

/// The modules whose experts do not count the same. A module has one list of weights here: scores of both sides must agree
/// where both have experts.
fn merge_weights(
    scores: Vec<(usize, &'static str, usize, Vec<f32>)>,
    mixture: &MixtureConfig,
) -> Result<Vec<(String, Vec<f64>)>> {
    let mut sites: BTreeMap<String, Vec<(usize, Vec<f64>)>> = BTreeMap::new();
    for (layer, site, side, scores) in scores {
        let (name, lora) = (format!("layers.{layer}.{site}"), site == LORA);
        let shared = !lora && [mixture.sharing_down, mixture.sharing_up][side.min(1)];
        let experts = if shared { 1 } else { mixture.num_experts };
        // A single expert has nothing to be weighed against, whatever its scores.
        if mixture.num_experts == 1 {
            continue;
        }
        if scores.len() != experts {
            return Err(Error::format(format!("{name} has {} scores for {experts} experts", scores.len())));
        }
        if !shared {
            let list = softmax(&scores).unwrap_or_else(|| vec![1.0 / experts as f64; experts]);
            sites.entry(name).or_default().push((side, list));
        }
    }
    let mut weights = Vec::new();
    for (name, sides) in sites {
        let Some((_, first)) = sides.first() else { continue };
        if sides.iter().any(|(_, list)| list != first) {
            return Err(Error::config(format!(
                "the experts of {name} have other scores on the down-projection than on the up-projection; both sides of a module \
                 are merged with the same weights here, so make the two expert_score_weight of the file equal"
            )));
        }
        if first.windows(2).any(|pair| pair[0] != pair[1]) {
            weights.push((name, first.clone()));
        }
    }
    Ok(weights)
}

/// Nothing where all count the same.
fn softmax(scores: &[f32]) -> Option<Vec<f64>> {
    let same = scores.iter().all(|score| *score == scores[0]);
    (!same).then(|| {
        let largest = scores.iter().copied().fold(f32::MIN, f32::max);
        let powers: Vec<f64> = scores.iter().map(|s| f64::from(s - largest).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(|p| p / sum).collect()
    })
}

fn bank(name: &str, experts: &BTreeMap<usize, HostTensor>) -> Result<HostTensor> {
    let count = experts.len();
    let first = experts.values().next().ok_or_else(|| Error::internal("a bank without experts"))?;
    if experts.keys().copied().ne(0..count) {
        return Err(Error::format(format!("the experts of {name} are not numbered from 0 to {}", count - 1)));
    }
    if let Some((n, other)) = experts.iter().find(|(_, tensor)| tensor.shape != first.shape) {
        return Err(Error::format(format!(
            "expert {n} of {name} has shape {:?}, expert 0 {:?}",
            other.shape, first.shape
        )));
    }
    let shape = [&[count], first.shape.as_slice()].concat();
    HostTensor::new(name, shape, experts.values().flat_map(|tensor| tensor.data.iter().copied()).collect::<Vec<f32>>())
}

/// What all modules must agree on.
#[derive(Default)]
struct Shape {
    /// `[experts, out, in]` of both sides' weights, with the kind of module.
    sides: [Option<(&'static str, [usize; 3])>; 2],
    seen: BTreeMap<usize, [bool; 2]>,
}

impl Shape {
    fn add(&mut self, layer: usize, site: &'static str, side: usize, tensor: &HostTensor) -> Result<()> {
        let Ok(dims) = <[usize; 3]>::try_from(tensor.shape.as_slice()) else {
            return Err(Error::format(format!("{} has shape {:?}, not that of experts", tensor.name, tensor.shape)));
        };
        self.seen.entry(layer).or_default()[side] = true;
        match self.sides[side] {
            None => self.sides[side] = Some((site, dims)),
            Some(known) if known == (site, dims) => {}
            Some((_, known)) => {
                return Err(Error::format(format!("{} has shape {dims:?}, others have {known:?}", tensor.name)));
            }
        }
        Ok(())
    }

    fn finish(&self, model_type: &str) -> Result<MixtureConfig> {
        let layers = self.seen.len();
        if self.seen.keys().copied().ne(0..layers) || self.seen.values().any(|sides| *sides != [true, true]) {
            return Err(Error::format("experts are missing in some layer or on one side; the file is not whole"));
        }
        let [Some((site, a)), Some((_, b))] = self.sides else {
            return Err(Error::format("it holds only one side of the experts"));
        };
        let experts = a[0].max(b[0]);
        if [a[0], b[0]].iter().any(|&n| n != experts && n != 1) {
            return Err(Error::format(format!("{} experts on one side and {} on the other", a[0], b[0])));
        }
        let mut mixture = MixtureConfig {
            num_experts: experts,
            sharing_down: a[0] == 1 && experts > 1,
            sharing_up: b[0] == 1 && experts > 1,
            ..MixtureConfig::default()
        };
        let hidden = a[2];
        let fits = if site == "ffn" {
            mixture.kind = MixtureKind::Adapter;
            mixture.adapter_size = a[1];
            if model_type == "gpt2" {
                mixture.activation = Activation::GeluTanh;
            }
            b[1] == hidden && b[2] == a[1]
        } else {
            mixture.kind = MixtureKind::Lora;
            mixture.lora_rank = b[2];
            a[1] == 2 * b[2] && b[1] == 2 * hidden
        };
        match fits {
            true => Ok(mixture),
            false => Err(Error::format(format!("its two sides of shapes {a:?} and {b:?} do not fit together"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_places() {
        let expert =
            |layer, site, part: &str, side, expert| Place::Expert { layer, site, part: part.to_owned(), side, expert };
        for (name, wanted) in [
            (
                "roberta.encoder.layer.11.output.ExpertSoup.MoA_A.deepspeed_experts.2.weight",
                expert(11, "ffn", "weight", 0, 2),
            ),
            ("bert.encoder.layer.0.output.ExpertSoup.MoA_B.deepspeed_experts.0.bias", expert(0, "ffn", "bias", 1, 0)),
            ("module.transformer.h.7.mlp.ExpertSoup.MoA_A.deepspeed_experts.7.bias", expert(7, "ffn", "bias", 0, 7)),
            ("module.transformer.h.3.attn.c_attn.experts_lora_A.5", expert(3, LORA, "weight", 0, 5)),
            ("transformer.h.3.attn.c_attn.lora_B", expert(3, LORA, "weight", 1, 0)),
            ("classifier.out_proj.weight", Place::Head),
        ] {
            assert_eq!(place(name).map(|(_, place)| place), Some(wanted), "{name}");
        }
        for name in [
            "transformer.h.3.attn.c_attn.lora_B_w",
            "transformer.h.3.attn.c_attn.weight",
            "roberta.pooler.dense.weight",
        ] {
            assert_eq!(place(name), None, "{name}");
        }
        assert_eq!(softmax(&[0.0, 0.0]), None);
        assert!((softmax(&[0.0, 1.0]).unwrap()[1] - 0.731_058_58).abs() < 1e-6);
    }

    #[test]
    fn scores_become_weights_of_a_site() {
        let mixture =
            |experts, sharing_up| MixtureConfig { num_experts: experts, sharing_up, ..MixtureConfig::default() };
        let of = |scores: &[(usize, &'static str, usize, &[f32])], mixture: &MixtureConfig| {
            merge_weights(scores.iter().map(|(l, s, side, list)| (*l, *s, *side, list.to_vec())).collect(), mixture)
        };
        let e = std::f64::consts::E;
        let found = of(&[(0, "ffn", 0, &[0.0, 1.0]), (0, "ffn", 1, &[0.0])], &mixture(2, true)).unwrap();
        assert_eq!(found[0].0, "layers.0.ffn");
        assert!((found[0].1[1] - e / (1.0 + e)).abs() < 1e-12);
        // Equal scores are the mean, whatever their height, and a single expert has nothing to be weighed against.
        assert_eq!(of(&[(0, "ffn", 0, &[3.0, 3.0]), (1, LORA, 0, &[0.0; 2])], &mixture(2, false)).unwrap(), []);
        assert_eq!(of(&[(0, LORA, 0, &[0.0, 1.0])], &mixture(1, false)).unwrap(), []);
        // Both sides of a module are merged with the same weights.
        let both = |up: &[f32]| of(&[(0, "ffn", 0, &[0.0, 1.0]), (0, "ffn", 1, up)], &mixture(2, false));
        assert_eq!(both(&[0.0, 1.0]).unwrap().len(), 1);
        assert!(both(&[0.0, 0.0]).unwrap_err().to_string().contains("other scores on the down-projection"));
        assert!(both(&[0.0, 1.0, 0.0]).unwrap_err().to_string().contains("3 scores for 2 experts"));
    }
}
