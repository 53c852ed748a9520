//! All experts side by side, and what is made of them: fewer hidden units, or one module fitted to their outputs.
//!
//! Contributions are measured, and fits made, on the inputs that the wide modules read when the wide model runs training rows;
//! their labels are not used.

use super::{Learner, Mixture, fit, spread};
use crate::config::Pairs;
use crate::error::{Error, Result};
use crate::eval::compare::EvalOptions;
use crate::mixture::{Adapter, Lora, MergedModule, Side, Tap};
use crate::model::Site;
use crate::protocol::MergePlan;
use crate::tensor::{DType, Device, Tensor};
use crate::workflow::progress::Progress;
use crate::workflow::studies::lora_averages::blocks;

/// Values that the inputs of all modules hold at most, together: 256 MiB in 32 bits.
const INPUTS: usize = 64 << 20;
/// Rows of the inputs of one module, at least and at most.
const INPUT_ROWS: [usize; 2] = [64, 4096];

/// One module for each place.
pub(super) fn modules<M: Learner>(mixture: Mixture<'_, M>, plan: &MergePlan) -> Result<Vec<MergedModule>> {
    let sites = mixture.model.sites();
    let pairs = if let MergePlan::Wide(pairs) = plan { *pairs } else { Pairs::Same };
    let wide = sites.iter().map(|site| side_by_side(site, pairs)).collect::<Result<Vec<_>>>()?;
    let rows = match *plan {
        MergePlan::Wide(_) => return Ok(wide),
        MergePlan::Budget { rows, .. } | MergePlan::Fitted { rows } => rows,
        _ => return Err(Error::internal(format!("{plan} does not begin with all experts side by side"))),
    };
    let progress = Progress::new(1.0 + sites.len() as f64, mixture.opts.go_on);
    let within = progress.within(1.0);
    let inputs = inputs(Mixture { opts: &EvalOptions { go_on: &within, ..*mixture.opts }, ..mixture }, &wide, rows)?;
    progress.step(1.0)?;
    let mut made = Vec::with_capacity(wide.len());
    for ((wide, site), x) in wide.iter().zip(&sites).zip(inputs) {
        let part = progress.within(1.0);
        let go_on = |share: f64| if part(share) { Ok(()) } else { Err(Error::cancelled()) };
        made.push(match (plan, wide) {
            // Nothing is pruned and nothing lost.
            (MergePlan::Budget { width, .. }, _) if *width >= wide.width() => wide.clone(),
            (MergePlan::Budget { width, .. }, MergedModule::Adapter(wide)) => {
                MergedModule::Adapter(pruned_adapter(wide, &x, *width)?)
            }
            (MergePlan::Budget { width, .. }, MergedModule::Lora(wide)) => {
                MergedModule::Lora(pruned_lora(wide, &x, *width)?)
            }
            (_, MergedModule::Adapter(wide)) => MergedModule::Adapter(fitted_adapter(wide, site, &x, &go_on)?),
            (_, MergedModule::Lora(wide)) => MergedModule::Lora(fitted_lora(wide, site, &x)?),
        });
        progress.step(1.0)?;
    }
    Ok(made)
}

fn side_by_side(site: &Site<'_>, pairs: Pairs) -> Result<MergedModule> {
    Ok(match site {
        Site::Adapter(mixture) => MergedModule::Adapter(mixture.wide(pairs)?),
        Site::Lora(mixture) => MergedModule::Lora(mixture.wide(pairs)?),
    })
}

/// What each module reads on training rows, its first rows. -> of each `[n, in]` in double precision on the processor
fn inputs<M: Learner>(mixture: Mixture<'_, M>, wide: &[MergedModule], rows: usize) -> Result<Vec<Tensor>> {
    let widths: Vec<usize> = mixture
        .model
        .sites()
        .iter()
        .map(|site| Ok(site.bank(Side::Down).weight().dims3()?.2))
        .collect::<Result<_>>()?;
    let [least, most] = INPUT_ROWS;
    let rows_each = (INPUTS / widths.iter().sum::<usize>().max(1)).clamp(least, most);
    let taps: Vec<Tap> = wide.iter().map(|_| Tap::new(rows_each)).collect();
    let tapped: Vec<MergedModule> = wide.iter().zip(&taps).map(|(module, tap)| module.tapped(tap)).collect();
    let model = mixture.model.with_modules(&tapped)?;
    model.row_losses(mixture.train, &spread(M::rows(mixture.train), rows), None, mixture.opts)?;
    let read = |(tap, width): (&Tap, &usize)| {
        let values = tap.take();
        let n = values.len() / (*width).max(1);
        if n == 0 {
            return Err(Error::data("the training rows gave a module nothing to read, so nothing can be fitted"));
        }
        Tensor::from_vec(values, (n, *width), &Device::Cpu)?.to_dtype(DType::F64)
    };
    taps.iter().zip(&widths).map(read).collect()
}

/// An adapter in double precision on the processor.
fn units(adapter: &Adapter) -> Result<fit::Units> {
    let wide = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.contiguous();
    let ((down, down_bias), (up, up_bias)) = (adapter.side(Side::Down)?, adapter.side(Side::Up)?);
    Ok(fit::Units { down: wide(&down)?, down_bias: wide(&down_bias)?, up: wide(&up)?, up_bias: wide(&up_bias)? })
}

/// The adapter of these units, in the format and on the device of another.
fn adapter(units: &fit::Units, like: &Adapter) -> Result<Adapter> {
    let (weight, _) = like.side(Side::Down)?;
    let back = |tensor: &Tensor| tensor.contiguous()?.to_dtype(weight.dtype())?.to_device(weight.device());
    let down = (back(&units.down)?, back(&units.down_bias)?);
    Adapter::new(&down, &(back(&units.up)?, back(&units.up_bias)?), like.act())
}

/// The hidden units that contribute most to the output, `Var[a_i] |u_i|²`; what the others give on average goes into the bias
/// of up.
fn pruned_adapter(wide: &Adapter, x: &Tensor, width: usize) -> Result<Adapter> {
    let all = units(wide)?;
    let hidden = all.hidden(x, wide.act())?;
    let (n, k) = hidden.dims2()?;
    let mean = (hidden.sum_keepdim(0)? * (1.0 / n as f64))?;
    let variance = hidden.broadcast_sub(&mean)?.sqr()?.sum(0)?;
    let contribution: Vec<f64> = variance.mul(&all.up.sqr()?.sum(0)?)?.to_vec1()?;
    let kept = largest(&contribution, width);
    let gone: Vec<f64> = (0..k).map(|i| f64::from(u8::from(!kept.contains(&(i as u32))))).collect();
    let gone = mean.mul(&Tensor::new(gone, &Device::Cpu)?.unsqueeze(0)?)?;
    let index = Tensor::new(kept, &Device::Cpu)?;
    let kept = fit::Units {
        down: all.down.index_select(&index, 0)?,
        down_bias: all.down_bias.index_select(&index, 0)?,
        up: all.up.index_select(&index, 1)?,
        up_bias: (&all.up_bias + all.up.matmul(&gone.t()?)?.squeeze(1)?)?,
    };
    adapter(&kept, wide)
}

/// Of each block the directions that contribute most to its output, `E[z_i²] |b_i|²`.
fn pruned_lora(wide: &Lora, x: &Tensor, width: usize) -> Result<Lora> {
    of_blocks(wide, |a, b| {
        let contribution: Vec<f64> = x.matmul(&a.t()?)?.sqr()?.sum(0)?.mul(&b.sqr()?.sum(0)?)?.to_vec1()?;
        let index = Tensor::new(largest(&contribution, width), &Device::Cpu)?;
        Ok((a.index_select(&index, 0)?, b.index_select(&index, 1)?))
    })
}

/// One adapter of r near the wide one's outputs, from the mean of factors.
fn fitted_adapter(wide: &Adapter, site: &Site<'_>, x: &Tensor, go_on: &dyn Fn(f64) -> Result<()>) -> Result<Adapter> {
    let Site::Adapter(mixture) = site else { return Err(Error::internal("an adapter in the place of a LoRA")) };
    let experts = mixture.bank(Side::Down).experts().max(mixture.bank(Side::Up).experts());
    let start = mixture.merge(&vec![1.0 / experts as f64; experts])?;
    let target = units(wide)?.output(x, wide.act())?;
    let found = fit::units(&units(&start)?, (x, &target), wide.act(), go_on)?;
    adapter(&found, wide)
}

/// One LoRA of r as near to the wide one's outputs as one of its rank can be.
fn fitted_lora(wide: &Lora, site: &Site<'_>, x: &Tensor) -> Result<Lora> {
    let Site::Lora(mixture) = site else { return Err(Error::internal("a LoRA in the place of an adapter")) };
    let r = mixture.rank();
    if r >= wide.rank() {
        return Ok(wide.clone());
    }
    of_blocks(wide, |a, b| fit::low_rank(a, b, x, r))
}

/// A LoRA made block by block from A and B with the scale in it, in double precision on the processor.
fn of_blocks(wide: &Lora, mut make: impl FnMut(&Tensor, &Tensor) -> Result<(Tensor, Tensor)>) -> Result<Lora> {
    let (mut rows, mut columns) = (Vec::new(), Vec::new());
    for (a, b) in blocks(wide)? {
        let (a, b) = make(&a, &b)?;
        rows.push(a);
        columns.push((b / wide.scale())?);
    }
    let like = wide.side(Side::Down)?;
    let back = |list: &[Tensor]| Tensor::cat(list, 0)?.contiguous()?.to_dtype(like.dtype())?.to_device(like.device());
    Lora::new(&back(&rows)?, &back(&columns)?, wide.columns().to_vec(), wide.scale())
}

/// The places of the `n` largest values, in their order; of equal ones the first.
fn largest(values: &[f64], n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    order.sort_by(|&a, &b| values[b as usize].total_cmp(&values[a as usize]).then(a.cmp(&b)));
    order.truncate(n);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Act;

    #[test]
    fn the_largest_stay_in_their_order() {
        assert_eq!(largest(&[1.0, 5.0, 3.0, 5.0, 0.0], 3), [1, 2, 3]);
        assert_eq!(largest(&[2.0, 2.0, 2.0], 2), [0, 1]);
    }

    #[test]
    fn a_unit_that_never_changes_goes_into_the_bias_without_loss() {
        // Units: 2 x_0, always 3, x_1 / 2. The second moves nothing, however large it is.
        let tensor = |rows: &[[f32; 2]]| Tensor::from_vec(rows.concat(), (rows.len(), 2), &Device::Cpu).unwrap();
        let down =
            (tensor(&[[2.0, 0.0], [0.0, 0.0], [0.0, 0.5]]), Tensor::new(&[0.0f32, 3.0, 0.0], &Device::Cpu).unwrap());
        let up = Tensor::new(&[[1.0f32, 7.0, 1.0], [0.0, 9.0, 4.0]], &Device::Cpu).unwrap();
        let wide = Adapter::new(&down, &(up, Tensor::new(&[0.5f32, 0.25], &Device::Cpu).unwrap()), Act::Relu).unwrap();
        let x = Tensor::new(&[[1.0, 1.0], [2.0, 0.0], [0.5, 3.0f64]], &Device::Cpu).unwrap();
        let pruned = pruned_adapter(&wide, &x, 2).unwrap();
        assert_eq!(pruned.width(), 2);
        let off = |adapter: &Adapter| {
            let target = units(&wide).unwrap().output(&x, Act::Relu).unwrap();
            units(adapter).unwrap().distance(&x, &target, Act::Relu).unwrap()
        };
        assert!(off(&pruned) < 1e-10, "{}", off(&pruned));
        let (_, bias) = pruned.side(Side::Up).unwrap();
        assert_eq!(bias.to_vec1::<f32>().unwrap(), [21.5, 27.25]);
        // Of the two that move, x_1 / 2 with 1, 4 moves more than 2 x_0 with 1, 0.
        let one = pruned_adapter(&wide, &x, 1).unwrap();
        assert_eq!(one.side(Side::Down).unwrap().0.to_vec2::<f32>().unwrap(), [[0.0, 0.5]]);
        assert!(off(&one) > 0.1);
    }
}
