//! The entries of the settings table.

use super::{Condition, Key};
use crate::config::{Method, MixtureKind, RoutingPolicy, Task, TextFormat};

const OWN_FILES: &[Condition] = &[Condition::Task(&[Task::Custom, Task::Text])];
const CUSTOM: &[Condition] = &[Condition::Task(&[Task::Custom])];
const TEXT: &[Condition] = &[Condition::Task(&[Task::Text])];
const NOT_LAB: &[Condition] = &[Condition::NotTask(&[Task::Lab])];
const MIXTURE: &[Condition] = &[Condition::Method(Method::Adamix)];
const ADAPTER: &[Condition] = &[Condition::Method(Method::Adamix), Condition::Kind(MixtureKind::Adapter)];
const LORA: &[Condition] = &[Condition::Method(Method::Adamix), Condition::Kind(MixtureKind::Lora)];
const TWO_PASSES: &[Condition] = &[Condition::Method(Method::Adamix), Condition::Consistency];
const PROMPTS: &[Condition] =
    &[Condition::Task(&[Task::Text]), Condition::TextFormat(&[TextFormat::Auto, TextFormat::Completion])];
const COMPLETIONS: &[Condition] = &[
    Condition::Task(&[Task::Text]),
    Condition::TextFormat(&[TextFormat::Auto, TextFormat::Completion, TextFormat::Plain]),
];

/// All settings, in the order of the run file.
pub const KEYS: &[Key] = &[
    key("name", "name", "Name of the run's directory")
        .alias(&["run-name"])
        .allow("a directory name; empty: made from task, model and time"),
    key("runs_dir", "runs-dir", "Directory that holds the runs")
        .alias(&["output-dir"])
        .allow("a directory; empty: runs in the user's data directory"),
    key("model.path", "model", "The pre-trained encoder")
        .alias(&["model-path", "model-name-or-path"])
        .allow("a directory in Hugging Face layout, the name of a model on disk (org/name, see adamix models), lab for the bundled encoder, or writer-lab for the bundled language model")
        .in_paper("BERT-base, RoBERTa-large"),
    key("model.method", "method", "What is trained").among(&["adamix", "head-only", "full"]).in_paper("adamix"),
    key("model.trunk_dropout", "trunk-dropout", "Dropout of the frozen encoder in training, as in its config.json")
    .in_paper("true for encoders; its GPT-2 has none"),
    key("model.device", "device", "Where the numbers are computed; without such a GPU, on the CPU with a warning")
        .allow("auto (the first GPU that can be used, else the CPU), cpu, gpu (of any vendor), cuda (an NVIDIA GPU, in a build with the feature cuda), or a GPU by number such as gpu:1"),
    key("model.dtype", "dtype", "Number format of the frozen base model and its activations; experts, head and optimizer are always f32; device gpu has no bf16")
        .among(&["auto", "f32", "bf16", "f16"]),
    key("model.threads", "threads", "CPU threads of the engine").allow("0 (automatic) to 1024"),
    key("data.task", "task", "A known task (fixes files, columns, labels, metric), custom rows, or text")
    .alias(&["task-name"])
    .among(&["lab", "custom", "text", "cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"])
    .in_paper("the eight GLUE tasks"),
    key("data.path", "data", "Directory of a known task in GLUE layout, or of texts with files called train and valid")
        .alias(&["data-path", "data-dir"])
        .allow("a directory").when(&[Condition::NotTask(&[Task::Lab, Task::Custom])]),
    key("data.train_file", "train-file", "File of training rows; several with ; between, a directory, or a pattern such as part-*.parquet")
        .allow("a file, files, a directory or a pattern").when(OWN_FILES),
    key("data.dev_file", "dev-file", "File of evaluation rows")
        .alias(&["validation-file"])
        .allow("a file; empty: the known task's own, or dev_fraction of the training rows").when(NOT_LAB),
    key("data.dev_fraction", "dev-fraction", "Share of the training rows held out when there is no evaluation file")
        .allow("between 0 and 1").when(&[Condition::Task(&[Task::Custom, Task::Text]), Condition::HeldOut]),
    key("data.format", "format", "How the files are laid out; auto goes by their contents, then by their ending")
        .among(&["auto", "tsv", "csv", "jsonl", "parquet", "arrow", "sheet"]).when(NOT_LAB),
    key("data.text_column", "text-column", "Column of the (first) text").allow("a column name, or a number from 0").when(CUSTOM),
    key("data.text_pair_column", "text-pair-column", "Column of the second text of a pair")
        .allow("a column name, or a number from 0; empty: single texts").when(CUSTOM),
    key("data.label_column", "label-column", "Column of the label").allow("a column name, or a number from 0").when(CUSTOM),
    key("data.header", "header", "Whether the first line of a TSV or CSV file names the columns").when(CUSTOM),
    key("data.problem", "problem", "What is predicted: one of some classes, or one number")
        .among(&["classification", "regression"]).when(CUSTOM),
    key("data.labels", "labels", "Label names in class order")
        .allow("names separated by commas; empty: the sorted labels of the training file").when(&[Condition::Task(&[Task::Custom]), Condition::Classes]),
    key("data.metric", "metric", "The metric that decides which checkpoint is best")
        .alias(&["metric-for-best-model"])
        .among(&["auto", "accuracy", "f1", "matthews", "pearson", "spearman", "loss"])
        .in_paper("the one GLUE defines for the task").when(&[Condition::NotTask(&[Task::Text])]),
    key("data.max_length", "max-length", "Longest input, special tokens counted; longer ones are truncated")
        .alias(&["max-seq-length"])
        .allow("4 to 65536 tokens")
        .in_paper("128"),
    key("data.bad_rows", "bad-rows", "Whether to stop at a row that cannot be used, or to leave it out and list it")
    .among(&["refuse", "skip"]).when(NOT_LAB),
    key("data.max_train_rows", "max-train-rows", "Use only the first so many training rows")
        .alias(&["max-train-samples"])
        .allow("rows; 0: all"),
    key("data.max_eval_rows", "max-eval-rows", "Use only the first so many evaluation rows")
        .alias(&["max-eval-samples"])
        .allow("rows; 0: all"),
    key("text.format", "text-format", "How the examples stand in a text file; auto looks into it")
        .among(&["auto", "alpaca", "sharegpt", "messages", "completion", "plain", "e2e", "webnlg", "dart"])
        .in_paper("e2e, webnlg and dart").when(TEXT),
    key("text.template", "chat-template", "The chat template that texts are put into")
        .allow("auto (the model's own, for conversations), none, model (the same, for everything), or a Jinja file")
        .in_paper("none").when(TEXT),
    key("text.prompt_column", "prompt-column", "Column of the prompts in a text file")
        .allow("a column name; empty: the usual names").when(PROMPTS),
    key("text.completion_column", "completion-column", "Column of the completions; alone, its whole text is learned")
        .allow("a column name; empty: the usual names").when(COMPLETIONS),
    key("text.learn_prompt", "learn-prompt", "Also learn the prompts, and not only the completions")
        .alias(&["train-on-prompt"])
        .in_paper("false").when(TEXT),
    key("text.truncate", "truncate", "Which end of a text is cut off when it is longer than max_length")
        .among(&["end", "start"])
        .in_paper("end").when(TEXT),
    key("text.max_tokens_per_batch", "max-tokens-per-batch", "Tokens per micro-batch, instead of batch_size examples")
    .allow("tokens, at least max_length; 0: count examples").when(TEXT),
    key("text.date", "template-date", "The date that chat templates see")
        .allow("a date such as 2026-01-31; empty: today").when(TEXT),
    key("mixture.kind", "kind", "What each expert is: a bottleneck adapter, or a low-rank addition to linear layers")
        .alias(&["mixture-kind"])
        .among(&["adapter", "lora"])
        .in_paper("adapter for encoders, lora for GPT-2").when(MIXTURE),
    key("mixture.num_experts", "num-experts", "M, the experts per adapted module")
        .alias(&["experts"])
        .allow("1 to 64; 1 without consistency is a plain adapter")
        .in_paper("4, and 8 for GPT-2").when(MIXTURE),
    key("mixture.adapter_size", "adapter-size", "r, the width of the adapters' bottleneck")
        .alias(&["bottleneck"])
        .allow("1 to 4096")
        .in_paper("16 for RoBERTa-large, 48 for BERT-base").when(ADAPTER),
    key("mixture.sharing_down", "sharing-down", "One down-projection (LoRA's A) for all experts")
        .alias(&["share-a"])
        .in_paper("false").when(MIXTURE),
    key("mixture.sharing_up", "sharing-up", "One up-projection (LoRA's B) for all experts")
        .alias(&["share-b"])
        .in_paper("true").when(MIXTURE),
    key("mixture.activation", "activation", "The nonlinearity between the projections")
        .among(&["gelu", "gelu-tanh", "relu", "swish"])
        .in_paper("gelu").when(ADAPTER),
    key("mixture.init", "init", "How the experts start; identity leaves the model untouched at step 0")
        .among(&["normal", "identity"])
        .in_paper("normal").when(ADAPTER),
    key("mixture.init_std", "init-std", "Standard deviation of the adapters' initial weights")
        .allow("above 0, at most 1")
        .in_paper("0.02").when(ADAPTER),
    key("mixture.lora_rank", "lora-rank", "LoRA's r, the rank of the addition").allow("1 to 4096").in_paper("4").when(LORA),
    key("mixture.lora_alpha", "lora-alpha", "LoRA's alpha; the addition is scaled by alpha / r")
        .allow("above 0, at most 1000000")
        .in_paper("32").when(LORA),
    key("mixture.lora_dropout", "lora-dropout", "Share of LoRA's inputs that are dropped in training")
        .allow("0 to below 1")
        .in_paper("0.1, and 0 on DART").when(LORA),
    key("mixture.lora_target", "lora-target", "The linear layers that get a LoRA, by the end of their name")
        .alias(&["target-modules"])
        .allow("names separated by commas, such as q_proj,v_proj; all-linear; empty: queries and values")
        .in_paper("queries and values").when(LORA),
    key("mixture.use_rslora", "use-rslora", "Scale LoRA's addition by alpha / √r instead of alpha / r")
        .in_paper("false").when(LORA),
    key("mixture.lora_init", "lora-init", "How LoRA's A starts: every expert on its own, or all as copies of one draw")
        .among(&["independent", "copied"])
        .in_paper("copied").when(LORA),
    key("mixture.routing", "routing", "How the expert of each adapted module is chosen")
        .among(&["per-batch", "per-example", "per-token", "fixed", "round-robin"])
        .in_paper("per-batch").when(MIXTURE),
    key("mixture.fixed_expert", "fixed-expert", "The expert of routing fixed").allow("0 to M - 1").when(&[Condition::Method(Method::Adamix), Condition::Routing(RoutingPolicy::Fixed)]),
    key("mixture.law_at", "law-at", "Other laws of routing from some steps on; can be given several times")
        .allow("a step and a law, such as 400=per-token or 600=fixed:2, separated by commas; empty: one law for the whole run")
        .in_paper("one law").when(MIXTURE),
    key("mixture.consistency", "consistency", "A second pass on another route, and a penalty on their difference")
    .alias(&["use-consistency-loss"])
    .in_paper("true").when(MIXTURE),
    key("mixture.consistency_weight", "consistency-weight", "Weight of the consistency term in the loss")
        .allow("0 or more")
        .in_paper("1 for classification, 100 for GPT-2").when(TWO_PASSES),
    key("mixture.consistency_detach", "consistency-detach", "The other pass is a constant in the consistency term")
    .in_paper("true").when(TWO_PASSES),
    key("mixture.ce_both_passes", "ce-both-passes", "The task loss on both passes instead of the first alone")
        .in_paper("false").when(TWO_PASSES),
    key("train.seed", "seed", "Seed of everything random; same seed, machine and threads: same bits")
        .allow("a whole number, 0 or more")
        .in_paper("0"),
    key("train.max_steps", "max-steps", "Optimizer steps; above 0 it goes before num_train_epochs")
        .alias(&["steps"])
        .allow("steps; 0: as num_train_epochs says"),
    key("train.num_train_epochs", "num-train-epochs", "Passes over the training rows")
        .alias(&["epochs"])
        .allow("above 0")
        .in_paper("20 for RoBERTa-large, 40 for BERT-base on MNLI"),
    key("train.batch_size", "batch-size", "Examples in a micro-batch")
        .alias(&["per-device-train-batch-size"])
        .allow("1 to 65536")
        .in_paper("64 on MNLI"),
    key("train.gradient_accumulation_steps", "gradient-accumulation-steps", "Micro-batches per optimizer step")
        .alias(&["accumulation"])
        .allow("1 to 65536")
        .in_paper("1"),
    key("train.learning_rate", "learning-rate", "Peak learning rate")
        .alias(&["lr"])
        .allow("above 0, at most 10")
        .in_paper("3e-4 for RoBERTa-large, 4e-4 for BERT-base on MNLI"),
    key("train.lr_scheduler", "lr-scheduler", "How the learning rate goes on after the warm-up")
        .alias(&["lr-scheduler-type"])
        .among(&["linear", "cosine", "constant"])
        .in_paper("linear"),
    key("train.warmup_ratio", "warmup-ratio", "Share of the steps in which the learning rate climbs from 0")
        .allow("0 to 1")
        .in_paper("0.06"),
    key("train.weight_decay", "weight-decay", "Decoupled weight decay, not on biases and norms")
        .allow("0 to 1")
        .in_paper("0.1"),
    key("train.class_weights", "class-weights", "What each class counts in the loss")
        .allow("empty: the same; balanced: by the shares of the training rows; or one number for each class, separated by commas")
        .in_paper("the same").when(&[Condition::NotTask(&[Task::Text]), Condition::Classes]),
    key("train.label_smoothing", "label-smoothing", "Share of each target's weight spread over the whole vocabulary")
        .alias(&["label-smoothing-factor", "label-smooth"])
        .allow("0 to below 1; language models only")
        .in_paper("0.1 for GPT-2, 0 on DART").when(TEXT),
    key("train.adam_beta1", "adam-beta1", "AdamW's decay of the mean gradient").allow("0 to below 1").in_paper("0.9"),
    key("train.adam_beta2", "adam-beta2", "AdamW's decay of the mean squared gradient")
        .allow("0 to below 1")
        .in_paper("0.999"),
    key("train.adam_epsilon", "adam-epsilon", "AdamW's guard against division by zero").allow("above 0"),
    key("train.max_grad_norm", "max-grad-norm", "Gradients are scaled down to this global norm")
        .allow("0 (never) or more")
        .in_paper("1"),
    key("train.update_unselected", "update-unselected", "Also move experts that were not drawn, as older PyTorch did").when(MIXTURE),
    key(
        "train.recompute",
        "recompute",
        "Run layers again in the backward pass instead of keeping their activations: less memory, about a third more time, the same result; auto: when memory is short",
    )
    .alias(&["gradient-checkpointing"])
    .among(&["auto", "on", "off"]),
    key("train.early_stopping_patience", "early-stopping-patience", "Evaluations without improvement before stopping")
    .alias(&["patience"])
    .allow("evaluations; 0: never"),
    key("eval.eval_steps", "eval-steps", "Steps between evaluations of the merged model")
        .allow("steps; 0: once an epoch"),
    key("eval.save_steps", "save-steps", "Steps between checkpoints").allow("steps; 0: with every evaluation"),
    key("eval.save_total_limit", "save-total-limit", "Checkpoints kept besides the best and the last one")
        .allow("0 or more"),
    key("eval.random_routes", "random-routes", "Random routes measured for the band and averaged in the ensemble")
    .allow("1 to 1000"),
    key("eval.eval_batch_size", "eval-batch-size", "Examples in an evaluation batch")
        .alias(&["per-device-eval-batch-size"])
        .allow("1 to 65536"),
    key("eval.samples", "samples", "Evaluation inputs answered during training, merged and along one random route")
    .allow("0 (none) to 16").when(TEXT),
    key("eval.sample_steps", "sample-steps", "Steps between these answers; the first come before the first step")
        .allow("steps; 0: with every evaluation").when(TEXT),
    key("eval.sample_tokens", "sample-tokens", "Longest of these answers").allow("1 to 256 tokens").when(TEXT),
];

const fn key(path: &'static str, flag: &'static str, help: &'static str) -> Key {
    Key { path, flag, aliases: &[], help, allowed: "", choices: &[], paper: "", counts: &[] }
}

impl Key {
    const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
    const fn allow(mut self, allowed: &'static str) -> Self {
        self.allowed = allowed;
        self
    }
    const fn among(mut self, choices: &'static [&'static str]) -> Self {
        self.choices = choices;
        self
    }
    const fn when(mut self, counts: &'static [Condition]) -> Self {
        self.counts = counts;
        self
    }
    const fn in_paper(mut self, paper: &'static str) -> Self {
        self.paper = paper;
        self
    }
}
