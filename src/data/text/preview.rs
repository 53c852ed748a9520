//! What the model will see, token by token, before training: plain serde data. Rows that cannot be used are all listed
//! here, also where training would refuse the first of them.

use super::{Example, Examples, Splits, TextCodec, TextEncoder, splits};
use crate::config::{BadRows, DataConfig, TextConfig, TextFormat, Truncate};
use crate::data::preview::{Lengths, lengths};
use crate::data::rows::Refusals;
use crate::data::{SkippedRow, tasks};
use crate::error::{Context as _, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Examples whose tokens are counted, evenly spread; more would make the window wait.
const MEASURED: usize = 20_000;
/// Texts shown of duplicates and leaks.
const SHOWN: usize = 10;

/// What is in the texts of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextPreview {
    /// The name for people.
    pub name: String,
    /// What the examples are; never `auto`.
    pub format: TextFormat,
    /// How they are laid out, in a few words.
    pub layout: String,
    /// The texts of the start and end tokens; absent where the model has none.
    pub bos: Option<String>,
    /// As above.
    pub eos: Option<String>,
    /// Largest length in tokens.
    pub max_length: usize,
    /// Which end of a longer text is cut off.
    pub truncate: Truncate,
    /// Whether the prompts are learned too.
    pub learn_prompt: bool,
    /// The texts to learn from.
    pub train: TextSplit,
    /// The texts to measure on.
    pub dev: TextSplit,
    /// Whether the evaluation texts were held out of the training file.
    pub held_out: bool,
    /// Training examples that occurred earlier in the training file.
    pub duplicates_in_train: usize,
    /// Evaluation examples that are training examples too: the score will be too good.
    pub leaks: usize,
    /// The first few of them.
    pub leak_examples: Vec<String>,
    /// Inputs of the evaluation examples that are also inputs of training examples, with whatever answer.
    pub shared_inputs: usize,
    /// Rows that cannot be used.
    pub skipped: Vec<SkippedRow>,
    /// Whether training would stop at the first of them.
    pub refused: bool,
    /// What the user should know although nothing is refused, one line each.
    pub notes: Vec<String>,
}

/// One split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextSplit {
    /// Its file.
    pub file: String,
    /// How the file is laid out and stored, in words.
    pub stored: String,
    /// Usable examples.
    pub examples: usize,
    /// Different inputs among them; each may have several references. 0 for plain texts.
    pub inputs: usize,
    /// Examples whose tokens were counted: all, or that many evenly spread ones. The counts below are of these.
    pub measured: usize,
    /// Tokens before anything is cut.
    pub tokens: usize,
    /// Tokens that are learned after cutting.
    pub learned_tokens: usize,
    /// Tokens that are cut off.
    pub cut_tokens: usize,
    /// Share of the tokens that are cut off, 0 to 1.
    pub cut_share: f64,
    /// Examples that lose tokens.
    pub truncated: usize,
    /// Examples of which nothing is left to learn: they are left out.
    pub unlearned: usize,
    /// How long the examples are before anything is cut.
    pub lengths: Lengths,
    /// The first examples, token by token, after cutting.
    pub sample: Vec<SampleText>,
}

/// An example as the model sees it. Of a long plain text the first piece.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleText {
    /// Its line in the file.
    pub line: usize,
    /// Every token.
    pub tokens: Vec<SampleToken>,
    /// Tokens that were cut off.
    pub cut: usize,
}

/// One token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleToken {
    /// Its id.
    pub id: u32,
    /// The piece of text it stands for.
    pub text: String,
    /// Whether it is learned.
    pub learned: bool,
    /// Whether it stands for something else than text.
    pub special: bool,
}

/// Reads the texts of a run and tells what the model will see: `examples` of each split token by token.
pub fn preview(data: &DataConfig, text: &TextConfig, codec: &TextCodec, examples: usize) -> Result<TextPreview> {
    let name = tasks::name(data);
    let mut refusals = Refusals::new(BadRows::Skip);
    let mut look = || -> Result<TextPreview> {
        let Splits { train, dev, held_out } = splits(data, text, &mut refusals)?;
        let encoder = TextEncoder::new(codec, train.format, data, text)?;
        encoder.note_what_is_left_out(&train, &mut refusals);
        let mut preview = TextPreview {
            format: train.format,
            layout: encoder.layout.describe().to_owned(),
            bos: codec.specials.bos.map(|id| codec.token(id)),
            eos: codec.specials.eos.map(|id| codec.token(id)),
            max_length: data.max_length,
            truncate: text.truncate,
            learn_prompt: text.learn_prompt,
            train: describe(&train, &encoder, examples, &mut refusals)?,
            dev: describe(&dev, &encoder, examples, &mut refusals)?,
            held_out,
            ..TextPreview::default()
        };
        compare(&mut preview, &train.examples, &dev.examples);
        Ok(preview)
    };
    let found = look().with_context(|| format!("the texts of {name} cannot be used"))?;
    let refused = data.bad_rows == BadRows::Refuse && !refusals.skipped.is_empty();
    let notes = refusals.notes.words();
    Ok(TextPreview { name, refused, notes, skipped: refusals.skipped, ..found })
}

/// Duplicates, leaks and shared inputs.
fn compare(preview: &mut TextPreview, train: &[Example], dev: &[Example]) {
    let keys: BTreeSet<_> = train.iter().map(Example::key).collect();
    preview.duplicates_in_train = train.len() - keys.len();
    for example in dev.iter().filter(|example| keys.contains(&example.key())) {
        preview.leaks += 1;
        if preview.leak_examples.len() < SHOWN {
            let texts: Vec<&str> = example.turns.iter().map(|turn| turn.text.trim()).collect();
            preview.leak_examples.push(texts.join(" | "));
        }
    }
    let asks = |example: &&Example| !example.prompt().is_empty();
    let prompts: BTreeSet<_> = train.iter().filter(asks).map(Example::prompt_key).collect();
    let asked: BTreeSet<_> = dev.iter().filter(asks).map(Example::prompt_key).collect();
    preview.shared_inputs = asked.intersection(&prompts).count();
}

fn describe(split: &Examples, encoder: &TextEncoder, shown: usize, refusals: &mut Refusals) -> Result<TextSplit> {
    let examples = &split.examples;
    let step = examples.len().div_ceil(MEASURED).max(1);
    let measured: Vec<(usize, &Example)> = examples.iter().enumerate().step_by(step).collect();
    let count = |&(number, example): &(usize, &Example)| -> Result<EncodedCounts> {
        let whole = encoder.encode_whole(example, number)?;
        let kept = encoder.cut(&whole);
        let length = whole.ids.len();
        let learned = kept.iter().map(super::EncodedText::learned).sum();
        Ok(EncodedCounts { length, learned, cut: length.saturating_sub(encoder.max_length), pieces: kept.len() })
    };
    let counted: Vec<Result<EncodedCounts>> = measured.par_iter().with_min_len(16).map(count).collect();
    let mut found = TextSplit {
        file: split.name(),
        stored: split.stored.clone(),
        examples: examples.len(),
        inputs: super::example::inputs(examples).len(),
        ..TextSplit::default()
    };
    let mut whole = Vec::with_capacity(counted.len());
    for ((_, example), counts) in measured.iter().zip(counted) {
        let EncodedCounts { length, learned, cut, pieces } = match counts {
            Ok(counts) => counts,
            Err(err) => {
                refusals.bad(split.file_of(example), example.line, err.to_string())?;
                continue;
            }
        };
        // Long plain texts become several pieces and lose nothing.
        let cut = if pieces > 1 { 0 } else { cut };
        found.measured += 1;
        found.tokens += length;
        found.learned_tokens += learned;
        found.cut_tokens += cut;
        found.truncated += usize::from(cut > 0);
        found.unlearned += usize::from(pieces == 0);
        whole.push(length);
    }
    found.cut_share = found.cut_tokens as f64 / found.tokens.max(1) as f64;
    found.lengths = lengths(whole, if split.format == TextFormat::Plain { usize::MAX } else { encoder.max_length });
    for (number, example) in examples.iter().enumerate() {
        if found.sample.len() == shown {
            break;
        }
        // What cannot be encoded was listed above.
        if let Some(sample) = encoder.encode(example, number).ok().and_then(|kept| kept.into_iter().next()) {
            found.sample.push(sample_text(example, &sample, &encoder.codec));
        }
    }
    Ok(found)
}

struct EncodedCounts {
    length: usize,
    learned: usize,
    cut: usize,
    pieces: usize,
}

fn sample_text(example: &Example, encoded: &super::EncodedText, codec: &TextCodec) -> SampleText {
    let tokens = encoded.ids.iter().zip(&encoded.learn).map(|(&id, &learned)| SampleToken {
        id,
        text: codec.piece(id),
        learned,
        special: codec.is_special(id),
    });
    SampleText { line: example.line, tokens: tokens.collect(), cut: encoded.cut }
}
