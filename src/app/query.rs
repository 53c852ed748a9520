//! A question to the engine and its answer: empty, loading, error or data.

use crate::protocol::RequestId;

/// How far a long question is.
#[derive(Clone, Debug, PartialEq)]
pub struct JobProgress {
    /// What is being done.
    pub what: String,
    /// Units done.
    pub done: u64,
    /// Units in all; 0: unknown.
    pub total: u64,
}

/// A question to the engine and its newest answer. The old answer stays while a new one is on its way.
#[derive(Clone, Debug)]
pub struct Query<T> {
    /// The newest answer.
    pub value: Option<T>,
    /// Why the newest question has no answer.
    pub error: Option<String>,
    /// How far it is.
    pub progress: Option<JobProgress>,
    pending: Option<RequestId>,
}

impl<T> Default for Query<T> {
    fn default() -> Self {
        Self { value: None, error: None, progress: None, pending: None }
    }
}

impl<T> Query<T> {
    /// A question was sent. An older one still on its way is forgotten: its answer will be dropped.
    pub fn begin(&mut self, req: RequestId) {
        self.pending = Some(req);
        self.progress = None;
    }
    /// Whether an answer is awaited.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }
    /// Whether `req` is the question whose answer is awaited.
    pub fn owns(&self, req: RequestId) -> bool {
        self.pending == Some(req)
    }
    /// Takes the answer if it belongs to the newest question; says whether it did.
    pub fn answer(&mut self, req: RequestId, value: T) -> bool {
        let mine = self.owns(req);
        if mine {
            *self = Self { value: Some(value), ..Self::default() };
        }
        mine
    }
    /// Takes the failure if it belongs to the newest question; says whether it did.
    pub fn fail(&mut self, req: RequestId, message: &str) -> bool {
        let mine = self.owns(req);
        if mine {
            self.pending = None;
            self.progress = None;
            self.error = Some(message.to_owned());
        }
        mine
    }
    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
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
