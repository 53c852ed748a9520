//! What a run will cost, before it starts.

use crate::support::place::Place;
use adamix::tensor::{NumberFormat, safetensors};
use adamix::workflow::preflight;

#[test]
fn time_is_measured_and_a_model_that_gives_no_numbers_is_a_warning_not_a_failure() {
    let place = Place::new();
    let config = place.config(8);
    let report = preflight::preflight(&config, true).unwrap();
    assert!(report.seconds.is_some_and(|seconds| seconds > 0.0), "{report:?}");
    let finite = |report: &adamix::protocol::PreflightReport| {
        !report.warnings.iter().any(|warning| warning.contains("not finite"))
    };
    assert!(finite(&report));
    let file = place.path("model").join("model.safetensors");
    let (mut tensors, metadata) = safetensors::read(&file).unwrap();
    // Finite, but no product of it is.
    let broken = tensors.iter_mut().find(|tensor| tensor.name.ends_with("0.intermediate.dense.weight")).unwrap();
    broken.data.iter_mut().enumerate().for_each(|(i, value)| *value = if i % 2 == 0 { 3e38 } else { -3e38 });
    safetensors::write(&file, &tensors, NumberFormat::F32, &metadata).unwrap();
    let report = preflight::preflight(&config, true).unwrap();
    assert!(report.seconds.is_none() && !finite(&report), "{report:?}");
    assert!(report.memory_bytes > 0 && report.start.train_rows > 0, "the rest of the report is there");
}
