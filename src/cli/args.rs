//! Builders of arguments, and settings from flags and a run file: one flag for each entry of [`keys::KEYS`].

use crate::config::{DeviceChoice, RunConfig, belonging, keys, presets};
use crate::error::{Context as _, Error, Result};
use clap::builder::TypedValueParser as _;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// `--name VALUE`, a text.
pub fn option(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value)
}

/// `--name`, on or off.
pub fn switch(name: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue)
}

/// `--name VALUE`, a path.
pub fn path(name: &'static str, value: &'static str) -> Arg {
    option(name, value).value_parser(value_parser!(PathBuf))
}

/// One or more paths without a flag.
pub fn paths(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).value_name(value).required(true).num_args(1..).value_parser(value_parser!(PathBuf))
}

/// `--name VALUE`, a whole number in this range; read as `usize`.
pub fn whole(name: &'static str, value: &'static str, range: RangeInclusive<u64>) -> Arg {
    option(name, value).value_parser(value_parser!(u64).range(range).map(|number| number as usize))
}

/// `--threads`.
pub fn threads() -> Arg {
    whole("threads", "N", 1..=1024).help("CPU threads [default: as the run says]")
}

/// A whole number that was given, or is there by default.
pub fn given(matches: &ArgMatches, name: &str) -> Option<usize> {
    matches.get_one(name).copied()
}

/// `--device`.
pub fn device() -> Arg {
    option("device", "DEVICE").value_parser(|text: &str| text.parse::<DeviceChoice>())
}

/// The paths given for an argument.
pub fn given_paths(matches: &ArgMatches, name: &str) -> Vec<PathBuf> {
    matches.get_many(name).into_iter().flatten().cloned().collect()
}

/// Adds `--config`, `--preset`, `--lab` and one flag for every setting.
pub fn with_settings(command: Command) -> Command {
    let command = command.args([
        path("config", "FILE").short('c').help("A run file (TOML); flags go before what it says"),
        option("preset", "NAME").help("Start from the settings of a known run"),
        switch("lab")
            .conflicts_with("preset")
            .help("The bundled encoder on the bundled sentences, with the settings that go with them"),
    ]);
    keys::KEYS.iter().fold(command, |command, key| command.arg(flag(key)))
}

/// Adds the flags of these settings.
pub fn with_flags(command: Command, paths: &mut dyn Iterator<Item = &'static str>) -> Command {
    paths.filter_map(keys::help).fold(command, |command, key| command.arg(flag(key)))
}

/// The flag of one setting.
fn flag(key: &'static keys::Key) -> Arg {
    let arg = Arg::new(key.path)
        .long(key.flag)
        .aliases(key.aliases.iter().copied())
        .help(key.help)
        .long_help(key.flag_help())
        .hide_possible_values(true)
        .allow_hyphen_values(false)
        .help_heading(match key.path.split_once('.') {
            Some(("model", _)) => "Model",
            Some(("data", _)) => "Data",
            Some(("text", _)) => "Text",
            Some(("mixture", _)) => "Mixture",
            Some(("train", _)) => "Training",
            Some(("eval", _)) => "Evaluation",
            _ => "Run",
        });
    match key.kind() {
        keys::KeyKind::Switch => arg.value_name("true|false").num_args(0..=1).default_missing_value("true"),
        keys::KeyKind::Whole => arg.value_name("N").allow_negative_numbers(true),
        keys::KeyKind::Number => arg.value_name("X").allow_negative_numbers(true),
        keys::KeyKind::Choice => arg.value_name("CHOICE"),
        keys::KeyKind::Text => arg.value_name("TEXT"),
        keys::KeyKind::List => arg.value_name("A,B,...").action(ArgAction::Append),
    }
}

/// Underscores in the names of flags become dashes, so that the names of run files work too.
pub fn dashed(argument: OsString) -> OsString {
    match argument.to_str().filter(|text| text.starts_with("--")) {
        None => argument,
        Some(text) => match text.split_once('=') {
            Some((name, value)) => format!("{}={value}", name.replace('_', "-")).into(),
            None => text.replace('_', "-").into(),
        },
    }
}

/// The settings these flags ask for: defaults, then the preset, then the run file, then the flags. What is said and does
/// not count for the task, method or mixture is refused by name.
pub fn settings(matches: &ArgMatches) -> Result<RunConfig> {
    settings_and(matches, |_| {})
}

/// As [`settings`], with what other flags of the command say about them.
pub fn settings_and(matches: &ArgMatches, adjust: impl FnOnce(&mut RunConfig)) -> Result<RunConfig> {
    let mut config = match matches.get_one::<String>("preset") {
        Some(name) => preset(name)?,
        None if matches.get_flag("lab") || !names_its_own(matches) => preset("lab")?,
        None => RunConfig::default(),
    };
    let mut file = Table::new();
    if let Some(path) = matches.get_one::<PathBuf>("config") {
        file = read_run_file(path)?;
        config = over(&config, &file).with_context(|| format!("run file {}", path.display()))?;
    }
    apply_flags(&mut config, matches)?;
    adjust(&mut config);
    let file = Value::Table(file);
    let said = |key: &keys::Key| {
        let in_file = key.path.split('.').try_fold(&file, |section, name| section.get(name)).is_some();
        match is_typed(matches, key.path) {
            true => Some(format!("--{}", key.flag)),
            false => in_file.then(|| format!("{} (run file)", key.path)),
        }
    };
    // What a preset said for its own task is not the user's.
    let refusals: Vec<String> = belonging::foreign(&config)?
        .iter()
        .filter_map(|found| Some(found.refusal(&said(found.key)?, &config)))
        .collect();
    if !refusals.is_empty() {
        return Err(Error::config(refusals.join("\n")));
    }
    config = belonging::without_foreign(&config)?;
    config.validate()?;
    Ok(config)
}

/// Whether the flag of this name stands on the command line.
fn is_typed(matches: &ArgMatches, name: &str) -> bool {
    matches.value_source(name) == Some(ValueSource::CommandLine)
}

/// Whether a setting was typed, where the command has its flag.
fn said(matches: &ArgMatches, path: &str) -> bool {
    matches.try_get_many::<String>(path).is_ok_and(|values| values.is_some()) && is_typed(matches, path)
}

/// Whether a run file, a model or data are named; otherwise it is the lab, with the settings that go with it.
fn names_its_own(matches: &ArgMatches) -> bool {
    ["config", "model.path", "data.task", "data.path", "data.train_file"]
        .into_iter()
        .any(|name| is_typed(matches, name))
}

/// Sets what was typed as a flag; leaves the rest alone.
pub fn apply_flags(config: &mut RunConfig, matches: &ArgMatches) -> Result<()> {
    for key in keys::KEYS {
        if said(matches, key.path) {
            // A list may be given in parts.
            let parts: Vec<&str> =
                matches.get_many::<String>(key.path).into_iter().flatten().map(String::as_str).collect();
            keys::set(config, key.path, &parts.join(","))?;
        }
    }
    Ok(())
}

fn preset(name: &str) -> Result<RunConfig> {
    let wanted = name.to_ascii_lowercase().replace('_', "-");
    let Some(preset) = presets::by_name(&wanted) else {
        let names: Vec<String> = presets::all().into_iter().map(|preset| preset.name).collect();
        return Err(Error::config(format!("there is no preset {name:?}; choose one of {}", names.join(", "))));
    };
    let mut config = RunConfig::default();
    preset.apply(&mut config);
    Ok(config)
}

fn read_run_file(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).map_err(|err| Error::io("reading the run file", path, err))?;
    let table: Table = toml::from_str(&text).map_err(|err| {
        Error::config(format!("run file is not TOML: {}: {}", err.to_string().trim(), path.display()))
    })?;
    let table = underscored(table);
    match unknown_key(&table) {
        None => Ok(table),
        Some(unknown) => {
            let name = unknown.rsplit('.').next().unwrap_or(&unknown);
            let line = text.lines().position(|line| line.trim_start().replace('-', "_").starts_with(name));
            let place = line.map(|line| format!(" in line {}", line + 1)).unwrap_or_default();
            let hint = keys::find(name).or_else(|| keys::nearest(&unknown));
            let hint = hint.map(|key| format!("; did you mean {}?", key.path)).unwrap_or_default();
            Err(Error::config(format!("run file has no setting {unknown:?}{place}{hint} {}", path.display())))
        }
    }
}

/// Dashes in key names become underscores, so that the names of flags work too.
fn underscored(table: Table) -> Table {
    let value = |value| match value {
        Value::Table(inner) => Value::Table(underscored(inner)),
        other => other,
    };
    table.into_iter().map(|(name, inner)| (name.replace('-', "_"), value(inner))).collect()
}

/// The path of a setting that does not exist.
fn unknown_key(table: &Table) -> Option<String> {
    let sections = ["model", "data", "text", "mixture", "train", "eval"];
    let paths = table.iter().flat_map(|(name, value)| match value {
        Value::Table(inner) if sections.contains(&name.as_str()) => {
            inner.keys().map(|key| format!("{name}.{key}")).collect()
        }
        _ => vec![name.clone()],
    });
    paths.into_iter().find(|path| keys::help(path).is_none())
}

/// `base` with everything that `file` says.
fn over(base: &RunConfig, file: &Table) -> Result<RunConfig> {
    let mut table: Table = base.to_toml()?.parse().map_err(|err| Error::internal(format!("own settings: {err}")))?;
    for (name, value) in file {
        match (table.get_mut(name), value) {
            (Some(Value::Table(section)), Value::Table(inner)) => section.extend(inner.clone()),
            _ => drop(table.insert(name.clone(), value.clone())),
        }
    }
    table.try_into().map_err(|err: toml::de::Error| Error::config(err.to_string().trim().replace('\n', ", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<RunConfig> {
        let command = with_settings(Command::new("adamix"));
        let matches =
            command.try_get_matches_from([&["adamix"], arguments].concat().into_iter().map(|text| dashed(text.into())));
        settings(&matches.map_err(|err| Error::config(err.to_string()))?)
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("run.toml");
        std::fs::write(&file, "[train]\nlearning-rate = 1e-4\nbatch_size = 8\n[mixture]\nnum_experts = 2\n").unwrap();
        let file = file.to_str().unwrap();
        let config = parse(&["-c", file, "--batch_size", "16", "--consistency", "--sharing-up", "false"]).unwrap();
        assert_eq!(config.train.learning_rate, 1e-4);
        assert_eq!(config.train.batch_size, 16);
        assert_eq!(config.mixture.num_experts, 2);
        assert!(config.mixture.consistency && !config.mixture.sharing_up);
        assert_eq!(config.train.warmup_ratio, RunConfig::default().train.warmup_ratio);
    }

    #[test]
    fn without_a_model_or_data_it_is_the_lab_with_its_own_settings() {
        let mut lab = RunConfig::default();
        presets::lab().apply(&mut lab);
        assert_eq!(parse(&[]).unwrap(), lab);
        assert_eq!(parse(&["--lab"]).unwrap(), lab);
        assert_eq!(parse(&["--seed", "5"]).unwrap().train.max_steps, lab.train.max_steps);
        let own = parse(&["--model", "m", "--task", "custom", "--train-file", "a.tsv"]).unwrap();
        assert_eq!(own.train, RunConfig::default().train);
    }

    #[test]
    fn every_flag_sets_its_setting() {
        for key in keys::KEYS {
            let matches = with_settings(Command::new("adamix"))
                .try_get_matches_from(["adamix", &format!("--{}", key.flag), &key.default_text()])
                .unwrap_or_else(|err| panic!("--{}: {err}", key.flag));
            let mut config = RunConfig::default();
            apply_flags(&mut config, &matches).unwrap();
            assert_eq!(config, RunConfig::default(), "{}", key.flag);
        }
    }

    #[test]
    fn what_does_not_belong_to_the_task_is_refused_by_name() {
        let refusal = |arguments: &[&str]| parse(arguments).unwrap_err().to_string();
        let err = refusal(&["--task", "sst2", "--data", "glue", "--train-file", "mini.tsv"]);
        assert!(
            err.starts_with("--train-file does not belong to task sst2; it counts with task custom or text"),
            "{err}"
        );
        let err = refusal(&["--task", "custom", "--train-file", "a.csv", "--data", "glue"]);
        assert!(err.starts_with("--data does not belong to task custom"), "{err}");
        let err = refusal(&["--lab", "--data", "texts", "--train-file", "chat.jsonl"]);
        assert!(err.contains("--data does not belong to task lab") && err.contains("--train-file does not"), "{err}");
        assert!(refusal(&["--train-file", "a.csv"]).contains("--train-file does not belong to task lab"));
        assert!(refusal(&["--lab", "--lora-rank", "8"]).contains("--lora-rank does not belong to kind adapter"));
        assert!(refusal(&["--lab", "--method", "head-only", "--num-experts", "8"]).contains("method head-only"));
        // What says nothing is no contradiction.
        parse(&["--lab", "--lora-rank", "4", "--train-file", ""]).unwrap();

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("run.toml");
        std::fs::write(&file, "[data]\ntask = \"sst2\"\npath = \"glue\"\ntrain_file = \"mini.tsv\"\n").unwrap();
        let err = refusal(&["-c", file.to_str().unwrap()]);
        assert!(err.starts_with("data.train_file (run file) does not belong to task sst2"), "{err}");
    }

    #[test]
    fn a_preset_of_another_task_leaves_nothing_behind() {
        let config = parse(&["--preset", "sst2-bert-base", "--task", "custom", "--train-file", "a.csv"]).unwrap();
        assert_eq!((config.data.path.as_str(), config.data.train_file.as_str()), ("", "a.csv"));
        assert_eq!(config.train.num_train_epochs, 40.0);
    }

    #[test]
    fn a_wrong_key_in_a_file_is_named_with_its_line_and_a_suggestion() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("run.toml");
        let refusal = |text: &str| {
            std::fs::write(&file, text).unwrap();
            parse(&["-c", file.to_str().unwrap()]).unwrap_err().to_string()
        };
        let err = refusal("[train]\nseed = 1\nlearning_rat = 1e-4\n");
        assert!(err.contains("\"train.learning_rat\" in line 3; did you mean train.learning_rate?"), "{err}");
        let err = refusal("learning_rate = 1e-4\n");
        assert!(err.contains("did you mean train.learning_rate?"), "{err}");
        let err = refusal("[train]\nseed = \"x\"\n");
        assert!(err.contains("seed"), "{err}");
        let err = refusal("[train\n");
        assert!(err.contains("not TOML"), "{err}");
        let err = refusal("[train]\nbatch_size = 0\n");
        assert!(err.contains("batch_size is 0"), "{err}");
    }
}
