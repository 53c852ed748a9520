//! Invented texts and answers for the fake engine.

use super::data::noise;
use adamix::config::{RunConfig, TextFormat};
use adamix::eval::text_metrics::{BleuDifference, Protocol};
use adamix::protocol::*;

/// A preview of texts.
pub fn text_preview(config: &RunConfig) -> TextPreview {
    let asked = ["<s>", "name[", "Zizzi", "], ", "food[", "French", "]", "\n"];
    let said = ["Zizzi", " serves", " French", " food", ".", "</s>"];
    let token = |(id, text): (usize, &&str), learned| SampleToken {
        id: id as u32,
        text: (*text).to_owned(),
        learned,
        special: text.starts_with('<'),
    };
    let tokens = asked.iter().enumerate().map(|pair| token(pair, false));
    let tokens = tokens.chain(said.iter().enumerate().map(|pair| token(pair, true))).collect();
    let examples = 400;
    let train = TextSplit {
        file: config.data.train_file.clone(),
        examples,
        inputs: examples / 2,
        measured: examples,
        tokens: 14 * examples,
        learned_tokens: 6 * examples,
        sample: vec![SampleText { line: 1, tokens, cut: 0 }],
        ..TextSplit::default()
    };
    TextPreview {
        name: "restaurants".to_owned(),
        format: TextFormat::E2e,
        layout: "prompt, line end, completion".to_owned(),
        max_length: config.data.max_length,
        train,
        ..TextPreview::default()
    }
}

/// How the model of a run that was trained on chats is asked.
pub fn prompts() -> PromptInfo {
    let text = |prompt: &str| PromptText {
        system: "You describe restaurants.".to_owned(),
        earlier: Vec::new(),
        prompt: prompt.to_owned(),
    };
    PromptInfo {
        template: TemplateUse::Trained,
        without: "continued as it is typed".to_owned(),
        turns_without: false,
        system: Some("You describe restaurants.".to_owned()),
        texts: vec![text("name[Zizzi], food[French], area[riverside]"), text("name[The Vaults], eatType[pub]")],
    }
}

fn likely(id: u32, text: &str, p: f32) -> LikelyToken {
    LikelyToken { id, text: text.to_owned(), p }
}

/// Answers to a prompt: the first two panes part at the fourth word.
pub fn answers(plan: PlayPlan) -> PlayReport {
    let texts = ["Zizzi is a cheap French place by the river.", "Zizzi is a French restaurant near the river bank."];
    let answer = |(number, &pane): (usize, &Pane)| {
        let text = texts[number.min(1)];
        let words: Vec<&str> = text.split_inclusive(' ').collect();
        let token = |(at, word): (usize, &&str)| PlayToken {
            id: at as u32,
            text: (*word).to_owned(),
            log_prob: -0.1 - 0.3 * noise(at as u64),
            divergence: if number == 0 { 0.0 } else { 2.0 * noise((at + 9 * number) as u64) },
            likeliest: vec![likely(at as u32, word, 0.7), likely(99, "the ", 0.1), likely(98, "a ", 0.05)],
        };
        PaneAnswer {
            pane,
            fingerprint: format!("{:08x}", 0x51ab_0000 + number.min(2)),
            text: text.to_owned(),
            tokens: words.iter().enumerate().map(token).collect(),
            diverges_at: (number > 0).then_some(3),
            end: PlayEnd::Stop,
            seconds: 0.25,
        }
    };
    let answers = plan.panes.iter().enumerate().map(answer).collect();
    let prefix = plan.prefix.iter().map(|id| format!("w{id} ")).collect();
    PlayReport { prompt_tokens: 12, prompt: plan.prompt.clone(), prefix, answers, plan }
}

/// Scored texts of three ways of running a model.
pub fn written(inputs: usize) -> WriteReport {
    let scores = |bleu: f64| TextScores {
        protocol: Protocol::E2e,
        segments: inputs,
        references: 2 * inputs,
        empty_outputs: 0,
        bleu,
        nist: Some(10.0 * bleu),
        meteor_exact_stem_synonym: None,
        rouge_l: Some(bleu + 0.1),
        cider: Some(3.0 * bleu),
        ter: None,
        chrf: bleu + 0.15,
        chrf_plus_plus: bleu + 0.12,
        bleu_precisions: [bleu; 4],
        brevity_penalty: 1.0,
        hypothesis_words: 12 * inputs,
        reference_words: 12 * inputs,
        ter_edits: None,
        ter_reference_words: None,
        undefined: Vec::new(),
    };
    let way = |(way, bleu): (&'static str, f64)| WrittenBy {
        way,
        scores: scores(bleu),
        bleu_minus_merged: (way != "merged").then_some(BleuDifference {
            difference: bleu - 0.61,
            low: bleu - 0.69,
            high: bleu - 0.53,
        }),
    };
    let sample = WrittenSample {
        prompt: "name[Zizzi], food[French], area[riverside]".to_owned(),
        references: vec!["Zizzi serves French food by the river.".to_owned()],
        texts: ["The name of the", "Zizzi serves French food in the riverside area.", "Zizzi is a French place."]
            .map(str::to_owned)
            .into(),
    };
    WriteReport {
        inputs,
        asked: inputs,
        available: 2 * inputs,
        texts: 4 * inputs,
        different_texts: 4 * inputs,
        ways: [("base", 0.02), ("merged", 0.61), ("random", 0.58)].map(way).into(),
        samples: vec![sample],
        seconds: 12.5,
    }
}

/// What a model writes for two inputs after so many steps: nonsense first, restaurants later.
pub fn samples(step: u64, total: u64) -> SampleRecord {
    let inputs = [
        ("name : Zizzi | food : French | area : riverside", "Zizzi serves French food by the river."),
        ("name : The Vaults | Type : pub | price : more than £30", "The Vaults is a pub with prices of more than £30."),
    ];
    let merged = [
        ["The the and of the name, and the name", "There is a pub, a pub and a"],
        ["Zizzi is a French in the city of the French", "The Vaults is a place that is a place"],
        ["Zizzi is a French place by the river.", "The Vaults is a pub with a price of £30."],
        ["Zizzi serves French food in the riverside area.", "The Vaults is a pub with prices over £30."],
    ];
    let random = [
        ["The the and and the of", "There is the the the"],
        ["Zizzi is a French French place", "The Vaults is a pub that is"],
        ["Zizzi is a French place by the river.", "The Vaults is a pub, more than £30."],
        ["Zizzi is a French restaurant by the riverside.", "The Vaults is a pub with prices over £30."],
    ];
    let stage = (4 * step / total.max(1)).min(3) as usize;
    let sample = |(number, (prompt, reference)): (usize, &(&str, &str))| Sample {
        prompt: (*prompt).to_owned(),
        reference: (*reference).to_owned(),
        merged: merged[stage][number].to_owned(),
        random: Some(random[stage][number].to_owned()),
    };
    let samples = inputs.iter().enumerate().map(sample).collect();
    SampleRecord { step, epoch: step as f64 / 80.0, samples, seconds: 0.2 }
}
