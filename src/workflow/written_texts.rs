//! What a run's language model writes for the inputs of its evaluation texts, scored against the references: the base
//! model, the merged one, and one random route.

use crate::config::RunConfig;
use crate::data::text::Role;
use crate::error::{Error, Result};
use crate::eval::generate::{GenerateOptions, Hooks, Routes, ScoreOptions, score_inputs};
use crate::eval::text_metrics::{BleuDifference, WordLists};
use crate::model::Network as _;
use crate::protocol::{WriteReport, WrittenBy, WrittenSample};
use crate::rng::SeedStream;
use crate::train::ModelAndData;
use crate::workflow::generate;
use std::collections::BTreeSet;
use std::time::Instant;

/// What is written.
#[derive(Clone, Debug)]
pub struct WritePlan {
    /// Inputs, from the first on; 0: all.
    pub inputs: usize,
    /// Longest text in tokens.
    pub max_new_tokens: usize,
    /// Texts shown side by side.
    pub samples: usize,
    /// METEOR's word lists, if it is wanted.
    pub word_lists: Option<WordLists>,
}

/// Writes and scores. `go_on` gets the share done, 0 to 1; false cancels.
pub fn write_and_score(
    subject: &ModelAndData,
    config: &RunConfig,
    plan: &WritePlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<WriteReport> {
    let started = Instant::now();
    let Some((model, data)) = subject.language_model() else {
        return Err(Error::config("this run's model gives classes and does not write; open a run of a language model"));
    };
    let codec = &data.encoder.codec;
    let stops = generate::stop_ids(model, codec);
    let options = GenerateOptions {
        batch_size: config.eval.eval_batch_size,
        seed: SeedStream::new(config.train.seed),
        ..GenerateOptions::greedy(plan.max_new_tokens, &stops)
    };
    let mut ways = vec![("base", model.bare(), Routes::Plain), ("merged", model.merged_own()?, Routes::Plain)];
    if model.mixture().is_some() {
        ways.push(("random", model.clone(), Routes::Whole(0)));
    }
    let (count, mut all) = (ways.len() as f64, Vec::new());
    for (number, (way, model, routes)) in ways.into_iter().enumerate() {
        let share = |share: f64| go_on((number as f64 + share) / count);
        let hooks = &mut Hooks { go_on: &share, tell: &mut |_| {} };
        let scoring = ScoreOptions { most_inputs: plan.inputs, protocol: None, word_lists: plan.word_lists.clone() };
        let scored = score_inputs(&model, data, &GenerateOptions { routes, ..options.clone() }, scoring, hooks)?;
        all.push((way, scored));
    }
    let merged = all.iter().find(|(way, _)| *way == "merged").map(|(_, scored)| &scored.segments);
    let written = all.iter().map(|(way, scored)| WrittenBy {
        way,
        scores: scored.scores.clone(),
        bleu_minus_merged: merged
            .filter(|_| *way != "merged")
            .and_then(|merged| BleuDifference::of(&scored.segments, merged, scored.scores.protocol)),
    });
    let inputs = all.first().map_or(0, |(_, scored)| scored.outputs.len());
    let sample = |(number, group): (usize, &crate::data::text::InputGroup)| -> Result<WrittenSample> {
        let example = group.examples.first().and_then(|&example| data.dev.examples.get(example));
        let example = example.ok_or_else(|| Error::internal("an input without an example"))?;
        Ok(WrittenSample {
            prompt: codec.decode_plain(&data.encoder.prompt(example)?)?.trim().to_owned(),
            references: group.references.clone(),
            texts: all.iter().filter_map(|(_, scored)| scored.outputs.get(number).cloned()).collect(),
        })
    };
    let samples = data.inputs.iter().take(plan.samples.min(inputs)).enumerate().map(sample);
    let texts: Vec<Vec<(Role, &str)>> = data
        .dev
        .examples
        .iter()
        .map(|example| example.turns.iter().map(|turn| (turn.role, turn.text.trim())).collect())
        .collect();
    Ok(WriteReport {
        inputs,
        asked: plan.inputs,
        available: data.inputs.len(),
        texts: texts.len(),
        different_texts: texts.into_iter().collect::<BTreeSet<_>>().len(),
        ways: written.collect(),
        samples: samples.collect::<Result<_>>()?,
        seconds: started.elapsed().as_secs_f64(),
    })
}
