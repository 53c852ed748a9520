//! The command that trains with given settings.

use super::{RunConfig, Task, WRITER_LAB, keys, presets};

/// The command that trains with these settings.
pub fn command_line(form: &RunConfig) -> String {
    with_settings("adamix train", form)
}

/// A command with the flags of these settings.
pub fn with_settings(words: &str, form: &RunConfig) -> String {
    let mut command = words.to_owned();
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
        Err(err) => format!("{words} --config run.toml  # {err}"),
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
}
