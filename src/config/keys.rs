//! The table of all settings: name, command-line flag, help, allowed values, the paper's value.
//!
//! Flags and tooltips come from [`KEYS`]; types and defaults are read off the serialised [`RunConfig::default`].

use super::RunConfig;
use crate::error::{Error, Result};
use std::sync::OnceLock;
use strsim::levenshtein;
use toml::Value;

mod condition;
mod table;

pub use condition::Condition;
pub use table::KEYS;

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Where it stands in a run file, such as `train.learning_rate`.
    pub path: &'static str,
    /// The command-line flag without its dashes, such as `learning-rate`.
    pub flag: &'static str,
    /// Other spellings the command line takes, those of other tools among them.
    pub aliases: &'static [&'static str],
    /// What it does, in one line.
    pub help: &'static str,
    /// Range and unit in words; empty where [`Key::choices`] say it all.
    pub allowed: &'static str,
    /// The values a choice can have; empty for numbers, switches and texts.
    pub choices: &'static [&'static str],
    /// What the paper or its reference code uses; empty where neither says.
    pub paper: &'static str,
    /// All of them must hold for it to count; empty: it always counts.
    pub counts: &'static [Condition],
}

/// What sort of value a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `true` or `false`.
    Switch,
    /// A whole number, 0 or more.
    Whole,
    /// A number.
    Number,
    /// One of [`Key::choices`].
    Choice,
    /// Any text.
    Text,
    /// Texts separated by commas.
    List,
}

impl Key {
    /// What sort of value it takes, read off the default.
    pub fn kind(&self) -> KeyKind {
        match self.default_value() {
            Some(Value::Boolean(_)) => KeyKind::Switch,
            Some(Value::Integer(_)) => KeyKind::Whole,
            Some(Value::Float(_)) => KeyKind::Number,
            Some(Value::Array(_)) => KeyKind::List,
            _ if !self.choices.is_empty() => KeyKind::Choice,
            _ => KeyKind::Text,
        }
    }

    /// The default as it would be typed; empty for an empty text or list.
    pub fn default_text(&self) -> String {
        self.default_value().map(text_of).unwrap_or_default()
    }

    /// The allowed values in words: the choices, or the range.
    pub fn allowed_text(&self) -> String {
        if self.choices.is_empty() { self.allowed.to_owned() } else { self.choices.join(", ") }
    }

    /// Help, allowed values, default and the paper's value in one text: the window's tooltip.
    pub fn tooltip(&self) -> String {
        let mut text = format!("{}.", self.help);
        for (what, value) in
            [("Values", self.allowed_text()), ("Default", self.default_text()), ("Paper", self.paper.to_owned())]
        {
            if !value.is_empty() {
                text.push_str(&format!(" {what}: {value}."));
            }
        }
        text
    }

    /// The flag's help: the tooltip, and when the setting counts. The window shows it only then.
    pub fn flag_help(&self) -> String {
        let needs: Vec<String> = self.counts.iter().map(Condition::needs).collect();
        let counts =
            if needs.is_empty() { String::new() } else { format!(" Counts with {} only.", needs.join(" and ")) };
        self.tooltip() + &counts
    }

    /// Whether it counts for these settings.
    pub fn counts_for(&self, run: &RunConfig) -> bool {
        self.counts.iter().all(|condition| condition.holds(run))
    }

    fn default_value(&self) -> Option<&'static Value> {
        value_at(defaults(), self.path)
    }
}

/// The entry of a setting by its path in the run file.
pub fn help(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The entry of a setting by path, flag or alias; dashes and underscores are the same, leading dashes are ignored.
pub fn find(name: &str) -> Option<&'static Key> {
    let flag = name.trim_start_matches('-').replace('_', "-");
    KEYS.iter()
        .find(|key| key.path.replace('_', "-") == flag || key.flag == flag || key.aliases.contains(&flag.as_str()))
}

/// The entry whose path or flag looks most like a mistyped one; none when nothing is near.
pub fn nearest(name: &str) -> Option<&'static Key> {
    let name = name.trim_start_matches('-').replace('-', "_").to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    let distance = |key: &&'static Key| {
        let own = key.path.rsplit('.').next().unwrap_or_default();
        levenshtein(&name, key.path).min(levenshtein(last, own)).min(levenshtein(last, &key.flag.replace('-', "_")))
    };
    KEYS.iter().min_by_key(distance).filter(|key| distance(key) <= 1 + last.len() / 4)
}

/// Sets one setting from its path and a text, as typed on a command line or in a field.
///
/// ```
/// # use adamix::config::{keys, RunConfig};
/// let mut config = RunConfig::default();
/// keys::set(&mut config, "train.learning_rate", "5e-3")?;
/// assert_eq!(config.train.learning_rate, 5e-3);
/// assert!(keys::set(&mut config, "train.learning_rate", "fast").is_err());
/// # Ok::<(), adamix::error::Error>(())
/// ```
pub fn set(config: &mut RunConfig, path: &str, text: &str) -> Result<()> {
    let key = help(path).ok_or_else(|| unknown(path))?;
    let refused = |why: &str| {
        let allowed = key.allowed_text();
        let hint = if allowed.is_empty() { String::new() } else { format!("; allowed: {allowed}") };
        Error::config(format!("--{} {text:?} is {why}{hint}", key.flag))
    };
    let value = parse(key, text).map_err(&refused)?;
    let mut settings = as_value(config)?;
    *value_at_mut(&mut settings, path).ok_or_else(|| unknown(path))? = value;
    *config = settings.try_into().map_err(|err: toml::de::Error| refused(&format!("refused ({})", err.message())))?;
    Ok(())
}

/// The present value of a setting as text, in the form [`set`] takes.
pub fn get(config: &RunConfig, path: &str) -> Result<String> {
    value_at(&as_value(config)?, path).map(text_of).ok_or_else(|| unknown(path))
}

/// The settings that differ from `base`: path and present value. What a command line has to say to repeat a run.
pub fn differences(config: &RunConfig, base: &RunConfig) -> Result<Vec<(&'static Key, String)>> {
    let (now, then) = (as_value(config)?, as_value(base)?);
    let differs = |key: &&'static Key| value_at(&now, key.path) != value_at(&then, key.path);
    Ok(KEYS
        .iter()
        .filter(differs)
        .map(|key| (key, value_at(&now, key.path).map(text_of).unwrap_or_default()))
        .collect())
}

/// Every wanted setting of `run` that still has the value of `before` gets the value of `now`.
pub fn follow(
    run: &RunConfig,
    before: &RunConfig,
    now: &RunConfig,
    wanted: impl Fn(&Key) -> bool,
) -> Result<RunConfig> {
    let [mut settings, before, now] = [as_value(run)?, as_value(before)?, as_value(now)?];
    for key in KEYS.iter().filter(|key| wanted(key)) {
        let (Some(own), Some(value)) = (value_at_mut(&mut settings, key.path), value_at(&now, key.path)) else {
            continue;
        };
        if value_at(&before, key.path) == Some(own) {
            *own = value.clone();
        }
    }
    settings.try_into().map_err(|err: toml::de::Error| Error::internal(format!("own settings: {err}")))
}

fn parse(key: &Key, text: &str) -> Result<Value, &'static str> {
    let trimmed = text.trim();
    Ok(match key.kind() {
        KeyKind::Switch => Value::Boolean(match trimmed.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => true,
            "false" | "no" | "off" | "0" => false,
            _ => return Err("neither true nor false"),
        }),
        KeyKind::Whole => {
            let number: i64 = trimmed.replace('_', "").parse().map_err(|_| "not a whole number")?;
            if number < 0 {
                return Err("below 0");
            }
            Value::Integer(number)
        }
        KeyKind::Number => {
            let number: f64 = trimmed.parse().map_err(|_| "not a number")?;
            if !number.is_finite() {
                return Err("not a finite number");
            }
            Value::Float(number)
        }
        KeyKind::Choice => {
            let choice = trimmed.to_ascii_lowercase().replace('_', "-");
            if !key.choices.contains(&choice.as_str()) {
                return Err("none of the choices");
            }
            Value::String(choice)
        }
        KeyKind::Text => Value::String(text.to_owned()),
        KeyKind::List => {
            let items = trimmed.split(',').map(|item| Value::String(item.trim().to_owned()));
            Value::Array(if trimmed.is_empty() { Vec::new() } else { items.collect() })
        }
    })
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        Value::Float(number) => number.to_string(),
        other => other.to_string(),
    }
}

fn unknown(path: &str) -> Error {
    Error::config(format!("there is no setting {path:?}; see adamix train --help for all settings"))
}

fn as_value(config: &RunConfig) -> Result<Value> {
    Value::try_from(config).map_err(|err| Error::internal(format!("settings cannot be written: {err}")))
}

fn defaults() -> &'static Value {
    static DEFAULTS: OnceLock<Value> = OnceLock::new();
    DEFAULTS.get_or_init(|| as_value(&RunConfig::default()).unwrap_or(Value::Boolean(false)))
}

fn value_at<'a>(settings: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(settings, |value, name| value.get(name))
}

fn value_at_mut<'a>(settings: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(settings, |value, name| value.get_mut(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_and_the_settings_have_the_same_keys() {
        let listed: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
        let all = as_value(&RunConfig::default()).unwrap();
        let paths = all.as_table().unwrap().iter().flat_map(|(section, value)| match value {
            Value::Table(table) => table.keys().map(|name| format!("{section}.{name}")).collect(),
            _ => vec![section.clone()],
        });
        let real: BTreeSet<String> = paths.collect();
        assert_eq!(listed, real);
        assert_eq!(listed.len(), KEYS.len(), "a path is listed twice");
    }

    #[test]
    fn flags_and_aliases_are_distinct_and_lead_back() {
        let mut seen = BTreeSet::new();
        for key in KEYS {
            for name in std::iter::once(&key.flag).chain(key.aliases) {
                assert!(seen.insert(*name), "--{name} is used twice");
                assert!(!name.contains('_'), "--{name} is spelled with dashes in the table");
                assert_eq!(find(name).map(|found| found.path), Some(key.path));
                assert_eq!(find(&format!("--{}", name.replace('-', "_"))).map(|found| found.path), Some(key.path));
            }
            assert_eq!(find(key.path).map(|found| found.flag), Some(key.flag));
        }
        assert!(find("learning-rat").is_none());
    }

    #[test]
    fn every_entry_says_something_and_no_choice_is_missing() {
        for key in KEYS {
            assert!(key.help.len() > 10 && !key.help.ends_with('.'), "{}", key.path);
            match key.kind() {
                KeyKind::Choice => {
                    // The type itself lists what it takes in its refusal.
                    let mut settings = as_value(&RunConfig::default()).unwrap();
                    *value_at_mut(&mut settings, key.path).unwrap() = Value::String("no such choice".to_owned());
                    let refused: Result<RunConfig, toml::de::Error> = settings.try_into();
                    let refusal = refused.unwrap_err().message().to_owned();
                    let expected: Vec<&str> = refusal.split('`').skip(3).step_by(2).collect();
                    assert_eq!(key.choices, expected, "{}: {refusal}", key.path);
                }
                KeyKind::Switch => assert!(key.choices.is_empty() && key.allowed.is_empty(), "{}", key.path),
                _ => assert!(key.choices.is_empty() && !key.allowed.is_empty(), "{}", key.path),
            }
        }
    }

    #[test]
    fn every_routing_policy_is_offered() {
        let all = crate::config::RoutingPolicy::ALL.map(crate::config::choice_name);
        assert_eq!(help("mixture.routing").unwrap().choices, all);
    }

    #[test]
    fn every_default_can_be_set_again_and_changes_nothing() {
        let mut config = RunConfig::default();
        for key in KEYS {
            set(&mut config, key.path, &key.default_text()).unwrap();
        }
        assert_eq!(config, RunConfig::default());
        assert!(differences(&config, &RunConfig::default()).unwrap().is_empty());
    }

    #[test]
    fn values_are_typed() {
        let mut config = RunConfig::default();
        set(&mut config, "train.learning_rate", "5e-3").unwrap();
        set(&mut config, "train.max_grad_norm", "0").unwrap();
        set(&mut config, "mixture.consistency", "off").unwrap();
        set(&mut config, "mixture.activation", "gelu_tanh").unwrap();
        set(&mut config, "data.labels", "bad, good").unwrap();
        set(&mut config, "data.text_column", "0").unwrap();
        set(&mut config, "train.seed", "12").unwrap();
        assert_eq!(config.train.learning_rate, 5e-3);
        assert_eq!(config.train.max_grad_norm, 0.0);
        assert!(!config.mixture.consistency);
        assert_eq!(config.mixture.activation, crate::config::Activation::GeluTanh);
        assert_eq!(config.data.labels, ["bad", "good"]);
        assert_eq!(config.data.text_column, "0");
        assert_eq!(config.train.seed, 12);
        let changed = differences(&config, &RunConfig::default()).unwrap();
        assert_eq!(changed.len(), 7);
        for (key, text) in changed {
            assert_eq!(get(&config, key.path).unwrap(), text);
        }
    }

    #[test]
    fn refusals_name_flag_value_and_what_is_allowed() {
        let refusal = |path: &str, text: &str| {
            let mut config = RunConfig::default();
            let err = set(&mut config, path, text).unwrap_err().to_string();
            assert_eq!(config, RunConfig::default(), "a refused value must change nothing");
            err
        };
        let err = refusal("train.learning_rate", "fast");
        assert_eq!(err, "--learning-rate \"fast\" is not a number; allowed: above 0, at most 10");
        assert!(refusal("train.learning_rate", "NaN").contains("finite"));
        assert!(refusal("train.batch_size", "-3").contains("below 0"));
        assert!(refusal("train.batch_size", "3.5").contains("not a whole number"));
        assert!(refusal("mixture.consistency", "maybe").contains("neither true nor false"));
        let err = refusal("mixture.routing", "random");
        assert!(err.contains("per-batch, per-example, per-token, fixed, round-robin"), "{err}");
        assert!(refusal("train.speed", "1").contains("no setting"));
    }

    #[test]
    fn a_mistyped_name_finds_its_neighbour() {
        assert_eq!(nearest("train.learning_rat").map(|key| key.path), Some("train.learning_rate"));
        assert_eq!(nearest("--num-expert").map(|key| key.path), Some("mixture.num_experts"));
        assert!(nearest("colour").is_none());
        assert_eq!((levenshtein("", "abc"), levenshtein("kitten", "sitting"), levenshtein("same", "same")), (3, 3, 0));
    }

    #[test]
    fn tooltips_hold_help_values_default_and_paper() {
        let tip = help("train.weight_decay").unwrap().tooltip();
        assert_eq!(tip, "Decoupled weight decay, not on biases and norms. Values: 0 to 1. Default: 0.1. Paper: 0.1.");
    }
}
