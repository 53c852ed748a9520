//! Kernels of the GPU back end against double precision, on every adapter the computer has, software ones included.

mod attention;
mod cached_attention;
mod cooperative;
mod copy;
mod elementwise;
mod experts;
mod failures;
mod gated;
mod heads;
mod language;
mod norm;
mod product;
mod quantised;
mod reduce;
mod runs;
mod step;
mod support;
mod tables;
mod training;
mod update;
mod vocab;
