//! What llama.cpp's converter does to the values of a checkpoint.
//!
//! GPT-2's matrices are `[in, out]`, GGUF's `[out, in]`. llama.cpp's Llama rotates neighbouring values of a head, Hugging
//! Face's values `j` and `j + head_dim / 2`, so rows of query and key projections are permuted; not for Qwen2 and Qwen3.

/// The row of a GGUF file's query or key projection that holds row `row` of the checkpoint's.
pub fn interleaved_row(row: usize, head_dim: usize) -> usize {
    let (head, at, half) = (row / head_dim, row % head_dim, (head_dim / 2).max(1));
    head * head_dim + 2 * (at % half) + at / half
}

/// The inverse of [`interleaved_row`].
pub fn halves_row(row: usize, head_dim: usize) -> usize {
    let (head, at) = (row / head_dim, row % head_dim);
    head * head_dim + (at % 2) * (head_dim / 2) + at / 2
}

fn permuted(values: &[f32], heads: usize, columns: usize, source: impl Fn(usize, usize) -> usize) -> Vec<f32> {
    let head_dim = values.len() / columns.max(1) / heads.max(1);
    let row = |row: usize| &values[source(row, head_dim) * columns..][..columns];
    (0..heads * head_dim).flat_map(row).copied().collect()
}

/// A query or key projection `[heads * head_dim, columns]`, `head_dim` even, in llama.cpp's row order for Llama.
pub fn rope_to_gguf(values: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    permuted(values, heads, columns, halves_row)
}

/// The inverse of [`rope_to_gguf`].
pub fn rope_from_gguf(values: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    permuted(values, heads, columns, interleaved_row)
}

/// A matrix with rows and columns exchanged. `[rows, columns] -> [columns, rows]`
pub fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_permuted_as_llama_cpp_does() {
        // Two heads of four rows of one value: reshape (heads, 2, half), exchange the last two.
        assert_eq!(rope_to_gguf(&[0., 1., 2., 3., 10., 11., 12., 13.], 2, 1), [0., 2., 1., 3., 10., 12., 11., 13.]);
        assert_eq!(transposed(&[1., 2., 3., 4., 5., 6.], 2, 3), [1., 4., 2., 5., 3., 6.]);
    }

    #[test]
    fn the_permutations_are_inverses() {
        for head_dim in [2, 4, 64, 96] {
            for row in 0..3 * head_dim {
                assert_eq!(halves_row(interleaved_row(row, head_dim), head_dim), row);
                assert_eq!(interleaved_row(halves_row(row, head_dim), head_dim), row);
            }
        }
        let values: Vec<f32> = (0..3 * 8 * 5).map(|i| i as f32).collect();
        assert_eq!(rope_from_gguf(&rope_to_gguf(&values, 3, 5), 3, 5), values);
    }
}
