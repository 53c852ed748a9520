//! How a run stands now.

use crate::app::panel_ctx::PanelCtx;
use crate::protocol::{RunStatus, RunSummary};
use std::borrow::Cow;

/// The entry of the list, with the newer values of the run in the engine.
pub fn newest<'a>(ctx: &PanelCtx<'_>, run: &'a RunSummary) -> Cow<'a, RunSummary> {
    match &ctx.session.live {
        Some(live) if live.dir == run.dir && ctx.session.phase.is_active() => Cow::Owned(RunSummary {
            status: RunStatus::Running,
            best: live.best_eval().map(|eval| eval.merged.primary),
            step: live.step(),
            ..run.clone()
        }),
        _ => Cow::Borrowed(run),
    }
}
