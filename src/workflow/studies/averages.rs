//! Three averages of a trained mixture's experts: of their factors, of their products, of their answers.
//!
//! *Factors* and *deltas* are models with one adapter or LoRA in each module. *Outputs* is the ensemble of M models, model j with expert
//! j on both sides of every module: the mean of their probabilities (of their values, for regression). All experts count
//! the same.

use super::lora_averages::{self, SiteAverages};
use crate::analysis::averages;
use crate::config::{MixtureConfig, MixtureKind, RunConfig, choice_name};
use crate::error::{Error, Result};
use crate::eval::compare::{self, EvalOptions};
use crate::eval::rows::{self, RowResults};
use crate::eval::{Measured as _, metrics};
use crate::mixture::{Lora, LoraMixture, MergeWeights, Route, Side};
use crate::model::{Network as _, Site};
use crate::protocol::studies::{Average, AverageScore, AveragedSite, AveragesReport, FromOutputs};
use crate::train::ModelAndData;
use crate::workflow::export::{ClassifierProbe, LmProbe, ModelProbe, expert_logits};
use crate::workflow::progress::Progress;
use std::slice::from_ref;
use std::time::Instant;

/// Why adapters have no deltas.
const NO_DELTAS: &str = "An adapter has a nonlinearity between its two matrices, so there is no product B A that could be \
                         averaged: factors and outputs are all there is. The mean of the experts' answers at a site \
                         needs an adapter M times as wide, which the way of merging \"wide\" makes.";

/// Three averages of the experts, measured on the evaluation rows. `go_on` gets the share done, 0 to 1; false cancels.
pub fn averages_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<AveragesReport> {
    let Some(mixture) = subject.model().mixture().cloned() else {
        return Err(Error::config("this run has no experts to average; only method adamix has"));
    };
    let (mixture, opts) = (&mixture, &subject.options(config, go_on));
    match subject {
        ModelAndData::Classifier(model, task) => {
            AveragesStudy { probe: &ClassifierProbe { task }, model, mixture, opts }.report()
        }
        ModelAndData::Lm(model, data) => {
            // One more for the averages themselves, which are compared with the experts' mean one after the other.
            AveragesStudy { probe: &LmProbe::new(model, data, 1), model, mixture, opts }.report()
        }
    }
}

struct AveragesStudy<'a, P: ModelProbe> {
    probe: &'a P,
    model: &'a P::Model,
    mixture: &'a MixtureConfig,
    opts: &'a EvalOptions<'a>,
}

impl<P: ModelProbe> AveragesStudy<'_, P> {
    fn report(&self) -> Result<AveragesReport> {
        let clock = Instant::now();
        let (mixture, experts) = (self.mixture, self.mixture.num_experts);
        let lora = mixture.kind == MixtureKind::Lora;
        let shared = mixture.down_experts() == 1 || mixture.up_experts() == 1;
        // Sites are quick beside passes over all rows: all of them count as a tenth of one.
        let singles = if lora && !shared { 3.0 } else { 1.0 };
        let progress = Progress::new(0.1 + singles + experts as f64 + 0.1, self.opts.go_on);
        let sites = if lora { self.sites(&progress)? } else { Vec::new() };
        let mean = MergeWeights::uniform(experts);
        let with = |pick: fn(&SiteAverages) -> &Lora| {
            P::with_loras(self.model, &mut |site, _| {
                let found = sites.get(site).map(|(_, found)| pick(found).clone());
                found.ok_or_else(|| Error::internal(format!("there is no module {site}")))
            })
        };
        let mut models = vec![(Average::Factors, self.model.merged(&mean)?)];
        if lora {
            models.push((Average::Deltas, with(|found| &found.deltas)?));
            if !shared {
                models.push((Average::Truncated, with(|found| &found.truncated)?));
            }
        }
        let (outputs, ensemble) = (self.probe.describe(self.model).outputs, self.ensemble()?);
        progress.step(0.1)?;
        let mut ways: Vec<AverageScore> = Vec::new();
        let mut results: Vec<RowResults> = Vec::new();
        for (average, model) in &models {
            let apart = averages::apart(&ensemble, &self.probe.logits(model, None)?, outputs);
            let found = match results.first() {
                // The very same numbers: nothing new would come out.
                Some(first) if shared => first.clone(),
                _ => self.measured(&progress, 1.0, |opts| compare::along(model, self.probe.rows(), None, opts))?,
            };
            ways.push(AverageScore {
                average: *average,
                scores: found.scores(self.opts.metric)?,
                paired: None,
                parameters: self.parameters(*average, &sites),
                forwards: 1,
                from_outputs: Some(FromOutputs {
                    largest: apart.largest,
                    kl: (outputs > 1).then_some(apart.kl),
                    changed: apart.changed,
                }),
            });
            results.push(found);
        }
        let routes: Vec<Route> =
            (0..experts).map(|expert| Route::fixed(mixture, self.model.sites().len(), expert)).collect();
        let routes: Vec<Option<&Route>> = routes.iter().map(Some).collect();
        let rows: Vec<usize> = (0..P::Model::rows(self.probe.rows())).collect();
        let (_, all) = self
            .measured(&progress, experts as f64, |opts| self.model.results(self.probe.rows(), &rows, &routes, opts))?;
        ways.push(AverageScore {
            average: Average::Outputs,
            scores: all.scores(self.opts.metric)?,
            paired: None,
            parameters: self.parameters(Average::Outputs, &sites),
            forwards: experts,
            from_outputs: None,
        });
        results.push(all);
        self.pair(&results, &mut ways)?;
        Ok(AveragesReport {
            kind: mixture.kind,
            experts,
            shared,
            tied: mixture.tied_draws(),
            metric: choice_name(self.opts.metric),
            higher_is_better: metrics::higher_is_better(self.opts.metric),
            rows: P::Model::rows(self.probe.rows()),
            probe_rows: ensemble.len() / outputs.max(1),
            sites: sites.into_iter().map(|(site, _)| site).collect(),
            ways,
            without_deltas: (!lora).then(|| NO_DELTAS.to_owned()),
            seconds: clock.elapsed().as_secs_f64(),
        })
    }

    /// Sets what each way but the first scores less what that does.
    fn pair(&self, results: &[RowResults], ways: &mut [AverageScore]) -> Result<()> {
        let Some((first, others)) = results.split_first().filter(|(first, _)| first.len() > 1) else { return Ok(()) };
        let others: Vec<&[RowResults]> = others.iter().map(from_ref).collect();
        let found = rows::differences(first, &others, self.opts.metric, self.opts.bootstrap(first.len()))?;
        ways[1..].iter_mut().zip(found).for_each(|(way, found)| way.paired = Some(found));
        Ok(())
    }

    /// A part of the job that tells its own shares.
    fn measured<T>(
        &self,
        progress: &Progress<'_>,
        units: f64,
        run: impl FnOnce(&EvalOptions<'_>) -> Result<T>,
    ) -> Result<T> {
        let within = progress.within(units);
        let found = run(&EvalOptions { go_on: &within, ..*self.opts })?;
        progress.step(units)?;
        Ok(found)
    }

    fn sites(&self, progress: &Progress<'_>) -> Result<Vec<(AveragedSite, SiteAverages)>> {
        let (names, sites) = (self.model.site_names(), self.model.sites());
        let weights = vec![1.0 / self.mixture.num_experts as f64; self.mixture.num_experts];
        let (share, mut all) = (0.1 / sites.len().max(1) as f64, Vec::new());
        for (name, site) in names.into_iter().zip(sites) {
            let Site::Lora(lora) = site else {
                return Err(Error::internal(format!("{name} is no LoRA")));
            };
            let found = lora_averages::site(lora, &weights)?;
            all.push((averaged(name, lora, &found)?, found));
            progress.step(share)?;
        }
        Ok(all)
    }

    /// The mean of all experts' probabilities (or values) of the probe rows. `[rows, outputs]`
    fn ensemble(&self) -> Result<Vec<f64>> {
        let (logits, experts) = (expert_logits(self.probe, self.model, self.mixture)?, self.mixture.num_experts);
        averages::ensemble(&logits, &vec![1.0 / experts as f64; experts], self.probe.describe(self.model).outputs)
    }

    fn parameters(&self, average: Average, sites: &[(AveragedSite, SiteAverages)]) -> usize {
        let counts = self.model.counts();
        match average {
            Average::Factors | Average::Truncated => counts.merged,
            Average::Deltas => sites.iter().map(|(site, _)| site.deltas_parameters).sum(),
            Average::Outputs => counts.trained - counts.head,
        }
    }
}

fn averaged(name: String, lora: &LoraMixture, found: &SiteAverages) -> Result<AveragedSite> {
    // Parameters of one rank: a row of A for each block, a column of B.
    let (_, rows, d_in) = lora.bank(Side::Down).weight().dims3()?;
    let width: usize = lora.columns().iter().map(|columns| columns.len()).sum();
    let each = rows / lora.rank().max(1) * d_in + width;
    let of_deltas = |norm: f64| if norm > 0.0 { norm / found.deltas_norm } else { 0.0 };
    let of_factors = |norm: f64| if norm > 0.0 { norm / found.factors_norm } else { 0.0 };
    Ok(AveragedSite {
        name,
        factors_norm: found.factors_norm,
        deltas_norm: found.deltas_norm,
        off: of_deltas(found.factors_off),
        parts: found.parts.iter().map(|&part| of_factors(part)).collect(),
        all_pairs: of_factors(found.all_pairs),
        crossed: found.crossed,
        rank: lora.rank(),
        deltas_rank: found.rank,
        truncated_off: of_deltas(found.truncated_off),
        parameters: lora.rank() * each,
        deltas_parameters: found.rank * each,
    })
}
