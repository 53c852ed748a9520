//! What a checkpoint holds of a run, and how a run goes on from it.

use super::observer::Observer;
use super::trainer::Trainer;
use crate::config::LawChange;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Network, network};
use crate::nn::Param;
use crate::nn::kernels::device;
use crate::records::CheckpointData;
use crate::tensor::{HostTensor, to_f32};
use serde::{Deserialize, Serialize};

/// Where a run was computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// As settings name it: `cpu`, `cuda:0`, `gpu:0`.
    pub device: String,
    /// The device's own name.
    pub name: String,
    /// The base model's number format.
    pub dtype: String,
}

impl Place {
    /// Of a model.
    pub fn of(model: &dyn Network) -> Self {
        let device = model.device();
        Self { device: device.to_string(), name: device::name(device), dtype: model.dtype().as_str().to_owned() }
    }

    /// Where the run was computed whose checkpoint this is, if it tells.
    pub fn of_checkpoint(data: &CheckpointData) -> Option<Self> {
        serde_json::from_value(data.state.get("place")?.clone()).ok()
    }
}

/// What a checkpoint stores besides tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) step: u64,
    /// The step that was evaluated last.
    pub(super) evaluated: Option<u64>,
    /// Step and deciding metric of the best evaluation.
    pub(super) best: Option<(u64, f64)>,
    /// Evaluations since the best one.
    pub(super) without_better: usize,
    /// Largest gradient of each expert of each tensor in the first steps.
    pub(super) max_abs_grad: Vec<Vec<f64>>,
    /// Where it was computed.
    #[serde(default)]
    pub(super) place: Option<Place>,
    /// How often gradients have left the range of f16.
    #[serde(default)]
    pub(super) overflows: u32,
    /// Changes of the routing law that were asked for while it trained, by step; planned ones are in the settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) law_changes: Vec<LawChange>,
    /// Updates of each expert of each tensor.
    pub(super) optimizer_steps: Vec<Vec<u64>>,
}

impl Trainer {
    /// Never of weights that are not finite: the newest checkpoint is what a diverged run can go back to.
    pub(super) fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let data = self.checkpoint_data()?;
        if let Some(tensor) = data.tensors.iter().find(|tensor| tensor.data.iter().any(|v| !v.is_finite())) {
            let message = format!("{} holds values that are not finite; lower the learning rate", tensor.name);
            return Err(Error::new(ErrorKind::Numerics, message));
        }
        let best = self.progress.best.is_some_and(|(step, _)| step == self.progress.step);
        if observer.on_checkpoint(&data, self.progress.step, best) {
            self.last_checkpoint = Some(self.progress.step);
        }
        Ok(())
    }

    /// Everything needed to go on from here, as host data.
    pub fn checkpoint_data(&self) -> Result<CheckpointData> {
        let progress = Progress {
            optimizer_steps: self.optimizer.steps().map(<[u64]>::to_vec).collect(),
            max_abs_grad: self.gradient_health.max_abs_grad.clone(),
            place: Some(Place::of(self.model())),
            ..self.progress.clone()
        };
        let state = serde_json::to_value(progress)
            .map_err(|err| Error::internal(format!("the state cannot be written: {err}")))?;
        let optimizer = self.optimizer.moments(self.model().params())?;
        Ok(CheckpointData { tensors: host_tensors(self.model())?, optimizer, state })
    }

    /// Goes on from a checkpoint. `best`: the tensors of the best one, when that is another; where they are lost, the next
    /// evaluation is the best one.
    pub fn restore(&mut self, data: &CheckpointData, best: Option<Vec<HostTensor>>) -> Result<()> {
        let mut progress: Progress = serde_json::from_value(data.state.clone())
            .map_err(|err| Error::format(format!("the checkpoint's state cannot be read: {err}")))?;
        let health_fits =
            progress.max_abs_grad.iter().map(Vec::len).eq(self.gradient_health.max_abs_grad.iter().map(Vec::len));
        if !health_fits || progress.step > self.total_steps {
            return Err(Error::format(format!("the checkpoint of step {} belongs to other settings", progress.step)));
        }
        self.optimizer.restore(self.subject.model().params(), &data.optimizer, &progress.optimizer_steps)?;
        set_tensors(self.model(), &data.tensors)?;
        self.gradient_health.max_abs_grad.clone_from(&progress.max_abs_grad);
        let is_best = progress.best.is_some_and(|(step, _)| step == progress.step);
        self.best_tensors = if is_best { Some(data.tensors.clone()) } else { best };
        if self.best_tensors.is_none() {
            progress.best = None;
        }
        self.last_checkpoint = Some(progress.step);
        self.progress = progress;
        Ok(())
    }
}

/// Host copies of all trained tensors, in order.
pub fn host_tensors(model: &dyn Network) -> Result<Vec<HostTensor>> {
    let copy = |p: &Param| HostTensor::new(&p.name, p.value.dims(), to_f32(&p.value)?);
    model.params().iter().map(copy).collect()
}

/// Overwrites all trained tensors with host values of the same names.
pub fn set_tensors(model: &dyn Network, tensors: &[HostTensor]) -> Result<()> {
    let find = |name: &str| tensors.iter().find(|t| t.name == name).map(|t| (t.shape.as_slice(), t.data.as_slice()));
    network::overwrite(model.params(), find)
}
