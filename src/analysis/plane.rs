//! The plane through three points of a space of weights: coordinates, barriers on straight lines, contours.
//!
//! The first point is the origin, the first axis leads to the second point, the second axis is what is left of the way to the
//! third. Both are measured in the norm of the weights, so that distances in the picture are distances of weights.

use super::causes::least_squares::Estimate;
use super::spectrum::dot;
use crate::error::{Error, Result};

/// Shares of the largest distance below which three points lie on a line.
const FLAT: f64 = 1e-6;
/// Free room around the three points, as a share of the larger of their extents.
const MARGIN: f64 = 0.25;

/// A plane with its axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    origin: Vec<f32>,
    /// Unit vectors.
    axes: [Vec<f64>; 2],
    /// Coordinates of the three points: `[0, 0]`, `[x, 0]`, `[x, y]`.
    corners: [[f64; 2]; 3],
}

/// A point of the space, seen from the plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct OnPlane {
    /// Along the first axis.
    pub x: f64,
    /// Along the second axis.
    pub y: f64,
    /// Distance from the plane.
    pub off: f64,
}

impl Plane {
    /// Through three points. Fails where they lie on a line, or where a value is not finite.
    pub fn through(points: [&[f32]; 3]) -> Result<Self> {
        let from_origin = |point: &[f32]| difference(point, points[0]);
        let (mut first, mut second) = (from_origin(points[1]), from_origin(points[2]));
        let (x, far) = (dot(&first, &first).sqrt(), dot(&second, &second).sqrt());
        if !x.is_finite() || !far.is_finite() {
            return Err(Error::data("a weight of these points is not finite, so there is no plane through them"));
        }
        let flat = || {
            Error::config(
                "the three points lie on a line or are the same, so they span no plane; choose three that differ (merged is the \
                 middle of two experts where there are two)",
            )
        };
        let largest = x.max(far);
        if x <= FLAT * largest || x == 0.0 {
            return Err(flat());
        }
        first.iter_mut().for_each(|value| *value /= x);
        let along = dot(&first, &second);
        second.iter_mut().zip(&first).for_each(|(value, axis)| *value -= along * axis);
        let y = dot(&second, &second).sqrt();
        if y <= FLAT * largest {
            return Err(flat());
        }
        second.iter_mut().for_each(|value| *value /= y);
        Ok(Self { origin: points[0].to_vec(), axes: [first, second], corners: [[0.0, 0.0], [x, 0.0], [along, y]] })
    }

    /// Coordinates of the three points.
    pub fn corners(&self) -> [[f64; 2]; 3] {
        self.corners
    }

    /// Where a point lies.
    pub fn project(&self, point: &[f32]) -> OnPlane {
        let away = difference(point, &self.origin);
        let [x, y] = [0, 1].map(|axis| dot(&self.axes[axis], &away));
        let beside = away.iter().zip(&self.axes[0]).zip(&self.axes[1]).map(|((v, a), b)| (v - x * a - y * b).powi(2));
        OnPlane { x, y, off: beside.sum::<f64>().sqrt() }
    }

    /// Weights of the three points at coordinates of the plane; they sum to 1.
    pub fn mixing(&self, [x, y]: [f64; 2]) -> [f64; 3] {
        let [_, [across, _], [along, high]] = self.corners;
        let third = y / high;
        let second = (x - third * along) / across;
        [1.0 - second - third, second, third]
    }

    /// The ends of a square field that holds the three points with room around: from and to along each axis.
    pub fn field(&self) -> [[f64; 2]; 2] {
        let ends = [0, 1].map(|axis| {
            let values = self.corners.map(|corner| corner[axis]);
            [
                values.iter().copied().fold(f64::INFINITY, f64::min),
                values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ]
        });
        let extent = ends.iter().map(|[low, high]| high - low).fold(0.0, f64::max);
        ends.map(|[low, high]| {
            let (middle, half) = (0.5 * (low + high), (0.5 + MARGIN) * extent);
            [middle - half, middle + half]
        })
    }
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f64> {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect()
}

/// `Σ weights_k points_k`, accumulated in f64.
pub fn mixed(points: &[(f64, &[f32])]) -> Vec<f32> {
    let mut sum = vec![0.0; points.first().map_or(0, |(_, point)| point.len())];
    for (weight, point) in points.iter().filter(|(weight, _)| *weight != 0.0) {
        sum.iter_mut().zip(*point).for_each(|(sum, &value)| *sum += weight * f64::from(value));
    }
    sum.into_iter().map(|value| value as f32).collect()
}

/// `n` values from `low` to `high`, both included.
pub fn spaced([low, high]: [f64; 2], n: usize) -> Vec<f64> {
    (0..n).map(|i| low + (high - low) * i as f64 / n.saturating_sub(1).max(1) as f64).collect()
}

/// The largest loss on a straight line above the line that joins the losses of both ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Barrier {
    /// Its height, not negative: 0 where no place lies above.
    pub height: f64,
    /// Its standard error: of the rows' paired differences at that place; 0 at an end.
    pub standard_error: f64,
    /// Share of the way where it lies, 0 to 1.
    pub at: f64,
}

impl Barrier {
    /// Of the losses of the same rows at places evenly spread over the line, ends included. `[places][rows]`
    pub fn of(places: &[Vec<f64>]) -> Self {
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return Self::default() };
        let mut found = Self::default();
        for (i, own) in places.iter().enumerate() {
            let at = i as f64 / (places.len() - 1).max(1) as f64;
            let rows = own.iter().zip(first).zip(last);
            let above: Vec<f64> = rows.map(|((loss, a), b)| loss - (a + at * (b - a))).collect();
            let Some(Estimate { value, se }) = Estimate::mean(&above) else { continue };
            if value > found.height && 0 < i && i + 1 < places.len() {
                found = Self { height: value, standard_error: se, at };
            }
        }
        found
    }
}

/// Pieces of the line on which a field has this value, by linear interpolation along the edges of its squares. `values`: row by
/// row, `columns` a row. -> pairs of `[column, row]`, in cells from the first value
pub fn contour(values: &[f64], columns: usize, level: f64) -> Vec<[[f64; 2]; 2]> {
    let rows = values.len() / columns.max(1);
    let at = |row: usize, column: usize| values[row * columns + column];
    let mut pieces = Vec::new();
    for row in 0..rows.saturating_sub(1) {
        for column in 0..columns.saturating_sub(1) {
            // Around the square, each corner beside the next.
            let corners = [(0, 0), (0, 1), (1, 1), (1, 0)].map(|(down, right)| {
                let place = [(column + right) as f64, (row + down) as f64];
                (place, at(row + down, column + right))
            });
            if corners.iter().any(|(_, value)| !value.is_finite()) {
                continue;
            }
            let mut crossings: Vec<[f64; 2]> = Vec::new();
            for i in 0..4 {
                let ((a, from), (b, to)) = (corners[i], corners[(i + 1) % 4]);
                if (from < level) != (to < level) {
                    let share = (level - from) / (to - from);
                    crossings.push([a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])]);
                }
            }
            // A saddle has four: the corner that lies apart from the middle is cut off on its own.
            if let [a, b, c, d] = crossings[..] {
                let middle = corners.iter().map(|(_, value)| value).sum::<f64>() / 4.0;
                let alike = (middle < level) == (corners[0].1 < level);
                pieces.extend(if alike { [[a, b], [c, d]] } else { [[d, a], [b, c]] });
            } else if let [a, b] = crossings[..] {
                pieces.push([a, b]);
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn a_plane_has_the_coordinates_of_its_triangle() {
        // Legs of 3 and 4 along axes two and three of four.
        let points: [&[f32]; 3] = [&[1.0, 1.0, 0.0, 2.0], &[1.0, 4.0, 0.0, 2.0], &[1.0, 1.0, 4.0, 2.0]];
        let plane = Plane::through(points).unwrap();
        assert_eq!(plane.corners(), [[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]);
        let seen = plane.project(&[6.0, 2.0, 2.0, 2.0]);
        assert!(near(seen.x, 1.0) && near(seen.y, 2.0) && near(seen.off, 5.0), "{seen:?}");
        for (corner, want) in plane.corners().into_iter().zip([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) {
            assert_eq!(plane.mixing(corner), want);
        }
        // The middle of all three is their mean.
        let middle = plane.mixing([1.0, 4.0 / 3.0]);
        assert!(middle.iter().all(|w| near(*w, 1.0 / 3.0)), "{middle:?}");
        let mean = mixed(&[(middle[0], points[0]), (middle[1], points[1]), (middle[2], points[2])]);
        assert!((mean[1] - 2.0).abs() < 1e-6 && (mean[2] - 4.0 / 3.0).abs() < 1e-6);
        // 4 by 3 with a quarter of 4 on each side, square.
        assert_eq!(plane.field(), [[-1.5, 4.5], [-1.0, 5.0]]);
        assert_eq!(mixed(&[(0.0, &[f32::NAN]), (1.0, &[2.5])]), [2.5], "what has no weight does not count");
    }

    #[test]
    fn three_points_on_a_line_are_refused() {
        let line = Plane::through([&[0.0, 0.0], &[1.0, 1.0], &[2.0, 2.0]]);
        assert!(line.unwrap_err().to_string().contains("span no plane"));
        assert!(Plane::through([&[1.0, 0.0], &[1.0, 0.0], &[2.0, 2.0]]).is_err(), "two are the same");
        assert!(Plane::through([&[0.0, 0.0], &[f32::NAN, 1.0], &[2.0, 2.0]]).is_err());
    }

    #[test]
    fn a_barrier_is_what_lies_above_the_line_between_the_ends() {
        let rows = |losses: &[f64]| losses.iter().map(|&loss| vec![loss, loss + 1.0, loss + 2.0]).collect::<Vec<_>>();
        let same = Barrier::of(&rows(&[0.4; 11]));
        assert_eq!(same, Barrier::default(), "identical points");
        // A basin: every place lies below the line.
        let basin: Vec<f64> = (0..11).map(|i| (f64::from(i) / 10.0 - 0.5).powi(2)).collect();
        assert_eq!(Barrier::of(&rows(&basin)).height, 0.0);
        // A hill on a slope: 4 t (1 - t) + 2 t rises 1 above the line at its middle.
        let hill: Vec<f64> = (0..11).map(|i| f64::from(i) / 10.0).map(|t| 4.0 * t * (1.0 - t) + 2.0 * t).collect();
        let found = Barrier::of(&rows(&hill));
        assert!(near(found.height, 1.0) && near(found.at, 0.5) && found.standard_error < 1e-9, "{found:?}");
        // Rows 0 and 2 above by 1 and 3: mean 2, standard error 1.
        let two = Barrier::of(&[vec![0.0, 0.0], vec![1.0, 3.0], vec![0.0, 0.0]]);
        assert!(near(two.height, 2.0) && near(two.standard_error, 1.0), "{two:?}");
    }

    #[test]
    fn a_quadratic_loss_has_the_contour_of_its_formula() {
        // x² + 4 y² on 41 x 41 places from -2 to 2: contours are ellipses with half axes sqrt(c) and sqrt(c)/2.
        let places = spaced([-2.0, 2.0], 41);
        let values: Vec<f64> = places.iter().flat_map(|y| places.iter().map(move |x| x * x + 4.0 * y * y)).collect();
        for level in [0.3, 1.0, 2.5] {
            let pieces = contour(&values, 41, level);
            assert!(pieces.len() > 20);
            let mut reached: f64 = 0.0;
            for point in pieces.iter().flatten() {
                let [x, y] = point.map(|cell| -2.0 + 0.1 * cell);
                // Linear interpolation between places 0.1 apart errs by at most h²/8 times the curvature of 8.
                assert!((x * x + 4.0 * y * y - level).abs() <= 0.01 + 1e-9, "{level}: {x} {y}");
                reached = reached.max(x);
            }
            assert!((reached - level.sqrt()).abs() < 0.02, "{level}: {reached}");
        }
        assert!(contour(&values, 41, -1.0).is_empty());
        // A saddle: two pieces that cut off opposite corners.
        assert_eq!(contour(&[1.0, 0.0, 0.0, 1.0], 2, 0.4).len(), 2);
        assert!(contour(&[0.0, f64::NAN, 1.0, 1.0], 2, 0.5).is_empty());
    }
}
