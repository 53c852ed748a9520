//! The tables of the views as plain tables with every digit: what their menus save and copy.

use super::names;
use crate::figure::Table;
use crate::protocol::{
    AverageScore, AveragedSite, HealthState, SampleRow, Scores, TensorCheck, TensorHealth, WrittenBy,
};

/// Gradient health, tensor by tensor.
pub fn gradient_health(tensors: &[TensorHealth]) -> Table {
    let mut table = Table::new(["tensor", "expert", "step", "max_abs_grad", "update_ratio", "state"]);
    for health in tensors {
        let state = match health.state {
            HealthState::Learning => "learning",
            HealthState::NotDrawn => "not drawn yet",
            HealthState::Dead => "without gradient or change",
            HealthState::Exploding => "changing too fast",
        };
        table.push([
            health.tensor.as_str().into(),
            health.expert.into(),
            health.step.into(),
            health.max_abs_grad.into(),
            health.update_ratio.into(),
            state.into(),
        ]);
    }
    table
}

/// What a number format did to each tensor.
pub fn tensor_checks(tensors: &[TensorCheck]) -> Table {
    let mut table = Table::new(["tensor", "max_abs_error", "max_rel_error", "problem"]);
    for tensor in tensors {
        let problem = tensor.problem.as_deref().unwrap_or_default();
        table.push([
            tensor.name.as_str().into(),
            tensor.max_abs_error.into(),
            tensor.max_rel_error.into(),
            problem.into(),
        ]);
    }
    table
}

/// Rows of a data set.
pub fn sample_rows(rows: &[SampleRow]) -> Table {
    let mut table = Table::new(["text", "second_text", "label", "tokens"]);
    for row in rows {
        table.push([
            row.text.as_str().into(),
            row.pair.as_deref().into(),
            row.label.as_str().into(),
            row.tokens.len().into(),
        ]);
    }
    table
}

/// Names and, for each, the scores of which the mean is shown.
pub fn scores<'a>(rows: impl Iterator<Item = (&'a str, f64, &'a [Scores])>, metric: &str) -> Table {
    let names: Vec<&str> = Scores::default().named().map(|(name, _)| name).to_vec();
    let mut table =
        Table::new(["variant", metric].into_iter().chain(names.iter().copied().filter(|name| *name != metric)));
    for (name, value, all) in rows {
        let mean = |i: usize| -> Option<f64> {
            let sum: f64 = all.iter().map(|scores| scores.named()[i].1).sum::<Option<f64>>()?;
            (!all.is_empty()).then(|| sum / all.len() as f64)
        };
        let others = names.iter().enumerate().filter(|(_, name)| **name != metric).map(|(i, _)| mean(i).into());
        table.push([name.trim().into(), value.into()].into_iter().chain(others));
    }
    // Metrics that do not apply to the task have no column.
    let used: Vec<bool> =
        (0..table.columns.len()).map(|i| table.rows.iter().any(|row| row[i] != crate::figure::Cell::Empty)).collect();
    let keep = |i: &usize| used.get(*i).copied().unwrap_or(true);
    let columns = table.columns.iter().enumerate().filter(|(i, _)| keep(i)).map(|(_, name)| name.clone());
    let mut shown = Table::new(columns);
    for row in table.rows {
        shown.push(row.into_iter().enumerate().filter(|(i, _)| keep(i)).map(|(_, cell)| cell));
    }
    shown
}

/// Averages of factors, products and outputs.
pub fn averages(ways: &[AverageScore], metric: &str) -> Table {
    let mut table = Table::new([
        "averaged",
        metric,
        "loss",
        "parameters",
        "passes",
        "kl_to_ensemble",
        "largest_difference",
        "changed_rows",
    ]);
    for way in ways {
        let from = way.from_outputs;
        table.push([
            way.average.words().into(),
            way.scores.primary.into(),
            way.scores.loss.into(),
            way.parameters.into(),
            way.forwards.into(),
            from.and_then(|from| from.kl).into(),
            from.map(|from| from.largest).into(),
            from.map(|from| from.changed).into(),
        ]);
    }
    table
}

/// The same, module by module.
pub fn averaged_sites(sites: &[AveragedSite]) -> Table {
    let columns = [
        "module",
        "factors_norm",
        "deltas_norm",
        "distance",
        "cross_terms",
        "rank",
        "deltas_rank",
        "truncated_distance",
        "parameters",
        "deltas_parameters",
    ];
    let mut table = Table::new(columns);
    for site in sites {
        table.push([
            names::module(&site.name).into(),
            site.factors_norm.into(),
            site.deltas_norm.into(),
            site.off.into(),
            site.crossed.into(),
            site.rank.into(),
            site.deltas_rank.into(),
            site.truncated_off.into(),
            site.parameters.into(),
            site.deltas_parameters.into(),
        ]);
    }
    table
}

/// Scores of generated texts.
pub fn written(ways: &[WrittenBy]) -> Table {
    let mut table = Table::new([
        "way",
        "segments",
        "references",
        "bleu",
        "nist",
        "meteor_exact_stem_synonym",
        "rouge_l",
        "cider",
        "ter",
    ]);
    for way in ways {
        let scores = &way.scores;
        table.push([
            way.way.into(),
            scores.segments.into(),
            scores.references.into(),
            scores.bleu.into(),
            scores.nist.into(),
            scores.meteor_exact_stem_synonym.into(),
            scores.rouge_l.into(),
            scores.cider.into(),
            scores.ter.into(),
        ]);
    }
    table
}
