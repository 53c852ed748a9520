//! Whether a device multiplies cooperative matrices rightly: drivers have been seen that do not, so they are used only where
//! a test on the device itself passed.

use super::product::{Cooperative, CooperativeTile, CooperativeUnit, Form, Product, ProductPlan};
use super::source;
use crate::error::{Error, Result};
use crate::gpu::{AdapterKind, Backend, Constant, CooperativeMatrix, Format, Launch, MatrixRole};
use half::f16;

/// Threads of the workgroup that counts its subgroups.
const THREADS: usize = 256;
/// What a value may be off, as a part of the sum of its terms' absolute values: more than f32 loses in any order of short
/// sums, less than f16 loses.
const TOLERANCE: f64 = 3e-5;

/// What a device offers, and what of it can be used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// What passed the test; `None` if nothing did.
    pub cooperative: Option<Cooperative>,
    /// Why it is not used, of each format that a test found wrong, and of a device that offers nothing.
    pub reasons: Vec<String>,
}

/// Looks for what a device's matrix units can be used for, with tiles that suit most devices, and tests it.
///
/// # Errors
/// Of kind [`Device`](crate::error::ErrorKind::Device): no memory left, or the device is lost, perhaps by the test.
pub fn find(backend: &dyn Backend) -> Result<Found> {
    let mut found = Found::default();
    let mut units = Vec::new();
    for &matrix in &backend.facts().cooperative_matrices {
        let tested = offered(backend, matrix).and_then(|unit| {
            let problem = self_test(backend, &plan(backend, unit), unit)?;
            Ok((unit, problem))
        });
        match tested {
            Ok((unit, None)) => units.push(unit),
            Ok((_, Some(problem))) => found.reasons.push(problem),
            // A kernel that the driver does not compile leaves the device as it was.
            Err(err) if backend.failure().is_none() => found.reasons.push(err.to_string()),
            Err(err) => return Err(err),
        }
    }
    if backend.facts().cooperative_matrices.is_empty() {
        found.reasons.push("the adapter or its driver offers none that kernels can use".to_owned());
    }
    found.cooperative = (!units.is_empty()).then_some(Cooperative { units });
    Ok(found)
}

/// A plan by which all products of a unit's format that are not small run on that unit, and with its tile.
pub fn plan(backend: &dyn Backend, unit: CooperativeUnit) -> ProductPlan {
    let cooperative = Some(Cooperative { units: vec![unit] });
    ProductPlan { cooperative, fit: false, ..ProductPlan::of(backend.facts()) }
}

/// A unit for matrices that the device offers, untested: with the first tile that fits.
///
/// # Errors
/// As of [`find`]; also a kernel that the driver does not compile, and no tile that fits.
pub fn offered(backend: &dyn Backend, matrix: CooperativeMatrix) -> Result<CooperativeUnit> {
    let CooperativeMatrix { size, operands } = matrix;
    let threads = subgroup(backend, size)?;
    let tiles = match backend.facts().kind {
        AdapterKind::Software => &[CooperativeTile::SMALL][..],
        _ => CooperativeTile::CANDIDATES,
    };
    let units = tiles.iter().map(|&tile| CooperativeUnit { operands, size: size as usize, threads, tile });
    let unit = units.into_iter().find(|unit| fits(backend, unit));
    unit.ok_or_else(|| Error::internal(format!("no tile of {size}x{size} matrices fits subgroups of {threads}")))
}

/// Whether a device has the threads and the memory for a unit.
pub fn fits(backend: &dyn Backend, unit: &CooperativeUnit) -> bool {
    let facts = backend.facts();
    let threads = THREADS.min(facts.workgroup_threads as usize);
    unit.workgroup() <= threads && unit.memory() <= facts.workgroup_memory as usize
}

/// Threads of a subgroup in a kernel with cooperative matrices.
fn subgroup(backend: &dyn Backend, size: u32) -> Result<usize> {
    let buffer = backend.allocate(4)?;
    backend.clear(buffer.address(), 4)?;
    let count = Launch::new(source!("subgroups"), "count")
        .constant("SUMS", Constant::Matrix(size, Format::F32, MatrixRole::Sums))
        .constant("S", size)
        .operand(buffer.operand(1, Format::U32));
    backend.launch(&count)?;
    let bytes = backend.download(&[(buffer.address(), 4)])?;
    let bytes = bytes.first().and_then(|bytes| bytes.first_chunk::<4>()).copied().unwrap_or_default();
    match u32::from_le_bytes(bytes) as usize {
        count if count > 0 && THREADS.is_multiple_of(count) => Ok(THREADS / count),
        count => Err(Error::internal(format!("a workgroup of {THREADS} threads in {count} subgroups"))),
    }
}

/// Numbers between -1 and 1 that look random, in a format; always the same for the same seed.
fn random(seed: u32, len: usize, format: Format) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let value = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
        if format == Format::F16 { f16::from_f32(value).to_f32() } else { value }
    };
    (0..len).map(|_| next()).collect()
}

/// Values as bytes of a format, up to a multiple of four of them.
fn bytes_of(values: &[f32], format: Format) -> Vec<u8> {
    let mut bytes: Vec<u8> = match format {
        Format::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Multiplies random matrices of all forms by a plan, in shapes that leave no tile of `unit` whole, and compares with sums of
/// the host. -> what is wrong
///
/// # Errors
/// As of [`find`]; also a kernel that the driver does not compile.
pub fn self_test(backend: &dyn Backend, plan: &ProductPlan, unit: CooperativeUnit) -> Result<Option<String>> {
    let [m, n, k] = unit.shape();
    for (seed, form) in [Form::Nt, Form::Nn, Form::Tn].into_iter().enumerate() {
        // Rows that are loaded four values at a time, and one at a time.
        for odd in [0, 1] {
            let shape = [m + 4 + odd, n + 4 + odd, 2 * k + 4 + odd];
            if let Some(what) = wrong(backend, plan, unit.operands, form, shape, 2 * seed as u32)? {
                let matrix = format!("{0}x{0} matrices of {1}", unit.size, unit.operands.wgsl());
                return Ok(Some(format!("{matrix} are multiplied wrongly: {what}")));
            }
        }
    }
    Ok(None)
}

/// Times that [`repeats`] multiplies.
const REPEATS: usize = 3;

/// Multiplies random matrices of many tiles several times: the results must be the same bits, and close to those of the plain
/// kernels. A device whose threads read what others are still writing shows it when many workgroups run. -> what is wrong
///
/// # Errors
/// As of [`self_test`].
pub fn repeats(backend: &dyn Backend, plan: &ProductPlan, unit: CooperativeUnit) -> Result<Option<String>> {
    let [m, n, k] = unit.shape().map(|size| 8 * size + 4);
    let format = unit.operands;
    let upload = |seed, len| {
        let bytes = bytes_of(&random(seed, len, format), format);
        let buffer = backend.allocate(bytes.len() as u64)?;
        backend.upload(buffer.address(), &bytes)?;
        Ok::<_, Error>(buffer)
    };
    let (left, right) = (upload(7, m * k)?, upload(8, n * k)?);
    let (a, b) = (left.operand(m * k, format), right.operand(n * k, format));
    let plain = ProductPlan::of(backend.facts());
    let plans = std::iter::repeat_n(plan, REPEATS).chain([&plain]);
    let multiply = |plan: &ProductPlan| {
        let out = backend.allocate((m * n) as u64 * Format::F32.bytes())?;
        for launch in Product::new(Form::Nt, [m, n, k], a, b, out.operand(m * n, Format::F32)).launches(plan) {
            backend.launch(&launch)?;
        }
        Ok::<_, Error>(out)
    };
    let outs = plans.map(multiply).collect::<Result<Vec<_>>>()?;
    let parts: Vec<_> = outs.iter().map(|out| (out.address(), (m * n) as u64 * Format::F32.bytes())).collect();
    let results = backend.download(&parts)?;
    let Some(([first, others @ ..], expected)) = results.split_last().map(|(last, own)| (own, last)) else {
        return Err(Error::internal("no products came back"));
    };
    let matrix = format!("{0}x{0} matrices of {1}", unit.size, format.wgsl());
    if others.iter().any(|other| other != first) {
        return Ok(Some(format!("{matrix} are multiplied differently each time")));
    }
    let number = |bytes: &[u8; 4]| f64::from(f32::from_le_bytes(*bytes));
    let ((got, _), (wanted, _)) = (first.as_chunks::<4>(), expected.as_chunks::<4>());
    // Terms between -1 and 1 have sums that are off by less than this many of them.
    let most = TOLERANCE * k as f64;
    let wrong = got.iter().zip(wanted).find(|(got, wanted)| {
        let off = (number(got) - number(wanted)).abs();
        off.is_nan() || off > most
    });
    Ok(wrong.map(|(got, wanted)| {
        format!("{matrix} are multiplied wrongly in large products: {} is not {}", number(got), number(wanted))
    }))
}

/// Runs one product and compares. -> what is wrong
fn wrong(
    backend: &dyn Backend,
    plan: &ProductPlan,
    format: Format,
    form: Form,
    shape: [usize; 3],
    seed: u32,
) -> Result<Option<String>> {
    let [m, n, k] = shape;
    let (a, b) = (random(seed, m * k, format), random(seed + 1, n * k, format));
    let upload = |values: &[f32], format: Format| {
        let bytes = bytes_of(values, format);
        let buffer = backend.allocate(bytes.len() as u64)?;
        backend.upload(buffer.address(), &bytes)?;
        Ok::<_, Error>(buffer)
    };
    let on = [upload(&a, format)?, upload(&b, format)?, upload(&vec![f32::NAN; m * n], Format::F32)?];
    let [a_on, b_on, out] = [(0, m * k, format), (1, n * k, format), (2, m * n, Format::F32)]
        .map(|(i, len, format): (usize, usize, Format)| on[i].operand(len, format));
    for launch in Product::new(form, shape, a_on, b_on, out).launches(plan) {
        backend.launch(&launch)?;
    }
    let bytes = backend.download(&[(out.address, out.bytes())])?.pop().unwrap_or_default();
    let (got, _) = bytes.as_chunks::<4>();
    // Steps from one row, column and term of the sum to the next.
    let ([a_row, a_k], [b_column, b_k]) = match form {
        Form::Nt => ([k, 1], [k, 1]),
        Form::Nn => ([k, 1], [1, n]),
        Form::Tn => ([1, m], [1, n]),
    };
    for (at, got) in got.iter().enumerate() {
        let (row, column) = (at / n, at % n);
        let (mut sum, mut size) = (0.0, 0.0);
        let terms_a = a.iter().skip(row * a_row).step_by(a_k);
        let terms_b = b.iter().skip(column * b_column).step_by(b_k);
        for (a, b) in terms_a.zip(terms_b).take(k) {
            let term = f64::from(*a) * f64::from(*b);
            (sum, size) = (sum + term, size + term.abs());
        }
        let value = f64::from(f32::from_le_bytes(*got));
        // Also where it is not a number.
        let is_close = (value - sum).abs() <= TOLERANCE * size;
        if !is_close {
            return Ok(Some(format!("{form:?} {m}x{n}x{k} is {value} at {row}, {column}, not {sum}")));
        }
    }
    Ok((got.len() != m * n).then(|| format!("{} values of {} came back", got.len(), m * n)))
}
