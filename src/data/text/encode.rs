//! Examples to token ids with a mask of what is learned.
//!
//! A sequence longer than `max_length` loses its last tokens (`truncate = "end"`, as in the paper's code) or its first
//! ones (`"start"`). A sequence that has nothing left to learn is left out and counted. A long plain text becomes several
//! sequences, each beginning with the last token of the one before, so that every token is learned once.
//!
//! Segments are tokenized one by one: the tokens of a prompt are the same in training and in use. Where the tokenizer puts
//! a space before every text (SentencePiece) they are tokenized together, and a token is learned when it ends inside a
//! learned segment.

use super::layout::{Layout, Segment};
use super::{Example, Examples, Role, TextCodec};
use crate::config::{DataConfig, TextConfig, TextFormat, Truncate};
use crate::data::rows::Refusals;
use crate::error::Result;

/// Examples looked at for what a template leaves out.
const LOOKED_AT: usize = 50;

/// A sequence: token ids, and which of them are learned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedText {
    /// Token ids. `[length]`
    pub ids: Vec<u32>,
    /// Whether a token is learned: predicted from the tokens before it and scored. Never the first one. `[length]`
    pub learn: Vec<bool>,
    /// The example it comes from, by its number in the file's examples.
    pub example: usize,
    /// Tokens of the example that were cut off.
    pub cut: usize,
}

impl EncodedText {
    /// Number of learned tokens.
    pub fn learned(&self) -> usize {
        self.learn.iter().filter(|&&learn| learn).count()
    }
}

/// Turns examples into sequences, the same way for training, previews and questions.
#[derive(Clone, Debug)]
pub struct TextEncoder {
    /// The tokenizer.
    pub codec: TextCodec,
    /// How examples are laid out.
    pub layout: Layout,
    learn_prompt: bool,
    /// Largest length in tokens.
    pub max_length: usize,
    truncate: Truncate,
}

impl TextEncoder {
    /// For examples of this format; an error when the settings ask for a template that is not there or not one.
    pub fn new(codec: &TextCodec, format: TextFormat, data: &DataConfig, text: &TextConfig) -> Result<Self> {
        let layout = Layout::choose(format, text, codec)?;
        if !matches!(layout, Layout::Chat(_)) {
            codec.require_eos()?;
        }
        Ok(Self {
            codec: codec.clone(),
            layout,
            learn_prompt: text.learn_prompt,
            max_length: data.max_length,
            truncate: text.truncate,
        })
    }

    /// The sequences of an example, each at most `max_length` long: one, but several for a long plain text. None when
    /// cutting left nothing to learn. `number` is the example's number.
    pub fn encode(&self, example: &Example, number: usize) -> Result<Vec<EncodedText>> {
        Ok(self.cut(&self.encode_whole(example, number)?))
    }

    /// The sequences that an uncut one is truncated or split to.
    pub(super) fn cut(&self, whole: &EncodedText) -> Vec<EncodedText> {
        let most = self.max_length.max(2);
        if whole.ids.len() > most && matches!(self.layout, Layout::Text) {
            return self.pieces(whole, most);
        }
        let cut = whole.ids.len().saturating_sub(most);
        let kept = match self.truncate {
            Truncate::End => 0..whole.ids.len() - cut,
            Truncate::Start => cut..whole.ids.len(),
        };
        let piece = piece(whole, kept, cut);
        if piece.learned() > 0 { vec![piece] } else { Vec::new() }
    }

    /// The sequence of an example before it is cut.
    pub fn encode_whole(&self, example: &Example, number: usize) -> Result<EncodedText> {
        let (ids, mut learn) = self.tokens(&self.layout.segments(example, &self.codec)?)?;
        if self.learn_prompt {
            learn.fill(true);
        }
        if let Some(first) = learn.first_mut() {
            *first = false;
        }
        Ok(EncodedText { ids, learn, example: number, cut: 0 })
    }

    /// Notes what the chat template does not write of the first examples that have it.
    pub(super) fn note_what_is_left_out(&self, split: &Examples, refusals: &mut Refusals) {
        let first = split.examples.iter().filter(|example| has_more_than_turns(example)).take(LOOKED_AT);
        for example in first {
            let found = match &self.layout {
                Layout::Chat(template) => template.left_out(example).unwrap_or_default(),
                Layout::Turns if example.tools.is_some() => vec!["the tools"],
                _ => Vec::new(),
            };
            let template = if matches!(self.layout, Layout::Chat(_)) { "the chat template" } else { "the layout" };
            for what in found {
                let text = format!("{template} does not write {what}: it is neither read nor learned");
                refusals.notes.row(split.file_of(example), example.line, &text);
            }
        }
    }

    /// The tokens the model is given to answer from: everything before the last answer, and the words that make the model
    /// answer. In training exactly these tokens stand before the answer.
    pub fn prompt(&self, example: &Example) -> Result<Vec<u32>> {
        Ok(self.tokens(&self.layout.prompt(example, &self.codec)?)?.0)
    }

    /// Consecutive pieces, each beginning with the last token of the one before.
    fn pieces(&self, whole: &EncodedText, most: usize) -> Vec<EncodedText> {
        let starts = (0..whole.ids.len() - 1).step_by(most - 1);
        let pieces = starts.map(|start| piece(whole, start..(start + most).min(whole.ids.len()), 0));
        pieces.filter(|piece| piece.learned() > 0).collect()
    }

    fn tokens(&self, segments: &[Segment]) -> Result<(Vec<u32>, Vec<bool>)> {
        let (mut ids, mut learn) = (Vec::new(), Vec::new());
        let is_text = |segment: &Segment| matches!(segment, Segment::Text(..));
        let together = self.codec.prefixes_space;
        for run in segments.chunk_by(|a, b| together && is_text(a) && is_text(b)) {
            match run {
                [Segment::Token(id, learned)] => {
                    ids.push(*id);
                    learn.push(*learned);
                }
                [Segment::Text(text, learned)] => {
                    ids.extend(self.codec.encode(text)?);
                    learn.resize(ids.len(), *learned);
                }
                texts => self.tokens_together(texts, &mut ids, &mut learn)?,
            }
        }
        Ok((ids, learn))
    }

    fn tokens_together(&self, texts: &[Segment], ids: &mut Vec<u32>, learn: &mut Vec<bool>) -> Result<()> {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for segment in texts {
            if let Segment::Text(piece, learned) = segment {
                text.push_str(piece);
                ends.push((text.len(), *learned));
            }
        }
        for (id, end) in self.codec.encode_with_ends(&text)? {
            ids.push(id);
            learn.push(ends.iter().find(|(segment_end, _)| end <= *segment_end).is_some_and(|(_, learned)| *learned));
        }
        Ok(())
    }
}

/// Whether there is something that chat templates do not always write.
fn has_more_than_turns(example: &Example) -> bool {
    example.tools.is_some() || example.turns.iter().any(|turn| turn.role == Role::System || !turn.fields.is_empty())
}

fn piece(whole: &EncodedText, range: std::ops::Range<usize>, cut: usize) -> EncodedText {
    let mut learn = whole.learn[range.clone()].to_vec();
    if let Some(first) = learn.first_mut() {
        *first = false;
    }
    EncodedText { ids: whole.ids[range].to_vec(), learn, example: whole.example, cut }
}
