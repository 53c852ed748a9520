//! Packed batches: sequences back to back, never padded.

/// The answers of a batch, one for each sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// Class index of each sequence.
    Classes(Vec<u32>),
    /// Target value of each sequence.
    Values(Vec<f32>),
}

/// Packed sequences: `ids[offsets[i]..offsets[i + 1]]` is sequence `i`, special tokens included.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Token ids of all sequences, back to back. `[total_tokens]`
    pub ids: Vec<u32>,
    /// Segment of each token: 0 for the first text, 1 for the second (BERT; all 0 for RoBERTa). `[total_tokens]`
    pub type_ids: Vec<u32>,
    /// Where each sequence starts, and the end of the last one. `[sequences + 1]`
    pub offsets: Vec<usize>,
    /// The answers. `[sequences]`
    pub labels: Labels,
    /// Row of each sequence in its data set. `[sequences]`
    pub rows: Vec<usize>,
}
