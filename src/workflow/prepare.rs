//! From settings to what a training starts from: the model and the rows or texts, read and checked.

use crate::config::{
    DeviceChoice, DtypeChoice, LAB, Method, MixtureConfig, ModelConfig, Problem, RunConfig, Task, TextConfig,
    TrainConfig, WRITER_LAB,
};
use crate::data::preview::{self, DataPreview};
use crate::data::text::{self, Layout, TextCodec, TextPreview};
use crate::data::{self, TaskData, TextTokenizer};
use crate::error::{Context as _, Error, ErrorKind, Result};
use crate::format;
use crate::machine::device::{self, Chosen};
use crate::model::gguf::GgufWeights;
use crate::model::{CausalLm, Classifier, EncoderSpec, LmSetup, LmSource, ModelSource, Setup};
use crate::model_store;
use crate::rng::SeedStream;
use crate::tensor::DType;
use crate::train::{ModelAndData, step};
use std::path::Path;

/// Everything a training starts from, read and checked.
#[derive(Debug)]
pub struct Prepared {
    /// The settings; what depends on the day is settled.
    pub config: RunConfig,
    /// Base model and mixture at step 0, and the rows or texts, encoded.
    pub subject: ModelAndData,
    /// What the user should know before it starts, in words.
    pub warnings: Vec<String>,
}

/// Reads the model and the data these settings name.
pub fn prepare(config: &RunConfig) -> Result<Prepared> {
    config.validate()?;
    let config = &pinned(config);
    if config.data.task == Task::Text {
        return prepare_texts(config);
    }
    let source = encoder(&config.model.path)?;
    let tokenizer = tokenizer(&source)?;
    let spec = &source.spec;
    check_fit(config, spec.max_length(), &Vocabulary { largest_id: tokenizer.max_word_id(), rows: spec.vocab_size })?;
    let task = data::load(&config.data, &tokenizer)?;
    for split in [&task.train, &task.dev] {
        let texts = split.rows.iter().zip(&split.encoded).map(|(row, text)| (row.text.as_str(), text.ids.as_slice()));
        check_tokens(texts, spec.vocab_size, |id| tokenizer.tokens(&[id]).concat())?;
    }
    let weighted = RunConfig {
        train: TrainConfig { class_weights: class_weights(config, &task)?, ..config.train.clone() },
        ..config.clone()
    };
    let config = &weighted;
    let (model, _, mut warnings) = where_it_fits(
        &config.model,
        device::choose(&config.model),
        |chosen| model_on(config, &source, &task, chosen),
        |model| step::is_finite(config, model, &task.train.batch(&[0])),
    )?;
    warnings.extend(scores(&config.mixture).into_iter().chain(task.notes.iter().cloned()));
    Ok(Prepared { config: config.clone(), subject: ModelAndData::Classifier(model, task), warnings })
}

/// What is to be known of experts that do not count the same.
fn scores(mixture: &MixtureConfig) -> Option<String> {
    let unlike = mixture.merge_weights.iter().filter(|list| list.windows(2).any(|pair| pair[0] != pair[1])).count();
    (unlike > 0).then(|| {
        format!(
            "the imported experts have scores of their own at {unlike} of {} modules; merging weighs them so (give equal weights for the mean)",
            mixture.merge_weights.len()
        )
    })
}

/// The same settings with the model by a name that means the same when the run goes on, whatever was fetched since.
fn pinned(config: &RunConfig) -> RunConfig {
    let mut config = config.clone();
    config.model.path = model_store::pinned(&config.model.path);
    config
}

fn prepare_texts(config: &RunConfig) -> Result<Prepared> {
    let source = decoder(&config.model.path)?;
    let codec = text_codec(&config.model.path)?;
    let vocabulary = Vocabulary { largest_id: codec.max_word_id(), rows: source.spec.vocab_size };
    check_fit(config, source.spec.max_length(), &vocabulary)?;
    // Today is another day when the run goes on.
    let date = if config.text.date.trim().is_empty() { text::today() } else { config.text.date.clone() };
    let dated = TextConfig { date, ..config.text.clone() };
    let data = text::load(&config.data, &dated, &codec)?;
    for split in [&data.train, &data.dev] {
        let texts = split.encoded.iter().map(|text| (split.examples[text.example].answer(), text.ids.as_slice()));
        check_tokens(texts, source.spec.vocab_size, |id| codec.token(id))?;
    }
    let mut config = config.clone();
    if matches!(data.encoder.layout, Layout::Chat(_)) {
        config.text = dated;
    }
    let (model, chosen, mut warnings) = where_it_fits(
        &config.model,
        device::choose(&config.model),
        |chosen| lm_on(&config.model.path, lm_setup(&config), &source, chosen),
        |model| step::is_finite(&config, model, &data.train.batch(&[0])),
    )?;
    warnings.extend(widened(&source, &chosen).into_iter().chain(scores(&config.mixture)));
    warnings.extend(data.notes.iter().cloned());
    for split in [&data.train, &data.dev] {
        if split.unlearned > 0 {
            warnings.push(format!(
                "{} texts have nothing left to learn within {} tokens (max_length) and are left out: {}",
                split.unlearned, config.data.max_length, split.file
            ));
        }
    }
    Ok(Prepared { config, subject: ModelAndData::Lm(model, data), warnings })
}

/// Parameters of the base model that each token passes through, before anything large is read.
pub(crate) fn matmul_parameters(config: &RunConfig) -> Result<usize> {
    Ok(match config.data.task {
        Task::Text => decoder(&config.model.path)?.spec.matmul_parameters(),
        _ => encoder(&config.model.path)?.spec.matmul_parameters(),
    })
}

/// What is in the data these settings name, counted with the tokenizer of their model.
pub fn preview(config: &RunConfig) -> Result<DataPreview> {
    let tokenizer = tokenizer(&encoder(&config.model.path)?)?;
    preview::preview(&config.data, Some(&tokenizer))
}

/// What is in the texts these settings name, token by token for some `examples` of each split.
pub fn text_preview(config: &RunConfig, examples: usize) -> Result<TextPreview> {
    text::preview(&config.data, &config.text, &text_codec(&config.model.path)?, examples)
}

/// The tokenizer of a model that writes: a directory in Hugging Face layout or a GGUF file.
pub fn text_codec(path: &str) -> Result<TextCodec> {
    refuse_lab(path)?;
    TextCodec::open(&model_store::locate(path)?)
}

fn refuse_lab(path: &str) -> Result<()> {
    if path == LAB {
        return Err(Error::config(
            "the lab's encoder does not write; choose a language model with --model, such as writer-lab, the bundled one",
        ));
    }
    Ok(())
}

/// The tokenizer that belongs to a model.
pub fn tokenizer(source: &ModelSource) -> Result<TextTokenizer> {
    match source.dir.as_deref() {
        Some(dir) => TextTokenizer::from_file(dir),
        None => TextTokenizer::lab(),
    }
}

/// Opens the model of a task with labels.
pub(crate) fn encoder(path: &str) -> Result<ModelSource> {
    if LmSource::reads(&config_json(path)) {
        return Err(Error::config(format!(
            "this is a language model, and a task with labels needs an encoder such as BERT or RoBERTa; for texts to \
             learn from choose data.task text: {path}"
        )));
    }
    ModelSource::open(path)
}

/// Opens a model if it is a language model.
pub(crate) fn language_model_source(path: &str) -> Result<Option<LmSource>> {
    let is_file = path != LAB && model_store::locate(path)?.is_file();
    let writes = is_file || LmSource::reads(&config_json(path));
    writes.then(|| LmSource::open(Path::new(path))).transpose()
}

/// Opens the model of a task of texts: a directory in Hugging Face layout or whatever else holds one.
pub(crate) fn decoder(path: &str) -> Result<LmSource> {
    refuse_lab(path)?;
    if EncoderSpec::from_json(&config_json(path)).is_ok() {
        return Err(Error::config(format!(
            "this model is an encoder, which does not write; with data.task text choose a GPT-2, Llama, Mistral or Qwen \
             model, or for this model a task with labels: {path}"
        )));
    }
    LmSource::open(Path::new(path))
}

/// A directory's `config.json`; empty where there is none, which whoever opens the model says better.
fn config_json(path: &str) -> String {
    if path == WRITER_LAB {
        return LmSource::bundled_config().to_owned();
    }
    let found = model_store::locate(path).and_then(|dir| {
        let config = dir.join("config.json");
        std::fs::read_to_string(&config).map_err(|err| Error::io("reading the model's config", &config, err))
    });
    found.unwrap_or_default()
}

/// What the tokenizer can give and the model can take.
struct Vocabulary {
    /// Largest id of the tokenizer, without added tokens.
    largest_id: u32,
    /// Rows of the model's table of word embeddings.
    rows: usize,
}

fn check_fit(config: &RunConfig, longest: usize, vocabulary: &Vocabulary) -> Result<()> {
    let length = config.data.max_length;
    if length > longest {
        return Err(Error::config(format!(
            "max_length is {length}, but this model reads at most {longest} tokens; choose {longest} or less"
        )));
    }
    let &Vocabulary { largest_id, rows } = vocabulary;
    if largest_id as usize >= rows {
        return Err(Error::format(format!(
            "the tokenizer makes token {largest_id}, but the model knows only {rows}; they do not belong together"
        )));
    }
    Ok(())
}

/// What each class counts, in numbers: `balanced` as the rows divided by the classes and by the rows of the class, so that
/// the mean over the rows is 1.
fn class_weights(config: &RunConfig, task: &TaskData) -> Result<String> {
    let given = config.train.class_weights.trim();
    if given.is_empty() {
        return Ok(String::new());
    }
    if task.problem == Problem::Regression {
        return Err(Error::config("class_weights are for classes, and a number is predicted here; leave them empty"));
    }
    let classes = task.labels.len();
    if let Some(list) = config.train.class_weights() {
        if list.len() != classes {
            return Err(Error::config(format!(
                "class_weights has {} numbers for {classes} classes ({}); give one for each, in this order",
                list.len(),
                task.labels.join(", ")
            )));
        }
        return Ok(given.to_owned());
    }
    let mut counts = vec![0usize; classes];
    for class in task.train.rows.iter().filter_map(|row| row.target.class()) {
        if let Some(count) = counts.get_mut(class as usize) {
            *count += 1;
        }
    }
    let of = |count: usize| if count == 0 { 1.0 } else { task.train.len() as f64 / (classes * count) as f64 };
    Ok(counts.into_iter().map(|count| of(count).to_string()).collect::<Vec<_>>().join(","))
}

/// Refuses the first text that holds a token for which the model has no row: a tokenizer may know a few more tokens than
/// its model, which no other text needs.
fn check_tokens<'a>(
    texts: impl Iterator<Item = (&'a str, &'a [u32])>,
    rows: usize,
    name: impl Fn(u32) -> String,
) -> Result<()> {
    for (text, ids) in texts {
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= rows) {
            return Err(Error::data(format!(
                "a text holds {:?} (token {id}), for which the model has no row (it has {rows}); take it out of the text {:?}",
                name(id),
                text.chars().take(80).collect::<String>()
            )));
        }
    }
    Ok(())
}

/// Base model, mixture and head for a task, at step 0.
pub fn model(config: &RunConfig, source: &ModelSource, task: &TaskData) -> Result<Classifier> {
    alone(where_it_fits(
        &config.model,
        device::choose(&config.model),
        |chosen| model_on(config, source, task, chosen),
        |_| Ok(true),
    ))
}

/// The model alone; what was to be known goes to the log.
fn alone<M>(loaded: Result<(M, Chosen, Vec<String>)>) -> Result<M> {
    let (model, _, warnings) = loaded?;
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    Ok(model)
}

fn model_on(config: &RunConfig, source: &ModelSource, task: &TaskData, chosen: &Chosen) -> Result<Classifier> {
    let outputs = match task.problem {
        Problem::Classification => task.labels.len(),
        Problem::Regression => 1,
    };
    let spec = &source.spec;
    device::check_room(chosen, spec.matmul_parameters() + spec.vocab_size * spec.hidden_size, None)?;
    let seed = SeedStream::new(config.train.seed);
    let setup = Setup { method: config.model.method, mixture: &config.mixture, outputs, seed };
    let load = || Classifier::load(source.spec.clone(), &source.weights, &setup, chosen.dtype, &chosen.device);
    load().with_context(|| format!("loading the model {}", source.name()))
}

/// A model where and in the format these settings ask for; what was chosen for the user gives way: f16 to f32 where weights or
/// sums leave its range, a GPU that has no room for it to the CPU. -> the model, where it is, and what the user should know
pub(super) fn where_it_fits<M>(
    config: &ModelConfig,
    mut chosen: Chosen,
    load: impl Fn(&Chosen) -> Result<M>,
    is_finite: impl Fn(&M) -> Result<bool>,
) -> Result<(M, Chosen, Vec<String>)> {
    let mut warnings: Vec<String> = chosen.warning.take().into_iter().collect();
    loop {
        let is_free = chosen.dtype == DType::F16 && config.dtype == DtypeChoice::Auto;
        let loaded = load(&chosen).and_then(|model| {
            if is_free && !is_finite(&model)? {
                return Err(Error::new(ErrorKind::Numerics, "the model's sums leave the range of f16"));
            }
            Ok(model)
        });
        let err = match loaded {
            Ok(model) => return Ok((model, chosen, warnings)),
            Err(err) => err,
        };
        if err.kind() == ErrorKind::Numerics && is_free {
            warnings.push(format!("{err}; computing in f32"));
            chosen.dtype = DType::F32;
        } else if matches!(err.kind(), ErrorKind::Config | ErrorKind::Device)
            && config.device == DeviceChoice::Auto
            && !chosen.device.is_cpu()
        {
            warnings.push(format!("{err}; computing on the CPU"));
            chosen = device::choose(&ModelConfig { device: DeviceChoice::Cpu, ..config.clone() });
        } else {
            return Err(err);
        }
    }
}

/// Base model and mixture of a language model, at step 0.
pub fn language_model(config: &RunConfig, source: &LmSource) -> Result<CausalLm> {
    alone(where_it_fits(
        &config.model,
        device::choose(&config.model),
        |chosen| lm_on(&config.model.path, lm_setup(config), source, chosen),
        |_| Ok(true),
    ))
}

/// Values of a language model's matrices and tables.
fn base_values(source: &LmSource) -> usize {
    let spec = &source.spec;
    let tables = if spec.tied { 1 } else { 2 };
    spec.matmul_parameters() + tables * spec.vocab_size * spec.hidden_size
}

/// What the user should know where the matrices of a GGUF file do not stay as they are.
pub(super) fn widened(source: &LmSource, chosen: &Chosen) -> Option<String> {
    if !chosen.device.is_cuda() || source.weights.gguf().is_none() {
        return None;
    }
    let size = format::bytes((base_values(source) * chosen.dtype.size_in_bytes()) as u64);
    Some(format!(
        "on {} the file's quantised weights are widened to {}: they take about {size} there",
        device::name(&chosen.device),
        chosen.dtype.as_str()
    ))
}

fn lm_setup(config: &RunConfig) -> LmSetup<'_> {
    let mixture = (config.model.method == Method::Adamix).then_some(&config.mixture);
    LmSetup { mixture, seed: SeedStream::new(config.train.seed) }
}

/// A language model of this name where and in the format that was chosen; an error where it has no room there.
pub(super) fn lm_on(name: &str, setup: LmSetup<'_>, source: &LmSource, chosen: &Chosen) -> Result<CausalLm> {
    let stored = source.weights.gguf().filter(|_| !chosen.device.is_cuda()).map(GgufWeights::stored_bytes);
    device::check_room(chosen, base_values(source), stored)?;
    let load = || CausalLm::load(source.spec.clone(), &source.weights, setup, chosen.dtype, &chosen.device);
    load().with_context(|| format!("loading the model {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::kernels::product::ProductPlan;
    use crate::gpu::{AdapterKind, Backend as _, Recording};
    use crate::tensor::{Device, Gpu};
    use std::cell::RefCell;
    use std::sync::Arc;

    /// What was tried and what came out, of a model that goes where `fits` says.
    fn tried(
        config: &ModelConfig,
        fits: impl Fn(&str, DType) -> Result<bool>,
    ) -> (Vec<String>, Result<(String, Vec<String>)>) {
        let backend = Arc::new(Recording::like(AdapterKind::Discrete));
        let plan = ProductPlan::of(backend.facts());
        let (device, warning) = (Device::Gpu(Gpu::new(0, backend, plan)), Some("a word before".to_owned()));
        let tries = RefCell::new(Vec::new());
        let load = |chosen: &Chosen| {
            let place = format!("{} {}", chosen.device, chosen.dtype.as_str());
            tries.borrow_mut().push(place.clone());
            fits(&chosen.device.to_string(), chosen.dtype).map(|is_finite| (place, is_finite))
        };
        let chosen = Chosen { device, dtype: DType::F16, warning };
        let done = where_it_fits(config, chosen, load, |(_, is_finite)| Ok(*is_finite));
        let done = done.map(|((place, _), chosen, warnings)| {
            assert_eq!(place, format!("{} {}", chosen.device, chosen.dtype.as_str()));
            (place, warnings)
        });
        (tries.into_inner(), done)
    }

    #[test]
    fn what_was_chosen_for_the_user_gives_way() {
        let auto = ModelConfig::default();
        let (tries, done) = tried(&auto, |_, _| Ok(true));
        assert_eq!((tries.len(), done.unwrap()), (1, ("gpu:0 f16".to_owned(), vec!["a word before".to_owned()])));

        // A weight, or the loss, beyond f16.
        let weight = |_: &str, dtype| match dtype {
            DType::F16 => Err(Error::new(ErrorKind::Numerics, "a weight of 70000")),
            _ => Ok(true),
        };
        let (tries, done) = tried(&auto, weight);
        assert_eq!(tries, ["gpu:0 f16", "gpu:0 f32"]);
        assert_eq!(done.unwrap().1, ["a word before", "a weight of 70000; computing in f32"]);
        let (tries, done) = tried(&auto, |_, dtype| Ok(dtype == DType::F32));
        assert_eq!(tries, ["gpu:0 f16", "gpu:0 f32"]);
        assert!(done.unwrap().1[1].contains("range of f16"));

        // No room, nor in f32.
        let full = |device: &str, dtype| match (device, dtype) {
            ("cpu", _) => Ok(true),
            (_, DType::F16) => Ok(false),
            _ => Err(Error::config("no room")),
        };
        let (tries, done) = tried(&auto, full);
        assert_eq!(tries, ["gpu:0 f16", "gpu:0 f32", "cpu f32"]);
        assert_eq!(done.unwrap().1[2], "no room; computing on the CPU");
        // What is wrong everywhere is told, not retried for ever.
        let (tries, done) = tried(&auto, |_, _| Err(Error::config("no such tensor")));
        assert_eq!(tries, ["gpu:0 f16", "cpu f32"]);
        assert_eq!(done.unwrap_err().to_string(), "no such tensor");
        let (tries, done) = tried(&auto, |_, _| Err(Error::data("not a model")));
        assert_eq!((tries.len(), done.unwrap_err().to_string()), (1, "not a model".to_owned()));
    }

    #[test]
    fn what_was_asked_for_does_not() {
        let asked = ModelConfig { device: DeviceChoice::Gpu(0), dtype: DtypeChoice::F16, ..ModelConfig::default() };
        let (tries, done) = tried(&asked, |_, _| Err(Error::config("no room")));
        assert_eq!((tries.len(), done.unwrap_err().to_string()), (1, "no room".to_owned()));
        let (tries, done) = tried(&asked, |_, _| Ok(false));
        assert_eq!((tries.len(), done.unwrap().0), (1, "gpu:0 f16".to_owned()));
    }
}
