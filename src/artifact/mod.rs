//! The run directory, checkpoints, exports and certificates: everything that outlives the process.
//!
//! This layer writes and reads plain host data. It knows no trainer, no model and no thread; who calls it
//! supplies tensors as [`HostTensor`](crate::tensor::HostTensor)s and gets them back as such.
//!
//! | module | file format |
//! |---|---|
//! | [`run_dir`] | `runs/<name>/`, its `run.toml` and `lock` |
//! | [`run_label`] | its `label.toml`: name for people, notes, tags |
//! | [`recorder`] | `metrics.jsonl`, `routes.bin`, `events.log`, TensorBoard event files |
//! | [`recorded`] | `metrics.jsonl` as a whole, and `metrics.index` beside it |
//! | [`recorded_steps`] | `metrics.jsonl` and `routes.bin` step by step, part by part |
//! | [`checkpoint`], [`checkpoint_choice`] | `checkpoint-N/`, and which of them is meant |
//! | [`export`] | `adapter.safetensors`, `experts.safetensors`; AdapterHub, PEFT and Hugging Face directories, GGUF |
//! | [`import`] | PEFT directories, checkpoints of the reference code |
//! | [`torch_file`] | `torch.save`, by a reader that executes nothing ([`pickle`]) |
//! | [`certificate`] | `certificate.json` |
//! | [`capsule`] | `NAME.capsule`: a run in one file |
//! | [`queue`] | `queue/queue.json`: runs that wait |
//!
//! Two rules hold for every file here. A file that is written whole appears under its name only when it is
//! complete and on disk ([`atomic`](crate::atomic)). A file that grows is append-only, its readers ignore an incomplete tail,
//! and it is cut back to a checkpoint's step before a resumed run goes on.

pub mod capsule;
pub mod certificate;
pub mod checkpoint;
pub mod checkpoint_choice;
pub mod export;
pub mod growing_cache;
pub mod import;
pub mod json;
pub mod named_merges;
pub mod pickle;
pub mod queue;
pub mod recorded;
pub mod recorded_steps;
pub mod recorder;
pub mod run_dir;
pub mod run_label;
pub mod run_list;
pub mod run_lock;
pub mod run_progress;
pub mod torch_file;
pub mod utc;

pub use run_dir::RunDir;

/// Name and version of this program as written into files.
pub const TOOL: &str = concat!("adamix ", env!("CARGO_PKG_VERSION"));
