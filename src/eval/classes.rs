//! Classifiers and regressors on labelled rows.

use super::compare::{EvalOptions, Measured, RowScore};
use super::metrics;
use crate::data::Dataset;
use crate::error::Result;
use crate::mixture::Route;
use crate::model::Classifier;
use crate::records::Scores;

/// Logits of all rows, in order. Row-major `[rows * outputs]`
fn logits(model: &Classifier, data: &Dataset, route: Option<&Route>, opts: &EvalOptions<'_>) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    let rows: Vec<usize> = (0..data.len()).collect();
    for chunk in rows.chunks(opts.batch_size.max(1)) {
        out.extend(model.logits(&data.batch(chunk), route)?);
        opts.check(out.len() as f64 / (data.len() * model.head.classes()).max(1) as f64)?;
    }
    Ok(out)
}

impl Measured for Classifier {
    type Rows = Dataset;

    fn rows(data: &Dataset) -> usize {
        data.len()
    }

    fn measure(
        &self,
        data: &Dataset,
        routes: &[Option<&Route>],
        opts: &EvalOptions<'_>,
    ) -> Result<(Vec<Scores>, Scores)> {
        let (labels, outputs) = (data.all_labels(), self.head.classes());
        let (mut scores, mut outcomes) = (Vec::new(), Vec::new());
        for (done, route) in routes.iter().enumerate() {
            let within = |share: f64| (opts.go_on)((done as f64 + share) / routes.len() as f64);
            let out = logits(self, data, *route, &EvalOptions { go_on: &within, ..*opts })?;
            scores.push(metrics::scores(&out, &labels, outputs, opts.metric)?);
            outcomes.push(out);
        }
        Ok((scores, metrics::ensemble(&outcomes, &labels, outputs, opts.metric)?))
    }

    fn row_scores(
        &self,
        data: &Dataset,
        rows: &[usize],
        route: Option<&Route>,
        opts: &EvalOptions<'_>,
    ) -> Result<Vec<RowScore>> {
        let mut found = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(opts.batch_size.max(1)) {
            let batch = data.batch(chunk);
            let logits = self.logits(&batch, route)?;
            let losses = metrics::row_losses(&logits, &batch.labels, self.head.classes())?;
            let right = metrics::row_hits(&logits, &batch.labels, self.head.classes());
            found.extend(losses.into_iter().zip(right).map(|(loss, right)| RowScore { loss, right }));
            opts.check(found.len() as f64 / rows.len() as f64)?;
        }
        Ok(found)
    }

    fn baseline(&self, data: &Dataset, opts: &EvalOptions<'_>) -> Result<(f64, Option<Box<Scores>>)> {
        Ok((metrics::majority(&data.all_labels(), self.head.classes(), opts.metric), None))
    }
}
