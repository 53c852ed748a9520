//! A step in words.

use crate::analysis::timeline::{RouteFit, Row};
use crate::format;

/// A small number of layers, as a whole where it is one.
pub fn layers(distance: f64) -> String {
    if distance.fract().abs() < 1e-6 { format!("{distance:.0}") } else { format::significant(distance, 3) }
}

/// `step 412   h = 3 of 4 layers differ   KL 0.0041 (expected for h = 3: 0.0040)`; what is not known is left out.
pub fn step_line(step: u64, all: usize, row: &Row<'_>, fit: Option<&RouteFit>, passes: usize) -> String {
    let mut line = format!("step {}", format::count(step));
    let Some(distance) = row.distance() else { return line };
    let h = layers(distance);
    if passes < 2 {
        return format!("{line}   {h} of {all} layers differ from the step before");
    }
    line.push_str(&format!("   h = {h} of {all} layers differ"));
    if let Some(term) = row.consistency() {
        line.push_str(&format!("   KL {}", format::significant(term.into(), 2)));
        if let Some(expected) = fit.and_then(|fit| fit.found.expected(distance)) {
            line.push_str(&format!(" (expected for h = {h}: {})", format::significant(expected, 2)));
        }
    }
    line
}

/// The same as a spoken sentence.
pub fn spoken(step: u64, all: usize, row: &Row<'_>, fit: Option<&RouteFit>, passes: usize) -> String {
    let line = format!("step {}", format::count(step));
    let Some(distance) = row.distance() else { return format!("{line}.") };
    let h = layers(distance);
    let against = if passes == 2 { "differ between the passes" } else { "differ from the step before" };
    let mut line = format!("{line}, {h} of {all} layers {against}");
    if let Some(term) = row.consistency().map(f64::from) {
        line.push_str(&format!(", KL {}", format::significant(term, 2)));
        if let Some(expected) = fit.and_then(|fit| fit.found.expected(distance)).filter(|expected| *expected > 0.0) {
            line.push_str(match term / expected {
                share if share < 0.5 => ", less than half of what is expected",
                share if share > 2.0 => ", more than twice what is expected",
                _ => ", about as expected",
            });
        }
    }
    line + "."
}

/// Loss and disagreement of a step, line by line.
pub fn step_numbers(step: u64, row: &Row<'_>, fit: Option<&RouteFit>) -> String {
    let mut text = format!("step {}\nloss {}", format::count(step), format::significant(row.loss().into(), 4));
    if let (Some(term), Some(distance)) = (row.consistency(), row.distance()) {
        text.push_str(&format!("\nKL {} with h = {}", format::significant(term.into(), 3), layers(distance)));
        if let Some(expected) = fit.and_then(|fit| fit.found.expected(distance)) {
            text.push_str(&format!("\nexpected {}", format::significant(expected, 3)));
        }
    }
    text
}

/// How much of the disagreement is dropout and how much routing; absent without a line.
pub fn split(fit: &RouteFit) -> Option<String> {
    let split = fit.split()?;
    let slope = fit.found.slope?;
    let number = |value: f64| format::significant(value, 2);
    let z = |z: f64| format!("z {z:.1}");
    let share = split.dropout_share.map(|share| format!(" ({})", format::percent(share))).unwrap_or_default();
    let rest = split.dropout_share.map(|share| format!(" ({})", format::percent(1.0 - share))).unwrap_or_default();
    Some(format!(
        "Of the mean KL of the passes, {}, dropout is {}{share}, {}, and routing {}{rest}, {}: {} for each layer that differs. {} \
         after step {}.",
        number(fit.mean_term),
        number(split.dropout.value),
        z(split.dropout.z()),
        number(split.routing.value),
        z(split.routing.z()),
        number(slope.value),
        format::counted(fit.found.steps, "step"),
        format::count(fit.after),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::causes::disagreement::Disagreement;
    use crate::protocol::Estimate;

    #[test]
    fn the_split_is_said_in_one_sentence() {
        let estimate = |value, se| Some(Estimate { value, se });
        let found = Disagreement {
            steps: 600,
            intercept: estimate(0.007, 0.001),
            slope: estimate(0.003, 0.0005),
            ..Disagreement::default()
        };
        let fit = RouteFit { after: 200, until: 800, found, sites: Vec::new(), mean_distance: 3.0, mean_term: 0.016 };
        let words = split(&fit).unwrap();
        assert!(
            words.starts_with(
                "Of the mean KL of the passes, 0.016, dropout is 0.0070 (43.8 %), z 7.0, and routing 0.0090"
            ),
            "{words}"
        );
        assert!(
            words.ends_with("(56.2 %), z 6.0: 0.0030 for each layer that differs. 600 steps after step 200."),
            "{words}"
        );
        assert_eq!(split(&RouteFit::default()), None);
        assert_eq!([layers(3.0), layers(2.5)], ["3", "2.50"]);
    }
}
