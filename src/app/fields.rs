//! The fields of the Setup view: what each setting is called there, and messages in these words.

use crate::config::keys::{self, Key};

/// Every setting and its label in the form. LoRA calls the two shared sides A and B.
const FIELDS: [(&str, &str); 80] = [
    ("name", "Run name"),
    ("runs_dir", "Directory of runs"),
    ("model.path", "Model"),
    ("model.method", "What is trained"),
    ("model.trunk_dropout", "Dropout in the frozen base model"),
    ("model.device", "Device"),
    ("model.dtype", "Number format"),
    ("model.threads", "CPU threads"),
    ("data.task", "Task"),
    ("data.path", "Data directory"),
    ("data.train_file", "Training file"),
    ("data.dev_file", "Evaluation file"),
    ("data.dev_fraction", "Share held out"),
    ("data.format", "File layout"),
    ("data.text_column", "Text column"),
    ("data.text_pair_column", "Second text column"),
    ("data.label_column", "Label column"),
    ("data.header", "The first line names the columns"),
    ("data.problem", "What is predicted"),
    ("data.labels", "Label names in order"),
    ("data.metric", "Deciding metric"),
    ("data.max_length", "Longest input (tokens)"),
    ("data.bad_rows", "Unusable rows"),
    ("data.max_train_rows", "Most training rows"),
    ("data.max_eval_rows", "Most evaluation rows"),
    ("text.format", "Format"),
    ("text.template", "Chat template"),
    ("text.prompt_column", "Prompt column"),
    ("text.completion_column", "Completion column"),
    ("text.learn_prompt", "Learn the prompts too"),
    ("text.truncate", "Cut off of long texts"),
    ("text.max_tokens_per_batch", "Tokens a batch"),
    ("text.date", "Date in templates"),
    ("mixture.kind", "Each expert is"),
    ("mixture.num_experts", "Experts (M)"),
    ("mixture.adapter_size", "Bottleneck (r)"),
    ("mixture.sharing_down", "Share the down-projection"),
    ("mixture.sharing_up", "Share the up-projection"),
    ("mixture.activation", "Activation"),
    ("mixture.init", "Initialisation"),
    ("mixture.init_std", "Initial standard deviation"),
    ("mixture.lora_rank", "Rank (r)"),
    ("mixture.lora_alpha", "Alpha"),
    ("mixture.lora_dropout", "LoRA dropout"),
    ("mixture.lora_target", "Layers with LoRA"),
    ("mixture.use_rslora", "Scale by alpha / √r (rsLoRA)"),
    ("mixture.lora_init", "Initialisation of A"),
    ("mixture.routing", "Routing"),
    ("mixture.fixed_expert", "The expert"),
    ("mixture.law_at", "Changes of the routing"),
    ("mixture.consistency", "Consistency between two passes"),
    ("mixture.consistency_weight", "Consistency weight (λ)"),
    ("mixture.consistency_detach", "Treat the other pass as constant"),
    ("mixture.ce_both_passes", "Task loss on both passes"),
    ("train.seed", "Seed"),
    ("train.max_steps", "Steps"),
    ("train.num_train_epochs", "Epochs"),
    ("train.batch_size", "Batch"),
    ("train.gradient_accumulation_steps", "Accumulated batches"),
    ("train.learning_rate", "Learning rate"),
    ("train.lr_scheduler", "Schedule"),
    ("train.warmup_ratio", "Warm-up share"),
    ("train.weight_decay", "Weight decay"),
    ("train.class_weights", "Class weights"),
    ("train.label_smoothing", "Label smoothing"),
    ("train.adam_beta1", "AdamW β₁"),
    ("train.adam_beta2", "AdamW β₂"),
    ("train.adam_epsilon", "AdamW epsilon"),
    ("train.max_grad_norm", "Largest gradient norm"),
    ("train.update_unselected", "Update experts that were not drawn"),
    ("train.recompute", "Recompute activations"),
    ("train.early_stopping_patience", "Patience (evaluations)"),
    ("eval.eval_steps", "Evaluate every (steps)"),
    ("eval.save_steps", "Checkpoint every (steps)"),
    ("eval.save_total_limit", "Checkpoints kept"),
    ("eval.random_routes", "Random routes"),
    ("eval.eval_batch_size", "Evaluation batch"),
    ("eval.samples", "Samples"),
    ("eval.sample_steps", "Samples every (steps)"),
    ("eval.sample_tokens", "Longest sample (tokens)"),
];

/// Values that the form calls otherwise, where messages name them.
const VALUES: [(&str, &str, &str); 12] = [
    ("data.bad_rows", "skip", "Leave out and list"),
    ("data.bad_rows", "refuse", "Stop and say where"),
    ("data.header", "false", "off"),
    ("data.problem", "regression", "A number"),
    ("data.problem", "classification", "Classes"),
    ("data.task", "text", "My own texts: a model that writes"),
    ("data.task", "custom", "My own files: classes or numbers"),
    ("text.format", "auto", "Detected"),
    ("text.template", "auto", "The model's own for conversations"),
    ("text.template", "none", "None: a plain layout"),
    ("model.method", "adamix", "A mixture of experts (AdaMix)"),
    ("mixture.consistency", "on", "on"),
];

/// The label of a setting, such as `train.learning_rate`; empty for no setting.
pub fn label(path: &str) -> &'static str {
    FIELDS.iter().find(|(own, _)| *own == path).map_or("", |(_, label)| label)
}

/// A message with the names of settings as the form has them: `learning_rate is 0` as `“Learning rate” is 0`.
pub fn in_fields(message: &str) -> String {
    let mut said = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '-') {
        let (before, from) = rest.split_at(start);
        said.push_str(before);
        let end = from.find(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c))).unwrap_or(from.len());
        let word = from[..end].trim_end_matches(['.', '-']);
        let word = if word.is_empty() { &from[..end] } else { word };
        // A part of a path or of a file's name is no setting.
        let inside = before.ends_with(['/', '\\', '"', '\'']) || from[word.len()..].starts_with(['/', '\\']);
        rest = &from[word.len()..];
        match setting(word).filter(|_| !inside) {
            None => said.push_str(word),
            Some(key) => {
                said.push_str(&format!("“{}”", label(key.path)));
                if let Some((words, len)) = value(key, rest) {
                    said.push_str(&words);
                    rest = &rest[len..];
                }
            }
        }
    }
    said.push_str(rest);
    said
}

/// The setting that a word of a message names beyond doubt: by its path, its flag, or a name with an underscore.
fn setting(word: &str) -> Option<&'static Key> {
    let flag = word.strip_prefix("--");
    let last = |key: &Key| key.path.rsplit('.').next() == Some(word);
    let of_flag = |key: &Key| key.flag.contains('-') && key.flag.replace('-', "_") == word;
    keys::KEYS.iter().find(|key| match flag {
        Some(flag) => key.flag == flag,
        None => word.contains('.') && key.path == word || word.contains('_') && (last(key) || of_flag(key)),
    })
}

/// What follows the name of a setting, where it is one of its values: in the form's words, and its length.
fn value(key: &Key, rest: &str) -> Option<(String, usize)> {
    let between = [" = ", " to ", " is ", " "].into_iter().find(|between| rest.starts_with(between))?;
    let (from, quote) = match rest[between.len()..].strip_prefix('"') {
        Some(from) => (from, 1),
        None => (&rest[between.len()..], 0),
    };
    let end = from.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(from.len());
    let words =
        VALUES.iter().find(|(path, value, _)| *path == key.path && *value == &from[..end]).map(|(.., words)| words);
    let shown = between.replace(" = ", " to ");
    match words {
        Some(words) => Some((format!("{shown}“{words}”"), between.len() + end + 2 * quote)),
        // A form has no equals signs.
        None if between == " = " => Some((" to ".to_owned(), between.len())),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_one_label() {
        let named: Vec<&str> = FIELDS.iter().map(|(path, _)| *path).collect();
        let all: Vec<&str> = keys::KEYS.iter().map(|key| key.path).collect();
        assert_eq!(named, all);
        assert!(VALUES.iter().all(|(path, ..)| !label(path).is_empty()));
    }

    #[test]
    fn messages_name_fields_and_their_values() {
        for (message, said) in [
            ("learning_rate is 0; choose a number above 0", "“Learning rate” is 0; choose a number above 0"),
            ("set bad_rows = \"skip\" to go on", "set “Unusable rows” to “Leave out and list” to go on"),
            ("set data.header = false and", "set “The first line names the columns” to “off” and"),
            ("set data.problem = \"regression\" for", "set “What is predicted” to “A number” for"),
            ("set data.format to tsv: a/train_file.csv", "set “File layout” to tsv: a/train_file.csv"),
            ("give data.path, a directory", "give “Data directory”, a directory"),
            (
                "name them with prompt_column and completion_column",
                "name them with “Prompt column” and “Completion column”",
            ),
            ("nothing left within max_length (64)", "nothing left within “Longest input (tokens)” (64)"),
            ("text_format is auto", "“Format” is “Detected”"),
            ("mend them with --bad-rows skip", "mend them with “Unusable rows” “Leave out and list”"),
            ("there is no column \"dev_file\"; the path is bad", "there is no column \"dev_file\"; the path is bad"),
        ] {
            assert_eq!(in_fields(message), said);
        }
    }

    #[test]
    fn no_name_of_a_setting_is_left_in_a_message_about_it() {
        for key in keys::KEYS {
            let bare = key.path.rsplit('.').next().unwrap_or_default();
            let names =
                [key.path.contains('.').then(|| key.path.to_owned()), bare.contains('_').then(|| bare.to_owned())];
            for name in names.into_iter().flatten() {
                let said = in_fields(&format!("{name} is wrong; change {name}."));
                assert_eq!(said.matches(label(key.path)).count(), 2, "{said}");
            }
        }
    }
}
