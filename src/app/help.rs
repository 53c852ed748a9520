//! Tooltips and commands from the table of settings, which the command line uses too.

use super::fields::in_fields;
use crate::config::{RunConfig, Task, WRITER_LAB, keys, presets};

/// Tooltip of a setting by its place in the run file, such as `train.learning_rate`.
pub fn tip(path: &str) -> String {
    keys::help(path).map(|key| in_fields(&key.tooltip())).unwrap_or_default()
}

/// The command that does the same as Start with these settings.
pub fn command_line(form: &RunConfig) -> String {
    let mut command = "adamix train".to_owned();
    let mut base = RunConfig::default();
    // The labs have their own settings.
    if form.model.path == base.model.path && form.data.task == Task::Lab {
        presets::lab().apply(&mut base);
        command.push_str(" --lab");
    }
    if form.model.path == WRITER_LAB && form.data.path == WRITER_LAB {
        presets::writer_lab().apply(&mut base);
        command.push_str(" --preset writer-lab");
    }
    match keys::differences(form, &base) {
        Ok(differences) => {
            for (key, value) in differences {
                command.push_str(&format!(" --{} {}", key.flag, quoted(&value)));
            }
            command
        }
        Err(err) => format!("adamix train --config run.toml  # {err}"),
    }
}

/// A word quoted for a shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+=@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_say_what_differs_and_survive_a_shell() {
        let mut form = RunConfig::default();
        presets::lab().apply(&mut form);
        assert_eq!(command_line(&form), "adamix train --lab");
        form.train.learning_rate = RunConfig::default().train.learning_rate;
        assert_eq!(command_line(&form), "adamix train --lab --learning-rate 0.001");
        let mut texts = RunConfig::default();
        presets::writer_lab().apply(&mut texts);
        assert_eq!(command_line(&texts), "adamix train --preset writer-lab");
        form.data.task = Task::Custom;
        form.train.seed = 7;
        form.data.train_file = "/my data/it's.tsv".to_owned();
        let command = command_line(&form);
        assert!(command.contains(" --seed 7"), "{command}");
        assert!(command.contains("'/my data/it'\\''s.tsv'"), "{command}");
    }

    #[test]
    fn every_setting_has_a_tooltip() {
        for key in keys::KEYS {
            assert!(!tip(key.path).is_empty(), "{} has no tooltip", key.path);
        }
    }
}
