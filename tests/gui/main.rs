//! Window tests: panels and flows through the accessibility tree, without a display.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
