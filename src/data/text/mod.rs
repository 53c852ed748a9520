//! From text files to packed batches for language models.
//!
//! ```text
//! file --recognise--> records --convert--> examples --template--> segments --codec--> tokens, and which are learned
//! ```
//!
//! [`read()`] gives [`Example`]s, a [`TextEncoder`] their token ids and the mask of what is learned. [`load`] does all of
//! it for a run; [`preview()`] shows every token before training.

pub mod batch;
pub mod codec;
pub(super) mod codec_files;
mod convert;
pub mod encode;
pub mod example;
pub mod layout;
pub mod preview;
mod python;
pub mod read;
mod recognise;
mod split_json;
pub mod template;
mod template_source;
mod triples;

pub use batch::{TextBatch, TextDataset};
pub use codec::TextCodec;
pub use encode::{EncodedText, TextEncoder};
pub use example::{Example, InputGroup, Role, Turn};
pub use layout::Layout;
pub use preview::{TextPreview, preview};
pub use read::{Examples, read};
pub use template::ChatTemplate;

use super::hold_out::groups;
pub use super::order::BatchRule;
use super::rows::Refusals;
use super::{SkippedRow, lab, tasks};
use crate::config::{BadRows, DataConfig, FileFormat, TextConfig, TextFormat, WRITER_LAB};
use crate::error::{Context as _, Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Everything a run needs to know of its texts.
#[derive(Clone, Debug)]
pub struct TextData {
    /// The sequences to learn from.
    pub train: TextDataset,
    /// The sequences to measure on.
    pub dev: TextDataset,
    /// The inputs of the evaluation examples, each with all its references: what generation is measured against.
    pub inputs: Vec<InputGroup>,
    /// What turned the texts into tokens, and turns prompts into tokens when the model is asked.
    pub encoder: TextEncoder,
    /// Rows left out because they could not be used.
    pub skipped: Vec<SkippedRow>,
}

/// Today (UTC) as [`TextConfig::date`] has it: what chat templates see where no date is given.
pub fn today() -> String {
    python::now().date().to_string()
}

/// Both splits before they are encoded.
pub(super) struct Splits {
    pub train: Examples,
    pub dev: Examples,
    pub held_out: bool,
}

/// Reads, checks and encodes the texts of a run. Errors name the file and the line. Rows that cannot be used (or that the
/// chat template refuses) are refused or listed in [`TextData::skipped`], as the settings say.
pub fn load(data: &DataConfig, text: &TextConfig, codec: &TextCodec) -> Result<TextData> {
    let mut refusals = Refusals { mode: data.bad_rows, skipped: Vec::new() };
    let mut all = || -> Result<TextData> {
        let Splits { train, dev, .. } = splits(data, text, &mut refusals)?;
        let encoder = TextEncoder::new(codec, train.format, data, text)?;
        let train = TextDataset::encode(train, &encoder, &mut refusals)?;
        let dev = TextDataset::encode(dev, &encoder, &mut refusals)?;
        for (split, what) in [(&train, "training"), (&dev, "evaluation")] {
            if split.is_empty() {
                return Err(Error::data(format!(
                    "no {what} text has anything left to learn within {} tokens; raise max_length: {}",
                    data.max_length, split.file
                )));
            }
        }
        let inputs = example::inputs(&dev.examples);
        Ok(TextData { train, dev, inputs, encoder, skipped: Vec::new() })
    };
    let found = all().with_context(|| format!("the texts of {} cannot be used", tasks::name(data)))?;
    Ok(TextData { skipped: refusals.skipped, ..found })
}

/// The training and evaluation examples of a run, and what lays them out; nothing is encoded. Rows that cannot be used
/// are left out.
pub fn examples(data: &DataConfig, text: &TextConfig, codec: &TextCodec) -> Result<(TextEncoder, [Vec<Example>; 2])> {
    let mut refusals = Refusals { mode: BadRows::Skip, skipped: Vec::new() };
    let Splits { train, dev, .. } = splits(data, text, &mut refusals)?;
    Ok((TextEncoder::new(codec, train.format, data, text)?, [train.examples, dev.examples]))
}

/// The examples of both splits, cut to the largest numbers asked for.
pub(super) fn splits(data: &DataConfig, text: &TextConfig, refusals: &mut Refusals) -> Result<Splits> {
    let (mut train, dev) = sources(data, text, refusals)?;
    let held_out = dev.is_none();
    let mut dev = match dev {
        Some(dev) => dev,
        None => {
            let file = train.file.clone();
            let (kept, held) = hold_out(train.examples, data.dev_fraction).with_context(|| file.clone())?;
            train.examples = kept;
            Examples { examples: held, file, format: train.format }
        }
    };
    if conversation(train.format) != conversation(dev.format)
        || (train.format == TextFormat::Plain) != (dev.format == TextFormat::Plain)
    {
        return Err(Error::data(format!(
            "the training file holds {:?} and the evaluation file {:?}; give two files of the same kind: {}",
            train.format, dev.format, dev.file
        )));
    }
    let limit = |examples: &mut Vec<Example>, most: usize| examples.truncate(if most == 0 { usize::MAX } else { most });
    limit(&mut train.examples, data.max_train_rows);
    limit(&mut dev.examples, data.max_eval_rows);
    Ok(Splits { train, dev, held_out })
}

/// The training texts, and the evaluation texts where they are given: from files, or the bundled ones.
fn sources(data: &DataConfig, text: &TextConfig, refusals: &mut Refusals) -> Result<(Examples, Option<Examples>)> {
    if data.path == WRITER_LAB && data.train_file.is_empty() && data.dev_file.is_empty() {
        let mut read = |name: &str, bytes| {
            let name = format!("{WRITER_LAB}/{name}");
            read::from_bytes(&name, bytes, FileFormat::Csv, text, refusals)
        };
        return Ok((read("train.csv", lab::WRITER_TRAIN_CSV)?, Some(read("dev.csv", lab::WRITER_DEV_CSV)?)));
    }
    let (train, dev) = tasks::files(data)?;
    let mut read = |file: &Path| read::read_file(file, data.format, text, refusals);
    Ok((read(&train)?, dev.map(|file| read(&file)).transpose()?))
}

/// Splits `examples` into those to learn from and those held out, both in their old order. Those with the same prompt
/// stay on the same side.
fn hold_out(examples: Vec<Example>, fraction: f64) -> Result<(Vec<Example>, Vec<Example>)> {
    // A plain text has no prompt: it belongs together with its own copies.
    let key = |example| if Example::prompt(example).is_empty() { example.key() } else { example.prompt_key() };
    let groups = groups(examples.iter().map(key));
    if groups.len() < 2 {
        return Err(Error::data(
            "one text cannot be split into training and evaluation; give more texts or a dev_file",
        ));
    }
    Ok(super::hold_out::hold_out(examples, BTreeMap::from([(0, groups)]), fraction))
}

/// Whether examples of this format are conversations, which a chat template is made for.
pub(super) fn conversation(format: TextFormat) -> bool {
    matches!(format, TextFormat::Alpaca | TextFormat::Sharegpt | TextFormat::Messages)
}
