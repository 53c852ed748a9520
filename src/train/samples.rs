//! What a language model writes while it learns: short greedy answers to a few fixed evaluation inputs.
//!
//! The merged model answers, and the mixture along random route 0 of the comparison at the end. A run makes the same bits
//! with samples as without.

use super::model_and_data::ModelAndData;
use crate::config::{EvalConfig, RunConfig};
use crate::data::text::{Example, Role, TextData};
use crate::error::{Error, Result};
use crate::eval::generate::{GenerateOptions, Generated, Hooks, Routes, generate};
use crate::model::{CausalLm, Network as _};
use crate::records::{Sample, SampleRecord};
use crate::rng::SeedStream;
use std::time::Instant;

/// Longest prompt and reference that are kept, in characters.
const KEPT: usize = 1000;
/// Tokens of a plain text that are given to be continued.
const OPENING: usize = 16;

/// An input, and what is right.
struct Question {
    ids: Vec<u32>,
    prompt: String,
    reference: String,
}

/// Writes the samples of this moment; nothing for a model that does not write, or where none are wanted. `go_on` is
/// called before every token; false ends it with an error of kind [`Cancelled`](crate::error::ErrorKind::Cancelled).
pub fn write(
    subject: &ModelAndData,
    config: &RunConfig,
    (step, epoch): (u64, f64),
    go_on: &dyn Fn() -> bool,
) -> Result<Option<SampleRecord>> {
    let Some((model, data)) = subject.language_model().filter(|_| config.eval.samples > 0) else { return Ok(None) };
    let started = Instant::now();
    let room = model.base.spec.max_length().saturating_sub(1).min(data.encoder.max_length).max(1);
    let questions = questions(data, &config.eval, room)?;
    let prompts: Vec<Vec<u32>> = questions.iter().map(|question| question.ids.clone()).collect();
    let codec = &data.encoder.codec;
    let mut stops = codec.specials.stops.clone();
    stops.extend(model.base.spec.eos.iter().filter(|id| !codec.specials.stops.contains(id)));
    let answer = |model: &CausalLm, routes: Routes| -> Result<Vec<String>> {
        let options = GenerateOptions {
            routes,
            seed: SeedStream::new(config.train.seed),
            batch_size: prompts.len().max(1),
            ..GenerateOptions::greedy(config.eval.sample_tokens, &stops)
        };
        let hooks = &mut Hooks { go_on: &|_| go_on(), tell: &mut |_| {} };
        let texts = generate(model, &prompts, Some(codec), &options, hooks)?;
        Ok(texts.into_iter().map(|Generated { text, .. }| text.trim().to_owned()).collect())
    };
    let merged = answer(&model.merged_own()?, Routes::Plain)?;
    // A single expert is what it is merged to.
    let random = match model.mixture() {
        Some(mixture) if mixture.num_experts > 1 => Some(answer(model, Routes::Whole(0))?),
        _ => None,
    };
    let mut random = random.map(Vec::into_iter);
    let samples = questions.into_iter().zip(merged).map(|(Question { prompt, reference, .. }, merged)| Sample {
        prompt,
        reference,
        merged,
        random: random.as_mut().and_then(Iterator::next),
    });
    let samples = samples.collect();
    Ok(Some(SampleRecord { step, epoch, samples, seconds: started.elapsed().as_secs_f64() }))
}

/// Inputs, as many as wanted, evenly spread over the evaluation texts; of texts without inputs their beginnings. `room`: longest
/// prompt in tokens.
fn questions(data: &TextData, config: &EvalConfig, room: usize) -> Result<Vec<Question>> {
    let (codec, wanted) = (&data.encoder.codec, config.samples);
    let spread = |all: usize| (0..wanted.min(all)).map(move |i| i * all / wanted.min(all));
    if data.inputs.is_empty() {
        let beginning = |number: usize| -> Result<Question> {
            let ids = data.dev.encoded.get(number).map_or(&[][..], |text| text.ids.as_slice());
            let (given, rest) = ids.split_at((ids.len() / 2).clamp(1, OPENING.min(room)).min(ids.len()));
            let reference = codec.decode_plain(&rest[..rest.len().min(config.sample_tokens)])?.trim().to_owned();
            Ok(Question { ids: given.to_vec(), prompt: codec.decode_plain(given)?.trim().to_owned(), reference })
        };
        return spread(data.dev.encoded.len()).map(beginning).collect();
    }
    let question = |number: usize| -> Result<Question> {
        let group = &data.inputs[number];
        let example = group.examples.first().and_then(|&example| data.dev.examples.get(example));
        let example = example.ok_or_else(|| Error::internal("an input without an example"))?;
        let mut ids = data.encoder.prompt(example)?;
        // A prompt that is too long keeps its end, where the question is.
        ids.drain(..ids.len().saturating_sub(room));
        Ok(Question {
            prompt: match asked(example) {
                Some(words) => end(words.trim()),
                None => end(codec.decode_plain(&ids)?.trim()),
            },
            reference: group.references.first().map(|text| beginning(text.trim())).unwrap_or_default(),
            ids,
        })
    };
    spread(data.inputs.len()).map(question).collect()
}

/// The last characters of a long text.
fn end(text: &str) -> String {
    match text.char_indices().rev().nth(KEPT - 1) {
        Some((at, _)) if at > 0 => format!("…{}", &text[at..]),
        _ => text.to_owned(),
    }
}

/// What the model is asked, as the file says it: the last words of the one who asks.
fn asked(example: &Example) -> Option<&str> {
    let last = example.turns.iter().rev().find(|turn| turn.role == Role::User);
    last.map(|turn| turn.text.as_str()).filter(|words| !words.trim().is_empty())
}

/// The first characters of a long text.
fn beginning(text: &str) -> String {
    match text.char_indices().nth(KEPT) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let short = "ä".repeat(KEPT);
        assert_eq!((end(&short), beginning(&short)), (short.clone(), short.clone()));
        let long = format!("{short}b");
        assert_eq!(end(&long), format!("…{}b", "ä".repeat(KEPT - 1)));
        assert_eq!(beginning(&long), format!("{short}…"));
    }
}
