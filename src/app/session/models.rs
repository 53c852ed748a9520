//! Models on disk and downloads.

use super::Session;
use crate::format;
use crate::protocol::*;

/// A requested download.
#[derive(Clone, Debug, PartialEq)]
pub struct Download {
    /// The question's number.
    pub req: RequestId,
    /// The model's name.
    pub id: String,
    /// Progress; absent: it is waiting.
    pub progress: Option<DownloadProgress>,
    /// Why it failed; absent: it has not ended.
    pub error: Option<String>,
}

impl Session {
    /// Adds a download. A failed older one of the same name is removed.
    pub fn begin_download(&mut self, req: RequestId, id: String) {
        self.downloads.retain(|old| old.id != id);
        self.downloads.push(Download { req, id, progress: None, error: None });
    }

    /// The model on disk of this name.
    pub fn stored_model(&self, id: &str) -> Option<&StoredModel> {
        self.models.value.as_ref()?.models.iter().find(|model| model.id == id)
    }

    /// Whether a download that has not ended is of the same repository.
    pub fn is_fetching(&self, id: &str) -> bool {
        let repo = |id: &str| id.split([':', '@']).next().unwrap_or_default().to_owned();
        self.downloads.iter().any(|download| download.error.is_none() && repo(&download.id) == repo(id))
    }

    /// Why this model cannot be downloaded now.
    pub fn download_problem(&self, id: &str) -> Option<String> {
        if let Some(problem) = self.engine_problem() {
            return Some(problem);
        }
        if let Some(variable) = self.models.value.as_ref().and_then(|cached| cached.offline.as_ref()) {
            return Some(format!("{variable} is set, so nothing is downloaded; unset it and start the window again"));
        }
        if id.trim().is_empty() {
            return Some("type the name of a model first, as org/name".to_owned());
        }
        let same = |download: &Download| download.id == id.trim() && download.error.is_none();
        self.downloads.iter().any(same).then(|| "it is being downloaded already".to_owned())
    }

    pub(super) fn apply_store(&mut self, req: RequestId, answer: StoreAnswer) {
        match answer {
            StoreAnswer::Cached(cached) => drop(self.models.answer(req, cached)),
            StoreAnswer::Downloaded(done) => {
                self.downloads.retain(|download| download.req != req);
                // The list on screen is outdated; logic reads it again.
                self.models_outdated = true;
                self.form_model_downloaded |= self.form.model.path == done.id;
                self.notify(LogLevel::Info, format!("{} was downloaded, {}", done.id, format::bytes(done.bytes)));
                self.log(LogLevel::Info, format!("downloaded {}: {}", done.id, done.path.display()));
            }
            StoreAnswer::Removed { id, bytes } => {
                self.removing.answer(req, id.clone());
                self.models_outdated = true;
                self.log(LogLevel::Info, format!("removed {id}, {} freed", format::bytes(bytes)));
            }
        }
    }

    /// A download has failed: it stays on the list with the reason, or is removed when the user cancelled it.
    pub(super) fn fail_download(&mut self, req: RequestId, failure: &Failure) -> bool {
        let Some(at) = self.downloads.iter().position(|download| download.req == req) else { return false };
        self.models_outdated = true;
        if failure.kind == ErrorKind::Cancelled {
            self.downloads.remove(at);
        } else {
            self.downloads[at].error = Some(failure.message.clone());
        }
        true
    }
}
