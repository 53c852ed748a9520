//! Settings that the window stores between two sessions.

use super::clock::XAxis;
use super::files::Purpose;
use super::run_columns::RunColumn;
use super::view::View;
use crate::config::RunConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Light, dark, or as the desktop is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Appearance {
    /// As the desktop is set.
    #[default]
    System,
    /// Light background.
    Light,
    /// Dark background.
    Dark,
}

/// Recent paths kept for each purpose.
const RECENT: usize = 8;

/// Settings that the window stores between two sessions. Unknown or missing parts take their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Format version of this record.
    pub version: u32,
    /// Light, dark, or as the desktop is set.
    pub appearance: Appearance,
    /// Size of everything; 1 is normal.
    pub zoom: f32,
    /// Half-life of the smoothing of curves in steps; 0: none.
    pub smoothing: f64,
    /// Logarithmic value axis of the loss plot.
    pub log_loss: bool,
    /// What the x-axis of curves over time counts.
    pub x_axis: XAxis,
    /// Logarithmic x-axis of curves over time.
    pub log_x: bool,
    /// Samples processor and memory while they are seen.
    pub monitor: bool,
    /// Asks for attention when a run ends and the window is not in front.
    pub notify: bool,
    /// Columns of the list of runs.
    pub run_columns: Vec<RunColumn>,
    /// Model directories, newest first.
    pub recent_models: Vec<PathBuf>,
    /// Data files and directories, newest first.
    pub recent_data: Vec<PathBuf>,
    /// Run directories that were opened, newest first.
    pub recent_runs: Vec<PathBuf>,
    /// Other files and directories: run files, destinations of exports, directories of runs, newest first.
    pub recent_others: Vec<PathBuf>,
    /// Show the start page when the window opens.
    pub start_page: bool,
    /// Views whose *What you see here* is closed.
    pub explained: Vec<View>,
    /// Pictures stand still.
    pub reduced_motion: bool,
    /// The window's own file chooser instead of the desktop's.
    pub own_chooser: bool,
    /// The form at the end of the last session.
    pub form: Option<RunConfig>,
    /// What was filled into it; other values were set by hand.
    pub suggested: Option<RunConfig>,
    /// The arrangement of the views, as JSON.
    pub layout: Option<String>,
    /// Arrangements that were kept, by name.
    pub layouts: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: 1,
            appearance: Appearance::System,
            zoom: 1.0,
            smoothing: 10.0,
            log_loss: false,
            x_axis: XAxis::Step,
            log_x: false,
            monitor: false,
            notify: true,
            run_columns: RunColumn::usual(),
            recent_models: Vec::new(),
            recent_data: Vec::new(),
            recent_runs: Vec::new(),
            recent_others: Vec::new(),
            start_page: true,
            explained: Vec::new(),
            reduced_motion: false,
            own_chooser: false,
            form: None,
            suggested: None,
            layout: None,
            layouts: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Reads what [`Settings::to_json`] wrote; anything unreadable is the default.
    pub fn from_json(text: &str) -> Self {
        match serde_json::from_str::<Self>(text) {
            Ok(mut settings) => {
                settings.zoom = if settings.zoom.is_finite() { settings.zoom.clamp(0.5, 3.0) } else { 1.0 };
                settings.smoothing =
                    if settings.smoothing.is_finite() { settings.smoothing.clamp(0.0, 1000.0) } else { 10.0 };
                settings
            }
            Err(err) => {
                log::warn!("the window's settings cannot be read and are reset: {err}");
                Self::default()
            }
        }
    }

    /// The recent paths that fit this purpose, newest first.
    pub fn recent(&self, purpose: Purpose) -> &[PathBuf] {
        match purpose {
            Purpose::Model => &self.recent_models,
            Purpose::DataDir | Purpose::TrainFile | Purpose::DevFile => &self.recent_data,
            Purpose::Run | Purpose::Capsule => &self.recent_runs,
            _ => &self.recent_others,
        }
    }

    /// Puts a path first among the recent ones of its purpose.
    pub fn remember(&mut self, purpose: Purpose, path: PathBuf) {
        let list = match purpose {
            Purpose::Model => &mut self.recent_models,
            Purpose::DataDir | Purpose::TrainFile | Purpose::DevFile => &mut self.recent_data,
            Purpose::Run | Purpose::Capsule => &mut self.recent_runs,
            _ => &mut self.recent_others,
        };
        remember(list, path);
    }

    /// As text for the window's storage.
    pub fn to_json(&self) -> Option<String> {
        serde_json::to_string(self).map_err(|err| log::warn!("the window's settings cannot be written: {err}")).ok()
    }
}

/// Puts a path first among the recent ones.
pub fn remember(list: &mut Vec<PathBuf>, path: PathBuf) {
    list.retain(|known| *known != path);
    list.insert(0, path);
    list.truncate(RECENT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_round_trip_and_nonsense() {
        let mut settings = Settings { zoom: 1.5, appearance: Appearance::Dark, ..Settings::default() };
        remember(&mut settings.recent_models, "/models/a".into());
        settings.form = Some(RunConfig::default());
        let text = settings.to_json().expect("settings are plain data");
        assert_eq!(Settings::from_json(&text), settings);
        assert_eq!(Settings::from_json("{]"), Settings::default());
        assert_eq!(Settings::from_json("{\"zoom\": 900.0}").zoom, 3.0);
        assert_eq!(Settings::from_json("{\"of_a_later_version\": 1}"), Settings::default());
    }

    #[test]
    fn recent_paths_are_few_and_distinct() {
        let mut settings = Settings::default();
        for i in 0..20 {
            remember(&mut settings.recent_data, format!("/data/{}", i % 12).into());
        }
        assert_eq!(settings.recent_data.len(), RECENT);
        assert_eq!(settings.recent_data[0], PathBuf::from("/data/7"));
        remember(&mut settings.recent_data, "/data/5".into());
        assert_eq!(settings.recent_data.iter().filter(|p| p.ends_with("5")).count(), 1);
    }
}
