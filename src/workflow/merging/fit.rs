//! Adapters and LoRA that answer as a wider one does, fitted on the inputs that the wider one reads. All in double precision
//! on the processor, without randomness: the same inputs give the same bits.

use crate::config::merge_plan::FIT_STEPS;
use crate::error::{Error, Result};
use crate::nn::Act;
use crate::nn::kernels::activation::{plain_backward, plain_forward};
use crate::tensor::{DType, Device, Tensor};
use crate::workflow::studies::lora_averages::eigen;

/// Step of Adam at the beginning, as a share of the size of what is fitted.
const RATE: f64 = 0.02;
/// Added to the diagonal of the normal equations, as a share of its mean: hidden units that are always off have no scale.
const RIDGE: f64 = 1e-10;

/// An adapter without its residual, in double precision: `up act(down x + b) + c`.
#[derive(Clone, Debug)]
pub(super) struct Units {
    /// `[r, d]`
    pub down: Tensor,
    /// `[r]`
    pub down_bias: Tensor,
    /// `[d, r]`
    pub up: Tensor,
    /// `[d]`
    pub up_bias: Tensor,
}

impl Units {
    /// Before the nonlinearity. x `[n, d]` -> `[n, r]`
    fn before(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.down.t()?)?.broadcast_add(&self.down_bias)
    }

    /// Hidden values. x `[n, d]` -> `[n, r]`
    pub fn hidden(&self, x: &Tensor, act: Act) -> Result<Tensor> {
        plain_forward(act, &self.before(x)?)
    }

    /// What it adds to its input. x `[n, d]` -> `[n, d]`
    pub fn output(&self, x: &Tensor, act: Act) -> Result<Tensor> {
        self.hidden(x, act)?.matmul(&self.up.t()?)?.broadcast_add(&self.up_bias)
    }

    /// Mean squared distance of the output from a target. x, target `[n, d]`
    pub fn distance(&self, x: &Tensor, target: &Tensor, act: Act) -> Result<f64> {
        mean_square(&(self.output(x, act)? - target)?)
    }
}

/// Mean over the rows of the squared norm.
fn mean_square(difference: &Tensor) -> Result<f64> {
    let (n, _) = difference.dims2()?;
    Ok(difference.sqr()?.sum_all()?.to_scalar::<f64>()? / n.max(1) as f64)
}

/// Units near a target, never farther from it than `start`: least squares for up and its bias, Adam on the gradient that
/// remains for down and its bias. `go_on` is called before each step. x, target `[n, d]`
pub(super) fn units(
    start: &Units,
    (x, target): (&Tensor, &Tensor),
    act: Act,
    go_on: &dyn Fn(f64) -> Result<()>,
) -> Result<Units> {
    let (n, _) = x.dims2()?;
    let mut best = (start.distance(x, target, act)?, start.clone());
    let (r, _) = start.down.dims2()?;
    let ones = Tensor::ones((n, 1), DType::F64, &Device::Cpu)?;
    let mut now = start.clone();
    let rates = [rms(&start.down)?, rms(&start.before(x)?)?].map(|size| size * RATE);
    let (mut down, mut bias) = (Adam::new(&start.down)?, Adam::new(&start.down_bias)?);
    for step in 0..=FIT_STEPS {
        go_on(step as f64 / (FIT_STEPS + 1) as f64)?;
        let z = now.before(x)?;
        let hidden = Tensor::cat(&[&plain_forward(act, &z)?, &ones], 1)?;
        let Some(solved) = least_squares(&hidden, target)? else { break };
        now.up = solved.narrow(0, 0, r)?.t()?.contiguous()?;
        now.up_bias = solved.get(r)?;
        let off = (hidden.matmul(&solved)? - target)?;
        let distance = mean_square(&off)?;
        if distance < best.0 {
            best = (distance, now.clone());
        }
        if step == FIT_STEPS {
            break;
        }
        // At the least squares' solution the gradient of what is left is that of the residual alone.
        let dz = plain_backward(act, &z, &off.matmul(&now.up)?)?;
        let decay = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / FIT_STEPS as f64).cos());
        now.down = down.step(&now.down, &dz.t()?.matmul(x)?, rates[0] * decay)?;
        now.down_bias = bias.step(&now.down_bias, &dz.sum(0)?, rates[1] * decay)?;
    }
    Ok(best.1)
}

fn rms(values: &Tensor) -> Result<f64> {
    Ok((values.sqr()?.sum_all()?.to_scalar::<f64>()? / values.elem_count().max(1) as f64).sqrt())
}

/// Adam (Kingma and Ba 2015) with its usual constants.
struct Adam {
    first: Tensor,
    second: Tensor,
    steps: i32,
}

impl Adam {
    fn new(like: &Tensor) -> Result<Self> {
        Ok(Self { first: like.zeros_like()?, second: like.zeros_like()?, steps: 0 })
    }

    fn step(&mut self, value: &Tensor, gradient: &Tensor, rate: f64) -> Result<Tensor> {
        let (beta1, beta2) = (0.9, 0.999);
        self.steps += 1;
        self.first = ((&self.first * beta1)? + (gradient * (1.0 - beta1))?)?;
        self.second = ((&self.second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
        let first = (&self.first * (rate / (1.0 - f64::powi(beta1, self.steps))))?;
        let second = (&self.second * (1.0 / (1.0 - f64::powi(beta2, self.steps))))?;
        // Where the gradient is 0 throughout, nothing moves.
        value - first.div(&(second.sqrt()? + 1e-30)?)?
    }
}

/// `argmin |A X - B|²` by the normal equations; nothing where they have no finite solution. A `[n, k]`, B `[n, m]` -> `[k, m]`
pub(super) fn least_squares(a: &Tensor, b: &Tensor) -> Result<Option<Tensor>> {
    let (_, k) = a.dims2()?;
    let (_, m) = b.dims2()?;
    let transposed = a.t()?.contiguous()?;
    let mut gram: Vec<Vec<f64>> = transposed.matmul(a)?.to_vec2()?;
    let mut right: Vec<Vec<f64>> = transposed.matmul(b)?.to_vec2()?;
    let ridge = RIDGE * (0..k).map(|i| gram[i][i]).sum::<f64>() / k.max(1) as f64;
    // Cholesky's factor, in place, then both triangles.
    for i in 0..k {
        for j in 0..=i {
            let own = if i == j { ridge } else { 0.0 };
            let sum = gram[i][j] + own - (0..j).map(|l| gram[i][l] * gram[j][l]).sum::<f64>();
            if i == j {
                if !(sum > 0.0 && sum.is_finite()) {
                    return Ok(None);
                }
                gram[i][i] = sum.sqrt();
            } else {
                gram[i][j] = sum / gram[j][j];
            }
        }
    }
    for (i, factors) in gram.iter().enumerate() {
        let (above, rest) = right.split_at_mut(i);
        for (factor, above) in factors.iter().zip(above) {
            rest[0].iter_mut().zip(above).for_each(|(x, y)| *x -= factor * *y);
        }
        rest[0].iter_mut().for_each(|x| *x /= factors[i]);
    }
    for i in (0..k).rev() {
        let (head, below) = right.split_at_mut(i + 1);
        for (l, below) in below.iter().enumerate() {
            let factor = gram[i + 1 + l][i];
            head[i].iter_mut().zip(below).for_each(|(x, y)| *x -= factor * y);
        }
        head[i].iter_mut().for_each(|x| *x /= gram[i][i]);
    }
    Ok(Some(Tensor::from_vec(right.concat(), (k, m), &Device::Cpu)?))
}

/// The product of rank `r` whose output on x is nearest to that of `B A`: with Y = X Aᵀ Bᵀ and V the first r right singular
/// vectors of Y, `B' = V`, `A' = Vᵀ B A`. From matrices of A's rank alone. A `[k, in]`, B `[out, k]`, x `[n, in]`
pub(super) fn low_rank(a: &Tensor, b: &Tensor, x: &Tensor, r: usize) -> Result<(Tensor, Tensor)> {
    let z = x.matmul(&a.t()?)?;
    let (n, k) = z.dims2()?;
    if r > k {
        return Err(Error::internal(format!("a module of rank {r} fitted to one of {k}")));
    }
    let gram = (z.t()?.matmul(&z)? * (1.0 / n.max(1) as f64))?;
    let root = root(&gram)?;
    let (squares, directions) = eigen(&root.matmul(&b.t()?.matmul(b)?)?.matmul(&root)?)?;
    let largest = squares.first().copied().unwrap_or(0.0);
    let inverse: Vec<f64> =
        squares.iter().take(r).map(|&s| if s > 1e-14 * largest { s.powf(-0.5) } else { 0.0 }).collect();
    let first = directions.narrow(1, 0, r)?.contiguous()?;
    let first = first.broadcast_mul(&Tensor::new(inverse, &Device::Cpu)?.unsqueeze(0)?)?;
    let v = b.matmul(&root)?.matmul(&first)?;
    Ok((v.t()?.matmul(b)?.matmul(a)?, v))
}

/// The symmetric root of a positive semidefinite matrix.
fn root(matrix: &Tensor) -> Result<Tensor> {
    let (values, directions) = eigen(matrix)?;
    let roots: Vec<f64> = values.iter().map(|&value| value.max(0.0).sqrt()).collect();
    directions.broadcast_mul(&Tensor::new(roots, &Device::Cpu)?.unsqueeze(0)?)?.matmul(&directions.t()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, SeedStream};

    fn random(seed: u64, shape: (usize, usize)) -> Tensor {
        let values = SeedStream::new(seed).stream(Purpose::Sampling, 0).normal_vec(shape.0 * shape.1, 1.0);
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
    }

    #[test]
    fn least_squares_solves_a_case_by_hand() {
        // y = 2 u - v through (1, 0, 2), (0, 1, -1), (1, 1, 1), and one point off by 3: (1, 1, 4).
        let a = Tensor::new(&[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0f64]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[[2.0], [-1.0], [1.0], [4.0f64]], &Device::Cpu).unwrap();
        // Normal equations: [[3, 2], [2, 3]] x = [7, 4]: x = [13/5, -2/5].
        let x: Vec<Vec<f64>> = least_squares(&a, &b).unwrap().unwrap().to_vec2().unwrap();
        assert!((x[0][0] - 2.6).abs() < 1e-8 && (x[1][0] + 0.4).abs() < 1e-8, "{x:?}");
        let nothing = Tensor::zeros((4, 2), DType::F64, &Device::Cpu).unwrap();
        assert!(least_squares(&nothing, &b).unwrap().is_none());
    }

    #[test]
    fn the_fitted_product_is_the_nearest_of_its_rank() {
        let (a, b, x) = (random(1, (6, 9)), random(2, (7, 6)), random(3, (40, 9)));
        // Inputs of very different sizes, so that the nearest weight is not the nearest output.
        let sizes = Tensor::new(&[[10.0, 0.1, 1.0, 3.0, 0.2, 1.0, 5.0, 0.5, 1.0f64]], &Device::Cpu).unwrap();
        let x = x.broadcast_mul(&sizes).unwrap();
        let y = x.matmul(&b.matmul(&a).unwrap().t().unwrap()).unwrap();
        let off = |a: &Tensor, b: &Tensor| {
            mean_square(&(x.matmul(&b.matmul(a).unwrap().t().unwrap()).unwrap() - &y).unwrap()).unwrap() * 40.0
        };
        // The squares of the singular values that are left out, from the Gram matrix of the outputs.
        let (squares, _) = eigen(&y.t().unwrap().matmul(&y).unwrap()).unwrap();
        for r in [1, 2, 4] {
            let (a2, b2) = low_rank(&a, &b, &x, r).unwrap();
            assert_eq!((a2.dims(), b2.dims()), (&[r, 9][..], &[7, r][..]));
            let (got, want) = (off(&a2, &b2), squares[r..].iter().sum::<f64>());
            assert!((got - want).abs() < 1e-8 * squares[0], "rank {r}: {got} instead of {want}");
        }
        let (a2, b2) = low_rank(&a, &b, &x, 6).unwrap();
        assert!(off(&a2, &b2) < 1e-10 * squares[0]);
    }

    #[test]
    fn fitted_units_come_nearer_and_a_reachable_target_is_nearly_reached() {
        let units_of = |seed: u64, r: usize| Units {
            down: random(seed, (r, 5)),
            down_bias: random(seed + 1, (1, r)).get(0).unwrap(),
            up: random(seed + 2, (5, r)),
            up_bias: random(seed + 3, (1, 5)).get(0).unwrap(),
        };
        let (x, wide, start) = (random(9, (200, 5)), units_of(20, 6), units_of(40, 2));
        let target = wide.output(&x, Act::Gelu).unwrap();
        let before = start.distance(&x, &target, Act::Gelu).unwrap();
        let fitted = units(&start, (&x, &target), Act::Gelu, &|_| Ok(())).unwrap();
        let after = fitted.distance(&x, &target, Act::Gelu).unwrap();
        let hidden = Tensor::cat(
            &[&start.hidden(&x, Act::Gelu).unwrap(), &Tensor::ones((200, 1), DType::F64, &Device::Cpu).unwrap()],
            1,
        );
        let hidden = hidden.unwrap();
        let solved = least_squares(&hidden, &target).unwrap().unwrap();
        let linear = mean_square(&(hidden.matmul(&solved).unwrap() - &target).unwrap()).unwrap();
        assert!(linear < before && after < 0.9 * linear, "{before}, least squares {linear}, fitted {after}");
        // From a start beside the target's own units, of the same number.
        let near = Units { down: (&wide.down + (random(60, (6, 5)) * 0.1).unwrap()).unwrap(), ..wide.clone() };
        let fitted = units(&near, (&x, &target), Act::Gelu, &|_| Ok(())).unwrap();
        let (from, to) =
            (near.distance(&x, &target, Act::Gelu).unwrap(), fitted.distance(&x, &target, Act::Gelu).unwrap());
        assert!(to < 0.01 * from, "{from} -> {to}");
        // What is exact stays exact.
        let same = units(&wide, (&x, &target), Act::Gelu, &|_| Ok(())).unwrap();
        assert!(same.distance(&x, &target, Act::Gelu).unwrap() < 1e-20);
        assert!(units(&start, (&x, &target), Act::Gelu, &|_| Err(Error::cancelled())).is_err());
    }
}
