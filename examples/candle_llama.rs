//! The logits of a GGUF file in this program and in candle's own quantised Llama, side by side.
//!
//! ```text
//! cargo run --release --no-default-features --example candle_llama -- MODEL.gguf [TEXT]
//! ```
//! Of a merged model it says what another program makes of it. candle rounds the inputs of products with weights of 8 bits
//! and fewer to 8 bits; here they stay in 32. So a file of 32 bits agrees up to the order of sums, a quantised one roughly.

use adamix::config::{DeviceChoice, DtypeChoice, ModelConfig};
use adamix::error::{Error, Result};
use adamix::model::Packed;
use adamix::workflow::generate::TextGenerator;
use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

const TEXT: &str = "The Eagle is a cheap Italian restaurant near the riverside. It has a high customer rating.";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = || Error::config("name a GGUF file of a Llama, and a text if you like");
    let file = PathBuf::from(arguments.next().ok_or_else(usage)?);
    let text = arguments.next().unwrap_or_else(|| TEXT.to_owned());

    let settings = ModelConfig { device: DeviceChoice::Cpu, dtype: DtypeChoice::F32, ..ModelConfig::default() };
    let generator = TextGenerator::open(&file, &settings)?;
    let ids = generator.text_prompt(&text)?;
    let batch = Packed { ids: &ids, offsets: &[0, ids.len()] };
    let ours: Vec<Vec<f32>> = generator.model.logits(batch, None, None)?.to_vec2()?;
    let theirs = candle(&file, &ids)?;

    let largest = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    let (mut worst, mut size, mut same) = (0f32, 0f32, 0);
    for (a, b) in ours.iter().zip(&theirs) {
        worst = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(worst, f32::max);
        size = a.iter().map(|x| x.abs()).fold(size, f32::max);
        same += usize::from(largest(a) == largest(b));
    }
    say(&format!("{} tokens: logits of up to {size:.1} differ by at most {worst:.1e}", ids.len()));
    say(&format!("after {same} of them both think the same token likeliest"));
    Ok(())
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}

/// candle's logits after every token. `[tokens][vocabulary]`
fn candle(file: &Path, ids: &[u32]) -> Result<Vec<Vec<f32>>> {
    let mut reader = File::open(file).map_err(|err| Error::io("opening the model", file, err))?;
    let content = gguf_file::Content::read(&mut reader)?;
    let mut model = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
    let mut all = Vec::new();
    for (at, &id) in ids.iter().enumerate() {
        // One token at a time: it gives the last one's logits only, and keeps what it has read.
        let id = Tensor::new(&[id], &Device::Cpu)?.unsqueeze(0)?;
        all.push(model.forward(&id, at)?.flatten_all()?.to_vec1()?);
    }
    Ok(all)
}
