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
mod dataset_info;
pub mod encode;
pub mod example;
pub mod layout;
mod message;
pub mod preview;
mod python;
pub mod read;
mod recognise;
pub mod template;
mod template_source;
mod template_values;
mod threads;
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
use crate::config::{BadRows, DataConfig, FileFormat, TextConfig, TextFormat, Truncate, WRITER_LAB};
use crate::error::{Context as _, Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

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
    /// The token that ends the learned answers, where the model's own files do not stop at it.
    pub turn_end: Option<u32>,
    /// Rows left out because they could not be used.
    pub skipped: Vec<SkippedRow>,
    /// What the user should know although nothing was refused, one line each.
    pub notes: Vec<String>,
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
    let mut refusals = Refusals::new(data.bad_rows);
    let mut all = || -> Result<TextData> {
        let Splits { train, dev, .. } = splits(data, text, &mut refusals)?;
        let mut encoder = TextEncoder::new(codec, train.format, data, text)?;
        encoder.note_what_is_left_out(&train, &mut refusals);
        let train = TextDataset::encode(train, &encoder, &mut refusals)?;
        let dev = TextDataset::encode(dev, &encoder, &mut refusals)?;
        cut_short(&train, data, text.truncate, &mut refusals);
        for (split, what) in [(&train, "training"), (&dev, "evaluation")] {
            if split.is_empty() {
                return Err(Error::data(format!(
                    "no {what} text has anything left to learn within {} tokens; raise max_length: {}",
                    data.max_length, split.file
                )));
            }
        }
        let inputs = example::inputs(&dev.examples);
        // What was learned to end an answer ends one.
        let known = &encoder.codec.specials.stops;
        let turn_end = train.turn_end(&encoder.codec).filter(|end| !known.contains(end));
        encoder.codec.specials.stops.extend(turn_end);
        Ok(TextData { train, dev, inputs, encoder, turn_end, skipped: Vec::new(), notes: Vec::new() })
    };
    let found = all().with_context(|| format!("the texts of {} cannot be used", tasks::name(data)))?;
    Ok(TextData { notes: refusals.notes.words(), skipped: refusals.skipped, ..found })
}

/// Tells how much of what was to be learned is cut off.
fn cut_short(split: &TextDataset, data: &DataConfig, truncate: Truncate, refusals: &mut Refusals) {
    let cut = split.encoded.iter().filter(|text| text.cut > 0).count();
    if cut == 0 {
        return;
    }
    let lost = match truncate {
        Truncate::End => "their ends, with the token that ends an answer, are not learned",
        Truncate::Start => "their beginnings are not read",
    };
    refusals.notes.file(
        &split.file,
        &format!(
            "{cut} of {} texts are longer than max_length = {} tokens and are cut: {lost}; raise max_length to keep them",
            split.encoded.len(),
            data.max_length
        ),
    );
}

/// The training and evaluation examples of a run, and what lays them out; nothing is encoded. Rows that cannot be used
/// are left out.
pub fn examples(data: &DataConfig, text: &TextConfig, codec: &TextCodec) -> Result<(TextEncoder, [Vec<Example>; 2])> {
    let mut refusals = Refusals::new(BadRows::Skip);
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
            let file = train.name();
            let (kept, held) =
                hold_out(train.examples, data.dev_fraction, &file, refusals).with_context(|| file.clone())?;
            train.examples = kept;
            Examples { examples: held, files: train.files.clone(), format: train.format, stored: train.stored.clone() }
        }
    };
    same_kind(train.format, &dev)?;
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
    let files = tasks::files(data)?;
    let mut read = |paths: &[PathBuf]| -> Result<Examples> {
        let all =
            paths.iter().map(|file| read::read_file(file, data.format, text, refusals)).collect::<Result<Vec<_>>>()?;
        joined(all)
    };
    Ok((read(&files.train)?, files.dev.map(|files| read(&files)).transpose()?))
}

/// The examples of several files, which must be of one kind, as those of one.
fn joined(all: Vec<Examples>) -> Result<Examples> {
    let mut all = all.into_iter();
    let mut joined = all.next().ok_or_else(|| Error::config("no training file chosen; give train_file"))?;
    for more in all {
        same_kind(joined.format, &more)?;
        let number = joined.files.len();
        joined.files.extend(more.files);
        joined.examples.extend(more.examples.into_iter().map(|example| Example { file: number, ..example }));
        if joined.stored != more.stored {
            joined.stored = format!("{}; {}", joined.stored, more.stored);
        }
    }
    Ok(joined)
}

/// Refuses examples of another kind than `format`: they are laid out in another way.
fn same_kind(format: TextFormat, other: &Examples) -> Result<()> {
    if conversation(format) == conversation(other.format)
        && (format == TextFormat::Plain) == (other.format == TextFormat::Plain)
    {
        return Ok(());
    }
    Err(Error::data(format!(
        "the training file holds {format:?} and this one {:?}; give files of the same kind: {}",
        other.format,
        other.name()
    )))
}

/// Examples of which some can be held out although all ask for the same.
const ENOUGH: usize = 10;

/// Splits `examples` into those to learn from and those held out, both in their old order. Those with the same prompt
/// stay on the same side, unless all have the same.
fn hold_out(
    examples: Vec<Example>,
    fraction: f64,
    file: &str,
    refusals: &mut Refusals,
) -> Result<(Vec<Example>, Vec<Example>)> {
    // A text without a prompt belongs together with its own copies.
    let asks = |example: &Example| example.prompt().iter().any(|turn| !turn.text.trim().is_empty());
    let key = |example| if asks(example) { example.prompt_key() } else { example.key() };
    let mut groups = self::groups(examples.iter().map(key));
    if groups.len() < 2 && examples.len() >= ENOUGH {
        groups = self::groups(examples.iter().map(Example::key));
        if groups.len() >= 2 {
            refusals.notes.file(
                file,
                &format!(
                    "all {} texts have the same input, so the ones held out for evaluation answer an input that is learned too",
                    examples.len()
                ),
            );
        }
    }
    if groups.len() < 2 {
        let why = match examples.len() {
            1 => "one text cannot be split into training and evaluation".to_owned(),
            count => format!("{count} texts with the same input cannot be split into training and evaluation"),
        };
        return Err(Error::data(format!("{why}; give more texts or a dev_file")));
    }
    Ok(super::hold_out::hold_out(examples, BTreeMap::from([(0, groups)]), fraction))
}

/// Whether examples of this format are conversations, which a chat template is made for.
pub(super) fn conversation(format: TextFormat) -> bool {
    matches!(format, TextFormat::Alpaca | TextFormat::Sharegpt | TextFormat::Messages)
}
