//! What each view shows, in the words of its *What you see here*.

use super::view::View;

/// The text of a view's *What you see here*: two to four sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewHelp {
    /// What is drawn, and its units.
    pub shows: &'static str,
    /// What would be normal.
    pub normal: &'static str,
    /// What to look for.
    pub look_for: &'static str,
}

impl ViewHelp {
    /// The three parts with their headings.
    pub fn parts(&self) -> [(&'static str, &'static str); 3] {
        [("Shown", self.shows), ("Normal", self.normal), ("Look for", self.look_for)]
    }
}

/// The text of a view.
pub fn of(view: View) -> ViewHelp {
    match view {
        View::Setup => ViewHelp {
            shows: "Model, data and settings of the next run; lengths are in tokens, rates per step, times are estimates.",
            normal: "The card at the top says that the run is ready to start, and how long it will take.",
            look_for: "The data preview: the right column is read, the classes are about even, and few texts are cut off.",
        },
        View::Train => ViewHelp {
            shows: "Each step of the run from left to right: the loss in nats, the evaluations, the learning rate and \
                    the speed in tokens a second.",
            normal: "The loss falls fast, then slowly, and single steps jump, because each has another batch and \
                     another route.",
            look_for: "An evaluation loss that rises while the training loss still falls: the model learns its rows by \
                       heart.",
        },
        View::Routing => ViewHelp {
            shows: "Now: what each layer drew, in pass A and pass B; Time: every step, with the loss and how far the answers of \
                    the passes differ (KL, in nats); So what: how much it matters which expert runs.",
            normal: "Colour only names an expert: the draw does not depend on the input, so no expert has a subject of its own, \
                     and pinned experts lie inside their band.",
            look_for: "Layers that add much to the KL, or a pinned expert outside of its band.",
        },
        View::Experts => ViewHelp {
            shows: "How far the experts of each module have become one (consensus, 1/√M to 1), their weights and directions, the \
                    loss in nats between them, and what each adds to the merged model.",
            normal: "Experts start as strangers, come together, and lie in one basin; random routing makes none of them special.",
            look_for: "A barrier between an expert and the merged model, or an expert outside of the band that chance gives.",
        },
        View::Compare => ViewHelp {
            shows: "Merged model, random routes, single experts and ensemble on the same evaluation rows, with paired 95 % \
                    intervals; below, two of them row by row, other ways of merging, dragged weights, the spread of the experts.",
            normal: "All lie close together, most differences are not shown; merged keeps the score of the routes at the cost \
                     of one.",
            look_for: "A variant that is shown to be better than merged, or scores hardly better than a constant answer.",
        },
        View::Playground => ViewHelp {
            shows: "One input, answered by several variants of the trained model: a classifier's probabilities while you type, \
                    or texts of a language model side by side, with the words that differ coloured.",
            normal: "The base model answers differently from all others; merged model and routes mostly agree.",
            look_for: "Inputs on which the variants part, and how sure each of them was there.",
        },
        View::Export => ViewHelp {
            shows: "Files for other programs, each with a certificate; differences are of logits, sizes in bytes.",
            normal: "In f32 nothing changes or almost nothing; f16 and bf16 change logits within what is allowed.",
            look_for: "A certificate that failed, or predictions that changed: choose a finer number format.",
        },
        View::Runs => ViewHelp {
            shows: "Every run in the directory of runs with its status, its best score and its steps; ticked runs are \
                    drawn together below, with their scores and the settings that differ. Runs that wait in the queue \
                    come first.",
            normal: "Runs of the same task end close together; another seed alone moves the score a little.",
            look_for: "Runs that were interrupted: they can be resumed from their last checkpoint.",
        },
        View::Models => ViewHelp {
            shows: "The models on this computer with their sizes, and whether each can be trained here; downloads show \
                    their progress.",
            normal: "The list is empty at first: the bundled lab needs no download.",
            look_for: "The reason beside a model that cannot be used, and its size before it is downloaded.",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_has_its_own_text_of_two_to_four_sentences() {
        let mut seen = std::collections::BTreeSet::new();
        for view in View::ALL {
            let text = of(view).parts().map(|(_, text)| text).join(" ");
            let sentences = text.matches(". ").count() + 1;
            assert!((2..=4).contains(&sentences), "{view:?} has {sentences} sentences");
            let words = text.split_whitespace().count();
            assert!((25..=80).contains(&words), "{view:?} has {words} words");
            assert!(text.ends_with('.') && !text.contains("  "), "{view:?}: {text}");
            assert!(seen.insert(text), "{view:?} has the text of another view");
        }
    }
}
