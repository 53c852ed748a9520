//! The window's settings as an earlier version stored them.

use adamix::app::settings::{Appearance, Settings};
use std::path::Path;

#[test]
fn settings_of_an_earlier_version_are_read_whole() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old/settings.json");
    let settings = Settings::from_json(&std::fs::read_to_string(file).unwrap());
    assert_eq!((settings.appearance, settings.zoom, settings.smoothing), (Appearance::Dark, 1.25, 25.0));
    assert!(settings.log_loss && settings.recent_models.len() == 2 && settings.recent_data.len() == 1);
    let form = settings.form.unwrap();
    assert_eq!((form.mixture.num_experts, form.mixture.adapter_size, form.train.max_steps), (2, 2, 6));
}
