//! What an export says about how it is loaded names files that are there.

use super::exports::letters;
use super::shipping::with_settings;
use crate::support::place::Place;
use adamix::artifact::RunDir;
use adamix::config::{MixtureKind, RunConfig};
use adamix::protocol::loading::{ExportedRun, snippets};
use adamix::protocol::{Checkpoint, ExportPlan, ExportReport, ExportTarget, MergePlan, NumberFormat};
use adamix::train::{Control, NullObserver};
use adamix::workflow::run::{self, Run};
use adamix::workflow::saved_run::Opened;

/// Every export that fits the run, made and read.
fn exports(opened: &Opened) -> Vec<ExportReport> {
    let RunConfig { data, mixture, .. } = &opened.config;
    let targets = ExportTarget::all().filter(|target| target.refusal(data.task, mixture.kind).is_none()).collect();
    opened.export(&ExportPlan { targets, dtype: NumberFormat::F32, merge: MergePlan::Uniform, dir: None }).unwrap()
}

#[track_caller]
fn assert_names_what_is_there(opened: &Opened) -> Vec<(ExportTarget, &'static str)> {
    let mut seen = Vec::new();
    for report in exports(opened) {
        let RunConfig { model, data, .. } = &opened.config;
        let found = snippets(&report, ExportedRun { model: &model.path, task: data.task, outputs: 2 });
        assert!(!found.is_empty(), "{:?} says nothing", report.target);
        for snippet in found {
            assert!(!snippet.files.is_empty(), "{snippet:?}");
            for file in &snippet.files {
                assert!(report.dir.join(file).is_file(), "{file} of {snippet:?} is not there");
            }
            // A text names the directory of the export, or one file in it: and such a path leads somewhere.
            let text = &snippet.text;
            let words =
                text.split(['"', '\'', '\n']).flat_map(|part| [part, part.rsplit(' ').next().unwrap_or_default()]);
            let dir = report.dir.display().to_string();
            let paths: Vec<&str> = words.filter(|word| word.starts_with(&dir)).collect();
            assert!(!paths.is_empty(), "{text} does not say where the files are");
            for path in paths {
                assert!(std::path::Path::new(path).exists(), "{path} is not there:\n{text}");
            }
            seen.push((report.target, snippet.program));
        }
    }
    seen
}

fn trained(config: &RunConfig) -> Opened {
    let mut run = Run::start(run::prepare(config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    let dir = run.dir().clone();
    drop(run);
    Opened::open(&dir, Checkpoint::Best).unwrap()
}

#[test]
fn a_classifier_s_exports() {
    let place = Place::new();
    let mut config = place.config(2);
    let adapters = assert_names_what_is_there(&trained(&config));
    assert!(adapters.contains(&(ExportTarget::AdapterHub, "AdapterHub")), "{adapters:?}");
    (config.mixture.kind, config.mixture.lora_rank) = (MixtureKind::Lora, 2);
    let loras = assert_names_what_is_there(&trained(&config));
    for wanted in
        [(ExportTarget::Peft, "PEFT"), (ExportTarget::PeftExperts, "PEFT"), (ExportTarget::Hf, "transformers")]
    {
        assert!(loras.contains(&wanted), "{wanted:?} is missing in {loras:?}");
    }
}

#[test]
fn a_language_model_s_exports() {
    let place = letters("llama-tiny");
    let words = "train --name texts --kind lora --num-experts 2 --lora-rank 2 --batch-size 4 --max-steps 2 \
                 --random-routes 1 --samples 0";
    with_settings(&place, &words.split_whitespace().collect::<Vec<_>>());
    let opened = Opened::open(&RunDir::open(&place.path("runs/texts")).unwrap(), Checkpoint::Best).unwrap();
    let seen = assert_names_what_is_there(&opened);
    for target in [ExportTarget::GgufAdapter, ExportTarget::Gguf] {
        for program in ["llama.cpp", "ollama"] {
            assert!(seen.contains(&(target, program)), "{program} for {target:?} is missing in {seen:?}");
        }
    }
}
