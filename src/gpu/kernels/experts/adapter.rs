//! Adapters: `out = h + act(h W_Dᵀ + b_D) W_Uᵀ + b_U`, each side by its own runs.

use super::gradients::{Gradients, Part, Side, Values};
use super::{ADAPTER, Runs, TILE, launch, power_of_two_below};
use crate::gpu::kernels::Mask;
use crate::gpu::{Launch, Operand};

/// The adapters of one module: two banks of experts.
///
/// Both lists of runs lie in one slab (parts of one table), since a kernel binds them as one; a launch with lists in different
/// slabs is refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// Rows.
    pub n: usize,
    /// Width of the rows.
    pub d: usize,
    /// Width of the bottleneck: 1 to 256.
    pub r: usize,
    /// Nonlinearity, counted as the elementwise kernels count them.
    pub act: u32,
    /// W_D of all experts. `[experts, r, d]`, f32
    pub down: Operand,
    /// b_D of all experts. `[experts, r]`, f32
    pub down_bias: Operand,
    /// W_U of all experts. `[experts, d, r]`, f32
    pub up: Operand,
    /// b_U of all experts. `[experts, d]`, f32
    pub up_bias: Operand,
    /// Whose W_D and b_D a row goes through.
    pub down_runs: Runs,
    /// Whose W_U and b_U a row goes through.
    pub up_runs: Runs,
}

/// How a workgroup does its rows; the shader explains the names.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tiles {
    threads: usize,
    rows: usize,
    rank: usize,
    quads: usize,
    chunk: usize,
    shared: usize,
}

impl Tiles {
    fn new(n: usize, r: usize) -> Self {
        let rank = r.next_power_of_two().clamp(8, 256);
        // Few rows are spread over more workgroups; a wide bottleneck leaves less of the memory for rows.
        let (threads, rows) = match rank {
            ..=64 if n < 4096 => (256, 16),
            ..=64 => (256, 32),
            128 => (128, 16),
            _ => (128, 8),
        };
        let (narrow, columns) = (rows * rank / 4, 16 * threads / rows);
        let slices = 16 * threads / (rows * rank);
        // A thread carries three pieces at most.
        let quads = power_of_two_below((3 * threads).min(TILE) / (rows + rank));
        let chunk = power_of_two_below((TILE - narrow) / columns).min(rank / 4);
        let folded = if slices > 1 { 2 * threads } else { 0 };
        let shared = ((rows + rank) * quads).max(narrow + columns * chunk).max(folded);
        Self { threads, rows, rank, quads, chunk, shared }
    }
}

/// Two lists of runs as one operand: from the first list's start to the other's end. -> the operand and both lists' first values
fn joined(first: Operand, second: Operand) -> Option<(Operand, [usize; 2])> {
    if first.address.slab() != second.address.slab() {
        return None;
    }
    let address = first.address.min(second.address);
    let end = |operand: Operand| operand.address.byte() + operand.bytes();
    let at = |operand: Operand| ((operand.address.byte() - address.byte()) / 4) as usize;
    let len = (end(first).max(end(second)) - address.byte()) / 4;
    Some((Operand { address, len, ..first }, [at(first), at(second)]))
}

impl Adapter {
    /// `z = h W_Dᵀ + b_D` (kept where there is memory for it) and `out = h + act(z) W_Uᵀ + b_U`. h and out `[n, d]` in any float
    /// format, out in other memory than h; z `[n, r]`, f32
    pub fn forward(&self, h: Operand, z: Option<Operand>, out: Operand) -> Launch {
        let operands =
            [Some(h), z, Some(out), Some(self.down), Some(self.up), Some(self.down_bias), Some(self.up_bias)];
        self.launch(operands, self.down_runs, self.up_runs, [false, z.is_some(), true])
    }

    /// `dz = (dout W_U) act'(z)`, and where it is wanted `dh = dout + dz W_D`. dout and dh `[n, d]` in any float format, dh in
    /// other memory than dout; z and dz `[n, r]`, f32
    pub fn backward(&self, dout: Operand, z: Operand, dz: Operand, dh: Option<Operand>) -> Launch {
        let operands = [Some(dout), Some(z), dh, Some(self.up), Some(self.down), Some(dz), None];
        self.launch(operands, self.up_runs, self.down_runs, [true, false, dh.is_some()])
    }

    /// The table of [`Adapter::gradients`]. An expert's gradients are those of W_D `[r, d]` and b_D `[r]`, or of W_U `[d, r]` and
    /// b_U `[d]`, one behind the other.
    pub fn tables(&self, down: Side<'_>, up: Side<'_>) -> Vec<u32> {
        self.all_gradients().table([down, up])
    }

    /// The gradients of `drawn` experts of the down side and of the up side: dW_D = dzᵀ h, db_D = Σ dz, dW_U = doutᵀ act(z) and
    /// db_U = Σ dout over each expert's rows.
    pub fn gradients(&self, values: Values, drawn: [usize; 2]) -> Launch {
        self.all_gradients().launch(values, drawn)
    }

    fn all_gradients(&self) -> Gradients {
        let Self { n, d, r, act, .. } = *self;
        let parts = || vec![Part { first: 0, wide: [0, d], narrow: [0, r] }];
        Gradients {
            n,
            widths: [d, d, r],
            rank: r,
            parts: [parts(), parts()],
            act: Some(act),
            bias: true,
            scale: 1.0,
            mask: Mask::NONE,
        }
    }

    /// The two products: the first one's runs, then the second one's; whether backward, whether z is kept, whether there is a
    /// second product.
    fn launch(
        &self,
        floats: [Option<Operand>; 7],
        first: Runs,
        second: Runs,
        [back, keep_z, wide]: [bool; 3],
    ) -> Launch {
        let Self { n, d, r, act, .. } = *self;
        debug_assert!((1..=256).contains(&r), "a bottleneck of {r}");
        let tiles = Tiles::new(n, r);
        let (runs, starts) = match joined(first.operand, second.operand) {
            Some((both, starts)) => (vec![Some(both)], starts),
            // One operand more than a kernel takes: the device refuses it.
            None => (vec![Some(first.operand), Some(second.operand)], [0; 2]),
        };
        let products = if wide { 4.0 } else { 2.0 };
        launch(ADAPTER, "adapter", &[d, r], &floats, &runs)
            .constant("BACK", back)
            .constant("KEEP_Z", keep_z)
            .constant("WIDE_TOO", wide)
            .constant("ACT", act)
            .constant("THREADS", tiles.threads as u32)
            .constant("ROWS", tiles.rows as u32)
            .constant("RANK", tiles.rank as u32)
            .constant("QUADS", tiles.quads as u32)
            .constant("CHUNK", tiles.chunk as u32)
            .constant("SHARED", tiles.shared as u32)
            .ints([n, d, r, starts[0], first.count, starts[1], second.count])
            .over([n.div_ceil(tiles.rows), 1, 1])
            .work(products * n as f64 * d as f64 * r as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Address, Format};

    #[test]
    fn two_lists_of_runs_are_one_operand_in_one_slab_only() {
        let list = |slab, byte, len| Operand::new(Address::new(slab, byte), len, Format::U32);
        let both = joined(list(1, 1024, 4), list(1, 512, 6));
        assert_eq!(both, Some((list(1, 512, 132), [128, 0])));
        assert_eq!(joined(list(1, 0, 2), list(2, 0, 2)), None);
    }

    #[test]
    fn tiles_fit_every_bottleneck() {
        for (n, r) in [0, 100, 5000].into_iter().flat_map(|n| (1..=256).map(move |r| (n, r))) {
            let tiles = Tiles::new(n, r);
            let Tiles { threads, rows, rank, quads, chunk, shared } = tiles;
            let (lanes, columns) = (rows * rank / 16, 16 * threads / rows);
            assert!(rank >= r && threads.is_multiple_of(lanes) && quads >= threads / lanes, "{tiles:?}");
            assert!((rows + rank) * quads <= 3 * threads && (rank / 4).is_multiple_of(chunk), "{tiles:?}");
            assert!(rows * rank / 4 + columns * chunk <= shared && (columns / 4).is_multiple_of(8), "{tiles:?}");
            assert!(16 * shared + 8 * rows <= 16_384, "{tiles:?}");
        }
    }
}
