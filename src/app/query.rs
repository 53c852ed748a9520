//! A query to the engine and its answer: empty, pending, error or value.

use crate::protocol::{RequestId, WeightsOf};

/// Progress of a long query.
#[derive(Clone, Debug, PartialEq)]
pub struct JobProgress {
    pub what: String,
    pub done: u64,
    /// 0: unknown.
    pub total: u64,
}

impl JobProgress {
    /// Share done, 0 to 1; absent where the total is unknown.
    pub fn share(&self) -> Option<f32> {
        (self.total > 0).then(|| self.done as f32 / self.total as f32)
    }
}

/// A query to the engine and its newest answer. The old answer stays until the new one arrives.
#[derive(Clone, Debug)]
pub struct Query<T> {
    pub value: Option<T>,
    /// Why the newest query has no answer.
    pub error: Option<String>,
    /// Progress of the pending query.
    pub progress: Option<JobProgress>,
    /// The weights that the newest answer was computed from, where it is about weights.
    pub weights: Option<WeightsOf>,
    pending: Option<RequestId>,
    /// The weights of the pending query.
    pending_weights: Option<WeightsOf>,
}

impl<T> Default for Query<T> {
    fn default() -> Self {
        Self { value: None, error: None, progress: None, weights: None, pending: None, pending_weights: None }
    }
}

impl<T> Query<T> {
    /// A query was sent. The answer to an older pending one will be dropped.
    pub fn begin(&mut self, req: RequestId) {
        self.pending = Some(req);
        self.progress = None;
        self.pending_weights = None;
    }
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }
    /// Whether `req` is the pending query.
    pub fn owns(&self, req: RequestId) -> bool {
        self.pending == Some(req)
    }
    /// Takes the answer if it belongs to the pending query; returns whether it did.
    pub fn answer(&mut self, req: RequestId, value: T) -> bool {
        let mine = self.owns(req);
        if mine {
            *self = Self { value: Some(value), weights: self.pending_weights, ..Self::default() };
        }
        mine
    }
}

/// A [`Query`] whatever its answer is.
pub trait AnyQuery {
    /// Takes the failure if it belongs to the pending query; returns whether it did.
    fn fail(&mut self, req: RequestId, message: &str) -> bool;
    /// Removes answer and error, and drops the answer to a pending query.
    fn clear(&mut self);
    /// Takes the progress if it belongs to the pending query; returns whether it did.
    fn advance(&mut self, req: RequestId, progress: &JobProgress) -> bool;
    /// Takes the weights that the pending query is computed from, if they belong to it.
    fn is_about(&mut self, req: RequestId, weights: WeightsOf);
    /// The progress of the pending query, which may be unknown; `None`: nothing is pending.
    fn pending(&self) -> Option<Option<&JobProgress>>;
}

impl<T> AnyQuery for Query<T> {
    fn fail(&mut self, req: RequestId, message: &str) -> bool {
        let mine = self.owns(req);
        if mine {
            self.pending = None;
            self.progress = None;
            self.error = Some(message.to_owned());
        }
        mine
    }
    fn clear(&mut self) {
        *self = Self::default();
    }
    fn advance(&mut self, req: RequestId, progress: &JobProgress) -> bool {
        let mine = self.owns(req);
        if mine {
            self.progress = Some(progress.clone());
        }
        mine
    }
    fn is_about(&mut self, req: RequestId, weights: WeightsOf) {
        if self.owns(req) {
            self.pending_weights = Some(weights);
        }
    }
    fn pending(&self) -> Option<Option<&JobProgress>> {
        self.is_pending().then_some(self.progress.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_question_is_answered() {
        let mut query = Query::default();
        query.begin(RequestId(1));
        query.begin(RequestId(2));
        assert!(!query.answer(RequestId(1), "late"));
        assert!(query.is_pending() && query.value.is_none());
        assert!(query.answer(RequestId(2), "in time"));
        assert_eq!(query.value, Some("in time"));
        query.begin(RequestId(3));
        assert!(query.fail(RequestId(3), "disk full"));
        assert_eq!(query.value, Some("in time"), "the old answer stays visible");
        assert_eq!(query.error.as_deref(), Some("disk full"));
    }
}
