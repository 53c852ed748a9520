//! The tiles that products are computed by, and which of them suits a shape.

use super::ProductPlan;

/// A workgroup's share of a product, and a thread's share of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// Rows of `out` that a workgroup computes: a power of two.
    pub m: usize,
    /// Columns of `out` that a workgroup computes: a power of two.
    pub n: usize,
    /// Length of the sums that is in workgroup memory at a time: 8, 16 or 32.
    pub k: usize,
    /// Rows and columns that a thread computes: 4 or 8 each.
    pub block: [usize; 2],
}

const fn tile(m: usize, n: usize, k: usize, rows: usize, columns: usize) -> Tile {
    Tile { m, n, k, block: [rows, columns] }
}

impl Tile {
    /// For devices with many registers.
    pub const LARGE: Self = tile(128, 128, 16, 8, 8);
    /// For devices with fewer of them.
    pub const MEDIUM: Self = tile(64, 64, 16, 8, 4);
    /// For processors, and for shapes that larger ones would leave the device idle with.
    pub const SMALL: Self = tile(32, 32, 16, 4, 4);

    /// Tiles for large products, of which one is the fastest on a device.
    pub const CANDIDATES: &[Self] = &[
        Self::LARGE,
        tile(128, 128, 8, 8, 8),
        tile(128, 64, 16, 8, 8),
        tile(128, 64, 16, 8, 4),
        tile(64, 64, 16, 8, 8),
        Self::MEDIUM,
        tile(64, 64, 16, 4, 4),
        Self::SMALL,
    ];

    /// Tiles for shapes that the fastest one for large products does not suit.
    const OTHERS: [Self; 6] = [
        Self::MEDIUM,
        Self::SMALL,
        tile(128, 32, 16, 8, 4),
        tile(128, 16, 16, 4, 4),
        tile(32, 128, 16, 4, 8),
        tile(16, 128, 16, 4, 4),
    ];

    /// Threads of a workgroup.
    pub fn threads(self) -> usize {
        self.m * self.n / (self.block[0] * self.block[1])
    }

    /// Bytes of workgroup memory.
    pub fn memory(self) -> usize {
        4 * self.k * (self.m + self.n)
    }

    /// Its name: "128x128x16/8x8".
    pub fn name(self) -> String {
        let Self { m, n, k, block: [rows, columns] } = self;
        format!("{m}x{n}x{k}/{rows}x{columns}")
    }

    /// The candidate of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::CANDIDATES.iter().copied().find(|tile| tile.name() == name)
    }

    fn extent(self) -> Extent {
        Extent { m: self.m, n: self.n, threads: self.threads() }
    }
}

/// FLOP/s of what a GPU has several of (a multiprocessor, a compute unit), roughly.
const UNIT_RATE: f64 = 2e11;
/// Threads of such a unit that compute at the same time when it is busy.
const UNIT_THREADS: f64 = 256.0;
/// Steps of k that a workgroup takes as long for as for its start and its end.
const START: usize = 64;
/// Multiplications that take a thread as long as adding up the slices of one value, and as a further launch.
const COMBINED: f64 = 20.0;
const LAUNCHED: f64 = 1500.0;
/// Slices of k at most, and the shortest.
const SLICES: usize = 32;
const SLICE: usize = 128;

/// How large a workgroup's share of a product is, and how many threads compute it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) threads: usize,
}

impl Extent {
    /// Multiplications for each value that is brought to workgroup memory.
    fn intensity(self) -> f64 {
        (self.m * self.n) as f64 / (self.m + self.n) as f64
    }
}

/// The tile for a product, and into how many slices its sums are cut (1 unless `slices`).
pub(super) fn choose(shape: [usize; 3], plan: &ProductPlan, slices: bool) -> (Tile, usize) {
    let others = Tile::OTHERS.iter().copied().filter(|tile| {
        let is_narrow = tile.m != tile.n;
        plan.fit && (is_narrow || tile.m * tile.n <= plan.tile.m * plan.tile.n)
    });
    let tiles = std::iter::once(plan.tile).chain(others).map(|tile| (tile, tile.extent()));
    fastest(tiles, plan.tile.extent(), shape, plan, slices).unwrap_or((plan.tile, 1))
}

/// That of some tiles, and that number of slices (1 unless `slices`), which take a device of the plan's rate, reached with a
/// tile of extent `usual`, the least time, by a count of its rounds.
pub(super) fn fastest<T: Copy>(
    tiles: impl Iterator<Item = (T, Extent)>,
    usual: Extent,
    [m, n, k]: [usize; 3],
    plan: &ProductPlan,
    slices: bool,
) -> Option<(T, usize)> {
    let threads = (plan.rate / UNIT_RATE).max(1.0) * UNIT_THREADS;
    let time = |tile: Extent, slices: usize| {
        let groups = m.div_ceil(tile.m) * n.div_ceil(tile.n) * slices;
        let rounds = ((groups * tile.threads) as f64 / threads).ceil();
        let efficiency = (tile.intensity() / usual.intensity()).sqrt().min(1.0);
        let each = (tile.m * tile.n / tile.threads * (k / slices + START)) as f64;
        let combined = match slices {
            1 => 0.0,
            _ => LAUNCHED + COMBINED * (slices * m * n) as f64 / threads,
        };
        rounds * each / efficiency + combined
    };
    let (mut best, mut least) = (None, f64::INFINITY);
    for (tile, extent) in tiles {
        let most = if slices { SLICES.min(k / SLICE).max(1) } else { 1 };
        for slices in (0..=most.ilog2()).map(|power| 1 << power) {
            let time = time(extent, slices);
            if time < least {
                (best, least) = (Some((tile, slices)), time);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_every_device_and_have_names() {
        for tile in Tile::CANDIDATES.iter().copied().chain(Tile::OTHERS) {
            let blocks = tile.k / 4 * (tile.m + tile.n) / 4;
            assert!(tile.threads() <= 256 && tile.memory() <= 16_384, "{}", tile.name());
            assert!(blocks <= 2 * tile.threads(), "{}: a thread fetches at most two blocks", tile.name());
            assert!(tile.block[0] == 4 || tile.m >= 64 && tile.block[0] == 8, "{}", tile.name());
        }
        for &tile in Tile::CANDIDATES {
            assert_eq!(Tile::by_name(&tile.name()), Some(tile));
        }
        assert_eq!(Tile::by_name("7x7"), None);
    }

    #[test]
    fn shapes_get_tiles_that_suit_them() {
        let plan = |rate| ProductPlan {
            tile: Tile::LARGE,
            fit: true,
            max_binding: 1 << 30,
            rate,
            budget: 0.1,
            cooperative: None,
        };
        assert_eq!(choose([16_384, 3072, 768], &plan(1e13), true), (Tile::LARGE, 1), "a large product");
        let (tile, _) = choose([16_384, 16, 768], &plan(1e13), false);
        assert_eq!((tile.m, tile.n), (128, 16), "few columns");
        let (tile, slices) = choose([16, 768, 16_384], &plan(1e13), true);
        assert_eq!(tile.m, 16, "few rows");
        assert!(slices >= 8, "few rows of long sums: {slices}");
        let (_, slices) = choose([768, 768, 16_384], &plan(1e13), true);
        assert!(slices > 1, "a gradient of weights");
        assert_eq!(choose([100, 100, 50], &plan(1e9), true).1, 1, "short sums");
        assert_eq!(choose([128, 768, 768], &plan(1e13), false).0, Tile::SMALL, "few rows, without slices");
        let only = ProductPlan { fit: false, ..plan(1e13) };
        assert_eq!(choose([3, 3, 768], &only, false), (Tile::LARGE, 1));
    }
}
