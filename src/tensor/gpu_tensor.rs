//! Tensors in the memory of a GPU with kernels of our own.

use super::{DType, Shape};
use crate::error::{Error, Result};
use crate::gpu::kernels::copy::{self, Operation};
use crate::gpu::kernels::elementwise;
use crate::gpu::kernels::product::{Form, Product, ProductPlan};
use crate::gpu::kernels::reduce::{Columns, column_scratch, column_sums};
use crate::gpu::kernels::tables::{self, Lookup, Places};
use crate::gpu::{Backend, Buffer, Counters, Format, Launch, Operand};
use half::f16;
use parking_lot::Mutex;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Tables of whole numbers that are kept on the device by content.
const KEPT: usize = 64;

/// An open GPU. Cloning shares it.
#[derive(Clone)]
pub struct Gpu(Arc<Open>);

/// How a GPU stores numbers in f16; the interfaces leave it free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Narrowing {
    /// Whether what is too large becomes infinite, so that it shows.
    pub overflows: bool,
    /// Whether numbers below 6e-5, which are stored with fewer bits, stay what they are; else they become zero.
    pub keeps_small: bool,
}

impl Default for Narrowing {
    fn default() -> Self {
        Self { overflows: true, keeps_small: true }
    }
}

struct Open {
    index: usize,
    backend: Arc<dyn Backend>,
    plan: ProductPlan,
    narrowing: OnceLock<Narrowing>,
    /// By content; not as tensors, which hold the GPU.
    tables: Mutex<Vec<(Vec<u32>, Buffer)>>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({}, {})", self.0.index, self.0.backend.facts().name)
    }
}

impl Gpu {
    /// A back end that was opened under a number, and how it multiplies matrices.
    pub fn new(index: usize, backend: Arc<dyn Backend>, plan: ProductPlan) -> Self {
        Self(Arc::new(Open { index, backend, plan, narrowing: OnceLock::new(), tables: Mutex::default() }))
    }
    /// Its number.
    pub fn index(&self) -> usize {
        self.0.index
    }
    /// Whether both are the same GPU.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
    /// What runs on it.
    pub fn backend(&self) -> &dyn Backend {
        &*self.0.backend
    }
    /// How it multiplies matrices.
    pub fn plan(&self) -> &ProductPlan {
        &self.0.plan
    }
    /// How it stores numbers in f16, which it is asked once.
    pub fn narrowing(&self) -> Narrowing {
        *self.0.narrowing.get_or_init(|| {
            if !self.backend().computes() || !self.backend().facts().f16 {
                return Narrowing::default();
            }
            // A device that fails says so to whoever asks for results.
            self.ask_narrowing().unwrap_or_default()
        })
    }
    fn ask_narrowing(&self) -> Result<Narrowing> {
        let values = [70_000.0f32, 16.0 * f16::MIN_POSITIVE_SUBNORMAL.to_f32()];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        // There and back: what is stored may be read as zero too.
        let stored = GpuTensor::from_bytes(self, &bytes, 2.into(), DType::F32)?.cast(DType::F16)?;
        let back = stored.cast(DType::F32)?.to_bytes()?;
        let mut back = back.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let (large, small) = (back.next(), back.next());
        Ok(Narrowing { overflows: large == Some(f32::INFINITY), keeps_small: small == Some(values[1]) })
    }
    /// What it did since it was opened.
    pub fn counters(&self) -> Counters {
        self.backend().counters()
    }
    /// Waits until everything that was given to the GPU is computed.
    pub fn synchronize(&self) -> Result<()> {
        self.backend().wait()
    }
    /// Gives kernels to the GPU, in order.
    pub fn run(&self, launches: impl IntoIterator<Item = Launch>) -> Result<()> {
        launches.into_iter().try_for_each(|launch| self.backend().launch(&launch))
    }
    /// Memory for a tensor that a kernel will write whole.
    pub fn empty(&self, shape: impl Into<Shape>, dtype: DType) -> Result<GpuTensor> {
        let shape = shape.into();
        let format = format_of(dtype)?;
        let buffer = self.backend().allocate(shape.elem_count() as u64 * format.bytes())?;
        Ok(GpuTensor { gpu: self.clone(), buffer, first: 0, shape, dtype })
    }

    /// Whole numbers on the device, such as the sequences' places in a batch. Those of the same content are shared.
    /// `[words]`
    pub fn table(&self, words: &[u32]) -> Result<GpuTensor> {
        let mut tables = self.0.tables.lock();
        if let Some(at) = tables.iter().position(|(content, _)| content == words) {
            let entry = tables.remove(at);
            let buffer = entry.1.clone();
            tables.push(entry);
            return Ok(GpuTensor { gpu: self.clone(), buffer, first: 0, shape: words.len().into(), dtype: DType::U32 });
        }
        let tensor = self.words(words)?;
        if tables.len() >= KEPT {
            tables.remove(0);
        }
        tables.push((words.to_vec(), tensor.buffer.clone()));
        Ok(tensor)
    }

    /// Whole numbers on the device that are used once. `[words]`
    pub fn words(&self, words: &[u32]) -> Result<GpuTensor> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        GpuTensor::from_bytes(self, &bytes, words.len().into(), DType::U32)
    }
}

fn format_of(dtype: DType) -> Result<Format> {
    match dtype {
        DType::F32 => Ok(Format::F32),
        DType::F16 => Ok(Format::F16),
        DType::U32 => Ok(Format::U32),
        other => Err(Error::internal(format!("a GPU's kernels compute in f32 and f16, not in {other:?}"))),
    }
}

/// A tensor, always contiguous. Cloning shares the memory.
#[derive(Clone)]
pub struct GpuTensor {
    gpu: Gpu,
    buffer: Buffer,
    /// Its first value in the buffer.
    first: usize,
    shape: Shape,
    dtype: DType,
}

impl fmt::Debug for GpuTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpuTensor({:?}, {:?}, {:?} from {})", self.shape, self.dtype, self.buffer, self.first)
    }
}

// Shapes, dimensions and ranges are checked by the caller, `Tensor`.
impl GpuTensor {
    /// From little-endian values in row-major order.
    pub fn from_bytes(gpu: &Gpu, bytes: &[u8], shape: Shape, dtype: DType) -> Result<Self> {
        let tensor = gpu.empty(shape, dtype)?;
        let whole = bytes.len() / 4 * 4;
        let address = tensor.buffer.address();
        if whole > 0 {
            gpu.backend().upload(address, &bytes[..whole])?;
        }
        if whole < bytes.len() {
            let mut last = bytes[whole..].to_vec();
            last.resize(4, 0);
            gpu.backend().upload(address.plus(whole as u64), &last)?;
        }
        Ok(tensor)
    }
    /// Zeros.
    pub fn zeros(gpu: &Gpu, shape: Shape, dtype: DType) -> Result<Self> {
        let tensor = gpu.empty(shape, dtype)?;
        gpu.backend().clear(tensor.buffer.address(), tensor.buffer.bytes())?;
        Ok(tensor)
    }
    /// The values, little-endian, in row-major order; the host waits for them.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(Self::all_to_bytes(&[self])?.pop().unwrap_or_default())
    }
    /// The same of several tensors of one GPU, for which the host waits once.
    pub fn all_to_bytes(tensors: &[&Self]) -> Result<Vec<Vec<u8>>> {
        let Some(first) = tensors.first() else { return Ok(Vec::new()) };
        let place = |tensor: &&Self| (tensor.operand().address, tensor.operand().bytes());
        first.gpu.backend().download(&tensors.iter().map(place).collect::<Vec<_>>())
    }
    /// The GPU it lies on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }
    /// Sizes of the dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
    /// Sizes of the dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }
    /// Rows and columns.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        Ok(self.shape.dims2()?)
    }
    /// Number of values.
    pub fn elem_count(&self) -> usize {
        self.shape.elem_count()
    }
    /// The number format.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// Its values, as a kernel is given them.
    pub fn operand(&self) -> Operand {
        // A tensor is only ever made in a format that kernels know.
        let format = format_of(self.dtype).unwrap_or(Format::F32);
        let address = self.buffer.address().plus(self.first as u64 * format.bytes());
        Operand::new(address, self.elem_count(), format)
    }
    /// New memory in the shape, format and place of this one.
    pub fn like(&self) -> Result<Self> {
        self.gpu.empty(self.shape.clone(), self.dtype)
    }
    /// In another number format, rounded to nearest.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        let out = self.gpu.empty(self.shape.clone(), dtype)?;
        self.gpu.run([elementwise::affine(self.operand(), out.operand(), 1.0, 0.0)])?;
        Ok(out)
    }
    /// The same memory in another shape of as many values.
    pub fn reshape(&self, shape: Shape) -> Result<Self> {
        if shape.elem_count() == self.elem_count() {
            return Ok(Self { shape, ..self.clone() });
        }
        Err(Error::internal(format!("{:?} in the shape {shape:?}", self.shape)))
    }
    /// Values from one index of a dimension to the next.
    fn step(&self, dim: usize) -> usize {
        self.dims().iter().skip(dim + 1).product()
    }
    /// Some indices of a dimension: the same memory in dimension 0, else a copy.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self> {
        let mut dims = self.dims().to_vec();
        dims[dim] = len;
        let shape = Shape::from(dims);
        if dim == 0 {
            return Ok(Self { first: self.first + start * self.step(0), shape, ..self.clone() });
        }
        let out = self.gpu.empty(shape, self.dtype)?;
        let (inner, all) = (self.step(dim), self.dims()[dim]);
        let outer = self.elem_count() / (inner * all).max(1);
        let block = [1, 1, outer, len * inner];
        self.copy_into(&out, [start * inner, 0], block, [[0, 0, all * inner, 1], [0, 0, len * inner, 1]])?;
        Ok(out)
    }
    /// Copies values from their first one on to the other's: sizes of four dimensions, and distances between neighbours in
    /// both.
    fn copy_into(&self, out: &Self, [from, to]: [usize; 2], sizes: [usize; 4], steps: [[usize; 4]; 2]) -> Result<()> {
        if sizes.contains(&0) {
            return Ok(());
        }
        let rest = |tensor: &Self, first: usize| tensor.operand().part(first, tensor.elem_count() - first);
        self.gpu.run([copy::strided(rest(self, from), rest(out, to), sizes, steps[0], steps[1])])
    }
    /// A copy in which two dimensions have changed places.
    pub fn transposed(&self, dim1: usize, dim2: usize) -> Result<Self> {
        let rank = self.dims().len();
        let pad =
            4usize.checked_sub(rank).ok_or_else(|| Error::internal(format!("a transpose of {rank} dimensions")))?;
        let mut dims = self.dims().to_vec();
        dims.swap(dim1, dim2);
        let out = self.gpu.empty(dims, self.dtype)?;
        let (mut sizes, mut from, mut to) = ([1; 4], [0; 4], [0; 4]);
        for dim in 0..rank {
            let source = if dim == dim1 {
                dim2
            } else if dim == dim2 {
                dim1
            } else {
                dim
            };
            (sizes[pad + dim], from[pad + dim], to[pad + dim]) = (out.dims()[dim], self.step(source), out.step(dim));
        }
        self.copy_into(&out, [0, 0], sizes, [from, to])?;
        Ok(out)
    }
    /// A copy in memory of its own.
    pub fn copy(&self) -> Result<Self> {
        let out = self.like()?;
        out.slice_set(self, 0)?;
        Ok(out)
    }
    /// Tensors behind one another in a dimension.
    pub fn cat(parts: &[&Self], dim: usize) -> Result<Self> {
        let Some(one) = parts.first() else { return Err(Error::internal("no tensors to put behind one another")) };
        let mut dims = one.dims().to_vec();
        dims[dim] = parts.iter().map(|part| part.dims()[dim]).sum();
        let out = one.gpu.empty(dims, one.dtype)?;
        let (mut at, row) = (0, out.step(dim) * out.dims()[dim]);
        for part in parts {
            let width = part.step(dim) * part.dims()[dim];
            let outer = part.elem_count() / width.max(1);
            part.copy_into(&out, [0, at], [1, 1, outer, width], [[0, 0, width, 1], [0, 0, row, 1]])?;
            at += width;
        }
        Ok(out)
    }
    fn max_binding(&self) -> u64 {
        self.gpu.backend().facts().max_binding
    }
    /// Rows of dimension 0 by their u32 numbers. ids `[n]`
    pub fn index_select(&self, ids: &Self) -> Result<Self> {
        let mut dims = self.dims().to_vec();
        dims[0] = ids.elem_count();
        let out = self.gpu.empty(dims, self.dtype)?;
        Self::gather(&[(self, ids)], &out)?;
        Ok(out)
    }
    /// The sum of rows of one to three tables by their u32 numbers, in out's format. Tables `[rows, d]` of one format, ids
    /// `[n]` each, out `[n, d]`
    pub fn gather(from: &[(&Self, &Self)], out: &Self) -> Result<()> {
        let lookup = |(table, ids): &(&Self, &Self)| Lookup { table: table.operand(), ids: ids.operand() };
        let all: Vec<Lookup> = from.iter().map(lookup).collect();
        let Some((first, others)) = all.split_first() else { return Err(Error::internal("rows of no table")) };
        out.gpu.run(tables::gather(*first, others, out.operand(), out.step(0), out.max_binding()))
    }
    /// A copy with the rows of `source` added to those of dimension 0 with these u32 numbers, which may repeat: the host reads
    /// them. ids `[n]`
    pub fn index_add(&self, ids: &Self, source: &Self) -> Result<Self> {
        let numbers: Vec<u32> = ids.to_bytes()?.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
        let Places { words, distinct } = Places::of(&numbers);
        let (out, places) = (self.copy()?, self.gpu.words(&words)?);
        let (d, most) = (self.step(0), self.max_binding());
        self.gpu.run(tables::scatter_add(source.operand(), (places.operand(), distinct), out.operand(), d, most))?;
        Ok(out)
    }
    /// The same for numbers of which none comes twice; nothing is read.
    pub fn index_add_once(&self, ids: &Self, source: &Self) -> Result<Self> {
        let out = self.copy()?;
        let (d, most) = (self.step(0), self.max_binding());
        self.gpu.run(tables::scatter_add_unique(source.operand(), ids.operand(), out.operand(), d, most))?;
        Ok(out)
    }
    /// Overwrites the rows of dimension 0 from `start` on, in place.
    pub fn slice_set(&self, source: &Self, start: usize) -> Result<()> {
        let n = source.elem_count();
        source.copy_into(self, [0, start * self.step(0)], [1, 1, 1, n], [[0, 0, 0, 1]; 2])
    }
    fn combined(&self, operation: Operation, other: &Self) -> Result<Self> {
        let out = self.like()?;
        self.gpu.run([copy::binary(operation, self.operand(), other.operand(), out.operand())])?;
        Ok(out)
    }
    /// Sum of two tensors of one shape and format.
    pub fn add(&self, other: &Self) -> Result<Self> {
        self.combined(Operation::Add, other)
    }
    /// Difference of two tensors of one shape and format.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        self.combined(Operation::Subtract, other)
    }
    /// Products of the values of two tensors of one shape and format.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        self.combined(Operation::Multiply, other)
    }
    /// `mul x + add` of every value.
    pub fn affine(&self, mul: f64, add: f64) -> Result<Self> {
        let out = self.like()?;
        self.gpu.run([elementwise::affine(self.operand(), out.operand(), mul as f32, add as f32)])?;
        Ok(out)
    }
    /// Sum over dimension 0, which is dropped.
    pub fn sum_first(&self) -> Result<Self> {
        let (n, d) = (self.dims()[0], self.step(0));
        let sums = self.gpu.empty(self.dims()[1..].to_vec(), DType::F32)?;
        let scratch = self.gpu.empty(column_scratch(n, d), DType::F32)?;
        let columns = Columns {
            x: self.operand(),
            factor: None,
            row_factor: None,
            products: None,
            sums: Some(sums.operand()),
            scratch: scratch.operand(),
            n,
            d,
        };
        self.gpu.run(column_sums(columns))?;
        sums.cast(self.dtype)
    }
    /// Product of two matrices. `[m, k]` times `[k, n]` -> `[m, n]`
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        let ((m, k), (_, n)) = (self.dims2()?, other.dims2()?);
        let out = self.gpu.empty((m, n), self.dtype)?;
        let product = Product::new(Form::Nn, [m, n, k], self.operand(), other.operand(), out.operand());
        self.gpu.run(product.launches(self.gpu.plan()))?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{AdapterKind, Address, Facts, Memory, Recording};

    /// A device that gives back these two numbers whatever it is asked to read.
    #[derive(Debug)]
    struct Answers(Recording, [f32; 2]);

    impl Backend for Answers {
        fn facts(&self) -> &Facts {
            self.0.facts()
        }
        fn allocate(&self, bytes: u64) -> Result<Buffer> {
            self.0.allocate(bytes)
        }
        fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
            self.0.upload(to, bytes)
        }
        fn clear(&self, at: Address, bytes: u64) -> Result<()> {
            self.0.clear(at, bytes)
        }
        fn download(&self, parts: &[(Address, u64)]) -> Result<Vec<Vec<u8>>> {
            assert!(matches!(parts, [(_, 8)]));
            Ok(vec![self.1.iter().flat_map(|value| value.to_le_bytes()).collect()])
        }
        fn launch(&self, launch: &Launch) -> Result<()> {
            self.0.launch(launch)
        }
        fn wait(&self) -> Result<()> {
            self.0.wait()
        }
        fn memory(&self) -> Memory {
            self.0.memory()
        }
        fn counters(&self) -> Counters {
            self.0.counters()
        }
        fn failure(&self) -> Option<String> {
            self.0.failure()
        }
    }

    #[test]
    fn a_gpu_is_asked_how_it_stores_16_bit_floats() {
        let small = 16.0 * f16::MIN_POSITIVE_SUBNORMAL.to_f32();
        let cases = [
            // As IEEE 754 has it; small numbers become zero; what is too large becomes the largest; both.
            ([f32::INFINITY, small], (true, true), 0),
            ([f32::INFINITY, 0.0], (true, false), 10),
            ([65_504.0, small], (false, true), 0),
            ([65_504.0, 0.0], (false, false), 10),
        ];
        for (read, (overflows, keeps_small), shift) in cases {
            let backend = Arc::new(Answers(Recording::like(AdapterKind::Discrete), read));
            let plan = ProductPlan::of(backend.facts());
            let gpu = Gpu::new(0, backend, plan);
            assert_eq!(gpu.narrowing(), Narrowing { overflows, keeps_small }, "{read:?}");
            assert_eq!(crate::tensor::Device::Gpu(gpu).f16_shift(), shift, "{read:?}");
        }
    }
}
