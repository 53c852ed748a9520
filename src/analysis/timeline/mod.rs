//! Every recorded draw of a run in memory, a byte each, with losses: what the route map draws.
//!
//! The steps lie in chunks of [`CHUNK`], aligned to step numbers, so that a part of the picture is a part of the memory. Chunks
//! are shared: a copy of a timeline for another thread costs nothing. A step takes `passes x modules x sides that draw` bytes,
//! one more for each layer, and 24; 48 layers with both sides drawn and two passes are 264, or 26 MB for 100,000 steps. Beyond
//! [`MOST_BYTES`] the oldest chunks are dropped.

pub mod ages;
pub mod band;
mod fit;
mod layout;
mod rows;

pub use ages::Ages;
pub use fit::RouteFit;
pub use layout::{Layer, Layout};
pub use rows::StepRows;

use super::routing_stats::Shares;
use crate::error::{Error, Result};
use crate::records::Side;
use rows::NOTHING;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Steps of a chunk.
pub const CHUNK: u64 = 512;
/// Most bytes of a timeline.
pub const MOST_BYTES: usize = 256 << 20;
/// A record that jumps further ahead is damaged.
const FARTHEST: u64 = 1 << 20;

/// What is known of a step.
const RECORDED: u8 = 1;
/// Its draws can be compared, too.
const COMPARED: u8 = 2;

/// [`CHUNK`] neighbouring steps.
#[derive(Clone, Debug, Default, PartialEq)]
struct Chunk {
    rows: StepRows,
    /// [`RECORDED`], [`COMPARED`]; 0 for a gap. `[steps]`
    flags: Vec<u8>,
    /// How much of each layer's draws differ, in units of [`RouteTimeline::unit`]. `[steps, layers]`
    differs: Vec<u8>,
    /// The step before the chunk in which each expert learned last.
    before: Vec<Vec<u64>>,
}

/// The draws of a run by step.
#[derive(Clone, Default, PartialEq)]
pub struct RouteTimeline {
    layout: Arc<Layout>,
    chunks: Vec<Arc<Chunk>>,
    /// Number of the first chunk.
    base: u64,
    /// The step in which each expert learned last.
    last_ran: Vec<Vec<u64>>,
    /// First and last recorded step; both 0 without any.
    first: u64,
    last: u64,
    /// Recorded steps, those that were dropped among them.
    recorded: u64,
    /// Steps dropped for want of memory.
    dropped: u64,
}

impl fmt::Debug for RouteTimeline {
    /// Without the draws: they may be millions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RouteTimeline({} to {}, {} recorded)", self.first, self.last, self.recorded)
    }
}

impl RouteTimeline {
    /// No steps yet.
    pub fn new(layout: Layout) -> Self {
        let experts = |side: Side| vec![0; layout.experts[side as usize]];
        let last_ran = (0..layout.sites.len()).flat_map(|_| layout.drawn().map(experts).collect::<Vec<_>>()).collect();
        Self { layout: Arc::new(layout), last_ran, ..Self::default() }
    }

    /// What can be drawn.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The first step in memory; 0 without steps.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The newest step; 0 without steps.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.last == 0
    }

    /// Recorded steps in memory: those between first and last but for gaps.
    pub fn steps(&self) -> u64 {
        self.recorded - self.dropped
    }

    /// Steps that were dropped because the timeline would take more than [`MOST_BYTES`].
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.rows.bytes() + chunk.differs.len() + chunk.flags.len()).sum()
    }

    /// Appends steps. Those that are not newer than the newest one are left out.
    ///
    /// # Errors
    /// Of kind [`Format`](crate::error::ErrorKind::Format) where they jump far ahead, or were made for other modules.
    pub fn append(&mut self, rows: &StepRows) -> Result<()> {
        let layout = self.layout.clone();
        let [passes, width, layers] = [layout.passes, layout.width(), layout.layers.len()];
        let apart = if rows.apart.is_empty() { 0 } else { layers };
        let ran = if layout.is_whole() { 0 } else { width };
        let widths = [passes * width, layout.share_width(), apart, ran];
        let lengths = [rows.picks.len(), rows.shares.len(), rows.apart.len(), rows.ran.len()];
        if widths.iter().zip(lengths).any(|(width, length)| width * rows.len() != length) {
            return Err(Error::format("the recorded steps were made for other modules than the run has"));
        }
        for (i, &step) in rows.steps.iter().enumerate() {
            if step <= self.last {
                continue;
            }
            if self.last > 0 && step - self.last > FARTHEST {
                let text =
                    format!("the record jumps from step {} to step {step}; what comes then is not shown", self.last);
                return Err(Error::format(text));
            }
            self.push(rows, i, widths);
        }
        self.drop_oldest();
        Ok(())
    }

    fn push(&mut self, rows: &StepRows, i: usize, widths: [usize; 4]) {
        let step = rows.steps[i];
        if self.last == 0 {
            (self.first, self.base) = (step, (step - 1) / CHUNK);
        }
        let gap_from = if self.last == 0 { self.base * CHUNK + 1 } else { self.last + 1 };
        (gap_from..step).for_each(|missing| self.push_gap(missing, widths));
        let layout = self.layout.clone();
        let before = self.row(step.saturating_sub(1)).map(|row| row.picks().to_vec());
        let chunk = self.chunk_for(step);
        let [picks, shares, apart, ran] = widths;
        let part = |width: usize| i * width..(i + 1) * width;
        let own = &rows.picks[part(picks)];
        let mut differs = vec![0u8; layout.layers.len()];
        let compared = if apart > 0 {
            differs.iter_mut().zip(&rows.apart[part(apart)]).for_each(|(d, share)| *d = (255.0 * share).round() as u8);
            true
        } else if layout.passes == 2 {
            count_apart(&layout, own.split_at(picks / 2), &mut differs);
            true
        } else {
            let comparable = before.filter(|_| layout.compares());
            comparable.inspect(|before| count_apart(&layout, (own, before), &mut differs)).is_some()
        };
        chunk.rows.steps.push(step);
        chunk.rows.picks.extend(own);
        chunk.rows.shares.extend(&rows.shares[part(shares)]);
        chunk.rows.apart.extend(&rows.apart[part(apart)]);
        chunk.rows.ran.extend(&rows.ran[part(ran)]);
        chunk.rows.loss.push(rows.loss[i]);
        chunk.rows.consistency.push(rows.consistency[i]);
        chunk.flags.push(RECORDED | if compared { COMPARED } else { 0 });
        chunk.differs.extend(&differs);
        learn(&layout, &mut self.last_ran, step, own, &rows.ran[part(ran)]);
        self.last = step;
        self.recorded += 1;
    }

    fn push_gap(&mut self, step: u64, [picks, shares, apart, ran]: [usize; 4]) {
        let layers = self.layout.layers.len();
        let chunk = self.chunk_for(step);
        let rows = &mut chunk.rows;
        rows.steps.push(step);
        rows.picks.resize(rows.picks.len() + picks, NOTHING);
        rows.shares.resize(rows.shares.len() + shares, 0);
        rows.apart.resize(rows.apart.len() + apart, f32::NAN);
        rows.ran.resize(rows.ran.len() + ran, 0);
        rows.loss.push(f32::NAN);
        rows.consistency.push(f32::NAN);
        chunk.flags.push(0);
        chunk.differs.resize(chunk.differs.len() + layers, 0);
    }

    /// The chunk that the next step goes to.
    fn chunk_for(&mut self, step: u64) -> &mut Chunk {
        let wanted = ((step - 1) / CHUNK - self.base) as usize;
        if self.chunks.len() <= wanted {
            self.chunks.push(Arc::new(Chunk { before: self.last_ran.clone(), ..Chunk::default() }));
        }
        let last = self.chunks.len() - 1;
        Arc::make_mut(&mut self.chunks[last])
    }

    fn drop_oldest(&mut self) {
        while self.bytes() > MOST_BYTES && self.chunks.len() > 1 {
            let gone = self.chunks.remove(0);
            self.dropped += gone.flags.iter().filter(|flags| **flags > 0).count() as u64;
            self.base += 1;
            self.first = self.base * CHUNK + 1;
        }
    }

    /// A step; absent where nothing is recorded of it.
    pub fn row(&self, step: u64) -> Option<Row<'_>> {
        let number = (step.checked_sub(1)? / CHUNK).checked_sub(self.base)?;
        let chunk = self.chunks.get(usize::try_from(number).ok()?)?;
        let index = ((step - 1) % CHUNK) as usize;
        let recorded = chunk.flags.get(index).is_some_and(|flags| *flags > 0);
        recorded.then_some(Row { timeline: self, chunk, index })
    }

    /// The recorded step nearest to this one.
    pub fn nearest(&self, step: u64) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let step = step.clamp(self.first, self.last);
        let below = (self.first..=step).rev().take(FARTHEST as usize).find(|step| self.row(*step).is_some());
        let above = (step..=self.last).take(FARTHEST as usize).find(|step| self.row(*step).is_some());
        match (below, above) {
            (Some(below), Some(above)) => Some(if step - below <= above - step { below } else { above }),
            (below, above) => below.or(above),
        }
    }

    /// What one draw is in [`RouteTimeline::differing`]: 1 of the layer's draws where a step is a single draw, else a 255th of the
    /// layer.
    pub fn unit(&self, layer: usize) -> f64 {
        if self.layout.is_whole() { 1.0 / self.layout.draws_of(layer).max(1) as f64 } else { 1.0 / 255.0 }
    }

    /// Adds up, layer by layer, how much of the draws differ in these steps, in units of [`RouteTimeline::unit`]. Returns how many
    /// steps can be compared. sums: `[layers]`
    pub fn differing(&self, steps: RangeInclusive<u64>, sums: &mut [u32]) -> u32 {
        let layers = self.layout.layers.len();
        let (from, to) = ((*steps.start()).max(self.base * CHUNK + 1), (*steps.end()).min(self.last));
        let mut compared = 0;
        let mut at = from;
        while at <= to {
            let Some(chunk) = self.chunks.get(((at - 1) / CHUNK - self.base) as usize) else { break };
            let first = ((at - 1) % CHUNK) as usize;
            let until = (first + (to - at) as usize + 1).min(chunk.flags.len());
            if layers > 0 {
                for own in chunk.differs[first * layers..until * layers].chunks_exact(layers) {
                    sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += u32::from(*own));
                }
            }
            compared += chunk.flags[first..until].iter().filter(|flags| **flags & COMPARED > 0).count() as u32;
            at = (at - 1) / CHUNK * CHUNK + CHUNK + 1;
        }
        compared
    }

    /// Gaps: steps between first and last of which nothing is recorded, as ranges.
    pub fn gaps(&self) -> Vec<RangeInclusive<u64>> {
        let mut gaps: Vec<RangeInclusive<u64>> = Vec::new();
        // Whole chunks first: nearly all have none.
        for (number, chunk) in self.chunks.iter().enumerate() {
            if !chunk.flags.contains(&0) {
                continue;
            }
            let start = (self.base + number as u64) * CHUNK + 1;
            for step in (0..chunk.flags.len()).filter(|i| chunk.flags[*i] == 0).map(|i| start + i as u64) {
                match gaps.last_mut() {
                    _ if step < self.first => {}
                    Some(last) if last.end() + 1 == step => *last = *last.start()..=step,
                    _ => gaps.push(step..=step),
                }
            }
        }
        gaps
    }

    /// When each expert learned last, after this step.
    pub fn ages(&self, step: u64) -> Ages {
        let step = step.min(self.last);
        let number = step.saturating_sub(1) / CHUNK;
        let found = number.checked_sub(self.base).and_then(|number| self.chunks.get(usize::try_from(number).ok()?));
        let Some(chunk) = found.filter(|_| step > 0) else { return Ages { step, last: self.last_ran.clone() } };
        let mut last = chunk.before.clone();
        let (width, ran) = (self.layout.passes * self.layout.width(), chunk.rows.ran.len() / chunk.flags.len().max(1));
        for i in 0..=((step - 1) % CHUNK) as usize {
            if chunk.flags.get(i).is_some_and(|flags| *flags > 0) {
                let picks = &chunk.rows.picks[i * width..(i + 1) * width];
                learn(&self.layout, &mut last, chunk.rows.steps[i], picks, &chunk.rows.ran[i * ran..(i + 1) * ran]);
            }
        }
        Ages { step, last }
    }

    /// Steps since an expert learned; absent where it never did, and for a shared side.
    pub fn age(&self, ages: &Ages, site: usize, side: Side, expert: usize) -> Option<u64> {
        ages.age(self.layout.place(site, side)?, expert)
    }
}

/// Notes which experts learn in a step: those of all passes, or the bits where a step is more than a single draw.
fn learn(layout: &Layout, last: &mut [Vec<u64>], step: u64, picks: &[u8], ran: &[u64]) {
    let width = layout.width();
    for (place, experts) in last.iter_mut().enumerate() {
        if let Some(&bits) = ran.get(place) {
            experts.iter_mut().enumerate().filter(|(e, _)| bits >> e & 1 == 1).for_each(|(_, last)| *last = step);
        } else {
            for pass in 0..layout.passes {
                let expert = picks.get(pass * width + place).copied().unwrap_or(NOTHING);
                experts.iter_mut().skip(usize::from(expert)).take(1).for_each(|last| *last = step);
            }
        }
    }
}

/// How many of each layer's draws differ between two passes.
fn count_apart(layout: &Layout, (a, b): (&[u8], &[u8]), differs: &mut [u8]) {
    let sides = layout.drawn().count();
    for (differs, layer) in differs.iter_mut().zip(&layout.layers) {
        let places = layer.sites.iter().flat_map(|site| site * sides..(site + 1) * sides);
        *differs = places.filter(|&place| a.get(place) != b.get(place)).count().min(255) as u8;
    }
}

/// What is recorded of one step.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    timeline: &'a RouteTimeline,
    chunk: &'a Chunk,
    index: usize,
}

impl Row<'_> {
    fn picks(&self) -> &[u8] {
        let width = self.timeline.layout.passes * self.timeline.layout.width();
        &self.chunk.rows.picks[self.index * width..(self.index + 1) * width]
    }

    /// The expert that ran (most); absent for a shared side.
    pub fn pick(&self, pass: usize, site: usize, side: Side) -> Option<usize> {
        let layout = &self.timeline.layout;
        let place = layout.place(site, side).filter(|_| pass < layout.passes)?;
        self.picks().get(pass * layout.width() + place).filter(|expert| **expert != NOTHING).map(|&e| usize::from(e))
    }

    /// The share of each expert, 0 to 1; empty for a shared side.
    pub fn shares(&self, pass: usize, site: usize, side: Side) -> Shares {
        let layout = &self.timeline.layout;
        let experts = layout.experts[side as usize];
        if !layout.draws(side) || pass >= layout.passes || site >= layout.sites.len() {
            return Shares::new();
        }
        let before: usize = layout.drawn().take_while(|drawn| *drawn != side).map(|s| layout.experts[s as usize]).sum();
        let width = layout.share_width();
        let from = self.index * width + (pass * layout.sites.len() + site) * layout.drawn_experts() + before;
        match self.chunk.rows.shares.get(from..from + experts).filter(|_| width > 0) {
            Some(shares) => shares.iter().map(|&share| f32::from(share) / 255.0).collect(),
            None => {
                let pick = self.pick(pass, site, side);
                (0..experts).map(|expert| f32::from(u8::from(pick == Some(expert)))).collect()
            }
        }
    }

    /// The share of a layer's draws in which the two passes differ; with one pass, in which they differ from the step before.
    pub fn differs(&self, layer: usize) -> Option<f64> {
        let layers = self.timeline.layout.layers.len();
        if self.chunk.flags[self.index] & COMPARED == 0 || layer >= layers {
            return None;
        }
        Some(match self.chunk.rows.apart.get(self.index * layers + layer) {
            Some(share) => f64::from(*share),
            None => f64::from(self.chunk.differs[self.index * layers + layer]) * self.timeline.unit(layer),
        })
    }

    /// h: in how many layers the passes differ; parts of a layer count as such.
    pub fn distance(&self) -> Option<f64> {
        (0..self.timeline.layout.layers.len()).map(|layer| self.differs(layer)).sum()
    }

    /// Total loss; NaN where it was not a number.
    pub fn loss(&self) -> f32 {
        self.chunk.rows.loss[self.index]
    }

    /// Disagreement of the two passes before its weight; absent with one pass, or where it was not a number.
    pub fn consistency(&self) -> Option<f32> {
        Some(self.chunk.rows.consistency[self.index]).filter(|term| term.is_finite())
    }
}

#[cfg(test)]
mod tests;
