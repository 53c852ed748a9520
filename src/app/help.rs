//! Tooltips from the table of settings, which the command line uses too.

use super::fields::in_fields;
use crate::config::keys;

/// Tooltip of a setting by its place in the run file, such as `train.learning_rate`.
pub fn tip(path: &str) -> String {
    keys::help(path).map(|key| in_fields(&key.tooltip())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_tooltip() {
        for key in keys::KEYS {
            assert!(!tip(key.path).is_empty(), "{} has no tooltip", key.path);
        }
    }
}
