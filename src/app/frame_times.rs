//! Processor time of the frames of the window.

use std::time::{Duration, Instant};

/// Width of a bin in milliseconds.
const BIN: f32 = 0.125;
/// Number of bins; longer frames are counted in the last one.
const BINS: usize = 1600;

/// Frames by their time.
#[derive(Clone, Debug)]
struct TimeHistogram {
    bins: Vec<u32>,
    frames: u32,
    most: f32,
}

impl Default for TimeHistogram {
    fn default() -> Self {
        Self { bins: vec![0; BINS], frames: 0, most: 0.0 }
    }
}

impl TimeHistogram {
    fn push(&mut self, millis: f32) {
        self.bins[((millis / BIN) as usize).min(BINS - 1)] += 1;
        self.frames += 1;
        self.most = self.most.max(millis);
    }

    /// The time in milliseconds below which this share of the frames lies; the upper end of the bin.
    fn quantile(&self, share: f32) -> f32 {
        let wanted = (share * self.frames as f32).ceil() as u32;
        let mut sum = 0;
        let bin = self.bins.iter().position(|&n| {
            sum += n;
            sum >= wanted.max(1)
        });
        bin.map_or(0.0, |bin| ((bin + 1) as f32 * BIN).min(self.most))
    }

    fn summary(&self) -> String {
        let [median, p95] = [0.5, 0.95].map(|share| self.quantile(share));
        format!("median {median:.1} ms, p95 {p95:.1} ms, most {:.1} ms", self.most)
    }
}

/// The time of all frames so far, without waiting for the screen.
#[derive(Clone, Debug, Default)]
pub struct FrameTimes {
    /// Messages and layout.
    ours: TimeHistogram,
    /// Messages, layout and drawing; a software renderer draws on the processor.
    whole: TimeHistogram,
    began: Option<Instant>,
    warm: u32,
}

impl FrameTimes {
    /// The first frames load fonts and textures and are not counted.
    const WARM_UP: u32 = 10;

    /// A frame begins.
    pub fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    /// The layout of the frame is done; `whole_before`: seconds of the previous frame as eframe measures them.
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

    /// Median, 95th percentile and maximum; `None` before the first counted frame.
    pub fn summary(&self) -> Option<String> {
        (self.whole.frames > 0).then(|| {
            let (ours, whole, n) = (self.ours.summary(), self.whole.summary(), self.ours.frames);
            format!("work of {n} frames: messages and layout {ours}; with drawing {whole}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_frames() {
        let mut histogram = TimeHistogram::default();
        (1..=100).for_each(|millis| histogram.push(millis as f32 - 0.01));
        assert!((histogram.quantile(0.5) - 50.0).abs() < 0.2, "{}", histogram.quantile(0.5));
        assert!((histogram.quantile(0.95) - 95.0).abs() < 0.2);
        histogram.push(1e6);
        assert_eq!(histogram.most, 1e6);
    }

    #[test]
    fn the_first_frames_do_not_count() {
        let mut work = FrameTimes::default();
        for _ in 0..FrameTimes::WARM_UP {
            work.begin();
            work.laid_out(Some(0.5));
        }
        assert_eq!(work.summary(), None);
        work.begin();
        work.laid_out(Some(0.002));
        let words = work.summary().expect("a frame was counted");
        assert!(words.contains("work of 1 frames") && words.contains("p95 2.0 ms"), "{words}");
    }
}
