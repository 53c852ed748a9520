//! Cost as work grows: one thing varied at a time, everything else as in the base.

use crate::bench::figures::Spread;
use crate::bench::fit::{Fit, Line};
use crate::bench::{Lengths, Plan, Shape, measure};
use crate::config::{DeviceChoice, DtypeChoice};
use crate::error::Result;
use serde::Serialize;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Tokens of a batch (one pass), by more sequences of the same length.
    Tokens,
    Layers,
    Experts,
    Bottleneck,
    /// Tokens of a sequence, with the same tokens in all.
    Length,
}

/// All axes in the order they are shown.
pub const AXES: [Axis; 5] = [Axis::Tokens, Axis::Layers, Axis::Experts, Axis::Bottleneck, Axis::Length];

impl Axis {
    /// Title, unit, the sizes that are measured, and those of a quick measurement.
    fn facts(self) -> (&'static str, &'static str, &'static [usize], &'static [usize]) {
        match self {
            Self::Tokens => ("tokens in a batch", "token", &[256, 512, 1024, 2048, 4096], &[512, 1024, 2048]),
            Self::Layers => ("layers", "layer", &[2, 4, 8, 16], &[2, 4, 8]),
            Self::Experts => ("experts M", "expert", &[2, 4, 8, 16, 32, 64], &[2, 8, 32]),
            Self::Bottleneck => ("bottleneck r", "row of the bottleneck", &[4, 8, 16, 32, 64, 128], &[4, 16, 64]),
            Self::Length => ("tokens in a sequence", "token", &[32, 64, 128, 256, 512], &[32, 128, 512]),
        }
    }

    pub fn title(self) -> &'static str {
        self.facts().0
    }

    pub fn unit(self) -> &'static str {
        self.facts().1
    }
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    pub shape: Shape,
    /// Of the base, as `length`.
    pub batch_size: usize,
    pub length: usize,
    /// Along each axis, in the order of [`AXES`].
    pub sizes: Vec<(Axis, usize)>,
    /// Run layers again in the backward pass.
    pub recompute: bool,
    /// Times all sizes are measured in turn, so that a disturbance does not affect one size only.
    pub rounds: usize,
    /// Timed steps of a size in a round.
    pub steps: usize,
}

/// A small model: the fixed costs show, and no size takes long.
const BASE: Shape = Shape {
    name: "scale",
    family: "bert",
    layers: 4,
    hidden: 256,
    heads: 4,
    kv_heads: 4,
    inner: 1024,
    vocabulary: 8_192,
    positions: 512,
};

impl Settings {
    /// A few minutes on a laptop; `quick`: a good half minute.
    pub fn standard(quick: bool, recompute: bool) -> Self {
        let (rounds, steps) = if quick { (2, 2) } else { (4, 3) };
        let of = |axis: Axis| if quick { axis.facts().3 } else { axis.facts().2 };
        let sizes = AXES.into_iter().flat_map(|axis| of(axis).iter().map(move |&size| (axis, size))).collect();
        Self { shape: BASE, batch_size: 16, length: 64, sizes, recompute, rounds, steps }
    }

    /// The base with one size changed.
    fn plan(&self, axis: Axis, size: usize) -> Plan {
        let (mut shape, mut batch_size, mut length) = (self.shape, self.batch_size, self.length);
        let (mut num_experts, mut adapter_size) = (4, 16);
        match axis {
            Axis::Tokens => batch_size = (size / length).max(1),
            Axis::Layers => shape.layers = size,
            Axis::Experts => num_experts = size,
            Axis::Bottleneck => adapter_size = size,
            Axis::Length => (batch_size, length) = ((batch_size * length / size).max(1), size),
        }
        Plan {
            shape,
            lengths: Lengths::Dense(length),
            batch_size,
            num_experts,
            adapter_size,
            passes: 2,
            warm_up: 1,
            steps: self.steps,
            recompute: self.recompute,
            device: DeviceChoice::Cpu,
            dtype: DtypeChoice::F32,
            weights: None,
            phases: true,
        }
    }
}

/// One size.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    pub size: usize,
    /// Of a step.
    pub seconds: Spread,
    /// Most memory in use beyond that before the step; where allocations are counted.
    pub step_mb: Option<f64>,
}

/// One axis.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    pub axis: Axis,
    /// Smallest first.
    pub points: Vec<Point>,
    /// Through the fastest step of each size: the one least disturbed by other programs.
    pub time: Option<Fit>,
    pub time_line: Option<Line>,
    pub memory: Option<Fit>,
    pub memory_line: Option<Line>,
}

/// The measurements along all axes.
#[derive(Clone, Debug, Serialize)]
pub struct Scale {
    /// The base in words.
    pub base: String,
    pub threads: usize,
    /// Timed steps of each size.
    pub steps: usize,
    pub sweeps: Vec<Sweep>,
}

/// Measures all sizes; `announce` is called before each with what comes next, its number and how many there are.
pub fn scale(settings: &Settings, announce: &mut dyn FnMut(&str, usize, usize)) -> Result<Scale> {
    let sizes = &settings.sizes;
    let mut measured = vec![(Vec::new(), None); sizes.len()];
    for round in 0..settings.rounds {
        for (index, (&(axis, size), (seconds, bytes))) in sizes.iter().zip(&mut measured).enumerate() {
            announce(&format!("{size} {}", axis.title()), round * sizes.len() + index, settings.rounds * sizes.len());
            let plan = settings.plan(axis, size);
            let series = measure::series(&plan)?;
            seconds.extend(series.steps.iter().map(|step| step.seconds));
            *bytes = (*bytes).max(series.step_bytes());
        }
    }
    let sweep = |axis: Axis| {
        let own = sizes.iter().zip(&measured).filter(|((other, _), _)| *other == axis);
        let mut points = Vec::new();
        for (&(_, size), (seconds, bytes)) in own {
            let step_mb = bytes.map(|bytes| bytes as f64 / 1e6);
            points.push(Point { size, seconds: Spread::of(seconds.iter().copied()), step_mb });
        }
        let time: Vec<_> = points.iter().map(|p| (p.size as f64, p.seconds.min)).collect();
        let memory: Option<Vec<_>> = points.iter().map(|p| p.step_mb.map(|mb| (p.size as f64, mb))).collect();
        Sweep {
            axis,
            points,
            time: Fit::through(&time),
            time_line: Line::through(&time),
            memory: memory.as_deref().and_then(Fit::through),
            memory_line: memory.as_deref().and_then(Line::through),
        }
    };
    let shape = &settings.shape;
    Ok(Scale {
        base: format!(
            "{} layers, width {}, {} x {} tokens twice a step, M = 4, r = 16",
            shape.layers, shape.hidden, settings.batch_size, settings.length
        ),
        threads: rayon::current_num_threads(),
        steps: settings.rounds * settings.steps,
        sweeps: AXES.map(sweep).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_grows_at_a_time() {
        let settings = Settings::standard(false, false);
        let base = settings.plan(Axis::Layers, 4);
        let tokens = |plan: &Plan| match plan.lengths {
            Lengths::Dense(length) => plan.batch_size * length,
            _ => 0,
        };
        for &(axis, size) in &settings.sizes {
            let plan = settings.plan(axis, size);
            plan.check().unwrap();
            assert_eq!(tokens(&plan), if axis == Axis::Tokens { size } else { 1024 }, "{axis:?} {size}");
            let changed = [
                tokens(&plan) != 1024,
                plan.shape != base.shape,
                plan.num_experts != 4,
                plan.adapter_size != 16,
                plan.lengths != base.lengths,
            ];
            assert!(changed.iter().enumerate().all(|(i, changed)| !changed || i == axis as usize));
        }
    }

    #[test]
    fn every_size_is_measured_in_every_round() {
        let shape = Shape { layers: 2, hidden: 16, heads: 2, inner: 32, vocabulary: 50, ..BASE };
        let sizes = AXES.into_iter().zip([[8, 16], [1, 2], [2, 3], [1, 2], [4, 8]]);
        let sizes = sizes.flat_map(|(axis, sizes)| sizes.map(|size| (axis, size))).collect();
        let settings = Settings { shape, batch_size: 2, length: 8, sizes, recompute: false, rounds: 2, steps: 2 };
        let mut heard = Vec::new();
        let scale = scale(&settings, &mut |what, at, of| heard.push((what.to_owned(), at, of))).unwrap();
        assert_eq!((heard.len(), heard[10].1, heard[10].2), (20, 10, 20));
        assert_eq!(heard[0].0, "8 tokens in a batch");
        assert_eq!((scale.sweeps.len(), scale.steps), (5, 4));
        for sweep in &scale.sweeps {
            assert_eq!(sweep.points.len(), 2);
            let time = sweep.time.unwrap();
            assert!(sweep.points.iter().all(|p| (time.at(p.size as f64) / p.seconds.min - 1.0).abs() < 1e-6));
        }
    }
}
