//! A language model opened for writing: from a Hugging Face directory or a GGUF file.

use crate::config::{DataConfig, ModelConfig, TextConfig, TextFormat};
use crate::data::text::{Example, Layout, Role, TextCodec, TextEncoder, Turn};
use crate::error::{Context as _, Error, Result};
use crate::eval::generate::{GenerateOptions, Generated, Hooks, generate};
use crate::machine::device;
use crate::model::{CausalLm, LmSetup, LmSource, Packed};
use crate::protocol::{PlayPlan, PlayTurn};
use crate::rng::SeedStream;
use crate::tensor::to_f32;
use crate::workflow::prepare;
use std::path::Path;

/// A model that writes, with its tokenizer.
#[derive(Debug)]
pub struct TextGenerator {
    /// The model.
    pub model: CausalLm,
    /// Text to tokens and back.
    pub codec: TextCodec,
    /// Where it runs, in words.
    pub device: String,
    /// Why it is not the device that was asked for, and what to do.
    pub warning: Option<String>,
}

impl TextGenerator {
    /// Opens a base model on the device that the settings ask for.
    pub fn open(path: &Path, config: &ModelConfig) -> Result<Self> {
        let source = LmSource::open(path)?;
        let codec = TextCodec::open(&source.dir)?;
        let setup = LmSetup { mixture: None, seed: SeedStream::new(0) };
        let name = path.display().to_string();
        let (model, place, warnings) = prepare::where_it_fits(
            config,
            device::choose(config),
            |chosen| prepare::lm_on(&name, setup, &source, chosen),
            reads_a_token,
        )?;
        let generator = Self::new(model, codec, device::name(&place.device)).context(name)?;
        let warnings: Vec<String> = warnings.into_iter().chain(prepare::widened(&source, &place)).collect();
        Ok(Self { warning: (!warnings.is_empty()).then(|| warnings.join("; ")), ..generator })
    }

    /// A model with its tokenizer; an error where they do not fit together.
    pub fn new(model: CausalLm, codec: TextCodec, device: String) -> Result<Self> {
        let (largest, known) = (codec.max_word_id() as usize, model.base.spec.vocab_size);
        if largest >= known {
            return Err(Error::format(format!(
                "the tokenizer has a token {largest}, but the model knows {known}; they belong to different models"
            )));
        }
        Ok(Self { model, codec, device, warning: None })
    }

    /// The tokens of a text that is to be continued.
    pub fn text_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids: Vec<u32> = self.codec.specials.bos.filter(|_| self.codec.add_bos()).into_iter().collect();
        ids.extend(self.codec.encode(text)?);
        if ids.is_empty() {
            // An empty text is continued from the token that starts (or ends) texts.
            ids.extend(self.codec.specials.bos.or(self.codec.specials.eos));
        }
        Ok(ids)
    }

    /// The tokens of a question, put by the model's own chat template.
    pub fn chat_prompt(&self, system: Option<&str>, question: &str) -> Result<Vec<u32>> {
        self.chat_encoder()?.prompt(&conversation(system, &[], question))
    }

    /// The model's own chat template.
    fn chat_encoder(&self) -> Result<TextEncoder> {
        let text = TextConfig { template: "model".to_owned(), ..TextConfig::default() };
        TextEncoder::new(&self.codec, TextFormat::Messages, &DataConfig::default(), &text)
    }

    /// The tokens of a conversation. With `plan.chat` by the chat template that the model was trained with (`layout`), else
    /// by its own; otherwise as `layout` puts texts without a template, else the prompt is continued as it stands.
    pub fn conversation_prompt(&self, layout: Option<&TextEncoder>, plan: &PlayPlan) -> Result<Vec<u32>> {
        let by_template = |layout: &&TextEncoder| matches!(layout.layout, Layout::Chat(_));
        if plan.chat {
            let system = Some(plan.system.trim()).filter(|system| !system.is_empty());
            let example = conversation(system, &plan.earlier, &plan.prompt);
            return match layout.filter(by_template) {
                Some(trained) => trained.prompt(&example),
                None => self.chat_encoder()?.prompt(&example),
            };
        }
        match layout.filter(|layout| !by_template(layout) && !matches!(layout.layout, Layout::Text)) {
            Some(layout) => layout.prompt(&conversation(None, &plan.earlier, &plan.prompt)),
            None if plan.earlier.is_empty() => self.text_prompt(&plan.prompt),
            None => Err(Error::config(
                "several turns need a chat template; turn Chat template on, or remove the earlier turns",
            )),
        }
    }

    /// The tokens of a question: with `chat` by the chat template that the model was trained with (`layout`), else by its own;
    /// otherwise as `layout` puts it, or else as a text that is continued.
    pub fn prompt(
        &self,
        layout: Option<&TextEncoder>,
        (chat, system): (bool, Option<&str>),
        question: &str,
    ) -> Result<Vec<u32>> {
        match layout {
            Some(trained) if chat && matches!(trained.layout, Layout::Chat(_)) => {
                trained.prompt(&conversation(system, &[], question))
            }
            _ if chat => self.chat_prompt(system, question),
            Some(layout) if !matches!(layout.layout, Layout::Text) => {
                let turns = vec![Turn::new(Role::User, question), Turn::new(Role::Assistant, "")];
                layout.prompt(&Example::new(turns, 1))
            }
            _ => self.text_prompt(question),
        }
    }

    /// Tokens that end a text: the tokenizer's and the model's.
    pub fn stops(&self) -> Vec<u32> {
        stop_ids(&self.model, &self.codec)
    }

    /// Continues every prompt.
    pub fn write(
        &self,
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
        hooks: &mut Hooks<'_>,
    ) -> Result<Vec<Generated>> {
        generate(&self.model, prompts, Some(&self.codec), options, hooks)
    }
}

/// Whether what the model makes of one token are finite numbers: in f16 the sums of some models leave its range.
fn reads_a_token(model: &CausalLm) -> Result<bool> {
    let batch = Packed { ids: &[0], offsets: &[0, 1] };
    let logits = to_f32(&model.logits(batch, None, None)?)?;
    Ok(logits.iter().all(|logit| logit.is_finite()))
}

/// A conversation whose last answer is still to come.
fn conversation(system: Option<&str>, earlier: &[PlayTurn], question: &str) -> Example {
    let mut turns: Vec<Turn> = system.map(|system| Turn::new(Role::System, system)).into_iter().collect();
    for PlayTurn { question, answer } in earlier {
        turns.extend([Turn::new(Role::User, question), Turn::new(Role::Assistant, answer)]);
    }
    turns.extend([Turn::new(Role::User, question), Turn::new(Role::Assistant, "")]);
    Example::new(turns, 1)
}

/// Tokens that end a text: the tokenizer's and the model's.
pub(crate) fn stop_ids(model: &CausalLm, codec: &TextCodec) -> Vec<u32> {
    let mut stops = codec.specials.stops.clone();
    stops.extend(model.base.spec.eos.iter().filter(|id| !codec.specials.stops.contains(id)));
    stops
}
