//! Processor time of the frames of the window.

use egui::util::History;
use std::time::{Duration, Instant};

/// Frames that are remembered.
const FRAMES: usize = 20_000;
/// The first frames load fonts and textures and are not counted.
const WARM_UP: u32 = 10;

/// The times of the last frames in milliseconds, without waiting for the screen.
pub struct FrameTimes {
    /// Messages and layout.
    layout: History<f32>,
    /// Messages, layout and drawing; a software renderer draws on the processor.
    whole: History<f32>,
    began: Option<Instant>,
    warm: u32,
}

impl Default for FrameTimes {
    fn default() -> Self {
        let [layout, whole] = [(), ()].map(|()| History::new(0..FRAMES, f32::INFINITY));
        Self { layout, whole, began: None, warm: 0 }
    }
}

impl FrameTimes {
    pub fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    /// The layout of the frame is done at `now`, in seconds; `whole_before`: seconds of the previous frame as eframe
    /// measures them.
    pub fn laid_out(&mut self, now: f64, whole_before: Option<f32>) {
        self.warm += 1;
        let took = self.began.take().map_or(Duration::ZERO, |began| began.elapsed());
        if self.warm > WARM_UP {
            self.layout.add(now, 1e3 * took.as_secs_f32());
            if let Some(seconds) = whole_before {
                self.whole.add(now, 1e3 * seconds);
            }
        }
    }

    /// Median, 95th percentile and maximum; `None` before the first counted frame.
    pub fn summary(&self) -> Option<String> {
        (!self.whole.is_empty()).then(|| {
            let (layout, whole, n) = (describe(&self.layout), describe(&self.whole), self.layout.len());
            format!("work of {n} frames: messages and layout {layout}; with drawing {whole}")
        })
    }
}

fn describe(times: &History<f32>) -> String {
    let mut sorted: Vec<f32> = times.values().collect();
    sorted.sort_by(f32::total_cmp);
    let [median, p95, most] = [0.5, 0.95, 1.0].map(|share| quantile(&sorted, share));
    format!("median {median:.1} ms, p95 {p95:.1} ms, most {most:.1} ms")
}

/// The value at or below which this share of the values lies; 0 for none.
fn quantile(sorted: &[f32], share: f32) -> f32 {
    let n = (share * sorted.len() as f32).ceil() as usize;
    sorted.get(n.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_frames() {
        let times: Vec<f32> = (1..=100).map(|millis| millis as f32).collect();
        assert_eq!([0.5, 0.95, 1.0].map(|share| quantile(&times, share)), [50.0, 95.0, 100.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn the_first_frames_do_not_count() {
        let mut work = FrameTimes::default();
        for _ in 0..WARM_UP {
            work.begin();
            work.laid_out(0.0, Some(0.5));
        }
        assert_eq!(work.summary(), None);
        work.begin();
        work.laid_out(0.0, Some(0.002));
        let words = work.summary().expect("a frame was counted");
        assert!(words.contains("work of 1 frames") && words.contains("p95 2.0 ms"), "{words}");
    }
}
