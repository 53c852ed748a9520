//! The directions of one module's experts: singular values, ranks, products of both sides, and the angles between what two
//! experts span, each beside what chance gives.

use super::expert_stats::HostBank;
use super::spectrum::{Overlap, OverlapChance, Spectrum, Vectors, basis, of_product, vectors};
use serde::Serialize;

/// Work that a snapshot may take while the model trains, in multiplications.
const QUICK: usize = 60_000_000;

/// What the experts of one side of an adapted module span.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Directions {
    /// Dimensions of the space: the longer side of the matrix.
    pub space: usize,
    /// Vectors of each matrix: the shorter side.
    pub each: usize,
    /// Singular values of each expert; absent where a weight is not finite. `[experts]`
    pub experts: Vec<Option<Spectrum>>,
    /// Of their mean.
    pub mean: Option<Spectrum>,
    /// Of each expert's product of both sides (a shared side with each expert of the other), the change that the module
    /// would make without a nonlinearity between. Empty where the sides do not fit (several blocks of one LoRA). `[experts]`
    pub products: Vec<Option<Spectrum>>,
    /// Of the product of both means.
    pub mean_product: Option<Spectrum>,
    /// Overlap of what experts i and j span, 1 on the diagonal; absent where one spans nothing. `[experts * experts]`
    pub overlap: Vec<Option<f64>>,
    /// Smallest principal angle between them, in degrees. `[experts * experts]`
    pub smallest_angle: Vec<Option<f64>>,
    /// Largest principal angle between them, in degrees. `[experts * experts]`
    pub largest_angle: Vec<Option<f64>>,
    /// What two random spans of these sizes show.
    pub chance: Option<OverlapChance>,
}

/// Whether the directions of this bank are computed in a moment.
pub fn is_quick(bank: &HostBank) -> bool {
    let (short, long) = (bank.rows.min(bank.cols), bank.rows.max(bank.cols));
    let square = short.saturating_mul(short);
    // An orthonormalisation and the rotations of a small square for each matrix and product, and for each pair.
    let each = square.saturating_mul(4 * long).saturating_add(square.saturating_mul(24 * short));
    let pairs = bank.experts * bank.experts.saturating_sub(1) / 2;
    let pair = square.saturating_mul(long).saturating_add(square.saturating_mul(24 * short));
    (3 * bank.experts + 3).saturating_mul(each).saturating_add(pairs.saturating_mul(pair)) <= QUICK
}

impl Directions {
    /// Of one side; `sides`: both banks of the module, down (or A) first.
    pub fn of(sides: [&HostBank; 2], side: usize) -> Self {
        let bank = sides[side.min(1)];
        let list = |bank: &HostBank| -> Vec<Vectors> {
            bank.weights().map(|weight| vectors(weight, bank.rows, bank.cols)).collect()
        };
        let own = list(bank);
        let mean = vectors(&bank.mean(), bank.rows, bank.cols);
        let bases: Vec<Vectors> = own.iter().map(|vectors| basis(vectors)).collect();
        let m = bank.experts;
        let pair = |i: usize, j: usize| if i == j { None } else { Overlap::of(&bases[i], &bases[j]) };
        let (mut overlap, mut smallest, mut largest) = (vec![None; m * m], vec![None; m * m], vec![None; m * m]);
        for i in 0..m {
            let spans = (!bases[i].is_empty()).then_some(1.0);
            (overlap[i * m + i], smallest[i * m + i], largest[i * m + i]) =
                (spans, spans.map(|_| 0.0), spans.map(|_| 0.0));
            for j in 0..i {
                let found = pair(i, j);
                for at in [i * m + j, j * m + i] {
                    overlap[at] = found.as_ref().map(|found| found.overlap);
                    smallest[at] = found.as_ref().and_then(|found| found.degrees.first().copied());
                    largest[at] = found.as_ref().and_then(|found| found.degrees.last().copied());
                }
            }
        }
        let dimensions = bases.iter().map(Vec::len).max().unwrap_or(0);
        let space = bank.rows.max(bank.cols);
        let (products, mean_product) = products(sides);
        Self {
            space,
            each: bank.rows.min(bank.cols),
            experts: own.iter().map(|vectors| Spectrum::of(vectors)).collect(),
            mean: Spectrum::of(&mean),
            products,
            mean_product,
            overlap,
            smallest_angle: smallest,
            largest_angle: largest,
            chance: (m > 1 && dimensions > 0).then(|| OverlapChance::new(dimensions, dimensions, space)),
        }
    }
}

impl Directions {
    /// Mean over all pairs of experts of the overlap and of the smallest angle in degrees; nothing without a pair that spans
    /// something.
    pub fn of_pairs(&self) -> Option<(f64, f64)> {
        let m = self.experts.len();
        let pairs: Vec<usize> = (0..m).flat_map(|i| (0..i).map(move |j| i * m + j)).collect();
        let mean = |values: &[Option<f64>]| {
            let known: Vec<f64> = pairs.iter().filter_map(|&at| values.get(at).copied().flatten()).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        mean(&self.overlap).zip(mean(&self.smallest_angle))
    }
}

/// Of each expert's product of both sides, and of the product of the means.
fn products([down, up]: [&HostBank; 2]) -> (Vec<Option<Spectrum>>, Option<Spectrum>) {
    if up.cols != down.rows {
        return (Vec::new(), None);
    }
    let columns = |weight: &[f32]| -> Vectors {
        (0..up.cols).map(|col| (0..up.rows).map(|row| f64::from(weight[row * up.cols + col])).collect()).collect()
    };
    let rows = |weight: &[f32]| -> Vectors {
        weight.chunks_exact(down.cols.max(1)).map(|row| row.iter().map(|&w| f64::from(w)).collect()).collect()
    };
    let ups: Vec<Vectors> = up.weights().map(columns).collect();
    let downs: Vec<Vectors> = down.weights().map(rows).collect();
    let one = |i: usize| {
        let (up, down) = (ups.get(i.min(ups.len() - 1))?, downs.get(i.min(downs.len() - 1))?);
        Some(Spectrum::new(of_product(up, down)?))
    };
    if ups.is_empty() || downs.is_empty() {
        return (Vec::new(), None);
    }
    let mean = of_product(&columns(&up.mean()), &rows(&down.mean())).map(Spectrum::new);
    ((0..ups.len().max(downs.len())).map(one).collect(), mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bank(experts: usize, rows: usize, cols: usize, weight: &[f32]) -> HostBank {
        HostBank { experts, rows, cols, weight: weight.to_vec(), bias: Vec::new() }
    }

    #[test]
    fn directions_of_two_experts_by_hand() {
        // Down 2 x 3: expert 0 spans the first two axes with norms 3 and 4, expert 1 the last two with norm 2.
        let down = bank(2, 2, 3, &[3.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 2.0]);
        // One up of 3 x 2 for both: columns [1, 0, 0] and [0, 0, 5].
        let up = bank(1, 3, 2, &[1.0, 0.0, 0.0, 0.0, 0.0, 5.0]);
        let found = Directions::of([&down, &up], 0);
        assert_eq!((found.space, found.each), (3, 2));
        assert_eq!(found.experts[0].as_ref().unwrap().singular_values, [4.0, 3.0]);
        assert!((found.experts[1].as_ref().unwrap().effective_rank - 2.0).abs() < 1e-12);
        // Products: 1 * 3 and 5 * 4, 1 * 2 and 5 * 2.
        let products: Vec<&[f64]> = found.products.iter().map(|p| &p.as_ref().unwrap().singular_values[..]).collect();
        assert!((products[0][0] - 20.0).abs() < 1e-9 && (products[0][1] - 3.0).abs() < 1e-9, "{products:?}");
        assert!((products[1][0] - 10.0).abs() < 1e-9 && (products[1][1] - 2.0).abs() < 1e-9, "{products:?}");
        // Mean of the downs: [1.5, 1, 0] and [0, 2, 1].
        let mean = found.mean.as_ref().unwrap();
        let squares: f64 = mean.singular_values.iter().map(|s| s * s).sum();
        assert!((squares - 8.25).abs() < 1e-9);
        // One axis in common of two each.
        assert!((found.overlap[1].unwrap() - 0.5).abs() < 1e-12 && found.overlap[0] == Some(1.0));
        assert!(found.smallest_angle[1].unwrap() < 1e-5 && (found.largest_angle[1].unwrap() - 90.0).abs() < 1e-9);
        assert_eq!(found.overlap[1], found.overlap[2]);
        assert!(found.of_pairs().is_some_and(|(overlap, angle)| (overlap - 0.5).abs() < 1e-12 && angle < 1e-5));
        assert!(found.chance.unwrap().overlap > 0.66, "two planes in three dimensions share a line");
        let other = Directions::of([&down, &up], 1);
        assert_eq!((other.space, other.each, other.chance), (3, 2, None), "one matrix has no pairs");
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let down = bank(2, 4, 3, &[1.0; 24]);
        let up = bank(2, 3, 2, &[0.0; 12]);
        let found = Directions::of([&down, &up], 1);
        assert!(found.products.is_empty() && found.mean_product.is_none(), "two blocks of rank 2");
        assert_eq!(found.overlap, [None; 4], "zero matrices span nothing");
        assert_eq!(found.experts[0].as_ref().unwrap().effective_rank, 0.0);
        assert!(is_quick(&bank(4, 16, 128, &[])) && !is_quick(&bank(16, 256, 4096, &[])));
    }
}
