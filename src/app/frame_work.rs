//! How much work the frames of the window are, so that "it stays smooth" is a number.

use std::time::{Duration, Instant};

/// Width of a bin in milliseconds.
const BIN: f32 = 0.125;
/// Bins; longer frames go into the last one.
const BINS: usize = 1600;

/// Frames by their work.
#[derive(Clone, Debug)]
struct Histogram {
    bins: Vec<u32>,
    frames: u32,
    most: f32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { bins: vec![0; BINS], frames: 0, most: 0.0 }
    }
}

impl Histogram {
    fn push(&mut self, millis: f32) {
        self.bins[((millis / BIN) as usize).min(BINS - 1)] += 1;
        self.frames += 1;
        self.most = self.most.max(millis);
    }

    /// The milliseconds that this share of the frames stays below; the upper end of the bin.
    fn quantile(&self, share: f32) -> f32 {
        let wanted = (share * self.frames as f32).ceil() as u32;
        let mut sum = 0;
        let bin = self.bins.iter().position(|&n| {
            sum += n;
            sum >= wanted.max(1)
        });
        bin.map_or(0.0, |bin| ((bin + 1) as f32 * BIN).min(self.most))
    }

    fn words(&self) -> String {
        let [median, p95] = [0.5, 0.95].map(|share| self.quantile(share));
        format!("median {median:.1} ms, p95 {p95:.1} ms, most {:.1} ms", self.most)
    }
}

/// The work of all frames so far. Waiting for the screen does not count.
#[derive(Clone, Debug, Default)]
pub struct FrameWork {
    /// Taking in messages and laying out the views: what this program does itself.
    ours: Histogram,
    /// All of that, and handing it over to the graphics driver, which a software renderer does on the processor.
    whole: Histogram,
    began: Option<Instant>,
    warm: u32,
}

impl FrameWork {
    /// The first frames load fonts and textures and are not counted.
    const WARM_UP: u32 = 10;

    /// A frame begins.
    pub fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    /// Its layout is done; `whole_before`: all seconds of the frame before, as the window's framework counts them.
    pub fn laid_out(&mut self, whole_before: Option<f32>) {
        self.warm += 1;
        let took = self.began.take().map_or(Duration::ZERO, |began| began.elapsed());
        if self.warm > Self::WARM_UP {
            self.ours.push(1e3 * took.as_secs_f32());
            if let Some(seconds) = whole_before {
                self.whole.push(1e3 * seconds);
            }
        }
    }

    /// What it was, in words; nothing before the first counted frame.
    pub fn words(&self) -> Option<String> {
        (self.whole.frames > 0).then(|| {
            let (ours, whole, n) = (self.ours.words(), self.whole.words(), self.ours.frames);
            format!("work of {n} frames: messages and layout {ours}; with drawing {whole}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_frames() {
        let mut histogram = Histogram::default();
        (1..=100).for_each(|millis| histogram.push(millis as f32 - 0.01));
        assert!((histogram.quantile(0.5) - 50.0).abs() < 0.2, "{}", histogram.quantile(0.5));
        assert!((histogram.quantile(0.95) - 95.0).abs() < 0.2);
        histogram.push(1e6);
        assert_eq!(histogram.most, 1e6);
    }

    #[test]
    fn the_first_frames_do_not_count() {
        let mut work = FrameWork::default();
        for _ in 0..FrameWork::WARM_UP {
            work.begin();
            work.laid_out(Some(0.5));
        }
        assert_eq!(work.words(), None);
        work.begin();
        work.laid_out(Some(0.002));
        let words = work.words().expect("a frame was counted");
        assert!(words.contains("work of 1 frames") && words.contains("p95 2.0 ms"), "{words}");
    }
}
