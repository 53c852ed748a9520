//! The views of the window: their names, tooltips and shortcuts; the pages in front of them.

use egui::Key;
use serde::{Deserialize, Serialize};

/// The views of the window.
#[expect(missing_docs, reason = "the tooltips say what each shows")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    Setup,
    Train,
    Routing,
    Experts,
    Compare,
    Playground,
    Export,
    Runs,
    Models,
}

impl View {
    /// All views in the order of their shortcuts.
    pub const ALL: [Self; 9] = [
        Self::Setup,
        Self::Train,
        Self::Routing,
        Self::Experts,
        Self::Compare,
        Self::Playground,
        Self::Export,
        Self::Runs,
        Self::Models,
    ];

    /// Title of the tab, tooltip, and the key that shows the view together with Ctrl.
    fn describe(self) -> (&'static str, &'static str, Key) {
        match self {
            Self::Setup => ("Setup", "Model, data and settings of the next run", Key::Num1),
            Self::Train => ("Train", "Loss, learning rate and speed during training", Key::Num2),
            Self::Routing => ("Routing", "Which expert each layer uses, and how often", Key::Num3),
            Self::Experts => {
                ("Experts", "Whether the experts come together, their weights, directions and worth", Key::Num4)
            }
            Self::Compare => (
                "Merge & compare",
                "The merged model against random routes, single experts and the ensemble",
                Key::Num5,
            ),
            Self::Playground => (
                "Playground",
                "Try the model: a text read by a classifier, or a prompt answered by a language model, in every way of running it",
                Key::Num6,
            ),
            Self::Export => ("Export", "Files for other programs, each with a certificate", Key::Num7),
            Self::Runs => ("Runs", "All runs on disk", Key::Num8),
            Self::Models => ("Models", "All models on disk; downloads and removes models", Key::Num9),
        }
    }

    /// Title of the tab.
    pub fn title(self) -> &'static str {
        self.describe().0
    }

    /// Tooltip of the tab.
    pub fn tooltip(self) -> &'static str {
        self.describe().1
    }

    /// The key that shows the view, together with Ctrl.
    pub fn digit(self) -> Key {
        self.describe().2
    }
}

/// A page in front of all views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// What AdaMix does, and where to begin.
    Start,
    /// What each view shows, and the glossary.
    Help,
}
