//! Slabs of the driver's memory, and which part of one a kernel is given.

use super::{Device, State, failed};
use crate::error::{Error, Result};
use crate::gpu::Operand;
use crate::gpu::pool;

/// Bytes of a slab that tensors share; larger ones have their own.
const SLAB: u64 = 64 << 20;

impl Device {
    /// Asks the driver for a slab that holds so many bytes.
    pub(super) fn add_slab(&self, bytes: u64) -> Result<()> {
        let mut state = self.state.lock();
        let most = self.facts.max_buffer;
        if bytes > most {
            return Err(failed(format!(
                "{} takes at most {} MB in one piece, not {}",
                self.facts.name,
                most >> 20,
                bytes >> 20
            )));
        }
        let mut size = bytes.max(SLAB.min(most));
        // What earlier work left unused makes room first; the driver has it back once the lists that use it are done.
        let mut buffer = None;
        if self.drop_unused(&mut state) {
            buffer = self.new_slab(size);
        }
        if buffer.is_none() {
            self.submit(&mut state);
            self.poll()?;
            self.drop_unused(&mut state);
            buffer = self.new_slab(size);
        }
        if buffer.is_none() && size > bytes {
            size = bytes;
            buffer = self.new_slab(size);
        }
        let Some(buffer) = buffer else {
            let (name, size, held) = (&self.facts.name, size >> 20, self.pool.memory().held >> 20);
            return Err(failed(format!("{name} has no {size} MB of memory left beside the {held} MB held")));
        };
        state.counters.allocations += 1;
        let number = self.pool.add_slab(size, bytes <= pool::SMALL) as usize;
        if state.slabs.len() <= number {
            state.slabs.resize(number + 1, None);
        }
        state.slabs[number] = Some(buffer);
        Ok(())
    }

    /// Gives the slabs back that nothing uses. -> whether they are free at once
    pub(super) fn drop_unused(&self, state: &mut State) -> bool {
        let unused = self.pool.remove_unused();
        if !unused.is_empty() {
            state.groups.clear();
        }
        unused.iter().for_each(|&slab| state.slabs[slab as usize] = None);
        unused.is_empty()
    }

    /// A buffer of so many bytes, if the driver has them.
    fn new_slab(&self, size: u64) -> Option<wgpu::Buffer> {
        self.buffer(
            "slab",
            size,
            wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        )
    }

    pub(super) fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> Option<wgpu::Buffer> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        });
        pollster::block_on(scope.pop()).is_none().then_some(buffer)
    }

    /// Where an operand's binding starts and ends, in bytes of its slab.
    pub(super) fn window(&self, slab: u64, operand: Operand) -> Result<(u64, u64)> {
        let most = self.facts.max_binding;
        window(slab, most, operand).map_err(|bytes| {
            Error::internal(format!("{} binds {most} bytes at a time, a kernel wanted {bytes}", self.facts.name))
        })
    }
}

/// Where an operand's binding starts and ends, in bytes of its slab: the whole slab where that can be bound. The error is how many
/// bytes would have to be bound.
fn window(slab: u64, most: u64, operand: Operand) -> Result<(u64, u64), u64> {
    if slab <= most {
        return Ok((0, slab));
    }
    let start = operand.address.byte() / pool::ALIGNMENT * pool::ALIGNMENT;
    // At least what a kernel reads at once: a place that nothing is read from is bound too.
    let end = (operand.address.byte() + operand.bytes()).next_multiple_of(4).max(start + 16);
    if end - start > most { Err(end - start) } else { Ok((start, end)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Address, Format};

    #[test]
    fn a_binding_is_the_slab_or_the_part_that_is_wanted() {
        let operand = |byte: u64, len: usize| Operand::new(Address::new(0, byte), len, Format::F16);
        assert_eq!(window(4096, 4096, operand(700, 9)), Ok((0, 4096)));
        // From a multiple of 256 on, in whole words.
        assert_eq!(window(4096, 4095, operand(700, 9)), Ok((512, 720)));
        // What stands for an operand that is not there: a kernel may read sixteen bytes of it at once.
        assert_eq!(window(4096, 4095, operand(512, 1)), Ok((512, 528)));
        assert_eq!(window(4096, 1000, operand(700, 600)), Err(1388));
    }
}
