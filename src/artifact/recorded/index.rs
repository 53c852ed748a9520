//! [`RecordedMetrics`] as bytes: the length of a JSON text (`u32`), the text with everything but the curve, then the
//! curve: steps of a full bucket (`u32`), then the buckets, 124 bytes each. All numbers little-endian.

use super::{CURVE, RecordedMetrics};
use crate::artifact::run_progress::RunProgress;
use crate::config::LawChange;
use crate::error::{Error, Result};
use crate::records::decimation::Decimated;
use crate::records::{EndRecord, EvalRecord, StartRecord, StepBucket, StepSample, TensorHealth};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Changes with everything here, and with what is made of the lines.
pub(super) const VERSION: u32 = 3;
/// Bytes of a bucket.
const BUCKET: usize = 4 + 3 * SAMPLE;
/// Bytes of a sample.
const SAMPLE: usize = 40;

/// Everything but the curve.
#[derive(Serialize, Deserialize)]
struct Rest<'a> {
    progress: Cow<'a, RunProgress>,
    start: Cow<'a, StartRecord>,
    laws: Cow<'a, [LawChange]>,
    evals: Cow<'a, [EvalRecord]>,
    gradient_health: Cow<'a, [TensorHealth]>,
    end: Cow<'a, Option<EndRecord>>,
}

/// The bytes.
pub(super) fn encode(metrics: &RecordedMetrics) -> Result<Vec<u8>> {
    let RecordedMetrics { progress, start, laws, curve, evals, gradient_health, end } = metrics;
    let rest = Rest {
        progress: Cow::Borrowed(progress),
        start: Cow::Borrowed(start),
        laws: Cow::Borrowed(laws),
        evals: Cow::Borrowed(evals),
        gradient_health: Cow::Borrowed(gradient_health),
        end: Cow::Borrowed(end),
    };
    let text = serde_json::to_vec(&rest).map_err(|err| Error::internal(format!("no JSON of an index: {err}")))?;
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes.extend(curve.stride().to_le_bytes());
    for StepBucket { n, min, max, mean } in curve.buckets() {
        bytes.extend(n.to_le_bytes());
        [min, max, mean].into_iter().for_each(|sample| put(&mut bytes, sample));
    }
    Ok(bytes)
}

/// What [`encode`] made these bytes of; `None` where they are something else.
pub(super) fn decode(bytes: &[u8]) -> Option<RecordedMetrics> {
    let (length, bytes) = bytes.split_first_chunk()?;
    let (text, bytes) = bytes.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let Rest { progress, start, laws, evals, gradient_health, end } = serde_json::from_slice(text).ok()?;
    let (stride, bytes) = bytes.split_first_chunk()?;
    let buckets = bytes.chunks(BUCKET).map(bucket).collect::<Option<Vec<_>>>()?;
    Some(RecordedMetrics {
        progress: progress.into_owned(),
        start: start.into_owned(),
        laws: laws.into_owned(),
        curve: Decimated::restored(CURVE, u32::from_le_bytes(*stride), buckets)?,
        evals: evals.into_owned(),
        gradient_health: gradient_health.into_owned(),
        end: end.into_owned(),
    })
}

fn put(bytes: &mut Vec<u8>, sample: &StepSample) {
    let &StepSample { step, epoch, loss, task_loss, consistency_loss, learning_rate, grad_norm, tokens, seconds } =
        sample;
    bytes.extend(step.to_le_bytes());
    for value in [epoch, loss, task_loss, consistency_loss, learning_rate, grad_norm, seconds] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(tokens.to_le_bytes());
}

fn bucket(bytes: &[u8]) -> Option<StepBucket> {
    let (n, bytes) = bytes.split_first_chunk()?;
    let mut samples = bytes.chunks(SAMPLE).map(sample);
    let (min, max, mean) = (samples.next()??, samples.next()??, samples.next()??);
    samples.next().is_none().then_some(StepBucket { n: u32::from_le_bytes(*n), min, max, mean })
}

fn sample(bytes: &[u8]) -> Option<StepSample> {
    let (step, bytes) = bytes.split_first_chunk()?;
    let (words, []) = bytes.as_chunks::<4>() else { return None };
    let &[floats @ .., tokens] = <&[[u8; 4]; 8]>::try_from(words).ok()?;
    let [epoch, loss, task_loss, consistency_loss, learning_rate, grad_norm, seconds] = floats.map(f32::from_le_bytes);
    let (step, tokens) = (u64::from_le_bytes(*step), u32::from_le_bytes(tokens));
    Some(StepSample { step, epoch, loss, task_loss, consistency_loss, learning_rate, grad_norm, tokens, seconds })
}
