//! Quantised matrices in memory.

use crate::error::{Error, ErrorKind, Result};
use crate::nn::kernels::gpu::packed::Packed;
use crate::nn::kernels::{host, simd};
use crate::tensor::{DType, Device, NumberFormat, Tensor};
use candle_core::quantized::QTensor;
use rayon::prelude::*;
use std::sync::Arc;

/// Values a parallel task should at least widen.
pub(super) const TASK: usize = 1 << 14;

/// A matrix `[rows, columns]`, row-major. Cloning shares the bytes.
#[derive(Clone)]
pub struct Quantised {
    pub(super) parts: Vec<Part>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Where the values lie in a GPU's memory: then the host has none.
    pub(super) packed: Option<Packed>,
}

/// Rows of one format.
#[derive(Clone)]
pub(super) struct Part {
    pub format: NumberFormat,
    pub bytes: Arc<Vec<u8>>,
    /// Its first row in the matrix.
    pub first: usize,
    pub rows: usize,
    /// Where its first row starts in `bytes`.
    pub start: usize,
}

impl std::fmt::Debug for Quantised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let formats: Vec<&str> = self.parts.iter().map(|part| part.format.name()).collect();
        write!(f, "Quantised([{}, {}], {})", self.rows, self.columns, formats.join("+"))
    }
}

impl Quantised {
    /// From the bytes of a matrix. Every value must be finite.
    pub fn new(format: NumberFormat, bytes: Vec<u8>, rows: usize, columns: usize) -> Result<Self> {
        let (values, size) = format.block();
        let wanted = (columns / values).checked_mul(size).and_then(|row| row.checked_mul(rows));
        if rows == 0 || columns == 0 || !columns.is_multiple_of(values) || wanted != Some(bytes.len()) {
            let (name, given) = (format.name(), bytes.len());
            return Err(Error::format(format!("{given} bytes are no matrix of {rows} x {columns} values in {name}")));
        }
        let part = Part { format, bytes: Arc::new(bytes), first: 0, rows, start: 0 };
        let matrix = Self { parts: vec![part], rows, columns, packed: None };
        match (0..rows).into_par_iter().find_first(|&row| matrix.has_broken(row)) {
            Some(row) => {
                let what = format!("row {row} holds values that are not finite; the weights are damaged");
                Err(Error::new(ErrorKind::Numerics, what))
            }
            None => Ok(matrix),
        }
    }

    fn has_broken(&self, row: usize) -> bool {
        host::scratch(self.columns, |out| {
            self.widen_rows(row, out);
            // A sum of finite numbers can overflow, so each is looked at.
            !simd::vectors!(|| out.iter().fold(true, |fine, v| fine & v.is_finite()))
        })
    }

    /// Matrices with the same columns, one below the other.
    pub fn stack(list: Vec<Self>) -> Result<Self> {
        let columns = list.first().map_or(0, |matrix| matrix.columns);
        let packed: Option<Vec<&Packed>> = list.iter().map(|matrix| matrix.packed.as_ref()).collect();
        let packed = packed.filter(|packed| !packed.is_empty()).map(|packed| Packed::stack(&packed));
        let (mut parts, mut rows) = (Vec::new(), 0);
        for matrix in list {
            if matrix.columns != columns {
                return Err(Error::internal(format!("a matrix of {} columns below one of {columns}", matrix.columns)));
            }
            parts.extend(matrix.parts.into_iter().map(|part| Part { first: part.first + rows, ..part }));
            rows += matrix.rows;
        }
        Ok(Self { parts, rows, columns, packed })
    }

    /// The same in the memory of a device: of a GPU of our own as it is, elsewhere it stays in the host's.
    pub fn on(&self, device: &Device) -> Result<Self> {
        let Device::Gpu(gpu) = device else { return Ok(self.clone()) };
        let part = |part: &Part| {
            let bytes = part.bytes.get(part.start..part.start + part.rows * self.row_bytes(part)).unwrap_or_default();
            Packed::of(gpu, part.format, bytes, [part.rows, self.columns])
        };
        let parts = self.parts.iter().map(part).collect::<Result<Vec<_>>>()?;
        let packed = Some(Packed::stack(&parts.iter().collect::<Vec<_>>()));
        Ok(Self { parts: Vec::new(), rows: self.rows, columns: self.columns, packed })
    }

    /// Rounds values to a format, in the memory they lie in, or to the nearest one of as many bits whose blocks divide the columns.
    pub fn of(dense: &Tensor, format: NumberFormat) -> Result<Self> {
        let (rows, columns) = dense.dims2()?;
        let format = format.for_columns(columns);
        let values = dense.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        let bytes = QTensor::quantize(values.candle()?, format.candle())?.data()?.into_owned();
        Self::new(format, bytes, rows, columns)?.on(dense.device())
    }

    /// The rows in another order: row i of the result is row `source(i)`.
    pub fn reordered(&self, source: impl Fn(usize) -> usize) -> Result<Self> {
        let [part] = self.parts.as_slice() else {
            return Err(Error::internal("rows of a matrix in several formats cannot change places"));
        };
        let size = self.row_bytes(part);
        let mut bytes = Vec::with_capacity(size * self.rows);
        for row in 0..self.rows {
            let at = part.start + source(row) * size;
            let row = part.bytes.get(at..at + size);
            bytes.extend_from_slice(row.ok_or_else(|| Error::internal("a row that is not there"))?);
        }
        Ok(Self { parts: vec![Part { bytes: Arc::new(bytes), start: 0, ..part.clone() }], packed: None, ..*self })
    }

    /// Some rows, sharing the bytes.
    pub fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        if start + len > self.rows || len == 0 {
            return Err(Error::internal(format!("rows {start} to {} of {}", start + len, self.rows)));
        }
        if self.packed.is_some() {
            return Err(Error::internal("some rows of a matrix in a GPU's memory"));
        }
        let cut = |part: &Part| {
            let (from, to) = (part.first.max(start), (part.first + part.rows).min(start + len));
            (from < to).then(|| Part {
                first: from - start,
                rows: to - from,
                start: part.start + (from - part.first) * self.row_bytes(part),
                ..part.clone()
            })
        };
        let parts = self.parts.iter().filter_map(cut).collect();
        Ok(Self { parts, rows: len, columns: self.columns, packed: None })
    }

    /// The values in a GPU's memory; an error where they are in the host's.
    pub(in crate::nn::kernels) fn packed(&self) -> Result<&Packed> {
        self.packed.as_ref().ok_or_else(|| Error::internal("a quantised matrix that is not in the GPU's memory"))
    }

    /// Rows and columns.
    pub fn dims(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Bytes of the values as they are stored.
    pub fn bytes(&self) -> usize {
        let on_host = || self.parts.iter().map(|part| part.rows * self.row_bytes(part)).sum();
        self.packed.as_ref().map_or_else(on_host, Packed::bytes)
    }

    pub(super) fn row_bytes(&self, part: &Part) -> usize {
        let (values, size) = part.format.block();
        self.columns / values * size
    }

    /// Widens whole rows from `first` on, as many as `out` holds, on this thread.
    pub fn widen_rows(&self, first: usize, out: &mut [f32]) {
        let end = first + out.len() / self.columns;
        for part in &self.parts {
            let (from, to) = (part.first.max(first), (part.first + part.rows).min(end));
            if from < to {
                let size = self.row_bytes(part);
                let bytes = &part.bytes[part.start + (from - part.first) * size..part.start + (to - part.first) * size];
                part.format.widen(bytes, &mut out[(from - first) * self.columns..(to - first) * self.columns]);
            }
        }
    }

    /// Widens rows from `first` on, as many as `out` holds, in parallel.
    pub fn widen(&self, first: usize, out: &mut [f32]) {
        let rows = (TASK / self.columns).max(1);
        if out.len() <= rows * self.columns || rayon::current_num_threads() == 1 {
            return self.widen_rows(first, out);
        }
        let blocks = out.par_chunks_mut(rows * self.columns).enumerate();
        blocks.for_each(|(i, block)| self.widen_rows(first + i * rows, block));
    }

    /// All values. `[rows, columns]`
    pub fn dense(&self) -> Result<Tensor> {
        if let Some(packed) = &self.packed {
            let all: Vec<u32> = (0..self.rows as u32).collect();
            return packed.gather(&all);
        }
        let mut values = vec![0.0f32; self.rows * self.columns];
        self.widen(0, &mut values);
        host::tensor(values, (self.rows, self.columns))
    }

    /// Some rows, in any order. `[ids, columns]`
    pub fn gather(&self, ids: &[u32]) -> Result<Tensor> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.rows) {
            return Err(Error::internal(format!("row {id} of {}", self.rows)));
        }
        if let Some(packed) = &self.packed {
            return packed.gather(ids);
        }
        let mut values = vec![0.0f32; ids.len() * self.columns];
        let rows = values.par_chunks_mut(self.columns).zip(ids);
        rows.for_each(|(out, &id)| self.widen_rows(id as usize, out));
        host::tensor(values, (ids.len(), self.columns))
    }
}
