//! Products by the matrix units of a device: how they are cut, and for which shapes.

use super::tile::{self, Extent};
use super::{Product, ProductPlan};
use crate::gpu::Format;

/// What a workgroup computes with cooperative matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CooperativeTile {
    /// Subgroups that compute shares of it, below each other and side by side.
    pub subgroups: [usize; 2],
    /// Matrices of a share, below each other and side by side: 1 to 4 each.
    pub matrices: [usize; 2],
    /// Matrices that lie behind each other in workgroup memory at a time.
    pub depth: usize,
}

const fn tile(subgroups: [usize; 2], matrices: [usize; 2], depth: usize) -> CooperativeTile {
    CooperativeTile { subgroups, matrices, depth }
}

impl CooperativeTile {
    /// For shapes that larger ones would leave the device idle with.
    pub const SMALL: Self = tile([2, 2], [2, 2], 2);

    /// Tiles for large products, of which one is the fastest on a device, the first one mostly.
    pub const CANDIDATES: &[Self] = &[
        tile([2, 2], [4, 4], 2),
        tile([2, 4], [4, 2], 2),
        tile([2, 2], [4, 2], 2),
        tile([2, 2], [4, 4], 4),
        tile([4, 2], [2, 4], 4),
        Self::SMALL,
        tile([2, 2], [2, 2], 4),
        tile([1, 2], [2, 2], 2),
    ];

    /// Its name: "2x2/4x4x2".
    pub fn name(self) -> String {
        let Self { subgroups: [rows, columns], matrices: [m, n], depth } = self;
        format!("{rows}x{columns}/{m}x{n}x{depth}")
    }
}

/// How products of one format run with cooperative matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CooperativeUnit {
    /// The format of both operands.
    pub operands: Format,
    /// Rows and columns of a matrix: 8 or 16.
    pub size: usize,
    /// Threads of a subgroup, as was seen on the device; the results do not depend on it.
    pub threads: usize,
    /// The tile that large products are fastest with.
    pub tile: CooperativeTile,
}

impl CooperativeUnit {
    /// Rows and columns of `out` that a workgroup computes, and the length of the sums it has at a time.
    pub fn shape(&self) -> [usize; 3] {
        let CooperativeTile { subgroups, matrices, depth } = self.tile;
        [subgroups[0] * matrices[0] * self.size, subgroups[1] * matrices[1] * self.size, depth * self.size]
    }

    /// Threads of a workgroup.
    pub fn workgroup(&self) -> usize {
        self.tile.subgroups[0] * self.tile.subgroups[1] * self.threads
    }

    /// Values that lines in workgroup memory are longer than what they hold.
    pub(super) fn pad(&self) -> usize {
        16 / self.operands.bytes() as usize
    }

    /// Bytes of workgroup memory at most.
    pub fn memory(&self) -> usize {
        let [m, n, k] = self.shape();
        let shares = self.tile.subgroups[0] * self.tile.subgroups[1];
        let lines = (m.max(k) + n.max(k)) * self.pad() + (m + n) * k;
        lines * self.operands.bytes() as usize + 4 * (shares + 1) * self.size * (self.size + 4)
    }

    fn extent(&self) -> Extent {
        let [m, n, _] = self.shape();
        Extent { m, n, threads: self.workgroup() }
    }
}

/// How products run with cooperative matrices on a device that multiplies them rightly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cooperative {
    /// At most one for each format.
    pub units: Vec<CooperativeUnit>,
}

/// Fewer rows, columns or k than this are left to other kernels.
const LEAST: usize = 16;

/// The unit that computes a product, with the tile that suits its shape, and into how many slices its sums are cut (1 unless
/// `slices`); `None` if another kernel should.
pub(super) fn choose(product: &Product, plan: &ProductPlan, slices: bool) -> Option<(CooperativeUnit, usize)> {
    let Product { m, n, k, a, b, packed, .. } = product;
    let shape = [*m, *n, *k];
    if packed.is_some() || a.format != b.format || shape.iter().any(|&size| size < LEAST) {
        return None;
    }
    let units = &plan.cooperative.as_ref()?.units;
    let unit = units.iter().find(|unit| unit.operands == a.format)?;
    let small = CooperativeUnit { tile: CooperativeTile::SMALL, ..*unit };
    let fits = plan.fit && small.extent().m * small.extent().n <= unit.extent().m * unit.extent().n;
    let tiles = std::iter::once(*unit).chain(fits.then_some(small));
    tile::fastest(tiles.map(|unit| (unit, unit.extent())), unit.extent(), shape, plan, slices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_workgroups() {
        for &tile in CooperativeTile::CANDIDATES {
            let unit = CooperativeUnit { operands: Format::F16, size: 16, threads: 32, tile };
            assert!(unit.workgroup() <= 256 && unit.memory() <= 48 << 10, "{} {}", tile.name(), unit.memory());
            assert!(tile.matrices.iter().all(|&count| (1..=4).contains(&count)));
        }
        let unit =
            CooperativeUnit { operands: Format::F16, size: 16, threads: 32, tile: CooperativeTile::CANDIDATES[0] };
        assert_eq!((unit.shape(), unit.workgroup()), ([128, 128, 32], 128));
        assert!(unit.memory() <= 32 << 10, "{}", unit.memory());
    }
}
