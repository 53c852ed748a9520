//! Helpers shared by the test binaries.

pub mod exported;
pub mod gguf;
pub mod hub;
pub mod place;
pub mod texts;
pub mod tiny;

/// Compares element by element with `|a - b| <= atol + rtol * |b|`; prints the worst element.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f32], rtol: f64, atol: f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths differ");
    let mut worst = (0, 0.0f64);
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let excess = (f64::from(g) - f64::from(w)).abs() - (atol + rtol * f64::from(w).abs());
        if excess > worst.1 || !excess.is_finite() {
            worst = (i, if excess.is_finite() { excess } else { f64::INFINITY });
        }
    }
    assert!(
        worst.1 <= 0.0,
        "{what}: element {} is {} but should be {} (beyond tolerance by {:.3e})",
        worst.0,
        got[worst.0],
        want[worst.0],
        worst.1
    );
}
