//! Linear regression with standard errors that hold where the spread grows with the value.

/// A coefficient with its standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// One standard error.
    pub se: f64,
}

impl Estimate {
    /// Standard errors from zero; infinite where a value has no error, 0 where both are 0.
    pub fn z(self) -> f64 {
        if self.value == 0.0 { 0.0 } else { self.value / self.se }
    }

    /// Mean of some values and its standard error; nothing of fewer than two.
    pub fn mean(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        if values.len() < 2 {
            return None;
        }
        let value = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|v| (v - value).powi(2)).sum::<f64>();
        Some(Self { value, se: (squares / (n - 1.0) / n).sqrt() })
    }
}

/// `y ≈ c_0 + Σ_k c_k x_k` by least squares, with heteroscedasticity-consistent standard errors (HC1). `rows`: of each
/// observation the x and y. -> the intercept, then one coefficient for each x; nothing where the x do not determine them (a
/// constant x, two that are always equal) or where there are not more rows than coefficients.
pub fn fit(rows: &[(Vec<f64>, f64)]) -> Option<Vec<Estimate>> {
    let x = rows.first()?.0.len();
    if rows.iter().any(|(own, _)| own.len() != x) {
        return None;
    }
    let row = |i: usize, x: &mut [f64]| {
        x.copy_from_slice(&rows[i].0);
        rows[i].1
    };
    fit_rows(x, rows.len(), &row, &|| true)
}

/// Observations between two questions to `go_on`.
const ASK_EVERY: usize = 1024;

/// As [`fit`] over `n` observations of `x` numbers each that `row` writes one at a time, returning y: in the memory of one row.
/// Nothing, too, where `go_on` said no.
pub fn fit_rows(
    x: usize,
    n: usize,
    row: &dyn Fn(usize, &mut [f64]) -> f64,
    go_on: &dyn Fn() -> bool,
) -> Option<Vec<Estimate>> {
    let width = x + 1;
    if n <= width {
        return None;
    }
    // The first number of each row stands for the intercept.
    let mut own = vec![1.0; width];
    let (mut gram, mut moments) = (vec![vec![0.0; width]; width], vec![0.0; width]);
    for i in 0..n {
        let y = row(i, &mut own[1..]);
        if !y.is_finite() || (i % ASK_EVERY == 0 && !go_on()) {
            return None;
        }
        for (k, &a) in own.iter().enumerate().filter(|(_, a)| **a != 0.0) {
            moments[k] += a * y;
            gram[k].iter_mut().zip(&own).for_each(|(cell, b)| *cell += a * b);
        }
    }
    let inverse = inverted(gram)?;
    let times = |vector: &[f64], out: &mut [f64]| {
        out.iter_mut().zip(&inverse).for_each(|(out, row)| *out = row.iter().zip(vector).map(|(a, b)| a * b).sum());
    };
    let mut values = vec![0.0; width];
    times(&moments, &mut values);
    // Σ (r_t a_t)²: each observation moves coefficient i by r_t times row i of (XᵀX)⁻¹ x_t.
    let (mut variance, mut moved) = (vec![0.0; width], vec![0.0; width]);
    for i in 0..n {
        let y = row(i, &mut own[1..]);
        if i % ASK_EVERY == 0 && !go_on() {
            return None;
        }
        let residual = y - values.iter().zip(&own).map(|(c, x)| c * x).sum::<f64>();
        times(&own, &mut moved);
        variance.iter_mut().zip(&moved).for_each(|(sum, a)| *sum += (residual * a).powi(2));
    }
    let correction = n as f64 / (n - width) as f64;
    let estimate = |(value, variance): (f64, f64)| Estimate { value, se: (correction * variance).sqrt() };
    Some(values.into_iter().zip(variance).map(estimate).collect())
}

/// The inverse of a symmetric positive definite matrix by Gauss and Jordan; nothing where it has none.
fn inverted(mut matrix: Vec<Vec<f64>>) -> Option<Vec<Vec<f64>>> {
    let n = matrix.len();
    let largest = (0..n).map(|i| matrix[i][i].abs()).fold(0.0, f64::max);
    for (i, row) in matrix.iter_mut().enumerate() {
        row.extend((0..n).map(|j| f64::from(u8::from(i == j))));
    }
    for k in 0..n {
        let best = (k..n).max_by(|&a, &b| matrix[a][k].abs().total_cmp(&matrix[b][k].abs()))?;
        matrix.swap(k, best);
        let pivot = matrix[k][k];
        if pivot.abs() <= 1e-10 * largest {
            return None;
        }
        matrix[k].iter_mut().for_each(|cell| *cell /= pivot);
        let row = matrix[k].clone();
        for (i, other) in matrix.iter_mut().enumerate().filter(|(i, _)| *i != k) {
            debug_assert_ne!(i, k);
            let factor = other[k];
            other.iter_mut().zip(&row).for_each(|(cell, above)| *cell -= factor * above);
        }
    }
    Some(matrix.into_iter().map(|row| row[n..].to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_points_on_a_line_is_that_line() {
        let rows: Vec<(Vec<f64>, f64)> =
            (0..10).map(|h| (vec![f64::from(h % 5)], 2.0 + 0.5 * f64::from(h % 5))).collect();
        let found = fit(&rows).unwrap();
        assert!((found[0].value - 2.0).abs() < 1e-12 && (found[1].value - 0.5).abs() < 1e-12, "{found:?}");
        assert!(found.iter().all(|c| c.se < 1e-9));
    }

    #[test]
    fn coefficients_and_errors_are_those_of_a_hand_computation() {
        // x 0 0 1 1, y 1 3 4 8: intercept 2, slope 4; residuals -1 1 -2 2. HC1: 4/2 times
        // Var c_0 = Σ r² / 4 over x = 0 = 1/2, Var c_1 = 1/2 + 8/4 = 5/2.
        let rows = [(vec![0.0], 1.0), (vec![0.0], 3.0), (vec![1.0], 4.0), (vec![1.0], 8.0)];
        let found = fit(&rows).unwrap();
        assert!((found[0].value - 2.0).abs() < 1e-12 && (found[1].value - 4.0).abs() < 1e-12);
        assert!((found[0].se - 1.0).abs() < 1e-12 && (found[1].se - 5f64.sqrt()).abs() < 1e-12, "{found:?}");
        assert!((found[1].z() - 4.0 / 5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn what_the_rows_do_not_determine_is_not_made_up() {
        assert_eq!(fit(&[]), None);
        let constant: Vec<_> = (0..9).map(|i| (vec![1.0], f64::from(i))).collect();
        assert_eq!(fit(&constant), None);
        let twins: Vec<_> = (0..9).map(|i| (vec![f64::from(i % 2); 2], f64::from(i))).collect();
        assert_eq!(fit(&twins), None);
        let few = [(vec![0.0], 1.0), (vec![1.0], 2.0)];
        assert_eq!(fit(&few), None);
    }

    #[test]
    fn a_mean_has_its_standard_error() {
        let found = Estimate::mean(&[1.0, 2.0, 3.0, 6.0]).unwrap();
        // Squares 4 + 1 + 0 + 9 = 14; 14 / 3 / 4.
        assert!((found.value - 3.0).abs() < 1e-12 && (found.se - (14.0f64 / 12.0).sqrt()).abs() < 1e-12);
        assert_eq!(Estimate::mean(&[1.0]), None);
        assert_eq!(Estimate::default().z(), 0.0);
    }
}
