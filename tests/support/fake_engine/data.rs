//! Invented plausible numbers for [`super::FakeEngine`]. Everything is a pure function of its arguments.

pub use super::compared::*;
pub use super::experts::{distances, experts};
use super::texts;
use adamix::config::{FileFormat, MixtureConfig, MixtureKind, RunConfig, Task};
use adamix::protocol::*;
use std::path::{Path, PathBuf};

/// Steps between two evaluations of a demonstration.
pub const EVAL_EVERY: u64 = 40;

pub(super) const SITES: usize = 4;
const LABELS: [&str; 2] = ["negative", "positive"];

/// A number in [0, 1) that looks random and is the same every time.
pub(crate) fn noise(seed: u64) -> f32 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}

pub(crate) fn site_names() -> Vec<String> {
    (0..SITES).map(|site| format!("layers.{site}.ffn")).collect()
}

/// The adapted modules: an adapter a layer, or a LoRA on each of seven matrices or those that were chosen.
pub fn sites_of(mixture: &MixtureConfig) -> Vec<String> {
    if mixture.kind == MixtureKind::Adapter {
        return site_names();
    }
    let parts = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];
    let parts = [&parts[..], &["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]].concat();
    let wanted =
        |part: &&str| mixture.lora_target.is_empty() || mixture.lora_target.iter().any(|end| part.ends_with(end));
    let parts: Vec<&str> = parts.into_iter().filter(wanted).collect();
    (0..SITES).flat_map(|layer| parts.iter().map(move |part| format!("layers.{layer}.{part}"))).collect()
}

/// Settings of the demonstration: the lab.
pub fn config() -> RunConfig {
    RunConfig { name: "lab-demo".to_owned(), ..RunConfig::default() }
}

/// The record at the start.
pub fn start_record(config: &RunConfig, first_step: u64) -> StartRecord {
    StartRecord {
        total_steps: if config.train.max_steps > 0 { config.train.max_steps } else { 240 },
        first_step,
        steps_per_epoch: 80.0,
        train_rows: 2560,
        eval_rows: 640,
        labels: LABELS.map(str::to_owned).to_vec(),
        trained_parameters: 71_682,
        head_parameters: 16_770,
        merged_parameters: 16_640,
        trunk_parameters: 1_310_720,
        sites: sites_of(&config.mixture),
        experts: [config.mixture.down_experts(), config.mixture.up_experts()],
        metric: "accuracy".to_owned(),
        higher_is_better: true,
        device: "CPU (demonstration)".to_owned(),
        threads: 1,
    }
}

/// One step's numbers.
pub fn step(step: u64, total: u64) -> StepSample {
    let progress = step as f32 / total.max(1) as f32;
    let task_loss = 0.25 + 0.45 * (-4.0 * progress).exp() + 0.12 * (noise(step) - 0.5);
    let consistency_loss = 0.04 * (-2.0 * progress).exp() * (0.5 + noise(step ^ 0xC0));
    StepSample {
        step,
        epoch: step as f32 / 80.0,
        loss: task_loss + consistency_loss,
        task_loss,
        consistency_loss,
        learning_rate: 1e-3 * (progress / 0.06).min(1.0) * ((1.0 - progress) / 0.94).min(1.0),
        grad_norm: 0.6 + 0.8 * noise(step ^ 0xFF),
        tokens: 1400 + (400.0 * noise(step ^ 0x70)) as u32,
        seconds: 0.08 + 0.02 * noise(step ^ 0x5E),
    }
}

/// Where the time of the last `steps` steps went.
pub fn profile(step: u64, steps: u32) -> StepProfile {
    // Forward, backward, attention both ways, elementwise, adapters, head, optimizer, data, recomputation, other.
    let ms = [24.0, 21.0, 5.0, 7.5, 8.0, 4.0, 1.2, 1.8, 0.3, 0.0, 1.5];
    let mut profile = StepProfile { step, steps, ..StepProfile::default() };
    for (i, (seconds, ms)) in profile.seconds.iter_mut().zip(ms).enumerate() {
        *seconds = 1e-3 * ms * (0.95 + 0.1 * noise(step ^ (i as u64) << 8));
    }
    profile
}

pub(crate) fn scores(accuracy: f64) -> Scores {
    Scores {
        loss: 1.1 - accuracy,
        accuracy: Some(accuracy),
        f1: Some(accuracy - 0.011),
        matthews: Some(2.0 * accuracy - 1.02),
        primary: accuracy,
        ..Scores::default()
    }
}

/// One evaluation.
pub fn eval(step: u64, total: u64) -> EvalRecord {
    let progress = step as f64 / total.max(1) as f64;
    EvalRecord {
        step,
        epoch: step as f64 / 80.0,
        merged: scores(0.5 + 0.27 * (1.0 - (-3.0 * progress).exp())),
        best: true,
        seconds: 0.4,
    }
}

/// The verdict on every trained tensor.
pub fn gradient_health(step: u64) -> Vec<TensorHealth> {
    let mut gradient_health = Vec::new();
    let mut add = |tensor: String, expert: Option<usize>| {
        let n = gradient_health.len() as u64;
        let undrawn = step < 10 && expert.is_some_and(|e| noise(n ^ (e as u64) ^ step) > 0.7);
        let x = if undrawn { 0.0 } else { f64::from(noise(n)) };
        gradient_health.push(TensorHealth {
            tensor,
            expert,
            step,
            max_abs_grad: 0.02 * x,
            update_ratio: 0.004 * x * step as f64,
            state: if undrawn { HealthState::NotDrawn } else { HealthState::Learning },
        });
    };
    for site in site_names() {
        (0..4).for_each(|expert| add(format!("{site}.down.weight"), Some(expert)));
        add(format!("{site}.up.weight"), None);
    }
    add("classifier.dense.weight".to_owned(), None);
    add("classifier.out_proj.weight".to_owned(), None);
    gradient_health
}

/// Routes and counts after so many steps.
pub fn routing(mixture: &MixtureConfig, step: u64) -> RoutingSnapshot {
    let experts = [mixture.down_experts(), mixture.up_experts()];
    let passes = if mixture.consistency { 2 } else { 1 };
    let sites = sites_of(mixture);
    let pick = |step: u64, cell: usize| {
        let n = experts[cell % 2];
        ((noise(step * 131 + cell as u64) * n as f32) as usize).min(n - 1) as u8
    };
    let cells = passes * sites.len() * 2;
    // What each example or token draws for itself: about the same share of each expert.
    let mixed = mixture.routing.is_random() && !mixture.routing.is_per_batch();
    let share = |step: u64, cell: usize| -> Vec<f32> {
        let n = experts[cell % 2];
        let parts: Vec<f32> = (0..n).map(|e| 1.0 + noise(step * 977 + (cell * 8 + e) as u64)).collect();
        parts.iter().map(|part| part / parts.iter().sum::<f32>()).collect()
    };
    let in_255ths =
        |step: u64| (0..cells).flat_map(|cell| share(step, cell)).map(|share| (255.0 * share) as u8).collect();
    let route = |step: u64| StepRoute {
        step,
        experts: (0..cells).map(|cell| pick(step, cell)).collect(),
        shares: if mixed { in_255ths(step) } else { Vec::new() },
    };
    let recent: Vec<StepRoute> = (step.saturating_sub(63).max(1)..=step).map(route).collect();
    let mut counts: Vec<Vec<u64>> = (0..sites.len() * 2).map(|cell| vec![0; experts[cell % 2]]).collect();
    for past in 1..=step {
        for cell in 0..cells {
            counts[cell % (sites.len() * 2)][usize::from(pick(past, cell))] += 1;
        }
    }
    let drawn = |cell: usize| match mixed {
        true => share(step, cell),
        false => (0..experts[cell % 2]).map(|e| f32::from(u8::from(usize::from(pick(step, cell)) == e))).collect(),
    };
    let current = (0..cells).map(drawn).collect();
    let draws = counts.iter().map(|counts| counts.iter().sum()).collect();
    RoutingSnapshot {
        step,
        policy: mixture.routing,
        fixed_expert: mixture.fixed_expert,
        counted_from: 0,
        passes,
        sites,
        experts,
        current,
        recent,
        counts,
        draws,
    }
}

/// A model's card.
pub fn model_info(path: &str) -> ModelInfo {
    ModelInfo {
        path: path.to_owned(),
        family: "BERT".to_owned(),
        layers: SITES,
        hidden_size: 128,
        heads: 4,
        vocab_size: 4096,
        max_length: 128,
        parameters: 1_310_720,
        file_bytes: 2_621_440,
        writes: path != "lab",
        lora_targets: ["attention.self.query", "attention.self.key", "attention.self.value"].map(str::to_owned).into(),
        notes: vec!["weights are stored in f16 and computed in f32".to_owned()],
    }
}

/// The columns of a table with an id in front.
pub fn columns(file: &Path) -> Columns {
    let facts = |samples: &[&str], words, numeric, distinct| ColumnFacts {
        samples: samples.iter().map(|&sample| sample.to_owned()).collect(),
        filled: 360,
        words,
        numeric,
        whole: numeric,
        distinct,
    };
    Columns {
        file: file.display().to_string(),
        format: FileFormat::Csv,
        delimiter: Some(';'),
        encoding: "UTF-8".to_owned(),
        header: true,
        looked_at: 360,
        names: ["id", "review text", "sentiment"].map(str::to_owned).to_vec(),
        facts: vec![
            facts(&["1", "2", "3"], 1.0, 1.0, 360),
            facts(&["a gorgeous, witty and deeply felt film"], 9.0, 0.0, 340),
            facts(&["positive", "negative"], 1.0, 0.0, 2),
        ],
        text: Some("review text".to_owned()),
        label: Some("sentiment".to_owned()),
        ..Columns::default()
    }
}

/// A data preview.
pub fn data_preview(config: &RunConfig) -> DataPreview {
    let texts = [
        ("a gorgeous, witty and deeply felt film", 1, 11),
        ("the plot wears thin long before the end", 0, 10),
        ("an unexpectedly moving portrait of two brothers", 1, 9),
        ("loud, long and almost proudly empty", 0, 9),
        ("it never finds the joke it keeps setting up", 0, 11),
    ];
    let row = |&(text, label, tokens): &(&str, usize, usize)| SampleRow {
        text: text.to_owned(),
        label: LABELS[label].to_owned(),
        tokens: vec![String::new(); tokens],
        ..SampleRow::default()
    };
    let bar = |bin: usize, rows: usize| (rows as f32 / 6.0 * (-0.09 * (bin as f32 - 5.0).powi(2)).exp()) as usize;
    let split = |rows: usize| SplitPreview {
        rows,
        sample: texts.iter().map(row).collect(),
        balance: vec![rows / 2 - 7, rows - rows / 2 + 7],
        lengths: Some(Lengths {
            measured: rows,
            mean: 23.4,
            max: 71,
            truncated_share: 0.005,
            histogram: (0..16).map(|bin| bar(bin, rows)).collect(),
            bin_width: 4,
            ..Lengths::default()
        }),
        ..SplitPreview::default()
    };
    let custom = config.data.task == Task::Custom;
    let columns: &[&str] = if custom { &["sentence", "label", "source"] } else { &[] };
    DataPreview {
        name: if config.data.task == Task::Lab { "lab: film-review sentences" } else { "own data" }.to_owned(),
        columns: Columns { names: columns.iter().map(|name| (*name).to_owned()).collect(), ..Columns::default() },
        labels: LABELS.map(str::to_owned).to_vec(),
        train: split(2560),
        dev: split(640),
        max_length: config.data.max_length,
        duplicates_in_train: 3,
        leaks: 2,
        leak_examples: vec!["a fascinating curiosity piece".to_owned()],
        ..DataPreview::default()
    }
}

/// A plan with its costs.
pub fn preflight(config: &RunConfig) -> PreflightReport {
    PreflightReport {
        problems: config.problems(),
        warnings: vec!["2 evaluation rows are also training rows".to_owned()],
        start: start_record(config, 0),
        tokens_per_step: 1600.0,
        memory_bytes: 190 << 20,
        recompute: false,
        memory_available: 16 << 30,
        seconds: Some(24.0),
        run_dir: PathBuf::from("runs/lab-demo"),
        gpus: vec!["Demo RTX".to_owned(), "Demo Arc".to_owned()],
    }
}

fn summary(dir: PathBuf, status: RunStatus, step: u64, best: f64) -> RunSummary {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    RunSummary {
        dir,
        name,
        status,
        model: "lab".to_owned(),
        task: "lab".to_owned(),
        method: "adamix".to_owned(),
        created: 1_790_000_000 + step * 60,
        step,
        total_steps: 240,
        metric: "accuracy".to_owned(),
        best: Some(best),
        seconds: 0.1 * step as f64,
        bytes: 3_400_000,
        resumable: !matches!(status, RunStatus::Finished | RunStatus::Running),
        ..RunSummary::default()
    }
}

/// The list of runs.
pub fn runs() -> Vec<RunSummary> {
    vec![
        summary(PathBuf::from("runs/lab-demo"), RunStatus::Finished, 240, 0.764),
        summary(PathBuf::from("runs/lab-round-robin"), RunStatus::Stopped, 120, 0.731),
        summary(PathBuf::from("runs/lab-lr5e-3"), RunStatus::Interrupted, 80, 0.702),
    ]
}

/// Everything about one run; one whose name begins with `writer` is of a language model.
pub fn run_detail(dir: &Path) -> RunDetail {
    let summary = runs()
        .into_iter()
        .find(|run| run.dir == dir)
        .unwrap_or_else(|| summary(dir.to_owned(), RunStatus::Finished, 240, 0.764));
    let (done, total) = (summary.step, summary.total_steps);
    let name_seed = summary.name.len() as u64;
    let writes = summary.name.starts_with("writer");
    let mut config = RunConfig { name: summary.name.clone(), ..config() };
    if writes {
        config.data.task = Task::Text;
    }
    let shifted = |s: u64| StepSample { step: s, ..step(s + 7 * name_seed % 40, total) };
    RunDetail {
        laws: Vec::new(),
        start: start_record(&config, 0),
        resumed: Vec::new(),
        history: (1..=done).map(|s| StepBucket::of(shifted(s))).collect(),
        evals: (1..=done / EVAL_EVERY).map(|i| eval(i * EVAL_EVERY, total)).collect(),
        samples: (0..=done / EVAL_EVERY).filter(|_| writes).map(|i| texts::samples(i * EVAL_EVERY, total)).collect(),
        gradient_health: gradient_health(10),
        end: (summary.status == RunStatus::Finished).then(|| end_record(EndReason::Finished, done)),
        routing: Some(routing(&config.mixture, done)),
        config,
        distances: (0..=done / EVAL_EVERY).map(|i| distances(i * EVAL_EVERY)).collect(),
        checkpoints: Checkpoints { steps: vec![done / 2, done], best: Some(done) },
        log: vec![format!("{done} steps of {total} done")],
        merges: Vec::new(),
        exports: Vec::new(),
        capsule: None,
        summary,
    }
}

/// The end of a run.
pub fn end_record(reason: EndReason, step: u64) -> EndRecord {
    let report = (reason == EndReason::Finished).then(|| eval_report(5));
    EndRecord { reason, step, seconds: 0.1 * step as f64, tokens_per_s: 16_000.0, report, best: Some((step, 0.764)) }
}

/// Written exports.
pub fn exports(plan: &ExportPlan) -> Vec<ExportReport> {
    let base = plan.dir.clone().unwrap_or_else(|| Path::new("runs/lab-demo").join("exports"));
    let export = |&target: &ExportTarget| ExportReport {
        target,
        dtype: plan.dtype,
        dir: base.join(target.as_str()),
        certificate: certificate(plan.dtype),
    };
    plan.targets.iter().map(export).collect()
}

fn certificate(dtype: NumberFormat) -> Certificate {
    let unit = [0.0, f64::powi(2.0, -12), f64::powi(2.0, -9), f64::powi(2.0, -8)][dtype as usize];
    let names = site_names()
        .into_iter()
        .flat_map(|site| ["down.weight", "down.bias", "up.weight", "up.bias"].map(|part| format!("{site}.{part}")));
    let tensor = |(i, name): (usize, String)| {
        let relative = unit * (0.6 + 0.4 * f64::from(noise(i as u64)));
        TensorCheck { name, max_abs_error: Some(0.09 * relative), max_rel_error: Some(relative), problem: None }
    };
    let exact = dtype == NumberFormat::F32;
    Certificate {
        format: "adamix-certificate".to_owned(),
        version: 1,
        created: "2026-09-21T14:13:20Z".to_owned(),
        tool: "adamix".to_owned(),
        step: Some(240),
        checkpoint: Some(Checkpoint::Best),
        passed: true,
        probe: ProbeResult {
            rows: 64,
            outputs: 2,
            max_abs_delta: Some(if exact { 0.0 } else { 2.1e-3 }),
            mean_abs_delta: Some(0.0),
            tolerance: if exact { 1e-5 } else { 2e-2 },
            ..ProbeResult::default()
        },
        tensors: names.chain(["classifier.out_proj.weight".to_owned()]).enumerate().map(tensor).collect(),
        files: vec![FileHash {
            name: "adapter.safetensors".to_owned(),
            bytes: 133_120,
            sha256: "9f2c51d06a7e4bb8".repeat(4),
        }],
        ..Certificate::default()
    }
}
