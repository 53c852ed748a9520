//! Copies between layouts and formats, and sums, differences and products, value by value.

use super::THREADS;
use super::rows::{lanes, lanes_of, version};
use crate::gpu::launch::MAX_GRID;
use crate::gpu::{Format, Launch, Operand, Source};

const SOURCES: [Source; 2] = lanes!("copy", ["X", "Z", "Y"]);

/// Side of a square that is transposed at a time.
const SQUARE: usize = 32;

/// One dimension of what is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dimension {
    size: usize,
    from: usize,
    to: usize,
}

/// Dimensions whose values lie apart in both layouts: those of one value dropped, those that continue one another joined, the
/// one with the shortest step in the destination last.
fn simplified(dims: [usize; 4], from: [usize; 4], to: [usize; 4]) -> Vec<Dimension> {
    let all = dims.into_iter().zip(from).zip(to).map(|((size, from), to)| Dimension { size, from, to });
    let mut dims: Vec<Dimension> = all.filter(|dim| dim.size != 1).collect();
    dims.sort_by_key(|dim| std::cmp::Reverse(dim.to));
    let mut joined: Vec<Dimension> = Vec::with_capacity(4);
    for dim in dims {
        match joined.last_mut() {
            Some(outer) if (outer.from, outer.to) == (dim.size * dim.from, dim.size * dim.to) => {
                *outer = Dimension { size: outer.size * dim.size, ..dim };
            }
            _ => joined.push(dim),
        }
    }
    joined
}

/// Whether four values can be taken at a time.
fn by_four(dims: &[Dimension], x: Operand, y: Operand) -> bool {
    let Some((inner, outer)) = dims.split_last() else { return false };
    let steps = outer.iter().all(|dim| dim.from.is_multiple_of(4) && dim.to.is_multiple_of(4));
    (inner.from, inner.to) == (1, 1) && steps && lanes_of(inner.size, &[Some(x), Some(y)]) == 4
}

fn launch(entry: &'static str, lanes: usize, [x, y]: [Operand; 2], z: Option<Operand>) -> Launch {
    Launch::new(version(SOURCES, lanes), entry)
        .constant("X", x.format)
        .constant("Z", z.map_or(Format::F32, |z| z.format))
        .constant("Y", y.format)
        .operand(x)
        .operand(z)
        .operand(y)
}

/// `y[i·to] = x[i·from]` for all places i of up to four dimensions (those not needed have one value), also from one format to
/// another. Steps count values from the operands' first ones; a step of 0 in x repeats it. Places of y do not overlap.
pub fn strided(x: Operand, y: Operand, dims: [usize; 4], from: [usize; 4], to: [usize; 4]) -> Launch {
    let n: usize = dims.iter().product();
    let mut dims = simplified(dims, from, to);
    let constants = |launch: Launch, rank: usize| launch.constant("RANK", rank as u32).constant("OPERATION", 0);
    let words = |launch: Launch, n: usize, dims: &[Dimension]| {
        let nothing = Dimension { size: 1, from: 0, to: 0 };
        let at = |i: usize| (dims.len() + i).checked_sub(4).and_then(|i| dims.get(i)).copied().unwrap_or(nothing);
        let all = [0, 1, 2, 3].map(at);
        launch.ints([n]).ints(all.map(|dim| dim.size)).ints(all.map(|dim| dim.from)).ints(all.map(|dim| dim.to))
    };
    if let Some(grid) = squares(&mut dims) {
        return words(constants(launch("transposed", 1, [x, y], None), 4), n, &dims).over(grid).work(n as f64);
    }
    let lanes = if by_four(&dims, x, y) { 4 } else { 1 };
    if let Some((inner, outer)) = dims.split_last_mut().filter(|_| lanes == 4) {
        inner.size /= 4;
        outer.iter_mut().for_each(|dim| (dim.from, dim.to) = (dim.from / 4, dim.to / 4));
    }
    let launch = constants(launch("strided", lanes, [x, y], None), dims.len().max(1));
    words(launch, n / lanes, &dims).blocks((n / lanes).div_ceil(THREADS)).work(n as f64)
}

/// Whether values that lie side by side in x do not in y, and enough of them to go through squares: then that dimension comes
/// last but one. -> the grid
fn squares(dims: &mut [Dimension]) -> Option<[usize; 3]> {
    let (inner, outer) = dims.split_last()?;
    let side = outer.iter().position(|dim| dim.from == 1 && dim.size >= 8)?;
    if inner.from == 1 || inner.to != 1 || inner.size < 8 {
        return None;
    }
    let batches: usize = outer.iter().enumerate().filter(|(i, _)| *i != side).map(|(_, dim)| dim.size).product();
    let size = outer.get(side)?.size;
    let grid = [inner.size.div_ceil(SQUARE), size.div_ceil(SQUARE), batches];
    if grid.iter().any(|&count| count > MAX_GRID as usize) {
        return None;
    }
    let last = outer.len();
    dims.get_mut(side..last)?.rotate_left(1);
    Some(grid)
}

/// What is done with two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `x + z`
    Add,
    /// `x - z`
    Subtract,
    /// `x z`
    Multiply,
}

/// `y = x + z`, `x - z` or `x z`, value by value, all of one length and any format each. y may be x or z.
pub fn binary(operation: Operation, x: Operand, z: Operand, y: Operand) -> Launch {
    let n = y.len as usize;
    let lanes = lanes_of(n, &[Some(x), Some(z), Some(y)]);
    launch("binary", lanes, [x, y], Some(z))
        .constant("RANK", 1)
        .constant("OPERATION", operation as u32)
        .ints([n / lanes])
        .blocks((n / lanes).div_ceil(THREADS))
        .work(n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Address;

    #[test]
    fn dimensions_that_continue_one_another_are_joined() {
        let all = simplified([2, 3, 4, 5], [60, 20, 5, 1], [60, 20, 5, 1]);
        assert_eq!(all, [Dimension { size: 120, from: 1, to: 1 }]);
        let columns = simplified([1, 7, 1, 6], [0, 10, 0, 1], [0, 6, 0, 1]);
        assert_eq!(columns, [Dimension { size: 7, from: 10, to: 6 }, Dimension { size: 6, from: 1, to: 1 }]);
        assert!(simplified([1; 4], [0; 4], [0; 4]).is_empty());
    }

    #[test]
    fn each_layout_has_its_kernel() {
        let x = Operand::new(Address::new(0, 0), 1 << 20, Format::F32);
        let entry = |dims, from, to| {
            let launch = strided(x, x, dims, from, to);
            (launch.entry, launch.source.name, launch.grid)
        };
        assert_eq!(entry([1, 1, 40, 64], [0, 0, 128, 1], [0, 0, 64, 1]), ("strided", "copy4", [3, 1, 1]));
        assert_eq!(entry([1, 1, 40, 63], [0, 0, 128, 1], [0, 0, 63, 1]), ("strided", "copy", [10, 1, 1]));
        assert_eq!(entry([1, 1, 40, 64], [0, 0, 1, 40], [0, 0, 64, 1]), ("transposed", "copy", [2, 2, 1]));
        assert_eq!(entry([5, 1, 40, 3], [120, 0, 1, 40], [120, 0, 3, 1]), ("strided", "copy", [3, 1, 1]), "too narrow");
        assert!(strided(x, x, [3, 0, 1, 1], [1; 4], [1; 4]).is_empty());
    }
}
