//! Tensors seen as slices on the CPU, and row-parallel loops.

use super::simd;
use crate::error::{Error, Result};
use candle_core::{CpuStorage, InplaceOp1, Layout, Shape, Storage, StorageRef, Tensor, WithDType};
use half::bf16;
use parking_lot::Mutex;
use rayon::prelude::*;

/// Elements a parallel task should at least have: below that, handing it out costs more than it saves.
const TASK_ELEMENTS: usize = 8 * 1024;

/// A borrowed view of a contiguous f32 CPU tensor's values.
pub struct HostRef<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> HostRef<'a> {
    /// Borrows the values; an error for other devices, dtypes or strided layouts.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        let (guard, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(Error::internal(format!(
                "kernel needs a contiguous tensor, got strides {:?}",
                layout.stride()
            )));
        };
        match &*guard {
            Storage::Cpu(CpuStorage::F32(_)) => Ok(Self { storage: guard, start, end }),
            _ => Err(Error::internal("kernel needs f32 values on the CPU")),
        }
    }
}

impl std::ops::Deref for HostRef<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.end],
            _ => &[], // `of` refused every other storage
        }
    }
}

/// A number format that kernels read and write on the CPU; they compute in f32.
pub trait Number: WithDType {
    /// In single precision.
    fn wide(self) -> f32;
    /// Rounded to this format, to the nearest.
    fn narrow(value: f32) -> Self;
    /// These values, as an operand of a product.
    fn values(values: &[Self]) -> Values<'_>;
    /// Where a product's output starts.
    fn place(start: *mut Self) -> Place;
    /// A storage's values, if they have this format.
    fn of(storage: &CpuStorage) -> Option<&[Self]>;
    /// As [`Number::of`], for writing.
    fn of_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

/// Where an output starts, in the format it is written in.
#[derive(Clone, Copy)]
pub enum Place {
    /// Single precision.
    F32(*mut f32),
    /// The upper half of single precision.
    Bf16(*mut bf16),
}

macro_rules! number {
    ($type:ty, $variant:ident, $storage:ident, $wide:expr, $narrow:expr) => {
        impl Number for $type {
            #[inline(always)]
            fn wide(self) -> f32 {
                $wide(self)
            }
            #[inline(always)]
            fn narrow(value: f32) -> Self {
                $narrow(value)
            }
            fn values(values: &[Self]) -> Values<'_> {
                Values::$variant(values)
            }
            fn place(start: *mut Self) -> Place {
                Place::$variant(start)
            }
            fn of(storage: &CpuStorage) -> Option<&[Self]> {
                if let CpuStorage::$storage(values) = storage { Some(values) } else { None }
            }
            fn of_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                if let CpuStorage::$storage(values) = storage { Some(values) } else { None }
            }
        }
    };
}
number!(f32, F32, F32, |x| x, |x| x);
number!(bf16, Bf16, BF16, simd::widen, simd::narrow);

/// A borrowed view of a contiguous CPU tensor's values in one format.
pub struct HostView<'a, T> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
    format: std::marker::PhantomData<T>,
}

impl<'a, T: Number> HostView<'a, T> {
    /// Borrows the values; an error for other devices, formats or strided layouts.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(Error::internal("kernel needs a contiguous tensor"));
        };
        match &*storage {
            Storage::Cpu(values) if T::of(values).is_some() => {
                Ok(Self { storage, start, end, format: std::marker::PhantomData })
            }
            _ => Err(Error::internal(format!("kernel needs {:?} values on the CPU", T::DTYPE))),
        }
    }
}

impl<T: Number> std::ops::Deref for HostView<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &*self.storage {
            Storage::Cpu(values) => T::of(values).map_or(&[], |values| &values[self.start..self.end]),
            _ => &[], // `of` refused every other storage
        }
    }
}

/// Values as they are stored.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// The upper half of single precision.
    Bf16(&'a [bf16]),
}

impl Values<'_> {
    /// Number of values.
    pub fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
    /// Those from `index` on; none where that is beyond the end.
    #[must_use]
    pub fn from(self, index: usize) -> Self {
        match self {
            Self::F32(values) => Self::F32(values.get(index..).unwrap_or_default()),
            Self::Bf16(values) => Self::Bf16(values.get(index..).unwrap_or_default()),
        }
    }
    /// Adds some of them, from `index` on, to `out`.
    pub fn add_to(self, index: usize, out: &mut [f32]) {
        let range = index..index + out.len();
        match self {
            Self::F32(v) => simd::vectors!(|| simd::update(out, &v[range], |o, v| *o += v)),
            Self::Bf16(v) => {
                simd::vectors!(|| simd::update(out, &v[range], |o, v| *o += simd::widen(v)));
            }
        }
    }
    /// One value, in single precision.
    pub fn at(self, index: usize) -> f32 {
        match self {
            Self::F32(values) => values[index],
            Self::Bf16(values) => values[index].to_f32(),
        }
    }
}

/// A borrowed view of a contiguous CPU tensor's values in the precision they are stored in: f32 or bf16.
pub struct StoredRef<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> StoredRef<'a> {
    /// Borrows the values; an error for other devices, dtypes or strided layouts.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        let (guard, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(Error::internal("kernel needs a contiguous weight"));
        };
        match &*guard {
            Storage::Cpu(CpuStorage::F32(_) | CpuStorage::BF16(_)) => Ok(Self { storage: guard, start, end }),
            _ => Err(Error::internal("kernel needs f32 or bf16 values on the CPU")),
        }
    }

    /// The values.
    pub fn values(&self) -> Values<'_> {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => Values::F32(&values[self.start..self.end]),
            Storage::Cpu(CpuStorage::BF16(values)) => Values::Bf16(&values[self.start..self.end]),
            _ => Values::F32(&[]), // `of` refused every other storage
        }
    }
}

/// `len` values that `write` sets, every one of them: memory is not cleared first. Debug builds fill it with NaN, so that
/// a value that was left out shows.
#[expect(
    clippy::uninit_vec,
    unsafe_code,
    reason = "clearing memory that is overwritten at once costs as much as using it"
)]
pub fn overwritten<T: Number>(len: usize, write: impl FnOnce(&mut [T])) -> Vec<T> {
    let mut out: Vec<T> = Vec::with_capacity(len);
    // SAFETY: the capacity is there and any bits are a valid number; callers write every value before one is read.
    unsafe { out.set_len(len) };
    if cfg!(debug_assertions) {
        out.fill(T::narrow(f32::NAN));
    }
    write(&mut out);
    out
}

/// A slice that several tasks write, each its own part.
#[derive(Clone, Copy)]
pub struct Shared<T = f32> {
    start: *mut T,
    len: usize,
}

#[expect(unsafe_code, reason = "parts are promised to be disjoint where they are taken")]
// SAFETY: see `Shared::piece`.
unsafe impl<T: Number> Send for Shared<T> {}
#[expect(unsafe_code, reason = "parts are promised to be disjoint where they are taken")]
// SAFETY: see `Shared::piece`.
unsafe impl<T: Number> Sync for Shared<T> {}

impl<T: Number> Shared<T> {
    /// Of a slice that outlives all uses.
    pub fn new(values: &mut [T]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len() }
    }
    /// Address of one value, inside the slice.
    #[expect(unsafe_code, reason = "pointer arithmetic within the checked slice")]
    pub fn at(&self, index: usize) -> *mut T {
        assert!(index <= self.len, "part outside of the shared slice");
        // SAFETY: inside the slice, or one past its end.
        unsafe { self.start.add(index) }
    }
    /// `len` values from `index` on.
    ///
    /// # Safety
    /// The slice is alive, and no two parts in use at the same time overlap.
    #[expect(unsafe_code, clippy::mut_from_ref, reason = "the point of this type: parts for tasks that do not overlap")]
    pub unsafe fn piece(&self, index: usize, len: usize) -> &mut [T] {
        assert!(index + len <= self.len, "part outside of the shared slice");
        // SAFETY: inside the slice; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(index), len) }
    }
}

struct Mutate<F, T>(Mutex<Option<F>>, std::marker::PhantomData<fn(T)>);

impl<F: FnOnce(&mut [T]), T: Number> InplaceOp1 for Mutate<F, T> {
    fn name(&self) -> &'static str {
        "mutate"
    }
    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("an in-place kernel needs a contiguous tensor")
        };
        let Some(values) = T::of_mut(storage) else {
            candle_core::bail!("an in-place kernel needs {:?} values", T::DTYPE)
        };
        if let Some(change) = self.0.lock().take() {
            change(&mut values[start..end]);
        }
        Ok(())
    }
}

/// Changes the values of a contiguous CPU tensor in place. Every clone of the tensor sees the change:
/// only for parameters (on purpose) and for buffers nobody else holds.
pub fn mutate<T: Number>(tensor: &Tensor, change: impl FnOnce(&mut [T])) -> Result<()> {
    Ok(tensor.inplace_op1(&Mutate(Mutex::new(Some(change)), std::marker::PhantomData))?)
}

/// A tensor from host values, moved, not copied.
pub fn tensor<T: Number>(values: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &candle_core::Device::Cpu)?)
}

fn rows_per_task(width: usize) -> usize {
    (TASK_ELEMENTS / width.max(1)).max(1)
}

/// Calls `work(first_row, block)` for blocks of whole rows of `out`, in parallel.
pub fn for_rows<T: Number>(out: &mut [T], width: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let rows = rows_per_task(width);
    if width == 0 || out.is_empty() {
        return;
    }
    if out.len() <= rows * width || rayon::current_num_threads() == 1 {
        for (i, block) in out.chunks_mut(rows * width).enumerate() {
            work(i * rows, block);
        }
        return;
    }
    out.par_chunks_mut(rows * width).enumerate().for_each(|(i, block)| work(i * rows, block));
}

/// As [`for_rows`] with two outputs of the same number of rows, each with its width.
#[expect(clippy::needless_pass_by_value, reason = "a pair of a slice and its width, taken apart at once")]
pub fn for_rows2<T: Number, U: Number>(
    a: (&mut [T], usize),
    b: (&mut [U], usize),
    work: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let rows = rows_per_task(a.1.max(b.1));
    if a.1 == 0 || b.1 == 0 || a.0.is_empty() {
        return;
    }
    let blocks = a.0.par_chunks_mut(rows * a.1).zip(b.0.par_chunks_mut(rows * b.1));
    blocks.enumerate().for_each(|(i, (x, y))| work(i * rows, x, y));
}

/// As [`for_rows2`] with three outputs.
#[expect(clippy::needless_pass_by_value, reason = "pairs of a slice and its width, taken apart at once")]
pub fn for_rows3(
    a: (&mut [f32], usize),
    b: (&mut [f32], usize),
    c: (&mut [f32], usize),
    work: impl Fn(usize, &mut [f32], &mut [f32], &mut [f32]) + Sync,
) {
    let rows = rows_per_task(a.1.max(b.1).max(c.1));
    if a.1 == 0 || b.1 == 0 || c.1 == 0 || a.0.is_empty() {
        return;
    }
    let blocks = a.0.par_chunks_mut(rows * a.1).zip(b.0.par_chunks_mut(rows * b.1)).zip(c.0.par_chunks_mut(rows * c.1));
    blocks.enumerate().for_each(|(i, ((x, y), z))| work(i * rows, x, y, z));
}

/// Sum over rows of each column. `[rows, width] -> [width]`. Blocks are added in row order.
pub fn column_sums<T: Number>(values: &[T], width: usize) -> Vec<f32> {
    let mut total = vec![0.0f32; width];
    if width == 0 {
        return total;
    }
    let block = rows_per_task(width) * width;
    let partial: Vec<Vec<f32>> = values
        .par_chunks(block)
        .map(|rows| {
            let mut sum = vec![0.0f32; width];
            for row in rows.chunks_exact(width) {
                for (s, &v) in sum.iter_mut().zip(row) {
                    *s += v.wide();
                }
            }
            sum
        })
        .collect();
    for sum in partial {
        for (t, s) in total.iter_mut().zip(sum) {
            *t += s;
        }
    }
    total
}
