//! Runs that wait: the list, and the next one when a run has ended.

use crate::app::WorkbenchApp;
use crate::app::view::View;
use crate::protocol::*;
use std::time::Duration;

/// Seconds between two reads of a queue that other programs may change.
const READ_EVERY: f64 = 5.0;

/// What was read of the queue, and when.
#[derive(Default)]
pub struct QueueUpkeep {
    seen: bool,
    read_at: f64,
}

impl WorkbenchApp {
    /// Sends a look at the queue or a change of it.
    pub(super) fn ask_queue(&mut self, ask: QueueAsk) {
        self.ask(|s| &mut s.queue, Command::Queue(ask));
    }

    /// Reads the queue where it is seen, and starts the next run where that is due. `now` in seconds.
    pub(super) fn follow_queue(&mut self, ctx: &egui::Context, now: f64) {
        let seen = self.shows(View::Runs);
        let appeared = !std::mem::replace(&mut self.queue_upkeep.seen, seen) && seen;
        if self.session.engine_problem().is_some() || self.session.queue.is_pending() {
            self.queue_upkeep.seen &= self.session.engine_problem().is_none();
            return;
        }
        if self.session.queue_due && !self.session.phase.is_active() && !self.session.is_starting() {
            return self.start_next();
        }
        let filled = self.session.queue.value.as_ref().is_some_and(|queue| !queue.entries.is_empty());
        let idle = seen && filled && !self.session.phase.is_active();
        if appeared || idle && now - self.queue_upkeep.read_at >= READ_EVERY {
            self.queue_upkeep.read_at = now;
            self.ask_queue(QueueAsk::List);
        } else if idle {
            ctx.request_repaint_after(Duration::try_from_secs_f64(READ_EVERY).unwrap_or_default());
        }
    }

    /// A run has ended: the queue is read again, and its next run is due where the queue is on.
    pub(super) fn queue_after_run(&mut self) {
        if self.session.queue_on && !self.quit_when_stopped {
            self.session.queue_due = true;
        }
        if self.session.queue_on || self.session.queue.value.is_some() {
            self.ask_queue(QueueAsk::List);
        }
    }

    fn start_next(&mut self) {
        self.session.queue_due = false;
        if self.session.queue.value.as_ref().map_or(0, QueueState::waiting) == 0 {
            self.session.queue_on = false;
            return self.session.notify(LogLevel::Info, "no run is waiting in the queue any more");
        }
        let before = match (self.session.phase, &self.session.live, &self.session.start_error) {
            (RunPhase::Failed, Some(run), _) => format!("{} failed; ", run.name()),
            (RunPhase::Failed, None, Some(_)) => "the run before could not start; ".to_owned(),
            (RunPhase::Finished, Some(run), _) => format!("{} has ended; ", run.name()),
            _ => String::new(),
        };
        let text = format!("{before}the next run of the queue follows");
        self.session.notify(LogLevel::Info, text.clone());
        self.session.log(LogLevel::Info, text);
        self.train(|run| Command::StartQueued { run });
        self.ask_queue(QueueAsk::List);
    }
}
