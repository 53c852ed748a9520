//! Names and help texts of all settings (placeholder).
