//! What the draw causes, three averages, rounding budgets and rows, against calculations of their own.

mod averages;
mod causes;
mod commands;
mod experts;
mod plane;
mod rounding;
mod routes;
mod rows;
mod spread;
mod steps;
mod worth;

use crate::support::fill;
use crate::support::place::Place;
use crate::support::texts::TextPlace;
use adamix::config::{MixtureKind, RunConfig};
use adamix::mixture::{LoraMixture, Side};
use adamix::model::Site;
use adamix::train::ModelAndData;
use adamix::workflow::run;

/// A classifier whose experts and head are random; nothing is trained.
pub fn classifier(change: impl FnOnce(&mut RunConfig)) -> (Place, RunConfig, ModelAndData) {
    let place = Place::new();
    let mut config = place.config(4);
    config.mixture.num_experts = 3;
    (config.mixture.lora_rank, config.mixture.lora_alpha) = (2, 3.0);
    change(&mut config);
    let subject = run::prepare(&config).unwrap().subject;
    fill(subject.model().params(), 0.3);
    (place, config, subject)
}

/// A language model whose experts are random.
pub fn writer(family: &str, change: impl FnOnce(&mut RunConfig)) -> (TextPlace, RunConfig, ModelAndData) {
    let place = TextPlace::new(family);
    let mut config = place.config(4);
    config.data.max_length = 32;
    (config.mixture.lora_rank, config.mixture.lora_alpha) = (2, 3.0);
    change(&mut config);
    let subject = run::prepare(&config).unwrap().subject;
    fill(subject.model().params(), 0.3);
    (place, config, subject)
}

pub fn lora(up: bool) -> impl Fn(&mut RunConfig) {
    move |config| {
        config.mixture.kind = MixtureKind::Lora;
        (config.mixture.sharing_down, config.mixture.sharing_up) = (false, up);
    }
}

pub fn mixtures(subject: &ModelAndData) -> Vec<LoraMixture> {
    let lora = |site: Site<'_>| match site {
        Site::Lora(lora) => lora.clone(),
        Site::Adapter(_) => panic!("an adapter"),
    };
    subject.model().sites().into_iter().map(lora).collect()
}

/// One expert's matrix of one side, row by row; of a shared side the only one.
pub fn side(mixture: &LoraMixture, side: Side, expert: usize) -> Vec<Vec<f64>> {
    let bank = mixture.bank(side);
    let at = if bank.experts() == 1 { 0 } else { expert };
    let rows: Vec<Vec<f32>> = bank.weight().get(at).unwrap().to_vec2().unwrap();
    rows.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect()
}

/// `s B_k A_j`, of all blocks one below the other: three loops.
pub fn product(mixture: &LoraMixture, k: usize, j: usize) -> Vec<f64> {
    let (b, a, r) = (side(mixture, Side::Up, k), side(mixture, Side::Down, j), mixture.rank());
    let (scale, mut out, mut row) = (mixture.expert(0).unwrap().scale(), Vec::new(), 0);
    for (block, columns) in mixture.columns().iter().enumerate() {
        for b in &b[row..row + columns.len()] {
            let rows = &a[block * r..(block + 1) * r];
            let mut sum = vec![0.0; a[0].len()];
            b.iter().zip(rows).for_each(|(b, a)| add(&mut sum, b * scale, a));
            out.extend(sum);
        }
        row += columns.len();
    }
    out
}

pub fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// `x + w y`
pub fn add(x: &mut [f64], w: f64, y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += w * y);
}

#[track_caller]
pub fn near(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * (1.0 + want.abs()), "{what}: {got} instead of {want}");
}
