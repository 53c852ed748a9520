//! The frequencies of rotary positions, with the ways long ranges are reached.
//!
//! Pair i of a head turns by `position * θ^(-2i / head_dim)`. `linear` divides every frequency by a factor; `llama3`
//! divides the slow ones, keeps the fast ones, and blends in between.

use crate::error::{Error, Result};
use crate::model::spec::number;
use crate::nn::kernels::rope::{Angles, Pairing};
use serde_json::Value;

/// How frequencies are changed for ranges beyond the original one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// Divided by the factor.
    Linear(f64),
    /// Llama 3's.
    Llama3 {
        /// The slow frequencies are divided by this.
        factor: f64,
        /// A wavelength above `original / low` is slow.
        low: f64,
        /// A wavelength below `original / high` is fast.
        high: f64,
        /// Positions of the original training.
        original: f64,
    },
}

/// Rotary positions of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// Angle of one step for each pair. `[head_dim / 2]`
    pub frequencies: Vec<f32>,
    /// Which values make a pair.
    pub pairing: Pairing,
}

impl RopeSpec {
    /// From θ, the width of a head and the scaling; pairs as in Hugging Face checkpoints.
    pub fn new(theta: f64, head_dim: usize, scaling: Scaling) -> Self {
        let frequency = |i: usize| theta.powf(-((2 * i) as f64) / head_dim as f64);
        let frequencies = (0..head_dim / 2).map(|i| scaled(frequency(i), scaling) as f32).collect();
        Self { frequencies, pairing: Pairing::Halves }
    }

    /// From `rope_theta` and `rope_scaling`, or from `rope_parameters`, which newer files have in their place.
    pub fn from_json(json: &Value, head_dim: usize) -> Result<Self> {
        let object = |key: &str| json.get(key).filter(|value| value.is_object());
        let parameters = object("rope_parameters").or_else(|| object("rope_scaling"));
        let inside = |key: &str| parameters.map_or(Ok(None), |p| number(p, key));
        if inside("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
            return Err(Error::config("config.json: partial_rotary_factor other than 1 is not supported"));
        }
        let theta = match inside("rope_theta")? {
            Some(theta) => theta,
            None => number(json, "rope_theta")?.unwrap_or(10_000.0),
        };
        let need = |key: &str| {
            inside(key)?
                .filter(|value| *value > 0.0)
                .ok_or_else(|| Error::format(format!("config.json: the rotary scaling lacks a {key} above 0")))
        };
        let text = |key: &str| parameters.and_then(|p| p.get(key)).and_then(Value::as_str);
        let scaling = match text("rope_type").or_else(|| text("type")).unwrap_or("default") {
            "default" => Scaling::None,
            "linear" => Scaling::Linear(need("factor")?),
            "llama3" => Scaling::Llama3 {
                factor: need("factor")?,
                low: need("low_freq_factor")?,
                high: need("high_freq_factor")?,
                original: need("original_max_position_embeddings")?,
            },
            other => {
                return Err(Error::config(format!(
                    "config.json: rope_scaling of type {other:?} is not supported; known are default, linear and llama3"
                )));
            }
        };
        if !(theta.is_finite() && theta > 0.0) {
            return Err(Error::format(format!("config.json: rope_theta is {theta}, expected a number above 0")));
        }
        Ok(Self::new(theta, head_dim, scaling))
    }

    /// Cosines and sines of all positions up to a length.
    pub fn angles(&self, positions: usize) -> Angles {
        Angles::new(&self.frequencies, positions, 1.0)
    }
}

fn scaled(frequency: f64, scaling: Scaling) -> f64 {
    match scaling {
        Scaling::None => frequency,
        Scaling::Linear(factor) => frequency / factor,
        Scaling::Llama3 { factor, low, high, original } => {
            let wavelength = std::f64::consts::TAU / frequency;
            if wavelength < original / high {
                frequency
            } else if wavelength > original / low {
                frequency / factor
            } else {
                let blend = (original / wavelength - low) / (high - low);
                (1.0 - blend) * frequency / factor + blend * frequency
            }
        }
    }
}
