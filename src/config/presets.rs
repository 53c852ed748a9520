//! The runs of the paper as settings (placeholder).
