//! Tooltips from the table of settings, which the command line uses too.

use super::fields::in_fields;
use crate::config::keys;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// All of them: a form asks for dozens in every frame.
static TIPS: LazyLock<BTreeMap<&str, String>> =
    LazyLock::new(|| keys::KEYS.iter().map(|key| (key.path, in_fields(&key.tooltip()))).collect());

/// Tooltip of a setting by its place in the run file, such as `train.learning_rate`; empty for no setting.
pub fn tip(path: &str) -> &'static str {
    TIPS.get(path).map_or("", String::as_str)
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
