//! Steps of a language model: a mixture of LoRA on queries and values, every token learned.

use crate::bench::Plan;
use crate::bench::measure::{Made, Parts, Series, timed_series};
use crate::data::text::TextBatch;
use crate::error::Result;
use crate::machine::estimate::{ActivationFormat, Mixtures};
use crate::model::CausalLm;
use crate::model::decoder::{Decoder, LmSetup};
use crate::rng::SeedStream;
use crate::train::optimizer::AdamW;
use crate::train::step::step;
use candle_core::{DType, Device};

/// Makes the plan's steps.
pub(crate) fn series(plan: &Plan, dtype: DType, device: &Device) -> Result<Series> {
    let (config, seed) = (plan.config(), SeedStream::new(0));
    let random = Decoder::random(plan.shape.decoder_spec()?, seed, device)?;
    let decoder = match plan.weights {
        Some(format) => random.quantised(format)?.computing_in(dtype),
        None => random.stored_as(dtype)?,
    };
    let weight_bytes = decoder.weight_bytes();
    let model = CausalLm::new(decoder, LmSetup { mixture: Some(&config.mixture), seed })?;
    let mut optimizer = AdamW::new(model.params())?;
    let layer = model.decoder().layers().first();
    let parts = Parts {
        dtype,
        device,
        counts: model.counts(),
        weight_bytes,
        mixtures: Mixtures::new(&config, model.spec().hidden_size, layer.map(|layer| &layer.loras)),
        format: ActivationFormat::of_decoder(model.decoder()),
    };
    timed_series(plan, &parts, &mut |batch, at| {
        let (ids, offsets, rows) = (batch.ids.clone(), batch.offsets.clone(), batch.rows.clone());
        let texts = TextBatch { learn: vec![true; ids.len()], ids, offsets, rows };
        let made = step(&config, &model, &mut optimizer, at, |_| Ok(texts.clone()))?;
        Ok(Made { loss: made.loss.total, tokens: made.tokens, targets: plan.passes * made.targets })
    })
}
