//! Text as it becomes readable, and stop strings.

use crate::data::text::TextCodec;
use crate::error::Result;

/// Decodes tokens one by one. A piece is returned when its characters are complete; the possible start of a stop string is
/// held back.
#[derive(Debug)]
pub struct TextStream<'a> {
    codec: Option<&'a TextCodec>,
    stops: &'a [String],
    ids: Vec<u32>,
    /// Tokens that give context, and those whose text was taken over.
    context: usize,
    taken: usize,
    text: String,
    /// Bytes of the text that were returned.
    returned: usize,
    /// Where a stop string begins.
    stopped: Option<usize>,
}

impl<'a> TextStream<'a> {
    /// Without a tokenizer there is no text.
    pub fn new(codec: Option<&'a TextCodec>, stops: &'a [String]) -> Self {
        Self { codec, stops, ids: Vec::new(), context: 0, taken: 0, text: String::new(), returned: 0, stopped: None }
    }

    /// One more token; the piece that became readable with it.
    pub fn push(&mut self, id: u32) -> Result<&str> {
        self.ids.push(id);
        self.take(false)?;
        let end = self.stopped.unwrap_or_else(|| self.text.len() - self.held_back());
        Ok(self.release(end))
    }

    /// Whether a stop string was written.
    pub fn stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// The end: what was held back.
    pub fn finish(&mut self) -> Result<&str> {
        self.take(true)?;
        let end = self.stopped.unwrap_or(self.text.len());
        Ok(self.release(end))
    }

    /// The text so far, up to a stop string.
    pub fn text(&self) -> &str {
        &self.text[..self.stopped.unwrap_or(self.text.len())]
    }

    fn release(&mut self, end: usize) -> &str {
        let start = self.returned.min(end);
        self.returned = self.returned.max(end);
        &self.text[start..end]
    }

    /// Takes over the text of new tokens. Tokens are decoded with those before them: some tokenizers write the first one
    /// of a text in another way.
    fn take(&mut self, last: bool) -> Result<()> {
        let Some(codec) = self.codec else { return Ok(()) };
        let before = codec.decode_plain(&self.ids[self.context..self.taken])?;
        let now = codec.decode_plain(&self.ids[self.context..])?;
        // The end of a character may be missing still.
        if (now.ends_with('\u{fffd}') && !last) || now.len() <= before.len() || !now.is_char_boundary(before.len()) {
            return Ok(());
        }
        let from = self.text.len();
        self.text.push_str(&now[before.len()..]);
        (self.context, self.taken) = (self.taken, self.ids.len());
        if self.stopped.is_none() {
            let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
            let mut start = from.saturating_sub(longest);
            while !self.text.is_char_boundary(start) {
                start -= 1;
            }
            let found = self.stops.iter().filter_map(|stop| self.text[start..].find(stop.as_str()));
            self.stopped = found.min().map(|at| start + at);
        }
        Ok(())
    }

    /// Bytes at the end that may be the start of a stop string.
    fn held_back(&self) -> usize {
        let longest = |stop: &String| {
            let most = stop.len().saturating_sub(1).min(self.text.len());
            let starts = |&n: &usize| stop.is_char_boundary(n) && self.text.as_bytes().ends_with(&stop.as_bytes()[..n]);
            (1..=most).rev().find(starts).unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}
