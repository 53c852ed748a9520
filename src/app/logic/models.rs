//! Actions on the models on disk.

use crate::app::WorkbenchApp;
use crate::app::view::View;
use crate::protocol::*;

impl WorkbenchApp {
    pub(super) fn refresh_models(&mut self) {
        self.ask(|session| &mut session.models, |req| Command::Store { req, ask: StoreAsk::List });
    }

    /// Reads the list when it becomes visible, and again when a download or a removal has changed it; checks a form
    /// whose model has just been downloaded.
    pub(super) fn follow_models(&mut self, now: f64) {
        if std::mem::take(&mut self.session.form_model_came) {
            self.checked = None;
            self.check_due = Some(now);
        }
        let seen = self.layout.is_visible(View::Models);
        let came = seen && !std::mem::replace(&mut self.models_seen, seen);
        if !seen || !self.asked_first || self.session.models.is_pending() {
            return;
        }
        if came || std::mem::take(&mut self.session.models_outdated) {
            self.refresh_models();
        }
    }

    pub(super) fn download_model(&mut self, name: &str) {
        let id = name.trim().to_owned();
        let req = self.session.next_request();
        if self.send(Command::Store { req, ask: StoreAsk::Download(id.clone()) }) {
            self.session.begin_download(req, id);
            self.layout.show(View::Models);
        }
    }

    pub(super) fn use_model(&mut self, id: String, now: f64) {
        let mut form = self.session.form.clone();
        form.model.path = id;
        self.session.edit_form(form, now);
        self.layout.show(View::Setup);
    }
}
