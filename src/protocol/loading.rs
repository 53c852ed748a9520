//! How other programs load an export: short texts to copy, made of the files that were written.

use crate::config::Task;
use crate::protocol::{ExportReport, ExportTarget};
use std::path::Path;

/// A text for one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadingSnippet {
    /// The program or library.
    pub program: &'static str,
    /// What is typed there.
    pub text: String,
    /// The files of the export that the text names, or that the program looks for by itself.
    pub files: Vec<String>,
}

/// What is known of the run that was exported.
#[derive(Clone, Copy, Debug)]
pub struct ExportedRun<'a> {
    /// The base model as in the settings.
    pub model: &'a str,
    /// The task.
    pub task: Task,
    /// Outputs of a classifier.
    pub outputs: usize,
}

impl ExportedRun<'_> {
    fn auto_class(&self) -> &'static str {
        if self.task == Task::Text { "AutoModelForCausalLM" } else { "AutoModelForSequenceClassification" }
    }

    /// Python that loads base model and tokenizer.
    fn base(&self) -> String {
        let class = self.auto_class();
        let labels = if self.task == Task::Text { String::new() } else { format!(", num_labels={}", self.outputs) };
        let path = Path::new(self.model);
        if is_gguf(self.model) {
            let (dir, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
            let (dir, name) = (python(&dir.display().to_string()), python(&name.to_string_lossy()));
            return format!(
                "base = {class}.from_pretrained({dir}, gguf_file={name}{labels})\n\
                 tokenizer = AutoTokenizer.from_pretrained({dir}, gguf_file={name})\n"
            );
        }
        let model = python(self.model);
        let bundled = match self.model {
            crate::config::LAB | crate::config::WRITER_LAB => {
                "# The base model is bundled with AdaMix and is in no hub: name a directory that holds it.\n"
            }
            _ => "",
        };
        format!(
            "{bundled}base = {class}.from_pretrained({model}{labels})\n\
             tokenizer = AutoTokenizer.from_pretrained({model})\n"
        )
    }
}

fn is_gguf(model: &str) -> bool {
    Path::new(model).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// A string of Python, which writes it as JSON does.
fn python(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A word for a shell.
fn shell(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// How this export is loaded, one text for each program that reads it.
pub fn snippets(report: &ExportReport, run: ExportedRun<'_>) -> Vec<LoadingSnippet> {
    let named: Vec<String> = report.certificate.files.iter().map(|file| file.name.clone()).collect();
    let has = |name: &str| named.iter().find(|file| *file == name).cloned();
    let dir = python(&report.dir.display().to_string());
    let one = |program, text: String, files: Vec<String>| LoadingSnippet { program, text, files };
    match report.target {
        ExportTarget::Merged | ExportTarget::Experts => {
            let Some(file) = named.iter().find(|file| file.ends_with(".safetensors")) else { return Vec::new() };
            let path = python(&report.dir.join(file).display().to_string());
            let text = format!(
                "from safetensors import safe_open\n\n\
                 with safe_open({path}, framework=\"pt\") as file:\n    \
                 print(file.metadata())\n    \
                 tensors = {{name: file.get_tensor(name) for name in file.keys()}}\n"
            );
            vec![one("safetensors", text, vec![file.clone()])]
        }
        ExportTarget::AdapterHub => {
            let model = python(run.model);
            let text = format!(
                "# pip install adapters\n\
                 from adapters import AutoAdapterModel\n\
                 from transformers import AutoTokenizer\n\n\
                 model = AutoAdapterModel.from_pretrained({model})\n\
                 tokenizer = AutoTokenizer.from_pretrained({model})\n\
                 name = model.load_adapter({dir}, use_safetensors=True)\n\
                 model.set_active_adapters(name)\n"
            );
            vec![one("AdapterHub", text, named)]
        }
        ExportTarget::Peft => {
            let text = format!(
                "# pip install peft\n\
                 from peft import PeftModel\n\
                 from transformers import {}, AutoTokenizer\n\n{}\
                 model = PeftModel.from_pretrained(base, {dir})\n",
                run.auto_class(),
                run.base()
            );
            vec![one("PEFT", text, named)]
        }
        ExportTarget::PeftExperts => {
            let experts = experts_of(&named);
            let expert = |n: usize| python(&report.dir.join(format!("expert_{n}")).display().to_string());
            let mut text = format!(
                "# pip install peft\n\
                 from peft import PeftModel\n\
                 from transformers import {}, AutoTokenizer\n\n{}\
                 model = PeftModel.from_pretrained(base, {}, adapter_name=\"expert_0\")\n",
                run.auto_class(),
                run.base(),
                expert(0)
            );
            for n in 1..experts {
                text.push_str(&format!("model.load_adapter({}, adapter_name=\"expert_{n}\")\n", expert(n)));
            }
            text.push_str("model.set_adapter(\"expert_0\")  # or another\n");
            vec![one("PEFT", text, named)]
        }
        ExportTarget::Hf => {
            let class = run.auto_class();
            let text = format!(
                "# pip install transformers\n\
                 from transformers import {class}, AutoTokenizer\n\n\
                 model = {class}.from_pretrained({dir})\n\
                 tokenizer = AutoTokenizer.from_pretrained({dir})\n"
            );
            vec![one("transformers", text, named)]
        }
        ExportTarget::GgufAdapter => {
            let Some(file) = has("adapter.gguf") else { return Vec::new() };
            let path = report.dir.join(&file);
            let (note, base) = gguf_base(run.model);
            let (llama, modelfile) = (
                format!("{note}llama-cli -m {} --lora {} -p 'Your prompt'\n", shell(&base), shell(&path)),
                format!("{note}FROM {}\nADAPTER {}\n", base.display(), path.display()),
            );
            vec![one("llama.cpp", llama, vec![file.clone()]), one("ollama", ollama(&modelfile), vec![file])]
        }
        ExportTarget::Gguf => {
            let Some(file) = has("model.gguf") else { return Vec::new() };
            let path = report.dir.join(&file);
            let llama = format!("llama-cli -m {} -p 'Your prompt'\n", shell(&path));
            let modelfile = format!("FROM {}\n", path.display());
            vec![one("llama.cpp", llama, vec![file.clone()]), one("ollama", ollama(&modelfile), vec![file])]
        }
    }
}

/// A Modelfile with what is typed to use it.
fn ollama(modelfile: &str) -> String {
    format!(
        "# Save these lines as Modelfile, then: ollama create my-model -f Modelfile && ollama run my-model\n{modelfile}"
    )
}

/// The base model as a GGUF file, and what to do where it is none.
fn gguf_base(model: &str) -> (String, std::path::PathBuf) {
    if is_gguf(model) {
        return (String::new(), model.into());
    }
    let note = format!(
        "# llama.cpp reads GGUF: first convert_hf_to_gguf.py {} --outfile base.gguf\n",
        shell(Path::new(model))
    );
    (note, "base.gguf".into())
}

/// How many directories of experts there are.
fn experts_of(files: &[String]) -> usize {
    (0..).take_while(|n| files.iter().any(|file| file.starts_with(&format!("expert_{n}/")))).count()
}
