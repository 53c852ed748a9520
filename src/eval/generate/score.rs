//! Texts for the inputs of a data set, and their scores against the references.

use super::{GenerateOptions, Generated, Hooks, generate};
use crate::config::TextFormat;
use crate::data::text::{InputGroup, TextData};
use crate::error::{Context as _, Error, Result};
use crate::eval::text_metrics::{Protocol, Scorer, SegmentScores, TextScores, WordLists, prepare};
use crate::model::CausalLm;

/// Which texts are generated, and how they are scored.
#[derive(Clone, Debug, Default)]
pub struct ScoreOptions {
    /// Inputs, from the first on; 0: all.
    pub most_inputs: usize,
    /// Whose scorer's rules; absent: WebNLG's for WebNLG and DART, else E2E's.
    pub protocol: Option<Protocol>,
    /// METEOR's word lists, if it is wanted.
    pub word_lists: Option<WordLists>,
}

/// Texts and their scores.
#[derive(Clone, Debug)]
pub struct Scored {
    /// What was written for each input, in the data's order.
    pub texts: Vec<Generated>,
    /// As they were scored: cut at a blank line and trimmed, prepared by the protocol's rules.
    pub outputs: Vec<String>,
    /// Scores of all of them together.
    pub scores: TextScores,
    /// Scores of each.
    pub segments: SegmentScores,
}

/// Writes a text for each distinct input of the evaluation data and scores all of them against the references.
pub fn score_inputs(
    model: &CausalLm,
    data: &TextData,
    options: &GenerateOptions,
    scoring: ScoreOptions,
    hooks: &mut Hooks<'_>,
) -> Result<Scored> {
    let most = if scoring.most_inputs == 0 { usize::MAX } else { scoring.most_inputs };
    let groups: Vec<_> = data.inputs.iter().take(most).collect();
    if groups.is_empty() {
        return Err(Error::data(
            "the evaluation texts have no prompts, so there is nothing to answer; choose data with prompts and answers",
        ));
    }
    let room = model.base.spec.max_length().saturating_sub(1);
    let prompt = |group: &&InputGroup| {
        let first = group.examples.first().and_then(|&example| data.dev.examples.get(example));
        let first = first.ok_or_else(|| Error::internal("an input without an example"))?;
        let mut ids = data.encoder.prompt(first)?;
        // A prompt that is too long keeps its end, where the question is.
        ids.drain(..ids.len().saturating_sub(room));
        Ok(ids)
    };
    let prompts = groups.iter().map(prompt).collect::<Result<Vec<_>>>()?;
    let texts = generate(model, &prompts, Some(&data.encoder.codec), options, hooks)?;
    let challenge = matches!(data.dev.format, TextFormat::Webnlg | TextFormat::Dart);
    let protocol = scoring.protocol.unwrap_or(if challenge { Protocol::WebNlg } else { Protocol::E2e });
    let prepared = |text: &str| {
        let text = text.split("\n\n").map(str::trim).find(|part| !part.is_empty()).unwrap_or_default();
        if protocol == Protocol::WebNlg { prepare::webnlg(text) } else { text.to_owned() }
    };
    let outputs: Vec<String> = texts.iter().map(|text| prepared(&text.text)).collect();
    let references: Vec<Vec<String>> = groups
        .iter()
        .map(|group| match protocol {
            Protocol::WebNlg => group.references.iter().map(|text| prepare::webnlg(text)).collect(),
            Protocol::E2e => group.references.clone(),
        })
        .collect();
    let mut scorer = Scorer::new(&references, protocol, scoring.word_lists)?;
    let (scores, segments) = scorer.score_segments(&outputs).context("scoring the texts")?;
    Ok(Scored { texts, outputs, scores, segments })
}
