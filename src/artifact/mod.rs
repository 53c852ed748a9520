//! The run directory, safetensors files, exports and certificates.
