//! The loss on the plane through three points of the mixture's weights, the barriers between them, and the experts' paths.
//!
//! A point is one module for every adapted module: an expert everywhere, the merged one, or the merged one before the first step.
//! The head, which is trained too, stays as it is at the studied step: the picture is about the experts.

use super::causes::{spread, without_mixture};
use crate::analysis::causes::least_squares::Estimate;
use crate::analysis::plane::{Barrier, Plane, mixed, spaced};
use crate::artifact::{RunDir, checkpoint};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::eval::Measured;
use crate::eval::compare::{EvalOptions, RowScore};
use crate::mixture::{Bank, MergeWeights, SIDES};
use crate::protocol::studies::{PlaneLine, PlaneMark, PlanePath, PlanePlan, PlanePoint, PlaneReport};
use crate::tensor::Tensor;
use crate::train::ModelAndData;
use crate::workflow::progress::Progress;
use crate::workflow::snapshot::Banks;
use std::time::Instant;

/// Most checkpoints on a path, evenly spread.
const STEPS: usize = 64;

/// The loss around three points. `subject`: the model with the weights of that step. `go_on` gets the share done; false cancels.
pub fn plane_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    (dir, step): (&RunDir, u64),
    plan: &PlanePlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<PlaneReport> {
    let options = &subject.options(config, go_on);
    let now = Banks::of(subject.model())?;
    let Some(mixture) = subject.model().mixture().filter(|_| !now.is_empty()) else { return Err(without_mixture()) };
    check(plan, mixture.num_experts)?;
    let own = MergeWeights::own(Some(mixture))?;
    let space = Space { start: now.at_start_of(dir)?, now, own, experts: mixture.num_experts };
    let study = Study { space: &space, plan, options };
    let mut report = match subject {
        ModelAndData::Classifier(model, task) => study.measured(model, &task.dev)?,
        ModelAndData::Lm(model, data) => study.measured(model, &data.dev)?,
    };
    report.step = step;
    report.paths = paths(&space, dir, step, &study.plane()?)?;
    Ok(report)
}

fn check(plan: &PlanePlan, experts: usize) -> Result<()> {
    if !(3..=PlanePlan::MOST).contains(&plan.grid) {
        return Err(Error::config(format!(
            "a field of {} places a side cannot be drawn; choose 3 to {}",
            plan.grid,
            PlanePlan::MOST
        )));
    }
    if plan.probe_rows < 2 {
        return Err(Error::config("the loss on a plane needs two evaluation rows or more"));
    }
    let unknown = plan.points.iter().find(|point| matches!(point, PlanePoint::Expert(expert) if *expert >= experts));
    unknown.map_or(Ok(()), |point| {
        Err(Error::config(format!(
            "there is no expert {point}; choose 0 to {}, merged or start",
            experts.saturating_sub(1)
        )))
    })
}

/// The points there are.
struct Space {
    now: Banks,
    start: Banks,
    own: MergeWeights,
    experts: usize,
}

impl Space {
    fn point(&self, point: PlanePoint) -> Result<Vec<f32>> {
        match point {
            PlanePoint::Expert(expert) => self.expert(&self.now, expert),
            PlanePoint::Merged => self.now.single(&|site| self.own.site(site)),
            PlanePoint::Start => self.start.single(&|site| self.own.site(site)),
        }
    }

    fn expert(&self, banks: &Banks, expert: usize) -> Result<Vec<f32>> {
        let alone: Vec<f64> = (0..self.experts).map(|e| f64::from(u8::from(e == expert))).collect();
        banks.single(&|_| Ok(&alone))
    }

    /// Where the values of each side begin; the last entry is their number.
    fn offsets(&self) -> Vec<usize> {
        let mut offsets = vec![0];
        for bank in &self.now.sides {
            let bias = if bank.bias.is_empty() { 0 } else { bank.rows };
            offsets.push(offsets[offsets.len() - 1] + bank.rows * bank.cols + bias);
        }
        offsets
    }

    /// The model at a point of the space.
    fn model<M: Measured>(&self, model: &M, point: &[f32]) -> Result<M> {
        let offsets = self.offsets();
        model.with_banks(&mut |site, side, bank| {
            let cell = site * SIDES.len() + side as usize;
            let values = offsets.get(cell).zip(offsets.get(cell + 1)).and_then(|(&from, &to)| point.get(from..to));
            bank_of(values.ok_or_else(|| Error::internal("a point has no values for a module"))?, bank)
        })
    }
}

/// A bank of one expert with these values, weights first.
fn bank_of(values: &[f32], like: &Bank) -> Result<Bank> {
    let (_, rows, cols) = like.weight().dims3()?;
    let (weight, bias) =
        values.split_at_checked(rows * cols).ok_or_else(|| Error::internal("a bank of another size"))?;
    let put = |values: &[f32], shape: &[usize], like: &Tensor| -> Result<Tensor> {
        Tensor::from_slice(values, shape, like.device())?.to_dtype(like.dtype())
    };
    let bias = like.bias().map(|own| put(bias, &[1, rows], own)).transpose()?;
    Bank::new(put(weight, &[1, rows, cols], like.weight())?, bias)
}

struct Study<'a> {
    space: &'a Space,
    plan: &'a PlanePlan,
    options: &'a EvalOptions<'a>,
}

impl Study<'_> {
    fn corners(&self) -> Result<[Vec<f32>; 3]> {
        let [a, b, c] = self.plan.points;
        Ok([self.space.point(a)?, self.space.point(b)?, self.space.point(c)?])
    }

    fn plane(&self) -> Result<Plane> {
        let [a, b, c] = self.corners()?;
        Plane::through([&a, &b, &c])
    }

    /// Everything but the paths.
    fn measured<M: Measured>(&self, model: &M, data: &M::Rows) -> Result<PlaneReport> {
        let clock = Instant::now();
        let (space, plan) = (self.space, self.plan);
        let [a, b, c] = self.corners()?;
        let plane = Plane::through([&a, &b, &c])?;
        let rows = spread(M::rows(data), plan.probe_rows);
        let forwards = plan.forwards(space.experts);
        let progress = Progress::new(forwards as f64, self.options.go_on);
        let scores = |point: &[f32]| -> Result<Vec<RowScore>> {
            let within = progress.within(1.0);
            let model = space.model(model, point)?;
            let scores = model.row_scores(data, &rows, None, &EvalOptions { go_on: &within, ..*self.options })?;
            progress.step(1.0)?;
            Ok(scores)
        };
        let experts = (0..space.experts).map(PlanePoint::Expert);
        let mut measured: Vec<(PlanePoint, Vec<RowScore>)> = Vec::new();
        let mut marks = Vec::new();
        for point in experts.chain([PlanePoint::Merged, PlanePoint::Start]) {
            let weights = space.point(point)?;
            let found = scores(&weights)?;
            let losses: Vec<f64> = found.iter().map(|row| row.loss).collect();
            let Some(Estimate { value: loss, se: standard_error }) = Estimate::mean(&losses) else {
                return Err(Error::data("the loss on a plane needs two evaluation rows or more"));
            };
            let place = plane.project(&weights);
            marks.push(PlaneMark { point, place, loss, standard_error, accuracy: accuracy(&found) });
            measured.push((point, found));
        }
        let [x, y] = plane.field();
        let (mut losses, mut right) = (Vec::new(), Vec::new());
        for across in spaced(y, plan.grid) {
            for along in spaced(x, plan.grid) {
                let [first, second, third] = plane.mixing([along, across]);
                let found = scores(&mixed(&[(first, &a), (second, &b), (third, &c)]))?;
                losses.push(mean(&found));
                right.extend(accuracy(&found));
            }
        }
        let mut lines = Vec::new();
        for [from, to] in plan.lines() {
            lines.push(self.line([from, to], &measured, &scores)?);
        }
        Ok(PlaneReport {
            step: 0,
            points: plan.points,
            marks,
            grid: plan.grid,
            x,
            y,
            accuracy: (right.len() == losses.len()).then_some(right),
            losses,
            lines,
            paths: Vec::new(),
            probe_rows: rows.len(),
            forwards,
            seconds: clock.elapsed().as_secs_f64(),
        })
    }

    /// The straight line between two points, whose own losses are known.
    fn line(
        &self,
        [from, to]: [PlanePoint; 2],
        measured: &[(PlanePoint, Vec<RowScore>)],
        scores: &dyn Fn(&[f32]) -> Result<Vec<RowScore>>,
    ) -> Result<PlaneLine> {
        let end = |point: PlanePoint| -> Result<Vec<RowScore>> {
            let found = measured.iter().find(|(own, _)| *own == point).map(|(_, scores)| scores.clone());
            found.ok_or_else(|| Error::internal("a point of the plane was not measured"))
        };
        let (a, b) = (self.space.point(from)?, self.space.point(to)?);
        let places = PlanePlan::places();
        let mut found = vec![end(from)?];
        for i in 1..places - 1 {
            let share = i as f64 / (places - 1) as f64;
            found.push(scores(&mixed(&[(1.0 - share, &a), (share, &b)]))?);
        }
        found.push(end(to)?);
        let rows: Vec<Vec<f64>> = found.iter().map(|place| place.iter().map(|row| row.loss).collect()).collect();
        Ok(PlaneLine { from, to, losses: found.iter().map(|place| mean(place)).collect(), barrier: Barrier::of(&rows) })
    }
}

fn mean(rows: &[RowScore]) -> f64 {
    rows.iter().map(|row| row.loss).sum::<f64>() / rows.len().max(1) as f64
}

fn accuracy(rows: &[RowScore]) -> Option<f64> {
    let right: Vec<f64> = rows.iter().filter_map(|row| row.right).collect();
    (right.len() == rows.len() && !rows.is_empty()).then(|| right.iter().sum::<f64>() / rows.len() as f64)
}

/// Where the experts were at the start and at the checkpoints up to this step. A checkpoint that cannot be read (it may be going
/// away right now) is left out.
fn paths(space: &Space, dir: &RunDir, step: u64, plane: &Plane) -> Result<Vec<PlanePath>> {
    let recorded: Vec<u64> = checkpoint::list(dir)?.into_iter().filter(|&own| 0 < own && own < step).collect();
    let kept: Vec<u64> = spread(recorded.len(), STEPS).into_iter().map(|i| recorded[i]).collect();
    let empty = |expert| PlanePath { expert, steps: Vec::new(), places: Vec::new() };
    let mut paths: Vec<PlanePath> = (0..space.experts).map(empty).collect();
    let mut add = |step: u64, banks: &Banks| -> Result<()> {
        for path in &mut paths {
            path.steps.push(step);
            path.places.push(plane.project(&space.expert(banks, path.expert)?));
        }
        Ok(())
    };
    if step > 0 {
        add(0, &space.start)?;
    }
    for recorded in kept {
        let banks = checkpoint::read(dir, recorded).and_then(|data| Banks::of_tensors(&data.tensors));
        let same = |banks: &Banks| {
            let shape = |banks: &Banks| banks.sides.iter().map(|b| (b.experts, b.rows, b.cols)).collect::<Vec<_>>();
            shape(banks) == shape(&space.now)
        };
        if let Some(banks) = banks.ok().filter(same) {
            add(recorded, &banks)?;
        }
    }
    add(step, &space.now)?;
    Ok(paths)
}
