//! How a language model is asked: its chat template, the system message it was trained with, and inputs of its
//! evaluation texts. Nothing here needs the model's weights.

use crate::config::{RunConfig, Task};
use crate::data::text::{self, Example, Layout, Role, TextCodec, TextEncoder};
use crate::error::{Error, Result};
use crate::model_store;
use crate::protocol::{PlayTurn, PromptInfo, PromptText, TemplateUse};
use crate::train::ModelAndData;
use crate::workflow::prepare;

/// Texts offered at most, and where a run answers none while it trains.
const TEXTS: usize = 5;
const USUAL: usize = 3;
/// Tokens of a plain text that are given to be continued.
const OPENING: usize = 16;

/// Of a run whose model and data are in memory.
pub fn of_run(subject: &ModelAndData, config: &RunConfig) -> Result<PromptInfo> {
    let Some((_, data)) = subject.language_model() else { return Err(no_writer()) };
    describe(&data.encoder, [&data.train.examples, &data.dev.examples], config.eval.samples)
}

/// Of a run on disk: from its settings, without its model.
pub fn of_settings(config: &RunConfig) -> Result<PromptInfo> {
    if config.data.task != Task::Text {
        return Err(no_writer());
    }
    let codec = prepare::text_codec(&config.model.path)?;
    let (encoder, [train, dev]) = text::examples(&config.data, &config.text, &codec)?;
    describe(&encoder, [&train, &dev], config.eval.samples)
}

/// Of a model without a run.
pub fn of_model(path: &str) -> Result<PromptInfo> {
    let codec = TextCodec::open(&model_store::locate(path)?)?;
    let template = if codec.specials.chat_template.is_some() { TemplateUse::Present } else { TemplateUse::Absent };
    Ok(PromptInfo { template, without: "continued as it is typed".to_owned(), ..PromptInfo::default() })
}

fn no_writer() -> Error {
    Error::config("this run's model gives classes and does not write; open a run of a language model")
}

fn describe(encoder: &TextEncoder, [train, dev]: [&[Example]; 2], samples: usize) -> Result<PromptInfo> {
    let trained = matches!(encoder.layout, Layout::Chat(_));
    let template = match encoder.codec.specials.chat_template {
        _ if trained => TemplateUse::Trained,
        Some(_) => TemplateUse::Present,
        None => TemplateUse::Absent,
    };
    let without = match encoder.layout {
        Layout::Chat(_) | Layout::Text => "continued as it is typed",
        _ => encoder.layout.describe(),
    };
    Ok(PromptInfo {
        template,
        without: without.to_owned(),
        turns_without: matches!(encoder.layout, Layout::Turns),
        system: constant_system(train),
        texts: texts(encoder, dev, if samples == 0 { USUAL } else { samples.min(TEXTS) })?,
    })
}

/// The system message that all of these conversations have.
fn constant_system(examples: &[Example]) -> Option<String> {
    let mut all = examples.iter().map(system);
    let first = all.next()??;
    all.all(|other| other == Some(first)).then(|| first.to_owned())
}

fn system(example: &Example) -> Option<&str> {
    example.turns.iter().find(|turn| turn.role == Role::System).map(|turn| turn.text.as_str())
}

/// Some different inputs, evenly spread as the samples during training; of plain texts their beginnings.
fn texts(encoder: &TextEncoder, examples: &[Example], wanted: usize) -> Result<Vec<PromptText>> {
    let inputs = text::example::inputs(examples);
    let spread = |all: usize| (0..wanted.min(all)).map(move |number| number * all / wanted.min(all));
    if inputs.is_empty() {
        let beginning = |number: usize| -> Result<PromptText> {
            let ids = encoder.codec.encode(examples[number].answer())?;
            let given = &ids[..(ids.len() / 2).clamp(1, OPENING).min(ids.len())];
            Ok(PromptText { prompt: encoder.codec.decode_plain(given)?.trim().to_owned(), ..PromptText::default() })
        };
        return spread(examples.len()).map(beginning).collect();
    }
    let first = spread(inputs.len()).filter_map(|number| inputs[number].examples.first());
    Ok(first.filter_map(|&example| examples.get(example)).map(prompt_text).collect())
}

/// An example's conversation up to its last answer.
fn prompt_text(example: &Example) -> PromptText {
    let mut found = PromptText { system: system(example).unwrap_or_default().to_owned(), ..PromptText::default() };
    for turn in example.prompt().iter().filter(|turn| turn.role != Role::System) {
        if turn.role == Role::Assistant {
            let question = std::mem::take(&mut found.prompt);
            found.earlier.push(PlayTurn { question, answer: turn.text.clone() });
        } else {
            // What a tool says stands behind what the user said.
            let gap = if found.prompt.is_empty() { "" } else { "\n" };
            found.prompt = format!("{}{gap}{}", found.prompt, turn.text);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::text::Turn;

    fn example(turns: &[(Role, &str)]) -> Example {
        Example::new(turns.iter().map(|(role, text)| Turn::new(*role, *text)).collect(), 1)
    }

    #[test]
    fn a_system_message_is_constant_when_all_have_it() {
        let with = |system: &str| example(&[(Role::System, system), (Role::User, "a"), (Role::Assistant, "b")]);
        let bare = example(&[(Role::User, "a"), (Role::Assistant, "b")]);
        assert_eq!(constant_system(&[with("be brief"), with("be brief")]).as_deref(), Some("be brief"));
        assert_eq!(constant_system(&[with("be brief"), with("be long")]), None);
        assert_eq!(constant_system(&[with("be brief"), bare]), None);
        assert_eq!(constant_system(&[]), None);
    }

    #[test]
    fn a_conversation_keeps_its_earlier_turns() {
        let turns = [
            (Role::System, "be brief"),
            (Role::User, "one"),
            (Role::Assistant, "1"),
            (Role::User, "two"),
            (Role::Assistant, "2"),
        ];
        let found = prompt_text(&example(&turns));
        let earlier = PlayTurn { question: "one".to_owned(), answer: "1".to_owned() };
        assert_eq!((found.system.as_str(), found.prompt.as_str(), found.earlier), ("be brief", "two", vec![earlier]));
    }
}
