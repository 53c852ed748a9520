//! Names and colours of the phases of a training step.

use super::theme::Theme;
use super::widgets::stacked_bar::BarPart;
use crate::format;
use crate::protocol::{PHASES, Phase, StepProfile};
use egui::Color32;

/// Name, what happens in it, and colour. Neighbours in the bar are distinguishable with any colour vision: series
/// colours, and paler tints for the small phases.
fn describe(phase: Phase, theme: &Theme) -> (&'static str, &'static str, Color32) {
    let series = |i| theme.series(i);
    let pale = |i| theme.card.lerp_to_gamma(theme.series(i), 0.55);
    match phase {
        Phase::TrunkForward => {
            ("base forward", "Matrix products of the frozen base model, forward, with fused nonlinearities", series(0))
        }
        Phase::TrunkBackward => ("base backward", "Matrix products of the frozen base model, backward", series(5)),
        Phase::AttentionForward => {
            ("attention forward", "Scores, softmax and weighted values of all heads, forward", series(1))
        }
        Phase::AttentionBackward => {
            ("attention backward", "Attention backward, with recomputed probabilities", series(4))
        }
        Phase::Elementwise => (
            "norms and activations",
            "Embeddings, layer norms with residuals and dropout, nonlinearities; both ways",
            series(2),
        ),
        Phase::Adapters => ("adapters", "The mixture: the experts that were drawn, forward and backward", series(3)),
        Phase::Head => {
            ("head and loss", "Classification or LM head, task loss, consistency term and their gradients", series(6))
        }
        Phase::Optimizer => ("optimizer", "Clipping and AdamW on the drawn experts", series(7)),
        Phase::Data => ("data", "Drawing rows and routes, packing the batch", pale(1)),
        Phase::Recompute => ("recomputation", "Layers run again because their activations were not kept", pale(0)),
        Phase::Other => ("other", "Everything else: memory, bookkeeping", pale(7)),
    }
}

/// The parts of a step's bar; phases that took no time are left out.
pub fn parts(profile: &StepProfile, theme: &Theme) -> Vec<BarPart> {
    let total = profile.total().max(f32::MIN_POSITIVE);
    let part = |phase: Phase| {
        let seconds = profile.of(phase);
        let (name, what, color) = describe(phase, theme);
        let text = format!("{} ms", format::significant(1e3 * f64::from(seconds), 3));
        let about = format!("{name}: {text} a step, {:.1} % of it. {what}", 100.0 * seconds / total);
        BarPart { name: name.to_owned(), value: seconds, text, about, color }
    };
    PHASES.into_iter().filter(|&phase| profile.of(phase) > 0.0).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> StepProfile {
        let mut profile = StepProfile { step: 3, steps: 1, ..StepProfile::default() };
        profile.seconds = PHASES.map(|phase| 0.001 * (1.0 + phase as usize as f32));
        profile
    }

    #[test]
    fn parts_are_the_phases_that_took_time() {
        let mut profile = profile();
        profile.seconds[Phase::Recompute as usize] = 0.0;
        let parts = parts(&profile, &Theme::new(false));
        assert_eq!(parts.len(), PHASES.len() - 1);
        assert!(parts.iter().all(|part| part.name != "recomputation"));
        assert_eq!((parts[0].text.as_str(), parts[1].name.as_str()), ("1.00 ms", "base backward"));
        assert!(parts[0].about.contains("1.00 ms a step, 1.8 % of it"), "{}", parts[0].about);
    }

    /// Distance of two colours for dichromats (Viénot's matrices, linear light).
    #[test]
    fn neighbours_differ_for_all_eyes() {
        let eyes: [[[f32; 3]; 3]; 3] = [
            [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            [[0.112_38, 0.887_62, 0.0], [0.112_38, 0.887_62, 0.0], [0.004_01, -0.004_01, 1.0]],
            [[0.292_75, 0.707_25, 0.0], [0.292_75, 0.707_25, 0.0], [-0.022_34, 0.022_34, 1.0]],
        ];
        for theme in [Theme::new(false), Theme::new(true)] {
            let parts = parts(&profile(), &theme);
            for pair in parts.windows(2) {
                let [a, b] = [&pair[0], &pair[1]].map(|part| {
                    let c = egui::Rgba::from(part.color);
                    [c.r(), c.g(), c.b()]
                });
                for eye in &eyes {
                    let seen = |c: [f32; 3]| eye.map(|row| row.iter().zip(c).map(|(m, c)| m * c).sum::<f32>());
                    let gamma = |c: [f32; 3]| c.map(|v| v.clamp(0.0, 1.0).powf(1.0 / 2.2));
                    let (a, b) = (gamma(seen(a)), gamma(seen(b)));
                    let distance = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
                    assert!(distance > 0.08, "{} and {}: {distance}", pair[0].name, pair[1].name);
                }
            }
        }
    }
}
