//! Classifiers and regressors on labelled rows.

use super::compare::{Baseline, EvalOptions, Measured};
use super::metrics;
use super::rows::RowResults;
use crate::data::Dataset;
use crate::error::Result;
use crate::mixture::Route;
use crate::model::Classifier;

impl Measured for Classifier {
    type Rows = Dataset;

    fn rows(data: &Dataset) -> usize {
        data.len()
    }

    fn results(
        &self,
        data: &Dataset,
        rows: &[usize],
        routes: &[Option<&Route>],
        opts: &EvalOptions<'_>,
    ) -> Result<(Vec<RowResults>, RowResults)> {
        let (labels, outputs) = (data.labels(rows), self.head.classes());
        let mut each = Vec::with_capacity(routes.len());
        for route in routes {
            let mut logits = Vec::with_capacity(rows.len() * outputs);
            for chunk in rows.chunks(opts.batch_size.max(1)) {
                logits.extend(self.logits(&data.batch(chunk), *route)?);
                let share = logits.len() as f64 / (rows.len() * outputs).max(1) as f64;
                opts.check((each.len() as f64 + share) / routes.len() as f64)?;
            }
            each.push(RowResults::of_logits(&logits, &labels, outputs)?);
        }
        let mean = RowResults::mean(&each)?;
        Ok((each, mean))
    }

    fn baseline(&self, data: &Dataset, opts: &EvalOptions<'_>) -> Result<Baseline> {
        let score = metrics::majority(&data.all_labels(), self.head.classes(), opts.metric);
        Ok(Baseline { score, of_model: None })
    }
}
