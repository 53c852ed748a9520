//! CPU tensors seen as slices, new memory for outputs, and row-parallel loops.

use super::simd;
use crate::error::{Error, Result};
use crate::tensor::{Device, Shape, Tensor};
use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, StorageRef, WithDType};
use half::bf16;
use parking_lot::Mutex;
use rayon::prelude::*;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Elements a parallel task should at least have: below that, handing it out costs more than it saves.
const TASK_ELEMENTS: usize = 8 * 1024;

/// A number format that kernels read and write on the CPU; they compute in f32.
pub trait Number: WithDType {
    /// In single precision.
    fn wide(self) -> f32;
    /// Rounded to this format, to the nearest.
    fn narrow(value: f32) -> Self;
    /// These values, as an operand of a product.
    fn values(values: &[Self]) -> Values<'_>;
    /// The slice, if it has this format.
    fn of(values: Values<'_>) -> Option<&[Self]>;
    /// Where a product's output starts.
    fn place(start: *mut Self) -> Place;
    /// A storage's values for writing, if they have this format.
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
            fn of(values: Values<'_>) -> Option<&[Self]> {
                if let Values::$variant(values) = values { Some(values) } else { None }
            }
            fn place(start: *mut Self) -> Place {
                Place::$variant(start)
            }
            fn of_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                if let CpuStorage::$storage(values) = storage { Some(values) } else { None }
            }
        }
    };
}
number!(f32, F32, F32, |x| x, |x| x);
number!(bf16, Bf16, BF16, simd::widen, simd::narrow);

/// Values as they are stored.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// The upper half of single precision.
    Bf16(&'a [bf16]),
}

impl<'a> From<&'a [f32]> for Values<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

impl Values<'_> {
    /// Number of values.
    pub fn count(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
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

/// A borrowed view of a contiguous CPU tensor's values in the format they are stored in: f32 or bf16.
pub struct StoredRef<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> StoredRef<'a> {
    /// Borrows the values; an error for other devices, formats or strided layouts.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.candle()?.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            let strides = layout.stride();
            return Err(Error::internal(format!("kernel needs a contiguous tensor, got strides {strides:?}")));
        };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_) | CpuStorage::BF16(_)) => Ok(Self { storage, start, end }),
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

/// As [`StoredRef`], in one format; a slice of its values.
pub struct HostView<'a, T> {
    stored: StoredRef<'a>,
    format: PhantomData<T>,
}

/// A view of f32 values.
pub type HostRef<'a> = HostView<'a, f32>;

impl<'a, T: Number> HostView<'a, T> {
    /// Borrows the values; an error for other devices, formats or strided layouts.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        let stored = StoredRef::of(tensor)?;
        match T::of(stored.values()) {
            Some(_) => Ok(Self { stored, format: PhantomData }),
            None => Err(Error::internal(format!("kernel needs {:?} values on the CPU", T::DTYPE))),
        }
    }
}

impl<T: Number> std::ops::Deref for HostView<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        T::of(self.stored.values()).unwrap_or_default()
    }
}

/// What is still to be written of a block of new memory, front to back.
pub struct Unwritten<'a, T>(&'a mut [MaybeUninit<T>]);

impl<'a, T: Copy> Unwritten<'a, T> {
    /// A block of new memory.
    pub fn new(block: &'a mut [MaybeUninit<T>]) -> Self {
        Self(block)
    }

    /// Writes the next values, as many as there are (or fit), and returns them.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the values were written just before")]
    pub fn push(&mut self, values: impl Iterator<Item = T>) -> &'a mut [T] {
        let mut count = 0;
        for (out, value) in self.0.iter_mut().zip(values) {
            out.write(value);
            count += 1;
        }
        let (done, rest) = std::mem::take(&mut self.0).split_at_mut(count);
        self.0 = rest;
        // SAFETY: the loop above has written every value of `done`.
        unsafe { &mut *(std::ptr::from_mut(done) as *mut [T]) }
    }
}

/// `len` new values that `write` sets; memory is not cleared first.
///
/// # Safety
/// `write` sets every value.
#[expect(unsafe_code, reason = "clearing memory that is overwritten at once costs as much as using it")]
pub unsafe fn new_values<T: Copy>(len: usize, write: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut out: Vec<T> = Vec::with_capacity(len);
    write(&mut out.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is there; every value was set by the caller's promise.
    unsafe { out.set_len(len) };
    out
}

/// New matrices of `n` rows: N of `T` and M of f32 with the given widths. `work(rows, narrow, wide)` writes the given rows
/// of each, in parallel.
#[expect(unsafe_code, reason = "blocks of rows of several outputs at once")]
pub fn new_rows<T: Number, const N: usize, const M: usize>(
    n: usize,
    narrow: [usize; N],
    wide: [usize; M],
    work: impl Fn(Range<usize>, &mut [Unwritten<'_, T>; N], &mut [Unwritten<'_, f32>; M]) + Sync,
) -> ([Vec<T>; N], [Vec<f32>; M]) {
    let mut narrow_out = narrow.map(|width| Vec::<T>::with_capacity(n * width));
    let mut wide_out = wide.map(|width| Vec::<f32>::with_capacity(n * width));
    let per_task = rows_per_task(narrow.into_iter().chain(wide).max().unwrap_or(0));
    {
        let narrow_parts = narrow_out.each_mut().map(|out| Shared::new(out.spare_capacity_mut()));
        let wide_parts = wide_out.each_mut().map(|out| Shared::new(out.spare_capacity_mut()));
        let block = |index: usize| {
            let rows = index * per_task..((index + 1) * per_task).min(n);
            let (first, count) = (rows.start, rows.len());
            // SAFETY: blocks of rows are disjoint and lie inside the matrices.
            let (mut narrow, mut wide) = unsafe {
                (
                    std::array::from_fn(|i| Unwritten(narrow_parts[i].part(first * narrow[i], count * narrow[i]))),
                    std::array::from_fn(|i| Unwritten(wide_parts[i].part(first * wide[i], count * wide[i]))),
                )
            };
            work(rows, &mut narrow, &mut wide);
            let left = narrow.iter().map(|out| out.0.len()).chain(wide.iter().map(|out| out.0.len())).sum::<usize>();
            assert!(left == 0, "a kernel left {left} values of its output unwritten");
        };
        let blocks = n.div_ceil(per_task);
        if blocks <= 1 || rayon::current_num_threads() == 1 {
            (0..blocks).for_each(block);
        } else {
            (0..blocks).into_par_iter().for_each(block);
        }
    }
    // SAFETY: the capacities are there, and every block was written to its end.
    unsafe {
        narrow_out.iter_mut().zip(narrow).for_each(|(out, width)| out.set_len(n * width));
        wide_out.iter_mut().zip(wide).for_each(|(out, width)| out.set_len(n * width));
    }
    (narrow_out, wide_out)
}

/// As [`new_rows`] with one output. -> `[n, width]`
pub fn new_matrix<T: Number>(
    n: usize,
    width: usize,
    work: impl Fn(Range<usize>, &mut Unwritten<'_, T>) + Sync,
) -> Vec<T> {
    let ([out], []) = new_rows(n, [width], [], |rows, [out], []| work(rows, out));
    out
}

/// New values, `f(x)` each, in parallel.
pub fn map<X: Number, T: Number>(x: &[X], f: impl Fn(f32) -> f32 + Sync) -> Vec<T> {
    new_matrix(x.len(), 1, |some, out| {
        let source = &x[some];
        simd::vectors!(|| {
            out.push(source.iter().map(|v| T::narrow(f(v.wide()))));
        });
    })
}

/// A slice that several tasks write, each its own part.
pub struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

#[expect(unsafe_code, reason = "parts are promised to be disjoint where they are taken")]
// SAFETY: see `Shared::part`.
unsafe impl<T: Send> Send for Shared<'_, T> {}
#[expect(unsafe_code, reason = "parts are promised to be disjoint where they are taken")]
// SAFETY: see `Shared::part`.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Of a slice.
    pub fn new(values: &'a mut [T]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len(), slice: PhantomData }
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
    /// No two parts in use at the same time overlap.
    #[expect(unsafe_code, reason = "the point of this type: parts for tasks that do not overlap")]
    pub unsafe fn part(&self, index: usize, len: usize) -> &'a mut [T] {
        assert!(index + len <= self.len, "part outside of the shared slice");
        // SAFETY: inside the slice; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(index), len) }
    }
}

struct InPlace<F, T>(Mutex<Option<F>>, PhantomData<fn(T)>);

impl<F: FnOnce(&mut [T]), T: Number> InplaceOp1 for InPlace<F, T> {
    fn name(&self) -> &'static str {
        "in place"
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

/// Changes the values of a contiguous CPU tensor that a layer and the optimizer share.
pub fn change_shared<T: Number>(tensor: &Tensor, change: impl FnOnce(&mut [T])) -> Result<()> {
    Ok(tensor.candle()?.inplace_op1(&InPlace(Mutex::new(Some(change)), PhantomData))?)
}

/// Changes the values of a contiguous CPU tensor, whose memory nobody else may hold, in place.
pub fn in_place<T: Number>(tensor: Tensor, change: impl FnOnce(&mut [T])) -> Result<Tensor> {
    change_shared(&tensor, change)?;
    Ok(tensor)
}

/// A tensor from host values, moved, not copied.
pub fn tensor<T: Number>(values: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

thread_local! {
    /// Taken out while it is used, so that a task that is run meanwhile on this thread gets another one.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with `len` values of a buffer of this thread, to be overwritten.
pub fn scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = SCRATCH.take();
    let result = work(room(&mut buffer, len));
    SCRATCH.set(buffer);
    result
}

/// `len` values of a buffer, which grows if it must, to be overwritten.
pub(super) fn room<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}

/// Rows of this width that a parallel task should at least have.
pub(super) fn rows_per_task(width: usize) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_several_outputs_are_written_by_several_tasks() {
        let ([twice], [index]) = new_rows(9, [4000], [1], |rows, [twice], [index]| {
            for row in rows {
                index.push(std::iter::once(row as f32));
                let written = twice.push((0..4000).map(|i| bf16::narrow((row * i % 128) as f32)));
                assert_eq!(written[3], bf16::narrow((3 * row) as f32));
            }
        });
        assert_eq!(index, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert!(twice.iter().enumerate().all(|(i, v)| v.wide() == (i / 4000 * (i % 4000) % 128) as f32));
        assert_eq!(map::<f32, f32>(&[1.0, -2.0], |v| 2.0 * v), [2.0, -4.0]);
    }

    #[test]
    #[should_panic(expected = "left 3 values of its output unwritten")]
    fn a_row_that_is_left_out_is_noticed() {
        new_matrix::<f32>(2, 3, |rows, out| {
            out.push(rows.skip(1).flat_map(|_| [1.0; 3]));
        });
    }

    #[test]
    fn views_refuse_what_is_strided_or_of_another_format() {
        let x = Tensor::new(&[[1.0f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        assert_eq!(*HostRef::of(&x.narrow(0, 1, 1).unwrap()).unwrap(), [3.0, 4.0]);
        assert!(StoredRef::of(&x.t().unwrap()).is_err() && HostView::<bf16>::of(&x).is_err());
        let changed = in_place(x, |values: &mut [f32]| values[0] = 9.0).unwrap();
        assert_eq!(StoredRef::of(&changed).unwrap().values().at(0), 9.0);
    }
}
