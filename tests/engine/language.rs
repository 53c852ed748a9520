//! Language models from settings to results: training, resuming, measuring, merging, looking into; by the engine, by the
//! command line, by the window's thread.

mod commands;
mod exports;
mod imports;
mod loading;
mod refusals;
mod runs;
mod samples;
mod scores;
mod shipping;
mod templates;
